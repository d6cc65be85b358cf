//! Files of this process: written whole or not at all, readable by their owner alone.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// A file or folder of this process cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others can read it.
    #[error("{path} holds a secret and can be read by others (mode {mode:o}); do `chmod 600 {path}`")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    |source| FileError::Io { path, source }
}

/// Makes a folder, with those above it, that only its owner can enter.
///
/// # Errors
/// [`FileError::Io`].
pub fn private_folder(path: &Path) -> Result<(), FileError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed(path))
}

/// Writes a file in place of what was there: after a crash it is the old one or the new one, whole.
///
/// # Errors
/// [`FileError::Io`].
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        // The name lasts once its folder is synced.
        File::open(folder)?.sync_all()
    };
    write().map_err(failed(path))
}

/// Writes a secret that nobody else may have written before; whoever was first, what is there afterwards is returned.
///
/// # Errors
/// [`FileError`].
pub fn create_or_read_secret(path: &Path, bytes: &[u8]) -> Result<Vec<u8>, FileError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(path) {
            Ok(_) => File::open(folder)?.sync_all(),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error.error),
        }
    };
    write().map_err(failed(path))?;
    read_secret(path)
}

/// Reads a file that must be its owner's alone.
///
/// # Errors
/// [`FileError`].
pub fn read_secret(path: &Path) -> Result<Vec<u8>, FileError> {
    use std::io::Read as _;
    // The open file is checked, not the name, so that it cannot be exchanged in between.
    let mut file = File::open(path).map_err(failed(path))?;
    let mode = file.metadata().map_err(failed(path))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(FileError::Open { path, mode });
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed(path))?;
    Ok(bytes)
}

/// Reads a file, if there is one.
///
/// # Errors
/// [`FileError::Io`].
pub fn read_optional(path: &Path) -> Result<Option<String>, FileError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_their_owners_alone_and_written_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("a/b");
        private_folder(&inner).expect("made");
        private_folder(&inner).expect("there already");
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&inner), 0o700);
        let secret = inner.join("secret");
        assert_eq!(create_or_read_secret(&secret, b"one").expect("written"), b"one");
        assert_eq!(create_or_read_secret(&secret, b"two").expect("read"), b"one");
        assert_eq!(mode(&secret), 0o600);
        std::fs::set_permissions(&secret, Permissions::from_mode(0o640)).expect("changed");
        let error = read_secret(&secret).expect_err("others can read it").to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }
}
