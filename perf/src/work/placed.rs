//! Which of the server's cores a connection is on.
//!
//! The kernel spreads connections over the cores' listeners by a hash of their addresses, which nobody can choose; so connections are
//! made one by one until one has come to the wanted core, and the others are given up again.

use std::net::SocketAddr;

use super::{Target, connect_all};
use crate::fleet::Fleet;
use crate::wire::{Plan, Role};
use crate::{Error, stats};

/// Where publishers and subscribers are, as the server counts its cores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Placed {
    /// Wherever they come.
    #[default]
    Anywhere,
    /// All on core 0.
    Together,
    /// Publishers on core 0, subscribers on core 1.
    Across,
}

/// Connections made for one place before it is given up. With two cores one of a million places needs more.
const TRIES_MAX: usize = 64;
/// Numbers of agents that are tried begin here, so that none is used twice.
const TRIED_FROM: usize = 10_000;

/// Brings connections to their cores.
pub(super) struct Usher {
    placed: Placed,
    stats: Option<SocketAddr>,
    tried: usize,
}

impl Usher {
    pub(super) fn new(placed: Placed, target: &Target) -> Result<Usher, Error> {
        if placed != Placed::Anywhere && target.stats.is_none() {
            return Err(Error::Unsupported {
                protocol: target.dial.protocol.name(),
                work: "connections on chosen cores: its statistics are not known",
            });
        }
        Ok(Usher {
            placed,
            stats: target.stats,
            tried: TRIED_FROM,
        })
    }

    /// Opens a connection for each plan and waits until all are ready. Returns the number of the first.
    pub(super) fn connect(
        &mut self,
        fleet: &mut Fleet,
        plans: impl Iterator<Item = Plan>,
    ) -> Result<usize, Error> {
        let Some(stats) = self.stats.filter(|_| self.placed != Placed::Anywhere) else {
            return connect_all(fleet, plans);
        };
        let first = fleet.len();
        for plan in plans {
            let core = usize::from(self.placed == Placed::Across && plan.role == Role::Subscriber);
            self.connect_on(fleet, plan, core, stats)?;
        }
        Ok(first)
    }

    fn connect_on(
        &mut self,
        fleet: &mut Fleet,
        mut plan: Plan,
        core: usize,
        stats: SocketAddr,
    ) -> Result<(), Error> {
        let mut before = stats::accepted(stats)?;
        for _ in 0..TRIES_MAX {
            plan.index = self.tried;
            self.tried += 1;
            connect_all(fleet, std::iter::once(plan.clone()))?;
            let after = stats::accepted(stats)?;
            if after.get(core) > before.get(core) {
                return Ok(());
            }
            fleet.pop();
            before = after;
        }
        Err(Error::Unplaced {
            core,
            tries: TRIES_MAX,
        })
    }
}
