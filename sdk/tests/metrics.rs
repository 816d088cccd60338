//! A node's figures for Prometheus: each is documented, each outcome is told, and none says whom it is about.

#![cfg(all(feature = "p2p", feature = "ethereum"))]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use support::*;
use veilcast::client::{Client, KeyUpdateMethod};
use veilcast::permission::ethereum::EthereumRegistry;
use veilcast::storage::{MemoryMessageStore, StorageLimits};
use veilcast::time::{Clock, SystemClock};
use veilcast::{Delivery, Event, Payload, Period, Permission, Refusal, StreamId, Timestamp};

const LIST: &str = include_str!("../../docs/METRICS.md");

/// What a scrape says: the type of each family, and each sample under its name and labels.
#[derive(Default)]
struct Scrape {
    types: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
    text: String,
}

impl Scrape {
    /// Reads OpenMetrics text as strictly as Prometheus does: one block for each family, and the end mark last.
    async fn of(client: &Client) -> Self {
        let text = client.metrics().encode().await;
        let mut scrape = Self { text: text.clone(), ..Self::default() };
        let (mut family, mut lines) = (String::new(), text.lines().peekable());
        while let Some(line) = lines.next() {
            if line == "# EOF" {
                assert!(lines.peek().is_none(), "something follows the end mark");
                return scrape;
            }
            if let Some(of) = line.strip_prefix("# TYPE ") {
                let (name, kind) = of.split_once(' ').unwrap();
                assert!(scrape.types.insert(name.into(), kind.into()).is_none(), "{name} has two blocks");
                family = name.into();
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert!(name.starts_with(&family), "{name} stands under {family}");
                assert!(scrape.samples.insert(name.into(), value.parse().unwrap()).is_none(), "{name} comes twice");
            }
        }
        panic!("no end mark: {text}");
    }

    fn value(&self, sample: &str) -> f64 {
        *self.samples.get(sample).unwrap_or_else(|| panic!("no {sample} in {}", self.text))
    }

    /// The samples of a counter that are not zero, by their labels.
    fn counted(&self, counter: &str) -> Vec<(&str, f64)> {
        let of = |(name, value): (&'_ String, &f64)| {
            let labels = self.samples.get_key_value(name)?.0.strip_prefix(counter)?.strip_prefix("_total")?;
            (*value > 0.0).then_some((labels, *value))
        };
        self.samples.iter().filter_map(of).collect()
    }
}

/// Families that the list names up to this heading, with their types.
fn listed(until: &str) -> BTreeMap<String, String> {
    let part = LIST.split(until).next().unwrap();
    let rows = part.lines().filter_map(|line| line.strip_prefix("| `veilcast_"));
    let row = |row: &str| {
        let mut cells = row.split('|').map(str::trim);
        let (name, kind) = (cells.next().unwrap().trim_end_matches('`'), cells.next().unwrap());
        (format!("veilcast_{}", name.trim_end_matches("_total")), kind.into())
    };
    rows.map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_figure_that_is_exposed_is_documented_and_every_documented_one_is_exposed() {
    let registry = EthereumRegistry::builder("polygon".parse().unwrap()).rpc("http://127.0.0.1:1").build().unwrap();
    let store = Arc::new(MemoryMessageStore::new(StorageLimits::default()));
    let builder = Client::builder(identity(1)).config(config()).permissions(Arc::new(registry)).storage(store, []);
    let client = builder.start().await.unwrap();
    let scrape = Scrape::of(&client).await;
    // Information has a suffix of its own.
    let types = scrape.types.iter().map(|(name, kind)| (name.trim_end_matches("_info").to_owned(), kind.clone()));
    let listed = listed("## Of the node");
    let listed = listed.iter().map(|(name, kind)| (name.trim_end_matches("_info").to_owned(), kind.clone()));
    assert_eq!(types.collect::<BTreeMap<_, _>>(), listed.collect::<BTreeMap<_, _>>());
    client.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn key_requests_are_counted_by_outcome_on_both_sides_and_say_nothing_of_whom() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let (reader, mut reading) = net.granted_reader(2, &publisher, &stream).await;
    let late = net.client(3).await;
    let start = Timestamp::from_secs(SystemClock.now().as_secs() + 3600);
    let later = Period { start: Some(start), end: Some(Timestamp::from_secs(start.as_secs() + 60)) };
    publisher.grant(&stream, late.user(), Permission::Subscribe, later).await.unwrap();
    let stranger = net.client(4).await;
    let (mut waiting, mut looking) =
        (late.subscribe(&stream).await.unwrap(), stranger.subscribe(&stream).await.unwrap());
    net.ready(&publisher, &stream, 3).await;
    say(&publisher, &stream, "hello").await;
    let message = next_message(&mut reading).await;
    let refusal = |event: &Event| match event {
        Event::KeyRefused { refusal, .. } => Some(*refusal),
        _ => None,
    };
    assert!(matches!(next_event(&mut waiting, refusal).await, Refusal::NotYet { .. }));
    assert_eq!(next_event(&mut looking, refusal).await, Refusal::Denied);

    let asked = async |client: &Client| Scrape::of(client).await;
    let own = asked(&reader).await;
    assert_eq!(own.counted("veilcast_key_requests"), [("{outcome=\"granted\"}", 1.0)]);
    assert_eq!(own.value("veilcast_key_request_seconds_count"), 1.0);
    assert_eq!(own.value("veilcast_key_requests_pending"), 0.0);
    assert_eq!(own.value("veilcast_messages_delivered_total"), 1.0);
    assert_eq!(own.value("veilcast_messages_parked{for=\"key\"}"), 0.0);
    assert_eq!(asked(&late).await.counted("veilcast_key_requests"), [("{outcome=\"not_yet\"}", 1.0)]);
    let denied = asked(&stranger).await;
    assert_eq!(denied.counted("veilcast_key_requests"), [("{outcome=\"denied\"}", 1.0)]);
    assert_eq!(denied.counted("veilcast_messages_dropped"), [("{reason=\"key_refused\"}", 1.0)]);

    // What comes under the refused key later counts likewise.
    say(&publisher, &stream, "again").await;
    next_message(&mut reading).await;
    let dropped = async || {
        Scrape::of(&stranger).await.counted("veilcast_messages_dropped") == [("{reason=\"key_refused\"}", 2.0)]
    };
    until(dropped).await;

    let scrape = asked(&publisher).await;
    let each = [("{outcome=\"denied\"}", 1.0), ("{outcome=\"granted\"}", 1.0), ("{outcome=\"not_yet\"}", 1.0)];
    assert_eq!(scrape.counted("veilcast_key_answers"), each);
    assert_eq!(scrape.counted("veilcast_answered_keys"), each);
    assert_eq!(scrape.value("veilcast_key_answer_seconds_count"), 3.0);
    assert_eq!(scrape.value(&format!("veilcast_messages_published_total{{stream=\"{stream}\"}}")), 2.0);
    assert!(scrape.value("veilcast_permission_check_seconds_count{source=\"local\"}") >= 3.0);
    assert!(scrape.value("veilcast_peers") >= 1.0, "the relay, beside direct connections that come and go");

    // The end of the one who may read later; a publisher that is busy is left out of it.
    let ends = async || Scrape::of(&publisher).await.samples.get("veilcast_ends_scheduled").copied();
    until(async || ends().await == Some(1.0)).await;

    // Nothing of the other side is in any label.
    let key_id = message.key_id.unwrap().to_string();
    for other in [&reader, &late, &stranger] {
        for said in [other.user().to_string(), other.peer_id().to_string(), key_id.clone()] {
            assert!(!scrape.text.contains(&said), "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_keys_and_requests_that_get_no_answer_are_counted() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    say(&publisher, &stream, "first").await;
    publisher.update_encryption_key(&stream, KeyUpdateMethod::Rekey, None).await.unwrap();
    publisher.update_encryption_key(&stream, KeyUpdateMethod::Rotate, None).await.unwrap();
    for text in ["carries the next", "is under it"] {
        say(&publisher, &stream, text).await;
    }
    let raw = Raw::start(&net.address).await;
    assert!(raw.ask(&publisher, &b"no request"[..]).await.is_err());
    let scrape = Scrape::of(&publisher).await;
    let changes = ["rekeyed", "rotated"].map(|how| scrape.value(&format!("veilcast_keys_{how}_total")));
    assert_eq!(changes, [1.0, 1.0]);
    assert_eq!(scrape.counted("veilcast_key_requests_unanswered"), [("{reason=\"malformed\"}", 1.0)]);
    assert!(scrape.counted("veilcast_key_answers").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_to_a_chain_are_counted_by_the_number_of_the_endpoint_and_never_by_its_address() {
    let urls = ["http://127.0.0.1:1/v2/s3cret-key-of-a-customer", "http://127.0.0.1:2"];
    let builder = EthereumRegistry::builder("polygon".parse().unwrap());
    let registry = urls.iter().fold(builder, |builder, url| builder.rpc(*url)).build().unwrap();
    let client = Client::builder(identity(1)).config(config()).permissions(Arc::new(registry)).start().await.unwrap();
    let stream = StreamId::of(identity(1).user(), "s").unwrap();
    client.publish(&stream, Payload::text("x")).await.unwrap_err();
    let scrape = Scrape::of(&client).await;
    for endpoint in 0..urls.len() {
        let calls = format!("veilcast_chain_calls_total{{endpoint=\"{endpoint}\",outcome=\"unreachable\"}}");
        assert!(scrape.value(&calls) >= 1.0, "{endpoint}");
        assert!(scrape.value(&format!("veilcast_chain_call_seconds_count{{endpoint=\"{endpoint}\"}}")) >= 1.0);
    }
    let unavailable = "{source=\"ethereum\",outcome=\"unavailable\"}";
    assert!(scrape.value(&format!("veilcast_permission_checks_total{unavailable}")) >= 1.0);
    assert!(!scrape.text.contains("s3cret") && !scrape.text.contains("127.0.0.1"));
    client.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_storage_node_holds_is_told_and_a_programs_own_figures_stand_beside_ours() {
    let net = Net::start().await;
    let store = Arc::new(MemoryMessageStore::new(StorageLimits::default()));
    let stream = StreamId::of(identity(1).user(), "s").unwrap();
    let keeper = net.join(net.builder(1).storage(store, [stream.clone()])).await;
    keeper.create_stream("s", Default::default()).await.unwrap();
    let mut subscription = keeper.subscribe(&stream).await.unwrap();
    say(&keeper, &stream, "kept").await;
    until(async || Scrape::of(&keeper).await.value("veilcast_stored_messages") == 1.0).await;
    let scrape = Scrape::of(&keeper).await;
    assert!(scrape.value("veilcast_stored_bytes") > 0.0);
    assert_eq!((scrape.value("veilcast_storage_failed"), scrape.value("veilcast_subscriptions")), (0.0, 1.0));

    let mut more = veilcast::metrics::Registry::default();
    let up = prometheus_client::metrics::gauge::ConstGauge::new(1u64);
    more.register("example_up", "A figure of the program's own", up);
    let text = keeper.metrics().encode_with(&more).await;
    assert!(text.contains("\nexample_up 1\n") && text.ends_with("# EOF\n"));

    keeper.stop().await;
    while let Some(delivery) = subscription.next().await {
        assert!(matches!(delivery, Delivery::Message(_) | Delivery::Event(_)));
    }
    let after = Scrape::of(&keeper).await;
    assert_eq!(after.value("veilcast_subscriptions"), 0.0, "a client that stopped still tells what it counted");
}
