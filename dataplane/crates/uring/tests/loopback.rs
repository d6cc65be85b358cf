//! The ring against ordinary sockets of the standard library.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use ringgate_uring::{Completion, Ring, RingConfig, SocketId};

fn config() -> RingConfig {
    RingConfig {
        receive_buffers: 4,
        receive_buffer_bytes: 4096,
        sockets_max: 16,
        ..RingConfig::default()
    }
}

/// Drives `ring` as an echo server until `done` says so.
fn echo(ring: &mut Ring, mut done: impl FnMut(&Completion) -> bool) {
    let mut waiting: HashMap<SocketId, Vec<u8>> = HashMap::new();
    let mut finished = false;
    while !finished {
        ring.submit_and_wait(Duration::from_secs(10)).expect("enter");
        while let Some(completion) = ring.next_completion() {
            finished |= done(&completion);
            match completion {
                Completion::Accepted { socket, .. } => ring.receive(socket),
                Completion::Received(received) => {
                    waiting
                        .entry(received.socket)
                        .or_default()
                        .extend_from_slice(ring.bytes(&received));
                    let socket = received.socket;
                    ring.consumed(received);
                    flush(ring, socket, &mut waiting);
                }
                Completion::Sent { socket, result } => {
                    result.expect("sent");
                    flush(ring, socket, &mut waiting);
                }
                Completion::Ended { socket, .. } => ring.close(socket),
                Completion::AcceptFailed { error, .. } => panic!("accept: {error}"),
                Completion::Closed { .. } | Completion::Woken => {}
            }
        }
    }
}

fn flush(ring: &mut Ring, socket: SocketId, waiting: &mut HashMap<SocketId, Vec<u8>>) {
    let Some(bytes) = waiting.get_mut(&socket).filter(|bytes| !bytes.is_empty()) else {
        return;
    };
    if !ring.is_sending(socket) {
        let mut buffer = ring.send_buffer();
        // Every other byte run by reference, so that both ways of sending are seen.
        let (head, tail) = bytes.split_at(bytes.len() / 2);
        buffer.copy(head);
        buffer.share(Bytes::copy_from_slice(tail));
        bytes.clear();
        ring.send(socket, buffer);
    }
}

#[test]
fn echoes_more_than_all_buffers_hold_and_frees_the_entry() {
    for incremental in [false, true] {
        echoes_much(&RingConfig {
            incremental,
            ..config()
        });
    }
}

fn echoes_much(config: &RingConfig) {
    let mut ring = Ring::new(config).expect("ring");
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    ring.listen(listener);
    let client = std::thread::spawn(move || {
        let stream = TcpStream::connect(address).expect("connect");
        let sent: Vec<u8> = (0..1_000_000u32).map(|n| (n * 7 % 251) as u8).collect();
        let mut writer = stream.try_clone().expect("clone");
        let expected = sent.clone();
        let writing = std::thread::spawn(move || writer.write_all(&sent).expect("write"));
        let mut reader = stream;
        let mut got = vec![0; expected.len()];
        reader.read_exact(&mut got).expect("read");
        writing.join().expect("writer");
        assert!(got == expected, "bytes come back in order");
        reader.shutdown(Shutdown::Write).expect("shutdown");
        assert_eq!(reader.read(&mut got).expect("end"), 0);
    });
    echo(&mut ring, |completion| {
        matches!(completion, Completion::Closed { .. })
    });
    client.join().expect("client");
    assert_eq!(ring.sockets_open(), 0);
}

#[test]
fn closing_with_a_send_in_flight_waits_for_it() {
    let mut ring = Ring::new(&config()).expect("ring");
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    ring.listen(listener);
    // Never reads: the kernel's buffers fill and the send stays in flight.
    let client = TcpStream::connect(address).expect("connect");
    let mut closed = None;
    while closed.is_none() {
        ring.submit_and_wait(Duration::from_secs(10)).expect("enter");
        while let Some(completion) = ring.next_completion() {
            match completion {
                Completion::Accepted { socket, .. } => {
                    ring.receive(socket);
                    let mut buffer = ring.send_buffer();
                    buffer.share(Bytes::from(vec![1; 64 << 20]));
                    ring.send(socket, buffer);
                    ring.submit().expect("enter");
                    assert!(ring.is_sending(socket));
                    ring.close(socket);
                }
                Completion::Closed { socket } => closed = Some(socket),
                other => panic!("unexpected {other:?}"),
            }
        }
    }
    assert_eq!(ring.sockets_open(), 0);
    drop(client);
}

#[test]
fn an_old_id_of_a_reused_entry_is_void() {
    let mut ring = Ring::new(&config()).expect("ring");
    let (first, _keep) = pair();
    let old = ring.adopt(first.into()).expect("adopt");
    ring.close(old);
    assert!(matches!(ring.next_completion(), Some(Completion::Closed { socket }) if socket == old));
    let (second, _keep) = pair();
    let new = ring.adopt(second.into()).expect("adopt");
    assert_eq!(old.index(), new.index());
    assert_ne!(old, new);
    let mut buffer = ring.send_buffer();
    buffer.copy(b"lost");
    ring.send(old, buffer);
    assert!(!ring.is_sending(new));
}

#[test]
fn asking_for_an_acknowledgement_ends_the_delay_of_acknowledgements() {
    let mut ring = Ring::new(&config()).expect("ring");
    let (server, _client) = pair();
    // The ring closes the descriptor it adopts; this one tells about the same socket.
    let witness = server.try_clone().expect("clone");
    let socket = ring.adopt(server.into()).expect("adopt");
    set_quickack(&witness, false);
    assert!(!quickack(&witness));
    ring.quickack(socket);
    ring.submit().expect("enter");
    assert!(ring.next_completion().is_none(), "success is not reported");
    // Linux before 6.7 cannot, and says so.
    assert_eq!(quickack(&witness), ring.can_quickack());
}

#[test]
fn asking_a_closed_socket_for_an_acknowledgement_does_nothing() {
    let mut ring = Ring::new(&config()).expect("ring");
    let (server, _client) = pair();
    let socket = ring.adopt(server.into()).expect("adopt");
    ring.quickack(socket);
    ring.close(socket);
    ring.quickack(socket);
    ring.submit().expect("enter");
    assert!(matches!(ring.next_completion(), Some(Completion::Closed { .. })));
    assert!(ring.next_completion().is_none());
    assert!(ring.can_quickack());
}

fn set_quickack(socket: &TcpStream, on: bool) {
    let value = libc::c_int::from(on);
    // SAFETY: the pointer is to a value of the given size that lives over the call.
    let result = unsafe {
        libc::setsockopt(
            std::os::fd::AsRawFd::as_raw_fd(socket),
            libc::IPPROTO_TCP,
            libc::TCP_QUICKACK,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    assert_eq!(result, 0);
}

fn quickack(socket: &TcpStream) -> bool {
    let mut value: libc::c_int = 0;
    let mut len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the pointers are to a value and its size that live over the call.
    let result = unsafe {
        libc::getsockopt(
            std::os::fd::AsRawFd::as_raw_fd(socket),
            libc::IPPROTO_TCP,
            libc::TCP_QUICKACK,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    assert_eq!(result, 0);
    value != 0
}

#[test]
fn a_full_table_refuses_and_says_what_to_do() {
    let mut ring = Ring::new(&RingConfig {
        sockets_max: 1,
        ..config()
    })
    .expect("ring");
    let (first, _keep) = pair();
    ring.adopt(first.into()).expect("adopt");
    let (second, _keep) = pair();
    let error = ring.adopt(second.into()).expect_err("full").to_string();
    assert!(error.contains("limits.connections_max"), "{error}");
}

#[test]
fn another_thread_wakes_a_ring_that_waits() {
    let mut ring = Ring::new(&config()).expect("ring");
    let waker = ring.waker();
    for _ in 0..3 {
        let waker = waker.clone();
        let thread = std::thread::spawn(move || waker.wake());
        // Longer than the test may take: only the wake-up ends it.
        ring.submit_and_wait(Duration::from_secs(3600)).expect("enter");
        assert!(matches!(ring.next_completion(), Some(Completion::Woken)));
        thread.join().expect("thread");
    }
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let client = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
    (listener.accept().expect("accept").0, client)
}
