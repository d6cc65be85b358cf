//! Bytes of an agent to an [`Action`].

use ringgate_gateway::action::{
    Accept, Action, Balance, Chunk, Delivery, DeliveryPolicy, Introduce, Publish, Register, Reject, Request,
    Response, StateGet, StateWatch, StateWrite, Status, StreamClose, StreamOpen, Subscribe, Target, To,
};
use ringgate_gateway::code::Code;

use super::error::{DecodeError, Rule};
use super::fields::{Fields, map_entry};
use super::schema::{self, Schema};

/// Capabilities, labels and accept_from patterns of a Register, each. Far above what policy allows (tens); bounds what a hostile
/// Register makes the decoder allocate before policy sees it, and keeps the search for repeated labels short.
pub const REGISTER_ELEMENTS_MAX: usize = 256;

/// Decodes one `AgentMessage`, without the gRPC prefix.
///
/// # Errors
///
/// [`DecodeError`] for everything a receiver's parser might refuse and for what cannot be routed. It carries the id to answer on
/// where one could be read.
pub fn decode(message: &[u8]) -> Result<Action<'_>, DecodeError> {
    let (number, body) = only_body(message)?;
    decode_body(number, body).map_err(|error| DecodeError {
        id: id_of(number, body),
        ..error
    })
}

/// The one field of the oneof that is set. Protobuf lets the last of several win and merges equal ones; that leaves room for two
/// parsers to see different messages, so several are refused.
#[inline(always)]
fn only_body(message: &[u8]) -> Result<(u32, &[u8]), DecodeError> {
    let mut found = None;
    let mut fields = Fields::new(&schema::AGENT_MESSAGE, message);
    while let Some(field) = fields.next()? {
        if !(1..=20).contains(&field.number) {
            continue;
        }
        if found.is_some() {
            return Err(fields.fault(0, Rule::SeveralBodies));
        }
        found = Some((field.number, field.bytes));
    }
    found.ok_or_else(|| fields.fault(0, Rule::NoBody))
}

#[inline(always)]
fn decode_body(number: u32, body: &[u8]) -> Result<Action<'_>, DecodeError> {
    Ok(match number {
        1 => Action::Register(register(body)?),
        2 => Action::Subscribe(subscribe(body)?),
        3 => Action::Unsubscribe {
            id: first_number(&schema::UNSUBSCRIBE, body)?,
        },
        4 => Action::Publish(publish(body)?),
        5 => Action::Request(request(body)?),
        6 => Action::Response(Response {
            request: first_number(&schema::RESPONSE, body)?,
            body,
        }),
        7 => Action::StreamOpen(stream_open(body)?),
        8 => Action::Chunk(chunk(body)?),
        9 => Action::StreamClose(StreamClose {
            stream: first_number(&schema::STREAM_CLOSE, body)?,
            body,
        }),
        10 => stream_credit(body)?,
        11 => Action::Introduce(introduce(body)?),
        12 => Action::Accept(Accept {
            introduction: first_number(&schema::ACCEPT, body)?,
            body,
        }),
        13 => Action::Reject(reject(body)?),
        14 => Action::StateGet(state_get(body)?),
        15 => Action::StateWrite(state_put(body)?),
        16 => Action::StateWrite(state_delete(body)?),
        17 => Action::StateWatch(state_watch(body)?),
        18 => Action::StateUnwatch {
            id: first_number(&schema::STATE_UNWATCH, body)?,
        },
        19 => Action::Status(status(body)?),
        _ => cancel(body)?,
    })
}

/// Finds the id of a message that breaks a rule, however it goes on.
#[cold]
fn id_of(number: u32, body: &[u8]) -> u64 {
    let (schema, id_number): (&'static Schema, u32) = match number {
        1 | 19 => return 0,
        4 => (&schema::ID_IN_4, 4),
        _ => (&schema::ID_IN_1, 1),
    };
    let mut id = 0;
    let mut fields = Fields::new(schema, body);
    while let Ok(Some(field)) = fields.next() {
        if field.number == id_number {
            id = field.varint;
        }
    }
    id
}

/// Checks a message of which the gateway needs no more than the number in field 1.
fn first_number(schema: &'static Schema, body: &[u8]) -> Result<u64, DecodeError> {
    let mut first = 0;
    let mut fields = Fields::new(schema, body);
    while let Some(field) = fields.next()? {
        if field.number == 1 {
            first = field.varint;
        }
    }
    Ok(first)
}

#[inline(always)]
fn publish(body: &[u8]) -> Result<Publish<'_>, DecodeError> {
    let mut publish = Publish {
        topic: "",
        id: 0,
        body,
    };
    let mut fields = Fields::new(&schema::PUBLISH, body);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => publish.topic = field.text,
            4 => publish.id = field.varint,
            _ => {}
        }
    }
    Ok(publish)
}

fn chunk(body: &[u8]) -> Result<Chunk<'_>, DecodeError> {
    let mut chunk = Chunk {
        stream: 0,
        payload_bytes: 0,
        body,
    };
    let mut payload = None;
    let mut fields = Fields::new(&schema::CHUNK, body);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => chunk.stream = field.varint,
            // The last value would win, but all would travel: more than credit was paid for.
            3 if payload.is_some() => return Err(fields.fault(3, Rule::Repeated)),
            3 => payload = Some(field.bytes.len() as u64),
            _ => {}
        }
    }
    chunk.payload_bytes = payload.unwrap_or(0);
    Ok(chunk)
}

fn request(body: &[u8]) -> Result<Request<'_>, DecodeError> {
    let (mut id, mut target, mut timeout_ms) = (0, None, 0);
    let mut fields = Fields::new(&schema::REQUEST, body);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => id = field.varint,
            2 => target = Some(only_target(target, field.bytes, &fields)?),
            5 => timeout_ms = field.varint as u32,
            _ => {}
        }
    }
    let target = target.ok_or_else(|| fields.fault(2, Rule::Missing))?;
    Ok(Request {
        id,
        target,
        timeout_ms,
        body,
    })
}

fn stream_open(body: &[u8]) -> Result<StreamOpen<'_>, DecodeError> {
    let (mut stream, mut target, mut credit_bytes) = (0, None, 0);
    let mut fields = Fields::new(&schema::STREAM_OPEN, body);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => stream = field.varint,
            2 => target = Some(only_target(target, field.bytes, &fields)?),
            4 => credit_bytes = field.varint,
            _ => {}
        }
    }
    let target = target.ok_or_else(|| fields.fault(2, Rule::Missing))?;
    Ok(StreamOpen {
        stream,
        target,
        credit_bytes,
        body,
    })
}

fn introduce(body: &[u8]) -> Result<Introduce<'_>, DecodeError> {
    let (mut id, mut target, mut timeout_ms) = (0, None, 0);
    let mut fields = Fields::new(&schema::INTRODUCE, body);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => id = field.varint,
            2 => target = Some(only_target(target, field.bytes, &fields)?),
            5 => timeout_ms = field.varint as u32,
            _ => {}
        }
    }
    let target = target.ok_or_else(|| fields.fault(2, Rule::Missing))?;
    Ok(Introduce {
        id,
        target,
        timeout_ms,
        body,
    })
}

/// A repeated Target would be merged field by field, which parsers get wrong in different ways; it is refused. In all messages
/// that have a target it is field 2.
fn only_target<'a>(
    before: Option<Target<'a>>,
    bytes: &'a [u8],
    fields: &Fields<'a>,
) -> Result<Target<'a>, DecodeError> {
    if before.is_some() {
        return Err(fields.fault(2, Rule::Repeated));
    }
    target(bytes)
}

fn target(bytes: &[u8]) -> Result<Target<'_>, DecodeError> {
    let (mut to, mut balance, mut affinity) = (None, Balance::default(), "");
    let mut fields = Fields::new(&schema::TARGET, bytes);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => to = Some(To::Agent(field.text)),
            2 => to = Some(To::Service(field.text)),
            3 => to = Some(To::Capability(field.text)),
            4 => to = Some(To::Channel(field.text)),
            5 => {
                balance = match field.varint as i32 {
                    0 | 1 => Balance::RoundRobin,
                    2 => Balance::LeastOutstanding,
                    3 => Balance::Hash,
                    value => return Err(fields.fault(5, Rule::UnknownValue { value })),
                }
            }
            6 => affinity = field.text,
            _ => {}
        }
    }
    let to = to.ok_or_else(|| fields.fault(0, Rule::Missing))?;
    Ok(Target {
        to,
        balance,
        affinity,
    })
}

fn reject(body: &[u8]) -> Result<Reject<'_>, DecodeError> {
    let (mut introduction, mut code) = (0, 0);
    let mut fields = Fields::new(&schema::REJECT, body);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => introduction = field.varint,
            2 => code = field.varint as i32,
            _ => {}
        }
    }
    Ok(Reject {
        introduction,
        code: code_of(code),
        body,
    })
}

fn state_get(body: &[u8]) -> Result<StateGet<'_>, DecodeError> {
    let mut get = StateGet {
        id: 0,
        space: "",
        key: "",
    };
    let mut fields = Fields::new(&schema::STATE_GET, body);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => get.id = field.varint,
            2 => get.space = field.text,
            3 => get.key = field.text,
            _ => {}
        }
    }
    Ok(get)
}

fn state_put(body: &[u8]) -> Result<StateWrite<'_>, DecodeError> {
    let mut write = StateWrite {
        id: 0,
        space: "",
        key: "",
        // Empty and absent are the same to protobuf.
        value: Some(b""),
        expect: None,
        ttl_ms: 0,
    };
    let mut fields = Fields::new(&schema::STATE_PUT, body);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => write.id = field.varint,
            2 => write.space = field.text,
            3 => write.key = field.text,
            4 => write.value = Some(field.bytes),
            5 => write.expect = Some(field.varint),
            6 => write.ttl_ms = field.varint,
            _ => {}
        }
    }
    Ok(write)
}

fn state_delete(body: &[u8]) -> Result<StateWrite<'_>, DecodeError> {
    let mut write = StateWrite {
        id: 0,
        space: "",
        key: "",
        value: None,
        expect: None,
        ttl_ms: 0,
    };
    let mut fields = Fields::new(&schema::STATE_DELETE, body);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => write.id = field.varint,
            2 => write.space = field.text,
            3 => write.key = field.text,
            4 => write.expect = Some(field.varint),
            _ => {}
        }
    }
    Ok(write)
}

fn state_watch(body: &[u8]) -> Result<StateWatch<'_>, DecodeError> {
    let mut watch = StateWatch {
        id: 0,
        space: "",
        prefix: "",
        from: None,
    };
    let mut fields = Fields::new(&schema::STATE_WATCH, body);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => watch.id = field.varint,
            2 => watch.space = field.text,
            3 => watch.prefix = field.text,
            4 => watch.from = Some(field.varint),
            _ => {}
        }
    }
    Ok(watch)
}

/// A code of a later version is passed on as it is; to this gateway it is a plain refusal.
fn code_of(number: i32) -> Code {
    match number {
        0 => Code::Unspecified,
        1 => Code::InvalidArgument,
        2 => Code::Unauthenticated,
        3 => Code::PermissionDenied,
        4 => Code::NotFound,
        5 => Code::NoResponder,
        6 => Code::DeadlineExceeded,
        7 => Code::ResourceExhausted,
        8 => Code::Conflict,
        9 => Code::AlreadyExists,
        10 => Code::Unavailable,
        12 => Code::Cancelled,
        13 => Code::MlsRequired,
        14 => Code::Unsupported,
        15 => Code::Internal,
        16 => Code::Compacted,
        _ => Code::Rejected,
    }
}

fn stream_credit(body: &[u8]) -> Result<Action<'_>, DecodeError> {
    let (mut stream, mut bytes) = (0, 0);
    let mut fields = Fields::new(&schema::STREAM_CREDIT, body);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => stream = field.varint,
            2 => bytes = field.varint,
            _ => {}
        }
    }
    Ok(Action::StreamCredit { stream, bytes })
}

fn status(body: &[u8]) -> Result<Status, DecodeError> {
    let mut status = Status {
        outstanding: 0,
        weight: 0,
        draining: false,
    };
    let mut fields = Fields::new(&schema::STATUS, body);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => status.outstanding = field.varint as u32,
            2 => status.weight = field.varint as u32,
            3 => status.draining = field.varint != 0,
            _ => {}
        }
    }
    Ok(status)
}

fn cancel(body: &[u8]) -> Result<Action<'_>, DecodeError> {
    let mut cancel = None;
    let mut fields = Fields::new(&schema::CANCEL, body);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => cancel = Some(Action::CancelRequest { id: field.varint }),
            2 => cancel = Some(Action::CancelIntroduction { id: field.varint }),
            _ => {}
        }
    }
    cancel.ok_or_else(|| fields.fault(0, Rule::Missing))
}

fn subscribe(body: &[u8]) -> Result<Subscribe<'_>, DecodeError> {
    let mut subscribe = Subscribe {
        id: 0,
        pattern: "",
        group: "",
        delivery: Delivery::default(),
    };
    let mut fields = Fields::new(&schema::SUBSCRIBE, body);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => subscribe.id = field.varint,
            2 => subscribe.pattern = field.text,
            3 => subscribe.group = field.text,
            4 => merge_delivery(&mut subscribe.delivery, field.bytes)?,
            _ => {}
        }
    }
    Ok(subscribe)
}

/// A repeated Delivery merges into the one before, as protobuf says. The message ends here, so there is no other parser.
fn merge_delivery(delivery: &mut Delivery, bytes: &[u8]) -> Result<(), DecodeError> {
    let mut fields = Fields::new(&schema::DELIVERY, bytes);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => {
                delivery.policy = match field.varint as i32 {
                    0 | 1 => DeliveryPolicy::DropOldest,
                    2 => DeliveryPolicy::DropNewest,
                    3 => DeliveryPolicy::Latest,
                    4 => DeliveryPolicy::Disconnect,
                    5 => DeliveryPolicy::Block,
                    value => return Err(fields.fault(1, Rule::UnknownValue { value })),
                }
            }
            2 => delivery.queue_bytes = field.varint,
            3 => delivery.block_ms = field.varint as u32,
            _ => {}
        }
    }
    Ok(())
}

fn register(body: &[u8]) -> Result<Register<'_>, DecodeError> {
    let mut register = Register::default();
    let mut fields = Fields::new(&schema::REGISTER, body);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => register.name = field.text,
            2 => push(&mut register.capabilities, field.text, 2, &fields)?,
            3 => {
                let (key, value) = map_entry(field.bytes)?;
                match register.labels.iter_mut().find(|label| label.0 == key) {
                    Some(label) => label.1 = value,
                    None => push(&mut register.labels, (key, value), 3, &fields)?,
                }
            }
            4 => register.token = field.text,
            5 => push(&mut register.accept_from, field.text, 5, &fields)?,
            6 => register.resume_token = field.bytes,
            7 => register.proof = field.bytes,
            _ => {}
        }
    }
    Ok(register)
}

fn push<T>(list: &mut Vec<T>, element: T, number: u32, fields: &Fields<'_>) -> Result<(), DecodeError> {
    if list.len() == REGISTER_ELEMENTS_MAX {
        return Err(fields.fault(
            number,
            Rule::TooMany {
                max: REGISTER_ELEMENTS_MAX,
            },
        ));
    }
    list.push(element);
    Ok(())
}
