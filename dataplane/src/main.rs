//! The data plane process.
#![forbid(unsafe_code)]

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use ringgate_dataplane::config::{Config, ConfigError, example};
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
    /// Set any key, as in limits.streams_max=100. Can be given often.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Arguments {
    fn config(&self) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        if let Some(path) = &self.config {
            config.read_file(path)?;
        }
        let cores = self.cores.as_ref().map(|list| {
            if list == "auto" {
                list.clone()
            } else {
                format!("[{list}]")
            }
        });
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
        ];
        for (key, value) in flags {
            if let Some(value) = value {
                config.set_argument(&format!("{key}={value}"))?;
            }
        }
        self.set
            .iter()
            .try_for_each(|argument| config.set_argument(argument))?;
        config.check()?;
        Ok(config)
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
    let config = match arguments.config() {
        Ok(config) => config,
        Err(error) => return fail(&error),
    };
    if arguments.check {
        println!("the configuration is valid");
        return ExitCode::SUCCESS;
    }
    match runtime::run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("ringgate-dataplane: {error}");
    ExitCode::FAILURE
}
