//! At the end of a paid time the subscriber is out, without anybody publishing or calling anything.

#![cfg(feature = "p2p")]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::{LONG, Net, config, next_event, next_message, next_text, say, until};
use veilcast::client::{Client, ClientError, KeyUpdateMethod, StreamOptions, Subscription};
use veilcast::key_store::{KeyId, KeyStore, MemoryKeyStore, TimeRange};
use veilcast::permission::{Answer, Grant, LocalRegistry, PermissionSource, StreamInfo, Subscriber};
use veilcast::subscriber::Arrival;
use veilcast::time::{Clock, ManualClock, SystemClock};
use veilcast::{Delivery, Event, Period, Permission, Refusal, StreamId, Timestamp, UserId};

/// A publisher whose clock is in our hands, and its stream.
struct Desk {
    net: Net,
    clock: Arc<ManualClock>,
    start: Timestamp,
    store: Arc<MemoryKeyStore>,
    publisher: Client,
    stream: StreamId,
}

impl Desk {
    async fn open() -> Self {
        let net = Net::start().await;
        // Messages and requests must be fresh elsewhere too.
        let start = Timestamp::from_secs(SystemClock.now().as_secs());
        let (clock, store) = (Arc::new(ManualClock::at(start)), Arc::new(MemoryKeyStore::default()));
        let publisher = net.join(net.builder(1).store(store.clone()).clock(clock.clone())).await;
        let stream = publisher.create_stream("s", StreamOptions::default()).await.unwrap();
        Self { net, clock, start, store, publisher, stream }
    }

    fn after(&self, secs: u64) -> Timestamp {
        self.start.plus(Duration::from_secs(secs))
    }

    async fn grant(&self, user: UserId, period: Period) {
        self.publisher.grant(&self.stream, user, Permission::Subscribe, period).await.unwrap();
    }

    async fn revoke(&self, user: UserId) {
        self.publisher.revoke(&self.stream, user, Permission::Subscribe).await.unwrap();
    }

    /// A reader with a grant for this period, who has read the first message.
    async fn reader(&self, byte: u8, period: Period) -> (Client, Subscription) {
        let reader = self.net.client(byte).await;
        self.grant(reader.user(), period).await;
        let subscription = reader.subscribe(&self.stream).await.unwrap();
        (reader, subscription)
    }

    fn keys_made(&self) -> usize {
        let scope = veilcast::scope(self.publisher.user(), &self.stream);
        self.store.history(&scope, TimeRange::ALL, None, 100).unwrap().len()
    }
}

fn pushed(event: &Event) -> Option<()> {
    matches!(event, Event::KeyArrived { by: Arrival::Push, .. }).then_some(())
}

fn refusal(event: &Event) -> Option<Refusal> {
    match event {
        Event::KeyRefused { refusal, .. } => Some(*refusal),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_second_after_the_end_the_publisher_rekeys_by_itself_and_whoever_stays_has_the_key_already() {
    let desk = Desk::open().await;
    let end = desk.after(5);
    let (stays, mut of_stays) = desk.reader(2, Period::ALWAYS).await;
    let (_leaves, mut of_leaves) = desk.reader(3, Period::until(end)).await;
    desk.net.ready(&desk.publisher, &desk.stream, 2).await;
    say(&desk.publisher, &desk.stream, "paid").await;
    assert_eq!(next_text(&mut of_stays).await, "paid");
    assert_eq!(next_text(&mut of_leaves).await, "paid");

    desk.clock.set(end.plus(Duration::from_secs(1)));
    next_event(&mut of_stays, pushed).await;
    assert_eq!(desk.keys_made(), 2);
    say(&desk.publisher, &desk.stream, "unpaid").await;
    assert_eq!(next_text(&mut of_stays).await, "unpaid");
    assert_eq!(next_event(&mut of_leaves, refusal).await, Refusal::Expired { since: end });
    assert_eq!((desk.keys_made(), stays.stats().key_requests_sent), (2, 1), "one rekey, and nobody had to ask");
}

/// The texts read until `last`, nothing of which was waited for.
async fn reads_at_once(subscription: &mut Subscription, last: &str) -> Vec<String> {
    let mut read: Vec<String> = Vec::new();
    let reading = async {
        while read.last().is_none_or(|text| text != last) {
            match subscription.next().await.expect("the client runs") {
                Delivery::Message(message) => read.push(message.text().unwrap().into()),
                Delivery::Event(event) => {
                    assert!(!matches!(event, Event::KeyPending { .. } | Event::Gap { .. }), "{event:?}")
                }
            }
        }
    };
    tokio::time::timeout(LONG, reading).await.expect("it should have been read by now");
    read
}

/// A stream with somebody who stays and somebody whose last second is the fifth; both have read the first message.
struct Shop {
    desk: Desk,
    stays: (Client, Subscription),
    leaves: (Client, Subscription),
}

impl Shop {
    async fn open() -> Self {
        let desk = Desk::open().await;
        let mut stays = desk.reader(2, Period::ALWAYS).await;
        let mut leaves = desk.reader(3, Period::until(desk.after(5))).await;
        desk.net.ready(&desk.publisher, &desk.stream, 2).await;
        say(&desk.publisher, &desk.stream, "paid").await;
        assert_eq!(next_text(&mut stays.1).await, "paid");
        assert_eq!(next_text(&mut leaves.1).await, "paid");
        Self { desk, stays, leaves }
    }

    async fn say(&self, text: &str) {
        say(&self.desk.publisher, &self.desk.stream, text).await;
    }

    /// Shortly before the end; returns the key that is sent ahead.
    async fn key_ahead(&mut self) -> KeyId {
        self.desk.clock.set(self.desk.after(4));
        let key_of = |event: &Event| match event {
            Event::KeyArrived { by: Arrival::Push, key_id, .. } => Some(key_id.clone()),
            _ => None,
        };
        next_event(&mut self.stays.1, key_of).await
    }

    fn knows(&self, key: &KeyId) -> bool {
        let scope = veilcast::scope(self.desk.publisher.user(), &self.desk.stream);
        self.desk.store.key(&scope, key).unwrap().is_some()
    }

    /// The key of the next message that the one who stays reads.
    async fn next_key(&mut self) -> KeyId {
        self.say("next").await;
        next_message(&mut self.stays.1).await.key_id.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stays_waits_for_no_key_at_an_end_that_is_known_while_messages_flow() {
    let mut shop = Shop::open().await;
    let (start, end) = (shop.desk.start, shop.desk.after(5));
    let ahead = shop.key_ahead().await;
    assert!(!shop.knows(&ahead), "nobody can be answered with it yet");
    let mut said = Vec::new();
    for n in 0..12 {
        shop.desk.clock.set(start.plus(Duration::from_millis(4_000 + n * 250)));
        said.push(n.to_string());
        shop.say(&n.to_string()).await;
    }
    assert_eq!(reads_at_once(&mut shop.stays.1, "11").await, said);
    assert_eq!(reads_at_once(&mut shop.leaves.1, "7").await, said[..8]);
    assert_eq!(next_event(&mut shop.leaves.1, refusal).await, Refusal::Expired { since: end });
    assert!(shop.knows(&ahead));
    let requests = [&shop.stays.0, &shop.leaves.0].map(|client| client.stats().key_requests_sent);
    assert_eq!((shop.desk.keys_made(), requests), (2, [1, 2]), "only who is out had to ask");
    assert_eq!((shop.leaves.0.stats().pushes_accepted, shop.desk.publisher.stats().keys_ahead), (0, 1));
    let given = shop.desk.publisher.given_keys(&shop.desk.stream, shop.stays.0.user()).await.unwrap();
    assert_eq!(given.iter().map(|given| &given.key_id).filter(|id| **id == ahead).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_sent_ahead_of_an_end_that_is_renewed_is_never_used_and_nothing_is_rekeyed() {
    let mut shop = Shop::open().await;
    let ahead = shop.key_ahead().await;
    shop.desk.grant(shop.leaves.0.user(), Period::until(shop.desk.after(60))).await;
    // The other stream shows that the clock was looked at.
    let other = shop.desk.publisher.create_stream("other", StreamOptions::default()).await.unwrap();
    let ends = Period::until(shop.desk.after(5));
    shop.desk.publisher.grant(&other, support::identity(9).user(), Permission::Subscribe, ends).await.unwrap();
    say(&shop.desk.publisher, &other, "to nobody").await;
    let scope = veilcast::scope(shop.desk.publisher.user(), &other);
    shop.desk.clock.set(shop.desk.after(6));
    until(async || shop.desk.store.history(&scope, TimeRange::ALL, None, 100).unwrap().len() == 2).await;
    assert_eq!(shop.desk.keys_made(), 1);
    shop.say("renewed").await;
    assert_eq!(reads_at_once(&mut shop.stays.1, "renewed").await, ["renewed"]);
    assert_eq!(reads_at_once(&mut shop.leaves.1, "renewed").await, ["renewed"]);
    assert!(shop.desk.keys_made() == 1 && !shop.knows(&ahead));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_sent_ahead_to_somebody_who_is_put_out_before_it_is_current_is_never_used() {
    let mut shop = Shop::open().await;
    let ahead = shop.key_ahead().await;
    shop.desk.publisher.deny(&shop.desk.stream, shop.stays.0.user()).await.unwrap();
    shop.desk.clock.set(shop.desk.after(6));
    shop.say("unpaid").await;
    assert_eq!(next_event(&mut shop.stays.1, refusal).await, Refusal::Policy);
    assert!(!shop.knows(&ahead));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rekey_by_hand_discards_the_key_that_was_sent_ahead_and_so_does_a_start_anew() {
    let mut shop = Shop::open().await;
    let ahead = shop.key_ahead().await;
    shop.desk.publisher.update_encryption_key(&shop.desk.stream, KeyUpdateMethod::Rekey, None).await.unwrap();
    let by_hand = shop.next_key().await;
    shop.desk.clock.set(shop.desk.after(6));
    let after = shop.next_key().await;
    assert!(after != by_hand && !shop.knows(&ahead));

    let mut shop = Shop::open().await;
    let ahead = shop.key_ahead().await;
    shop.desk.publisher.stop().await;
    shop.desk.clock.set(shop.desk.after(6));
    let again = shop.desk.net.builder(1).store(shop.desk.store.clone()).clock(shop.desk.clock.clone());
    let _again = shop.desk.net.join(again).await;
    until(async || shop.desk.keys_made() == 2).await;
    assert!(!shop.knows(&ahead), "the key that is current was made after the start");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_grants_that_end_within_the_window_cause_one_rekey_although_they_end_one_after_another() {
    let desk = Desk::open().await;
    let (stays, mut subscription) = desk.reader(2, Period::ALWAYS).await;
    for byte in 20..30 {
        desk.grant(support::identity(byte).user(), Period::ALWAYS).await;
    }
    desk.net.ready(&desk.publisher, &desk.stream, 1).await;
    say(&desk.publisher, &desk.stream, "one").await;
    assert_eq!(next_text(&mut subscription).await, "one");
    // All at once, for the window is one of real time.
    for byte in 20..30 {
        let (user, now) = (support::identity(byte).user(), desk.clock.now());
        desk.publisher.registry().revoke(&desk.stream, user, Permission::Subscribe, now).unwrap();
        desk.clock.advance(Duration::from_millis(10));
    }
    next_event(&mut subscription, pushed).await;
    let made = desk.keys_made();
    say(&desk.publisher, &desk.stream, "two").await;
    assert_eq!(next_text(&mut subscription).await, "two");
    assert_eq!((made, desk.keys_made(), stays.stats().pushes_accepted), (2, 2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_before_the_end_causes_nothing() {
    let desk = Desk::open().await;
    let (_renews, mut subscription) = desk.reader(2, Period::until(desk.after(5))).await;
    desk.net.ready(&desk.publisher, &desk.stream, 1).await;
    say(&desk.publisher, &desk.stream, "one").await;
    let one = next_message(&mut subscription).await;
    // The other stream shows that the clock was looked at.
    let other = desk.publisher.create_stream("other", StreamOptions::default()).await.unwrap();
    let ends = Period::until(desk.after(5));
    desk.publisher.grant(&other, support::identity(9).user(), Permission::Subscribe, ends).await.unwrap();
    say(&desk.publisher, &other, "to nobody").await;
    let scope = veilcast::scope(desk.publisher.user(), &other);

    desk.grant(support::identity(2).user(), Period::until(desk.after(60))).await;
    desk.clock.set(desk.after(6));
    until(async || desk.store.history(&scope, TimeRange::ALL, None, 100).unwrap().len() == 2).await;
    assert_eq!(desk.keys_made(), 1);
    say(&desk.publisher, &desk.stream, "two").await;
    assert_eq!(next_message(&mut subscription).await.key_id, one.key_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_was_down_at_the_end_rekeys_by_itself_once_it_is_back_even_if_it_never_publishes() {
    let desk = Desk::open().await;
    let (_leaves, mut subscription) = desk.reader(3, Period::until(desk.after(5))).await;
    desk.net.ready(&desk.publisher, &desk.stream, 1).await;
    say(&desk.publisher, &desk.stream, "paid").await;
    assert_eq!(next_text(&mut subscription).await, "paid");
    desk.publisher.stop().await;
    // Years later, as far as this machine can tell.
    desk.clock.set(desk.after(100_000_000));
    let again = desk.net.builder(1).store(desk.store.clone()).clock(desk.clock.clone());
    let _again = desk.net.join(again).await;
    until(async || desk.keys_made() == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_started_with_another_source_rekeys_by_itself_for_whom_that_does_not_know() {
    let desk = Desk::open().await;
    let (knows, mut subscription) = desk.reader(3, Period::ALWAYS).await;
    desk.net.ready(&desk.publisher, &desk.stream, 1).await;
    say(&desk.publisher, &desk.stream, "one").await;
    assert_eq!(next_text(&mut subscription).await, "one");
    desk.publisher.stop().await;
    let another = Arc::new(LocalRegistry::new(Arc::new(MemoryKeyStore::default())));
    another.create_stream(&desk.stream, 1, false).unwrap();
    let again = desk.net.builder(1).store(desk.store.clone()).clock(desk.clock.clone()).permissions(another);
    let again = desk.net.join(again).await;
    until(async || desk.keys_made() == 2).await;
    say(&again, &desk.stream, "two").await;
    assert_eq!(desk.keys_made(), 2, "once");
    until(async || again.holders(&desk.stream).await.unwrap().iter().all(|holder| holder.user != knows.user())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_it_is_switched_off_nothing_is_rekeyed() {
    let desk = Desk::open().await;
    let mut off = config();
    off.rekey_on_end = false;
    let (clock, store) = (desk.clock.clone(), Arc::new(MemoryKeyStore::default()));
    let publisher = desk.net.join(desk.net.builder(7).config(off).store(store.clone()).clock(clock)).await;
    let stream = publisher.create_stream("s", StreamOptions::default()).await.unwrap();
    for (publisher, stream) in [(&publisher, &stream), (&desk.publisher, &desk.stream)] {
        let ends = Period::until(desk.after(5));
        publisher.grant(stream, support::identity(9).user(), Permission::Subscribe, ends).await.unwrap();
        say(publisher, stream, "to nobody").await;
    }
    desk.clock.set(desk.after(6));
    until(async || desk.keys_made() == 2).await;
    let scope = veilcast::scope(publisher.user(), &stream);
    assert_eq!(store.history(&scope, TimeRange::ALL, None, 100).unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_in_use_becomes_current_no_second_time_for_it_would_shut_nobody_out() {
    let desk = Desk::open().await;
    let (_stays, mut subscription) = desk.reader(2, Period::ALWAYS).await;
    desk.net.ready(&desk.publisher, &desk.stream, 1).await;
    let key = support::group_key("once", 1);
    let change = async |method| desk.publisher.update_encryption_key(&desk.stream, method, Some(key.clone())).await;
    change(KeyUpdateMethod::Rekey).await.unwrap();
    say(&desk.publisher, &desk.stream, "one").await;
    assert_eq!(next_text(&mut subscription).await, "one");
    desk.grant(support::identity(9).user(), Period::ALWAYS).await;
    desk.revoke(support::identity(9).user()).await;
    for method in [KeyUpdateMethod::Rekey, KeyUpdateMethod::Rotate] {
        let refused = change(method).await;
        assert!(matches!(&refused, Err(ClientError::KeyUsedBefore { key_id }) if key_id == key.id()), "{refused:?}");
    }
    say(&desk.publisher, &desk.stream, "two").await;
    assert_ne!(next_message(&mut subscription).await.key_id.as_ref(), Some(key.id()));
}

/// A source whose public streams are public until a moment that it names beforehand.
struct PublicUntil {
    inner: LocalRegistry,
    ends: Timestamp,
}

impl PermissionSource for PublicUntil {
    fn check<'a>(
        &'a self,
        stream: &'a StreamId,
        user: UserId,
        permission: Permission,
        now: Timestamp,
    ) -> Answer<'a, Result<Grant, Refusal>> {
        self.inner.check(stream, user, permission, now)
    }

    fn subscribers<'a>(&'a self, stream: &'a StreamId) -> Answer<'a, Result<Vec<Subscriber>, Refusal>> {
        self.inner.subscribers(stream)
    }

    fn stream<'a>(&'a self, stream: &'a StreamId) -> Answer<'a, Result<Option<StreamInfo>, Refusal>> {
        Box::pin(async move {
            let info = self.inner.stream(stream).await?;
            Ok(info.map(|info| StreamInfo { public_ends: Some(self.ends), ..info }))
        })
    }

    fn stream_at<'a>(
        &'a self,
        stream: &'a StreamId,
        now: Timestamp,
    ) -> Answer<'a, Result<Option<StreamInfo>, Refusal>> {
        Box::pin(async move { Ok(self.stream(stream).await?.map(|info| info.at(now))) })
    }

    fn changes(&self) -> u64 {
        self.inner.changes()
    }
}

/// How many keys are made by a message before a public stream's end, by one at its last moment, and by one a moment later.
async fn keys_around_the_end_of_a_public_stream(always_encrypt: bool) -> [usize; 3] {
    let net = Net::start().await;
    let start = Timestamp::from_secs(SystemClock.now().as_secs());
    let (clock, store) = (Arc::new(ManualClock::at(start)), Arc::new(MemoryKeyStore::default()));
    let ends = start.plus(Duration::from_secs(2));
    let stream = StreamId::of(support::identity(1).user(), "s").unwrap();
    let inner = LocalRegistry::new(Arc::new(MemoryKeyStore::default()));
    inner.create_stream(&stream, 1, true).unwrap();
    let mut config = config();
    config.always_encrypt = always_encrypt;
    // What is shown is what a message does, not what is done without one.
    config.rekey_on_end = always_encrypt;
    config.end_window = Duration::from_secs(3600);
    let builder = net.builder(1).store(store.clone()).clock(clock.clone()).config(config);
    let publisher = net.join(builder.permissions(Arc::new(PublicUntil { inner, ends }))).await;
    let keys = async |at: Timestamp| {
        clock.set(at);
        say(&publisher, &stream, "x").await;
        store.history(&veilcast::scope(publisher.user(), &stream), TimeRange::ALL, None, 100).unwrap().len()
    };
    [keys(start).await, keys(ends.minus(Duration::from_millis(1))).await, keys(ends).await]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_stops_being_public_at_a_known_moment_is_encrypted_from_that_moment_on() {
    assert_eq!(keys_around_the_end_of_a_public_stream(false).await, [0, 0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_that_everybody_could_have_is_replaced_at_the_known_end_of_a_public_stream() {
    assert_eq!(keys_around_the_end_of_a_public_stream(true).await, [1, 1, 2]);
}

/// A source that can be made to leave one listing unanswered, and counts how often it was asked for any.
struct Slow {
    inner: LocalRegistry,
    /// The next listing of this stream never comes; those after it do.
    stuck: Mutex<Option<StreamId>>,
    waiting: Arc<AtomicUsize>,
    asked: AtomicUsize,
}

/// One question that waits.
struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl PermissionSource for Slow {
    fn check<'a>(
        &'a self,
        stream: &'a StreamId,
        user: UserId,
        permission: Permission,
        now: Timestamp,
    ) -> Answer<'a, Result<Grant, Refusal>> {
        self.inner.check(stream, user, permission, now)
    }

    fn subscribers<'a>(&'a self, stream: &'a StreamId) -> Answer<'a, Result<Vec<Subscriber>, Refusal>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.stuck.lock().unwrap().take_if(|stuck| stuck == stream).is_none() {
            return self.inner.subscribers(stream);
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let waiting = Waiting(self.waiting.clone());
        Box::pin(async move {
            let _waiting = waiting;
            std::future::pending().await
        })
    }

    fn stream<'a>(&'a self, stream: &'a StreamId) -> Answer<'a, Result<Option<StreamInfo>, Refusal>> {
        self.inner.stream(stream)
    }

    fn changes(&self) -> u64 {
        self.inner.changes()
    }
}

/// A publisher of two streams by such a source, and its clock.
struct TwoStreams {
    source: Arc<Slow>,
    clock: Arc<ManualClock>,
    store: Arc<MemoryKeyStore>,
    publisher: Client,
    streams: [StreamId; 2],
    _net: Net,
}

impl TwoStreams {
    async fn open() -> Self {
        let net = Net::start().await;
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(SystemClock.now().as_secs())));
        let (inner, store) =
            (LocalRegistry::new(Arc::new(MemoryKeyStore::default())), Arc::<MemoryKeyStore>::default());
        let owner = support::identity(1).user();
        let streams = ["a", "b"].map(|path| StreamId::of(owner, path).unwrap());
        streams.iter().for_each(|stream| inner.create_stream(stream, 1, false).unwrap());
        let (stuck, waiting, asked) = (Mutex::default(), Arc::default(), AtomicUsize::default());
        let source = Arc::new(Slow { inner, stuck, waiting, asked });
        let builder = net.builder(1).store(store.clone()).clock(clock.clone()).permissions(source.clone());
        let publisher = net.join(builder).await;
        Self { source, clock, store, publisher, streams, _net: net }
    }

    fn grant(&self, stream: usize, byte: u8, period: Period) {
        let (user, now) = (support::identity(byte).user(), self.clock.now());
        self.source.inner.grant(&self.streams[stream], user, Permission::Subscribe, period, now).unwrap();
    }

    fn revoke(&self, stream: usize, byte: u8) {
        let (user, now) = (support::identity(byte).user(), self.clock.now());
        self.source.inner.revoke(&self.streams[stream], user, Permission::Subscribe, now).unwrap();
    }

    async fn say(&self, stream: usize) {
        say(&self.publisher, &self.streams[stream], "to nobody").await;
    }

    fn keys_made(&self, stream: usize) -> usize {
        let scope = veilcast::scope(self.publisher.user(), &self.streams[stream]);
        self.store.history(&scope, TimeRange::ALL, None, 100).unwrap().len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_was_known_is_enforced_without_asking_the_source_again() {
    let two = TwoStreams::open().await;
    two.grant(0, 9, Period::until(two.clock.now().plus(Duration::from_secs(5))));
    two.say(0).await;
    two.say(0).await;
    let asked = two.source.asked.load(Ordering::SeqCst);
    two.clock.advance(Duration::from_secs(6));
    until(async || two.keys_made(0) == 2).await;
    two.say(0).await;
    assert_eq!((two.keys_made(0), two.source.asked.load(Ordering::SeqCst)), (2, asked));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_source_does_not_answer_for_one_stream_its_messages_go_out_and_others_are_rekeyed() {
    let two = TwoStreams::open().await;
    two.say(0).await;
    two.say(1).await;
    // The question is given up after a while. A machine that stands still so long shows nothing, and gets another try.
    for n in 0..5 {
        two.grant(1, 9, Period::ALWAYS);
        two.say(1).await;
        let made = two.keys_made(1);
        *two.source.stuck.lock().unwrap() = Some(two.streams[0].clone());
        two.revoke(1, 9);
        until(async || two.source.waiting.load(Ordering::SeqCst) == 1).await;
        two.say(0).await;
        until(async || two.keys_made(1) == made + 1).await;
        if two.source.waiting.load(Ordering::SeqCst) == 1 {
            return;
        }
        assert!(n < 4, "whoever publishes, or another stream, waited for the answer");
    }
}
