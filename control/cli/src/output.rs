//! What commands print: one listing, as a table or as JSON.

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How to print.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) json: bool,
}

impl Output {
    /// Prints rows under these columns: a table, or a JSON array of objects.
    pub(crate) fn list(self, columns: &[&str], rows: Vec<Vec<Value>>) {
        if self.json {
            let object = |row: Vec<Value>| {
                let names = columns.iter().map(|column| column.replace(' ', "_"));
                Value::Object(names.zip(row).collect())
            };
            println!("{:#}", Value::Array(rows.into_iter().map(object).collect()));
            return;
        }
        if rows.is_empty() {
            println!("none");
            return;
        }
        let mut table = Table::new();
        table
            .load_style(NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(columns.iter().map(|column| column.to_uppercase()));
        for row in rows {
            table.add_row(row.iter().map(plain));
        }
        println!("{}", table.trim_fmt());
    }

    /// Prints one thing: its fields line by line, or a JSON object.
    pub(crate) fn one(self, fields: Vec<(&str, Value)>) {
        if self.json {
            let object: Map<_, _> = fields
                .into_iter()
                .map(|(name, value)| (name.replace(' ', "_"), value))
                .collect();
            println!("{:#}", Value::Object(object));
            return;
        }
        let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in fields {
            println!("{name:width$}  {}", plain(&value));
        }
    }
}

/// A value as people read it.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| format!("{name}={}", plain(value)))
            .collect::<Vec<_>>()
            .join(", "),
        other => other.to_string(),
    }
}

/// A moment (seconds since 1970) as RFC 3339; 0 is none.
pub(crate) fn moment(unix: i64) -> Value {
    if unix == 0 {
        return Value::Null;
    }
    OffsetDateTime::from_unix_timestamp(unix)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .map_or(Value::Null, Value::String)
}
