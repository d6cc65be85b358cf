//! What one send costs in each of the kernel's ways: `send`, `sendmsg`, `SEND_ZC` from plain and from registered memory, and bundles.
//!
//! An experiment, no part of the ring: `perf/008-ways-to-send.md` has what it found. The same bytes go to many sockets in one system
//! call, as in a fan-out, and a thread on another core reads them. Only the time that the calls themselves take on this thread counts.
//!
//! ```text
//! taskset -c 0 cargo run --release -p ringgate-uring --example ways_to_send -- --reader-core 1
//! ```

use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use io_uring::types::{BufRingEntry, Fixed};
use io_uring::{IoUring, cqueue, opcode, squeue};

/// Receivers of each round, all in one system call.
const SOCKETS: usize = 64;
/// Bytes of one send: a message, a few, a frame, several.
const SIZES: [usize; 4] = [300, 4096, 16_384, 65_536];
/// Pieces that `sendmsg` and bundles gather.
const PIECES: usize = 4;
/// Bytes that one measurement sends to each socket.
const BYTES_EACH: usize = 1 << 20;
const ROUNDS_MIN: usize = 40;
const ROUNDS_MAX: usize = 400;

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Send,
    SendMsg,
    ZeroCopy,
    ZeroCopyRegistered,
    Bundle,
}

impl Way {
    const ALL: [Way; 5] = [
        Way::Send,
        Way::SendMsg,
        Way::ZeroCopy,
        Way::ZeroCopyRegistered,
        Way::Bundle,
    ];

    fn name(self) -> &'static str {
        match self {
            Way::Send => "send",
            Way::SendMsg => "sendmsg, 4 pieces",
            Way::ZeroCopy => "SEND_ZC",
            Way::ZeroCopyRegistered => "SEND_ZC, registered memory",
            Way::Bundle => "bundle of 4 buffers",
        }
    }
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (mut reader_core, mut repetitions) = (1, 5);
    while let Some(name) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse().ok());
        match (name.as_str(), value) {
            ("--reader-core", Some(value)) => reader_core = value,
            ("--repetitions", Some(value)) => repetitions = value,
            _ => return Err(io::Error::other("known are --reader-core N and --repetitions N")),
        }
    }
    let mut bench = Bench::new(reader_core)?;
    println!("| bytes | way | CPU ns/send | min – max | × send |");
    println!("|---|---|---|---|---|");
    for size in SIZES {
        let mut nanos: Vec<Vec<f64>> = vec![Vec::new(); Way::ALL.len()];
        for _ in 0..repetitions {
            for (way, nanos) in Way::ALL.iter().zip(&mut nanos) {
                nanos.push(bench.measure(*way, size)?);
            }
        }
        let mut first = None;
        for (way, nanos) in Way::ALL.iter().zip(&mut nanos) {
            nanos.sort_by(f64::total_cmp);
            let median = nanos[nanos.len() / 2];
            let base = *first.get_or_insert(median);
            println!(
                "| {size} | {} | {median:.0} | {:.0} – {:.0} | {:.2} |",
                way.name(),
                nanos[0],
                nanos[nanos.len() - 1],
                median / base
            );
        }
    }
    println!(
        "\n{SOCKETS} sockets over loopback, one system call for a send to each; medians of {repetitions} runs"
    );
    bench.stop();
    Ok(())
}

struct Bench {
    ring: IoUring,
    _sockets: Vec<TcpStream>,
    memory: Vec<u8>,
    groups: Vec<Group>,
    /// Bytes that the reader has taken.
    taken: Arc<AtomicU64>,
    given: u64,
    stop: Arc<AtomicBool>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Bench {
    fn new(reader_core: usize) -> io::Result<Bench> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (mut sockets, mut ends) = (Vec::new(), Vec::new());
        for _ in 0..SOCKETS {
            ends.push(TcpStream::connect(listener.local_addr()?)?);
            let socket = listener.accept()?.0;
            socket.set_nodelay(true)?;
            sockets.push(socket);
        }
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(4096)
            .build(1024)?;
        let fds: Vec<i32> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
        ring.submitter().register_files(&fds)?;
        let memory = vec![7u8; *SIZES.iter().max().unwrap_or(&0)];
        let whole = libc::iovec {
            iov_base: memory.as_ptr().cast_mut().cast(),
            iov_len: memory.len(),
        };
        // SAFETY: the memory is neither moved nor freed while the ring lives: both belong to the same value, and the ring goes first.
        unsafe { ring.submitter().register_buffers(&[whole])? };
        let groups = (0..SOCKETS)
            .map(|group| Group::register(&ring, group as u16))
            .collect::<io::Result<Vec<Group>>>()?;
        let (taken, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let reader = std::thread::spawn({
            let (taken, stop) = (taken.clone(), stop.clone());
            move || {
                pin(reader_core);
                read_all(ends, &taken, &stop);
            }
        });
        Ok(Bench {
            ring,
            _sockets: sockets,
            memory,
            groups,
            taken,
            given: 0,
            stop,
            reader: Some(reader),
        })
    }

    /// CPU time of one send.
    fn measure(&mut self, way: Way, size: usize) -> io::Result<f64> {
        let rounds = (BYTES_EACH / size).clamp(ROUNDS_MIN, ROUNDS_MAX);
        let mut spent = Duration::ZERO;
        for _ in 0..rounds {
            spent += self.round(way, size)?;
            // Out of the measured time: full socket buffers would measure the reader.
            while self.taken.load(Ordering::Acquire) < self.given {
                std::thread::sleep(Duration::from_micros(20));
            }
        }
        Ok(spent.as_nanos() as f64 / (rounds * SOCKETS) as f64)
    }

    /// One send to each socket.
    fn round(&mut self, way: Way, size: usize) -> io::Result<Duration> {
        let pieces: Vec<libc::iovec> = self.memory[..size]
            .chunks(size.div_ceil(PIECES))
            .map(|piece| libc::iovec {
                iov_base: piece.as_ptr().cast_mut().cast(),
                iov_len: piece.len(),
            })
            .collect();
        // SAFETY: all zeroes is a valid msghdr.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = pieces.as_ptr().cast_mut();
        message.msg_iovlen = pieces.len() as _;
        let before = cpu_time();
        for socket in 0..SOCKETS {
            let entry = self.entry(way, socket, size, &pieces, &message);
            // SAFETY: what the entry points to lives until the end of this function, which reads all completions.
            unsafe { self.ring.submission().push(&entry) }.map_err(io::Error::other)?;
        }
        let mut left = SOCKETS;
        while left > 0 {
            self.ring.submit_and_wait(1)?;
            for entry in self.ring.completion() {
                if cqueue::notif(entry.flags()) {
                    left -= 1;
                    continue;
                }
                if entry.result() != size as i32 {
                    return Err(io::Error::other(format!(
                        "{} of {size} bytes: {}",
                        way.name(),
                        entry.result()
                    )));
                }
                // A zero-copy send has another completion, when the kernel lets go of the memory.
                left -= usize::from(!cqueue::more(entry.flags()));
            }
        }
        let spent = cpu_time() - before;
        self.given += (SOCKETS * size) as u64;
        Ok(spent)
    }

    fn entry(
        &mut self,
        way: Way,
        socket: usize,
        size: usize,
        pieces: &[libc::iovec],
        message: &libc::msghdr,
    ) -> squeue::Entry {
        let (fd, start, len) = (Fixed(socket as u32), self.memory.as_ptr(), size as u32);
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        match way {
            Way::Send => opcode::Send::new(fd, start, len).flags(flags).build(),
            Way::SendMsg => opcode::SendMsg::new(fd, message).flags(flags as u32).build(),
            Way::ZeroCopy => opcode::SendZc::new(fd, start, len).flags(flags).build(),
            Way::ZeroCopyRegistered => opcode::SendZc::new(fd, start, len)
                .buf_index(Some(0))
                .flags(flags)
                .build(),
            Way::Bundle => {
                // A bundle takes all that its group has: so a group for each socket, filled anew for each send.
                self.groups[socket].fill(pieces);
                opcode::SendBundle::new(fd, socket as u16).flags(flags).build()
            }
        }
    }

    fn stop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// A ring of provided buffers.
struct Group {
    start: *mut BufRingEntry,
    tail: u16,
}

impl Group {
    const ENTRIES: u16 = 8;

    fn register(ring: &IoUring, group: u16) -> io::Result<Group> {
        let len = Self::ENTRIES as usize * size_of::<BufRingEntry>();
        // SAFETY: an anonymous mapping without a fixed address touches no existing memory. It is never unmapped: the ring may use it
        // until the process ends.
        let start = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the mapping is page aligned, large enough, and stays.
        unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(start as u64, Self::ENTRIES, group, 0)?;
        }
        Ok(Group {
            start: start.cast(),
            tail: 0,
        })
    }

    fn fill(&mut self, pieces: &[libc::iovec]) {
        for piece in pieces {
            let slot = self.tail & (Self::ENTRIES - 1);
            // SAFETY: the slot lies in the mapping, and the kernel has taken what was there in the round before.
            let entry = unsafe { &mut *self.start.add(slot as usize) };
            entry.set_addr(piece.iov_base as u64);
            entry.set_len(piece.iov_len as u32);
            entry.set_bid(slot);
            self.tail = self.tail.wrapping_add(1);
        }
        // SAFETY: the tail lies in the first entry and is aligned for u16.
        let tail =
            unsafe { std::sync::atomic::AtomicU16::from_ptr(BufRingEntry::tail(self.start).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

/// Takes whatever arrives.
fn read_all(mut ends: Vec<TcpStream>, taken: &AtomicU64, stop: &AtomicBool) {
    let mut buffer = vec![0; 256 * 1024];
    for end in &ends {
        end.set_nonblocking(true).expect("a socket of our own");
    }
    while !stop.load(Ordering::Acquire) {
        for end in &mut ends {
            if let Ok(bytes) = end.read(&mut buffer) {
                taken.fetch_add(bytes as u64, Ordering::Release);
            }
        }
    }
}

/// Processor time of this thread.
fn cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the time is written to memory that lives over the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn pin(core: usize) {
    // SAFETY: all zeroes is an empty set, and the set lives over the call.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set);
    }
}
