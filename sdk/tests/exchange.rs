//! Key exchange, key updates and paid time between real nodes over loopback TCP: the honest side of it.

#![cfg(feature = "p2p")]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use support::*;
use veilcast::client::{Client, ClientConfig, ClientError, KeyUpdateMethod, StreamOptions, Subscription};
use veilcast::exchange::AskFailure;
use veilcast::key_store::{KeyId, KeyStore, MemoryKeyStore, TimeRange};
use veilcast::permission::{Answer, Grant, LocalRegistry, PermissionSource, StreamInfo, Subscriber};
use veilcast::time::{Clock, ManualClock, SystemClock};
use veilcast::wire::{Frame, Verified};
use veilcast::{Delivery, Event, Partition, Payload, Period, Permission, Refusal, StreamId, Timestamp, UserId};

/// Does not wait long before it tries again.
fn eager() -> ClientConfig {
    let mut config = config();
    config.requester.retry_base = Duration::from_millis(100);
    config.requester.retry_max = Duration::from_millis(300);
    config.requester.max_tries = 1000;
    config
}

fn retry(event: &Event) -> Option<(AskFailure, Duration)> {
    match event {
        Event::KeyRetry { failure, after, .. } => Some((*failure, *after)),
        _ => None,
    }
}

fn refusal(event: &Event) -> Option<Refusal> {
    match event {
        Event::KeyRefused { refusal, .. } => Some(*refusal),
        _ => None,
    }
}

/// A clock that stands at the beginning of the present second, for messages and requests must be fresh elsewhere too.
fn standing_clock() -> (Arc<ManualClock>, Timestamp) {
    let now = Timestamp::from_secs(SystemClock.now().as_secs());
    (Arc::new(ManualClock::at(now)), now)
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn keys_made(store: &MemoryKeyStore, publisher: UserId, stream: &StreamId) -> usize {
    store.history(&veilcast::scope(publisher, stream), TimeRange::ALL, None, 1000).unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_the_local_store_causes_no_request() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let store = Arc::new(MemoryKeyStore::default());
    let subscriber = net.client_with(2, store.clone(), config()).await;
    publisher.grant(&stream, subscriber.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    let mut subscription = subscriber.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 1).await;
    say(&publisher, &stream, "one").await;
    let one = next_message(&mut subscription).await;
    assert_eq!(subscriber.stats().key_requests_sent, 1);
    subscriber.stop().await;
    net.peers(1).await;

    let again = net.client_with(2, store, config()).await;
    let mut subscription = again.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 1).await;
    say(&publisher, &stream, "two").await;
    let two = next_message(&mut subscription).await;
    assert_eq!((two.text(), &two.key_id), (Some("two"), &one.key_id));
    assert_eq!(again.stats().key_requests_sent, 0);
    assert_eq!(publisher.stats().key_requests_received, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_keys_asked_at_once_come_in_one_answer() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let asker = identity(2);
    publisher.grant(&stream, asker.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    let keys: Vec<_> = (1..=5).map(|n| group_key(&format!("key-{n}"), n)).collect();
    for key in &keys {
        publisher.update_encryption_key(&stream, KeyUpdateMethod::Rekey, Some(key.clone())).await.unwrap();
    }
    let unknown = KeyId::new("never-was").unwrap();
    let mut ids: Vec<&KeyId> = keys.iter().map(|key| key.id()).collect();
    ids.insert(2, &unknown);

    let raw = Raw::start(&net.address).await;
    let request = signed_request(&asker, publisher.user(), &stream, &ids);
    let answer = raw.answer(&publisher, &request).await;
    assert_eq!(answer.id, request.content().id);
    let opened = opened(&answer);
    assert_eq!(opened.len(), keys.len());
    assert!(opened.iter().zip(&keys).all(|(opened, key)| opened.same_as(key)));
    assert!(matches!(&answer.refused[..], [only] if (&only.key_id, only.refusal) == (&unknown, Refusal::UnknownKey)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_under_many_keys_opened_at_once_costs_two_requests_at_most() {
    const KEYS: usize = 12;
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let (reader, late) = (net.client(2).await, net.client(3).await);
    for user in [reader.user(), late.user()] {
        publisher.grant(&stream, user, Permission::Subscribe, Period::ALWAYS).await.unwrap();
    }
    let mut subscription = reader.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 1).await;
    let mut archive = Vec::new();
    for n in 0..KEYS {
        publisher.update_encryption_key(&stream, KeyUpdateMethod::Rekey, None).await.unwrap();
        say(&publisher, &stream, &n.to_string()).await;
        archive.push(next_message(&mut subscription).await);
    }
    assert_eq!(archive.iter().map(|message| &message.key_id).collect::<BTreeSet<_>>().len(), KEYS);

    let opened = join_all(archive.into_iter().map(|message| late.open(message.envelope)));
    let opened: Vec<_> = within(opened).await.into_iter().map(|opened| opened.unwrap()).collect();
    let texts: Vec<_> = opened.iter().map(|message| message.text().unwrap().parse::<usize>().unwrap()).collect();
    assert_eq!(texts, (0..KEYS).collect::<Vec<_>>());
    // The first need goes out at once, everything needed meanwhile together after it.
    assert!(late.stats().key_requests_sent <= 2, "{:?}", late.stats());
    assert_eq!(late.stats().key_answers_accepted, late.stats().key_requests_sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_publishers_of_one_stream_cost_fifty_requests_never_faster_than_the_limit() {
    const PUBLISHERS: u8 = 50;
    const MESSAGES: usize = 3;
    let net = Net::start().await;
    let registry = Arc::new(LocalRegistry::new(Arc::new(MemoryKeyStore::default())));
    // Nobody's address owns it, so only grants decide.
    let stream = StreamId::new("demo.eth/s").unwrap();
    registry.create_stream(&stream, 1, false).unwrap();
    let now = SystemClock.now();
    let subscriber = net.join(net.builder(2).permissions(registry.clone())).await;
    registry.grant(&stream, subscriber.user(), Permission::Subscribe, Period::ALWAYS, now).unwrap();
    let mut subscription = subscriber.subscribe(&stream).await.unwrap();

    let mut publishers = Vec::new();
    for byte in 10..10 + PUBLISHERS {
        let mut config = config();
        config.rsa_ahead = false;
        let publisher = net.join(net.builder(byte).permissions(registry.clone()).config(config)).await;
        registry.grant(&stream, publisher.user(), Permission::Publish, Period::ALWAYS, now).unwrap();
        net.ready(&publisher, &stream, 1).await;
        publishers.push(publisher);
    }
    let began = Instant::now();
    join_all(publishers.iter().map(|publisher| async {
        for n in 0..MESSAGES {
            say(publisher, &stream, &n.to_string()).await;
        }
    }))
    .await;

    let mut read: BTreeMap<UserId, Vec<String>> = BTreeMap::new();
    // What was sent by a moment was decided before it, however busy the machine is. That no second sees more than the limit
    // is shown where time is made: `never_more_requests_leave_in_any_second_than_the_limit`.
    let limit = f64::from(config().requester.max_key_requests_per_second);
    within(async {
        let mut left = MESSAGES * publishers.len();
        while left > 0 {
            let sent = subscriber.stats().key_requests_sent;
            assert!(sent as f64 <= limit * (1.0 + began.elapsed().as_secs_f64()), "{sent} requests");
            let look_again = tokio::time::timeout(Duration::from_millis(2), subscription.next());
            match look_again.await {
                Ok(Some(Delivery::Message(message))) => {
                    read.entry(message.publisher).or_default().push(message.text().unwrap().into());
                    left -= 1;
                }
                Ok(Some(Delivery::Event(Event::KeyPending { .. } | Event::KeyArrived { .. }))) | Err(_) => {}
                Ok(other) => panic!("{other:?}"),
            }
        }
    })
    .await;
    assert_eq!(read.len(), publishers.len());
    assert!(read.values().all(|texts| texts == &["0", "1", "2"]), "{read:?}");
    assert_eq!(subscriber.stats().key_requests_sent, u64::from(PUBLISHERS));
    assert!(publishers.iter().all(|publisher| publisher.stats().key_requests_received == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_publisher_is_asked_again_with_the_cause_visible_until_it_is_back() {
    let net = Net::start().await;
    let store = Arc::new(MemoryKeyStore::default());
    let publisher = net.client_with(1, store.clone(), config()).await;
    let stream = publisher.create_stream("s", StreamOptions::default()).await.unwrap();
    let (witness, subscriber) = (net.client(2).await, net.join(net.builder(3).config(eager())).await);
    for user in [witness.user(), subscriber.user()] {
        publisher.grant(&stream, user, Permission::Subscribe, Period::ALWAYS).await.unwrap();
    }
    let mut of_witness = witness.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 1).await;
    say(&publisher, &stream, "one").await;
    let one = next_message(&mut of_witness).await;
    publisher.stop().await;

    // Somebody passes the message on, now that its author is away.
    let mut subscription = subscriber.subscribe(&stream).await.unwrap();
    let courier = Raw::start(subscriber.addresses().await.first().unwrap()).await;
    courier.send(&stream.part(0).unwrap(), Frame::of_message(one.envelope)).await;
    for _ in 0..2 {
        let (failure, after) = next_event(&mut subscription, retry).await;
        assert_eq!(failure, AskFailure::Unreachable);
        assert!(after >= Duration::from_millis(50), "{after:?}");
    }

    let back = net.client_with(1, store, config()).await;
    assert_eq!(next_text(&mut subscription).await, "one");
    net.ready(&back, &stream, 2).await;
    say(&back, &stream, "two").await;
    assert_eq!(next_text(&mut subscription).await, "two");
}

/// Answers every request until the subscriber has read `text`.
async fn until_read(publisher: &mut HandMade, subscription: &mut Subscription, text: &str) {
    loop {
        tokio::select! {
            (request, reply) = publisher.requested() => reply.send(publisher.answer(&request).envelope().to_vec()),
            read = next_text(subscription) => return assert_eq!(read, text),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_fails_after_the_timeout_and_is_asked_again_after_a_pause() {
    const TIMEOUT: Duration = Duration::from_millis(700);
    let net = Net::start().await;
    let mut publisher = HandMade::start(&net, 1).await;
    let mut config = eager();
    config.requester.key_request_timeout = TIMEOUT;
    let subscriber = net.join(net.builder(2).config(config)).await;
    let mut subscription = subscriber.subscribe(&publisher.stream).await.unwrap();
    within(net.relay.wait_for_peers(&publisher.part(), 1)).await;
    // Once it answers, so that what is timed later is nothing but the silence.
    publisher.say("answered").await;
    until_read(&mut publisher, &mut subscription, "answered").await;

    publisher.key = group_key("another", 3);
    // Nothing is asked before this: on a machine that stalls, everything only takes longer.
    let begun = Instant::now();
    publisher.say("one").await;
    let (first, held) = publisher.requested().await;
    let (failure, after) = next_event(&mut subscription, retry).await;
    assert_eq!(failure, AskFailure::Timeout);
    assert!(begun.elapsed() >= TIMEOUT, "{:?}", begun.elapsed());
    let (second, reply) = publisher.requested().await;
    assert!(begun.elapsed() >= TIMEOUT + after, "{:?}, {after:?} of them a pause", begun.elapsed());
    assert_eq!(first.wanted, second.wanted);
    assert_ne!(first.id, second.id);
    reply.send(publisher.answer(&second).envelope().to_vec());
    assert_eq!(next_text(&mut subscription).await, "one");
    drop(held);
}

/// A permission source that can be switched off, for everything or for SUBSCRIBE only.
struct Switched {
    inner: LocalRegistry,
    down: AtomicBool,
    only_subscribe: bool,
    /// Takes the asker's grant back as soon as one check has found it good.
    snatches: AtomicBool,
}

const RETRY: Duration = Duration::from_millis(400);

impl Switched {
    fn refuses(&self, permission: Option<Permission>) -> bool {
        let concerned = !self.only_subscribe || permission == Some(Permission::Subscribe);
        self.down.load(Ordering::SeqCst) && concerned
    }
}

impl PermissionSource for Switched {
    fn check<'a>(
        &'a self,
        stream: &'a StreamId,
        user: UserId,
        permission: Permission,
        now: Timestamp,
    ) -> Answer<'a, Result<Grant, Refusal>> {
        match self.refuses(Some(permission)) {
            true => Box::pin(std::future::ready(Err(Refusal::Unavailable { retry_after: RETRY }))),
            false => {
                let answer = self.inner.check(stream, user, permission, now);
                if permission == Permission::Subscribe && self.snatches.swap(false, Ordering::SeqCst) {
                    self.inner.revoke(stream, user, permission, now).unwrap();
                }
                answer
            }
        }
    }

    fn subscribers<'a>(&'a self, stream: &'a StreamId) -> Answer<'a, Result<Vec<Subscriber>, Refusal>> {
        match self.refuses(None) {
            true => Box::pin(std::future::ready(Err(Refusal::Unavailable { retry_after: RETRY }))),
            false => self.inner.subscribers(stream),
        }
    }

    fn stream<'a>(&'a self, stream: &'a StreamId) -> Answer<'a, Result<Option<StreamInfo>, Refusal>> {
        match self.refuses(None) {
            true => Box::pin(std::future::ready(Err(Refusal::Unavailable { retry_after: RETRY }))),
            false => self.inner.stream(stream),
        }
    }

    fn changes(&self) -> u64 {
        self.inner.changes()
    }
}

/// A publisher whose source can be switched off, and its stream, on which `granted` may subscribe.
async fn switched(net: &Net, only_subscribe: bool, granted: UserId) -> (Client, StreamId, Arc<Switched>) {
    let store = Arc::new(MemoryKeyStore::default());
    let inner = LocalRegistry::new(store.clone());
    let source =
        Arc::new(Switched { inner, down: AtomicBool::new(false), only_subscribe, snatches: AtomicBool::new(false) });
    let publisher = net.join(net.builder(1).store(store).permissions(source.clone())).await;
    let stream = publisher.create_stream("s", StreamOptions::default()).await.unwrap();
    publisher.grant(&stream, granted, Permission::Subscribe, Period::ALWAYS).await.unwrap();
    (publisher, stream, source)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_permission_source_is_down_a_key_is_refused_with_a_retry_hint_and_granted_once_it_is_back() {
    let net = Net::start().await;
    let subscriber = net.join(net.builder(2).config(eager())).await;
    // PUBLISH stays answered: otherwise there would be no message to need a key for.
    let (publisher, stream, source) = switched(&net, true, subscriber.user()).await;
    source.down.store(true, Ordering::SeqCst);
    let mut subscription = subscriber.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 1).await;
    say(&publisher, &stream, "one").await;
    let (failure, after) = next_event(&mut subscription, retry).await;
    assert_eq!(failure, AskFailure::AskedToWait);
    assert!(after >= RETRY, "{after:?}");
    assert_eq!(publisher.stats().keys_granted, 0);

    source.down.store(false, Ordering::SeqCst);
    assert_eq!(next_text(&mut subscription).await, "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_loses_his_grant_while_his_request_is_being_answered_gets_a_refusal_and_no_key() {
    let net = Net::start().await;
    let asker = identity(2);
    let (publisher, stream, source) = switched(&net, false, asker.user()).await;
    let key = group_key("k", 7);
    publisher.update_encryption_key(&stream, KeyUpdateMethod::Rekey, Some(key.clone())).await.unwrap();
    let raw = Raw::start(&net.address).await;
    source.snatches.store(true, Ordering::SeqCst);
    let answer = raw.answer(&publisher, &signed_request(&asker, publisher.user(), &stream, &[key.id()])).await;
    assert!(matches!(refusal_of(&answer), Refusal::Expired { .. }), "{answer:?}");
    assert!(answer.granted.is_empty() && publisher.stats().keys_granted == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_cannot_be_reached_lets_nobody_in() {
    let net = Net::start().await;
    let asker = identity(2);
    let (publisher, stream, source) = switched(&net, false, asker.user()).await;
    let key = group_key("k", 7);
    publisher.update_encryption_key(&stream, KeyUpdateMethod::Rekey, Some(key.clone())).await.unwrap();
    let raw = Raw::start(&net.address).await;
    let other_stream = StreamId::of(publisher.user(), "t").unwrap();
    source.down.store(true, Ordering::SeqCst);
    let answer = raw.answer(&publisher, &signed_request(&asker, publisher.user(), &stream, &[key.id()])).await;
    assert_eq!(refusal_of(&answer), Refusal::Unavailable { retry_after: RETRY });
    let published = publisher.publish(&other_stream, Payload::text("x")).await;
    assert!(
        matches!(published, Err(ClientError::NotPermitted { refusal: Refusal::Unavailable { .. }, .. })),
        "{published:?}"
    );
    source.down.store(false, Ordering::SeqCst);
    let answer = raw.answer(&publisher, &signed_request(&asker, publisher.user(), &stream, &[key.id()])).await;
    assert!(opened(&answer)[0].same_as(&key));
}

/// A subscriber who asks a source of its own, which can be switched off, whether the publisher may publish.
async fn doubting(net: &Net, wait: Duration) -> (Client, StreamId, Client, Subscription, Arc<Switched>) {
    let (publisher, stream) = net.publisher().await;
    let inner = LocalRegistry::new(Arc::new(MemoryKeyStore::default()));
    let source = Arc::new(Switched {
        inner,
        down: AtomicBool::new(false),
        only_subscribe: false,
        snatches: AtomicBool::new(false),
    });
    let mut config = config();
    config.intake.permission_wait = wait;
    let reader = net.join(net.builder(2).permissions(source.clone()).config(config)).await;
    publisher.grant(&stream, reader.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    let subscription = reader.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 1).await;
    source.down.store(true, Ordering::SeqCst);
    (publisher, stream, reader, subscription, source)
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_wait_while_the_subscribers_source_is_down_and_all_come_in_order_once_it_is_back() {
    let net = Net::start().await;
    let (publisher, stream, reader, mut subscription, source) = doubting(&net, LONG).await;
    for n in 0..20 {
        say(&publisher, &stream, &n.to_string()).await;
    }
    until(async || reader.stats().messages_received == 20).await;
    // Long enough for several checks in vain.
    let early = tokio::time::timeout(RETRY * 3, subscription.next()).await;
    assert!(early.is_err(), "{early:?}");
    source.down.store(false, Ordering::SeqCst);
    say(&publisher, &stream, "20").await;
    for n in 0..=20 {
        assert_eq!(next_text(&mut subscription).await, n.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_waited_too_long_for_a_source_are_dropped_with_an_event() {
    let net = Net::start().await;
    let (publisher, stream, _reader, mut subscription, source) = doubting(&net, RETRY * 2).await;
    say(&publisher, &stream, "lost").await;
    let unavailable = |event: &Event| match event {
        Event::NotAPublisher { refusal: Refusal::Unavailable { .. }, publisher } => Some(*publisher),
        _ => None,
    };
    assert_eq!(next_event(&mut subscription, unavailable).await, publisher.user());
    source.down.store(false, Ordering::SeqCst);
    say(&publisher, &stream, "read").await;
    assert_eq!(next_text(&mut subscription).await, "read");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_names_a_key_of_another_stream_gets_unknown_key_whatever_stream_he_names() {
    let net = Net::start().await;
    let (publisher, a) = net.publisher().await;
    let b = publisher.create_stream("b", StreamOptions::default()).await.unwrap();
    let (of_a, of_b) = (group_key("key-of-a", 1), group_key("key-of-b", 2));
    publisher.update_encryption_key(&a, KeyUpdateMethod::Rekey, Some(of_a.clone())).await.unwrap();
    publisher.update_encryption_key(&b, KeyUpdateMethod::Rekey, Some(of_b.clone())).await.unwrap();
    let asker = identity(2);
    publisher.grant(&a, asker.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    let raw = Raw::start(&net.address).await;
    let ask = async |stream: &StreamId, id: &KeyId| {
        raw.answer(&publisher, &signed_request(&asker, publisher.user(), stream, &[id])).await
    };

    assert!(opened(&ask(&a, of_a.id()).await)[0].same_as(&of_a), "his own stream's key is his");
    assert_eq!(refusal_of(&ask(&a, of_b.id()).await), Refusal::UnknownKey);
    assert_eq!(refusal_of(&ask(&b, of_b.id()).await), Refusal::Denied);
    // The owner of a stream may do everything on it, and so may he here; it holds no key of this publisher.
    let made = StreamId::of(asker.user(), "b").unwrap();
    for id in [of_a.id(), of_b.id()] {
        assert_eq!(refusal_of(&ask(&made, id).await), Refusal::UnknownKey);
    }
    let both = signed_request(&asker, publisher.user(), &a, &[of_a.id(), of_b.id()]);
    let both = raw.answer(&publisher, &both).await;
    assert!(matches!(&opened(&both)[..], [only] if only.same_as(&of_a)));
    assert!(matches!(&both.refused[..], [only] if &only.key_id == of_b.id()));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_cause_has_its_own_signed_refusal_within_one_round_trip() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let (clock, now) = (SystemClock, SystemClock.now());
    let key = group_key("k", 1);
    publisher.update_encryption_key(&stream, KeyUpdateMethod::Rekey, Some(key.clone())).await.unwrap();
    let [stranger, early, ended, allowed] = [2, 3, 4, 5].map(identity);
    let begins = now.plus(secs(3600));
    let later = Period { start: Some(begins), end: None };
    publisher.grant(&stream, early.user(), Permission::Subscribe, later).await.unwrap();
    publisher.grant(&stream, ended.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    publisher.revoke(&stream, ended.user(), Permission::Subscribe).await.unwrap();
    publisher.grant(&stream, allowed.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    let raw = Raw::start(&net.address).await;
    let ask = async |who, id| {
        refusal_of(&raw.answer(&publisher, &signed_request(who, publisher.user(), &stream, &[id])).await)
    };
    assert_eq!(ask(&stranger, key.id()).await, Refusal::Denied);
    assert_eq!(ask(&early, key.id()).await, Refusal::NotYet { from: begins });
    assert!(matches!(ask(&ended, key.id()).await, Refusal::Expired { since } if now <= since && since <= clock.now()));
    assert_eq!(ask(&allowed, &KeyId::new("other").unwrap()).await, Refusal::UnknownKey);
    let foreign =
        veilcast::wire::KeyRequest { algorithm: 2, ..key_request(&allowed, publisher.user(), &stream, &[key.id()]) };
    let foreign = raw.answer(&publisher, &Verified::sign(foreign, &allowed).unwrap()).await;
    assert_eq!(refusal_of(&foreign), Refusal::UnacceptableAlgorithm);
    assert!(
        opened(&raw.answer(&publisher, &signed_request(&allowed, publisher.user(), &stream, &[key.id()])).await)[0]
            .same_as(&key)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_was_away_during_a_rotate_catches_up_with_one_key_request() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let store = Arc::new(MemoryKeyStore::default());
    let subscriber = net.client_with(2, store.clone(), config()).await;
    publisher.grant(&stream, subscriber.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    let mut subscription = subscriber.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 1).await;
    say(&publisher, &stream, "before").await;
    let before = next_message(&mut subscription).await;
    subscriber.stop().await;
    net.peers(1).await;

    publisher.update_encryption_key(&stream, KeyUpdateMethod::Rotate, None).await.unwrap();
    // More than the messages that carry the key.
    for _ in 0..=2 * veilcast::publisher::WRAP_REPEATS {
        say(&publisher, &stream, "unheard").await;
    }
    publisher.flush().await;

    let back = net.client_with(2, store, config()).await;
    let mut subscription = back.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 1).await;
    for n in 0..10 {
        say(&publisher, &stream, &n.to_string()).await;
    }
    for n in 0..10 {
        let message = next_message(&mut subscription).await;
        assert_eq!(message.text(), Some(n.to_string().as_str()));
        assert_ne!(message.key_id, before.key_id);
    }
    assert_eq!(back.stats().key_requests_sent, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_publisher_answers_for_its_keys_on_every_partition_before_publishing_anything() {
    const PARTITIONS: u32 = 4;
    let net = Net::start().await;
    let store = Arc::new(MemoryKeyStore::default());
    let publisher = net.client_with(1, store.clone(), config()).await;
    let options = StreamOptions { partitions: PARTITIONS, ..StreamOptions::default() };
    let stream = publisher.create_stream("s", options).await.unwrap();
    let (reader, late) = (net.client(2).await, net.client(3).await);
    for user in [reader.user(), late.user()] {
        publisher.grant(&stream, user, Permission::Subscribe, Period::ALWAYS).await.unwrap();
    }
    let mut archive = Vec::new();
    for number in 0..PARTITIONS {
        let part = stream.part(number).unwrap();
        let mut subscription = reader.subscribe_part(&part).await.unwrap();
        within(net.relay.wait_for_peers(&part, 1)).await;
        within(publisher.wait_for_peers(&part, 1)).await;
        // Two keys on every partition.
        for _ in 0..2 {
            let text = Payload::text(number.to_string());
            publisher.publish_to(&stream, Partition::Number(number), text, None).await.unwrap();
            archive.push(next_message(&mut subscription).await);
            publisher.update_encryption_key(&stream, KeyUpdateMethod::Rekey, None).await.unwrap();
        }
    }
    let keys: BTreeSet<_> = archive.iter().map(|message| message.key_id.clone()).collect();
    assert_eq!(keys.len(), 2 * PARTITIONS as usize);
    publisher.stop().await;

    let restarted = net.client_with(1, store, config()).await;
    for message in &archive {
        let opened = within(late.open(message.envelope.clone())).await.unwrap();
        assert_eq!((opened.text(), &opened.part), (message.text(), &message.part));
    }
    assert_eq!(restarted.stats().messages_published, 0);
    assert_eq!(restarted.stats().keys_granted, keys.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_is_good_at_its_last_second_and_one_second_later_the_publisher_has_rekeyed_by_itself() {
    let net = Net::start().await;
    let (clock, start) = standing_clock();
    let publisher = net.join(net.builder(1).clock(clock.clone())).await;
    let stream = publisher.create_stream("s", StreamOptions::default()).await.unwrap();
    let (subscriber, stays) = (net.client(2).await, net.client(3).await);
    let end = start.plus(secs(5));
    publisher.grant(&stream, subscriber.user(), Permission::Subscribe, Period::until(end)).await.unwrap();
    publisher.grant(&stream, stays.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    let mut subscription = subscriber.subscribe(&stream).await.unwrap();
    let mut of_stays = stays.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 2).await;

    // The first key is asked for in the very last moment.
    clock.set(end.plus(Duration::from_millis(999)));
    say(&publisher, &stream, "paid").await;
    let paid = next_message(&mut subscription).await;
    assert_eq!(paid.text(), Some("paid"));
    assert_eq!(next_text(&mut of_stays).await, "paid");
    // Now that a key is in use, the end is watched; it has not come.
    say(&publisher, &stream, "paid too").await;
    for subscription in [&mut subscription, &mut of_stays] {
        let message = next_message(subscription).await;
        assert_eq!((message.text(), &message.key_id), (Some("paid too"), &paid.key_id));
    }

    clock.set(end.plus(secs(1)));
    for text in ["unpaid", "unpaid too"] {
        say(&publisher, &stream, text).await;
        let unpaid = next_message(&mut of_stays).await;
        assert_eq!(unpaid.text(), Some(text));
        assert_ne!(unpaid.key_id, paid.key_id);
    }
    assert_eq!(next_event(&mut subscription, refusal).await, Refusal::Expired { since: end });

    // Nor does he get the old key again, or another of his nodes.
    let raw = Raw::start(&net.address).await;
    let mut request = key_request(&identity(2), publisher.user(), &stream, &[paid.key_id.as_ref().unwrap()]);
    request.sent = clock.now();
    let answer = raw.answer(&publisher, &Verified::sign(request, &identity(2)).unwrap()).await;
    assert_eq!(refusal_of(&answer), Refusal::Expired { since: end });
    publisher.stop().await;
    assert_eq!(subscriber.stats().messages_delivered, 2);
}

/// A subscriber that stays, on a stream of a publisher whose clock stands still.
async fn stayer(net: &Net, store: Arc<MemoryKeyStore>, clock: Arc<ManualClock>) -> (Client, StreamId, Subscription) {
    let publisher = net.join(net.builder(1).store(store).clock(clock)).await;
    let stream = publisher.create_stream("s", StreamOptions::default()).await.unwrap();
    let stays = net.client(3).await;
    publisher.grant(&stream, stays.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    let subscription = stays.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 1).await;
    (publisher, stream, subscription)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_renewed_before_its_end_causes_no_interruption_and_no_rekey() {
    let net = Net::start().await;
    let (clock, start) = standing_clock();
    let store = Arc::new(MemoryKeyStore::default());
    let publisher = net.join(net.builder(1).store(store.clone()).clock(clock.clone())).await;
    let stream = publisher.create_stream("s", StreamOptions::default()).await.unwrap();
    let subscriber = net.client(2).await;
    let renew = async |end: u64| {
        let period = Period::until(start.plus(secs(end)));
        publisher.grant(&stream, subscriber.user(), Permission::Subscribe, period).await.unwrap();
    };
    renew(5).await;
    let mut subscription = subscriber.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 1).await;
    say(&publisher, &stream, "0").await;
    let first = next_message(&mut subscription).await;
    for n in 1..4 {
        clock.set(start.plus(secs(5 * n)));
        renew(5 * n + 5).await;
        clock.advance(secs(1));
        say(&publisher, &stream, &n.to_string()).await;
        let message = next_message(&mut subscription).await;
        assert_eq!((message.text(), &message.key_id), (Some(n.to_string().as_str()), &first.key_id));
    }
    assert_eq!(keys_made(&store, publisher.user(), &stream), 1);
    assert_eq!(subscriber.stats().key_requests_sent, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_grants_that_end_in_the_same_second_cause_one_rekey_at_the_next_message() {
    let net = Net::start().await;
    let (clock, start) = standing_clock();
    let store = Arc::new(MemoryKeyStore::default());
    let (publisher, stream, mut subscription) = stayer(&net, store.clone(), clock.clone()).await;
    let end = start.plus(secs(5));
    for byte in 20..30 {
        let user = identity(byte).user();
        publisher.grant(&stream, user, Permission::Subscribe, Period::until(end)).await.unwrap();
    }
    say(&publisher, &stream, "one").await;
    let one = next_message(&mut subscription).await;
    clock.set(end.plus(secs(1)));
    assert_eq!(keys_made(&store, publisher.user(), &stream), 1);
    let mut keys = BTreeSet::new();
    for n in 0..5 {
        say(&publisher, &stream, &n.to_string()).await;
        let message = next_message(&mut subscription).await;
        assert_eq!(message.text(), Some(n.to_string().as_str()));
        keys.insert(message.key_id);
        clock.advance(secs(1));
    }
    assert_eq!(keys.len(), 1);
    assert!(!keys.contains(&one.key_id));
    assert_eq!(keys_made(&store, publisher.user(), &stream), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_was_down_when_a_grant_ended_rekeys_before_its_first_message() {
    let net = Net::start().await;
    let (clock, start) = standing_clock();
    let store = Arc::new(MemoryKeyStore::default());
    let (publisher, stream, mut subscription) = stayer(&net, store.clone(), clock.clone()).await;
    let end = start.plus(secs(5));
    let user = identity(20).user();
    publisher.grant(&stream, user, Permission::Subscribe, Period::until(end)).await.unwrap();
    say(&publisher, &stream, "one").await;
    let one = next_message(&mut subscription).await;
    publisher.stop().await;

    clock.set(end.plus(secs(2)));
    let restarted = net.join(net.builder(1).store(store.clone()).clock(clock.clone())).await;
    net.ready(&restarted, &stream, 1).await;
    say(&restarted, &stream, "two").await;
    let two = next_message(&mut subscription).await;
    assert_eq!(two.text(), Some("two"));
    assert_ne!(two.key_id, one.key_id);
    restarted.stop().await;

    // And only once: what ended before the last rekey is over.
    clock.advance(secs(1));
    let again = net.join(net.builder(1).store(store).clock(clock)).await;
    net.ready(&again, &stream, 1).await;
    say(&again, &stream, "three").await;
    assert_eq!(next_message(&mut subscription).await.key_id, two.key_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_pre_agreed_key_is_reported_once_and_the_stream_goes_on_with_the_next() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let subscriber = net.client(2).await;
    publisher.grant(&stream, subscriber.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    let (right, wrong) = (group_key("agreed", 1), group_key("agreed", 2));
    publisher.add_encryption_key(&right, publisher.user(), &stream).await.unwrap();
    subscriber.add_encryption_key(&wrong, publisher.user(), &stream).await.unwrap();
    publisher.update_encryption_key(&stream, KeyUpdateMethod::Rekey, Some(right.clone())).await.unwrap();
    let mut subscription = subscriber.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 1).await;
    for _ in 0..3 {
        say(&publisher, &stream, "unreadable").await;
    }
    publisher.update_encryption_key(&stream, KeyUpdateMethod::Rekey, None).await.unwrap();
    say(&publisher, &stream, "readable").await;
    let mut wrong_keys = Vec::new();
    let readable = within(async {
        loop {
            match subscription.next().await.unwrap() {
                Delivery::Message(message) => return message,
                Delivery::Event(Event::WrongKey { key_id, .. }) => wrong_keys.push(key_id),
                Delivery::Event(Event::KeyPending { .. } | Event::KeyArrived { .. }) => {}
                Delivery::Event(event) => panic!("{event:?}"),
            }
        }
    });
    assert_eq!(readable.await.text(), Some("readable"));
    assert_eq!(wrong_keys, [right.id().clone()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_taken_back_and_given_again_for_later_is_an_end_all_the_same() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let subscriber = net.client(2).await;
    publisher.grant(&stream, subscriber.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    let mut subscription = subscriber.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 1).await;
    say(&publisher, &stream, "paid").await;
    assert_eq!(next_text(&mut subscription).await, "paid");
    // All within the same second.
    let from = SystemClock.now().plus(secs(3600));
    publisher.revoke(&stream, subscriber.user(), Permission::Subscribe).await.unwrap();
    let later = Period { start: Some(from), end: None };
    publisher.grant(&stream, subscriber.user(), Permission::Subscribe, later).await.unwrap();
    say(&publisher, &stream, "unpaid").await;
    assert_eq!(next_event(&mut subscription, refusal).await, Refusal::NotYet { from });
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_timeout_the_publisher_is_asked_again_where_it_was_although_no_dht_knows_it() {
    let net = Net::start().await;
    let mut publisher = HandMade::start_unlisted(&net, 1).await;
    let mut config = eager();
    config.requester.key_request_timeout = Duration::from_millis(700);
    let subscriber = net.join(net.builder(2).config(config)).await;
    let mut subscription = subscriber.subscribe(&publisher.stream).await.unwrap();
    within(net.relay.wait_for_peers(&publisher.part(), 1)).await;
    publisher.say("one").await;
    let (_, held) = publisher.requested().await;
    assert_eq!(next_event(&mut subscription, retry).await.0, AskFailure::Timeout);
    until_read(&mut publisher, &mut subscription, "one").await;
    drop(held);
}
