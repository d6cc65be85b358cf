//! The data plane process.
#![forbid(unsafe_code)]

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use ringgate_dataplane::config::{Sources, example};
use ringgate_dataplane::runtime;

/// Runs the data plane of a Ringgate gateway.
///
/// Settings come from the file, then from these flags, which override it.
#[derive(Debug, Parser)]
#[command(name = "ringgate-dataplane", version)]
struct Arguments {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only check the configuration.
    #[arg(long)]
    check: bool,
    /// Print all keys with their defaults and documentation.
    #[arg(long)]
    print_config: bool,
    /// Rules to enforce: strict or development.
    #[arg(long, value_name = "PROFILE")]
    profile: Option<String>,
    /// Address agents connect to.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// CPUs that serve, as in 0,1, or auto.
    #[arg(long, value_name = "LIST")]
    cores: Option<String>,
    /// Longest time an idle core spins before it sleeps.
    #[arg(long, value_name = "MICROSECONDS")]
    spin_us: Option<u64>,
    /// Never sleep: for dedicated cores.
    #[arg(long)]
    busy_poll: bool,
    /// Address of metrics and health, or off.
    #[arg(long, value_name = "ADDRESS")]
    http: Option<String>,
    /// TLS certificate chain (PEM).
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<String>,
    /// TLS private key (PEM).
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
    /// CA of client certificates (PEM).
    #[arg(long, value_name = "FILE")]
    tls_client_ca: Option<String>,
    /// The control process, https://HOST:PORT. Can be given often: several that share a store.
    #[arg(long, value_name = "URL")]
    control: Vec<String>,
    /// CA of the control process's certificate (PEM), before this node is enrolled.
    #[arg(long, value_name = "FILE")]
    control_ca: Option<String>,
    /// In its place: SHA-256 of its authority's certificate, as it prints it.
    #[arg(long, value_name = "HEX")]
    control_fingerprint: Option<String>,
    /// File with the token that lets this node enrol.
    #[arg(long, value_name = "FILE")]
    join_token: Option<String>,
    /// Folder of this node's key, certificate and last state.
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<String>,
    /// Name of this node.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Set any key, as in limits.streams_max=100. Can be given often.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Arguments {
    fn sources(&self) -> Sources {
        let cores = self.cores.as_ref().map(|list| {
            if list == "auto" {
                list.clone()
            } else {
                format!("[{list}]")
            }
        });
        let control = (!self.control.is_empty()).then(|| format!("[{}]", self.control.join(",")));
        let flags = [
            ("profile", self.profile.clone()),
            ("listen", self.listen.map(|address| address.to_string())),
            ("cores.list", cores),
            ("cores.spin_us", self.spin_us.map(|micros| micros.to_string())),
            ("cores.busy_poll", self.busy_poll.then(|| "true".to_owned())),
            ("http", self.http.clone()),
            ("tls.certificate", self.tls_cert.clone()),
            ("tls.key", self.tls_key.clone()),
            ("tls.client_ca", self.tls_client_ca.clone()),
            ("control.url", control),
            ("control.ca", self.control_ca.clone()),
            ("control.fingerprint", self.control_fingerprint.clone()),
            ("control.join_token", self.join_token.clone()),
            ("control.state_dir", self.state_dir.clone()),
            ("node", self.node.clone()),
        ];
        let flags = flags
            .into_iter()
            .filter_map(|(key, value)| value.map(|value| format!("{key}={value}")));
        Sources {
            file: self.config.clone(),
            arguments: flags.chain(self.set.iter().cloned()).collect(),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.print_config {
        print!("{}", example());
        return ExitCode::SUCCESS;
    }
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("RINGGATE_LOG").unwrap_or_else(|_| "info".into()),
        )
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let sources = arguments.sources();
    if arguments.check {
        return match sources.read(None) {
            Ok(_) => {
                println!("the configuration is valid");
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error),
        };
    }
    match runtime::run(&sources) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("ringgate-dataplane: {error}");
    ExitCode::FAILURE
}
