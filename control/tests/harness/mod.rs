//! A control process as its clients see it: the real binary, in a folder of its own, on free ports.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses its own part of the harness"
)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, Issuer, KeyPair, PublicKeyData};
use ringgate_identity::issue::Authority;
use ringgate_identity::{AgentKey, CertificateDer, TrustDomain, UnixTime};
use ringgate_proto::control::v1::audit_client::AuditClient;
use ringgate_proto::control::v1::enroll_request::Authorization;
use ringgate_proto::control::v1::identity_client::IdentityClient;
use ringgate_proto::control::v1::{
    CreateJoinTokenRequest, EnrollRequest, Enrolled, GetTrustBundleRequest, TrustBundle,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

pub const DOMAIN: &str = "ringgate.test";

/// The folder of a control process, and the authority that it is given. Outlives the process.
pub struct Home {
    pub folder: Arc<TempDir>,
    /// The authority's files, so that tests can forge what it would never issue.
    pub authority: Authority,
    settings: Vec<String>,
}

impl Home {
    /// One whose authority the test brings.
    pub fn new() -> Home {
        let domain = TrustDomain::new(DOMAIN).expect("a name");
        let (authority, _) = Authority::create(&domain, UnixTime::now()).expect("made");
        let folder = Arc::new(tempfile::tempdir().expect("a folder"));
        let file = |name: &str, text: &str| {
            use std::os::unix::fs::PermissionsExt as _;
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("allowed");
            path.display().to_string()
        };
        let settings = vec![
            format!("ca.root_certificate={}", file("root.pem", &authority.root_pem)),
            format!(
                "ca.issuing_certificate={}",
                file("issuing.pem", &authority.issuing_pem)
            ),
            format!(
                "ca.issuing_key={}",
                file("issuing.key", &authority.issuing_key_pem)
            ),
        ];
        Home {
            folder,
            authority,
            settings,
        }
    }

    /// One whose control process makes its own authority.
    pub fn bare() -> Home {
        let mut home = Home::new();
        home.settings.clear();
        home
    }

    /// Sets a key of the settings.
    pub fn set(mut self, setting: impl Into<String>) -> Home {
        self.settings.push(setting.into());
        self
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringgate-control"));
        command.env("RINGGATE_LOG", "debug,h2=info,hyper=info,tower=info");
        for setting in [
            format!("state_dir={}", self.state().display()),
            format!("trust_domain={DOMAIN}"),
            "listen=127.0.0.1:0".to_owned(),
            "http=off".to_owned(),
        ]
        .iter()
        .chain(&self.settings)
        {
            command.args(["--set", setting]);
        }
        command
    }

    /// Starts the process, and returns when it serves.
    pub fn start(&self) -> Control {
        self.try_start()
            .unwrap_or_else(|log| panic!("it did not start:\n{log}"))
    }

    /// Starts the process; what it said when it ends instead of serving.
    pub fn try_start(&self) -> Result<Control, String> {
        let mut child = self.spawn();
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let mut serves = false;
        for line in lines.by_ref() {
            let line = line.expect("text");
            serves = line.contains(" serving ");
            let mut log = log.lock().expect("log");
            log.push_str(&line);
            log.push('\n');
            if serves {
                break;
            }
        }
        if !serves {
            child.wait().expect("it has ended");
            return Err(log.lock().expect("log").clone());
        }
        let rest = log.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = rest.lock().expect("log");
                log.push_str(&line);
                log.push('\n');
            }
        });
        let url = std::fs::read_to_string(self.state().join("endpoint")).expect("an endpoint");
        Ok(Control {
            child,
            log,
            authority: url.trim().trim_start_matches("https://").to_owned(),
            anchors: std::fs::read(self.state().join("ca.pem")).expect("anchors"),
            state: self.state(),
            _folder: self.folder.clone(),
        })
    }

    /// Starts the process and does not wait.
    pub fn spawn(&self) -> Child {
        self.command()
            .stderr(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .expect("the binary")
    }

    /// A leaf of the authority as nobody should have it.
    pub fn forge<K: PublicKeyData>(
        &self,
        key: &K,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Vec<CertificateDer<'static>> {
        forge(&self.authority, key, change)
    }
}

/// A leaf that an authority signs whatever it says.
pub fn forge<K: PublicKeyData>(
    authority: &Authority,
    key: &K,
    change: impl FnOnce(&mut CertificateParams),
) -> Vec<CertificateDer<'static>> {
    let signer = KeyPair::from_pem(&authority.issuing_key_pem).expect("a key");
    let issuer = Issuer::from_ca_cert_pem(&authority.issuing_pem, signer).expect("an authority");
    let mut params = CertificateParams::default();
    params.not_before = time::OffsetDateTime::now_utc() - time::Duration::seconds(30);
    params.not_after = time::OffsetDateTime::now_utc() + time::Duration::hours(1);
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = vec![san(&uri("operator/forged"))];
    change(&mut params);
    let leaf = params.signed_by(key, &issuer).expect("signed");
    let issuing = CertificateDer::from_pem_slice(authority.issuing_pem.as_bytes()).expect("PEM");
    vec![leaf.der().clone(), issuing]
}

pub fn san(uri: &str) -> rcgen::SanType {
    rcgen::SanType::URI(uri.to_owned().try_into().expect("ASCII"))
}

pub fn uri(path: &str) -> String {
    format!("agp://{DOMAIN}/{path}")
}

/// What a client presents.
pub struct Presented {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl Presented {
    pub fn new(chain: Vec<CertificateDer<'static>>, key: &AgentKey) -> Presented {
        Presented {
            chain,
            key: key.to_rustls().expect("a key"),
        }
    }

    pub fn with_pair(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Presented {
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS#8");
        Presented { chain, key }
    }
}

/// Somebody who was enrolled.
pub struct Member {
    pub key: AgentKey,
    pub enrolled: Enrolled,
}

impl Member {
    pub fn presented(&self) -> Presented {
        Presented::new(self.chain(), &self.key)
    }

    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        let der = |der: &bytes::Bytes| CertificateDer::from(der.to_vec());
        self.enrolled.chain_der.iter().map(der).collect()
    }
}

/// A running control process. Killed when dropped.
pub struct Control {
    pub child: Child,
    pub log: Arc<Mutex<String>>,
    /// `host:port`.
    pub authority: String,
    pub anchors: Vec<u8>,
    pub state: PathBuf,
    _folder: Arc<TempDir>,
}

impl Drop for Control {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the control process said:\n{}", self.log.lock().expect("log"));
        }
    }
}

impl Control {
    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// SIGTERM, and its exit status.
    pub fn terminate(&mut self) -> std::process::ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        self.child.wait().expect("it ends")
    }

    pub async fn channel(&self, presented: Option<Presented>) -> Channel {
        channel(&self.authority, &self.anchors, presented)
            .await
            .expect("connected")
    }

    pub async fn identity(&self, presented: Option<Presented>) -> IdentityClient<Channel> {
        IdentityClient::new(self.channel(presented).await)
    }

    /// The first operator, by the files that the process made.
    pub async fn admin(&self) -> IdentityClient<Channel> {
        self.identity(Some(self.admin_credential())).await
    }

    pub async fn audit(&self) -> AuditClient<Channel> {
        AuditClient::new(self.channel(Some(self.admin_credential())).await)
    }

    pub fn admin_credential(&self) -> Presented {
        credential(&self.state.join("admin"))
    }

    /// A token that enrols `uses` times.
    pub async fn join_token(&self, identity: &str, uses: u32) -> String {
        let request = CreateJoinTokenRequest {
            identity: identity.to_owned(),
            uses,
            ..CreateJoinTokenRequest::default()
        };
        let created = self.admin().await.create_join_token(request).await;
        created.expect("created").into_inner().token
    }

    /// Enrols somebody.
    pub async fn enrol(&self, path: &str) -> Member {
        let token = self.join_token(path, 1).await;
        let mut client = self.identity(None).await;
        let key = AgentKey::generate().expect("a key");
        let request = enrolment(&key, path, &token);
        let enrolled = client.enroll(request).await.expect("enrolled").into_inner();
        Member { key, enrolled }
    }

    /// What anybody who may not so much as look is told: the reason why a credential is refused.
    pub async fn refusal(&self, presented: Option<Presented>) -> String {
        let mut client = self.identity(presented).await;
        match client.list_join_tokens(Request::new(Default::default())).await {
            Ok(_) => "it was let in".to_owned(),
            Err(status) => reason(&status),
        }
    }

    pub async fn trust_bundle(&self) -> TrustBundle {
        let mut client = self.identity(None).await;
        let bundle = client.get_trust_bundle(GetTrustBundleRequest::default()).await;
        bundle.expect("a bundle").into_inner()
    }
}

/// A credential as files in a folder.
pub fn credential(folder: &Path) -> Presented {
    let chain = CertificateDer::pem_file_iter(folder.join("chain.pem")).expect("a file");
    Presented {
        chain: chain.collect::<Result<_, _>>().expect("PEM"),
        key: PrivateKeyDer::from_pem_file(folder.join("key.pem")).expect("a key"),
    }
}

/// A request to enrol with a join token.
pub fn enrolment(key: &AgentKey, path: &str, token: &str) -> EnrollRequest {
    EnrollRequest {
        csr_der: key.csr(None, &[]).expect("a request").into(),
        identity: uri(path),
        authorization: Some(Authorization::JoinToken(token.to_owned())),
        ..EnrollRequest::default()
    }
}

/// The reason of a refusal.
pub fn reason(status: &Status) -> String {
    match status.get_details_error_info() {
        Some(info) => {
            assert_eq!(info.domain, "ringgate.control");
            info.reason
        }
        None => format!("{status:?}"),
    }
}

/// A connection that trusts these anchors and presents what it is given.
pub async fn channel(
    authority: &str,
    anchors: &[u8],
    presented: Option<Presented>,
) -> Result<Channel, tonic::transport::Error> {
    let mut roots = RootCertStore::empty();
    for anchor in CertificateDer::pem_slice_iter(anchors) {
        roots.add(anchor.expect("PEM")).expect("an anchor");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots);
    let mut config = match presented {
        None => builder.with_no_client_auth(),
        Some(presented) => builder
            .with_client_auth_cert(presented.chain, presented.key)
            .expect("a credential"),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    connect(authority, config).await
}

async fn connect(authority: &str, config: ClientConfig) -> Result<Channel, tonic::transport::Error> {
    let connector = TlsConnector::from(Arc::new(config));
    let dialled = authority.to_owned();
    let connect = tower::service_fn(move |_| {
        let (connector, dialled) = (connector.clone(), dialled.clone());
        async move {
            let stream = TcpStream::connect(&dialled).await?;
            let host = dialled.rsplit_once(':').expect("host:port").0.to_owned();
            let name = ServerName::try_from(host).expect("a name");
            Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, stream).await?))
        }
    });
    // The connector speaks TLS; to tonic it is just a connection.
    Endpoint::from_shared(format!("http://{authority}"))
        .expect("an address")
        .connect_with_connector(connect)
        .await
}

/// A handshake with a chain and a key that do not belong together. TLS 1.3 clients are done before the server has looked at their
/// certificate, so one call is made.
pub async fn connect_lying(control: &Control, lie: rustls::sign::CertifiedKey) -> Result<(), String> {
    #[derive(Debug)]
    struct Liar(Arc<rustls::sign::CertifiedKey>);

    impl rustls::client::ResolvesClientCert for Liar {
        fn resolve(
            &self,
            _roots: &[&[u8]],
            _schemes: &[rustls::SignatureScheme],
        ) -> Option<Arc<rustls::sign::CertifiedKey>> {
            Some(self.0.clone())
        }

        fn has_certs(&self) -> bool {
            true
        }
    }

    let mut roots = RootCertStore::empty();
    for anchor in CertificateDer::pem_slice_iter(&control.anchors) {
        roots.add(anchor.expect("PEM")).expect("an anchor");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(Liar(Arc::new(lie))));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut client = IdentityClient::new(
        connect(&control.authority, config)
            .await
            .map_err(|e| e.to_string())?,
    );
    let answer = client.get_trust_bundle(GetTrustBundleRequest::default()).await;
    answer.map(drop).map_err(|status| status.to_string())
}

/// Writes a file that its owner alone can read.
pub fn write_private(path: &Path, bytes: &[u8]) {
    ringgate_control::files::replace(path, bytes, 0o600).expect("written");
}
