//! The last of the benchmarks by name: shows once more, in tables, what those before it have found.

use std::process::ExitCode;

use ringgate_benches::results;

fn main() -> ExitCode {
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    match results::micro() {
        Some(table) => println!("{table}"),
        None => println!("no micro benchmark has run within the last hour"),
    }
    for name in ["instructions", "end_to_end"] {
        match results::kept(name) {
            Some(text) => println!("{text}"),
            None => println!("`{name}` has left no tables within the last hour"),
        }
    }
    ExitCode::SUCCESS
}
