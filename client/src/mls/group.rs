//! One group.

use bytes::Bytes;

use super::content::Content;
use super::engine::{Live, Op};
use super::{GroupError, Groups, Route};
use crate::Headers;

/// A group that this agent is in. Clones are handles to the same.
#[derive(Debug, Clone)]
pub struct Group {
    groups: Groups,
    id: Bytes,
}

/// What a group is at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupInfo {
    /// Counts the commits.
    pub epoch: u64,
    /// Who is in it, by their place in the tree.
    pub members: Vec<Peer>,
    /// Whether this agent is still one of them.
    pub is_member: bool,
}

/// A verified member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Its name on the network.
    pub name: String,
    /// Its identity, `agp://<trust-domain>/…`.
    pub identity: String,
}

impl Group {
    pub(super) fn new(groups: Groups, id: Bytes) -> Group {
        Group { groups, id }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &Bytes {
        &self.id
    }

    /// The groups that it is one of.
    #[must_use]
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// What it is now.
    ///
    /// # Errors
    /// [`GroupError::NotAMember`] if it is forgotten.
    pub fn info(&self) -> Result<GroupInfo, GroupError> {
        let engine = self.groups.inner.engine();
        let live = engine.groups.get(&self.id).ok_or(GroupError::NotAMember)?;
        Ok(info(live))
    }

    /// Comes back when the group is as a condition says: when somebody has joined, say.
    ///
    /// # Errors
    /// [`GroupError::NotAMember`] if it is forgotten.
    pub async fn wait_for(
        &self,
        mut condition: impl FnMut(&GroupInfo) -> bool,
    ) -> Result<GroupInfo, GroupError> {
        let mut changes = self.groups.inner.changes.subscribe();
        loop {
            changes.mark_unchanged();
            let info = self.info()?;
            if condition(&info) {
                return Ok(info);
            }
            changes.changed().await.map_err(|_| GroupError::NotAMember)?;
        }
    }

    /// Takes agents in, by their names; they need not be there. They read what is sent from now on.
    ///
    /// # Errors
    /// [`GroupError`]: one of them has no key package left (`NO_KEY_PACKAGE`) or is a member (`DUPLICATE_IDENTITY`); then nobody is taken in.
    pub async fn invite(&self, names: &[&str]) -> Result<(), GroupError> {
        let packages = self.groups.inner.claim(names).await?;
        self.groups.inner.commit(&self.id, &Op::Add(packages)).await
    }

    /// Takes a member out, by its name. It cannot read what is sent from now on.
    ///
    /// # Errors
    /// [`GroupError`].
    pub async fn remove(&self, name: &str) -> Result<(), GroupError> {
        self.groups
            .inner
            .commit(&self.id, &Op::Remove(name.to_owned()))
            .await
    }

    /// Leaves: proposes it, and the others commit to that. Returns when it is proposed.
    ///
    /// # Errors
    /// [`GroupError`].
    pub async fn leave(&self) -> Result<(), GroupError> {
        let inner = &self.groups.inner;
        let proposal = inner.engine().leave(&self.id)?;
        inner.calls.propose(&self.id, proposal).await
    }

    /// New keys for this agent's leaf: whoever had learnt the old ones learns nothing of what comes.
    ///
    /// # Errors
    /// [`GroupError`].
    pub async fn rotate(&self) -> Result<(), GroupError> {
        self.groups.inner.commit(&self.id, &Op::Update).await
    }

    /// Joins again, since this agent's state is damaged: the other members stay as they are.
    ///
    /// # Errors
    /// [`GroupError`].
    pub async fn resync(&self) -> Result<(), GroupError> {
        let inner = &self.groups.inner;
        inner.resync(&self.id).await?;
        let sequence = inner
            .engine()
            .groups
            .get(&self.id)
            .map_or(0, |live| live.sequence);
        inner.ask(&self.id, sequence);
        Ok(())
    }

    /// Asks the members for a new leaf, since the key of the old one is lost. An invitation comes when one of them has done it.
    ///
    /// # Errors
    /// [`GroupError`].
    pub async fn request_re_add(&self) -> Result<(), GroupError> {
        let inner = &self.groups.inner;
        let package = inner.engine().key_packages(1, false)?.pop().unwrap_or_default();
        inner.calls.re_add(&self.id, package).await
    }

    /// Ends the group for all; for who made it.
    ///
    /// # Errors
    /// [`GroupError`].
    pub async fn delete(&self) -> Result<(), GroupError> {
        let inner = &self.groups.inner;
        inner.calls.delete(&self.id).await?;
        inner.engine().forget(&self.id);
        Ok(())
    }

    /// Encrypts for the group what is to go by a way. [`Groups::open_message`] is the other end.
    ///
    /// # Errors
    /// [`GroupError`].
    pub async fn seal_message(
        &self,
        route: Route<'_>,
        payload: impl Into<Bytes>,
        headers: Headers,
    ) -> Result<Bytes, GroupError> {
        let content = Content::encode(payload.into(), headers);
        self.groups.inner.seal(&self.id, route, &content).await
    }
}

fn info(live: &Live) -> GroupInfo {
    let members = live.roster().values().map(|member| Peer {
        name: member.name.clone(),
        identity: member.identity.clone(),
    });
    GroupInfo {
        epoch: live.epoch(),
        members: members.collect(),
        is_member: !live.removed,
    }
}
