//! Who was revoked goes: their key packages at once, and their leaves with the next commit of each group, which the service proposes.
//! So do members whose leaf is too old, or whose certificate has run out. The difference: those who were revoked go in any case; who is
//! only overdue, and there, renews its leaf when it sees the proposal, and stays.
//! And what is of no more use goes: claims and letters that nobody came for.

use std::time::Duration;

use prost::Message;
use ringgate_identity::{Subject, UnixTime};
use ringgate_mls::{KeySigner, Member};
use ringgate_proto::control::v1::{HandshakeKind, Revocation};
use ringgate_store::{Follow, Update};
use tonic::Status;

use super::change::{FORGOTTEN_TOGETHER, Forget};
use super::commit::is_revoked;
use super::service::handshake;
use super::{GroupService, is_sealed};
use crate::errors::{reason_of, store_refusal};
use crate::keys::{self, Section, decode};
use crate::packages::{mls_refusal, now_unix};

/// Wait after something that did not work.
const RETRY: Duration = Duration::from_secs(1);
/// How often what nobody came for is looked for.
const SWEEP: Duration = Duration::from_secs(3600);
/// How long letters and claims wait for who is away: four times the longest life of a certificate.
const KEPT_SECONDS: i64 = 28 * 24 * 3600;
/// Groups of one identity that are read at once.
const PAGE: usize = 100;
/// How often leaves that are overdue are looked for, at least.
const AGE_SWEEP_SECONDS_MAX: u64 = 3600;

impl GroupService {
    /// Follows revocations for as long as it is polled.
    pub async fn evict(self) {
        let mut follow = Follow::new(self.context.store.clone(), keys::REVOCATIONS.prefix());
        loop {
            let entries: Vec<Revocation> = match follow.next().await {
                Ok(Update::All { entries, .. }) => entries
                    .iter()
                    .filter_map(|entry| decode(entry).ok())
                    .map(|stored| stored.value)
                    .collect(),
                Ok(Update::Changed(batch)) => {
                    let values = batch.changes.into_iter().filter_map(|change| change.value);
                    values
                        .filter_map(|value| prost::Message::decode(value).ok())
                        .collect()
                }
                Err(error) => {
                    tracing::error!(%error, "cannot follow revocations; nobody is evicted until the store answers");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            for revocation in entries {
                // One that was allowed again is evicted all the same: its old certificates stay void.
                if let Err(status) = self.evict_one(&revocation).await {
                    let reason = reason_of(&status);
                    tracing::warn!(
                        identity = revocation.identity,
                        reason,
                        "an eviction has to wait for the next commit"
                    );
                }
            }
        }
    }

    async fn evict_one(&self, revocation: &Revocation) -> Result<(), Status> {
        let identity = &revocation.identity;
        if !matches!(
            Subject::parse(identity),
            Ok((_, Subject::Agent(_) | Subject::Pseudonym(_)))
        ) {
            return Ok(());
        }
        self.packages.remove(identity, None).await?;
        let mut beyond = String::new();
        loop {
            let page = keys::member_groups(identity)
                .page(&*self.context.store, &beyond, PAGE)
                .await;
            let page = page.map_err(|error| store_refusal(&error))?;
            for (id, _) in page.items {
                let verifier = self.context.authority.verifier().load();
                let is_due = |member: &Member| {
                    member.identity == *identity && is_revoked(verifier.revocations(), member)
                };
                if let Err(status) = self.propose_eviction(&id, is_due).await {
                    let reason = reason_of(&status);
                    tracing::warn!(group = id, identity, reason, "cannot propose an eviction");
                }
                beyond = id;
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    /// Proposes to remove members, if that is not proposed yet.
    async fn propose_eviction(&self, id: &str, is_due: impl Fn(&Member) -> bool) -> Result<(), Status> {
        let turn = self.turn(id);
        let mut held = turn.lock().await;
        let Some(mut record) = self.record(id).await? else {
            return Ok(());
        };
        // In a sealed group the service knows no leaf; its members see the revocation when they verify.
        if is_sealed(&record) {
            return Ok(());
        }
        let tree = self.tree(&mut held, &record, id).await?;
        let due: Vec<u32> = tree
            .members()
            .filter(|member| is_due(member))
            .map(|member| member.leaf)
            .collect();
        let signer = KeySigner(self.context.authority.delivery().clone());
        for leaf in due {
            let tree = self.tree(&mut held, &record, id).await?;
            if tree.is_leaving(leaf).map_err(|error| mls_refusal(&error))? {
                continue;
            }
            let proposal = tree.evict(leaf, &signer).map_err(|error| mls_refusal(&error))?;
            let saved = tree.save().map_err(|error| mls_refusal(&error))?;
            let handshake = handshake(&record, HandshakeKind::Proposal, proposal.into(), "");
            match self.append(&record, handshake, Some(saved.into())).await {
                Ok(sequence) => record.sequence = sequence,
                Err(status) => {
                    *held = None;
                    return Err(status);
                }
            }
        }
        Ok(())
    }

    /// Proposes to remove members who are overdue, for as long as it is polled.
    pub async fn age(self) {
        let limit = self.context.settings.groups.leaf_age_seconds_max;
        let every = Duration::from_secs((limit / 8).clamp(1, AGE_SWEEP_SECONDS_MAX));
        loop {
            tokio::time::sleep(every).await;
            if let Err(status) = self.age_once(limit).await {
                let reason = reason_of(&status);
                tracing::warn!(
                    reason,
                    "cannot look for members who are overdue; trying again later"
                );
            }
        }
    }

    async fn age_once(&self, limit: u64) -> Result<(), Status> {
        let now = UnixTime::now().as_secs();
        let is_due = |renewed: u64, ends: u64| renewed.saturating_add(limit) < now || ends < now;
        let seconds = |unix: i64| u64::try_from(unix).unwrap_or_default();
        let mut beyond = String::new();
        loop {
            let page = keys::GROUPS.page(&*self.context.store, &beyond, PAGE).await;
            let page = page.map_err(|error| store_refusal(&error))?;
            for (id, stored) in page.items {
                let record = &stored.value;
                let (oldest, ends) = (seconds(record.oldest_leaf_unix), seconds(record.leaf_ends_unix));
                if !is_sealed(record) && !record.frozen && is_due(oldest, ends) {
                    let due = |member: &Member| is_due(member.renewed(), member.not_after);
                    if let Err(status) = self.propose_eviction(&id, due).await {
                        let reason = reason_of(&status);
                        tracing::warn!(group = id, reason, "cannot propose to remove who is overdue");
                    }
                }
                beyond = id;
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    /// Removes what nobody came for, for as long as it is polled.
    pub async fn sweep(self) {
        loop {
            if let Err(status) = self.sweep_once().await {
                tracing::warn!(
                    reason = reason_of(&status),
                    "cannot sweep letters and claims; trying again in an hour"
                );
            }
            tokio::time::sleep(SWEEP).await;
        }
    }

    async fn sweep_once(&self) -> Result<(), Status> {
        let (now, kept) = (now_unix(), now_unix() - KEPT_SECONDS);
        self.sweep_section(&keys::KEY_PACKAGE_CLAIMS, |claim| claim.not_after_unix < kept)
            .await?;
        self.sweep_section(&keys::KEY_PACKAGES, |package| package.not_after_unix < now)
            .await?;
        self.sweep_section(&keys::MAIL, |mail| mail.time_unix < kept)
            .await
    }

    async fn sweep_section<T: Message + Default>(
        &self,
        section: &Section<T>,
        is_over: impl Fn(&T) -> bool,
    ) -> Result<(), Status> {
        let mut beyond = String::new();
        loop {
            let page = section
                .page(&*self.context.store, &beyond, FORGOTTEN_TOGETHER)
                .await
                .map_err(|error| store_refusal(&error))?;
            let old = page.items.iter().filter(|(_, stored)| is_over(&stored.value));
            self.forget(old.map(|(name, _)| section.at(name).delete()).collect())
                .await?;
            match page.items.last() {
                Some((name, _)) if page.more => beyond.clone_from(name),
                _ => return Ok(()),
            }
        }
    }

    async fn forget(&self, writes: Vec<ringgate_store::Write>) -> Result<(), Status> {
        if !writes.is_empty() {
            self.context.ledger.take(Forget(writes)).await?;
        }
        Ok(())
    }
}
