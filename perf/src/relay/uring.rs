//! The relay over the gateway's own ring, used as the gateway uses it: all completions of a turn are taken, what they brought is
//! gathered, and each subscriber gets one send; all sends go to the kernel in one system call.
//!
//! What arrives is copied once, because a receive buffer is only lent for the time of one call. The gateway does the same.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::TcpListener;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ringgate_uring::{Completion, Received, Ring, RingConfig, SocketId};

use super::{BACKLOG_BYTES_MAX, CHANNELS_MAX, Seat, Step};
use crate::Error;
use crate::wire::Hello;

/// How long to sleep at most. Whatever happens ends the sleep; this only bounds what a lost wake-up could do.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// Bytes of one block of an arena: several turns of small messages, and small enough for a few to stay in the cache.
const ARENA_BLOCK_BYTES: usize = 256 * 1024;
/// Blocks kept for use. More are in use only while readers are slow.
const ARENA_BLOCKS_KEPT: usize = 8;
/// How long to wait before accepting is tried again when there were no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

struct Member {
    socket: SocketId,
    seat: Seat,
    backlog: VecDeque<Bytes>,
    backlog_bytes: usize,
    dirty: bool,
}

#[derive(Default)]
struct Channel {
    subscribers: Vec<SocketId>,
    gathered: Arena,
}

/// What has arrived in this turn. Its memory is used again, oldest first, when all sends of it are done: memory that is still in
/// the cache costs a fraction of what fresh memory does.
#[derive(Default)]
struct Arena {
    block: BytesMut,
    used: VecDeque<BytesMut>,
}

impl Arena {
    fn append(&mut self, bytes: &[u8]) {
        let room = self.block.capacity() - self.block.len();
        if room < bytes.len() && !self.block.try_reclaim(bytes.len()) {
            self.next_block(bytes.len());
        }
        self.block.extend_from_slice(bytes);
    }

    /// Goes on in another block, with what is gathered already.
    fn next_block(&mut self, more: usize) {
        let wanted = (self.block.len() + more).max(ARENA_BLOCK_BYTES);
        let mut next = self.used.pop_front().unwrap_or_default();
        if !next.try_reclaim(wanted) {
            self.used
                .push_front(std::mem::replace(&mut next, BytesMut::with_capacity(wanted)));
            self.used.truncate(ARENA_BLOCKS_KEPT);
        }
        next.extend_from_slice(&self.block);
        self.block.clear();
        self.used.push_back(std::mem::replace(&mut self.block, next));
    }

    /// All that was gathered, if anything.
    fn take(&mut self) -> Option<Bytes> {
        (!self.block.is_empty()).then(|| self.block.split().freeze())
    }
}

struct Relay {
    ring: Ring,
    members: Vec<Option<Member>>,
    channels: [Channel; CHANNELS_MAX],
    dirty: Vec<SocketId>,
}

pub(super) fn run(listener: TcpListener, spin: bool, config: &RingConfig) -> Result<Infallible, Error> {
    let mut ring = Ring::new(config)?;
    ring.listen(listener);
    let mut relay = Relay {
        ring,
        members: Vec::new(),
        channels: Default::default(),
        dirty: Vec::new(),
    };
    loop {
        match spin {
            true => relay.ring.submit()?,
            false => relay.ring.submit_and_wait(SLEEP_MAX)?,
        }
        while let Some(completion) = relay.ring.next_completion() {
            relay.complete(completion);
        }
        relay.forward();
        relay.flush();
    }
}

impl Relay {
    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { socket, .. } => self.accepted(socket),
            Completion::AcceptFailed {
                listener,
                stopped: true,
                ..
            } => {
                std::thread::sleep(ACCEPT_PAUSE);
                self.ring.resume_accept(listener);
            }
            Completion::AcceptFailed { .. } => {}
            Completion::Received(received) => self.received(received),
            Completion::Sent {
                socket,
                result: Ok(_),
            } => self.mark(socket),
            Completion::Ended { socket, .. } | Completion::Sent { socket, .. } => self.close(socket),
            Completion::Closed { .. } | Completion::Woken => {}
        }
    }

    fn accepted(&mut self, socket: SocketId) {
        if self.members.len() <= socket.index() {
            self.members.resize_with(socket.index() + 1, || None);
        }
        self.members[socket.index()] = Some(Member {
            socket,
            seat: Seat::new(),
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            dirty: false,
        });
        self.ring.receive(socket);
    }

    fn received(&mut self, received: Received) {
        let socket = received.socket;
        let mut bytes = self.ring.bytes(&received);
        let mut welcome = None;
        let mut refused = false;
        while let Some(Some(member)) = self.members.get_mut(socket.index())
            && !bytes.is_empty()
        {
            match member.seat.take(bytes) {
                Step::Wait => break,
                Step::Refuse => {
                    refused = true;
                    break;
                }
                Step::Welcome(hello, rest) => {
                    welcome = Some(hello);
                    bytes = rest;
                }
                Step::Forward(channel, bytes) => {
                    self.channels[usize::from(channel)].gathered.append(bytes);
                    break;
                }
            }
        }
        self.ring.consumed(received);
        if let Some(hello) = welcome {
            self.queue(socket, Bytes::from_static(Hello::welcome()));
            if let Some(channel) = hello.subscribe {
                self.channels[usize::from(channel)].subscribers.push(socket);
            }
        }
        if refused {
            self.close(socket);
        }
    }

    /// Gives what each channel has gathered to its subscribers.
    fn forward(&mut self) {
        for number in 0..CHANNELS_MAX {
            let channel = &mut self.channels[number];
            let Some(bytes) = channel.gathered.take() else {
                continue;
            };
            let subscribers = std::mem::take(&mut channel.subscribers);
            for &subscriber in &subscribers {
                self.queue(subscriber, bytes.clone());
            }
            self.channels[number].subscribers = subscribers;
        }
    }

    fn queue(&mut self, socket: SocketId, bytes: Bytes) {
        let Some(member) = self.member(socket) else { return };
        member.backlog_bytes += bytes.len();
        member.backlog.push_back(bytes);
        self.mark(socket);
    }

    fn mark(&mut self, socket: SocketId) {
        if let Some(member) = self.member(socket)
            && !member.dirty
            && !member.backlog.is_empty()
        {
            member.dirty = true;
            self.dirty.push(socket);
        }
    }

    /// Sends to everyone for whom something waits and no send is under way.
    fn flush(&mut self) {
        while let Some(socket) = self.dirty.pop() {
            let Some(Some(member)) = self.members.get_mut(socket.index()) else {
                continue;
            };
            if member.socket != socket {
                continue;
            }
            member.dirty = false;
            if member.backlog_bytes > BACKLOG_BYTES_MAX {
                self.close(socket);
                continue;
            }
            if self.ring.is_sending(socket) {
                continue;
            }
            let mut buffer = self.ring.send_buffer();
            while !buffer.is_full()
                && let Some(bytes) = member.backlog.pop_front()
            {
                member.backlog_bytes -= bytes.len();
                // All subscribers get the same bytes: by reference, the kernel reads them from a warm cache.
                buffer.share_hot(bytes);
            }
            self.ring.send(socket, buffer);
        }
    }

    fn member(&mut self, socket: SocketId) -> Option<&mut Member> {
        self.members
            .get_mut(socket.index())?
            .as_mut()
            .filter(|member| member.socket == socket)
    }

    fn close(&mut self, socket: SocketId) {
        if self.member(socket).is_some() {
            self.members[socket.index()] = None;
            for channel in &mut self.channels {
                channel.subscribers.retain(|subscriber| *subscriber != socket);
            }
            self.ring.close(socket);
        }
    }
}
