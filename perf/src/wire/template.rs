//! A message encoded once, of which each copy differs in a few bytes of fixed place.

use super::{PAYLOAD_BYTES_MIN, TOPIC_DIGITS};

/// An encoded message with room for a sequence number, and perhaps a topic's number.
#[derive(Debug, Clone)]
pub(super) struct Template {
    bytes: Vec<u8>,
    sequence_at: usize,
    topic_at: Option<usize>,
}

impl Template {
    /// Takes `bytes` apart: `payload_at` is where the payload begins, `topic_at` where the topic's digits do.
    pub(super) fn new(bytes: Vec<u8>, payload_at: usize, topic_at: Option<usize>) -> Template {
        assert!(payload_at + PAYLOAD_BYTES_MIN <= bytes.len());
        assert!(topic_at.is_none_or(|at| at + TOPIC_DIGITS <= bytes.len()));
        Template {
            bytes,
            sequence_at: payload_at,
            topic_at,
        }
    }

    /// Appends one copy.
    pub(super) fn append(&self, topic: u32, sequence: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let message = &mut out[start..];
        message[self.sequence_at..][..PAYLOAD_BYTES_MIN].copy_from_slice(&sequence.to_le_bytes());
        if let Some(at) = self.topic_at
            && topic != 0
        {
            let mut rest = topic;
            for digit in message[at..at + TOPIC_DIGITS].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_and_topic_are_filled_in() {
        let template = Template::new(b"t/00000000:ssssssss.".to_vec(), 11, Some(2));
        let mut out = b"before ".to_vec();
        template.append(1234, u64::from_le_bytes(*b"abcdefgh"), &mut out);
        assert_eq!(out, b"before t/00001234:abcdefgh.");
    }
}
