//! What goes on in the background: mail, handshakes, the supply of key packages, and renewed certificates.

use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use ringgate_proto::control::v1::groups_event::Body;
use ringgate_proto::control::v1::{Handshake, Mail, WatchGroupsRequest};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::engine::{Op, Settled};
use super::{GroupError, Groups, Inner};
use crate::backoff::Backoff;

/// Bounds of the wait before the control process is called again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// What a member waits for each one before it, before it commits to what somebody proposed: the first does at once, and the others only
/// if that one is away.
const TURN: Duration = Duration::from_millis(750);

/// Follows mail and handshakes for as long as there are handles.
pub(super) async fn run(inner: Weak<Inner>) {
    let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
    loop {
        match follow(&inner, &mut backoff).await {
            Ok(()) => return,
            Err(error) => tracing::debug!(%error, "the feed of groups ended; connecting again"),
        }
        tokio::time::sleep(backoff.next(fastrand::f64())).await;
    }
}

/// One connection. Ends in order when there are no handles any more.
async fn follow(weak: &Weak<Inner>, backoff: &mut Backoff) -> Result<(), GroupError> {
    let Some(inner) = weak.upgrade() else {
        return Ok(());
    };
    let (asks, asked) = mpsc::unbounded_channel();
    let known: Vec<_> = inner
        .engine()
        .groups
        .iter()
        .map(|(id, live)| (id.clone(), live.sequence))
        .collect();
    for (group_id, after_sequence) in known {
        let _ = asks.send(WatchGroupsRequest {
            group_id,
            after_sequence,
        });
    }
    *inner.asks.lock().unwrap_or_else(PoisonError::into_inner) = Some(asks);
    let mut events = inner.calls.watch(UnboundedReceiverStream::new(asked)).await?;
    drop(inner);
    while let Some(event) = events.next().await {
        let event = event.map_err(|status| GroupError::service(&status))?;
        backoff.reset();
        let Some(inner) = weak.upgrade() else {
            return Ok(());
        };
        match event.body {
            Some(Body::Mail(mail)) => letter(&inner, mail).await,
            Some(Body::Handshake(handshake)) => settle(&inner, handshake).await,
            Some(Body::Lost(lost)) => match lost.reason.as_str() {
                "REJOIN_REQUIRED" => rejoin(&inner, lost.group_id),
                _ => out(&inner, &lost.group_id),
            },
            Some(Body::MailTold(_)) | None => {}
        }
        inner.changed();
        if let Err(error) = inner.keep().await {
            tracing::error!(%error, "the groups are not kept");
        }
    }
    Err(GroupError::Unavailable("it closed the feed".to_owned()))
}

/// An invitation.
async fn letter(inner: &Arc<Inner>, mail: Mail) {
    let joined = inner.engine().join(&mail);
    match joined {
        Ok(()) => {
            inner.ask(&mail.group_id, mail.sequence);
            inner.changed();
            let groups = Groups {
                inner: Arc::clone(inner),
            };
            // Whoever does not ask finds them by their id.
            let _ = inner.joined.try_send(groups.handle(mail.group_id.clone()));
        }
        Err(error) => tracing::warn!(%error, sender = mail.sender, "an invitation is of no use"),
    }
    if let Err(error) = inner.calls.take_mail(mail.id).await {
        tracing::debug!(%error, "a letter stays in the box");
    }
}

/// A handshake of a group.
async fn settle(inner: &Arc<Inner>, handshake: Handshake) {
    let id = handshake.group_id.clone();
    let settled = inner.engine().handshake(&handshake);
    match settled {
        Ok(Settled::Nothing) => {}
        Ok(Settled::Epoch) => {
            inner.changed();
            report(inner, id);
        }
        Ok(Settled::Proposed) => in_turn(inner, id, None),
        Ok(Settled::ReAdd { identity, package }) => in_turn(inner, id, Some(Op::Swap(identity, package))),
        Err(GroupError::NotAMember) => {}
        Err(error) => {
            tracing::warn!(%error, sequence = handshake.sequence, "a handshake cannot be processed; joining again");
            if let Err(error) = inner
                .calls
                .complain(&id, handshake.sequence, error.to_string())
                .await
            {
                tracing::debug!(%error, "the complaint did not arrive");
            }
            rejoin(inner, id);
        }
    }
}

/// Commits when it is this member's turn, if there is still anything to commit.
fn in_turn(inner: &Arc<Inner>, id: Bytes, op: Option<Op>) {
    let weak = Arc::downgrade(inner);
    let rank = inner.engine().rank(&id) as u32;
    let before = inner.engine().groups.get(&id).map(super::engine::Live::epoch);
    tokio::spawn(async move {
        tokio::time::sleep(TURN * rank).await;
        let Some(inner) = weak.upgrade() else { return };
        let epoch = inner.engine().groups.get(&id).map(super::engine::Live::epoch);
        let done = match &op {
            // Somebody before this one has committed, to whatever it was.
            _ if epoch != before => Ok(()),
            Some(op) => inner.commit(&id, op).await,
            None => inner.commit_proposals(&id).await,
        };
        if let Err(error) = done {
            tracing::debug!(%error, "what was proposed is left to others");
        }
    });
}

/// Compares the state of a new epoch with what others say.
fn report(inner: &Arc<Inner>, id: Bytes) {
    let Some((epoch, digest)) = inner.engine().epoch_digest(&id) else {
        return;
    };
    let weak = Arc::downgrade(inner);
    tokio::spawn(async move {
        let Some(inner) = weak.upgrade() else { return };
        match inner.calls.report_epoch(&id, epoch, digest).await {
            Err(error) if error.reason() == "FORK_DETECTED" => {
                tracing::error!(%error, "the group has forked; joining again");
                rejoin(&inner, id);
            }
            Err(error) => tracing::debug!(%error, "the epoch is not reported"),
            Ok(()) => {}
        }
    });
}

fn rejoin(inner: &Arc<Inner>, id: Bytes) {
    let weak = Arc::downgrade(inner);
    tokio::spawn(async move {
        let Some(inner) = weak.upgrade() else { return };
        match inner.resync(&id).await {
            Ok(()) => {
                let sequence = inner.engine().groups.get(&id).map_or(0, |live| live.sequence);
                inner.ask(&id, sequence);
            }
            Err(error) => {
                tracing::error!(%error, "cannot join a group again; it is given up");
                out(&inner, &id);
                inner.changed();
            }
        }
    });
}

/// This agent is no member any more.
fn out(inner: &Arc<Inner>, id: &Bytes) {
    if let Some(live) = inner.engine().groups.get_mut(id) {
        live.removed = true;
    }
}

/// Keeps key packages published.
pub(super) async fn supply(weak: Weak<Inner>) {
    let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
    loop {
        let Some(inner) = weak.upgrade() else { return };
        let watched = inner.calls.watch_pool().await;
        drop(inner);
        if let Ok(mut pools) = watched {
            while let Some(Ok(pool)) = pools.next().await {
                backoff.reset();
                let Some(inner) = weak.upgrade() else { return };
                let groups = Groups { inner };
                let used = pool.last_resort_used_unix > 0;
                if (pool.low || !pool.last_resort)
                    && let Err(error) = groups.publish_packages(used || !pool.last_resort).await
                {
                    tracing::warn!(%error, "key packages cannot be published; nobody can invite this agent when they run out");
                }
            }
        }
        tokio::time::sleep(backoff.next(fastrand::f64())).await;
    }
}

/// Brings renewed certificates into all groups.
pub(super) async fn rotate(weak: Weak<Inner>) {
    let Some(inner) = weak.upgrade() else { return };
    let mut held = inner.credential.watch();
    drop(inner);
    while held.changed().await.is_ok() {
        let Some(inner) = weak.upgrade() else { return };
        let now = Arc::clone(&held.borrow_and_update());
        inner.engine().renewed(&now);
        let groups = Groups {
            inner: Arc::clone(&inner),
        };
        // Packages of the certificate before end with it.
        let published = match inner.calls.withdraw_all().await {
            Ok(()) => groups.publish_packages(true).await,
            Err(error) => Err(error),
        };
        if let Err(error) = published {
            tracing::warn!(%error, "the key packages of the renewed certificate cannot be published yet");
        }
        let ids: Vec<Bytes> = inner.engine().groups.keys().cloned().collect();
        for id in ids {
            let outdated = inner.engine().is_outdated(&id);
            if outdated && let Err(error) = inner.commit(&id, &Op::Update).await {
                tracing::warn!(%error, "a group still has the certificate before the present one");
            }
        }
    }
}
