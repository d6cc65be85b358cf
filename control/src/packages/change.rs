//! Changes of pools, as steps of the ledger.

use async_trait::async_trait;
use ringgate_proto::control::v1::{
    KeyPackageClaim, KeyPackageEntry, KeyPackageList, KeyPackageSlot, PublishedKeyPackage,
};
use tonic::{Code, Status};

use super::{POOL_MAX, now_unix, refused_for};
use crate::errors::refusal;
use crate::keys;
use crate::ledger::{Draft, Step, hex};

/// Packages that one step enters: each is a key read and written.
pub(super) const PUBLISHED_TOGETHER: usize = 20;
const KEYS_MAX: usize = 2 * PUBLISHED_TOGETHER + 8;
/// Expired packages that a claim removes on its way; the sweep removes the others.
const DELETED_TOGETHER: usize = 8;

/// Enters packages into a pool. Gives those that are refused, by their place in the call.
pub(super) struct Publish {
    pub(super) owner: String,
    pub(super) suite: u16,
    pub(super) entries: Vec<(usize, KeyPackageEntry)>,
}

#[async_trait]
impl Step for Publish {
    type Output = Vec<(usize, PublishedKeyPackage)>;

    async fn take(&self, draft: &mut Draft) -> Result<Self::Output, Status> {
        let (slot, now) = (keys::key_package_list(&self.owner, self.suite), now_unix());
        let mut list = draft.get(&slot).await?.unwrap_or_default();
        // What has expired makes room; the packages themselves go with the next sweep of their owner.
        let (live, dead): (Vec<_>, Vec<_>) =
            list.slots.into_iter().partition(|slot| slot.not_after_unix > now);
        list.slots = live;
        for gone in dead.iter().take(PUBLISHED_TOGETHER) {
            draft.delete(&keys::key_package(&hex(&gone.reference)));
        }
        let mut refused = Vec::new();
        for (place, entry) in &self.entries {
            let reference = hex(&entry.reference);
            let package = keys::key_package(&reference);
            let known = draft.get(&keys::key_package_claim(&reference)).await?.is_some()
                || list
                    .slots
                    .iter()
                    .chain(&list.last_resort)
                    .any(|slot| slot.reference == entry.reference);
            if known {
                let text = "this key package was published before; make a new one";
                refused.push((*place, refused_for("KEY_PACKAGE_DUPLICATE", text)));
                continue;
            }
            let slot = KeyPackageSlot {
                reference: entry.reference.clone(),
                not_after_unix: entry.not_after_unix,
            };
            if entry.last_resort {
                if let Some(before) = list.last_resort.replace(slot) {
                    draft.delete(&keys::key_package(&hex(&before.reference)));
                }
            } else if list.slots.len() < POOL_MAX {
                list.slots.push(slot);
            } else {
                let text = format!("your pool holds {POOL_MAX} key packages; withdraw some");
                refused.push((*place, refused_for("POOL_FULL", text)));
                continue;
            }
            draft.put(&package, entry);
        }
        draft.put(&slot, &list);
        Ok(refused)
    }

    fn keys_max(&self) -> usize {
        KEYS_MAX
    }

    fn bytes_max(&self) -> usize {
        let packages: usize = self
            .entries
            .iter()
            .map(|(_, entry)| entry.key_package.len() + 1024)
            .sum();
        packages + 64 * 1024
    }
}

/// Hands out a package. Gives it, and whether it is the one of last resort.
pub(super) struct Claim {
    pub(super) identity: String,
    pub(super) suite: u16,
    pub(super) claimer: String,
    pub(super) now: i64,
}

#[async_trait]
impl Step for Claim {
    type Output = (KeyPackageEntry, bool);

    async fn take(&self, draft: &mut Draft) -> Result<Self::Output, Status> {
        let slot = keys::key_package_list(&self.identity, self.suite);
        let mut list = draft.get(&slot).await?.ok_or_else(|| self.none())?;
        // The oldest first, which is the one that expires first.
        let expired = list
            .slots
            .iter()
            .take_while(|slot| slot.not_after_unix <= self.now)
            .count();
        for gone in list.slots.drain(..expired).take(DELETED_TOGETHER) {
            draft.delete(&keys::key_package(&hex(&gone.reference)));
        }
        if !list.slots.is_empty() {
            let next = list.slots.remove(0);
            let package = keys::key_package(&hex(&next.reference));
            let entry = draft.get(&package).await?.ok_or_else(|| self.none())?;
            draft.delete(&package);
            draft.put(&slot, &list);
            self.write_down(draft, &entry, false);
            return Ok((entry, false));
        }
        let last = list
            .last_resort
            .clone()
            .filter(|slot| slot.not_after_unix > self.now);
        let last = last.ok_or_else(|| self.none())?;
        let entry = draft.get(&keys::key_package(&hex(&last.reference))).await?;
        let entry = entry.ok_or_else(|| self.none())?;
        list.last_resort_used_unix = self.now;
        draft.put(&slot, &list);
        self.write_down(draft, &entry, true);
        Ok((entry, true))
    }
}

impl Claim {
    fn write_down(&self, draft: &mut Draft, entry: &KeyPackageEntry, last_resort: bool) {
        let claim = KeyPackageClaim {
            identity: self.identity.clone(),
            claimer: self.claimer.clone(),
            time_unix: self.now,
            not_after_unix: entry.not_after_unix,
            last_resort,
        };
        draft.put(&keys::key_package_claim(&hex(&entry.reference)), &claim);
    }

    fn none(&self) -> Status {
        refusal(
            Code::NotFound,
            "NO_KEY_PACKAGE",
            format!(
                "{} has no key package left of suite {:#06x}; it must publish some",
                self.identity, self.suite
            ),
        )
    }
}

/// Removes packages of a pool (`None`: all), so many as one step takes.
pub(super) struct Withdraw {
    pub(super) owner: String,
    pub(super) suite: u16,
    pub(super) references: Option<Vec<String>>,
}

pub(super) struct Withdrawn {
    pub(super) removed: u32,
    pub(super) more: bool,
}

#[async_trait]
impl Step for Withdraw {
    type Output = Withdrawn;

    async fn take(&self, draft: &mut Draft) -> Result<Withdrawn, Status> {
        let slot = keys::key_package_list(&self.owner, self.suite);
        let Some(mut list) = draft.get(&slot).await? else {
            return Ok(Withdrawn {
                removed: 0,
                more: false,
            });
        };
        let wanted = |slot: &KeyPackageSlot| {
            let reference = hex(&slot.reference);
            self.references
                .as_ref()
                .is_none_or(|wanted| wanted.contains(&reference))
        };
        let mut removed = 0;
        let mut kept = Vec::new();
        let mut more = false;
        for slot in std::mem::take(&mut list.slots) {
            if !wanted(&slot) {
                kept.push(slot);
            } else if removed as usize >= PUBLISHED_TOGETHER {
                more = true;
                kept.push(slot);
            } else {
                draft.delete(&keys::key_package(&hex(&slot.reference)));
                removed += 1;
            }
        }
        if let Some(last) = list.last_resort.take_if(|slot| wanted(slot)) {
            draft.delete(&keys::key_package(&hex(&last.reference)));
            removed += 1;
        }
        if removed > 0 {
            let list = KeyPackageList { slots: kept, ..list };
            draft.put(&slot, &list);
        }
        Ok(Withdrawn { removed, more })
    }

    fn keys_max(&self) -> usize {
        KEYS_MAX
    }
}
