//! A conversation that agents share: an order of turns that the gateway keeps (and can read), and who comes late reads from its start.

use std::time::Instant;

use ringgate_client::{Agent, ConversationContext};

use crate::{Failure, Stage, act, expect, say};

pub(crate) async fn shared_context(stage: &Stage) -> Result<(), Failure> {
    act("shared context: three agents, one order of turns; who comes late catches up");
    // Each run has a conversation of its own.
    let space = format!("contexts/trip-{}", std::process::id());
    let (planner, mut of_planner) = joined(stage, &space, "acme/demo/planner/1").await?;
    let (booker, mut of_booker) = joined(stage, &space, "acme/demo/booker/1").await?;
    let turns = [
        "two nights in Berlin, from Friday",
        "the 9:04 train has seats left",
    ];
    for (agent, context, turn) in [
        (&planner, &mut of_planner, turns[0]),
        (&booker, &mut of_booker, turns[1]),
    ] {
        let start = Instant::now();
        let revision = context.append(turn).await?;
        say(agent, format!("said, as turn {revision}: {turn}"), start);
    }
    for (agent, context) in [(&planner, &mut of_planner), (&booker, &mut of_booker)] {
        let heard = hear(agent, context, 2).await?;
        expect("the turns", heard, turns.map(str::to_owned).to_vec())?;
    }

    let (guide, mut of_guide) = joined(stage, &space, "acme/demo/guide/1").await?;
    let heard = hear(&guide, &mut of_guide, 2).await?;
    expect(
        "the turns for who came late",
        heard,
        turns.map(str::to_owned).to_vec(),
    )?;
    let answer = "the museums are open until six";
    let start = Instant::now();
    let revision = of_guide.append(answer).await?;
    say(&guide, format!("said, as turn {revision}: {answer}"), start);
    for (agent, context) in [
        (&planner, &mut of_planner),
        (&booker, &mut of_booker),
        (&guide, &mut of_guide),
    ] {
        let heard = hear(agent, context, 1).await?;
        expect("the turn of who came late", heard, vec![answer.to_owned()])?;
    }
    for context in [of_guide, of_booker, of_planner] {
        context.leave().await?;
    }
    Ok(())
}

async fn joined(stage: &Stage, space: &str, name: &str) -> Result<(Agent, ConversationContext), Failure> {
    let agent = stage.agent(name, "").await?;
    let start = Instant::now();
    let context = agent.join_context(space).await?;
    say(&agent, "joined the shared context", start);
    Ok((agent, context))
}

/// Reads `count` turns.
async fn hear(
    agent: &Agent,
    context: &mut ConversationContext,
    count: usize,
) -> Result<Vec<String>, Failure> {
    let start = Instant::now();
    let mut heard = Vec::new();
    while heard.len() < count {
        let turn = context.next().await?.ok_or("the context ended")?;
        heard.push(String::from_utf8_lossy(&turn.payload).into_owned());
    }
    context.settle().await?;
    say(agent, format!("has read {count} turns"), start);
    Ok(heard)
}
