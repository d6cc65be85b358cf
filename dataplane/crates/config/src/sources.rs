//! Where settings come from, to be read again when one of the sources changes.

use std::path::{Path, PathBuf};

use super::{Config, ConfigError};

/// The sources of a node's settings. Each is set on top of the ones before: defaults, what the control process tells, the file,
/// the command line. So what is said on the node itself has the last word.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// The command line's `key=value` settings, in order.
    pub arguments: Vec<String>,
}

impl Sources {
    /// Reads all of them, with what the control process tells as TOML, and checks the whole.
    ///
    /// # Errors
    /// The first thing wrong, with its place.
    pub fn read(&self, told: Option<&str>) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        if let Some(text) = told {
            config = config.with_text(text, Path::new("the control process's configuration"))?;
        }
        if let Some(path) = &self.file {
            config.read_file(path)?;
        }
        self.arguments
            .iter()
            .try_for_each(|argument| config.set_argument(argument))?;
        config.check()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Change;

    fn sources(arguments: &[&str]) -> Sources {
        let arguments = [&["profile=development"], arguments].concat();
        Sources {
            file: None,
            arguments: arguments.into_iter().map(str::to_owned).collect(),
        }
    }

    #[test]
    fn the_node_has_the_last_word() {
        let told = "drain_ms = 7\n[limits]\nstreams_max = 8\n";
        let config = sources(&["limits.streams_max=9"])
            .read(Some(told))
            .expect("valid");
        assert_eq!((config.drain.as_millis(), config.limits.streams_max), (7, 9));
    }

    #[test]
    fn changes_are_named_with_whether_they_reload() {
        let sources = sources(&[]);
        let before = sources.read(None).expect("valid");
        let told = "drain_ms = 7\n[cores]\nspin_us = 1\n[limits]\nstreams_max = 8\n";
        let after = sources.read(Some(told)).expect("valid");
        let change = |key: &str, reload| Change {
            key: key.to_owned(),
            reload,
        };
        let expected = [
            change("drain_ms", true),
            change("cores.spin_us", false),
            change("limits.streams_max", true),
        ];
        assert_eq!(before.changes(&after), expected);
    }

    #[test]
    fn what_the_control_process_tells_wrong_is_named() {
        let error = sources(&[])
            .read(Some("\n[cores]\nspin = 1\n"))
            .expect_err("no such key")
            .to_string();
        assert!(
            error.starts_with("the control process's configuration:3: there is no key `cores.spin`"),
            "{error}"
        );
    }

    #[test]
    fn strict_needs_somebody_to_trust() {
        for (arguments, named) in [
            (&["drain_ms=1"][..], "control.url"),
            (&["tls.certificate=a", "tls.key=b"], "tls.client_ca"),
            (&["control.url=http://x"], "https://"),
            (&["control.url=https://x"], "control.fingerprint"),
        ] {
            let sources = Sources {
                file: None,
                arguments: arguments.iter().map(|&text| text.to_owned()).collect(),
            };
            let error = sources.read(None).expect_err("not enough").to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
