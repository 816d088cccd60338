//! A publisher sells some seconds of a stream. When they are over the buyer is out, with a reason, and another buyer
//! reads on undisturbed. Nobody lifts a finger.
//!
//! `cargo run -p veilcast-examples --bin timed_subscription`: the seller's own registry decides.
//!
//! `SELLER_KEY=... cargo run -p veilcast-examples --bin timed_subscription 0xCONTRACT https://RPC-ENDPOINT`: a StreamRegistry contract
//! does (or `polygon`, `amoy`, ...). The key is a secret key of 64 hex digits, whose account pays the gas.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use veilcast::client::{Client, ClientConfig, Delivery, Multiaddr, StreamOptions, Subscription};
use veilcast::key_store::MemoryKeyStore;
use veilcast::permission::ethereum::{Action, ChainConfig, EthereumRegistry, FollowConfig};
use veilcast::time::{Clock, SystemClock};
use veilcast::{Event, Identity, Payload, Period, Permission, Refusal, StreamId, UserId};

/// The last message of the day.
const CLOSING: &str = "closing";
const PERIOD: Duration = Duration::from_millis(500);

/// Who decides about permissions.
enum Market {
    /// The registry in the seller's own store.
    Local,
    /// A contract.
    Chain(Arc<EthereumRegistry>),
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (market, identity) = Market::open()?;
    let seller = client(identity.clone(), &market, &[]).await?;
    let address = seller.addresses().await;
    let (monthly, trial) = (reader(&market, &address).await?, reader(&market, &address).await?);

    let stream = market.create(&seller, &identity, "prices/btc").await?;
    market.grant(&seller, &identity, &stream, monthly.user(), Period::ALWAYS).await?;
    let ends = SystemClock.now().plus(market.paid());
    market.grant(&seller, &identity, &stream, trial.user(), Period::until(ends)).await?;

    let monthly_reads = tokio::spawn(read_all("monthly", monthly.subscribe(&stream).await?));
    let trial_reads = tokio::spawn(read_until_refused("trial", trial.subscribe(&stream).await?));
    seller.wait_for_peers(&stream.part(0)?, 2).await;

    let mut sent = 0;
    while !trial_reads.is_finished() {
        seller.publish(&stream, Payload::json(&price(sent))?).await?;
        sent += 1;
        tokio::time::sleep(PERIOD).await;
    }
    let (read, refusal) = trial_reads.await?;
    seller.publish(&stream, Payload::text(CLOSING)).await?;
    let all = monthly_reads.await?;
    for client in [seller, monthly, trial] {
        client.stop().await;
    }

    println!("trial read {read} of {sent} messages, then: {refusal}");
    println!("monthly read {all} of {sent}");
    if all != sent || read >= sent || !matches!(refusal, Refusal::Expired { .. }) {
        return Err("the trial should have ended with its time, and nobody else noticed".into());
    }
    Ok(())
}

impl Market {
    fn open() -> Result<(Self, Identity), Box<dyn Error>> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let [contract, endpoint] = &arguments[..] else {
            return Ok((Self::Local, Identity::generate(&mut rand::rng())));
        };
        let mut secret = [0; 32];
        hex::decode_to_slice(std::env::var("SELLER_KEY")?, &mut secret)?;
        let mut config = ChainConfig::default();
        config.confirmations = 1; // a demonstration: to wait for the recommended twelve blocks would take longer than what is sold
        let registry = EthereumRegistry::builder(contract.parse()?).rpc(endpoint).config(config).build()?;
        // A real seller gives the store it keeps its keys in; the events are then read once.
        let registry = registry.follow(Arc::new(MemoryKeyStore::default()), FollowConfig::default());
        Ok((Self::Chain(Arc::new(registry)), Identity::from_secret_bytes(&secret)?))
    }

    /// How much time is sold: a chain needs some to take it down.
    fn paid(&self) -> Duration {
        Duration::from_secs(if matches!(self, Self::Local) { 3 } else { 10 })
    }

    async fn create(&self, seller: &Client, identity: &Identity, path: &str) -> Result<StreamId, Box<dyn Error>> {
        let Self::Chain(registry) = self else {
            return Ok(seller.create_stream(path, StreamOptions::default()).await?);
        };
        spend(registry, identity, Action::CreateStream { path: path.into(), partitions: 1 }).await?;
        Ok(StreamId::of(seller.user(), path)?)
    }

    async fn grant(
        &self,
        seller: &Client,
        identity: &Identity,
        stream: &StreamId,
        user: UserId,
        period: Period,
    ) -> Result<(), Box<dyn Error>> {
        let permission = Permission::Subscribe;
        match self {
            Self::Local => Ok(seller.grant(stream, user, permission, period).await?),
            Self::Chain(registry) => {
                spend(registry, identity, Action::Grant { stream: stream.clone(), user, permission, period }).await
            }
        }
    }
}

/// Says what it may cost, does it, and waits until it is in a block.
async fn spend(registry: &EthereumRegistry, identity: &Identity, action: Action) -> Result<(), Box<dyn Error>> {
    let account = registry.account(identity.clone());
    let quote = account.quote(action).await?;
    println!("  seller: at most {} wei of {} for {:?}", quote.total(), quote.balance(), quote.action());
    let receipt = quote.send().await?.receipt().await?;
    println!("  seller: {} wei, in block {}", receipt.cost, receipt.block);
    Ok(())
}

fn price(n: u32) -> [u32; 2] {
    [n, 64_000 + n * 7 % 100]
}

async fn reader(market: &Market, bootstrap: &[Multiaddr]) -> Result<Client, Box<dyn Error>> {
    client(Identity::generate(&mut rand::rng()), market, bootstrap).await
}

async fn client(identity: Identity, market: &Market, bootstrap: &[Multiaddr]) -> Result<Client, Box<dyn Error>> {
    let mut config = ClientConfig::default();
    config.rsa_bits = 2048; // quicker to make than the default of 3072
    let mut builder = Client::builder(identity).config(config).listen("/ip4/127.0.0.1/tcp/0".parse()?);
    if let Market::Chain(registry) = market {
        builder = builder.permissions(registry.clone());
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

/// What comes before the closing message.
async fn read_all(name: &str, mut subscription: Subscription) -> u32 {
    let mut read = 0;
    while let Some(delivery) = subscription.next().await {
        if let Delivery::Message(message) = delivery {
            if message.text() == Some(CLOSING) {
                break;
            }
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
