//! The authentication service (RFC 9750 §4): enrolment, renewal, bearer tokens, revocation.
//!
//! A name may be borne by several keys at once: enrolling again takes a fresh authorisation and voids nothing, so that an agent can
//! move to another machine before it is stopped on the first. Renewing supersedes a certificate, which then ends by itself; what
//! must end at once is revoked. A key is certified once, so that a key that leaked cannot come back under another name or serial.

mod assertion;
mod enroll;
mod fetch;
mod join;
mod revoke;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ringgate_identity::issue::{IssueError, Issued as Certificate};
use ringgate_identity::{CertificateDer, KeyError, NodeId, Reason, Subject, UnixTime};
use ringgate_proto::control::v1::identity_server::Identity;
use ringgate_proto::control::v1::{
    CreateJoinTokenRequest, Crl, DeleteJoinTokenRequest, DeleteJoinTokenResponse, EnrollRequest, Enrolled,
    GetCrlRequest, GetTrustBundleRequest, IssueTokenRequest, Issued, IssuedToken, JoinToken,
    ListIssuedRequest, ListIssuedResponse, ListJoinTokensRequest, ListJoinTokensResponse,
    ListRevocationsRequest, ListRevocationsResponse, RenewRequest, RevokeRequest, Revoked, TrustBundle,
    Verdict, VerifyCredentialRequest,
};
use sha2::{Digest as _, Sha256};
use tonic::{Code, Request, Response, Status};

use crate::authority::CONTROL_NODE;
use crate::caller::Caller;
use crate::context::Context;
use crate::errors::{refusal, store_refusal};
use crate::keys;
use crate::wire;
use assertion::Issuers;
use revoke::CrlCache;

/// How often expired join tokens are looked for.
const SWEEP: Duration = Duration::from_secs(3600);
/// Hosts of one certificate.
const HOSTS_MAX: usize = 32;
/// Entries read at once while a list is filtered, or swept.
const SCAN_ENTRIES: usize = 1000;

/// The service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct IdentityService {
    context: Context,
    issuers: Arc<Issuers>,
    crl: Arc<CrlCache>,
}

impl IdentityService {
    /// The service of an authority.
    #[must_use]
    pub fn new(context: Context) -> IdentityService {
        let issuers = Arc::new(Issuers::new(&context.settings.issuers));
        IdentityService {
            context,
            issuers,
            crl: Arc::default(),
        }
    }

    /// Removes join tokens that have expired, for as long as it is polled.
    pub async fn sweep(self) {
        loop {
            if let Err(error) = self.sweep_once().await {
                tracing::warn!(%error, "cannot sweep join tokens; trying again in an hour");
            }
            tokio::time::sleep(SWEEP).await;
        }
    }

    fn page_size(&self, asked: u32) -> usize {
        let max = self.context.settings.limits.page_size_max as usize;
        match asked as usize {
            0 => max,
            size => size.min(max),
        }
    }

    /// The subject that a request names: a URI, or its path.
    fn subject(&self, identity: &str) -> Result<Subject, Status> {
        let domain = self.context.authority.domain();
        let wrong = |sentence: String| refusal(Code::InvalidArgument, "IDENTITY_NOT_ALLOWED", sentence);
        let subject = if identity.starts_with("agp://") {
            let (named, subject) =
                Subject::parse(identity).map_err(|error| wrong(format!("`{identity}`: {error}")))?;
            if named != *domain {
                return Err(refusal(
                    Code::InvalidArgument,
                    Reason::WrongTrustDomain.code(),
                    format!("`{identity}` is of another trust domain than {domain}"),
                ));
            }
            subject
        } else {
            Subject::from_path(identity).map_err(|error| wrong(format!("`{identity}`: {error}")))?
        };
        match &subject {
            Subject::Node(id) if is_reserved(id) => Err(wrong(format!(
                "`{subject}` is the control process itself; choose another id"
            ))),
            _ => Ok(subject),
        }
    }

    /// What is told of a certificate that was issued.
    fn enrolled(
        &self,
        issued: Certificate,
        server: Option<Certificate>,
        supersedes_serial: String,
    ) -> Enrolled {
        let (start, end) = (issued.not_before.as_secs(), issued.not_after.as_secs());
        let ders = |chain: &[CertificateDer<'_>]| {
            let ders = chain.iter().map(|der| Bytes::copy_from_slice(der));
            ders.collect::<Vec<_>>()
        };
        Enrolled {
            chain_der: ders(&issued.chain),
            server_chain_der: server.map_or_else(Vec::new, |server| ders(&server.chain)),
            serial: issued.serial.to_string(),
            identity: issued.uri,
            not_after_unix: wire::unix(issued.not_after),
            renew_after_unix: i64::try_from(start + (end - start) / 3 * 2).unwrap_or(i64::MAX),
            supersedes_serial,
            trust_bundle: Some((*self.context.authority.trust()).clone()),
        }
    }

    async fn list_issued_page(&self, request: &ListIssuedRequest) -> Result<ListIssuedResponse, Status> {
        let (store, limit) = (&*self.context.store, self.page_size(request.page_size));
        if request.identity.is_empty() {
            let page = keys::ISSUED.after(store, request.after_number, limit).await;
            let page = page.map_err(|error| store_refusal(&error))?;
            let issued = page.items.into_iter().map(|(_, stored)| stored.value);
            return Ok(ListIssuedResponse {
                issued: issued.collect(),
                more: page.more,
            });
        }
        let uri = self
            .subject(&request.identity)?
            .uri(self.context.authority.domain());
        let numbers = keys::issued_to(&uri)
            .after(store, request.after_number, limit)
            .await;
        let numbers = numbers.map_err(|error| store_refusal(&error))?;
        let mut issued = Vec::with_capacity(numbers.items.len());
        for (_, number) in numbers.items {
            let entry = keys::issued(number.value).get(store).await;
            issued.extend(
                entry
                    .map_err(|error| store_refusal(&error))?
                    .map(|stored| stored.value),
            );
        }
        Ok(ListIssuedResponse {
            issued,
            more: numbers.more,
        })
    }
}

/// Whether nobody can enrol under a node's id.
fn is_reserved(id: &NodeId) -> bool {
    id.as_str() == CONTROL_NODE
}

/// The entry of the issuance log of a certificate. Its number and hashes come with the commit.
pub(crate) fn log_entry(issued: &Certificate, authorized_by: String) -> Issued {
    Issued {
        serial: issued.serial.to_string(),
        identity: issued.uri.clone(),
        key_sha256: Bytes::copy_from_slice(&Sha256::digest(&issued.key)),
        not_before_unix: wire::unix(issued.not_before),
        not_after_unix: wire::unix(issued.not_after),
        authorized_by,
        ..Issued::default()
    }
}

/// What a caller is told of a certificate that was not signed.
fn issue_refusal(error: &IssueError) -> Status {
    let (code, reason) = match error {
        IssueError::Csr(csr) => (Code::InvalidArgument, csr.code()),
        IssueError::IdentityMismatch { .. } => (Code::PermissionDenied, "IDENTITY_NOT_ALLOWED"),
        IssueError::HostsNotAllowed => (Code::PermissionDenied, "HOST_NOT_ALLOWED"),
        IssueError::Key(KeyError::Library) => (Code::Internal, "SIGNING_FAILED"),
        IssueError::Key(_) => (Code::InvalidArgument, "HOST_NOT_ALLOWED"),
        IssueError::AuthorityExpired => (Code::FailedPrecondition, "AUTHORITY_EXPIRED"),
        _ => (Code::Internal, "SIGNING_FAILED"),
    };
    refusal(code, reason, error.to_string())
}

#[async_trait::async_trait]
impl Identity for IdentityService {
    /// A caller who has the present bundle already (`if_none_match`) gets its version and tag alone.
    async fn get_trust_bundle(
        &self,
        request: Request<GetTrustBundleRequest>,
    ) -> Result<Response<TrustBundle>, Status> {
        let trust = self.context.authority.trust();
        if !trust.etag.is_empty() && request.get_ref().if_none_match == trust.etag {
            return Ok(Response::new(TrustBundle {
                version: trust.version,
                etag: trust.etag.clone(),
                ..TrustBundle::default()
            }));
        }
        Ok(Response::new((*trust).clone()))
    }

    async fn enroll(&self, request: Request<EnrollRequest>) -> Result<Response<Enrolled>, Status> {
        let caller = Caller::of(&request)?;
        self.enroll_caller(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<Enrolled>, Status> {
        let caller = Caller::of(&request)?;
        self.renew_caller(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn issue_token(
        &self,
        request: Request<IssueTokenRequest>,
    ) -> Result<Response<IssuedToken>, Status> {
        let caller = Caller::of(&request)?;
        self.token_for(&caller, request.get_ref()).map(Response::new)
    }

    async fn revoke(&self, request: Request<RevokeRequest>) -> Result<Response<Revoked>, Status> {
        let caller = Caller::of(&request)?;
        self.revoke_for(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_revocations(
        &self,
        request: Request<ListRevocationsRequest>,
    ) -> Result<Response<ListRevocationsResponse>, Status> {
        let (after, limit) = (
            request.get_ref().after_number,
            self.page_size(request.get_ref().page_size),
        );
        let page = keys::REVOCATIONS.after(&*self.context.store, after, limit).await;
        let page = page.map_err(|error| store_refusal(&error))?;
        Ok(Response::new(ListRevocationsResponse {
            revocations: page.items.into_iter().map(|(_, stored)| stored.value).collect(),
            more: page.more,
        }))
    }

    async fn get_crl(&self, _request: Request<GetCrlRequest>) -> Result<Response<Crl>, Status> {
        self.signed_list().await.map(Response::new)
    }

    async fn create_join_token(
        &self,
        request: Request<CreateJoinTokenRequest>,
    ) -> Result<Response<JoinToken>, Status> {
        let caller = Caller::of(&request)?;
        self.create_token(&caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_join_tokens(
        &self,
        request: Request<ListJoinTokensRequest>,
    ) -> Result<Response<ListJoinTokensResponse>, Status> {
        let request = request.into_inner();
        let limit = self.page_size(request.page_size);
        let page = keys::JOIN_TOKENS
            .page(&*self.context.store, &request.page_token, limit)
            .await;
        let page = page.map_err(|error| store_refusal(&error))?;
        let next_page_token = match page.items.last() {
            Some((id, _)) if page.more => id.clone(),
            _ => String::new(),
        };
        let hidden = |(_, stored): (String, keys::Stored<JoinToken>)| JoinToken {
            token: String::new(),
            ..stored.value
        };
        Ok(Response::new(ListJoinTokensResponse {
            join_tokens: page.items.into_iter().map(hidden).collect(),
            next_page_token,
        }))
    }

    async fn delete_join_token(
        &self,
        request: Request<DeleteJoinTokenRequest>,
    ) -> Result<Response<DeleteJoinTokenResponse>, Status> {
        let caller = Caller::of(&request)?;
        self.delete_token(&caller, request.into_inner().id).await?;
        Ok(Response::new(DeleteJoinTokenResponse {}))
    }

    async fn list_issued(
        &self,
        request: Request<ListIssuedRequest>,
    ) -> Result<Response<ListIssuedResponse>, Status> {
        self.list_issued_page(request.get_ref()).await.map(Response::new)
    }

    async fn verify_credential(
        &self,
        request: Request<VerifyCredentialRequest>,
    ) -> Result<Response<Verdict>, Status> {
        let request = request.into_inner();
        let at = match request.at_unix {
            0 => UnixTime::now(),
            at => wire::time(at),
        };
        let chain: Vec<_> = request
            .chain_der
            .iter()
            .map(|der| CertificateDer::from(&der[..]))
            .collect();
        let verdict = match self.context.authority.verifier().load().verify(&chain, at) {
            Ok(verified) => Verdict {
                good: true,
                reason: String::new(),
                identity: verified.uri,
                serial: verified.serial.to_string(),
                not_after_unix: wire::unix(verified.not_after),
            },
            Err(reason) => Verdict {
                reason: reason.code().to_owned(),
                ..Verdict::default()
            },
        };
        Ok(Response::new(verdict))
    }
}
