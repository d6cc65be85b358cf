//! Names of agents, services and capabilities (DESIGN §4).

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::{PATH_BYTES_MAX, SEGMENT_BYTES_MAX};

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameError {
    /// Empty where something must stand.
    #[error("it is empty")]
    Empty,
    /// Longer than a name may be.
    #[error("it has {bytes} bytes; at most {max} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The wrong number of segments.
    #[error("it has {found} segments; write {wanted}")]
    Segments {
        /// How many there are.
        found: usize,
        /// The form it must have.
        wanted: &'static str,
    },
    /// Two slashes in a row, or one at either end.
    #[error("a segment is empty; remove the leading, trailing or doubled '/'")]
    EmptySegment,
    /// One segment too long.
    #[error("a segment has {bytes} bytes; at most {SEGMENT_BYTES_MAX} are allowed")]
    SegmentTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A character that names cannot have.
    #[error("it holds {character:?}; '/', '*' and control characters are not allowed in a segment")]
    Character {
        /// The offender.
        character: char,
    },
}

/// The name of an agent: `organization/namespace/service/instance`, valid by construction.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentName {
    text: Arc<str>,
    service_end: u16,
}

impl AgentName {
    /// Checks and copies a name.
    ///
    /// # Errors
    /// [`NameError`] says which rule it breaks.
    pub fn new(text: &str) -> Result<Self, NameError> {
        segments(text, 4, "organization/namespace/service/instance")?;
        let service_end = text.rfind('/').unwrap_or(0);
        Ok(Self {
            text: text.into(),
            // PATH_BYTES_MAX was checked, so the position fits.
            service_end: service_end as u16,
        })
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The whole name, shared.
    pub fn shared(&self) -> &Arc<str> {
        &self.text
    }

    /// `organization/namespace/service`: what its instances have in common.
    pub fn service(&self) -> &str {
        &self.text[..usize::from(self.service_end)]
    }

    /// The last segment.
    pub fn instance(&self) -> &str {
        &self.text[usize::from(self.service_end) + 1..]
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AgentName({:?})", self.text)
    }
}

/// Checks the name of a service, `organization/namespace/service`.
///
/// # Errors
/// [`NameError`] says which rule it breaks.
pub fn service(text: &str) -> Result<(), NameError> {
    segments(text, 3, "organization/namespace/service")
}

/// Checks the name of a capability: one segment.
///
/// # Errors
/// [`NameError`] says which rule it breaks.
pub fn capability(text: &str) -> Result<(), NameError> {
    segment(text)
}

/// Checks a label: a key of one segment and a value of at most [`PATH_BYTES_MAX`] bytes without control characters.
///
/// # Errors
/// [`NameError`] says which rule it breaks.
pub fn label(key: &str, value: &str) -> Result<(), NameError> {
    if key.is_empty() {
        return Err(NameError::Empty);
    }
    if key.len() > SEGMENT_BYTES_MAX {
        return Err(NameError::SegmentTooLong { bytes: key.len() });
    }
    if value.len() > PATH_BYTES_MAX {
        return Err(NameError::TooLong {
            bytes: value.len(),
            max: PATH_BYTES_MAX,
        });
    }
    match key.chars().chain(value.chars()).find(|c| c.is_control()) {
        Some(character) => Err(NameError::Character { character }),
        None => Ok(()),
    }
}

fn segments(text: &str, count: usize, wanted: &'static str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > PATH_BYTES_MAX {
        return Err(NameError::TooLong {
            bytes: text.len(),
            max: PATH_BYTES_MAX,
        });
    }
    let mut found = 0;
    for part in text.split('/') {
        segment(part).map_err(|error| match error {
            NameError::Empty => NameError::EmptySegment,
            other => other,
        })?;
        found += 1;
    }
    if found != count {
        return Err(NameError::Segments { found, wanted });
    }
    Ok(())
}

fn segment(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > SEGMENT_BYTES_MAX {
        return Err(NameError::SegmentTooLong { bytes: text.len() });
    }
    match text.chars().find(|&c| c == '/' || c == '*' || c.is_control()) {
        Some(character) => Err(NameError::Character { character }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_four_segments() {
        let name = AgentName::new("acme/demo/weather/1").expect("valid");
        assert_eq!((name.service(), name.instance()), ("acme/demo/weather", "1"));
        for (text, wanted) in [
            ("", NameError::Empty),
            ("a//c/d", NameError::EmptySegment),
            ("/a/b/c", NameError::EmptySegment),
        ] {
            assert_eq!(AgentName::new(text), Err(wanted), "{text:?}");
        }
        assert!(matches!(
            AgentName::new("a/b/c"),
            Err(NameError::Segments { found: 3, .. })
        ));
        assert!(matches!(
            AgentName::new("a/b/c/*"),
            Err(NameError::Character { character: '*' })
        ));
        assert!(matches!(
            AgentName::new("a/b/c/d\u{7}"),
            Err(NameError::Character { .. })
        ));
        let long = "x".repeat(256);
        assert!(matches!(
            AgentName::new(&format!("a/b/c/{long}")),
            Err(NameError::SegmentTooLong { bytes: 256 })
        ));
        let whole = ["y".repeat(255), "y".repeat(255), "y".repeat(255), "y".repeat(255)].join("/");
        assert!(AgentName::new(&whole).is_ok(), "4 * 255 + 3 = 1023 bytes fit");
    }

    #[test]
    fn services_capabilities_and_labels() {
        assert!(service("acme/demo/weather").is_ok());
        assert!(service("acme/demo").is_err());
        assert!(capability("weather.forecast").is_ok());
        assert!(capability("a/b").is_err());
        assert!(label("zone", "").is_ok());
        assert!(label("", "x").is_err());
        assert!(label("zone", "a\nb").is_err());
    }
}
