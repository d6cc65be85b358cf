//! Redis publish/subscribe over RESP3, in which a connection may publish while it is subscribed.

use super::split::Splitter;
use super::template::Template;
use super::{Incoming, Plan, Role, TOPIC_PREFIX, Wire, WireError, payload, sequence_of, topic_name};

const REPLIES: &str = "bench/replies";

#[derive(Debug)]
pub(super) struct Redis {
    plan: Plan,
    ready: bool,
    splitter: Splitter,
    publish: Template,
    respond: Template,
}

impl Redis {
    pub(super) fn new(plan: &Plan) -> Redis {
        Redis {
            plan: plan.clone(),
            ready: false,
            splitter: Splitter::default(),
            publish: message(&topic_name(0), plan.payload_bytes, Some(TOPIC_PREFIX.len())),
            respond: message(REPLIES, plan.payload_bytes, None),
        }
    }
}

/// The channel of responder `index`.
fn service(index: usize) -> String {
    format!("bench/service/{index}")
}

/// A command with its arguments.
fn command(arguments: &[&str]) -> Vec<u8> {
    let mut text = format!("*{}\r\n", arguments.len());
    for argument in arguments {
        text.push_str(&format!("${}\r\n{argument}\r\n", argument.len()));
    }
    text.into_bytes()
}

/// A `PUBLISH`, with the place of a topic's digits within the channel's name.
fn message(channel: &str, payload_bytes: usize, digits_at: Option<usize>) -> Template {
    let head = format!("*3\r\n$7\r\nPUBLISH\r\n${}\r\n", channel.len());
    let mut bytes = format!("{head}{channel}\r\n${payload_bytes}\r\n").into_bytes();
    let payload_at = bytes.len();
    bytes.extend_from_slice(&payload(payload_bytes));
    bytes.extend_from_slice(b"\r\n");
    Template::new(bytes, payload_at, digits_at.map(|at| head.len() + at))
}

impl Wire for Redis {
    fn open(&mut self, out: &mut Vec<u8>) {
        out.extend(command(&["HELLO", "3"]));
        match self.plan.role {
            Role::Requester => out.extend(command(&["SUBSCRIBE", REPLIES])),
            Role::Responder => out.extend(command(&["SUBSCRIBE", &service(self.plan.index)])),
            Role::Publisher | Role::Subscriber => {}
        }
    }

    fn receive(&mut self, bytes: &[u8], _: &mut Vec<u8>, inbox: &mut Vec<Incoming>) -> Result<(), WireError> {
        let role = self.plan.role;
        let ready = &mut self.ready;
        self.splitter.feed(bytes, |bytes| match bytes[0] {
            b'>' => push(role, bytes, ready, inbox),
            // The number of receivers, which a PUBLISH returns.
            b':' => Ok(line(bytes).map(|(_, rest)| bytes.len() - rest.len())),
            b'%' => {
                let Some(item_bytes) = skip_value(bytes)? else {
                    return Ok(None);
                };
                if matches!(role, Role::Publisher | Role::Subscriber) {
                    *ready = true;
                    inbox.push(Incoming::Ready);
                }
                Ok(Some(item_bytes))
            }
            b'-' => match line(bytes) {
                Some((error, _)) => Err(WireError::Refused(String::from_utf8_lossy(error).into_owned())),
                None => Ok(None),
            },
            _ => Err(WireError::Malformed("an unexpected RESP type")),
        })
    }

    fn subscribe(&mut self, topic: u32, out: &mut Vec<u8>) {
        out.extend(command(&["SUBSCRIBE", &topic_name(topic)]));
    }

    fn unsubscribe(&mut self, topic: u32, out: &mut Vec<u8>) {
        out.extend(command(&["UNSUBSCRIBE", &topic_name(topic)]));
    }

    fn publish(&mut self, topic: u32, sequence: u64, out: &mut Vec<u8>) {
        self.publish.append(topic, sequence, out);
    }

    fn request(&mut self, responder: usize, sequence: u64, out: &mut Vec<u8>) {
        message(&service(responder), self.plan.payload_bytes, None).append(0, sequence, out);
    }

    fn respond(&mut self, _: u64, sequence: u64, out: &mut Vec<u8>) {
        self.respond.append(0, sequence, out);
    }

    fn flush(&mut self, _: &mut Vec<u8>) {}
}

/// Reads a push: a message, or the confirmation of a (un)subscription.
fn push(
    role: Role,
    bytes: &[u8],
    ready: &mut bool,
    inbox: &mut Vec<Incoming>,
) -> Result<Option<usize>, WireError> {
    let Some((_, rest)) = line(bytes) else {
        return Ok(None);
    };
    let Some((kind, rest)) = bulk(rest)? else {
        return Ok(None);
    };
    let Some((_, rest)) = bulk(rest)? else {
        return Ok(None);
    };
    if kind != b"message" {
        let Some((_, rest)) = line(rest) else {
            return Ok(None);
        };
        let incoming = if std::mem::replace(ready, true) {
            Incoming::Subscribed
        } else {
            Incoming::Ready
        };
        inbox.push(incoming);
        return Ok(Some(bytes.len() - rest.len()));
    }
    let Some((size, rest)) = line(rest) else {
        return Ok(None);
    };
    let size = number(size)?;
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
    Ok(Some(bytes.len() - rest.len() + size + 2))
}

/// What was looked for, and what follows it.
type Parted<'a> = (&'a [u8], &'a [u8]);

/// A line without its end, and what follows.
fn line(bytes: &[u8]) -> Option<Parted<'_>> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((
        bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]),
        &bytes[end + 1..],
    ))
}

/// The number after a line's type byte.
fn number(line: &[u8]) -> Result<usize, WireError> {
    let digits = line.get(1..).unwrap_or_default();
    if digits.is_empty() || digits.len() > 9 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(WireError::Malformed("a RESP length is no number"));
    }
    Ok(digits
        .iter()
        .fold(0, |number, digit| number * 10 + usize::from(digit - b'0')))
}

/// A bulk string and what follows.
fn bulk(bytes: &[u8]) -> Result<Option<Parted<'_>>, WireError> {
    let Some((head, rest)) = line(bytes) else {
        return Ok(None);
    };
    let size = number(head)?;
    if rest.len() < size + 2 {
        return Ok(None);
    }
    Ok(Some((&rest[..size], &rest[size + 2..])))
}

/// Bytes of the value at the start, however it nests (the answer to `HELLO` is a map with an empty array in it).
fn skip_value(bytes: &[u8]) -> Result<Option<usize>, WireError> {
    let mut rest = bytes;
    let mut values = 1;
    while values > 0 {
        let Some((head, after)) = line(rest) else {
            return Ok(None);
        };
        values -= 1;
        match head.first() {
            Some(b'%') => values += 2 * number(head)?,
            Some(b'*') => values += number(head)?,
            Some(b'$') => {
                let Some((_, after)) = bulk(rest)? else {
                    return Ok(None);
                };
                rest = after;
                continue;
            }
            _ => {}
        }
        rest = after;
    }
    Ok(Some(bytes.len() - rest.len()))
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
        let mut out = Vec::new();
        Redis::new(&plan).publish(7, u64::from_le_bytes(*b"sequence"), &mut out);
        assert_eq!(
            out,
            b"*3\r\n$7\r\nPUBLISH\r\n$14\r\nbench/00000007\r\n$8\r\nsequence\r\n"
        );

        let stream = b"%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nmodules\r\n*0\r\n\
            >3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n\
            >3\r\n$7\r\nmessage\r\n$1\r\na\r\n$8\r\nsequence\r\n:3\r\n\
            >3\r\n$7\r\nmessage\r\n$1\r\na\r\n$10\r\nsequenceXX\r\n";
        let message = Incoming::Message(Some(u64::from_le_bytes(*b"sequence")));
        for split in 0..stream.len() {
            let mut redis = Redis::new(&plan);
            let mut inbox = Vec::new();
            redis
                .receive(&stream[..split], &mut Vec::new(), &mut inbox)
                .unwrap();
            redis
                .receive(&stream[split..], &mut Vec::new(), &mut inbox)
                .unwrap();
            assert_eq!(
                inbox,
                [Incoming::Ready, Incoming::Subscribed, message, message],
                "split at {split}"
            );
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
        let refused = Redis::new(&plan).receive(b"-ERR no\r\n", &mut Vec::new(), &mut Vec::new());
        assert_eq!(refused, Err(WireError::Refused("-ERR no".into())));
    }
}
