//! Listeners: one for each core on the same address.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use super::error::StartError;

/// Connections that may wait to be accepted; the kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Listens on `address` once for each core; the kernel spreads connections over them (`SO_REUSEPORT`).
///
/// # Errors
/// [`StartError::Listen`], also when somebody else listens there with `SO_REUSEPORT`, whom we would take connections from.
pub(super) fn on_each_core(address: SocketAddr, cores: usize) -> Result<Vec<TcpListener>, StartError> {
    let listen = |source| StartError::Listen { address, source };
    // Alone on the address first: binding without SO_REUSEPORT fails where anybody else is.
    let alone = bind(address, false).map_err(listen)?;
    let bound = alone.local_addr().map_err(listen)?.as_socket().unwrap_or(address);
    drop(alone);
    let each = |_| {
        let socket = bind(bound, true)?;
        // Inherited by what is accepted: small messages must not wait for acknowledgements.
        socket.set_tcp_nodelay(true)?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    (0..cores).map(each).collect::<io::Result<_>>().map_err(listen)
}

pub(super) fn local_address(listeners: &[TcpListener]) -> Result<SocketAddr, StartError> {
    let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
    let first = listeners.first().map_or(Ok(unknown), TcpListener::local_addr);
    first.map_err(|source| StartError::Listen {
        address: unknown,
        source,
    })
}

fn bind(address: SocketAddr, share: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.cloexec(),
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_share_one_address_and_strangers_do_not() {
        let listeners = on_each_core(SocketAddr::from(([127, 0, 0, 1], 0)), 2).expect("listen");
        let address = local_address(&listeners).expect("address");
        assert_eq!(listeners[1].local_addr().expect("address"), address);
        let error = on_each_core(address, 1).expect_err("in use").to_string();
        assert!(error.contains("--listen"), "{error}");
    }
}
