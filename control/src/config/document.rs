//! One configuration: read as the data planes read it, and compared with another.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ringgate_config::{Config, ConfigError, Sources};
use ringgate_proto::control::v1::KeyChange;
use toml::{Table, Value};
use tonic::{Code, Status};

use super::DOCUMENT_BYTES_MAX;
use crate::errors::{refusal, refusal_with};

/// What each data plane says of itself, and so may not be said for all of them.
const OWN_KEYS: [&str; 2] = ["control", "node"];

/// What stands for the own settings of a data plane while a document is checked: it is attached, since it is told the document.
const ATTACHED: [&str; 2] = [
    "control.url=https://control.invalid",
    "control.fingerprint=ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];

/// How a value that is not set is told.
const DEFAULT: &str = "(default)";

/// A configuration that every data plane can take.
#[derive(Debug)]
pub(super) struct Document {
    config: Config,
    set: BTreeMap<String, String>,
}

impl Document {
    /// Reads and checks a document.
    ///
    /// # Errors
    /// `CONFIG_INVALID` with key, line and what is allowed; `TOO_LARGE`.
    pub(super) fn read(text: &str) -> Result<Document, Status> {
        if text.len() > DOCUMENT_BYTES_MAX {
            return Err(refusal(
                Code::InvalidArgument,
                "TOO_LARGE",
                format!("a configuration may have {DOCUMENT_BYTES_MAX} bytes"),
            ));
        }
        let sources = Sources {
            file: None,
            arguments: ATTACHED.map(str::to_owned).into(),
        };
        let config = sources.read(Some(text)).map_err(|error| invalid(&error))?;
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            refusal_with(Code::InvalidArgument, "CONFIG_INVALID", error.to_string(), [])
        })?;
        if let Some(key) = OWN_KEYS.into_iter().find(|key| table.contains_key(*key)) {
            return Err(refusal_with(
                Code::InvalidArgument,
                "CONFIG_INVALID",
                format!("`{key}` is for each data plane to say itself, in its own file; leave it out here"),
                [("key", key.to_owned())],
            ));
        }
        let mut set = BTreeMap::new();
        flatten(&table, "", &mut set);
        Ok(Document { config, set })
    }

    /// What is another value than in an earlier document.
    ///
    /// # Errors
    /// As [`Document::read`], of the earlier one: this version of the program knows some key no more.
    pub(super) fn changes_from(&self, earlier: &str) -> Result<Vec<KeyChange>, Status> {
        let earlier = Document::read(earlier)?;
        let value =
            |document: &Document, key: &str| document.set.get(key).map_or(DEFAULT, String::as_str).to_owned();
        let changes = earlier.config.changes(&self.config);
        Ok(changes
            .into_iter()
            .map(|change| KeyChange {
                before: value(&earlier, &change.key),
                after: value(self, &change.key),
                needs_restart: !change.reload,
                key: change.key,
            })
            .collect())
    }
}

/// Every value by the full name of its key.
fn flatten(table: &Table, section: &str, into: &mut BTreeMap<String, String>) {
    for (name, value) in table {
        let mut key = section.to_owned();
        if !section.is_empty() {
            key.push('.');
        }
        key.push_str(name);
        match value {
            Value::Table(inner) => flatten(inner, &key, into),
            value => {
                let mut text = String::new();
                // Writing to a string cannot fail.
                let _ = write!(text, "{value}");
                into.insert(key, text);
            }
        }
    }
}

fn invalid(error: &ConfigError) -> Status {
    let (place, key) = match error {
        ConfigError::UnknownKey { place, key, .. } | ConfigError::Value { place, key, .. } => {
            (place.as_str(), key.as_str())
        }
        _ => ("", ""),
    };
    // Places end in a line: `the control process's configuration:3`.
    let line = place.rsplit_once(':').map_or("", |(_, line)| line);
    refusal_with(
        Code::InvalidArgument,
        "CONFIG_INVALID",
        error.to_string(),
        [("key", key.to_owned()), ("line", line.to_owned())],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::reason_of;
    use tonic_types::StatusExt as _;

    #[test]
    fn changes_name_values_and_whether_they_reload() {
        let next =
            Document::read("drain_ms = 7\n[limits]\nstreams_max = 8\n[cores]\nspin_us = 1\n").expect("valid");
        let changes = next.changes_from("drain_ms = 9\n").expect("valid");
        let told: Vec<_> = changes
            .iter()
            .map(|change| {
                (
                    change.key.as_str(),
                    change.before.as_str(),
                    change.after.as_str(),
                    change.needs_restart,
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("drain_ms", "9", "7", false),
                ("cores.spin_us", "(default)", "1", true),
                ("limits.streams_max", "(default)", "8", false),
            ]
        );
        let back = Document::read("")
            .expect("valid")
            .changes_from("drain_ms = 9\n")
            .expect("valid");
        assert_eq!(
            (back[0].before.as_str(), back[0].after.as_str()),
            ("9", "(default)")
        );
        assert_eq!(
            next.changes_from("drain_ms = 7\n[limits]\nstreams_max = 8\n[cores]\nspin_us = 1")
                .expect("valid"),
            []
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, key, line, says) in [
            ("\n[cores]\nspin = 1\n", "cores.spin", "3", "cores.spin_us"),
            ("drain_ms = \"soon\"\n", "drain_ms", "1", "whole number"),
            ("drain_ms = \n", "", "", "1"),
            ("node = \"n\"\n", "node", "", "each data plane"),
            (
                "[control]\nurl = [\"https://x\"]\n",
                "control",
                "",
                "each data plane",
            ),
            ("profile = \"development\"\n", "", "", "development"),
        ] {
            let status = Document::read(text).expect_err(text);
            assert_eq!(
                (status.code(), reason_of(&status).as_str()),
                (Code::InvalidArgument, "CONFIG_INVALID"),
                "{text}"
            );
            assert!(status.message().contains(says), "{}", status.message());
            let about = status.get_details_error_info().expect("it has details").metadata;
            let told = |name: &str| about.get(name).map_or("", String::as_str);
            assert_eq!((told("key"), told("line")), (key, line), "{}", status.message());
        }
        let long = "#".repeat(DOCUMENT_BYTES_MAX + 1);
        assert_eq!(reason_of(&Document::read(&long).expect_err("long")), "TOO_LARGE");
    }
}
