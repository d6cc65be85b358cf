//! A store against a map in memory.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::subsequence;
use ringgate_store::{Batch, Change, Condition, Entry, Range, Revision, StoreError, Transaction, Write};
use tokio_stream::StreamExt as _;

use super::{Shared, patiently};

/// Keys that are prefixes of each other, so that ranges are about something.
const KEYS: [&str; 7] = ["a", "a/", "a/b", "a/b/c", "a0", "b", "b/x"];

/// One thing done to a store. Which revision a condition asks for depends on what is there when its turn comes.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Commit {
        conditions: Vec<(usize, bool)>,
        writes: Vec<(usize, Option<u8>)>,
    },
    Range {
        prefix: usize,
        beyond: Option<usize>,
        limit: usize,
        descending: bool,
    },
    Get(usize),
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..KEYS.len();
    let writes = subsequence((0..KEYS.len()).collect::<Vec<_>>(), 0..4).prop_flat_map(|keys| {
        keys.into_iter()
            .map(|key| (Just(key), any::<Option<u8>>()))
            .collect::<Vec<_>>()
    });
    // Most conditions hold, so that most commits do something.
    let holds = prop::bool::weighted(0.85);
    let commit = (prop::collection::vec((key.clone(), holds), 0..3), writes)
        .prop_map(|(conditions, writes)| Step::Commit { conditions, writes });
    let range = (
        key.clone(),
        prop::option::of(key.clone()),
        1..5_usize,
        any::<bool>(),
    )
        .prop_map(|(prefix, beyond, limit, descending)| Step::Range {
            prefix,
            beyond,
            limit,
            descending,
        });
    prop::collection::vec(
        prop_oneof![5 => commit, 2 => range, 1 => key.prop_map(Step::Get)],
        1..40,
    )
}

struct Model {
    revision: Revision,
    entries: BTreeMap<Bytes, Entry>,
    history: Vec<Batch>,
}

pub(crate) async fn agrees(store: Shared, steps: Vec<Step>) {
    let begin = store.range(Range::prefix("")).await.expect("readable").revision;
    let mut model = Model {
        revision: begin,
        entries: BTreeMap::new(),
        history: Vec::new(),
    };
    for step in steps {
        match step {
            Step::Commit { conditions, writes } => model.commit(&store, &conditions, &writes).await,
            Step::Range {
                prefix,
                beyond,
                limit,
                descending,
            } => {
                let mut range =
                    Range::prefix(&KEYS[prefix].as_bytes()[..KEYS[prefix].len() - 1]).limit(limit);
                range.beyond = beyond.map(|key| KEYS[key].into());
                range.descending = descending;
                let page = store.range(range.clone()).await.expect("readable");
                assert_eq!(
                    (page.entries, page.more, page.revision),
                    model.range(&range),
                    "{range:?}"
                );
            }
            Step::Get(key) => {
                let found = store.get(KEYS[key].as_bytes()).await.expect("readable");
                assert_eq!(found.as_ref(), model.entries.get(KEYS[key].as_bytes()));
            }
        }
    }
    let all = (model.entries.into_values().collect::<Vec<_>>(), model.revision);
    assert_eq!(store.all(b"").await.expect("readable"), all);
    let mut watch = store.watch("".into(), begin).await.expect("known");
    for batch in &model.history {
        assert_eq!(
            &patiently(watch.next())
                .await
                .expect("it goes on")
                .expect("it is known"),
            batch
        );
    }
}

impl Model {
    async fn commit(&mut self, store: &Shared, conditions: &[(usize, bool)], writes: &[(usize, Option<u8>)]) {
        let mut transaction = Transaction::new();
        for (key, holds) in conditions {
            let found = self
                .entries
                .get(KEYS[*key].as_bytes())
                .map_or(0, |entry| entry.revision.0);
            transaction = transaction.when(Condition::at(KEYS[*key], Revision(found + u64::from(!holds))));
        }
        for (key, value) in writes {
            transaction = transaction.write(match value {
                Some(value) => Write::Put(KEYS[*key].into(), vec![*value].into()),
                None => Write::Delete(KEYS[*key].into()),
            });
        }
        let expected = match conditions.iter().position(|(_, holds)| !holds) {
            Some(failed) => Err((failed, Bytes::from(KEYS[conditions[failed].0]))),
            None => Ok(self.apply(&transaction.writes)),
        };
        let outcome = store.commit(transaction).await.map_err(|error| match error {
            StoreError::Conflict { condition, key } => (condition, key),
            other => panic!("{other}"),
        });
        assert_eq!(outcome, expected);
    }

    fn apply(&mut self, writes: &[Write]) -> Revision {
        let revision = Revision(self.revision.0 + 1);
        let mut changes = Vec::new();
        for write in writes {
            let (key, value) = match write {
                Write::Put(key, value) => (key.clone(), Some(value.clone())),
                Write::Delete(key) => (key.clone(), None),
            };
            let before = match &value {
                Some(value) => {
                    let entry = Entry {
                        key: key.clone(),
                        value: value.clone(),
                        revision,
                    };
                    self.entries.insert(key.clone(), entry);
                    true
                }
                None => self.entries.remove(&key).is_some(),
            };
            if before {
                changes.push(Change { key, value });
            }
        }
        if !changes.is_empty() {
            self.revision = revision;
            self.history.push(Batch { revision, changes });
        }
        self.revision
    }

    fn range(&self, range: &Range) -> (Vec<Entry>, bool, Revision) {
        let mut found: Vec<_> = self
            .entries
            .values()
            .filter(|entry| entry.key.starts_with(&range.prefix))
            .cloned()
            .collect();
        if range.descending {
            found.reverse();
        }
        if let Some(beyond) = &range.beyond {
            found.retain(|entry| {
                if range.descending {
                    entry.key < beyond
                } else {
                    entry.key > beyond
                }
            });
        }
        let more = found.len() > range.limit;
        found.truncate(range.limit);
        (found, more, self.revision)
    }
}
