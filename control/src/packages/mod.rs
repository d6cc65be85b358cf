//! Key packages: published by agents, handed out once each to who wants to invite them.
//!
//! A pool is a list of references, oldest first, in one key; the packages are beside it. Handing one out takes it off the list, removes
//! it, and writes down whom it was for: one step of the ledger, so nobody gets it twice, and a Welcome finds its receiver.

mod change;
mod service;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ringgate_identity::{Subject, UnixTime};
use ringgate_mls::{MlsError, Package, suite};
use ringgate_proto::control::v1::{KeyPackageEntry, KeyPackageList, KeyPackagePool, PublishedKeyPackage};
use tonic::{Code, Status};

use crate::Context;
use crate::caller::Caller;
use crate::errors::{refusal, store_refusal};
use crate::gate::rate::Rates;
use crate::groups::Hub;
use crate::keys;
use crate::ledger::hex;
use change::{Claim, Publish, Withdraw};

/// Key packages of one identity and cipher suite; with its list they take some hundred KiB.
pub const POOL_MAX: usize = 100;
/// At so few left an agent is told to publish more.
pub const LOW_WATER: usize = 10;
/// Packages of one call.
const PER_CALL_MAX: usize = 100;
/// Targets of one claim.
const TARGETS_MAX: usize = 50;
/// Claims of one caller for one target in a second: enough for every group that both are in, and not enough to empty a pool before
/// its owner fills it.
const CLAIMS_PER_SECOND_MAX: u64 = 5;
/// Pairs of caller and target that are counted one by one.
const PAIRS_MAX: usize = 65_536;

/// The service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct KeyPackageService {
    context: Context,
    hub: Hub,
    claims: Arc<Mutex<Rates<(String, String)>>>,
}

impl KeyPackageService {
    /// One over what all parts share.
    #[must_use]
    pub fn new(context: Context, hub: Hub) -> KeyPackageService {
        let claims = Rates::new(CLAIMS_PER_SECOND_MAX, PAIRS_MAX, Instant::now());
        KeyPackageService {
            context,
            hub,
            claims: Arc::new(Mutex::new(claims)),
        }
    }

    /// Publishes packages of the caller. Each is judged by itself; those that are good are entered together.
    async fn publish(
        &self,
        caller: &Caller,
        packages: &[bytes::Bytes],
    ) -> Result<Vec<PublishedKeyPackage>, Status> {
        let owner = agent(caller)?;
        caller.about(owner.clone(), format!("{} key packages", packages.len()));
        if packages.len() > PER_CALL_MAX {
            return Err(too_many(PER_CALL_MAX));
        }
        let (verifier, now) = (self.context.authority.verifier().load(), UnixTime::now());
        let mut results: Vec<PublishedKeyPackage> = Vec::with_capacity(packages.len());
        let mut good: BTreeMap<u16, Vec<(usize, KeyPackageEntry)>> = BTreeMap::new();
        for (place, bytes) in packages.iter().enumerate() {
            let checked = Package::check(bytes, &verifier, now).and_then(|package| package.owned_by(&owner));
            results.push(match checked {
                Ok(package) => {
                    let entry = entry(&package, bytes);
                    let told = accepted(&entry);
                    good.entry(package.suite).or_default().push((place, entry));
                    told
                }
                Err(error) => refused(&error),
            });
        }
        for (suite, entries) in good {
            for (place, refusal) in self.enter(&owner, suite, entries).await? {
                results[place] = refusal;
            }
        }
        Ok(results)
    }

    /// Enters packages into a pool, so many at a time as one step takes. Gives those that were refused.
    async fn enter(
        &self,
        owner: &str,
        suite: u16,
        entries: Vec<(usize, KeyPackageEntry)>,
    ) -> Result<Vec<(usize, PublishedKeyPackage)>, Status> {
        let mut refused = Vec::new();
        for chunk in entries.chunks(change::PUBLISHED_TOGETHER) {
            let step = Publish {
                owner: owner.to_owned(),
                suite,
                entries: chunk.to_vec(),
            };
            refused.extend(self.context.ledger.take(step).await?.0);
        }
        Ok(refused)
    }

    /// Hands out one package of an identity.
    async fn claim(
        &self,
        claimer: &str,
        identity: &str,
        suite: u16,
    ) -> Result<(KeyPackageEntry, bool), Status> {
        let pair = (claimer.to_owned(), identity.to_owned());
        let within = self
            .claims
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(pair, Instant::now());
        if !within {
            return Err(refusal(
                Code::ResourceExhausted,
                "TOO_MANY_CLAIMS",
                format!("you claim key packages of {identity} too often; wait a second"),
            ));
        }
        let step = Claim {
            identity: identity.to_owned(),
            suite,
            claimer: claimer.to_owned(),
            now: now_unix(),
        };
        let ((entry, last_resort), _) = self.context.ledger.take(step).await?;
        // Whoever was revoked since is not to be invited by what is left of it.
        let verifier = self.context.authority.verifier().load();
        Package::check(&entry.key_package, &verifier, UnixTime::now())
            .map_err(|error| mls_refusal(&error))?;
        Ok((entry, last_resort))
    }

    /// Takes back packages of the caller.
    async fn withdraw(&self, caller: &Caller, references: &[bytes::Bytes], all: bool) -> Result<u32, Status> {
        let owner = agent(caller)?;
        caller.about(
            owner.clone(),
            if all { "all key packages" } else { "key packages" },
        );
        if references.len() > PER_CALL_MAX {
            return Err(too_many(PER_CALL_MAX));
        }
        let references: Option<Vec<String>> =
            (!all).then(|| references.iter().map(|reference| hex(reference)).collect());
        self.remove(&owner, references.as_deref()).await
    }

    /// Removes packages of an identity (`None`: all).
    pub(crate) async fn remove(&self, owner: &str, references: Option<&[String]>) -> Result<u32, Status> {
        let mut removed = 0;
        for suite in suite::ALLOWED.map(suite::number) {
            loop {
                let step = Withdraw {
                    owner: owner.to_owned(),
                    suite,
                    references: references.map(<[String]>::to_vec),
                };
                let (taken, _) = self.context.ledger.take(step).await?;
                removed += taken.removed;
                if !taken.more {
                    break;
                }
            }
        }
        Ok(removed)
    }

    /// What an identity has left.
    async fn pool(&self, owner: &str, suite: u16) -> Result<KeyPackagePool, Status> {
        let list = keys::key_package_list(owner, suite)
            .get(&*self.context.store)
            .await;
        let list = list
            .map_err(|error| store_refusal(&error))?
            .map(|stored| stored.value)
            .unwrap_or_default();
        Ok(pool(suite, &list, now_unix()))
    }
}

fn pool(suite: u16, list: &KeyPackageList, now: i64) -> KeyPackagePool {
    let available = list.slots.iter().filter(|slot| slot.not_after_unix > now).count();
    KeyPackagePool {
        cipher_suite: suite.into(),
        available: available as u32,
        last_resort: list
            .last_resort
            .as_ref()
            .is_some_and(|slot| slot.not_after_unix > now),
        last_resort_used_unix: list.last_resort_used_unix,
        low: available <= LOW_WATER,
    }
}

fn entry(package: &Package, bytes: &bytes::Bytes) -> KeyPackageEntry {
    KeyPackageEntry {
        reference: package.reference.clone().into(),
        key_package: bytes.clone(),
        identity: package.owner.uri.clone(),
        cipher_suite: package.suite.into(),
        not_after_unix: i64::try_from(package.not_after).unwrap_or(i64::MAX),
        last_resort: package.last_resort,
    }
}

fn accepted(entry: &KeyPackageEntry) -> PublishedKeyPackage {
    PublishedKeyPackage {
        reference: entry.reference.clone(),
        ..PublishedKeyPackage::default()
    }
}

fn refused(error: &MlsError) -> PublishedKeyPackage {
    refused_for(error.code(), error.to_string())
}

fn refused_for(reason: &str, message: impl Into<String>) -> PublishedKeyPackage {
    PublishedKeyPackage {
        reason: reason.to_owned(),
        message: message.into(),
        ..PublishedKeyPackage::default()
    }
}

/// The agent who calls, as a URI.
///
/// # Errors
/// `NOT_AN_AGENT`.
pub(crate) fn agent(caller: &Caller) -> Result<String, Status> {
    let credential = caller.credential()?;
    match credential.subject() {
        Subject::Agent(_) | Subject::Pseudonym(_) => Ok(credential.uri().to_owned()),
        _ => Err(refusal(
            Code::PermissionDenied,
            "NOT_AN_AGENT",
            format!(
                "{} is no agent; only agents have key packages and groups",
                credential.uri()
            ),
        )),
    }
}

/// What a caller is told of an [`MlsError`].
pub(crate) fn mls_refusal(error: &MlsError) -> Status {
    let code = match error {
        MlsError::StaleEpoch { .. } => Code::Aborted,
        MlsError::NotOwner { .. } => Code::PermissionDenied,
        MlsError::ReInit | MlsError::Context(_) => Code::FailedPrecondition,
        MlsError::TooManyMembers(_) => Code::ResourceExhausted,
        MlsError::Damaged(_) => Code::Internal,
        _ => Code::InvalidArgument,
    };
    refusal(code, error.code(), error.to_string())
}

/// Seconds since 1970.
pub(crate) fn now_unix() -> i64 {
    crate::wire::unix(UnixTime::now())
}

fn too_many(limit: usize) -> Status {
    refusal(
        Code::InvalidArgument,
        "TOO_MANY_PACKAGES",
        format!("one call may hold {limit}; make several"),
    )
}
