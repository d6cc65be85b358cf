//! What it costs where a server and its client are: on the same CPU, the same core, the same cache, or far from each other.

use std::fmt;
use std::time::Duration;

use ringgate_machine::{Cpu, Machine};

use crate::compare::{Comparison, Reference, Shape};
use crate::peers::{Contender, Options, Peer};
use crate::report::{Report, View};
use crate::work::{Bounds, Pace};
use crate::{Error, machine};

/// Time before each measurement.
const WARM_UP: Duration = Duration::from_millis(300);

/// How two CPUs are related, nearest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nearness {
    /// They are the same.
    SameCpu,
    /// They are hardware threads of one core.
    SameCore,
    /// They share the last-level cache.
    SameCache,
    /// They share the memory node.
    SameNode,
    /// They share nothing.
    Far,
}

impl Nearness {
    fn of(one: &Cpu, other: &Cpu) -> Nearness {
        match () {
            () if one.id == other.id => Nearness::SameCpu,
            () if one.siblings.contains(other.id) => Nearness::SameCore,
            () if one.cache.contains(other.id) => Nearness::SameCache,
            () if one.node == other.node => Nearness::SameNode,
            () => Nearness::Far,
        }
    }
}

impl fmt::Display for Nearness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Nearness::SameCpu => "same CPU",
            Nearness::SameCore => "same core",
            Nearness::SameCache => "same cache",
            Nearness::SameNode => "same node",
            Nearness::Far => "other node",
        })
    }
}

/// Where the server and the load are put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// How they are related.
    pub nearness: Nearness,
    /// The server's CPU.
    pub server: usize,
    /// The load's.
    pub load: usize,
}

/// One choice for each relation that the machine's allowed CPUs have.
pub fn choices(machine: &Machine) -> Vec<Choice> {
    let allowed = |cpu: &&Cpu| machine.process.allowed.is_empty() || machine.process.allowed.contains(cpu.id);
    let cpus: Vec<&Cpu> = machine.topology.cpus.iter().filter(allowed).collect();
    let Some(first) = cpus.first() else {
        return Vec::new();
    };
    let mut choices: Vec<Choice> = Vec::new();
    for cpu in &cpus {
        let nearness = Nearness::of(first, cpu);
        if !choices.iter().any(|choice| choice.nearness == nearness) {
            choices.push(Choice {
                nearness,
                server: first.id,
                load: cpu.id,
            });
        }
    }
    choices.sort_by_key(|choice| choice.nearness as u8);
    choices
}

/// Tries all choices.
#[derive(Debug, Clone)]
pub struct Measurement {
    /// The choices.
    pub choices: Vec<Choice>,
    /// How long each is measured.
    pub duration: Duration,
    /// How often.
    pub repetitions: usize,
    /// How servers are started.
    pub options: Options,
}

impl Measurement {
    /// Runs it: one request in flight against the gateway and the raw relay, sleeping and spinning. `progress` gets a line for each
    /// run. The calling thread is on the last choice's CPU afterwards.
    ///
    /// # Errors
    /// When a CPU is not allowed any more.
    pub fn run(&self, mut progress: impl FnMut(&str)) -> Result<Report, Error> {
        let mut all = Report {
            view: View::Latency,
            ..Report::new(Vec::new(), Vec::new())
        };
        for choice in &self.choices {
            machine::pin(choice.load)?;
            // Two that never sleep, on one CPU, would only take turns at the scheduler's pace.
            let shared = choice.nearness == Nearness::SameCpu;
            let modes: &[bool] = if shared { &[false] } else { &[false, true] };
            let contenders = modes.iter().flat_map(|spin| {
                [Peer::RelayUring, Peer::Ringgate].map(|peer| Contender::new(peer, choice.server, *spin))
            });
            let comparison = Comparison {
                contenders: contenders.collect(),
                shapes: vec![Shape::Request {
                    payload_bytes: 256,
                    pace: Pace::Window(1),
                }],
                repetitions: self.repetitions,
                bounds: Bounds {
                    warmup: WARM_UP,
                    duration: self.duration,
                    messages_max: u64::MAX,
                },
                options: self.options.clone(),
                load_spins: !shared,
                view: View::Latency,
                reference: Reference::Relay,
            };
            let place = format!("{}, CPU {} and {}", choice.nearness, choice.server, choice.load);
            let mut report = comparison.run(|line| progress(&format!("{place}: {line}")));
            for summary in &mut report.results {
                summary.work.clone_from(&place);
            }
            all.results.append(&mut report.results);
            all.missing.append(&mut report.missing);
        }
        all.missing.dedup();
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_cpu_to_be_alone_on() {
        let machine = Machine::read(std::path::Path::new("/"));
        let choices = choices(&machine);
        assert_eq!(choices[0].nearness, Nearness::SameCpu);
        assert!(
            choices
                .windows(2)
                .all(|pair| (pair[0].nearness as u8) < pair[1].nearness as u8)
        );
    }
}
