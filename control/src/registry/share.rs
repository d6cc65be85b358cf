//! What control processes over one store tell each other: each its own under a session, and all read the same.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use ringgate_proto::control::v1::{Agent, Node};
use ringgate_store::{Follow, Session, Store, StoreError, TRANSACTION_OPS_MAX, Update, Write};
use tokio::sync::Notify;

use super::claims::Origin;
use super::{Known, Table};
use crate::keys::{self, Slot};

/// How long after its end what a process told is still believed.
const SESSION: Duration = Duration::from_secs(10);
/// Shortest time between two writes: what changes often is written as it is then.
const BETWEEN: Duration = Duration::from_millis(100);
/// Bytes of one write.
const WRITE_BYTES_MAX: usize = 512 * 1024;
/// Wait after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// The way to the others. Cheap to clone; the tasks behind it end with the last one.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    /// Names this process among the others.
    pub(super) process: Arc<str>,
    own: Arc<Own>,
}

/// What this process tells.
#[derive(Debug, Default)]
struct Own {
    told: Mutex<Told>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Told {
    /// What is to be in the store.
    entries: BTreeMap<Bytes, Bytes>,
    /// Keys that may not be in the store as they are to be.
    unwritten: BTreeSet<Bytes>,
}

impl Shared {
    /// Begins to tell and to listen.
    pub(super) fn start(store: Arc<dyn Store>, table: &Arc<Table>) -> Shared {
        let own = Arc::new(Own::default());
        tokio::spawn(tell(store.clone(), Arc::downgrade(&own)));
        tokio::spawn(listen(Follow::new(store, keys::PRESENCE), Arc::downgrade(table)));
        Shared {
            process: format!("{:016x}", rand_u64()).into(),
            own,
        }
    }

    pub(super) fn put<T: Message + Default>(&self, slot: &Slot<T>, value: &T) {
        let value = Bytes::from(value.encode_to_vec());
        let mut told = self.own.told();
        if told.entries.get(slot.key()) != Some(&value) {
            told.entries.insert(slot.key().clone(), value);
            told.unwritten.insert(slot.key().clone());
            self.own.changed.notify_one();
        }
    }

    pub(super) fn remove<T: Message + Default>(&self, slot: &Slot<T>) {
        let mut told = self.own.told();
        if told.entries.remove(slot.key()).is_some() {
            told.unwritten.insert(slot.key().clone());
            self.own.changed.notify_one();
        }
    }

    /// Removes all keys that begin with this one, but those whose rest is to stay.
    pub(super) fn remove_all<T: Message + Default>(&self, slot: &Slot<T>, stays: impl Fn(&str) -> bool) {
        let prefix = slot.key();
        let mut told = self.own.told();
        let gone: Vec<Bytes> = told
            .entries
            .range(prefix.clone()..)
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(prefix))
            .filter(|key| !std::str::from_utf8(&key[prefix.len()..]).is_ok_and(&stays))
            .cloned()
            .collect();
        for key in gone {
            told.entries.remove(&key);
            told.unwritten.insert(key);
        }
        self.own.changed.notify_one();
    }
}

impl Own {
    fn told(&self) -> MutexGuard<'_, Told> {
        // No change is left half-made by a panic.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Some of what is to be written; taken as written.
    fn take(&self) -> Vec<Write> {
        let mut told = self.told();
        let mut writes = Vec::new();
        let mut bytes = 0;
        while writes.len() < TRANSACTION_OPS_MAX
            && bytes < WRITE_BYTES_MAX
            && let Some(key) = told.unwritten.pop_first()
        {
            let write = match told.entries.get(&key) {
                Some(value) => Write::Put(key, value.clone()),
                None => Write::Delete(key),
            };
            bytes += write.key().len()
                + if let Write::Put(_, value) = &write {
                    value.len()
                } else {
                    0
                };
            writes.push(write);
        }
        writes
    }

    fn give_back(&self, writes: Vec<Write>) {
        self.told()
            .unwritten
            .extend(writes.iter().map(|write| write.key().clone()));
    }

    /// Of a new session nothing is in the store.
    fn tell_again(&self) {
        let mut told = self.told();
        told.unwritten = told.entries.keys().cloned().collect();
    }
}

/// Writes what this process tells, until nobody tells any more.
async fn tell(store: Arc<dyn Store>, own: Weak<Own>) {
    while own.strong_count() > 0 {
        let session = match store.session(SESSION).await {
            Ok(Some(session)) => session,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "the other control processes cannot be told who is here; trying again");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        if let Some(own) = own.upgrade() {
            own.tell_again();
        }
        during(&*session, &own).await;
    }
}

/// Writes during one session, to its end.
async fn during(session: &dyn Session, own: &Weak<Own>) {
    while let Some(strong) = own.upgrade() {
        let writes = strong.take();
        if writes.is_empty() {
            let changed = strong.changed.notified();
            tokio::select! {
                () = changed => {}
                () = session.ended() => return,
                // Looks whether anybody is left to tell.
                () = tokio::time::sleep(SESSION) => {}
            }
            continue;
        }
        match session.write(writes.clone()).await {
            Ok(_) => tokio::time::sleep(BETWEEN).await,
            Err(StoreError::SessionEnded) => return,
            Err(error) => {
                tracing::warn!(%error, "the other control processes cannot be told who is here; trying again");
                strong.give_back(writes);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Takes what all processes tell into the table, until nobody has it any more.
async fn listen(mut follow: Follow, table: Weak<Table>) {
    loop {
        let update = follow.next().await;
        let Some(table) = table.upgrade() else { return };
        match update {
            Ok(update) => take(&table, update),
            Err(error) => {
                tracing::error!(%error, "cannot be told who is at the other control processes; trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

fn take(table: &Table, update: Update) {
    match update {
        Update::All { entries, .. } => {
            let there: HashSet<&[u8]> = entries.iter().map(|entry| &entry.key[..]).collect();
            let is_there = |slot: &Bytes| there.contains(&slot[..]);
            table.retain_agents(|name, origin| {
                is_there(keys::PRESENT_AGENTS.at(&format!("{origin}/{name}")).key())
            });
            let mut known = table.known();
            known
                .nodes
                .retain(|_, origin| is_there(keys::PRESENT_NODES.at(origin).key()));
            for entry in &entries {
                put(&mut known, table, &entry.key, &entry.value, entry.revision.0);
            }
        }
        Update::Changed(batch) => {
            let mut known = table.known();
            for change in &batch.changes {
                match &change.value {
                    Some(value) => put(&mut known, table, &change.key, value, batch.revision.0),
                    None => remove(&mut known, table, &change.key),
                }
            }
        }
    }
}

fn put(known: &mut Known, table: &Table, key: &Bytes, value: &Bytes, order: u64) {
    if let Some((origin, _)) = agent_key(key) {
        match Agent::decode(value.clone()) {
            Ok(agent) => known.put_agent(&table.events, &Origin::from(origin), Some(order), agent),
            Err(error) => tracing::error!(%error, "what another control process tells cannot be read"),
        }
    } else if let Some((origin, _)) = node_key(key) {
        match Node::decode(value.clone()) {
            Ok(node) => known.put_node(&Origin::from(origin), Some(order), node),
            Err(error) => tracing::error!(%error, "what another control process tells cannot be read"),
        }
    }
}

fn remove(known: &mut Known, table: &Table, key: &[u8]) {
    if let Some((origin, name)) = agent_key(key) {
        known.remove_agent(&table.events, origin, name);
    } else if let Some((origin, node)) = node_key(key) {
        known.nodes.remove(node, origin);
    }
}

/// Origin and name: `<process>/<node>/<attachment>/<name>`.
fn agent_key(key: &[u8]) -> Option<(&str, &str)> {
    let rest = keys::PRESENT_AGENTS.rest(key)?;
    let (at, _) = rest.match_indices('/').nth(2)?;
    Some((&rest[..at], &rest[at + 1..]))
}

/// Origin and node: `<process>/<node>/<attachment>`.
fn node_key(key: &[u8]) -> Option<(&str, &str)> {
    let origin = keys::PRESENT_NODES.rest(key)?;
    Some((origin, origin.split('/').nth(1)?))
}

/// Tells processes apart; it need not be secret.
fn rand_u64() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_taken_apart_as_they_are_put_together() {
        let origin = "0011/node-1/7";
        let key = keys::PRESENT_AGENTS.at(&format!("{origin}/acme/sales/bot/1"));
        assert_eq!(agent_key(key.key()), Some((origin, "acme/sales/bot/1")));
        assert_eq!(node_key(key.key()), None);
        let key = keys::PRESENT_NODES.at(origin);
        assert_eq!(node_key(key.key()), Some((origin, "node-1")));
        assert_eq!(agent_key(key.key()), None);
    }

    #[test]
    fn what_changes_twice_is_written_once_as_it_is() {
        let own = Arc::new(Own::default());
        let shared = Shared {
            process: "p".into(),
            own: own.clone(),
        };
        let slot = keys::PRESENT_AGENTS.at("p/n/1/a/b/c/d");
        let agent = |weight| Agent {
            weight,
            ..Agent::default()
        };
        shared.put(&slot, &agent(1));
        shared.put(&slot, &agent(2));
        assert_eq!(own.take(), [slot.put(&agent(2))]);
        shared.put(&slot, &agent(2));
        assert_eq!(own.take(), []);
        shared.put(&slot, &agent(3));
        shared.remove_all(&keys::PRESENT_AGENTS.at("p/n/1/"), |_| false);
        let writes = own.take();
        assert_eq!(writes, [slot.delete()]);
        own.give_back(writes);
        assert_eq!(
            own.take(),
            [slot.delete()],
            "what was not written is written again"
        );
    }
}
