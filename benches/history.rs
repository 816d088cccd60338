//! "The last hundred messages of a long history come at once, and a span of it as fast as a reader can take it."
//!
//! A store on disk is filled and read by itself: that is the limit. Then a storage node, in a process of its own and with the limits
//! that nodes have, serves the same store over loopback TCP to two readers, one after the other:
//!
//! - One takes the bytes: it asks for the next page as soon as one is here, and checks nothing of it. That is what a node serves.
//! - One is a client: it checks every signature, opens every message with a key it holds and delivers them in order. What bounds
//!   it is the recovery of a signer for each message on all cores, which is measured as well.
//!
//! `VEILCAST_BENCH_MESSAGES` says how many, of 256 bytes each: 200,000 unless said; 5,000,000 for the figures in the README, whose
//! making takes longer than all else. `VEILCAST_BENCH_STORE` names a folder that keeps them for the next run,
//! `VEILCAST_BENCH_CACHE` the page cache in MiB, 64 unless said.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use veilcast::cipher::MessageCipher;
use veilcast::client::{Client, Delivery, Multiaddr, PeerId, Replay};
use veilcast::key_store::{GroupKey, KeyId, KeyOrigin, KeyStore, MemoryKeyStore};
use veilcast::message::{Draft, compose};
use veilcast::network::Network;
use veilcast::storage::{Filter, MessageStore, Place, Query, SledMessageStore};
use veilcast::time::{Clock, SystemClock};
use veilcast::wire::{MessageContent, MessageRef, Received, RequestId, ResendPage, ResendRequest, Span, Verified};
use veilcast::{Event, Identity, Payload, StreamPart, Timestamp};
use veilcast_benches::roles::keep::open;
use veilcast_benches::roles::{Keep, KeepSetup, config, identity, stream};
use veilcast_benches::{Better, Child, Line, Outcome, Report, Sample, bare_node, cores, quick_or, run};

/// Appended together, as a storage node under load does.
const BATCH: u64 = 1000;
/// Bytes of payload.
const PAYLOAD: usize = 256;
/// Times that the last 100 are asked for.
const TRIES: usize = 500;
/// Messages that the client reads at most.
const CHECKED: u64 = 300_000;

fn main() -> Outcome<()> {
    run(|| Bench::from_env()?.run())
}

struct Bench {
    count: u64,
    cache_mib: u64,
    identity: Identity,
    part: StreamPart,
    key: GroupKey,
}

fn setting(name: &str, unless_said: u64) -> Outcome<u64> {
    Ok(env::var(name).ok().map_or(Ok(unless_said), |text| text.parse())?)
}

fn per_second(count: u64, since: Instant) -> Sample {
    Sample::of([count as f64 / since.elapsed().as_secs_f64()])
}

impl Bench {
    fn from_env() -> Outcome<Self> {
        Ok(Self {
            count: setting("VEILCAST_BENCH_MESSAGES", quick_or(20_000, 200_000))?,
            cache_mib: setting("VEILCAST_BENCH_CACHE", 64)?,
            identity: identity(0)?,
            part: stream()?.part(0)?,
            key: GroupKey::new(KeyId::new("bench")?, &[2; 32])?,
        })
    }

    fn run(&self) -> Outcome<()> {
        let mut report = Report::begin("history")?;
        let (temporary, kept) = (tempfile::tempdir()?, env::var_os("VEILCAST_BENCH_STORE").map(PathBuf::from));
        let folder = kept.as_deref().unwrap_or(temporary.path());
        let store = open(folder, self.cache_mib)?;
        if store.state()?.messages == 0 {
            let appended = self.fill(&store)?;
            report.line(Line::rate("messages appended, a thousand for each sync", "1/s", &appended));
        }
        drop(store);
        let began = Instant::now();
        let store = open(folder, self.cache_mib)?;
        let opened = began.elapsed();
        println!("  {:?}", store.state()?);
        report.line(Line::new("opening the store", Better::Less, "s", opened.as_secs_f64()));
        let last = timed_tries(|| self.last_hundred(&store))?;
        let began = Instant::now();
        let stored = self.everything(&store)?;
        let alone = per_second(stored, began);
        report.line(Line::rate("messages read from the store, no network", "1/s", &alone));
        drop(store);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(self.over_loopback(&mut report, folder, stored, &last, &alone))?;
        report.save()
    }

    /// Messages a second that appending takes in, without the making of them.
    fn fill(&self, store: &SledMessageStore) -> Outcome<Sample> {
        let (mut appending, begin) = (Duration::ZERO, SystemClock.now().minus(Duration::from_millis(self.count)));
        for first in (0..self.count).step_by(BATCH as usize) {
            let batch = self.made(begin, first, BATCH.min(self.count - first))?;
            let began = Instant::now();
            store.append(SystemClock.now(), &batch)?;
            appending += began.elapsed();
        }
        Ok(Sample::of([self.count as f64 / appending.as_secs_f64()]))
    }

    /// One chain, a message every millisecond; made on all cores.
    fn made(&self, begin: Timestamp, first: u64, count: u64) -> Outcome<Vec<Verified<MessageContent>>> {
        let cipher = MessageCipher::new(&veilcast::scope(self.identity.user(), self.part.stream()), &self.key);
        let payload = Payload::binary(vec![7; PAYLOAD]);
        let at = |n| MessageRef { timestamp: begin.plus(Duration::from_millis(n)), sequence: 0 };
        let one = |n: u64| {
            let previous = n.checked_sub(1).map(at);
            let draft = Draft { part: self.part.clone(), chain: [3; 16], at: at(n), previous, key_updates: Vec::new() };
            compose(draft, &payload, Some((self.key.id(), &cipher)), &self.identity, &mut rand::rng())
        };
        let numbers: Vec<u64> = (first..first + count).collect();
        let made = on_all_cores(&numbers, |share| share.iter().map(|n| one(*n)).collect::<Result<Vec<_>, _>>())?;
        Ok(made.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
    }

    fn last_hundred(&self, store: &SledMessageStore) -> Outcome<()> {
        let begin = store.last(&self.part, &Filter::ALL, 100)?.first;
        let page = store.read(&Query::everything(self.part.clone()).starting_at(begin))?;
        if page.messages.len() == 100 && page.next.is_none() { Ok(()) } else { Err("not the last 100".into()) }
    }

    fn everything(&self, store: &SledMessageStore) -> Outcome<u64> {
        let (mut read, mut query) = (0, Query::everything(self.part.clone()));
        loop {
            let page = store.read(&query)?;
            read += page.messages.len() as u64;
            match page.next {
                Some(next) => query = query.after(Some(next)),
                None => return Ok(read),
            }
        }
    }

    async fn over_loopback(
        &self,
        report: &mut Report,
        folder: &Path,
        stored: u64,
        last_alone: &Sample,
        alone: &Sample,
    ) -> Outcome<()> {
        let setup = KeepSetup { folder: folder.into(), cache_mib: self.cache_mib };
        let (node, address) = Child::<Keep>::start(&setup)?;
        let address: Multiaddr = address.parse()?;
        let memory = |name: &str| -> Outcome<Line> {
            let line = Line::new(name, Better::Less, "MiB", node.usage()?.resident_mib());
            Ok(line.limit(self.cache_mib as f64, "the page cache it was given"))
        };
        report.line(memory("memory of the node, its store open")?);
        let reader = Reader { network: bare_node().await?, me: &self.identity, part: &self.part, address: &address };
        let mut last = Vec::with_capacity(TRIES);
        for _ in 0..TRIES {
            let began = Instant::now();
            let page = reader.page(Span::Last(100), None).await?;
            last.push(began.elapsed());
            if page.messages.len() != 100 {
                return Err("not the last 100".into());
            }
        }
        let last = Sample::of_times(&last);
        let line = Line::cost("the last 100, p50", "ms", 1e3, &last);
        report.line(line.limit(last_alone.median() * 1e3, "the store alone").target(10.0));
        let p99 = last.percentile(99.0) * 1e3;
        let line = Line::new("the last 100, p99", Better::Less, "ms", p99);
        report.line(line.limit(last_alone.percentile(99.0) * 1e3, "the store alone").target(10.0));

        let began = Instant::now();
        if reader.everything().await? != stored {
            return Err("not everything was served".into());
        }
        let line = Line::rate("messages served to a reader that takes the bytes", "1/s", &per_second(stored, began));
        report.line(line.limit(alone.median(), "the store alone").target(100_000.0));
        report.line(memory("memory of the node, all of it served")?);
        reader.network.stop().await;

        let (limit, checked) = (self.recoveries()?, self.read_as_client(&address).await?);
        let line = Line::rate("messages checked, opened and delivered to a client", "1/s", &checked);
        report.line(line.limit(limit.median(), "recoveries alone, on all cores"));
        Ok(())
    }

    /// A client that holds the key, and reads the newest messages.
    async fn read_as_client(&self, address: &Multiaddr) -> Outcome<Sample> {
        let (keys, count) = (Arc::new(MemoryKeyStore::new()), CHECKED.min(self.count));
        let scope = veilcast::scope(self.identity.user(), self.part.stream());
        keys.add(&scope, &self.key, 0, None, KeyOrigin::Received)?;
        let reader = Client::builder(self.identity.clone()).config(config()).store(keys).start().await?;
        reader.connect(address.clone()).await?;
        let mut subscription = reader.resend(self.part.stream(), Replay::last(count)).await?;
        let (began, mut read) = (Instant::now(), 0);
        while let Some(delivery) = subscription.next().await {
            match delivery {
                Delivery::Message(_) => read += 1,
                Delivery::Event(Event::HistoryEnd { .. } | Event::KeyArrived { .. }) => {}
                Delivery::Event(event) => return Err(format!("{event:?}").into()),
            }
        }
        let rate = per_second(read, began);
        reader.stop().await;
        if read == count { Ok(rate) } else { Err("not everything was delivered".into()) }
    }

    /// What bounds whoever checks.
    fn recoveries(&self) -> Outcome<Sample> {
        let count = quick_or(2_000, 50_000);
        let made = self.made(SystemClock.now(), 0, count)?;
        let envelopes: Vec<Bytes> = made.iter().map(|message| message.envelope().clone()).collect();
        let began = Instant::now();
        let checked = on_all_cores(&envelopes, |share| {
            let good = |envelope| Received::<MessageContent>::decode(envelope).is_ok_and(|read| read.verify().is_ok());
            share.iter().filter(|envelope| good(envelope)).count() as u64
        })?;
        let rate = per_second(count, began);
        if checked.iter().sum::<u64>() == count { Ok(rate) } else { Err("a signature is bad".into()) }
    }
}

/// One share for each core; the answers in their order.
fn on_all_cores<T: Sync, A: Send>(all: &[T], work: impl Fn(&[T]) -> A + Sync) -> Outcome<Vec<A>> {
    let share = all.len().div_ceil(cores()).max(1);
    thread::scope(|scope| {
        let working: Vec<_> = all.chunks(share).map(|share| scope.spawn(|| work(share))).collect();
        working.into_iter().map(|worker| worker.join().map_err(|_| "a thread broke off".into())).collect()
    })
}

fn timed_tries(mut one: impl FnMut() -> Outcome<()>) -> Outcome<Sample> {
    let mut took = Vec::with_capacity(TRIES);
    for _ in 0..TRIES {
        let began = Instant::now();
        one()?;
        took.push(began.elapsed());
    }
    Ok(Sample::of_times(&took))
}

/// Asks by hand.
struct Reader<'a> {
    network: Network,
    /// The owner, who may always read, and whose node it is.
    me: &'a Identity,
    part: &'a StreamPart,
    address: &'a Multiaddr,
}

impl Reader<'_> {
    async fn page(&self, span: Span, after: Option<Place>) -> Outcome<ResendPage> {
        let peer = self.address.to_string().rsplit('/').next().and_then(|peer| peer.parse::<PeerId>().ok());
        let peer = peer.ok_or("its address ends in its peer id")?;
        loop {
            let request = ResendRequest {
                id: RequestId(rand::random()),
                part: self.part.clone(),
                node: self.me.user(),
                requester: self.me.user(),
                sent: SystemClock.now(),
                span,
                after,
                filter: Filter::ALL,
                proofs: Vec::new(),
            };
            let envelope = Verified::sign(request, self.me)?.envelope().to_vec();
            let answer = self.network.request(peer, vec![self.address.clone()], envelope).await?;
            let page = Received::<ResendPage>::decode(&answer.into())?.claims().clone();
            // A node gives one reader so many pages a second.
            match page.refusal.map(|refusal| (refusal, refusal.retry_after())) {
                None => return Ok(page),
                Some((_, Some(wait))) => tokio::time::sleep(wait).await,
                Some((refusal, None)) => return Err(refusal.to_string().into()),
            }
        }
    }

    /// The next page is asked for as soon as one is here.
    async fn everything(&self) -> Outcome<u64> {
        let span = Span::Range { from: Timestamp::ZERO, to: Timestamp::from_millis(u64::MAX) };
        let mut page = self.page(span, None).await?;
        let mut read = 0;
        loop {
            read += page.messages.len() as u64;
            match page.next {
                Some(next) => page = self.page(span, Some(next)).await?,
                None => return Ok(read),
            }
        }
    }
}
