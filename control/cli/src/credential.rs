//! `ringgate enroll`, `token`, `revoke`.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use ringgate_identity::{AgentKey, ServerKey, Subject as Named};
use ringgate_proto::control::v1::enroll_request::Authorization;
use ringgate_proto::control::v1::identity_client::IdentityClient;
use ringgate_proto::control::v1::revoke_request::Subject;
use ringgate_proto::control::v1::{EnrollRequest, IssueTokenRequest, RevokeRequest};
use serde_json::json;

use crate::output::{Output, moment};
use crate::session::{Where, told};

#[derive(Debug, clap::Args)]
pub(crate) struct Enroll {
    /// Who: `acme/sales/bot/1`, `node/edge-1`, `operator/anna`, or `pseudonym` for a name that says nothing.
    identity: String,
    /// Folder for the credential: key.pem, chain.pem and ca.pem, readable by you alone. A node gets server-key.pem and
    /// server-chain.pem too, to serve clients with that take no Ed25519 certificate from a server.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// What authorises it, as `ringgate join-token create` printed it; `-` reads it from the standard input. Without, you enrol
    /// somebody as an operator.
    #[arg(long, value_name = "TOKEN")]
    join_token: Option<String>,
    /// In its place: an assertion (JWT) of an issuer that the control process is configured with.
    #[arg(long, value_name = "JWT", conflicts_with = "join_token")]
    assertion: Option<String>,
    /// Life of the certificate in seconds; 0: as the control process is set.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    ttl: u32,
    /// Hosts that a node's certificate is also for. Can be given often.
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Token {
    /// Life of the token in seconds; 0: as the control process is set.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    ttl: u32,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Revoke {
    /// An identity (`acme/sales/bot/1`, `node/edge-1`, `operator/anna`) or the serial of a certificate.
    subject: String,
    /// Why, for the log.
    #[arg(long, default_value = "")]
    reason: String,
    /// Lift the revocation of an identity. What was issued before stays revoked.
    #[arg(long)]
    allow_again: bool,
}

pub(crate) async fn enroll(at: &Where, out: Output, arguments: Enroll) -> Result<()> {
    let (key_path, chain_path) = (arguments.out.join("key.pem"), arguments.out.join("chain.pem"));
    if key_path.exists() {
        bail!(
            "{} is there already: choose another folder, or remove it if its credential is out of use",
            key_path.display()
        );
    }
    let authorization = match (arguments.join_token, arguments.assertion) {
        (Some(token), _) if token == "-" => Some(Authorization::JoinToken(
            std::io::read_to_string(std::io::stdin())?.trim().to_owned(),
        )),
        (Some(token), _) => Some(Authorization::JoinToken(token)),
        (None, assertion) => assertion.map(Authorization::Assertion),
    };
    let channel = match authorization {
        Some(_) => at.connect_unknown().await?,
        None => at.connect().await?,
    };
    let key = AgentKey::generate()?;
    let pseudonym = arguments.identity == "pseudonym";
    let server_key = match is_node(&arguments.identity) {
        true => Some(ServerKey::generate()?),
        false => None,
    };
    let server_csr = server_key.as_ref().map(|key| key.csr(None, &arguments.host));
    let request = EnrollRequest {
        csr_der: key.csr(None, &[])?.into(),
        server_csr_der: server_csr.transpose()?.unwrap_or_default().into(),
        identity: if pseudonym {
            String::new()
        } else {
            arguments.identity
        },
        pseudonym,
        ttl_seconds: arguments.ttl,
        hosts: arguments.host,
        authorization,
    };
    let enrolled = IdentityClient::new(channel)
        .enroll(request)
        .await
        .map_err(told)?
        .into_inner();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&arguments.out)
        .with_context(|| format!("cannot make {}", arguments.out.display()))?;
    let anchors = enrolled
        .trust_bundle
        .as_ref()
        .map_or(&[][..], |bundle| &bundle.anchors_der);
    write_private(&arguments.out.join("ca.pem"), &to_pem(anchors))?;
    write_private(&key_path, &key.to_pem()?)?;
    write_private(&chain_path, &to_pem(&enrolled.chain_der))?;
    if let Some(key) = server_key {
        write_private(&arguments.out.join("server-key.pem"), &key.to_pem()?)?;
        let chain = to_pem(&enrolled.server_chain_der);
        write_private(&arguments.out.join("server-chain.pem"), &chain)?;
    }
    out.one(vec![
        ("identity", json!(enrolled.identity)),
        ("serial", json!(enrolled.serial)),
        ("not after", moment(enrolled.not_after_unix)),
        ("renew after", moment(enrolled.renew_after_unix)),
        ("folder", json!(arguments.out.display().to_string())),
    ]);
    Ok(())
}

pub(crate) async fn token(at: &Where, out: Output, arguments: Token) -> Result<()> {
    let request = IssueTokenRequest {
        ttl_seconds: arguments.ttl,
    };
    let issued = IdentityClient::new(at.connect().await?)
        .issue_token(request)
        .await
        .map_err(told)?
        .into_inner();
    if out.json {
        out.one(vec![
            ("token", json!(issued.token)),
            ("not after", moment(issued.not_after_unix)),
        ]);
    } else {
        // Alone on its line, so that a shell can take it.
        println!("{}", issued.token);
    }
    Ok(())
}

pub(crate) async fn revoke(at: &Where, out: Output, arguments: Revoke) -> Result<()> {
    let is_identity = arguments.subject.contains('/');
    let subject = match is_identity {
        true => Subject::Identity(arguments.subject),
        false => Subject::Serial(arguments.subject),
    };
    let request = RevokeRequest {
        subject: Some(subject),
        reason: arguments.reason,
        allow_again: arguments.allow_again,
    };
    let revoked = IdentityClient::new(at.connect().await?)
        .revoke(request)
        .await
        .map_err(told)?
        .into_inner();
    out.one(vec![
        ("number", json!(revoked.number)),
        ("serials", json!(revoked.serials)),
    ]);
    Ok(())
}

/// Whether an identity, or its path, is a node's.
fn is_node(identity: &str) -> bool {
    let path = match identity.strip_prefix("agp://") {
        Some(rest) => rest.split_once('/').map_or("", |(_, path)| path),
        None => identity,
    };
    matches!(Named::from_path(path), Ok(Named::Node(_)))
}

fn to_pem(ders: &[bytes::Bytes]) -> String {
    ders.iter()
        .map(|der| pem::encode(&pem::Pem::new("CERTIFICATE", der.to_vec())))
        .collect()
}

/// Writes a file that its owner alone can read, in place of what was there.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let replace = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.as_file()
            .set_permissions(std::fs::Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    replace().with_context(|| format!("cannot write {}", path.display()))
}
