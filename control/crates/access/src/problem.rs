//! What is wrong with a policy text, and where.

use std::fmt;

use miette::Diagnostic;

/// Something wrong in a policy text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Line, from 1.
    pub line: u32,
    /// Character in the line, from 1.
    pub column: u32,
    /// `@id` of the policy, or `policyN` for the N-th (from 0) without one; empty where no policy could be read.
    pub policy: String,
    /// What is wrong and what is expected.
    pub message: String,
    /// Whether the text is refused for it; otherwise it is likely a mistake.
    pub fatal: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.fatal {
            f.write_str("warning: ")?;
        }
        if !self.policy.is_empty() {
            write!(f, "policy `{}`: ", self.policy)?;
        }
        f.write_str(&self.message)
    }
}

impl Problem {
    /// One that stands at a byte of `text`.
    pub(crate) fn at(text: &str, offset: usize, policy: &str, message: String) -> Self {
        let (line, column) = position(text, offset);
        Self {
            line,
            column,
            policy: policy.to_owned(),
            message,
            fatal: true,
        }
    }

    /// One that Cedar found. Its message says what is wrong; label and help, what was expected.
    pub(crate) fn of_cedar(text: &str, policy: &str, found: &dyn Diagnostic, start: usize) -> Self {
        let mut message = found.to_string();
        let mut offset = start;
        if let Some(label) = found.labels().and_then(|mut labels| labels.next()) {
            offset = label.offset();
            if let Some(expected) = label.label() {
                message.push_str("; ");
                message.push_str(expected);
            }
        }
        if let Some(help) = found.help() {
            message.push_str("; ");
            message.push_str(&help.to_string());
        }
        // The policy has its own field.
        let stripped = message
            .strip_prefix(&format!("for policy `{policy}`, "))
            .map(str::to_owned);
        Self::at(text, offset, policy, stripped.unwrap_or(message))
    }
}

fn position(text: &str, offset: usize) -> (u32, u32) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    // POLICY_TEXT_BYTES_MAX keeps both far below 2^32.
    let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
    let column = before[line_start..].chars().count() + 1;
    (line as u32, column as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_in_characters() {
        assert_eq!(position("abc", 0), (1, 1));
        assert_eq!(position("ab\nüc", 5), (2, 2));
        assert_eq!(position("a\n", 2), (2, 1));
        assert_eq!(position("a", 9), (1, 2), "past the end is the end");
    }
}
