//! The configuration of the data planes: one document, with versions.
//!
//! A document holds the keys that differ from the defaults, for all data planes; what a data plane's own file or command line says
//! goes before it. It is checked whole before it is applied, with the code the data planes read it with, and each change says
//! whether it takes effect at once.

mod document;

use std::pin::Pin;

use async_trait::async_trait;
use futures_util::{Stream, StreamExt as _, stream};
use ringgate_proto::control::v1::config_server::Config;
use ringgate_proto::control::v1::{
    ApplyConfigRequest, ApplyConfigResponse, AuditEntry, ConfigDocument, GetConfigRequest, KeyChange,
    ListConfigHistoryRequest, ListConfigHistoryResponse, RollbackConfigRequest, WatchConfigRequest,
};
use ringgate_store::{Follow, StoreError, Update};
use tonic::{Code, Request, Response, Status};

use crate::Context;
use crate::audit::entry;
use crate::caller::Caller;
use crate::errors::{refusal, refusal_with, store_refusal};
use crate::keys;
use crate::ledger::{Draft, Step};
use document::Document;

/// Versions that are kept, the present one included. A year of three changes a day.
pub const HISTORY_MAX: u64 = 1000;
/// Largest document. All keys there are, each with the longest value, take less.
pub const DOCUMENT_BYTES_MAX: usize = 64 * 1024;
/// Longest comment.
pub const COMMENT_BYTES_MAX: usize = 1024;
/// Documents of one page of history: with the largest ones, that is one message of some 4 MiB.
const PAGE_DOCUMENTS_MAX: usize = 50;

/// The configurations. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ConfigBook {
    context: Context,
}

impl ConfigBook {
    /// The configurations in the store.
    #[must_use]
    pub fn new(context: Context) -> ConfigBook {
        ConfigBook { context }
    }

    async fn present(&self) -> Result<ConfigDocument, Status> {
        let found = keys::config().get(&*self.context.store).await;
        let found = found.map_err(|error| store_refusal(&error))?;
        Ok(found.map_or_else(ConfigDocument::default, |found| found.value))
    }

    async fn version(&self, version: u64) -> Result<ConfigDocument, Status> {
        let found = keys::config_version(version).get(&*self.context.store).await;
        let found = found.map_err(|error| store_refusal(&error))?;
        found.map(|found| found.value).ok_or_else(|| {
            refusal(
                Code::NotFound,
                "NOT_FOUND",
                format!(
                    "there is no configuration {version} (any more): {HISTORY_MAX} versions are kept; `ringgate config history` \
                     lists them"
                ),
            )
        })
    }

    async fn apply(
        &self,
        caller: &Caller,
        request: ApplyConfigRequest,
    ) -> Result<ApplyConfigResponse, Status> {
        caller.about("config", request.comment.clone());
        if request.comment.len() > COMMENT_BYTES_MAX {
            return Err(refusal(
                Code::InvalidArgument,
                "TOO_LARGE",
                format!("the comment may have {COMMENT_BYTES_MAX} bytes"),
            ));
        }
        let apply = Apply {
            read: Document::read(&request.toml)?,
            expects: request.expect_version,
            document: ConfigDocument {
                toml: request.toml,
                time_unix: entry().time_unix_nanos / 1_000_000_000,
                author: caller.actor(),
                comment: request.comment,
                ..ConfigDocument::default()
            },
            caller: caller.clone(),
        };
        if request.dry_run {
            let present = self.present().await?;
            let changes = apply.changes(&present)?;
            return Ok(ApplyConfigResponse {
                version: present.version,
                changes,
            });
        }
        let (applied, _) = self.context.ledger.take(apply).await?;
        caller.set_recorded();
        Ok(applied)
    }

    /// Every configuration after a version, as far as it is still the newest when its turn comes.
    fn follow(&self, after: u64) -> impl Stream<Item = Result<ConfigDocument, Status>> + Send + 'static {
        let follow = Follow::new(self.context.store.clone(), keys::config().key().clone());
        stream::unfold((follow, after), |(mut follow, seen)| async move {
            loop {
                let value = match follow.next().await {
                    Ok(Update::All { entries, .. }) => entries.into_iter().next().map(|entry| entry.value),
                    Ok(Update::Changed(batch)) => batch.changes.into_iter().find_map(|change| change.value),
                    Err(error) => return Some((Err(store_refusal(&error)), (follow, seen))),
                };
                let Some(value) = value else { continue };
                match <ConfigDocument as prost::Message>::decode(value) {
                    Ok(document) if document.version > seen => {
                        let seen = document.version;
                        return Some((Ok(document), (follow, seen)));
                    }
                    Ok(_) => {}
                    Err(_) => {
                        let damaged = StoreError::Corrupt("the configuration cannot be read".to_owned());
                        return Some((Err(store_refusal(&damaged)), (follow, seen)));
                    }
                }
            }
        })
    }
}

#[async_trait]
impl Config for ConfigBook {
    async fn get_config(
        &self,
        request: Request<GetConfigRequest>,
    ) -> Result<Response<ConfigDocument>, Status> {
        let document = match request.get_ref().version {
            0 => self.present().await?,
            version => self.version(version).await?,
        };
        Ok(Response::new(document))
    }

    async fn apply_config(
        &self,
        request: Request<ApplyConfigRequest>,
    ) -> Result<Response<ApplyConfigResponse>, Status> {
        let caller = Caller::of(&request)?;
        self.apply(&caller, request.into_inner()).await.map(Response::new)
    }

    type WatchConfigStream = Pin<Box<dyn Stream<Item = Result<ConfigDocument, Status>> + Send>>;

    async fn watch_config(
        &self,
        request: Request<WatchConfigRequest>,
    ) -> Result<Response<Self::WatchConfigStream>, Status> {
        let documents = self.follow(request.get_ref().after_version);
        Ok(Response::new(documents.boxed()))
    }

    async fn list_config_history(
        &self,
        request: Request<ListConfigHistoryRequest>,
    ) -> Result<Response<ListConfigHistoryResponse>, Status> {
        let request = request.get_ref();
        let size = match request.page_size as usize {
            0 => PAGE_DOCUMENTS_MAX,
            size => size.min(PAGE_DOCUMENTS_MAX),
        };
        let page = keys::CONFIG_HISTORY
            .before(&*self.context.store, request.before_version, size)
            .await
            .map_err(|error| store_refusal(&error))?;
        let documents = page.items.into_iter().map(|(_, stored)| stored.value).collect();
        Ok(Response::new(ListConfigHistoryResponse { documents }))
    }

    async fn rollback_config(
        &self,
        request: Request<RollbackConfigRequest>,
    ) -> Result<Response<ApplyConfigResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        caller.about("config", format!("rollback to {}", request.version));
        let earlier = self.version(request.version).await?;
        let comment = match request.comment.as_str() {
            "" => format!("rollback to {}", request.version),
            comment => comment.to_owned(),
        };
        let apply = ApplyConfigRequest {
            toml: earlier.toml,
            comment,
            ..ApplyConfigRequest::default()
        };
        self.apply(&caller, apply).await.map(Response::new)
    }
}

struct Apply {
    read: Document,
    /// 0: whatever is there.
    expects: u64,
    document: ConfigDocument,
    caller: Caller,
}

impl Apply {
    /// What it would change.
    fn changes(&self, present: &ConfigDocument) -> Result<Vec<KeyChange>, Status> {
        if self.expects != 0 && self.expects != present.version {
            return Err(changed_meanwhile(self.expects, present.version));
        }
        self.read.changes_from(&present.toml)
    }
}

#[async_trait]
impl Step for Apply {
    type Output = ApplyConfigResponse;

    async fn take(&self, draft: &mut Draft) -> Result<ApplyConfigResponse, Status> {
        let present = draft.get(&keys::config()).await?.unwrap_or_default();
        let changes = self.changes(&present)?;
        let version = present.version + 1;
        let document = ConfigDocument {
            version,
            ..self.document.clone()
        };
        draft.put(&keys::config(), &document);
        draft.put(&keys::config_version(version), &document);
        if let Some(forgotten) = version.checked_sub(HISTORY_MAX).filter(|version| *version > 0) {
            draft.delete(&keys::config_version(forgotten));
        }
        let audit = AuditEntry {
            detail: format!("version {version}: {} {}", summary(&changes), document.comment),
            ..self.caller.entry("ok")
        };
        draft.audit(audit).await?;
        Ok(ApplyConfigResponse { version, changes })
    }
}

fn changed_meanwhile(expected: u64, present: u64) -> Status {
    refusal_with(
        Code::Aborted,
        "VERSION_CONFLICT",
        format!(
            "the configuration is at version {present}, not at {expected}: look at what changed (`ringgate config diff`), then \
             apply again"
        ),
        [("version", present.to_string())],
    )
}

/// What changed, for the audit log: the names of keys alone.
fn summary(changes: &[KeyChange]) -> String {
    match changes {
        [] => "nothing changed;".to_owned(),
        changes => {
            let names: Vec<_> = changes.iter().map(|change| change.key.as_str()).collect();
            format!("{};", names.join(", "))
        }
    }
}

#[cfg(test)]
mod tests;
