//! `ringgate join-token`.

use anyhow::Result;
use clap::Subcommand;
use ringgate_proto::control::v1::identity_client::IdentityClient;
use ringgate_proto::control::v1::{CreateJoinTokenRequest, DeleteJoinTokenRequest, ListJoinTokensRequest};
use serde_json::{Value, json};

use crate::output::{Output, moment};
use crate::session::{Where, told};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a token and print it: it is told this once.
    Create {
        /// Who may enrol with it: `acme/sales/bot/1`, a pattern such as `acme/sales/*/*`, `node/*`, `operator/anna` or
        /// `pseudonym/*`.
        identity: String,
        /// How often it may be used.
        #[arg(long, default_value_t = 1)]
        uses: u32,
        /// How long it is good, in seconds; 0: as the control process is set.
        #[arg(long, default_value_t = 0, value_name = "SECONDS")]
        ttl: u32,
        /// Hosts that a node may be certified for. Can be given often.
        #[arg(long, value_name = "HOST")]
        host: Vec<String>,
    },
    /// List tokens, without their secrets.
    List,
    /// Delete a token.
    Delete {
        /// Its id, as listed.
        id: String,
    },
}

pub(crate) async fn run(at: &Where, out: Output, command: Command) -> Result<()> {
    let mut client = IdentityClient::new(at.connect().await?);
    match command {
        Command::Create {
            identity,
            uses,
            ttl,
            host,
        } => {
            let request = CreateJoinTokenRequest {
                identity,
                uses,
                ttl_seconds: ttl,
                hosts: host,
            };
            let created = client
                .create_join_token(request)
                .await
                .map_err(told)?
                .into_inner();
            if !out.json {
                // Alone on its line, so that a shell can take it.
                println!("{}", created.token);
                return Ok(());
            }
            out.one(vec![
                ("id", json!(created.id)),
                ("token", json!(created.token)),
                ("identity", json!(created.identity)),
                ("uses left", json!(created.uses_left)),
                ("not after", moment(created.not_after_unix)),
                ("hosts", json!(created.hosts)),
            ]);
        }
        Command::List => {
            let mut rows: Vec<Vec<Value>> = Vec::new();
            let mut request = ListJoinTokensRequest::default();
            loop {
                let page = client
                    .list_join_tokens(request.clone())
                    .await
                    .map_err(told)?
                    .into_inner();
                rows.extend(page.join_tokens.into_iter().map(|token| {
                    vec![
                        json!(token.id),
                        json!(token.identity),
                        json!(token.uses_left),
                        moment(token.not_after_unix),
                        json!(token.hosts),
                    ]
                }));
                request.page_token = page.next_page_token;
                if request.page_token.is_empty() {
                    break;
                }
            }
            out.list(&["id", "identity", "uses left", "not after", "hosts"], rows);
        }
        Command::Delete { id } => {
            client
                .delete_join_token(DeleteJoinTokenRequest { id })
                .await
                .map_err(told)?;
        }
    }
    Ok(())
}
