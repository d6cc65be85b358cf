//! One connection's TLS.

use std::io::{Read, Write};
use std::sync::Arc;

use ringgate_uring::SendBuffer;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

/// Plaintext memory kept from one flush to the next.
const SCRATCH_KEPT_BYTES: usize = 64 * 1024;
/// Plaintext read at once: one record (RFC 8446 section 5.1).
const RECORD_BYTES: usize = 16 * 1024;

/// A certificate chain as a peer presents it, leaf first.
pub type Chain = Arc<[CertificateDer<'static>]>;

/// One end of a TLS connection.
pub(crate) struct Session {
    rustls: Connection,
    scratch: Vec<u8>,
    closed: bool,
    certificate_told: bool,
}

/// Whether more can come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    More,
    /// The peer closed its side with a close_notify alert.
    Ended,
}

impl Session {
    /// The server's.
    pub(crate) fn new(config: Arc<ServerConfig>) -> Result<Session, rustls::Error> {
        Ok(Self::of(ServerConnection::new(config)?.into()))
    }

    /// The client's.
    pub(crate) fn client(
        config: Arc<ClientConfig>,
        server: ServerName<'static>,
    ) -> Result<Session, rustls::Error> {
        Ok(Self::of(ClientConnection::new(config, server)?.into()))
    }

    fn of(mut rustls: Connection) -> Session {
        // What is written is bounded by what one flush gathers.
        rustls.set_buffer_limit(None);
        Session {
            rustls,
            scratch: Vec::new(),
            closed: false,
            certificate_told: false,
        }
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.rustls.is_handshaking()
    }

    pub(crate) fn wants_write(&self) -> bool {
        self.rustls.wants_write()
    }

    /// Takes bytes from the socket and gives plaintext on, with the peer's certificates (verified) where it showed any.
    ///
    /// # Errors
    /// The handshake or a record failed; the alert that says so is ready to be written.
    pub(crate) fn receive(
        &mut self,
        mut bytes: &[u8],
        mut plaintext: impl FnMut(&[u8], Option<Chain>),
    ) -> Result<Input, rustls::Error> {
        let mut record = [0; RECORD_BYTES];
        let mut input = Input::More;
        while !bytes.is_empty() && input == Input::More {
            // Reading from a slice cannot fail; a full buffer means rustls wants its plaintext taken first, which happens below.
            if self.rustls.read_tls(&mut bytes).unwrap_or(0) == 0 {
                break;
            }
            let state = self.rustls.process_new_packets()?;
            if state.peer_has_closed() {
                input = Input::Ended;
            }
            let mut left = state.plaintext_bytes_to_read();
            while left > 0 {
                let Ok(read @ 1..) = self.rustls.reader().read(&mut record) else {
                    break;
                };
                left -= read.min(left);
                let certificate = if std::mem::replace(&mut self.certificate_told, true) {
                    None
                } else {
                    self.certificate()
                };
                plaintext(&record[..read], certificate);
            }
        }
        Ok(input)
    }

    fn certificate(&self) -> Option<Chain> {
        self.rustls.peer_certificates().map(Chain::from)
    }

    /// Memory to gather plaintext in, to be given to [`encrypt`](Session::encrypt).
    pub(crate) fn take_scratch(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.scratch)
    }

    pub(crate) fn encrypt(&mut self, mut plaintext: Vec<u8>) {
        // Cannot fail: it writes to memory without a limit.
        let _ = self.rustls.writer().write_all(&plaintext);
        plaintext.clear();
        if plaintext.capacity() <= SCRATCH_KEPT_BYTES {
            self.scratch = plaintext;
        }
    }

    /// Tells the peer that no more comes. Once.
    pub(crate) fn close_notify(&mut self) {
        if !std::mem::replace(&mut self.closed, true) {
            self.rustls.send_close_notify();
        }
    }

    /// Moves what is to go onto the socket.
    pub(crate) fn write_to(&mut self, buffer: &mut SendBuffer) {
        let mut sink = Sink(buffer);
        while self.rustls.wants_write() {
            // Cannot fail: the sink is memory.
            if self.rustls.write_tls(&mut sink).unwrap_or(0) == 0 {
                break;
            }
        }
    }
}

struct Sink<'a>(&'a mut SendBuffer);

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.copy(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
