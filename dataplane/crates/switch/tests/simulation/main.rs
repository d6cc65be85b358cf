//! A node of several cores with clients that do everything at random, and messages between cores that take their time.
//!
//! What is checked, for each seed:
//! * while everything moves: a client gets each message once and in its sender's order, never its own, and only what it asked for;
//! * in a quiet moment: exactly those get a message who have subscribed, one of them or all; each Subscribe is answered; what a slow
//!   reader misses is counted, and is the oldest;
//! * a client that comes back takes the place of its older connection, on whichever core that is;
//! * in the end, nothing is left.
//!
//! `RINGGATE_SIMULATION_SEEDS=n` runs n seeds, `RINGGATE_SIMULATION_SEED=s` one of them.

#[path = "../toy/mod.rs"]
mod toy;

mod world;

use world::World;

#[test]
fn random_clients_get_what_they_asked_for() {
    if let Some(seed) = number("RINGGATE_SIMULATION_SEED") {
        return run(seed);
    }
    for seed in 0..number("RINGGATE_SIMULATION_SEEDS").unwrap_or(150) {
        if std::panic::catch_unwind(|| run(seed)).is_err() {
            panic!("failed; repeat it with RINGGATE_SIMULATION_SEED={seed}");
        }
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..8 {
        for _ in 0..150 {
            world.step();
        }
        world.settle();
        for _ in 0..15 {
            world.publish_and_check();
        }
        world.overflow_and_check();
    }
    world.finish();
}

fn number(key: &str) -> Option<u64> {
    std::env::var(key).ok()?.parse().ok()
}
