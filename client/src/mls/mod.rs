//! End-to-end encryption: groups of agents (MLS, RFC 9420), and messages that only their members read.
//!
//! ```no_run
//! # use ringgate_client::{Agent, Credential, groups::{Groups, GroupOptions}};
//! # async fn demo(agent: Agent, credential: Credential) -> Result<(), Box<dyn std::error::Error>> {
//! let groups = Groups::open(&agent, &credential).await?;
//! let group = groups.create(GroupOptions::default()).await?;
//! group.invite(&["acme/sales/bot/1"]).await?;
//! group.publish("offers/today", "two for one").await?;
//! # Ok(())
//! # }
//! ```
//!
//! What to know:
//!
//! * **Everybody is verified**: on joining, each member, and with each commit whoever comes or renews; by the certificate of the identity
//!   service, whose key must be the leaf's. There is no way around it.
//! * **Handshakes go through the control process**, which orders them and holds no secret. What agents say to each other goes through the
//!   gateway, as ciphertext. The way that it goes is bound to it ([`Route`]).
//! * **Groups go on by themselves**: commits are processed as they come, certificates that are renewed are rotated into the groups,
//!   key packages are kept in supply, and who fell behind joins again.
//! * **A removed member reads nothing more.** What is sent after it has left is encrypted with keys that it never had.

mod calls;
mod content;
mod engine;
mod error;
mod feed;
mod group;
mod kept;
mod traffic;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use ringgate_mls::Package;
use ringgate_mls::profile::Mode;
use ringgate_proto::control::v1::{self as proto, WatchGroupsRequest};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::{Agent, Credential, Seal};
use calls::Calls;
use engine::{Engine, Op, Opening};

pub use content::Route;
pub use error::GroupError;
pub use group::{Group, GroupInfo, Peer};
pub use traffic::{
    Opened, ProtectedEvent, ProtectedReceiver, ProtectedReply, ProtectedRequest, ProtectedRequests,
    ProtectedSender, ProtectedStream, ProtectedStreams, ProtectedSubscription,
};

/// Key packages that an agent keeps published: it can be invited so often while it is away.
const PACKAGES_PUBLISHED: usize = 24;
/// How long a message waits for the handshake that it needs: that goes another way, and may be overtaken by it.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
/// How often a commit is made anew because another was first.
const COMMIT_ATTEMPTS: usize = 16;
/// Groups joined that nobody has asked for yet; more are joined all the same, and found by [`Groups::group`].
const JOINED_MAX: usize = 256;
/// After a commit was refused: time until the one that was first has come.
const COMMIT_PATIENCE: Duration = Duration::from_secs(10);

/// The groups of an agent. Clones are handles to the same. They go on in the background for as long as there is one.
#[derive(Clone)]
pub struct Groups {
    inner: Arc<Inner>,
}

/// What a group is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupOptions {
    /// Ciphertexts are a multiple of so many bytes, so that their length says less; the gateway refuses others. 0: of any length.
    /// Default 256.
    pub padding_bytes: u32,
    /// Whether handshakes are hidden from the delivery service. It then neither validates them nor helps members who lost their state.
    /// Default no.
    pub sealed: bool,
}

impl Default for GroupOptions {
    fn default() -> Self {
        GroupOptions {
            padding_bytes: 256,
            sealed: false,
        }
    }
}

struct Inner {
    agent: Agent,
    credential: Credential,
    calls: Calls,
    engine: Mutex<Engine>,
    /// Counts what happened to any group.
    changes: watch::Sender<u64>,
    /// What the feed is asked to tell of.
    asks: Mutex<Option<mpsc::UnboundedSender<WatchGroupsRequest>>>,
    joined: mpsc::Sender<Group>,
    joined_out: tokio::sync::Mutex<mpsc::Receiver<Group>>,
    /// Where the groups are kept, and the turn to write there.
    store: Option<Store>,
    /// Two-party sessions by the peer's name.
    sessions: tokio::sync::Mutex<HashMap<String, Bytes>>,
    tasks: Mutex<Vec<AbortHandle>>,
}

/// A file, and what it is encrypted with.
struct Store {
    path: PathBuf,
    seal: Seal,
    turn: Arc<Mutex<()>>,
}

impl std::fmt::Debug for Groups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Groups")
            .field("agent", &self.inner.agent.name())
            .finish_non_exhaustive()
    }
}

impl Groups {
    /// The groups of an agent with a credential: publishes its key packages, and follows its mail and groups from now on.
    ///
    /// # Errors
    /// [`GroupError`].
    pub async fn open(agent: &Agent, credential: &Credential) -> Result<Groups, GroupError> {
        Groups::start(agent, credential, None).await
    }

    /// The same, with what is in a file (if it is there), and kept in it from now on, encrypted.
    ///
    /// # Errors
    /// [`GroupError`]: also that the file cannot be read.
    pub async fn open_kept(
        agent: &Agent,
        credential: &Credential,
        path: impl Into<PathBuf>,
        seal: Seal,
    ) -> Result<Groups, GroupError> {
        let store = Store {
            path: path.into(),
            seal,
            turn: Arc::default(),
        };
        Groups::start(agent, credential, Some(store)).await
    }

    async fn start(
        agent: &Agent,
        credential: &Credential,
        store: Option<Store>,
    ) -> Result<Groups, GroupError> {
        let calls = Calls::new(credential.clone());
        let delivery = calls.delivery_service().await?;
        let held = credential.held();
        let mut engine = Engine::new(&held, Arc::clone(credential.verifier()), &delivery);
        let restored = match &store {
            Some(store) => kept::restore(&mut engine, &store.path, &store.seal)?,
            None => Vec::new(),
        };
        let (joined, joined_out) = mpsc::channel(JOINED_MAX);
        let inner = Arc::new(Inner {
            agent: agent.clone(),
            credential: credential.clone(),
            calls,
            engine: Mutex::new(engine),
            changes: watch::Sender::new(0),
            asks: Mutex::default(),
            joined,
            joined_out: tokio::sync::Mutex::new(joined_out),
            store,
            sessions: tokio::sync::Mutex::default(),
            tasks: Mutex::default(),
        });
        let groups = Groups { inner };
        groups.publish_packages(true).await?;
        let weak = Arc::downgrade(&groups.inner);
        let tasks = [
            tokio::spawn(feed::run(Weak::clone(&weak))).abort_handle(),
            tokio::spawn(feed::supply(Weak::clone(&weak))).abort_handle(),
            tokio::spawn(feed::rotate(weak)).abort_handle(),
        ];
        groups.inner.tasks().extend(tasks);
        for id in restored {
            // Before anything is encrypted: the ratchets on disk may be behind those that were used.
            if let Err(error) = groups.inner.commit(&id, &Op::Update).await {
                tracing::warn!(%error, "a group that was kept is joined again");
                groups.inner.resync(&id).await?;
            }
        }
        groups.inner.keep().await?;
        Ok(groups)
    }

    /// Makes a group in which this agent is alone.
    ///
    /// # Errors
    /// [`GroupError`].
    pub async fn create(&self, options: GroupOptions) -> Result<Group, GroupError> {
        let inner = &self.inner;
        let id = inner.engine().random()?;
        let mode = if options.sealed {
            Mode::Sealed
        } else {
            Mode::Assisted
        };
        let info = inner.engine().create(&id, mode, options.padding_bytes)?;
        let request = proto::CreateGroupRequest {
            group_id: id.clone(),
            mode: match options.sealed {
                true => proto::GroupMode::Sealed.into(),
                false => proto::GroupMode::Assisted.into(),
            },
            padding_bytes: options.padding_bytes,
            group_info: if options.sealed { Bytes::new() } else { info },
        };
        if let Err(error) = inner.calls.create(request).await {
            inner.engine().forget(&id);
            return Err(error);
        }
        inner.ask(&id, 0);
        inner.keep().await?;
        Ok(self.handle(id))
    }

    /// The next group that somebody else has taken this agent into. Several callers share them.
    pub async fn joined(&self) -> Option<Group> {
        self.inner.joined_out.lock().await.recv().await
    }

    /// A group by its id, if this agent is a member.
    #[must_use]
    pub fn group(&self, id: &[u8]) -> Option<Group> {
        let known = self.inner.engine().groups.contains_key(id);
        known.then(|| self.handle(Bytes::copy_from_slice(id)))
    }

    /// All groups that this agent is in.
    #[must_use]
    pub fn all(&self) -> Vec<Group> {
        let ids: Vec<Bytes> = self.inner.engine().groups.keys().cloned().collect();
        ids.into_iter().map(|id| self.handle(id)).collect()
    }

    /// A session with one other agent: the group of two that this agent made for it, or makes now.
    ///
    /// # Errors
    /// [`GroupError`]: also that the peer has no key package left.
    pub async fn session(&self, peer: &str) -> Result<Group, GroupError> {
        let mut sessions = self.inner.sessions.lock().await;
        if let Some(group) = sessions.get(peer).and_then(|id| self.group(id))
            && group.info()?.members.iter().any(|member| member.name == peer)
        {
            return Ok(group);
        }
        let group = self.create(GroupOptions::default()).await?;
        group.invite(&[peer]).await?;
        sessions.insert(peer.to_owned(), group.id().clone());
        Ok(group)
    }

    /// Decrypts a message that came by a way, from who the gateway says (empty: it does not say). Waits for the handshake that it needs,
    /// for at most ten seconds.
    ///
    /// # Errors
    /// [`GroupError`].
    pub async fn open_message(
        &self,
        route: Route<'_>,
        payload: &[u8],
        source: &str,
    ) -> Result<Opened, GroupError> {
        let digest = route.digest();
        let mut changes = self.inner.changes.subscribe();
        let opened = async {
            loop {
                changes.mark_unchanged();
                let opening = self.inner.engine().open(payload, digest)?;
                if let Opening::Opened { content, sender } = opening {
                    return Ok::<_, GroupError>((content, sender));
                }
                changes.changed().await.map_err(|_| GroupError::NotAMember)?;
            }
        };
        let opened = tokio::time::timeout(HANDSHAKE_PATIENCE, opened).await;
        let (content, sender) =
            opened.map_err(|_| GroupError::TooLate("the handshake that the message needs"))??;
        if !source.is_empty() && sender.name != source {
            return Err(GroupError::OtherSender {
                told: source.to_owned(),
                found: sender.name,
            });
        }
        let group = ringgate_envelope::application(payload).map(|header| header.group.to_vec());
        let group = self.handle(group.unwrap_or_default().into());
        Opened::new(group, content::Content::read(content)?, sender)
    }

    /// Publishes key packages until there are enough; and one of last resort, which takes the place of the one before.
    async fn publish_packages(&self, last_resort: bool) -> Result<(), GroupError> {
        let pool = self.inner.calls.pool().await?;
        let count = PACKAGES_PUBLISHED.saturating_sub(pool.available as usize);
        let packages = self.inner.engine().key_packages(count, last_resort)?;
        if packages.is_empty() {
            return Ok(());
        }
        // Their private keys before others learn of them.
        self.inner.keep().await?;
        self.inner.calls.publish(packages).await
    }

    /// The agent that they are of.
    #[must_use]
    pub fn agent(&self) -> &Agent {
        &self.inner.agent
    }

    fn random(&self) -> Result<Bytes, GroupError> {
        self.inner.engine().random()
    }

    fn handle(&self, id: Bytes) -> Group {
        Group::new(self.clone(), id)
    }
}

impl Inner {
    fn engine(&self) -> MutexGuard<'_, Engine> {
        // A panic in the MLS library leaves nothing that would be worse than another error.
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<AbortHandle>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the feed tell of a group.
    fn ask(&self, id: &Bytes, after_sequence: u64) {
        let asks = self.asks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asks) = &*asks {
            // An error says that the feed is being connected again; it then asks for all.
            let _ = asks.send(WatchGroupsRequest {
                group_id: id.clone(),
                after_sequence,
            });
        }
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Writes all groups to where they are kept.
    async fn keep(&self) -> Result<(), GroupError> {
        let Some(store) = &self.store else { return Ok(()) };
        let text = kept::snapshot_of(&self.engine())?;
        let (path, seal, turn) = (store.path.clone(), store.seal.clone(), Arc::clone(&store.turn));
        // Disks and passphrases take their time.
        let written = tokio::task::spawn_blocking(move || {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            kept::write(&path, text, &seal)
        });
        written
            .await
            .map_err(|_| GroupError::Store("the runtime is ending".to_owned()))?
    }

    /// Commits, and commits anew as long as others are first.
    async fn commit(&self, id: &Bytes, op: &Op) -> Result<(), GroupError> {
        let turn = self.engine().groups.get(id).map(|live| Arc::clone(&live.turn));
        let turn = turn.ok_or(GroupError::NotAMember)?;
        let _turn = turn.lock().await;
        for _ in 0..COMMIT_ATTEMPTS {
            let mut changes = self.changes.subscribe();
            let bundle = self.engine().commit(id, op)?;
            let epoch = bundle.epoch;
            match self.calls.commit(id, bundle).await {
                Ok(committed) => {
                    self.engine().accepted(id, epoch, committed.sequence)?;
                    self.changed();
                    return self.keep().await;
                }
                Err(error) => {
                    self.engine().refused(id)?;
                    if !matches!(error.reason(), "STALE_EPOCH" | "EVICTION_NOT_COVERED") {
                        return Err(error);
                    }
                    // What this agent has not seen is on its way.
                    changes.mark_unchanged();
                    let seen = self.engine().groups.get(id).map(engine::Live::epoch);
                    if seen == Some(epoch) {
                        let _ = tokio::time::timeout(COMMIT_PATIENCE, changes.changed()).await;
                    }
                }
            }
        }
        Err(GroupError::TooLate("a turn to commit: others were always first"))
    }

    /// Encrypts. What was proposed is committed first.
    async fn seal(&self, id: &Bytes, route: Route<'_>, content: &[u8]) -> Result<Bytes, GroupError> {
        let digest = route.digest();
        for _ in 0..COMMIT_ATTEMPTS {
            if !self.engine().has_proposals(id) {
                return self.engine().seal(id, digest, content);
            }
            self.commit_proposals(id).await?;
        }
        Err(GroupError::TooLate("a turn to commit to what was proposed"))
    }

    /// Commits to what was proposed, if nobody has by then.
    async fn commit_proposals(&self, id: &Bytes) -> Result<(), GroupError> {
        let waiting = self.engine().has_proposals(id);
        match waiting {
            true => self.commit(id, &Op::Update).await,
            false => Ok(()),
        }
    }

    /// Joins a group again whose state here is of no more use.
    async fn resync(&self, id: &Bytes) -> Result<(), GroupError> {
        for _ in 0..COMMIT_ATTEMPTS {
            let told = self.calls.group_info(id).await?;
            let bundle = self.engine().resync(id, &told)?;
            match self.calls.commit(id, bundle).await {
                Ok(committed) => {
                    if let Some(live) = self.engine().groups.get_mut(id) {
                        live.sequence = committed.sequence;
                    }
                    self.changed();
                    return self.keep().await;
                }
                Err(error) => {
                    self.engine().forget(id);
                    if error.reason() != "STALE_EPOCH" {
                        return Err(error);
                    }
                }
            }
        }
        Err(GroupError::TooLate(
            "a turn to join again: others were always first",
        ))
    }

    /// A key package of each agent, verified to be its own.
    async fn claim(&self, names: &[&str]) -> Result<Vec<openmls::prelude::KeyPackage>, GroupError> {
        let claimed = self.calls.claim(names).await?;
        let verifier = self.credential.verifier().load();
        let mut packages = Vec::with_capacity(names.len());
        for (name, claimed) in names.iter().zip(claimed) {
            if claimed.key_package.is_empty() {
                return Err(GroupError::Service {
                    reason: claimed.reason,
                    message: claimed.message,
                });
            }
            let package = Package::check(
                &claimed.key_package,
                &verifier,
                ringgate_identity::UnixTime::now(),
            )?;
            let found = package.owner.subject.agent_name().map(|name| name.to_string());
            if found.as_deref() != Some(*name) {
                return Err(GroupError::OtherSender {
                    told: (*name).to_owned(),
                    found: package.owner.uri,
                });
            }
            packages.push(package.package);
        }
        Ok(packages)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tasks().drain(..).for_each(|task| task.abort());
    }
}
