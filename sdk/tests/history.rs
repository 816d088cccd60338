//! Historical keys over real sockets: by ids and by span of time, paged and resumed, under each policy.

#![cfg(feature = "p2p")]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::*;
use veilcast::client::{Client, ClientConfig, ClientError, FetchEvent, FetchProgress, KeyFetch, StreamOptions};
use veilcast::exchange::{AskFailure, FetchFailure, HistoryPolicy};
use veilcast::identity::Domain;
use veilcast::key_store::{
    GroupKey, HistoryCursor, KeyId, KeyOrigin, KeyStore, MemoryKeyStore, SledKeyStore, Store, StoredKey, TimeRange,
    Unlock,
};
use veilcast::time::{Clock, ManualClock, SystemClock};
use veilcast::wire::{Content, KeyAnswer, KeyRange, KeyRequest, MAX_KEYS_PER_ANSWER, RequestId, Verified, Wanted};
use veilcast::{Period, Permission, Refusal, StreamId, Timestamp, UserId};

const ALWAYS: std::ops::RangeInclusive<Timestamp> = Timestamp::ZERO..=Timestamp::from_millis(u64::MAX);
const SECOND: u64 = 1000;
const DAY: u64 = 24 * 3600 * SECOND;

/// A publisher whose stream `s` has so many keys behind it, a second each, the last one current.
struct Archive {
    net: Net,
    publisher: Client,
    stream: StreamId,
    store: Arc<MemoryKeyStore>,
    /// When its first key became current.
    begin: u64,
}

fn numbered(n: u64) -> GroupKey {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    GroupKey::new(KeyId::new(&format!("key-{n}")).unwrap(), &bytes).unwrap()
}

impl Archive {
    async fn of(keys: u64) -> Self {
        let store = Arc::new(MemoryKeyStore::new());
        let begin = SystemClock.now().as_millis() - keys * SECOND;
        let stream = StreamId::of(identity(1).user(), "s").unwrap();
        let scope = veilcast::scope(identity(1).user(), &stream);
        for n in 0..keys {
            store.make_current(&scope, &numbered(n), begin + n * SECOND).unwrap();
        }
        let net = Net::start().await;
        let publisher = net.client_with(1, store.clone(), config()).await;
        publisher.create_stream("s", StreamOptions::default()).await.unwrap();
        Self { net, publisher, stream, store, begin }
    }

    async fn grant(&self, user: UserId) {
        self.publisher.grant(&self.stream, user, Permission::Subscribe, Period::ALWAYS).await.unwrap();
    }

    /// A granted subscriber with this store.
    async fn reader(&self, store: Arc<dyn Store>) -> Client {
        let reader = self.net.client_with(2, store, config()).await;
        self.grant(reader.user()).await;
        reader
    }

    fn fetch(&self, reader: &Client) -> KeyFetch {
        reader.fetch_keys(&self.stream, self.publisher.user(), ALWAYS).unwrap()
    }

    fn held(&self, store: &dyn Store) -> Vec<StoredKey> {
        let scope = veilcast::scope(self.publisher.user(), &self.stream);
        store.history(&scope, TimeRange::ALL, None, usize::MAX).unwrap()
    }

    /// What a hand-made request for a span is answered.
    async fn asked(&self, raw: &Raw, wanted: Wanted) -> KeyAnswer {
        let asker = identity(2);
        let request = KeyRequest { wanted, ..key_request(&asker, self.publisher.user(), &self.stream, &[]) };
        raw.answer(&self.publisher, &Verified::sign(request, &asker).unwrap()).await
    }
}

fn range(from: u64, to: u64) -> Wanted {
    Wanted::Range(KeyRange { range: TimeRange { from, to }, after: None })
}

async fn done(fetch: KeyFetch) -> FetchProgress {
    within(fetch.finish()).await.unwrap()
}

async fn failure(fetch: KeyFetch) -> FetchFailure {
    match within(fetch.finish()).await {
        Err(ClientError::FetchFailed { failure, .. }) => failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_keys_of_history_come_in_pages_as_they_are_with_their_periods() {
    let archive = Archive::of(10_000).await;
    let store = Arc::new(MemoryKeyStore::new());
    let reader = archive.reader(store.clone()).await;
    let summary = done(archive.fetch(&reader)).await;
    assert_eq!((summary.keys, summary.refused), (10_000, 0));
    let (held, sent) = (archive.held(&*store), archive.held(&*archive.store));
    assert_eq!(held.len(), 10_000);
    for (held, sent) in held.iter().zip(&sent) {
        assert!(held.key.same_as(&sent.key));
        assert_eq!((held.since, held.until, held.origin), (sent.since, sent.until, KeyOrigin::Received));
    }
    let pages = 10_000_u64.div_ceil(MAX_KEYS_PER_ANSWER as u64);
    assert_eq!(reader.stats().key_requests_sent, pages);
    assert_eq!(archive.publisher.stats().keys_granted, 10_000, "each key once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_is_dropped_and_one_whose_client_stopped_go_on_where_they_were() {
    let archive = Archive::of(2_000).await;
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let unlock = Unlock::KeyFile(folder.path().join("unlock"));
        Arc::new(SledKeyStore::open(&folder.path().join("keys"), &unlock).unwrap())
    };
    let pages = async |fetch: &mut KeyFetch, n: usize| {
        let mut last = None;
        while let Some(event) = within(fetch.next()).await {
            match event.unwrap() {
                FetchEvent::Page(progress) => last = Some(progress),
                FetchEvent::Resumed(_) => continue,
                other => panic!("{other:?}"),
            }
            if last.is_some_and(|progress: FetchProgress| progress.keys as usize >= n * MAX_KEYS_PER_ANSWER) {
                break;
            }
        }
        last.unwrap()
    };
    let reader = archive.reader(open()).await;
    let mut dropped = archive.fetch(&reader);
    pages(&mut dropped, 2).await;
    drop(dropped);
    let mut stopped = archive.fetch(&reader);
    let Some(Ok(FetchEvent::Resumed(resumed))) = within(stopped.next()).await else { panic!("it goes on") };
    assert!(resumed.keys >= 512, "{resumed:?}");
    pages(&mut stopped, 4).await;
    reader.stop().await;
    drop((stopped, reader));

    let store = open();
    let known = archive.held(&*store).len();
    assert!((1024..2000).contains(&known), "{known}");
    let reader = archive.net.client_with(2, store.clone(), config()).await;
    let summary = done(archive.fetch(&reader)).await;
    assert_eq!(summary.keys, 2_000, "those of the earlier runs are counted too");
    assert_eq!(archive.held(&*store).len(), 2_000);
    // A page may have been stored without its bookmark; that one is asked for again, and no other.
    let (missing, asked) = ((2_000 - known).div_ceil(MAX_KEYS_PER_ANSWER), reader.stats().key_requests_sent as usize);
    assert!((missing..=missing + 1).contains(&asked), "{asked} requests after {known} keys");

    let anew = within(archive.fetch(&reader).next()).await;
    assert!(
        matches!(anew, Some(Ok(FetchEvent::Page(progress))) if progress.keys == 256),
        "finished, so it begins anew"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_held_with_other_bytes_is_not_replaced_and_does_not_hold_a_fetch_up() {
    let archive = Archive::of(3).await;
    let store = Arc::new(MemoryKeyStore::new());
    let scope = veilcast::scope(archive.publisher.user(), &archive.stream);
    let mine = group_key(numbered(1).id().as_str(), 0x77);
    store.add(&scope, &mine, 1, None, KeyOrigin::PreAgreed).unwrap();
    let reader = archive.reader(store.clone()).await;
    assert_eq!(done(archive.fetch(&reader)).await.keys, 2);
    assert!(store.key(&scope, mine.id()).unwrap().unwrap().key.same_as(&mine));
    assert_eq!(reader.stats().key_requests_sent, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_subscribe_is_refused_the_span_as_a_whole_within_one_round_trip() {
    let archive = Archive::of(3).await;
    let stranger = archive.net.client(2).await;
    assert_eq!(failure(archive.fetch(&stranger)).await, FetchFailure::Refused(Refusal::Denied));
    assert_eq!(stranger.stats().key_requests_sent, 1);

    archive.grant(stranger.user()).await;
    archive.publisher.revoke(&archive.stream, stranger.user(), Permission::Subscribe).await.unwrap();
    let refused = failure(archive.fetch(&stranger)).await;
    assert!(matches!(refused, FetchFailure::Refused(Refusal::Expired { .. })), "{refused:?}");
    assert_eq!(archive.publisher.stats().keys_granted, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_span_of_one_stream_never_yields_a_key_of_another() {
    let archive = Archive::of(3).await;
    let other = archive.publisher.create_stream("t", StreamOptions::default()).await.unwrap();
    let scope = veilcast::scope(archive.publisher.user(), &other);
    archive.store.make_current(&scope, &numbered(77), archive.begin).unwrap();
    let store = Arc::new(MemoryKeyStore::new());
    let reader = archive.reader(store.clone()).await;

    assert_eq!(done(archive.fetch(&reader)).await.keys, 3);
    assert!(archive.held(&*store).iter().all(|stored| stored.key.id() != numbered(77).id()));
    let elsewhere = reader.fetch_keys(&other, archive.publisher.user(), ALWAYS).unwrap();
    assert_eq!(failure(elsewhere).await, FetchFailure::Refused(Refusal::Denied));
}

/// The ids asked for by span and by id, as far as they are granted.
async fn granted_both_ways(archive: &Archive, raw: &Raw) -> Vec<String> {
    let held = archive.held(&*archive.store);
    let ids = |answer: &KeyAnswer| {
        let refused_by_policy = answer.refused.iter().all(|refused| refused.refusal == Refusal::Policy);
        assert!(refused_by_policy && answer.granted.len() + answer.refused.len() == held.len(), "{answer:?}");
        let mut ids: Vec<String> = answer.granted.iter().map(|granted| granted.key_id.as_str().into()).collect();
        ids.sort();
        ids
    };
    let by_span = ids(&archive.asked(raw, range(0, u64::MAX)).await);
    let named = held.iter().map(|stored| stored.key.id().clone()).collect();
    let by_id = ids(&archive.asked(raw, Wanted::Keys(named)).await);
    assert_eq!(by_span, by_id);
    by_span
}

#[tokio::test(flavor = "multi_thread")]
async fn the_streams_policy_decides_by_id_and_by_span_alike_and_at_once() {
    let archive = Archive::of(1).await;
    let (now, scope) = (SystemClock.now().as_millis(), veilcast::scope(archive.publisher.user(), &archive.stream));
    // The one key there is began a second ago; these ended a month, a week and an hour ago.
    for (name, since, until) in
        [("month", 40 * DAY, 30 * DAY), ("week", 30 * DAY, 7 * DAY), ("hour", 7 * DAY, DAY / 24)]
    {
        let (key, made) = (group_key(name, 1), archive.store.clone());
        made.add(&scope, &key, now - since, Some(now - until), KeyOrigin::Made).unwrap();
    }
    let raw = Raw::start(&archive.net.address).await;
    let from = |ago: u64| Period { start: Some(Timestamp::from_millis(now - ago)), end: None };
    let renew = async |period| {
        let (stream, user) = (&archive.stream, identity(2).user());
        archive.publisher.grant(stream, user, Permission::Subscribe, period).await.unwrap();
    };
    renew(Period::ALWAYS).await;
    let granted = async |policy| {
        archive.publisher.set_history(&archive.stream, policy).await.unwrap();
        granted_both_ways(&archive, &raw).await
    };
    let window = HistoryPolicy::Window(Duration::from_millis(10 * DAY));
    assert_eq!(
        granted_both_ways(&archive, &raw).await,
        ["hour", "key-0", "month", "week"],
        "all, unless said otherwise"
    );
    assert_eq!(granted(HistoryPolicy::None).await, ["key-0"]);
    assert_eq!(granted(window).await, ["hour", "key-0", "week"]);
    assert_eq!(granted(HistoryPolicy::SinceGrantStart).await, ["key-0"], "the grant is given just now");
    renew(from(20 * DAY)).await;
    assert_eq!(granted(HistoryPolicy::SinceGrantStart).await, ["hour", "key-0", "week"]);
    assert_eq!(granted(HistoryPolicy::All).await, ["hour", "key-0", "month", "week"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_of_a_stream_is_given_every_key_of_its_publishers_whatever_their_policy() {
    let archive = Archive::of(3).await;
    let owner = archive.net.client(2).await;
    let stream = StreamId::of(owner.user(), "theirs").unwrap();
    let scope = veilcast::scope(archive.publisher.user(), &stream);
    for n in 0..5 {
        archive.store.make_current(&scope, &numbered(n), archive.begin - DAY + n * SECOND).unwrap();
    }
    archive.publisher.set_history(&stream, HistoryPolicy::None).await.unwrap();
    let fetch = owner.fetch_keys(&stream, archive.publisher.user(), ALWAYS).unwrap();
    let summary = done(fetch).await;
    assert_eq!((summary.keys, summary.refused), (5, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_set_with_the_stream_outlives_a_restart_and_making_the_stream_again_leaves_it() {
    let (net, store) = (Net::start().await, Arc::new(MemoryKeyStore::new()));
    let window = HistoryPolicy::Window(Duration::from_secs(3600));
    let options = StreamOptions { history: Some(window), ..StreamOptions::default() };
    let publisher = net.client_with(1, store.clone(), config()).await;
    let stream = publisher.create_stream("s", options).await.unwrap();
    publisher.stop().await;
    let publisher = net.client_with(1, store, config()).await;
    publisher.create_stream("s", StreamOptions::default()).await.unwrap();
    assert_eq!(publisher.history(&stream).await.unwrap(), window);
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_that_make_no_sense_get_silence_and_an_honest_request_right_after_its_page() {
    let archive = Archive::of(3).await;
    archive.grant(identity(2).user()).await;
    let raw = Raw::start(&archive.net.address).await;
    let asker = identity(2);
    let plain = || key_request(&asker, archive.publisher.user(), &archive.stream, &[numbered(0).id()]);
    // As `KeyRequest::encode` would write it without its field 8, so that any field 8 and 9 can follow.
    let bare = KeyRequest { wanted: range(0, 0), ..plain() }.encode();
    let bare = bare[..bare.len() - 2].to_vec();
    let field = |tag: u8, bytes: &[u8]| [&[tag << 3 | 2, bytes.len() as u8], bytes].concat();
    let number = |tag: u8, n: u8| vec![tag << 3, n];
    let span = |from: u8, to: u8, more: &[u8]| field(9, &[&number(1, from), &number(2, to), more].concat());
    let cursor = |since: u8, id: &[u8]| field(3, &[number(1, since), field(2, id)].concat());
    let hostile = [
        ("neither ids nor a span", Vec::new()),
        ("both", [field(8, b"key-0"), span(0, 9, b"")].concat()),
        ("it ends before it begins", span(9, 1, b"")),
        ("a cursor behind its end", span(1, 9, &cursor(10, b"key-0"))),
        ("a cursor without a key", span(1, 9, &cursor(2, b""))),
        ("a cursor at a key with a space", span(1, 9, &cursor(2, b"key 0"))),
        ("a span of nonsense", field(9, &[0xff; 7])),
    ];
    for (what, wanted) in hostile {
        let content = [bare.clone(), wanted].concat();
        let signature = asker.sign(Domain::KeyRequest, &content).as_bytes().to_vec();
        let kind = Domain::KeyRequest.number();
        let envelope = AnyEnvelope { version: 1, kind, content, signature, extra: Vec::new() };
        assert!(raw.ask(&archive.publisher, envelope.bytes().to_vec()).await.is_err(), "{what}");
    }
    assert_eq!(archive.publisher.stats().key_requests_dropped, 7);

    let absurd = HistoryCursor { since: u64::MAX, id: KeyId::new("~").unwrap() };
    let beyond = KeyRange { range: TimeRange::ALL, after: Some(absurd) };
    let nothing = archive.asked(&raw, Wanted::Range(beyond)).await;
    assert_eq!((nothing.granted.len(), nothing.refused.len(), nothing.next, nothing.refusal), (0, 0, None, None));
    let page = archive.asked(&raw, range(0, u64::MAX)).await;
    let keys = opened(&page);
    assert!(keys.len() == 3 && keys.iter().zip(0..).all(|(key, n)| key.same_as(&numbered(n))));
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_use_up_a_subscribers_limit_sooner_than_ids_do() {
    let net = Net::start().await;
    // Its clock stands still: no token comes back however slow this test is.
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let publisher = net.join(net.builder(1).clock(clock.clone())).await;
    let stream = publisher.create_stream("s", StreamOptions::default()).await.unwrap();
    say(&publisher, &stream, "under its only key").await;
    let answered = async |asker: u8, wanted: Wanted| {
        let asker = identity(asker);
        publisher.grant(&stream, asker.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
        let mut answered = 0;
        loop {
            // Through a peer of its own each: only what the subscriber may is used up.
            let (raw, request) = (Raw::start(&net.address).await, key_request(&asker, publisher.user(), &stream, &[]));
            let request = KeyRequest { wanted: wanted.clone(), sent: clock.now(), ..request };
            let answer = raw.answer(&publisher, &Verified::sign(request, &asker).unwrap()).await;
            let refusals = answer.refusal.into_iter().chain(answer.refused.iter().map(|refused| refused.refusal));
            if refusals.into_iter().any(|refusal| matches!(refusal, Refusal::Throttled { .. })) {
                return answered;
            }
            answered += 1;
        }
    };
    assert_eq!(answered(2, Wanted::Keys(vec![KeyId::new("unknown").unwrap()])).await, 40);
    assert_eq!(answered(3, range(0, u64::MAX)).await, 20);
}

/// Quick to try again, and to give up.
fn eager() -> ClientConfig {
    let mut config = config();
    config.requester.retry_base = Duration::from_millis(10);
    config.requester.max_tries = 3;
    config
}

/// A page of the hand-made publisher's only key, as an honest one would say it.
fn page(publisher: &HandMade, request: &KeyRequest, next: Option<HistoryCursor>) -> KeyAnswer {
    let decisions = vec![(publisher.key.id().clone(), Ok(stored(&publisher.key)))];
    let page = veilcast::exchange::Page { decisions, next, looked_at: 1 };
    let now = SystemClock.now();
    let made = veilcast::exchange::answer_page(request, Ok(page), &publisher.identity, now, &mut rand::rng());
    made.unwrap().into_content()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_does_not_fit_is_not_taken_and_the_fetch_asks_again() {
    let net = Net::start().await;
    let mut publisher = HandMade::start(&net, 1).await;
    let store = Arc::new(MemoryKeyStore::new());
    let reader = net.client_with(2, store.clone(), eager()).await;
    let user = publisher.identity.user();
    let fetch = reader.fetch_keys(&publisher.stream, user, ALWAYS).unwrap();
    let (first, reply) = publisher.requested().await;
    let sign = |answer: KeyAnswer| Verified::sign(answer, &identity(1)).unwrap().envelope().to_vec();
    // A good answer, to another request.
    reply.send(sign(KeyAnswer { id: RequestId([9; 16]), ..page(&publisher, &first, None) }));
    let (second, reply) = publisher.requested().await;
    assert_ne!(first.id, second.id);
    assert_eq!(first.wanted, second.wanted);
    // One whose next page begins before the key it grants.
    let back = HistoryCursor { since: 0, id: KeyId::new("a").unwrap() };
    reply.send(sign(page(&publisher, &second, Some(back))));
    let (third, reply) = publisher.requested().await;
    assert_eq!(first.wanted, third.wanted);
    reply.send(sign(page(&publisher, &third, None)));
    assert_eq!(done(fetch).await.keys, 1);
    let scope = veilcast::scope(user, &publisher.stream);
    assert!(store.key(&scope, publisher.key.id()).unwrap().unwrap().key.same_as(&publisher.key));
    assert_eq!((reader.stats().key_answers_accepted, reader.stats().key_answers_ignored), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_asks_to_wait_is_waited_for_and_one_that_is_away_is_given_up() {
    let net = Net::start().await;
    let mut publisher = HandMade::start(&net, 1).await;
    let reader = net.client_with(2, Arc::new(MemoryKeyStore::new()), eager()).await;
    let mut fetch = reader.fetch_keys(&publisher.stream, publisher.identity.user(), ALWAYS).unwrap();
    let (request, reply) = publisher.requested().await;
    let retry_after = Duration::from_millis(300);
    let busy = KeyAnswer { refusal: Some(Refusal::Throttled { retry_after }), ..silence(&publisher, &request) };
    reply.send(Verified::sign(busy, &publisher.identity).unwrap().envelope().to_vec());
    let waiting = within(fetch.next()).await.unwrap().unwrap();
    let device = Some(publisher.raw.network.local_peer());
    assert_eq!(waiting, FetchEvent::Waiting { device, failure: AskFailure::AskedToWait, after: retry_after });
    let (request, reply) = publisher.requested().await;
    reply.send(Verified::sign(page(&publisher, &request, None), &publisher.identity).unwrap().envelope().to_vec());
    assert_eq!(done(fetch).await.keys, 1);

    let nobody = identity(9).user();
    let fetch = reader.fetch_keys(&publisher.stream, nobody, ALWAYS).unwrap();
    assert_eq!(failure(fetch).await, FetchFailure::GivenUp(AskFailure::Unreachable));
}

fn silence(publisher: &HandMade, request: &KeyRequest) -> KeyAnswer {
    let nothing = KeyAnswer { granted: Vec::new(), encapsulated: Vec::new(), ..page(publisher, request, None) };
    assert!(nothing.refused.is_empty());
    nothing
}

#[tokio::test(flavor = "multi_thread")]
async fn a_span_that_ends_before_it_begins_is_an_error_and_nothing_is_asked() {
    let net = Net::start().await;
    let reader = net.client(2).await;
    let stream = StreamId::of(identity(1).user(), "s").unwrap();
    let backwards = Timestamp::from_secs(2)..=Timestamp::from_secs(1);
    let asked = reader.fetch_keys(&stream, identity(1).user(), backwards);
    assert!(matches!(asked, Err(ClientError::Backwards { .. })));
}
