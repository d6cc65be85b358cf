//! Who is in a group, and what a commit may do to that. Members and the delivery service judge by this alike.

use std::collections::{BTreeMap, BTreeSet};

use openmls::prelude::{
    Extensions, GroupContext, LeafNode, LeafNodeIndex, Member as Leaf, Proposal, QueuedProposal, Sender,
    StagedCommit,
};
use openmls_rust_crypto::RustCrypto;
use ringgate_identity::{UnixTime, Verified, Verifier};
use serde::{Deserialize, Serialize};

use crate::package::{Package, leaf_of};
use crate::{MlsError, credential};

/// Members of a group. Its tree, a Welcome and a GroupInfo with it must fit into one transaction of the store.
pub const MEMBERS_MAX: usize = 500;

/// A member, as it was verified when its leaf came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its place in the tree.
    pub leaf: u32,
    /// Who it is: the URI of its certificate.
    pub identity: String,
    /// The same as a name on the network, `org/ns/service/instance`.
    pub name: String,
    /// The number of its certificate, hex.
    pub serial: String,
    /// When the certificate was issued, in seconds since 1970.
    pub issued: u64,
    /// The last second of the certificate.
    pub not_after: u64,
    /// Its signature key.
    pub key: Vec<u8>,
    /// When the leaf was last renewed, in seconds since 1970. 0: before this was kept.
    #[serde(default)]
    renewed: u64,
}

impl Member {
    /// When its leaf was last renewed, in seconds since 1970.
    #[must_use]
    pub fn renewed(&self) -> u64 {
        self.renewed.max(self.issued)
    }
}

/// Members by their leaf.
pub type Roster = BTreeMap<u32, Member>;

/// What a commit does, if it is let.
#[derive(Debug)]
pub struct Verdict {
    /// Who made it: a URI.
    pub sender: String,
    /// Whom it adds, with the reference of the key package.
    pub added: Vec<(Verified, Vec<u8>)>,
    /// Who is in the group no more: URIs.
    pub removed: Vec<String>,
    /// The committer's leaf and its signature key after the commit.
    pub(crate) committer: (u32, Vec<u8>),
    /// Those who stay, with their leaves after the commit.
    stay: Vec<Member>,
    at: UnixTime,
}

/// Verifies all members of a group.
///
/// # Errors
/// [`MlsError`] for the first who is not good, or is there twice.
pub fn of_members(
    leaves: impl Iterator<Item = Leaf>,
    verifier: &Verifier,
    at: UnixTime,
) -> Result<Roster, MlsError> {
    of_members_since(&Roster::new(), leaves, verifier, at)
}

/// Verifies the members of a group who were not in it, with the same key, before. The others were verified when they came in: that
/// a certificate has run out since makes nobody else's commit a bad one, and the delivery service proposes to remove its holder.
///
/// # Errors
/// As of [`of_members`].
pub fn of_members_since(
    before: &Roster,
    leaves: impl Iterator<Item = Leaf>,
    verifier: &Verifier,
    at: UnixTime,
) -> Result<Roster, MlsError> {
    let (mut roster, mut seen) = (Roster::new(), BTreeSet::new());
    for found in leaves {
        let leaf = found.index.u32();
        let known = before.values().find(|known| known.key == found.signature_key);
        let come = match known {
            Some(known) => Member {
                leaf,
                ..known.clone()
            },
            None => {
                let verified = credential::verify(verifier, &found.credential, &found.signature_key, at)?;
                member(leaf, &verified, at)
            }
        };
        if !seen.insert(come.identity.clone()) {
            return Err(MlsError::DuplicateIdentity(come.identity));
        }
        roster.insert(leaf, come);
        if roster.len() > MEMBERS_MAX {
            return Err(MlsError::TooManyMembers(MEMBERS_MAX));
        }
    }
    Ok(roster)
}

/// Judges a commit whose form and signatures are good. `joiner`: the leaf of who joins by it, for an external commit. `context`: the
/// extensions of the group before it.
///
/// # Errors
/// [`MlsError`].
pub fn judge(
    commit: &StagedCommit,
    sender: &Sender,
    joiner: Option<LeafNodeIndex>,
    roster: &Roster,
    context: &Extensions<GroupContext>,
    verifier: &Verifier,
    at: UnixTime,
) -> Result<Verdict, MlsError> {
    let invalid = |what: &str| MlsError::Invalid(what.to_owned());
    let crypto = RustCrypto::default();
    let mut after = roster.clone();
    let (mut added, mut removed) = (Vec::new(), Vec::new());
    for queued in commit.queued_proposals() {
        match (queued.proposal(), queued.sender()) {
            (Proposal::Add(add), _) => {
                let package = Package::of(add.key_package().clone(), &crypto, verifier, at)?;
                added.push((package.owner, package.reference));
            }
            (Proposal::Remove(remove), _) => removed.extend(after.remove(&remove.removed().u32())),
            (Proposal::SelfRemove, Sender::Member(leaf)) => removed.extend(after.remove(&leaf.u32())),
            (Proposal::Update(update), Sender::Member(leaf)) => {
                renew(&mut after, *leaf, update.leaf_node(), verifier, at)?;
            }
            (Proposal::GroupContextExtensions(proposal), _) => keeps(context, proposal.extensions())?,
            (Proposal::ReInit(_), _) => return Err(MlsError::ReInit),
            (Proposal::PreSharedKey(_) | Proposal::ExternalInit(_), _) => {}
            (other, _) => {
                return Err(MlsError::UnsupportedProposal(format!(
                    "{:?}",
                    other.proposal_type()
                )));
            }
        }
    }
    let path = commit.update_path_leaf_node();
    let (identity, committer) = match sender {
        Sender::Member(leaf) => {
            let before = roster
                .get(&leaf.u32())
                .ok_or_else(|| invalid("its sender is no member"))?;
            let mut key = before.key.clone();
            if let Some(path) = path {
                renew(&mut after, *leaf, path, verifier, at)?;
                key = path.signature_key().as_slice().to_vec();
            }
            (before.identity.clone(), (leaf.u32(), key))
        }
        Sender::NewMemberCommit => {
            let path = path.ok_or_else(|| invalid("it has no path"))?;
            let leaf = joiner
                .ok_or_else(|| invalid("there is no place for its sender"))?
                .u32();
            let verified = leaf_of(path, verifier, at)?;
            if after.values().any(|member| member.identity == verified.uri) {
                return Err(MlsError::DuplicateIdentity(verified.uri));
            }
            // Resync only: the old leaf of the same identity, and nothing else.
            let is_own = matches!(&removed[..], [old] if old.identity == verified.uri);
            if !is_own || !added.is_empty() {
                return Err(MlsError::ExternalJoin);
            }
            after.insert(leaf, member(leaf, &verified, at));
            (verified.uri, (leaf, verified.key.to_vec()))
        }
        _ => return Err(invalid("only members commit")),
    };
    let mut there: BTreeSet<&str> = after.values().map(|member| member.identity.as_str()).collect();
    for (verified, _) in &added {
        if !there.insert(&verified.uri) {
            return Err(MlsError::DuplicateIdentity(verified.uri.clone()));
        }
    }
    if there.len() > MEMBERS_MAX {
        return Err(MlsError::TooManyMembers(MEMBERS_MAX));
    }
    // Whoever is given a new leaf in the same commit stays.
    let gone = removed.into_iter().map(|member| member.identity);
    let removed = gone
        .filter(|identity| !there.contains(identity.as_str()))
        .collect();
    Ok(Verdict {
        sender: identity,
        added,
        removed,
        committer,
        stay: after.into_values().collect(),
        at,
    })
}

/// Judges a proposal by itself, of this sender.
///
/// # Errors
/// [`MlsError`].
pub fn judge_proposal(
    queued: &QueuedProposal,
    sender: &str,
    verifier: &Verifier,
    at: UnixTime,
) -> Result<(), MlsError> {
    match queued.proposal() {
        Proposal::Remove(_) | Proposal::SelfRemove => Ok(()),
        Proposal::Update(update) => {
            let verified = leaf_of(update.leaf_node(), verifier, at)?;
            same(sender, &verified)
        }
        Proposal::ReInit(_) => Err(MlsError::ReInit),
        other => Err(MlsError::UnsupportedProposal(format!(
            "{:?}",
            other.proposal_type()
        ))),
    }
}

impl Verdict {
    /// The roster once the commit is in force, by the group's leaves then.
    ///
    /// # Errors
    /// [`MlsError::Damaged`] for a leaf of nobody who was verified.
    pub fn settle(self, leaves: impl Iterator<Item = Leaf>) -> Result<Roster, MlsError> {
        let stay = self.stay.into_iter().map(|member| (member.key.clone(), member));
        let come = self
            .added
            .iter()
            .map(|(verified, _)| (verified.key.to_vec(), member(0, verified, self.at)));
        let mut by_key: BTreeMap<Vec<u8>, Member> = stay.chain(come).collect();
        let mut roster = Roster::new();
        for found in leaves {
            let leaf = found.index.u32();
            let known = by_key.remove(&found.signature_key);
            let known =
                known.ok_or_else(|| MlsError::Damaged("a leaf is of nobody who was verified".to_owned()))?;
            roster.insert(leaf, Member { leaf, ..known });
        }
        Ok(roster)
    }
}

/// A roster as bytes to be stored beside what `openmls` keeps.
///
/// # Errors
/// [`MlsError::Damaged`], which would be an error of the build.
pub fn save(roster: &Roster) -> Result<Vec<u8>, MlsError> {
    let members: Vec<&Member> = roster.values().collect();
    serde_json::to_vec(&members).map_err(|error| MlsError::Damaged(error.to_string()))
}

/// A roster from such bytes.
///
/// # Errors
/// [`MlsError::Damaged`].
pub fn load(bytes: &[u8]) -> Result<Roster, MlsError> {
    let members: Vec<Member> =
        serde_json::from_slice(bytes).map_err(|error| MlsError::Damaged(error.to_string()))?;
    Ok(members.into_iter().map(|member| (member.leaf, member)).collect())
}

/// That a change of the context takes nothing away.
fn keeps(before: &Extensions<GroupContext>, after: &Extensions<GroupContext>) -> Result<(), MlsError> {
    if before.external_senders() != after.external_senders() {
        return Err(MlsError::Context("external_senders"));
    }
    if before.required_capabilities() != after.required_capabilities() {
        return Err(MlsError::Context("required_capabilities"));
    }
    Ok(())
}

/// A member's leaf is another. A member that is removed in the same commit needs none.
fn renew(
    roster: &mut Roster,
    leaf: LeafNodeIndex,
    node: &LeafNode,
    verifier: &Verifier,
    at: UnixTime,
) -> Result<(), MlsError> {
    let verified = leaf_of(node, verifier, at)?;
    if let Some(before) = roster.get_mut(&leaf.u32()) {
        same(&before.identity, &verified)?;
        *before = member(leaf.u32(), &verified, at);
    }
    Ok(())
}

fn same(before: &str, verified: &Verified) -> Result<(), MlsError> {
    if before == verified.uri {
        return Ok(());
    }
    Err(MlsError::IdentityChanged {
        before: before.to_owned(),
        after: verified.uri.clone(),
    })
}

fn member(leaf: u32, verified: &Verified, at: UnixTime) -> Member {
    Member {
        leaf,
        identity: verified.uri.clone(),
        name: verified
            .subject
            .agent_name()
            .map(|name| name.to_string())
            .unwrap_or_default(),
        serial: verified.serial.to_string(),
        issued: verified.issued_at().as_secs(),
        not_after: verified.not_after.as_secs(),
        key: verified.key.to_vec(),
        renewed: at.as_secs(),
    }
}
