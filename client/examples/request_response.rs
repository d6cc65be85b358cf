//! One agent answers, another asks. Start a gateway with `scripts/run`, then
//!
//! `cargo run -p ringgate-client --example request_response [http://127.0.0.1:46357]`

use std::time::Duration;

use ringgate_client::{Agent, Code, Error, IncomingRequest, Response, Target};

/// Answers with the forecast for the city that is asked for.
fn forecast(request: &IncomingRequest) -> impl Future<Output = Result<Response, (Code, String)>> + use<> {
    let city = String::from_utf8_lossy(&request.payload).into_owned();
    async move {
        match city.as_str() {
            "" => Err((Code::InvalidArgument, "name a city".to_owned())),
            city => Ok(Response::new(format!("sunny in {city}")).header("model", "guess")),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "http://127.0.0.1:46357".to_owned());
    let oracle = Agent::builder(&url)
        .name("acme/examples/oracle/1")
        .capability("forecast")
        .connect()
        .await?;
    let asker = Agent::builder(&url)
        .name("acme/examples/asker/1")
        .connect()
        .await?;

    let serving = tokio::spawn({
        let oracle = oracle.clone();
        async move { oracle.serve(16, forecast).await }
    });

    // By what it can do; Target::agent and Target::service go by name.
    let target = Target::capability("forecast");
    let reply = asker
        .request(target.clone(), "berlin")
        .timeout(Duration::from_secs(5))
        .await?;
    println!("{} answers {:?} {:?}", reply.source, reply.payload, reply.headers);

    match asker.request(target, "").await {
        Err(error) => println!("as expected: {error}"),
        Ok(reply) => println!("unexpected: {reply:?}"),
    }
    match asker.request(Target::capability("levitate"), "").await {
        Err(error) if error.code() == Some(Code::NoResponder) => println!("as expected: {error}"),
        other => println!("unexpected: {other:?}"),
    }

    asker.close().await;
    oracle.close().await;
    // Ends with the agent that it serves.
    let _ = serving.await;
    Ok(())
}
