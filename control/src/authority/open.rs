//! Finding the authority, or making it: at every start, in any state that a crash can leave.
//!
//! Everything that counts is in one transaction: the sealed secrets, the public bundle, the starter policy. Before it there are
//! files that nobody relies on yet (the seal key, the root's key), which the next start takes up; after it there are files that
//! are made again when they are missing. Of several processes that start at once on one store, the first transaction wins and the
//! others take what it wrote.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use ringgate_identity::issue::{Authority as Parts, IssueError};
use ringgate_identity::{AgentKey, CertificateDer, Issuer, TrustDomain, UnixTime};
use ringgate_proto::control::v1::{PolicySet, TrustBundle};
use ringgate_store::{Store, StoreError, Transaction};
use rustls::pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use super::seal::SealKey;
use crate::files::{self, FileError};
use crate::keys::{self, Stored};
use crate::settings::Settings;
use crate::wire;

/// How often a start is tried again because another process wrote at the same moment, or the store did not answer.
const ATTEMPTS_MAX: u32 = 20;
/// An issuing certificate with less life left is replaced at the next start, if the root's key is there.
const ISSUING_LEFT_SECONDS: u64 = 90 * 24 * 3600;
/// Anchors of a bundle; the identity crate takes no more.
const ANCHORS_MAX: usize = 16;

/// The authority cannot be opened. The message says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The trust domain's name.
    #[error("`trust_domain`: {0}")]
    Domain(String),
    /// Another trust domain than that of the store.
    #[error(
        "the store is of trust domain `{stored}`, not of `{wanted}`: a trust domain cannot be renamed; set `trust_domain = \"{stored}\"`, or begin with another store"
    )]
    OtherDomain {
        /// The store's.
        stored: String,
        /// The settings'.
        wanted: String,
    },
    /// The seal key file holds something else.
    #[error("{path} is no seal key: it must hold 32 random bytes in base64 (`openssl rand -base64 32`)")]
    SealKey {
        /// Which file.
        path: PathBuf,
    },
    /// The seal key is another one.
    #[error(
        "the authority in the store was not sealed with {path}: copy the seal key file (ca/seal.key) of the control process that made it, and name it in `ca.seal_key`"
    )]
    Sealed {
        /// Which file.
        path: PathBuf,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// The authority itself.
    #[error("{0}; see the section `ca` of the settings")]
    Issue(#[from] IssueError),
}

/// What was found or made.
pub(super) struct Opened {
    pub(super) issuer: Issuer,
    pub(super) bundle: TrustBundle,
    pub(super) delivery: AgentKey,
}

struct Found {
    sealed: Option<Stored<Bytes>>,
    trust: Option<Stored<TrustBundle>>,
    policy: Option<Stored<PolicySet>>,
}

/// Finds the authority in the store, makes what is missing, takes over what the operator's files say.
pub(super) async fn open(settings: &Settings, store: &Arc<dyn Store>) -> Result<Opened, OpenError> {
    let domain =
        TrustDomain::new(&settings.trust_domain).map_err(|error| OpenError::Domain(error.to_string()))?;
    files::private_folder(&settings.ca_dir())?;
    let seal_path = match settings.ca.seal_key.as_os_str().is_empty() {
        true => settings.ca_dir().join("seal.key"),
        false => settings.ca.seal_key.clone(),
    };
    let key = SealKey::load(&seal_path)?;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let error = match attempt_open(settings, &domain, &**store, &key, &seal_path).await {
            Err(OpenError::Store(error)) if attempt < ATTEMPTS_MAX => error,
            done => return done,
        };
        match error {
            StoreError::Conflict { .. } => {}
            StoreError::Unavailable { ref reason, retry } => {
                tracing::warn!(reason, "the store does not answer; trying again");
                tokio::time::sleep(retry).await;
            }
            error => return Err(error.into()),
        }
    }
}

async fn attempt_open(
    settings: &Settings,
    domain: &TrustDomain,
    store: &dyn Store,
    key: &SealKey,
    seal_path: &Path,
) -> Result<Opened, OpenError> {
    let (sealed, trust, policy) = (keys::authority("sealed"), keys::trust(), keys::policy());
    let found = Found {
        sealed: sealed.get(store).await?,
        trust: trust.get(store).await?,
        policy: policy.get(store).await?,
    };
    if let Some(stored) = &found.trust
        && stored.value.trust_domain != domain.as_str()
    {
        return Err(OpenError::OtherDomain {
            stored: stored.value.trust_domain.clone(),
            wanted: domain.to_string(),
        });
    }
    let now = UnixTime::now();
    let before = match &found.sealed {
        Some(stored) => Some(key.open(&stored.value, seal_path)?),
        None => None,
    };
    let parts = wanted_parts(settings, domain, before.as_ref(), now)?;
    let issuer = Issuer::load(domain.clone(), &parts)?;
    let bundle = wanted_bundle(
        &issuer,
        found.trust.as_ref().map(|stored| &stored.value),
        settings,
    );

    let delivery = keys::authority("delivery");
    let found_delivery = delivery.get(store).await?;
    let delivery_key = match &found_delivery {
        Some(stored) => key.open_delivery(&stored.value, seal_path)?,
        None => AgentKey::generate().map_err(|_| OpenError::Random)?,
    };

    let mut transaction = Transaction::new()
        .when(delivery.unchanged(found_delivery.as_ref()))
        .when(sealed.unchanged(found.sealed.as_ref()))
        .when(trust.unchanged(found.trust.as_ref()))
        .when(policy.unchanged(found.policy.as_ref()));
    if before.is_none_or(|before| !is_same(&before, &parts)) {
        transaction = transaction.write(sealed.put(&key.seal(&parts)?));
    }
    if found_delivery.is_none() {
        transaction = transaction.write(delivery.put(&key.seal_delivery(&delivery_key)?));
    }
    if found.trust.as_ref().map(|stored| &stored.value) != Some(&bundle) {
        transaction = transaction.write(trust.put(&bundle));
    }
    if found.policy.is_none() {
        let starter = PolicySet {
            text: ringgate_access::STARTER.to_owned(),
            version: 1,
        };
        transaction = transaction
            .write(policy.put(&starter))
            .write(keys::policy_version(1).put(&starter));
    }
    if !transaction.writes.is_empty() {
        store.commit(transaction).await?;
        tracing::info!(
            trust_domain = %domain,
            version = bundle.version,
            fingerprint = %issuer.fingerprint(),
            "the authority is set up"
        );
    }
    remove_stray_root(settings, &bundle)?;
    Ok(Opened {
        issuer,
        bundle,
        delivery: delivery_key,
    })
}

/// What the authority should consist of: the operator's files, or what is there, or something new.
fn wanted_parts(
    settings: &Settings,
    domain: &TrustDomain,
    before: Option<&Parts>,
    now: UnixTime,
) -> Result<Parts, OpenError> {
    let mut parts = match before {
        Some(before) => before.clone(),
        None => new_parts(&settings.ca_dir(), domain, now)?,
    };
    let own = &settings.ca;
    if !own.issuing_certificate.as_os_str().is_empty() {
        let read = |path: &Path| {
            files::read_optional(path)?.ok_or_else(|| FileError::Io {
                path: path.to_owned(),
                source: std::io::ErrorKind::NotFound.into(),
            })
        };
        parts.root_pem = read(&own.root_certificate)?;
        parts.issuing_pem = read(&own.issuing_certificate)?;
        let key = files::read_secret(&own.issuing_key)?;
        parts.issuing_key_pem = Zeroizing::new(String::from_utf8_lossy(&key).into_owned());
        return Ok(parts);
    }
    renew_issuing(settings, domain, &mut parts, now)?;
    Ok(parts)
}

/// A new authority. Its root's key is on disk before anything relies on it. What a start that was ended left there is taken up.
fn new_parts(folder: &Path, domain: &TrustDomain, now: UnixTime) -> Result<Parts, OpenError> {
    let (certificate, key) = (folder.join("root.pem"), folder.join("root.key"));
    let (mut parts, root_key) = Parts::create(domain, now)?;
    // The key is written last: where it is, the certificate is its own.
    if let (Some(root_pem), true) = (files::read_optional(&certificate)?, key.exists()) {
        let root_key = Zeroizing::new(files::read_secret(&key)?);
        let taken_up = Parts {
            root_pem,
            ..parts.clone()
        };
        parts = taken_up;
        parts.renew(&String::from_utf8_lossy(&root_key), domain, now)?;
        return Ok(parts);
    }
    files::replace(&certificate, parts.root_pem.as_bytes(), 0o600)?;
    files::replace(&key, root_key.as_bytes(), 0o600)?;
    Ok(parts)
}

/// Replaces an issuing certificate that ends soon, if the root's key is here.
fn renew_issuing(
    settings: &Settings,
    domain: &TrustDomain,
    parts: &mut Parts,
    now: UnixTime,
) -> Result<(), OpenError> {
    let left = Issuer::load(domain.clone(), parts)?
        .not_after()
        .as_secs()
        .saturating_sub(now.as_secs());
    if left > ISSUING_LEFT_SECONDS {
        return Ok(());
    }
    let folder = settings.ca_dir();
    let key = folder.join("root.key");
    if !key.exists() || files::read_optional(&folder.join("root.pem"))?.as_ref() != Some(&parts.root_pem) {
        tracing::warn!(
            days = left / (24 * 3600),
            "the issuing certificate ends soon and the root's key is not at {}: put root.key and root.pem there and start again",
            key.display()
        );
        return Ok(());
    }
    let root_key = Zeroizing::new(files::read_secret(&key)?);
    parts.renew(&String::from_utf8_lossy(&root_key), domain, now)?;
    Ok(())
}

/// The bundle that follows from the issuer, as the next version of the one before, if it differs. Anchors and authorities of before
/// stay: what they certified is good until it ends.
fn wanted_bundle(issuer: &Issuer, before: Option<&TrustBundle>, settings: &Settings) -> TrustBundle {
    let ttl_max = u32::try_from(settings.identity.leaf_ttl_seconds_max).unwrap_or(u32::MAX);
    let version = before.map_or(1, |before| before.version);
    let mut bundle = wire::bundle_to_proto(&issuer.bundle(version, ttl_max));
    let Some(before) = before else { return bundle };
    let add = |to: &mut Vec<Bytes>, from: &[Bytes]| {
        for certificate in from {
            if to.len() < ANCHORS_MAX && !to.contains(certificate) {
                to.push(certificate.clone());
            }
        }
    };
    add(&mut bundle.anchors_der, &before.anchors_der);
    add(&mut bundle.intermediates_der, &before.intermediates_der);
    let same = TrustBundle {
        etag: before.etag.clone(),
        ..bundle.clone()
    };
    if same == *before {
        return same;
    }
    bundle.version += 1;
    match wire::bundle_from_proto(&bundle) {
        Some(bundle) => wire::bundle_to_proto(&bundle),
        None => bundle,
    }
}

fn is_same(one: &Parts, other: &Parts) -> bool {
    one.root_pem == other.root_pem
        && one.issuing_pem == other.issuing_pem
        && *one.issuing_key_pem == *other.issuing_key_pem
        && *one.token_key_pem == *other.token_key_pem
}

/// Removes a root that this process made while another process's was taken. One that was ever trusted stays.
fn remove_stray_root(settings: &Settings, bundle: &TrustBundle) -> Result<(), OpenError> {
    let folder = settings.ca_dir();
    let Some(root) = files::read_optional(&folder.join("root.pem"))? else {
        return Ok(());
    };
    let trusted = CertificateDer::from_pem_slice(root.as_bytes())
        .is_ok_and(|root| bundle.anchors_der.iter().any(|anchor| *anchor == *root));
    if trusted {
        return Ok(());
    }
    for name in ["root.key", "root.pem"] {
        let path = folder.join(name);
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(FileError::Io { path, source }.into()),
        }
    }
    Ok(())
}
