//! What the gateway does: one file for each noun, each with its state and its part of [`Gateway`](crate::Gateway).

pub(crate) mod barrier;
mod closing;
mod group;
pub(crate) mod hold;
pub(crate) mod inspect;
pub(crate) mod introduction;
pub(crate) mod journal;
pub(crate) mod late;
mod mesh;
pub(crate) mod name;
mod network;
pub(crate) mod publish;
pub(crate) mod recent;
mod register;
pub(crate) mod request;
mod resume;
pub(crate) mod review;
pub(crate) mod rights;
pub(crate) mod state;
mod status;
mod stream;
mod subscribe;
mod target;
pub(crate) mod watch;
