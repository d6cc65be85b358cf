//! The delivery service of MLS groups (RFC 9750 §5): one commit for each epoch, and what members get while they are away.
//!
//! ```text
//!   commit, Welcome, GroupInfo ─► turn of the group ─► tree: is it good? ─► ledger: is it first? ─► log, mail, window of the data plane
//!                                                                                               one transaction
//! ```
//!
//! Invariants worth naming:
//! * **One commit for each epoch**: the step that enters it is on the condition that the epoch is still the one it ends.
//! * **A Welcome is nowhere before its commit is accepted.**
//! * **No secret of a group is here.** In ASSISTED mode the service knows who is in it, in SEALED mode not even that.
//! * **What is in memory is a copy**: a tree that was not stored is thrown away.

mod change;
mod commit;
mod evict;
mod hub;
mod service;
mod watch;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ringgate_mls::{Tree, profile};
use ringgate_proto::control::v1::{Group, GroupMode, GroupRecord, GroupTree, GroupWindow};
use tonic::{Code, Status};

use crate::Context;
use crate::errors::{refusal, store_refusal};
use crate::keys;
use crate::packages::{KeyPackageService, mls_refusal};

pub use hub::Hub;
pub(crate) use hub::signal;

/// Bytes of a group's id: random, so that nobody meets another's by chance (RFC 9420 §8.1 leaves it open).
pub const GROUP_ID_BYTES: usize = 16;
/// Handshakes of a group that are kept for members who are away; who was away for longer takes the GroupInfo.
pub const HANDSHAKES_KEPT: u64 = 256;
/// Members that one commit may add. Each takes two keys of the one transaction.
pub const ADDED_MAX: usize = 32;
/// Trees in memory; of 100 members each, some 100 MiB.
const TREES_MAX: usize = 512;
/// Largest padding; a payload takes 4 MiB at most, and nobody pads to more than a few KiB.
const PADDING_BYTES_MAX: u32 = 64 * 1024;

/// The service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct GroupService {
    context: Context,
    hub: Hub,
    packages: KeyPackageService,
    turns: Arc<Mutex<HashMap<String, Arc<Turn>>>>,
}

/// The turn of a group: who has it works on it alone, within this process. With the tree, where it is known.
type Turn = tokio::sync::Mutex<Option<Tree>>;

impl GroupService {
    /// One over what all parts share.
    #[must_use]
    pub fn new(context: Context, hub: Hub, packages: KeyPackageService) -> GroupService {
        GroupService {
            context,
            hub,
            packages,
            turns: Arc::default(),
        }
    }

    fn turn(&self, id: &str) -> Arc<Turn> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.len() >= TREES_MAX && !turns.contains_key(id) {
            // Those that nobody works on; which of them go does not matter much.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        Arc::clone(turns.entry(id.to_owned()).or_default())
    }

    async fn record(&self, id: &str) -> Result<Option<GroupRecord>, Status> {
        let record = keys::group(id).get(&*self.context.store).await;
        Ok(record
            .map_err(|error| store_refusal(&error))?
            .map(|stored| stored.value))
    }

    /// A group of which somebody is a member. To others it is as if there were none.
    async fn of_member(&self, id: &str, identity: &str) -> Result<GroupRecord, Status> {
        let record = self.record(id).await?;
        record
            .filter(|record| is_member(record, identity))
            .ok_or_else(not_a_member)
    }

    async fn stored_tree(&self, id: &str) -> Result<GroupTree, Status> {
        let stored = keys::group_tree(id).get(&*self.context.store).await;
        let stored = stored.map_err(|error| store_refusal(&error))?;
        stored.map(|stored| stored.value).ok_or_else(not_a_member)
    }

    /// The tree of a group as of its record.
    async fn tree<'t>(
        &self,
        held: &'t mut Option<Tree>,
        record: &GroupRecord,
        id: &str,
    ) -> Result<&'t mut Tree, Status> {
        // Another process may have gone on.
        if held.as_ref().is_none_or(|tree| tree.epoch() != record.epoch) {
            let stored = self.stored_tree(id).await?;
            let tree = Tree::restore(&record.group_id, &stored.saved).map_err(|error| mls_refusal(&error))?;
            *held = Some(tree);
        }
        held.as_mut().ok_or_else(|| Status::internal("no tree"))
    }
}

fn is_member(record: &GroupRecord, identity: &str) -> bool {
    record.members.iter().any(|member| member == identity)
}

fn group(record: GroupRecord) -> Group {
    Group {
        group_id: record.group_id,
        mode: record.mode,
        epoch: record.epoch,
        sequence: record.sequence,
        padding_bytes: record.padding_bytes,
        members: record.members,
        frozen: record.frozen,
    }
}

/// What data planes pass on of a group.
fn window(record: &GroupRecord) -> GroupWindow {
    GroupWindow {
        group_id: record.group_id.clone(),
        epoch_min: record.epoch.saturating_sub(profile::PAST_EPOCHS),
        padding_bytes: record.padding_bytes,
    }
}

/// Whether a window holds anything back; one that does not is not told to anybody.
fn is_narrow(window: &GroupWindow) -> bool {
    window.epoch_min > 0 || window.padding_bytes > 1
}

fn is_sealed(record: &GroupRecord) -> bool {
    record.mode == i32::from(GroupMode::Sealed)
}

fn not_a_member() -> Status {
    refusal(
        Code::PermissionDenied,
        "NOT_A_MEMBER",
        "there is no such group, or you are no member of it; have a member invite you",
    )
}

fn frozen() -> Status {
    refusal(
        Code::FailedPrecondition,
        "GROUP_FROZEN",
        "members reported that this group cannot go on; delete it and make another",
    )
}
