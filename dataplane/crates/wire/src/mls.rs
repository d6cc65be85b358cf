//! Whether a payload is an application message of MLS, as far as its header tells (RFC 9420, sections 6 and 6.3).

/// `mls10` and `mls_private_message`.
const HEAD: [u8; 4] = [0, 1, 0, 2];
/// Content type `application`.
const APPLICATION: u8 = 1;
const EPOCH_BYTES: usize = 8;

/// Whether `bytes` are one PrivateMessage with application data. Who holds no key can check no more.
pub(crate) fn is_private_application(bytes: &[u8]) -> bool {
    private_application(bytes).is_some_and(|rest| rest.is_empty())
}

/// What is behind the PrivateMessage; `None` where there is none.
fn private_application(bytes: &[u8]) -> Option<&[u8]> {
    let group_id = bytes.strip_prefix(&HEAD)?;
    let epoch = skip_vector(group_id)?;
    let content_type = epoch.get(EPOCH_BYTES..)?;
    let authenticated_data = content_type.strip_prefix(&[APPLICATION])?;
    let sender_data = skip_vector(authenticated_data)?;
    let ciphertext = skip_vector(sender_data)?;
    skip_vector(ciphertext)
}

/// What is behind a vector, whose length is a variable-length integer (RFC 9420, section 2.1.2).
fn skip_vector(bytes: &[u8]) -> Option<&[u8]> {
    let (&first, rest) = bytes.split_first()?;
    let more = match first >> 6 {
        0 => 0,
        1 => 1,
        2 => 3,
        _ => return None,
    };
    let (low, rest) = rest.split_at_checked(more)?;
    let length = low.iter().fold(usize::from(first & 0x3f), |length, &byte| {
        length << 8 | usize::from(byte)
    });
    rest.get(length..)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Group "g", epoch 1, no authenticated data, sender data of 2 bytes, ciphertext of 3.
    const MESSAGE: [u8; 21] = [0, 1, 0, 2, 1, b'g', 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 2, 8, 8, 1, 9];

    #[test]
    fn only_a_whole_private_message_with_application_data_passes() {
        assert!(is_private_application(&MESSAGE));
        assert!(!is_private_application(b"hello"));
        for len in 0..MESSAGE.len() {
            assert!(!is_private_application(&MESSAGE[..len]), "{len}");
        }
        assert!(!is_private_application(&[&MESSAGE[..], b"x"].concat()));
        for (at, value) in [(1, 2), (3, 1), (14, 3)] {
            let mut other = MESSAGE;
            other[at] = value;
            assert!(!is_private_application(&other), "{at}");
        }
    }
}
