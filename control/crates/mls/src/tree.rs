//! The public side of a group: who is in it, in which epoch, and which commit may come next.
//!
//! This is what a delivery service can know of a group whose handshakes it reads. It holds no secret of the group, so it cannot
//! check two things that members check: the membership tag of a message, and that the confirmation tag is right. A GroupInfo that
//! is signed over the tag comes with each commit; who signs a wrong one is told on by the members.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::PoisonError;

use openmls::prelude::group_info::VerifiableGroupInfo;
use openmls::prelude::tls_codec::Serialize as _;
use openmls::prelude::{
    ConfirmationTag, ContentType, ExternalProposal, GroupId, LeafNodeIndex, MlsMessageOut,
    OpenMlsSignaturePublicKey, ProcessedMessageContent, Proposal, ProposalStore, ProtocolMessage,
    PublicGroup, PublicMessageIn, Sender, SenderExtensionIndex, SignaturePublicKey, StagedCommit,
    Verifiable as _,
};
use openmls_memory_storage::MemoryStorage;
use openmls_rust_crypto::{OpenMlsRustCrypto, RustCrypto};
use openmls_traits::types::SignatureScheme;
use ringgate_identity::{UnixTime, Verifier};

use crate::message::HANDSHAKE_BYTES_MAX;
use crate::roster::{self, Member, Roster, Verdict};
use crate::{KeySigner, MlsError, message, profile, snapshot, suite};

/// Where the roster is kept among what `openmls` keeps.
const ROSTER: &[u8] = b"ringgate/roster";

/// The public side of a group.
pub struct Tree {
    group: PublicGroup,
    provider: Keeping,
    roster: Roster,
}

/// A commit that was found good and is not in force yet.
#[derive(Debug)]
pub struct Staged {
    commit: Box<StagedCommit>,
    /// What it does.
    pub verdict: Verdict,
    /// The epoch that it leads to.
    pub epoch: u64,
    confirmation: ConfirmationTag,
}

struct Keeping {
    crypto: RustCrypto,
    storage: MemoryStorage,
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree")
            .field("epoch", &self.epoch())
            .field("members", &self.roster.len())
            .finish_non_exhaustive()
    }
}

impl Tree {
    /// Begins to follow a group that its first member has just made, by its GroupInfo with the tree in it.
    ///
    /// # Errors
    /// [`MlsError`].
    pub fn create(group_info: &[u8], verifier: &Verifier, at: UnixTime) -> Result<Tree, MlsError> {
        let info = message::group_info(group_info)?;
        suite::allowed(suite::number(info.ciphersuite()))?;
        if info.epoch().as_u64() != 0 {
            return Err(MlsError::GroupInfo("a group begins with epoch 0"));
        }
        Tree::follow(info, verifier, at)
    }

    /// Begins to follow a group in whatever epoch it is.
    fn follow(info: VerifiableGroupInfo, verifier: &Verifier, at: UnixTime) -> Result<Tree, MlsError> {
        let tree = info
            .extensions()
            .ratchet_tree()
            .map(|tree| tree.ratchet_tree().clone());
        let tree = tree.ok_or(MlsError::GroupInfo(
            "it must hold the ratchet tree (RFC 9420 section 12.4.3.3)",
        ))?;
        let provider = Keeping {
            crypto: RustCrypto::default(),
            storage: MemoryStorage::default(),
        };
        let (group, _) = PublicGroup::from_external(
            &provider.crypto,
            &provider.storage,
            tree,
            info,
            ProposalStore::new(),
        )
        .map_err(|error| MlsError::Invalid(error.to_string()))?;
        let roster = roster::of_members(group.members(), verifier, at)?;
        Ok(Tree {
            group,
            provider,
            roster,
        })
    }

    /// The group as it was saved.
    ///
    /// # Errors
    /// [`MlsError::Damaged`].
    pub fn restore(id: &[u8], saved: &[u8]) -> Result<Tree, MlsError> {
        let storage = snapshot::load(saved)?;
        let damaged = |what: &str| MlsError::Damaged(what.to_owned());
        let roster = storage
            .values
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(ROSTER);
        let roster = roster::load(&roster.unwrap_or_default())?;
        let group = PublicGroup::load(&storage, &GroupId::from_slice(id))
            .map_err(|error| damaged(&error.to_string()))?
            .ok_or_else(|| damaged("there is no group in it"))?;
        Ok(Tree {
            group,
            provider: Keeping {
                crypto: RustCrypto::default(),
                storage,
            },
            roster,
        })
    }

    /// The group to be stored.
    ///
    /// # Errors
    /// [`MlsError::Damaged`].
    pub fn save(&self) -> Result<Vec<u8>, MlsError> {
        let roster = roster::save(&self.roster)?;
        let values = || {
            self.provider
                .storage
                .values
                .write()
                .unwrap_or_else(PoisonError::into_inner)
        };
        values().insert(ROSTER.to_vec(), roster);
        let saved = snapshot::save(&self.provider.storage);
        values().remove(ROSTER);
        saved
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &[u8] {
        self.group.group_id().as_slice()
    }

    /// Its epoch.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.group.group_context().epoch().as_u64()
    }

    /// Its cipher suite.
    #[must_use]
    pub fn suite(&self) -> u16 {
        suite::number(self.group.ciphersuite())
    }

    /// Who is in it.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.roster.values()
    }

    /// The leaf of an identity.
    #[must_use]
    pub fn member(&self, identity: &str) -> Option<&Member> {
        self.roster.values().find(|member| member.identity == identity)
    }

    /// Whether a proposal to remove a leaf waits for the next commit.
    ///
    /// # Errors
    /// [`MlsError::Damaged`].
    pub fn is_leaving(&self, leaf: u32) -> Result<bool, MlsError> {
        let waiting = self
            .group
            .queued_proposals(&self.provider.storage)
            .map_err(|error| MlsError::Damaged(error.to_string()))?;
        Ok(waiting.iter().any(|(_, queued)| {
            matches!(queued.proposal(), Proposal::Remove(remove) if remove.removed().u32() == leaf)
        }))
    }

    /// Whether the delivery service, by its key, is the group's one external sender.
    #[must_use]
    pub fn has_external_sender(&self, key: &[u8], identity: &[u8]) -> bool {
        let senders = self.group.group_context().extensions().external_senders();
        senders.is_some_and(|senders| senders[..] == [profile::external_sender(key, identity)])
    }

    /// The tree as joiners get it, TLS encoding.
    ///
    /// # Errors
    /// [`MlsError::Damaged`].
    pub fn ratchet_tree(&self) -> Result<Vec<u8>, MlsError> {
        self.group
            .export_ratchet_tree()
            .tls_serialize_detached()
            .map_err(|error| MlsError::Damaged(error.to_string()))
    }

    /// Judges a commit, with its Welcome and GroupInfo. Nothing changes.
    ///
    /// # Errors
    /// [`MlsError`].
    pub fn stage(
        &self,
        commit: &[u8],
        welcome: Option<&[u8]>,
        group_info: &[u8],
        verifier: &Verifier,
        at: UnixTime,
    ) -> Result<Staged, MlsError> {
        let commit = self.public(commit, ContentType::Commit)?;
        let confirmation = commit.confirmation_tag().cloned();
        let confirmation =
            confirmation.ok_or_else(|| MlsError::Invalid("it has no confirmation tag".to_owned()))?;
        let processed = self
            .group
            .process_message(&self.provider.crypto, commit)
            .map_err(|error| MlsError::Invalid(error.to_string()))?;
        let sender = processed.sender().clone();
        let ProcessedMessageContent::StagedCommitMessage(staged) = processed.into_content() else {
            return Err(MlsError::Invalid("it is no commit".to_owned()));
        };
        let joiner = match sender {
            Sender::NewMemberCommit => self.group.ext_commit_sender_index(&staged).ok(),
            _ => None,
        };
        let context = self.group.group_context().extensions();
        let verdict = roster::judge(&staged, &sender, joiner, &self.roster, context, verifier, at)?;
        let staged = Staged {
            epoch: staged.epoch().as_u64(),
            commit: staged,
            verdict,
            confirmation,
        };
        check_welcome(&staged, welcome)?;
        self.check_group_info(&staged, group_info)?;
        Ok(staged)
    }

    /// Puts a commit in force.
    ///
    /// # Errors
    /// [`MlsError::Damaged`]: then the tree is of no more use.
    pub fn merge(&mut self, staged: Staged) -> Result<(), MlsError> {
        let damaged = |error: &dyn fmt::Display| MlsError::Damaged(error.to_string());
        self.group
            .merge_commit(&self.provider.storage, *staged.commit)
            .map_err(|error| damaged(&error))?;
        self.roster = staged.verdict.settle(self.group.members())?;
        Ok(())
    }

    /// Judges a proposal of a member and keeps it for the next commit. Gives its sender.
    ///
    /// # Errors
    /// [`MlsError`].
    pub fn propose(
        &mut self,
        proposal: &[u8],
        verifier: &Verifier,
        at: UnixTime,
    ) -> Result<String, MlsError> {
        let message = self.public(proposal, ContentType::Proposal)?;
        let processed = self
            .group
            .process_message(&self.provider.crypto, message)
            .map_err(|error| MlsError::Invalid(error.to_string()))?;
        let Sender::Member(leaf) = processed.sender().clone() else {
            return Err(MlsError::UnsupportedProposal(
                "of somebody who is no member".to_owned(),
            ));
        };
        let sender = self
            .roster
            .get(&leaf.u32())
            .map(|member| member.identity.clone())
            .unwrap_or_default();
        let ProcessedMessageContent::ProposalMessage(queued) = processed.into_content() else {
            return Err(MlsError::Invalid("it is no proposal".to_owned()));
        };
        roster::judge_proposal(&queued, &sender, verifier, at)?;
        self.keep(*queued)?;
        Ok(sender)
    }

    /// Proposes to remove somebody, signed with the delivery service's key, and keeps it for the next commit.
    ///
    /// # Errors
    /// [`MlsError`].
    pub fn evict(&mut self, leaf: u32, signer: &KeySigner) -> Result<Vec<u8>, MlsError> {
        let invalid = |error: &dyn fmt::Display| MlsError::Invalid(error.to_string());
        let message: MlsMessageOut = ExternalProposal::new_remove::<OpenMlsRustCrypto>(
            LeafNodeIndex::new(leaf),
            self.group.group_id().clone(),
            self.group.group_context().epoch(),
            signer,
            SenderExtensionIndex::new(0),
        )
        .map_err(|error| invalid(&error))?;
        let bytes = message.to_bytes().map_err(|error| invalid(&error))?;
        let message = self.public(&bytes, ContentType::Proposal)?;
        let processed = self
            .group
            .process_message(&self.provider.crypto, message)
            .map_err(|error| invalid(&error))?;
        let ProcessedMessageContent::ProposalMessage(queued) = processed.into_content() else {
            return Err(MlsError::Invalid("it is no proposal".to_owned()));
        };
        self.keep(*queued)?;
        Ok(bytes)
    }

    fn keep(&mut self, proposal: openmls::prelude::QueuedProposal) -> Result<(), MlsError> {
        self.group
            .add_proposal(&self.provider.storage, proposal)
            .map_err(|error| MlsError::Damaged(error.to_string()))
    }

    /// A PublicMessage of this group and epoch.
    fn public(&self, bytes: &[u8], content: ContentType) -> Result<PublicMessageIn, MlsError> {
        let ProtocolMessage::PublicMessage(message) = message::protocol(bytes, HANDSHAKE_BYTES_MAX)? else {
            return Err(MlsError::Malformed {
                expected: "a PublicMessage, which this group's mode asks for",
            });
        };
        if message.group_id() != self.group.group_id() || message.content_type() != content {
            return Err(MlsError::Malformed {
                expected: "such a message of this group",
            });
        }
        let (found, current) = (message.epoch().as_u64(), self.epoch());
        if found != current {
            return Err(MlsError::StaleEpoch { found, current });
        }
        Ok(*message)
    }

    /// That a GroupInfo is signed by the committer over the context and the confirmation tag of the commit.
    fn check_group_info(&self, staged: &Staged, bytes: &[u8]) -> Result<(), MlsError> {
        let info = message::group_info(bytes)?;
        let context = staged.commit.group_context();
        if info.group_context() != context {
            return Err(MlsError::GroupInfo("it is of another epoch or another tree"));
        }
        let (leaf, key) = &staged.verdict.committer;
        let rebuilt = VerifiableGroupInfo::new(
            context.clone(),
            info.extensions().clone(),
            staged.confirmation.clone(),
            LeafNodeIndex::new(*leaf),
            info.signature().clone(),
        );
        let key = SignaturePublicKey::from(key.clone());
        let key = OpenMlsSignaturePublicKey::from_signature_key(key, SignatureScheme::ED25519);
        rebuilt
            .verify(&self.provider.crypto, &key)
            .map(drop)
            .map_err(|_| {
                MlsError::GroupInfo(
                    "the committer has not signed it, or its confirmation tag is not the commit's",
                )
            })
    }
}

/// That a Welcome is for exactly those who are added.
fn check_welcome(staged: &Staged, welcome: Option<&[u8]>) -> Result<(), MlsError> {
    let named: BTreeSet<Vec<u8>> = match welcome {
        Some(bytes) => {
            let welcome = message::welcome(bytes)?;
            welcome
                .secrets()
                .iter()
                .map(|secret| secret.new_member().as_slice().to_vec())
                .collect()
        }
        None => BTreeSet::new(),
    };
    let added: BTreeSet<Vec<u8>> = staged
        .verdict
        .added
        .iter()
        .map(|(_, reference)| reference.clone())
        .collect();
    if named == added {
        Ok(())
    } else {
        Err(MlsError::Welcome)
    }
}
