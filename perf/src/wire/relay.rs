//! The raw relay: fixed-size messages without any framing.

use super::split::Splitter;
use super::template::Template;
use super::{Incoming, Plan, Role, Wire, WireError, agp, payload, sequence_of};

/// Bytes a connection says first, before anything else.
pub const HELLO_BYTES: usize = 3;
/// What the relay answers once the connection is in its place.
const WELCOME: u8 = b'+';
const MAGIC: u8 = b'R';
const NO_CHANNEL: u8 = 0xff;

/// Whom a connection's bytes go to, and whose bytes it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The channel that its bytes go to.
    pub publish: Option<u8>,
    /// The channel whose bytes it gets.
    pub subscribe: Option<u8>,
}

impl Hello {
    /// Its bytes.
    pub fn encode(self) -> [u8; HELLO_BYTES] {
        [
            MAGIC,
            self.publish.unwrap_or(NO_CHANNEL),
            self.subscribe.unwrap_or(NO_CHANNEL),
        ]
    }

    /// Reads it; `None` for anything else.
    pub fn decode(bytes: [u8; HELLO_BYTES]) -> Option<Hello> {
        let channel = |byte| (byte != NO_CHANNEL).then_some(byte);
        (bytes[0] == MAGIC).then_some(Hello {
            publish: channel(bytes[1]),
            subscribe: channel(bytes[2]),
        })
    }

    /// What the relay answers.
    pub fn welcome() -> &'static [u8] {
        &[WELCOME]
    }
}

#[derive(Debug)]
pub(super) struct Relay {
    role: Role,
    mixed: bool,
    welcomed: bool,
    splitter: Splitter,
    template: Template,
    message_bytes: usize,
}

impl Relay {
    pub(super) fn new(plan: &Plan) -> Relay {
        // As many bytes as the native protocol delivers for this payload, so that both move the same.
        let message_bytes = agp::delivery_bytes(plan.payload_bytes);
        Relay {
            role: plan.role,
            mixed: plan.mixed,
            welcomed: false,
            splitter: Splitter::default(),
            template: Template::new(payload(message_bytes), 0, None),
            message_bytes,
        }
    }
}

impl Wire for Relay {
    fn open(&mut self, out: &mut Vec<u8>) {
        let (publish, subscribe) = match self.role {
            Role::Publisher => (Some(0), None),
            Role::Subscriber => (None, Some(0)),
            Role::Requester => (Some(0), Some(1)),
            Role::Responder => (Some(1), Some(0)),
        };
        out.extend_from_slice(&Hello { publish, subscribe }.encode());
    }

    fn receive(&mut self, bytes: &[u8], _: &mut Vec<u8>, inbox: &mut Vec<Incoming>) -> Result<(), WireError> {
        let (role, mixed, message_bytes) = (self.role, self.mixed, self.message_bytes);
        let welcomed = &mut self.welcomed;
        self.splitter.feed(bytes, |bytes| {
            if !*welcomed {
                if bytes[0] != WELCOME {
                    return Err(WireError::Malformed("this is no raw relay"));
                }
                *welcomed = true;
                inbox.push(Incoming::Ready);
                return Ok(Some(1));
            }
            let Some(sequence) = sequence_of(bytes) else {
                return Ok(None);
            };
            inbox.push(match role {
                Role::Responder => Incoming::Request {
                    token: sequence,
                    sequence,
                },
                Role::Requester => Incoming::Response(sequence),
                _ => Incoming::Message((!mixed).then_some(sequence)),
            });
            Ok(Some(message_bytes))
        })
    }

    /// The hello has done it: there is one topic.
    fn subscribe(&mut self, _: u32, _: &mut Vec<u8>) {}

    fn unsubscribe(&mut self, _: u32, _: &mut Vec<u8>) {}

    fn publish(&mut self, _: u32, sequence: u64, out: &mut Vec<u8>) {
        self.template.append(0, sequence, out);
    }

    fn request(&mut self, _: usize, sequence: u64, out: &mut Vec<u8>) {
        self.template.append(0, sequence, out);
    }

    fn respond(&mut self, _: u64, sequence: u64, out: &mut Vec<u8>) {
        self.template.append(0, sequence, out);
    }

    fn flush(&mut self, _: &mut Vec<u8>) {}
}
