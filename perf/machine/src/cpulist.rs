//! Sets of CPUs as the kernel writes them.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// The highest CPU number believed (the kernel's `NR_CPUS` is at most 8192): what is above it is not a list of CPUs.
const CPU_MAX: usize = 8191;

/// A set of CPUs. Reads and writes the kernel's list format, as in `0-3,8`; what does not belong into a list is passed over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuList(BTreeSet<usize>);

impl CpuList {
    /// The CPUs, in order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().copied()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `cpu` is one of them.
    pub fn contains(&self, cpu: usize) -> bool {
        self.0.contains(&cpu)
    }

    /// The lowest.
    pub fn first(&self) -> Option<usize> {
        self.0.first().copied()
    }
}

impl FromIterator<usize> for CpuList {
    fn from_iter<I: IntoIterator<Item = usize>>(cpus: I) -> CpuList {
        CpuList(cpus.into_iter().collect())
    }
}

impl FromStr for CpuList {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<CpuList, Infallible> {
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            (last <= CPU_MAX).then_some(first..=last)
        };
        Ok(text.split(',').filter_map(range).flatten().collect())
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut separator = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if_eq(&(last + 1)) {
                last = next;
            }
            match last - first {
                0 => write!(f, "{separator}{first}")?,
                _ => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

impl Serialize for CpuList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> CpuList {
        let Ok(list) = text.parse();
        list
    }

    #[test]
    fn lists_are_written_as_they_are_read() {
        for text in ["", "0", "0-3", "0-1,4,6-7"] {
            assert_eq!(list(text).to_string(), text);
        }
        assert_eq!(list("0-1,4").iter().collect::<Vec<_>>(), [0, 1, 4]);
    }

    #[test]
    fn nonsense_is_passed_over() {
        assert_eq!(list("a,3,5-x,0-99999999999"), list("3"));
    }
}
