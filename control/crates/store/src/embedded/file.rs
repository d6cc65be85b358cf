//! The file: made whole or not at all, and for nobody else's eyes.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use redb::{Database, DatabaseError};

use super::{ABOUT, ENTRIES, FORMAT, LINEAGE, REVISION};
use crate::StoreError;

/// Memory for pages of the file: a store of the expected size (100 000 agents, some 100 MiB) has its upper levels in it.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Opens the file, or makes it.
pub(super) fn open(path: &Path) -> Result<Database, StoreError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let failed = |source| refused(&format!("look at {}", folder.display()), source);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed)?;
    // Who may write here could put another file in the store's place. One that was there before may be read.
    private(folder, 0o022, "go-w")?;
    if !path.try_exists().map_err(failed)? {
        make(path, folder)?;
    }
    private(path, 0o077, "600")?;
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    match builder.open(path) {
        Ok(database) => Ok(database),
        Err(DatabaseError::DatabaseAlreadyOpen) => Err(refuse(format!(
            "another process uses {}: stop it, or give this one a `state_dir` of its own",
            path.display()
        ))),
        Err(error) => Err(redb::Error::from(error).into()),
    }
}

/// Makes the store under another name and gives it its own when it is whole: whoever finds the name finds a store. Of several
/// processes that do this at once, one wins and the others use what it made.
fn make(path: &Path, folder: &Path) -> Result<(), StoreError> {
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".new-{}", std::process::id()));
    let new = Path::new(&new);
    let failed = |source| refused(&format!("look at {} and its disk", folder.display()), source);
    match fs::remove_file(new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(new)
        .map_err(failed)?;
    initialise(&Database::builder().create(new).map_err(redb::Error::from)?)?;
    let linked = fs::hard_link(new, path);
    fs::remove_file(new).map_err(failed)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed)
}

fn initialise(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut about = transaction.open_table(ABOUT)?;
        about.insert(FORMAT.0, FORMAT.1)?;
        // Need not be secret: it only tells one history from another.
        about.insert(LINEAGE, fastrand::u128(..))?;
        about.insert(REVISION, 0)?;
        transaction.open_table(ENTRIES)?;
    }
    transaction.commit()?;
    Ok(())
}

/// Refuses what others on this machine could use with these rights: the store holds what could forge identities.
fn private(path: &Path, rights: u32, mode: &str) -> Result<(), StoreError> {
    let found =
        fs::metadata(path).map_err(|source| refused(&format!("look at {}", path.display()), source))?;
    if found.permissions().mode() & rights != 0 {
        return Err(refuse(format!(
            "others may use {0}: `chmod {mode} {0}`",
            path.display()
        )));
    }
    Ok(())
}

pub(super) fn refused(cure: &str, source: io::Error) -> StoreError {
    StoreError::Open {
        reason: format!("{source}: {cure}"),
        source: Some(Arc::new(source)),
    }
}

pub(super) fn refuse(reason: String) -> StoreError {
    StoreError::Open { reason, source: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("is there").permissions().mode() & 0o777
    }

    #[test]
    fn what_is_made_is_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/er/store.redb");
        drop(open(&path).expect("made"));
        assert_eq!(
            (mode(&path), mode(path.parent().expect("it has one"))),
            (0o600, 0o700)
        );
        let left = fs::read_dir(path.parent().expect("it has one"))
            .expect("readable")
            .count();
        assert_eq!(left, 1, "nothing but the store is left");
    }

    #[test]
    fn what_others_may_read_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.redb");
        drop(open(&path).expect("made"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("own file");
        let error = open(&path).expect_err("readable by the group").to_string();
        assert!(
            error.contains(&format!("chmod 600 {}", path.display())),
            "{error}"
        );
    }

    #[test]
    fn a_store_in_use_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.redb");
        let _open = open(&path).expect("made");
        let error = open(&path).expect_err("in use").to_string();
        assert!(error.contains("another process uses"), "{error}");
    }
}
