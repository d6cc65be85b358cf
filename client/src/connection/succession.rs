//! When a connection gives way to another, on which a better credential is shown.

use std::fmt;
use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

use ringgate_identity::UnixTime;
use tokio::time::{Instant, sleep_until};

use crate::config::Config;
use crate::credential::Shown;

/// Least time for which a connection with something under way is left alone, if its credential lasts as long.
const GRACE_LEAST: Duration = Duration::from_secs(1);

/// A better credential comes, then a quiet moment is waited for, and then it is not waited any longer.
pub(crate) enum Succession {
    /// There is no credential, or nobody wants to reconnect.
    Never,
    /// Nothing better yet.
    Awaited {
        better: Pin<Box<dyn Future<Output = ()> + Send>>,
        shown: Shown,
    },
    /// Something better: at the next quiet moment, at the latest then.
    Due { at_latest: Instant },
    /// At once.
    Overdue,
}

impl Succession {
    /// Of a connection on which `shown` was shown.
    pub(crate) fn new(config: &Config, shown: Option<Shown>) -> Succession {
        match (&config.presenter, shown) {
            (Some(presenter), Some(shown)) if config.reconnect => Succession::Awaited {
                better: Box::pin(presenter.clone().outdated(shown)),
                shown,
            },
            _ => Succession::Never,
        }
    }

    /// Completes when it has come one step nearer. May be dropped and called again.
    pub(crate) async fn step(&mut self) {
        *self = match self {
            Succession::Awaited { better, shown } => {
                better.await;
                // Half of what is left: a call under way may end in peace, and an attempt that fails may be repeated.
                let left = shown
                    .not_after
                    .as_secs()
                    .saturating_sub(UnixTime::now().as_secs());
                let grace = (Duration::from_secs(left) / 2).max(GRACE_LEAST);
                Succession::Due {
                    at_latest: Instant::now() + grace,
                }
            }
            Succession::Due { at_latest } => {
                sleep_until(*at_latest).await;
                Succession::Overdue
            }
            Succession::Never | Succession::Overdue => return pending().await,
        };
    }

    /// Whether the change is to be made now. `quiet` says whether nothing is under way; it is only asked when it matters.
    pub(crate) fn is_now(&self, quiet: impl FnOnce() -> bool) -> bool {
        match self {
            Succession::Never | Succession::Awaited { .. } => false,
            Succession::Due { .. } => quiet(),
            Succession::Overdue => true,
        }
    }

    /// An attempt has failed: not again before this moment.
    pub(crate) fn postpone(&mut self, until: Instant, shown: Shown) {
        *self = Succession::Awaited {
            better: Box::pin(sleep_until(until)),
            shown,
        };
    }
}

impl fmt::Debug for Succession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Succession::Never => "Never",
            Succession::Awaited { .. } => "Awaited",
            Succession::Due { .. } => "Due",
            Succession::Overdue => "Overdue",
        })
    }
}
