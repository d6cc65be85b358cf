//! What of a message agents can read, beside what routing needs: for gateways that pass on nothing legible.

use ringgate_gateway::action::Action;

use super::context::{CONVERSATION_BYTES_MAX, CONVERSATION_HEADER, TRACE_HEADER};
use super::schema::{I32, I64, LEN, VARINT};

/// What a message carries for its receivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content<'a> {
    /// The number to answer on: the message's id, or what it is about.
    pub id: u64,
    /// Its payload; `None` where such a message has none, or may go without and does.
    pub payload: Option<&'a [u8]>,
    /// A part beside the payload that receivers could read: headers, unknown fields, a payload that is followed by another.
    pub legible: Option<&'static str>,
}

/// What one kind of message may hold.
struct Form {
    /// The number of its payload; 0: it has none.
    payload: u32,
    /// The numbers of the fields that routing needs, a bit for each, and of the payload.
    known: u32,
    /// Whether the payload may be empty: then there is nothing to protect.
    may_be_empty: bool,
    /// The number of its headers; 0: it has none.
    headers: u32,
}

const fn form(payload: u32, known: &[u32], may_be_empty: bool, headers: u32) -> Form {
    let (mut bits, mut at) = (0, 0);
    while at < known.len() {
        bits |= 1 << known[at];
        at += 1;
    }
    Form {
        payload,
        known: bits,
        may_be_empty,
        headers,
    }
}

const PUBLISH: Form = form(2, &[1, 2, 4], false, 3);
const REQUEST: Form = form(3, &[1, 2, 3, 5], false, 4);
const RESPONSE: Form = form(3, &[1, 2, 3], false, 4);
/// An error: a code, and a sentence for who asked.
const FAILURE: Form = form(3, &[1, 2, 5], true, 4);
const STREAM_OPEN: Form = form(0, &[1, 2, 4], true, 3);
const CHUNK: Form = form(3, &[1, 2, 3], false, 0);
/// A code and a sentence, as in an error.
const ENDING: Form = form(0, &[1, 2, 3], true, 0);
/// Agents meet before they have a group: an introduction may say nothing but who asks for whom.
const INTRODUCE: Form = form(3, &[1, 2, 3, 5], true, 4);
const ACCEPT: Form = form(2, &[1, 2], true, 3);

/// What a decoded message carries; `None` if nothing of it is passed on.
#[inline]
#[must_use]
pub fn content<'a>(action: &Action<'a>) -> Option<Content<'a>> {
    let (id, form, body) = match action {
        Action::Publish(publish) => (publish.id, &PUBLISH, publish.body),
        Action::Request(request) => (request.id, &REQUEST, request.body),
        Action::Response(response) => {
            let form = if is_failure(response.body) {
                &FAILURE
            } else {
                &RESPONSE
            };
            (response.request, form, response.body)
        }
        Action::StreamOpen(open) => (open.stream, &STREAM_OPEN, open.body),
        Action::Chunk(chunk) => (chunk.stream, &CHUNK, chunk.body),
        Action::StreamClose(close) => (close.stream, &ENDING, close.body),
        Action::Introduce(introduce) => (introduce.id, &INTRODUCE, introduce.body),
        Action::Accept(accept) => (accept.introduction, &ACCEPT, accept.body),
        Action::Reject(reject) => (reject.introduction, &ENDING, reject.body),
        _ => return None,
    };
    Some(read(id, form, body))
}

#[inline(always)]
fn read<'a>(id: u64, form: &Form, body: &'a [u8]) -> Content<'a> {
    let mut content = Content {
        id,
        payload: None,
        legible: None,
    };
    let mut rest = body;
    while let Some((number, bytes)) = field(&mut rest) {
        if number == form.payload && number != 0 {
            if content.payload.replace(bytes).is_some() {
                content.legible = Some("a payload that is followed by another");
            }
        } else if number == form.headers && number != 0 && is_context(bytes) {
            // Names a conversation or a trace, for who operates the network; it says nothing of what is said.
        } else if number >= 32 || form.known & 1 << number == 0 {
            content.legible = Some("headers or unknown fields");
        }
    }
    if form.payload != 0 && content.payload.is_none() {
        content.payload = Some(&[]);
    }
    if form.may_be_empty && content.payload.is_some_and(<[u8]>::is_empty) {
        content.payload = None;
    }
    content
}

/// Whether a header is one of those that place a message in a larger whole, and no longer than such are.
fn is_context(entry: &[u8]) -> bool {
    let (mut rest, mut known) = (entry, false);
    while let Some((number, bytes)) = field(&mut rest) {
        match number {
            1 => known = bytes == CONVERSATION_HEADER.as_bytes() || bytes == TRACE_HEADER.as_bytes(),
            2 if bytes.len() <= CONVERSATION_BYTES_MAX => {}
            _ => return false,
        }
    }
    known
}

/// Whether a Response says that something went wrong: the last code is not 0.
fn is_failure(body: &[u8]) -> bool {
    let (mut rest, mut failed) = (body, false);
    while let Some((number, value)) = field(&mut rest) {
        if number == 2 {
            failed = value.iter().any(|byte| byte & 0x7f != 0);
        }
    }
    failed
}

/// The next field of a message that was checked before: its number and bytes (of a number: as they are written).
#[inline(always)]
fn field<'a>(rest: &mut &'a [u8]) -> Option<(u32, &'a [u8])> {
    let tag = varint(rest)?;
    let length = match (tag & 7) as u8 {
        LEN => usize::try_from(varint(rest)?).ok()?,
        VARINT => 1 + rest.iter().position(|byte| byte & 0x80 == 0)?,
        I64 => 8,
        I32 => 4,
        _ => return None,
    };
    let (bytes, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(((tag >> 3) as u32, bytes))
}

#[inline(always)]
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
        shift += 7;
        if shift > 63 {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use ringgate_proto::agp::v1 as proto;
    use ringgate_proto::agp::v1::agent_message::Body;

    use super::*;
    use crate::agp::decode;

    const SEALED: &[u8] = b"sealed";

    fn of(body: Body) -> (Option<Vec<u8>>, bool) {
        let bytes = proto::AgentMessage { body: Some(body) }.encode_to_vec();
        let content = content(&decode(&bytes).expect("good")).expect("passed on");
        (content.payload.map(<[u8]>::to_vec), content.legible.is_some())
    }

    fn headers() -> std::collections::BTreeMap<String, String> {
        [("unit".to_owned(), "celsius".to_owned())].into()
    }

    fn target() -> Option<proto::Target> {
        let to = Some(proto::target::To::Agent("a/b/c/d".to_owned()));
        Some(proto::Target {
            to,
            ..Default::default()
        })
    }

    #[test]
    fn payloads_are_found_and_what_stands_beside_them() {
        let payload = bytes::Bytes::from_static(SEALED);
        let publish = proto::Publish {
            topic: "t".into(),
            payload: payload.clone(),
            id: 300,
            ..Default::default()
        };
        let request = proto::Request {
            id: 1,
            target: target(),
            payload: payload.clone(),
            timeout_ms: 5,
            ..Default::default()
        };
        let response = proto::Response {
            request: 1,
            payload: payload.clone(),
            ..Default::default()
        };
        let chunk = proto::Chunk {
            stream: 1,
            sequence: 2,
            payload: payload.clone(),
        };
        let introduce = proto::Introduce {
            id: 1,
            target: target(),
            payload: payload.clone(),
            ..Default::default()
        };
        let accept = proto::Accept {
            introduction: 1,
            payload,
            ..Default::default()
        };
        let sealed = (Some(SEALED.to_vec()), false);
        for body in [
            Body::Publish(publish.clone()),
            Body::Request(request.clone()),
            Body::Response(response.clone()),
            Body::Chunk(chunk),
            Body::Introduce(introduce.clone()),
            Body::Accept(accept.clone()),
        ] {
            assert_eq!(of(body), sealed);
        }
        for body in [
            Body::Publish(proto::Publish {
                headers: headers(),
                ..publish
            }),
            Body::Request(proto::Request {
                headers: headers(),
                ..request
            }),
            Body::Response(proto::Response {
                message: "a sentence".into(),
                ..response
            }),
            Body::Introduce(proto::Introduce {
                headers: headers(),
                ..introduce
            }),
            Body::Accept(proto::Accept {
                headers: headers(),
                ..accept
            }),
        ] {
            assert_eq!(of(body), (Some(SEALED.to_vec()), true));
        }
    }

    #[test]
    fn what_names_a_conversation_is_let_and_nothing_longer() {
        let with = |key: &str, value: String| {
            let headers = [(key.to_owned(), value)].into();
            let payload = bytes::Bytes::from_static(SEALED);
            of(Body::Publish(proto::Publish {
                topic: "t".into(),
                payload,
                headers,
                ..Default::default()
            }))
        };
        let sealed = |legible| (Some(SEALED.to_vec()), legible);
        assert_eq!(with(CONVERSATION_HEADER, "7".into()), sealed(false));
        assert_eq!(with(TRACE_HEADER, "00-ab-cd-01".into()), sealed(false));
        assert_eq!(with(CONVERSATION_HEADER, "x".repeat(129)), sealed(true));
        assert_eq!(with("other", "7".into()), sealed(true));
    }

    #[test]
    fn what_says_nothing_needs_no_protection() {
        let nothing = (None, false);
        let failure = proto::Response {
            request: 1,
            code: 200,
            message: "no".into(),
            ..Default::default()
        };
        assert_eq!(of(Body::Response(failure)), nothing);
        let introduce = proto::Introduce {
            id: 1,
            target: target(),
            ..Default::default()
        };
        assert_eq!(of(Body::Introduce(introduce)), nothing);
        assert_eq!(
            of(Body::Accept(proto::Accept {
                introduction: 1,
                ..Default::default()
            })),
            nothing
        );
        let close = proto::StreamClose {
            stream: 1,
            code: 2,
            message: "no".into(),
        };
        assert_eq!(of(Body::StreamClose(close)), nothing);
        let open = proto::StreamOpen {
            stream: 1,
            target: target(),
            credit_bytes: 9,
            ..Default::default()
        };
        assert_eq!(of(Body::StreamOpen(open.clone())), nothing);
        assert_eq!(
            of(Body::StreamOpen(proto::StreamOpen {
                headers: headers(),
                ..open
            })),
            (None, true)
        );
        // Of others nothing at all is not enough.
        assert_eq!(
            of(Body::Publish(proto::Publish {
                topic: "t".into(),
                ..Default::default()
            })),
            (Some(vec![]), false)
        );
        assert_eq!(
            of(Body::Response(proto::Response {
                request: 1,
                ..Default::default()
            })),
            (Some(vec![]), false)
        );
        assert_eq!(content(&Action::Unsubscribe { id: 1 }), None);
    }

    #[test]
    fn what_only_gateways_say_and_what_nobody_knows_is_seen() {
        let sealed = proto::Publish {
            topic: "t".into(),
            payload: SEALED.into(),
            ..Default::default()
        }
        .encode_to_vec();
        for extra in [
            &b"\x12\x06legibl"[..],           // another payload
            &b"\x82\x01\x03abc"[..],          // source
            &b"\xfa\x3e\x05plain"[..],        // field 1007
            &b"\x9d\x06\x00\x00\x00\x00"[..], // fixed32, field 99
        ] {
            let body = [&sealed[..], extra].concat();
            let message = [&[0x22, body.len() as u8][..], &body].concat();
            let content = content(&decode(&message).expect("good")).expect("passed on");
            assert!(content.legible.is_some(), "{extra:?}");
        }
    }
}
