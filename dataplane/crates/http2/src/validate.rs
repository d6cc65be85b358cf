//! Which header lists make an HTTP message (RFC 9113 section 8).

use crate::headers::{Header, HeaderList};

/// Why a header list is malformed (RFC 9113 section 8.1.1). Its stream is reset with PROTOCOL_ERROR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// A field name is empty, upper case or not a token (section 8.2.1).
    Name,
    /// A field value has NUL, CR or LF, or white space around it (section 8.2.1).
    Value,
    /// A field belongs to an HTTP/1 connection (section 8.2.2).
    ConnectionSpecific,
    /// A pseudo-header is unknown, repeated, misplaced, or of the other kind of message (section 8.3).
    PseudoHeader,
    /// A required pseudo-header is missing or empty (sections 8.3.1 and 8.3.2).
    MissingPseudoHeader,
    /// The status is not three digits, or 101 (sections 8.3.2 and 8.6).
    Status,
    /// A content-length is no number or contradicts another (section 8.1.1).
    ContentLength,
    /// The host contradicts `:authority` (section 8.3.1).
    Host,
    /// Trailers do not end the stream, or an interim response does (section 8.1).
    EndStream,
}

/// Which rules a header list must follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageKind {
    Request,
    Response,
    Trailers,
}

/// What the checked list says about its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Summary {
    pub(crate) content_length: Option<u64>,
    /// A 1xx response.
    pub(crate) informational: bool,
    /// A response that has no body whatever its content-length says: 204 or 304.
    pub(crate) bodiless: bool,
}

/// Checks fields one by one as they are decoded, then the list as a whole.
#[derive(Debug)]
pub(crate) struct Validator {
    kind: MessageKind,
    seen: u8,
    regular_seen: bool,
    host_seen: bool,
    connect: bool,
    summary: Summary,
}

const METHOD: u8 = 1;
const SCHEME: u8 = 1 << 1;
const AUTHORITY: u8 = 1 << 2;
const PATH: u8 = 1 << 3;
const STATUS: u8 = 1 << 4;

impl Validator {
    pub(crate) fn new(kind: MessageKind) -> Self {
        Self {
            kind,
            seen: 0,
            regular_seen: false,
            host_seen: false,
            connect: false,
            summary: Summary::default(),
        }
    }

    /// Checks the next field.
    pub(crate) fn field(&mut self, header: Header<'_>) -> Result<(), Malformed> {
        check_value(header.value)?;
        if header.name.first() == Some(&b':') {
            return self.pseudo(header);
        }
        check_name(header.name)?;
        self.regular_seen = true;
        self.regular(header)
    }

    /// Checks the whole list; `end_stream` tells whether the message has no more.
    pub(crate) fn finish(&self, list: &HeaderList, end_stream: bool) -> Result<Summary, Malformed> {
        match self.kind {
            MessageKind::Request => self.finish_request(list)?,
            MessageKind::Response if self.seen & STATUS == 0 => return Err(Malformed::MissingPseudoHeader),
            MessageKind::Response if self.summary.informational && end_stream => {
                return Err(Malformed::EndStream);
            }
            MessageKind::Trailers if !end_stream => return Err(Malformed::EndStream),
            MessageKind::Response | MessageKind::Trailers => {}
        }
        Ok(self.summary)
    }

    fn pseudo(&mut self, header: Header<'_>) -> Result<(), Malformed> {
        let bit = match (self.kind, header.name) {
            (MessageKind::Request, b":method") => METHOD,
            (MessageKind::Request, b":scheme") => SCHEME,
            (MessageKind::Request, b":authority") => AUTHORITY,
            (MessageKind::Request, b":path") => PATH,
            (MessageKind::Response, b":status") => STATUS,
            _ => return Err(Malformed::PseudoHeader),
        };
        if self.regular_seen || self.seen & bit != 0 {
            return Err(Malformed::PseudoHeader);
        }
        self.seen |= bit;
        match bit {
            METHOD => self.connect = header.value == b"CONNECT",
            STATUS => self.status(header.value)?,
            _ => {}
        }
        if header.value.is_empty() && bit != AUTHORITY {
            return Err(Malformed::MissingPseudoHeader);
        }
        Ok(())
    }

    fn status(&mut self, value: &[u8]) -> Result<(), Malformed> {
        let &[hundreds @ b'1'..=b'9', tens @ b'0'..=b'9', ones @ b'0'..=b'9'] = value else {
            return Err(Malformed::Status);
        };
        self.summary.informational = hundreds == b'1';
        self.summary.bodiless = matches!(value, b"204" | b"304");
        // Section 8.6: HTTP/2 has no way to switch protocols.
        if [hundreds, tens, ones] == *b"101" {
            Err(Malformed::Status)
        } else {
            Ok(())
        }
    }

    fn regular(&mut self, header: Header<'_>) -> Result<(), Malformed> {
        match header.name {
            b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade" => {
                Err(Malformed::ConnectionSpecific)
            }
            b"te" if !header.value.eq_ignore_ascii_case(b"trailers") => Err(Malformed::ConnectionSpecific),
            b"content-length" if self.kind != MessageKind::Trailers => self.content_length(header.value),
            b"host" => {
                self.host_seen = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), Malformed> {
        let length = parse_length(value).ok_or(Malformed::ContentLength)?;
        match self.summary.content_length.replace(length) {
            Some(other) if other != length => Err(Malformed::ContentLength),
            _ => Ok(()),
        }
    }

    fn finish_request(&self, list: &HeaderList) -> Result<(), Malformed> {
        let (required, forbidden) = match self.connect {
            // Section 8.5.
            true => (METHOD | AUTHORITY, SCHEME | PATH),
            false => (METHOD | SCHEME | PATH, 0),
        };
        if self.seen & forbidden != 0 {
            return Err(Malformed::PseudoHeader);
        }
        if self.seen & required != required {
            return Err(Malformed::MissingPseudoHeader);
        }
        if self.host_seen
            && let (Some(authority), Some(host)) = (list.authority(), list.get(b"host"))
            && !authority.eq_ignore_ascii_case(host)
        {
            return Err(Malformed::Host);
        }
        Ok(())
    }
}

fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |length, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}

/// Bytes of a field name: the token of RFC 9110 section 5.6.2 without upper case.
static NAME_BYTES: [bool; 256] = {
    let mut allowed = [false; 256];
    let signs = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz";
    let mut index = 0;
    while index < signs.len() {
        allowed[signs[index] as usize] = true;
        index += 1;
    }
    allowed
};

fn check_name(name: &[u8]) -> Result<(), Malformed> {
    let allowed = !name.is_empty() && name.iter().all(|&byte| NAME_BYTES[usize::from(byte)]);
    if allowed { Ok(()) } else { Err(Malformed::Name) }
}

fn check_value(value: &[u8]) -> Result<(), Malformed> {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let broken = value.iter().any(|byte| matches!(byte, b'\0' | b'\r' | b'\n'));
    if broken || is_blank(value.first()) || is_blank(value.last()) {
        Err(Malformed::Value)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: MessageKind, fields: &[(&str, &str)], end_stream: bool) -> Result<Summary, Malformed> {
        let mut validator = Validator::new(kind);
        let mut list = HeaderList::new();
        for (name, value) in fields {
            list.push(name.as_bytes(), value.as_bytes());
            validator.field(Header::new(name.as_bytes(), value.as_bytes()))?;
        }
        validator.finish(&list, end_stream)
    }

    const REQUEST: [(&str, &str); 4] = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/a"),
        (":authority", "host:1"),
    ];

    fn request(extra: &[(&str, &str)]) -> Result<Summary, Malformed> {
        check(MessageKind::Request, &[&REQUEST[..], extra].concat(), false)
    }

    #[test]
    fn a_request_needs_method_scheme_and_path() {
        assert_eq!(request(&[]), Ok(Summary::default()));
        for missing in 0..3 {
            let mut fields = REQUEST.to_vec();
            fields.remove(missing);
            assert_eq!(
                check(MessageKind::Request, &fields, true),
                Err(Malformed::MissingPseudoHeader)
            );
            let mut fields = REQUEST;
            fields[missing].1 = "";
            assert_eq!(
                check(MessageKind::Request, &fields, true),
                Err(Malformed::MissingPseudoHeader)
            );
        }
    }

    #[test]
    fn connect_has_an_authority_only() {
        let connect = [(":method", "CONNECT"), (":authority", "host:1")];
        assert!(check(MessageKind::Request, &connect, false).is_ok());
        assert_eq!(
            check(MessageKind::Request, &connect[..1], false),
            Err(Malformed::MissingPseudoHeader)
        );
        let with_path = [&connect[..], &[(":path", "/")]].concat();
        assert_eq!(
            check(MessageKind::Request, &with_path, false),
            Err(Malformed::PseudoHeader)
        );
    }

    #[test]
    fn pseudo_headers_are_known_single_and_first() {
        for wrong in [
            (":unknown", "x"),
            (":status", "200"),
            (":path", "/b"),
            (":protocol", "websocket"),
        ] {
            assert_eq!(request(&[wrong]), Err(Malformed::PseudoHeader), "{wrong:?}");
        }
        let late = [("x", "1"), (":method", "GET")];
        assert_eq!(
            check(MessageKind::Request, &late, false),
            Err(Malformed::PseudoHeader)
        );
        assert_eq!(
            check(MessageKind::Response, &[(":path", "/")], false),
            Err(Malformed::PseudoHeader)
        );
        assert_eq!(
            check(MessageKind::Trailers, &[(":status", "200")], true),
            Err(Malformed::PseudoHeader)
        );
    }

    #[test]
    fn names_and_values_have_a_grammar() {
        for name in ["", "Upper", "sp ace", "co:lon", "\u{e4}", "tab\t", "nul\0"] {
            assert_eq!(request(&[(name, "v")]), Err(Malformed::Name), "{name:?}");
        }
        for value in ["a\0", "a\r", "a\nb", " a", "a ", "\ta", "a\t", " "] {
            assert_eq!(request(&[("x", value)]), Err(Malformed::Value), "{value:?}");
        }
        assert!(request(&[("x-1_~", "a b\tc \u{fc}"), ("empty", "")]).is_ok());
    }

    #[test]
    fn connection_headers_are_refused() {
        for name in [
            "connection",
            "proxy-connection",
            "keep-alive",
            "transfer-encoding",
            "upgrade",
        ] {
            assert_eq!(
                request(&[(name, "x")]),
                Err(Malformed::ConnectionSpecific),
                "{name}"
            );
        }
        assert_eq!(request(&[("te", "gzip")]), Err(Malformed::ConnectionSpecific));
        assert!(request(&[("te", "trailers")]).is_ok());
    }

    #[test]
    fn content_lengths_are_numbers_that_agree() {
        assert_eq!(
            request(&[("content-length", "12")]).unwrap().content_length,
            Some(12)
        );
        assert!(request(&[("content-length", "12"), ("content-length", "12")]).is_ok());
        for wrong in ["", "-1", "+1", "1,1", "0x1", "18446744073709551616"] {
            assert_eq!(
                request(&[("content-length", wrong)]),
                Err(Malformed::ContentLength),
                "{wrong}"
            );
        }
        let both = [("content-length", "1"), ("content-length", "2")];
        assert_eq!(request(&both), Err(Malformed::ContentLength));
    }

    #[test]
    fn host_must_not_contradict_authority() {
        assert!(request(&[("host", "HOST:1")]).is_ok());
        assert_eq!(request(&[("host", "other:1")]), Err(Malformed::Host));
    }

    #[test]
    fn a_response_has_a_status() {
        assert_eq!(
            check(MessageKind::Response, &[], false),
            Err(Malformed::MissingPseudoHeader)
        );
        for wrong in ["20", "2000", "abc", "099", "101"] {
            assert_eq!(
                check(MessageKind::Response, &[(":status", wrong)], false),
                Err(Malformed::Status),
                "{wrong}"
            );
        }
        assert!(
            check(MessageKind::Response, &[(":status", "103")], false)
                .unwrap()
                .informational
        );
        assert_eq!(
            check(MessageKind::Response, &[(":status", "103")], true),
            Err(Malformed::EndStream)
        );
        assert!(
            check(MessageKind::Response, &[(":status", "204")], true)
                .unwrap()
                .bodiless
        );
    }

    #[test]
    fn trailers_end_the_stream() {
        assert!(check(MessageKind::Trailers, &[("grpc-status", "0")], true).is_ok());
        assert_eq!(
            check(MessageKind::Trailers, &[("grpc-status", "0")], false),
            Err(Malformed::EndStream)
        );
    }
}
