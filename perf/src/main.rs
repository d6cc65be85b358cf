//! `ringgate-perf`: load, the raw relay, and comparisons. See `perf/README.md`.

#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringgate-perf: {error}");
            ExitCode::FAILURE
        }
    }
}
