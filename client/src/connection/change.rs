//! The change from one connection to another, without a gap.
//!
//! ```text
//!   old   …─ everything said before ─ fence ──────────────── what was handed to it ─ end
//!   new                                      Register{resume} ─ Registered ──────────────── what comes after …
//! ```
//!
//! The fence makes sure that the gateway has dealt with all that was said on the old connection. The gateway hands the session
//! over while both stand, and ends the old stream behind the last that it put on it.

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::dial::{Connection, dial};
use super::driver::{CLOSE_TIMEOUT, Driver, message, room};
use crate::Error;
use crate::agent::FENCE_ID;
use crate::connection::tables::Tables;
use ringgate_proto::agp::v1 as proto;
use ringgate_proto::agp::v1::agent_message::Body as Said;

impl Driver {
    /// Goes on with another connection; with the old one if there is no other yet; with none if it is over.
    pub(super) async fn change_over(&mut self, mut old: Connection) -> Option<Connection> {
        let fenced = timeout(self.config.connect_timeout, self.fence(&mut old)).await;
        if fenced != Ok(true) {
            self.lost();
            return self.reconnect(Error::ConnectionLost).await;
        }
        let config = std::sync::Arc::clone(&self.config);
        let token = self.resume_token.clone();
        let (dialled, old_stands) = self.hear_while(&mut old, dial(&config, token)).await;
        match dialled {
            Ok((connection, registered)) => {
                // What was handed to the old connection comes before anything on the new one.
                let _ = timeout(CLOSE_TIMEOUT, self.hear_out(&mut old)).await;
                self.lost();
                self.resumed(&connection, &registered);
                Some(connection)
            }
            Err(error) if old_stands => {
                let wait = self.backoff.next(fastrand::f64());
                tracing::warn!(%error, ?wait, "not yet connected with the new credential, trying again");
                if let Some(shown) = old.shown {
                    self.succession.postpone(Instant::now() + wait, shown);
                }
                Some(old)
            }
            Err(error) => {
                self.lost();
                self.reconnect(error).await
            }
        }
    }

    /// Says something that the gateway answers, and waits for the answer: it has then dealt with all before it. False if the
    /// connection is gone.
    async fn fence(&mut self, old: &mut Connection) -> bool {
        let (done, mut answered) = oneshot::channel();
        self.tables.unsubscribes.insert(FENCE_ID, done);
        // There is no such subscription, and the gateway says so.
        self.pending
            .push_back(message(Said::Unsubscribe(proto::Unsubscribe { id: FENCE_ID })));
        while let Some(said) = self.pending.pop_front() {
            let outbound = old.outbound.clone();
            match self.hear_while(old, outbound.send(said)).await {
                (Ok(()), true) => {}
                _ => return false,
            }
        }
        let (_, stands) = self.hear_while(old, &mut answered).await;
        stands
    }

    /// Waits for something, and hears meanwhile. Says whether the connection still stands.
    async fn hear_while<F: Future>(&mut self, old: &mut Connection, until: F) -> (F::Output, bool) {
        let mut until = std::pin::pin!(until);
        let mut stands = true;
        loop {
            tokio::select! {
                done = &mut until => return (done, stands),
                heard = self.hear_next(old), if stands => stands = heard,
            }
        }
    }

    async fn hear_out(&mut self, old: &mut Connection) {
        while self.hear_next(old).await {}
    }

    /// Hears the next message, or hands over what blocked. False if the connection has ended. May be dropped.
    async fn hear_next(&mut self, old: &mut Connection) -> bool {
        if !self.blocked.is_empty() {
            room(&self.blocked).await;
            self.unblock();
            return true;
        }
        match old.inbound.message().await {
            Ok(Some(message)) => {
                self.hear(message);
                true
            }
            Ok(None) | Err(_) => false,
        }
    }

    /// A connection is gone: what waited on it fails.
    pub(super) fn lost(&mut self) {
        self.pending.clear();
        self.tables.lost();
    }
}

impl Tables {
    /// Whether nothing waits for an answer, here or at another agent.
    pub(super) fn is_quiet(&self) -> bool {
        self.publishes.is_empty()
            && self.unsubscribes.is_empty()
            && self.requests.is_empty()
            && self.asks.is_empty()
            && self.introductions.is_empty()
            && self.accepts.is_empty()
            && self.streams.is_empty()
            && self.incoming.is_empty()
            && self.routes.iter().all(|route| route.done.is_none())
    }
}
