//! An agent gets a certificate from the control process, and talks to the gateway as who it is. With what `scripts/run` prints:
//!
//! `cargo run -p ringgate-client --example enroll -- --fingerprint FINGERPRINT --join-token TOKEN`
//!
//! Started again, it reads the certificate from its keystore and needs no other join token.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use ringgate_client::{Agent, Enrollment, Event, Seal, Trust};

#[derive(Parser)]
struct Args {
    /// Where the control process is.
    #[arg(long, default_value = "https://127.0.0.1:46358")]
    control: String,
    /// Where the gateway is.
    #[arg(long, default_value = "https://127.0.0.1:46357")]
    gateway: String,
    /// What the control process is recognised by: the SHA-256 of its authority's certificate.
    #[arg(long)]
    fingerprint: ringgate_client::Fingerprint,
    /// From an operator: good for one enrolment.
    #[arg(long, default_value = "")]
    join_token: String,
    /// Who the agent is to be.
    #[arg(long, default_value = "acme/examples/enrolled/1")]
    name: String,
    /// Where the key and the certificate are kept; the file that encrypts them lies beside it.
    #[arg(long, default_value = "enrolled.keystore")]
    keystore: PathBuf,
    /// Show who it is by a bearer token instead of the certificate.
    #[arg(long)]
    by_token: bool,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let key_file = args.keystore.with_extension("key");
    let credential = Enrollment::new(&args.control, Trust::Fingerprint(args.fingerprint))
        .join_token(&args.join_token)
        .store(&args.keystore, Seal::KeyFile(key_file))
        .load_or_enroll(&args.name)
        .await?;
    let verified = credential.held().verified.clone();
    println!("{} with certificate {}", verified.uri, verified.serial);

    let builder = Agent::builder(&args.gateway);
    let agent = match args.by_token {
        true => builder.identity_by_token(credential.clone()),
        false => builder.identity(credential.clone()),
    };
    let agent = agent.connect().await?;
    println!("registered as {}", agent.name());

    let mut news = agent.subscribe("examples/enrolled").await?;
    agent.publish("examples/enrolled", "before").await?;
    // A day passes, or somebody asks: another certificate, for a new key. The agent changes over to a connection with it.
    credential.renew().await?;
    println!("renewed: certificate {}", credential.held().verified.serial);
    agent.publish("examples/enrolled", "after").await?;
    for _ in 0..2 {
        match tokio::time::timeout(Duration::from_secs(10), news.next()).await? {
            Some(Event::Notification(notification)) => {
                println!("{} says {:?}", notification.source, notification.payload);
            }
            other => println!("{other:?}"),
        }
    }
    agent.close().await;
    Ok(())
}
