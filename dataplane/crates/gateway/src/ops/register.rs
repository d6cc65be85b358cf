//! Register: a stream becomes a session.

use std::sync::Arc;

use ringgate_policy::{AgentName, Identity, Pattern, Permission, Rejection, capability, label};

use crate::action::Register;
use crate::code::Code;
use crate::config::TOKEN_BYTES;
use crate::core_message::{Body, Claim};
use crate::directory::Card;
use crate::event::EventKind;
use crate::gateway::{Gateway, encode};
use crate::ids::{Now, SessionId};
use crate::ops::barrier::Then;
use crate::ops::rights::unix_seconds;
use crate::outgoing::{Encoder, Outgoing, Registered};
use crate::refusal::Refusal;
use crate::session::Stage;

impl Gateway {
    pub(crate) fn register<E: Encoder>(
        &mut self,
        id: SessionId,
        register: &Register<'_>,
        now: &Now,
        enc: &mut E,
    ) {
        let made = self
            .identify(id, register, now)
            .and_then(|()| self.make_card(id, register, now));
        let card = match made {
            Ok(card) => Arc::new(card),
            Err(refusal) => return self.end(id, refusal, enc),
        };
        let name = Arc::clone(card.name.shared());
        let token = (self.token)();
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        session.generation = self.generation;
        session.stage = Stage::Claiming;
        session.pauses.claiming = true;
        session.gated = true;
        let proof = session.peer.identity.proof();
        session.card = Some(card);
        // A token of another length was never given out: it opens nothing.
        let resume = <[u8; TOKEN_BYTES]>::try_from(register.resume_token).ok();
        let claim = Claim {
            name,
            claimant: self.address(id),
            resume,
            token,
            proof,
        };
        let home = self.home_of(&claim.name);
        self.send(home, Body::Claim(Box::new(claim)));
    }

    /// Who the agent has proved to be: by its connection, or else by what its Register shows.
    fn identify(&mut self, id: SessionId, register: &Register<'_>, now: &Now) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get_mut(id) else {
            return Ok(());
        };
        let seconds = unix_seconds(now);
        if session.peer.identity == Identity::Declared && !register.token.is_empty() {
            let uri = &session.peer.proof_uri;
            let (token, proof) = (register.token, register.proof);
            match self.authority.authenticate(token, proof, uri, seconds) {
                Ok(identity) => session.peer.identity = identity,
                Err(rejection) => return Err(self.unauthenticated(id, register.name, &rejection)),
            }
        }
        let examined = self.authority.examine(&session.peer.identity, seconds);
        examined.map_err(|rejection| self.unauthenticated(id, register.name, &rejection))
    }

    fn unauthenticated(&mut self, id: SessionId, claimed: &str, rejection: &Rejection) -> Refusal {
        let text = format!("{}: {}", rejection.code, rejection.reason);
        let detail = format!("registering as {claimed:?}: {text}");
        self.tell_event(id, EventKind::Unauthenticated, detail);
        Refusal::new(Code::Unauthenticated, text)
    }

    fn make_card(&mut self, id: SessionId, register: &Register<'_>, now: &Now) -> Result<Card, Refusal> {
        let limits = &self.limits;
        let name = AgentName::new(register.name)
            .map_err(|error| Refusal::invalid(format!("name {:?}: {error}", register.name)))?;
        check_count(
            "capabilities",
            register.capabilities.len(),
            limits.capabilities_max,
        )?;
        check_count("labels", register.labels.len(), limits.labels_max)?;
        check_count("accept_from", register.accept_from.len(), limits.accept_from_max)?;
        for text in &register.capabilities {
            capability(text).map_err(|error| Refusal::invalid(format!("capability {text:?}: {error}")))?;
        }
        for (key, value) in &register.labels {
            label(key, value).map_err(|error| Refusal::invalid(format!("label {key:?}: {error}")))?;
        }
        for text in &register.accept_from {
            Pattern::new(text).map_err(|error| Refusal::invalid(format!("accept_from {text:?}: {error}")))?;
        }
        let Some(session) = self.sessions.get(id) else {
            return Err(Refusal::new(Code::Internal, "the stream is gone"));
        };
        let identity = session.peer.identity.clone();
        let declared = register.capabilities.iter().map(|text| Permission::Declare(text));
        for what in std::iter::once(Permission::Register).chain(declared) {
            if let Err(denial) = self.authority.decide(&identity, &name, what) {
                self.tell_denied(id, EventKind::PermissionDenied, &what, &denial.reason);
                return Err(Refusal::new(Code::PermissionDenied, denial.reason));
            }
        }
        let Some(session) = self.sessions.get(id) else {
            return Err(Refusal::new(Code::Internal, "the stream is gone"));
        };
        let mut capabilities: Vec<Box<str>> = register.capabilities.iter().map(|&text| text.into()).collect();
        capabilities.sort_unstable();
        capabilities.dedup();
        Ok(Card {
            name,
            address: self.address(id),
            dialect: session.peer.dialect,
            identity,
            capabilities,
            labels: register
                .labels
                .iter()
                .map(|&(key, value)| (key.into(), value.into()))
                .collect(),
            accept_from: register.accept_from.iter().map(|&text| text.into()).collect(),
            since_unix: unix_seconds(now),
        })
    }

    /// The name is this session's, which starts afresh.
    pub(crate) fn granted<E: Encoder>(
        &mut self,
        id: SessionId,
        name: Arc<str>,
        token: [u8; TOKEN_BYTES],
        now: &Now,
        enc: &mut E,
    ) {
        let Some(session) = self
            .sessions
            .get_mut(id)
            .filter(|session| session.stage == Stage::Claiming)
        else {
            let home = self.home_of(&name);
            return self.send(home, Body::NameReleased { name, session: id });
        };
        session.token = token;
        self.go_public(id, now, enc);
    }

    pub(crate) fn claim_refused<E: Encoder>(&mut self, id: SessionId, refusal: Refusal, enc: &mut E) {
        if refusal.code == Code::Unauthenticated {
            self.tell_event(id, EventKind::ProofReplayed, refusal.message.to_string());
        }
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        // It never got the name, so it has none to release.
        session.card = None;
        if session.stream_gone {
            return self.sessions.remove(id);
        }
        session.stage = Stage::Opened;
        session.gated = false;
        session.pauses.claiming = false;
        self.end(id, refusal, enc);
    }

    /// Tells every core of the agent; when all know, it is told that it is registered.
    pub(crate) fn go_public<E: Encoder>(&mut self, id: SessionId, now: &Now, enc: &mut E) {
        let Some(card) = self.card_of(id) else { return };
        self.directory.add(Arc::clone(&card));
        self.tell_present(&card);
        let barrier = self.barriers.begin();
        self.broadcast(|| Body::AgentUp {
            card: Arc::clone(&card),
            barrier,
        });
        self.await_barrier(barrier, Then::Registered { session: id }, now, enc);
    }

    /// Every core knows the agent.
    pub(crate) fn registered<E: Encoder>(&mut self, id: SessionId, now: &Now, enc: &mut E) {
        let Some(card) = self.card_of(id) else { return };
        let address = self.address(id);
        let Some(session) = self
            .sessions
            .get_mut(id)
            .filter(|session| session.stage == Stage::Claiming)
        else {
            return;
        };
        session.stage = Stage::Active;
        session.gated = false;
        session.pauses.claiming = false;
        // What an earlier authority allowed, here or where it comes from, is looked at again.
        let review = session.resumed || session.generation != self.generation;
        let name = format!("{}-{}-{}", self.node, self.core, id);
        let limits = &self.limits;
        let registered = Registered {
            session: &name,
            name: card.name.as_str(),
            message_bytes_max: limits.message_bytes_max,
            subscriptions_max: limits.subscriptions_max as u32,
            queue_bytes_max: limits.queue_bytes_max,
            streams_max: limits.streams_max as u32,
            requests_in_flight_max: limits.requests_in_flight_max as u32,
            resume_token: &session.token,
            server_time_unix_nanos: now.unix_nanos,
            node: &self.node,
            resumed: session.resumed,
        };
        let frame = encode(session.peer.dialect, &Outgoing::Registered(registered), enc);
        self.sessions.push_control_first(id, frame);
        let home = self.home_of(card.name.as_str());
        let settled = Body::NameSettled {
            name: Arc::clone(card.name.shared()),
            session: address.session,
        };
        self.send(home, settled);
        self.let_go(id);
        self.watch_credential(id, now);
        if review {
            self.review_later(id, now);
        }
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let overflowed = session.overflowed;
        match (session.stream_gone, session.resumed) {
            (false, _) => {}
            (true, true) => self.lose(id, now, enc),
            // Its agent never got a token to resume it with.
            (true, false) => {
                self.retire(id, enc);
                self.sessions.remove(id);
            }
        }
        if let Some(subscription) = overflowed {
            self.doomed.push((id, subscription));
        }
    }
}

fn check_count(what: &str, count: usize, max: u64) -> Result<(), Refusal> {
    match count as u64 <= max {
        true => Ok(()),
        false => Err(Refusal::invalid(format!(
            "{what}: {count} given; at most {max} are allowed (limits.{what}_max)"
        ))),
    }
}
