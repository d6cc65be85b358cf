//! What `scripts/run` shows: a few agents in one process do each pattern once through a real gateway, and say who did what and
//! how long it took. Ends 0 if all of it worked, else 1 with the cause.
//!
//! `cargo run -p ringgate-client --example demo -- --url http://127.0.0.1:46357` for a gateway of profile `development`; for others
//! with `--url https://… --control https://… --control-ca FILE --join-token TOKEN`: then each agent enrols first.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use ringgate_client::{Agent, Enrollment, Event, IncomingRequest, Notification, Subscription, Target, Trust};

/// Longer than anything here can take; what takes longer is stuck.
const PATIENCE: Duration = Duration::from_secs(20);

/// Demo agents: each pattern once, through a running gateway.
#[derive(Parser)]
struct Arguments {
    /// Where the gateway is.
    #[arg(long, default_value = "http://127.0.0.1:46357")]
    url: String,
    /// Where the agents enrol: the control process.
    #[arg(long, requires = "control_ca", requires = "join_token")]
    control: Option<String>,
    /// Certificates of its authority, PEM file.
    #[arg(long)]
    control_ca: Option<std::path::PathBuf>,
    /// What lets them: a join token for `acme/demo/*/*`.
    #[arg(long)]
    join_token: Option<String>,
}

/// What went wrong, in a sentence. A demo has nobody who would tell errors apart.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    println!("demo agents at {}", arguments.url);
    match tokio::time::timeout(PATIENCE, demo(&arguments)).await {
        Ok(Ok(())) => {
            println!("demo: all patterns worked");
            ExitCode::SUCCESS
        }
        Ok(Err(failure)) => {
            eprintln!("demo: failed: {failure}");
            ExitCode::FAILURE
        }
        Err(_) => {
            eprintln!("demo: failed: not done after {PATIENCE:?}; the line above is the last that worked");
            ExitCode::FAILURE
        }
    }
}

async fn demo(arguments: &Arguments) -> Result<(), Failure> {
    let stage = Stage::new(arguments)?;
    publish_subscribe(&stage).await?;
    request_response(&stage).await?;
    streaming(&stage).await?;
    introduction(&stage).await
}

/// Where agents come from.
struct Stage {
    url: String,
    enrollment: Option<Enrollment>,
}

impl Stage {
    fn new(arguments: &Arguments) -> Result<Stage, Failure> {
        let mut enrollment = None;
        if let (Some(control), Some(ca), Some(token)) =
            (&arguments.control, &arguments.control_ca, &arguments.join_token)
        {
            let anchors =
                std::fs::read_to_string(ca).map_err(|error| format!("{}: {error}", ca.display()))?;
            enrollment = Some(Enrollment::new(control, Trust::Anchors(anchors)).join_token(token));
        }
        Ok(Stage {
            url: arguments.url.clone(),
            enrollment,
        })
    }

    /// Brings an agent on, with a capability or none.
    async fn agent(&self, name: &str, capability: &str) -> Result<Agent, Failure> {
        let mut start = Instant::now();
        let mut builder = Agent::builder(&self.url);
        if !capability.is_empty() {
            builder = builder.capability(capability);
        }
        builder = match &self.enrollment {
            None => builder.name(name),
            Some(enrollment) => {
                let credential = enrollment.clone().enroll(name).await;
                let credential = credential.map_err(|error| format!("{name}: {error}"))?;
                start = tell(name, "enrolled: holds a certificate", start);
                builder.identity(credential)
            }
        };
        let agent = builder
            .connect()
            .await
            .map_err(|error| format!("{name}: {error}"))?;
        say(&agent, "connected and registered", start);
        Ok(agent)
    }
}

/// One line: who, what, how long. Returns when the next thing begins.
fn tell(name: &str, what: impl std::fmt::Display, since: Instant) -> Instant {
    let microseconds = since.elapsed().as_micros();
    println!("  {name:<26} {what:<66} {microseconds:>7} us");
    Instant::now()
}

fn say(agent: &Agent, what: impl std::fmt::Display, since: Instant) {
    tell(agent.name(), what, since);
}

/// A payload as people read it.
fn text(payload: &Bytes) -> String {
    format!("'{}'", String::from_utf8_lossy(payload))
}

fn act(title: &str) {
    println!("\n{title}");
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), Failure> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: expected {expected:?}, got {found:?}").into())
}

async fn notification(subscription: &mut Subscription) -> Result<Notification, Failure> {
    match subscription.next().await {
        Some(Event::Notification(notification)) => Ok(notification),
        other => Err(format!("{}: expected a message, got {other:?}", subscription.pattern()).into()),
    }
}

async fn publish_subscribe(stage: &Stage) -> Result<(), Failure> {
    act("publish/subscribe: two subscribers get every message, a queue group shares them");
    let station = stage.agent("acme/demo/station/1", "").await?;
    let alice = stage.agent("acme/demo/reader/alice", "").await?;
    let bob = stage.agent("acme/demo/reader/bob", "").await?;
    let workers = [
        stage.agent("acme/demo/worker/1", "").await?,
        stage.agent("acme/demo/worker/2", "").await?,
    ];

    let start = Instant::now();
    let mut to_alice = alice.subscribe("weather/berlin").await?;
    say(&alice, "subscribed to weather/berlin", start);
    let start = Instant::now();
    let mut to_bob = bob.subscribe("weather/*").await?;
    say(&bob, "subscribed to weather/*", start);
    let start = Instant::now();
    let mut to_first = workers[0].subscribe("weather/**").group("archive").await?;
    let mut to_second = workers[1].subscribe("weather/**").group("archive").await?;
    say(
        &workers[0],
        "joined the queue group 'archive' on weather/**, with worker/2",
        start,
    );

    let start = Instant::now();
    let receivers = station
        .publication("weather/berlin", "sunny")
        .header("unit", "celsius")
        .send_acked()
        .await?;
    say(
        &station,
        format!("published to weather/berlin, queued for {receivers} agents"),
        start,
    );
    let heard = notification(&mut to_alice).await?;
    say(
        &alice,
        format!("got {} from {}", text(&heard.payload), heard.source),
        start,
    );
    expect("alice's message", heard.payload, Bytes::from("sunny"))?;
    let heard = notification(&mut to_bob).await?;
    say(
        &bob,
        format!("got {} from {}", text(&heard.payload), heard.source),
        start,
    );
    expect("the source", heard.source.as_str(), station.name())?;
    expect("the receivers", receivers, 3)?;

    const MORE: u64 = 9;
    let start = Instant::now();
    for _ in 0..MORE {
        station.publish("weather/berlin", "cloudy").await?;
    }
    for sequence in 2..=MORE + 1 {
        expect(
            "the order of messages",
            notification(&mut to_bob).await?.sequence,
            sequence,
        )?;
    }
    say(&bob, format!("got {MORE} more, in order"), start);
    let mut shares = [0; 2];
    for _ in 0..=MORE {
        tokio::select! {
            heard = notification(&mut to_first) => heard.map(|_| shares[0] += 1)?,
            heard = notification(&mut to_second) => heard.map(|_| shares[1] += 1)?,
        }
    }
    let line = format!(
        "the group shared {} messages: {} and {}",
        MORE + 1,
        shares[0],
        shares[1]
    );
    say(&workers[0], line, start);

    let [first, second] = workers;
    for agent in [station, alice, bob, first, second] {
        agent.close().await;
    }
    Ok(())
}

async fn request_response(stage: &Stage) -> Result<(), Failure> {
    act("request/response: by capability, whoever offers it");
    let oracle = stage.agent("acme/demo/oracle/1", "forecast").await?;
    let asker = stage.agent("acme/demo/asker/1", "").await?;
    let serving = tokio::spawn({
        let oracle = oracle.clone();
        let answer = |request: &IncomingRequest| {
            let question = String::from_utf8_lossy(&request.payload).into_owned();
            async move { Ok(format!("sunny in {question}")) }
        };
        async move { oracle.serve(16, answer).await }
    });
    for question in ["berlin", "oslo"] {
        let start = Instant::now();
        let reply = asker.request(Target::capability("forecast"), question).await?;
        say(
            &asker,
            format!(
                "asked for {question}, {} answered {}",
                reply.source,
                text(&reply.payload)
            ),
            start,
        );
        expect(
            "the answer",
            reply.payload,
            Bytes::from(format!("sunny in {question}")),
        )?;
    }
    let start = Instant::now();
    match asker.request(Target::capability("levitate"), "").await {
        Err(error) => say(
            &asker,
            format!("asked what nobody can: {:?}", error.code()),
            start,
        ),
        Ok(reply) => return Err(format!("nobody can levitate, but {} answered", reply.source).into()),
    }
    asker.close().await;
    oracle.close().await;
    serving.await?;
    Ok(())
}

async fn streaming(stage: &Stage) -> Result<(), Failure> {
    act("stream: chunks in order, at the pace of the reader");
    const CHUNKS: usize = 256;
    const CHUNK_BYTES: usize = 16 << 10;
    let writer = stage.agent("acme/demo/writer/1", "").await?;
    let reader = stage.agent("acme/demo/listener/1", "listen").await?;
    let start = Instant::now();
    let reading = tokio::spawn({
        let reader = reader.clone();
        async move {
            let incoming = reader.incoming_streams().next().await.ok_or("no stream came")?;
            say(
                &reader,
                format!("accepts the stream of {}", incoming.source),
                start,
            );
            let mut stream = incoming.accept().await?;
            let mut bytes = 0;
            let mut chunks = 0;
            while let Some(chunk) = stream.recv().await? {
                expect("the order of chunks", chunk.first().copied(), Some(chunks as u8))?;
                bytes += chunk.len();
                chunks += 1;
            }
            say(
                &reader,
                format!("read {chunks} chunks, {} KiB, to the end", bytes >> 10),
                start,
            );
            expect("the bytes read", bytes, CHUNKS * CHUNK_BYTES)
        }
    });
    let mut stream = writer.open_stream(Target::capability("listen")).await?;
    say(&writer, "opened a stream", start);
    for number in 0..CHUNKS {
        stream.send(vec![number as u8; CHUNK_BYTES]).await?;
    }
    stream.finish().await?;
    say(
        &writer,
        format!("sent {CHUNKS} chunks of {} KiB", CHUNK_BYTES >> 10),
        start,
    );
    reading.await??;
    writer.close().await;
    reader.close().await;
    Ok(())
}

async fn introduction(stage: &Stage) -> Result<(), Failure> {
    act("introduction: two agents agree on a channel and talk over it");
    let buyer = stage.agent("acme/demo/buyer/1", "").await?;
    let seller = stage.agent("acme/demo/seller/1", "sell").await?;
    let start = Instant::now();
    let selling = tokio::spawn({
        let seller = seller.clone();
        async move {
            let introduction = seller
                .introductions()
                .next()
                .await
                .ok_or("no introduction came")?;
            say(
                &seller,
                format!("{} says {}", introduction.source, text(&introduction.payload)),
                start,
            );
            let channel = introduction.accept("welcome").await?;
            say(&seller, format!("is connected to {}", channel.peer), start);
            expect("the seller's peer", channel.peer.as_str(), "acme/demo/buyer/1")?;
            let request = seller.requests().next().await.ok_or("no request came")?;
            say(
                &seller,
                format!("got {} over the channel", text(&request.payload)),
                start,
            );
            request.respond("sold").await?;
            Ok::<_, Failure>(())
        }
    });
    let channel = buyer
        .introduce(Target::capability("sell"), "hello, I would like to buy")
        .await?;
    say(
        &buyer,
        format!(
            "is connected to {}, which says {}",
            channel.peer,
            text(&channel.payload)
        ),
        start,
    );
    expect("the buyer's peer", channel.peer.as_str(), seller.name())?;
    let start = Instant::now();
    let reply = channel.request("one lamp").await?;
    say(
        &buyer,
        format!("asked over the channel, the answer is {}", text(&reply.payload)),
        start,
    );
    selling.await??;
    drop(channel);
    buyer.close().await;
    seller.close().await;
    Ok(())
}
