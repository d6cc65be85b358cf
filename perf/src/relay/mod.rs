//! The raw relay: what moving the bytes costs when nothing is understood of them. It is the limit that the gateway is measured against.
//!
//! A connection says with three bytes which channel its bytes go to and which it gets ([`Hello`]); from then on every piece received
//! is sent to all who get that channel. There is no framing, no routing, no limit per subscriber but one that ends it.

mod epoll;
mod tonic;
mod uring;

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};

use ringgate_uring::RingConfig;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::Error;
use crate::wire::{HELLO_BYTES, Hello};

/// Which of the kernel's interfaces moves the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Readiness and one system call for each receive and each send.
    Epoll,
    /// The gateway's own ring: multishot receive, all sends of a turn in one system call.
    Uring,
    /// No raw relay, but the usual way to write one: gRPC by tonic, for reference. It speaks the native protocol's publish and
    /// subscribe, and sleeps when it has nothing to do.
    Tonic,
}

/// What a relay is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// How to move bytes.
    pub mode: Mode,
    /// Never sleep.
    pub spin: bool,
    /// Sizes of the ring, in mode [`Mode::Uring`]: the gateway's, or others to be tried.
    pub ring: RingConfig,
}

/// Channels there are.
const CHANNELS_MAX: usize = 8;
/// Bytes that may wait for one subscriber; it is closed beyond. Far above what a load keeps outstanding.
const BACKLOG_BYTES_MAX: usize = 256 << 20;
/// Connections that may wait to be accepted: a storm of them is one of the loads.
const LISTEN_BACKLOG: i32 = 4096;

/// Runs a relay for ever.
///
/// # Errors
/// When it cannot listen, or the kernel refuses what the mode needs.
pub fn run(config: &Config) -> Result<Infallible, Error> {
    let listener = listen(config.listen).map_err(Error::io("cannot listen"))?;
    match config.mode {
        Mode::Epoll => epoll::run(listener, config.spin),
        Mode::Uring => uring::run(listener, config.spin, &config.ring),
        Mode::Tonic => tonic::run(listener),
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}

/// What a connection has said of itself.
#[derive(Debug, Clone, Copy)]
enum Seat {
    /// Not all yet.
    Greeting { hello: [u8; HELLO_BYTES], len: usize },
    /// Where its bytes go.
    Taken { publish: Option<u8> },
}

/// What a piece of bytes on a connection asks for.
enum Step<'a> {
    /// Nothing yet.
    Wait,
    /// The hello is complete: welcome it. Bytes may follow at once.
    Welcome(Hello, &'a [u8]),
    /// Bytes for a channel.
    Forward(u8, &'a [u8]),
    /// Not one of ours.
    Refuse,
}

impl Seat {
    fn new() -> Seat {
        Seat::Greeting {
            hello: [0; HELLO_BYTES],
            len: 0,
        }
    }

    fn take<'a>(&mut self, bytes: &'a [u8]) -> Step<'a> {
        match self {
            Seat::Taken {
                publish: Some(channel),
            } => Step::Forward(*channel, bytes),
            Seat::Taken { publish: None } => Step::Refuse,
            Seat::Greeting { hello, len } => {
                let (head, rest) = bytes.split_at(bytes.len().min(HELLO_BYTES - *len));
                hello[*len..*len + head.len()].copy_from_slice(head);
                *len += head.len();
                if *len < HELLO_BYTES {
                    return Step::Wait;
                }
                match Hello::decode(*hello) {
                    Some(hello) if [hello.publish, hello.subscribe].into_iter().flatten().all(exists) => {
                        *self = Seat::Taken {
                            publish: hello.publish,
                        };
                        Step::Welcome(hello, rest)
                    }
                    _ => Step::Refuse,
                }
            }
        }
    }
}

fn exists(channel: u8) -> bool {
    usize::from(channel) < CHANNELS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_may_come_in_pieces_and_with_bytes_behind_it() {
        let hello = Hello {
            publish: Some(1),
            subscribe: None,
        };
        let mut seat = Seat::new();
        assert!(matches!(seat.take(&hello.encode()[..2]), Step::Wait));
        let mut rest = hello.encode()[2..].to_vec();
        rest.extend_from_slice(b"bytes");
        assert!(matches!(seat.take(&rest), Step::Welcome(welcomed, b"bytes") if welcomed == hello));
        assert!(matches!(seat.take(b"more"), Step::Forward(1, b"more")));
    }

    #[test]
    fn strangers_and_channels_that_do_not_exist_are_refused() {
        assert!(matches!(Seat::new().take(b"GET / HTTP/1.1"), Step::Refuse));
        let hello = Hello {
            publish: Some(200),
            subscribe: None,
        };
        assert!(matches!(Seat::new().take(&hello.encode()), Step::Refuse));
    }
}
