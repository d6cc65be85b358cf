//! Records to spaces.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::record::{Malformed, Record, records};
use crate::Change;

/// A space as the log says it was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Of its last change.
    pub revision: u64,
    /// Its entries by key.
    pub keys: BTreeMap<Arc<str>, Arc<Change>>,
}

/// Takes the batches of all segments, in the order of the segments' numbers.
#[derive(Debug, Default)]
pub struct Replay {
    spaces: BTreeMap<Arc<str>, Recovered>,
}

impl Replay {
    /// Takes a batch.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn take(&mut self, batch: &[u8]) -> Result<(), Malformed> {
        for record in records(batch) {
            match record? {
                Record::Opened(_) => {}
                Record::Revision { space, revision } => {
                    let space = self.space(space);
                    space.revision = space.revision.max(revision);
                }
                Record::Change { space, change } => {
                    let space = self.space(space);
                    space.revision = space.revision.max(change.revision);
                    if change.value.is_some() {
                        space.keys.insert(Arc::clone(&change.key), Arc::new(change));
                    } else {
                        space.keys.remove(&change.key);
                    }
                }
            }
        }
        Ok(())
    }

    /// What the log says.
    pub fn finish(self) -> BTreeMap<Arc<str>, Recovered> {
        self.spaces
    }

    fn space(&mut self, name: &str) -> &mut Recovered {
        if !self.spaces.contains_key(name) {
            self.spaces.insert(name.into(), Recovered::default());
        }
        self.spaces.entry(name.into()).or_default()
    }
}
