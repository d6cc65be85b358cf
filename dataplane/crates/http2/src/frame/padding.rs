//! Padding of DATA and HEADERS (RFC 9113 sections 6.1 and 6.2).

use crate::error::Violation;

/// Cuts the pad length and the padding off a padded payload.
///
/// # Errors
/// If the payload is too short for its padding.
pub fn strip(payload: &[u8]) -> Result<&[u8], Violation> {
    let (&pad_len, rest) = payload.split_first().ok_or(Violation::FrameLength)?;
    let content = rest
        .len()
        .checked_sub(pad_len as usize)
        .ok_or(Violation::Padding)?;
    Ok(&rest[..content])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_may_fill_the_frame_but_not_exceed_it() {
        assert_eq!(strip(&[2, b'a', 0, 0]), Ok(&b"a"[..]));
        assert_eq!(strip(&[2, 0, 0]), Ok(&b""[..]));
        assert_eq!(strip(&[0]), Ok(&b""[..]));
        assert_eq!(strip(&[3, 0, 0]), Err(Violation::Padding));
        assert_eq!(strip(&[]), Err(Violation::FrameLength));
    }
}
