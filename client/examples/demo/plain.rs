//! The patterns in the clear, for the profile `development`.

use std::time::Instant;

use bytes::Bytes;
use ringgate_client::{Event, IncomingRequest, Notification, Subscription, Target};

use crate::{Failure, Stage, act, expect, say, text};

pub(crate) async fn demo(stage: &Stage) -> Result<(), Failure> {
    publish_subscribe(stage).await?;
    request_response(stage).await?;
    streaming(stage).await?;
    introduction(stage).await
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
