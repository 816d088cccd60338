//! The first ten minutes: a seller publishes on a stream of its own, a buyer reads it, and somebody who did not pay is told why not.
//!
//! `cargo run -p veilcast-examples --bin first_stream`: three nodes in one process, which nobody outside can reach.

use std::error::Error;

// README: from here
use std::time::Duration;
use veilcast::client::{Client, Delivery, StreamOptions, Subscription};
use veilcast::time::{Clock, SystemClock};
use veilcast::{Event, Identity, Message, Payload, Period, Permission, Refusal};

const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);
// README: to here

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // README: from here
    // Each of them would be a program of its own; the readers need nothing but an address of some node.
    let seller = Client::builder(new_identity()).listen("/ip4/127.0.0.1/tcp/0".parse()?).start().await?;
    let meet = seller.addresses().await.remove(0);
    let buyer = Client::builder(new_identity()).bootstrap(meet.clone()).start().await?;
    let stranger = Client::builder(new_identity()).bootstrap(meet).start().await?;

    let stream = seller.create_stream("prices/btc", StreamOptions::default()).await?;
    let month = Period::until(SystemClock.now().plus(MONTH));
    seller.grant(&stream, buyer.user(), Permission::Subscribe, month).await?;

    let (paid, unpaid) = (buyer.subscribe(&stream).await?, stranger.subscribe(&stream).await?);
    seller.wait_for_peers(&stream.part(0)?, 2).await; // what is published before they are there, they miss
    seller.publish(&stream, Payload::json(&64_000)?).await?; // encrypted; each reader asks the seller for the key by itself

    let (read, refused) = (first_word(paid).await, first_word(unpaid).await);
    // README: to here
    println!("{stream}");
    for (who, word) in [("the buyer", &read), ("a stranger", &refused)] {
        match word {
            Some(Ok(message)) => println!("  {who} reads {}", message.text().unwrap_or("?")),
            Some(Err(refusal)) => println!("  {who} gets no key: {refusal}"),
            None => println!("  {who} heard nothing"),
        }
    }
    for client in [buyer, stranger, seller] {
        client.stop().await;
    }
    match (read, refused) {
        (Some(Ok(_)), Some(Err(Refusal::Denied))) => Ok(()),
        _ => Err("the buyer alone should have read it, and the stranger been told why not".into()),
    }
}

fn new_identity() -> Identity {
    Identity::generate(&mut rand::rng())
}

// README: from here
/// The first message; or why its key was refused.
async fn first_word(mut subscription: Subscription) -> Option<Result<Message, Refusal>> {
    while let Some(delivery) = subscription.next().await {
        match delivery {
            Delivery::Message(message) => return Some(Ok(message)),
            Delivery::Event(Event::KeyRefused { refusal, .. }) => return Some(Err(refusal)),
            Delivery::Event(_) => {} // KeyPending, KeyArrived, Gap, ...
        }
    }
    None
}
// README: to here
