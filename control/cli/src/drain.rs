//! `ringgate drain`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::session::STATE;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Process id of the data plane. Else the one of `ringgate up` in this folder.
    #[arg(long)]
    pid: Option<i32>,
}

/// Asks the data plane to end, and returns when it has.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let number = match arguments.pid {
        Some(pid) => pid,
        None => started(&Path::new(STATE).join("dataplane.pid"))?,
    };
    let pid = Pid::from_raw(number).ok_or_else(|| anyhow!("{number} is no process id"))?;
    // By a descriptor: the number may be another process's by the time it is signalled.
    let process =
        pidfd_open(pid, PidfdFlags::empty()).with_context(|| format!("there is no process {number}"))?;
    pidfd_send_signal(&process, Signal::TERM).with_context(|| format!("cannot signal process {number}"))?;
    // Readable once the process has ended.
    poll(&mut [PollFd::new(&process, PollFlags::IN)], None).context("cannot wait for its end")?;
    println!("process {number} has ended");
    Ok(())
}

fn started(file: &PathBuf) -> Result<i32> {
    let text = std::fs::read_to_string(file).with_context(|| {
        format!(
            "no data plane was started here ({}): give --pid PID",
            file.display()
        )
    })?;
    text.trim()
        .parse()
        .with_context(|| format!("{} holds no process id", file.display()))
}
