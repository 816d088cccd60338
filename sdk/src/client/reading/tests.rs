use veilcast_key_store::{GroupKey, KeyOrigin, KeyStore, MemoryKeyStore, TimeRange};

use super::*;
use crate::cipher::{MessageCipher, wrap_next};
use crate::client::shared::lock;
use crate::client::subscribing::{FRAMES, PAGES, Subscription, begin, start};
use crate::client::{Client, ClientConfig, ReadOptions};
use crate::identity::Identity;
use crate::key_ring::{self, RingPrefix};
use crate::message::{Draft, Message, Payload, compose};
use crate::permission::{Answer, Grant, Period, PermissionSource, Refusal, StreamInfo, Subscriber};
use crate::subscriber::Arrival;
use crate::time::ManualClock;
use crate::wire::{KeyUpdate, MessageRef, UpdateKind};

const NOW: Timestamp = Timestamp::from_secs(1_000_000);

fn identity(byte: u8) -> Identity {
    Identity::from_secret_bytes(&[byte; 32]).unwrap()
}

fn key(n: usize) -> GroupKey {
    GroupKey::new(KeyId::new(&format!("key-{n}")).unwrap(), &[9; 32]).unwrap()
}

/// A client that listens nowhere, its own stream, and the clock it goes by.
struct Alone {
    client: Client,
    store: Arc<MemoryKeyStore>,
    clock: Arc<ManualClock>,
    stream: StreamId,
}

impl Alone {
    async fn start() -> Self {
        Self::with_source(None).await
    }

    async fn with_source(source: Option<Arc<dyn PermissionSource>>) -> Self {
        Self::with_config(ClientConfig::default(), source).await
    }

    async fn with_config(config: ClientConfig, source: Option<Arc<dyn PermissionSource>>) -> Self {
        let (store, clock) = (Arc::new(MemoryKeyStore::default()), Arc::new(ManualClock::at(NOW)));
        let config = ClientConfig { rsa_ahead: false, ..config };
        let builder = Client::builder(identity(1)).store(store.clone()).clock(clock.clone()).config(config);
        let builder = match source {
            Some(source) => builder.permissions(source),
            None => builder,
        };
        let client = builder.start().await.unwrap();
        let stream = client.create_stream("s", Default::default()).await.unwrap();
        Self { client, store, clock, stream }
    }

    /// The answer whether the client may publish is at hand, so that its messages wait for none.
    async fn knows_its_publisher(&self) {
        self.client.shared.check(&self.stream, self.client.user(), Permission::Publish).await.unwrap();
    }

    fn reading(&self) -> Reading {
        Reading::new(self.client.shared.clone(), self.stream.clone(), self.client.shared.config.intake, Kind::Live)
    }

    fn writer(&self, byte: u8) -> Writer {
        Writer { identity: identity(byte), stream: self.stream.clone(), chain: [7; 16], count: 0 }
    }
}

/// Writes the messages of one chain.
struct Writer {
    identity: Identity,
    stream: StreamId,
    chain: [u8; 16],
    count: u32,
}

impl Writer {
    fn user(&self) -> UserId {
        self.identity.user()
    }

    fn write(&mut self, under: Option<&GroupKey>, key_updates: Vec<KeyUpdate>) -> Verified<MessageContent> {
        let at = |sequence| MessageRef { timestamp: NOW, sequence };
        let previous = self.count.checked_sub(1).map(at);
        let (part, chain) = (self.stream.part(0).unwrap(), self.chain);
        let draft = Draft { part, chain, at: at(self.count), previous, key_updates };
        self.count += 1;
        let cipher = under.map(|key| MessageCipher::new(&crate::scope(self.user(), &self.stream), key));
        let sealing = under.zip(cipher.as_ref()).map(|(key, cipher)| (key.id(), cipher));
        compose(draft, &Payload::text("x"), sealing, &self.identity, &mut rand::rng()).unwrap()
    }
}

fn on_a_small_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::Builder::new().stack_size(256 << 10).spawn(work).unwrap().join().unwrap()
}

fn messages_in(ready: &VecDeque<Delivery>) -> usize {
    ready.iter().filter(|delivery| matches!(delivery, Delivery::Message(_))).count()
}

const PARKED: usize = 10_000;

#[tokio::test]
async fn ten_thousand_parked_messages_each_under_its_own_stored_key_are_read_on_a_small_stack() {
    let alone = Alone::start().await;
    alone.knows_its_publisher().await;
    let (mut reading, mut writer) = (alone.reading(), alone.writer(1));
    let publisher = writer.user();
    for n in 1..PARKED {
        let scope = crate::scope(publisher, &alone.stream);
        alone.store.add(&scope, &key(n), NOW.as_millis(), None, KeyOrigin::Received).unwrap();
    }
    reading.messages((0..PARKED).map(|n| writer.write(Some(&key(n)), Vec::new())).collect());
    assert_eq!((reading.intake.parked(), messages_in(&reading.ready)), (PARKED, 0));
    let reading = on_a_small_stack(move || {
        reading.news(KeyNews::Arrived { publisher, key: key(0), by: Arrival::Answer });
        reading
    });
    assert_eq!((reading.intake.parked(), messages_in(&reading.ready)), (0, PARKED));
    alone.client.stop().await;
}

#[tokio::test]
async fn ten_thousand_parked_messages_each_under_a_key_not_agreed_on_are_dropped_on_a_small_stack() {
    let alone = Alone::start().await;
    alone.knows_its_publisher().await;
    let (mut reading, mut writer) = (alone.reading(), alone.writer(1));
    reading.messages((0..PARKED).map(|n| writer.write(Some(&key(n)), Vec::new())).collect());
    assert_eq!(reading.intake.parked(), PARKED);
    // That they wait was told.
    reading.ready.clear();
    let everything = RingPrefix::new(&alone.client.user().to_string()).unwrap();
    key_ring::add(&*alone.store, &everything, &key(PARKED), NOW.as_millis()).unwrap();
    let reading = on_a_small_stack(move || {
        reading.news(KeyNews::RingChanged);
        reading
    });
    let dropped = |delivery: &&Delivery| matches!(delivery, Delivery::Event(Event::KeyNotAgreed { dropped: 1, .. }));
    assert_eq!((reading.intake.parked(), reading.ready.iter().filter(dropped).count()), (0, PARKED));
    alone.client.stop().await;
}

/// Knows one publisher and never answers about anybody else.
struct Hangs {
    knows: UserId,
    asked: tokio::sync::Semaphore,
}

impl Hangs {
    fn knowing(knows: UserId) -> Arc<Self> {
        Arc::new(Self { knows, asked: tokio::sync::Semaphore::new(0) })
    }
}

impl PermissionSource for Hangs {
    fn check<'a>(
        &'a self,
        _: &'a StreamId,
        user: UserId,
        permission: Permission,
        _: Timestamp,
    ) -> Answer<'a, Result<Grant, Refusal>> {
        self.asked.add_permits(1);
        match user == self.knows {
            true => Box::pin(std::future::ready(Ok(Grant::new(permission, Period::ALWAYS)))),
            false => Box::pin(std::future::pending()),
        }
    }

    fn subscribers<'a>(&'a self, _: &'a StreamId) -> Answer<'a, Result<Vec<Subscriber>, Refusal>> {
        Box::pin(std::future::pending())
    }

    fn stream<'a>(&'a self, _: &'a StreamId) -> Answer<'a, Result<Option<StreamInfo>, Refusal>> {
        Box::pin(std::future::pending())
    }

    fn changes(&self) -> u64 {
        0
    }
}

/// Answers nobody until it is told to, and then that everybody may do everything.
struct Late(tokio::sync::watch::Sender<bool>);

impl Late {
    fn new() -> Arc<Self> {
        Arc::new(Self(tokio::sync::watch::Sender::new(false)))
    }

    fn answers_now(&self) {
        self.0.send_replace(true);
    }
}

impl PermissionSource for Late {
    fn check<'a>(
        &'a self,
        _: &'a StreamId,
        _: UserId,
        permission: Permission,
        _: Timestamp,
    ) -> Answer<'a, Result<Grant, Refusal>> {
        Box::pin(async move {
            let _ = self.0.subscribe().wait_for(|answers| *answers).await;
            Ok(Grant::new(permission, Period::ALWAYS))
        })
    }

    fn subscribers<'a>(&'a self, _: &'a StreamId) -> Answer<'a, Result<Vec<Subscriber>, Refusal>> {
        Box::pin(std::future::pending())
    }

    fn stream<'a>(&'a self, _: &'a StreamId) -> Answer<'a, Result<Option<StreamInfo>, Refusal>> {
        Box::pin(std::future::pending())
    }

    fn changes(&self) -> u64 {
        0
    }
}

async fn send(to: &bounded::Sender<Feed>, feed: Feed) {
    to.reserve(feed.bytes()).await.unwrap().send(feed);
}

/// Whoever can go on without anything from outside has done so.
async fn settled() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// The messages, and what was told beside them, to the end.
async fn to_the_end(mut reads: Subscription) -> (Vec<Message>, Vec<Event>) {
    let (mut messages, mut events) = (Vec::new(), Vec::new());
    while let Some(delivery) = reads.next().await {
        match delivery {
            Delivery::Message(message) => messages.push(message),
            Delivery::Event(event) => events.push(event),
        }
    }
    (messages, events)
}

#[tokio::test]
async fn a_permission_source_that_answers_late_loses_nothing_of_a_long_history() {
    const PAGE: usize = 1000;
    let source = Late::new();
    let alone = Alone::with_source(Some(source.clone())).await;
    let (shared, mut writer) = (&alone.client.shared, alone.writer(2));
    let limits = shared.config.intake;
    let (reads, feed) = begin(shared, alone.stream.clone(), Vec::new(), Vec::new(), limits, Kind::Past, None).unwrap();
    let stored: Vec<_> = (0..25 * PAGE).map(|_| writer.write(None, Vec::new())).collect();
    let feeding = async {
        let mut taken_unchecked = 0;
        for page in stored.chunks(PAGE) {
            settled().await;
            if feed.try_reserve(0).is_err() {
                source.answers_now();
            } else if !*source.0.borrow() {
                taken_unchecked += PAGE;
            }
            send(&feed, Feed::Messages(page.to_vec())).await;
        }
        source.answers_now();
        send(&feed, Feed::End).await;
        taken_unchecked
    };
    let (taken_unchecked, (messages, events)) = tokio::join!(feeding, to_the_end(reads));
    assert_eq!((messages.len(), events.len()), (25 * PAGE, 0), "{:?}", events.first());
    assert!(
        taken_unchecked <= limits.parked / 2 + AHEAD + (PAGES + 2) * PAGE,
        "{taken_unchecked} taken in, and none checked"
    );
    alone.client.stop().await;
}

#[tokio::test]
async fn what_an_application_does_not_take_is_bounded_in_bytes_by_its_options_and_a_message_larger_than_all_passes() {
    const BYTES: usize = 64 << 10;
    let alone = Alone::start().await;
    alone.knows_its_publisher().await;
    let (shared, publisher) = (&alone.client.shared, alone.writer(1).user());
    let scope = crate::scope(publisher, &alone.stream);
    alone.store.add(&scope, &key(0), NOW.as_millis(), None, KeyOrigin::Received).unwrap();
    for bytes in [BYTES, 1] {
        let mut writer = alone.writer(1);
        let limits = ReadOptions::default().untaken_bytes(bytes).limits(shared.config.intake);
        let (mut reads, feed) =
            begin(shared, alone.stream.clone(), Vec::new(), Vec::new(), limits, Kind::Live, None).unwrap();
        let mut taken_in = 0;
        for _ in 0..1000 {
            let fed = Feed::Messages(vec![writer.write(Some(&key(0)), Vec::new())]);
            settled().await;
            let Ok(room) = feed.try_reserve(fed.bytes()) else { break };
            taken_in += 1;
            room.send(fed);
        }
        let mut waited = Vec::new();
        while waited.len() < taken_in {
            if let Some(message @ Delivery::Message(_)) = reads.next().await {
                waited.push(message.bytes());
            }
        }
        // One on each part of the way is let through whatever there is.
        let (all, one) = (waited.iter().sum::<usize>(), waited[0]);
        assert!(all <= bytes + 4 * one && (taken_in < 1000), "{taken_in}: {all}");
    }
    alone.client.stop().await;
}

/// Of the past: messages of somebody who is away under ten keys, 20,000 together, and among them 2,000 of somebody whose key is
/// in the store, in pages; and the way to a subscription that reads them.
struct AwayAmongOthers {
    alone: Alone,
    away: UserId,
    reads: Subscription,
    feed: bounded::Sender<Feed>,
    pages: Vec<Vec<Verified<MessageContent>>>,
}

impl AwayAmongOthers {
    const KEYS: usize = 10;
    const UNDER_EACH: usize = 2000;
    const OTHERS: usize = 2000;

    async fn new(tries: u32) -> Self {
        let mut config = ClientConfig::default();
        config.requester.find_timeout = Duration::from_millis(10);
        config.requester.max_tries = tries;
        // After the first failure it is pending for as long as anybody looks.
        config.requester.retry_base = Duration::from_secs(3600);
        config.requester.retry_max = Duration::from_secs(3600);
        config.requester.max_key_requests_per_second = 1000;
        let source = Late::new();
        source.answers_now();
        let alone = Alone::with_config(config, Some(source)).await;
        let (mut away, mut other) = (alone.writer(2), alone.writer(3));
        let scope = crate::scope(other.user(), &alone.stream);
        alone.store.add(&scope, &key(0), NOW.as_millis(), None, KeyOrigin::Received).unwrap();
        let mut past = Vec::new();
        for n in 0..Self::KEYS * Self::UNDER_EACH {
            past.push(away.write(Some(&key(1 + n / Self::UNDER_EACH)), Vec::new()));
            if n % Self::KEYS == 0 {
                past.push(other.write(Some(&key(0)), Vec::new()));
            }
        }
        let pages = past.chunks(1000).map(<[_]>::to_vec).collect();
        let (shared, limits) = (&alone.client.shared, alone.client.shared.config.intake);
        let (reads, feed) =
            begin(shared, alone.stream.clone(), Vec::new(), Vec::new(), limits, Kind::Past, None).unwrap();
        Self { away: away.user(), alone, reads, feed, pages }
    }
}

#[tokio::test]
async fn all_of_the_past_of_others_arrives_while_the_keys_of_a_publisher_that_is_away_are_pending() {
    let AwayAmongOthers { alone, away, mut reads, feed, pages } = AwayAmongOthers::new(10).await;
    let feeding = tokio::spawn(async move {
        for page in pages {
            send(&feed, Feed::Messages(page)).await;
        }
        // The end is not told: nobody is done with yet.
        feed.closed().await;
    });
    let (mut read, mut pending) = (0, 0);
    while read < AwayAmongOthers::OTHERS {
        match tokio::time::timeout(Duration::from_secs(60), reads.next()).await.expect("others are held up").unwrap() {
            Delivery::Message(message) => {
                assert_ne!(message.publisher, away);
                read += 1;
            }
            Delivery::Event(Event::KeyPending { publisher, .. }) if publisher == away => pending += 1,
            Delivery::Event(Event::KeyUnavailable { .. } | Event::ParkedDropped { .. }) => panic!("it is pending"),
            Delivery::Event(_) => {}
        }
    }
    assert_eq!(pending, AwayAmongOthers::KEYS, "each key is told and asked for once");
    drop(reads);
    feeding.await.unwrap();
    alone.client.stop().await;
}

#[tokio::test]
async fn a_key_of_the_past_that_could_not_be_had_is_told_and_asked_for_once_and_told_in_sum_at_the_end() {
    let AwayAmongOthers { alone, away, reads, feed, pages } = AwayAmongOthers::new(1).await;
    let feeding = async move {
        for page in pages {
            send(&feed, Feed::Messages(page)).await;
        }
        send(&feed, Feed::Tell(Event::HistoryEnd { messages: 0, complete: true })).await;
        send(&feed, Feed::End).await;
    };
    let ((), (messages, events)) = tokio::join!(feeding, to_the_end(reads));
    assert_eq!(messages.len(), AwayAmongOthers::OTHERS);
    let of_away = |so: &dyn Fn(&Event) -> Option<KeyId>| {
        let mut keys: Vec<KeyId> = events.iter().filter_map(so).collect();
        keys.sort();
        keys
    };
    let mut all: Vec<KeyId> = (1..=AwayAmongOthers::KEYS).map(|n| key(n).id().clone()).collect();
    all.sort();
    let pending = of_away(&|event| match event {
        Event::KeyPending { publisher, key_id } if *publisher == away => Some(key_id.clone()),
        _ => None,
    });
    let given_up = of_away(&|event| match event {
        Event::KeyUnavailable { key_id, .. } => Some(key_id.clone()),
        _ => None,
    });
    let unread = of_away(&|event| match event {
        Event::Unread { key_id, messages, .. } if *messages == AwayAmongOthers::UNDER_EACH as u64 => {
            Some(key_id.clone())
        }
        _ => None,
    });
    assert_eq!((&pending, &given_up, &unread), (&all, &all, &all));
    assert!(matches!(events.last(), Some(Event::HistoryEnd { .. })), "{:?}", events.last());
    alone.client.stop().await;
}

/// The first message of so many authors, each somebody else.
fn strangers(alone: &Alone, n: u32) -> Vec<Verified<MessageContent>> {
    let author = |n: u32| {
        let mut secret = [2; 32];
        secret[..4].copy_from_slice(&n.to_be_bytes());
        Writer {
            identity: Identity::from_secret_bytes(&secret).unwrap(),
            stream: alone.stream.clone(),
            chain: [7; 16],
            count: 0,
        }
    };
    (1..=n).map(|n| author(n).write(None, Vec::new())).collect()
}

#[tokio::test]
async fn a_frame_of_a_thousand_strangers_holds_up_no_known_publisher_while_the_source_hangs() {
    let alone = Alone::with_source(Some(Hangs::knowing(identity(1).user()))).await;
    let (mut reading, mut known) = (alone.reading(), alone.writer(1));
    reading.messages(vec![known.write(None, Vec::new())]);
    assert_eq!(messages_in(&reading.ready), 1, "an answer that is there at once is not waited for");
    let mut frame = strangers(&alone, 1000);
    frame.push(known.write(None, Vec::new()));
    reading.messages(frame);
    assert_eq!((messages_in(&reading.ready), reading.unchecked.len()), (2, 1000));
    // Also when his answer is no longer fresh.
    alone.clock.set(NOW.plus(Duration::from_secs(60)));
    reading.messages(vec![known.write(None, Vec::new())]);
    assert_eq!((messages_in(&reading.ready), reading.unchecked.len()), (3, 1000));
    alone.client.stop().await;
}

#[tokio::test]
async fn a_client_stops_at_once_while_its_permission_source_hangs() {
    let source = Hangs::knowing(identity(1).user());
    let alone = Alone::with_source(Some(source.clone())).await;
    let shared = &alone.client.shared;
    let _reads = start(shared, alone.stream.clone(), Vec::new(), strangers(&alone, 20), shared.config.intake).unwrap();
    let messages = lock(&shared.readers)[0].messages.clone();
    send(&messages, Feed::Messages(strangers(&alone, 40))).await;
    source.asked.acquire_many(20).await.unwrap().forget();
    let began = std::time::Instant::now();
    alone.client.stop().await;
    assert!(began.elapsed() < Duration::from_secs(9), "two rounds of checks would take ten seconds");
}

#[tokio::test]
async fn a_gap_is_given_up_in_time_while_another_chain_never_pauses() {
    let alone = Alone::start().await;
    let (shared, mut gaps, mut busy) = (&alone.client.shared, alone.writer(1), alone.writer(1));
    busy.chain = [8; 16];
    let mut gapped: Vec<_> = (0..3).map(|_| gaps.write(None, Vec::new())).collect();
    gapped.remove(1);
    let mut reads = start(shared, alone.stream.clone(), Vec::new(), gapped, shared.config.intake).unwrap();
    let messages = lock(&shared.readers)[0].messages.clone();
    // Repeats are dropped, so that nobody need read what never pauses.
    let repeated = busy.write(None, Vec::new());
    let never_pausing = async {
        for n in 0_u32.. {
            send(&messages, Feed::Messages(vec![repeated.clone()])).await;
            if n == 2 * u32::try_from(FRAMES).unwrap() {
                alone.clock.advance(shared.config.intake.gap_wait);
            }
        }
    };
    let given_up = async { while !matches!(reads.next().await.unwrap(), Delivery::Event(Event::Gap { .. })) {} };
    let first = async {
        tokio::select! {
            () = never_pausing => {}
            () = given_up => {}
        }
    };
    tokio::time::timeout(Duration::from_secs(10), first).await.expect("the gap is given up");
    alone.client.stop().await;
}

#[tokio::test]
async fn a_publisher_that_carries_keys_without_end_makes_its_reader_store_no_more_than_the_limit() {
    const CARRIED: usize = 8;
    let alone = Alone::start().await;
    alone.knows_its_publisher().await;
    let (mut reading, mut writer) = (alone.reading(), alone.writer(1));
    let (publisher, scope) = (writer.user(), crate::scope(writer.user(), &alone.stream));
    reading.news(KeyNews::Arrived { publisher, key: key(0), by: Arrival::Store });
    let carry = |n| KeyUpdate {
        kind: UpdateKind::Rotate,
        key_id: key(n).id().clone(),
        wrapped_by: key(0).id().clone(),
        wrapped: wrap_next(&scope, &key(0), &key(n), &mut rand::rng()),
    };
    let at_a_time = u32::try_from(alone.client.shared.keeping.available_permits()).unwrap();
    let mut flood = async |from: usize, to: usize| {
        for first in (from..to).step_by(CARRIED) {
            // The key that wraps stays in use.
            reading.messages(vec![writer.write(Some(&key(0)), (first..first + CARRIED).map(carry).collect())]);
            // All of it is on disk: it is not how many are stored at a time that holds it back.
            drop(alone.client.shared.keeping.acquire_many(at_a_time).await.unwrap());
        }
        alone.store.history(&scope, TimeRange::ALL, None, 10_000).unwrap().len()
    };
    assert_eq!(flood(1, 1601).await, 1000);
    alone.clock.advance(Duration::from_secs(1));
    assert_eq!(flood(1601, 2401).await, 1100);
    alone.client.stop().await;
}
