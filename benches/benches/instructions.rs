//! Counts instructions and compares them with the baseline: runs the program `ringgate-instructions`, which says how.

use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    // `cargo bench` says so; `cargo test --all-targets`, which must stay quick, does not.
    let mut arguments = std::env::args().skip(1);
    if !arguments.any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let ended = Command::new(cargo)
        .args(["run", "--quiet", "--release", "--package", "ringgate-benches"])
        .args(["--bin", "ringgate-instructions", "--"])
        .args(std::env::args().skip(1).filter(|argument| argument != "--bench"))
        .status();
    match ended {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: cannot run cargo: {error}");
            ExitCode::FAILURE
        }
    }
}
