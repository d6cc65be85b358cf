//! What changes the policies and grants in the store.

use async_trait::async_trait;
use ringgate_access::GRANTS_MAX;
use ringgate_proto::control::v1::{AuditEntry, Grant, PolicySet};
use ringgate_store::TRANSACTION_BYTES_MAX;
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};

use super::{HISTORY_MAX, check_version};
use crate::errors::refusal;
use crate::keys;
use crate::ledger::{Draft, Step, hex};

/// SHA-256 of a text (hex): what the audit log holds of it, so that a version can be told from another.
pub(super) fn digest(text: &str) -> String {
    hex(&Sha256::digest(text))
}

/// Puts a text, which was checked, in force.
pub(super) struct Apply {
    pub(super) text: String,
    /// 0: whatever is there.
    pub(super) expect_version: u64,
    pub(super) audit: AuditEntry,
}

#[async_trait]
impl Step for Apply {
    type Output = u64;

    /// The version in force afterwards. A text that is in force already is not applied again.
    async fn take(&self, draft: &mut Draft) -> Result<u64, Status> {
        let before = draft.get(&keys::policy()).await?;
        let in_force = before.as_ref().map_or(0, |before| before.version);
        check_version(self.expect_version, in_force)?;
        let unchanged = before.is_some_and(|before| before.text == self.text);
        let version = in_force + u64::from(!unchanged);
        if !unchanged {
            let policies = PolicySet {
                text: self.text.clone(),
                version,
            };
            draft.put(&keys::policy(), &policies);
            draft.put(&keys::policy_version(version), &policies);
            // Versions have no gaps, so one out for one in keeps the number.
            if let Some(oldest) = version.checked_sub(HISTORY_MAX).filter(|oldest| *oldest > 0) {
                draft.delete(&keys::policy_version(oldest));
            }
        }
        let mut audit = self.audit.clone();
        let what = if unchanged { "in force already: " } else { "" };
        audit.detail = format!("{what}version {version}, {}", audit.detail);
        draft.audit(audit).await?;
        Ok(version)
    }

    /// The largest text ([`ringgate_access::POLICY_TEXT_BYTES_MAX`]), twice, and the rest.
    fn bytes_max(&self) -> usize {
        TRANSACTION_BYTES_MAX
    }
}

const _: () = assert!(2 * ringgate_access::POLICY_TEXT_BYTES_MAX + 64 * 1024 <= TRANSACTION_BYTES_MAX);

/// Gives a name these roles, in order and distinct, in place of those it had.
pub(super) struct SetGrant {
    pub(super) grant: Grant,
    pub(super) audit: AuditEntry,
}

#[async_trait]
impl Step for SetGrant {
    type Output = ();

    /// Grants are never deleted ([`keys::grant`]), so what is bounded is the names that ever had roles.
    async fn take(&self, draft: &mut Draft) -> Result<(), Status> {
        let slot = keys::grant(&self.grant.name);
        let before = draft.get(&slot).await?;
        let held = before.as_ref().map_or(&[][..], |before| &before.roles);
        if held != self.grant.roles {
            if before.is_none() {
                let names = draft.get(&keys::granted_names()).await?.unwrap_or(0);
                if names >= GRANTS_MAX as u64 {
                    return Err(refusal(
                        Code::ResourceExhausted,
                        "TOO_MANY_GRANTS",
                        format!(
                            "{GRANTS_MAX} names have been given roles; give them to services or namespaces rather than to agents"
                        ),
                    ));
                }
                draft.put(&keys::granted_names(), &(names + 1));
            }
            draft.put(&slot, &self.grant);
        }
        draft.audit(self.audit.clone()).await
    }
}
