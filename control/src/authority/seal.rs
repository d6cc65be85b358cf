//! The authority's secrets as the store holds them: sealed with a key that is in a file.

use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ringgate_identity::{AgentKey, issue};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::OpenError;
use crate::files;

const KEY_BYTES: usize = 32;
/// What is sealed is bound to what it is for.
const PURPOSE: &[u8] = b"ringgate authority 1";
const DELIVERY: &[u8] = b"ringgate delivery service 1";

/// The key that seals.
pub(super) struct SealKey(RandomizedNonceKey);

#[derive(Serialize, Deserialize)]
struct Contents {
    root_pem: String,
    issuing_pem: String,
    issuing_key_pem: String,
    token_key_pem: String,
}

impl Drop for Contents {
    fn drop(&mut self) {
        self.issuing_key_pem.zeroize();
        self.token_key_pem.zeroize();
    }
}

impl SealKey {
    /// Reads the key from its file; makes one if there is none.
    pub(super) fn load(path: &Path) -> Result<SealKey, OpenError> {
        let mut fresh = Zeroizing::new([0; KEY_BYTES]);
        aws_lc_rs::rand::fill(&mut *fresh).map_err(|_| OpenError::Random)?;
        let text = Zeroizing::new(STANDARD.encode(fresh.as_slice()));
        let text = Zeroizing::new(files::create_or_read_secret(
            path,
            format!("{}\n", *text).as_bytes(),
        )?);
        let bad = || OpenError::SealKey {
            path: path.to_owned(),
        };
        let key = Zeroizing::new(STANDARD.decode(text.trim_ascii()).map_err(|_| bad())?);
        if key.len() != KEY_BYTES {
            return Err(bad());
        }
        RandomizedNonceKey::new(&AES_256_GCM, &key)
            .map(SealKey)
            .map_err(|_| bad())
    }

    /// Seals an authority.
    pub(super) fn seal(&self, authority: &issue::Authority) -> Result<Bytes, OpenError> {
        let contents = Contents {
            root_pem: authority.root_pem.clone(),
            issuing_pem: authority.issuing_pem.clone(),
            issuing_key_pem: authority.issuing_key_pem.to_string(),
            token_key_pem: authority.token_key_pem.to_string(),
        };
        self.seal_bytes(
            PURPOSE,
            serde_json::to_vec(&contents).map_err(|_| OpenError::Random)?,
        )
    }

    /// Seals the key that the delivery service signs with. It is another than the authority's: whoever has it can propose to remove
    /// members, and name nobody.
    pub(super) fn seal_delivery(&self, key: &AgentKey) -> Result<Bytes, OpenError> {
        let der = key.to_pkcs8().map_err(|_| OpenError::Random)?;
        self.seal_bytes(DELIVERY, der.to_vec())
    }

    /// Opens what [`SealKey::seal_delivery`] made.
    pub(super) fn open_delivery(&self, sealed: &[u8], path: &Path) -> Result<AgentKey, OpenError> {
        let der = self.open_bytes(DELIVERY, sealed, path)?;
        AgentKey::from_pkcs8(&der).map_err(|_| OpenError::Sealed {
            path: path.to_owned(),
        })
    }

    fn seal_bytes(&self, purpose: &[u8], plain: Vec<u8>) -> Result<Bytes, OpenError> {
        let mut text = Zeroizing::new(plain);
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(purpose), &mut *text)
            .map_err(|_| OpenError::Random)?;
        Ok([&nonce.as_ref()[..], &text[..]].concat().into())
    }

    fn open_bytes(
        &self,
        purpose: &[u8],
        sealed: &[u8],
        path: &Path,
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let bad = || OpenError::Sealed {
            path: path.to_owned(),
        };
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN).ok_or_else(bad)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| bad())?;
        let mut text = Zeroizing::new(text.to_vec());
        let plain = self
            .0
            .open_in_place(nonce, Aad::from(purpose), &mut text)
            .map_err(|_| bad())?
            .len();
        text.truncate(plain);
        Ok(text)
    }

    /// Opens what [`SealKey::seal`] made.
    pub(super) fn open(&self, sealed: &[u8], path: &Path) -> Result<issue::Authority, OpenError> {
        let bad = || OpenError::Sealed {
            path: path.to_owned(),
        };
        let text = self.open_bytes(PURPOSE, sealed, path)?;
        let contents: Contents = serde_json::from_slice(&text).map_err(|_| bad())?;
        Ok(issue::Authority {
            root_pem: contents.root_pem.clone(),
            issuing_pem: contents.issuing_pem.clone(),
            issuing_key_pem: Zeroizing::new(contents.issuing_key_pem.clone()),
            token_key_pem: Zeroizing::new(contents.token_key_pem.clone()),
        })
    }
}

#[cfg(test)]
mod tests {
    use ringgate_identity::{TrustDomain, UnixTime};

    use super::*;

    #[test]
    fn only_the_key_that_sealed_opens() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("seal.key");
        let domain = TrustDomain::new("ringgate.local").expect("a name");
        let (authority, _) = issue::Authority::create(&domain, UnixTime::now()).expect("made");
        let sealed = SealKey::load(&path)
            .expect("made")
            .seal(&authority)
            .expect("sealed");
        let held = String::from_utf8_lossy(&sealed);
        assert!(!held.contains("PRIVATE KEY"));
        let again = SealKey::load(&path)
            .expect("read")
            .open(&sealed, &path)
            .expect("opened");
        assert_eq!(*again.issuing_key_pem, *authority.issuing_key_pem);
        let other = SealKey::load(&folder.path().join("other")).expect("made");
        let error = other.open(&sealed, &path).expect_err("another key").to_string();
        assert!(error.contains("copy"), "{error}");
        let mut changed = sealed.to_vec();
        *changed.last_mut().expect("bytes") ^= 1;
        let key = SealKey::load(&path).expect("read");
        assert!(matches!(key.open(&changed, &path), Err(OpenError::Sealed { .. })));
        assert!(matches!(
            key.open(&changed[..5], &path),
            Err(OpenError::Sealed { .. })
        ));
    }
}
