//! The groups of one agent: everything that holds their secrets, without any input or output.

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use openmls::prelude::group_info::VerifiableGroupInfo;
use openmls::prelude::tls_codec::Deserialize as _;
use openmls::prelude::{
    CredentialWithKey, ExternalSender, GroupId, KeyPackage, LeafNodeIndex, LeafNodeParameters, MlsGroup,
    MlsMessageOut, NewSignerBundle, OpenMlsProvider, OpenMlsRand as _, ProcessedMessageContent, Proposal,
    RatchetTreeIn, Sender, StagedWelcome,
};
use openmls_memory_storage::MemoryStorage;
use openmls_rust_crypto::RustCrypto;
use ringgate_identity::{AgentKey, CertificateDer, SharedVerifier, UnixTime, Verified};
use ringgate_mls::profile::{self, Mode};
use ringgate_mls::roster::{self, Member, Roster};
use ringgate_mls::{KeySigner, MlsError, credential, message, package, suite};
use ringgate_proto::control::v1::{self as proto, HandshakeKind};
use sha2::{Digest as _, Sha256};

use super::GroupError;
use crate::Held;

/// Largest encrypted message; the gateway takes 4 MiB by default.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Keys of certificates before the present one that are kept: leaves and key packages made with them are still about.
pub(super) const KEYS_MAX: usize = 8;

/// Cryptography, and what `openmls` keeps.
#[derive(Default)]
pub(super) struct Provider {
    crypto: RustCrypto,
    pub(super) storage: MemoryStorage,
}

impl OpenMlsProvider for Provider {
    type CryptoProvider = RustCrypto;
    type RandProvider = RustCrypto;
    type StorageProvider = MemoryStorage;

    fn storage(&self) -> &MemoryStorage {
        &self.storage
    }

    fn crypto(&self) -> &RustCrypto {
        &self.crypto
    }

    fn rand(&self) -> &RustCrypto {
        &self.crypto
    }
}

/// See the module.
pub(super) struct Engine {
    pub(super) provider: Provider,
    verifier: Arc<SharedVerifier>,
    /// The newest first: that of the present certificate.
    pub(super) keys: Vec<AgentKey>,
    chain: Vec<CertificateDer<'static>>,
    me: Verified,
    delivery: ExternalSender,
    pub(super) groups: HashMap<Bytes, Live>,
}

/// A group of which this agent is a member.
pub(super) struct Live {
    group: MlsGroup,
    /// Of the newest epochs, the present one last.
    history: VecDeque<(u64, Roster)>,
    /// Of the newest handshake that was processed.
    pub(super) sequence: u64,
    pub(super) mode: Mode,
    pub(super) padding: u32,
    /// The digest of a commit of this agent's own that waits to be accepted.
    pending: Option<[u8; 32]>,
    /// One thing at a time is committed.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
    /// This agent is out.
    pub(super) removed: bool,
}

/// What a commit is to do.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Add(Vec<KeyPackage>),
    Remove(String),
    /// A member gets a leaf of another key.
    Swap(String, Box<KeyPackage>),
    /// A new leaf for this agent, and whatever is proposed.
    Update,
}

/// A commit as the delivery service takes it.
pub(super) struct Bundle {
    pub(super) epoch: u64,
    pub(super) commit: Bytes,
    pub(super) welcome: Bytes,
    pub(super) group_info: Bytes,
}

/// What a handshake came to.
pub(super) enum Settled {
    /// Seen before, or of no effect.
    Nothing,
    /// The group is in another epoch.
    Epoch,
    /// Something waits for a commit.
    Proposed,
    /// A member has lost its key and asks for a new leaf.
    ReAdd {
        identity: String,
        package: Box<KeyPackage>,
    },
}

/// A message that was opened, or why not yet.
pub(super) enum Opening {
    Opened {
        content: Vec<u8>,
        sender: Member,
    },
    /// The group, or the epoch, is not known yet.
    NotYet,
}

impl Engine {
    pub(super) fn new(
        held: &Held,
        verifier: Arc<SharedVerifier>,
        delivery: &proto::DeliveryService,
    ) -> Engine {
        Engine {
            provider: Provider::default(),
            verifier,
            keys: vec![held.key.clone()],
            chain: held.chain.clone(),
            me: held.verified.clone(),
            delivery: profile::external_sender(&delivery.signature_key, &delivery.identity),
            groups: HashMap::new(),
        }
    }

    /// The agent has another certificate, for another key.
    pub(super) fn renewed(&mut self, held: &Held) {
        self.keys.retain(|key| key.public() != held.key.public());
        self.keys.insert(0, held.key.clone());
        self.keys.truncate(KEYS_MAX);
        self.chain.clone_from(&held.chain);
        self.me = held.verified.clone();
    }

    /// New key packages as long as the certificate lasts; one more of last resort.
    pub(super) fn key_packages(&mut self, count: usize, last_resort: bool) -> Result<Vec<Bytes>, GroupError> {
        let (signer, credential) = (self.signer(), self.credential());
        let lifetime = self.lifetime();
        let make = |last: bool| {
            let mut builder = KeyPackage::builder()
                .leaf_node_capabilities(profile::capabilities())
                .key_package_lifetime(openmls::prelude::Lifetime::new(lifetime));
            if last {
                builder = builder.mark_as_last_resort();
            }
            let bundle = builder
                .build(suite::DEFAULT, &self.provider, &signer, credential.clone())
                .map_err(GroupError::library)?;
            let message = MlsMessageOut::from(bundle.key_package().clone());
            bytes(&message)
        };
        let plain = (0..count).map(|_| make(false));
        plain.chain(last_resort.then(|| make(true))).collect()
    }

    /// Sixteen random bytes.
    pub(super) fn random(&self) -> Result<Bytes, GroupError> {
        let bytes = self
            .provider
            .crypto
            .random_vec(16)
            .map_err(|error| GroupError::Library(format!("{error:?}")))?;
        Ok(bytes.into())
    }

    /// Seconds that a leaf made now may last.
    fn lifetime(&self) -> u64 {
        let left = self
            .me
            .not_after
            .as_secs()
            .saturating_sub(UnixTime::now().as_secs());
        left.clamp(1, package::LIFETIME_SECONDS_MAX - 7200)
    }

    fn signer(&self) -> KeySigner {
        KeySigner(self.keys[0].clone())
    }

    fn credential(&self) -> CredentialWithKey {
        credential::with_key(&self.chain, &self.keys[0])
    }

    /// A group in which this agent is alone. Gives its GroupInfo.
    pub(super) fn create(&mut self, id: &Bytes, mode: Mode, padding: u32) -> Result<Bytes, GroupError> {
        let delivery = (mode == Mode::Assisted).then(|| self.delivery.clone());
        let config = profile::create(
            mode,
            padding as usize,
            profile::context(delivery)?,
            self.lifetime(),
        );
        let (signer, credential) = (self.signer(), self.credential());
        let group = MlsGroup::new_with_group_id(
            &self.provider,
            &signer,
            &config,
            GroupId::from_slice(id),
            credential,
        )
        .map_err(GroupError::library)?;
        let info = group
            .export_group_info(&self.provider.crypto, &signer, true)
            .map_err(GroupError::library)?;
        let live = self.live(group, &Roster::new(), mode, padding, 0)?;
        self.groups.insert(id.clone(), live);
        bytes(&info)
    }

    /// `before`: members who were verified when they came in.
    fn live(
        &self,
        group: MlsGroup,
        before: &Roster,
        mode: Mode,
        padding: u32,
        sequence: u64,
    ) -> Result<Live, GroupError> {
        let epoch = group.epoch().as_u64();
        let (verifier, now) = (self.verifier.load(), UnixTime::now());
        let roster = roster::of_members_since(before, group.members(), &verifier, now)?;
        Ok(Live {
            group,
            history: VecDeque::from([(epoch, roster)]),
            sequence,
            mode,
            padding,
            pending: None,
            turn: Arc::default(),
            removed: false,
        })
    }

    /// A group as it was kept, with those who were in it. A commit of this agent's own that was not answered is given up: what became of it comes with the log.
    pub(super) fn restore(
        &mut self,
        id: Bytes,
        mut group: MlsGroup,
        before: &Roster,
        mode: Mode,
        padding: u32,
        sequence: u64,
    ) -> Result<(), GroupError> {
        group
            .clear_pending_commit(&self.provider.storage)
            .map_err(GroupError::library)?;
        let live = self.live(group, before, mode, padding, sequence)?;
        self.groups.insert(id, live);
        Ok(())
    }

    /// Joins by a Welcome, once everybody in the group is verified.
    pub(super) fn join(&mut self, mail: &proto::Mail) -> Result<(), GroupError> {
        let mode = mode(mail.mode);
        let welcome = message::welcome(&mail.welcome)?;
        let config = profile::join(mode, mail.padding_bytes as usize);
        let staged = StagedWelcome::build_from_welcome(&self.provider, &config, welcome)
            .map_err(GroupError::library)?
            .replace_old_group()
            .build()
            .map_err(GroupError::library)?;
        let context = staged.group_context();
        suite::allowed(suite::number(context.ciphersuite()))?;
        if context.group_id().as_slice() != &mail.group_id[..] {
            return Err(MlsError::GroupInfo("the Welcome is for another group than it was sent for").into());
        }
        if mode == Mode::Assisted
            && context
                .extensions()
                .external_senders()
                .map(|senders| &senders[..])
                != Some(std::slice::from_ref(&self.delivery))
        {
            return Err(MlsError::Context("the delivery service as its one external sender").into());
        }
        let (verifier, now) = (self.verifier.load(), UnixTime::now());
        let members = roster::of_members(staged.members(), &verifier, now)?;
        let inviter = members.get(&staged.welcome_sender_index().u32());
        if inviter.is_none_or(|inviter| inviter.identity != mail.sender) {
            return Err(MlsError::GroupInfo("another member has signed it than the one who sent it").into());
        }
        let group = staged.into_group(&self.provider).map_err(GroupError::library)?;
        let live = self.live(group, &members, mode, mail.padding_bytes, mail.sequence)?;
        self.groups.insert(mail.group_id.clone(), live);
        Ok(())
    }

    /// Joins again by an external commit, since this agent's state of the group is of no more use. Nothing is lost if it is refused:
    /// what was there is gone already.
    pub(super) fn resync(&mut self, id: &Bytes, told: &proto::GroupInfo) -> Result<Bundle, GroupError> {
        let info: VerifiableGroupInfo = message::group_info(&told.group_info)?;
        let tree = RatchetTreeIn::tls_deserialize_exact(&told.ratchet_tree).map_err(GroupError::library)?;
        let epoch = info.epoch().as_u64();
        if info.group_id().as_slice() != &id[..] {
            return Err(MlsError::GroupInfo("it is of another group").into());
        }
        suite::allowed(suite::number(info.ciphersuite()))?;
        let mut before = Roster::new();
        if let Some(mut old) = self.groups.remove(id) {
            before.clone_from(old.roster());
            old.group
                .delete(&self.provider.storage)
                .map_err(GroupError::library)?;
        }
        let mode = mode(told.mode);
        let (signer, credential) = (self.signer(), self.credential());
        let parameters = LeafNodeParameters::builder()
            .with_capabilities(profile::capabilities())
            .build();
        let (group, bundle) = MlsGroup::external_commit_builder()
            .with_ratchet_tree(tree)
            .with_config(profile::join(mode, told.padding_bytes as usize))
            .build_group(&self.provider, info, credential)
            .map_err(GroupError::library)?
            .leaf_node_parameters(parameters)
            .load_psks(&self.provider.storage)
            .map_err(GroupError::library)?
            .build(&self.provider.crypto, &self.provider.crypto, &signer, |_| true)
            .map_err(GroupError::library)?
            .finalize(&self.provider)
            .map_err(GroupError::library)?;
        let (commit, _, info) = bundle.into_messages();
        let info = match info {
            Some(info) => info,
            None => group
                .export_group_info(&self.provider.crypto, &signer, true)
                .map_err(GroupError::library)?,
        };
        let live = self.live(group, &before, mode, told.padding_bytes, told.sequence)?;
        self.groups.insert(id.clone(), live);
        Ok(Bundle {
            epoch,
            commit: bytes(&commit)?,
            welcome: Bytes::new(),
            group_info: bytes(&info)?,
        })
    }

    fn member(&mut self, id: &[u8]) -> Result<(&mut Live, &Provider), GroupError> {
        let live = self.groups.get_mut(id).filter(|live| !live.removed);
        live.map(|live| (live, &self.provider))
            .ok_or(GroupError::NotAMember)
    }

    /// Makes a commit. It is in force when the delivery service has accepted it ([`Engine::accepted`]).
    pub(super) fn commit(&mut self, id: &[u8], op: &Op) -> Result<Bundle, GroupError> {
        let (newest, credential) = (self.signer(), self.credential());
        let keys = self.keys.clone();
        let (live, provider) = self.member(id)?;
        let own = own_signer(&live.group, &keys)?;
        let roster = live.roster().clone();
        let leaf_of = |identity: &str| {
            let found = roster
                .values()
                .find(|member| member.identity == identity || member.name == identity);
            found
                .map(|member| LeafNodeIndex::new(member.leaf))
                .ok_or_else(|| GroupError::NoSuchMember(identity.to_owned()))
        };
        let (mut adds, mut removals) = (Vec::new(), Vec::new());
        match op {
            Op::Add(packages) => adds.clone_from(packages),
            Op::Remove(identity) => removals.push(leaf_of(identity)?),
            Op::Swap(identity, package) => {
                removals.push(leaf_of(identity)?);
                adds.push(KeyPackage::clone(package));
            }
            Op::Update => {}
        }
        let epoch = live.group.epoch().as_u64();
        // Whose own removal is proposed cannot commit to that. With a new leaf of its own it is no longer overdue; and whoever was
        // revoked is refused until somebody else has removed it.
        let unwanted = live.is_unwanted();
        let changes_key = own.0.public() != newest.0.public();
        let parameters = LeafNodeParameters::builder()
            .with_capabilities(profile::capabilities())
            .build();
        let builder = live
            .group
            .commit_builder()
            .consume_proposal_store(!unwanted)
            // Each commit heals: whoever had learnt this agent's keys has learnt nothing of what comes.
            .force_self_update(true)
            .propose_adds(adds)
            .propose_removals(removals)
            .leaf_node_parameters(parameters)
            .load_psks(&provider.storage)
            .map_err(GroupError::library)?;
        let built = match changes_key {
            false => builder.build(&provider.crypto, &provider.crypto, &own, |_| true),
            true => {
                let bundle = NewSignerBundle {
                    signer: &newest,
                    credential_with_key: credential,
                };
                builder.build_with_new_signer(&provider.crypto, &provider.crypto, &own, bundle, |_| true)
            }
        };
        let bundle = built
            .map_err(GroupError::library)?
            .stage_commit(provider)
            .map_err(GroupError::library)?;
        let (commit, welcome, info) = bundle.into_messages();
        let commit = bytes(&commit)?;
        live.pending = Some(Sha256::digest(&commit).into());
        Ok(Bundle {
            epoch,
            commit,
            welcome: welcome.as_ref().map(bytes).transpose()?.unwrap_or_default(),
            group_info: info.as_ref().map(bytes).transpose()?.unwrap_or_default(),
        })
    }

    /// The delivery service has accepted this agent's commit, which ended `epoch`.
    pub(super) fn accepted(&mut self, id: &[u8], epoch: u64, sequence: u64) -> Result<(), GroupError> {
        let (verifier, now) = (self.verifier.load(), UnixTime::now());
        let (live, provider) = self.member(id)?;
        if live.pending.take().is_some() && live.group.epoch().as_u64() == epoch {
            live.group
                .merge_pending_commit(provider)
                .map_err(GroupError::library)?;
            let epoch = live.group.epoch().as_u64();
            let roster = roster::of_members_since(live.roster(), live.group.members(), &verifier, now)?;
            live.enter(epoch, roster);
        }
        live.sequence = live.sequence.max(sequence);
        Ok(())
    }

    /// Another commit was first, or this one was refused.
    pub(super) fn refused(&mut self, id: &[u8]) -> Result<(), GroupError> {
        let (live, provider) = self.member(id)?;
        if live.pending.take().is_some() {
            live.group
                .clear_pending_commit(&provider.storage)
                .map_err(GroupError::library)?;
        }
        Ok(())
    }

    /// A proposal to leave.
    pub(super) fn leave(&mut self, id: &[u8]) -> Result<Bytes, GroupError> {
        let keys = self.keys.clone();
        let (live, provider) = self.member(id)?;
        let signer = own_signer(&live.group, &keys)?;
        let proposal = live
            .group
            .leave_group(provider, &signer)
            .map_err(GroupError::library)?;
        bytes(&proposal)
    }

    /// Forgets a group.
    pub(super) fn forget(&mut self, id: &[u8]) {
        if let Some(mut live) = self.groups.remove(id)
            && let Err(error) = live.group.delete(&self.provider.storage)
        {
            tracing::warn!(%error, "a group that was left cannot be removed from the store");
        }
    }

    /// Processes a handshake of the log.
    pub(super) fn handshake(&mut self, told: &proto::Handshake) -> Result<Settled, GroupError> {
        let (verifier, now) = (self.verifier.load(), UnixTime::now());
        let me = self.me.uri.clone();
        let (live, provider) = self.member(&told.group_id)?;
        if told.sequence <= live.sequence {
            return Ok(Settled::Nothing);
        }
        let epoch = live.group.epoch().as_u64();
        if told.kind() == HandshakeKind::Readd {
            live.sequence = told.sequence;
            let package =
                ringgate_mls::Package::check(&told.message, &verifier, now)?.owned_by(&told.sender)?;
            return Ok(match package.owner.uri == me {
                true => Settled::Nothing,
                false => Settled::ReAdd {
                    identity: package.owner.uri.clone(),
                    package: Box::new(package.package),
                },
            });
        }
        if told.epoch < epoch {
            live.sequence = told.sequence;
            return Ok(Settled::Nothing);
        }
        // One's own, told before the delivery service's answer. An encrypted one could not be read by who wrote it.
        if live.pending == Some(Sha256::digest(&told.message).into()) {
            let id = told.group_id.clone();
            self.accepted(&id, epoch, told.sequence)?;
            return Ok(Settled::Epoch);
        }
        let message = message::protocol(&told.message, message::HANDSHAKE_BYTES_MAX)?;
        let processed = live
            .group
            .process_message(provider, message)
            .map_err(GroupError::library)?;
        let sender = processed.sender().clone();
        let settled = match processed.into_content() {
            ProcessedMessageContent::ProposalMessage(queued) => {
                let identity = match &sender {
                    Sender::Member(leaf) => live
                        .roster()
                        .get(&leaf.u32())
                        .map(|member| member.identity.clone()),
                    Sender::External(_) => Some(String::new()),
                    _ => None,
                };
                let identity = identity
                    .ok_or_else(|| MlsError::UnsupportedProposal("of nobody in the group".to_owned()))?;
                roster::judge_proposal(&queued, &identity, &verifier, now)?;
                live.group
                    .store_pending_proposal(&provider.storage, *queued)
                    .map_err(GroupError::library)?;
                Settled::Proposed
            }
            ProcessedMessageContent::StagedCommitMessage(staged) => {
                let joiner = match sender {
                    Sender::NewMemberCommit => live.group.ext_commit_sender_index(&staged).ok(),
                    _ => None,
                };
                let verdict = roster::judge(
                    &staged,
                    &sender,
                    joiner,
                    live.roster(),
                    live.group.extensions(),
                    &verifier,
                    now,
                )?;
                let removed = staged.self_removed();
                live.pending = None;
                live.group
                    .merge_staged_commit(provider, *staged)
                    .map_err(GroupError::library)?;
                if removed {
                    live.removed = true;
                } else {
                    let epoch = live.group.epoch().as_u64();
                    let roster = verdict.settle(live.group.members())?;
                    live.enter(epoch, roster);
                }
                Settled::Epoch
            }
            ProcessedMessageContent::OwnPendingCommit => {
                let id = told.group_id.clone();
                self.accepted(&id, epoch, told.sequence)?;
                return Ok(Settled::Epoch);
            }
            // One's own proposal.
            ProcessedMessageContent::OwnPrivateMessage => Settled::Nothing,
            _ => {
                return Err(MlsError::Malformed {
                    expected: "a proposal or commit",
                }
                .into());
            }
        };
        live.sequence = told.sequence;
        Ok(settled)
    }

    /// Encrypts for a group. The digest is of the way that it goes.
    pub(super) fn seal(&mut self, id: &[u8], digest: [u8; 32], content: &[u8]) -> Result<Bytes, GroupError> {
        let keys = &self.keys;
        let live = self
            .groups
            .get_mut(id)
            .filter(|live| !live.removed)
            .ok_or(GroupError::NotAMember)?;
        let signer = own_signer(&live.group, keys)?;
        live.group.set_aad(digest.to_vec());
        let message = live
            .group
            .create_message(&self.provider, &signer, content)
            .map_err(GroupError::library)?;
        bytes(&message)
    }

    /// Whether something that was proposed waits: nothing can be encrypted before it is committed.
    pub(super) fn has_proposals(&self, id: &[u8]) -> bool {
        self.groups
            .get(id)
            .is_some_and(|live| live.group.has_pending_proposals())
    }

    /// Decrypts what came by a way with this digest.
    pub(super) fn open(&mut self, payload: &[u8], digest: [u8; 32]) -> Result<Opening, GroupError> {
        let header = ringgate_envelope::application(payload)
            .map_err(|fault| GroupError::Library(fault.to_string()))?;
        let epoch = header.epoch;
        let Some(live) = self.groups.get_mut(header.group) else {
            return Ok(Opening::NotYet);
        };
        if live.removed {
            return Err(GroupError::NotAMember);
        }
        if epoch > live.group.epoch().as_u64() {
            return Ok(Opening::NotYet);
        }
        let message = message::protocol(payload, MESSAGE_BYTES_MAX)?;
        let processed = live
            .group
            .process_message(&self.provider, message)
            .map_err(GroupError::library)?;
        let sender = processed.sender().clone();
        if matches!(processed.content(), ProcessedMessageContent::OwnPrivateMessage) {
            return Err(GroupError::Own);
        }
        if processed.aad() != digest {
            return Err(GroupError::Rerouted);
        }
        let ProcessedMessageContent::ApplicationMessage(content) = processed.into_content() else {
            return Err(GroupError::Library("it is no application message".to_owned()));
        };
        let Sender::Member(leaf) = sender else {
            return Err(GroupError::Library("its sender is no member".to_owned()));
        };
        let roster = live
            .history
            .iter()
            .find(|(of, _)| *of == epoch)
            .map(|(_, roster)| roster);
        let sender = roster.and_then(|roster| roster.get(&leaf.u32())).cloned();
        let sender =
            sender.ok_or_else(|| GroupError::Library("its sender is not known any more".to_owned()))?;
        Ok(Opening::Opened {
            content: content.into_bytes(),
            sender,
        })
    }

    /// Whether this agent's leaf is of a certificate before the present one.
    pub(super) fn is_outdated(&self, id: &[u8]) -> bool {
        self.groups.get(id).is_some_and(|live| {
            let own = live.group.own_leaf_node();
            own.is_some_and(|leaf| leaf.signature_key().as_slice() != self.keys[0].public())
        })
    }

    /// How many members stand before this agent: who commits first to what somebody proposed. To what the delivery service proposes
    /// commits first whom it would remove.
    pub(super) fn rank(&self, id: &[u8]) -> usize {
        let Some(live) = self.groups.get(id) else { return 0 };
        if live.is_unwanted() {
            return 0;
        }
        let from_service = live
            .group
            .pending_proposals()
            .any(|queued| matches!(queued.sender(), Sender::External(_)));
        let own = live.group.own_leaf_index().u32();
        let leaving: Vec<u32> = live
            .group
            .pending_proposals()
            .filter_map(|queued| match queued.proposal() {
                Proposal::Remove(remove) => Some(remove.removed().u32()),
                _ => None,
            })
            .collect();
        let before = live
            .roster()
            .keys()
            .filter(|leaf| **leaf < own && !leaving.contains(leaf));
        before.count() + usize::from(from_service)
    }

    /// What the state of the epoch looks like from inside, for comparing.
    pub(super) fn epoch_digest(&self, id: &[u8]) -> Option<(u64, [u8; 32])> {
        let live = self.groups.get(id)?;
        let mut hash = Sha256::new();
        hash.update(b"ringgate epoch");
        hash.update(live.group.epoch_authenticator().as_slice());
        Some((live.group.epoch().as_u64(), hash.finalize().into()))
    }
}

impl Live {
    pub(super) fn epoch(&self) -> u64 {
        self.group.epoch().as_u64()
    }

    pub(super) fn roster(&self) -> &Roster {
        // It is never empty: it begins with one, and only what is too old goes.
        &self.history[self.history.len() - 1].1
    }

    /// Whether the delivery service has proposed to remove this agent: its leaf is too old, or it was revoked.
    fn is_unwanted(&self) -> bool {
        let own = self.group.own_leaf_index();
        self.group.pending_proposals().any(|queued| {
            matches!(queued.sender(), Sender::External(_))
                && matches!(queued.proposal(), Proposal::Remove(remove) if remove.removed() == own)
        })
    }

    fn enter(&mut self, epoch: u64, roster: Roster) {
        self.history.push_back((epoch, roster));
        while self.history.len() > profile::PAST_EPOCHS as usize + 1 {
            self.history.pop_front();
        }
    }
}

/// The key that this agent's leaf has.
fn own_signer(group: &MlsGroup, keys: &[AgentKey]) -> Result<KeySigner, GroupError> {
    let leaf = group.own_leaf_node().ok_or(GroupError::NotAMember)?;
    let key = keys
        .iter()
        .find(|key| leaf.signature_key().as_slice() == key.public());
    key.cloned().map(KeySigner).ok_or_else(|| {
        GroupError::Lost("the key of this agent's leaf is gone; have it added again".to_owned())
    })
}

fn bytes(message: &MlsMessageOut) -> Result<Bytes, GroupError> {
    message.to_bytes().map(Bytes::from).map_err(GroupError::library)
}

fn mode(told: i32) -> Mode {
    match proto::GroupMode::try_from(told) {
        Ok(proto::GroupMode::Sealed) => Mode::Sealed,
        _ => Mode::Assisted,
    }
}
