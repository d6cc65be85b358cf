//! PRIORITY (RFC 9113 section 6.3): obsolete, parsed only to be refused where it is malformed.

use crate::event::StreamId;

/// Payload bytes of PRIORITY, and of the priority fields in HEADERS.
pub const BYTES: usize = 5;

/// The stream that a priority depends on.
pub fn dependency(fields: &[u8; BYTES]) -> StreamId {
    let [s0, s1, s2, s3, _weight] = *fields;
    StreamId::new(u32::from_be_bytes([s0, s1, s2, s3]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exclusive_bit_is_not_part_of_the_dependency() {
        assert_eq!(dependency(&[0x80, 0, 1, 2, 255]), StreamId::new(0x102));
    }
}
