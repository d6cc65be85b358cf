//! Names and numbers of nodes and links.

use std::fmt;

/// A node, by a number made from its name. Two names with one number cannot be in one network; who comes second is refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u64);

impl NodeId {
    /// The number of a name: FNV-1a, then the finalizer of SplitMix64. Never 0.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self(hash(name.as_bytes()).max(1))
    }

    /// From the wire.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// For the wire.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({:016x})", self.0)
    }
}

/// A link of this node, as its driver numbers it. A number is not used again while effects that name it are under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u32);

/// How new something is: of two starts of a node the later one, within one start the higher number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Version {
    /// Grows with each start of the node.
    pub incarnation: u64,
    /// Grows within one start, from 1.
    pub number: u64,
}

impl Version {
    /// Older than all others.
    pub const NONE: Version = Version {
        incarnation: 0,
        number: 0,
    };
}

/// The same on all nodes, which agree by it on trees, digests and homes. It guards against mistakes, not against malice: who may
/// speak on a link holds a certificate.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        state = (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    mix(state)
}

/// The finalizer of SplitMix64.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_go_by_incarnation_first() {
        let at = |incarnation, number| Version { incarnation, number };
        assert!(at(2, 1) > at(1, 99) && at(1, 2) > at(1, 1) && at(1, 1) > Version::NONE);
    }

    #[test]
    fn ids_are_the_same_on_every_node_and_release() {
        assert_eq!(NodeId::of("a").to_bits(), mix(0xaf63_dc4c_8601_ec8c));
        assert_ne!(NodeId::of("a"), NodeId::of("b"));
    }
}
