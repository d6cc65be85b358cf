//! What an agent is told: its mail, and the handshakes of its groups.

use std::collections::HashSet;

use bytes::Bytes;
use futures_util::Stream;
use ringgate_proto::control::v1::groups_event::Body;
use ringgate_proto::control::v1::{GroupLost, GroupsEvent, Mail, WatchGroupsRequest};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::{GroupService, is_member, signal};
use crate::errors::{refusal, store_refusal};
use crate::keys;
use crate::ledger::hex;

/// Events on their way to one agent; who reads slowly is waited for.
const EVENTS_MAX: usize = 16;
/// Groups that one stream may ask for.
const GROUPS_MAX: usize = 4096;
/// Handshakes read at once: of 256 KiB each at most.
const PAGE: usize = 16;

type Out = mpsc::Sender<Result<GroupsEvent, Status>>;

/// Tells until the stream is dropped.
pub(super) fn start(
    service: GroupService,
    identity: String,
    asked: Streaming<WatchGroupsRequest>,
) -> impl Stream<Item = Result<GroupsEvent, Status>> + Send + 'static {
    let (out, events) = mpsc::channel(EVENTS_MAX);
    tokio::spawn(run(service, identity, asked, out));
    ReceiverStream::new(events)
}

async fn run(service: GroupService, identity: String, mut asked: Streaming<WatchGroupsRequest>, out: Out) {
    // Ended by being dropped, with this task.
    let mut tasks = JoinSet::new();
    let mail = service.hub.follow(&signal::mail(&identity));
    tasks.spawn(tell_mail(service.clone(), identity.clone(), mail, out.clone()));
    let mut groups = HashSet::new();
    loop {
        let request = tokio::select! {
            request = asked.message() => request,
            () = out.closed() => return,
        };
        let Ok(Some(request)) = request else {
            // Half-closed: what was asked for goes on.
            out.closed().await;
            return;
        };
        let id = hex(&request.group_id);
        if !groups.insert(id.clone()) {
            continue;
        }
        if groups.len() > GROUPS_MAX {
            let refused = refusal(
                Code::ResourceExhausted,
                "TOO_MANY_GROUPS",
                format!("one stream may ask for {GROUPS_MAX} groups; open another"),
            );
            let _ = out.send(Err(refused)).await;
            return;
        }
        let changes = service.hub.follow(&signal::group(&id));
        tasks.spawn(tell_group(
            service.clone(),
            identity.clone(),
            request,
            id,
            changes,
            out.clone(),
        ));
    }
}

/// Mail: all that waits, then what comes.
async fn tell_mail(service: GroupService, identity: String, mut changes: watch::Receiver<()>, out: Out) {
    let mut told = HashSet::new();
    let mut begun = false;
    while changes.changed().await.is_ok() {
        let waiting = match unread(&service, &identity, &told).await {
            Ok(waiting) => waiting,
            Err(status) => {
                let _ = out.send(Err(status)).await;
                return;
            }
        };
        for mail in waiting {
            told.insert(mail.id.clone());
            if !say(&out, Body::Mail(mail)).await {
                return;
            }
        }
        if !std::mem::replace(&mut begun, true) && !say(&out, Body::MailTold(true)).await {
            return;
        }
    }
}

/// Letters that were not told on this stream, with their Welcomes.
async fn unread(service: &GroupService, identity: &str, told: &HashSet<String>) -> Result<Vec<Mail>, Status> {
    let (section, mut beyond, mut unread) = (keys::mail(identity), String::new(), Vec::new());
    loop {
        let page = section.page(&*service.context.store, &beyond, PAGE).await;
        let page = page.map_err(|error| store_refusal(&error))?;
        for (id, stored) in page.items {
            beyond.clone_from(&id);
            if told.contains(&id) {
                continue;
            }
            let mut mail = stored.value;
            // One whose Welcome is gone came too late: the group has gone on, and its members invite again.
            if let Some(welcome) = service.welcome(&hex(&mail.group_id), mail.sequence).await? {
                mail.welcome = welcome;
                unread.push(mail);
            }
        }
        if !page.more {
            return Ok(unread);
        }
    }
}

/// The handshakes of a group after those that the member has.
async fn tell_group(
    service: GroupService,
    identity: String,
    request: WatchGroupsRequest,
    id: String,
    mut changes: watch::Receiver<()>,
    out: Out,
) {
    let mut after = request.after_sequence;
    let mut was_member = false;
    while changes.changed().await.is_ok() {
        let told = tell_new(
            &service,
            &identity,
            &request.group_id,
            &id,
            &mut after,
            &mut was_member,
            &out,
        )
        .await;
        match told {
            Ok(true) => {}
            Ok(false) => return,
            Err(status) => {
                let _ = out.send(Err(status)).await;
                return;
            }
        }
    }
}

/// Tells what is new. False: there is nothing more to tell.
async fn tell_new(
    service: &GroupService,
    identity: &str,
    group_id: &Bytes,
    id: &str,
    after: &mut u64,
    was_member: &mut bool,
    out: &Out,
) -> Result<bool, Status> {
    let lost = |reason: &str| {
        Body::Lost(GroupLost {
            group_id: group_id.clone(),
            reason: reason.to_owned(),
        })
    };
    let record = service.record(id).await?;
    let member = record.as_ref().is_some_and(|record| is_member(record, identity));
    // Who has just been removed is told the commit that does it.
    let Some(record) = record.filter(|_| member || *was_member) else {
        say(out, lost("NOT_A_MEMBER")).await;
        return Ok(false);
    };
    *was_member = true;
    if *after + 1 < record.first_sequence {
        say(out, lost("REJOIN_REQUIRED")).await;
        return Ok(false);
    }
    while *after < record.sequence {
        let page = keys::handshakes(id)
            .after(&*service.context.store, *after, PAGE)
            .await;
        let page = page.map_err(|error| store_refusal(&error))?;
        if page.items.is_empty() {
            break;
        }
        for (_, stored) in page.items {
            *after = stored.value.sequence;
            if !say(out, Body::Handshake(stored.value)).await {
                return Ok(false);
            }
        }
    }
    if !member {
        say(out, lost("NOT_A_MEMBER")).await;
    }
    Ok(member)
}

async fn say(out: &Out, body: Body) -> bool {
    out.send(Ok(GroupsEvent { body: Some(body) })).await.is_ok()
}
