//! Topics and the patterns that match them; names are matched by the same patterns (DESIGN §4).

use thiserror::Error;

use crate::{PATH_BYTES_MAX, SEGMENT_BYTES_MAX, SEGMENTS_MAX};

/// Why a topic or pattern is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PatternError {
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// Longer than allowed.
    #[error("it has {bytes} bytes; at most {PATH_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Deeper than allowed.
    #[error("it has more than {SEGMENTS_MAX} segments")]
    TooDeep,
    /// Two slashes in a row, or one at either end.
    #[error("a segment is empty; remove the leading, trailing or doubled '/'")]
    EmptySegment,
    /// One segment too long.
    #[error("a segment has {bytes} bytes; at most {SEGMENT_BYTES_MAX} are allowed")]
    SegmentTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A character that cannot stand there.
    #[error("it holds the control character {character:?}")]
    Control {
        /// The offender.
        character: char,
    },
    /// A wildcard in a topic.
    #[error("a topic takes no '*'; publish to one topic")]
    WildcardInTopic,
    /// A wildcard that is not a whole segment.
    #[error("'*' must be a whole segment")]
    PartialWildcard,
    /// `**` before the end.
    #[error("'**' may stand only as the last segment")]
    TailInside,
}

/// A valid topic: segments divided by `/`, no wildcard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic<'a>(&'a str);

impl<'a> Topic<'a> {
    /// Checks a topic.
    ///
    /// # Errors
    /// [`PatternError`] says which rule it breaks.
    pub fn new(text: &'a str) -> Result<Self, PatternError> {
        check(text, |segment, _| match segment.contains('*') {
            true => Err(PatternError::WildcardInTopic),
            false => Ok(()),
        })?;
        Ok(Self(text))
    }

    /// As written.
    pub fn as_str(self) -> &'a str {
        self.0
    }
}

/// A valid pattern: `*` matches one segment, a last `**` one segment or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern<'a> {
    text: &'a str,
    exact: bool,
}

impl<'a> Pattern<'a> {
    /// Checks a pattern.
    ///
    /// # Errors
    /// [`PatternError`] says which rule it breaks.
    pub fn new(text: &'a str) -> Result<Self, PatternError> {
        let mut exact = true;
        check(text, |segment, last| {
            if !segment.contains('*') {
                return Ok(());
            }
            exact = false;
            match segment {
                "*" => Ok(()),
                "**" if last => Ok(()),
                "**" => Err(PatternError::TailInside),
                _ => Err(PatternError::PartialWildcard),
            }
        })?;
        Ok(Self { text, exact })
    }

    /// As written.
    pub fn as_str(self) -> &'a str {
        self.text
    }

    /// Whether it matches one topic only.
    pub fn is_exact(self) -> bool {
        self.exact
    }

    /// Whether `topic` (or a name, which is divided the same way) is matched.
    pub fn matches(self, topic: &str) -> bool {
        match self.exact {
            true => self.text == topic,
            false => matches(self.text, topic),
        }
    }
}

/// Whether a pattern that was checked before matches a topic or name.
pub fn matches(pattern: &str, topic: &str) -> bool {
    let mut given = topic.split('/');
    for wanted in pattern.split('/') {
        match (wanted, given.next()) {
            (_, None) => return false,
            ("**", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(found)) if wanted == found => {}
            _ => return false,
        }
    }
    given.next().is_none()
}

fn check(
    text: &str,
    mut wildcard: impl FnMut(&str, bool) -> Result<(), PatternError>,
) -> Result<(), PatternError> {
    if is_plain(text) {
        return Ok(());
    }
    if text.is_empty() {
        return Err(PatternError::Empty);
    }
    if text.len() > PATH_BYTES_MAX {
        return Err(PatternError::TooLong { bytes: text.len() });
    }
    if let Some(character) = text.chars().find(|c| c.is_control()) {
        return Err(PatternError::Control { character });
    }
    let mut parts = text.split('/').peekable();
    let mut count = 0;
    while let Some(part) = parts.next() {
        if part.is_empty() {
            return Err(PatternError::EmptySegment);
        }
        if part.len() > SEGMENT_BYTES_MAX {
            return Err(PatternError::SegmentTooLong { bytes: part.len() });
        }
        count += 1;
        if count > SEGMENTS_MAX {
            return Err(PatternError::TooDeep);
        }
        wildcard(part, parts.peek().is_none())?;
    }
    Ok(())
}

/// Whether a text is good by a look at its bytes: printable ASCII without wildcards, as nearly all are. What is not may be good too.
fn is_plain(text: &str) -> bool {
    let (mut segments, mut segment_bytes) = (1, 0);
    for byte in text.bytes() {
        match byte {
            b'/' if segment_bytes == 0 => return false,
            b'/' => (segments, segment_bytes) = (segments + 1, 0),
            b'*' => return false,
            b' '..=b'~' if segment_bytes < SEGMENT_BYTES_MAX => segment_bytes += 1,
            _ => return false,
        }
    }
    segment_bytes > 0 && segments <= SEGMENTS_MAX && text.len() <= PATH_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the look at bytes lets through is what the whole check does.
    #[test]
    fn what_is_plain_is_good() {
        let never = |_: &str, _| -> Result<(), PatternError> { Ok(()) };
        let long = |segment: usize, count: usize| vec!["x".repeat(segment); count].join("/");
        let plain = [
            "a".to_owned(),
            "a/b c/~".to_owned(),
            long(SEGMENT_BYTES_MAX, 1),
            long(1, SEGMENTS_MAX),
        ];
        for text in &plain {
            assert!(is_plain(text), "{text:?}");
        }
        for text in [
            String::new(),
            "/".to_owned(),
            "/a".to_owned(),
            "a/".to_owned(),
            "a//b".to_owned(),
            "a/\u{7f}".to_owned(),
            "a\n".to_owned(),
            long(SEGMENT_BYTES_MAX + 1, 1),
            long(1, SEGMENTS_MAX + 1),
            long(SEGMENT_BYTES_MAX, PATH_BYTES_MAX / SEGMENT_BYTES_MAX + 1),
        ] {
            assert!(!is_plain(&text), "{text:?}");
            assert!(check(&text, never).is_err(), "{text:?}");
        }
        // Good, but not by a look.
        for text in ["ü/a", "a/*", "a/**"] {
            assert!(!is_plain(text));
            assert!(check(text, never).is_ok());
        }
    }

    #[test]
    fn topics_have_no_wildcards() {
        assert!(Topic::new("a/b/c").is_ok());
        assert_eq!(Topic::new("a/*"), Err(PatternError::WildcardInTopic));
        assert_eq!(Topic::new("a/"), Err(PatternError::EmptySegment));
        assert_eq!(Topic::new("/a"), Err(PatternError::EmptySegment));
        assert_eq!(Topic::new(""), Err(PatternError::Empty));
        assert_eq!(Topic::new(&"a/".repeat(100)).err(), Some(PatternError::TooDeep));
    }

    #[test]
    fn patterns_take_whole_segment_wildcards() {
        assert_eq!(Pattern::new("a/**/b"), Err(PatternError::TailInside));
        assert_eq!(Pattern::new("a/b*"), Err(PatternError::PartialWildcard));
        assert_eq!(Pattern::new("a/***"), Err(PatternError::PartialWildcard));
        assert!(Pattern::new("*/**").is_ok());
    }

    #[test]
    fn matching() {
        let cases = [
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", false),
            ("a/*", "a/b", true),
            ("a/*", "a", false),
            ("a/*", "a/b/c", false),
            ("*/b", "a/b", true),
            ("a/**", "a", false),
            ("a/**", "a/b", true),
            ("a/**", "a/b/c/d", true),
            ("**", "a", true),
            ("*/c/**", "a/b/c", false),
        ];
        for (pattern, topic, wanted) in cases {
            let pattern = Pattern::new(pattern).expect("valid");
            assert_eq!(pattern.matches(topic), wanted, "{pattern:?} {topic}");
        }
    }
}
