//! Header lists that a server sends.

use ringgate_http2::HeaderList;

use crate::{encoding::Encoding, status::Status};

/// The response headers of a call that was accepted: sent at once, so that the client knows it got through. Custom metadata
/// can be pushed behind.
pub fn headers(encoding: Encoding) -> HeaderList {
    let mut headers = accepted();
    headers.push(b"grpc-accept-encoding", Encoding::ACCEPTED.as_bytes());
    if encoding != Encoding::Identity {
        headers.push(b"grpc-encoding", encoding.name().as_bytes());
    }
    headers
}

/// The trailers that end a call whose response headers were sent. Custom metadata can be pushed behind.
pub fn trailers(status: &Status) -> HeaderList {
    let mut trailers = HeaderList::new();
    status.append_to(&mut trailers);
    trailers
}

/// The one header list of a call that ends before it began ("Trailers-Only"): sent with END_STREAM.
pub fn trailers_only(status: &Status) -> HeaderList {
    let mut headers = accepted();
    status.append_to(&mut headers);
    headers
}

/// gRPC answers with HTTP status 200 also where the call fails.
fn accepted() -> HeaderList {
    let mut headers = HeaderList::with_capacity(256);
    headers.push(b":status", b"200");
    headers.push(b"content-type", b"application/grpc");
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Code;

    fn lines(headers: &HeaderList) -> Vec<String> {
        headers.iter().map(|header| format!("{header:?}")).collect()
    }

    #[test]
    fn a_call_in_three_lists() {
        assert_eq!(
            lines(&headers(Encoding::Identity)),
            [
                ":status: 200",
                "content-type: application/grpc",
                "grpc-accept-encoding: identity,gzip"
            ]
        );
        assert_eq!(lines(&headers(Encoding::Gzip))[3], "grpc-encoding: gzip");
        assert_eq!(lines(&trailers(&Status::OK)), ["grpc-status: 0"]);
        assert_eq!(
            lines(&trailers_only(&Status::new(
                Code::Unimplemented,
                "no such method"
            ))),
            [
                ":status: 200",
                "content-type: application/grpc",
                "grpc-status: 12",
                "grpc-message: no such method"
            ]
        );
    }
}
