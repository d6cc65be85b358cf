//! The query of a URL.

use std::collections::HashMap;

use percent_encoding::percent_decode_str;

/// Names and values; the last of equal names counts.
#[derive(Debug, Default)]
pub(super) struct Query(HashMap<String, String>);

impl Query {
    pub(super) fn parse(text: &str) -> Query {
        let decoded = |part: &str| {
            percent_decode_str(&part.replace('+', " "))
                .decode_utf8_lossy()
                .into_owned()
        };
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        Query(
            pairs
                .map(|(name, value)| (decoded(name), decoded(value)))
                .collect(),
        )
    }

    /// A value; empty where it is not given.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// A number; `None` where it is none.
    pub(super) fn number(&self, name: &str) -> Option<usize> {
        self.0.get(name)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded() {
        let query = Query::parse("agent=a%2Fb%20c+d&limit=7&limit=8&bad&offset=x");
        assert_eq!(
            (query.text("agent"), query.number("limit"), query.number("offset")),
            ("a/b c d", Some(8), None)
        );
        assert_eq!(query.text("bad"), "");
    }
}
