//! "While somebody floods a publisher with key requests, everybody else is answered as if nobody did."
//!
//! Over real sockets: a publisher, subscribers who each ask at a steady pace, and one identity that floods through several peers
//! of its own. The p99 of the others' answers is taken without the flood and under it; their ratio is the figure. Each party
//! has threads of its own, but they share the machine's cores: the flood's own cost is in the figure too.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use veilcast::cipher::RsaPair;
use veilcast::client::{Client, ClientConfig, Keypair, Multiaddr, PeerId, StreamOptions};
use veilcast::key_store::{GroupKey, KeyId, KeyStore, MemoryKeyStore};
use veilcast::network::{self, Gate, Network, NetworkConfig, Verdict};
use veilcast::time::{Clock, SystemClock};
use veilcast::wire::{ALGORITHM_RSA_OAEP_SHA256, KeyAnswer, KeyRequest, Received, RequestId, Verified, Wanted};
use veilcast::{Identity, Period, Permission, StreamId, UserId};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Honest subscribers, and what each asks per second: well within its limit.
const SUBSCRIBERS: u8 = 20;
const PACE: u32 = 5;
/// How long each of the two measurements lasts.
const LASTS: Duration = Duration::from_secs(10);
/// The flood: peers, requests per second of each, and requests that one has under way.
const FLOODING_PEERS: u8 = 8;
const FLOOD_PACE: u32 = 250;
const UNDER_WAY: usize = 32;

/// Where to ask, and for what.
#[derive(Clone)]
struct Desk {
    publisher: UserId,
    peer: PeerId,
    addresses: Vec<Multiaddr>,
    stream: StreamId,
    key: KeyId,
    /// The public half of an RSA pair that everybody here uses.
    public_key: Vec<u8>,
}

/// A node without rules.
struct TakesAll;

impl Gate for TakesAll {
    type Accepted = Bytes;

    fn admit_frame(&self, _: &str, frame: &[u8]) -> Result<Bytes, Verdict> {
        Ok(Bytes::copy_from_slice(frame))
    }

    fn is_topic(&self, _: &str) -> bool {
        true
    }

    fn admit_record(&self, _: &[u8], _: &[u8]) -> bool {
        true
    }
}

fn identity(byte: u8) -> Outcome<Identity> {
    Ok(Identity::from_secret_bytes(&[byte; 32])?)
}

fn runtime(threads: usize) -> Outcome<Runtime> {
    Ok(Builder::new_multi_thread().worker_threads(threads).enable_all().build()?)
}

async fn node() -> Outcome<Network> {
    let (network, mut events) =
        network::spawn(NetworkConfig::new(Keypair::generate_ed25519()), Arc::new(TakesAll)).await?;
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    Ok(network)
}

async fn publisher(subscribers: &[UserId]) -> Outcome<(Client, Desk)> {
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
    Ok((client, Desk { publisher, peer, addresses, stream, key: key.id().clone(), public_key }))
}

impl Desk {
    fn request(&self, who: &Identity) -> Outcome<Vec<u8>> {
        let request = KeyRequest {
            id: RequestId(rand::random()),
            stream: self.stream.clone(),
            publisher: self.publisher,
            requester: who.user(),
            sent: SystemClock.now(),
            algorithm: ALGORITHM_RSA_OAEP_SHA256,
            public_key: self.public_key.clone(),
            wanted: Wanted::Keys(vec![self.key.clone()]),
            proofs: Vec::new(),
        };
        Ok(Verified::sign(request, who)?.envelope().to_vec())
    }

    /// Asks, and tells how long the answer took. Whoever is honest must be given the key.
    async fn ask(&self, network: &Network, who: &Identity) -> Outcome<Duration> {
        let request = self.request(who)?;
        let start = Instant::now();
        let answer = network.request(self.peer, self.addresses.clone(), request).await?;
        let took = start.elapsed();
        let answer = Received::<KeyAnswer>::decode(&answer.into())?.verify()?;
        if answer.content().granted.len() == 1 { Ok(took) } else { Err("an honest request was refused".into()) }
    }
}

/// Every subscriber asks at its pace, the first moments apart; how long each answer took, ascending.
async fn measure(desk: &Desk, subscribers: &[(Identity, Network)]) -> Outcome<Vec<Duration>> {
    let mut asking = JoinSet::new();
    for (n, (who, network)) in (0_u32..).zip(subscribers) {
        let (desk, who, network) = (desk.clone(), who.clone(), network.clone());
        asking.spawn(async move {
            let step = Duration::from_secs(1) / PACE;
            tokio::time::sleep(step * n / u32::from(SUBSCRIBERS)).await;
            let (mut ticks, mut took) = (interval(step), Vec::new());
            for _ in 0..LASTS.as_secs() * u64::from(PACE) {
                ticks.tick().await;
                took.push(desk.ask(&network, &who).await?);
            }
            Outcome::Ok(took)
        });
    }
    let mut all = Vec::new();
    while let Some(took) = asking.join_next().await {
        all.extend(took??);
    }
    all.sort();
    Ok(all)
}

/// One identity, through so many peers, at a steady pace until it is told to stop. Returns how many requests left.
async fn flood(desk: Desk, stop: Arc<AtomicBool>) -> Outcome<u64> {
    let who = identity(200)?;
    let (sent, mut peers) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
    for _ in 0..FLOODING_PEERS {
        let (network, desk, who, stop, sent) = (node().await?, desk.clone(), who.clone(), stop.clone(), sent.clone());
        peers.spawn(async move { flood_through(network, desk, who, stop, sent).await });
    }
    while let Some(ended) = peers.join_next().await {
        ended??;
    }
    Ok(sent.load(Ordering::Relaxed))
}

async fn flood_through(
    network: Network,
    desk: Desk,
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
            let (network, desk, request) = (network.clone(), desk.clone(), desk.request(&who)?);
            under_way.spawn(async move { network.request(desk.peer, desk.addresses, request).await });
            sent.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// The value that so many of a hundred do not exceed.
fn percentile(took: &[Duration], percent: usize) -> Duration {
    took.get((took.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
}

fn on<T>(runtime: &Runtime, work: impl Future<Output = T>) -> T {
    runtime.block_on(work)
}

fn main() -> Outcome<()> {
    let (selling, asking, flooding) = (runtime(2)?, runtime(2)?, runtime(1)?);
    let identities: Vec<Identity> = (2..2 + SUBSCRIBERS).map(identity).collect::<Outcome<_>>()?;
    let users: Vec<UserId> = identities.iter().map(Identity::user).chain([identity(200)?.user()]).collect();
    let (client, desk) = on(&selling, publisher(&users))?;
    let subscribers = on(&asking, async {
        let mut nodes = Vec::new();
        for who in identities {
            let network = node().await?;
            desk.ask(&network, &who).await?;
            nodes.push((who, network));
        }
        Outcome::Ok(nodes)
    })?;

    let quiet = on(&asking, measure(&desk, &subscribers))?;
    let stop = Arc::new(AtomicBool::new(false));
    let (told, target, begun) = (stop.clone(), desk.clone(), Instant::now());
    let flood = thread::spawn(move || flooding.block_on(flood(target, told)));
    let flooded = on(&asking, measure(&desk, &subscribers))?;
    stop.store(true, Ordering::Relaxed);
    let sent = flood.join().map_err(|_| "the flood broke off")??;

    let per_second = sent as f64 / begun.elapsed().as_secs_f64();
    println!("{} subscribers, {PACE} requests a second each, all answered with their key", subscribers.len());
    println!("quiet          p50 {:?}, p99 {:?}", percentile(&quiet, 50), percentile(&quiet, 99));
    println!("under a flood  p50 {:?}, p99 {:?}", percentile(&flooded, 50), percentile(&flooded, 99));
    println!("the flood: one identity, {FLOODING_PEERS} peers, {per_second:.0} requests a second");
    let dropped = client.stats().key_requests_dropped;
    println!("dropped without an answer: {dropped} of {sent}");
    let ratio = percentile(&flooded, 99).as_secs_f64() / percentile(&quiet, 99).as_secs_f64();
    println!("p99 under the flood: {ratio:.2}x its quiet value (limit: 2x)");
    Ok(())
}
