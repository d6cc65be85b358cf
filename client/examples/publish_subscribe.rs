//! One agent publishes, two subscribe. Start a gateway with `scripts/run`, then
//!
//! `cargo run -p ringgate-client --example publish_subscribe [http://127.0.0.1:46357]`

use ringgate_client::{Agent, Error, Event};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "http://127.0.0.1:46357".to_owned());
    let station = Agent::builder(&url)
        .name("acme/examples/station/1")
        .connect()
        .await?;
    let reader = Agent::builder(&url)
        .name("acme/examples/reader/1")
        .connect()
        .await?;

    // '*' is any one segment, a final '**' any tail.
    let mut berlin = reader.subscribe("weather/berlin").await?;
    let mut all = reader.subscribe("weather/**").await?;

    station.publish("weather/berlin", "sunny").await?;
    let receivers = station
        .publication("weather/oslo", "snow")
        .header("unit", "cm")
        .send_acked()
        .await?;
    println!("the second message was queued for {receivers} agent");

    if let Some(Event::Notification(notification)) = berlin.next().await {
        println!("berlin: {:?} from {}", notification.payload, notification.source);
    }
    for _ in 0..2 {
        match all.next().await {
            Some(Event::Notification(notification)) => {
                println!("all: {} says {:?}", notification.topic, notification.payload);
            }
            Some(Event::Gap(gap)) => println!("all: {} messages were lost here", gap.dropped),
            Some(_) => println!("all: the connection was lost and came back"),
            None => println!("all: ended: {:?}", all.error()),
        }
    }
    station.close().await;
    reader.close().await;
    Ok(())
}
