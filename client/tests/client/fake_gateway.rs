//! A gateway that says what the test tells it to, over real HTTP/2.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message as _;
use ringgate_client::{Agent, Builder};
use ringgate_proto::agp::v1 as proto;
use ringgate_proto::agp::v1::agent_message::Body as Said;
use ringgate_proto::agp::v1::gateway_message::Body as Heard;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Listens for agents.
pub(crate) struct FakeGateway {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
}

/// The gateway's end of one agent's stream. Dropped, the connection is cut.
pub(crate) struct Peer {
    /// What came with the call.
    pub(crate) metadata: http::HeaderMap,
    /// What the agent presented in the handshake.
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    /// The registration.
    pub(crate) register: proto::Register,
    incoming: h2::RecvStream,
    outgoing: h2::SendStream<Bytes>,
    buffer: BytesMut,
    connection: tokio::task::JoinHandle<()>,
}

impl FakeGateway {
    pub(crate) async fn listen() -> FakeGateway {
        FakeGateway {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            tls: None,
        }
    }

    /// With TLS.
    pub(crate) async fn listen_tls(config: rustls::ServerConfig) -> FakeGateway {
        FakeGateway {
            tls: Some(TlsAcceptor::from(std::sync::Arc::new(config))),
            ..FakeGateway::listen().await
        }
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.listener.local_addr().unwrap())
    }

    /// Settings of an agent that comes back at once.
    pub(crate) fn agent(&self) -> Builder {
        let moment = std::time::Duration::from_millis(1);
        Agent::builder(self.url())
            .name("org/ns/service/one")
            .backoff(moment, moment)
    }

    /// An agent, connected and registered.
    pub(crate) async fn connect(&self) -> (Agent, Peer) {
        let (agent, peer) = tokio::join!(self.agent().connect(), self.accept(false));
        (agent.unwrap(), peer)
    }

    /// Accepts an agent's stream and its registration.
    pub(crate) async fn accept(&self, resumed: bool) -> Peer {
        let mut peer = self.accept_stream().await;
        let Said::Register(register) = peer.hear().await else {
            panic!("the first message is Register")
        };
        peer.register = register.clone();
        peer.say(Heard::Registered(proto::Registered {
            name: register.name,
            resume_token: Bytes::from_static(b"token"),
            resumed,
            ..Default::default()
        }));
        peer
    }

    /// Makes handshakes, for whoever ends them.
    pub(crate) async fn handshake_only(&self) {
        while let (Ok((socket, _)), Some(acceptor)) = (self.listener.accept().await, &self.tls) {
            let _ = acceptor.accept(socket).await;
        }
    }

    /// Accepts an agent's stream.
    pub(crate) async fn accept_stream(&self) -> Peer {
        let (socket, _) = self.listener.accept().await.unwrap();
        let mut certificates = Vec::new();
        let io: Box<dyn Io> = match &self.tls {
            None => Box::new(socket),
            Some(acceptor) => {
                let stream = acceptor.accept(socket).await.unwrap();
                let (_, session) = stream.get_ref();
                certificates.extend(session.peer_certificates().into_iter().flatten().cloned());
                Box::new(stream)
            }
        };
        let mut connection = h2::server::handshake(io).await.unwrap();
        let (request, mut respond) = connection.accept().await.unwrap().unwrap();
        assert_eq!(request.uri().path(), "/agp.v1.AgentGateway/Open");
        let response = http::Response::builder().header("content-type", "application/grpc");
        let outgoing = respond.send_response(response.body(()).unwrap(), false).unwrap();
        let connection = tokio::spawn(async move { while connection.accept().await.is_some() {} });
        Peer {
            metadata: request.headers().clone(),
            certificates,
            register: proto::Register::default(),
            incoming: request.into_body(),
            outgoing,
            buffer: BytesMut::new(),
            connection,
        }
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Peer {
    /// The agent's next message; panics when it has ended its side.
    pub(crate) async fn hear(&mut self) -> Said {
        self.hear_or_end().await.expect("the agent goes on")
    }

    /// The agent's next message, or none if it has ended its side.
    pub(crate) async fn hear_or_end(&mut self) -> Option<Said> {
        loop {
            if let Some(message) = self.buffered() {
                return proto::AgentMessage::decode(message).unwrap().body;
            }
            let data = self.incoming.data().await?.ok()?;
            self.incoming.flow_control().release_capacity(data.len()).unwrap();
            self.buffer.extend_from_slice(&data);
        }
    }

    /// A whole message behind its gRPC prefix, taken out of the buffer.
    fn buffered(&mut self) -> Option<Bytes> {
        let length = u32::from_be_bytes(self.buffer.get(1..5)?.try_into().unwrap()) as usize;
        if self.buffer.len() < 5 + length {
            return None;
        }
        self.buffer.advance(5);
        Some(self.buffer.split_to(length).freeze())
    }

    /// Says something to the agent.
    pub(crate) fn say(&mut self, body: Heard) {
        let message = proto::GatewayMessage { body: Some(body) }.encode_to_vec();
        let mut frame = BytesMut::with_capacity(5 + message.len());
        frame.put_u8(0);
        frame.put_u32(message.len() as u32);
        frame.extend_from_slice(&message);
        self.outgoing.send_data(frame.freeze(), false).unwrap();
    }

    /// Ends the stream with a gRPC status.
    pub(crate) fn end(&mut self, status: &'static str, message: &'static str) {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static(status));
        trailers.insert("grpc-message", http::HeaderValue::from_static(message));
        self.outgoing.send_trailers(trailers).unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
