//! "While somebody floods a publisher with key requests, everybody else is answered as if nobody did."
//!
//! Over real sockets: a publisher, subscribers who each ask at a steady pace, and one identity that floods through several peers
//! of its own. The p99 of the others' answers is taken without the flood and under it; their ratio is the figure. Each party
//! has threads of its own, but they share the machine's cores: the flood's own cost is in the figure too.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use veilcast::cipher::RsaPair;
use veilcast::client::{Client, ClientConfig, StreamOptions};
use veilcast::key_store::{GroupKey, KeyId, KeyStore, MemoryKeyStore};
use veilcast::network::Network;
use veilcast::time::{Clock, SystemClock};
use veilcast::{Identity, Period, Permission, StreamId, UserId};
use veilcast_benches::{Better, Counter, Line, Outcome, Report, Sample, bare_node, quick_or, run};

/// Honest subscribers, and what each asks per second: well within its limit.
const SUBSCRIBERS: u8 = 20;
const PACE: u32 = 5;
/// How long each of the two measurements lasts, in seconds.
const LASTS: u32 = 10;
/// The flood: peers, requests per second of each, and requests that one has under way.
const FLOODING_PEERS: u8 = 8;
const FLOOD_PACE: u32 = 250;
const UNDER_WAY: usize = 32;

fn identity(byte: u8) -> Outcome<Identity> {
    Ok(Identity::from_secret_bytes(&[byte; 32])?)
}

fn runtime(threads: usize) -> Outcome<Runtime> {
    Ok(Builder::new_multi_thread().worker_threads(threads).enable_all().build()?)
}

async fn publisher(subscribers: &[UserId]) -> Outcome<(Client, Counter)> {
    let (store, identity) = (Arc::new(MemoryKeyStore::new()), identity(1)?);
    let key = GroupKey::new(KeyId::new("sold")?, &[7; 32])?;
    let scope = veilcast::scope(identity.user(), &StreamId::of(identity.user(), "prices")?);
    store.make_current(&scope, &key, SystemClock.now().as_millis())?;
    let mut config = ClientConfig::default();
    config.rsa_bits = 2048;
    let builder = Client::builder(identity).store(store).config(config).listen("/ip4/127.0.0.1/tcp/0".parse()?);
    let client = builder.start().await?;
    let stream = client.create_stream("prices", StreamOptions::default()).await?;
    for user in subscribers {
        client.grant(&stream, *user, Permission::Subscribe, Period::ALWAYS).await?;
    }
    let public_key = RsaPair::generate(2048, &mut rand::rng())?.public().as_der().to_vec();
    let (publisher, peer, addresses) = (client.user(), client.peer_id(), client.addresses().await);
    Ok((client, Counter { publisher, peer, addresses, stream, key: key.id().clone(), public_key }))
}

/// Every subscriber asks at its pace, the first moments apart; how long each answer took, in seconds.
async fn measure(counter: &Counter, subscribers: &[(Identity, Network)]) -> Outcome<Sample> {
    let mut asking = JoinSet::new();
    for (n, (who, network)) in (0_u32..).zip(subscribers) {
        let (counter, who, network) = (counter.clone(), who.clone(), network.clone());
        asking.spawn(async move {
            let step = Duration::from_secs(1) / PACE;
            tokio::time::sleep(step * n / u32::from(SUBSCRIBERS)).await;
            let (mut ticks, mut took) = (interval(step), Vec::new());
            for _ in 0..quick_or(1, LASTS) * PACE {
                ticks.tick().await;
                took.push(counter.ask(&network, &who).await?);
            }
            Outcome::Ok(took)
        });
    }
    let mut all = Vec::new();
    while let Some(took) = asking.join_next().await {
        all.extend(took??);
    }
    Ok(Sample::of_times(&all))
}

/// One identity, through so many peers, at a steady pace until it is told to stop. Returns how many requests left.
async fn flood(counter: Counter, stop: Arc<AtomicBool>) -> Outcome<u64> {
    let who = identity(200)?;
    let (sent, mut peers) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
    for _ in 0..FLOODING_PEERS {
        let (network, counter, who, stop, sent) =
            (bare_node().await?, counter.clone(), who.clone(), stop.clone(), sent.clone());
        peers.spawn(async move { flood_through(network, counter, who, stop, sent).await });
    }
    while let Some(ended) = peers.join_next().await {
        ended??;
    }
    Ok(sent.load(Ordering::Relaxed))
}

async fn flood_through(
    network: Network,
    counter: Counter,
    who: Identity,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
) -> Outcome<()> {
    let mut ticks = interval(Duration::from_secs(1) / FLOOD_PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut under_way = JoinSet::new();
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        while under_way.try_join_next().is_some() {}
        if under_way.len() < UNDER_WAY {
            let (network, counter, request) = (network.clone(), counter.clone(), counter.request(&who)?);
            under_way.spawn(async move { network.request(counter.peer, counter.addresses, request).await });
            sent.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

fn on<T>(runtime: &Runtime, work: impl Future<Output = T>) -> T {
    runtime.block_on(work)
}

fn bench() -> Outcome<()> {
    let mut report = Report::begin("flood")?;
    let (selling, asking, flooding) = (runtime(2)?, runtime(2)?, runtime(1)?);
    let identities: Vec<Identity> = (2..2 + SUBSCRIBERS).map(identity).collect::<Outcome<_>>()?;
    let users: Vec<UserId> = identities.iter().map(Identity::user).chain([identity(200)?.user()]).collect();
    let (client, counter) = on(&selling, publisher(&users))?;
    let subscribers = on(&asking, async {
        let mut nodes = Vec::new();
        for who in identities {
            let network = bare_node().await?;
            counter.ask(&network, &who).await?;
            nodes.push((who, network));
        }
        Outcome::Ok(nodes)
    })?;

    let quiet = on(&asking, measure(&counter, &subscribers))?;
    let stop = Arc::new(AtomicBool::new(false));
    let (told, target, begun) = (stop.clone(), counter.clone(), Instant::now());
    let flood = thread::spawn(move || flooding.block_on(flood(target, told)));
    let flooded = on(&asking, measure(&counter, &subscribers))?;
    stop.store(true, Ordering::Relaxed);
    let sent = flood.join().map_err(|_| "the flood broke off")??;

    let per_second = sent as f64 / begun.elapsed().as_secs_f64();
    println!("  {} subscribers, {PACE} requests a second each, all answered with their key", subscribers.len());
    println!("  the flood: one identity, {FLOODING_PEERS} peers, {per_second:.0} requests a second");
    println!("  dropped without an answer: {} of {sent}", client.stats().key_requests_dropped);
    for (percent, target) in [(50.0, None), (99.0, Some(2.0))] {
        let figure = flooded.percentile(percent) * 1e3;
        let line = Line::new(format!("p{percent} of an answer under a flood"), Better::Less, "ms", figure);
        let line = line.limit(quiet.percentile(percent) * 1e3, "without the flood");
        report.line(Line { target_ratio: target, ..line });
    }
    report.save()
}

fn main() -> Outcome<()> {
    run(bench)
}
