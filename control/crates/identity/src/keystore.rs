//! An agent's key and certificates on disk, encrypted.
//!
//! One file: a header that says how its key is derived, and one ciphertext (ChaCha20-Poly1305, RFC 8439). The file's key comes
//! from a passphrase (Argon2id, RFC 9106) or from a key file (HKDF-SHA-256, RFC 5869), with a fresh salt for each writing, so
//! that no nonce meets a key twice. The header is authenticated with the rest.
//!
//! Files are replaced, never changed: a crash leaves the old one or the new one. On Unix both files are readable by their owner
//! alone, and refused if they are not.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use tempfile::{NamedTempFile, PersistError};
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use crate::bundle::{StoredBundle, certificates};
use crate::{AgentKey, KeyError, TrustBundle};

/// Largest keystore read, in bytes. A full one, with the largest bundle, is below 1 MiB.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Bytes of a key file.
const KEY_FILE_BYTES: usize = 32;
const SALT_BYTES: usize = 16;
const FORMAT: &str = "ringgate-keystore-1";

/// Cost of a passphrase: the second recommendation of RFC 9106 §4 with one lane, about a tenth of a second and 64 MiB.
const ARGON2_MEMORY_KIB: u32 = 64 * 1024;
const ARGON2_PASSES: u32 = 3;
const ARGON2_LANES: u32 = 1;
/// Most that a file may ask for: somebody who can write it must not exhaust the machine with it.
const ARGON2_MEMORY_KIB_MAX: u32 = 1024 * 1024;
const ARGON2_PASSES_MAX: u32 = 16;
const ARGON2_LANES_MAX: u32 = 16;

/// What the file is encrypted with.
#[derive(Clone)]
#[non_exhaustive]
pub enum Seal {
    /// A passphrase that somebody types or an environment provides.
    Passphrase(Zeroizing<String>),
    /// A file of 32 random bytes, made when there is none. It protects backups and copies of the keystore, as long as the key
    /// file is not among them.
    KeyFile(PathBuf),
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Passphrase(_) => f.write_str("Passphrase(..)"),
            Self::KeyFile(path) => f.debug_tuple("KeyFile").field(path).finish(),
        }
    }
}

/// What is kept.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The private key.
    pub key: AgentKey,
    /// Its certificate chain, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// What others are verified with.
    pub bundle: TrustBundle,
}

/// Why a keystore cannot be written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeystoreError {
    /// The file system.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Others could read it.
    #[error(
        "{path} can be read by others (mode {mode:03o}); run `chmod 600 {path}`, and replace the key if somebody may have read it"
    )]
    Permissions {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a keystore, or a damaged one.
    #[error("{path} is not a keystore, or it is damaged; restore it, or enrol again")]
    Malformed {
        /// Which file.
        path: PathBuf,
    },
    /// The passphrase or key file does not fit, or the file was changed.
    #[error(
        "{path} cannot be decrypted: the passphrase or key file is not the one it was written with, or it was changed"
    )]
    Sealed {
        /// Which file.
        path: PathBuf,
    },
    /// A key file of another size.
    #[error("{path} is not a key file; it must have {KEY_FILE_BYTES} bytes")]
    KeyFile {
        /// Which file.
        path: PathBuf,
    },
    /// A passphrase that protects nothing.
    #[error("the passphrase is empty; choose one, or use a key file")]
    EmptyPassphrase,
    /// The cryptographic library failed.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Envelope {
    format: String,
    derivation: Derivation,
    salt: String,
    ciphertext: String,
}

/// How the file's key is derived.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Derivation {
    Argon2id {
        memory_kib: u32,
        passes: u32,
        lanes: u32,
    },
    KeyFile,
}

/// The plaintext.
#[derive(Serialize, Deserialize)]
struct Contents {
    key_pkcs8: String,
    chain: Vec<String>,
    bundle: StoredBundle,
}

impl Drop for Contents {
    fn drop(&mut self) {
        self.key_pkcs8.zeroize();
    }
}

/// Encrypts and writes, in place of what was there.
///
/// # Errors
/// [`KeystoreError`]; what was there is then still there.
pub fn save(path: &Path, stored: &Stored, seal: &Seal) -> Result<(), KeystoreError> {
    let contents = Contents {
        key_pkcs8: STANDARD.encode(&*stored.key.to_pkcs8()?),
        chain: stored.chain.iter().map(|der| STANDARD.encode(der)).collect(),
        bundle: StoredBundle::from(&stored.bundle),
    };
    // Sealed in place: the one plaintext is wiped when it goes.
    let text = Zeroizing::new(serde_json::to_vec(&contents).map_err(|_| KeyError::Library)?);
    save_secret(path, FORMAT, text, seal)
}

/// Encrypts and writes something else of an agent's, in place of what was there. `format` says what it is; it is authenticated, so that
/// one is not taken for another.
///
/// # Errors
/// [`KeystoreError`]; what was there is then still there.
pub fn save_secret(
    path: &Path,
    format: &str,
    mut text: Zeroizing<Vec<u8>>,
    seal: &Seal,
) -> Result<(), KeystoreError> {
    let derivation = match seal {
        Seal::Passphrase(_) => Derivation::Argon2id {
            memory_kib: ARGON2_MEMORY_KIB,
            passes: ARGON2_PASSES,
            lanes: ARGON2_LANES,
        },
        Seal::KeyFile(key_path) => {
            make_key_file(key_path)?;
            Derivation::KeyFile
        }
    };
    let mut salt = [0; SALT_BYTES];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| KeyError::Library)?;
    let key = derive(path, format, derivation, &salt, seal)?;
    key.seal_in_place_append_tag(
        nonce(),
        Aad::from(associated(format, derivation, &salt)),
        &mut *text,
    )
    .map_err(|_| KeyError::Library)?;
    let envelope = Envelope {
        format: format.to_owned(),
        derivation,
        salt: STANDARD.encode(salt),
        ciphertext: STANDARD.encode(&*text),
    };
    let mut file = serde_json::to_vec_pretty(&envelope).map_err(|_| KeyError::Library)?;
    file.push(b'\n');
    replace(path, &file)
}

/// Reads and decrypts.
///
/// # Errors
/// [`KeystoreError`].
pub fn load(path: &Path, seal: &Seal) -> Result<Stored, KeystoreError> {
    let malformed = || KeystoreError::Malformed {
        path: path.to_owned(),
    };
    let text = load_secret(path, FORMAT, FILE_BYTES_MAX, seal)?;
    let contents: Contents = serde_json::from_slice(&text).map_err(|_| malformed())?;
    let pkcs8 = Zeroizing::new(STANDARD.decode(&contents.key_pkcs8).map_err(|_| malformed())?);
    Ok(Stored {
        key: AgentKey::from_pkcs8(&pkcs8)?,
        chain: certificates(&contents.chain).ok_or_else(malformed)?,
        bundle: contents.bundle.open().ok_or_else(malformed)?,
    })
}

/// Reads and decrypts what [`save_secret`] wrote.
///
/// # Errors
/// [`KeystoreError`].
pub fn load_secret(
    path: &Path,
    format: &str,
    bytes_max: u64,
    seal: &Seal,
) -> Result<Zeroizing<Vec<u8>>, KeystoreError> {
    let malformed = || KeystoreError::Malformed {
        path: path.to_owned(),
    };
    let sealed = || KeystoreError::Sealed {
        path: path.to_owned(),
    };
    let envelope: Envelope =
        serde_json::from_slice(&read_private(path, bytes_max)?).map_err(|_| malformed())?;
    if envelope.format != format {
        return Err(malformed());
    }
    let fits = matches!(
        (envelope.derivation, seal),
        (Derivation::Argon2id { .. }, Seal::Passphrase(_)) | (Derivation::KeyFile, Seal::KeyFile(_))
    );
    if !fits {
        return Err(sealed());
    }
    let salt = STANDARD.decode(&envelope.salt).map_err(|_| malformed())?;
    let mut text = Zeroizing::new(STANDARD.decode(&envelope.ciphertext).map_err(|_| malformed())?);
    let key = derive(path, format, envelope.derivation, &salt, seal)?;
    let plain = key
        .open_in_place(
            nonce(),
            Aad::from(associated(format, envelope.derivation, &salt)),
            &mut text,
        )
        .map_err(|_| sealed())?
        .len();
    text.truncate(plain);
    Ok(text)
}

/// What is authenticated besides the ciphertext.
fn associated(format: &str, derivation: Derivation, salt: &[u8]) -> Vec<u8> {
    let how = match derivation {
        Derivation::Argon2id {
            memory_kib,
            passes,
            lanes,
        } => format!("{format} argon2id {memory_kib} {passes} {lanes} "),
        Derivation::KeyFile => format!("{format} key_file "),
    };
    [how.as_bytes(), salt].concat()
}

/// Each key seals one message, so that its nonce may be constant (RFC 5116 §3.1).
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn derive(
    path: &Path,
    format: &str,
    derivation: Derivation,
    salt: &[u8],
    seal: &Seal,
) -> Result<LessSafeKey, KeystoreError> {
    let malformed = || KeystoreError::Malformed {
        path: path.to_owned(),
    };
    let mut key = Zeroizing::new([0; 32]);
    match (derivation, seal) {
        (
            Derivation::Argon2id {
                memory_kib,
                passes,
                lanes,
            },
            Seal::Passphrase(passphrase),
        ) => {
            if passphrase.is_empty() {
                return Err(KeystoreError::EmptyPassphrase);
            }
            if memory_kib > ARGON2_MEMORY_KIB_MAX || passes > ARGON2_PASSES_MAX || lanes > ARGON2_LANES_MAX {
                return Err(malformed());
            }
            let params = Params::new(memory_kib, passes, lanes, Some(key.len())).map_err(|_| malformed())?;
            Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                .hash_password_into(passphrase.as_bytes(), salt, &mut *key)
                .map_err(|_| malformed())?;
        }
        (Derivation::KeyFile, Seal::KeyFile(key_path)) => {
            let secret = read_private(key_path, KEY_FILE_BYTES as u64 + 1)?;
            if secret.len() != KEY_FILE_BYTES {
                return Err(KeystoreError::KeyFile {
                    path: key_path.clone(),
                });
            }
            let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&secret);
            extracted
                .expand(&[format.as_bytes()], hkdf::HKDF_SHA256)
                .and_then(|okm| okm.fill(&mut *key))
                .map_err(|_| KeyError::Library)?;
        }
        _ => return Err(malformed()),
    }
    let unbound = UnboundKey::new(&CHACHA20_POLY1305, &*key).map_err(|_| KeyError::Library)?;
    Ok(LessSafeKey::new(unbound))
}

fn make_key_file(path: &Path) -> Result<(), KeystoreError> {
    if path.exists() {
        return Ok(());
    }
    let mut secret = Zeroizing::new([0; KEY_FILE_BYTES]);
    aws_lc_rs::rand::fill(&mut *secret).map_err(|_| KeyError::Library)?;
    // Never in place of one that another process made meanwhile: that one has keystores by now.
    match write(path, &*secret, |file| file.persist_noclobber(path)) {
        Err(KeystoreError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), KeystoreError> {
    write(path, bytes, |file| file.persist(path))
}

/// Writes beside, syncs, and puts in place; the new file is its owner's alone from its first byte (`tempfile` makes it 0600).
fn write(
    path: &Path,
    bytes: &[u8],
    put: impl FnOnce(NamedTempFile) -> Result<File, PersistError>,
) -> Result<(), KeystoreError> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let attempt = || -> io::Result<()> {
        let mut file = NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        put(file).map_err(|error| error.error)?;
        // The new name lasts once the folder is synced.
        File::open(folder)?.sync_all()
    };
    attempt().map_err(|source| KeystoreError::Io {
        path: path.to_owned(),
        source,
    })
}

/// Reads a file that must be its owner's alone. The open file is checked, not the name, so that it cannot be exchanged between.
fn read_private(path: &Path, bytes_max: u64) -> Result<Zeroizing<Vec<u8>>, KeystoreError> {
    let failed = |source| KeystoreError::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeystoreError::Permissions {
                path: path.to_owned(),
                mode,
            });
        }
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > bytes_max {
        return Err(KeystoreError::Malformed {
            path: path.to_owned(),
        });
    }
    Ok(bytes)
}
