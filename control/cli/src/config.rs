//! `ringgate config`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use ringgate_proto::control::v1::config_client::ConfigClient;
use ringgate_proto::control::v1::{
    ApplyConfigRequest, ApplyConfigResponse, ConfigDocument, GetConfigRequest, ListConfigHistoryRequest,
    RollbackConfigRequest,
};
use serde_json::{Value, json};

use crate::output::{Output, moment};
use crate::session::{Where, told};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the configuration of the data planes.
    Get {
        /// An earlier one.
        #[arg(id = "number", value_name = "VERSION", default_value_t = 0)]
        version: u64,
    },
    /// Check a configuration and make it the present one.
    Apply {
        /// TOML; `-` reads the standard input.
        file: PathBuf,
        /// Why, for the history.
        #[arg(long, default_value = "")]
        comment: String,
        /// Refuse if the present version is another one than this.
        #[arg(long, default_value_t = 0, value_name = "VERSION")]
        expect: u64,
    },
    /// Say what applying a configuration would change, and change nothing.
    Diff {
        /// TOML; `-` reads the standard input.
        file: PathBuf,
    },
    /// List earlier configurations, newest first.
    History,
    /// Apply an earlier configuration again.
    Rollback {
        /// Its version.
        #[arg(id = "number", value_name = "VERSION")]
        version: u64,
        /// Why, for the history.
        #[arg(long, default_value = "")]
        comment: String,
    },
}

pub(crate) async fn run(at: &Where, out: Output, command: Command) -> Result<()> {
    let mut client = ConfigClient::new(at.connect().await?);
    match command {
        Command::Get { version } => {
            let document = client
                .get_config(GetConfigRequest { version })
                .await
                .map_err(told)?
                .into_inner();
            match out.json {
                true => out.one(fields(&document, true)),
                // As it is, so that it can be kept in a file and applied again.
                false => print!("{}", document.toml),
            }
        }
        Command::Apply {
            file,
            comment,
            expect,
        } => {
            let request = ApplyConfigRequest {
                toml: read(&file)?,
                expect_version: expect,
                dry_run: false,
                comment,
            };
            changed(
                out,
                client.apply_config(request).await.map_err(told)?.into_inner(),
            );
        }
        Command::Diff { file } => {
            let request = ApplyConfigRequest {
                toml: read(&file)?,
                dry_run: true,
                ..ApplyConfigRequest::default()
            };
            changed(
                out,
                client.apply_config(request).await.map_err(told)?.into_inner(),
            );
        }
        Command::History => {
            let mut rows: Vec<Vec<Value>> = Vec::new();
            let mut request = ListConfigHistoryRequest::default();
            loop {
                let page = client
                    .list_config_history(request)
                    .await
                    .map_err(told)?
                    .into_inner();
                let Some(last) = page.documents.last() else { break };
                request.before_version = last.version;
                let row = |document: &ConfigDocument| {
                    fields(document, false)
                        .into_iter()
                        .map(|(_, value)| value)
                        .collect()
                };
                rows.extend(page.documents.iter().map(row));
                if request.before_version <= 1 {
                    break;
                }
            }
            out.list(&["version", "time", "author", "comment"], rows);
        }
        Command::Rollback { version, comment } => {
            let request = RollbackConfigRequest { version, comment };
            changed(
                out,
                client.rollback_config(request).await.map_err(told)?.into_inner(),
            );
        }
    }
    Ok(())
}

fn fields(document: &ConfigDocument, with_text: bool) -> Vec<(&'static str, Value)> {
    let mut fields = vec![
        ("version", json!(document.version)),
        ("time", moment(document.time_unix)),
        ("author", json!(document.author)),
        ("comment", json!(document.comment)),
    ];
    if with_text {
        fields.push(("toml", json!(document.toml)));
    }
    fields
}

fn changed(out: Output, response: ApplyConfigResponse) {
    if !out.json {
        println!("version {}", response.version);
    }
    let rows = response.changes.into_iter().map(|change| {
        let when = if change.needs_restart {
            "at the next restart"
        } else {
            "now"
        };
        vec![
            json!(change.key),
            json!(change.before),
            json!(change.after),
            json!(when),
        ]
    });
    out.list(&["key", "before", "after", "takes effect"], rows.collect());
}

/// The text of a file, or of the standard input.
pub(crate) fn read(file: &Path) -> Result<String> {
    if file.as_os_str() == "-" {
        return Ok(std::io::read_to_string(std::io::stdin())?);
    }
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}
