//! A member made of `mls-rs`, which is another implementation of RFC 9420 by other people, with the cryptography of another library.
//! What it has of this SDK is its certificate and its connection to the gateway. What it must know of a group's customs is written
//! here from `ARCHITECTURE.md` and the `.proto` files: the digest in the authenticated data, and what is encrypted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use mls_rs::client_builder::MlsConfig;
use mls_rs::crypto::SignatureSecretKey;
use mls_rs::error::IntoAnyError;
use mls_rs::group::{CommitEffect, ReceivedMessage};
use mls_rs::identity::{Credential as MlsCredential, CredentialType, SigningIdentity};
use mls_rs::mls_rules::{CommitOptions, DefaultMlsRules, EncryptionOptions};
use mls_rs::time::MlsTime;
use mls_rs::{CipherSuite, Client, ExtensionList, Group, IdentityProvider, MlsMessage, ProtocolVersion};
use mls_rs_core::identity::{CertificateChain, MemberValidationContext};
use mls_rs_crypto_rustcrypto::RustCryptoProvider;
use prost::Message as _;
use ringgate_client::{Agent, Credential, Event, Headers, Target};
use ringgate_identity::{CertificateDer, SharedVerifier, UnixTime, Verified};
use ringgate_proto::control::v1::groups_client::GroupsClient;
use ringgate_proto::control::v1::groups_event::Body;
use ringgate_proto::control::v1::key_packages_client::KeyPackagesClient;
use ringgate_proto::control::v1::{
    ClaimKeyPackagesRequest, DeliveryService, GetDeliveryServiceRequest, Handshake, Mail,
    PublishKeyPackagesRequest, SubmitCommitRequest, SubmitProposalRequest, TakeMailRequest,
    WatchGroupsRequest,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;

use crate::{Answer, Command, Failure, Told, hex, say, unhex};

const SUITE: CipherSuite = CipherSuite::CURVE25519_AES128;
/// Key packages published at the start.
const PACKAGES: usize = 4;

struct Member<C: MlsConfig> {
    agent: Agent,
    credential: Credential,
    client: Client<C>,
    groups: GroupsClient<Channel>,
    packages: KeyPackagesClient<Channel>,
    live: Mutex<HashMap<Bytes, Live<C>>>,
    asks: mpsc::UnboundedSender<WatchGroupsRequest>,
    /// Counts what happened to any group.
    changes: watch::Sender<u64>,
}

struct Live<C: MlsConfig> {
    group: Group<C>,
    sequence: u64,
    /// A commit of its own that is under way.
    pending: Option<Bytes>,
    removed: bool,
}

/// What is encrypted.
#[derive(Clone, PartialEq, prost::Message)]
struct Content {
    #[prost(bytes = "bytes", tag = "1")]
    payload: Bytes,
    #[prost(btree_map = "string, string", tag = "2")]
    headers: Headers,
    #[prost(bool, tag = "3")]
    end: bool,
}

pub(crate) async fn start(agent: Agent, credential: Credential) -> Result<Arc<dyn Told>, Failure> {
    let channel = credential.control().await?;
    let mut groups = GroupsClient::new(channel.clone()).max_decoding_message_size(4 << 20);
    let packages = KeyPackagesClient::new(channel);
    let delivery = groups
        .get_delivery_service(GetDeliveryServiceRequest {})
        .await?
        .into_inner();
    let held = credential.held();
    let chain = held
        .chain
        .iter()
        .map(|der| der.as_ref().to_vec())
        .collect::<Vec<_>>();
    let identity = SigningIdentity::new(
        MlsCredential::X509(CertificateChain::from(chain)),
        held.key.public().to_vec().into(),
    );
    // As this provider keeps Ed25519 keys: the seed, and the public key behind it.
    let secret = [&held.key.seed()?[..], &held.key.public()[..]].concat();
    let left = held.verified.not_after.as_secs() - UnixTime::now().as_secs();
    let rules = DefaultMlsRules::new()
        .with_commit_options(
            CommitOptions::new()
                .with_path_required(true)
                .with_ratchet_tree_extension(true)
                .with_single_welcome_message(true)
                .with_allow_external_commit(true),
        )
        .with_encryption_options(EncryptionOptions::default());
    let client = Client::builder()
        .crypto_provider(RustCryptoProvider::new())
        .identity_provider(Certificates {
            verifier: Arc::clone(credential.verifier()),
            delivery,
        })
        .mls_rules(rules)
        .key_package_lifetime(std::time::Duration::from_secs(left.saturating_sub(60)))
        .signing_identity(identity, SignatureSecretKey::new(secret), SUITE)
        .build();
    begin(agent, credential, client, groups, packages).await
}

async fn begin<C: MlsConfig + 'static>(
    agent: Agent,
    credential: Credential,
    client: Client<C>,
    groups: GroupsClient<Channel>,
    packages: KeyPackagesClient<Channel>,
) -> Result<Arc<dyn Told>, Failure> {
    let (asks, asked) = mpsc::unbounded_channel();
    let member = Arc::new(Member {
        agent,
        credential,
        client,
        groups,
        packages,
        live: Mutex::default(),
        asks,
        changes: watch::Sender::new(0),
    });
    member.publish_packages().await?;
    let events = member
        .groups
        .clone()
        .watch_groups(UnboundedReceiverStream::new(asked))
        .await?;
    let following = Arc::clone(&member);
    tokio::spawn(async move {
        let mut events = events.into_inner();
        while let Ok(Some(event)) = events.message().await {
            let done = match event.body {
                Some(Body::Mail(mail)) => following.join(mail).await,
                Some(Body::Handshake(handshake)) => following.settle(&handshake),
                Some(Body::Lost(lost)) => {
                    following.out(&lost.group_id);
                    Ok(())
                }
                _ => Ok(()),
            };
            if let Err(failure) = done {
                say(&json!({"event": "failed", "error": failure.to_string()}));
            }
            following.changes.send_modify(|count| *count += 1);
        }
    });
    let answering = Arc::clone(&member);
    let mut requests = member.agent.requests();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let way = digest(&[
                b"request",
                format!("agent:{}", answering.agent.name()).as_bytes(),
                b"",
            ]);
            let answered = async {
                let (id, _, payload) = answering.open(&request.payload, way).await?;
                let text = format!("re: {}", String::from_utf8_lossy(&payload));
                let way = digest(&[b"response", &request.payload, b""]);
                let sealed = answering.seal(&id, way, text)?;
                Ok::<_, Failure>(request.respond(sealed).await?)
            };
            if let Err(failure) = answered.await {
                say(&json!({"event": "failed", "error": failure.to_string()}));
            }
        }
    });
    Ok(member)
}

impl<C: MlsConfig + 'static> Told for Member<C> {
    fn tell(self: Arc<Self>, command: Command) -> Answer {
        Box::pin(async move { self.obey(command).await })
    }
}

impl<C: MlsConfig + 'static> Member<C> {
    async fn obey(self: Arc<Self>, command: Command) -> Result<Value, Failure> {
        match command {
            Command::Invite { group, names } => {
                let id = unhex(&group)?;
                let request = ClaimKeyPackagesRequest {
                    identities: names,
                    cipher_suite: 1,
                };
                let claimed = self
                    .packages
                    .clone()
                    .claim_key_packages(request)
                    .await?
                    .into_inner();
                let mut packages = Vec::new();
                for result in claimed.results {
                    if result.key_package.is_empty() {
                        return Err(result.message.into());
                    }
                    packages.push(MlsMessage::from_bytes(&result.key_package)?);
                }
                self.commit(&id, Change::Add(packages)).await?;
            }
            Command::Remove { group, name } => self.commit(&unhex(&group)?, Change::Remove(name)).await?,
            Command::Update { group, times } => {
                for _ in 0..times {
                    self.commit(&unhex(&group)?, Change::Nothing).await?;
                }
            }
            Command::Reinit { group } => self.commit(&unhex(&group)?, Change::ReInit).await?,
            Command::Leave { group } => {
                let id = unhex(&group)?;
                let proposal = self.with(&id, |live| {
                    let own = live.group.current_member_index();
                    Ok(live.group.propose_remove(own, Vec::new())?.to_bytes()?)
                })?;
                let request = SubmitProposalRequest {
                    group_id: id,
                    proposal: proposal.into(),
                };
                self.groups.clone().submit_proposal(request).await?;
            }
            Command::Subscribe { pattern } => self.subscribe(&pattern).await?,
            Command::Publish { group, topic, text } => {
                let way = digest(&[b"topic", topic.as_bytes(), b""]);
                let sealed = self.seal(&unhex(&group)?, way, text)?;
                let receivers = self.agent.publish_acked(topic, sealed).await?;
                return Ok(json!({"receivers": receivers}));
            }
            Command::Request { group, agent, text } => {
                let way = digest(&[b"request", format!("agent:{agent}").as_bytes(), b""]);
                let sealed = self.seal(&unhex(&group)?, way, text)?;
                let reply = self.agent.request(Target::agent(agent), sealed.clone()).await?;
                let (_, sender, payload) = self
                    .open(&reply.payload, digest(&[b"response", &sealed, b""]))
                    .await?;
                return Ok(json!({"text": String::from_utf8_lossy(&payload), "sender": sender}));
            }
            Command::Wait { group, mut members } => {
                members.sort_unstable();
                let id = unhex(&group)?;
                return self.until(&id, |told| told["members"] == json!(members)).await;
            }
            Command::Out { group } => {
                return self
                    .until(&unhex(&group)?, |told| told["is_member"] == false)
                    .await;
            }
            Command::Info { group } => return self.with(&unhex(&group)?, |live| self.told(live)),
            other => return Err(format!("{other:?} is nothing for it").into()),
        }
        Ok(json!({}))
    }

    fn live(&self) -> MutexGuard<'_, HashMap<Bytes, Live<C>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, id: &[u8], act: impl FnOnce(&mut Live<C>) -> Result<T, Failure>) -> Result<T, Failure> {
        act(self.live().get_mut(id).ok_or("it is not in this group")?)
    }

    /// Until a group, told as JSON, is as it should be.
    async fn until(&self, id: &[u8], is: impl Fn(&Value) -> bool) -> Result<Value, Failure> {
        let mut changes = self.changes.subscribe();
        loop {
            changes.mark_unchanged();
            let told = self.with(id, |live| self.told(live))?;
            if is(&told) {
                return Ok(told);
            }
            changes.changed().await?;
        }
    }

    fn told(&self, live: &Live<C>) -> Result<Value, Failure> {
        let mut members = Vec::new();
        for member in live.group.roster().members() {
            members.push(self.name(&member.signing_identity)?);
        }
        members.sort_unstable();
        let epoch = live.group.current_epoch();
        Ok(json!({"epoch": epoch, "members": members, "is_member": !live.removed}))
    }

    fn name(&self, identity: &SigningIdentity) -> Result<String, Failure> {
        let verified = verify(self.credential.verifier(), identity)?;
        let name = verified.subject.agent_name().ok_or("it is no agent")?;
        Ok(name.to_string())
    }

    async fn publish_packages(&self) -> Result<(), Failure> {
        let mut key_packages = Vec::new();
        for _ in 0..PACKAGES {
            let package = self.client.generate_key_package_message(
                ExtensionList::default(),
                ExtensionList::default(),
                None,
            )?;
            key_packages.push(package.to_bytes()?.into());
        }
        let request = PublishKeyPackagesRequest { key_packages };
        let judged = self
            .packages
            .clone()
            .publish_key_packages(request)
            .await?
            .into_inner();
        match judged
            .results
            .into_iter()
            .find(|result| !result.reason.is_empty())
        {
            Some(refused) => Err(format!("a key package: {}: {}", refused.reason, refused.message).into()),
            None => Ok(()),
        }
    }

    async fn join(&self, mail: Mail) -> Result<(), Failure> {
        let welcome = MlsMessage::from_bytes(&mail.welcome)?;
        let (group, _) = self.client.join_group(None, &welcome, None)?;
        let live = Live {
            group,
            sequence: mail.sequence,
            pending: None,
            removed: false,
        };
        self.live().insert(mail.group_id.clone(), live);
        self.asks.send(WatchGroupsRequest {
            group_id: mail.group_id.clone(),
            after_sequence: mail.sequence,
        })?;
        let take = TakeMailRequest { ids: vec![mail.id] };
        self.groups.clone().take_mail(take).await?;
        say(&json!({"event": "joined", "group": hex(&mail.group_id)}));
        Ok(())
    }

    fn settle(&self, handshake: &Handshake) -> Result<(), Failure> {
        self.with(&handshake.group_id, |live| {
            if handshake.sequence <= live.sequence || live.removed {
                return Ok(());
            }
            live.sequence = handshake.sequence;
            if live.pending.as_ref() == Some(&handshake.message) {
                live.pending = None;
                live.group.apply_pending_commit()?;
                return Ok(());
            }
            if handshake.epoch < live.group.current_epoch() {
                return Ok(());
            }
            let message = MlsMessage::from_bytes(&handshake.message)?;
            if let ReceivedMessage::Commit(commit) = live.group.process_incoming_message(message)? {
                live.pending = None;
                live.removed = matches!(commit.effect, CommitEffect::Removed { .. });
            }
            Ok(())
        })
    }

    fn out(&self, id: &[u8]) {
        if let Some(live) = self.live().get_mut(id) {
            live.removed = true;
        }
    }

    async fn commit(&self, id: &Bytes, change: Change) -> Result<(), Failure> {
        let (request, output) = self.with(id, |live| {
            let mut removed = None;
            if let Change::Remove(name) = &change {
                for member in live.group.roster().members() {
                    if self.name(&member.signing_identity)? == *name {
                        removed = Some(member.index);
                    }
                }
                removed.ok_or("there is no such member")?;
            }
            let epoch = live.group.current_epoch();
            live.group.clear_pending_commit();
            let mut builder = live.group.commit_builder();
            match change {
                Change::Add(packages) => {
                    for package in packages {
                        builder = builder.add_member(package)?;
                    }
                }
                Change::ReInit => {
                    let other = CipherSuite::P256_AES128;
                    builder =
                        builder.reinit(None, ProtocolVersion::MLS_10, other, ExtensionList::default())?;
                }
                Change::Remove(_) | Change::Nothing => {}
            }
            if let Some(index) = removed {
                builder = builder.remove_member(index)?;
            }
            let output = builder.build()?;
            let welcome = output.welcome_messages.first().map(MlsMessage::to_bytes);
            let info = output
                .external_commit_group_info
                .as_ref()
                .map(MlsMessage::to_bytes);
            let commit = Bytes::from(output.commit_message.to_bytes()?);
            live.pending = Some(commit.clone());
            let request = SubmitCommitRequest {
                group_id: id.clone(),
                epoch,
                commit: commit.clone(),
                welcome: welcome.transpose()?.unwrap_or_default().into(),
                group_info: info.transpose()?.unwrap_or_default().into(),
            };
            Ok((request, commit))
        })?;
        let answer = self.groups.clone().submit_commit(request).await;
        self.with(id, |live| {
            // It may have come with the log before the answer.
            if live.pending.take_if(|pending| *pending == output).is_some() {
                match answer.is_ok() {
                    true => drop(live.group.apply_pending_commit()?),
                    false => live.group.clear_pending_commit(),
                }
            }
            Ok(())
        })?;
        self.changes.send_modify(|count| *count += 1);
        match answer {
            Ok(_) => Ok(()),
            Err(status) => Err(refusal(&status).into()),
        }
    }

    fn seal(&self, id: &[u8], way: [u8; 32], text: String) -> Result<Bytes, Failure> {
        let content = Content {
            payload: text.into(),
            ..Content::default()
        };
        self.with(id, |live| {
            let sealed = live
                .group
                .encrypt_application_message(&content.encode_to_vec(), way.to_vec())?;
            Ok(sealed.to_bytes()?.into())
        })
    }

    /// Group, sender and payload of a message that came by a way; waits for the group and epoch that it is of.
    async fn open(&self, sealed: &[u8], way: [u8; 32]) -> Result<(Bytes, String, Bytes), Failure> {
        let message = MlsMessage::from_bytes(sealed)?;
        let id = message.group_id().ok_or("it is of no group")?.to_vec();
        let epoch = message.epoch().ok_or("it is of no epoch")?;
        let mut changes = self.changes.subscribe();
        loop {
            changes.mark_unchanged();
            let is_there = self
                .live()
                .get(&id[..])
                .is_some_and(|live| live.removed || live.group.current_epoch() >= epoch);
            if is_there {
                break;
            }
            changes.changed().await?;
        }
        self.with(&id, |live| {
            // Who was removed tries all the same, and shall not succeed. The roster of an epoch that is over may be another; nobody is
            // removed and replaced here.
            let ReceivedMessage::ApplicationMessage(opened) = live.group.process_incoming_message(message)?
            else {
                return Err("it is no application message".into());
            };
            if opened.authenticated_data != way {
                return Err("it was sent another way than it came".into());
            }
            let sender = live
                .group
                .member_at_index(opened.sender_index)
                .ok_or("its sender is gone")?;
            let content = Content::decode(opened.data())?;
            Ok((
                Bytes::from(id.clone()),
                self.name(&sender.signing_identity)?,
                content.payload,
            ))
        })
    }

    async fn subscribe(self: &Arc<Self>, pattern: &str) -> Result<(), Failure> {
        let mut subscription = self.agent.subscribe(pattern).await?;
        let member = Arc::clone(self);
        tokio::spawn(async move {
            while let Some(event) = subscription.next().await {
                let Event::Notification(notified) = event else {
                    say(&json!({"event": "gap"}));
                    continue;
                };
                // Its own come back too, and nobody reads what they have encrypted themselves.
                if notified.source == member.agent.name() {
                    continue;
                }
                let way = digest(&[b"topic", notified.topic.as_bytes(), b""]);
                let opened = member.open(&notified.payload, way).await;
                let opened = opened.and_then(|(_, sender, payload)| match sender == notified.source {
                    true => Ok(payload),
                    false => Err(format!("{sender} has encrypted it").into()),
                });
                say(&match opened {
                    Ok(payload) => json!({
                        "event": "message",
                        "topic": notified.topic,
                        "sender": notified.source,
                        "text": String::from_utf8_lossy(&payload),
                    }),
                    Err(failure) => json!({
                        "event": "unreadable",
                        "topic": notified.topic,
                        "source": notified.source,
                        "error": failure.to_string(),
                    }),
                });
            }
        });
        Ok(())
    }
}

/// What a commit is to do.
enum Change {
    Add(Vec<MlsMessage>),
    Remove(String),
    ReInit,
    Nothing,
}

/// The digest that binds a message to its way: each part with its length before it.
fn digest(parts: &[&[u8]; 3]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [&b"ringgate route 1"[..]].iter().chain(parts) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// Why the control process refuses, by its reason.
fn refusal(status: &tonic::Status) -> String {
    use tonic_types::StatusExt as _;
    let reason = status.get_details_error_info().map(|info| info.reason);
    format!("{}: {}", reason.unwrap_or_default(), status.message())
}

/// Members by their certificates, as everybody here judges them.
#[derive(Clone)]
struct Certificates {
    verifier: Arc<SharedVerifier>,
    delivery: DeliveryService,
}

/// A member who is not let in.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

impl IntoAnyError for Refused {
    fn into_dyn_error(self) -> Result<Box<dyn std::error::Error + Send + Sync>, Self> {
        Ok(self.into())
    }
}

fn verify(verifier: &SharedVerifier, identity: &SigningIdentity) -> Result<Verified, Refused> {
    let MlsCredential::X509(chain) = &identity.credential else {
        return Err(Refused("it has no certificate".to_owned()));
    };
    let chain: Vec<CertificateDer<'static>> = chain
        .iter()
        .map(|der| CertificateDer::from(der.as_ref().to_vec()))
        .collect();
    let key = identity.signature_key.as_ref().try_into();
    let key: &[u8; 32] = key.map_err(|_| Refused("its key is no Ed25519 key".to_owned()))?;
    verifier
        .load()
        .verify_for_key(&chain, key, UnixTime::now())
        .map_err(|reason| Refused(reason.to_string()))
}

impl IdentityProvider for Certificates {
    type Error = Refused;

    fn validate_member(
        &self,
        identity: &SigningIdentity,
        _timestamp: Option<MlsTime>,
        _context: MemberValidationContext<'_>,
    ) -> Result<(), Refused> {
        verify(&self.verifier, identity).map(drop)
    }

    fn validate_external_sender(
        &self,
        identity: &SigningIdentity,
        _timestamp: Option<MlsTime>,
        _extensions: Option<&ExtensionList>,
    ) -> Result<(), Refused> {
        match identity.signature_key.as_ref() == &self.delivery.signature_key[..] {
            true => Ok(()),
            false => Err(Refused(
                "an external sender that is not the delivery service".to_owned(),
            )),
        }
    }

    fn identity(&self, identity: &SigningIdentity, _extensions: &ExtensionList) -> Result<Vec<u8>, Refused> {
        verify(&self.verifier, identity).map(|verified| verified.uri.into_bytes())
    }

    fn valid_successor(
        &self,
        before: &SigningIdentity,
        after: &SigningIdentity,
        _extensions: &ExtensionList,
    ) -> Result<bool, Refused> {
        Ok(verify(&self.verifier, before)?.uri == verify(&self.verifier, after)?.uri)
    }

    fn supported_types(&self) -> Vec<CredentialType> {
        // The second is the delivery service's, as external sender.
        vec![CredentialType::X509, CredentialType::BASIC]
    }
}
