//! Key packages (RFC 9420 §10): what they must be to be published, handed out, and added.

use openmls::prelude::{KeyPackage, LeafNode, OpenMlsCrypto, ProtocolVersion};
use openmls_rust_crypto::RustCrypto;
use ringgate_identity::{CLOCK_SKEW_SECONDS, UnixTime, Verified, Verifier};

use crate::{MlsError, credential, message, profile, suite};

/// Longest life of a key package: that of the longest certificate (7 days). `openmls` takes a hundred years for valid.
pub const LIFETIME_SECONDS_MAX: u64 = 7 * 24 * 3600 + 2 * 3600;

/// A key package that was checked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Package {
    /// Its KeyPackageRef (RFC 9420 §5.2): by it a Welcome names whom it is for.
    pub reference: Vec<u8>,
    /// Its cipher suite.
    pub suite: u16,
    /// Whose it is.
    pub owner: Verified,
    /// Its last second, in seconds since 1970.
    pub not_after: u64,
    /// Whether it may be handed out more than once.
    pub last_resort: bool,
    /// The key that a Welcome for it is encrypted to.
    pub init_key: Vec<u8>,
    /// The package itself, to add its owner.
    pub package: KeyPackage,
}

impl Package {
    /// Reads and checks a key package, an MLSMessage, as of a moment. The signatures' time is the clock's, as in `openmls`.
    ///
    /// # Errors
    /// [`MlsError`].
    pub fn check(bytes: &[u8], verifier: &Verifier, at: UnixTime) -> Result<Package, MlsError> {
        let read = message::key_package(bytes)?;
        let crypto = RustCrypto::default();
        let package = read.validate(&crypto, ProtocolVersion::Mls10).map_err(|error| {
            use openmls::prelude::KeyPackageVerifyError as E;
            match error {
                E::LifetimeError(error) => MlsError::Lifetime(error.to_string()),
                error => MlsError::Signature(error.to_string()),
            }
        })?;
        Package::of(package, &crypto, verifier, at)
    }

    /// The same for one whose signatures are checked already.
    ///
    /// # Errors
    /// [`MlsError`].
    pub fn of(
        package: KeyPackage,
        crypto: &impl OpenMlsCrypto,
        verifier: &Verifier,
        at: UnixTime,
    ) -> Result<Package, MlsError> {
        let suite = suite::number(package.ciphersuite());
        suite::allowed(suite)?;
        let leaf = package.leaf_node();
        let owner = leaf_of(leaf, verifier, at)?;
        let lifetime = package.life_time();
        if lifetime.not_after().saturating_sub(lifetime.not_before()) > LIFETIME_SECONDS_MAX {
            let text = format!("it may last {LIFETIME_SECONDS_MAX} seconds");
            return Err(MlsError::Lifetime(text));
        }
        if lifetime.not_after() > owner.not_after.as_secs() + CLOCK_SKEW_SECONDS {
            let text =
                "it lasts longer than the certificate in it; make it anew when the certificate is renewed";
            return Err(MlsError::Lifetime(text.to_owned()));
        }
        let reference = package
            .hash_ref(crypto)
            .map_err(|error| MlsError::Invalid(error.to_string()))?;
        Ok(Package {
            reference: reference.as_slice().to_vec(),
            suite,
            owner,
            not_after: lifetime.not_after(),
            last_resort: package.last_resort(),
            init_key: package.hpke_init_key().as_slice().to_vec(),
            package,
        })
    }

    /// The same if it is the caller's own.
    ///
    /// # Errors
    /// [`MlsError::NotOwner`].
    pub fn owned_by(self, caller: &str) -> Result<Package, MlsError> {
        if self.owner.uri == caller {
            return Ok(self);
        }
        Err(MlsError::NotOwner {
            found: self.owner.uri,
            caller: caller.to_owned(),
        })
    }
}

/// Who a leaf is, if it can what it must.
pub(crate) fn leaf_of(leaf: &LeafNode, verifier: &Verifier, at: UnixTime) -> Result<Verified, MlsError> {
    profile::check_capabilities(leaf.capabilities())?;
    credential::verify(verifier, leaf.credential(), leaf.signature_key().as_slice(), at)
}
