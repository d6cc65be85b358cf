//! What a message says of its place in a larger whole: the headers `conversation-id` and `traceparent`.

/// Header that names the conversation a message belongs to.
pub const CONVERSATION_HEADER: &str = "conversation-id";
/// Header of W3C Trace Context (<https://www.w3.org/TR/trace-context/#traceparent-header>).
pub const TRACE_HEADER: &str = "traceparent";
/// Longest name of a conversation that is looked at, in bytes: names are kept by the thousand.
pub const CONVERSATION_BYTES_MAX: usize = 128;

/// Wire type of what has a length.
const LEN: u64 = 2;

/// See the module. Empty where a message says nothing, or nothing sensible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Context<'a> {
    /// Name of the conversation, of at most [`CONVERSATION_BYTES_MAX`] bytes.
    pub conversation: &'a str,
    /// The trace: version, trace id, parent id and flags, as `00-<32 hex digits>-<16>-<2>`.
    pub traceparent: &'a str,
}

impl Context<'_> {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.conversation.is_empty() && self.traceparent.is_empty()
    }
}

/// The context of an `AgentMessage` that [`decode`](super::decode) has taken. Looks at no payload: it steps over fields, one length each,
/// and reads the keys of headers.
#[inline]
pub fn context(message: &[u8]) -> Context<'_> {
    let mut context = Context::default();
    let mut outer = message;
    while let Some((number, body)) = field(&mut outer) {
        let headers = match number {
            4 | 7 | 12 => 3,
            5 | 6 | 11 => 4,
            _ => continue,
        };
        let mut fields = body;
        while let Some((number, value)) = field(&mut fields) {
            if number == headers {
                header(value, &mut context);
            }
        }
    }
    context
}

/// The next field that has a length; others are stepped over.
#[inline]
fn field<'a>(rest: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
    loop {
        let tag = varint(rest)?;
        let length = match tag & 7 {
            LEN => varint(rest)?,
            0 => {
                varint(rest)?;
                continue;
            }
            1 => 8,
            5 => 4,
            _ => return None,
        };
        let (value, behind) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        *rest = behind;
        if tag & 7 == LEN {
            return Some((tag >> 3, value));
        }
    }
}

#[inline]
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for at in 0..10 {
        let (&byte, behind) = rest.split_first()?;
        *rest = behind;
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[inline(never)]
fn header<'a>(entry: &'a [u8], context: &mut Context<'a>) {
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    let mut fields = entry;
    while let Some((number, bytes)) = field(&mut fields) {
        match number {
            1 => key = bytes,
            2 => value = bytes,
            _ => {}
        }
    }
    // Decoding has seen that it is UTF-8.
    let text = std::str::from_utf8(value).unwrap_or_default();
    if key == CONVERSATION_HEADER.as_bytes() && text.len() <= CONVERSATION_BYTES_MAX {
        context.conversation = text;
    } else if key == TRACE_HEADER.as_bytes() && is_traceparent(text) {
        context.traceparent = text;
    }
}

/// Version 00 of the header, which later versions begin like; an id of zeros is none.
fn is_traceparent(text: &str) -> bool {
    let mut parts = text.split('-');
    let mut hex = |digits: usize| {
        parts.next().is_some_and(|part| {
            part.len() == digits && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
    };
    let whole = hex(2) && hex(32) && hex(16) && hex(2);
    whole
        && !text.starts_with("ff")
        && text[3..35].bytes().any(|byte| byte != b'0')
        && text[36..52].bytes().any(|byte| byte != b'0')
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use ringgate_proto::agp::v1::{self as agp, agent_message::Body};

    use super::*;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers() -> std::collections::HashMap<String, String> {
        [
            ("other", "x"),
            (CONVERSATION_HEADER, "c-1"),
            (TRACE_HEADER, TRACE),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }

    #[test]
    fn every_message_with_headers_tells_its_context() {
        let headers = headers().into_iter().collect::<std::collections::HashMap<_, _>>();
        let bodies = [
            Body::Publish(agp::Publish {
                topic: "t".into(),
                headers: headers.clone().into_iter().collect(),
                ..Default::default()
            }),
            Body::Request(agp::Request {
                headers: headers.clone().into_iter().collect(),
                payload: vec![7; 300].into(),
                ..Default::default()
            }),
            Body::Response(agp::Response {
                request: 4,
                headers: headers.clone().into_iter().collect(),
                ..Default::default()
            }),
            Body::StreamOpen(agp::StreamOpen {
                headers: headers.clone().into_iter().collect(),
                ..Default::default()
            }),
            Body::Introduce(agp::Introduce {
                headers: headers.clone().into_iter().collect(),
                ..Default::default()
            }),
            Body::Accept(agp::Accept {
                headers: headers.into_iter().collect(),
                ..Default::default()
            }),
        ];
        for body in bodies {
            let message = agp::AgentMessage { body: Some(body) }.encode_to_vec();
            let found = context(&message);
            assert_eq!(
                (found.conversation, found.traceparent),
                ("c-1", TRACE),
                "{message:?}"
            );
        }
    }

    #[test]
    fn what_is_not_sensible_is_not_there() {
        for bad in [
            "",
            "00-0-0-0",
            &TRACE.to_uppercase(),
            &TRACE.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
        ] {
            assert!(!is_traceparent(bad), "{bad}");
        }
        assert!(is_traceparent(TRACE));
        let long = [(
            CONVERSATION_HEADER.to_owned(),
            "x".repeat(CONVERSATION_BYTES_MAX + 1),
        )];
        let publish = agp::Publish {
            topic: "t".into(),
            headers: long.into_iter().collect(),
            ..Default::default()
        };
        let message = agp::AgentMessage {
            body: Some(Body::Publish(publish)),
        }
        .encode_to_vec();
        assert!(context(&message).is_empty());
    }

    #[test]
    fn cut_messages_do_no_harm() {
        let publish = agp::Publish {
            topic: "t".into(),
            headers: headers().into_iter().collect(),
            ..Default::default()
        };
        let message = agp::AgentMessage {
            body: Some(Body::Publish(publish)),
        }
        .encode_to_vec();
        (0..message.len()).for_each(|end| _ = context(&message[..end]));
    }
}
