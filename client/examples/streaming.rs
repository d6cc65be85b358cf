//! One agent streams to another, piece by piece, at the pace of the one that reads. Start a gateway with `scripts/run`, then
//!
//! `cargo run -p ringgate-client --example streaming [http://127.0.0.1:46357]`

use ringgate_client::{Agent, Error, Target};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "http://127.0.0.1:46357".to_owned());
    let writer = Agent::builder(&url)
        .name("acme/examples/writer/1")
        .connect()
        .await?;
    let reader = Agent::builder(&url)
        .name("acme/examples/stream-reader/1")
        .connect()
        .await?;

    let reading = tokio::spawn({
        let mut streams = reader.incoming_streams();
        async move {
            let incoming = streams.next().await.ok_or(Error::Closed)?;
            println!("{} opens a stream, {:?}", incoming.source, incoming.headers);
            let mut stream = incoming.accept().await?;
            // Streams carry data in both directions.
            stream.send("go on").await?;
            let (mut chunks, mut bytes) = (0, 0);
            while let Some(chunk) = stream.recv().await? {
                chunks += 1;
                bytes += chunk.len();
            }
            println!("read {chunks} chunks, {bytes} bytes, to the end");
            Ok::<_, Error>(())
        }
    });

    let target = Target::agent("acme/examples/stream-reader/1");
    let mut stream = writer.open_stream(target).header("content", "tokens").await?;
    println!("the reader says {:?}", stream.recv().await?);
    for _ in 0..1000 {
        // Waits when the reader has more than a window before it.
        stream.send(vec![0; 4096]).await?;
    }
    stream.finish().await?;

    if let Ok(result) = reading.await {
        result?;
    }
    writer.close().await;
    reader.close().await;
    Ok(())
}
