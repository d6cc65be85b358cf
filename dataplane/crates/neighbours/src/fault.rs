//! What a neighbour did wrong. The link to it is closed; the node is untouched.

use thiserror::Error;

/// What a neighbour did wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Fault {
    /// Bytes that are no message of the protocol.
    #[error(
        "the neighbour's message cannot be decoded: {reason}; run releases on both nodes that speak the same protocol"
    )]
    Undecodable {
        /// As the decoder says.
        reason: String,
    },
    /// A message without one of the known bodies.
    #[error("the neighbour sent a message of an unknown kind; upgrade the older node")]
    UnknownKind,
    /// A field whose value is not allowed.
    #[error("the neighbour's message has a bad {field}; close the link and look at the neighbour's log")]
    Field {
        /// Which.
        field: &'static str,
    },
    /// The link is not up.
    #[error("the link is not up")]
    UnknownLink,
}

/// Why a link cannot come up.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LinkRefused {
    /// The other end is this node.
    #[error("the link leads to this node itself; take it out of `neighbours`")]
    Itself,
    /// There is a link to that node.
    #[error("there is a link to this neighbour already")]
    Duplicate(crate::LinkId),
    /// Another name has the same number.
    #[error("node {name:?} has the number of another node; give it another name")]
    SameNumber {
        /// Of the neighbour.
        name: String,
    },
    /// A name that no node can have.
    #[error("{name:?} is no name of a node")]
    Name {
        /// What was shown.
        name: String,
    },
    /// As many as allowed.
    #[error("this node has {links} links, as many as allowed")]
    TooMany {
        /// How many.
        links: usize,
    },
}
