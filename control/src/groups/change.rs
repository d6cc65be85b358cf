//! Changes of groups, as steps of the ledger.

use async_trait::async_trait;
use bytes::Bytes;
use prost::Message as _;
use ringgate_proto::control::v1::{AuditEntry, GroupRecord, GroupTree, GroupWindow, Handshake, Mail};
use tonic::{Code, Status};

use super::commit::{KEYS_MAX, stale};
use super::{HANDSHAKES_KEPT, is_narrow, not_a_member, window};
use crate::errors::refusal;
use crate::keys;
use crate::ledger::{Draft, Step, hex};

/// What a group must still be for a change to happen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    pub(super) epoch: u64,
    pub(super) sequence: u64,
}

/// Enters a group.
pub(super) struct Create {
    pub(super) record: GroupRecord,
    pub(super) tree: Option<GroupTree>,
    pub(super) audit: AuditEntry,
}

#[async_trait]
impl Step for Create {
    type Output = ();

    async fn take(&self, draft: &mut Draft) -> Result<(), Status> {
        let id = hex(&self.record.group_id);
        if draft.get(&keys::group(&id)).await?.is_some()
            || draft.get(&keys::group_window(&id)).await?.is_some()
        {
            return Err(refusal(
                Code::AlreadyExists,
                "ALREADY_EXISTS",
                "there is, or was, a group with this id; draw 16 other random bytes",
            ));
        }
        draft.put(&keys::group(&id), &self.record);
        if let Some(tree) = &self.tree {
            draft.put(&keys::group_tree(&id), tree);
        }
        draft.put(&keys::member_groups(&self.record.creator).at(&id), &1);
        put_window(draft, &id, &window(&self.record));
        draft.audit(self.audit.clone()).await
    }

    fn bytes_max(&self) -> usize {
        room(self.tree.as_ref(), 0, &self.record)
    }
}

/// Enters a commit: the record, the log, the tree, the Welcome and its mail, the window; and lets go what is too old.
pub(super) struct Enter {
    pub(super) expected: Expected,
    pub(super) record: GroupRecord,
    pub(super) handshake: Handshake,
    pub(super) welcome: Bytes,
    pub(super) mail: Mail,
    pub(super) added: Vec<String>,
    pub(super) removed: Vec<String>,
    pub(super) tree: Option<GroupTree>,
    pub(super) audit: AuditEntry,
}

#[async_trait]
impl Step for Enter {
    type Output = ();

    async fn take(&self, draft: &mut Draft) -> Result<(), Status> {
        let id = hex(&self.record.group_id);
        check(draft, &id, self.expected).await?;
        draft.put(&keys::group(&id), &self.record);
        append(draft, &id, &self.handshake);
        if let Some(tree) = &self.tree {
            draft.put(&keys::group_tree(&id), tree);
        }
        if !self.welcome.is_empty() {
            draft.put(&keys::welcome(&id, self.record.sequence), &self.welcome);
        }
        for identity in &self.added {
            draft.put(&keys::mail(identity).at(&self.mail.id), &self.mail);
            draft.put(&keys::member_groups(identity).at(&id), &self.record.sequence);
        }
        for identity in &self.removed {
            draft.delete(&keys::member_groups(identity).at(&id));
        }
        put_window(draft, &id, &window(&self.record));
        draft.audit(self.audit.clone()).await
    }

    fn bytes_max(&self) -> usize {
        let mail = (self.added.len() + self.removed.len()) * 4096;
        room(
            self.tree.as_ref(),
            self.handshake.message.len() + self.welcome.len() + mail,
            &self.record,
        )
    }

    fn keys_max(&self) -> usize {
        KEYS_MAX
    }
}

/// Appends something that begins no epoch: a proposal, or the request of somebody who wants in again.
pub(super) struct Append {
    pub(super) expected: Expected,
    pub(super) handshake: Handshake,
    /// Where the tree holds it too.
    pub(super) tree: Option<Bytes>,
}

#[async_trait]
impl Step for Append {
    type Output = u64;

    async fn take(&self, draft: &mut Draft) -> Result<u64, Status> {
        let id = hex(&self.handshake.group_id);
        let mut record = check(draft, &id, self.expected).await?;
        record.sequence += 1;
        record.first_sequence = record.sequence.saturating_sub(HANDSHAKES_KEPT - 1).max(1);
        let handshake = Handshake {
            sequence: record.sequence,
            ..self.handshake.clone()
        };
        append(draft, &id, &handshake);
        if let Some(saved) = &self.tree {
            let tree = draft.get(&keys::group_tree(&id)).await?.unwrap_or_default();
            let tree = GroupTree {
                saved: saved.clone(),
                ..tree
            };
            draft.put(&keys::group_tree(&id), &tree);
        }
        draft.put(&keys::group(&id), &record);
        Ok(record.sequence)
    }

    fn bytes_max(&self) -> usize {
        let tree = self.tree.as_ref().map_or(0, Bytes::len);
        // The GroupInfo beside the tree is written again.
        self.handshake.message.len() + tree + ringgate_mls::message::WELCOME_BYTES_MAX + 128 * 1024
    }
}

/// Changes a record in some way that the group's epoch does not depend on.
pub(super) struct Amend<F> {
    pub(super) id: String,
    pub(super) change: F,
}

#[async_trait]
impl<F, T> Step for Amend<F>
where
    F: Fn(&mut GroupRecord) -> Result<T, Status> + Send + Sync + 'static,
    T: Send + 'static,
{
    type Output = T;

    async fn take(&self, draft: &mut Draft) -> Result<T, Status> {
        let slot = keys::group(&self.id);
        let before = draft.get(&slot).await?.ok_or_else(not_a_member)?;
        let mut record = before.clone();
        let output = (self.change)(&mut record)?;
        if record != before {
            draft.put(&slot, &record);
        }
        Ok(output)
    }
}

/// Removes a group; its log and the index of its members go after it.
pub(super) struct Delete {
    pub(super) id: String,
}

#[async_trait]
impl Step for Delete {
    type Output = ();

    async fn take(&self, draft: &mut Draft) -> Result<(), Status> {
        let slot = keys::group(&self.id);
        let record = draft.get(&slot).await?.ok_or_else(not_a_member)?;
        draft.delete(&slot);
        draft.delete(&keys::group_tree(&self.id));
        let window = keys::group_window(&self.id);
        if draft.get(&window).await?.is_some() {
            let open = GroupWindow {
                group_id: record.group_id,
                ..GroupWindow::default()
            };
            draft.put(&window, &open);
        }
        Ok(())
    }
}

/// Removes keys, so many as one step takes.
pub(super) struct Forget(pub(super) Vec<ringgate_store::Write>);

/// Keys that are removed together.
pub(super) const FORGOTTEN_TOGETHER: usize = 64;

#[async_trait]
impl Step for Forget {
    type Output = ();

    async fn take(&self, draft: &mut Draft) -> Result<(), Status> {
        self.0.iter().for_each(|write| draft.write(write.clone()));
        Ok(())
    }

    fn keys_max(&self) -> usize {
        FORGOTTEN_TOGETHER
    }
}

/// The record, if the group is as it was when the change was judged.
async fn check(draft: &mut Draft, id: &str, expected: Expected) -> Result<GroupRecord, Status> {
    let record = draft.get(&keys::group(id)).await?.ok_or_else(not_a_member)?;
    match (record.epoch, record.sequence) == (expected.epoch, expected.sequence) {
        true => Ok(record),
        false => Err(stale(&record)),
    }
}

fn append(draft: &mut Draft, id: &str, handshake: &Handshake) {
    draft.put(&keys::handshakes(id).numbered(handshake.sequence), handshake);
    if let Some(old) = handshake.sequence.checked_sub(HANDSHAKES_KEPT) {
        draft.delete(&keys::handshakes(id).numbered(old));
        draft.delete(&keys::welcome(id, old));
    }
}

fn put_window(draft: &mut Draft, id: &str, window: &GroupWindow) {
    if is_narrow(window) {
        draft.put(&keys::group_window(id), window);
    }
}

/// Bytes that a change may write: what it holds, and room for keys and the audit log.
fn room(tree: Option<&GroupTree>, beside: usize, record: &GroupRecord) -> usize {
    tree.map_or(0, |tree| tree.saved.len() + tree.group_info.len())
        + beside
        + record.encoded_len()
        + 32 * 1024
}
