//! Opening the store that the settings name.

use std::path::Path;
use std::sync::Arc;

use ringgate_store::{Etcd, EtcdOptions, EtcdTls, Redb, Store, StoreError};

use crate::files::{self, FileError};
use crate::settings::{Settings, StoreKind};

/// The store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenStoreError {
    /// A file of it, or of its TLS.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store itself.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Opens it; the embedded one is made if there is none.
///
/// # Errors
/// [`OpenStoreError`], which says what to do.
pub async fn open(settings: &Settings) -> Result<Arc<dyn Store>, OpenStoreError> {
    match settings.store.kind {
        StoreKind::Embedded => {
            files::private_folder(&settings.state_dir)?;
            let path = settings.store_file();
            // Nothing else runs yet that it could hold up.
            Ok(Arc::new(Redb::open(&path)?))
        }
        StoreKind::Etcd => {
            let wanted = &settings.store;
            let mut options = EtcdOptions::new(wanted.etcd_endpoints.clone());
            options.namespace.clone_from(&wanted.etcd_prefix);
            if !wanted.etcd_ca.as_os_str().is_empty() {
                let identity = match wanted.etcd_certificate.as_os_str().is_empty() {
                    true => None,
                    false => Some((
                        read(&wanted.etcd_certificate)?,
                        files::read_secret(&wanted.etcd_key)?,
                    )),
                };
                options.tls = Some(EtcdTls {
                    ca: read(&wanted.etcd_ca)?,
                    identity,
                });
            }
            Ok(Arc::new(Etcd::open(options).await?))
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(|source| FileError::Io {
        path: path.to_owned(),
        source,
    })
}
