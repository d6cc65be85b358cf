//! All sans-I/O layers in a row, as the node drives them: bytes of a publisher's socket in, bytes of its subscribers' sockets out.

use ringgate_gateway::SessionId;
use ringgate_grpc::{Deframer, Encoding};

use crate::hub::{self, Hub};
use crate::messages;
use crate::stream::{self, Stream};

/// What one send is gathered in, before it is thrown away.
const SEND_BYTES: usize = 1 << 20;
const MESSAGE_BYTES_MAX: u32 = 4 << 20;

/// A publisher, its subscribers, and everything between them but the kernel.
pub struct Pipeline {
    hub: Hub,
    publisher: SessionId,
    ingress: Stream,
    deframer: Deframer,
    /// By the session's index.
    egress: Vec<Option<Stream>>,
    wire: Vec<u8>,
    send: Vec<u8>,
}

impl Pipeline {
    /// So many subscribers; each turn brings `batch` publishes of `payload_bytes`.
    pub fn new(subscribers: usize, payload_bytes: usize, batch: usize) -> Pipeline {
        let (hub, publisher) = hub::fan_out(subscribers);
        let publish = messages::publish(messages::TOPIC, payload_bytes);
        Pipeline {
            hub,
            publisher,
            ingress: Stream::open(),
            deframer: Deframer::new(MESSAGE_BYTES_MAX, Encoding::Identity),
            egress: Vec::new(),
            wire: stream::data_frames(&messages::framed(&vec![publish; batch])),
            send: Vec::with_capacity(SEND_BYTES),
        }
    }

    /// One loop turn. Returns bytes that would have been sent.
    ///
    /// # Panics
    /// When a layer refuses what a benchmark sends.
    pub fn turn(&mut self) -> usize {
        let Pipeline {
            hub,
            publisher,
            ingress,
            deframer,
            egress,
            wire,
            send,
        } = self;
        ingress.receive(wire, |mut data| {
            while let Some(message) = deframer.next(&mut data).expect("good messages") {
                hub.say(*publisher, message.payload);
            }
        });
        let mut sent = 0;
        hub.flush(|session, bytes| {
            if egress.len() <= session.index() {
                egress.resize_with(session.index() + 1, || None);
            }
            let stream = egress[session.index()].get_or_insert_with(Stream::open);
            send.clear();
            let mut rest = bytes;
            stream.pack(bytes.len(), |head, len| {
                send.extend_from_slice(&head);
                send.extend_from_slice(&rest[..len]);
                rest = &rest[len..];
            });
            sent += send.len();
        });
        sent
    }
}
