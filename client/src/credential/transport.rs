//! TLS with our own verification, under tonic.

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::Endpoint;
use tonic::transport::Uri;

use super::CredentialError;

/// Where a server is: an `https://` URL without a path.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) url: String,
    origin: Uri,
    host: String,
    port: u16,
    name: ServerName<'static>,
}

impl Address {
    /// Reads a URL.
    pub(crate) fn parse(url: &str) -> Result<Address, CredentialError> {
        let wrong = |reason: &str| CredentialError::Configuration {
            what: "url",
            reason: format!("{url}: {reason}"),
        };
        let origin: Uri = url.parse().map_err(|_| wrong("not a URL"))?;
        if origin.scheme_str() != Some("https") {
            return Err(wrong("credentials are for https:// addresses"));
        }
        let host = origin.host().ok_or_else(|| wrong("it names no host"))?;
        // A URL writes an IPv6 address in brackets (RFC 3986 §3.2.2), a certificate without.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name =
            ServerName::try_from(host.clone()).map_err(|_| wrong("its host is no DNS name or IP address"))?;
        Ok(Address {
            port: origin.port_u16().unwrap_or(443),
            url: url.to_owned(),
            origin,
            host,
            name,
        })
    }

    /// What tonic connects to. To it the connection is a plain one, whose TLS is our connector's; the requests say `https`.
    pub(crate) fn endpoint(&self) -> Endpoint {
        let authority = self.origin.authority().map_or("", |authority| authority.as_str());
        let plain = Uri::builder()
            .scheme("http")
            .authority(authority)
            .path_and_query("/")
            .build()
            // It was parsed from a URL with this authority.
            .unwrap_or_default();
        Endpoint::from(plain).origin(self.origin.clone())
    }

    /// The URI of a method, as the server sees it and a proof must name it.
    pub(crate) fn uri_of(&self, path: &str) -> String {
        let authority = self.origin.authority().map_or("", |authority| authority.as_str());
        format!("https://{authority}{path}")
    }
}

/// Connects to an address with TLS.
pub(crate) fn connector(
    address: &Address,
    config: rustls::ClientConfig,
) -> impl tower::Service<Uri, Response = TokioIo<TlsStream<TcpStream>>, Error = io::Error, Future: Send>
+ Clone
+ Send
+ 'static {
    let target = Arc::new(address.clone());
    let tls = TlsConnector::from(Arc::new(config));
    tower::service_fn(move |_: Uri| {
        let (target, tls) = (Arc::clone(&target), tls.clone());
        async move {
            let socket = TcpStream::connect((target.host.as_str(), target.port)).await?;
            socket.set_nodelay(true)?;
            let stream = tls.connect(target.name.clone(), socket).await?;
            Ok(TokioIo::new(stream))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_https_url() {
        let address = Address::parse("https://[::1]:46358").expect("good");
        assert_eq!((address.host.as_str(), address.port), ("::1", 46358));
        assert_eq!(address.uri_of("/a/B"), "https://[::1]:46358/a/B");
        assert_eq!(Address::parse("https://gw.example").expect("good").port, 443);
        for url in ["", "http://127.0.0.1:1", "127.0.0.1:1", "https://", "https://a b"] {
            assert!(Address::parse(url).is_err(), "{url}");
        }
    }
}
