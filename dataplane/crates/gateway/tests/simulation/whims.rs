//! Policy that changes its mind: one thing in eight is not allowed, and each change picks others.

use std::hash::{DefaultHasher, Hash, Hasher};

use ringgate_policy::{AgentName, Authority, Denial, Identity, Permission, Proof, Rejection};

/// The same salt, the same answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Whims(u64);

impl Whims {
    pub(crate) fn new(salt: u64) -> Self {
        Self(salt)
    }

    pub(crate) fn allow(self, who: &str, what: Permission<'_>) -> bool {
        // The books of mailboxes and of topics that keep messages are kept by those who may always read and write them, and everyone may come.
        if what == Permission::Register
            || ["mail/", "kept/"]
                .iter()
                .any(|books| what.resource().starts_with(books))
        {
            return true;
        }
        let mut hasher = DefaultHasher::new();
        (self.0, who, what.action(), what.resource()).hash(&mut hasher);
        !hasher.finish().is_multiple_of(8)
    }
}

impl Authority for Whims {
    fn decide(&self, _: &Identity, name: &AgentName, what: Permission<'_>) -> Result<(), Denial> {
        match self.allow(name.as_str(), what) {
            true => Ok(()),
            false => Err(Denial {
                reason: format!("{} {}: not today", what.action(), what.resource()),
                forbidden: true,
            }),
        }
    }

    fn examine(&self, _: &Identity, _: i64) -> Result<(), Rejection> {
        Ok(())
    }

    fn authenticate(&self, _: &str, _: &[u8], _: &str, _: i64) -> Result<Identity, Rejection> {
        Ok(Identity::Declared)
    }

    fn use_up(&self, _: &Proof, _: i64) -> Result<(), Rejection> {
        Ok(())
    }
}
