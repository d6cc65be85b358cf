//! The native protocol `agp.v1`: one gRPC call `Open` in which both sides send messages.

use super::http2::Call;
use super::protobuf::{Fields, Value, put_bytes, put_number};
use super::split::Splitter;
use super::template::Template;
use super::{Incoming, Plan, Role, TOPIC_PREFIX, Wire, WireError, payload, sequence_of, topic_name};

const PATH: &str = "/agp.v1.AgentGateway/Open";
/// Compression flag and length before each gRPC message.
const PREFIX_BYTES: usize = 5;
/// What is needed of a message to tell its kind and its sequence number: the topic and the start of the payload.
const HEAD_BYTES: usize = 128;

/// Fields of `AgentMessage`.
mod says {
    pub(super) const REGISTER: u32 = 1;
    pub(super) const SUBSCRIBE: u32 = 2;
    pub(super) const UNSUBSCRIBE: u32 = 3;
    pub(super) const PUBLISH: u32 = 4;
    pub(super) const REQUEST: u32 = 5;
    pub(super) const RESPONSE: u32 = 6;
    pub(super) const STATE_PUT: u32 = 15;
    pub(super) const STATE_WATCH: u32 = 17;
    pub(super) const STATE_UNWATCH: u32 = 18;
}

/// Fields of `GatewayMessage`.
mod hears {
    pub(super) const REGISTERED: u32 = 1;
    pub(super) const ACK: u32 = 2;
    pub(super) const ERROR: u32 = 3;
    pub(super) const NOTIFY: u32 = 4;
    pub(super) const FORWARD: u32 = 5;
    pub(super) const DELIVER: u32 = 6;
    pub(super) const STATE_EVENT: u32 = 15;
    pub(super) const GAP: u32 = 16;
}

/// The one key that is put.
const KEY: &str = "key";

#[derive(Debug)]
pub(super) struct Agp {
    plan: Plan,
    call: Call,
    splitter: Splitter,
    publish: Template,
    /// State spaces in place of topics.
    state: bool,
}

impl Agp {
    pub(super) fn new(plan: &Plan, state: bool) -> Agp {
        Agp {
            plan: plan.clone(),
            call: Call::new(),
            splitter: Splitter::default(),
            publish: match state {
                true => put(plan.payload_bytes),
                false => publish(plan.payload_bytes),
            },
            state,
        }
    }

    /// Queues one message of the given kind.
    fn say(&mut self, kind: u32, body: &[u8]) {
        put_message(kind, body, self.call.pending());
    }
}

/// Bytes of the gRPC message that delivers a payload of `payload_bytes`, for a relay that is to move as much. Sequence numbers of
/// three bytes are assumed.
pub(super) fn delivery_bytes(payload_bytes: usize) -> usize {
    let mut notify = publish_body(payload_bytes);
    let plan = Plan {
        role: Role::Publisher,
        index: 0,
        run: 0,
        payload_bytes,
        mixed: false,
        stalls: false,
    };
    put_bytes(16, agent_name(&plan).as_bytes(), &mut notify);
    put_number(17, 1 << 20, &mut notify);
    notify.extend_from_slice(&[0; 10]); // time_unix_nanos: two bytes of key, eight of value
    let mut message = Vec::new();
    put_message(hears::NOTIFY, &notify, &mut message);
    message.len()
}

/// Names are equally long for all agents.
fn agent_name(plan: &Plan) -> String {
    name(plan.role, plan.index, plan.run)
}

fn name(role: Role, index: usize, run: u32) -> String {
    let kind = match role {
        Role::Publisher => "pub",
        Role::Subscriber => "sub",
        Role::Requester => "ask",
        Role::Responder => "ans",
    };
    format!("perf/load/{kind}/{:06x}{run:03x}{index:05}", std::process::id())
}

fn publish_body(payload_bytes: usize) -> Vec<u8> {
    let mut body = Vec::new();
    put_bytes(1, topic_name(0).as_bytes(), &mut body);
    put_bytes(2, &payload(payload_bytes), &mut body);
    body
}

fn publish(payload_bytes: usize) -> Template {
    let body = publish_body(payload_bytes);
    let mut message = Vec::new();
    put_message(says::PUBLISH, &body, &mut message);
    let body_at = message.len() - body.len();
    let topic_at = body_at + 2 + TOPIC_PREFIX.len();
    let payload_at = message.len() - payload_bytes;
    Template::new(message, payload_at, Some(topic_at))
}

/// A put of the one key, without an Ack.
fn put(payload_bytes: usize) -> Template {
    let body = put_body(0, 0, &payload(payload_bytes));
    let mut message = Vec::new();
    put_message(says::STATE_PUT, &body, &mut message);
    let body_at = message.len() - body.len();
    let space_at = body_at + 2 + TOPIC_PREFIX.len();
    let payload_at = message.len() - payload_bytes;
    Template::new(message, payload_at, Some(space_at))
}

fn put_body(id: u64, space: u32, value: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    put_bytes(2, topic_name(space).as_bytes(), &mut body);
    if id > 0 {
        put_number(1, id, &mut body);
    }
    put_bytes(3, KEY.as_bytes(), &mut body);
    put_bytes(4, value, &mut body);
    body
}

/// Appends a gRPC message with one field, whose value is `body`.
fn put_message(kind: u32, body: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    put_bytes(kind, body, out);
    let len = (out.len() - start - PREFIX_BYTES) as u32;
    out[start + 1..start + PREFIX_BYTES].copy_from_slice(&len.to_be_bytes());
}

impl Wire for Agp {
    fn open(&mut self, out: &mut Vec<u8>) {
        self.call.open(PATH, out);
        let mut register = Vec::new();
        put_bytes(1, agent_name(&self.plan).as_bytes(), &mut register);
        self.say(says::REGISTER, &register);
        self.call.flush(out);
    }

    fn receive(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        inbox: &mut Vec<Incoming>,
    ) -> Result<(), WireError> {
        let splitter = &mut self.splitter;
        let puts = self.state && self.plan.role == Role::Requester;
        self.call.receive(bytes, out, |data| {
            splitter.feed(data, |bytes| message(bytes, puts, inbox))
        })?;
        if self.call.take_over() {
            inbox.push(Incoming::Ended);
        }
        Ok(())
    }

    fn subscribe(&mut self, topic: u32, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        put_number(1, u64::from(topic) + 1, &mut body);
        put_bytes(2, topic_name(topic).as_bytes(), &mut body);
        self.say(
            if self.state {
                says::STATE_WATCH
            } else {
                says::SUBSCRIBE
            },
            &body,
        );
        self.call.flush(out);
    }

    fn unsubscribe(&mut self, topic: u32, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        put_number(1, u64::from(topic) + 1, &mut body);
        let kind = if self.state {
            says::STATE_UNWATCH
        } else {
            says::UNSUBSCRIBE
        };
        self.say(kind, &body);
        self.call.flush(out);
    }

    fn publish(&mut self, topic: u32, sequence: u64, _: &mut Vec<u8>) {
        self.publish.append(topic, sequence, self.call.pending());
    }

    fn request(&mut self, responder: usize, sequence: u64, _: &mut Vec<u8>) {
        if self.state {
            let value = payload_with(sequence, self.plan.payload_bytes);
            return self.say(says::STATE_PUT, &put_body(sequence + 1, 0, &value));
        }
        let mut target = Vec::new();
        put_bytes(
            1,
            name(Role::Responder, responder, self.plan.run).as_bytes(),
            &mut target,
        );
        let mut body = Vec::new();
        put_number(1, sequence + 1, &mut body);
        put_bytes(2, &target, &mut body);
        put_bytes(3, &payload_with(sequence, self.plan.payload_bytes), &mut body);
        self.say(says::REQUEST, &body);
    }

    fn respond(&mut self, token: u64, sequence: u64, _: &mut Vec<u8>) {
        let mut body = Vec::new();
        put_number(1, token, &mut body);
        put_bytes(3, &payload_with(sequence, self.plan.payload_bytes), &mut body);
        self.say(says::RESPONSE, &body);
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        self.call.flush(out);
    }

    /// Half-closes the call: a gateway keeps the session of a connection that is merely lost.
    fn close(&mut self, out: &mut Vec<u8>) -> bool {
        self.call.end(out);
        true
    }
}

fn payload_with(sequence: u64, bytes: usize) -> Vec<u8> {
    let mut payload = payload(bytes);
    payload[..8].copy_from_slice(&sequence.to_le_bytes());
    payload
}

/// Reads a message from its prefix on. Its length, when enough of it is there. `puts`: Acks are of puts.
#[inline]
fn message(bytes: &[u8], puts: bool, inbox: &mut Vec<Incoming>) -> Result<Option<usize>, WireError> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX_BYTES>() else {
        return Ok(None);
    };
    if prefix[0] != 0 {
        return Err(WireError::Malformed(
            "a compressed message, which was not asked for",
        ));
    }
    let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if rest.len() < len.min(HEAD_BYTES) {
        return Ok(None);
    }
    let mut envelope = Fields(&rest[..len.min(rest.len())]);
    let Some((kind, Value::Bytes(body))) = envelope.next()? else {
        return Err(WireError::Malformed("a message without a body"));
    };
    // What is asked of these may stand at the end, behind the payload.
    if matches!(kind, hears::FORWARD | hears::DELIVER | hears::ERROR) && rest.len() < len {
        return Ok(None);
    }
    if let Some(incoming) = read(kind, body, puts)? {
        inbox.push(incoming);
    }
    Ok(Some(PREFIX_BYTES + len))
}

#[inline]
fn read(kind: u32, body: &[u8], puts: bool) -> Result<Option<Incoming>, WireError> {
    Ok(Some(match kind {
        hears::NOTIFY => Incoming::Message(Some(sequence(2, body)?)),
        hears::DELIVER => match number(2, body)? {
            0 => Incoming::Response(sequence(3, body)?),
            code => return Err(WireError::Refused(format!("a request failed with code {code}"))),
        },
        hears::FORWARD => Incoming::Request {
            token: number(17, body)?,
            sequence: sequence(3, body)?,
        },
        hears::REGISTERED => Incoming::Ready,
        hears::ACK if puts => Incoming::Response(number(1, body)?.wrapping_sub(1)),
        hears::ACK => Incoming::Subscribed,
        // The end of a snapshot, and what was put before this run, have no sequence number of it.
        hears::STATE_EVENT => match Fields(body).find(4)?.and_then(sequence_of) {
            Some(sequence) => Incoming::Message(Some(sequence)),
            None => return Ok(None),
        },
        hears::GAP => Incoming::Dropped(number(2, body)?),
        hears::ERROR => return Err(refusal(body)?),
        _ => return Ok(None),
    }))
}

/// The sequence number in the payload, which is field `wanted`.
#[inline]
fn sequence(wanted: u32, body: &[u8]) -> Result<u64, WireError> {
    match Fields(body).find(wanted)? {
        Some(payload) => sequence_of(payload).ok_or(WireError::Malformed("a payload that nobody published")),
        None => Err(WireError::Malformed("a message without a payload")),
    }
}

/// Field `wanted`, a number; 0 where it is not there.
fn number(wanted: u32, body: &[u8]) -> Result<u64, WireError> {
    let mut fields = Fields(body);
    while let Some((number, value)) = fields.next()? {
        if number == wanted
            && let Value::Number(value) = value
        {
            return Ok(value);
        }
    }
    Ok(0)
}

fn refusal(body: &[u8]) -> Result<WireError, WireError> {
    let mut text = String::new();
    let mut fields = Fields(body);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (2, Value::Number(code)) => text = format!("code {code}"),
            (3, Value::Bytes(message)) => text = format!("{text}: {}", String::from_utf8_lossy(message)),
            _ => {}
        }
    }
    Ok(WireError::Refused(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(role: Role) -> Plan {
        Plan {
            role,
            index: 3,
            run: 1,
            payload_bytes: 300,
            mixed: false,
            stalls: false,
        }
    }

    /// What the gateway would deliver for a publish: the same bytes with its own fields behind them.
    fn notify(sequence: u64) -> Vec<u8> {
        let mut body = Vec::new();
        put_bytes(1, topic_name(5).as_bytes(), &mut body);
        put_bytes(2, &payload_with(sequence, 300), &mut body);
        put_bytes(16, agent_name(&plan(Role::Publisher)).as_bytes(), &mut body);
        put_number(17, 1 << 20, &mut body);
        body.extend_from_slice(&[0x91, 0x01, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut out = Vec::new();
        put_message(hears::NOTIFY, &body, &mut out);
        out
    }

    #[test]
    fn deliveries_are_read_at_any_split() {
        let mut stream = Vec::new();
        put_message(hears::REGISTERED, &[], &mut stream);
        put_message(hears::ACK, b"\x08\x01", &mut stream);
        stream.extend(notify(1));
        stream.extend(notify(2));
        put_message(hears::GAP, b"\x08\x01\x10\x07", &mut stream);
        let expected = [
            Incoming::Ready,
            Incoming::Subscribed,
            Incoming::Message(Some(1)),
            Incoming::Message(Some(2)),
            Incoming::Dropped(7),
        ];
        for split in 0..stream.len() {
            let mut splitter = Splitter::default();
            let mut inbox = Vec::new();
            splitter
                .feed(&stream[..split], |bytes| message(bytes, false, &mut inbox))
                .unwrap();
            splitter
                .feed(&stream[split..], |bytes| message(bytes, false, &mut inbox))
                .unwrap();
            assert_eq!(inbox, expected, "split at {split}");
        }
    }

    #[test]
    fn the_relay_moves_as_many_bytes_as_a_delivery_has() {
        assert_eq!(delivery_bytes(300), notify(1).len());
    }

    #[test]
    fn a_publish_carries_topic_and_sequence() {
        let mut out = Vec::new();
        publish(300).append(5, 77, &mut out);
        let (kind, body) = match Fields(&out[PREFIX_BYTES..]).next() {
            Ok(Some((kind, Value::Bytes(body)))) => (kind, body),
            other => panic!("{other:?}"),
        };
        assert_eq!(kind, says::PUBLISH);
        assert_eq!(
            Fields(body).next(),
            Ok(Some((1, Value::Bytes(topic_name(5).as_bytes()))))
        );
        assert_eq!(sequence(2, body), Ok(77));
    }

    #[test]
    fn a_request_is_read_with_its_token() {
        let mut body = Vec::new();
        put_bytes(3, &payload_with(9, 300), &mut body);
        put_number(17, 12345, &mut body);
        let mut stream = Vec::new();
        put_message(hears::FORWARD, &body, &mut stream);
        let mut inbox = Vec::new();
        let mut splitter = Splitter::default();
        splitter
            .feed(&stream[..200], |bytes| message(bytes, false, &mut inbox))
            .unwrap();
        splitter
            .feed(&stream[200..], |bytes| message(bytes, false, &mut inbox))
            .unwrap();
        assert_eq!(
            inbox,
            [Incoming::Request {
                token: 12345,
                sequence: 9
            }]
        );
    }

    #[test]
    fn a_refusal_says_why() {
        let mut stream = Vec::new();
        put_message(hears::ERROR, b"\x08\x01\x10\x08\x1a\x06in use", &mut stream);
        let refused = message(&stream, false, &mut Vec::new());
        assert_eq!(refused, Err(WireError::Refused("code 8: in use".into())));
    }
}
