//! Finding the control process, and calling it as somebody.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use tonic::Status;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic_types::StatusExt as _;

/// Where the state of `ringgate up` is.
pub(crate) const STATE: &str = "./.ringgate";
/// Longest time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Which control process, and as whom.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Where {
    /// The control process, https://HOST:PORT. Else the one of `ringgate up` in this folder.
    #[arg(long, global = true, value_name = "URL", env = "RINGGATE_CONTROL")]
    control: Option<String>,
    /// Folder with your credential: key.pem, chain.pem, ca.pem. Else that of the first operator in this folder.
    #[arg(
        id = "own_identity",
        long = "identity",
        global = true,
        value_name = "FOLDER",
        env = "RINGGATE_IDENTITY"
    )]
    identity: Option<PathBuf>,
    /// Trust anchors (PEM), where the credential's folder has none.
    #[arg(long, global = true, value_name = "FILE", env = "RINGGATE_CA")]
    ca: Option<PathBuf>,
}

impl Where {
    /// The first operator of a control process with this state.
    pub(crate) fn of_state(state: &Path) -> Where {
        Where {
            control: std::fs::read_to_string(state.join("endpoint"))
                .ok()
                .map(|url| url.trim().to_owned()),
            identity: Some(state.join("admin")),
            ca: None,
        }
    }

    /// The address of the control process.
    pub(crate) fn url(&self) -> Result<String> {
        if let Some(url) = &self.control {
            return Ok(url.clone());
        }
        let file = Path::new(STATE).join("control/endpoint");
        match std::fs::read_to_string(&file) {
            Ok(url) => Ok(url.trim().to_owned()),
            Err(_) => bail!(
                "no control process is known here: start one with `ringgate up`, or say where it is with --control URL \
                 (or RINGGATE_CONTROL)"
            ),
        }
    }

    fn folder(&self) -> PathBuf {
        self.identity
            .clone()
            .unwrap_or_else(|| Path::new(STATE).join("control/admin"))
    }

    /// The trust anchors, PEM.
    pub(crate) fn anchors(&self) -> Result<String> {
        let in_folder = self.folder().join("ca.pem");
        let beside = Path::new(STATE).join("control/ca.pem");
        let path = match &self.ca {
            Some(path) => path.clone(),
            None if in_folder.exists() => in_folder,
            None => beside,
        };
        std::fs::read_to_string(&path).with_context(|| {
            format!(
                "cannot read the trust anchors, {}: give --ca FILE",
                path.display()
            )
        })
    }

    /// A connection with the credential.
    pub(crate) async fn connect(&self) -> Result<Channel> {
        // What is missing first is said first.
        self.url()?;
        let folder = self.folder();
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).with_context(|| {
                format!(
                    "cannot read your credential, {}: give its folder with --identity FOLDER (or RINGGATE_IDENTITY), or get one \
                     with `ringgate enroll`",
                    path.display()
                )
            })
        };
        let identity = Identity::from_pem(read("chain.pem")?, read("key.pem")?);
        self.channel(Some(identity)).await
    }

    /// A connection without a credential.
    pub(crate) async fn connect_unknown(&self) -> Result<Channel> {
        self.channel(None).await
    }

    async fn channel(&self, identity: Option<Identity>) -> Result<Channel> {
        let url = self.url()?;
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.anchors()?));
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        let endpoint = Endpoint::from_shared(url.clone())
            .with_context(|| format!("`{url}` is no address: https://HOST:PORT is needed"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tls_config(tls)
            .context("the credential or the trust anchors cannot be used")?;
        endpoint.connect().await.map_err(|error| {
            anyhow!(
                "cannot reach the control process at {url}: {}; is it running (`ringgate up`), and are the trust anchors its own?",
                causes(&error)
            )
        })
    }
}

/// An error with its causes, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// A refusal of the text of a file as compilers write it, `file:line:column: …`, where it has a place.
pub(crate) fn told_of(file: &Path, status: Status) -> anyhow::Error {
    let placed = status
        .get_details_error_info()
        .is_some_and(|info| info.metadata.contains_key("line"));
    let error = told(status);
    match placed {
        true => anyhow!("{}:{error}", file.display()),
        false => error,
    }
}

/// A refusal as people read it.
pub(crate) fn told(status: Status) -> anyhow::Error {
    match status.get_details_error_info() {
        Some(info) => anyhow!("{} ({})", status.message(), info.reason),
        None if status.code() == tonic::Code::Unimplemented => {
            anyhow!("this control process does not know that call; is it of the same version?")
        }
        None => anyhow!("{} ({})", status.message(), status.code()),
    }
}
