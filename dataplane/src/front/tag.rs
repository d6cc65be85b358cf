//! Whose a stream is.

use crate::shard::StreamTag;

/// A service of the front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Whose {
    /// The native dialect. Zero, so that its tags are what they would be without a front.
    Agents = 0,
    /// SLIM.
    Slim = 1,
    /// AGP 2025.
    Agp2025 = 2,
    /// Links to other nodes.
    Neighbours = 3,
}

/// Services tag their streams with an entry in the low half and a generation in the high half. No table has 2^30 entries (each entry
/// holds hundreds of bytes), so the highest bits of the low half are free.
const SHIFT: u32 = 30;
const MASK: u64 = 0b11 << SHIFT;

impl Whose {
    /// Marks a service's tag.
    #[inline]
    pub(super) fn mark(self, tag: StreamTag) -> StreamTag {
        assert!(tag.0 & MASK == 0, "an entry above 2^30");
        StreamTag(tag.0 | (self as u64) << SHIFT)
    }

    /// Whose a marked tag is, and the service's own tag.
    #[inline]
    pub(super) fn of(tag: StreamTag) -> (Whose, StreamTag) {
        let whose = match (tag.0 & MASK) >> SHIFT {
            0 => Whose::Agents,
            1 => Whose::Slim,
            2 => Whose::Agp2025,
            _ => Whose::Neighbours,
        };
        (whose, StreamTag(tag.0 & !MASK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_off_as_it_was_put_on() {
        for whose in [Whose::Agents, Whose::Slim, Whose::Agp2025, Whose::Neighbours] {
            for tag in [0, 7, u64::from(u32::MAX) << 32, (1 << 30) - 1] {
                assert_eq!(Whose::of(whose.mark(StreamTag(tag))), (whose, StreamTag(tag)));
            }
        }
    }
}
