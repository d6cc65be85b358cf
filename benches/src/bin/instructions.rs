//! Counts instructions and compares them with the baseline.
//!
//! ```text
//! cargo run --release -p ringgate-benches --bin ringgate-instructions                compares; fails when a count has grown
//! cargo run --release -p ringgate-benches --bin ringgate-instructions -- --update    makes what is counted the baseline
//! cargo run --release -p ringgate-benches --bin ringgate-instructions -- hpack       only cases with this in their name
//! cargo run --release -p ringgate-benches --bin ringgate-instructions -- --quick     all but those whose set-up takes minutes
//! ```

use std::collections::VecDeque;
use std::error::Error;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::thread;

use ringgate_benches::instructions::{
    Baseline, CASES, Case, Change, CountError, GROWTH_MAX, RUN_ONE, Verdict, count, version,
};
use ringgate_benches::results;
use ringgate_perf::report::Table;

const ABOUT: &str = "Instructions of one operation, counted by callgrind. Written by \
    `cargo run --release -p ringgate-benches --bin ringgate-instructions -- --update`; change it only on purpose, and say why in the commit.";

/// In the names of cases that fill a table under valgrind for minutes. They tell of the same code as those beside smaller tables.
const SLOW: &str = "beside 1000000 ";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, name] = &arguments[..]
        && first == RUN_ONE
    {
        return run_one(name);
    }
    let update = arguments.iter().any(|argument| argument == "--update");
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let filters: Vec<&String> = arguments
        .iter()
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let wanted = |case: &&Case| {
        (filters.is_empty() || filters.iter().any(|filter| case.name.contains(*filter)))
            && !(quick && case.name.contains(SLOW))
    };
    match compare(CASES.iter().filter(wanted).collect(), update) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_one(name: &str) -> ExitCode {
    match Case::find(name) {
        Some(case) => {
            case.run();
            ExitCode::SUCCESS
        }
        None => {
            eprintln!("there is no case `{name}`");
            ExitCode::FAILURE
        }
    }
}

fn compare(cases: Vec<&'static Case>, update: bool) -> Result<ExitCode, Box<dyn Error>> {
    let valgrind = version()?;
    let counts = count_all(&cases)?;
    let rustc = rustc();
    let mut baseline = match Baseline::read() {
        Err(error) if !update => return Err(format!("{}: {error}", Baseline::path().display()).into()),
        read => read.unwrap_or_default(),
    };
    let changes: Vec<(&str, Change)> = cases
        .iter()
        .zip(&counts)
        .map(|(case, now)| (case.name, baseline.change(case.name, *now)))
        .collect();
    let table = table(&changes);
    println!("{table}");
    if let Err(error) = results::keep("instructions", &table.to_string()) {
        eprintln!("the table cannot be kept for `summary`: {error}");
    }
    if update {
        let everything = cases.len() == CASES.len();
        baseline.about = ABOUT.into();
        baseline.rustc = rustc;
        if everything {
            baseline.instructions.clear();
        }
        for (name, change) in changes {
            baseline
                .instructions
                .insert(name.into(), (change.now * 10.0).round() / 10.0);
        }
        baseline.write()?;
        println!("wrote {}", Baseline::path().display());
        return Ok(ExitCode::SUCCESS);
    }
    if baseline.rustc != rustc {
        println!("the baseline was made by {}, this by {rustc}", baseline.rustc);
    }
    println!("counted by {valgrind}");
    Ok(judge(&changes))
}

/// Counts each case, as many at a time as there are cores: unlike times, counts do not disturb each other.
fn count_all(cases: &[&'static Case]) -> Result<Vec<f64>, CountError> {
    let scratch = |number: usize| -> PathBuf {
        std::env::temp_dir().join(format!("ringgate-instructions.{}.{number}", std::process::id()))
    };
    let left: Mutex<VecDeque<usize>> = Mutex::new((0..cases.len()).collect());
    let counts: Mutex<Vec<Result<f64, CountError>>> = Mutex::new(cases.iter().map(|_| Ok(0.0)).collect());
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = left.lock().ok().and_then(|mut left| left.pop_front());
                    let Some(number) = next else { return };
                    let counted = count(cases[number], &scratch(number));
                    if let Ok(mut counts) = counts.lock() {
                        counts[number] = counted;
                    }
                }
            });
        }
    });
    counts.into_inner().unwrap_or_default().into_iter().collect()
}

fn table(changes: &[(&str, Change)]) -> Table {
    let mut table = Table::new(&["one operation", "instructions", "baseline", "change", ""]);
    for (name, change) in changes {
        let verdict = match change.verdict() {
            Verdict::Same => "",
            Verdict::Fewer => "fewer",
            Verdict::More => "MORE",
            Verdict::New => "new",
        };
        table.row(vec![
            (*name).into(),
            format!("{:.1}", change.now),
            change.before.map_or("–".into(), |before| format!("{before:.1}")),
            change
                .growth()
                .map_or("–".into(), |growth| format!("{:+.1} %", growth * 100.0)),
            verdict.into(),
        ]);
    }
    table
}

fn judge(changes: &[(&str, Change)]) -> ExitCode {
    let having = |verdict: Verdict| {
        changes
            .iter()
            .filter(|(_, change)| change.verdict() == verdict)
            .count()
    };
    if having(Verdict::Fewer) > 0 {
        println!("some take fewer instructions: `-- --update` makes that the baseline");
    }
    let failed = having(Verdict::More) + having(Verdict::New);
    if failed == 0 {
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "instructions: {failed} of {} are new or have grown by more than {:.0} %. Make them cheaper, or run with `-- --update` and say \
         in the commit why they cost more",
        changes.len(),
        GROWTH_MAX * 100.0
    );
    ExitCode::FAILURE
}

/// The compiler's own words for its version.
fn rustc() -> String {
    let program = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    match Command::new(program).arg("--version").output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(_) => "an unknown compiler".into(),
    }
}
