//! The numbers that are expected, and what is said of others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

/// The share by which a count may grow. Another version of the compiler or of libc moves counts by a percent or two; a change of ours
/// that costs more than this is made on purpose, or not at all.
pub const GROWTH_MAX: f64 = 0.05;

/// The contents of `benches/instructions.json`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Baseline {
    /// For the reader of the file.
    pub about: String,
    /// The compiler that made the program which was counted.
    pub rustc: String,
    /// Instructions of one operation, by the case's name.
    pub instructions: BTreeMap<String, f64>,
}

/// How a count compares with what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Within the bound.
    Same,
    /// Lower by more than the bound: worth a new baseline.
    Fewer,
    /// Higher by more than the bound.
    More,
    /// The baseline does not know it.
    New,
}

/// A count beside what was expected.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// What was expected.
    pub before: Option<f64>,
    /// What was counted.
    pub now: f64,
}

impl Change {
    /// What it means.
    pub fn verdict(self) -> Verdict {
        match self.growth() {
            None => Verdict::New,
            Some(growth) if growth > GROWTH_MAX => Verdict::More,
            Some(growth) if growth < -GROWTH_MAX => Verdict::Fewer,
            Some(_) => Verdict::Same,
        }
    }

    /// The share by which it grew.
    pub fn growth(self) -> Option<f64> {
        Some(self.now / self.before? - 1.0)
    }
}

impl Baseline {
    /// Where it is.
    pub fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json")
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it cannot be read, or is none.
    pub fn read() -> io::Result<Baseline> {
        let text = fs::read_to_string(Baseline::path())?;
        serde_json::from_str(&text).map_err(io::Error::from)
    }

    /// Writes it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        fs::write(Baseline::path(), text)
    }

    /// A count beside what this expects.
    pub fn change(&self, name: &str, now: f64) -> Change {
        Change {
            before: self.instructions.get(name).copied(),
            now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_beyond_the_bound_is_told_from_noise() {
        let mut baseline = Baseline::default();
        baseline.instructions.insert("a".into(), 100.0);
        assert_eq!(baseline.change("a", 104.0).verdict(), Verdict::Same);
        assert_eq!(baseline.change("a", 106.0).verdict(), Verdict::More);
        assert_eq!(baseline.change("a", 94.0).verdict(), Verdict::Fewer);
        assert_eq!(baseline.change("b", 94.0).verdict(), Verdict::New);
    }
}
