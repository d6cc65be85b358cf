//! What a node keeps on disk: its credential, its second certificate for serving, and the state it was told last.
//!
//! Each file is written whole to a temporary one, synced and renamed, so that a crash leaves the old or the new.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use ringgate_identity::tls::Serving;
use ringgate_identity::{AgentKey, CertificateDer, ServerKey};
use ringgate_proto::control::v1::NodeState;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::error::ControlError;

/// Key and certificate chain, PEM.
const CREDENTIAL: &str = "credential.pem";
/// The same of the second certificate, for clients that take no Ed25519 certificate from a server.
const SERVING: &str = "serving.pem";
/// The state: magic, SHA-256 of the rest, and a `NodeState` that is a snapshot.
const STATE: &str = "state.bin";
const MAGIC: &[u8; 8] = b"RGSTATE1";
const CHECKSUM_BYTES: usize = 32;
/// Characters of a line of PEM (RFC 7468 section 2).
const PEM_LINE: usize = 64;

/// A node's folder.
#[derive(Debug, Clone)]
pub(super) struct Folder(PathBuf);

/// A certificate chain, leaf first, and its key.
#[derive(Clone)]
pub(super) struct Credential {
    pub(super) key: AgentKey,
    pub(super) chain: Vec<CertificateDer<'static>>,
}

impl Folder {
    /// Opens a folder, and makes it if need be.
    pub(super) fn open(path: &Path) -> Result<Folder, ControlError> {
        let error = |source| ControlError::File {
            path: path.to_owned(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(error)?;
        check_mode(path)?;
        Ok(Folder(path.to_owned()))
    }

    /// The node's credential, if it has one.
    pub(super) fn credential(&self) -> Result<Option<Credential>, ControlError> {
        let read = self.keyed(CREDENTIAL, "it has no Ed25519 key", |text| {
            AgentKey::from_pem(text).ok()
        })?;
        Ok(read.map(|(key, chain)| Credential { key, chain }))
    }

    pub(super) fn save_credential(&self, credential: &Credential) -> Result<(), ControlError> {
        let text = with_chain(credential.key.to_pem()?, &credential.chain);
        self.write(CREDENTIAL, text.as_bytes())
    }

    /// The node's second certificate, if it has one.
    pub(super) fn serving(&self) -> Result<Option<Serving>, ControlError> {
        let read = self.keyed(SERVING, "it has no ECDSA P-256 key", |text| {
            ServerKey::from_pem(text).ok()
        })?;
        Ok(read.map(|(key, chain)| Serving { chain, key }))
    }

    pub(super) fn save_serving(&self, serving: &Serving) -> Result<(), ControlError> {
        let text = with_chain(serving.key.to_pem()?, &serving.chain);
        self.write(SERVING, text.as_bytes())
    }

    /// A key and the certificates that follow it in a file, if that is there.
    fn keyed<K>(
        &self,
        name: &str,
        no_key: &'static str,
        key: impl FnOnce(&str) -> Option<K>,
    ) -> Result<Option<(K, Vec<CertificateDer<'static>>)>, ControlError> {
        let path = self.0.join(name);
        let Some(bytes) = read(&path)? else {
            return Ok(None);
        };
        check_mode(&path)?;
        let damaged = |what| ControlError::Damaged {
            path: path.clone(),
            what,
        };
        let text = Zeroizing::new(String::from_utf8(bytes).map_err(|_| damaged("it is no PEM"))?);
        let key = key(&text).ok_or_else(|| damaged(no_key))?;
        let chain = CertificateDer::pem_slice_iter(text.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| damaged("a certificate cannot be read"))?;
        match chain.is_empty() {
            true => Err(damaged("it has no certificate")),
            false => Ok(Some((key, chain))),
        }
    }

    /// The state in force last, if there was one.
    pub(super) fn state(&self) -> Result<Option<NodeState>, ControlError> {
        let path = self.0.join(STATE);
        let Some(bytes) = read(&path)? else {
            return Ok(None);
        };
        let damaged = |what| ControlError::Damaged {
            path: path.clone(),
            what,
        };
        let rest = bytes
            .strip_prefix(MAGIC)
            .ok_or_else(|| damaged("it does not begin as it should"))?;
        let (checksum, body) = rest
            .split_at_checked(CHECKSUM_BYTES)
            .ok_or_else(|| damaged("it is cut off"))?;
        if Sha256::digest(body)[..] != *checksum {
            return Err(damaged("its checksum is wrong"));
        }
        NodeState::decode(body)
            .map(Some)
            .map_err(|_| damaged("it cannot be decoded"))
    }

    pub(super) fn save_state(&self, state: &NodeState) -> Result<(), ControlError> {
        let body = state.encode_to_vec();
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&Sha256::digest(&body));
        bytes.extend_from_slice(&body);
        self.write(STATE, &bytes)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), ControlError> {
        let path = self.0.join(name);
        let replaced = || -> io::Result<()> {
            let temporary = self.0.join(format!("{name}.new"));
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            // The rename itself must survive a crash.
            File::open(&self.0)?.sync_all()
        };
        replaced().map_err(|source| ControlError::File {
            path: path.clone(),
            source,
        })
    }
}

/// A key as PEM, and its certificates after it.
fn with_chain(mut text: Zeroizing<String>, chain: &[CertificateDer<'_>]) -> Zeroizing<String> {
    for certificate in chain {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = STANDARD.encode(certificate);
        for line in encoded.as_bytes().chunks(PEM_LINE) {
            text.extend(line.iter().map(|&byte| char::from(byte)));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, ControlError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ControlError::File {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Nobody but the owner may read it.
fn check_mode(path: &Path) -> Result<(), ControlError> {
    let metadata = fs::metadata(path).map_err(|source| ControlError::File {
        path: path.to_owned(),
        source,
    })?;
    match metadata.mode() & 0o077 {
        0 => Ok(()),
        _ => Err(ControlError::Exposed {
            path: path.to_owned(),
            mode: metadata.mode() & 0o777,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder(name: &str) -> (PathBuf, Folder) {
        let path = std::env::temp_dir().join(format!("ringgate-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        let folder = Folder::open(&path).expect("made");
        (path, folder)
    }

    #[test]
    fn a_credential_is_read_as_it_was_written_and_by_nobody_else() {
        let (path, folder) = folder("credential");
        assert!(folder.credential().expect("readable").is_none());
        let key = AgentKey::generate().expect("a key");
        let chain = vec![
            CertificateDer::from(vec![7; 100]),
            CertificateDer::from(vec![8; 48]),
        ];
        let written = Credential { key, chain };
        folder.save_credential(&written).expect("written");
        let read = folder.credential().expect("readable").expect("there");
        assert_eq!(
            (read.key.public(), &read.chain),
            (written.key.public(), &written.chain)
        );
        fs::set_permissions(path.join(CREDENTIAL), fs::Permissions::from_mode(0o640)).expect("chmod");
        assert!(matches!(
            folder.credential(),
            Err(ControlError::Exposed { mode: 0o640, .. })
        ));
        fs::remove_dir_all(path).expect("removed");
    }

    #[test]
    fn a_damaged_state_is_told_from_a_whole_one() {
        let (path, folder) = folder("state");
        assert_eq!(folder.state().expect("readable"), None);
        let state = NodeState {
            version: 7,
            lineage: bytes::Bytes::from_static(b"store"),
            ..NodeState::default()
        };
        folder.save_state(&state).expect("written");
        assert_eq!(folder.state().expect("readable"), Some(state));
        let file = path.join(STATE);
        let whole = fs::read(&file).expect("read");
        for cut in [0, 5, 20, whole.len() - 1] {
            fs::write(&file, &whole[..cut]).expect("written");
            assert!(
                matches!(folder.state(), Err(ControlError::Damaged { .. })),
                "{cut}"
            );
        }
        let mut flipped = whole;
        *flipped.last_mut().expect("not empty") ^= 1;
        fs::write(&file, flipped).expect("written");
        assert!(matches!(folder.state(), Err(ControlError::Damaged { .. })));
        fs::remove_dir_all(path).expect("removed");
    }
}
