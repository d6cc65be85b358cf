//! A member of groups, made of `openmls` and the services' own clients: what an agent does, and what none should.
#![allow(unreachable_pub, reason = "a module of a test binary")]

use std::collections::HashMap;

use bytes::Bytes;
use openmls::prelude::tls_codec::Deserialize as _;
use openmls::prelude::{
    BasicCredential, Capabilities, Ciphersuite, CredentialType, CredentialWithKey, Extensions, GroupId,
    KeyPackage, LeafNodeIndex, LeafNodeParameters, Lifetime, MlsGroup, MlsMessageOut,
    ProcessedMessageContent, RatchetTreeIn, StagedWelcome,
};
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::OpenMlsProvider as _;
use openmls_traits::crypto::OpenMlsCrypto as _;
use openmls_traits::signatures::{Signer, SignerError};
use openmls_traits::types::SignatureScheme;
use rcgen::KeyPair;
use ringgate_identity::{AgentKey, CertificateDer, Revocations, UnixTime, Verifier};
use ringgate_mls::profile::{self, Mode};
use ringgate_mls::{KeySigner, Package, credential, message, suite};
use ringgate_proto::control::v1::groups_client::GroupsClient;
use ringgate_proto::control::v1::groups_event::Body;
use ringgate_proto::control::v1::key_packages_client::KeyPackagesClient;
use ringgate_proto::control::v1::{
    ClaimKeyPackagesRequest, ClaimedKeyPackage, Committed, CreateGroupRequest, DeliveryService,
    GetDeliveryServiceRequest, GroupInfo, GroupMode, GroupsEvent, Handshake, HandshakeKind, Mail,
    PublishKeyPackagesRequest, SubmitCommitRequest, WatchGroupsRequest,
};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::harness::{Control, Member, Presented, uri};

pub const MODE_ASSISTED: Mode = Mode::Assisted;
pub const MODE_SEALED: Mode = Mode::Sealed;

/// Longer than anything here takes; what takes longer is stuck.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

pub struct Player {
    /// `org/ns/service/instance`.
    pub name: String,
    pub uri: String,
    member: Member,
    verifier: Verifier,
    delivery: DeliveryService,
    pub groups: GroupsClient<Channel>,
    pub packages: KeyPackagesClient<Channel>,
    provider: OpenMlsRustCrypto,
    live: HashMap<Bytes, (MlsGroup, u64, Mode)>,
    published: Vec<Bytes>,
    /// Who asked to be added again, and with what.
    pub asked: Vec<(String, Bytes)>,
}

/// What a key package is made of.
pub struct Kit {
    pub lifetime: u64,
    pub capable: bool,
    pub chain: Vec<CertificateDer<'static>>,
    key: AgentKey,
    other: Option<AgentKey>,
    is_basic: bool,
}

impl Kit {
    /// Another key in the leaf than in the certificate.
    pub fn other_key(&mut self) {
        self.other = Some(AgentKey::generate().expect("a key"));
    }

    /// No certificate at all.
    pub fn basic(&mut self) {
        self.is_basic = true;
    }

    pub fn rcgen_key(&self) -> KeyPair {
        KeyPair::from_pem(&self.key.to_pem().expect("PEM")).expect("a key")
    }
}

impl Player {
    pub async fn enrol(control: &Control, name: &str) -> Player {
        let member = control.enrol(name).await;
        let bundle =
            ringgate_control::wire::bundle_from_proto(&control.trust_bundle().await).expect("a bundle");
        let (groups, packages) = connect(control, &member).await;
        let delivery = groups
            .clone()
            .get_delivery_service(GetDeliveryServiceRequest {})
            .await;
        Player {
            name: name.to_owned(),
            uri: uri(name),
            verifier: Verifier::new(bundle, Revocations::default()).expect("a verifier"),
            delivery: delivery.expect("told").into_inner(),
            member,
            groups,
            packages,
            provider: OpenMlsRustCrypto::default(),
            live: HashMap::new(),
            published: Vec::new(),
            asked: Vec::new(),
        }
    }

    pub async fn reconnect(&mut self, control: &Control) {
        (self.groups, self.packages) = connect(control, &self.member).await;
    }

    /// The same agent with another certificate, for another key, and nothing of what it had.
    pub async fn with_another_key(&self, control: &Control) -> Player {
        Player::enrol(control, &self.name).await
    }

    fn signer(&self) -> KeySigner {
        KeySigner(self.member.key.clone())
    }

    fn credential(&self) -> CredentialWithKey {
        credential::with_key(&self.member.chain(), &self.member.key)
    }

    // --- key packages ---------------------------------------------------------------------------------------------------

    /// A key package as it should be, but for a change.
    pub fn package(&self, change: impl FnOnce(&mut Kit)) -> Bytes {
        let mut kit = Kit {
            lifetime: 1800,
            capable: true,
            chain: self.member.chain(),
            key: self.member.key.clone(),
            other: None,
            is_basic: false,
        };
        change(&mut kit);
        let key = kit.other.as_ref().unwrap_or(&kit.key);
        let signature_key = key.public().to_vec().into();
        let (credential, capabilities) = match kit.is_basic {
            true => (
                BasicCredential::new(b"somebody".to_vec()).into(),
                Capabilities::new(
                    None,
                    None,
                    None,
                    None,
                    Some(&[CredentialType::Basic, CredentialType::X509]),
                ),
            ),
            false => (credential::of_chain(&kit.chain), profile::capabilities()),
        };
        let capabilities = if kit.capable {
            capabilities
        } else {
            Capabilities::default()
        };
        let signer = KeySigner(key.clone());
        self.build(
            suite::DEFAULT,
            capabilities,
            kit.lifetime,
            false,
            &signer,
            CredentialWithKey {
                credential,
                signature_key,
            },
        )
    }

    fn build(
        &self,
        suite: Ciphersuite,
        capabilities: Capabilities,
        lifetime: u64,
        last_resort: bool,
        signer: &impl Signer,
        credential: CredentialWithKey,
    ) -> Bytes {
        let mut builder = KeyPackage::builder()
            .leaf_node_capabilities(capabilities)
            .key_package_lifetime(Lifetime::new(lifetime));
        if last_resort {
            builder = builder.mark_as_last_resort();
        }
        let bundle = builder
            .build(suite, &self.provider, signer, credential)
            .expect("made");
        bytes(&MlsMessageOut::from(bundle.key_package().clone()))
    }

    /// A key package that is signed as it should be, of a suite that is not on the list.
    pub fn package_of_p256(&self) -> Bytes {
        let suite = Ciphersuite::MLS_128_DHKEMP256_AES128GCM_SHA256_P256;
        let pair = self
            .provider
            .crypto()
            .signature_key_gen(suite.signature_algorithm());
        let (private, public) = pair.expect("a key");
        let credential = CredentialWithKey {
            credential: credential::of_chain(&self.member.chain()),
            signature_key: public.into(),
        };
        self.build(
            suite,
            profile::capabilities(),
            1800,
            false,
            &P256(private),
            credential,
        )
    }

    pub fn fresh_package(&self) -> Bytes {
        self.package(|_| {})
    }

    /// Publishes so many; gives their references.
    pub async fn publish(&mut self, count: usize) -> Vec<Bytes> {
        let key_packages: Vec<Bytes> = (0..count).map(|_| self.fresh_package()).collect();
        self.published.clone_from(&key_packages);
        self.publish_these(key_packages).await
    }

    pub async fn publish_last_resort(&mut self) -> Bytes {
        let (signer, credential) = (self.signer(), self.credential());
        let package = self.build(
            suite::DEFAULT,
            profile::capabilities(),
            1800,
            true,
            &signer,
            credential,
        );
        self.publish_these(vec![package]).await.remove(0)
    }

    async fn publish_these(&mut self, key_packages: Vec<Bytes>) -> Vec<Bytes> {
        let response = self
            .packages
            .publish_key_packages(PublishKeyPackagesRequest { key_packages })
            .await;
        let results = response.expect("judged").into_inner().results;
        results
            .into_iter()
            .map(|result| {
                assert_eq!(result.reason, "", "{}", result.message);
                result.reference
            })
            .collect()
    }

    /// Publishes the last ones again; why they are refused.
    pub async fn publish_again(&mut self) -> Vec<String> {
        let request = PublishKeyPackagesRequest {
            key_packages: self.published.clone(),
        };
        let response = self
            .packages
            .publish_key_packages(request)
            .await
            .expect("judged")
            .into_inner();
        response.results.into_iter().map(|result| result.reason).collect()
    }

    pub async fn claim_one(&self, name: &str) -> ClaimedKeyPackage {
        let request = ClaimKeyPackagesRequest {
            identities: vec![name.to_owned()],
            cipher_suite: 0,
        };
        let response = self.packages.clone().claim_key_packages(request).await;
        response.expect("answered").into_inner().results.remove(0)
    }

    pub async fn claim(&self, names: &[String]) -> Vec<Bytes> {
        let mut packages = Vec::new();
        for name in names {
            let claimed = self.claim_one(name).await;
            assert_eq!(claimed.reason, "", "{}", claimed.message);
            packages.push(claimed.key_package);
        }
        packages
    }

    // --- groups ---------------------------------------------------------------------------------------------------------

    pub async fn create(&mut self, mode: Mode) -> Result<Bytes, Status> {
        let id = Bytes::from(GroupId::random(self.provider.rand()).to_vec());
        let delivery = profile::external_sender(&self.delivery.signature_key, &self.delivery.identity);
        let context = profile::context((mode == Mode::Assisted).then_some(delivery)).expect("a context");
        let config = profile::create(mode, 256, context, 1800);
        let group = MlsGroup::new_with_group_id(
            &self.provider,
            &self.signer(),
            &config,
            GroupId::from_slice(&id),
            self.credential(),
        );
        let group = group.expect("made");
        let info = group
            .export_group_info(self.provider.crypto(), &self.signer(), true)
            .expect("told");
        let request = CreateGroupRequest {
            group_id: id.clone(),
            mode: match mode {
                Mode::Assisted => GroupMode::Assisted.into(),
                Mode::Sealed => GroupMode::Sealed.into(),
            },
            padding_bytes: 256,
            group_info: bytes(&info),
        };
        self.groups.create_group(request).await?;
        self.live.insert(id.clone(), (group, 0, mode));
        Ok(id)
    }

    fn commit(
        &mut self,
        id: &Bytes,
        adds: Vec<KeyPackage>,
        removals: Vec<LeafNodeIndex>,
        context: Option<Extensions<openmls::prelude::GroupContext>>,
        with_proposals: bool,
    ) -> SubmitCommitRequest {
        let signer = self.signer();
        let (group, ..) = self.live.get_mut(id).expect("a member");
        let epoch = group.epoch().as_u64();
        let mut builder = group
            .commit_builder()
            .consume_proposal_store(with_proposals)
            .force_self_update(true)
            .propose_adds(adds)
            .propose_removals(removals)
            .leaf_node_parameters(
                LeafNodeParameters::builder()
                    .with_capabilities(profile::capabilities())
                    .build(),
            );
        if let Some(context) = context {
            builder = builder
                .propose_group_context_extensions(context)
                .expect("proposed");
        }
        let bundle = builder
            .load_psks(self.provider.storage())
            .expect("none")
            .build(self.provider.rand(), self.provider.crypto(), &signer, |_| true)
            .expect("built")
            .stage_commit(&self.provider)
            .expect("staged");
        let (commit, welcome, info) = bundle.into_messages();
        SubmitCommitRequest {
            group_id: id.clone(),
            epoch,
            commit: bytes(&commit),
            welcome: welcome.as_ref().map(bytes).unwrap_or_default(),
            group_info: info.as_ref().map(bytes).unwrap_or_default(),
        }
    }

    pub fn update(&mut self, id: &Bytes) -> SubmitCommitRequest {
        self.commit(id, Vec::new(), Vec::new(), None, true)
    }

    pub fn update_without_proposals(&mut self, id: &Bytes) -> SubmitCommitRequest {
        self.commit(id, Vec::new(), Vec::new(), None, false)
    }

    /// A commit to a context with nothing in it.
    pub fn bare_context(&mut self, id: &Bytes) -> SubmitCommitRequest {
        self.commit(id, Vec::new(), Vec::new(), Some(Extensions::empty()), true)
    }

    pub async fn add(&mut self, id: &Bytes, packages: Vec<Bytes>) -> Result<Committed, Status> {
        let packages = packages.iter().map(|package| self.read(package)).collect();
        let request = self.commit(id, packages, Vec::new(), None, true);
        self.submit(id, request).await
    }

    pub async fn remove(&mut self, id: &Bytes, identity: &str) -> Result<Committed, Status> {
        let leaf = self.leaf_of(id, identity);
        let request = self.commit(id, Vec::new(), vec![leaf], None, true);
        self.submit(id, request).await
    }

    pub async fn swap(&mut self, id: &Bytes, identity: &str, package: Bytes) -> Result<Committed, Status> {
        let (leaf, package) = (self.leaf_of(id, identity), self.read(&package));
        let request = self.commit(id, vec![package], vec![leaf], None, true);
        self.submit(id, request).await
    }

    async fn submit(&mut self, id: &Bytes, request: SubmitCommitRequest) -> Result<Committed, Status> {
        let committed = self.groups.submit_commit(request).await?.into_inner();
        let (group, sequence, _) = self.live.get_mut(id).expect("a member");
        group.merge_pending_commit(&self.provider).expect("merged");
        *sequence = committed.sequence;
        Ok(committed)
    }

    pub fn refused(&mut self, id: &Bytes) {
        let (group, ..) = self.live.get_mut(id).expect("a member");
        group
            .clear_pending_commit(self.provider.storage())
            .expect("cleared");
    }

    fn read(&self, package: &Bytes) -> KeyPackage {
        Package::check(package, &self.verifier, UnixTime::now())
            .expect("good")
            .package
    }

    fn leaf_of(&self, id: &Bytes, identity: &str) -> LeafNodeIndex {
        let (group, ..) = &self.live[id];
        let is = |member: &openmls::prelude::Member| {
            let verified = credential::verify(
                &self.verifier,
                &member.credential,
                &member.signature_key,
                UnixTime::now(),
            );
            verified.is_ok_and(|verified| verified.uri == identity)
        };
        group.members().find(is).expect("a member").index
    }

    pub fn epoch(&self, id: &Bytes) -> u64 {
        self.live[id].0.epoch().as_u64()
    }

    pub fn members(&self, id: &Bytes) -> usize {
        self.live[id].0.members().count()
    }

    pub fn forget(&mut self, id: &Bytes) {
        if let Some((mut group, ..)) = self.live.remove(id) {
            group.delete(self.provider.storage()).expect("deleted");
        }
    }

    /// An external commit, by what the service tells.
    pub fn external(&mut self, id: &Bytes, told: &GroupInfo) -> SubmitCommitRequest {
        let info = message::group_info(&told.group_info).expect("a GroupInfo");
        let tree = RatchetTreeIn::tls_deserialize_exact(&told.ratchet_tree[..]).expect("a tree");
        let epoch = info.epoch().as_u64();
        let (signer, credential) = (self.signer(), self.credential());
        let (group, bundle) = MlsGroup::external_commit_builder()
            .with_ratchet_tree(tree)
            .with_config(profile::join(Mode::Assisted, 256))
            .build_group(&self.provider, info, credential)
            .expect("begun")
            .leaf_node_parameters(
                LeafNodeParameters::builder()
                    .with_capabilities(profile::capabilities())
                    .build(),
            )
            .load_psks(self.provider.storage())
            .expect("none")
            .build(self.provider.rand(), self.provider.crypto(), &signer, |_| true)
            .expect("built")
            .finalize(&self.provider)
            .expect("made");
        let (commit, _, info) = bundle.into_messages();
        let info = info.unwrap_or_else(|| {
            group
                .export_group_info(self.provider.crypto(), &signer, true)
                .expect("told")
        });
        self.live
            .insert(id.clone(), (group, told.sequence, Mode::Assisted));
        SubmitCommitRequest {
            group_id: id.clone(),
            epoch,
            commit: bytes(&commit),
            welcome: Bytes::new(),
            group_info: bytes(&info),
        }
    }

    // --- what is told ---------------------------------------------------------------------------------------------------

    async fn watch(
        &self,
        asks: &[WatchGroupsRequest],
    ) -> (mpsc::UnboundedSender<WatchGroupsRequest>, Streaming<GroupsEvent>) {
        let (asking, asked) = mpsc::unbounded_channel();
        for ask in asks {
            asking.send(ask.clone()).expect("open");
        }
        let events = self
            .groups
            .clone()
            .watch_groups(UnboundedReceiverStream::new(asked))
            .await;
        (asking, events.expect("told").into_inner())
    }

    /// Joins by the next letter that comes.
    pub async fn join_from_mail(&mut self) {
        let (_asking, mut events) = self.watch(&[]).await;
        let letter = async {
            loop {
                if let Some(Body::Mail(mail)) = events.next().await.expect("open").expect("told").body {
                    return mail;
                }
            }
        };
        let mail = tokio::time::timeout(PATIENCE, letter).await.expect("a letter");
        self.join(&mail);
        let take = ringgate_proto::control::v1::TakeMailRequest { ids: vec![mail.id] };
        self.groups.take_mail(take).await.expect("taken");
    }

    fn join(&mut self, mail: &Mail) {
        let mode = match mail.mode() {
            GroupMode::Sealed => Mode::Sealed,
            _ => Mode::Assisted,
        };
        let welcome = message::welcome(&mail.welcome).expect("a Welcome");
        let staged =
            StagedWelcome::new_from_welcome(&self.provider, &profile::join(mode, 256), welcome, None);
        let group = staged.expect("good").into_group(&self.provider).expect("joined");
        self.live
            .insert(mail.group_id.clone(), (group, mail.sequence, mode));
    }

    /// Handshakes of a group after a number, up to the newest.
    pub async fn log(&self, id: &Bytes, after: u64) -> Vec<Handshake> {
        let record = ringgate_proto::control::v1::GetGroupRequest { group_id: id.clone() };
        let newest = match self.groups.clone().get_group(record).await {
            Ok(group) => group.into_inner().sequence,
            // Out of the group: there is one more to hear, that says so.
            Err(_) => u64::MAX,
        };
        self.log_to(id, after, newest).await
    }

    async fn log_to(&self, id: &Bytes, after: u64, newest: u64) -> Vec<Handshake> {
        let ask = WatchGroupsRequest {
            group_id: id.clone(),
            after_sequence: after,
        };
        let (_asking, mut events) = self.watch(&[ask]).await;
        let mut told = Vec::new();
        let all = async {
            while told.last().map_or(after, |last: &Handshake| last.sequence) < newest {
                match events.next().await.expect("open").expect("told").body {
                    Some(Body::Handshake(handshake)) => told.push(handshake),
                    Some(Body::Lost(_)) => return,
                    _ => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("handshakes");
        told
    }

    /// Processes what has happened since.
    pub async fn catch_up(&mut self, id: &Bytes) {
        let after = self.live[id].1;
        let told = self.log(id, after).await;
        self.process(id, told);
    }

    /// The same, waiting until it has come to a number.
    pub async fn catch_up_to(&mut self, id: &Bytes, newest: u64) {
        let after = self.live[id].1;
        let told = self.log_to(id, after, newest).await;
        self.process(id, told);
    }

    fn process(&mut self, id: &Bytes, told: Vec<Handshake>) {
        let (group, sequence, _) = self.live.get_mut(id).expect("a member");
        for handshake in told {
            *sequence = handshake.sequence;
            if handshake.kind() == HandshakeKind::Readd {
                self.asked.push((handshake.sender, handshake.message));
                continue;
            }
            if handshake.epoch < group.epoch().as_u64() {
                continue;
            }
            let read =
                message::protocol(&handshake.message, message::HANDSHAKE_BYTES_MAX).expect("a message");
            match group
                .process_message(&self.provider, read)
                .expect("processed")
                .into_content()
            {
                ProcessedMessageContent::ProposalMessage(queued) => {
                    group
                        .store_pending_proposal(self.provider.storage(), *queued)
                        .expect("stored");
                }
                ProcessedMessageContent::StagedCommitMessage(staged) => {
                    group
                        .merge_staged_commit(&self.provider, *staged)
                        .expect("merged");
                }
                ProcessedMessageContent::OwnPendingCommit | ProcessedMessageContent::OwnPrivateMessage => {
                    group.merge_pending_commit(&self.provider).expect("merged");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    // --- messages -------------------------------------------------------------------------------------------------------

    pub fn seal(&mut self, id: &Bytes, text: &[u8]) -> Bytes {
        let signer = self.signer();
        let (group, ..) = self.live.get_mut(id).expect("a member");
        bytes(
            &group
                .create_message(&self.provider, &signer, text)
                .expect("encrypted"),
        )
    }

    pub fn open(&mut self, sealed: &Bytes) -> Result<Vec<u8>, String> {
        let header = ringgate_envelope::application(sealed).map_err(|fault| fault.to_string())?;
        let (group, ..) = self.live.get_mut(header.group).ok_or("not a member")?;
        open(group, &self.provider, sealed)
    }

    /// All that somebody learns who reads this member's memory now.
    pub fn stolen(&self, id: &Bytes) -> Stolen {
        let provider = OpenMlsRustCrypto::default();
        let values = self.provider.storage().values.read().expect("values").clone();
        *provider.storage().values.write().expect("values") = values;
        let group = MlsGroup::load(provider.storage(), &GroupId::from_slice(id)).expect("read");
        Stolen {
            provider,
            group: group.expect("a group"),
        }
    }
}

/// A copy of what a member had at a moment.
pub struct Stolen {
    provider: OpenMlsRustCrypto,
    group: MlsGroup,
}

impl Stolen {
    pub fn open(&mut self, sealed: &Bytes) -> Result<Vec<u8>, String> {
        open(&mut self.group, &self.provider, sealed)
    }

    /// Tries to come to the next epoch.
    pub fn follow(&mut self, commit: &Bytes) -> Result<(), String> {
        let read =
            message::protocol(commit, message::HANDSHAKE_BYTES_MAX).map_err(|error| error.to_string())?;
        let processed = self
            .group
            .process_message(&self.provider, read)
            .map_err(|error| error.to_string())?;
        match processed.into_content() {
            ProcessedMessageContent::StagedCommitMessage(staged) => self
                .group
                .merge_staged_commit(&self.provider, *staged)
                .map_err(|error| error.to_string()),
            other => Err(format!("{other:?}")),
        }
    }
}

fn open(group: &mut MlsGroup, provider: &OpenMlsRustCrypto, sealed: &Bytes) -> Result<Vec<u8>, String> {
    let read = message::protocol(sealed, 1 << 20).map_err(|error| error.to_string())?;
    let processed = group
        .process_message(provider, read)
        .map_err(|error| error.to_string())?;
    match processed.into_content() {
        ProcessedMessageContent::ApplicationMessage(text) => Ok(text.into_bytes()),
        other => Err(format!("{other:?}")),
    }
}

/// A private key of another suite than ours.
struct P256(Vec<u8>);

impl Signer for P256 {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        let signed = OpenMlsRustCrypto::default()
            .crypto()
            .sign(self.signature_scheme(), payload, &self.0);
        signed.map_err(SignerError::CryptoError)
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_SECP256R1_SHA256
    }
}

async fn connect(control: &Control, member: &Member) -> (GroupsClient<Channel>, KeyPackagesClient<Channel>) {
    let channel = control
        .channel(Some(Presented::new(member.chain(), &member.key)))
        .await;
    let groups = GroupsClient::new(channel.clone()).max_decoding_message_size(8 << 20);
    (groups, KeyPackagesClient::new(channel))
}

fn bytes(message: &MlsMessageOut) -> Bytes {
    message.to_bytes().expect("encoded").into()
}
