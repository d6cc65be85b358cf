//! Percent-encoding of `grpc-message` (the gRPC protocol, "Responses"): space to `~` stand for themselves, except `%`.

/// UTF-8 text as printable ASCII.
pub(crate) fn encode(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(char::from(HEX[usize::from(byte >> 4)]));
            encoded.push(char::from(HEX[usize::from(byte & 0xf)]));
        }
    }
    encoded
}

/// The text of an encoded value. Never fails, as the protocol asks: what is no escape stands for itself, and what is no UTF-8
/// becomes U+FFFD.
pub(crate) fn decode(encoded: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((&byte, tail)) = rest.split_first() {
        match tail.first_chunk().and_then(escaped).filter(|_| byte == b'%') {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &tail[2..];
            }
            None => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// The byte of two hexadecimal digits of either case.
fn escaped(digits: &[u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(digits[0])? << 4 | digit(digits[1])?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_must_be_is_escaped() {
        assert_eq!(encode("no such topic: a/b~"), "no such topic: a/b~");
        assert_eq!(encode("100%\n"), "100%25%0A");
        assert_eq!(encode("ü"), "%C3%BC");
    }

    #[test]
    fn what_is_no_escape_stands_for_itself() {
        assert_eq!(decode(b"%"), "%");
        assert_eq!(decode(b"%4"), "%4");
        assert_eq!(decode(b"%zz%41"), "%zzA");
        assert_eq!(decode(b"%c3%bc"), "ü");
        assert_eq!(decode(b"%ff"), "\u{fffd}");
    }

    #[test]
    fn every_text_comes_back() {
        bolero::check!().with_type::<String>().for_each(|text| {
            let encoded = encode(text);
            assert!(encoded.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            assert_eq!(&decode(encoded.as_bytes()), text);
        });
    }
}
