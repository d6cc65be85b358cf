//! NATS text protocol, as its client reference describes it.

use super::split::Splitter;
use super::template::Template;
use super::{
    Incoming, PAYLOAD_BYTES_MIN, Plan, Role, TOPIC_PREFIX, Wire, WireError, payload, sequence_of, topic_name,
};

const INBOX: &str = "_INBOX.bench";
const SERVICE: &str = "bench.service.";

#[derive(Debug)]
pub(super) struct Nats {
    plan: Plan,
    ready: bool,
    splitter: Splitter,
    publish: Template,
    respond: Template,
}

impl Nats {
    pub(super) fn new(plan: &Plan) -> Nats {
        let head = format!("PUB {} {}\r\n", topic_name(0), plan.payload_bytes);
        let publish = message(&head, plan.payload_bytes, Some("PUB ".len() + TOPIC_PREFIX.len()));
        let respond = message(
            &format!("PUB {INBOX} {}\r\n", plan.payload_bytes),
            plan.payload_bytes,
            None,
        );
        Nats {
            plan: plan.clone(),
            ready: false,
            splitter: Splitter::default(),
            publish,
            respond,
        }
    }
}

/// A `PUB` with `head` as its first line.
fn message(head: &str, payload_bytes: usize, topic_at: Option<usize>) -> Template {
    let mut bytes = head.as_bytes().to_vec();
    bytes.extend_from_slice(&payload(payload_bytes));
    bytes.extend_from_slice(b"\r\n");
    Template::new(bytes, head.len(), topic_at)
}

impl Wire for Nats {
    fn open(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(
            b"CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"perf\",\"version\":\"1\"}\r\n",
        );
        match self.plan.role {
            Role::Requester => out.extend_from_slice(format!("SUB {INBOX} 1\r\n").as_bytes()),
            Role::Responder => {
                out.extend_from_slice(format!("SUB {SERVICE}{} 1\r\n", self.plan.index).as_bytes())
            }
            Role::Publisher | Role::Subscriber => {}
        }
        out.extend_from_slice(b"PING\r\n");
    }

    fn receive(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        inbox: &mut Vec<Incoming>,
    ) -> Result<(), WireError> {
        let role = self.plan.role;
        let ready = &mut self.ready;
        self.splitter.feed(bytes, |bytes| {
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                return Ok(None);
            };
            let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
            if line.starts_with(b"MSG ") {
                return incoming(role, line, &bytes[end + 1..], inbox)
                    .map(|rest| rest.map(|rest| end + 1 + rest));
            }
            match line {
                b"PONG" if *ready => inbox.push(Incoming::Subscribed),
                b"PONG" => {
                    *ready = true;
                    inbox.push(Incoming::Ready);
                }
                b"PING" => out.extend_from_slice(b"PONG\r\n"),
                _ if line.starts_with(b"-ERR") => {
                    return Err(WireError::Refused(String::from_utf8_lossy(line).into_owned()));
                }
                _ if line.starts_with(b"INFO ") || line.starts_with(b"+OK") => {}
                _ => return Err(WireError::Malformed("not a NATS line")),
            }
            Ok(Some(end + 1))
        })
    }

    fn subscribe(&mut self, topic: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("SUB {} {topic}\r\nPING\r\n", topic_name(topic)).as_bytes());
    }

    fn unsubscribe(&mut self, topic: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("UNSUB {topic}\r\nPING\r\n").as_bytes());
    }

    fn publish(&mut self, topic: u32, sequence: u64, out: &mut Vec<u8>) {
        self.publish.append(topic, sequence, out);
    }

    fn request(&mut self, responder: usize, sequence: u64, out: &mut Vec<u8>) {
        let bytes = self.plan.payload_bytes;
        let head = format!("PUB {SERVICE}{responder} {INBOX} {bytes}\r\n");
        message(&head, bytes, None).append(0, sequence, out);
    }

    fn respond(&mut self, _: u64, sequence: u64, out: &mut Vec<u8>) {
        self.respond.append(0, sequence, out);
    }

    fn flush(&mut self, _: &mut Vec<u8>) {}
}

/// Reads a message whose first line is `line`, and returns how long the rest is, line end included.
fn incoming(
    role: Role,
    line: &[u8],
    rest: &[u8],
    inbox: &mut Vec<Incoming>,
) -> Result<Option<usize>, WireError> {
    let digits = line.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let size = line[line.len() - digits..]
        .iter()
        .fold(0usize, |size, digit| size * 10 + usize::from(digit - b'0'));
    if digits == 0 || digits > 9 || size < PAYLOAD_BYTES_MIN {
        return Err(WireError::Malformed("a MSG of impossible size"));
    }
    let Some(sequence) = sequence_of(rest) else {
        return Ok(None);
    };
    inbox.push(match role {
        Role::Responder => Incoming::Request {
            token: sequence,
            sequence,
        },
        Role::Requester => Incoming::Response(sequence),
        _ => Incoming::Message(Some(sequence)),
    });
    Ok(Some(size + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation() {
        let plan = Plan {
            role: Role::Subscriber,
            index: 0,
            run: 0,
            payload_bytes: 8,
            mixed: false,
            stalls: false,
        };
        let mut nats = Nats::new(&plan);
        let mut out = Vec::new();
        nats.open(&mut out);
        assert!(out.starts_with(b"CONNECT {") && out.ends_with(b"\r\nPING\r\n"));
        out.clear();
        nats.subscribe(7, &mut out);
        assert_eq!(out, b"SUB bench/00000007 7\r\nPING\r\n");
        out.clear();
        nats.publish(7, u64::from_le_bytes(*b"sequence"), &mut out);
        assert_eq!(out, b"PUB bench/00000007 8\r\nsequence\r\n");
        out.clear();

        let stream = b"INFO {}\r\nPONG\r\nPONG\r\nPING\r\nMSG bench/00000007 7 8\r\nsequence\r\n\
            MSG bench/00000007 7 9\r\nsequenceX\r\n";
        let message = Incoming::Message(Some(u64::from_le_bytes(*b"sequence")));
        for split in 0..stream.len() {
            let mut nats = Nats::new(&plan);
            let mut inbox = Vec::new();
            let mut out = Vec::new();
            nats.receive(&stream[..split], &mut out, &mut inbox).unwrap();
            nats.receive(&stream[split..], &mut out, &mut inbox).unwrap();
            assert_eq!(
                inbox,
                [Incoming::Ready, Incoming::Subscribed, message, message],
                "split at {split}"
            );
            assert_eq!(out, b"PONG\r\n");
        }
    }

    #[test]
    fn a_refusal_is_told() {
        let plan = Plan {
            role: Role::Publisher,
            index: 0,
            run: 0,
            payload_bytes: 8,
            mixed: false,
            stalls: false,
        };
        let refused = Nats::new(&plan).receive(b"-ERR 'no'\r\n", &mut Vec::new(), &mut Vec::new());
        assert_eq!(refused, Err(WireError::Refused("-ERR 'no'".into())));
    }
}
