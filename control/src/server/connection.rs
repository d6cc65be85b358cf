//! Connections: accepted, past their TLS handshake, counted.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ringgate_identity::tls::reason;
use ringgate_proto::control::v1::AuditEntry;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::audit::{self, AuditLog};
use crate::gate::Peer;
use crate::settings::LimitSettings;

/// Wait after the kernel could not give a connection (too few files), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A connection past its handshake. It counts against the limit until it is dropped.
#[derive(Debug)]
pub struct Connection {
    stream: Box<TlsStream<TcpStream>>,
    peer: Peer,
    _counted: OwnedSemaphorePermit,
}

/// Accepts connections and shakes hands with them, several at a time; those that are past it come out of the channel, and who shows
/// a certificate without its key is written to the audit log. Ends when the other end of the channel is gone.
pub async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    limits: LimitSettings,
    audit: AuditLog,
    done: mpsc::Sender<io::Result<Connection>>,
) {
    let connections = Arc::new(Semaphore::new(limits.connections_max as usize));
    let handshakes = Arc::new(Semaphore::new(limits.handshakes_max as usize));
    let timeout = Duration::from_millis(limits.handshake_timeout_ms);
    loop {
        let counted = tokio::select! {
            counted = async {
                let connection = connections.clone().acquire_owned().await;
                let handshake = handshakes.clone().acquire_owned().await;
                connection.ok().zip(handshake.ok())
            } => counted,
            () = done.closed() => return,
        };
        let Some((connection, handshake)) = counted else {
            return;
        };
        let (stream, address) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = done.closed() => return,
        };
        let (acceptor, audit, done) = (acceptor.clone(), audit.clone(), done.clone());
        tokio::spawn(async move {
            let shaken = tokio::time::timeout(timeout, shake(stream, address, acceptor, connection)).await;
            drop(handshake);
            match shaken {
                Ok(Ok(connection)) => {
                    // The process is ending when nobody takes it.
                    let _ = done.send(Ok(connection)).await;
                }
                Ok(Err(error)) => {
                    tracing::debug!(%address, %error, "handshake failed");
                    if let Some(entry) = refusal(&error, address) {
                        audit.record_refusal(entry).await;
                    }
                }
                Err(_) => tracing::debug!(%address, "handshake took too long"),
            }
        });
    }
}

async fn shake(
    stream: TcpStream,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    counted: OwnedSemaphorePermit,
) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    let stream = Box::new(acceptor.accept(stream).await?);
    let chain = stream.get_ref().1.peer_certificates();
    let chain = chain
        .unwrap_or_default()
        .iter()
        .map(|certificate| certificate.clone().into_owned())
        .collect();
    Ok(Connection {
        stream,
        peer: Peer { address, chain },
        _counted: counted,
    })
}

/// What the audit log says of a handshake that failed by the client's certificate. Whom that names is not known here.
fn refusal(error: &io::Error, address: SocketAddr) -> Option<AuditEntry> {
    let reason = reason(error.get_ref()?.downcast_ref()?)?;
    Some(AuditEntry {
        actor: format!("address {}", address.ip()),
        action: "TLS handshake".to_owned(),
        outcome: reason.code().to_owned(),
        detail: reason.to_string(),
        ..audit::entry()
    })
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(context)
    }
}
