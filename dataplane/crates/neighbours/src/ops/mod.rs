//! What a node does, by subject.

mod carrying;
mod directory;
mod exchange;
mod flooding;
mod interest;
mod reach;
