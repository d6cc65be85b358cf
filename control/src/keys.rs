//! Where everything lives in the store: one layout for all parts of the control process.
//!
//! | prefix | keys | value | written by |
//! |---|---|---|---|
//! | `state/` | what data planes serve by; see below | | |
//! | `config/` | `<version>`: configurations, the present one included | [`ConfigDocument`] | configuration |
//! | `policy/` | `<version>`: policies, the present one included | [`PolicySet`] | policy |
//! | `granted/` | `names`: how many names have ever been given roles | `u64` | policy |
//! | `trust/` | what the authority is made of, beside the public bundle | sealed bytes | identity |
//! | `issued/` | the issuance log: `log/<number>`, `head`; found by `serial/`, `key/`, `identity/` | [`Issued`] | identity |
//! | `revoked/` | `head`; revocations found by `serial/`, `identity/` | [`Revocation`] | identity |
//! | `join/` | `<id>`: join tokens | [`JoinToken`], its `token` replaced by the hash | identity |
//! | `audit/` | the audit log: `log/<number>`, `head` | [`AuditEntry`] | audit |
//! | `nodes/` | `<id>`: data planes that have attached | [`Node`] | nodes |
//! | `mls/` | key packages and groups: `package/`, `claim/` by reference; `tree/`, `log/`, `welcome/` by group; `member/` by identity; `live/`: what others watch, see [`MLS_LIVE`] | [`KeyPackageEntry`], [`GroupRecord`], … | key packages, groups |
//! | `presence/` | `agents/`, `nodes/`: who is there, where several control processes share the store | [`Agent`], [`Node`] | registry |
//!
//! **`state/`** holds all that data planes are given, and nothing else, so that one watch sees it. Its keys are never deleted (a
//! grant that is taken away stays as a [`Grant`] without roles). So what changed since version `v` is what has a revision above
//! `v`: a node that comes back gets exactly that, from any control process, without a log of changes. The version of the state is
//! the revision of the newest key in it.
//!
//! Numbers in keys have twenty digits, so that they sort as bytes.

use std::marker::PhantomData;

use bytes::Bytes;
use prost::Message;
use ringgate_proto::control::v1::{
    Agent, AuditEntry, ConfigDocument, Grant, GroupRecord, GroupTree, GroupWindow, Handshake, Issued,
    JoinToken, KeyPackageClaim, KeyPackageEntry, KeyPackageList, Mail, Node, PolicySet, Revocation,
    TrustBundle,
};
use ringgate_store::{Condition, Entry, Range, Revision, Store, StoreError, Write};

/// All that data planes are given.
pub const STATE: &[u8] = b"state/";

/// The configuration in force; each write of it also writes [`config_version`]. Its revision is what compare-and-set compares.
#[must_use]
pub fn config() -> Slot<ConfigDocument> {
    Slot::new("state/config")
}

/// The policies in force; each write of it also writes [`policy_version`].
#[must_use]
pub fn policy() -> Slot<PolicySet> {
    Slot::new("state/policy")
}

/// The public trust bundle.
#[must_use]
pub fn trust() -> Slot<TrustBundle> {
    Slot::new("state/trust")
}

/// The roles of everyone at or below a name. A grant that is taken away is written without roles, never deleted: nodes that were
/// away learn of it that way.
#[must_use]
pub fn grant(name: &str) -> Slot<Grant> {
    GRANTS.at(name)
}

/// How many names have ever been given roles: [`GRANTS`] has that many keys.
#[must_use]
pub fn granted_names() -> Slot<u64> {
    Slot::new("granted/names")
}

/// All grants by name, those without roles included.
pub const GRANTS: Section<Grant> = Section::new("state/grants/");

/// A revocation by its number, which counts from 1 without a gap. The next one is written on the condition that its key is absent.
#[must_use]
pub fn revocation(number: u64) -> Slot<Revocation> {
    REVOCATIONS.numbered(number)
}

/// The log of revocations.
pub const REVOCATIONS: Section<Revocation> = Section::new("state/revocations/");

/// The newest revocation: the next one's number follows its own.
#[must_use]
pub fn revocation_head() -> Slot<Revocation> {
    Slot::new("revoked/head")
}

/// The revocation of a serial (hex).
#[must_use]
pub fn revoked_serial(serial: &str) -> Slot<Revocation> {
    Section::new("revoked/serial/").at(serial)
}

/// The newest revocation of an identity (its URI), which may be one that allows it again.
#[must_use]
pub fn revoked_identity(identity: &str) -> Slot<Revocation> {
    Section::new("revoked/identity/").at(identity)
}

/// A configuration by its version, which counts from 1.
#[must_use]
pub fn config_version(version: u64) -> Slot<ConfigDocument> {
    CONFIG_HISTORY.numbered(version)
}

/// Configurations, the newest last.
pub const CONFIG_HISTORY: Section<ConfigDocument> = Section::new("config/");

/// Policies by their version, which counts from 1.
#[must_use]
pub fn policy_version(version: u64) -> Slot<PolicySet> {
    POLICY_HISTORY.numbered(version)
}

/// Policies, the newest last.
pub const POLICY_HISTORY: Section<PolicySet> = Section::new("policy/");

/// Something of the authority itself that control processes share, such as its sealed key.
#[must_use]
pub fn authority(name: &str) -> Slot<Bytes> {
    AUTHORITY.at(name)
}

/// What the authority is made of.
pub const AUTHORITY: Section<Bytes> = Section::new("trust/");

/// An entry of the issuance log by its number, which counts from 1.
#[must_use]
pub fn issued(number: u64) -> Slot<Issued> {
    ISSUED.numbered(number)
}

/// The issuance log, oldest first.
pub const ISSUED: Section<Issued> = Section::new("issued/log/");

/// The newest entry of the issuance log. Written with each entry, on the condition that it has not changed: that makes the chain.
#[must_use]
pub fn issued_head() -> Slot<Issued> {
    Slot::new("issued/head")
}

/// The number in the issuance log of a serial (hex).
#[must_use]
pub fn issued_serial(serial: &str) -> Slot<u64> {
    Section::new("issued/serial/").at(serial)
}

/// The number in the issuance log of the newest certificate of a key, by the key's SHA-256 (hex).
#[must_use]
pub fn issued_key(key_sha256: &str) -> Slot<u64> {
    Section::new("issued/key/").at(key_sha256)
}

/// One certificate of an identity: its value is its number in the issuance log, which is the last part of the key too.
#[must_use]
pub fn issued_identity(identity: &str, number: u64) -> Slot<u64> {
    issued_to(identity).numbered(number)
}

/// All certificates of an identity by their number in the issuance log, oldest first.
#[must_use]
pub fn issued_to(identity: &str) -> Section<u64> {
    // The percent sign cannot be part of a URI alone, so that one identity's keys are no prefix of another's.
    Section::owned(format!("issued/identity/{identity}%/"))
}

/// All certificates by identity: the rest of a key is the URI, `%/`, and the number in the issuance log.
pub const ISSUED_IDENTITIES: Section<u64> = Section::new("issued/identity/");

/// A join token by its id. The field `token` holds the SHA-256 (hex) of the secret.
#[must_use]
pub fn join_token(id: &str) -> Slot<JoinToken> {
    JOIN_TOKENS.at(id)
}

/// All join tokens by id.
pub const JOIN_TOKENS: Section<JoinToken> = Section::new("join/");

/// An entry of the audit log by its number, which counts from 1.
#[must_use]
pub fn audit(number: u64) -> Slot<AuditEntry> {
    AUDIT.numbered(number)
}

/// The audit log, oldest first.
pub const AUDIT: Section<AuditEntry> = Section::new("audit/log/");

/// The newest entry of the audit log, as [`issued_head`].
#[must_use]
pub fn audit_head() -> Slot<AuditEntry> {
    Slot::new("audit/head")
}

/// A data plane that has attached, by its id.
#[must_use]
pub fn node(id: &str) -> Slot<Node> {
    NODES.at(id)
}

/// All data planes that have attached, by id.
pub const NODES: Section<Node> = Section::new("nodes/");

/// What control processes that share a store tell each other of who is there.
pub const PRESENCE: &[u8] = b"presence/";

/// Agents that are there, by `<process>/<node>/<attachment>/<name>`; see [`crate::registry`].
pub const PRESENT_AGENTS: Section<Agent> = Section::new("presence/agents/");

/// Data planes that are attached, by `<process>/<node>/<attachment>`; see [`crate::registry`].
pub const PRESENT_NODES: Section<Node> = Section::new("presence/nodes/");

/// What of MLS others watch for: the records of groups, the pools of key packages, mail.
pub const MLS_LIVE: &[u8] = b"mls/live/";

/// A key package by its reference (hex).
#[must_use]
pub fn key_package(reference: &str) -> Slot<KeyPackageEntry> {
    KEY_PACKAGES.at(reference)
}

/// All key packages by reference (hex).
pub const KEY_PACKAGES: Section<KeyPackageEntry> = Section::new("mls/package/");

/// Who a key package was handed out to, by its reference (hex).
#[must_use]
pub fn key_package_claim(reference: &str) -> Slot<KeyPackageClaim> {
    KEY_PACKAGE_CLAIMS.at(reference)
}

/// All key packages that were handed out.
pub const KEY_PACKAGE_CLAIMS: Section<KeyPackageClaim> = Section::new("mls/claim/");

/// Which key packages an identity has left, of one cipher suite.
#[must_use]
pub fn key_package_list(identity: &str, suite: u16) -> Slot<KeyPackageList> {
    // The percent sign as in [`issued_to`].
    Section::owned(format!("mls/live/pool/{identity}%/")).at(&format!("{suite:04x}"))
}

/// A group by its id (hex).
#[must_use]
pub fn group(id: &str) -> Slot<GroupRecord> {
    GROUPS.at(id)
}

/// All groups by id.
pub const GROUPS: Section<GroupRecord> = Section::new("mls/live/group/");

/// The public side of a group by its id (hex).
#[must_use]
pub fn group_tree(id: &str) -> Slot<GroupTree> {
    Section::new("mls/tree/").at(id)
}

/// The handshakes of a group (hex) by number, oldest first.
#[must_use]
pub fn handshakes(id: &str) -> Section<Handshake> {
    Section::owned(format!("mls/log/{id}/"))
}

/// The Welcome that came with a handshake, for all whom it is for.
#[must_use]
pub fn welcome(id: &str, number: u64) -> Slot<Bytes> {
    Section::owned(format!("mls/welcome/{id}/")).numbered(number)
}

/// The mail of an identity.
#[must_use]
pub fn mail(identity: &str) -> Section<Mail> {
    Section::owned(format!("mls/live/mail/{identity}%/"))
}

/// All mail: the rest of a key is the identity, `%/`, and the id.
pub const MAIL: Section<Mail> = Section::new("mls/live/mail/");

/// The groups of an identity, by id (hex).
#[must_use]
pub fn member_groups(identity: &str) -> Section<u64> {
    Section::owned(format!("mls/member/{identity}%/"))
}

/// Which messages of a group data planes pass on; those of a group that is gone are written without limits, never deleted.
#[must_use]
pub fn group_window(id: &str) -> Slot<GroupWindow> {
    GROUP_WINDOWS.at(id)
}

/// All windows of groups.
pub const GROUP_WINDOWS: Section<GroupWindow> = Section::new("state/groups/");

/// A key whose value is a message of this type.
#[derive(Debug)]
pub struct Slot<T> {
    key: Bytes,
    value: PhantomData<fn() -> T>,
}

/// A message as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored<T> {
    /// What is stored.
    pub value: T,
    /// Of the commit that wrote it; for [`Slot::at`].
    pub revision: Revision,
}

impl<T: Message + Default> Slot<T> {
    fn new(key: impl Into<Bytes>) -> Slot<T> {
        Slot {
            key: key.into(),
            value: PhantomData,
        }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// What is stored there.
    ///
    /// # Errors
    /// Those of [`Store::get`]; [`StoreError::Corrupt`] when it is no such message.
    pub async fn get(&self, store: &dyn Store) -> Result<Option<Stored<T>>, StoreError> {
        store
            .get(&self.key)
            .await?
            .map(|entry| decode(&entry))
            .transpose()
    }

    /// Writes it.
    #[must_use]
    pub fn put(&self, value: &T) -> Write {
        Write::Put(self.key.clone(), value.encode_to_vec().into())
    }

    /// Removes it.
    #[must_use]
    pub fn delete(&self) -> Write {
        Write::Delete(self.key.clone())
    }

    /// That it is not there.
    #[must_use]
    pub fn absent(&self) -> Condition {
        Condition::absent(self.key.clone())
    }

    /// That it was written last by this commit.
    #[must_use]
    pub fn at(&self, revision: Revision) -> Condition {
        Condition::at(self.key.clone(), revision)
    }

    /// That it is as it was read: not there, or not written since.
    #[must_use]
    pub fn unchanged(&self, read: Option<&Stored<T>>) -> Condition {
        read.map_or_else(|| self.absent(), |read| self.at(read.revision))
    }
}

/// All keys under a prefix, whose values are messages of this type.
#[derive(Debug)]
pub struct Section<T> {
    prefix: std::borrow::Cow<'static, str>,
    value: PhantomData<fn() -> T>,
}

impl<T> Section<T> {
    const fn new(prefix: &'static str) -> Section<T> {
        Section {
            prefix: std::borrow::Cow::Borrowed(prefix),
            value: PhantomData,
        }
    }

    fn owned(prefix: String) -> Section<T> {
        Section {
            prefix: prefix.into(),
            value: PhantomData,
        }
    }
}

impl<T: Message + Default> Section<T> {
    /// The prefix, for [`Store::watch`] and [`Range::prefix`].
    #[must_use]
    pub fn prefix(&self) -> Bytes {
        Bytes::copy_from_slice(self.prefix.as_bytes())
    }

    /// What comes after the prefix in a key; `None` if the key is not of this section.
    #[must_use]
    pub fn rest<'k>(&self, key: &'k [u8]) -> Option<&'k str> {
        key.strip_prefix(self.prefix.as_bytes())
            .and_then(|rest| std::str::from_utf8(rest).ok())
    }

    /// The key with this name.
    #[must_use]
    pub fn at(&self, name: &str) -> Slot<T> {
        Slot::new(format!("{}{name}", self.prefix))
    }

    /// The key with this number.
    #[must_use]
    pub fn numbered(&self, number: u64) -> Slot<T> {
        Slot::new(format!("{}{number:020}", self.prefix))
    }

    /// Messages in the order of their keys, beyond the name of the last one seen (empty: from the first): with the rest of their
    /// keys, and whether there are more.
    ///
    /// # Errors
    /// Those of [`Store::range`]; [`StoreError::Corrupt`] when a value is no such message.
    pub async fn page(&self, store: &dyn Store, beyond: &str, limit: usize) -> Result<Listed<T>, StoreError> {
        let mut range = Range::prefix(self.prefix()).limit(limit);
        if !beyond.is_empty() {
            range = range.beyond(self.at(beyond).key);
        }
        self.read(store, range).await
    }

    /// Messages after a number (0: from the first), in order.
    ///
    /// # Errors
    /// As [`Section::page`].
    pub async fn after(&self, store: &dyn Store, number: u64, limit: usize) -> Result<Listed<T>, StoreError> {
        let range = Range::prefix(self.prefix()).limit(limit);
        self.read(store, range.beyond(self.numbered(number).key)).await
    }

    /// Messages before a number (0: from the last), the newest first.
    ///
    /// # Errors
    /// As [`Section::page`].
    pub async fn before(
        &self,
        store: &dyn Store,
        number: u64,
        limit: usize,
    ) -> Result<Listed<T>, StoreError> {
        let mut range = Range::prefix(self.prefix()).limit(limit).descending();
        if number > 0 {
            range = range.beyond(self.numbered(number).key);
        }
        self.read(store, range).await
    }

    async fn read(&self, store: &dyn Store, range: Range) -> Result<Listed<T>, StoreError> {
        let page = store.range(range).await?;
        let named = |entry: &Entry| {
            let name = self.rest(&entry.key).ok_or_else(|| unreadable(&entry.key))?;
            Ok((name.to_owned(), decode(entry)?))
        };
        Ok(Listed {
            items: page
                .entries
                .iter()
                .map(named)
                .collect::<Result<_, StoreError>>()?,
            more: page.more,
            revision: page.revision,
        })
    }
}

/// A page of messages.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed<T> {
    /// With the rest of their keys.
    pub items: Vec<(String, Stored<T>)>,
    /// Whether there are more beyond the last.
    pub more: bool,
    /// Of the store when this was read.
    pub revision: Revision,
}

/// The message of an entry.
///
/// # Errors
/// [`StoreError::Corrupt`] when it is no such message.
pub fn decode<T: Message + Default>(entry: &Entry) -> Result<Stored<T>, StoreError> {
    match T::decode(entry.value.clone()) {
        Ok(value) => Ok(Stored {
            value,
            revision: entry.revision,
        }),
        Err(_) => Err(unreadable(&entry.key)),
    }
}

fn unreadable(key: &[u8]) -> StoreError {
    StoreError::Corrupt(format!("`{}` cannot be read", key.escape_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_sort_as_bytes() {
        let mut keys: Vec<_> = [10, 9, u64::MAX, 1]
            .map(|number| issued(number).key().clone())
            .into();
        keys.sort();
        assert_eq!(
            keys,
            [1, 9, 10, u64::MAX].map(|number| issued(number).key().clone())
        );
    }

    #[test]
    fn certificates_of_one_identity_are_not_those_of_a_longer_one() {
        let longer = issued_identity("agp://t/a/b/c/d/e", 1);
        assert_eq!(issued_to("agp://t/a/b/c/d").rest(longer.key()), None);
        assert_eq!(
            issued_to("agp://t/a/b/c/d/e").rest(longer.key()),
            Some("00000000000000000001")
        );
    }

    #[test]
    fn all_that_nodes_are_given_is_under_one_prefix() {
        for key in [
            config().key(),
            policy().key(),
            trust().key(),
            grant("acme").key(),
            revocation(1).key(),
            group_window("00").key(),
        ] {
            assert!(key.starts_with(STATE), "{key:?}");
        }
    }
}
