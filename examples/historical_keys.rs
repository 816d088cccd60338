//! A month of stored messages, each day under a key of its own, and a buyer who comes late: what he reads is exactly what the
//! publisher's policy allows, keys in use within the last seven days. What he may not have is told day by day, and the rest is
//! read. Then the publisher goes away, and with the keys that the buyer has by now the same history opens again.
//!
//! Nobody waits a month: the clock that everybody here goes by began thirty days ago and is put forward from message to message.
//! The storage node keeps the stream because the owner's record names it; it never has a key.
//!
//! `cargo run -p veilcast-examples --bin historical_keys`

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use veilcast::client::{Client, ClientBuilder, ClientConfig, Delivery, KeyUpdateMethod, Multiaddr, Replay};
use veilcast::exchange::HistoryPolicy;
use veilcast::key_store::{KeyId, KeyStore, MemoryKeyStore, SledKeyStore, TimeRange, Unlock};
use veilcast::permission::StreamSettings;
use veilcast::storage::{SledMessageStore, StorageLimits};
use veilcast::subscriber::StorageFault;
use veilcast::time::{Clock, SystemClock};
use veilcast::{Event, Identity, Payload, Period, Permission, Refusal, StreamId, Timestamp};

type Outcome<T> = Result<T, Box<dyn Error>>;

const DAYS: u64 = 30;
const PER_DAY: u64 = 4;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Days on which the publisher was down.
const DOWN: std::ops::Range<u64> = 12..15;
const WINDOW: Duration = Duration::from_secs(7 * 24 * 3600);
/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() -> Outcome<()> {
    let market = Market::open()?;
    let keys = market.live_through_the_month().await?;
    let first = keys.first().ok_or("there are keys")?.since;

    // Everybody starts anew, thirty days later; the month is on disk.
    let publisher = market.publisher(&[]).await?;
    publisher.client.set_history(&market.stream, HistoryPolicy::Window(WINDOW)).await?;
    let node = market.node(&publisher.client.addresses().await).await?;
    publisher.client.announce_record(&market.stream).await?;
    let record = market.record(&publisher.client).await?;
    node.import_grant(&record).await?;
    let address = node.addresses().await;

    let stranger = market.start(Client::builder(market.stranger.clone()), &address).await?;
    stranger.import_grant(&record).await?;
    let told = market.read(&stranger, Timestamp::ZERO).await?;
    check(told.texts.is_empty() && told.faults == [StorageFault::Refused(Refusal::Denied)], "a stranger is denied")?;
    println!("a stranger asks the storage node: {}", told.faults[0]);

    println!("a buyer comes late; keys in use within the last 7 days are handed out, and no older ones:");
    let shelf = Arc::new(MemoryKeyStore::default());
    let buyer = market.start(Client::builder(market.buyer.clone()).store(shelf.clone()), &address).await?;
    let grant =
        publisher.client.issue_grant(&market.stream, buyer.user(), Permission::Subscribe, Period::ALWAYS).await?;
    buyer.import_grant(&record).await?;
    buyer.import_grant(&grant).await?;
    let read = market.read(&buyer, Timestamp::ZERO).await?;
    let since = market.clock.now().minus(WINDOW);
    let (allowed, denied): (Vec<_>, Vec<_>) = keys.iter().partition(|key| key.until.is_none_or(|until| until >= since));
    for key in &denied {
        let (began, ended) = (day_of(key.since, first), key.until.map_or(DAYS.into(), |until| day_of(until, first)));
        let dropped = read.refused.get(&key.id).copied().unwrap_or_default();
        println!("  days {began:02} to {ended:02}: refused by policy, {dropped} messages");
        check(dropped == key.messages.len() as u64, "what is before the window is refused, key by key")?;
    }
    let readable: Vec<&String> = allowed.iter().flat_map(|key| &key.messages).collect();
    check(!denied.is_empty() && read.refused.len() == denied.len(), "and nothing else is refused")?;
    check(read.texts.iter().eq(readable.iter().copied()), "what the window allows is read, in order")?;
    for text in &read.texts {
        println!("  {text}");
    }
    println!("{} messages read under {} keys, {} keys refused", read.texts.len(), allowed.len(), denied.len());

    publisher.client.stop().await;
    buyer.stop().await;
    let buyer = market.start(Client::builder(market.buyer.clone()).store(shelf), &address).await?;
    let again = market.read(&buyer, allowed.first().ok_or("some are allowed")?.since).await?;
    let asked = buyer.stats().key_requests_sent;
    check(again.texts == read.texts && again.refused.is_empty(), "the same opens while the publisher is away")?;
    check(asked == 0, "with the keys that the buyer has")?;
    println!("the publisher is gone: {} messages read again, {asked} key requests sent", again.texts.len());
    for client in [stranger, buyer, node] {
        client.stop().await;
    }
    Ok(())
}

fn check(holds: bool, what: &str) -> Outcome<()> {
    if holds { Ok(()) } else { Err(format!("not so: {what}").into()) }
}

/// Thirty days behind the machine's clock, and put forward by hand. It runs all the same: what waits for a moment is not kept
/// waiting for ever.
struct Calendar(AtomicU64);

impl Calendar {
    fn pass(&self, span: Duration) {
        self.0.fetch_add(span.as_secs(), Ordering::SeqCst);
    }
}

impl Clock for Calendar {
    fn now(&self) -> Timestamp {
        let begin = SystemClock.now().minus(DAY * u32::try_from(DAYS).unwrap_or(u32::MAX));
        begin.plus(Duration::from_secs(self.0.load(Ordering::SeqCst)))
    }
}

/// The publisher, and its keys on disk.
struct Publisher {
    client: Client,
    keys: Arc<SledKeyStore>,
}

/// A key of the publisher, and what it sealed.
struct DayKey {
    id: KeyId,
    since: Timestamp,
    until: Option<Timestamp>,
    messages: Vec<String>,
}

/// What a reader was brought.
#[derive(Default)]
struct Reading {
    texts: Vec<String>,
    /// How many messages the refusal of each key cost.
    refused: BTreeMap<KeyId, u64>,
    faults: Vec<StorageFault>,
}

struct Market {
    folder: tempfile::TempDir,
    clock: Arc<Calendar>,
    publisher: Identity,
    node: Identity,
    buyer: Identity,
    stranger: Identity,
    stream: StreamId,
}

impl Market {
    fn open() -> Outcome<Self> {
        let [publisher, node, buyer, stranger] = std::array::from_fn(|_| Identity::generate(&mut rand::rng()));
        let stream = StreamId::of(publisher.user(), "weather")?;
        let (folder, clock) = (tempfile::tempdir()?, Arc::new(Calendar(AtomicU64::new(0))));
        Ok(Self { folder, clock, publisher, node, buyer, stranger, stream })
    }

    /// The keys there were in the end.
    async fn live_through_the_month(&self) -> Outcome<Vec<DayKey>> {
        let mut publisher = self.publisher(&[]).await?;
        let node = self.node(&publisher.client.addresses().await).await?;
        let settings =
            StreamSettings { partitions: 1, public: false, publishers: Vec::new(), storage: vec![self.node.user()] };
        publisher.client.set_up_stream("weather", settings).await?;
        let (mut sealed, mut published) = (BTreeMap::<KeyId, Vec<String>>::new(), 0);
        for day in (0..DAYS).filter(|day| !DOWN.contains(day)) {
            if day == DOWN.end {
                // Its store has every key; it goes on with the last one until the next rekey.
                self.stored(&node, published).await?;
                publisher.client.stop().await;
                drop(publisher);
                self.clock.pass(DAY * u32::try_from(DOWN.end - DOWN.start)?);
                publisher = self.publisher(&node.addresses().await).await?;
            }
            let (key_id, texts) = self.live_a_day(&publisher, &node, day).await?;
            published += texts.len();
            sealed.entry(key_id).or_default().extend(texts);
        }
        self.stored(&node, published).await?;
        println!("{published} messages of {DAYS} days are stored, sealed under {} keys", sealed.len());
        let keys = self.periods(&publisher, sealed)?;
        publisher.client.stop().await;
        node.stop().await;
        Ok(keys)
    }

    /// A key for the day, and some messages. Answers the key.
    async fn live_a_day(&self, publisher: &Publisher, node: &Client, day: u64) -> Outcome<(KeyId, Vec<String>)> {
        let client = &publisher.client;
        // Its owner makes the record anew from time to time: it says something for thirty days.
        client.announce_record(&self.stream).await?;
        node.import_grant(&self.record(client).await?).await?;
        client.wait_for_peers(&self.stream.part(0)?, 1).await;
        if day > 0 {
            client.update_encryption_key(&self.stream, KeyUpdateMethod::Rekey, None).await?;
        }
        let mut texts = Vec::new();
        for n in 0..PER_DAY {
            let text = format!("day {day:02}, {:02}:00: {} degrees", n * 24 / PER_DAY, 10 + (day + n) % 9);
            client.publish(&self.stream, Payload::text(&text)).await?;
            texts.push(text);
            self.clock.pass(DAY / u32::try_from(PER_DAY)?);
        }
        let current = publisher.keys.current(&self.scope())?.ok_or("it published, so there is a key")?;
        Ok((current.key.id().clone(), texts))
    }

    /// What the publisher's store has of the keys that sealed something.
    fn periods(&self, publisher: &Publisher, mut sealed: BTreeMap<KeyId, Vec<String>>) -> Outcome<Vec<DayKey>> {
        let stored = publisher.keys.history(&self.scope(), TimeRange::ALL, None, usize::MAX)?;
        let mut keys = Vec::new();
        for stored in stored {
            let id = stored.key.id().clone();
            let messages = sealed.remove(&id).ok_or("every key sealed something")?;
            let (since, until) = (Timestamp::from_millis(stored.since), stored.until.map(Timestamp::from_millis));
            keys.push(DayKey { id, since, until, messages });
        }
        check(sealed.is_empty(), "the publisher has every key it ever used")?;
        Ok(keys)
    }

    fn scope(&self) -> veilcast::key_store::KeyScope {
        veilcast::scope(self.publisher.user(), &self.stream)
    }

    async fn record(&self, owner: &Client) -> Outcome<String> {
        Ok(owner.stream_record(&self.stream).await?.ok_or("the stream was set up")?)
    }

    /// Waits until the storage node has so many messages.
    async fn stored(&self, node: &Client, messages: usize) -> Outcome<()> {
        let stored = async {
            while node.storage_state().await?.is_none_or(|state| state.messages < messages as u64) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, stored).await?
    }

    /// The publisher, with its store on disk.
    async fn publisher(&self, bootstrap: &[Multiaddr]) -> Outcome<Publisher> {
        let folder = self.folder.path();
        let unlock = Unlock::KeyFile(folder.join("store.key"));
        let keys = Arc::new(SledKeyStore::open(&folder.join("keys"), &unlock)?);
        let builder = Client::builder(self.publisher.clone()).store(keys.clone());
        Ok(Publisher { client: self.start(builder, bootstrap).await?, keys })
    }

    /// The storage node, with its messages on disk. It goes by the publisher's record, and needs nothing else.
    async fn node(&self, bootstrap: &[Multiaddr]) -> Outcome<Client> {
        let store = SledMessageStore::open(&self.folder.path().join("messages"), StorageLimits::default())?;
        let builder = Client::builder(self.node.clone()).storage(Arc::new(store), []);
        self.start(builder.assigned_by([self.publisher.user()]), bootstrap).await
    }

    async fn start(&self, builder: ClientBuilder, bootstrap: &[Multiaddr]) -> Outcome<Client> {
        let mut config = ClientConfig::default();
        config.rsa_bits = 2048; // quicker to make than the default of 3072
        let mut builder = builder.config(config).clock(self.clock.clone()).signed_grants();
        builder = builder.listen("/ip4/127.0.0.1/tcp/0".parse()?);
        for address in bootstrap {
            builder = builder.bootstrap(address.clone());
        }
        let client = builder.start().await?;
        for address in bootstrap {
            client.connect(address.clone()).await?;
        }
        Ok(client)
    }

    /// Stored messages from a moment on, to the end.
    async fn read(&self, reader: &Client, from: Timestamp) -> Outcome<Reading> {
        let (mut subscription, mut reading) =
            (reader.resend(&self.stream, Replay::from(from)).await?, Reading::default());
        while let Some(delivery) = tokio::time::timeout(PATIENCE, subscription.next()).await? {
            match delivery {
                Delivery::Message(message) => reading.texts.push(message.text().ok_or("it is text")?.to_owned()),
                Delivery::Event(Event::KeyRefused { key_id, refusal: Refusal::Policy, .. }) => {
                    reading.refused.entry(key_id).or_default();
                }
                // What could not be read is told in sum, key by key, at the end.
                Delivery::Event(Event::Unread { key_id, messages, .. }) => {
                    *reading.refused.entry(key_id).or_default() += messages;
                }
                Delivery::Event(Event::StorageFault { fault, .. }) => reading.faults.push(fault),
                Delivery::Event(Event::KeyPending { .. } | Event::KeyArrived { .. } | Event::HistoryEnd { .. }) => {}
                Delivery::Event(event) => return Err(format!("nobody expected {event:?}").into()),
            }
        }
        Ok(reading)
    }
}

/// A moment as the day of the month that it is.
fn day_of(moment: Timestamp, first: Timestamp) -> u128 {
    moment.since(first).as_millis() / DAY.as_millis()
}
