//! Hardening of the process.

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, set_dumpable_behavior, umask};

/// Makes what this process writes its owner's alone, and keeps its memory, where the issuing key is, out of core dumps and from
/// other processes of the same user. Called before anything else.
///
/// # Errors
/// What the system said.
pub fn harden() -> std::io::Result<()> {
    umask(Mode::from_raw_mode(0o077));
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}
