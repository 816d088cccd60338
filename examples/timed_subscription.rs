//! A publisher sells three seconds of a stream. When they are over the buyer is out, with a reason, and another buyer
//! reads on undisturbed. Nobody lifts a finger.
//!
//! `cargo run -p veilcast-examples --bin timed_subscription`

use std::error::Error;
use std::time::Duration;

use veilcast::client::{Client, ClientConfig, Delivery, Multiaddr, StreamOptions, Subscription};
use veilcast::time::{Clock, SystemClock};
use veilcast::{Event, Identity, Payload, Period, Permission, Refusal};

const PAID: Duration = Duration::from_secs(3);
const PERIOD: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let seller = client(&[]).await?;
    let address = seller.addresses().await;
    let (monthly, trial) = (client(&address).await?, client(&address).await?);

    let stream = seller.create_stream("prices/btc", StreamOptions::default()).await?;
    let ends = SystemClock.now().plus(PAID);
    seller.grant(&stream, monthly.user(), Permission::Subscribe, Period::ALWAYS).await?;
    seller.grant(&stream, trial.user(), Permission::Subscribe, Period::until(ends)).await?;

    let monthly_reads = tokio::spawn(read_all("monthly", monthly.subscribe(&stream).await?));
    let trial_reads = tokio::spawn(read_until_refused("trial", trial.subscribe(&stream).await?));
    seller.wait_for_peers(&stream.part(0)?, 2).await;

    let mut sent = 0;
    while !trial_reads.is_finished() {
        seller.publish(&stream, Payload::json(&serde_price(sent))?).await?;
        sent += 1;
        tokio::time::sleep(PERIOD).await;
    }
    let (read, refusal) = trial_reads.await?;
    seller.stop().await;
    monthly.stop().await;
    trial.stop().await;

    println!("trial read {read} of {sent} messages, then: {refusal}");
    let all = monthly_reads.await?;
    println!("monthly read {all} of {sent}");
    if all != sent || read >= sent || !matches!(refusal, Refusal::Expired { .. }) {
        return Err("the trial should have ended with its time, and nobody else noticed".into());
    }
    Ok(())
}

fn serde_price(n: u32) -> [u32; 2] {
    [n, 64_000 + n * 7 % 100]
}

async fn client(bootstrap: &[Multiaddr]) -> Result<Client, Box<dyn Error>> {
    let mut config = ClientConfig::default();
    config.rsa_bits = 2048; // quicker to make than the default of 3072
    let mut builder =
        Client::builder(Identity::generate(&mut rand::rng())).config(config).listen("/ip4/127.0.0.1/tcp/0".parse()?);
    for address in bootstrap {
        builder = builder.bootstrap(address.clone());
    }
    let client = builder.start().await?;
    for address in bootstrap {
        client.connect(address.clone()).await?;
    }
    Ok(client)
}

async fn read_all(name: &str, mut subscription: Subscription) -> u32 {
    let mut read = 0;
    while let Some(delivery) = subscription.next().await {
        if let Delivery::Message(message) = delivery {
            println!("{name:>8}: {}", message.text().unwrap_or("?"));
            read += 1;
        }
    }
    read
}

async fn read_until_refused(name: &str, mut subscription: Subscription) -> (u32, Refusal) {
    let mut read = 0;
    while let Some(delivery) = subscription.next().await {
        match delivery {
            Delivery::Message(message) => {
                println!("{name:>8}: {}", message.text().unwrap_or("?"));
                read += 1;
            }
            Delivery::Event(Event::KeyRefused { refusal, .. }) => return (read, refusal),
            Delivery::Event(event) => println!("{name:>8}: {event:?}"),
        }
    }
    (read, Refusal::Denied)
}
