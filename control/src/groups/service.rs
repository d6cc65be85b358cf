//! The service as it is called; commits are in [`super::commit`].

use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use ringgate_identity::UnixTime;
use ringgate_mls::{Package, Tree};
use ringgate_proto::control::v1::groups_server::Groups;
use ringgate_proto::control::v1::{
    Committed, CreateGroupRequest, DeleteGroupRequest, DeleteGroupResponse, DeliveryService, EpochReport,
    GetDeliveryServiceRequest, GetGroupInfoRequest, GetGroupRequest, Group, GroupInfo, GroupMode,
    GroupRecord, GroupTree, GroupsEvent, Handshake, HandshakeKind, Proposed, ReportEpochRequest,
    ReportEpochResponse, ReportInvalidCommitRequest, ReportInvalidCommitResponse, RequestReAddRequest,
    RequestReAddResponse, SubmitCommitRequest, SubmitProposalRequest, TakeMailRequest, TakeMailResponse,
    WatchGroupsRequest,
};
use tonic::{Code, Request, Response, Status, Streaming};

use super::change::{Amend, Append, Create, Delete, Expected, FORGOTTEN_TOGETHER, Forget};
use super::commit::{Leaves, mode_of};
use super::{
    GROUP_ID_BYTES, GroupService, PADDING_BYTES_MAX, frozen, group, is_member, is_sealed, not_a_member, watch,
};
use crate::caller::Caller;
use crate::errors::{refusal, store_refusal};
use crate::keys;
use crate::ledger::hex;
use crate::packages::{agent, mls_refusal, now_unix};

/// Reports that are kept of a group: the newest of each member, as long as there are no more.
const REPORTS_MAX: usize = 64;
/// Mail that one call takes.
const MAIL_TAKEN_MAX: usize = FORGOTTEN_TOGETHER;

#[async_trait::async_trait]
impl Groups for GroupService {
    async fn get_delivery_service(
        &self,
        request: Request<GetDeliveryServiceRequest>,
    ) -> Result<Response<DeliveryService>, Status> {
        agent(&Caller::of(&request)?)?;
        Ok(Response::new(DeliveryService {
            signature_key: Bytes::copy_from_slice(self.context.authority.delivery().public()),
            identity: self.identity().into(),
        }))
    }

    async fn create_group(&self, request: Request<CreateGroupRequest>) -> Result<Response<Group>, Status> {
        let caller = Caller::of(&request)?;
        self.create(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn submit_commit(
        &self,
        request: Request<SubmitCommitRequest>,
    ) -> Result<Response<Committed>, Status> {
        let caller = Caller::of(&request)?;
        self.commit(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn submit_proposal(
        &self,
        request: Request<SubmitProposalRequest>,
    ) -> Result<Response<Proposed>, Status> {
        let caller = Caller::of(&request)?;
        let identity = agent(&caller)?;
        let SubmitProposalRequest { group_id, proposal } = request.into_inner();
        let id = hex(&group_id);
        caller.about(format!("group {id}"), "proposal");
        let turn = self.turn(&id);
        let mut held = turn.lock().await;
        let record = self.of_member(&id, &identity).await?;
        if record.frozen {
            return Err(frozen());
        }
        let mut tree = None;
        if !is_sealed(&record) {
            let verifier = self.context.authority.verifier().load();
            let live = self.tree(&mut held, &record, &id).await?;
            let proposed = live.propose(&proposal, &verifier, UnixTime::now());
            let sender = proposed.map_err(|error| mls_refusal(&error))?;
            let saved = live.save().map_err(|error| mls_refusal(&error))?;
            if sender != identity {
                *held = None;
                return Err(refusal(
                    Code::PermissionDenied,
                    "SENDER_IDENTITY_MISMATCH",
                    format!("the proposal is of {sender}; members submit their own"),
                ));
            }
            tree = Some(saved.into());
        }
        let handshake = handshake(&record, HandshakeKind::Proposal, proposal, &identity);
        let entered = self.append(&record, handshake, tree).await;
        if entered.is_err() {
            *held = None;
        }
        entered.map(|sequence| Response::new(Proposed { sequence }))
    }

    async fn get_group(&self, request: Request<GetGroupRequest>) -> Result<Response<Group>, Status> {
        let identity = agent(&Caller::of(&request)?)?;
        let record = self
            .of_member(&hex(&request.get_ref().group_id), &identity)
            .await?;
        Ok(Response::new(group(record)))
    }

    async fn get_group_info(
        &self,
        request: Request<GetGroupInfoRequest>,
    ) -> Result<Response<GroupInfo>, Status> {
        let identity = agent(&Caller::of(&request)?)?;
        let id = hex(&request.get_ref().group_id);
        let turn = self.turn(&id);
        let mut held = turn.lock().await;
        let record = self.of_member(&id, &identity).await?;
        if is_sealed(&record) {
            return Err(refusal(
                Code::FailedPrecondition,
                "SEALED_GROUP",
                "the service knows nothing of a sealed group; have a member add you again",
            ));
        }
        let stored = self.stored_tree(&id).await?;
        let tree = self.tree(&mut held, &record, &id).await?;
        let ratchet_tree = tree.ratchet_tree().map_err(|error| mls_refusal(&error))?;
        Ok(Response::new(GroupInfo {
            group_info: stored.group_info,
            ratchet_tree: ratchet_tree.into(),
            epoch: record.epoch,
            sequence: record.sequence,
            padding_bytes: record.padding_bytes,
            mode: mode_of(&record).into(),
        }))
    }

    async fn request_re_add(
        &self,
        request: Request<RequestReAddRequest>,
    ) -> Result<Response<RequestReAddResponse>, Status> {
        let caller = Caller::of(&request)?;
        let identity = agent(&caller)?;
        let RequestReAddRequest {
            group_id,
            key_package,
        } = request.into_inner();
        let id = hex(&group_id);
        caller.about(format!("group {id}"), "asks to be added again");
        let verifier = self.context.authority.verifier().load();
        Package::check(&key_package, &verifier, UnixTime::now())
            .and_then(|package| package.owned_by(&identity))
            .map_err(|error| mls_refusal(&error))?;
        let turn = self.turn(&id);
        let _held = turn.lock().await;
        let record = self.of_member(&id, &identity).await?;
        let handshake = handshake(&record, HandshakeKind::Readd, key_package, &identity);
        let sequence = self.append(&record, handshake, None).await?;
        Ok(Response::new(RequestReAddResponse { sequence }))
    }

    async fn report_invalid_commit(
        &self,
        request: Request<ReportInvalidCommitRequest>,
    ) -> Result<Response<ReportInvalidCommitResponse>, Status> {
        let caller = Caller::of(&request)?;
        let identity = agent(&caller)?;
        let request = request.into_inner();
        let id = hex(&request.group_id);
        let error: String = request.error.chars().take(200).collect();
        caller.about(
            format!("group {id}"),
            format!("commit {} is invalid: {error}", request.sequence),
        );
        let change = move |record: &mut GroupRecord| {
            if !is_member(record, &identity) {
                return Err(not_a_member());
            }
            let newest = record
                .committed
                .as_ref()
                .map_or(0, |committed| committed.sequence);
            if newest == request.sequence && !record.complaints.contains(&identity) {
                record.complaints.push(identity.clone());
            }
            // More than half of those who did not make it: one alone could stop a group by saying so.
            let others = record.members.len().saturating_sub(1);
            record.frozen |= !record.complaints.is_empty() && 2 * record.complaints.len() > others;
            Ok(record.frozen)
        };
        let (frozen, _) = self.context.ledger.take(Amend { id, change }).await?;
        Ok(Response::new(ReportInvalidCommitResponse { frozen }))
    }

    async fn report_epoch(
        &self,
        request: Request<ReportEpochRequest>,
    ) -> Result<Response<ReportEpochResponse>, Status> {
        let caller = Caller::of(&request)?;
        let identity = agent(&caller)?;
        let request = request.into_inner();
        let id = hex(&request.group_id);
        caller.about(format!("group {id}"), format!("epoch {}", request.epoch));
        let change = move |record: &mut GroupRecord| report(record, &identity, &request);
        let (outcome, _) = self.context.ledger.take(Amend { id, change }).await?;
        outcome.map(Response::new)
    }

    async fn delete_group(
        &self,
        request: Request<DeleteGroupRequest>,
    ) -> Result<Response<DeleteGroupResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = hex(&request.get_ref().group_id);
        caller.about(format!("group {id}"), "deleted");
        let record = self.record(&id).await?.ok_or_else(not_a_member)?;
        let identity = caller.credential()?.uri();
        if record.creator != identity && !caller.administers {
            return Err(match is_member(&record, identity) {
                true => refusal(
                    Code::PermissionDenied,
                    "NOT_THE_CREATOR",
                    "only who made a group deletes it; leave it",
                ),
                false => not_a_member(),
            });
        }
        self.delete(&id, &record).await?;
        Ok(Response::new(DeleteGroupResponse {}))
    }

    type WatchGroupsStream = Pin<Box<dyn Stream<Item = Result<GroupsEvent, Status>> + Send>>;

    async fn watch_groups(
        &self,
        request: Request<Streaming<WatchGroupsRequest>>,
    ) -> Result<Response<Self::WatchGroupsStream>, Status> {
        let identity = agent(&Caller::of(&request)?)?;
        Ok(Response::new(
            watch::start(self.clone(), identity, request.into_inner()).boxed(),
        ))
    }

    async fn take_mail(
        &self,
        request: Request<TakeMailRequest>,
    ) -> Result<Response<TakeMailResponse>, Status> {
        let caller = Caller::of(&request)?;
        let identity = agent(&caller)?;
        let ids = request.into_inner().ids;
        caller.about(identity.clone(), format!("{} letters", ids.len()));
        if ids.len() > MAIL_TAKEN_MAX {
            return Err(refusal(
                Code::InvalidArgument,
                "TOO_LARGE",
                format!("one call may name {MAIL_TAKEN_MAX} letters"),
            ));
        }
        let mail = keys::mail(&identity);
        let writes = ids.iter().map(|id| mail.at(id).delete()).collect();
        self.context.ledger.take(Forget(writes)).await?;
        Ok(Response::new(TakeMailResponse {}))
    }
}

impl GroupService {
    async fn create(&self, caller: &Caller, request: CreateGroupRequest) -> Result<Group, Status> {
        let identity = agent(caller)?;
        let id = hex(&request.group_id);
        let mode = match GroupMode::try_from(request.mode) {
            Ok(GroupMode::Sealed) => GroupMode::Sealed,
            _ => GroupMode::Assisted,
        };
        caller.about(format!("group {id}"), format!("created, {}", mode.as_str_name()));
        let wrong = |reason, sentence: String| Err(refusal(Code::InvalidArgument, reason, sentence));
        if request.group_id.len() != GROUP_ID_BYTES {
            return wrong(
                "GROUP_ID_MALFORMED",
                format!("a group id has {GROUP_ID_BYTES} random bytes"),
            );
        }
        if request.padding_bytes > PADDING_BYTES_MAX {
            return wrong(
                "PADDING_TOO_LARGE",
                format!("padding may be {PADDING_BYTES_MAX} bytes"),
            );
        }
        let (tree, leaves) = match mode {
            GroupMode::Sealed => (None, Leaves::default()),
            _ => {
                let (tree, leaves) = self.first_tree(&identity, &request)?;
                (Some(tree), leaves)
            }
        };
        let mut record = GroupRecord {
            group_id: request.group_id,
            mode: mode.into(),
            padding_bytes: request.padding_bytes,
            members: vec![identity.clone()],
            creator: identity,
            created_unix: now_unix(),
            committed_unix: now_unix(),
            first_sequence: 1,
            ..GroupRecord::default()
        };
        leaves.note(&mut record);
        let step = Create {
            record: record.clone(),
            tree,
            audit: caller.entry("ok"),
        };
        self.context.ledger.take(step).await?;
        caller.set_recorded();
        Ok(group(record))
    }

    /// The tree of a new group, in which its creator is alone.
    fn first_tree(
        &self,
        identity: &str,
        request: &CreateGroupRequest,
    ) -> Result<(GroupTree, Leaves), Status> {
        let verifier = self.context.authority.verifier().load();
        let tree = Tree::create(&request.group_info, &verifier, UnixTime::now())
            .map_err(|error| mls_refusal(&error))?;
        if tree.id() != &request.group_id[..] {
            return Err(refusal(
                Code::InvalidArgument,
                "GROUP_INFO_MISMATCH",
                "the GroupInfo is of another group than the request names",
            ));
        }
        if tree.members().any(|member| member.identity != identity) {
            return Err(refusal(
                Code::PermissionDenied,
                "SENDER_IDENTITY_MISMATCH",
                format!("a group begins with its creator alone, and you are {identity}"),
            ));
        }
        if !tree.has_external_sender(
            self.context.authority.delivery().public(),
            self.identity().as_bytes(),
        ) {
            return Err(refusal(
                Code::InvalidArgument,
                "NO_EXTERNAL_SENDER",
                "the group must name the delivery service as its one external sender (GetDeliveryService), so that it can propose to remove who was revoked",
            ));
        }
        let saved = tree.save().map_err(|error| mls_refusal(&error))?;
        let stored = GroupTree {
            saved: saved.into(),
            group_info: request.group_info.clone(),
            epoch: 0,
        };
        Ok((stored, Leaves::of(&tree)))
    }

    /// How the service names itself in groups.
    fn identity(&self) -> String {
        format!("{}/delivery", self.context.authority.domain().uri())
    }

    pub(super) async fn append(
        &self,
        record: &GroupRecord,
        handshake: Handshake,
        tree: Option<Bytes>,
    ) -> Result<u64, Status> {
        let expected = Expected {
            epoch: record.epoch,
            sequence: record.sequence,
        };
        let step = Append {
            expected,
            handshake,
            tree,
        };
        Ok(self.context.ledger.take(step).await?.0)
    }

    async fn delete(&self, id: &str, record: &GroupRecord) -> Result<(), Status> {
        self.context.ledger.take(Delete { id: id.to_owned() }).await?;
        let members = record
            .members
            .iter()
            .map(|member| keys::member_groups(member).at(id).delete());
        let log = record.first_sequence..=record.sequence;
        let log = log.flat_map(|number| {
            [
                keys::handshakes(id).numbered(number).delete(),
                keys::welcome(id, number).delete(),
            ]
        });
        let writes: Vec<_> = members.chain(log).collect();
        for chunk in writes.chunks(FORGOTTEN_TOGETHER) {
            self.context.ledger.take(Forget(chunk.to_vec())).await?;
        }
        Ok(())
    }

    /// Whether a letter that waits has its Welcome still.
    pub(super) async fn welcome(&self, id: &str, number: u64) -> Result<Option<Bytes>, Status> {
        let stored = keys::welcome(id, number).get(&*self.context.store).await;
        Ok(stored
            .map_err(|error| store_refusal(&error))?
            .map(|stored| stored.value))
    }
}

pub(super) fn handshake(
    record: &GroupRecord,
    kind: HandshakeKind,
    message: Bytes,
    sender: &str,
) -> Handshake {
    Handshake {
        group_id: record.group_id.clone(),
        sequence: 0,
        epoch: record.epoch,
        kind: kind.into(),
        message,
        sender: sender.to_owned(),
    }
}

/// Takes a report. What it finds is told as an answer, and not as a refusal of the step, since the record changes with it.
#[allow(clippy::type_complexity, reason = "an outcome within a step's outcome")]
fn report(
    record: &mut GroupRecord,
    identity: &str,
    request: &ReportEpochRequest,
) -> Result<Result<ReportEpochResponse, Status>, Status> {
    if !is_member(record, identity) {
        return Err(not_a_member());
    }
    if request.epoch > record.epoch {
        record.frozen = true;
        return Ok(Err(refusal(
            Code::FailedPrecondition,
            "BEHIND",
            format!(
                "the group is in epoch {} here and in {} there: the service was set back; the group is frozen, make another",
                record.epoch, request.epoch
            ),
        )));
    }
    let differs = |other: &&EpochReport| other.epoch == request.epoch && other.digest != request.digest;
    if let Some(other) = record.reports.iter().find(differs) {
        let sentence = format!(
            "you and {} are in different states of epoch {}",
            other.member, request.epoch
        );
        return Ok(Err(refusal(Code::FailedPrecondition, "FORK_DETECTED", sentence)));
    }
    record.reports.retain(|report| report.member != identity);
    if record.reports.len() < REPORTS_MAX {
        record.reports.push(EpochReport {
            member: identity.to_owned(),
            epoch: request.epoch,
            digest: request.digest.clone(),
        });
    }
    Ok(Ok(ReportEpochResponse {}))
}
