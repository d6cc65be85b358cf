//! The link's life: prepared before the node starts, then attached as long as the node runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use arc_swap::ArcSwap;
use glommio::timer::Timer;
use glommio::{LocalExecutorBuilder, Placement};
use ringgate_identity::tls::{Expected, Serving, SharedCredential, client_config, server_verifier};
use ringgate_identity::{Reason, Revocations, SharedVerifier, Verifier};
use rustls::ClientConfig;
use tokio::sync::{mpsc, oneshot};

use super::enrol::{Applicant, first_tls, renew_in, trust, verified};
use super::error::ControlError;
use super::files::{Credential, Folder};
use super::reports::{LinkSender, Report, reports};
use super::rpc::Channel;
use super::session::{self, Ended};
use super::state::State;
use crate::agents::random;
use crate::config::{Config, Sources};
use crate::observe::{CommandSender, LinkStatus};
use crate::rules::Rules;

/// The first pause after a failure; each following one is twice as long, and a random part of it is waited.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// The longest pause: what a node may be late when the control process is back.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Memory that glommio registers for file I/O on the link's executor, which does none through it.
const GLOMMIO_IO_BYTES: usize = 128 * 1024;

/// What a node starts with.
pub struct Start {
    /// Its settings, with those that the control process told.
    pub config: Config,
    /// The rules for its cores.
    pub rules: Arc<Rules>,
    /// Its certificate and key, which change while it runs.
    pub credential: Arc<SharedCredential>,
    /// Who verifies agents, which changes too.
    pub verifier: Arc<SharedVerifier>,
}

/// A link that is prepared: its thread waits for the node to run.
pub struct Link {
    running: oneshot::Sender<Running>,
    sender: LinkSender,
}

/// A node that runs.
pub(super) struct Running {
    /// Where agents connect.
    pub(super) address: SocketAddr,
    pub(super) cores: Vec<CommandSender>,
    /// The settings in force.
    pub(super) config: Arc<ArcSwap<Config>>,
}

/// What the link knows and keeps.
pub(super) struct Member {
    pub(super) sources: Sources,
    pub(super) folder: Folder,
    pub(super) applicant: Applicant,
    pub(super) credential: Arc<SharedCredential>,
    pub(super) verifier: Arc<SharedVerifier>,
    pub(super) state: Option<State>,
    pub(super) status: Arc<LinkStatus>,
    /// Until the certificate is to be renewed, from this moment on.
    pub(super) renew_at: std::time::Instant,
}

impl Link {
    /// Gets the node's credential and state: from its folder, or else from the control process, however long that takes.
    ///
    /// # Errors
    /// [`ControlError`] when somebody has to do something first.
    pub fn start(sources: Sources, config: Config) -> Result<(Link, Start), ControlError> {
        let (started, start) = channel();
        let (running, node) = oneshot::channel();
        let status = Arc::new(LinkStatus::default());
        let (sender, reports) = reports(status.clone());
        LocalExecutorBuilder::new(Placement::Unbound)
            .name("control-link")
            .io_memory(GLOMMIO_IO_BYTES)
            .spawn(move || live(sources, config, status, started, node, reports))
            .map_err(|error| ControlError::Executor(error.to_string()))?;
        let start = start
            .recv()
            .unwrap_or_else(|_| Err(ControlError::Executor("it has ended".to_owned())))?;
        Ok((Link { running, sender }, start))
    }

    /// The node runs: from now on the link is attached whenever the control process is there.
    ///
    /// # Errors
    /// [`ControlError::Executor`] when the link's thread is gone.
    pub fn run(
        self,
        address: SocketAddr,
        cores: Vec<CommandSender>,
        config: Arc<ArcSwap<Config>>,
    ) -> Result<LinkSender, ControlError> {
        let running = Running {
            address,
            cores,
            config,
        };
        self.running
            .send(running)
            .map_err(|_| ControlError::Executor("it has ended".to_owned()))?;
        Ok(self.sender)
    }
}

async fn live(
    sources: Sources,
    config: Config,
    status: Arc<LinkStatus>,
    started: Sender<Result<Start, ControlError>>,
    node: oneshot::Receiver<Running>,
    mut reports: mpsc::Receiver<Report>,
) {
    let urls = config.control.urls.clone();
    let prepared = match prepare(sources, &config, status, &mut reports).await {
        Ok((member, start)) => started.send(Ok(start)).map(|()| member).ok(),
        Err(error) => {
            // Who starts the node waits for this.
            let _ = started.send(Err(error));
            None
        }
    };
    let Some(mut member) = prepared else { return };
    let Ok(running) = node.await else { return };
    if let Some(state) = &member.state {
        session::tell_windows(&Arc::new(state.all_windows()), &running);
    }
    let mut pause = Pause::default();
    for url in urls.iter().cycle() {
        match attach(&mut member, url, &running, &mut reports).await {
            Ok(Ended::Renewed) => {
                tracing::info!("this node has a new certificate");
                pause = Pause::default();
                continue;
            }
            Ok(Ended::Closed) => {
                tracing::info!(url, "the control process closed the link; attaching again");
                pause = Pause::default();
            }
            Err(error) => {
                tracing::warn!(url, %error, "not attached to the control process; going on without it")
            }
        }
        if member.status.is_attached() {
            pause = Pause::default();
        }
        member.status.set_attached(false);
        pause.wait().await;
    }
}

async fn attach(
    member: &mut Member,
    url: &str,
    running: &Running,
    reports: &mut mpsc::Receiver<Report>,
) -> Result<Ended, ControlError> {
    let channel = Channel::connect(url, member.tls()?).await?;
    session::run(member, channel, Some(running), reports).await
}

impl Member {
    /// How this node and the control process show themselves to each other.
    fn tls(&self) -> Result<Arc<ClientConfig>, ControlError> {
        let verifier = server_verifier(self.verifier.clone(), Expected::Host);
        Ok(Arc::new(client_config(verifier, Some(self.credential.clone()))?))
    }

    /// Other certificates, from now on.
    pub(super) fn take_credential(
        &mut self,
        credential: &Credential,
        serving: Serving,
    ) -> Result<(), ControlError> {
        let verifier = self.verifier.load();
        let verified = verified(credential, verifier.bundle())?;
        self.folder.save_serving(&serving)?;
        self.folder.save_credential(credential)?;
        self.credential
            .swap(credential.chain.clone(), &credential.key, Some(serving))?;
        self.renew_at = std::time::Instant::now() + renew_in(&verified, u64::from_le_bytes(random()));
        Ok(())
    }
}

/// Gets what a node needs to start.
async fn prepare(
    sources: Sources,
    config: &Config,
    status: Arc<LinkStatus>,
    reports: &mut mpsc::Receiver<Report>,
) -> Result<(Member, Start), ControlError> {
    let folder = Folder::open(&config.control.state_dir)?;
    let applicant = Applicant::new(config)?;
    let state = cached(&folder, &sources);
    let (verifier, credential) = match (folder.credential()?, &state) {
        (Some(credential), Some(state)) => match verified(&credential, state.verifier.bundle()) {
            Err(ControlError::Certificate(Reason::Expired)) => {
                tracing::warn!("this node's certificate has expired; enrolling anew");
                enrol(config, &folder, &applicant, None).await?
            }
            result => {
                result?;
                let revocations = state.verifier.revocations().clone();
                (state.verifier.with_revocations(revocations), credential)
            }
        },
        (credential, _) => enrol(config, &folder, &applicant, credential).await?,
    };
    let verified = verified(&credential, verifier.bundle())?;
    let serving = folder.serving()?;
    let renew_in = match &serving {
        Some(_) => renew_in(&verified, u64::from_le_bytes(random())),
        None => Duration::ZERO,
    };
    let credential = SharedCredential::serving(credential.chain, &credential.key, serving)?;
    let mut member = Member {
        sources,
        folder,
        applicant,
        credential: Arc::new(credential),
        verifier: Arc::new(SharedVerifier::new(verifier)),
        state,
        status,
        renew_at: std::time::Instant::now() + renew_in,
    };
    if member.state.is_none() {
        first_state(&mut member, config, reports).await?;
    }
    let Some(state) = &member.state else {
        return Err(ControlError::Unusable("it told no state".to_owned()));
    };
    member.status.set_version(state.version);
    let start = Start {
        config: Config::clone(&state.config),
        rules: Arc::new(state.rules()),
        credential: member.credential.clone(),
        verifier: member.verifier.clone(),
    };
    Ok((member, start))
}

/// The state of the last run, if it is of use.
fn cached(folder: &Folder, sources: &Sources) -> Option<State> {
    let unfit = |error: &dyn std::error::Error| {
        tracing::warn!(%error, "the state of the last run cannot be used; waiting for the control process");
    };
    let snapshot = folder.state().inspect_err(|error| unfit(error)).ok()??;
    State::after(None, snapshot, sources)
        .inspect_err(|error| unfit(error))
        .ok()
}

/// Asks the control process whom to trust, and for a certificate unless there is one. Tries until it is there.
async fn enrol(
    config: &Config,
    folder: &Folder,
    applicant: &Applicant,
    credential: Option<Credential>,
) -> Result<(Verifier, Credential), ControlError> {
    let tls = first_tls(config)?;
    let join_token = match &credential {
        Some(_) => String::new(),
        None => join_token(config)?,
    };
    let mut pause = Pause::default();
    for url in config.control.urls.iter().cycle() {
        let attempt = async {
            let channel = Channel::connect(url, tls.clone()).await?;
            let trust = trust(&channel).await?;
            let credential = match &credential {
                Some(credential) => credential.clone(),
                None => {
                    let (enrolled, serving) = applicant.enrol(&channel, &trust, join_token.clone()).await?;
                    folder.save_serving(&serving)?;
                    folder.save_credential(&enrolled)?;
                    enrolled
                }
            };
            let verifier = Verifier::new(trust, Revocations::default())
                .map_err(|error| ControlError::Unusable(error.to_string()))?;
            Ok::<_, ControlError>((verifier, credential))
        };
        match attempt.await {
            Ok(enrolled) => return Ok(enrolled),
            Err(error) if error.is_final() => return Err(error),
            Err(error) => tracing::warn!(url, %error, "cannot enrol yet; trying again"),
        }
        pause.wait().await;
    }
    Err(ControlError::Unusable(
        "no control process is configured".to_owned(),
    ))
}

fn join_token(config: &Config) -> Result<String, ControlError> {
    let Some(path) = &config.control.join_token else {
        return Err(ControlError::NoJoinToken {
            node: config.node.clone(),
        });
    };
    let text = std::fs::read_to_string(path).map_err(|source| ControlError::File {
        path: path.clone(),
        source,
    })?;
    Ok(text.trim().to_owned())
}

/// Attaches until a first state is in force.
async fn first_state(
    member: &mut Member,
    config: &Config,
    reports: &mut mpsc::Receiver<Report>,
) -> Result<(), ControlError> {
    let mut pause = Pause::default();
    for url in config.control.urls.iter().cycle() {
        let attempt = async {
            let channel = Channel::connect(url, member.tls()?).await?;
            session::run(member, channel, None, reports).await
        };
        match attempt.await {
            Ok(_) if member.state.is_some() => return Ok(()),
            Ok(_) => tracing::warn!(
                url,
                "the control process told no state that can be used; trying again"
            ),
            Err(error) if error.is_final() => return Err(error),
            Err(error) => tracing::warn!(url, %error, "no state yet; trying again"),
        }
        pause.wait().await;
    }
    Ok(())
}

/// Pauses between attempts.
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Pause {
        Pause(PAUSE_FIRST)
    }
}

impl Pause {
    /// Waits between half of the pause and the whole, so that nodes which lost the same control process do not come back together.
    async fn wait(&mut self) {
        let whole = self.0.as_millis() as u64;
        let part = whole / 2 + u64::from_le_bytes(random()) % (whole / 2).max(1);
        self.0 = (self.0 * 2).min(PAUSE_MAX);
        Timer::new(Duration::from_millis(part)).await;
    }
}
