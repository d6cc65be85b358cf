//! Which messages of an origin came already.

/// How far a message may be behind a newer one of its origin, and still be told from one that came before. What is further behind
/// counts as having come: it would come out of order anyway.
const WINDOW: u64 = 4096;
const WORDS: usize = (WINDOW / 64) as usize;

/// Sequences of one origin's one start: the highest, and which of those just below it came.
#[derive(Debug)]
pub(crate) struct Seen {
    incarnation: u64,
    highest: u64,
    came: Box<[u64; WORDS]>,
}

impl Seen {
    pub(crate) fn new(incarnation: u64) -> Self {
        Self {
            incarnation,
            highest: 0,
            came: Box::new([0; WORDS]),
        }
    }

    /// Notes a message, and says whether it is new.
    pub(crate) fn note(&mut self, incarnation: u64, sequence: u64) -> bool {
        if incarnation != self.incarnation {
            if incarnation < self.incarnation {
                return false;
            }
            *self = Self::new(incarnation);
        }
        if sequence == 0 || self.highest.saturating_sub(sequence) >= WINDOW {
            return false;
        }
        if sequence > self.highest {
            match sequence - self.highest < WINDOW {
                true => (self.highest + 1..sequence).for_each(|between| self.clear(between)),
                false => self.came.fill(0),
            }
            self.highest = sequence;
            self.set(sequence);
            return true;
        }
        let new = self.came[word(sequence)] & bit(sequence) == 0;
        self.set(sequence);
        new
    }

    fn set(&mut self, sequence: u64) {
        self.came[word(sequence)] |= bit(sequence);
    }

    fn clear(&mut self, sequence: u64) {
        self.came[word(sequence)] &= !bit(sequence);
    }
}

fn word(sequence: u64) -> usize {
    (sequence / 64) as usize % WORDS
}

fn bit(sequence: u64) -> u64 {
    1 << (sequence % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_message_is_new_once() {
        let mut seen = Seen::new(1);
        assert!(seen.note(1, 1) && seen.note(1, 3) && seen.note(1, 2));
        assert!(!seen.note(1, 1) && !seen.note(1, 2) && !seen.note(1, 3) && !seen.note(1, 0));
        assert!(seen.note(1, 3 + WINDOW), "the window moves");
        assert!(!seen.note(1, 3), "too far behind");
        assert!(seen.note(1, 4), "just within");
        assert!(seen.note(2, 1), "another start");
        assert!(!seen.note(1, 5000), "an earlier start");
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_new_twice(steps in proptest::collection::vec(0u64..3000, 1..400)) {
            let (mut seen, mut known, mut base) = (Seen::new(7), HashSet::new(), 1);
            for step in steps {
                base += step / 4;
                let sequence = base + step;
                let highest = known.iter().copied().max().unwrap_or(0);
                let wanted = sequence + WINDOW > highest && known.insert(sequence);
                proptest::prop_assert_eq!(seen.note(7, sequence), wanted, "{}", sequence);
            }
        }
    }
}
