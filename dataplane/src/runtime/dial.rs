//! Makes connections to neighbours, off the data cores: names are looked up and the kernel is waited for here.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::neighbours::{DialRequest, PATH};
use crate::observe::{Command, CommandSender, Connected, Order};

/// Connections asked for and not begun: one for each neighbour of a configuration of ordinary size.
const REQUESTS_MAX: usize = 256;
/// How long a connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Who asks and who makes them.
pub(super) fn dialler() -> (mpsc::Sender<DialRequest>, mpsc::Receiver<DialRequest>) {
    mpsc::channel(REQUESTS_MAX)
}

/// Makes connections for core 0 until it has ended.
pub(super) async fn dial(
    mut requests: mpsc::Receiver<DialRequest>,
    core: CommandSender,
    tls: Option<Arc<ClientConfig>>,
) {
    while let Some(request) = requests.recv().await {
        tokio::spawn(make(request, core.clone(), tls.clone()));
    }
}

async fn make(request: DialRequest, core: CommandSender, tls: Option<Arc<ClientConfig>>) {
    let DialRequest { ticket, address } = request;
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, connect(&address)).await;
    let command = match connecting.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
        Ok((stream, address)) => Command::Connected(Connected {
            ticket,
            stream,
            address,
            path: PATH,
            tls,
        }),
        Err(error) => Command::Order(Order::Unconnected {
            ticket,
            cause: error.to_string().into(),
        }),
    };
    core.send(command);
}

async fn connect(address: &str) -> std::io::Result<(std::net::TcpStream, std::net::SocketAddr)> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let peer = stream.peer_addr()?;
    let stream = stream.into_std()?;
    // A ring waits for blocking sockets only; of others it says that there is nothing yet.
    stream.set_nonblocking(false)?;
    Ok((stream, peer))
}
