//! gRPC as a client, on h2 over TLS over a glommio socket. Just what the link needs: calls with one answer, and one stream.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::or;
use glommio::net::TcpStream;
use glommio::timer::Timer;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Uri};
use prost::Message;
use ringgate_grpc::{Code, Deframer, Encoding, Status, frame};
use ringgate_http2::HeaderList;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tokio_util::compat::FuturesAsyncReadCompatExt;

use super::error::ControlError;

/// How long connecting may take, TLS included, and so may a call with one answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a peer that says nothing is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(5);
/// Largest message taken. A state comes in parts of a few MiB; this leaves room.
pub(super) const MESSAGE_BYTES_MAX: u32 = 64 << 20;
/// Bytes the peer may send ahead.
const WINDOW_BYTES: u32 = 4 << 20;

/// A connection to a control process. It ends when this and all its streams are dropped.
pub(super) struct Channel {
    requests: SendRequest<Bytes>,
    origin: String,
}

impl Channel {
    /// Connects to `https://host:port`.
    pub(super) async fn connect(url: &str, tls: Arc<ClientConfig>) -> Result<Channel, ControlError> {
        within(PATIENCE, Channel::open(url, tls)).await
    }

    async fn open(url: &str, tls: Arc<ClientConfig>) -> Result<Channel, ControlError> {
        let bad_url = || ControlError::Url { url: url.to_owned() };
        let uri: Uri = url.parse().map_err(|_| bad_url())?;
        let authority = uri.authority().ok_or_else(bad_url)?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_| bad_url())?;
        let port = authority.port_u16().unwrap_or(443);
        let failed = |source| ControlError::Connect {
            url: url.to_owned(),
            source,
        };
        let socket = dial(host, port).await.map_err(failed)?;
        let stream = TlsConnector::from(tls)
            .connect(name, socket.compat())
            .await
            .map_err(failed)?;
        let (requests, mut connection) = h2::client::Builder::new()
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .enable_push(false)
            .handshake(stream)
            .await?;
        let pings = connection.ping_pong();
        glommio::spawn_local(async move {
            let lively = async {
                match pings {
                    Some(pings) => ping(pings).await,
                    None => std::future::pending().await,
                }
            };
            // Whoever uses the connection hears of its end from its streams.
            or(async { drop(connection.await) }, lively).await;
        })
        .detach();
        Ok(Channel {
            requests,
            origin: format!("https://{authority}"),
        })
    }

    /// One call with one answer.
    pub(super) async fn call<A: Message + Default>(
        &self,
        call: &'static str,
        request: &impl Message,
    ) -> Result<A, ControlError> {
        let exchange = async {
            let (sender, mut receiver) = self.stream(call).await?;
            sender.send_last(request).await?;
            match receiver.next().await? {
                Some(answer) => Ok(answer),
                None => Err(ControlError::Unusable(format!("{call} ended without an answer"))),
            }
        };
        within(PATIENCE, exchange).await
    }

    /// A call whose both sides may say many things.
    pub(super) async fn stream(&self, call: &'static str) -> Result<(Sender, Receiver), ControlError> {
        let request = Request::post(format!("{}/{call}", self.origin))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .map_err(|error| ControlError::Unusable(error.to_string()))?;
        let mut requests = self.requests.clone().ready().await?;
        let (response, stream) = requests.send_request(request, false)?;
        let receiver = Receiver {
            call,
            body: Body::Awaited(response),
            deframer: Deframer::new(MESSAGE_BYTES_MAX, Encoding::Identity),
            input: Bytes::new(),
        };
        Ok((Sender(stream), receiver))
    }
}

/// What we say on a call.
pub(super) struct Sender(SendStream<Bytes>);

impl Sender {
    pub(super) async fn send(&mut self, message: &impl Message) -> Result<(), ControlError> {
        self.write(frame::framed(&message.encode_to_vec()), false).await
    }

    async fn send_last(mut self, message: &impl Message) -> Result<(), ControlError> {
        self.write(frame::framed(&message.encode_to_vec()), true).await
    }

    /// Waits until the peer has room for it.
    async fn write(&mut self, mut bytes: Bytes, last: bool) -> Result<(), ControlError> {
        while !bytes.is_empty() {
            self.0.reserve_capacity(bytes.len());
            let room = match poll_fn(|cx| self.0.poll_capacity(cx)).await {
                Some(room) => room?,
                None => return Err(ControlError::Unusable("the stream is closed".into())),
            };
            let piece = bytes.split_to(room.min(bytes.len()));
            self.0.send_data(piece, last && bytes.is_empty())?;
        }
        Ok(())
    }
}

/// What the peer says on a call.
pub(super) struct Receiver {
    call: &'static str,
    body: Body,
    deframer: Deframer,
    input: Bytes,
}

enum Body {
    Awaited(ResponseFuture),
    Open(RecvStream),
}

impl Receiver {
    /// The next message; none when the call has ended well.
    pub(super) async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, ControlError> {
        loop {
            let mut rest = &self.input[..];
            let before = rest.len();
            let message = match self.deframer.next(&mut rest) {
                Ok(Some(message)) => Some(M::decode(message.payload)),
                Ok(None) => None,
                Err(status) => return Err(self.refused(status)),
            };
            let taken = before - rest.len();
            drop(self.input.split_to(taken));
            if let Some(decoded) = message {
                let decoded = decoded.map_err(|error| ControlError::Unusable(error.to_string()))?;
                return Ok(Some(decoded));
            }
            if !self.read().await? {
                return Ok(None);
            }
        }
    }

    /// Reads more. False when the call has ended well.
    async fn read(&mut self) -> Result<bool, ControlError> {
        if let Body::Awaited(response) = &mut self.body {
            let response = response.await?;
            if response.status() != http::StatusCode::OK {
                let text = format!("HTTP status {}", response.status());
                return Err(self.refused(Status::new(Code::Unknown, text)));
            }
            if response.headers().contains_key("grpc-status") {
                return self.ended(response.headers());
            }
            self.body = Body::Open(response.into_body());
        }
        let Body::Open(body) = &mut self.body else {
            return Ok(false);
        };
        match body.data().await {
            Some(data) => {
                let data = data?;
                body.flow_control().release_capacity(data.len())?;
                self.input = data;
                Ok(true)
            }
            None => {
                let trailers = body.trailers().await?.unwrap_or_default();
                self.ended(&trailers)
            }
        }
    }

    fn ended(&self, trailers: &HeaderMap) -> Result<bool, ControlError> {
        let mut list = HeaderList::default();
        for (name, value) in trailers {
            list.push(name.as_str().as_bytes(), value.as_bytes());
        }
        let status = Status::from_trailers(&list);
        match status.is_ok() {
            true => Ok(false),
            false => Err(self.refused(status)),
        }
    }

    fn refused(&self, status: Status) -> ControlError {
        ControlError::Refused {
            call: self.call,
            status,
        }
    }
}

/// Tries each address that the name has.
async fn dial(host: String, port: u16) -> io::Result<TcpStream> {
    // Asking the resolver blocks.
    let addresses: Vec<SocketAddr> = glommio::executor()
        .spawn_blocking(move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect))
        .await?;
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(socket) => {
                socket.set_nodelay(true).map_err(io::Error::from)?;
                return Ok(socket);
            }
            Err(error) => failure = error.into(),
        }
    }
    Err(failure)
}

/// Returns when the peer does not answer any more.
async fn ping(mut pings: h2::PingPong) {
    loop {
        Timer::new(PING_EVERY).await;
        let answered = async { pings.ping(h2::Ping::opaque()).await.is_ok() };
        let late = async {
            Timer::new(PATIENCE).await;
            false
        };
        if !or(answered, late).await {
            return;
        }
    }
}

/// Gives up after a while.
pub(super) async fn within<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, ControlError>>,
) -> Result<T, ControlError> {
    let late = async {
        Timer::new(patience).await;
        Err(ControlError::Silent {
            seconds: patience.as_secs(),
        })
    };
    or(work, late).await
}
