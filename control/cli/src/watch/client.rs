//! A client of a data plane's HTTP endpoint.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use ringgate_identity::ViewerToken;
use serde_json::Value;
use tokio::net::TcpStream;

/// Longest line of a stream that is taken.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Where a data plane tells what it sees.
#[derive(Debug, clap::Args)]
pub(crate) struct Endpoint {
    /// HTTP endpoint of the data plane (its key `http`).
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:46359",
        env = "RINGGATE_HTTP"
    )]
    http: String,
    /// File of the token that the data plane asks for (its key `http_token`).
    #[arg(long, value_name = "FILE", env = "RINGGATE_HTTP_TOKEN")]
    http_token: Option<PathBuf>,
}

impl Endpoint {
    async fn ask(&self, path: &str) -> Result<Response<Incoming>> {
        let address = self.http.trim_start_matches("http://").trim_end_matches('/');
        let stream = TcpStream::connect(address).await.with_context(|| {
            format!("cannot reach a data plane at http://{address}; say where it is with --http")
        })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the answer.
        tokio::spawn(connection);
        let mut request = Request::get(path).header(HOST, address);
        if let Some(path) = &self.http_token {
            request = request.header(AUTHORIZATION, ViewerToken::read(path)?.authorization());
        }
        let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let status = response.status();
        let text = response.into_body().collect().await?.to_bytes();
        bail!(
            "http://{address}{path} answers {status}: {}",
            String::from_utf8_lossy(&text).trim()
        )
    }

    /// An answer as a whole.
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        let body = self.ask(path).await?.into_body().collect().await?.to_bytes();
        serde_json::from_slice(&body).with_context(|| format!("{path} does not answer JSON"))
    }

    /// A stream of lines; ends when `each` says so or the data plane does.
    pub(crate) async fn lines(&self, path: &str, mut each: impl FnMut(Value) -> Result<bool>) -> Result<()> {
        let mut body = self.ask(path).await?.into_body();
        let mut rest = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            rest.extend_from_slice(&data);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = rest.split_to(end + 1);
                if line.trim_ascii().is_empty() {
                    continue;
                }
                if !each(serde_json::from_slice(&line)?)? {
                    return Ok(());
                }
            }
            if rest.len() > LINE_BYTES_MAX {
                bail!("a line of {path} has more than {LINE_BYTES_MAX} bytes");
            }
        }
        Ok(())
    }
}

/// Part of a URL, with all that could be mistaken escaped.
pub(super) fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}
