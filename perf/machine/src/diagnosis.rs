//! All of it together, for people and for programs.

use std::fmt;
use std::path::Path;

use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use ringgate_uring::RingConfig;
use serde::Serialize;

use crate::checks::{examine, preflight};
use crate::finding::{Finding, Verdict};
use crate::machine::Machine;
use crate::placement::{Placement, Wanted};

/// A machine, what is to be said of it, and where the gateway should run on it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diagnosis {
    /// The machine.
    pub machine: Machine,
    /// What the checks found.
    pub findings: Vec<Finding>,
    /// What was asked of the placement.
    pub wanted: Wanted,
    /// The placement, where there is one.
    pub placement: Option<Placement>,
    /// Why there is none.
    pub placement_error: Option<String>,
}

impl Diagnosis {
    /// Examines the present machine, rings of this `config` included.
    pub fn here(config: &RingConfig, wanted: Wanted) -> Diagnosis {
        let mut diagnosis = Diagnosis::below(Path::new("/"), wanted);
        let cores = diagnosis
            .placement
            .as_ref()
            .map_or(1, |placement| placement.data.len());
        diagnosis.findings.extend(preflight(config, cores));
        diagnosis
    }

    /// Examines the machine whose `proc` and `sys` are below `root`, without trying anything.
    pub fn below(root: &Path, wanted: Wanted) -> Diagnosis {
        let machine = Machine::read(root);
        let (placement, placement_error) = match Placement::suggest(&machine, &wanted) {
            Ok(placement) => (Some(placement), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Diagnosis {
            findings: examine(&machine),
            machine,
            wanted,
            placement,
            placement_error,
        }
    }

    /// The worst verdict.
    pub fn worst(&self) -> Verdict {
        let verdicts = self.findings.iter().map(|finding| finding.verdict);
        verdicts.max().unwrap_or(Verdict::Good)
    }

    fn cpus(&self) -> Table {
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN);
        table.set_header([
            "CPU",
            "shares core with",
            "last-level cache",
            "node",
            "allowed",
            "network interrupts",
            "use",
        ]);
        let machine = &self.machine;
        for cpu in &machine.topology.cpus {
            let placed = self.placement.as_ref().map_or("", |placement| match cpu.id {
                id if placement.data.contains(id) => "data",
                id if placement.leave.contains(id) => "leave idle",
                _ => "others",
            });
            let siblings = cpu.siblings.iter().filter(|sibling| *sibling != cpu.id);
            let allowed = machine.process.allowed.is_empty() || machine.process.allowed.contains(cpu.id);
            let devices = machine
                .network
                .iter()
                .filter(|device| device.interrupted().contains(cpu.id));
            table.add_row([
                cpu.id.to_string(),
                siblings.map(|id| id.to_string()).collect::<Vec<_>>().join(","),
                format!(
                    "CPUs {}{}",
                    cpu.cache,
                    cpu.cache_bytes
                        .map_or(String::new(), |it| format!(", {} MiB", it >> 20))
                ),
                cpu.node.to_string(),
                if allowed { "yes" } else { "no" }.to_owned(),
                devices
                    .map(|device| device.name.as_str())
                    .collect::<Vec<_>>()
                    .join(","),
                placed.to_owned(),
            ]);
        }
        table
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self
            .findings
            .iter()
            .map(|finding| finding.check.len())
            .max()
            .unwrap_or(0);
        for finding in &self.findings {
            let Finding {
                check,
                verdict,
                found,
                remedy,
            } = finding;
            writeln!(f, "{:<7}  {check:<width$}  {found}", verdict.word())?;
            if let Some(remedy) = remedy {
                writeln!(f, "{:<7}  {:<width$}  → {remedy}", "", "")?;
            }
        }
        writeln!(f, "\n{}\n", self.cpus())?;
        match (&self.placement, &self.placement_error) {
            (Some(placement), _) => {
                writeln!(f, "suggested: ringgate-dataplane {}", placement.arguments)?;
                placement
                    .reasons
                    .iter()
                    .try_for_each(|reason| writeln!(f, "  - {reason}"))
            }
            (None, Some(error)) => writeln!(f, "no placement: {error}"),
            (None, None) => Ok(()),
        }
    }
}
