//! A buyer who comes late fetches the keys of the past in one go and opens an archive of sealed messages with them: the
//! publisher, restarted in between, still has every key it ever used in its store on disk.
//!
//! `cargo run -p veilcast-examples --bin historical_keys`

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use veilcast::client::{Client, ClientConfig, ClientError, Delivery, KeyUpdateMethod, Multiaddr, StreamOptions};
use veilcast::key_store::{SledKeyStore, Unlock};
use veilcast::{Identity, Message, Payload, Period, Permission, StreamId, Timestamp};

const DAYS: usize = 5;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let identity = Identity::generate(&mut rand::rng());
    let (stream, archive) = publish_some_days(folder.path(), identity.clone()).await?;
    println!("{} sealed messages under {DAYS} keys are in the archive; the publisher is gone", archive.len());

    let publisher = client(identity, Some(folder.path()), &[]).await?;
    let address = publisher.addresses().await;
    let (buyer, stranger) = (somebody(&address).await?, somebody(&address).await?);
    publisher.grant(&stream, buyer.user(), Permission::Subscribe, Period::ALWAYS).await?;
    let always = Timestamp::ZERO..=Timestamp::from_millis(u64::MAX);
    let fetched = buyer.fetch_keys(&stream, publisher.user(), always)?.finish().await?;
    println!("the publisher is back; a late buyer fetches {} keys and opens the archive:", fetched.keys);
    for sealed in &archive {
        let message = buyer.open(sealed.envelope.clone()).await?;
        println!("  {} (key {})", message.text().unwrap_or("?"), message.key_id.as_ref().ok_or("it was sealed")?);
    }
    let refused = stranger.open(archive[0].envelope.clone()).await;
    println!("a stranger: {}", refused.as_ref().err().ok_or("a stranger must not read")?);
    if !matches!(refused, Err(ClientError::Refused { .. })) {
        return Err("the stranger should have been refused".into());
    }
    for client in [buyer, stranger, publisher] {
        client.stop().await;
    }
    Ok(())
}

/// One message a "day", each day under a key of its own; what a subscriber received is the archive.
async fn publish_some_days(folder: &Path, identity: Identity) -> Result<(StreamId, Vec<Message>), Box<dyn Error>> {
    let publisher = client(identity, Some(folder), &[]).await?;
    let archivist = somebody(&publisher.addresses().await).await?;
    let stream = publisher.create_stream("weather/daily", StreamOptions::default()).await?;
    publisher.grant(&stream, archivist.user(), Permission::Subscribe, Period::ALWAYS).await?;
    let mut subscription = archivist.subscribe(&stream).await?;
    publisher.wait_for_peers(&stream.part(0)?, 1).await;
    let mut archive = Vec::new();
    for day in 0..DAYS {
        if day > 0 {
            publisher.update_encryption_key(&stream, KeyUpdateMethod::Rekey, None).await?;
        }
        publisher.publish(&stream, Payload::text(format!("day {day}: {} degrees", 10 + day))).await?;
        while archive.len() <= day {
            if let Delivery::Message(message) = subscription.next().await.ok_or("the archivist runs")? {
                archive.push(message);
            }
        }
    }
    publisher.stop().await;
    archivist.stop().await;
    Ok((stream, archive))
}

async fn somebody(bootstrap: &[Multiaddr]) -> Result<Client, Box<dyn Error>> {
    client(Identity::generate(&mut rand::rng()), None, bootstrap).await
}

async fn client(identity: Identity, folder: Option<&Path>, bootstrap: &[Multiaddr]) -> Result<Client, Box<dyn Error>> {
    let mut config = ClientConfig::default();
    config.rsa_bits = 2048; // quicker to make than the default of 3072
    let mut builder = Client::builder(identity).config(config).listen("/ip4/127.0.0.1/tcp/0".parse()?);
    if let Some(folder) = folder {
        let store = SledKeyStore::open(&folder.join("store"), &Unlock::KeyFile(folder.join("store.key")))?;
        builder = builder.store(Arc::new(store));
    }
    for address in bootstrap {
        builder = builder.bootstrap(address.clone());
    }
    let client = builder.start().await?;
    for address in bootstrap {
        client.connect(address.clone()).await?;
    }
    Ok(client)
}
