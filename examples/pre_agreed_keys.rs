//! Two applications that agreed on a key beforehand: messages flow without any key exchange. Somebody who may subscribe
//! but was not told the key is refused, with the key's name. Then both agree on a ring of keys for a whole part of the plant,
//! and change over from one of its keys to the next without losing a message.
//!
//! `cargo run -p veilcast-examples --bin pre_agreed_keys`

use std::error::Error;

use veilcast::client::{Client, ClientConfig, Delivery, KeyUpdateMethod, Multiaddr, StreamOptions, Subscription};
use veilcast::key_ring::RingPrefix;
use veilcast::key_store::{GroupKey, KeyId};
use veilcast::{Event, Identity, Payload, Period, Permission, Refusal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let publisher = client(&[]).await?;
    let address = publisher.addresses().await;
    let (partner, outsider) = (client(&address).await?, client(&address).await?);
    let stream = publisher.create_stream("plant/pressure", StreamOptions::default()).await?;
    publisher.grant(&stream, outsider.user(), Permission::Subscribe, Period::ALWAYS).await?;

    // In real life both sides read these 32 bytes from a safe place; they never travel.
    let key = GroupKey::new(KeyId::new("plant-2027-spring")?, &[7; 32])?;
    publisher.add_encryption_key(&key, publisher.user(), &stream).await?;
    publisher.update_encryption_key(&stream, KeyUpdateMethod::Rekey, Some(key.clone())).await?;
    partner.add_encryption_key(&key, publisher.user(), &stream).await?;

    let (mut reads, mut lacks) = (partner.subscribe(&stream).await?, outsider.subscribe(&stream).await?);
    publisher.wait_for_peers(&stream.part(0)?, 2).await;
    for bar in [2, 3, 5] {
        publisher.publish(&stream, Payload::json(&bar)?).await?;
        println!("the partner reads {} bar", next_text(&mut reads).await?);
    }
    let (key_id, refusal) = next_refusal(&mut lacks).await?;
    println!("the outsider lacks key {key_id}: {refusal}");

    // A ring: its keys are for every stream under the prefix, present and future, whoever publishes.
    let hall = RingPrefix::new(&format!("{}/hall", publisher.user()))?;
    let stream = publisher.create_stream("hall/temperature", StreamOptions::default()).await?;
    let (old, new) = (GroupKey::new(KeyId::new("hall-1")?, &[1; 32])?, GroupKey::new(KeyId::new("hall-2")?, &[2; 32])?);
    for side in [&partner, &publisher] {
        side.add_ring_key(&hall, &old).await?;
    }
    publisher.use_ring_key(&hall, old.id()).await?;
    let mut reads = partner.subscribe(&stream).await?;
    publisher.wait_for_peers(&stream.part(0)?, 1).await;
    publisher.publish(&stream, Payload::text("21 degrees")).await?;
    println!("under {}: {}", old.id(), next_text(&mut reads).await?);
    // Both keys open while the sides change over; the publisher decides which one seals.
    for side in [&partner, &publisher] {
        side.add_ring_key(&hall, &new).await?;
    }
    publisher.use_ring_key(&hall, new.id()).await?;
    publisher.publish(&stream, Payload::text("22 degrees")).await?;
    println!("under {}: {}", new.id(), next_text(&mut reads).await?);
    for side in [&partner, &publisher] {
        side.remove_ring_key(&hall, old.id()).await?;
    }

    let requests = partner.stats().key_requests_sent;
    println!("key requests of the partner: {requests}");
    for client in [partner, outsider, publisher] {
        client.stop().await;
    }
    if requests != 0 || refusal != Refusal::Policy {
        return Err("a pre-agreed key needs no request and is given to nobody".into());
    }
    Ok(())
}

async fn next_text(subscription: &mut Subscription) -> Result<String, Box<dyn Error>> {
    loop {
        if let Delivery::Message(message) = subscription.next().await.ok_or("the client runs")? {
            return Ok(message.text().ok_or("it is JSON")?.to_owned());
        }
    }
}

async fn next_refusal(subscription: &mut Subscription) -> Result<(KeyId, Refusal), Box<dyn Error>> {
    loop {
        let delivery = subscription.next().await.ok_or("the client runs")?;
        if let Delivery::Event(Event::KeyRefused { key_id, refusal, .. }) = delivery {
            return Ok((key_id, refusal));
        }
    }
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
