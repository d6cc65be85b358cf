//! The start of a call: request headers to a [`Request`], or to the answer that a gRPC server gives instead.

use std::time::Duration;

use ringgate_http2::{Header, HeaderList};

use crate::{
    encoding::Encoding,
    metadata, response,
    status::{Code, Status},
    timeout,
};

/// A call that can be served. `te: trailers` is not insisted on: it serves to find old proxies, and grpc-go and tonic do not
/// look at it either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    headers: HeaderList,
    path: Box<str>,
    /// Where the method's name starts in `path`.
    method_at: usize,
    /// How long the caller waits; `None`: until it gives up.
    pub timeout: Option<Duration>,
    /// What the request's messages may be encoded in.
    pub encoding: Encoding,
    /// Whether the caller understands gzip in responses.
    pub accepts_gzip: bool,
}

impl Request {
    /// Reads the header list of a request. It has passed the rules of HTTP/2; those of gRPC are checked here.
    ///
    /// # Errors
    /// A [`Refusal`], which has the answer to give. Requests that are no gRPC at all are refused before anything else is
    /// looked at.
    pub fn parse(headers: HeaderList) -> Result<Self, Refusal> {
        if headers.method() != Some(b"POST") {
            return Err(Refusal::MethodNotAllowed);
        }
        check_content_type(headers.get(b"content-type"))?;
        let (path, method_at) = parse_path(headers.path().unwrap_or_default())?;
        let timeout = headers.get(b"grpc-timeout").map(timeout::parse).transpose();
        let timeout = timeout.map_err(|error| Status::new(Code::Internal, error.to_string()))?;
        let encoding = match headers.get(b"grpc-encoding") {
            None => Encoding::Identity,
            Some(name) => Encoding::from_name(name).ok_or_else(|| Refusal::encoding(name))?,
        };
        let accepts_gzip = headers
            .get_all(b"grpc-accept-encoding")
            .any(|accepted| Encoding::Gzip.is_in(accepted));
        Ok(Self {
            path,
            method_at,
            timeout,
            encoding,
            accepts_gzip,
            headers,
        })
    }

    /// The path: `/service/method`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Full name of the service, as in `agp.v1.AgentGateway`.
    pub fn service(&self) -> &str {
        &self.path[1..self.method_at - 1]
    }

    /// Name of the method.
    pub fn method(&self) -> &str {
        &self.path[self.method_at..]
    }

    /// The host the caller means, by `:authority` or else by `host` (RFC 9113 section 8.3.1).
    pub fn authority(&self) -> Option<&[u8]> {
        self.headers.authority().or_else(|| self.headers.get(b"host"))
    }

    /// All header fields.
    pub fn headers(&self) -> &HeaderList {
        &self.headers
    }

    /// The header fields that are the application's.
    pub fn metadata(&self) -> impl Iterator<Item = Header<'_>> {
        self.headers
            .iter()
            .filter(|header| !metadata::is_reserved(header.name))
    }

    /// What a server says that has no such service or method.
    pub fn unimplemented(&self) -> Status {
        Status::new(
            Code::Unimplemented,
            format!("unknown method {} of service {}", self.method(), self.service()),
        )
    }
}

/// Why a request is not served, and with it what to answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// gRPC is POST alone.
    #[error("gRPC requests use POST")]
    MethodNotAllowed,
    /// Not a gRPC client: it would not understand a gRPC status.
    #[error("gRPC requests have a content-type of application/grpc or application/grpc+proto")]
    UnsupportedMediaType,
    /// A gRPC client: it is told by a status.
    #[error(transparent)]
    Status(#[from] Status),
    /// The messages are encoded in a way this end does not understand; the answer says what it does.
    #[error(transparent)]
    Encoding(Status),
}

/// A complete answer: headers, then a body unless it is empty, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The response headers; with END_STREAM if there is no body.
    pub headers: HeaderList,
    /// The body.
    pub body: &'static [u8],
}

impl Refusal {
    /// What to answer.
    pub fn reply(&self) -> Reply {
        match self {
            Self::MethodNotAllowed => {
                let mut reply = plain_text(b"405", b"gRPC requests use POST\n");
                reply.headers.push(b"allow", b"POST");
                reply
            }
            Self::UnsupportedMediaType => plain_text(
                b"415",
                b"gRPC requests have a content-type of application/grpc or application/grpc+proto\n",
            ),
            Self::Status(status) => Reply {
                headers: response::trailers_only(status),
                body: b"",
            },
            Self::Encoding(status) => {
                let mut headers = response::trailers_only(status);
                headers.push(b"grpc-accept-encoding", Encoding::ACCEPTED.as_bytes());
                Reply { headers, body: b"" }
            }
        }
    }

    fn encoding(name: &[u8]) -> Self {
        let message = format!(
            "messages in grpc-encoding {} are not understood; use one of {}",
            name.escape_ascii(),
            Encoding::ACCEPTED
        );
        Self::Encoding(Status::new(Code::Unimplemented, message))
    }
}

fn plain_text(http_status: &[u8], body: &'static [u8]) -> Reply {
    let mut headers = HeaderList::new();
    headers.push(b":status", http_status);
    headers.push(b"content-type", b"text/plain; charset=utf-8");
    headers.push(b"content-length", body.len().to_string().as_bytes());
    Reply { headers, body }
}

/// `application/grpc`, alone or with `+proto`, and with any parameters. A client that names another message format speaks
/// gRPC, so it is told UNIMPLEMENTED and not 415, which clients turn into UNKNOWN; to take its messages for protobuf, as some
/// servers do, would only move the error.
fn check_content_type(value: Option<&[u8]>) -> Result<(), Refusal> {
    let value = value.unwrap_or_default();
    let essence = value
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    const BARE: &[u8] = b"application/grpc";
    let (start, format) = essence.split_at(essence.len().min(BARE.len()));
    if !start.eq_ignore_ascii_case(BARE) {
        return Err(Refusal::UnsupportedMediaType);
    }
    match format.split_first() {
        None => Ok(()),
        Some((b'+', format)) if format.eq_ignore_ascii_case(b"proto") => Ok(()),
        Some((b'+', format)) => Err(Refusal::Status(Status::new(
            Code::Unimplemented,
            format!(
                "message format {} is not served; use application/grpc+proto",
                format.escape_ascii()
            ),
        ))),
        Some(_) => Err(Refusal::UnsupportedMediaType),
    }
}

/// The path, and where the method's name starts in it.
fn parse_path(path: &[u8]) -> Result<(Box<str>, usize), Refusal> {
    let parse = || {
        let text = str::from_utf8(path).ok()?;
        let (service, method) = text.strip_prefix('/')?.rsplit_once('/')?;
        (!service.is_empty() && !method.is_empty()).then_some((text.into(), text.len() - method.len()))
    };
    parse().ok_or_else(|| {
        let message = format!("path {} is not /service/method", path.escape_ascii());
        Refusal::Status(Status::new(Code::Unimplemented, message))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request as `grpcio` sends it, with fields replaced, added, or (empty value) left out.
    fn request(changes: &[(&str, &str)]) -> Result<Request, Refusal> {
        let usual = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "127.0.0.1:46357"),
            (":path", "/agp.v1.AgentGateway/Open"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "grpc-python/1.76.0"),
            ("grpc-accept-encoding", "identity, deflate, gzip"),
        ];
        let changed = |name: &str| changes.iter().any(|(changed, _)| *changed == name);
        let kept = usual.into_iter().filter(|(name, _)| !changed(name));
        let mut fields: Vec<_> = kept
            .chain(changes.iter().copied().filter(|(_, value)| !value.is_empty()))
            .collect();
        fields.sort_by_key(|(name, _)| !name.starts_with(':'));
        Request::parse(
            fields
                .iter()
                .map(|(name, value)| Header::new(name.as_bytes(), value.as_bytes()))
                .collect(),
        )
    }

    fn http_status(changes: &[(&str, &str)]) -> u16 {
        request(changes)
            .expect_err("refused")
            .reply()
            .headers
            .status()
            .expect("a response has a status")
    }

    fn status(changes: &[(&str, &str)]) -> Status {
        let reply = request(changes).expect_err("refused").reply();
        assert_eq!((reply.headers.status(), reply.body), (Some(200), &b""[..]));
        Status::from_trailers(&reply.headers)
    }

    #[test]
    fn a_usual_call() {
        let request = request(&[
            ("grpc-timeout", "1500m"),
            ("grpc-encoding", "gzip"),
            ("authorization", "Bearer t"),
        ])
        .unwrap();
        assert_eq!(request.path(), "/agp.v1.AgentGateway/Open");
        assert_eq!(
            (request.service(), request.method()),
            ("agp.v1.AgentGateway", "Open")
        );
        assert_eq!(request.timeout, Some(Duration::from_millis(1500)));
        assert_eq!(request.encoding, Encoding::Gzip);
        assert!(request.accepts_gzip);
        assert_eq!(request.authority(), Some(&b"127.0.0.1:46357"[..]));
        let metadata: Vec<_> = request.metadata().map(|header| header.name).collect();
        assert_eq!(metadata, [&b"user-agent"[..], b"authorization"]);
    }

    #[test]
    fn what_can_be_left_out() {
        let request = request(&[
            ("te", ""),
            ("grpc-accept-encoding", ""),
            (":authority", ""),
            ("host", "h"),
        ])
        .unwrap();
        assert_eq!(
            (request.timeout, request.encoding, request.accepts_gzip),
            (None, Encoding::Identity, false)
        );
        assert_eq!(request.authority(), Some(&b"h"[..]));
    }

    #[test]
    fn only_post() {
        let reply = request(&[(":method", "GET"), ("content-type", "")])
            .unwrap_err()
            .reply();
        assert_eq!(reply.headers.status(), Some(405));
        assert_eq!(reply.headers.get(b"allow"), Some(&b"POST"[..]));
        assert_eq!(
            reply.headers.get(b"content-length"),
            Some(reply.body.len().to_string().as_bytes())
        );
    }

    #[test]
    fn content_types() {
        for served in [
            "application/grpc",
            "application/grpc+proto",
            "Application/gRPC+Proto",
            "application/grpc;x=y",
            "application/grpc+proto; charset=utf-8",
        ] {
            assert!(request(&[("content-type", served)]).is_ok(), "{served}");
        }
        for other in [
            "",
            "application/json",
            "application/grp",
            "application/grpc-web",
            "application/grpc-web+proto",
            "grpc",
        ] {
            assert_eq!(http_status(&[("content-type", other)]), 415, "{other}");
        }
        let json = status(&[("content-type", "application/grpc+json")]);
        assert_eq!(json.code(), Code::Unimplemented);
        assert!(json.message().contains("json"), "{json}");
    }

    #[test]
    fn paths() {
        for path in [
            "",
            "/",
            "*",
            "//",
            "/service",
            "/service/",
            "//method",
            "service/method",
        ] {
            assert_eq!(status(&[(":path", path)]).code(), Code::Unimplemented, "{path:?}");
        }
        // A service's name may have a slash in it; there is none of that name, which its owner finds out.
        let nested = request(&[(":path", "/a/b/c")]).unwrap();
        assert_eq!((nested.service(), nested.method()), ("a/b", "c"));
        assert_eq!(nested.unimplemented().code(), Code::Unimplemented);
    }

    #[test]
    fn timeouts() {
        assert_eq!(status(&[("grpc-timeout", "soon")]).code(), Code::Internal);
        assert_eq!(status(&[("grpc-timeout", "123456789S")]).code(), Code::Internal);
    }

    #[test]
    fn an_unknown_encoding_is_told_the_known_ones() {
        let reply = request(&[("grpc-encoding", "snappy")]).unwrap_err().reply();
        assert_eq!(Status::from_trailers(&reply.headers).code(), Code::Unimplemented);
        assert_eq!(
            reply.headers.get(b"grpc-accept-encoding"),
            Some(&b"identity,gzip"[..])
        );
    }
}
