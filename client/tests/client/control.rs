//! A control process with a real authority, and with the faults that a test gives it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use ringgate_client::{Credential, Enrollment, Trust};
use ringgate_identity::issue::{Authority, Issued};
use ringgate_identity::tls::{SharedCredential, server_config};
use ringgate_identity::{
    AgentKey, CertificateDer, Issuer, Revocations, SharedVerifier, Subject, TrustDomain, UnixTime, Verified,
    Verifier, thumbprint,
};
use ringgate_proto::control::v1 as proto;
use ringgate_proto::control::v1::enroll_request::Authorization;
use ringgate_proto::control::v1::identity_server::{Identity, IdentityServer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tonic::{Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};
use tower::Service;

/// Longest life of a leaf: a day.
const TTL: u32 = 24 * 3600;
pub(crate) const ALICE: &str = "acme/demo/alice/1";

/// The process. Dropped, it stops.
pub(crate) struct Control {
    pub(crate) desk: Arc<Desk>,
    pub(crate) address: SocketAddr,
    server: tokio::task::JoinHandle<()>,
}

/// What it works with.
pub(crate) struct Desk {
    pub(crate) issuer: Issuer,
    pub(crate) authority: Authority,
    /// Life of what is issued, in seconds.
    pub(crate) leaf_ttl: AtomicU32,
    pub(crate) token_ttl: AtomicU32,
    /// Tokens that were issued.
    pub(crate) tokens: AtomicU32,
    pub(crate) fault: Mutex<Fault>,
    used: Mutex<HashSet<String>>,
}

/// What goes wrong with enrolments and renewals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// It says no, with this reason.
    Refuse(&'static str),
    /// It certifies somebody else.
    AnotherName,
    /// It certifies another key.
    AnotherKey,
}

impl Control {
    pub(crate) async fn start() -> Control {
        let domain = TrustDomain::new("acme.example").unwrap();
        let (authority, _) = Authority::create(&domain, UnixTime::now()).unwrap();
        let desk = Arc::new(Desk {
            issuer: Issuer::load(domain, &authority).unwrap(),
            authority,
            leaf_ttl: AtomicU32::new(TTL),
            token_ttl: AtomicU32::new(600),
            tokens: AtomicU32::new(0),
            fault: Mutex::new(Fault::None),
            used: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = desk.server_config("node/control", false);
        let server = tokio::spawn(serve(listener, tls, Arc::clone(&desk)));
        Control {
            desk,
            address,
            server,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::Fingerprint(self.desk.issuer.fingerprint())
    }

    /// An enrolment that will be granted.
    pub(crate) fn enrollment(&self) -> Enrollment {
        Enrollment::new(self.url(), self.trust()).join_token("good")
    }

    /// Alice.
    pub(crate) async fn alice(&self) -> Credential {
        self.enrollment().enroll(ALICE).await.unwrap()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// What a caller presented.
#[derive(Clone)]
struct Presented(Vec<CertificateDer<'static>>);

async fn serve(listener: TcpListener, tls: rustls::ServerConfig, desk: Arc<Desk>) {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let service = IdentityServer::from_arc(desk);
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        // A client that does not like the certificate goes away.
        let Ok(stream) = acceptor.accept(socket).await else {
            continue;
        };
        let (_, session) = stream.get_ref();
        let chain = session.peer_certificates().into_iter().flatten().cloned();
        let (presented, service) = (Presented(chain.collect()), service.clone());
        let service = tower::service_fn(move |mut request: http::Request<_>| {
            request.extensions_mut().insert(presented.clone());
            service.clone().call(request)
        });
        connections.spawn(async move {
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let service = TowerToHyperService::new(service);
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl Desk {
    /// TLS for a server of this trust domain.
    pub(crate) fn server_config(&self, path: &str, required: bool) -> rustls::ServerConfig {
        let (key, issued) = self.issue_for(path);
        let credential = Arc::new(SharedCredential::new(issued.chain, &key).unwrap());
        server_config(
            Arc::new(SharedVerifier::new(self.verifier())),
            required,
            credential,
        )
        .unwrap()
    }

    pub(crate) fn verifier(&self) -> Verifier {
        Verifier::new(self.issuer.bundle(1, TTL), Revocations::default()).unwrap()
    }

    /// A certificate without being asked.
    pub(crate) fn issue_for(&self, path: &str) -> (AgentKey, Issued) {
        let key = AgentKey::generate().unwrap();
        let subject = Subject::from_path(path).unwrap();
        let hosts: &[String] = if path.starts_with("node/") {
            &["127.0.0.1".to_owned()]
        } else {
            &[]
        };
        let csr = key.csr(None, hosts).unwrap();
        let issued = self
            .issuer
            .issue(&csr, &subject, TTL, hosts, UnixTime::now())
            .unwrap();
        (key, issued)
    }

    fn certify(&self, csr: &[u8], subject: &Subject) -> Result<Response<proto::Enrolled>, Status> {
        let (csr, subject) = match *self.fault.lock().unwrap() {
            Fault::None => (csr.to_vec(), subject.clone()),
            Fault::Refuse(reason) => return Err(refusal(reason)),
            Fault::AnotherName => (csr.to_vec(), Subject::from_path("acme/demo/mallory/1").unwrap()),
            Fault::AnotherKey => (
                AgentKey::generate().unwrap().csr(None, &[]).unwrap(),
                subject.clone(),
            ),
        };
        // Names in the request are left out by a client that asks for another's.
        let ttl = self.leaf_ttl.load(Ordering::Relaxed);
        let issued = self.issuer.issue(&csr, &subject, ttl, &[], UnixTime::now());
        let issued = issued.map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(Response::new(proto::Enrolled {
            chain_der: issued.chain.iter().map(|der| der.to_vec().into()).collect(),
            serial: issued.serial.to_string(),
            identity: issued.uri,
            trust_bundle: Some(self.bundle()),
            ..Default::default()
        }))
    }

    fn bundle(&self) -> proto::TrustBundle {
        let bundle = self.issuer.bundle(1, TTL);
        let ders = |ders: &[CertificateDer<'_>]| ders.iter().map(|der| der.to_vec().into()).collect();
        proto::TrustBundle {
            trust_domain: bundle.domain.to_string(),
            anchors_der: ders(&bundle.anchors),
            intermediates_der: ders(&bundle.intermediates),
            token_keys: bundle
                .token_keys
                .iter()
                .map(|key| proto::TokenKey {
                    id: key.id.clone(),
                    public_key: key.public.to_vec().into(),
                })
                .collect(),
            version: bundle.version,
            leaf_ttl_seconds_max: bundle.leaf_ttl_seconds_max,
            ..Default::default()
        }
    }

    fn caller<T>(&self, request: &Request<T>) -> Result<Verified, Status> {
        let presented = request.extensions().get::<Presented>();
        let Presented(chain) = presented.ok_or_else(|| refusal("CREDENTIAL_MISSING"))?;
        let verified = self.verifier().verify(chain, UnixTime::now());
        verified.map_err(|reason| refusal(reason.code()))
    }
}

fn refusal(reason: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, "ringgate.control", []);
    Status::with_error_details(tonic::Code::PermissionDenied, "as the test wants it", details)
}

fn not_here<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not in this test"))
}

#[tonic::async_trait]
impl Identity for Desk {
    async fn get_trust_bundle(
        &self,
        _: Request<proto::GetTrustBundleRequest>,
    ) -> Result<Response<proto::TrustBundle>, Status> {
        Ok(Response::new(self.bundle()))
    }

    async fn enroll(
        &self,
        request: Request<proto::EnrollRequest>,
    ) -> Result<Response<proto::Enrolled>, Status> {
        let request = request.into_inner();
        let Some(Authorization::JoinToken(token)) = request.authorization else {
            return Err(refusal("CREDENTIAL_MISSING"));
        };
        if !token.starts_with("good") {
            return Err(refusal("JOIN_TOKEN_UNKNOWN"));
        }
        if !self.used.lock().unwrap().insert(token) {
            return Err(refusal("JOIN_TOKEN_USED"));
        }
        let subject = match request.pseudonym {
            true => Subject::from_path("pseudonym/00ff").unwrap(),
            false => Subject::parse(&request.identity).unwrap().1,
        };
        self.certify(&request.csr_der, &subject)
    }

    async fn renew(
        &self,
        request: Request<proto::RenewRequest>,
    ) -> Result<Response<proto::Enrolled>, Status> {
        let caller = self.caller(&request)?;
        self.certify(&request.into_inner().csr_der, &caller.subject)
    }

    async fn issue_token(
        &self,
        request: Request<proto::IssueTokenRequest>,
    ) -> Result<Response<proto::IssuedToken>, Status> {
        let caller = self.caller(&request)?;
        self.tokens.fetch_add(1, Ordering::Relaxed);
        let (ttl, now) = (self.token_ttl.load(Ordering::Relaxed), UnixTime::now());
        let key = thumbprint(&caller.key);
        let issued = self
            .issuer
            .issue_token(&caller.subject, &key, Some(&caller.serial), ttl, now);
        let issued = issued.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(proto::IssuedToken {
            token: issued.token,
            not_after_unix: issued.not_after.as_secs() as i64,
        }))
    }

    async fn revoke(&self, _: Request<proto::RevokeRequest>) -> Result<Response<proto::Revoked>, Status> {
        not_here()
    }

    async fn list_revocations(
        &self,
        _: Request<proto::ListRevocationsRequest>,
    ) -> Result<Response<proto::ListRevocationsResponse>, Status> {
        not_here()
    }

    async fn get_crl(&self, _: Request<proto::GetCrlRequest>) -> Result<Response<proto::Crl>, Status> {
        not_here()
    }

    async fn create_join_token(
        &self,
        _: Request<proto::CreateJoinTokenRequest>,
    ) -> Result<Response<proto::JoinToken>, Status> {
        not_here()
    }

    async fn list_join_tokens(
        &self,
        _: Request<proto::ListJoinTokensRequest>,
    ) -> Result<Response<proto::ListJoinTokensResponse>, Status> {
        not_here()
    }

    async fn delete_join_token(
        &self,
        _: Request<proto::DeleteJoinTokenRequest>,
    ) -> Result<Response<proto::DeleteJoinTokenResponse>, Status> {
        not_here()
    }

    async fn list_issued(
        &self,
        _: Request<proto::ListIssuedRequest>,
    ) -> Result<Response<proto::ListIssuedResponse>, Status> {
        not_here()
    }

    async fn verify_credential(
        &self,
        _: Request<proto::VerifyCredentialRequest>,
    ) -> Result<Response<proto::Verdict>, Status> {
        not_here()
    }
}
