//! Hashing of keys that peers choose.

use std::hash::BuildHasher;

use foldhash::fast::{FixedState, FoldHasher};

/// Hashes with the node's secret seed, so that nobody outside can choose keys that collide.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seed(u64);

impl Seed {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl BuildHasher for Seed {
    type Hasher = FoldHasher<'static>;

    #[inline]
    fn build_hasher(&self) -> Self::Hasher {
        FixedState::with_seed(self.0).build_hasher()
    }
}
