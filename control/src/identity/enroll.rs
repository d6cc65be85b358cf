//! Certificates and bearer tokens for those who may have them.

use async_trait::async_trait;
use ringgate_identity::issue::{IssueError, Issued as Certificate};
use ringgate_identity::{Pseudonym, Subject, UnixTime, Verified, thumbprint};
use ringgate_proto::control::v1::enroll_request::Authorization;
use ringgate_proto::control::v1::{
    AuditEntry, CreateJoinTokenRequest, EnrollRequest, Enrolled, IssueTokenRequest, Issued, IssuedToken,
    JoinToken, RenewRequest,
};
use tonic::{Code, Status};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{HOSTS_MAX, IdentityService, SCAN_ENTRIES, issue_refusal, join, log_entry};
use crate::caller::{Caller, Credential};
use crate::errors::{refusal, store_refusal};
use crate::keys;
use crate::ledger::{Draft, Step, hex};
use crate::wire;

/// What authorises an enrolment.
enum Authority {
    JoinToken { id: String, secret: String },
    Issuer(String),
    Operator(String),
}

impl Authority {
    fn name(&self) -> String {
        match self {
            Authority::JoinToken { id, .. } => format!("join token {id}"),
            Authority::Issuer(issuer) => format!("issuer {issuer}"),
            Authority::Operator(uri) => uri.clone(),
        }
    }
}

impl IdentityService {
    pub(super) async fn enroll_caller(
        &self,
        caller: &Caller,
        request: EnrollRequest,
    ) -> Result<Enrolled, Status> {
        caller.about(request.identity.clone(), "");
        let subject = match (request.pseudonym, request.identity.as_str()) {
            (true, "") => Subject::Pseudonym(Pseudonym::from_random(random()?)),
            (true, _) => {
                return Err(refusal(
                    Code::InvalidArgument,
                    "IDENTITY_NOT_ALLOWED",
                    "a pseudonym is chosen by the authority: leave `identity` empty",
                ));
            }
            (false, identity) => self.subject(identity)?,
        };
        let uri = subject.uri(self.context.authority.domain());
        caller.about(uri.clone(), "");
        if request.hosts.len() > HOSTS_MAX {
            return Err(refusal(
                Code::InvalidArgument,
                "HOST_NOT_ALLOWED",
                format!("a certificate is for {HOSTS_MAX} hosts at most"),
            ));
        }
        let authority = self
            .authorize(caller, &subject, &request.hosts, request.authorization)
            .await?;
        let ttl = self.ttl(request.ttl_seconds);
        let issued = self
            .context
            .authority
            .issuer()
            .issue(&request.csr_der, &subject, ttl, &request.hosts, UnixTime::now())
            .map_err(|error| issue_refusal(&error))?;
        let server = self.server_certificate(&request.server_csr_der, &subject, ttl, &request.hosts)?;
        let by = authority.name();
        caller.about(uri, format!("serial {}, authorised by {by}", issued.serial));
        let entries = log_entries(&issued, server.as_ref(), &by);
        let join = match authority {
            Authority::JoinToken { id, secret } => Some((id, secret)),
            Authority::Issuer(_) | Authority::Operator(_) => None,
        };
        let step = Enrol {
            entries,
            join,
            subject,
            hosts: request.hosts,
            audit: caller.entry("ok"),
        };
        self.context.ledger.take(step).await?;
        caller.set_recorded();
        Ok(self.enrolled(issued, server, String::new()))
    }

    /// The second certificate of a node that asks for one.
    fn server_certificate(
        &self,
        csr_der: &[u8],
        subject: &Subject,
        ttl: u32,
        hosts: &[String],
    ) -> Result<Option<Certificate>, Status> {
        if csr_der.is_empty() {
            return Ok(None);
        }
        let Subject::Node(node) = subject else {
            return Err(refusal(
                Code::InvalidArgument,
                "IDENTITY_NOT_ALLOWED",
                "a server's certificate is for nodes: leave `server_csr_der` empty",
            ));
        };
        let issuer = self.context.authority.issuer();
        let issued = issuer.issue_server(csr_der, node, ttl, hosts, UnixTime::now());
        issued.map(Some).map_err(|error| issue_refusal(&error))
    }

    /// Whether somebody may be enrolled. A join token is only looked at here; it is used up with the commit.
    async fn authorize(
        &self,
        caller: &Caller,
        subject: &Subject,
        hosts: &[String],
        authorization: Option<Authorization>,
    ) -> Result<Authority, Status> {
        match authorization {
            Some(Authorization::JoinToken(token)) => {
                let (id, secret) = join::parse(&token)?;
                let stored = keys::join_token(id).get(&*self.context.store).await;
                let stored = stored.map_err(|error| store_refusal(&error))?;
                let stored = stored.as_ref().map(|stored| &stored.value);
                join::check(stored, secret, subject, hosts, join::unix_now())?;
                Ok(Authority::JoinToken {
                    id: id.to_owned(),
                    secret: secret.to_owned(),
                })
            }
            Some(Authorization::Assertion(assertion)) => {
                if let Some(host) = hosts.first() {
                    return Err(refusal(
                        Code::PermissionDenied,
                        "HOST_NOT_ALLOWED",
                        format!("an assertion says nothing of the host {host}; use a join token that does"),
                    ));
                }
                self.issuers
                    .check(&assertion, subject)
                    .await
                    .map(Authority::Issuer)
            }
            None if caller.administers => Ok(Authority::Operator(caller.actor())),
            None => {
                caller.credential()?;
                Err(refusal(
                    Code::PermissionDenied,
                    "IDENTITY_NOT_ALLOWED",
                    "only operators enrol others by their own credential: give a join token or an assertion; to renew your own, call Renew",
                ))
            }
        }
    }

    pub(super) async fn renew_caller(
        &self,
        caller: &Caller,
        request: RenewRequest,
    ) -> Result<Enrolled, Status> {
        let verified = certificate_of(caller)?;
        caller.about(verified.uri.clone(), "");
        let hosts = hosts_of(&verified.leaf_der)?;
        let ttl = self.ttl(request.ttl_seconds);
        let issued = self
            .context
            .authority
            .issuer()
            .issue(&request.csr_der, &verified.subject, ttl, &hosts, UnixTime::now())
            .map_err(|error| match &error {
                IssueError::IdentityMismatch { .. } => {
                    refusal(Code::PermissionDenied, "IDENTITY_CHANGED", error.to_string())
                }
                _ => issue_refusal(&error),
            })?;
        let server = self.server_certificate(&request.server_csr_der, &verified.subject, ttl, &hosts)?;
        let before = verified.serial.to_string();
        caller.about(
            verified.uri.clone(),
            format!("serial {} after {before}", issued.serial),
        );
        let step = Renewal {
            entries: log_entries(&issued, server.as_ref(), &format!("serial {before}")),
            before: before.clone(),
            audit: caller.entry("ok"),
        };
        self.context.ledger.take(step).await?;
        caller.set_recorded();
        Ok(self.enrolled(issued, server, before))
    }

    /// A token does not outlive the certificate that it was asked for with.
    pub(super) fn token_for(
        &self,
        caller: &Caller,
        request: &IssueTokenRequest,
    ) -> Result<IssuedToken, Status> {
        let verified = certificate_of(caller)?;
        caller.about(verified.uri.clone(), format!("for serial {}", verified.serial));
        let lives = &self.context.settings.identity;
        let now = UnixTime::now();
        let wanted = match u64::from(request.ttl_seconds) {
            0 => lives.token_ttl_seconds,
            ttl => ttl.min(lives.token_ttl_seconds_max),
        };
        let left = verified.not_after.as_secs().saturating_sub(now.as_secs());
        let issued = self
            .context
            .authority
            .issuer()
            .issue_token(
                &verified.subject,
                &thumbprint(&verified.key),
                Some(&verified.serial),
                u32::try_from(wanted.min(left)).unwrap_or(u32::MAX),
                now,
            )
            .map_err(|error| refusal(Code::Internal, "SIGNING_FAILED", error.to_string()))?;
        Ok(IssuedToken {
            token: issued.token,
            not_after_unix: wire::unix(issued.not_after),
        })
    }

    pub(super) async fn create_token(
        &self,
        caller: &Caller,
        request: CreateJoinTokenRequest,
    ) -> Result<JoinToken, Status> {
        let domain = self.context.authority.domain().uri();
        let identity = request
            .identity
            .strip_prefix(&domain)
            .unwrap_or(&request.identity);
        let pattern = identity.trim_start_matches('/');
        caller.about(pattern, "");
        let wrong = |reason, sentence: String| refusal(Code::InvalidArgument, reason, sentence);
        if !join::is_pattern(pattern) {
            return Err(wrong(
                "IDENTITY_NOT_ALLOWED",
                format!(
                    "`{pattern}` is no identity and no pattern of them: `acme/sales/*/*`, `node/*`, `operator/anna` and `pseudonym/*` are"
                ),
            ));
        }
        if !request.hosts.is_empty() && !pattern.starts_with("node/") {
            return Err(wrong(
                "HOST_NOT_ALLOWED",
                "hosts are for nodes: leave them out".to_owned(),
            ));
        }
        if request.hosts.len() > HOSTS_MAX || request.uses > join::USES_MAX {
            let sentence = format!("{HOSTS_MAX} hosts and {} uses are allowed", join::USES_MAX);
            return Err(wrong("TOO_LARGE", sentence));
        }
        let lives = &self.context.settings.identity;
        let ttl = match u64::from(request.ttl_seconds) {
            0 => lives.join_token_ttl_seconds,
            ttl => ttl.min(lives.join_token_ttl_seconds_max),
        };
        let not_after = join::unix_now().saturating_add_unsigned(ttl);
        let (stored, text) = join::create(pattern.to_owned(), request.uses.max(1), request.hosts, not_after)?;
        caller.about(
            pattern,
            format!("join token {}, {} uses", stored.id, stored.uses_left),
        );
        let created = JoinToken {
            token: text,
            ..stored.clone()
        };
        let step = PutToken {
            token: stored,
            audit: caller.entry("ok"),
        };
        self.context.ledger.take(step).await?;
        caller.set_recorded();
        Ok(created)
    }

    pub(super) async fn delete_token(&self, caller: &Caller, id: String) -> Result<(), Status> {
        caller.about(format!("join token {id}"), "");
        let step = DeleteToken {
            id,
            audit: Some(caller.entry("ok")),
        };
        self.context.ledger.take(step).await?;
        caller.set_recorded();
        Ok(())
    }

    pub(super) async fn sweep_once(&self) -> Result<(), Status> {
        let store = &*self.context.store;
        let over = join::unix_now().saturating_sub_unsigned(join::KEPT_AFTER.as_secs());
        let mut beyond = String::new();
        loop {
            let page = keys::JOIN_TOKENS.page(store, &beyond, SCAN_ENTRIES).await;
            let page = page.map_err(|error| store_refusal(&error))?;
            for (id, stored) in page.items {
                if stored.value.not_after_unix < over {
                    let step = DeleteToken {
                        id: id.clone(),
                        audit: None,
                    };
                    self.context.ledger.take(step).await?;
                }
                beyond = id;
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    /// The life of a certificate, from what is asked for.
    fn ttl(&self, asked: u32) -> u32 {
        let lives = &self.context.settings.identity;
        let ttl = match u64::from(asked) {
            0 => lives.leaf_ttl_seconds,
            asked => asked.min(lives.leaf_ttl_seconds_max),
        };
        u32::try_from(ttl).unwrap_or(u32::MAX)
    }
}

/// The certificate that a caller came with. A token will not do: it would live on by itself.
fn certificate_of(caller: &Caller) -> Result<&Verified, Status> {
    match &**caller.credential()? {
        Credential::Certificate(verified) => Ok(verified),
        Credential::Token(_) => Err(refusal(
            Code::PermissionDenied,
            "CERTIFICATE_NEEDED",
            "this call takes the certificate itself, by TLS, and not a token",
        )),
    }
}

/// The hosts that a certificate is for.
fn hosts_of(leaf_der: &[u8]) -> Result<Vec<String>, Status> {
    let unreadable = |_| {
        refusal(
            Code::InvalidArgument,
            "CERTIFICATE_MALFORMED",
            "the certificate cannot be read",
        )
    };
    let (_, leaf) = X509Certificate::from_der(leaf_der).map_err(unreadable)?;
    let names = leaf
        .extensions()
        .iter()
        .filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        });
    let host = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(v4) => Some(std::net::Ipv4Addr::from(v4).to_string()),
            Err(_) => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|v6| std::net::Ipv6Addr::from(v6).to_string()),
        },
        _ => None,
    };
    Ok(names.flatten().filter_map(host).collect())
}

fn random() -> Result<[u8; 16], Status> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Status::internal("the system gives no random numbers"))?;
    Ok(bytes)
}

/// What the issuance log says of a certificate, and of a node's second one.
fn log_entries(issued: &Certificate, server: Option<&Certificate>, by: &str) -> Vec<Issued> {
    let all = [Some(issued), server].into_iter().flatten();
    all.map(|issued| log_entry(issued, by.to_owned())).collect()
}

/// Writes certificates to the issuance log, unless their identity is revoked or a key was certified before.
async fn certify(draft: &mut Draft, entries: &[Issued]) -> Result<(), Status> {
    for entry in entries {
        check_new(draft, entry).await?;
        draft.issued(entry.clone()).await?;
    }
    Ok(())
}

/// That an identity is not revoked and a key was not certified before.
async fn check_new(draft: &mut Draft, entry: &Issued) -> Result<(), Status> {
    let revoked = draft.get(&keys::revoked_identity(&entry.identity)).await?;
    if revoked.is_some_and(|revocation| revocation.issued_until_unix == 0) {
        return Err(refusal(
            Code::PermissionDenied,
            "REVOKED",
            format!(
                "{} has been revoked; an operator can allow it again (`ringgate revoke --allow-again`)",
                entry.identity
            ),
        ));
    }
    if draft
        .get(&keys::issued_key(&hex(&entry.key_sha256)))
        .await?
        .is_some()
    {
        return Err(refusal(
            Code::AlreadyExists,
            "KEY_ALREADY_CERTIFIED",
            "this key has been certified before; make a new key for each certificate",
        ));
    }
    Ok(())
}

struct Enrol {
    entries: Vec<Issued>,
    join: Option<(String, String)>,
    subject: Subject,
    hosts: Vec<String>,
    audit: AuditEntry,
}

#[async_trait]
impl Step for Enrol {
    type Output = ();

    async fn take(&self, draft: &mut Draft) -> Result<(), Status> {
        if let Some((id, secret)) = &self.join {
            let slot = keys::join_token(id);
            let stored = draft.get(&slot).await?;
            join::check(
                stored.as_ref(),
                secret,
                &self.subject,
                &self.hosts,
                join::unix_now(),
            )?;
            if let Some(mut stored) = stored {
                stored.uses_left -= 1;
                draft.put(&slot, &stored);
            }
        }
        certify(draft, &self.entries).await?;
        draft.audit(self.audit.clone()).await
    }
}

struct Renewal {
    entries: Vec<Issued>,
    before: String,
    audit: AuditEntry,
}

#[async_trait]
impl Step for Renewal {
    type Output = ();

    async fn take(&self, draft: &mut Draft) -> Result<(), Status> {
        // The caller was good when it called; a revocation that was written since counts.
        if draft.get(&keys::revoked_serial(&self.before)).await?.is_some() {
            return Err(refusal(
                Code::PermissionDenied,
                "REVOKED",
                "the certificate has been revoked; enrol anew",
            ));
        }
        certify(draft, &self.entries).await?;
        draft.audit(self.audit.clone()).await
    }
}

struct PutToken {
    token: JoinToken,
    audit: AuditEntry,
}

#[async_trait]
impl Step for PutToken {
    type Output = ();

    async fn take(&self, draft: &mut Draft) -> Result<(), Status> {
        draft.put(&keys::join_token(&self.token.id), &self.token);
        draft.audit(self.audit.clone()).await
    }
}

struct DeleteToken {
    id: String,
    audit: Option<AuditEntry>,
}

#[async_trait]
impl Step for DeleteToken {
    type Output = ();

    async fn take(&self, draft: &mut Draft) -> Result<(), Status> {
        let slot = keys::join_token(&self.id);
        if draft.get(&slot).await?.is_none() {
            return Err(refusal(
                Code::NotFound,
                "NOT_FOUND",
                "there is no such join token; `ringgate join-token list` shows them",
            ));
        }
        draft.delete(&slot);
        match &self.audit {
            Some(entry) => draft.audit(entry.clone()).await,
            None => Ok(()),
        }
    }
}
