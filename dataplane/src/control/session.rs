//! One attachment to the control process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future::or;
use glommio::timer::Timer;
use ringgate_proto::control::v1::{self as proto, NodeMessage, NodeState, node_message::Body};
use tokio::sync::mpsc;

use super::error::{ControlError, StateError};
use super::link::{Member, Running};
use super::reports::{Batch, Report};
use super::rpc::{Channel, Receiver, Sender, within};
use super::state::{Parts, State};
use crate::observe::{Command, Order};
use crate::rules::WindowChange;

const ATTACH: &str = "ringgate.control.v1.Nodes/Attach";
/// How long one message may take to leave.
const SEND_PATIENCE: Duration = Duration::from_secs(10);
/// How long the cores may take to put rules in force. One that takes longer is stuck.
const CORES_PATIENCE: Duration = Duration::from_secs(5);

/// How an attachment ended, where nothing was wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The control process closed it, or there is nothing left to do.
    Closed,
    /// There is a new certificate to attach with.
    Renewed,
}

enum Event {
    State(Option<Box<NodeState>>),
    Report(Report),
    RenewalDue,
}

/// Attaches and stays so. Without a node that runs it ends after the first state.
pub(super) async fn run(
    member: &mut Member,
    channel: Channel,
    running: Option<&Running>,
    reports: &mut mpsc::Receiver<Report>,
) -> Result<Ended, ControlError> {
    let (mut sender, mut receiver) = channel.stream(ATTACH).await?;
    say(&mut sender, Body::Hello(hello(member, running))).await?;
    let node = member.applicant.id.to_string();
    let mut told_presence = false;
    let mut parts = Parts::default();
    loop {
        let event = next(&mut receiver, running.map(|_| &mut *reports), member.renew_at).await?;
        match event {
            Event::State(None) => return Ok(Ended::Closed),
            Event::State(Some(part)) => {
                if let Some(running) = running
                    && !std::mem::replace(&mut told_presence, true)
                {
                    attached(member, running, &mut sender).await?;
                }
                let version = part.version;
                let outcome = match parts.add(*part) {
                    Ok(None) => continue,
                    Ok(Some(change)) => put_in_force(member, change, running).await,
                    Err(error) => Err(error),
                };
                let lost_track = matches!(outcome, Err(StateError::Order { .. }));
                answer(member, &mut sender, version, outcome).await?;
                if lost_track || running.is_none() {
                    return Ok(Ended::Closed);
                }
            }
            Event::Report(report) => {
                for message in Batch::new(&node).gather(report, reports) {
                    say(&mut sender, message).await?;
                }
            }
            Event::RenewalDue => {
                let trust = member.verifier.load();
                let (renewed, serving) = member.applicant.renew(&channel, trust.bundle()).await?;
                member.take_credential(&renewed, serving)?;
                return Ok(Ended::Renewed);
            }
        }
    }
}

fn hello(member: &Member, running: Option<&Running>) -> proto::Hello {
    let state = member.state.as_ref();
    proto::Hello {
        node: member.applicant.id.to_string(),
        software: concat!("ringgate-dataplane/", env!("CARGO_PKG_VERSION")).to_owned(),
        cores: running.map_or(0, |running| running.cores.len() as u32),
        agents_address: running.map_or(String::new(), |running| running.address.to_string()),
        http_address: running
            .and_then(|running| running.config.load().http)
            .map_or(String::new(), |address| address.to_string()),
        version: state.map_or(0, |state| state.version),
        lineage: state.map_or_else(Default::default, |state| state.lineage.clone()),
    }
}

/// What happens next. Each of the three can be given up and waited for again.
async fn next(
    receiver: &mut Receiver,
    reports: Option<&mut mpsc::Receiver<Report>>,
    renew_at: Instant,
) -> Result<Event, ControlError> {
    let state = async {
        let told = receiver.next().await?;
        Ok(Event::State(told.map(Box::new)))
    };
    let report = async {
        match reports {
            Some(reports) => match reports.recv().await {
                Some(report) => Ok(Event::Report(report)),
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    };
    let renewal = async {
        Timer::new(renew_at.saturating_duration_since(Instant::now())).await;
        Ok(Event::RenewalDue)
    };
    or(state, or(report, renewal)).await
}

/// The control process is there: it hears who is here.
async fn attached(member: &Member, running: &Running, sender: &mut Sender) -> Result<(), ControlError> {
    tracing::info!("attached to the control process");
    let all = proto::Presence {
        all: true,
        ..proto::Presence::default()
    };
    say(sender, Body::Presence(all)).await?;
    member.status.set_attached(true);
    for core in &running.cores {
        core.send(Command::Order(Order::Presence));
    }
    Ok(())
}

async fn answer(
    member: &Member,
    sender: &mut Sender,
    version: u64,
    outcome: Result<(), StateError>,
) -> Result<(), ControlError> {
    let body = match outcome {
        Ok(()) => {
            tracing::info!(version, "state in force");
            Body::Applied(proto::Applied { version })
        }
        Err(error) => {
            tracing::error!(version, %error, "state rejected; the one before stays in force");
            member.status.count_rejected();
            let reason = error.to_string();
            Body::Rejected(proto::Rejected { version, reason })
        }
    };
    say(sender, body).await
}

async fn say(sender: &mut Sender, body: Body) -> Result<(), ControlError> {
    within(SEND_PATIENCE, sender.send(&NodeMessage { body: Some(body) })).await
}

/// Checks a change, and puts the state after it in force: first for handshakes, then on all cores, then on disk.
async fn put_in_force(
    member: &mut Member,
    change: NodeState,
    running: Option<&Running>,
) -> Result<(), StateError> {
    let state = State::after(member.state.as_ref(), change, &member.sources)?;
    let revocations = state.verifier.revocations().clone();
    member.verifier.swap(state.verifier.with_revocations(revocations));
    if let Some(running) = running {
        // Before the rules, whose arrival at the core is waited for: orders keep their order.
        tell_windows(&state.windows, running);
        if !state.same_rules {
            on_all_cores(&state, running).await?;
            tell_changes(&state, running);
        }
    }
    let (folder, snapshot) = (member.folder.clone(), state.snapshot());
    // Syncing blocks.
    let saved = glommio::executor()
        .spawn_blocking(move || folder.save_state(&snapshot))
        .await;
    if let Err(error) = saved {
        // It is in force nevertheless; only a restart without the control process would not know of it.
        tracing::error!(%error, "the state cannot be kept on disk");
    }
    member.status.set_version(state.version);
    member.state = Some(state);
    Ok(())
}

/// The windows of groups, to all cores.
pub(super) fn tell_windows(change: &Arc<WindowChange>, running: &Running) {
    if change.all || !change.windows.is_empty() {
        for core in &running.cores {
            core.send(Command::Order(Order::Windows(change.clone())));
        }
    }
}

async fn on_all_cores(state: &State, running: &Running) -> Result<(), StateError> {
    let rules = Arc::new(state.rules());
    let (done, mut in_force) = mpsc::channel(running.cores.len().max(1));
    for core in &running.cores {
        core.send(Command::Order(Order::Rules(rules.clone(), done.clone())));
    }
    drop(done);
    let all = async {
        for _ in &running.cores {
            in_force.recv().await.ok_or(StateError::Cores)?;
        }
        Ok(())
    };
    let late = async {
        Timer::new(CORES_PATIENCE).await;
        Err(StateError::Cores)
    };
    or(all, late).await
}

/// Settings that changed: those that take effect now, and those that wait for a restart.
fn tell_changes(state: &State, running: &Running) {
    let before = running.config.swap(state.config.clone());
    for change in before.changes(&state.config) {
        match change.reload {
            true => tracing::info!(key = change.key, "setting changed"),
            false => tracing::warn!(
                key = change.key,
                "setting changed; it needs a restart of this node"
            ),
        }
    }
}
