//! Sans-IO core of the agent gateway: connections, subscriptions, directory, requests, streams, introductions, state
//! spaces, delivery queues.
//!
//! One [`Gateway`] serves one core. It takes what agents say ([`action::Action`]), what other cores say ([`CoreMessage`]) and
//! the time; it gives bytes to write ([`Gateway::pull`]) and things to do ([`Effect`]). It never blocks, and owns no socket,
//! thread, clock or source of randomness.
#![forbid(unsafe_code)]

pub mod action;
mod balance;
pub mod code;
mod config;
mod core_message;
mod decisions;
mod directory;
mod effect;
mod event;
mod follow;
mod gateway;
mod handover;
mod hash;
mod ids;
mod ledger;
mod ops;
pub mod outgoing;
mod queue;
mod refusal;
mod session;
mod stats;
mod table;
mod timers;

pub use config::{CORES_MAX, GatewayConfig, PeerInfo, TOKEN_BYTES};
pub use core_message::CoreMessage;
pub use effect::{Closing, Effect, Flow};
pub use event::{EventKind, SecurityEvent};
pub use follow::{Follow, RECEIVERS_MAX, Role, Step};
pub use gateway::{DrainNotice, Gateway, PayloadFault};
pub use ids::{CoreId, Now, SessionId};
pub use ops::journal::{LogPiece, LogReport};
pub use stats::{AgentInfo, Said, SessionInfo, Stats, SubscriptionInfo, TopicInfo};
