//! The control process.
#![forbid(unsafe_code)]

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use ringgate_control::settings::{Settings, example};
use ringgate_control::{process, server};
use tokio::signal::unix::{SignalKind, signal};

/// Runs the control process of a Ringgate gateway: identity, access control, configuration.
#[derive(Debug, Parser)]
#[command(name = "ringgate-control", version)]
struct Arguments {
    /// Settings (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only check the settings.
    #[arg(long)]
    check: bool,
    /// Print all settings with their defaults and documentation.
    #[arg(long)]
    print_config: bool,
    /// Set any key, as in identity.leaf_ttl_seconds=3600. Can be given often.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
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
    let settings = match Settings::load(arguments.config.as_deref(), &arguments.set) {
        Ok(settings) => settings,
        Err(error) => return fail(&error),
    };
    if arguments.check {
        println!("the settings are valid");
        return ExitCode::SUCCESS;
    }
    match serve(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&*error),
    }
}

fn serve(settings: Settings) -> Result<(), Box<dyn std::error::Error>> {
    process::harden()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let end = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        server::run(settings, end).await?;
        Ok(())
    })
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("ringgate-control: {error}");
    ExitCode::FAILURE
}
