//! gRPC's own interoperability service (`grpc.testing.TestService`) on the gateway's ring, HTTP/2 and gRPC layers, so that the
//! interop clients of other implementations can judge them.
//!
//! `cargo run --release -p ringgate-dataplane --example interop_server -- --listen 127.0.0.1:10000`
#![forbid(unsafe_code)]

mod test_service;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use ringgate_dataplane::config::{Config, Profile};
use ringgate_dataplane::runtime::{Node, StartError};
use ringgate_dataplane::shard::{Answer, CallId, Now, Peer, Service};
use ringgate_grpc::Request;
use test_service::TestService;

/// Serves grpc.testing.TestService.
#[derive(Debug, Parser)]
struct Arguments {
    /// Address to serve on.
    #[arg(long, default_value = "127.0.0.1:10000")]
    listen: SocketAddr,
    /// TLS certificate chain (PEM).
    #[arg(long)]
    tls_cert: Option<PathBuf>,
    /// TLS private key (PEM).
    #[arg(long)]
    tls_key: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match serve(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("interop_server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: Arguments) -> Result<(), StartError> {
    let config = Config {
        profile: Profile::Development,
        listen: arguments.listen,
        tls_certificate: arguments.tls_cert,
        tls_key: arguments.tls_key,
        ..Config::default()
    };
    config.check()?;
    let node = Node::start(&config, vec!["grpc.testing.TestService"], |core, _| {
        Interop(TestService::new(format!("core-{core}")))
    })?;
    println!("interop_server ready on {}", node.address);
    node.join()
}

struct Interop(TestService);

impl Service for Interop {
    type Message = ();

    fn call(&mut self, _: CallId, request: &Request, _: &Peer, _: &Now) -> Answer {
        match self.0.call(request) {
            Ok(call) => Answer::Handler(Box::new(call)),
            Err(status) => Answer::Refuse(status),
        }
    }
}
