//! Topic patterns, matched locally: a Notify names its topic, not the subscription it is for.

/// Whether `topic` matches `pattern`: segments between `/`; `*` is any one segment, a final `**` any tail of at least one.
pub(crate) fn matches(pattern: &str, topic: &str) -> bool {
    let mut topic = topic.split('/');
    let mut pattern = pattern.split('/').peekable();
    while let Some(segment) = pattern.next() {
        match (segment, topic.next()) {
            (_, None) => return false,
            ("**", Some(_)) if pattern.peek().is_none() => return true,
            ("*", Some(_)) => {}
            (expected, Some(found)) if expected == found => {}
            _ => return false,
        }
    }
    topic.next().is_none()
}

/// Whether a pattern can match more than one topic.
pub(crate) fn is_wild(pattern: &str) -> bool {
    pattern
        .split('/')
        .any(|segment| segment == "*" || segment == "**")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_wildcards_and_tails() {
        for (pattern, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", false),
            ("a/b/c", "a/b", false),
            ("a/*", "a/b", true),
            ("*/b", "a/b", true),
            ("a/*", "a", false),
            ("a/*", "a/b/c", false),
            ("a/**", "a/b/c", true),
            ("a/**", "a/b", true),
            ("a/**", "a", false),
            ("**", "a", true),
            ("a/*/c/**", "a/b/c/d/e", true),
            ("a/*/c/**", "a/b/x/d", false),
        ] {
            assert_eq!(matches(pattern, topic), expected, "{pattern} {topic}");
        }
        assert!(is_wild("a/*") && is_wild("**") && !is_wild("a/b*"));
    }
}
