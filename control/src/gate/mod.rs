//! The gate in front of all services: who calls, may they, how often; and what is written of it.
//!
//! A call is authenticated by the client certificate of its connection, or by a bearer token with a proof (RFC 9449) of its own. The
//! handshake proves that the client holds the certificate's key and nothing more ([`crate::server`]); whether the certificate is
//! good is asked anew for each call, so that a refusal can say why and a revocation ends what is under way.

pub mod rate;
mod stream;
pub mod table;

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use ringgate_identity::{
    CertificateDer, ProofTarget, Reason, ReplayCache, SharedVerifier, Subject, UnixTime, claim,
};
use tokio::sync::watch;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::audit::AuditLog;
use crate::caller::{Caller, Credential, Presented};
use crate::errors::{reason_of, refusal, refusal_with};
use crate::settings::Settings;
use rate::Rates;
use stream::Ending;
use table::{Effect, Life, Method, Who, method};

/// Callers whose rate is counted one by one; more at once share what one may call.
const CALLERS_MAX: usize = 65_536;

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where it calls from.
    pub address: SocketAddr,
    /// What it presented, leaf first; its key is proved. Empty: nothing.
    pub chain: Arc<[CertificateDer<'static>]>,
}

/// What decides over calls. Shared by all connections.
#[derive(Debug)]
pub struct Gate {
    verifier: Arc<SharedVerifier>,
    /// Counts the changes of the verifier.
    verifier_changed: watch::Receiver<u64>,
    /// Whether streams are to end because the process does.
    draining: watch::Receiver<bool>,
    replays: Mutex<ReplayCache>,
    identities: Mutex<Rates<String>>,
    addresses: Mutex<Rates<IpAddr>>,
    settings: Arc<Settings>,
    audit: AuditLog,
}

impl Gate {
    /// A gate that believes this verifier. `verifier_changed` changes whenever the verifier does, `draining` becomes true when
    /// streams are to end.
    #[must_use]
    pub fn new(
        settings: Arc<Settings>,
        verifier: Arc<SharedVerifier>,
        verifier_changed: watch::Receiver<u64>,
        draining: watch::Receiver<bool>,
        audit: AuditLog,
    ) -> Gate {
        let now = Instant::now();
        let limits = &settings.limits;
        Gate {
            verifier,
            verifier_changed,
            draining,
            replays: Mutex::default(),
            identities: Mutex::new(Rates::new(limits.calls_per_second_max, CALLERS_MAX, now)),
            addresses: Mutex::new(Rates::new(
                limits.anonymous_calls_per_second_max,
                CALLERS_MAX,
                now,
            )),
            settings,
            audit,
        }
    }

    /// What the caller of a request presents.
    fn presented(&self, peer: &Peer, request: &http::Request<Body>) -> Presented {
        let outcome = match request.headers().get(http::header::AUTHORIZATION) {
            Some(value) => self.token(value, request),
            None if peer.chain.is_empty() => return Presented::Nothing,
            None => self
                .verifier
                .load()
                .verify(&peer.chain, UnixTime::now())
                .map(Credential::Certificate),
        };
        match outcome {
            Ok(credential) => Presented::Verified(Arc::new(credential)),
            Err(reason) => Presented::Void {
                reason,
                claimed: claimed(peer, request),
            },
        }
    }

    fn token(
        &self,
        authorization: &http::HeaderValue,
        request: &http::Request<Body>,
    ) -> Result<Credential, Reason> {
        let authorization = authorization.to_str().map_err(|_| Reason::TokenMalformed)?;
        let (scheme, token) = authorization.split_once(' ').ok_or(Reason::TokenMalformed)?;
        if !scheme.eq_ignore_ascii_case("DPoP") {
            return Err(Reason::TokenMalformed);
        }
        let mut proofs = request.headers().get_all("dpop").iter();
        let proof = proofs.next().ok_or(Reason::ProofMissing)?;
        if proofs.next().is_some() {
            return Err(Reason::ProofMalformed);
        }
        let proof = proof.to_str().map_err(|_| Reason::ProofMalformed)?;
        // A proof made for somebody else's host must not be good here, whatever the caller says that this host is called.
        let authority = request.uri().authority().ok_or(Reason::ProofMismatch)?;
        if !self.settings.is_own_host(authority.host()) {
            return Err(Reason::ProofMismatch);
        }
        let uri = format!("https://{authority}{}", request.uri().path());
        let target = ProofTarget {
            method: request.method().as_str(),
            uri: &uri,
        };
        let mut replays = self.replays.lock().unwrap_or_else(PoisonError::into_inner);
        self.verifier
            .load()
            .verify_token(token, proof, &target, UnixTime::now(), &mut replays)
            .map(Credential::Token)
    }

    /// Whether the caller may make the call, now.
    fn admit(&self, caller: &Caller, method: &Method) -> Result<(), Status> {
        let now = Instant::now();
        let within_rate = match &caller.presented {
            Presented::Verified(credential) => {
                let mut rates = self.identities.lock().unwrap_or_else(PoisonError::into_inner);
                rates.take(credential.uri().to_owned(), now)
            }
            Presented::Nothing | Presented::Void { .. } => {
                let mut rates = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
                rates.take(network(caller.address.ip()), now)
            }
        };
        if !within_rate {
            return Err(refusal(
                Code::ResourceExhausted,
                "TOO_MANY_CALLS",
                "you call too often; wait a second (limits.calls_per_second_max, limits.anonymous_calls_per_second_max)",
            ));
        }
        if method.who == Who::Anyone {
            return Ok(());
        }
        let credential = caller.credential()?;
        let viewer = method.effect == Effect::Changes && !caller.administers;
        let (reason, who) = match (credential.subject(), method.who) {
            (Subject::Operator(_), Who::Operator | Who::NodeOrOperator) if viewer => {
                ("VIEWER", "an operator who is not listed in `viewers`")
            }
            (Subject::Operator(_), Who::Operator | Who::NodeOrOperator)
            | (Subject::Node(_), Who::Node | Who::NodeOrOperator)
            | (_, Who::Verified | Who::Anyone) => return Ok(()),
            (_, Who::Node) => ("NOT_A_NODE", "a data plane"),
            (_, Who::NodeOrOperator) => ("NOT_AN_OPERATOR", "a data plane or an operator"),
            (_, Who::Operator) => ("NOT_AN_OPERATOR", "an operator"),
        };
        let uri = credential.uri();
        Err(refusal_with(
            Code::PermissionDenied,
            reason,
            format!("{uri} may not call {}: it takes {who}", method.name),
            [("action", method.name.to_owned()), ("identity", uri.to_owned())],
        ))
    }

    /// Whether somebody is an operator who may change things.
    fn administers(&self, presented: &Presented) -> bool {
        let Presented::Verified(credential) = presented else {
            return false;
        };
        match credential.subject() {
            Subject::Operator(name) => !self.settings.viewers.iter().any(|viewer| viewer == name.as_str()),
            _ => false,
        }
    }

    /// Passes a call to its service.
    async fn pass<S>(
        self: Arc<Self>,
        mut request: http::Request<Body>,
        mut service: S,
    ) -> http::Response<Body>
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    {
        let Some(peer) = request.extensions().get::<Peer>().cloned() else {
            return Status::internal("a call without a connection").into_http();
        };
        let method = method(request.uri().path());
        let presented = self.presented(&peer, &request);
        let administers = self.administers(&presented);
        let caller = Caller::new(presented, peer.address, method.name, administers);
        if let Err(status) = self.admit(&caller, method) {
            tracing::debug!(
                caller = caller.actor(),
                method = method.name,
                reason = reason_of(&status),
                "refused"
            );
            self.audit.record_refusal(caller.entry(&reason_of(&status))).await;
            return status.into_http();
        }
        request.extensions_mut().insert(caller.clone());
        let Ok(response) = service.call(request).await;
        let response = match method.effect {
            Effect::Reads => response,
            Effect::Changes => self.recorded(&caller, response).await,
        };
        match (method.life, &caller.presented) {
            (Life::Call, _) => response,
            (Life::Stream, presented) => {
                let ending = Ending::new(
                    self.verifier.clone(),
                    self.verifier_changed.clone(),
                    self.draining.clone(),
                    presented.clone(),
                );
                response.map(|body| ending.watch(body))
            }
        }
    }

    /// Writes the outcome of a change to the audit log, before the caller learns of it.
    async fn recorded(&self, caller: &Caller, response: http::Response<Body>) -> http::Response<Body> {
        // tonic answers a refusal by headers alone; a success has its status at its end.
        match Status::from_header_map(response.headers()) {
            Some(status) if status.code() != Code::Ok => {
                self.audit.record_refusal(caller.entry(&reason_of(&status))).await;
                response
            }
            _ if caller.is_recorded() => response,
            _ => match self.audit.record(caller.entry("ok")).await {
                Ok(()) => response,
                Err(status) => status.into_http(),
            },
        }
    }
}

/// Whom a credential names, whoever made it: for the log.
fn claimed(peer: &Peer, request: &http::Request<Body>) -> Option<String> {
    match request.headers().get(http::header::AUTHORIZATION) {
        Some(value) => claim::token(value.to_str().ok()?.split_once(' ')?.1),
        None => peer.chain.first().and_then(claim::certificate),
    }
}

/// The network that counts as one caller: an IPv6 host commonly has 64 bits of addresses to choose from.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        },
    }
}

/// Puts a [`Gate`] in front of a service.
#[derive(Debug, Clone)]
pub struct GateLayer(pub Arc<Gate>);

impl<S> Layer<S> for GateLayer {
    type Service = Gated<S>;

    fn layer(&self, service: S) -> Gated<S> {
        Gated {
            gate: self.0.clone(),
            service,
        }
    }
}

/// A service behind the gate.
#[derive(Debug, Clone)]
pub struct Gated<S> {
    gate: Arc<Gate>,
    service: S,
}

impl<S> Service<http::Request<Body>> for Gated<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        // The clone takes the place of the one that is ready.
        let fresh = self.service.clone();
        let ready = std::mem::replace(&mut self.service, fresh);
        let gate = self.gate.clone();
        Box::pin(async move { Ok(gate.pass(request, ready).await) })
    }
}
