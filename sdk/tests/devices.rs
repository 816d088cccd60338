//! Several processes of one publisher's identity, each with its own store and chain, over loopback TCP.

#![cfg(feature = "p2p")]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use sha2::{Digest, Sha256};
use support::*;
use veilcast::client::{
    Client, ClientBuilder, ClientConfig, ClientError, FetchEvent, FetchProgress, KeyFetch, KeyUpdateMethod, Keypair,
    PeerId, Subscription,
};
use veilcast::exchange::{AskFailure, FetchFailure};
use veilcast::key_store::{KeyId, MemoryKeyStore};
use veilcast::permission::LocalRegistry;
use veilcast::time::{Clock, ManualClock, SystemClock};
use veilcast::wire::{Frame, PublisherRecord, Received};
use veilcast::{Delivery, Event, Period, Permission, Refusal, StreamId, Timestamp, UserId};

/// A stream that nobody's address owns, and who may do what on it: the same for every device.
struct Shop {
    net: Net,
    registry: Arc<LocalRegistry>,
    stream: StreamId,
}

impl Shop {
    async fn open() -> Self {
        let net = Net::start().await;
        let registry = Arc::new(LocalRegistry::new(Arc::new(MemoryKeyStore::default())));
        let stream = StreamId::new("demo.eth/s").unwrap();
        registry.create_stream(&stream, 1, false).unwrap();
        Self { net, registry, stream }
    }

    fn grant(&self, user: UserId, permission: Permission) {
        self.registry.grant(&self.stream, user, permission, Period::ALWAYS, SystemClock.now()).unwrap();
    }

    /// A process of this identity, with a store of its own.
    async fn device(&self, byte: u8) -> Client {
        self.device_of(byte, Keypair::generate_ed25519()).await
    }

    async fn device_of(&self, byte: u8, keypair: Keypair) -> Client {
        self.net.join(self.builder_of(byte).keypair(keypair)).await
    }

    /// A process with this store, which knows the peer it is by it.
    async fn device_on(&self, byte: u8, store: Arc<MemoryKeyStore>) -> Client {
        self.net.join(self.builder_of(byte).store(store)).await
    }

    fn builder_of(&self, byte: u8) -> ClientBuilder {
        self.grant(identity(byte).user(), Permission::Publish);
        let mut config = config();
        config.rsa_ahead = false;
        self.net.builder(byte).permissions(self.registry.clone()).config(config)
    }

    /// Somebody who may read, and knows nobody but the relay.
    async fn reader(&self, byte: u8, config: ClientConfig) -> Client {
        self.grant(identity(byte).user(), Permission::Subscribe);
        self.net.join(self.net.builder(byte).permissions(self.registry.clone()).config(config)).await
    }

    /// The peers that the DHT names for a publisher.
    async fn announced(&self, asked: &Raw, publisher: UserId) -> BTreeSet<PeerId> {
        let slots = PublisherRecord::slots().map(|slot| PublisherRecord::dht_key(publisher, slot));
        let values = join_all(slots.map(|key| asked.network.get_record(key))).await;
        let peer = |value: Vec<u8>| {
            let record = Received::<PublisherRecord>::decode(&value.into()).unwrap().verify().unwrap();
            PeerId::from_bytes(&record.content().peer).unwrap()
        };
        values.into_iter().flat_map(Result::unwrap).map(peer).collect()
    }

    async fn until_announced(&self, devices: &[&Client]) {
        let observer = Raw::leaf(&self.net.address).await;
        let expected: BTreeSet<PeerId> = devices.iter().map(|device| device.peer_id()).collect();
        until(async || self.announced(&observer, devices[0].user()).await == expected).await;
    }
}

/// Does not wait long before it tries again.
fn eager() -> ClientConfig {
    let mut config = config();
    config.requester.retry_base = Duration::from_millis(100);
    config.requester.retry_max = Duration::from_millis(300);
    config.requester.max_tries = 1000;
    config
}

/// The next `count` messages, by the word their text begins with. Nothing else may be told but keys on their way.
async fn read(subscription: &mut Subscription, count: usize) -> BTreeMap<String, Vec<usize>> {
    let mut read: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    within(async {
        let mut left = count;
        while left > 0 {
            match subscription.next().await.unwrap() {
                Delivery::Message(message) => {
                    let (who, n) = message.text().unwrap().split_once(' ').unwrap();
                    read.entry(who.into()).or_default().push(n.parse().unwrap());
                    left -= 1;
                }
                Delivery::Event(Event::KeyPending { .. } | Event::KeyArrived { .. }) => {}
                Delivery::Event(event) => panic!("{event:?}"),
            }
        }
    })
    .await;
    read
}

async fn say_many(device: &Client, stream: &StreamId, who: &str, count: usize) {
    for n in 0..count {
        say(device, stream, &format!("{who} {n}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_devices_of_one_identity_publish_at_once_and_a_subscriber_reads_both_in_the_order_of_each() {
    const MESSAGES: usize = 30;
    let shop = Shop::open().await;
    let (first, second) = (shop.device(1).await, shop.device(1).await);
    let subscriber = shop.reader(2, config()).await;
    let mut subscription = subscriber.subscribe(&shop.stream).await.unwrap();
    for device in [&first, &second] {
        shop.net.ready(device, &shop.stream, 1).await;
    }
    tokio::join!(
        say_many(&first, &shop.stream, "first", MESSAGES),
        say_many(&second, &shop.stream, "second", MESSAGES)
    );
    let read = read(&mut subscription, 2 * MESSAGES).await;
    let all: Vec<usize> = (0..MESSAGES).collect();
    assert_eq!(read, BTreeMap::from([("first".into(), all.clone()), ("second".into(), all)]));
    // A key each. Whoever is asked for the other's says so, and then the other is asked.
    let (granted, refused) = [&first, &second]
        .map(|device| device.stats())
        .iter()
        .fold((0, 0), |sum, stats| (sum.0 + stats.keys_granted, sum.1 + stats.keys_refused));
    assert_eq!(granted, 2);
    assert!(refused <= 2, "{refused}");
    let stats = subscriber.stats();
    assert!((2..=4).contains(&stats.key_requests_sent), "{stats:?}");
    assert_eq!(stats.key_answers_accepted, stats.key_requests_sent);
}

/// Two devices, each with `keys` keys, and a message under each: those of the first, then those of the second.
async fn archive(shop: &Shop, keys: usize) -> ([Client; 2], Vec<Bytes>) {
    let devices = [shop.device(1).await, shop.device(1).await];
    let archive = archive_of(shop, &devices, keys).await;
    (devices, archive)
}

async fn archive_of(shop: &Shop, devices: &[Client; 2], keys: usize) -> Vec<Bytes> {
    let witness = shop.reader(2, config()).await;
    let mut subscription = witness.subscribe(&shop.stream).await.unwrap();
    let (mut archive, mut ids) = (Vec::new(), BTreeSet::<KeyId>::new());
    for (who, device) in devices.iter().enumerate() {
        shop.net.ready(device, &shop.stream, 1).await;
        for n in 0..keys {
            device.update_encryption_key(&shop.stream, KeyUpdateMethod::Rekey, None).await.unwrap();
            say(device, &shop.stream, &format!("{who} {n}")).await;
            let message = next_message(&mut subscription).await;
            ids.extend(message.key_id);
            archive.push(message.envelope);
        }
    }
    assert_eq!(ids.len(), 2 * keys);
    drop(subscription);
    witness.stop().await;
    shop.until_announced(&[&devices[0], &devices[1]]).await;
    archive
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_only_the_second_device_has_is_asked_for_at_the_first_and_then_had_from_the_second() {
    const KEYS: usize = 3;
    let shop = Shop::open().await;
    let (devices, archive) = archive(&shop, KEYS).await;
    let counted = || {
        let stats = devices.each_ref().map(|device| device.stats());
        [stats[0].keys_granted, stats[1].keys_granted, stats[0].keys_refused, stats[1].keys_refused]
    };
    // It has only the DHT to find them by.
    let late = shop.reader(3, config()).await;
    let mut unknown_at_first = 0;
    for (n, envelope) in archive.into_iter().enumerate() {
        let (owner, other) = (n / KEYS, 1 - n / KEYS);
        let (before, sent) = (counted(), late.stats().key_requests_sent);
        let opened = within(late.open(envelope)).await.unwrap();
        assert_eq!(opened.text(), Some(format!("{owner} {}", n % KEYS).as_str()));
        let (after, asked) = (counted(), late.stats().key_requests_sent - sent);
        assert_eq!(after[owner] - before[owner], 1, "granted by the one that has it");
        assert_eq!(after[other] - before[other], 0);
        assert_eq!(after[2 + owner] - before[2 + owner], 0);
        assert_eq!(
            after[2 + other] - before[2 + other],
            asked - 1,
            "a second request only after the first device's no"
        );
        unknown_at_first += asked - 1;
    }
    assert!((1..=2 * KEYS as u64 - 1).contains(&unknown_at_first), "{unknown_at_first}");
    assert_eq!(late.stats().key_answers_accepted, late.stats().key_requests_sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_one_device_is_away_its_keys_cannot_be_had_with_the_reason_and_those_of_the_other_can() {
    let shop = Shop::open().await;
    let (devices, archive) = archive(&shop, 2).await;
    let late = shop.reader(3, eager()).await;
    devices[1].stop().await;
    let before = devices[0].stats();
    let opened = join_all(archive.into_iter().map(|envelope| late.open(envelope)));
    let opened = within(opened).await;
    let texts: Vec<_> = opened[..2].iter().map(|opened| opened.as_ref().unwrap().text().unwrap()).collect();
    assert_eq!(texts, ["0 0", "0 1"]);
    for lost in &opened[2..] {
        let unreachable = matches!(lost, Err(ClientError::KeyUnavailable { failure: AskFailure::Unreachable, .. }));
        assert!(unreachable, "{lost:?}");
    }
    // The present one is asked for each key once.
    let after = devices[0].stats();
    assert_eq!(after.keys_granted - before.keys_granted, 2);
    assert_eq!(after.keys_refused - before.keys_refused, 2);
}

/// Every key of the publisher, however old.
fn fetch(reader: &Client, shop: &Shop) -> KeyFetch {
    let always = Timestamp::ZERO..=Timestamp::from_millis(u64::MAX);
    reader.fetch_keys(&shop.stream, identity(1).user(), always).unwrap()
}

/// Gives a device up after the second try.
fn impatient() -> ClientConfig {
    let mut config = eager();
    config.requester.max_tries = 2;
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_of_a_span_brings_the_keys_of_every_device() {
    const KEYS: usize = 3;
    let shop = Shop::open().await;
    let (devices, archive) = archive(&shop, KEYS).await;
    // It has only the DHT to find them by.
    let late = shop.reader(3, config()).await;
    let summary = within(fetch(&late, &shop).finish()).await.unwrap();
    assert_eq!((summary.keys, summary.refused), (2 * KEYS as u64, 0));
    let sent = late.stats().key_requests_sent;
    for (n, envelope) in archive.into_iter().enumerate() {
        let opened = within(late.open(envelope)).await.unwrap();
        assert_eq!(opened.text(), Some(format!("{} {}", n / KEYS, n % KEYS).as_str()));
    }
    assert_eq!(late.stats().key_requests_sent, sent, "every key was there");
    drop(devices);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_away_is_named_by_a_fetch_and_the_next_fetch_goes_on_there() {
    const KEYS: u64 = 2;
    let shop = Shop::open().await;
    let store = Arc::new(MemoryKeyStore::new());
    let devices = [shop.device(1).await, shop.device_on(1, store.clone()).await];
    archive_of(&shop, &devices, KEYS as usize).await;
    let [present, away] = devices;
    let peer = away.peer_id();
    away.stop().await;
    let reader = shop.reader(3, impatient()).await;

    // It takes a while until the reader has heard of both; until then one may be unknown, or missed though it is there.
    let mut ended = None;
    until(async || {
        ended = None;
        let (mut events, mut missed) = (fetch(&reader, &shop), Vec::new());
        while let Some(event) = within(events.next()).await {
            match event {
                Ok(FetchEvent::Missed(device)) => missed.push(device),
                Ok(_) => {}
                Err(error) => ended = Some((error, std::mem::take(&mut missed))),
            }
        }
        matches!(&ended, Some((ClientError::FetchIncomplete { missed, .. }, _)) if missed.len() == 1)
    })
    .await;
    let Some((ClientError::FetchIncomplete { progress, missed: named, .. }, missed)) = ended else {
        panic!("{ended:?}")
    };
    assert_eq!(progress.keys, KEYS, "those of the device that is there");
    assert_eq!(named, missed);
    assert_eq!(named.iter().map(|missed| missed.device).collect::<Vec<_>>(), [peer]);
    assert!(matches!(named[0].failure, FetchFailure::GivenUp(_)), "{named:?}");

    let granted = present.stats().keys_granted;
    let back = shop.device_on(1, store).await;
    assert_eq!(back.peer_id(), peer, "a device is the same after a restart");
    // It may take a while until everybody knows where it is now.
    let mut summary = None;
    until(async || {
        summary = within(fetch(&reader, &shop).finish()).await.ok();
        summary.is_some()
    })
    .await;
    assert_eq!(summary.map(|summary: FetchProgress| summary.keys), Some(2 * KEYS));
    assert!(back.stats().keys_granted >= KEYS);
    assert_eq!(present.stats().keys_granted, granted, "nothing is given twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_publishers_with_two_devices_each_are_all_read() {
    const MESSAGES: usize = 10;
    let shop = Shop::open().await;
    let subscriber = shop.reader(2, config()).await;
    let mut subscription = subscriber.subscribe(&shop.stream).await.unwrap();
    let mut devices = Vec::new();
    for byte in [11, 12, 13] {
        for which in ["a", "b"] {
            let device = shop.device(byte).await;
            shop.net.ready(&device, &shop.stream, 1).await;
            devices.push((format!("{byte}{which}"), device));
        }
    }
    join_all(devices.iter().map(|(who, device)| say_many(device, &shop.stream, who, MESSAGES))).await;
    let read = read(&mut subscription, MESSAGES * devices.len()).await;
    let all: Vec<usize> = (0..MESSAGES).collect();
    assert_eq!(read, devices.iter().map(|(who, _)| (who.clone(), all.clone())).collect());
    assert!(devices.iter().all(|(_, device)| device.stats().keys_granted == 1));
    assert!(subscriber.stats().key_requests_sent <= 12, "{:?}", subscriber.stats());
}

#[tokio::test(flavor = "multi_thread")]
async fn both_devices_push_their_own_key_at_a_rekey_and_nobody_has_to_ask() {
    let shop = Shop::open().await;
    let (first, second) = (shop.device(1).await, shop.device(1).await);
    let subscriber = shop.reader(2, config()).await;
    let mut subscription = subscriber.subscribe(&shop.stream).await.unwrap();
    for device in [&first, &second] {
        shop.net.ready(device, &shop.stream, 1).await;
    }
    tokio::join!(say(&first, &shop.stream, "first 0"), say(&second, &shop.stream, "second 0"));
    read(&mut subscription, 2).await;
    let asked = subscriber.stats().key_requests_sent;
    let rekey = |device: &Client| {
        let (device, stream) = (device.clone(), shop.stream.clone());
        async move { device.update_encryption_key(&stream, KeyUpdateMethod::Rekey, None).await.unwrap() }
    };
    let (of_first, of_second) = within(async { tokio::join!(rekey(&first), rekey(&second)) }).await;
    assert_ne!(of_first.key_id, of_second.key_id);
    for report in [&of_first, &of_second] {
        assert_eq!(report.pushed, [subscriber.user()]);
    }
    tokio::join!(say(&first, &shop.stream, "first 1"), say(&second, &shop.stream, "second 1"));
    let read = read(&mut subscription, 2).await;
    assert_eq!(read, BTreeMap::from([("first".into(), vec![1]), ("second".into(), vec![1])]));
    assert_eq!(subscriber.stats().key_requests_sent, asked);
    assert_eq!(subscriber.stats().pushes_accepted, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_reads_what_another_of_its_own_identity_publishes() {
    let shop = Shop::open().await;
    shop.grant(identity(1).user(), Permission::Subscribe);
    let (first, second) = (shop.device(1).await, shop.device(1).await);
    // A publisher itself, so that its own record is in the DHT as well.
    say(&second, &shop.stream, "unheard 0").await;
    let mut subscription = second.subscribe(&shop.stream).await.unwrap();
    shop.net.ready(&first, &shop.stream, 1).await;
    say_many(&first, &shop.stream, "first", 3).await;
    assert_eq!(read(&mut subscription, 3).await, BTreeMap::from([("first".into(), vec![0, 1, 2])]));
    assert_eq!(first.stats().keys_granted, 1);
}

/// A libp2p key whose node begins at this slot.
fn keypair_for_slot(slot: u8) -> Keypair {
    let begins_at = |keypair: &Keypair| Sha256::digest(keypair.public().to_peer_id().to_bytes())[0] % 4;
    std::iter::repeat_with(Keypair::generate_ed25519).find(|keypair| begins_at(keypair) == slot).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_that_take_the_same_slot_of_the_dht_at_the_same_time_end_up_in_slots_of_their_own() {
    let shop = Shop::open().await;
    let devices = join_all((0..3).map(|_| shop.device_of(1, keypair_for_slot(2)))).await;
    join_all(devices.iter().map(|device| say(device, &shop.stream, "here"))).await;
    shop.until_announced(&devices.iter().collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fifth_device_takes_the_place_of_the_one_that_said_where_it_is_longest_ago() {
    let shop = Shop::open().await;
    let observer = Raw::leaf(&shop.net.address).await;
    let mut devices = Vec::new();
    for n in 1..=5 {
        let device = shop.device(1).await;
        say(&device, &shop.stream, "here").await;
        let me = device.peer_id();
        devices.push(device);
        until(async || {
            let announced = shop.announced(&observer, identity(1).user()).await;
            announced.contains(&me) && announced.len() >= n.min(4)
        })
        .await;
    }
}

fn retry(event: &Event) -> Option<AskFailure> {
    match event {
        Event::KeyRetry { failure, .. } => Some(*failure),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_only_device_does_not_know_is_refused_with_one_request_and_no_other_follows() {
    let net = Net::start().await;
    let mut publisher = HandMade::start(&net, 1).await;
    let subscriber = net.client(2).await;
    let mut subscription = subscriber.subscribe(&publisher.stream).await.unwrap();
    within(net.relay.wait_for_peers(&publisher.part(), 1)).await;
    publisher.say("one").await;
    let (request, reply) = publisher.requested().await;
    // Another key than the one it publishes under.
    let known = std::mem::replace(&mut publisher.key, group_key("other", 1));
    reply.send(publisher.answer(&request).envelope().to_vec());
    let refused = next_event(&mut subscription, |event| match event {
        Event::KeyRefused { key_id, refusal, .. } => Some((key_id.clone(), *refusal)),
        _ => None,
    });
    assert_eq!(refused.await, (known.id().clone(), Refusal::UnknownKey));
    publisher.key = known;
    for _ in 0..10 {
        publisher.say("more").await;
    }
    // What comes after them all is read; none of those before was asked for again.
    publisher.key = group_key("next", 2);
    publisher.say("next").await;
    let (request, reply) = publisher.requested().await;
    assert_eq!(request.wanted.key_ids(), [publisher.key.id().clone()]);
    reply.send(publisher.answer(&request).envelope().to_vec());
    assert_eq!(next_text(&mut subscription).await, "next");
    assert_eq!(subscriber.stats().key_requests_sent, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_back_by_an_hour_holds_up_no_retry() {
    let net = Net::start().await;
    let mut publisher = HandMade::start(&net, 1).await;
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let subscriber = net.join(net.builder(2).config(eager()).clock(clock.clone())).await;
    let mut subscription = subscriber.subscribe(&publisher.stream).await.unwrap();
    within(net.relay.wait_for_peers(&publisher.part(), 1)).await;
    publisher.say("one").await;
    let (_, reply) = publisher.requested().await;
    let right = clock.now();
    clock.set(right.minus(Duration::from_secs(3600)));
    reply.send(b"no answer".to_vec());
    assert_eq!(next_event(&mut subscription, retry).await, AskFailure::BadAnswer);
    // By its clock no record of the publisher holds yet: it looks in vain, but it looks.
    for _ in 0..2 {
        assert_eq!(next_event(&mut subscription, retry).await, AskFailure::Unreachable);
    }
    clock.set(right.plus(Duration::from_secs(1)));
    let (request, reply) = publisher.requested().await;
    reply.send(publisher.answer(&request).envelope().to_vec());
    assert_eq!(next_text(&mut subscription).await, "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_it_takes_to_find_a_publisher_is_not_taken_from_the_time_for_its_answer() {
    let net = Net::start().await;
    let mut publisher = HandMade::start_unlisted(&net, 1).await;
    let mut config = eager();
    config.requester.key_request_timeout = Duration::from_millis(400);
    let subscriber = net.join(net.builder(2).config(config)).await;
    let mut subscription = subscriber.subscribe(&publisher.stream).await.unwrap();
    within(net.relay.wait_for_peers(&publisher.part(), 1)).await;
    let message = publisher.message("one");
    publisher.raw.send(&publisher.part(), Frame::of_message(message.envelope().clone())).await;
    next_event(&mut subscription, |event| matches!(event, Event::KeyPending { .. }).then_some(())).await;
    // Longer than an answer may take, and less than it looks for somebody nobody knows.
    let told = tokio::time::timeout(Duration::from_millis(600), next_event(&mut subscription, retry)).await;
    assert!(told != Ok(AskFailure::Timeout), "nobody was asked yet");
    publisher.key = group_key("the-key", 0x5a);
    let record = publisher.raw.record(&publisher.identity).await;
    let record = veilcast::wire::Verified::sign(record, &publisher.identity).unwrap();
    publisher.raw.send(&publisher.part(), Frame::of_record(record.envelope().clone())).await;
    loop {
        tokio::select! {
            (request, reply) = publisher.requested() => reply.send(publisher.answer(&request).envelope().to_vec()),
            read = next_text(&mut subscription) => break assert_eq!(read, "one"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_our_own_is_not_told_as_the_publishers_doing() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let mut config = eager();
    config.network.outbound_requests = 0;
    let subscriber = net.join(net.builder(2).config(config)).await;
    publisher.grant(&stream, subscriber.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    let mut subscription = subscriber.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 1).await;
    say(&publisher, &stream, "one").await;
    assert_eq!(next_event(&mut subscription, retry).await, AskFailure::Overload);
    assert_eq!(publisher.stats().key_requests_received, 0);
}
