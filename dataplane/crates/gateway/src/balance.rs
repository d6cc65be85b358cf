//! One of several agents: the pools that targets pick from.

use std::hash::BuildHasher;

use crate::hash::Seed;

use crate::action::Balance;

/// A small generator for balance decisions (SplitMix64, Steele, Lea and Flood 2014); not for secrets.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        ((u128::from(z) * bound as u128) >> 64) as usize
    }
}

/// What a pool must know of a member.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Of its name.
    pub(crate) hash: u64,
    /// Requests it works on.
    pub(crate) outstanding: u64,
    /// Never 0: who takes no new work is in no pool.
    pub(crate) weight: u32,
}

/// Agents that take new work for one service or capability, by their places in the directory.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    members: Vec<u32>,
    turn: usize,
    /// Picks left for the member whose turn it is.
    left: u32,
}

impl Pool {
    pub(crate) fn add(&mut self, agent: u32) {
        self.members.push(agent);
    }

    /// O(members): agents come and go far less often than requests.
    pub(crate) fn remove(&mut self, agent: u32) {
        self.members.retain(|&member| member != agent);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Picks a member that takes the work. The one that is picked first nearly always does; where it does not, the others are asked
    /// in the order in which they would be picked without it, O(members).
    pub(crate) fn pick_willing(
        &mut self,
        balance: Balance,
        affinity: &str,
        hasher: &Seed,
        dice: &mut Dice,
        load: impl Fn(u32) -> Load + Copy,
        mut takes: impl FnMut(u32) -> bool,
    ) -> Option<u32> {
        let first = self.pick(balance, affinity, hasher, dice, load)?;
        if takes(first) {
            return Some(first);
        }
        let count = self.members.len();
        match balance {
            Balance::RoundRobin => (1..count).find_map(|_| {
                self.left = 0;
                let next = self.next_turn(load);
                takes(next).then_some(next)
            }),
            Balance::LeastOutstanding => {
                let start = dice.below(count);
                let ring = (0..count).map(|step| self.members[(start + step) % count]);
                let mut willing = ring.filter(|&member| member != first && takes(member));
                let (one, other) = (willing.next()?, willing.next());
                Some(other.map_or(one, |other| less_loaded(one, other, load)))
            }
            Balance::Hash => {
                let hash = |member| hasher.hash_one((affinity, load(member).hash));
                let mut ranked = self.members.clone();
                ranked.sort_unstable_by_key(|&member| std::cmp::Reverse(hash(member)));
                ranked
                    .into_iter()
                    .find(|&member| member != first && takes(member))
            }
        }
    }

    /// Picks a member. `ROUND_ROBIN` gives each as many picks in a row as it has weight, `LEAST_OUTSTANDING` compares two picked
    /// at random by outstanding work for their weight (Mitzenmacher 2001), both O(1); `HASH` is rendezvous hashing (Thaler and
    /// Ravishankar 1996), O(members).
    fn pick(
        &mut self,
        balance: Balance,
        affinity: &str,
        hasher: &Seed,
        dice: &mut Dice,
        load: impl Fn(u32) -> Load,
    ) -> Option<u32> {
        match (balance, &self.members[..]) {
            (_, []) => None,
            (_, &[only]) => Some(only),
            (Balance::RoundRobin, _) => Some(self.next_turn(load)),
            (Balance::LeastOutstanding, members) => {
                let first = dice.below(members.len());
                let second = (first + 1 + dice.below(members.len() - 1)) % members.len();
                Some(less_loaded(members[first], members[second], load))
            }
            (Balance::Hash, members) => members
                .iter()
                .copied()
                .max_by_key(|&member| hasher.hash_one((affinity, load(member).hash))),
        }
    }

    fn next_turn(&mut self, load: impl Fn(u32) -> Load) -> u32 {
        if self.left == 0 || self.turn >= self.members.len() {
            self.turn = (self.turn + 1) % self.members.len();
            self.left = load(self.members[self.turn]).weight;
        }
        self.left = self.left.saturating_sub(1);
        self.members[self.turn]
    }
}

fn less_loaded(one: u32, other: u32, load: impl Fn(u32) -> Load) -> u32 {
    let (a, b) = (load(one), load(other));
    let one_is_less = (a.outstanding + 1) * u64::from(b.weight) <= (b.outstanding + 1) * u64::from(a.weight);
    if one_is_less { one } else { other }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(count: u32) -> Pool {
        let mut pool = Pool::default();
        (0..count).for_each(|agent| pool.add(agent));
        pool
    }

    fn counts(
        pool: &mut Pool,
        balance: Balance,
        picks: usize,
        load: impl Fn(u32) -> Load + Copy,
    ) -> Vec<usize> {
        let (hasher, mut dice) = (Seed::new(1), Dice::new(7));
        let mut counts = vec![0; pool.members.len()];
        for pick in 0..picks {
            let agent = pool
                .pick(balance, &pick.to_string(), &hasher, &mut dice, load)
                .expect("not empty");
            counts[agent as usize] += 1;
        }
        counts
    }

    #[test]
    fn round_robin_follows_the_weights() {
        let load = |agent| Load {
            hash: 0,
            outstanding: 0,
            weight: agent + 1,
        };
        assert_eq!(counts(&mut pool(3), Balance::RoundRobin, 60, load), [10, 20, 30]);
    }

    #[test]
    fn the_less_loaded_of_two_is_picked() {
        let load = |agent| Load {
            hash: 0,
            outstanding: u64::from(agent == 0) * 100,
            weight: 1,
        };
        assert_eq!(counts(&mut pool(2), Balance::LeastOutstanding, 50, load), [0, 50]);
    }

    #[test]
    fn who_takes_no_work_leaves_it_to_the_others_evenly() {
        let load = |agent| Load {
            hash: u64::from(agent) * 0x1234_5678_9abc,
            outstanding: 0,
            weight: 1,
        };
        let (hasher, mut dice) = (Seed::new(1), Dice::new(7));
        for balance in [Balance::RoundRobin, Balance::LeastOutstanding, Balance::Hash] {
            let mut pool = pool(5);
            let mut counts = [0; 5];
            for key in 0..600 {
                let key = key.to_string();
                let picked =
                    pool.pick_willing(balance, &key, &hasher, &mut dice, load, |agent| agent % 2 == 1);
                counts[picked.expect("two are willing") as usize] += 1;
            }
            assert_eq!(counts[0] + counts[2] + counts[4], 0, "{balance:?}");
            assert!(counts[1] > 200 && counts[3] > 200, "{balance:?}: {counts:?}");
            let nobody = pool.pick_willing(balance, "", &hasher, &mut dice, load, |_| false);
            assert_eq!(nobody, None, "{balance:?}");
        }
    }

    #[test]
    fn a_hash_moves_only_the_keys_of_the_one_who_left() {
        let load = |agent| Load {
            hash: u64::from(agent) * 0x1234_5678_9abc,
            outstanding: 0,
            weight: 1,
        };
        let (hasher, mut dice) = (Seed::new(1), Dice::new(7));
        let (mut all, mut fewer) = (pool(5), pool(5));
        fewer.remove(2);
        for key in 0..200 {
            let key = key.to_string();
            let before = all.pick(Balance::Hash, &key, &hasher, &mut dice, load);
            let after = fewer.pick(Balance::Hash, &key, &hasher, &mut dice, load);
            assert!(before == after || before == Some(2));
        }
    }
}
