//! Transactions: conditions and writes.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::{
    KEY_BYTES_MAX, Revision, StoreError, TRANSACTION_BYTES_MAX, TRANSACTION_OPS_MAX, VALUE_BYTES_MAX,
};

/// What must hold for a commit to happen: that a key was written last by this commit, or is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The key it is about.
    pub key: Bytes,
    /// Of the commit that wrote it last; 0: there is no such key.
    pub revision: Revision,
}

impl Condition {
    /// The key does not exist.
    #[must_use]
    pub fn absent(key: impl Into<Bytes>) -> Condition {
        Condition::at(key, Revision(0))
    }

    /// The key was written last by this commit.
    #[must_use]
    pub fn at(key: impl Into<Bytes>, revision: Revision) -> Condition {
        Condition {
            key: key.into(),
            revision,
        }
    }
}

/// What a commit does to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Gives it a value.
    Put(Bytes, Bytes),
    /// Removes it, if it is there.
    Delete(Bytes),
}

impl Write {
    /// The key it is about.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        match self {
            Write::Put(key, _) | Write::Delete(key) => key,
        }
    }
}

/// Writes that happen together, if all conditions hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transaction {
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// All happen. A key is written once at most.
    pub writes: Vec<Write>,
}

impl Transaction {
    /// One that does nothing yet.
    #[must_use]
    pub fn new() -> Transaction {
        Transaction::default()
    }

    /// Adds a condition.
    #[must_use]
    pub fn when(mut self, condition: Condition) -> Transaction {
        self.conditions.push(condition);
        self
    }

    /// Adds a write.
    #[must_use]
    pub fn write(mut self, write: Write) -> Transaction {
        self.writes.push(write);
        self
    }

    /// Adds writes.
    #[must_use]
    pub fn writes(mut self, writes: impl IntoIterator<Item = Write>) -> Transaction {
        self.writes.extend(writes);
        self
    }

    /// Refuses what no store would take.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let too_large = |what, size, limit| Err(StoreError::TooLarge { what, size, limit });
        for (what, size) in [
            ("conditions", self.conditions.len()),
            ("writes", self.writes.len()),
        ] {
            if size > TRANSACTION_OPS_MAX {
                return too_large(what, size, TRANSACTION_OPS_MAX);
            }
        }
        let mut bytes = 0;
        let mut seen = BTreeSet::new();
        for write in &self.writes {
            if !seen.insert(write.key()) {
                return Err(StoreError::KeyTwice {
                    key: write.key().clone(),
                });
            }
            if let Write::Put(_, value) = write {
                if value.len() > VALUE_BYTES_MAX {
                    return too_large("bytes of a value", value.len(), VALUE_BYTES_MAX);
                }
                bytes += value.len();
            }
        }
        for key in self
            .conditions
            .iter()
            .map(|condition| &condition.key)
            .chain(self.writes.iter().map(Write::key))
        {
            if key.len() > KEY_BYTES_MAX {
                return too_large("bytes of a key", key.len(), KEY_BYTES_MAX);
            }
            bytes += key.len();
        }
        if bytes > TRANSACTION_BYTES_MAX {
            return too_large("bytes of a transaction", bytes, TRANSACTION_BYTES_MAX);
        }
        Ok(())
    }
}
