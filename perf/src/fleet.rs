//! The connections of a run, driven by one thread through `epoll`.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use socket2::{Domain, Protocol as Transport, SockAddr, Socket, Type};

use crate::Error;
use crate::wire::{Incoming, Plan, Protocol, Wire};

/// Bytes of one receive. Large, so that the load takes few system calls.
const RECEIVE_BYTES: usize = 256 * 1024;
/// Events taken in one turn.
const EVENTS_MAX: usize = 1024;
/// What the kernel may hold for a reader that stalls. Small, so that the server soon feels it.
const STALLED_RECEIVE_BYTES: usize = 16 * 1024;
/// How long before a deadline the load stops sleeping.
const AWAKE_BEFORE_DEADLINE: Duration = Duration::from_millis(2);
/// How long taking leave may take.
const LEAVE_MAX: Duration = Duration::from_secs(3);
/// How long a server may be silent before a run gives up.
pub const QUIET_MAX: Duration = Duration::from_secs(10);

/// One connection.
pub struct Member {
    stream: TcpStream,
    out: Vec<u8>,
    written: usize,
    wire: Box<dyn Wire>,
    role: &'static str,
    dirty: bool,
    gone: bool,
    stalled: bool,
}

impl Member {
    /// Says something: `speak` appends it to the connection's outgoing bytes, which leave with the next [`Fleet::flush`].
    pub fn say(&mut self, speak: impl FnOnce(&mut dyn Wire, &mut Vec<u8>)) {
        speak(self.wire.as_mut(), &mut self.out);
        self.dirty = true;
    }

    /// Whether bytes wait for the server to take them.
    pub fn is_backed_up(&self) -> bool {
        self.written < self.out.len()
    }

    fn write(&mut self) -> io::Result<()> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => self.written += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }
}

/// How a fleet's connections are made.
#[derive(Debug, Clone, Copy)]
pub struct Dial {
    /// The server.
    pub address: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// End connections by a reset, so that many can be made again at once (no `TIME_WAIT`).
    pub reset_on_close: bool,
    /// Ask for events without ever sleeping.
    pub spin: bool,
}

/// All connections of a run.
pub struct Fleet {
    dial: Dial,
    epoll: OwnedFd,
    members: Vec<Member>,
    dirty: Vec<u32>,
    events: Vec<epoll::Event>,
    scratch: Vec<u8>,
    inbox: Vec<Incoming>,
}

impl Fleet {
    /// A fleet without members.
    ///
    /// # Errors
    /// [`Error::Io`] when there are no file descriptors left.
    pub fn new(dial: Dial) -> Result<Fleet, Error> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(io::Error::from);
        Ok(Fleet {
            dial,
            epoll: epoll.map_err(Error::io("cannot make an epoll instance"))?,
            members: Vec::new(),
            dirty: Vec::new(),
            events: Vec::with_capacity(EVENTS_MAX),
            scratch: vec![0; RECEIVE_BYTES],
            inbox: Vec::new(),
        })
    }

    /// Opens one more connection and returns its number. It is of use after [`Incoming::Ready`].
    ///
    /// # Errors
    /// [`Error::Connect`] when nobody listens.
    pub fn connect(&mut self, plan: &Plan) -> Result<usize, Error> {
        let address = self.dial.address;
        let stream = self
            .dial(plan.stalls)
            .map_err(|source| Error::Connect { address, source })?;
        let number = self.members.len();
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(
            &self.epoll,
            &stream,
            epoll::EventData::new_u64(number as u64),
            flags,
        )
        .map_err(|errno| Error::Connect {
            address,
            source: errno.into(),
        })?;
        let mut member = Member {
            stream,
            out: Vec::new(),
            written: 0,
            wire: self.dial.protocol.wire(plan),
            role: plan.role.name(),
            dirty: false,
            gone: false,
            stalled: false,
        };
        member.wire.open(&mut member.out);
        self.members.push(member);
        self.write(number)?;
        Ok(number)
    }

    fn dial(&self, stalls: bool) -> io::Result<TcpStream> {
        let address = self.dial.address;
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Transport::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if self.dial.reset_on_close {
            socket.set_linger(Some(Duration::ZERO))?;
        }
        if stalls {
            // Before connecting, for the window that is offered to follow it.
            socket.set_recv_buffer_size(STALLED_RECEIVE_BYTES)?;
        }
        socket.connect_timeout(&SockAddr::from(address), QUIET_MAX)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    }

    /// Number of connections made.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Says something on connection `number`; see [`Member::say`].
    pub fn say(&mut self, number: usize, speak: impl FnOnce(&mut dyn Wire, &mut Vec<u8>)) {
        let member = &mut self.members[number];
        if !member.dirty {
            self.dirty.push(number as u32);
        }
        member.say(speak);
    }

    /// Stops reading from connection `number`, for good.
    pub fn stall(&mut self, number: usize) {
        self.members[number].stalled = true;
    }

    /// Takes leave on the connection made last and closes it, as though it had never been made.
    pub fn pop(&mut self) {
        if let Some(mut member) = self.members.pop() {
            self.dirty.retain(|number| *number as usize != self.members.len());
            member.wire.close(&mut member.out);
            // It is given up: whether the server still hears of it does not matter.
            let _ = member.write();
        }
    }

    /// Whether connection `number` has bytes that the server does not take.
    pub fn is_backed_up(&self, number: usize) -> bool {
        self.members[number].is_backed_up()
    }

    /// Sends what was said since the last time.
    ///
    /// # Errors
    /// [`Error::Io`] when a connection is broken.
    pub fn flush(&mut self) -> Result<(), Error> {
        while let Some(number) = self.dirty.pop() {
            let member = &mut self.members[number as usize];
            member.dirty = false;
            member.wire.flush(&mut member.out);
            self.write(number as usize)?;
        }
        Ok(())
    }

    /// Waits until something arrives, at most until `deadline` (or not at all in spin mode), and gives all that has arrived to
    /// `handle`: the connection's number, its member to answer on, what it got, and when.
    ///
    /// # Errors
    /// [`Error::Closed`] and [`Error::Wire`] when a connection is of no more use, [`Error::Io`] when waiting fails.
    pub fn turn(
        &mut self,
        deadline: Instant,
        mut handle: impl FnMut(usize, &mut Member, &[Incoming], Instant),
    ) -> Result<(), Error> {
        self.wait(deadline)?;
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            let number = event.data.u64() as usize;
            if self.members[number].stalled {
                continue;
            }
            // The event is a packed structure: its fields are copied out before they are borrowed.
            let flags = event.flags;
            if flags.contains(epoll::EventFlags::OUT) && self.members[number].is_backed_up() {
                self.write(number)?;
            }
            if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
                self.receive(number, &mut handle)?;
            }
        }
        self.events = events;
        self.flush()
    }

    /// Takes leave of the server on all connections, as far as it answers in time, and closes them.
    pub fn leave(mut self) {
        let mut waiting = 0;
        for number in 0..self.members.len() {
            let stalled = self.members[number].stalled;
            self.say(number, |wire, out| {
                waiting += usize::from(wire.close(out) && !stalled)
            });
        }
        let deadline = Instant::now() + LEAVE_MAX;
        // An error means that the server has closed a connection by itself, which is as good.
        let mut over = self.flush().is_err();
        while waiting > 0 && !over {
            let turned = self.turn(deadline, |_, _, inbox, _| {
                waiting = waiting.saturating_sub(inbox.iter().filter(|it| **it == Incoming::Ended).count());
            });
            over = turned.is_err() || Instant::now() >= deadline;
        }
    }

    fn wait(&mut self, deadline: Instant) -> Result<(), Error> {
        let timeout = match self.dial.spin {
            true => Duration::ZERO,
            // The kernel sleeps for whole milliseconds and wakes late: the last stretch is spent awake, so that what is due goes out
            // on time.
            false => deadline
                .saturating_duration_since(Instant::now())
                .saturating_sub(AWAKE_BEFORE_DEADLINE),
        };
        let timeout = Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(Error::Io {
                what: "epoll_wait failed",
                source: errno.into(),
            }),
        }
    }

    fn receive(
        &mut self,
        number: usize,
        handle: &mut impl FnMut(usize, &mut Member, &[Incoming], Instant),
    ) -> Result<(), Error> {
        let member = &mut self.members[number];
        loop {
            let received = match member.stream.read(&mut self.scratch) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(Error::Io {
                        what: "cannot receive from the server",
                        source,
                    });
                }
            };
            if received == 0 {
                if std::mem::replace(&mut member.gone, true) {
                    return Ok(());
                }
                return Err(Error::Closed {
                    connection: number,
                    role: member.role,
                });
            }
            let now = Instant::now();
            self.inbox.clear();
            let queued = member.out.len();
            member
                .wire
                .receive(&self.scratch[..received], &mut member.out, &mut self.inbox)
                .map_err(|source| Error::Wire {
                    connection: number,
                    source,
                })?;
            let was_dirty = member.dirty;
            member.dirty |= member.out.len() > queued;
            handle(number, member, &self.inbox, now);
            if member.dirty && !was_dirty {
                self.dirty.push(number as u32);
            }
            // A short read has emptied the socket: the next arrival makes a new event.
            if received < self.scratch.len() {
                return Ok(());
            }
        }
    }

    fn write(&mut self, number: usize) -> Result<(), Error> {
        self.members[number]
            .write()
            .map_err(Error::io("cannot send to the server"))
    }
}
