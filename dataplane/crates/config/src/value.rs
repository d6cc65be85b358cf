//! Values of keys, wherever they come from.

use std::fmt;

/// A value as file or command line give it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// A string.
    Text(String),
    /// A whole number.
    Number(i64),
    /// `true` or `false`.
    Flag(bool),
    /// A list.
    List(Vec<Value>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => write!(f, "{text:?}"),
            Value::Number(number) => number.fmt(f),
            Value::Flag(flag) => flag.fmt(f),
            Value::List(values) => {
                f.write_str("[")?;
                for (index, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if index > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
        }
    }
}

impl Value {
    /// A value given on the command line: a number, `true`, `false`, a list in brackets, or else text.
    pub(crate) fn from_argument(text: &str) -> Value {
        if let Some(list) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let items = list.split(',').map(str::trim).filter(|item| !item.is_empty());
            return Value::List(items.map(Value::from_argument).collect());
        }
        match text {
            "true" => Value::Flag(true),
            "false" => Value::Flag(false),
            _ => text
                .parse()
                .map_or_else(|_| Value::Text(text.trim_matches('"').to_owned()), Value::Number),
        }
    }

    pub(crate) fn number(&self, min: u64, max: u64) -> Result<u64, String> {
        match self {
            Value::Number(number) if u64::try_from(*number).is_ok_and(|n| (min..=max).contains(&n)) => {
                Ok(*number as u64)
            }
            _ => Err(format!("a whole number from {min} to {max} is allowed")),
        }
    }

    pub(crate) fn flag(&self) -> Result<bool, String> {
        match self {
            Value::Flag(flag) => Ok(*flag),
            _ => Err("true and false are allowed".to_owned()),
        }
    }

    /// A list of strings; a string alone is a list of one, an empty one of none.
    pub(crate) fn texts(&self) -> Result<Vec<String>, String> {
        let allowed = |_| "a list of strings is allowed".to_owned();
        match self {
            Value::List(items) => items
                .iter()
                .map(|item| item.text().map(str::to_owned).map_err(allowed))
                .collect(),
            one => match one.text().map_err(allowed)? {
                "" => Ok(Vec::new()),
                text => Ok(vec![text.to_owned()]),
            },
        }
    }

    pub(crate) fn text(&self) -> Result<&str, String> {
        match self {
            Value::Text(text) => Ok(text),
            _ => Err("a string is allowed".to_owned()),
        }
    }
}
