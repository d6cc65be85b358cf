//! Reading small files below a root.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A tree that holds `proc` and `sys`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tree<'a>(pub(crate) &'a Path);

impl Tree<'_> {
    /// The contents of a file without surrounding white space; `None` when it is not there or not readable.
    pub(crate) fn text(self, path: impl AsRef<Path>) -> Option<String> {
        let text = fs::read_to_string(self.0.join(path)).ok()?;
        Some(text.trim().to_owned())
    }

    /// A file that holds one value.
    pub(crate) fn value<T: FromStr>(self, path: impl AsRef<Path>) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    /// Names in a folder that begin with `prefix` and go on with a number, in the order of the numbers.
    pub(crate) fn numbered(self, folder: impl AsRef<Path>, prefix: &str) -> Vec<(usize, PathBuf)> {
        let mut found: Vec<(usize, PathBuf)> = self
            .names(&folder)
            .into_iter()
            .filter_map(|name| {
                let number = name.strip_prefix(prefix)?.parse().ok()?;
                Some((number, folder.as_ref().join(name)))
            })
            .collect();
        found.sort();
        found
    }

    /// Names in a folder, in order.
    pub(crate) fn names(self, folder: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.0.join(folder)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// Whether there is such a file or folder.
    pub(crate) fn has(self, path: impl AsRef<Path>) -> bool {
        self.0.join(path).exists()
    }
}
