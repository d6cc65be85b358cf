//! The ring: submissions in, completions out.

use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};
use socket2::SockRef;

use crate::buffers::{self, Buffers, Piece};
use crate::config::RingConfig;
use crate::error::{Error, SetupStep};
use crate::send::{Prepared, SendBuffer};
use crate::socket::{GENERATION_MASK, Sending, SocketId, Sockets};
use crate::waker::Waker;

/// Send buffers kept for reuse. A core rarely has more sends in flight at once; more are made and dropped as needed.
const SEND_BUFFERS_KEPT: usize = 1024;
/// How long dropping a ring waits for operations in flight before it leaks their memory instead.
const DRAIN_ON_DROP: Duration = Duration::from_secs(1);

/// Kernel threads that may work for one ring, of each kind. What they are given takes microseconds.
const KERNEL_WORKERS_MAX: u32 = 1;

/// Names a listener of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerId(u32);

/// What happened. To be taken with [`Ring::next_completion`] until there is none.
#[derive(Debug)]
pub enum Completion {
    /// A connection was accepted. Nothing is received before [`Ring::receive`].
    Accepted {
        /// Where.
        listener: ListenerId,
        /// Its name from now on.
        socket: SocketId,
        /// The other end.
        peer: SocketAddr,
    },
    /// A connection could not be accepted, or was refused because the table of sockets is full (and closed at once).
    AcceptFailed {
        /// Where.
        listener: ListenerId,
        /// Why.
        error: Error,
        /// Whether accepting has stopped and [`Ring::resume_accept`] must be called, after a while, to go on.
        stopped: bool,
    },
    /// Bytes arrived. Read them with [`Ring::bytes`], then hand the piece back with [`Ring::consumed`].
    Received(Received),
    /// Nothing more will arrive: the peer ended its side, or the connection broke. The socket stays open until [`Ring::close`].
    Ended {
        /// Which.
        socket: SocketId,
        /// `None` for an orderly end.
        error: Option<io::Error>,
    },
    /// What was sent last is out (into the kernel), and the next send may follow.
    Sent {
        /// Which.
        socket: SocketId,
        /// Bytes of it, or why it failed.
        result: io::Result<usize>,
    },
    /// The socket is closed and its id void.
    Closed {
        /// Which.
        socket: SocketId,
    },
    /// A [`Waker`] has woken the thread: once at least since it was last told.
    Woken,
}

/// Bytes that arrived on a socket, lying in a receive buffer.
#[derive(Debug)]
#[must_use = "hand it back with Ring::consumed"]
pub struct Received {
    /// On which socket.
    pub socket: SocketId,
    piece: Piece,
}

#[derive(Debug)]
struct Listener {
    fd: OwnedFd,
    accepting: bool,
}

/// One `io_uring` with its sockets and buffers. See the crate's documentation.
pub struct Ring {
    io: ManuallyDrop<IoUring>,
    buffers: ManuallyDrop<Buffers>,
    sockets: Sockets,
    listeners: Vec<Listener>,
    waker: Waker,
    batch: Vec<cqueue::Entry>,
    batch_next: usize,
    closed: Vec<SocketId>,
    #[expect(
        clippy::vec_box,
        reason = "a buffer moves between here, its gatherer and its socket's entry: by pointer"
    )]
    spare: Vec<Box<SendBuffer>>,
    copy_bytes_max: usize,
    /// Closing shuts the socket down first: before Linux 6.13 the kernel lets go of fixed files only in the order in which
    /// operations began to use them, and without this a peer could wait long for its FIN.
    shuts_down: bool,
    /// Cleared when the kernel has said that it cannot set socket options through a ring (before Linux 6.7).
    can_quickack: bool,
    wait_flags: EnterFlags,
    /// A ring belongs to the thread that made it.
    _thread: PhantomData<*const ()>,
}

/// Kinds of operations, as they travel in user data: `kind << 56 | generation << 32 | index`.
#[derive(Clone, Copy, PartialEq)]
#[repr(u8)]
enum Kind {
    Accept = 1,
    Receive = 2,
    Send = 3,
    /// Shutting down, cancelling: only that it is over matters.
    Control = 4,
    /// Asking for an acknowledgement: heard of only where it failed.
    QuickAck = 5,
    /// Another thread wakes this one.
    Wake = 6,
}

/// Operations that belong to no socket.
const NO_SOCKET: SocketId = SocketId {
    index: 0,
    generation: 0,
};

/// The value of a socket option that is switched on. Static, as the kernel reads it when the operation runs.
static ON: libc::c_int = 1;

fn user_data(kind: Kind, id: SocketId) -> u64 {
    (kind as u64) << 56 | u64::from(id.generation & GENERATION_MASK) << 32 | u64::from(id.index)
}

impl Ring {
    /// Makes a ring, to be used by this thread only.
    ///
    /// # Errors
    /// [`Error::Setup`] with the cause and the remedy.
    pub fn new(config: &RingConfig) -> Result<Ring, Error> {
        let io = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(config.completion_entries)
            .setup_clamp()
            .build(config.submission_entries)
            .map_err(|error| Error::setup(SetupStep::Setup, error))?;
        // Saves the kernel a look-up of the ring's descriptor in every enter. Optional (5.18): without it, all works the same.
        let _ = io.submitter().register_ring_fd();
        // The few operations that the kernel gives to its workers (shutdown) must not make a thread each. Optional (5.15).
        let _ = io
            .submitter()
            .register_iowq_max_workers(&mut [KERNEL_WORKERS_MAX; 2]);
        let sockets_max = config.sockets_max.min(open_files_limit());
        io.submitter()
            .register_files_sparse(sockets_max)
            .map_err(|error| Error::setup(SetupStep::Files, error))?;
        let waker = Waker::new().map_err(|error| Error::setup(SetupStep::EventFd, error))?;
        let buffers = Buffers::register(
            &io,
            config.receive_buffers,
            config.receive_buffer_bytes,
            config.incremental,
        )
        .map_err(|error| Error::setup(SetupStep::Buffers, error))?;
        let mut wait_flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        // A core that waits for clients does not wait for a disk: without this (6.15) an idle node looks overloaded in iowait and PSI.
        wait_flags.set(EnterFlags::NO_IOWAIT, io.params().is_feature_no_iowait());
        let mut ring = Ring {
            io: ManuallyDrop::new(io),
            buffers: ManuallyDrop::new(buffers),
            sockets: Sockets::new(sockets_max),
            listeners: Vec::new(),
            waker,
            batch: Vec::new(),
            batch_next: 0,
            closed: Vec::new(),
            spare: Vec::new(),
            copy_bytes_max: config.copy_bytes_max,
            shuts_down: crate::check::kernel_version() < (6, 13),
            can_quickack: true,
            wait_flags,
            _thread: PhantomData,
        };
        ring.listen_to_wakers();
        Ok(ring)
    }

    /// Wakes this ring's thread, from any other.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn listen_to_wakers(&mut self) {
        let entry = opcode::PollAdd::new(Fd(self.waker.as_raw_fd()), libc::POLLIN as u32)
            .multi(true)
            .build();
        self.push(entry.user_data(user_data(Kind::Wake, NO_SOCKET)));
    }

    /// Whether receive buffers are filled piece by piece (Linux 6.12).
    pub fn is_incremental(&self) -> bool {
        self.buffers.is_incremental()
    }

    /// Sockets open now.
    pub fn sockets_open(&self) -> u32 {
        self.sockets.open()
    }

    /// Starts to accept connections on `listener`. Options such as `TCP_NODELAY` set on it are inherited by what it accepts.
    pub fn listen(&mut self, listener: TcpListener) -> ListenerId {
        let id = ListenerId(self.listeners.len() as u32);
        self.listeners.push(Listener {
            fd: listener.into(),
            accepting: false,
        });
        self.resume_accept(id);
        id
    }

    /// Goes on accepting after it stopped.
    pub fn resume_accept(&mut self, id: ListenerId) {
        let listener = &mut self.listeners[id.0 as usize];
        if !listener.accepting {
            listener.accepting = true;
            let entry = opcode::AcceptMulti::new(Fd(listener.fd.as_raw_fd()))
                .flags(libc::SOCK_CLOEXEC)
                .build()
                .user_data(user_data(
                    Kind::Accept,
                    SocketId {
                        index: id.0,
                        generation: 0,
                    },
                ));
            self.push(entry);
        }
    }

    /// Stops listening. Connections that wait in the kernel's backlog are refused by it.
    pub fn stop_listening(&mut self) {
        for listener in &self.listeners {
            // SAFETY: shutdown takes no pointers; the descriptor is open as we own it.
            unsafe { libc::shutdown(listener.fd.as_raw_fd(), libc::SHUT_RDWR) };
        }
    }

    /// Takes over a connected socket. It lives on as a fixed file of the ring and takes no descriptor of the process.
    ///
    /// # Errors
    /// [`Error::SocketsExhausted`], or [`Error::Register`] as the kernel said.
    pub fn adopt(&mut self, fd: OwnedFd) -> Result<SocketId, Error> {
        let socket = self.sockets.insert().ok_or(Error::SocketsExhausted {
            max: self.sockets.max(),
        })?;
        match self
            .io
            .submitter()
            .register_files_update(socket.index, &[fd.as_raw_fd()])
        {
            Ok(_) => Ok(socket),
            Err(error) => {
                self.sockets.remove(socket.index);
                Err(Error::Register(error))
            }
        }
    }

    /// Starts to receive on a socket; it goes on by itself until [`Completion::Ended`].
    pub fn receive(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get(id) else {
            return;
        };
        if !socket.receiving && !socket.closing {
            socket.receiving = true;
            let entry = opcode::RecvMulti::new(Fixed(id.index), buffers::GROUP).build();
            self.push(entry.user_data(user_data(Kind::Receive, id)));
        }
    }

    /// An empty buffer to gather a send in.
    pub fn send_buffer(&mut self) -> Box<SendBuffer> {
        self.spare
            .pop()
            .unwrap_or_else(|| Box::new(SendBuffer::new(self.copy_bytes_max)))
    }

    /// Takes a buffer back that was not sent.
    pub fn recycle(&mut self, mut buffer: Box<SendBuffer>) {
        if self.spare.len() < SEND_BUFFERS_KEPT {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// Whether a send is in flight, so that another must wait for [`Completion::Sent`].
    pub fn is_sending(&mut self, id: SocketId) -> bool {
        self.sockets
            .get(id)
            .is_some_and(|socket| !socket.sending.is_nothing())
    }

    /// Sends what `buffer` gathered. To a socket that is closed or closing, nothing is sent.
    ///
    /// # Panics
    /// When a send is in flight already: the caller would lose the order of bytes.
    pub fn send(&mut self, id: SocketId, mut buffer: Box<SendBuffer>) {
        match self.sockets.get(id) {
            Some(socket) if !socket.closing && !buffer.is_empty() => {
                assert!(socket.sending.is_nothing(), "one send at a time per socket");
                match buffer.take_whole() {
                    Some(bytes) => {
                        let len = bytes.len() as u32;
                        socket.sending = Sending::Whole(bytes, len);
                        self.recycle(buffer);
                    }
                    None => socket.sending = Sending::Gathered(buffer),
                }
                self.push_send(id);
            }
            _ => self.recycle(buffer),
        }
    }

    /// Closes a socket: what is in flight is cancelled, then [`Completion::Closed`] follows.
    pub fn close(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get(id) else {
            return;
        };
        if !std::mem::replace(&mut socket.closing, true) {
            if socket.in_flight() {
                if self.shuts_down {
                    self.control(
                        id,
                        opcode::Shutdown::new(Fixed(id.index), libc::SHUT_RDWR).build(),
                    );
                }
                self.cancel(id);
            }
            self.finish_close(id);
        }
    }

    /// Ends our side of the connection (FIN) while the peer's bytes go on arriving, so that it can still read what was sent last.
    pub fn end_output(&mut self, id: SocketId) {
        if self.sockets.get(id).is_some_and(|socket| !socket.closing) {
            self.control(id, opcode::Shutdown::new(Fixed(id.index), libc::SHUT_WR).build());
        }
    }

    /// Has what has arrived on a socket acknowledged at once, not after the kernel's delay of up to 40 ms. The kernel forgets this
    /// soon (tcp(7), `TCP_QUICKACK`), so it is to be asked for after every receive: after the turn's sends, which carry the
    /// acknowledgement where there are any. Nothing happens where the kernel cannot; see [`can_quickack`](Ring::can_quickack).
    pub fn quickack(&mut self, id: SocketId) {
        if self.can_quickack && self.sockets.get(id).is_some_and(|socket| !socket.closing) {
            let (level, option) = (libc::IPPROTO_TCP as u32, libc::TCP_QUICKACK as u32);
            let len = size_of_val(&ON) as u32;
            // It runs while it is submitted and touches no memory of the socket's entry, so it is not counted as in flight. Should the
            // entry be reused before it is submitted, it asks for an acknowledgement of the entry's next socket: harmless.
            let entry = opcode::SetSockOpt::new(Fixed(id.index), level, option, (&raw const ON).cast(), len)
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS);
            self.push(entry.user_data(user_data(Kind::QuickAck, id)));
        }
    }

    /// Whether [`quickack`](Ring::quickack) does something, as far as is known: the first failure tells.
    pub fn can_quickack(&self) -> bool {
        self.can_quickack
    }

    fn cancel(&mut self, id: SocketId) {
        let all = CancelBuilder::fd(Fixed(id.index)).all();
        self.control(id, opcode::AsyncCancel2::new(all).build());
    }

    fn control(&mut self, id: SocketId, entry: squeue::Entry) {
        if let Some(socket) = self.sockets.get(id) {
            socket.controls += 1;
            self.push(entry.user_data(user_data(Kind::Control, id)));
        }
    }

    /// The bytes of a completed receive.
    pub fn bytes(&self, received: &Received) -> &[u8] {
        self.buffers.bytes(received.piece)
    }

    /// Hands a completed receive back.
    pub fn consumed(&mut self, received: Received) {
        if received.piece.last {
            self.buffers.give_back(received.piece.buffer);
        }
    }

    /// Hands all submissions to the kernel and lets it finish what is ready. No system call where there is nothing to do.
    ///
    /// # Errors
    /// [`Error::Enter`].
    pub fn submit(&mut self) -> Result<(), Error> {
        let submission = self.io.submission();
        let idle = submission.is_empty() && !submission.taskrun() && !submission.cq_overflow();
        drop(submission);
        if idle { Ok(()) } else { self.enter(0, None) }
    }

    /// Submits, then waits in the kernel until something completes or a [`Waker`] wakes, at most for `timeout`. One system call, and
    /// so the cheapest way to wait, for a thread that has nothing else to wait for.
    ///
    /// # Errors
    /// [`Error::Enter`].
    pub fn submit_and_wait(&mut self, timeout: Duration) -> Result<(), Error> {
        match self.closed.is_empty() {
            true => self.enter(1, Some(timeout)),
            false => self.enter(0, None),
        }
    }

    /// The next thing that happened, if any. Does not enter the kernel.
    pub fn next_completion(&mut self) -> Option<Completion> {
        loop {
            if let Some(socket) = self.closed.pop() {
                return Some(Completion::Closed { socket });
            }
            if self.batch_next == self.batch.len() {
                self.batch.clear();
                self.batch_next = 0;
                self.batch.extend(self.io.completion());
                if self.batch.is_empty() {
                    return None;
                }
            }
            let entry = self.batch[self.batch_next].clone();
            self.batch_next += 1;
            if let Some(completion) = self.interpret(&entry) {
                return Some(completion);
            }
        }
    }

    fn interpret(&mut self, entry: &cqueue::Entry) -> Option<Completion> {
        let data = entry.user_data();
        let id = SocketId {
            index: data as u32,
            generation: (data >> 32) as u32 & GENERATION_MASK,
        };
        match (data >> 56) as u8 {
            kind if kind == Kind::Receive as u8 => self.received(id, entry),
            kind if kind == Kind::Send as u8 => self.sent(id, entry),
            kind if kind == Kind::Control as u8 => {
                if let Some(socket) = self.sockets.get(id) {
                    socket.controls -= 1;
                    if socket.closing && socket.controls == 0 && socket.in_flight() {
                        // What was just completing could not be cancelled, and may have gone on: once more.
                        self.cancel(id);
                    }
                    self.finish_close(id);
                }
                None
            }
            kind if kind == Kind::QuickAck as u8 => {
                // A socket that went meanwhile says nothing about the kernel.
                self.can_quickack &= entry.result() >= 0 || entry.result() == -libc::EBADF;
                None
            }
            kind if kind == Kind::Accept as u8 => self.accepted(ListenerId(id.index), entry),
            kind if kind == Kind::Wake as u8 => {
                if !cqueue::more(entry.flags()) {
                    self.listen_to_wakers();
                }
                Some(Completion::Woken)
            }
            kind => {
                unreachable!("a completion of an operation of kind {kind}, which this ring never submits")
            }
        }
    }

    fn received(&mut self, id: SocketId, entry: &cqueue::Entry) -> Option<Completion> {
        let result = entry.result();
        let more = cqueue::more(entry.flags());
        let piece = cqueue::buffer_select(entry.flags()).map(|buffer| {
            self.buffers
                .completed(buffer, result.max(0) as u32, cqueue::buffer_more(entry.flags()))
        });
        let received = piece.map(|piece| Received { socket: id, piece });
        // Operations hold their entry, so it is always there.
        let socket = self.sockets.get(id)?;
        if !more {
            socket.receiving = false;
        }
        if socket.closing {
            if let Some(received) = received {
                self.consumed(received);
            }
            self.finish_close(id);
            return None;
        }
        if result > 0 {
            if !more {
                self.receive(id);
            }
            return received.map(Completion::Received);
        }
        if let Some(received) = received {
            self.consumed(received);
        }
        match -result {
            // All buffers are in use in this turn. They are given back before the next submit.
            libc::ENOBUFS | libc::EINTR | libc::EAGAIN => {
                self.receive(id);
                None
            }
            0 => Some(Completion::Ended {
                socket: id,
                error: None,
            }),
            error => Some(Completion::Ended {
                socket: id,
                error: Some(io::Error::from_raw_os_error(error)),
            }),
        }
    }

    fn sent(&mut self, id: SocketId, entry: &cqueue::Entry) -> Option<Completion> {
        let result = entry.result();
        let socket = self.sockets.get(id)?;
        let all = result >= 0 && socket.sending.advance(result as usize);
        let retry = result >= 0 && !all || result == -libc::EINTR || result == -libc::EAGAIN;
        if retry && !socket.closing {
            self.push_send(id);
            return None;
        }
        let len = socket.sending.len();
        let closing = socket.closing;
        if let Sending::Gathered(buffer) = std::mem::take(&mut socket.sending) {
            self.recycle(buffer);
        }
        if closing {
            self.finish_close(id);
            return None;
        }
        let result = if result < 0 {
            Err(io::Error::from_raw_os_error(-result))
        } else {
            Ok(len)
        };
        Some(Completion::Sent { socket: id, result })
    }

    fn accepted(&mut self, listener: ListenerId, entry: &cqueue::Entry) -> Option<Completion> {
        let stopped = !cqueue::more(entry.flags());
        if stopped {
            self.listeners[listener.0 as usize].accepting = false;
        }
        let result = entry.result();
        if result < 0 {
            let error = Error::Register(io::Error::from_raw_os_error(-result));
            return Some(Completion::AcceptFailed {
                listener,
                error,
                stopped,
            });
        }
        if stopped {
            self.resume_accept(listener);
        }
        // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(result) };
        // Without an address, the peer is gone already.
        let peer = SockRef::from(&fd)
            .peer_addr()
            .ok()
            .and_then(|address| address.as_socket())?;
        match self.adopt(fd) {
            Ok(socket) => Some(Completion::Accepted {
                listener,
                socket,
                peer,
            }),
            Err(error) => Some(Completion::AcceptFailed {
                listener,
                error,
                stopped: false,
            }),
        }
    }

    fn push_send(&mut self, id: SocketId) {
        let socket = self.sockets.get(id);
        let Some(prepared) = socket.and_then(|socket| socket.sending.prepare()) else {
            return;
        };
        // MSG_WAITALL: the kernel goes on by itself after a short send.
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let entry = match prepared {
            Prepared::Plain { pointer, len } => opcode::Send::new(Fixed(id.index), pointer, len)
                .flags(flags)
                .build(),
            Prepared::Vectored { message } => opcode::SendMsg::new(Fixed(id.index), message)
                .flags(flags as u32)
                .build(),
        };
        self.push(entry.user_data(user_data(Kind::Send, id)));
    }

    fn push(&mut self, entry: squeue::Entry) {
        loop {
            // SAFETY: what the entry points to (a boxed SendBuffer or shared bytes held in the socket's entry, our listeners, the registered buffer
            // ring, a static) stays in place until its completion has been read; see the crate's invariants.
            if unsafe { self.io.submission().push(&entry) }.is_ok() {
                return;
            }
            // The queue is full: hand it over. Should the kernel refuse (out of memory), completions make room.
            if self.enter(0, None).is_err() {
                std::thread::yield_now();
            }
        }
    }

    fn enter(&mut self, want: usize, timeout: Option<Duration>) -> Result<(), Error> {
        let result = match timeout {
            None => self.io.submitter().submit_and_wait(want),
            Some(timeout) => {
                let time = Timespec::from(timeout);
                let arguments = SubmitArgs::new().timespec(&time);
                let submissions = self.io.submission().len() as u32;
                let flags = self.wait_flags.bits();
                // SAFETY: the arguments and the time that they point to live over the call, and are what EXT_ARG says they are.
                unsafe {
                    let submitter = self.io.submitter();
                    submitter.enter(submissions, want as u32, flags, Some(&arguments))
                }
            }
        };
        match result {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // Interrupted, timed out, or the completion queue must be read first: the caller's loop goes on.
                Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(Error::Enter(error)),
            },
        }
    }

    /// Frees a closing socket once nothing of it is in flight.
    fn finish_close(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get(id) else {
            return;
        };
        if socket.closing && !socket.in_flight() {
            // The table holds the only reference: this closes the socket.
            let _ = self.io.submitter().register_files_update(id.index, &[-1]);
            self.sockets.remove(id.index);
            self.closed.push(id);
        }
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring")
            .field("sockets_open", &self.sockets.open())
            .finish_non_exhaustive()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.stop_listening();
        let live: Vec<SocketId> = self.sockets.live().collect();
        live.into_iter().for_each(|id| self.close(id));
        let deadline = std::time::Instant::now() + DRAIN_ON_DROP;
        while self.sockets.open() > 0 && std::time::Instant::now() < deadline {
            if self.submit_and_wait(Duration::from_millis(10)).is_err() {
                break;
            }
            while let Some(completion) = self.next_completion() {
                if let Completion::Received(received) = completion {
                    self.consumed(received);
                }
            }
        }
        if self.sockets.open() == 0 {
            // SAFETY: `io` and `buffers` are dropped once, here, and not used afterwards; the ring goes first, as it refers to the
            // buffers. No operation is in flight.
            unsafe {
                ManuallyDrop::drop(&mut self.io);
                ManuallyDrop::drop(&mut self.buffers);
            }
        } else {
            // The kernel may still write to the buffers or read from what is being sent: leak rather than free.
            std::mem::forget(std::mem::replace(&mut self.sockets, Sockets::new(0)));
        }
    }
}

fn open_files_limit() -> u32 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: getrlimit writes to the structure it is given, which lives over the call.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if result == 0 {
        u32::try_from(limit.rlim_cur).unwrap_or(u32::MAX)
    } else {
        1024
    }
}
