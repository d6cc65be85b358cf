//! What a machine is like for a gateway: its cores and caches, what disturbs them, what the process may use, what the kernel can do.
//!
//! [`Machine::read`] reads `/proc` and `/sys` below a given root, so that a recorded tree of another machine is examined just as the
//! present one. [`checks::examine`] gives each finding a verdict and, where something can be done, the exact remedy.
//! [`Placement::suggest`] says which CPUs the gateway's data cores should get. [`Diagnosis`] is all of it, as text or JSON.
//!
//! # Invariants worth naming
//!
//! * Nothing is changed, and nothing outside the root is read, but by [`checks::preflight`], which tries the kernel's rings themselves.
//! * What cannot be read is not guessed: it is `None`, or an empty list, and its check says so or is left out.

#![forbid(unsafe_code)]

pub mod checks;
mod cpulist;
mod diagnosis;
mod finding;
mod machine;
mod network;
mod placement;
mod process;
mod topology;
mod tree;

pub use cpulist::CpuList;
pub use diagnosis::Diagnosis;
pub use finding::{Finding, Verdict};
pub use machine::Machine;
pub use network::{Interrupt, NetworkDevice};
pub use placement::{Idle, Placement, PlacementError, Wanted};
pub use process::Process;
pub use topology::{Cpu, IdleState, Topology};
