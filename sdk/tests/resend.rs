//! Stored messages over real sockets: kept by a storage node, read by who may, without trust in the node.

#![cfg(feature = "p2p")]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use support::*;
use veilcast::client::{Client, ClientError, Delivery, GapFill, KeyUpdateMethod, Replay, StreamOptions, Subscription};
use veilcast::key_store::{KeyOrigin, KeyStore, MemoryKeyStore, TimeRange};
use veilcast::message::{Draft, compose};
use veilcast::permission::{LocalRegistry, PermissionSource, StreamSettings};
use veilcast::storage::{MemoryMessageStore, MessageStore, Query, StorageLimits};
use veilcast::subscriber::StorageFault;
use veilcast::time::{Clock, ManualClock, SystemClock};
use veilcast::wire::{Frame, MessageContent, MessageRef, Received, StorageRecord, Verified};
use veilcast::{Event, Payload, Period, Permission, Refusal, StreamId, Timestamp, UserId};

/// A publisher, and storage nodes that go by the same registry.
struct Depot {
    net: Net,
    registry: Arc<LocalRegistry>,
    publisher: Client,
    stream: StreamId,
    publisher_store: Arc<MemoryKeyStore>,
}

impl Depot {
    async fn new() -> Self {
        let net = Net::start().await;
        let publisher_store = Arc::new(MemoryKeyStore::default());
        let publisher = net.client_with(1, publisher_store.clone(), config()).await;
        let stream = publisher.create_stream("s", StreamOptions::default()).await.unwrap();
        let registry = publisher.registry().clone();
        Self { net, registry, publisher, stream, publisher_store }
    }

    fn source(&self) -> Arc<dyn PermissionSource> {
        self.registry.clone()
    }

    /// A storage node with this store, which takes part in the stream.
    async fn node(&self, byte: u8, store: Arc<dyn MessageStore>) -> Client {
        let builder = self.net.builder(byte).permissions(self.source()).storage(store, [self.stream.clone()]);
        self.net.join(builder).await
    }

    /// A storage node that has begun to store.
    async fn storing(&self, byte: u8, nodes: usize) -> (Client, Arc<MemoryMessageStore>) {
        let store = Arc::new(MemoryMessageStore::new(StorageLimits::default()));
        let node = self.node(byte, store.clone()).await;
        self.net.ready(&self.publisher, &self.stream, nodes).await;
        self.announced(nodes).await;
        (node, store)
    }

    async fn announced(&self, nodes: usize) {
        announced(&self.net, &self.stream, nodes).await;
    }

    async fn reader(&self, byte: u8) -> Client {
        let reader = self.stranger(byte).await;
        self.publisher.grant(&self.stream, reader.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
        reader
    }

    async fn stranger(&self, byte: u8) -> Client {
        self.net.join(self.net.builder(byte).permissions(self.source())).await
    }

    async fn say(&self, numbers: std::ops::Range<u32>) {
        for n in numbers {
            say(&self.publisher, &self.stream, &n.to_string()).await;
        }
    }
}

/// Waits until so many storage nodes are found in the DHT.
async fn announced(net: &Net, stream: &StreamId, nodes: usize) {
    let raw = Raw::leaf(&net.address).await;
    until(async || {
        let mut found = BTreeSet::new();
        for slot in StorageRecord::slots() {
            let records = raw.network.get_record(StorageRecord::dht_key(stream, slot)).await.unwrap();
            let peers = records.iter().map(|record| {
                let record = Received::<StorageRecord>::decode(&Bytes::copy_from_slice(record)).unwrap();
                record.claims().peer.clone()
            });
            found.extend(peers);
        }
        found.len() == nodes
    })
    .await;
    raw.network.stop().await;
}

async fn holds(node: &Client, messages: u64) {
    until(async || node.storage_state().await.unwrap().unwrap().messages == messages).await;
}

/// Everything until the subscription ends: the texts, and the events beside them.
async fn rest(mut subscription: Subscription) -> (Vec<String>, Vec<Event>) {
    let (mut texts, mut events) = (Vec::new(), Vec::new());
    while let Some(delivery) = within(subscription.next()).await {
        match delivery {
            Delivery::Message(message) => texts.push(message.text().unwrap().to_owned()),
            Delivery::Event(event) => events.push(event),
        }
    }
    (texts, events)
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn last_n_from_and_range_are_read_in_order_with_publisher_filter_and_zero_results() {
    let depot = Depot::new().await;
    let (node, store) = depot.storing(2, 1).await;
    depot.say(0..20).await;
    holds(&node, 20).await;
    let reader = depot.reader(3).await;
    let read = async |replay| rest(reader.resend(&depot.stream, replay).await.unwrap()).await;

    let (texts, events) = read(Replay::last(5)).await;
    assert_eq!(texts, numbers(15..20));
    assert_eq!(events.last(), Some(&Event::HistoryEnd { messages: 5, complete: true }), "{events:?}");
    assert_eq!(read(Replay::last(100)).await.0, numbers(0..20));
    assert_eq!(read(Replay::from(Timestamp::ZERO)).await.0, numbers(0..20));

    let part = depot.stream.part(0).unwrap();
    let places: Vec<_> = store.read(&Query::everything(part)).unwrap().messages.iter().map(|m| m.place).collect();
    let (from, to) = (places[7].at.timestamp, places[12].at.timestamp);
    let within_span = places.iter().filter(|place| (from..=to).contains(&place.at.timestamp)).count();
    assert_eq!(read(Replay::range(from, to)).await.0.len(), within_span);

    assert_eq!(read(Replay::last(3).publisher(depot.publisher.user())).await.0, numbers(17..20));
    let (texts, events) = read(Replay::last(3).publisher(reader.user())).await;
    assert_eq!((texts.len(), events), (0, vec![Event::HistoryEnd { messages: 0, complete: true }]));
}

#[tokio::test(flavor = "multi_thread")]
async fn history_and_then_live_without_loss_or_repeat_at_the_seam() {
    let depot = Depot::new().await;
    let (node, _) = depot.storing(2, 1).await;
    depot.say(0..50).await;
    holds(&node, 50).await;
    let reader = depot.reader(3).await;
    // Messages go on being published while history is read.
    let mut subscription = reader.subscribe_from(&depot.stream, Replay::from(Timestamp::ZERO)).await.unwrap();
    depot.net.ready(&depot.publisher, &depot.stream, 2).await;
    depot.say(50..150).await;
    let (mut texts, mut seams) = (Vec::new(), 0);
    while texts.len() < 150 || seams == 0 {
        match within(subscription.next()).await.unwrap() {
            Delivery::Message(message) => texts.push(message.text().unwrap().to_owned()),
            Delivery::Event(Event::HistoryEnd { complete, .. }) => {
                assert!(complete && texts.len() >= 50, "{}", texts.len());
                seams += 1;
            }
            Delivery::Event(Event::Gap { .. }) => panic!("a gap"),
            Delivery::Event(_) => {}
        }
    }
    assert_eq!((texts, seams), (numbers(0..150), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_subscribe_is_given_stored_messages_and_others_are_told_why() {
    let depot = Depot::new().await;
    let (node, _) = depot.storing(2, 1).await;
    depot.say(0..3).await;
    holds(&node, 3).await;
    let stranger = depot.stranger(4).await;
    let (texts, events) = rest(stranger.resend(&depot.stream, Replay::last(5)).await.unwrap()).await;
    let refused = Event::StorageFault { node: node.user(), fault: StorageFault::Refused(Refusal::Denied) };
    assert!(texts.is_empty());
    assert_eq!(events, [refused, Event::HistoryEnd { messages: 0, complete: false }]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_node_stores_nothing_of_who_may_not_publish() {
    let depot = Depot::new().await;
    let (node, store) = depot.storing(2, 1).await;
    let raw = Raw::start(&depot.net.address).await;
    let part = depot.stream.part(0).unwrap();
    let at = MessageRef { timestamp: SystemClock.now(), sequence: 0 };
    let draft = Draft { part: part.clone(), chain: [5; 16], at, previous: None, key_updates: Vec::new() };
    let message = compose(draft, &Payload::text("x"), None, &identity(5), &mut rand::rng()).unwrap();
    raw.send(&part, Frame::of_message(message.envelope().clone())).await;
    until(async || node.storage_counts().unwrap().refused == 1).await;
    depot.say(0..1).await;
    holds(&node, 1).await;
    assert_eq!(store.state().unwrap().messages, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn loss_of_a_storage_node_in_the_middle_is_invisible_when_another_has_the_data() {
    let depot = Depot::new().await;
    let (first, store) = depot.storing(2, 1).await;
    let (second, _) = depot.storing(6, 2).await;
    // More than one page of large messages.
    for n in 0..60u32 {
        let text = format!("{n} {}", "x".repeat(40_000));
        depot.publisher.publish(&depot.stream, Payload::text(text)).await.unwrap();
    }
    holds(&first, 60).await;
    holds(&second, 60).await;
    assert!(store.state().unwrap().bytes > 2_000_000);
    let reader = depot.reader(3).await;
    let mut subscription = reader.resend(&depot.stream, Replay::from(Timestamp::ZERO)).await.unwrap();
    let begun = next_text(&mut subscription).await;
    assert!(begun.starts_with("0 "));
    first.stop().await;
    let (texts, events) = rest(subscription).await;
    let read: Vec<u32> = texts.iter().map(|text| text.split(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(read, (1..60).collect::<Vec<_>>());
    assert_eq!(events.last(), Some(&Event::HistoryEnd { messages: 60, complete: true }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_leaves_messages_out_is_found_out_and_another_fills_in() {
    let depot = Depot::new().await;
    let (honest, whole) = depot.storing(2, 1).await;
    depot.say(0..30).await;
    holds(&honest, 30).await;
    // The other one has all but some in the middle, and but the last ones.
    let part = depot.stream.part(0).unwrap();
    let kept = whole.read(&Query::everything(part)).unwrap().messages;
    let lossy = Arc::new(MemoryMessageStore::new(StorageLimits::default()));
    let now = Timestamp::from_millis(u64::MAX / 2);
    for (_, stored) in kept.iter().enumerate().filter(|(n, _)| !(10..15).contains(n) && *n < 27) {
        let message = Received::<MessageContent>::decode(&stored.envelope).unwrap().verify().unwrap();
        lossy.append(now, &[message]).unwrap();
    }
    let liar = depot.node(6, lossy).await;
    depot.announced(2).await;
    let reader = depot.reader(3).await;
    // Whichever is asked first, everything is read.
    for _ in 0..3 {
        let (texts, events) = rest(reader.resend(&depot.stream, Replay::from(Timestamp::ZERO)).await.unwrap()).await;
        assert_eq!(texts, numbers(0..30), "{events:?}");
        let blamed = |event: &&Event| matches!(event, Event::StorageFault { .. });
        for event in events.iter().filter(blamed) {
            let withheld = StorageFault::Withheld { publisher: depot.publisher.user() };
            assert_eq!(event, &Event::StorageFault { node: liar.user(), fault: withheld });
        }
    }
    // Alone, it cannot hide what is missing.
    honest.stop().await;
    let (texts, events) = rest(reader.resend(&depot.stream, Replay::from(Timestamp::ZERO)).await.unwrap()).await;
    assert_eq!(texts, [numbers(0..10), numbers(15..27)].concat());
    assert!(events.iter().any(|event| matches!(event, Event::Gap { .. })), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn history_opens_with_keys_held_locally_while_the_publisher_is_away_and_keys_not_held_are_told_by_key() {
    let depot = Depot::new().await;
    let (node, _) = depot.storing(2, 1).await;
    let (reader_store, reader_byte) = (Arc::new(MemoryKeyStore::default()), 3);
    depot.say(0..5).await;
    holds(&node, 5).await;
    let reader = || {
        let mut config = config();
        config.requester.max_tries = 1;
        config.requester.key_request_timeout = Duration::from_secs(5);
        let builder = depot.net.builder(reader_byte).permissions(depot.source()).store(reader_store.clone());
        depot.net.join(builder.config(config))
    };
    let client = reader().await;
    depot.publisher.grant(&depot.stream, client.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    assert_eq!(rest(client.resend(&depot.stream, Replay::last(5)).await.unwrap()).await.0, numbers(0..5));
    // A second key, which the reader never gets.
    let method = veilcast::client::KeyUpdateMethod::Rekey;
    client.stop().await;
    depot.publisher.update_encryption_key(&depot.stream, method, None).await.unwrap();
    depot.say(5..8).await;
    holds(&node, 8).await;
    depot.publisher.stop().await;

    let client = reader().await;
    let (texts, events) = rest(client.resend(&depot.stream, Replay::last(100)).await.unwrap()).await;
    assert_eq!(texts, numbers(0..5), "the readable rest flows");
    let lost: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Unread { messages, .. } => Some(*messages),
            _ => None,
        })
        .collect();
    assert_eq!(lost, [3], "{events:?}");
    let given_up = events.iter().filter(|event| matches!(event, Event::KeyUnavailable { .. })).count();
    assert_eq!(given_up, 1, "{events:?}");
    drop(depot.publisher_store);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_storage_node_is_known_resend_says_so_and_a_subscription_goes_on_live() {
    let depot = Depot::new().await;
    let reader = depot.reader(3).await;
    assert!(matches!(
        within(reader.resend(&depot.stream, Replay::last(5))).await,
        Err(ClientError::NoStorage { stream }) if stream == depot.stream
    ));
    let mut subscription = within(reader.subscribe_from(&depot.stream, Replay::last(5))).await.unwrap();
    let end = next_event(&mut subscription, |event| match event {
        Event::HistoryEnd { messages, complete } => Some((*messages, *complete)),
        _ => None,
    });
    assert_eq!(end.await, (0, false));
    depot.net.ready(&depot.publisher, &depot.stream, 1).await;
    depot.say(0..1).await;
    assert_eq!(next_text(&mut subscription).await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_filled_from_storage_and_what_nobody_has_is_reported_and_blocks_nothing_for_ever() {
    let net = Net::start().await;
    let mut made = HandMade::start(&net, 7).await;
    let store = Arc::new(MemoryMessageStore::new(StorageLimits::default()));
    let node = net.join(net.builder(2).storage(store.clone(), [made.stream.clone()])).await;
    node.registry().create_stream(&made.stream, 1, false).unwrap();
    let reader = net.client(3).await;
    node.grant(&made.stream, reader.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    reader.add_encryption_key(&made.key, made.identity.user(), &made.stream).await.unwrap();
    announced(&net, &made.stream, 1).await;
    let mut subscription = reader.subscribe_from(&made.stream, Replay::last(5)).await.unwrap();
    let end = |event: &Event| matches!(event, Event::HistoryEnd { messages: 0, complete: true }).then_some(());
    next_event(&mut subscription, end).await;
    within(net.relay.wait_for_peers(&made.part(), 2)).await;
    made.say("1").await;
    assert_eq!(next_text(&mut subscription).await, "1");

    // One that only the storage node was given.
    let missed = made.message("2");
    store.append(SystemClock.now(), &[missed]).unwrap();
    made.say("3").await;
    for expected in ["2", "3"] {
        match within(subscription.next()).await {
            Some(Delivery::Message(message)) => assert_eq!(message.text(), Some(expected)),
            other => panic!("{other:?}"),
        }
    }
    // One that nobody was given.
    let lost = made.message("4").content().at;
    made.say("5").await;
    let until = next_event(&mut subscription, |event| match event {
        Event::Gap { until, .. } => Some(*until),
        _ => None,
    });
    assert_eq!(until.await, lost);
    assert_eq!(next_text(&mut subscription).await, "5");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_subscription_fills_a_gap_from_storage_reports_what_nobody_has_and_asks_nobody_where_it_should_not() {
    let net = Net::start().await;
    let mut made = HandMade::start(&net, 7).await;
    let store = Arc::new(MemoryMessageStore::new(StorageLimits::default()));
    let node = net.join(net.builder(2).storage(store.clone(), [made.stream.clone()])).await;
    node.registry().create_stream(&made.stream, 1, false).unwrap();
    let mut off = config();
    off.gap_fill = GapFill::Off;
    let (reader, without) = (net.client(3).await, net.join(net.builder(4).config(off)).await);
    for reader in [&reader, &without] {
        node.grant(&made.stream, reader.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
        reader.add_encryption_key(&made.key, made.identity.user(), &made.stream).await.unwrap();
    }
    announced(&net, &made.stream, 1).await;
    let mut filling = reader.subscribe(&made.stream).await.unwrap();
    let mut telling = without.subscribe(&made.stream).await.unwrap();
    within(net.relay.wait_for_peers(&made.part(), 3)).await;
    made.say("1").await;
    for subscription in [&mut filling, &mut telling] {
        assert_eq!(next_text(subscription).await, "1");
    }

    // One that only the storage node was given.
    let missed = made.message("2");
    let at = missed.content().at;
    store.append(SystemClock.now(), &[missed]).unwrap();
    made.say("3").await;
    for expected in ["2", "3"] {
        match within(filling.next()).await {
            Some(Delivery::Message(message)) => assert_eq!(message.text(), Some(expected)),
            other => panic!("{other:?}"),
        }
    }
    let gap = |event: &Event| match event {
        Event::Gap { until, .. } => Some(*until),
        _ => None,
    };
    assert_eq!(next_event(&mut telling, gap).await, at);
    assert_eq!(next_text(&mut telling).await, "3");
    // One that nobody was given.
    let lost = made.message("4").content().at;
    made.say("5").await;
    assert_eq!(next_event(&mut filling, gap).await, lost);
    assert_eq!(next_text(&mut filling).await, "5");
}

/// An owner whose record names a storage node, which goes by its records, and a reader with a grant.
struct Assigned {
    net: Net,
    owner: Client,
    node: Client,
    reader: Client,
    stream: StreamId,
}

impl Assigned {
    async fn new() -> Self {
        let net = Net::start().await;
        let owner = net.join(net.builder(1).signed_grants()).await;
        let stream = owner.set_up_stream("s", settings(vec![identity(2).user()])).await.unwrap();
        let store = Arc::new(MemoryMessageStore::new(StorageLimits::default()));
        let builder = net.builder(2).signed_grants().storage(store, []).assigned_by([owner.user()]);
        let node = net.join(builder).await;
        let reader = net.join(net.builder(3).signed_grants()).await;
        let grant = owner.issue_grant(&stream, reader.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
        for line in [owner.stream_record(&stream).await.unwrap().unwrap(), grant] {
            reader.import_grant(&line).await.unwrap();
        }
        Self { net, owner, node, reader, stream }
    }

    async fn read(&self) -> (Vec<String>, Vec<Event>) {
        rest(self.reader.resend(&self.stream, Replay::from(Timestamp::ZERO)).await.unwrap()).await
    }
}

fn settings(storage: Vec<UserId>) -> StreamSettings {
    StreamSettings { partitions: 1, public: false, publishers: Vec::new(), storage }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_stores_the_streams_whose_record_names_it_and_no_longer_than_it_does() {
    let assigned = Assigned::new().await;
    let Assigned { net, owner, node, reader, stream } = &assigned;
    // Somebody takes part in the stream, so the node looks for its record.
    let live = reader.subscribe(stream).await.unwrap();
    net.ready(owner, stream, 2).await;
    announced(net, stream, 1).await;
    for n in numbers(0..3) {
        say(owner, stream, &n).await;
    }
    holds(node, 3).await;
    drop(live);
    assert_eq!(assigned.read().await.0, numbers(0..3));

    owner.set_up_stream("s", settings(Vec::new())).await.unwrap();
    let refused = Event::StorageFault { node: node.user(), fault: StorageFault::Refused(Refusal::Policy) };
    until(async || assigned.read().await.1.contains(&refused)).await;
    assert_eq!(node.storage_state().await.unwrap().unwrap().messages, 3, "what there is stays until it is given up");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_take_every_place_in_the_dht_do_not_hide_the_node_that_the_owner_names() {
    let assigned = Assigned::new().await;
    let Assigned { net, owner, node, stream, .. } = &assigned;
    node.import_grant(&owner.stream_record(stream).await.unwrap().unwrap()).await.unwrap();
    net.ready(owner, stream, 1).await;
    announced(net, stream, 1).await;
    say(owner, stream, "0").await;
    holds(node, 1).await;
    let (raw, squatter) = (Raw::start(&net.address).await, identity(9));
    let now = SystemClock.now().plus(Duration::from_secs(30));
    for slot in StorageRecord::slots() {
        let (peer, addresses) = (raw.network.local_peer().to_bytes(), Vec::new());
        let (issued, expires) = (now, now.plus(Duration::from_secs(600)));
        let node = squatter.user();
        let record = StorageRecord { stream: stream.clone(), node, peer, addresses, issued, expires, slot };
        let envelope = Verified::sign(record, &squatter).unwrap().envelope().to_vec();
        let key = StorageRecord::dht_key(stream, slot);
        raw.network.put_record(key, envelope, Duration::from_secs(600)).await.unwrap();
    }
    raw.network.stop().await;
    let (texts, events) = assigned.read().await;
    assert_eq!(texts, numbers(0..1), "{events:?}");
    assert_eq!(events.last(), Some(&Event::HistoryEnd { messages: 1, complete: true }), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_assign_streams_only_of_owners_that_were_named_to_a_node_that_goes_by_signed_records() {
    let net = Net::start().await;
    let store = || Arc::new(MemoryMessageStore::new(StorageLimits::default()));
    let unsigned = net.builder(2).storage(store(), []).assigned_by([identity(1).user()]).start().await;
    assert!(matches!(unsigned, Err(ClientError::Config(_))));

    let owner = net.join(net.builder(1).signed_grants()).await;
    let builder = net.builder(2).signed_grants().storage(store(), []).assigned_by([identity(4).user()]);
    let node = net.join(builder).await;
    // The one that counts comes last: when its stream is kept, the other's record was read as well.
    let other = net.join(net.builder(4).signed_grants()).await;
    for owner in [&owner, &other] {
        let stream = owner.set_up_stream("s", settings(vec![node.user()])).await.unwrap();
        node.import_grant(&owner.stream_record(&stream).await.unwrap().unwrap()).await.unwrap();
    }
    let of = |owner: &Client| StreamId::of(owner.user(), "s").unwrap();
    announced(&net, &of(&other), 1).await;
    let raw = Raw::leaf(&net.address).await;
    for slot in StorageRecord::slots() {
        let found = raw.network.get_record(StorageRecord::dht_key(&of(&owner), slot)).await.unwrap();
        assert!(found.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_goes_on_behind_the_message_where_it_was_left() {
    let depot = Depot::new().await;
    let (node, store) = depot.storing(2, 1).await;
    depot.say(0..20).await;
    holds(&node, 20).await;
    let reader = depot.reader(3).await;
    let part = depot.stream.part(0).unwrap();
    let places: Vec<_> = store.read(&Query::everything(part)).unwrap().messages.iter().map(|m| m.place).collect();
    for left in [0, 11, 19] {
        let (texts, events) = rest(reader.resend(&depot.stream, Replay::after(places[left])).await.unwrap()).await;
        assert_eq!(texts, numbers(left as u32 + 1..20));
        let messages = 19 - left as u64;
        assert_eq!(events.last(), Some(&Event::HistoryEnd { messages, complete: true }), "{events:?}");
        assert!(!events.iter().any(|event| matches!(event, Event::Gap { .. })), "{events:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_node_that_asks_for_patience_is_waited_for_and_everything_is_read() {
    let depot = Depot::new().await;
    let store = Arc::new(MemoryMessageStore::new(StorageLimits::default()));
    let mut config = config();
    config.resend.page = 3;
    config.resend.per_requester.per_second = 20;
    config.resend.per_requester.burst = 1;
    let builder = depot.net.builder(2).permissions(depot.source()).storage(store, [depot.stream.clone()]);
    let node = depot.net.join(builder.config(config)).await;
    depot.net.ready(&depot.publisher, &depot.stream, 1).await;
    depot.announced(1).await;
    depot.say(0..30).await;
    holds(&node, 30).await;
    let reader = depot.reader(3).await;
    let (texts, events) = rest(reader.resend(&depot.stream, Replay::from(Timestamp::ZERO)).await.unwrap()).await;
    assert_eq!(texts, numbers(0..30));
    assert!(!events.iter().any(|event| matches!(event, Event::StorageFault { .. })), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_whose_clock_is_wrong_is_told_what_may_be_the_matter() {
    let depot = Depot::new().await;
    let (node, _) = depot.storing(2, 1).await;
    depot.say(0..3).await;
    holds(&node, 3).await;
    let fast = Arc::new(ManualClock::at(SystemClock.now().plus(Duration::from_secs(120))));
    let builder = depot.net.builder(3).permissions(depot.source()).config(config()).clock(fast);
    let reader = depot.net.join(builder).await;
    depot.publisher.grant(&depot.stream, reader.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    let (texts, events) = rest(reader.resend(&depot.stream, Replay::last(3)).await.unwrap()).await;
    let silent = |event: &Event| matches!(event, Event::StorageFault { fault: StorageFault::Silent, .. });
    assert!(texts.is_empty() && events.iter().any(silent), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_keeps_its_own_stream_reads_it_from_itself_and_hears_itself_where_it_is_told_to() {
    let net = Net::start().await;
    let store = Arc::new(MemoryMessageStore::new(StorageLimits::default()));
    let stream = StreamId::of(identity(1).user(), "s").unwrap();
    let mut settings = config();
    settings.hear_own = true;
    let keys = Arc::new(MemoryKeyStore::default());
    let builder = net.builder(1).store(keys.clone()).config(settings).storage(store, [stream.clone()]);
    let client = net.join(builder).await;
    client.create_stream("s", StreamOptions::default()).await.unwrap();
    let mut live = client.subscribe(&stream).await.unwrap();
    // Also over changes of its key, of which none is asked for.
    for n in 0..6 {
        say(&client, &stream, &n.to_string()).await;
        let method = if n % 2 == 0 { KeyUpdateMethod::Rotate } else { KeyUpdateMethod::Rekey };
        client.update_encryption_key(&stream, method, None).await.unwrap();
    }
    say(&client, &stream, "6").await;
    for n in 0..7 {
        assert_eq!(next_text(&mut live).await, n.to_string());
    }
    holds(&client, 7).await;
    let (texts, _) = rest(client.resend(&stream, Replay::last(4)).await.unwrap()).await;
    assert_eq!(texts, ["3", "4", "5", "6"]);
    assert_eq!(client.stats().key_requests_sent, 0);
    client.stop().await;
    // What it heard of itself made none of its keys one that it was given.
    let all = keys.history(&veilcast::scope(identity(1).user(), &stream), TimeRange::ALL, None, 100).unwrap();
    assert!(all.len() >= 6 && all.iter().all(|stored| stored.origin == KeyOrigin::Made), "{all:?}");
}
