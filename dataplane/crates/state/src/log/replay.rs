//! Records to spaces.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::record::{Malformed, Record, records};
use crate::{Change, Keep, Kept, Place};

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
    kept: BTreeMap<Place, Kept>,
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
                Record::Kept { place, topic, bytes } => {
                    // A snapshot repeats it.
                    self.kept.entry(place).or_insert_with(|| Kept {
                        place,
                        topic: topic.into(),
                        bytes: Bytes::copy_from_slice(bytes),
                        // As the rules of this run say, once it is given back.
                        keep: Keep {
                            replay: true,
                            durable: true,
                        },
                    });
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

    /// The messages that topics keep, as the log says; more than they may, since no record says what gave way.
    pub fn take_kept(&mut self) -> Vec<Kept> {
        std::mem::take(&mut self.kept).into_values().collect()
    }

    /// What the log says of spaces.
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
