//! Counting: this program again, for one case, under callgrind.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use super::{Case, REPEATS};

/// The argument before a case's name by which this program runs just that case.
pub const RUN_ONE: &str = "--run-one";

/// A case could not be counted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CountError {
    /// There is no valgrind.
    #[error("valgrind is not installed: `apt-get install valgrind`")]
    NoValgrind,
    /// It could not be started.
    #[error("cannot run valgrind: {0}")]
    Start(#[from] io::Error),
    /// It, or the case, failed.
    #[error("valgrind ended with {status}: {message}")]
    Failed {
        /// How it ended.
        status: std::process::ExitStatus,
        /// The last it said.
        message: String,
    },
    /// It counted nothing.
    #[error(
        "callgrind counted nothing for `{0}`: `counted_stretch` is not in the program's symbols; it must not be stripped or inlined"
    )]
    Nothing(&'static str),
}

/// Valgrind's version.
///
/// # Errors
/// When there is none.
pub fn version() -> Result<String, CountError> {
    let output = match Command::new("valgrind").arg("--version").output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(CountError::NoValgrind),
        Err(error) => return Err(error.into()),
    };
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Instructions of one operation of `case`. The file `scratch` is overwritten and removed.
///
/// # Errors
/// [`CountError`], with what to do.
pub fn count(case: &'static Case, scratch: &Path) -> Result<f64, CountError> {
    let mut out_file = std::ffi::OsString::from("--callgrind-out-file=");
    out_file.push(scratch);
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*counted_stretch*"])
        // Nothing that the host's settings could change; what is not asked for is not read.
        .args(["--quiet", "--read-inline-info=no", "--dump-line=no"])
        .arg(out_file)
        .arg(std::env::current_exe()?)
        .args([RUN_ONE, case.name])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let message = said.lines().rev().take(3).collect::<Vec<_>>().join(" / ");
        return Err(CountError::Failed {
            status: output.status,
            message,
        });
    }
    let text = fs::read_to_string(scratch)?;
    fs::remove_file(scratch)?;
    match total(&text) {
        None | Some(0) => Err(CountError::Nothing(case.name)),
        Some(total) => Ok(total as f64 / (u64::from(REPEATS) * case.operations) as f64),
    }
}

/// The sum line of callgrind's output (callgrind format specification: `totals:` or, for partial files, `summary:`).
fn total(text: &str) -> Option<u64> {
    let mut lines = text.lines();
    let number = |line: &str| {
        let rest = line.strip_prefix("totals:").or(line.strip_prefix("summary:"))?;
        rest.split_whitespace().next()?.parse().ok()
    };
    lines.find_map(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_found() {
        let text = "# callgrind format\nversion: 1\nevents: Ir\nfn=(1) main\n1 5\ntotals: 1234\n";
        assert_eq!(total(text), Some(1234));
        assert_eq!(total("events: Ir\n"), None);
    }
}
