//! The control process: who is who, who may do what, and how every data plane is configured.
//!
//! ```text
//!   clients ── TLS 1.3 ──► server: connections ─► gate: who calls, may they ─► services: identity, policy, config, …
//!                                                                                 │                       │
//!                                                                                 ▼                       ▼
//!                                                                       ledger: one writer          store (watches)
//! ```
//!
//! Invariants worth naming:
//! * **Nobody reaches a service unnamed.** [`gate`] authenticates every call and looks up in one table who may make it; a method
//!   that is not in the table is refused.
//! * **What is acknowledged is durable**, and is in the audit log: the answer waits for both.
//! * **Logs are chained.** Issuance and audit entries each hold the hash of the one before; [`ledger`] is their only writer.
//! * **The store is the truth.** What is kept in memory follows its watches, so that several control processes can share one store.
#![forbid(unsafe_code)]

pub mod audit;
pub mod authority;
pub mod caller;
pub mod config;
pub mod context;
pub mod errors;
pub mod files;
pub mod gate;
pub mod groups;
pub mod identity;
pub mod keys;
pub mod ledger;
pub mod nodes;
pub mod packages;
pub mod policy;
pub mod process;
pub mod registry;
pub mod server;
pub mod settings;
pub mod store;
pub mod wire;

pub use caller::Caller;
pub use context::Context;
