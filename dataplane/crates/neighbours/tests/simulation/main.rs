//! A network of nodes on virtual links and a virtual clock.
//!
//! What is checked, for each seed, while links are cut and healed, nodes restart, costs and interest change, at random:
//! * a message crosses no link twice in one direction; a subscriber gets an origin's messages of a topic in order, none twice, and is told
//!   exactly how many it missed, the last ones included;
//! * when nothing changes any more, all nodes know what they would in a network that started just now: nodes, costs, ways, interest;
//! * then a message reaches all who want it, once, over the links of one tree, and nobody is told of a loss.
//!
//! `RINGGATE_SIMULATION_SEEDS=n` runs n seeds, `RINGGATE_SIMULATION_SEED=s` one of them.

mod chaos;
#[path = "../../../gateway/tests/simulation/dice.rs"]
mod dice;
mod ear;
mod scale;
mod world;

pub(crate) fn number(key: &str) -> Option<u64> {
    std::env::var(key).ok()?.parse().ok()
}
