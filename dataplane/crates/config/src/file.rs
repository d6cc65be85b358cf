//! The configuration file.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::value::Value;
use super::{Config, ConfigError};

impl Config {
    /// Sets what a TOML file says on top of what is set. Nothing is set where anything is wrong.
    ///
    /// # Errors
    /// [`ConfigError`] with file and line.
    pub fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        *self = self.clone().with_text(&text, path)?;
        Ok(())
    }

    pub(super) fn with_text(mut self, text: &str, path: &Path) -> Result<Config, ConfigError> {
        let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            message: error.to_string(),
        })?;
        self.set_table(table.get_ref(), "", text, path)?;
        Ok(self)
    }

    fn set_table(
        &mut self,
        table: &DeTable<'_>,
        section: &str,
        text: &str,
        path: &Path,
    ) -> Result<(), ConfigError> {
        for (name, value) in table {
            let key = if section.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{section}.{}", name.get_ref())
            };
            match value.get_ref() {
                DeValue::Table(inner) => self.set_table(inner, &key, text, path)?,
                _ => {
                    let line = text[..name.span().start].lines().count().max(1)
                        + usize::from(text[..name.span().start].ends_with('\n'));
                    let place = format!("{}:{line}", path.display());
                    self.set(&key, &plain(value, &place, &key)?, &place)?;
                }
            }
        }
        Ok(())
    }
}

fn plain(value: &Spanned<DeValue<'_>>, place: &str, key: &str) -> Result<Value, ConfigError> {
    match value.get_ref() {
        DeValue::String(text) => Ok(Value::Text(text.to_string())),
        DeValue::Boolean(flag) => Ok(Value::Flag(*flag)),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(Value::Number)
            .map_err(|_| unfit(place, key, "a number this large is not allowed")),
        DeValue::Array(items) => items
            .iter()
            .map(|item| plain(item, place, key))
            .collect::<Result<_, _>>()
            .map(Value::List),
        _ => Err(unfit(
            place,
            key,
            "strings, whole numbers, true, false and lists are allowed",
        )),
    }
}

fn unfit(place: &str, key: &str, allowed: &str) -> ConfigError {
    ConfigError::Value {
        place: place.to_owned(),
        key: key.to_owned(),
        value: "this".to_owned(),
        allowed: allowed.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn read(text: &str) -> Result<Config, ConfigError> {
        Config::default().with_text(text, Path::new("test.toml"))
    }

    #[test]
    fn sections_and_keys_are_read() {
        let config = read("node = \"n1\"\n[cores]\nlist = [1]\nspin_us = 7\n[limits]\nstreams_max = 9\n")
            .expect("valid");
        assert_eq!(
            (config.node.as_str(), config.spin),
            ("n1", Duration::from_micros(7))
        );
        assert_eq!(config.limits.streams_max, 9);
    }

    #[test]
    fn errors_name_file_line_and_key() {
        let error = read("node = \"n1\"\n[cores]\nspin = 7\n")
            .expect_err("unknown")
            .to_string();
        assert!(
            error.starts_with("test.toml:3: there is no key `cores.spin`; did you mean `cores.spin_us`?"),
            "{error}"
        );
        let error = read("\n\ndrain_ms = \"soon\"\n").expect_err("type").to_string();
        assert!(
            error.starts_with("test.toml:3: `drain_ms` cannot be \"soon\": a whole number"),
            "{error}"
        );
        assert!(matches!(read("node = "), Err(ConfigError::Syntax { .. })));
    }
}
