//! Three agents share a conversation; one of them comes late and catches up.
//!
//!     cargo run --release -p ringgate-dataplane -- --profile development
//!     cargo run --release -p ringgate-client --example shared_context

use ringgate_client::{Agent, ConversationContext, Error};

async fn join(url: &str, context: &str, name: &str) -> Result<(Agent, ConversationContext), Error> {
    let agent = Agent::builder(url)
        .name(format!("acme/travel/{name}/1"))
        .connect()
        .await?;
    let context = agent.join_context(context).await?;
    println!("{name} joins");
    Ok((agent, context))
}

async fn say(name: &str, context: &mut ConversationContext, text: &str) -> Result<(), Error> {
    let revision = context.append(text.to_owned()).await?;
    println!("{name} says, as turn {revision}: {text}");
    Ok(())
}

/// Reads `count` turns.
async fn hear(name: &str, context: &mut ConversationContext, count: usize) -> Result<Vec<String>, Error> {
    let mut heard = Vec::new();
    while heard.len() < count
        && let Some(turn) = context.next().await?
    {
        let text = String::from_utf8_lossy(&turn.payload).into_owned();
        println!("  {name} hears turn {} of {}: {text}", turn.revision, turn.author);
        heard.push(text);
    }
    context.settle().await?;
    Ok(heard)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "http://127.0.0.1:46357".to_owned());
    // Each run of this example has a conversation of its own.
    let context = format!("contexts/trip-{}", std::process::id());
    let (_planner, mut planner) = join(&url, &context, "planner").await?;
    let (_booker, mut booker) = join(&url, &context, "booker").await?;
    say("planner", &mut planner, "Two nights in Berlin, from Friday.").await?;
    say("booker", &mut booker, "The 9:04 train has seats left.").await?;
    let heard = hear("planner", &mut planner, 2).await?;
    assert_eq!(hear("booker", &mut booker, 2).await?, heard);

    let (_guide, mut guide) = join(&url, &context, "guide").await?;
    assert_eq!(
        hear("guide", &mut guide, 2).await?,
        heard,
        "who comes late hears the same, in the same order"
    );
    say("guide", &mut guide, "The museum island is open until six.").await?;
    for (name, context) in [
        ("planner", &mut planner),
        ("booker", &mut booker),
        ("guide", &mut guide),
    ] {
        assert_eq!(
            hear(name, context, 1).await?,
            ["The museum island is open until six."]
        );
    }
    for participant in guide.participants() {
        println!("{} has read up to turn {}", participant.name, participant.cursor);
    }
    guide.leave().await?;
    booker.leave().await?;
    planner.leave().await?;
    Ok(())
}
