//! Who was revoked goes: their key packages at once, and their leaves with the next commit of each group, which the service proposes.
//! And what is of no more use goes: claims and letters that nobody came for.

use std::time::Duration;

use prost::Message;
use ringgate_identity::Subject;
use ringgate_mls::KeySigner;
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
                if let Err(status) = self.propose_eviction(&id, identity).await {
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

    async fn propose_eviction(&self, id: &str, identity: &str) -> Result<(), Status> {
        let turn = self.turn(id);
        let mut held = turn.lock().await;
        let Some(record) = self.record(id).await? else {
            return Ok(());
        };
        // In a sealed group the service knows no leaf; its members see the revocation when they verify.
        if is_sealed(&record) {
            return Ok(());
        }
        let verifier = self.context.authority.verifier().load();
        let tree = self.tree(&mut held, &record, id).await?;
        let Some(member) = tree
            .member(identity)
            .filter(|member| is_revoked(verifier.revocations(), member))
        else {
            return Ok(());
        };
        let leaf = member.leaf;
        let signer = KeySigner(self.context.authority.delivery().clone());
        let proposal = tree.evict(leaf, &signer).map_err(|error| mls_refusal(&error))?;
        let saved = tree.save().map_err(|error| mls_refusal(&error))?;
        let handshake = handshake(&record, HandshakeKind::Proposal, proposal.into(), "");
        let entered = self.append(&record, handshake, Some(saved.into())).await;
        if entered.is_err() {
            *held = None;
        }
        entered.map(drop)
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
