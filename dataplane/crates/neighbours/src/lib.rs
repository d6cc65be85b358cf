//! Sans-IO core of a network of gateways: who is there and how to reach them, what is wanted where, and messages on their way.
//!
//! One [`Network`] is one node's part. It takes what comes over links, what is wanted on the node, and the time in milliseconds; it gives
//! [`Effect`]s. It owns no socket, thread, clock or source of randomness. Links carry messages in order or are down; everything else
//! (cuts, partitions, restarts, delays) may happen at any time.
//!
//! # Invariants worth naming
//!
//! * **Nodes that can reach each other come to know the same**: link states and interest tables at their nodes' newest versions, and
//!   so the same trees; as a network would that started just now.
//! * **A message goes down one tree.** It crosses a link once while trees stay, and no link twice in one direction ever: a node
//!   passes a message on once, known by its origin and sequence.
//! * **Loss is told.** Who wants a topic gets an origin's messages in order, none twice, and a gap where some are missing.
//! * **A node speaks for itself alone.** States and tables are their node's own word, passed on unchanged, newest version first.
//! * **Agents are looked up, not known everywhere**: each name has a home among the nodes, which knows where it is.
//! * **Nothing grows without bound**: [`NetworkLimits`] names every bound. What does not fit is left out and counted.
#![forbid(unsafe_code)]

mod directory;
mod effect;
mod fault;
mod ids;
mod interest;
mod limits;
mod link;
mod network;
mod ops;
mod recent;
mod seen;
mod stats;
mod topics;
mod topology;
mod trees;
mod wire;

pub use directory::Location;
pub use effect::Effect;
pub use fault::{Fault, LinkRefused};
pub use ids::{LinkId, NodeId, Version};
pub use interest::{Key, KeyError, Share};
pub use limits::NetworkLimits;
pub use network::Network;
pub use stats::{LinkInfo, NetworkSizes, NetworkStats, NodeInfo};
pub use wire::Hello;
