//! Two agents get to know each other and talk over a channel of their own. Start a gateway with `scripts/run`, then
//!
//! `cargo run -p ringgate-client --example introduction [http://127.0.0.1:46357]`

use ringgate_client::{Agent, Error, Target};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "http://127.0.0.1:46357".to_owned());
    let buyer = Agent::builder(&url)
        .name("acme/examples/buyer/1")
        .connect()
        .await?;
    let seller = Agent::builder(&url)
        .name("acme/examples/seller/1")
        .capability("sell")
        .connect()
        .await?;

    let selling = tokio::spawn({
        let seller = seller.clone();
        async move {
            let introduction = seller.introductions().next().await.ok_or(Error::Closed)?;
            println!(
                "{} introduces itself: {:?}",
                introduction.source, introduction.payload
            );
            // reject(), or a drop, declines.
            let channel = introduction.accept("welcome").await?;
            println!("the seller's end of {} leads to {}", channel.name, channel.peer);

            let request = seller.requests().next().await.ok_or(Error::Closed)?;
            println!("over the channel comes {:?}", request.payload);
            request.respond("sold").await
        }
    });

    let channel = buyer
        .introduce(Target::capability("sell"), "I would like to buy")
        .await?;
    println!("{} answers {:?}", channel.peer, channel.payload);
    let reply = channel.request("one lamp").await?;
    println!("the answer is {:?}", reply.payload);

    if let Ok(result) = selling.await {
        result?;
    }
    buyer.close().await;
    seller.close().await;
    Ok(())
}
