//! The gateway's own statistics, over HTTP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::Error;

/// How long the answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Connections that each core has accepted since the gateway's start, by the core's number.
///
/// # Errors
/// [`Error::Stats`] when there is no such answer.
pub fn accepted(address: SocketAddr) -> Result<Vec<u64>, Error> {
    let unusable = |reason: String| Error::Stats { address, reason };
    let body = get(address, "/stats").map_err(|error| unusable(error.to_string()))?;
    let stats: Value = serde_json::from_str(&body).map_err(|error| unusable(error.to_string()))?;
    let cores = stats["cores"].as_array().filter(|cores| !cores.is_empty());
    let cores = cores.ok_or_else(|| unusable("no cores in it".into()))?;
    let mut accepted = vec![0; cores.len()];
    for core in cores {
        let number = core["core"]
            .as_u64()
            .and_then(|number| accepted.get_mut(number as usize));
        match (number, core["connections_accepted"].as_u64()) {
            (Some(slot), Some(count)) => *slot = count,
            _ => return Err(unusable("a core without its number or connections".into())),
        }
    }
    Ok(accepted)
}

/// One request of HTTP/1.1 with an answer of known length (RFC 9112), which is all that the gateway's endpoint needs.
fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => Err(std::io::Error::other(format!(
            "answered with `{}`",
            answer.lines().next().unwrap_or_default()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A server that answers one request with this body.
    fn server(body: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept()?;
            let _ = stream.read(&mut [0; 1024])?;
            stream.write_all(
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes(),
            )
        });
        address
    }

    #[test]
    fn connections_are_counted_by_core() {
        let body = r#"{"cores":[{"core":1,"connections_accepted":7},{"core":0,"connections_accepted":3}]}"#;
        assert_eq!(accepted(server(body)).expect("good statistics"), [3, 7]);
    }

    #[test]
    fn other_answers_are_errors() {
        assert!(matches!(accepted(server("{}")), Err(Error::Stats { .. })));
        assert!(matches!(accepted(server("hello")), Err(Error::Stats { .. })));
    }
}
