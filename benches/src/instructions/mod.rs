//! How many instructions each part of the hot path takes: the guard of its speed (STYLE 17).
//!
//! Time differs from machine to machine and from hour to hour; the number of instructions that callgrind counts does not. Each
//! [`Case`] runs in a process of its own under valgrind, which shows every program the same processor whatever the host has, so
//! that library functions which pick an implementation at run time pick the same one everywhere. Hash seeds are fixed, the
//! environment is empty, and only what happens within [`counted_stretch`] counts: set-up and warm-up do not.
//!
//! The runner is the program `ringgate-instructions`; the numbers that are expected are in `benches/instructions.json` ([`Baseline`]).
//!
//! This is our own few hundred lines rather than `gungraun` because that needs a second program of exactly its own version installed
//! on every machine, and keeps what it compares with in the build folder, while a baseline that is reviewed must be in the repository.

mod baseline;
mod cases;
mod count;

pub use baseline::{Baseline, Change, GROWTH_MAX, Verdict};
pub use cases::CASES;
pub use count::{CountError, RUN_ONE, count, version};

/// Times a case runs before it is counted: buffers and tables have their final size then, and caches are filled.
const WARM_UP: u32 = 32;
/// Times a case runs while it is counted, so that what happens only now and then (a new block, a returned window) is spread.
pub const REPEATS: u32 = 16;

/// One thing that is counted.
#[derive(Debug)]
pub struct Case {
    /// Its name, which the baseline knows it by.
    pub name: &'static str,
    /// Operations of one run.
    pub operations: u64,
    /// Sets up, and returns what one run is.
    pub prepare: fn() -> Box<dyn FnMut()>,
}

impl Case {
    /// The case of this name.
    pub fn find(name: &str) -> Option<&'static Case> {
        CASES.iter().find(|case| case.name == name)
    }

    /// Does all of it: sets up, warms up, and runs the stretch that is counted, if somebody counts.
    pub fn run(&self) {
        let mut run = (self.prepare)();
        (0..WARM_UP).for_each(|_| run());
        counted_stretch(run.as_mut());
    }
}

/// What callgrind counts: it is told to by this function's name.
#[inline(never)]
fn counted_stretch(run: &mut dyn FnMut()) {
    // A closure here would have this function's name in its own, and so end the stretch.
    for _ in 0..REPEATS {
        run();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let names: HashSet<&str> = CASES.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), CASES.len());
    }

    #[test]
    fn every_case_has_a_baseline_and_the_other_way_round() {
        let baseline = Baseline::read().expect("benches/instructions.json");
        let known: HashSet<&str> = baseline.instructions.keys().map(String::as_str).collect();
        let cases: HashSet<&str> = CASES.iter().map(|case| case.name).collect();
        assert_eq!(
            known, cases,
            "run `cargo run --release -p ringgate-benches --bin ringgate-instructions -- --update`"
        );
    }

    /// All but those whose table is so large that setting up takes long without optimisation.
    #[test]
    fn cases_run() {
        CASES
            .iter()
            .filter(|case| !case.name.contains("00000 "))
            .for_each(Case::run);
    }
}
