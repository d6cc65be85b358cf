//! What a pattern with wildcards must be asked about besides itself.
//!
//! Policies see topics as a tree and compare them with the topics they name, so over all topics that a pattern matches a decision
//! can change only at, or below, a topic that some policy names. One question for each of those, and one for all the rest, is a
//! question for every topic: this is how `orders/**` is refused where `orders/secret` is forbidden.

use ringgate_policy::matches;

use crate::scene::literal_prefix;

/// A topic, or a pattern for any topic below one, that represents a part of what `pattern` matches, for each of `named` that cuts
/// such a part off.
pub(crate) fn parts<'a>(pattern: &str, named: impl Iterator<Item = &'a str>) -> Vec<Part> {
    let mut parts = Vec::new();
    for topic in named {
        if matches(pattern, topic) {
            parts.push(Part::At(topic.to_owned()));
        }
        // Above the literal prefix, all that the pattern matches is below the topic: no part is cut off.
        if !at_or_above(topic, literal_prefix(pattern)) && meets_below(pattern, topic) {
            parts.push(Part::Below(format!("{topic}/**")));
        }
    }
    parts
}

/// A part of the topics that a pattern matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// This topic.
    At(String),
    /// Those that this pattern matches.
    Below(String),
}

fn at_or_above(topic: &str, prefix: &str) -> bool {
    let rest = prefix.strip_prefix(topic);
    topic.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether the pattern matches something strictly below the topic.
fn meets_below(pattern: &str, topic: &str) -> bool {
    let mut wanted = pattern.split('/');
    for found in topic.split('/') {
        match wanted.next() {
            Some("**") => return true,
            Some("*") => {}
            Some(segment) if segment == found => {}
            _ => return false,
        }
    }
    wanted.next().is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_are_what_a_topic_cuts_off() {
        let parts = |pattern, topic: &'static str| super::parts(pattern, [topic].into_iter());
        let at = |topic: &str| Part::At(topic.to_owned());
        let below = |topic: &str| Part::Below(topic.to_owned());
        assert_eq!(
            parts("orders/**", "orders/secret"),
            [at("orders/secret"), below("orders/secret/**")]
        );
        assert_eq!(parts("orders/*", "orders/secret"), [at("orders/secret")]);
        assert_eq!(parts("*/x", "orders"), [below("orders/**")]);
        assert_eq!(parts("orders/*", "orders"), []);
        assert_eq!(parts("orders/*", ""), []);
        assert_eq!(parts("orders/eu/*", "orders"), []);
        assert_eq!(parts("orders/eu/*", "ord"), []);
        assert_eq!(parts("orders/*", "invoices"), []);
        assert_eq!(parts("*/a", "x/b"), []);
    }

    fn path(segments: &'static [&'static str]) -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(segments), 1..5).prop_map(|parts| parts.join("/"))
    }

    proptest! {
        #[test]
        fn a_matched_topic_below_a_named_one_is_met(
            pattern in path(&["a", "b", "*"]), tail in any::<bool>(), topic in path(&["a", "b"]), named in path(&["a", "b"]),
        ) {
            let pattern = if tail { format!("{pattern}/**") } else { pattern };
            let below = topic.strip_prefix(&named).is_some_and(|rest| rest.starts_with('/'));
            if matches(&pattern, &topic) && below {
                prop_assert!(meets_below(&pattern, &named), "{pattern} matches {topic}, below {named}");
            }
        }
    }
}
