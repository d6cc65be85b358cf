//! A node of several cores on virtual links and a virtual clock, with agents that do everything at random.
//!
//! What is checked, for each seed:
//! * order: what a session gets of one publisher comes in the publisher's order;
//! * honesty: of what is published to an agent's mailbox, each message is received or counted in a `Gap`, through losses of the
//!   connection and resumes on any core;
//! * no gap: whoever subscribes to topics that keep messages gets what is kept and what follows, each once, in its publisher's order;
//! * each group message reaches at most one member; each request ends exactly once;
//! * policy changes at any time, on one core after the other: in the end nobody has what it may not have;
//! * queues stay within their bounds; nobody stays paused; in the end nothing is left.
//!
//! `RINGGATE_SIMULATION_SEEDS=n` runs n seeds, `RINGGATE_SIMULATION_SEED=s` one of them.

#[path = "../support/mod.rs"]
mod support;

mod dice;
mod player;
mod whims;
mod world;

use world::World;

#[test]
fn random_agents_find_the_gateway_honest() {
    if let Some(seed) = number("RINGGATE_SIMULATION_SEED") {
        return run(seed);
    }
    for seed in 0..number("RINGGATE_SIMULATION_SEEDS").unwrap_or(60) {
        if std::panic::catch_unwind(|| run(seed)).is_err() {
            panic!("failed; repeat it with RINGGATE_SIMULATION_SEED={seed}");
        }
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..3000 {
        world.step();
    }
    world.finish();
}

fn number(key: &str) -> Option<u64> {
    std::env::var(key).ok()?.parse().ok()
}
