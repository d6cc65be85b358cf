//! Review: after a change of policy or of trust, what agents have open is looked at again.
//!
//! It goes through the sessions a few rights at a time, so that a core with a hundred thousand subscriptions serves on meanwhile. A
//! right that is lost ends just what it was for; a credential that is no longer good ends the session. Sessions that are being
//! registered, or handed over from another core, are looked at when that is done.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use ringgate_policy::{Authority, Limits, Permission, Rejection};

use crate::code::Code;
use crate::core_message::Body;
use crate::directory::Card;
use crate::event::EventKind;
use crate::gateway::Gateway;
use crate::ids::{Now, SessionId};
use crate::ops::rights::unix_seconds;
use crate::outgoing::Encoder;
use crate::refusal::Refusal;
use crate::session::Stage;
use crate::timers::Timer;

/// Rights looked at in one go: with 10 µs for a decision, less than a millisecond.
const RIGHTS_AT_ONCE: usize = 64;
/// Sessions looked at in one go whatever they have. After a change of anchors each takes 150 µs, as its chain is verified anew.
const SESSIONS_AT_ONCE: usize = 32;

/// What is still to be looked at.
#[derive(Debug, Default)]
pub(crate) struct Review {
    /// When it began; none while there is nothing to do.
    since: Option<Instant>,
    /// The next place among the sessions; none when all have been seen.
    place: Option<u32>,
    /// Sessions whose place had been passed when they came there.
    late: VecDeque<SessionId>,
    /// The rest of what one session has.
    session: Option<SessionId>,
    rights: Vec<Right>,
}

/// Something that a session has by a right.
#[derive(Debug)]
enum Right {
    /// By the agent's id.
    Subscription(u64),
    /// By the opener's number.
    Stream(u64),
    Capability(Box<str>),
    /// By the agent's id.
    Watch(u64),
}

impl Gateway {
    /// From now on `authority` decides. What agents have open is reviewed in the next [`tick`](Self::tick)s.
    pub fn reauthorise(&mut self, authority: Box<dyn Authority>, now: &Now) {
        self.authority = authority;
        self.generation += 1;
        self.review.since = Some(now.mono);
        self.review.place = Some(0);
        self.review.session = None;
        self.review.rights.clear();
        self.review.late.clear();
    }

    /// From now on these limits hold, checked by [`Limits::check`] before. What agents have stays, also where it is more than they
    /// allow.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.sessions
            .ledger
            .set_memory_bytes_max(limits.queue_memory_bytes_max);
        self.table.set_cache_bytes_max(limits.match_cache_bytes_max);
    }

    /// Whether what was authorised under earlier rules is still being looked at.
    pub fn is_reviewing(&self) -> bool {
        self.review.since.is_some()
    }

    pub(crate) fn review_due(&self) -> Option<Instant> {
        self.review.since
    }

    /// A session has come to where it is not looked at in turn.
    pub(crate) fn review_later(&mut self, id: SessionId, now: &Now) {
        self.review.since.get_or_insert(now.mono);
        self.review.late.push_back(id);
    }

    /// Looks at the next few.
    pub(crate) fn review_some<E: Encoder>(&mut self, now: &Now, enc: &mut E) {
        if self.review.since.is_none() {
            return;
        }
        let (mut sessions, mut rights) = (0, 0);
        while sessions < SESSIONS_AT_ONCE && rights < RIGHTS_AT_ONCE {
            if let Some(id) = self.review.session {
                match self.review.rights.pop() {
                    Some(right) => self.review_right(id, right, enc),
                    None => self.review.session = None,
                }
                rights += 1;
                continue;
            }
            let Some(id) = self.next_to_review() else {
                self.review.since = None;
                return;
            };
            sessions += 1;
            self.review_session(id, now, enc);
        }
    }

    fn next_to_review(&mut self) -> Option<SessionId> {
        while let Some(place) = self.review.place {
            self.review.place = (place < self.sessions.places()).then_some(place + 1);
            if let Some((session, _)) = self.sessions.at(place) {
                return Some(session.id);
            }
        }
        self.review.late.pop_front()
    }

    fn review_session<E: Encoder>(&mut self, id: SessionId, now: &Now, enc: &mut E) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let (stage, identity) = (session.stage, &session.peer.identity);
        // Before Register there is a credential where the call itself showed one.
        let examined = match stage {
            Stage::Active | Stage::Detached => true,
            Stage::Opened => identity.proved().is_some(),
            Stage::Claiming | Stage::Departing | Stage::Ending => false,
        };
        if !examined {
            return;
        }
        if let Err(rejection) = self.examine(identity, now) {
            return self.reject_session(id, &rejection, enc);
        }
        let Some(card) = session.card.clone() else { return };
        if let Err(denial) = self
            .authority
            .decide(&card.identity, &card.name, Permission::Register)
        {
            self.tell_denied(
                id,
                EventKind::PermissionLost,
                &Permission::Register,
                &denial.reason,
            );
            let refusal = Refusal::new(Code::PermissionDenied, denial.reason);
            return self.dismiss(id, refusal, false, enc);
        }
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let subscriptions = session.subscriptions.keys().copied().map(Right::Subscription);
        let opened = session
            .calls
            .streams
            .iter()
            .filter(|(_, end)| end.asked.is_some());
        let streams = opened.map(|(number, _)| Right::Stream(*number));
        let capabilities = card.capabilities.iter().cloned().map(Right::Capability);
        let watches = session.calls.watches.keys().copied().map(Right::Watch);
        self.review
            .rights
            .extend(subscriptions.chain(streams).chain(capabilities).chain(watches));
        self.review.session = Some(id);
    }

    fn review_right<E: Encoder>(&mut self, id: SessionId, right: Right, enc: &mut E) {
        match right {
            Right::Subscription(subscription) => self.review_subscription(id, subscription, enc),
            Right::Stream(number) => self.review_stream(id, number, enc),
            Right::Capability(capability) => self.review_capability(id, &capability, enc),
            Right::Watch(watch) => self.review_watch(id, watch, enc),
        }
    }

    fn review_subscription<E: Encoder>(&mut self, id: SessionId, subscription: u64, enc: &mut E) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        // What departs is looked at where it arrives.
        let Some(&lane) = session
            .subscriptions
            .get(&subscription)
            .filter(|_| session.stage != Stage::Departing)
        else {
            return;
        };
        let pattern = Arc::clone(&session.queue.lanes[lane as usize].pattern);
        let Some(refusal) = self.lost(id, Permission::Subscribe(&pattern), false) else {
            return;
        };
        if let Some(session) = self.sessions.get_mut(id) {
            session.subscriptions.remove(&subscription);
        }
        self.drop_lane(id, lane, enc);
        self.refuse(id, subscription, &refusal, enc);
    }

    fn review_stream<E: Encoder>(&mut self, id: SessionId, number: u64, enc: &mut E) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let Some(asked) = session
            .calls
            .streams
            .get(&number)
            .and_then(|end| end.asked.clone())
        else {
            return;
        };
        let target = Permission::Stream(&asked.target);
        let lost = self.lost(id, target, false).or_else(|| {
            let member = asked.member.as_ref()?;
            self.lost(id, Permission::Stream(member.as_str()), true)
        });
        if let Some(refusal) = lost {
            self.break_stream(id, number, &refusal, "its opener lost the right to it", enc);
        }
    }

    fn review_capability<E: Encoder>(&mut self, id: SessionId, capability: &str, enc: &mut E) {
        let Some(refusal) = self.lost(id, Permission::Declare(capability), false) else {
            return;
        };
        let Some(card) = self.card_of(id) else { return };
        let capabilities = card.capabilities.iter().filter(|has| ***has != *capability);
        let card = Arc::new(Card {
            capabilities: capabilities.cloned().collect(),
            ..Card::clone(&card)
        });
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        session.card = Some(Arc::clone(&card));
        // A lost session is in no directory.
        if session.stage == Stage::Active {
            self.directory.add(Arc::clone(&card));
            self.broadcast(|| Body::AgentChanged {
                card: Arc::clone(&card),
            });
            self.tell_present(&card);
        }
        self.refuse(id, 0, &refusal, enc);
    }

    fn review_watch<E: Encoder>(&mut self, id: SessionId, watch: u64, enc: &mut E) {
        let Some(space) = self.watched_space(id, watch) else {
            return;
        };
        if let Some(refusal) = self.lost(id, Permission::StateRead(&space), false) {
            self.end_watch(id, watch);
            self.refuse(id, watch, &refusal, enc);
        }
    }

    /// The refusal to tell, when a right is no longer there; with `as_member`, when something forbids it.
    fn lost(&mut self, id: SessionId, what: Permission<'_>, as_member: bool) -> Option<Refusal> {
        let card = self.card_of(id)?;
        let denial = self.authority.decide(&card.identity, &card.name, what).err()?;
        if as_member && !denial.forbidden {
            return None;
        }
        self.tell_denied(id, EventKind::PermissionLost, &what, &denial.reason);
        Some(Refusal::new(Code::PermissionDenied, denial.reason))
    }

    /// A session's credential may have run out.
    pub(crate) fn credential_due<E: Encoder>(&mut self, id: SessionId, now: &Now, enc: &mut E) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        // What departs is looked at where it arrives, and so is what is being claimed.
        if !matches!(session.stage, Stage::Active | Stage::Detached) {
            return;
        }
        match self.examine(&session.peer.identity, now) {
            Err(rejection) => self.reject_session(id, &rejection, enc),
            // The clock was set back.
            Ok(()) => self.watch_credential(id, now),
        }
    }

    /// Looks at a session again when its credential runs out.
    pub(crate) fn watch_credential(&mut self, id: SessionId, now: &Now) {
        let expires = self
            .sessions
            .get(id)
            .and_then(|session| session.peer.identity.expires_unix());
        let Some(expires) = expires else { return };
        let left = u64::try_from(expires.saturating_sub(unix_seconds(now))).unwrap_or(0);
        // Those who accept whatever the clock says are not asked again and again.
        if left > 0 {
            let at = now.mono.checked_add(std::time::Duration::from_secs(left));
            at.into_iter()
                .for_each(|at| self.timers.set(at, Timer::Credential(id)));
        }
    }

    fn reject_session<E: Encoder>(&mut self, id: SessionId, rejection: &Rejection, enc: &mut E) {
        self.tell_rejected(id, rejection);
        let refusal = Refusal::new(
            Code::Unauthenticated,
            format!("{}: {}", rejection.code, rejection.reason),
        );
        self.dismiss(id, refusal, true, enc);
    }

    /// Ends a session that may not be here any more: what waits for it does not reach it.
    fn dismiss<E: Encoder>(&mut self, id: SessionId, refusal: Refusal, expelled: bool, enc: &mut E) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let detached = session.stage == Stage::Detached;
        self.retire(id, enc);
        if detached {
            return self.sessions.remove(id);
        }
        if let Some((session, ledger)) = self.sessions.at(id.index) {
            session.queue.clear_waiting(ledger);
        }
        self.end_with(id, refusal, expelled, enc);
    }
}
