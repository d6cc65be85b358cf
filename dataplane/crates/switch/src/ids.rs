//! Names, ids of connections, and how connections begin and end.

use std::borrow::Cow;
use std::fmt;

/// The instance id that stands for every instance of a name.
pub const ANY: u128 = u128::MAX;

/// A name as it is routed: hashes of organization, namespace and type, and the id of one instance or [`ANY`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name {
    /// Hashes of the three components; each dialect has its own.
    pub components: [u64; 3],
    /// The instance.
    pub instance: u128,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [organization, namespace, kind] = self.components;
        write!(f, "{organization:016x}/{namespace:016x}/{kind:016x}/")?;
        match self.instance {
            ANY => f.write_str("*"),
            instance => write!(f, "{instance:032x}"),
        }
    }
}

/// One connection of a core. The generation tells it from earlier connections that had the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// Generations have this many bits, so that the caller has two left to mark what kind of stream a number names.
const GENERATION_BITS: u32 = 30;

impl ConnectionId {
    pub(crate) const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

    /// The place, for tables of the caller indexed alongside. Places are reused.
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// Both parts in one number below 2^62.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The reverse of [`to_bits`](Self::to_bits).
    pub fn from_bits(bits: u64) -> Self {
        Self {
            index: bits as u32,
            generation: (bits >> 32) as u32 & Self::GENERATION_MASK,
        }
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

/// What the listener knows of a new stream's peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its address, for people to read.
    pub address: String,
    /// Who it proved to be; empty where it proved nothing. A client can take the place only of a client with the same owner.
    pub owner: String,
    /// The caller's number of the connection, for people to read.
    pub connection: u64,
}

/// How a connection ends, told by the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Without an error: status OK. Clients come back.
    Orderly,
    /// The peer asks for what it may not have, for good: `PERMISSION_DENIED`. Clients do not come back.
    Denied(Cow<'static, str>),
    /// What was sent cannot be used: `INVALID_ARGUMENT`.
    Invalid(Cow<'static, str>),
    /// The peer takes more than its share: `RESOURCE_EXHAUSTED`.
    Exhausted(Cow<'static, str>),
}

impl End {
    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        *self != End::Orderly
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_id_survives_its_bits() {
        let id = ConnectionId {
            index: u32::MAX,
            generation: ConnectionId::GENERATION_MASK,
        };
        assert_eq!(ConnectionId::from_bits(id.to_bits()), id);
        assert!(id.to_bits() < 1 << 62);
    }
}
