//! Custom metadata: which header fields are the application's, and bytes in them (the gRPC protocol, "Custom-Metadata").

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use ringgate_http2::HeaderList;

/// Suffix of the names whose values are bytes, in base64.
pub const BINARY_SUFFIX: &[u8] = b"-bin";

/// Sent without padding, taken with and without, as the protocol asks.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A value of a `-bin` field is no base64.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("binary metadata is not base64: {0}")]
pub struct InvalidBinary(#[from] base64::DecodeError);

/// Whether the field `name` belongs to HTTP/2 or to the gRPC protocol and not to the application. `user-agent` is left to the
/// application, and so are `grpc-` names that the protocol has no use for, such as `grpc-trace-bin`.
pub fn is_reserved(name: &[u8]) -> bool {
    name.starts_with(b":")
        || matches!(
            name,
            b"te"
                | b"content-type"
                | b"content-length"
                | b"grpc-timeout"
                | b"grpc-encoding"
                | b"grpc-accept-encoding"
                | b"grpc-message-type"
                | b"grpc-status"
                | b"grpc-message"
                | b"grpc-status-details-bin"
        )
}

/// Appends bytes under `name`.
///
/// # Panics
/// In debug builds, if the name does not end in [`BINARY_SUFFIX`].
pub fn push_binary(headers: &mut HeaderList, name: &[u8], value: &[u8]) {
    debug_assert!(
        name.ends_with(BINARY_SUFFIX),
        "{} holds text",
        name.escape_ascii()
    );
    headers.push(name, BASE64.encode(value).as_bytes());
}

/// The values under `name`, decoded. One field can hold several values with commas between them, because HTTP lets
/// intermediaries join fields of one name.
pub fn binary_values<'a>(
    headers: &'a HeaderList,
    name: &'a [u8],
) -> impl Iterator<Item = Result<Vec<u8>, InvalidBinary>> + 'a {
    let values = headers
        .get_all(name)
        .flat_map(|joined| joined.split(|byte| *byte == b','));
    values.map(|value| Ok(BASE64.decode(value.trim_ascii())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(field: &[u8]) -> Result<Vec<Vec<u8>>, InvalidBinary> {
        let mut headers = HeaderList::new();
        headers.push(b"x-bin", field);
        binary_values(&headers, b"x-bin").collect()
    }

    #[test]
    fn padding_is_taken_and_not_sent() {
        assert_eq!(values(b"q6ur"), Ok(vec![vec![0xab; 3]]));
        assert_eq!(values(b"qw=="), Ok(vec![vec![0xab]]));
        assert_eq!(values(b"qw"), Ok(vec![vec![0xab]]));
        assert_eq!(values(b"qw==, q6ur"), Ok(vec![vec![0xab], vec![0xab; 3]]));
        assert!(values(b"not base64!").is_err());

        let mut headers = HeaderList::new();
        push_binary(&mut headers, b"x-bin", &[0xab]);
        assert_eq!(headers.get(b"x-bin"), Some(&b"qw"[..]));
    }

    #[test]
    fn all_bytes_come_back() {
        bolero::check!().for_each(|value: &[u8]| {
            let mut headers = HeaderList::new();
            push_binary(&mut headers, b"x-bin", value);
            let got: Vec<_> = binary_values(&headers, b"x-bin").collect();
            assert_eq!(got, [Ok(value.to_vec())]);
        });
    }

    #[test]
    fn the_protocol_keeps_its_names() {
        for name in ["te", ":path", "content-type", "grpc-timeout", "grpc-encoding"] {
            assert!(is_reserved(name.as_bytes()), "{name}");
        }
        for name in [
            "authorization",
            "user-agent",
            "grpc-trace-bin",
            "x-grpc-test-echo-initial",
        ] {
            assert!(!is_reserved(name.as_bytes()), "{name}");
        }
    }
}
