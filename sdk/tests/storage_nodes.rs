//! Storage nodes over real sockets, among peers that break the rules and owners that change their minds.

#![cfg(feature = "p2p")]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use support::*;
use tokio::sync::watch;
use veilcast::client::{Client, Delivery, KeyUpdateMethod, Replay, SlowReader, StreamOptions};
use veilcast::exchange::Rate;
use veilcast::key_store::MemoryKeyStore;
use veilcast::permission::{Answer, Grant, LocalRegistry, PermissionSource, StreamInfo, StreamSettings, Subscriber};
use veilcast::storage::{
    Appended, Beginning, Filter, MemoryMessageStore, MessageStore, Page, Query, StorageError, StorageLimits,
    StorageState,
};
use veilcast::subscriber::StorageFault;
use veilcast::time::{Clock, ManualClock, SystemClock};
use veilcast::wire::{
    Frame, MessageContent, Received, RequestId, ResendPage, ResendRequest, Span, StorageRecord, Verified,
};
use veilcast::{Event, Period, Permission, Refusal, StreamId, StreamPart, Timestamp, UserId};

/// A stream whose owner signs what holds, published by the owner and stored by a node that goes by what it signed.
struct Depot {
    net: Net,
    owner: Client,
    stream: StreamId,
    node: Client,
}

impl Depot {
    async fn start() -> Self {
        Self::at(Arc::new(SystemClock)).await
    }

    /// All go by this clock.
    async fn at(clock: Arc<dyn Clock>) -> Self {
        let net = Net::start().await;
        let mut quick = config();
        quick.stream_record_refresh = Duration::from_millis(100);
        let builder = |byte| net.builder(byte).signed_grants().clock(clock.clone()).config(quick.clone());
        let owner = net.join(builder(1)).await;
        let settings = StreamSettings { partitions: 1, public: false, publishers: Vec::new(), storage: Vec::new() };
        let stream = owner.set_up_stream("s", settings).await.unwrap();
        let store: Arc<dyn MessageStore> = Arc::new(MemoryMessageStore::new(StorageLimits::default()));
        let node = net.join(builder(2).storage(store, [stream.clone()])).await;
        let depot = Self { net, owner, stream, node };
        depot.net.ready(&depot.owner, &depot.stream, 1).await;
        depot
    }

    /// Waits until the node has the owner's newest record.
    async fn follows(&self) {
        let newest = self.owner.stream_record(&self.stream).await.unwrap();
        until(async || self.node.stream_record(&self.stream).await.unwrap() == newest).await;
    }

    async fn says(&self, text: &str, kept: u64) {
        say(&self.owner, &self.stream, text).await;
        until(async || self.node.storage_state().await.unwrap().unwrap().messages == kept).await;
    }
}

/// Waits until this node's word that it keeps the stream is in the DHT, as many others see it.
async fn announced(net: &Net, stream: &StreamId, node: &Client) -> StorageRecord {
    let raw = Raw::leaf(&net.address).await;
    let mut found = None;
    until(async || {
        for slot in StorageRecord::slots() {
            for record in raw.network.get_record(StorageRecord::dht_key(stream, slot)).await.unwrap() {
                let record = Received::<StorageRecord>::decode(&Bytes::from(record)).unwrap();
                if record.claims().node == node.user() {
                    found = Some(record.claims().clone());
                }
            }
        }
        found.is_some()
    })
    .await;
    raw.network.stop().await;
    found.unwrap()
}

/// Everything until the reading ends.
async fn read(reader: &Client, stream: &StreamId) -> (Vec<String>, Vec<Event>) {
    let mut subscription = reader.resend(stream, Replay::from(Timestamp::ZERO)).await.unwrap();
    let (mut texts, mut events) = (Vec::new(), Vec::new());
    while let Some(delivery) = within(subscription.next()).await {
        match delivery {
            Delivery::Message(message) => texts.push(message.text().unwrap().to_owned()),
            Delivery::Event(event) => events.push(event),
        }
    }
    (texts, events)
}

fn refusals(events: &[Event]) -> Vec<Refusal> {
    let refusal = |event: &Event| match event {
        Event::StorageFault { fault: StorageFault::Refused(refusal), .. } => Some(*refusal),
        _ => None,
    };
    events.iter().filter_map(refusal).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_claims_the_peer_of_an_honest_storage_node_for_himself_takes_it_out_of_no_readers_list() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let store: Arc<dyn MessageStore> = Arc::new(MemoryMessageStore::new(StorageLimits::default()));
    let source = publisher.registry().clone();
    let node = net.join(net.builder(2).permissions(source.clone()).storage(store, [stream.clone()])).await;
    net.ready(&publisher, &stream, 1).await;
    say(&publisher, &stream, "kept").await;
    until(async || node.storage_state().await.unwrap().unwrap().messages == 1).await;
    let own = announced(&net, &stream, &node).await;

    // Dated as far ahead as a record may be, in a slot that is free.
    let (raw, liar, now) = (Raw::start(&net.address).await, identity(66), SystemClock.now());
    let slot = StorageRecord::slots().find(|slot| *slot != own.slot).unwrap();
    let issued = now.plus(Duration::from_secs(50));
    let false_word = StorageRecord {
        node: liar.user(),
        issued,
        expires: issued.plus(Duration::from_secs(600)),
        addresses: Vec::new(),
        slot,
        ..own.clone()
    };
    let signed = Verified::sign(false_word, &liar).unwrap().envelope().to_vec();
    within(raw.network.put_record(StorageRecord::dht_key(&stream, slot), signed, Duration::from_secs(600)))
        .await
        .unwrap();

    for byte in 3..9 {
        let reader = net.join(net.builder(byte).permissions(source.clone())).await;
        publisher.grant(&stream, reader.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
        let (texts, events) = read(&reader, &stream).await;
        assert_eq!(texts, ["kept"], "{events:?}");
        reader.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_owner_takes_back_reaches_its_storage_node_which_then_gives_no_more() {
    let depot = Depot::start().await;
    depot.says("kept", 1).await;
    let reader = depot.net.join(depot.net.builder(3).signed_grants()).await;
    let grant =
        depot.owner.issue_grant(&depot.stream, reader.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    reader.import_grant(&grant).await.unwrap();
    announced(&depot.net, &depot.stream, &depot.node).await;
    assert_eq!(read(&reader, &depot.stream).await.0, ["kept"]);

    // The reader goes on showing the record from before.
    depot.owner.revoke_grants(&depot.stream, reader.user()).await.unwrap();
    until(async || {
        let (texts, events) = read(&reader, &depot.stream).await;
        texts.is_empty() && matches!(refusals(&events)[..], [Refusal::Expired { .. }])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_node_goes_on_storing_after_the_record_that_it_began_with_has_expired_and_takes_in_new_publishers() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let depot = Depot::at(clock.clone()).await;
    depot.says("one", 1).await;
    let publisher = depot.net.join(depot.net.builder(7).signed_grants().clock(clock.clone())).await;
    let settings =
        StreamSettings { partitions: 1, public: false, publishers: vec![publisher.user()], storage: Vec::new() };
    depot.owner.set_up_stream("s", settings).await.unwrap();
    publisher.import_grant(&depot.owner.stream_record(&depot.stream).await.unwrap().unwrap()).await.unwrap();
    depot.follows().await;
    let part = depot.stream.part(0).unwrap();
    within(publisher.wait_for_peers(&part, 1)).await;
    say(&publisher, &depot.stream, "by another").await;
    until(async || depot.node.storage_state().await.unwrap().unwrap().messages == 2).await;

    let before = depot.owner.stream_record(&depot.stream).await.unwrap();
    clock.advance(Duration::from_secs(31 * 24 * 3600));
    until(async || depot.owner.stream_record(&depot.stream).await.unwrap() != before).await;
    depot.follows().await;
    depot.says("a month later", 3).await;
}

/// A store that can be told to fail, or to panic.
struct Failing {
    inner: MemoryMessageStore,
    fails: AtomicBool,
    unreadable: AtomicBool,
    panics: bool,
}

impl Failing {
    fn new(panics: bool) -> Arc<Self> {
        let inner = MemoryMessageStore::new(StorageLimits::default());
        Arc::new(Self { inner, fails: AtomicBool::new(false), unreadable: AtomicBool::new(false), panics })
    }
}

impl MessageStore for Failing {
    fn append(&self, now: Timestamp, messages: &[Verified<MessageContent>]) -> Result<Appended, StorageError> {
        match self.fails.load(Ordering::SeqCst) {
            false => self.inner.append(now, messages),
            true if self.panics => panic!("on purpose"),
            true => Err(StorageError::Broken),
        }
    }

    fn read(&self, query: &Query) -> Result<Page, StorageError> {
        if self.unreadable.load(Ordering::SeqCst) { Err(StorageError::Broken) } else { self.inner.read(query) }
    }

    fn last(&self, part: &StreamPart, filter: &Filter, n: u64) -> Result<Beginning, StorageError> {
        if self.unreadable.load(Ordering::SeqCst) {
            Err(StorageError::Broken)
        } else {
            self.inner.last(part, filter, n)
        }
    }

    fn evict(&self, now: Timestamp) -> Result<usize, StorageError> {
        self.inner.evict(now)
    }

    fn state(&self) -> Result<StorageState, StorageError> {
        self.inner.state()
    }
}

/// What a reader asks who keeps none of the rules.
fn asked(by: u8, node: UserId, stream: &StreamId) -> Vec<u8> {
    let request = ResendRequest {
        id: RequestId(rand::random()),
        part: stream.part(0).unwrap(),
        node,
        requester: identity(by).user(),
        sent: SystemClock.now(),
        span: Span::Last(10),
        after: None,
        filter: Filter::ALL,
        proofs: Vec::new(),
    };
    Verified::sign(request, &identity(by)).unwrap().envelope().to_vec()
}

fn page_of(answer: &Bytes) -> ResendPage {
    Received::<ResendPage>::decode(answer).unwrap().verify().unwrap().into_content()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_node_whose_store_fails_or_panics_says_so_keeps_nothing_more_and_gives_nothing_more() {
    for panics in [false, true] {
        let net = Net::start().await;
        let (publisher, stream) = net.publisher().await;
        let store = Failing::new(panics);
        let source = publisher.registry().clone();
        let node = net.join(net.builder(2).permissions(source).storage(store.clone(), [stream.clone()])).await;
        publisher.grant(&stream, identity(3).user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
        net.ready(&publisher, &stream, 1).await;
        say(&publisher, &stream, "kept").await;
        until(async || node.storage_counts().unwrap().stored == 1).await;
        let raw = Raw::start(&net.address).await;
        let page = page_of(&raw.ask(&node, asked(3, node.user(), &stream)).await.unwrap());
        assert_eq!((page.messages.len(), page.refusal), (1, None));

        store.fails.store(true, Ordering::SeqCst);
        say(&publisher, &stream, "lost").await;
        assert!(matches!(*within(node.storage_failed()).await, StorageError::Broken));
        store.fails.store(false, Ordering::SeqCst);
        say(&publisher, &stream, "not kept either").await;
        let page = page_of(&raw.ask(&node, asked(3, node.user(), &stream)).await.unwrap());
        assert!(matches!(page.refusal, Some(Refusal::Unavailable { .. })), "{:?}", page.refusal);
        assert_eq!(node.storage_counts().unwrap().stored, 1);
        within(node.stop()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_node_that_cannot_read_its_store_says_so_counts_it_and_gives_no_time_to_wait_for_it() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let damaged = Failing::new(false);
    let source = publisher.registry().clone();
    let node = net.join(net.builder(2).permissions(source).storage(damaged.clone(), [stream.clone()])).await;
    publisher.grant(&stream, identity(3).user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    net.ready(&publisher, &stream, 1).await;
    say(&publisher, &stream, "kept").await;
    until(async || node.storage_counts().unwrap().stored == 1).await;
    damaged.unreadable.store(true, Ordering::SeqCst);
    let raw = Raw::start(&net.address).await;
    let page = page_of(&raw.ask(&node, asked(3, node.user(), &stream)).await.unwrap());
    // Nothing to wait for: a second try at the same store would say the same.
    assert_eq!(page.refusal, Some(Refusal::Unavailable { retry_after: Duration::ZERO }));
    assert_eq!(node.storage_counts().unwrap().unreadable, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_in_one_name_through_ten_peers_leaves_another_readers_page_to_come() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let store: Arc<dyn MessageStore> = Arc::new(MemoryMessageStore::new(StorageLimits::default()));
    let mut strict = config();
    strict.resend.total = Rate { per_second: 1, burst: 100 };
    strict.resend.per_requester = Rate { per_second: 1, burst: 40 };
    let builder = net.builder(2).permissions(publisher.registry().clone()).config(strict);
    let node = net.join(builder.storage(store, [stream.clone()])).await;
    for byte in [3, 4] {
        publisher.grant(&stream, identity(byte).user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    }
    let mut told = 0;
    for _ in 0..10 {
        let raw = Raw::start(&net.address).await;
        for _ in 0..30 {
            if let Ok(answer) = raw.ask(&node, asked(4, node.user(), &stream)).await {
                told += usize::from(matches!(page_of(&answer).refusal, Some(Refusal::Throttled { .. })));
            }
        }
        raw.network.stop().await;
    }
    assert!(told > 0, "with a signature");
    let raw = Raw::start(&net.address).await;
    for _ in 0..20 {
        let answer = raw.ask(&node, asked(3, node.user(), &stream)).await.expect("a page");
        assert_eq!(page_of(&answer).refusal, None);
    }
}

/// Answers about authors when it is let.
struct Slow {
    inner: Arc<LocalRegistry>,
    held: watch::Sender<bool>,
}

impl PermissionSource for Slow {
    fn check<'a>(
        &'a self,
        stream: &'a StreamId,
        user: UserId,
        permission: Permission,
        now: Timestamp,
    ) -> Answer<'a, Result<Grant, Refusal>> {
        let mut held = self.held.subscribe();
        Box::pin(async move {
            let _ = held.wait_for(|held| !*held).await;
            self.inner.check(stream, user, permission, now).await
        })
    }

    fn subscribers<'a>(&'a self, stream: &'a StreamId) -> Answer<'a, Result<Vec<Subscriber>, Refusal>> {
        self.inner.subscribers(stream)
    }

    fn stream<'a>(&'a self, stream: &'a StreamId) -> Answer<'a, Result<Option<StreamInfo>, Refusal>> {
        self.inner.stream(stream)
    }

    fn changes(&self) -> u64 {
        self.inner.changes()
    }
}

/// A node that stores this stream, may hold 20 messages whose authors are yet to be checked, and goes by this source.
async fn short_of_room(net: &Net, source: Arc<Slow>, clock: Arc<ManualClock>, stream: &StreamId) -> Client {
    let store: Arc<dyn MessageStore> = Arc::new(MemoryMessageStore::new(StorageLimits::default()));
    let mut small = config();
    small.intake.parked = 20;
    let builder = net.builder(2).permissions(source).clock(clock).config(small);
    let node = net.join(builder.storage(store, [stream.clone()])).await;
    within(net.relay.wait_for_peers(&stream.part(0).unwrap(), 1)).await;
    node
}

/// So many are stored in the end, and none was given up.
async fn stored_all(node: &Client, messages: u64) {
    until(async || {
        let counts = node.storage_counts().unwrap();
        assert_eq!((counts.unchecked, counts.refused), (0, 0), "{counts:?}");
        counts.stored == messages
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_a_slow_permission_source_is_asked_again_about_a_publisher_who_goes_on() {
    let (net, clock) = (Net::start().await, Arc::new(ManualClock::at(SystemClock.now())));
    let mut made = HandMade::start_unlisted(&net, 7).await;
    let registry = Arc::new(LocalRegistry::new(Arc::new(MemoryKeyStore::default())));
    registry.create_stream(&made.stream, 1, false).unwrap();
    let source = Arc::new(Slow { inner: registry, held: watch::Sender::new(false) });
    let node = short_of_room(&net, source.clone(), clock.clone(), &made.stream).await;
    made.say("first").await;
    until(async || node.storage_counts().unwrap().stored == 1).await;

    // What was known about him is old by now.
    source.held.send_replace(true);
    clock.advance(Duration::from_secs(60));
    for n in 0..100 {
        made.say(&n.to_string()).await;
    }
    until(async || node.stats().messages_received >= 101).await;
    source.held.send_replace(false);
    stored_all(&node, 101).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_frame_with_more_messages_than_may_wait_for_a_slow_permission_source_none_is_lost() {
    let (net, clock) = (Net::start().await, Arc::new(ManualClock::at(SystemClock.now())));
    let mut made = HandMade::start_unlisted(&net, 7).await;
    let registry = Arc::new(LocalRegistry::new(Arc::new(MemoryKeyStore::default())));
    registry.create_stream(&made.stream, 1, false).unwrap();
    let source = Arc::new(Slow { inner: registry, held: watch::Sender::new(true) });
    let node = short_of_room(&net, source.clone(), clock, &made.stream).await;
    for _ in 0..2 {
        let messages: Vec<_> = (0..50).map(|n| made.message(&n.to_string())).collect();
        let frames = messages.iter().map(|message| Frame::of_message(message.envelope().clone()));
        made.raw.send(&made.part(), frames.flat_map(|frame| frame.to_vec()).collect::<Vec<_>>()).await;
    }
    until(async || node.stats().messages_received >= 100).await;
    source.held.send_replace(false);
    stored_all(&node, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_a_slow_permission_source_gives_a_storage_node_its_first_answer() {
    let (net, clock) = (Net::start().await, Arc::new(ManualClock::at(SystemClock.now())));
    let mut made = HandMade::start_unlisted(&net, 7).await;
    // Somebody else's stream: owners are never strangers.
    made.stream = StreamId::of(identity(8).user(), "s").unwrap();
    let registry = Arc::new(LocalRegistry::new(Arc::new(MemoryKeyStore::default())));
    registry.create_stream(&made.stream, 1, false).unwrap();
    registry.grant(&made.stream, made.identity.user(), Permission::Publish, Period::ALWAYS, SystemClock.now()).unwrap();
    let source = Arc::new(Slow { inner: registry, held: watch::Sender::new(true) });
    let node = short_of_room(&net, source.clone(), clock, &made.stream).await;
    for n in 0..100 {
        made.say(&n.to_string()).await;
    }
    until(async || node.stats().messages_received >= 100).await;
    source.held.send_replace(false);
    stored_all(&node, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_frames_wait_for_somebody_who_takes_none_answers_requests_all_the_same() {
    let (net, mut stuck) = (Net::start().await, config());
    stuck.slow_reader = SlowReader::Wait;
    (stuck.subscription_queue, stuck.network.events) = (1, 16);
    let publisher = net.join(net.builder(1).config(stuck)).await;
    let stream = publisher.create_stream("s", StreamOptions::default()).await.unwrap();
    let (key, asker) = (group_key("k", 7), identity(2));
    publisher.grant(&stream, asker.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    publisher.update_encryption_key(&stream, KeyUpdateMethod::Rekey, Some(key.clone())).await.unwrap();
    let other = net.client(5).await;
    let loud = other.create_stream("loud", StreamOptions { public: true, ..StreamOptions::default() }).await.unwrap();
    publisher.registry().create_stream(&loud, 1, true).unwrap();
    let _never_read = publisher.subscribe(&loud).await.unwrap();
    net.ready(&other, &loud, 1).await;
    for n in 0..3000 {
        say(&other, &loud, &n.to_string()).await;
        if n % 50 == 0 {
            other.flush().await;
        }
    }
    other.flush().await;
    let received = async || publisher.stats().messages_received;
    until(async || {
        let before = received().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        before > 0 && received().await == before
    })
    .await;
    let raw = Raw::leaf(publisher.addresses().await.first().unwrap()).await;
    let request = signed_request(&asker, publisher.user(), &stream, &[key.id()]);
    assert!(opened(&raw.answer(&publisher, &request).await)[0].same_as(&key));
}

#[tokio::test(flavor = "multi_thread")]
async fn neighbours_who_come_and_go_make_a_storage_node_announce_itself_no_more_often() {
    let depot = Depot::start().await;
    announced(&depot.net, &depot.stream, &depot.node).await;
    let (started, mut seen) = (Instant::now(), BTreeSet::new());
    for _ in 0..20 {
        let raw = Raw::start(depot.node.addresses().await.first().unwrap()).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        for slot in StorageRecord::slots() {
            for record in raw.network.get_record(StorageRecord::dht_key(&depot.stream, slot)).await.unwrap() {
                seen.insert(Received::<StorageRecord>::decode(&Bytes::from(record)).unwrap().claims().issued);
            }
        }
        raw.network.stop().await;
    }
    // At the start, once more to see whether the place is its own, at a new address; then once a minute.
    let most = 4 + started.elapsed().as_secs() / 60;
    assert!(!seen.is_empty() && seen.len() as u64 <= most, "{seen:?}");
}
