//! The relay over `epoll`: each piece goes from the receive buffer straight to each subscriber.

use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;

use super::{BACKLOG_BYTES_MAX, CHANNELS_MAX, Seat, Step};
use crate::Error;
use crate::wire::Hello;

const RECEIVE_BYTES: usize = 256 * 1024;
const EVENTS_MAX: usize = 1024;
const LISTENER: u64 = u64::MAX;

struct Member {
    stream: TcpStream,
    seat: Seat,
    backlog: Vec<u8>,
}

struct Relay {
    epoll: OwnedFd,
    listener: TcpListener,
    members: Vec<Option<Member>>,
    free: Vec<usize>,
    channels: [Vec<usize>; CHANNELS_MAX],
    scratch: Vec<u8>,
}

pub(super) fn run(listener: TcpListener, spin: bool) -> Result<Infallible, Error> {
    listener
        .set_nonblocking(true)
        .map_err(Error::io("cannot listen"))?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
        .and_then(|epoll| {
            epoll::add(
                &epoll,
                &listener,
                epoll::EventData::new_u64(LISTENER),
                epoll::EventFlags::IN,
            )?;
            Ok(epoll)
        })
        .map_err(|errno| Error::Io {
            what: "cannot set up epoll",
            source: errno.into(),
        })?;
    let mut relay = Relay {
        epoll,
        listener,
        members: Vec::new(),
        free: Vec::new(),
        channels: Default::default(),
        scratch: vec![0; RECEIVE_BYTES],
    };
    let spinning = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let timeout = spin.then_some(&spinning);
    let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS_MAX);
    loop {
        events.clear();
        match epoll::wait(&relay.epoll, spare_capacity(&mut events), timeout) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => {
                return Err(Error::Io {
                    what: "epoll_wait failed",
                    source: errno.into(),
                });
            }
        }
        for event in &events {
            match event.data.u64() {
                LISTENER => relay.accept(),
                number => relay.serve(number as usize, event.flags),
            }
        }
    }
}

impl Relay {
    fn accept(&mut self) {
        // An error ends this round: none is waiting, or there are no descriptors left and the next event tries again.
        while let Ok((stream, _)) = self.listener.accept() {
            let number = self.free.pop().unwrap_or(self.members.len());
            let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
            let added = stream.set_nonblocking(true).map_err(drop).and_then(|()| {
                epoll::add(
                    &self.epoll,
                    &stream,
                    epoll::EventData::new_u64(number as u64),
                    flags,
                )
                .map_err(drop)
            });
            if added.is_err() {
                self.free.push(number);
                continue;
            }
            let member = Some(Member {
                stream,
                seat: Seat::new(),
                backlog: Vec::new(),
            });
            match self.members.get_mut(number) {
                Some(entry) => *entry = member,
                None => self.members.push(member),
            }
        }
    }

    fn serve(&mut self, number: usize, flags: epoll::EventFlags) {
        if flags.contains(epoll::EventFlags::OUT) {
            self.write_backlog(number);
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        while flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
            let Some(Some(member)) = self.members.get_mut(number) else {
                break;
            };
            match member.stream.read(&mut scratch) {
                Ok(0) => self.close(number),
                Ok(received) => {
                    self.received(number, &scratch[..received]);
                    // A short read has emptied the socket: the next arrival makes a new event.
                    if received < scratch.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.close(number),
            }
        }
        self.scratch = scratch;
    }

    fn received(&mut self, number: usize, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Some(Some(member)) = self.members.get_mut(number) else {
                return;
            };
            match member.seat.take(bytes) {
                Step::Wait => return,
                Step::Refuse => return self.close(number),
                Step::Welcome(hello, rest) => {
                    if let Some(channel) = hello.subscribe {
                        self.channels[usize::from(channel)].push(number);
                    }
                    self.send(number, Hello::welcome());
                    bytes = rest;
                }
                Step::Forward(channel, bytes) => return self.forward(channel, bytes),
            }
        }
    }

    fn forward(&mut self, channel: u8, bytes: &[u8]) {
        let subscribers = std::mem::take(&mut self.channels[usize::from(channel)]);
        for &subscriber in &subscribers {
            self.send(subscriber, bytes);
        }
        // Who was closed meanwhile is gone for good.
        let mut subscribers = subscribers;
        subscribers.retain(|&subscriber| self.members[subscriber].is_some());
        self.channels[usize::from(channel)] = subscribers;
    }

    fn send(&mut self, number: usize, bytes: &[u8]) {
        let Some(Some(member)) = self.members.get_mut(number) else {
            return;
        };
        let mut written = 0;
        if member.backlog.is_empty() {
            match write(&member.stream, bytes) {
                Ok(count) => written = count,
                Err(_) => return self.close(number),
            }
        }
        member.backlog.extend_from_slice(&bytes[written..]);
        if member.backlog.len() > BACKLOG_BYTES_MAX {
            self.close(number);
        }
    }

    fn write_backlog(&mut self, number: usize) {
        let Some(Some(member)) = self.members.get_mut(number) else {
            return;
        };
        match write(&member.stream, &member.backlog) {
            Ok(written) => drop(member.backlog.drain(..written)),
            Err(_) => self.close(number),
        }
    }

    /// Frees the entry. A number is not used again before [`Relay::forward`] has forgotten it.
    fn close(&mut self, number: usize) {
        if self.members[number].take().is_some() {
            for channel in &mut self.channels {
                channel.retain(|&subscriber| subscriber != number);
            }
            self.free.push(number);
        }
    }
}

/// Writes as much as the socket takes.
fn write(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}
