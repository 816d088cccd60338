//! "The last hundred messages of a long history come at once, and a span of it as fast as a reader can take it."
//!
//! A store on disk is filled, reopened with its page cache bounded, and read: the last 100, and everything, page by page. Then a
//! storage node serves the same store over loopback TCP to a reader that counts envelopes and checks nothing but the
//! page: what bounds it is the round trip of a page and SHA-256 over its bytes, once for each side's signature. The reading of the
//! store alone is the limit it is measured against.
//!
//! `VEILCAST_BENCH_MESSAGES` says how many; 200,000 by default, 5,000,000 for the figure in the README of the benches. Messages are
//! of 256 bytes each. Making them takes longer than all else: a signature each.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use veilcast::cipher::MessageCipher;
use veilcast::client::{Client, ClientConfig, Keypair, Multiaddr, PeerId, StreamOptions};
use veilcast::key_store::{GroupKey, KeyId};
use veilcast::message::{Draft, compose};
use veilcast::network::{self, Gate, Network, NetworkConfig, Verdict};
use veilcast::storage::{Filter, MessageStore, Place, Query, SledMessageStore, StorageLimits};
use veilcast::time::{Clock, SystemClock};
use veilcast::wire::{MessageContent, MessageRef, Received, RequestId, ResendPage, ResendRequest, Span, Verified};
use veilcast::{Identity, Payload, StreamId, StreamPart, Timestamp, UserId};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Appended together, as a storage node under load does.
const BATCH: usize = 1000;
/// Times that the last 100 are asked for.
const LAST_TRIES: u32 = 200;
/// Bytes of payload.
const PAYLOAD: usize = 256;

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

fn main() -> Outcome<()> {
    let count = std::env::var("VEILCAST_BENCH_MESSAGES").ok().map_or(Ok(200_000), |text| text.parse::<u64>())?;
    let folder = tempfile::tempdir()?;
    let identity = Identity::from_secret_bytes(&[1; 32])?;
    let part = StreamId::of(identity.user(), "prices")?.part(0)?;
    let limits = StorageLimits::default().max_bytes(u64::MAX);

    let store = SledMessageStore::open(folder.path(), limits)?;
    let (making, appending) = fill(&store, &identity, &part, count)?;
    println!("made {count} messages in {making:.1?}, appended in {appending:.1?}: {:.0}/s", rate(count, appending));
    drop(store);
    let began = Instant::now();
    let store = Arc::new(SledMessageStore::open(folder.path(), limits)?);
    println!("opened in {:.1?}: {:?}", began.elapsed(), store.state()?);

    let last = last_hundred(&store, &part)?;
    println!("the last 100 from the store: {last:.2?} on average");
    let began = Instant::now();
    let read = everything(&store, &part)?;
    let alone = rate(read, began.elapsed());
    println!("everything from the store: {alone:.0} messages/s");

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(served(store, identity, part, alone))
}

fn rate(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// How long making and appending took.
fn fill(store: &SledMessageStore, identity: &Identity, part: &StreamPart, count: u64) -> Outcome<(Duration, Duration)> {
    let key = GroupKey::new(KeyId::new("bench")?, &[2; 32])?;
    let cipher = MessageCipher::new(&veilcast::scope(identity.user(), part.stream()), &key);
    let (mut making, mut appending) = (Duration::ZERO, Duration::ZERO);
    let (payload, now) = (Payload::binary(vec![7; PAYLOAD]), SystemClock.now());
    let (mut batch, mut previous) = (Vec::with_capacity(BATCH), None);
    for n in 0..count {
        let began = Instant::now();
        let at = MessageRef { timestamp: now.minus(Duration::from_millis(count - n)), sequence: 0 };
        let draft = Draft { part: part.clone(), chain: [3; 16], at, previous, key_updates: Vec::new() };
        previous = Some(at);
        batch.push(compose(draft, &payload, Some((key.id(), &cipher)), identity, &mut rand::rng())?);
        making += began.elapsed();
        if batch.len() == BATCH || n + 1 == count {
            let began = Instant::now();
            store.append(now, &batch)?;
            appending += began.elapsed();
            batch.clear();
        }
    }
    Ok((making, appending))
}

fn last_hundred(store: &SledMessageStore, part: &StreamPart) -> Outcome<Duration> {
    let began = Instant::now();
    for _ in 0..LAST_TRIES {
        let begin = store.last(part, &Filter::ALL, 100)?.first;
        let page = store.read(&Query::everything(part.clone()).starting_at(begin))?;
        assert!(page.messages.len() == 100 && page.next.is_none());
    }
    Ok(began.elapsed() / LAST_TRIES)
}

fn everything(store: &SledMessageStore, part: &StreamPart) -> Outcome<u64> {
    let (mut read, mut query) = (0, Query::everything(part.clone()));
    loop {
        let page = store.read(&query)?;
        read += page.messages.len() as u64;
        match page.next {
            Some(next) => query = query.after(Some(next)),
            None => return Ok(read),
        }
    }
}

/// Where and as whom to ask.
struct Reader {
    network: Network,
    me: Identity,
    node: UserId,
    peer: PeerId,
    addresses: Vec<Multiaddr>,
    part: StreamPart,
}

async fn served(store: Arc<SledMessageStore>, identity: Identity, part: StreamPart, alone: f64) -> Outcome<()> {
    let mut config = ClientConfig::default();
    config.rsa_ahead = false;
    // A single reader that takes all it can get.
    config.resend.per_requester.per_second = 1_000_000;
    config.resend.per_requester.burst = 1_000_000;
    config.resend.per_peer = config.resend.per_requester;
    config.resend.total = config.resend.per_requester;
    let builder = Client::builder(identity.clone()).config(config).listen("/ip4/127.0.0.1/tcp/0".parse()?);
    let node = builder.storage(store, [part.stream().clone()]).start().await?;
    node.create_stream("prices", StreamOptions::default()).await?;
    let (network, mut events) =
        network::spawn(NetworkConfig::new(Keypair::generate_ed25519()), Arc::new(TakesAll)).await?;
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    let (peer, addresses) = (node.peer_id(), node.addresses().await);
    // The owner may always read.
    let reader = Reader { network, me: identity, node: node.user(), peer, addresses, part };

    reader.page(Span::Last(100), None).await?;
    let began = Instant::now();
    for _ in 0..LAST_TRIES {
        assert_eq!(reader.page(Span::Last(100), None).await?.messages.len(), 100);
    }
    println!("the last 100 over loopback: {:.2?} on average", began.elapsed() / LAST_TRIES);

    let began = Instant::now();
    let read = reader.everything().await?;
    let served = rate(read, began.elapsed());
    println!("everything over loopback: {served:.0} messages/s, {:.2} of the store alone", served / alone);
    reader.network.stop().await;
    node.stop().await;
    Ok(())
}

impl Reader {
    async fn page(&self, span: Span, after: Option<Place>) -> Outcome<ResendPage> {
        let request = ResendRequest {
            id: RequestId(rand::random()),
            part: self.part.clone(),
            node: self.node,
            requester: self.me.user(),
            sent: SystemClock.now(),
            span,
            after,
            filter: Filter::ALL,
            proofs: Vec::new(),
        };
        let envelope = Verified::sign(request, &self.me)?.envelope().to_vec();
        let answer = self.network.request(self.peer, self.addresses.clone(), envelope).await?;
        let page = Received::<ResendPage>::decode(&answer.into())?.verify()?.into_content();
        match page.refusal {
            Some(refusal) => Err(refusal.to_string().into()),
            None => Ok(page),
        }
    }

    /// The next page is asked for as soon as one is here, as the client does.
    async fn everything(&self) -> Outcome<u64> {
        let span = Span::Range { from: Timestamp::ZERO, to: Timestamp::from_millis(u64::MAX) };
        let mut page = self.page(span, None).await?;
        let mut read = 0;
        loop {
            read += page.messages.len() as u64;
            // Decoded, so that it is known to be what was asked for; its signature is the reader's own cost.
            if let Some(first) = page.messages.first() {
                Received::<MessageContent>::decode(first)?;
            }
            match page.next {
                Some(next) => page = self.page(span, Some(next)).await?,
                None => return Ok(read),
            }
        }
    }
}
