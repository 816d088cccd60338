//! Twenty subscribers whose paid times on a chain end one after another, by the machine's clock.
//!
//! Ten end while the publisher says something every [`BEAT`], so that each end falls between two messages; ten while it is silent,
//! so that the window for ends decides. Whoever stays is sent the next key before each end, and waits for none of them. `cargo test -p veilcast --test chain -- --nocapture twenty` prints what it came to.

use std::sync::{Arc, Mutex};

use futures::future::join_all;
use serde_json::json;
use tokio::task::JoinHandle;
use veilcast::client::{Client, ClientConfig, ClientError, Delivery, Multiaddr, Subscription};
use veilcast::key_store::{KeyId, KeyScope, KeyStore, MemoryKeyStore, TimeRange};
use veilcast::permission::ethereum::{Action, FollowConfig};
use veilcast::publisher::GivenBy;
use veilcast::time::{Clock, SystemClock};
use veilcast::{Event, Identity, Payload};

use super::*;
use crate::anvil::LONG;

/// Identities: the seller, who also publishes; those whose times end; those whose do not.
const SELLER: u8 = 1;
const ENDING: std::ops::Range<u8> = 10..30;
const STAYING: std::ops::Range<u8> = 40..42;
/// Between two messages.
const BEAT: Duration = Duration::from_millis(50);
/// Between two ends, seconds. Longer than the window: each end has a rekey of its own.
const APART: u64 = 2;
/// How many ends fall into the time of messages.
const LOUD: usize = 10;

fn identity(byte: u8) -> Identity {
    Identity::from_secret_bytes(&[byte; 32]).unwrap()
}

fn now() -> Timestamp {
    SystemClock.now()
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(3 * LONG, future).await.expect("it should have happened by now")
}

async fn until(mut so: impl FnMut() -> bool) {
    within(async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// The seller's side: a chain that makes a block each second, and a publisher that follows it.
struct Seller {
    chain: Chain,
    registry: Arc<EthereumRegistry>,
    client: Client,
    stream: StreamId,
    /// When each key was first seen in use.
    seen: Arc<Mutex<Vec<Timestamp>>>,
    watching: JoinHandle<()>,
}

impl Drop for Seller {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// A key is in the store from the moment on at which it is in use.
async fn watch(store: Arc<MemoryKeyStore>, scope: KeyScope, seen: Arc<Mutex<Vec<Timestamp>>>) {
    loop {
        let keys = store.history(&scope, TimeRange::ALL, None, 1000).unwrap().len();
        seen.lock().unwrap().resize(keys, now());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Seller {
    async fn open() -> Self {
        let (chain, user) = (Chain::start_now().await, identity(SELLER).user());
        chain.give(user, 1_000_000_000_000_000_000).await;
        let (stream, store) = (StreamId::of(user, "s").unwrap(), Arc::new(MemoryKeyStore::default()));
        let mut follow = FollowConfig::default();
        follow.poll = Duration::from_millis(500);
        let registry = Arc::new(registry(&chain).follow(store.clone(), follow));
        let client = client(SELLER, &registry, store.clone(), &[]).await;
        let (seen, scope) = (Arc::default(), veilcast::scope(user, &stream));
        let watching = tokio::spawn(watch(store, scope, Arc::clone(&seen)));
        let seller = Self { chain, registry, client, stream, seen, watching };
        seller.act(Action::CreateStream { path: "s".into(), partitions: 1 }).await;
        join_all(ENDING.chain(STAYING).map(|byte| seller.sell(byte, Period::ALWAYS))).await;
        seller.registry.look_now().await;
        // From now on as on a real chain: blocks come when their time has come.
        seller.chain.rpc("evm_setAutomine", json!([false])).await;
        seller.chain.rpc("evm_setIntervalMining", json!([1])).await;
        seller
    }

    async fn act(&self, action: Action) {
        let account = self.registry.account(identity(SELLER));
        account.quote(action).await.unwrap().send().await.unwrap().receipt().await.unwrap();
    }

    async fn sell(&self, byte: u8, period: Period) {
        let (stream, user, permission) = (self.stream.clone(), identity(byte).user(), Permission::Subscribe);
        self.act(Action::Grant { stream, user, permission, period }).await;
    }

    /// Lets the twenty end one after another; returns when each is out, and from when on the publisher knew.
    async fn set_ends(&self) -> Vec<Ending> {
        // Far enough ahead for the transactions of a slow machine.
        let first = now().as_secs() + 20;
        let ends = (0..).map(|n| first + n * APART).zip(ENDING);
        join_all(ends.map(async |(end, byte)| {
            self.sell(byte, Period::until(at(end))).await;
            self.registry.look_now().await;
            Ending { byte, out: at(end + 1), known: now() }
        }))
        .await
    }

    /// When each key became the one in use.
    fn keys(&self) -> Vec<Timestamp> {
        self.seen.lock().unwrap().clone()
    }

    /// The keys that a reader was sent, and confirmed, before the end for which each was made.
    async fn sent_ahead(&self, reader: &Reader) -> Vec<KeyId> {
        let given = self.client.given_keys(&self.stream, reader.client.user()).await.unwrap();
        let ahead = given.into_iter().filter(|given| given.by == GivenBy::Push && given.at < given.since);
        ahead.map(|given| given.key_id).collect()
    }
}

/// Grants count in the newest block: how long they wait is not what is measured here.
fn registry(chain: &Chain) -> EthereumRegistry {
    chain.builder(config()).rpc(&chain.url).build().unwrap()
}

async fn client(byte: u8, registry: &Arc<EthereumRegistry>, store: Arc<MemoryKeyStore>, to: &[Multiaddr]) -> Client {
    let mut config = ClientConfig::default();
    config.rsa_bits = 2048;
    let builder = Client::builder(identity(byte)).config(config).store(store).permissions(registry.clone());
    let builder = builder.listen("/ip4/127.0.0.1/tcp/0".parse().unwrap());
    let client = to.iter().cloned().fold(builder, |builder, address| builder.bootstrap(address)).start().await.unwrap();
    for address in to {
        within(client.connect(address.clone())).await.unwrap();
    }
    client
}

/// When somebody's time is over.
#[derive(Clone, Copy)]
struct Ending {
    byte: u8,
    /// The first moment without permission.
    out: Timestamp,
    /// From when on the publisher knew.
    known: Timestamp,
}

impl Ending {
    fn refusal(&self) -> Refusal {
        Refusal::Expired { since: self.out.minus(Duration::from_secs(1)) }
    }

    /// Whatever is published from then on is not for him.
    fn counts(&self) -> Timestamp {
        self.out.max(self.known)
    }
}

/// What a subscriber got.
#[derive(Default)]
struct Tape {
    /// Which, and when.
    read: Vec<(usize, Timestamp)>,
    refusals: Vec<Refusal>,
    /// Keys that were waited for.
    waited: Vec<KeyId>,
    gaps: usize,
}

impl Tape {
    fn has_read(&self, number: usize) -> bool {
        self.read.iter().any(|(read, _)| *read == number)
    }

    fn missed(&self, numbers: std::ops::Range<usize>) -> Vec<usize> {
        numbers.filter(|number| !self.has_read(*number)).collect()
    }
}

/// A subscriber that reads all the time.
struct Reader {
    client: Client,
    tape: Arc<Mutex<Tape>>,
    task: JoinHandle<()>,
}

impl Reader {
    async fn start(byte: u8, seller: &Seller) -> Self {
        // One that asks the chain itself, and follows nothing.
        let registry = Arc::new(registry(&seller.chain));
        let client = client(byte, &registry, Arc::default(), &seller.client.addresses().await).await;
        let subscription = within(async {
            loop {
                // On a busy machine the chain may not answer in time.
                if let Ok(subscription) = client.subscribe(&seller.stream).await {
                    return subscription;
                }
            }
        })
        .await;
        let tape = Arc::new(Mutex::new(Tape::default()));
        let task = tokio::spawn(record(subscription, tape.clone()));
        Self { client, tape, task }
    }

    fn has_read(&self, number: usize) -> bool {
        self.tape.lock().unwrap().has_read(number)
    }

    fn was_refused(&self, refusal: Refusal) -> bool {
        self.tape.lock().unwrap().refusals.contains(&refusal)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn record(mut subscription: Subscription, tape: Arc<Mutex<Tape>>) {
    while let Some(delivery) = subscription.next().await {
        let mut tape = tape.lock().unwrap();
        match delivery {
            Delivery::Message(message) => tape.read.push((message.text().unwrap().parse().unwrap(), now())),
            Delivery::Event(Event::KeyRefused { refusal, .. }) => tape.refusals.push(refusal),
            Delivery::Event(Event::KeyPending { key_id, .. }) => tape.waited.push(key_id),
            Delivery::Event(Event::Gap { .. }) => tape.gaps += 1,
            Delivery::Event(_) => {}
        }
    }
}

/// Says numbers.
#[derive(Default)]
struct Said(Vec<Moments>);

/// Of one message.
struct Moments {
    /// Before it was given to the publisher.
    asked: Timestamp,
    /// The time it bears.
    dated: Timestamp,
}

impl Said {
    async fn next(&mut self, seller: &Seller) -> usize {
        let number = self.0.len();
        within(async {
            loop {
                let asked = now();
                match seller.client.publish(&seller.stream, Payload::text(number.to_string())).await {
                    Ok(at) => {
                        self.0.push(Moments { asked, dated: at.timestamp });
                        return number;
                    }
                    // On a busy machine the chain may not answer in time.
                    Err(ClientError::NotPermitted { refusal: Refusal::Unavailable { .. }, .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
        .await
    }

    async fn until(&mut self, moment: Timestamp, seller: &Seller) {
        while now() < moment {
            self.next(seller).await;
            tokio::time::sleep(BEAT).await;
        }
    }

    /// The first message that was given to the publisher then or later.
    fn asked_from(&self, moment: Timestamp) -> usize {
        self.0.partition_point(|said| said.asked < moment)
    }

    /// The first message dated then or later.
    fn dated_from(&self, moment: Timestamp) -> usize {
        self.0.partition_point(|said| said.dated < moment)
    }
}

/// What is reported of one end.
struct Row {
    byte: u8,
    /// Messages published after the end that were readable.
    readable_after: usize,
    /// Of those before the end, which were not read.
    missed_before: Vec<usize>,
    /// From the end until another key was in use.
    new_key: Duration,
}

fn row(ending: &Ending, tape: &Tape, first: usize, said: &Said, keys: &[Timestamp]) -> Row {
    let after = said.asked_from(ending.counts());
    let next = keys.iter().find(|made| **made >= ending.counts()).copied();
    Row {
        byte: ending.byte,
        readable_after: tape.read.iter().filter(|(number, _)| *number >= after).count(),
        missed_before: tape.missed(first..said.dated_from(ending.out)),
        new_key: next.expect("a key was made after the end").since(ending.counts()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_whose_times_on_a_chain_end_one_after_another_read_nothing_said_later_and_nobody_else_notices() {
    let seller = Seller::open().await;
    let staying = join_all(STAYING.map(|byte| Reader::start(byte, &seller))).await;
    let ending = join_all(ENDING.map(|byte| Reader::start(byte, &seller))).await;
    within(seller.client.wait_for_peers(&seller.stream.part(0).unwrap(), staying.len() + ending.len())).await;

    // Everybody has a key, and is part of the network.
    let (mut said, everybody) = (Said::default(), || ending.iter().chain(&staying));
    within(async {
        while !everybody().all(|reader| !reader.tape.lock().unwrap().read.is_empty()) {
            said.next(&seller).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    })
    .await;
    let first = said.next(&seller).await;
    until(|| everybody().all(|reader| reader.has_read(first))).await;

    for reader in &staying {
        reader.tape.lock().unwrap().waited.clear();
    }
    let asked: Vec<u64> = staying.iter().map(|reader| reader.client.stats().key_requests_sent).collect();
    let ends = seller.set_ends().await;
    said.until(ends[LOUD - 1].out.plus(Duration::from_millis(500)), &seller).await;
    // Silence: the keys change without a message.
    for ending in &ends[LOUD..] {
        until(|| seller.keys().iter().any(|made| *made >= ending.counts())).await;
    }
    let last = said.next(&seller).await;
    until(|| staying.iter().all(|reader| reader.has_read(last))).await;
    until(|| ending.iter().zip(&ends).all(|(reader, end)| reader.was_refused(end.refusal()))).await;

    let keys = seller.keys();
    let rows: Vec<Row> = ends
        .iter()
        .zip(&ending)
        .map(|(end, reader)| row(end, &reader.tape.lock().unwrap(), first, &said, &keys))
        .collect();
    for row in &rows {
        println!(
            "subscriber {}: {} readable after the end, missed before it: {:?}, a new key {} ms after it",
            row.byte,
            row.readable_after,
            row.missed_before,
            row.new_key.as_millis()
        );
    }
    let mut spans: Vec<u128> = rows.iter().map(|row| row.new_key.as_millis()).collect();
    spans.sort_unstable();
    println!("end to new key: p50 {} ms, p99 {} ms; {} keys, {} messages", spans[9], spans[19], keys.len(), last + 1);
    // How long a machine takes for a push is not what is tested here; for what was there before the end nobody waited, those
    // whose own end came later no more than those who stayed.
    for reader in everybody() {
        let (ahead, tape) = (seller.sent_ahead(reader).await, reader.tape.lock().unwrap());
        assert!(tape.waited.iter().all(|key| !ahead.contains(key)), "{:?} {ahead:?}", tape.waited);
    }
    for (reader, asked) in staying.iter().zip(asked) {
        let ahead = seller.sent_ahead(reader).await;
        let (tape, asked) = (reader.tape.lock().unwrap(), reader.client.stats().key_requests_sent - asked);
        let missed = tape.missed(first..last + 1);
        let latest =
            tape.read.iter().filter(|(number, _)| *number > first).map(|(number, at)| at.since(said.0[*number].asked));
        let latest = latest.max().unwrap().as_millis();
        println!(
            "one that stays: missed {missed:?}, sent {} of {} keys before the end, waited for {}, {asked} key requests at the ends, each read at most {latest} ms after it was said",
            ahead.len(),
            ends.len(),
            tape.waited.len()
        );
        assert_eq!(tape.refusals, [], "nobody else notices");
        assert!(!ahead.is_empty() && (asked == 0 || !tape.waited.is_empty()), "who waits for no key asks for none");
        assert!(missed.is_empty() || tape.gaps > 0, "what the network loses is told");
    }
    assert_eq!(rows.iter().map(|row| row.readable_after).sum::<usize>(), 0);
}
