//! What policy has lately decided for one session.
//!
//! Agents do the same few things over and over. A decision is looked up by action and resource and holds as long as the authority
//! does; there are at most so many, and then all are forgotten, which costs the agent that does so many things some questions.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashTable;
use ringgate_policy::{Denial, Permission};

use crate::hash::Seed;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    /// Of the authority that made them.
    generation: u64,
    known: HashTable<Known>,
}

#[derive(Debug)]
struct Known {
    action: &'static str,
    resource: Box<str>,
    decided: Decided,
}

/// Allowed, or why not.
pub(crate) type Decided = Result<(), Refused>;

/// Why something is not allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) reason: Arc<str>,
    /// See [`Denial::forbidden`].
    pub(crate) forbidden: bool,
}

impl From<&Denial> for Refused {
    fn from(denial: &Denial) -> Self {
        Self {
            reason: denial.reason.as_str().into(),
            forbidden: denial.forbidden,
        }
    }
}

impl Decisions {
    /// What was decided under this generation.
    #[inline]
    pub(crate) fn get(&self, what: &Permission<'_>, generation: u64, hasher: Seed) -> Option<&Decided> {
        if self.generation != generation {
            return None;
        }
        let (action, resource) = (what.action(), what.resource());
        let known = self.known.find(hasher.hash_one((action, resource)), |known| {
            known.action == action && *known.resource == *resource
        });
        known.map(|known| &known.decided)
    }

    /// Remembers a decision, of which at most `most` are kept.
    pub(crate) fn put(
        &mut self,
        what: &Permission<'_>,
        decided: Decided,
        generation: u64,
        most: usize,
        hasher: Seed,
    ) {
        if self.generation != generation || self.known.len() >= most {
            self.generation = generation;
            self.known.clear();
        }
        let (action, resource) = (what.action(), what.resource());
        let known = Known {
            action,
            resource: resource.into(),
            decided,
        };
        let hash = |known: &Known| hasher.hash_one((known.action, &*known.resource));
        self.known
            .insert_unique(hasher.hash_one((action, resource)), known, hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_of_its_action_resource_and_generation() {
        let hasher = Seed::new(1);
        let mut decisions = Decisions::default();
        decisions.put(&Permission::Publish("a"), Ok(()), 1, 8, hasher);
        let no = || {
            Err(Refused {
                reason: "no".into(),
                forbidden: true,
            })
        };
        decisions.put(&Permission::Subscribe("a"), no(), 1, 8, hasher);
        assert_eq!(decisions.get(&Permission::Publish("a"), 1, hasher), Some(&Ok(())));
        assert_eq!(decisions.get(&Permission::Subscribe("a"), 1, hasher), Some(&no()));
        assert_eq!(decisions.get(&Permission::Publish("b"), 1, hasher), None);
        assert_eq!(decisions.get(&Permission::Publish("a"), 2, hasher), None);
        decisions.put(&Permission::Publish("b"), Ok(()), 2, 8, hasher);
        assert_eq!(decisions.get(&Permission::Subscribe("a"), 2, hasher), None);
    }

    /// Prints a number and asserts none: `cargo test --release -p ringgate-gateway --lib -- --ignored --nocapture cached`.
    #[test]
    #[ignore = "a measurement; it says how long a cached check takes"]
    fn how_long_a_cached_check_takes() {
        const ROUNDS: u32 = 2_000_000;
        let hasher = Seed::new(1);
        let topics: Vec<String> = (0..64)
            .map(|n| format!("acme/demo/sensors/{n}/temperature"))
            .collect();
        let mut decisions = Decisions::default();
        for topic in &topics {
            decisions.put(&Permission::Publish(topic), Ok(()), 1, 256, hasher);
        }
        let mut took: Vec<f64> = (0..9)
            .map(|_| {
                let begun = std::time::Instant::now();
                let mut allowed = 0u32;
                for round in 0..ROUNDS {
                    let topic = std::hint::black_box(&topics[round as usize % topics.len()]);
                    let known = decisions.get(&Permission::Publish(topic), 1, hasher);
                    allowed += u32::from(matches!(known, Some(Ok(()))));
                }
                assert_eq!(allowed, ROUNDS);
                begun.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS)
            })
            .collect();
        took.sort_by(f64::total_cmp);
        println!(
            "a cached check of one of 64 topics: {:.1} ns [{:.1}-{:.1}]",
            took[4], took[0], took[8]
        );
    }

    #[test]
    fn there_are_never_more_than_allowed() {
        let hasher = Seed::new(1);
        let mut decisions = Decisions::default();
        for number in 0..100 {
            let topic = number.to_string();
            decisions.put(&Permission::Publish(&topic), Ok(()), 1, 8, hasher);
            assert!(decisions.known.len() <= 8);
            assert!(decisions.get(&Permission::Publish(&topic), 1, hasher).is_some());
        }
    }
}
