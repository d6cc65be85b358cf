//! Commits: judged, and entered if they are the first of their epoch.

use bytes::Bytes;
use ringgate_envelope::Content;
use ringgate_identity::{Revocations, Serial, UnixTime};
use ringgate_mls::{Tree, message};
use ringgate_proto::control::v1::{
    Committed, GroupMode, GroupRecord, GroupTree, Handshake, HandshakeKind, Mail, SubmitCommitRequest,
};
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};

use super::change::{Enter, Expected};
use super::{ADDED_MAX, GroupService, HANDSHAKES_KEPT, frozen, is_member, is_sealed, not_a_member};
use crate::caller::Caller;
use crate::errors::{refusal, refusal_with, store_refusal};
use crate::keys;
use crate::ledger::hex;
use crate::packages::{agent, mls_refusal, now_unix};

/// Keys that a commit writes beside those of who comes and goes.
const KEYS_BESIDE: usize = 12;
/// Members that come and go with one commit, in keys.
const MOVED_KEYS_MAX: usize = 2 * ADDED_MAX + 4;

/// What a commit does to its group, however it was judged.
pub(super) struct Outcome {
    pub(super) added: Vec<String>,
    pub(super) removed: Vec<String>,
    pub(super) tree: Option<GroupTree>,
    pub(super) leaves: Leaves,
}

/// The ages of a group's leaves; of a sealed group they are not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Leaves {
    /// When the leaf was renewed that was not for longest.
    oldest_unix: i64,
    /// When the certificate of a leaf runs out first.
    ends_unix: i64,
}

impl Leaves {
    pub(super) fn of(tree: &Tree) -> Leaves {
        let oldest = tree.members().map(ringgate_mls::Member::renewed).min();
        let ends = tree.members().map(|member| member.not_after).min();
        let unix = |seconds: Option<u64>| seconds.and_then(|seconds| i64::try_from(seconds).ok());
        Leaves {
            oldest_unix: unix(oldest).unwrap_or_default(),
            ends_unix: unix(ends).unwrap_or_default(),
        }
    }

    pub(super) fn note(self, record: &mut GroupRecord) {
        record.oldest_leaf_unix = self.oldest_unix;
        record.leaf_ends_unix = self.ends_unix;
    }
}

impl GroupService {
    pub(super) async fn commit(
        &self,
        caller: &Caller,
        request: SubmitCommitRequest,
    ) -> Result<Committed, Status> {
        let identity = agent(caller)?;
        let id = hex(&request.group_id);
        caller.about(
            format!("group {id}"),
            format!("commit of epoch {}", request.epoch),
        );
        let turn = self.turn(&id);
        let mut held = turn.lock().await;
        let record = self.record(&id).await?.ok_or_else(not_a_member)?;
        let digest = Sha256::digest(&request.commit);
        if !is_member(&record, &identity) {
            return Err(not_a_member());
        }
        // Who was not told that its commit was accepted sends it again.
        if let Some(committed) = &record.committed
            && record.commit_sha256[..] == digest[..]
        {
            return Ok(*committed);
        }
        if record.frozen {
            return Err(frozen());
        }
        let header = ringgate_envelope::handshake(&request.commit)
            .map_err(|fault| refusal(Code::InvalidArgument, "MALFORMED_MLS", fault.to_string()))?;
        if header.group != &request.group_id[..] || header.epoch != request.epoch {
            return Err(refusal(
                Code::InvalidArgument,
                "MALFORMED_MLS",
                "the commit is of another group or epoch than the request says",
            ));
        }
        if request.epoch != record.epoch {
            return Err(stale(&record));
        }
        let outcome = match is_sealed(&record) {
            false => self.judge(&mut held, &record, &identity, &id, &request).await,
            true => self.judge_sealed(&record, header.content, &request).await,
        };
        let outcome = outcome.inspect_err(|status| {
            tracing::info!(
                group = id,
                identity,
                reason = crate::errors::reason_of(status),
                "a commit is refused"
            );
        })?;
        let entered = self
            .enter(caller, record, &identity, request, &digest, outcome)
            .await;
        if entered.is_err() {
            // The tree went ahead of the store.
            *held = None;
        }
        entered
    }

    /// ASSISTED: the tree says whether the commit is good, and is then one epoch ahead.
    async fn judge(
        &self,
        held: &mut Option<Tree>,
        record: &GroupRecord,
        identity: &str,
        id: &str,
        request: &SubmitCommitRequest,
    ) -> Result<Outcome, Status> {
        let verifier = self.context.authority.verifier().load();
        let tree = self.tree(held, record, id).await?;
        let welcome = (!request.welcome.is_empty()).then_some(&request.welcome[..]);
        let staged = tree
            .stage(
                &request.commit,
                welcome,
                &request.group_info,
                &verifier,
                UnixTime::now(),
            )
            .map_err(|error| mls_refusal(&error))?;
        if staged.verdict.sender != identity {
            return Err(refusal(
                Code::PermissionDenied,
                "SENDER_IDENTITY_MISMATCH",
                format!(
                    "the commit is of {}, and you are {identity}; members submit their own",
                    staged.verdict.sender
                ),
            ));
        }
        let added: Vec<String> = staged
            .verdict
            .added
            .iter()
            .map(|(verified, _)| verified.uri.clone())
            .collect();
        let removed = staged.verdict.removed.clone();
        let saved = tree.merge(staged).and_then(|()| {
            if let Some(member) = tree
                .members()
                .find(|member| is_revoked(verifier.revocations(), member))
            {
                return Ok(Err(not_covered(&member.identity)));
            }
            tree.save().map(Ok)
        });
        let leaves = Leaves::of(tree);
        let saved = match saved {
            Ok(Ok(saved)) => saved,
            Ok(Err(status)) => {
                *held = None;
                return Err(status);
            }
            Err(error) => {
                *held = None;
                return Err(mls_refusal(&error));
            }
        };
        Ok(Outcome {
            added,
            removed,
            leaves,
            tree: Some(GroupTree {
                saved: saved.into(),
                group_info: request.group_info.clone(),
                epoch: record.epoch + 1,
            }),
        })
    }

    /// SEALED: whom a Welcome is for is known from the key packages that were handed out, and nothing else is.
    async fn judge_sealed(
        &self,
        record: &GroupRecord,
        content: Content,
        request: &SubmitCommitRequest,
    ) -> Result<Outcome, Status> {
        if content != Content::Commit {
            return Err(refusal(
                Code::InvalidArgument,
                "MALFORMED_MLS",
                "this group's handshakes are PrivateMessages",
            ));
        }
        let mut added = Vec::new();
        if !request.welcome.is_empty() {
            let welcome = message::welcome(&request.welcome).map_err(|error| mls_refusal(&error))?;
            for secret in welcome.secrets() {
                let reference = hex(secret.new_member().as_slice());
                let claim = keys::key_package_claim(&reference)
                    .get(&*self.context.store)
                    .await;
                let claim = claim.map_err(|error| store_refusal(&error))?.ok_or_else(|| {
                    refusal(
                        Code::InvalidArgument,
                        "WELCOME_MISMATCH",
                        "the Welcome names a key package that was not handed out here",
                    )
                })?;
                added.push(claim.value.identity);
            }
        }
        added.retain(|identity| !is_member(record, identity));
        Ok(Outcome {
            added,
            removed: Vec::new(),
            leaves: Leaves::default(),
            tree: None,
        })
    }

    /// Enters a commit that was found good.
    async fn enter(
        &self,
        caller: &Caller,
        before: GroupRecord,
        identity: &str,
        request: SubmitCommitRequest,
        digest: &[u8],
        outcome: Outcome,
    ) -> Result<Committed, Status> {
        let Outcome {
            added,
            removed,
            tree,
            leaves,
        } = outcome;
        if 2 * added.len() + removed.len() > MOVED_KEYS_MAX {
            return Err(refusal(
                Code::ResourceExhausted,
                "TOO_LARGE",
                format!("one commit may add {ADDED_MAX} members; make several"),
            ));
        }
        let expected = Expected {
            epoch: before.epoch,
            sequence: before.sequence,
        };
        let mut record = before;
        record.epoch += 1;
        record.sequence += 1;
        record.first_sequence = record.sequence.saturating_sub(HANDSHAKES_KEPT - 1).max(1);
        record.members.retain(|member| !removed.contains(member));
        record.members.extend(added.iter().cloned());
        record.commit_sha256 = Bytes::copy_from_slice(digest);
        record.committed_unix = now_unix();
        record.complaints.clear();
        leaves.note(&mut record);
        let committed = Committed {
            epoch: record.epoch,
            sequence: record.sequence,
        };
        record.committed = Some(committed);
        let handshake = Handshake {
            group_id: record.group_id.clone(),
            sequence: record.sequence,
            epoch: request.epoch,
            kind: HandshakeKind::Commit.into(),
            message: request.commit,
            sender: match is_sealed(&record) {
                true => String::new(),
                false => identity.to_owned(),
            },
        };
        let mail = Mail {
            id: format!("{}-{:020}", hex(&record.group_id), record.sequence),
            group_id: record.group_id.clone(),
            sender: identity.to_owned(),
            sequence: record.sequence,
            padding_bytes: record.padding_bytes,
            mode: mode_of(&record).into(),
            time_unix: now_unix(),
            welcome: Bytes::new(),
        };
        let step = Enter {
            expected,
            record,
            handshake,
            welcome: request.welcome,
            mail,
            added,
            removed,
            tree,
            audit: caller.entry("ok"),
        };
        self.context.ledger.take(step).await?;
        caller.set_recorded();
        Ok(committed)
    }
}

pub(super) const KEYS_MAX: usize = MOVED_KEYS_MAX + KEYS_BESIDE;

pub(super) fn mode_of(record: &GroupRecord) -> GroupMode {
    match is_sealed(record) {
        true => GroupMode::Sealed,
        false => GroupMode::Assisted,
    }
}

/// Whether a member's certificate was revoked since it came in.
pub(super) fn is_revoked(revocations: &Revocations, member: &ringgate_mls::Member) -> bool {
    let serial: Option<Serial> = member.serial.parse().ok();
    let issued = UnixTime::since_unix_epoch(std::time::Duration::from_secs(member.issued));
    revocations.is_revoked(serial.as_ref(), &member.identity, issued)
}

/// The commit is of an epoch that is over.
pub(super) fn stale(record: &GroupRecord) -> Status {
    refusal_with(
        Code::Aborted,
        "STALE_EPOCH",
        format!(
            "another commit was first: the group is in epoch {}; process it and commit anew",
            record.epoch
        ),
        [
            ("current_epoch", record.epoch.to_string()),
            ("winner_sequence", record.sequence.to_string()),
        ],
    )
}

fn not_covered(identity: &str) -> Status {
    refusal_with(
        Code::FailedPrecondition,
        "EVICTION_NOT_COVERED",
        format!("{identity} was revoked and would stay; commit to the pending proposals, which remove it"),
        [("identity", identity.to_owned())],
    )
}
