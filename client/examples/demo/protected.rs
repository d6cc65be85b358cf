//! The patterns end-to-end encrypted, for the profile `strict`: the gateway routes what it cannot read.

use std::time::Instant;

use bytes::Bytes;
use ringgate_client::groups::{Group, GroupOptions, Groups, Opened, ProtectedEvent, ProtectedSubscription};
use ringgate_client::{Code, Headers, Target};

use crate::{Failure, Stage, act, expect, say, text};

pub(crate) async fn demo(stage: &Stage) -> Result<(), Failure> {
    publish_subscribe(stage).await?;
    request_response(stage).await?;
    streaming(stage).await
}

async fn message(subscription: &mut ProtectedSubscription) -> Result<Opened, Failure> {
    match subscription.next().await {
        Some(ProtectedEvent::Message { opened, .. }) => Ok(opened),
        other => Err(format!("expected a message, got {other:?}").into()),
    }
}

/// The group that somebody was just taken into.
async fn joined(groups: &Groups) -> Result<Group, Failure> {
    let group = groups.joined().await.ok_or("the agent is closed")?;
    let names: Vec<String> = group
        .info()?
        .members
        .into_iter()
        .map(|member| member.name)
        .collect();
    let line = format!(
        "joined a group of {}, each verified by its certificate",
        names.len()
    );
    say(groups.agent(), line, Instant::now());
    Ok(group)
}

async fn publish_subscribe(stage: &Stage) -> Result<(), Failure> {
    act("publish/subscribe in a group: its members read, and nobody else");
    let station = stage.member("acme/demo/station/1", "").await?;
    let alice = stage.member("acme/demo/reader/alice", "").await?;
    let bob = stage.member("acme/demo/reader/bob", "").await?;
    let mut to_alice = alice.subscribe("weather/*").await?;
    let mut to_bob = bob.subscribe("weather/**").await?;

    let start = Instant::now();
    let group = station.create(GroupOptions::default()).await?;
    group
        .invite(&["acme/demo/reader/alice", "acme/demo/reader/bob"])
        .await?;
    say(station.agent(), "made a group and invited alice and bob", start);
    joined(&alice).await?;
    let of_bob = joined(&bob).await?;

    let start = Instant::now();
    let headers: Headers = [("unit".to_owned(), "celsius".to_owned())].into();
    let receivers = group.publish_acked("weather/berlin", "sunny", headers).await?;
    say(
        station.agent(),
        format!("published to weather/berlin, encrypted, for {receivers} agents"),
        start,
    );
    for (who, to) in [(&alice, &mut to_alice), (&bob, &mut to_bob)] {
        let heard = message(to).await?;
        let line = format!("decrypted {} of {}", text(&heard.payload), heard.sender.name);
        say(who.agent(), line, start);
        expect("the message", heard.payload, Bytes::from("sunny"))?;
        expect(
            "its header",
            heard.headers.get("unit").map(String::as_str),
            Some("celsius"),
        )?;
    }

    let start = Instant::now();
    match station.agent().publish_acked("weather/berlin", "legible").await {
        Err(error) if error.code() == Some(Code::MlsRequired) => {
            say(
                station.agent(),
                "published in the clear: refused with MLS_REQUIRED",
                start,
            );
        }
        other => return Err(format!("plaintext was not refused: {other:?}").into()),
    }

    let carol = stage.member("acme/demo/reader/carol", "").await?;
    let mut to_carol = carol.subscribe("weather/berlin").await?;
    let start = Instant::now();
    group.invite(&["acme/demo/reader/carol"]).await?;
    say(station.agent(), "invited carol", start);
    joined(&carol).await?;
    group.publish("weather/berlin", "cloudy").await?;
    for to in [&mut to_alice, &mut to_bob, &mut to_carol] {
        expect(
            "the second message",
            message(to).await?.payload,
            Bytes::from("cloudy"),
        )?;
    }
    say(carol.agent(), "decrypted what came after it had joined", start);

    let start = Instant::now();
    group.remove("acme/demo/reader/bob").await?;
    of_bob.wait_for(|info| !info.is_member).await?;
    say(station.agent(), "removed bob", start);
    group.publish("weather/berlin", "secret").await?;
    expect(
        "the third message",
        message(&mut to_alice).await?.payload,
        Bytes::from("secret"),
    )?;
    expect(
        "the third message",
        message(&mut to_carol).await?.payload,
        Bytes::from("secret"),
    )?;
    match to_bob.next().await {
        Some(ProtectedEvent::Unreadable { .. }) => {
            say(
                bob.agent(),
                "got the next message too, and cannot decrypt it",
                start,
            );
        }
        other => return Err(format!("bob is removed and still reads: {other:?}").into()),
    }
    for groups in [station, alice, bob, carol] {
        groups.agent().clone().close().await;
    }
    Ok(())
}

async fn request_response(stage: &Stage) -> Result<(), Failure> {
    act(
        "introduction and request/response: two agents meet by capability, and ask each other in a session of two",
    );
    let oracle = stage.member("acme/demo/oracle/1", "forecast").await?;
    let asker = stage.member("acme/demo/asker/1", "").await?;
    let serving = tokio::spawn({
        let oracle = oracle.clone();
        async move {
            let introduction = oracle
                .agent()
                .introductions()
                .next()
                .await
                .ok_or("no introduction came")?;
            say(
                oracle.agent(),
                format!("accepts the introduction of {}", introduction.source),
                Instant::now(),
            );
            introduction.accept("").await?;
            let mut requests = oracle.requests();
            for _ in 0..2 {
                let request = requests.next().await.ok_or("no request came")?;
                let question = String::from_utf8_lossy(&request.opened.payload).into_owned();
                request.respond(format!("sunny in {question}")).await?;
            }
            Ok::<_, Failure>(())
        }
    });
    let start = Instant::now();
    let session = asker.meet(Target::capability("forecast")).await?;
    say(
        asker.agent(),
        "met who can forecast, and has a session with it",
        start,
    );
    for question in ["berlin", "oslo"] {
        let start = Instant::now();
        let reply = session
            .request(Target::capability("forecast"), question)
            .await?
            .opened;
        let line = format!(
            "asked for {question}, {} answered {}",
            reply.sender.name,
            text(&reply.payload)
        );
        say(asker.agent(), line, start);
        expect(
            "the answer",
            reply.payload,
            Bytes::from(format!("sunny in {question}")),
        )?;
    }
    serving.await??;
    asker.agent().clone().close().await;
    oracle.agent().clone().close().await;
    Ok(())
}

async fn streaming(stage: &Stage) -> Result<(), Failure> {
    act("stream: encrypted chunks in order, and their end");
    const CHUNKS: usize = 128;
    const CHUNK_BYTES: usize = 16 << 10;
    let writer = stage.member("acme/demo/writer/1", "").await?;
    let reader = stage.member("acme/demo/listener/1", "").await?;
    let session = writer.session("acme/demo/listener/1").await?;
    let start = Instant::now();
    let reading = tokio::spawn({
        let reader = reader.clone();
        async move {
            let (peer, mut stream) = reader.incoming_streams().next().await.ok_or("no stream came")?;
            say(
                reader.agent(),
                format!("accepts the stream of {}", peer.name),
                start,
            );
            let mut chunks = 0;
            while let Some(chunk) = stream.recv().await? {
                expect("the order of chunks", chunk.first().copied(), Some(chunks as u8))?;
                expect("the size of a chunk", chunk.len(), CHUNK_BYTES)?;
                chunks += 1;
            }
            say(
                reader.agent(),
                format!(
                    "decrypted {chunks} chunks of {} KiB, to the end",
                    CHUNK_BYTES >> 10
                ),
                start,
            );
            expect("the chunks read", chunks, CHUNKS)
        }
    });
    let mut stream = session.open_stream(Target::agent("acme/demo/listener/1")).await?;
    for number in 0..CHUNKS {
        stream.send(vec![number as u8; CHUNK_BYTES]).await?;
    }
    stream.finish().await?;
    say(writer.agent(), format!("sent {CHUNKS} chunks"), start);
    reading.await??;
    writer.agent().clone().close().await;
    reader.agent().clone().close().await;
    Ok(())
}
