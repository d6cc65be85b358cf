//! Load reports: every core's directory follows them, at a bounded rate.

use std::sync::Arc;
use std::time::Duration;

use crate::action::Status;
use crate::core_message::Body;
use crate::gateway::Gateway;
use crate::ids::{Now, SessionId};
use crate::session::StatusReport;
use crate::timers::Timer;

impl Gateway {
    pub(crate) fn status(&mut self, id: SessionId, status: Status, now: &Now) {
        let weight_max = u32::try_from(self.limits.weight_max).unwrap_or(u32::MAX);
        let latest = Status {
            weight: status.weight.min(weight_max),
            ..status
        };
        let interval = Duration::from_millis(self.limits.status_interval_ms);
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        match &mut session.calls.status {
            Some(report) if now.mono < report.spread_at + interval => {
                report.latest = latest;
                if !report.waiting {
                    report.waiting = true;
                    let at = report.spread_at + interval;
                    self.timers.set(at, Timer::Status(id));
                }
            }
            report => {
                *report = Some(StatusReport {
                    latest,
                    spread_at: now.mono,
                    waiting: false,
                });
                self.spread(id, latest);
            }
        }
    }

    /// The last report had to wait.
    pub(crate) fn spread_status(&mut self, id: SessionId, now: &Now) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let Some(report) = session.calls.status.as_mut().filter(|report| report.waiting) else {
            return;
        };
        report.waiting = false;
        report.spread_at = now.mono;
        let latest = report.latest;
        self.spread(id, latest);
    }

    fn spread(&mut self, id: SessionId, status: Status) {
        let Some(card) = self.card_of(id) else { return };
        self.directory.set_status(&card, status);
        self.broadcast(|| Body::AgentStatus {
            card: Arc::clone(&card),
            status,
        });
    }
}
