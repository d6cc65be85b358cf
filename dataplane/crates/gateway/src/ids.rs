//! Ids of cores and sessions, and the time of a call.

use std::fmt;
use std::time::Instant;

/// One core of the node, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CoreId(pub u16);

impl CoreId {
    /// The network beyond this node, which one core knows; see [`crate::Gateway::join_network`]. More than there can be cores.
    pub(crate) const NETWORK: CoreId = CoreId(u16::MAX);

    /// Position among the cores of the node.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for CoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One session of a core. The generation tells it from earlier sessions that had the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl SessionId {
    /// The place, for tables of the caller indexed alongside. Places are reused.
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// Both parts in one number, for completion tokens and the like.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The reverse of [`to_bits`](Self::to_bits).
    pub fn from_bits(bits: u64) -> Self {
        Self {
            index: bits as u32,
            generation: (bits >> 32) as u32,
        }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

/// A session anywhere in the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    pub(crate) core: CoreId,
    pub(crate) session: SessionId,
}

/// The time of a call, read by the caller once per loop turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For deadlines.
    pub mono: Instant,
    /// For agents to read: since 1970-01-01 UTC.
    pub unix_nanos: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_survives_its_bits() {
        let id = SessionId {
            index: 7,
            generation: u32::MAX,
        };
        assert_eq!(SessionId::from_bits(id.to_bits()), id);
    }
}
