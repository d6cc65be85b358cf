//! What all parts of the process share.

use std::sync::Arc;

use ringgate_store::Store;

use crate::audit::AuditLog;
use crate::authority::{Authority, StartError};
use crate::ledger::Ledger;
use crate::settings::Settings;

/// What all parts of the process share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    /// The settings.
    pub settings: Arc<Settings>,
    /// Where state is kept.
    pub store: Arc<dyn Store>,
    /// The one writer of this process.
    pub ledger: Ledger,
    /// What was changed and refused.
    pub audit: AuditLog,
    /// Who issues and who verifies.
    pub authority: Arc<Authority>,
}

impl Context {
    /// Opens what is there over a store, and makes what is missing.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(settings: Arc<Settings>, store: Arc<dyn Store>) -> Result<Context, StartError> {
        let authority = Arc::new(Authority::start(&settings, &store).await?);
        let ledger = Ledger::start(store.clone());
        let limits = &settings.limits;
        let audit = AuditLog::new(
            ledger.clone(),
            store.clone(),
            limits.audited_refusals_per_second_max,
            limits.page_size_max as usize,
        );
        Ok(Context {
            settings,
            store,
            ledger,
            audit,
            authority,
        })
    }
}
