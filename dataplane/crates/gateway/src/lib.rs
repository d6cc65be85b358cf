//! Sans-IO core of the agent gateway: connections, subscriptions, directory, requests, streams, introductions, delivery queues.
#![forbid(unsafe_code)]

pub mod action;
pub mod code;
pub mod outgoing;
