//! Stored messages on the command line: a node that keeps them, a buyer who comes late.
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{Home, LOCAL, Process, subscribed};
use serde_json::Value;
use veilcast::client::{Client, ClientBuilder, KeyUpdateMethod};
use veilcast::exchange::HistoryPolicy;
use veilcast::permission::StreamSettings;
use veilcast::storage::{MemoryMessageStore, StorageLimits};
use veilcast::time::{Clock, SystemClock};
use veilcast::{Identity, Payload, Period, Permission, StreamId, Timestamp};

const SIGNED: [&str; 2] = ["--registry", "grants"];

/// An owner who publishes, a buyer with a grant, and a node that keeps the stream.
struct Market {
    owner: Home,
    buyer: Home,
    keeper: Home,
    node: Process,
    at: String,
    stream: String,
}

impl Market {
    fn open() -> Self {
        let (owner, buyer, keeper) = (Home::new(), Home::new(), Home::new());
        let stream = owner.run(&[&["stream", "create", "prices"][..], &SIGNED].concat()).ok();
        let lines = owner.run(&["grant", "issue", &stream, &buyer.address()]).ok();
        buyer.run_with(&["grant", "import"], lines.as_bytes()).ok();
        let record = owner.run(&["grant", "show", &stream, "--lines"]).ok();
        keeper.run_with(&["grant", "import"], record.as_bytes()).ok();
        let (node, at) = keep(&keeper, &stream);
        Self { owner, buyer, keeper, node, at, stream }
    }

    fn publish(&self, lines: &str) {
        let args = ["publish", &self.stream, "--bootstrap", &self.at, "--listen", LOCAL, "--linger", "1s"];
        self.owner.run_with(&[&args[..], &SIGNED].concat(), lines.as_bytes()).ok();
    }

    /// A publisher that goes on answering for keys.
    fn publishing(&self) -> Process {
        let file = self.owner.file("none.txt", b"");
        let args = ["publish", &self.stream, "--bootstrap", &self.at, "--listen", LOCAL, "--stay"];
        self.owner.start_with_file(&[&args[..], &SIGNED].concat(), &file)
    }

    fn resend(&self, home: &Home, more: &[&str]) -> common::Run {
        let args = ["resend", &self.stream, "--bootstrap", &self.at, "--listen", LOCAL];
        home.run(&[&args[..], &SIGNED, more].concat())
    }
}

fn keep(keeper: &Home, stream: &str) -> (Process, String) {
    let node = keeper.start(&[&["node", "--listen", LOCAL, "--store", stream][..], &SIGNED].concat());
    let at = node.stdout.wait_for("/p2p/");
    (node, at)
}

fn numbered(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| format!("{{\"n\": {n}}}")).collect()
}

#[test]
fn a_buyer_who_comes_late_reads_what_was_published_before_also_after_the_node_was_restarted() {
    let mut market = Market::open();
    market.publish(&numbered(0..20).join("\n"));
    let publisher = market.publishing();
    let read = |market: &Market, more: &[&str]| -> Vec<String> {
        market.resend(&market.buyer, more).ok().lines().map(str::to_owned).collect()
    };
    assert_eq!(read(&market, &["--from", "0"]), numbered(0..20));
    assert_eq!(read(&market, &["--last", "3"]), numbered(17..20));
    drop(publisher);

    // Killed and started again, it has everything; and the keys are with the buyer by now.
    market.node.signal("-KILL");
    market.node.wait();
    let (node, at) = keep(&market.keeper, &market.stream);
    (market.node, market.at) = (node, at);
    let lines = read(&market, &["--from", "0", "--json"]);
    let parsed: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let numbers: Vec<_> = parsed.iter().map(|line| line["payload"]["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    let (from, to) = (parsed[5]["timestamp"].to_string(), parsed[9]["timestamp"].to_string());
    let some = read(&market, &["--from", &from, "--to", &to]);
    assert!(some.len() >= 5 && numbered(0..20).windows(some.len()).any(|window| window == some), "{some:?}");
    assert_eq!(read(&market, &["--from", "0", "--publisher", &market.owner.address()]).len(), 20);
    assert_eq!(read(&market, &["--from", "0", "--publisher", &market.buyer.address()]), [""; 0]);
}

#[test]
fn a_subscription_may_begin_with_the_last_stored_messages() {
    let market = Market::open();
    market.publish(&numbered(0..10).join("\n"));
    let publisher = market.publishing();
    let more = [&SIGNED[..], &["--last", "4", "--count", "6"]].concat();
    let mut reading = subscribed(&market.buyer, &market.stream, &market.at, &more);
    reading.stdout.wait_for("9");
    reading.stderr.wait_for("history: 4 stored messages");
    drop(publisher);
    market.publish(&numbered(10..12).join("\n"));
    assert_eq!(reading.wait(), Some(0), "{:#?}", reading.stderr.all());
    assert_eq!(reading.stdout.until_end(), numbered(6..12));
}

/// So far behind the machine's clock until it catches up.
struct Behind(AtomicU64);

impl Clock for Behind {
    fn now(&self) -> Timestamp {
        SystemClock.now().minus(Duration::from_secs(self.0.load(Ordering::SeqCst)))
    }
}

async fn start(builder: ClientBuilder, clock: &Arc<Behind>) -> Client {
    builder.clock(clock.clone()).signed_grants().listen(LOCAL.parse().unwrap()).start().await.unwrap()
}

/// Five messages of an hour ago under a key that was replaced then, their owner, who gives keys from the start of a grant on, and
/// the node that keeps them.
async fn an_hour_ago(clock: &Arc<Behind>) -> (Client, Client, StreamId) {
    let [owner, node] = std::array::from_fn(|_| Identity::generate(&mut rand::rng()));
    let owner = start(Client::builder(owner), clock).await;
    let settings = StreamSettings { partitions: 1, public: false, publishers: Vec::new(), storage: Vec::new() };
    let stream = owner.set_up_stream("prices", settings).await.unwrap();
    owner.set_history(&stream, HistoryPolicy::SinceGrantStart).await.unwrap();
    let store = Arc::new(MemoryMessageStore::new(StorageLimits::default()));
    let node = start(Client::builder(node).storage(store, [stream.clone()]), clock).await;
    node.import_grant(&owner.stream_record(&stream).await.unwrap().unwrap()).await.unwrap();
    for address in owner.addresses().await {
        node.connect(address).await.unwrap();
    }
    owner.wait_for_peers(&stream.part(0).unwrap(), 1).await;
    for line in numbered(0..5) {
        owner.publish(&stream, Payload::text(&line)).await.unwrap();
    }
    while node.storage_state().await.unwrap().unwrap().messages < 5 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    owner.update_encryption_key(&stream, KeyUpdateMethod::Rekey, None).await.unwrap();
    clock.0.store(0, Ordering::SeqCst);
    (owner, node, stream)
}

#[test]
fn a_subscription_that_begins_with_messages_from_before_the_grant_goes_on_live_although_their_key_is_refused() {
    let (runtime, clock) = (tokio::runtime::Runtime::new().unwrap(), Arc::new(Behind(AtomicU64::new(3600))));
    let (owner, node, stream) = runtime.block_on(an_hour_ago(&clock));
    let (buyer, at) = (Home::new(), runtime.block_on(node.addresses()));
    let at = at.iter().map(ToString::to_string).find(|at| at.contains("/p2p/")).unwrap();
    let lines = runtime.block_on(async {
        let record = owner.stream_record(&stream).await.unwrap().unwrap();
        let user = buyer.address().parse().unwrap();
        let grant = owner.issue_grant(&stream, user, Permission::Subscribe, Period::ALWAYS).await.unwrap();
        format!("{record}\n{grant}")
    });
    buyer.run_with(&["grant", "import"], lines.as_bytes()).ok();
    let more = [&SIGNED[..], &["--last", "4", "--count", "1"]].concat();
    let mut reading = subscribed(&buyer, stream.as_str(), &at, &more);
    reading.stderr.wait_for("history: 4 stored messages");
    runtime.block_on(owner.publish(&stream, Payload::text("fresh"))).unwrap();
    assert_eq!(reading.wait(), Some(0), "{:#?}", reading.stderr.all());
    assert_eq!(reading.stdout.until_end(), ["fresh"]);
    let told = reading.stderr.all();
    assert!(told.iter().any(|line| line.contains("refused it") && line.contains("policy")), "{told:#?}");
    runtime.block_on(async { tokio::join!(owner.stop(), node.stop()) });
}

#[test]
fn stored_messages_are_refused_to_who_has_no_grant_with_exit_code_3() {
    let market = Market::open();
    market.publish("secret");
    let stranger = Home::new();
    let record = market.owner.run(&["grant", "show", &market.stream, "--lines"]).ok();
    let record = record.lines().next().unwrap();
    stranger.run_with(&["grant", "import"], record.as_bytes()).ok();
    market.resend(&stranger, &["--last", "5"]).failed(3, &["refused", "grant"]);
}

#[test]
fn stored_messages_of_whom_nobody_is_known_to_may_publish_are_a_failure_that_names_the_registry() {
    let (owner, pam, buyer, keeper) = (Home::new(), Home::new(), Home::new(), Home::new());
    let named = ["stream", "create", "prices", "--publisher", &pam.address()];
    let stream = owner.run(&[&named[..], &SIGNED].concat()).ok();
    owner.run(&["grant", "issue", &stream, &buyer.address()]).ok();
    let record = owner.run(&["grant", "show", &stream, "--lines"]).ok();
    for home in [&pam, &keeper] {
        home.run_with(&["grant", "import"], record.as_bytes()).ok();
    }
    let (_node, at) = keep(&keeper, &stream);
    let args = ["publish", &stream, "--bootstrap", &at, "--listen", LOCAL, "--linger", "1s"];
    pam.run_with(&[&args[..], &SIGNED].concat(), b"one\ntwo").ok();
    let args = ["resend", &stream, "--bootstrap", &at, "--listen", LOCAL, "--last", "5"];
    let said = buyer.run(&args).failed(1, &["0 of 2 stored messages", "--registry grants"]);
    assert_eq!(said.stdout, "");
}

#[test]
fn a_node_says_which_streams_it_has_no_record_of_and_who_of_those_to_join_is_not_there() {
    let keeper = Home::new();
    let stream = Home::new().stream("prices");
    // Nobody listens there; at a port that was taken and given back somebody else may by then.
    let gone = "/ip4/127.0.0.1/tcp/1";
    let args = ["node", "--listen", LOCAL, "--bootstrap", gone, "--store", &stream];
    let node = keeper.start(&[&args[..], &SIGNED].concat());
    node.stderr.wait_for(&format!("no record of {stream}"));
    node.stderr.wait_for("it is tried again");
    common::end(node);
    let home = Home::empty();
    let relay = home.start(&["node", "--listen", LOCAL, "--bootstrap", gone]);
    relay.stderr.wait_for("it is tried again");
    common::end(relay);
}

#[test]
fn resend_says_what_it_needs() {
    let home = Home::new();
    let stream = home.stream("prices");
    home.run(&["resend", &stream]).failed(2, &["--last"]);
    home.run(&["resend", &stream, "--last", "5", "--from", "0"]).failed(2, &["--last"]);
    home.run(&["resend", &stream, "--to", "1d"]).failed(2, &["--from"]);
    home.run(&["resend", &stream, "--last", "5", "--listen", LOCAL]).failed(1, &["no storage node", "--store"]);
    let foreign = Home::new().stream("prices");
    home.run(&["node", "--store", &foreign, "--listen", LOCAL]).failed(2, &["--registry grants"]);
    home.run(&["node", "--store-age", "1d"]).failed(2, &["--store"]);
    home.run(&["node", "--store", &stream, "--store-size", "many"]).failed(2, &["500MB"]);
}

#[test]
fn a_node_keeps_what_the_owners_record_assigns_to_it() {
    let (owner, buyer, keeper) = (Home::new(), Home::new(), Home::new());
    let named = ["stream", "create", "prices", "--storage", &keeper.address()];
    let stream = owner.run(&[&named[..], &SIGNED].concat()).ok();
    let lines = owner.run(&["grant", "issue", &stream, &buyer.address()]).ok();
    buyer.run_with(&["grant", "import"], lines.as_bytes()).ok();
    assert!(owner.run(&["grant", "show", &stream]).ok().contains(&format!("{} keeps its messages", keeper.address())));
    let record = owner.run(&["grant", "show", &stream, "--lines"]).ok();
    keeper.run_with(&["grant", "import"], record.as_bytes()).ok();
    let args = ["node", "--listen", LOCAL, "--store-assigned", &owner.address()];
    let node = keeper.start(&[&args[..], &SIGNED].concat());
    let at = node.stdout.wait_for("/p2p/");
    let market = Market { owner, buyer, keeper, node, at, stream };
    market.publish(&numbered(0..5).join("\n"));
    let publisher = market.publishing();
    assert_eq!(market.resend(&market.buyer, &["--last", "9"]).ok().lines().count(), 5);
    drop(publisher);

    let no_more = ["stream", "set", &market.stream, "--no-storage", &market.keeper.address()];
    market.owner.run(&[&no_more[..], &SIGNED].concat()).ok();
    let shown = market.owner.run(&["grant", "show", &market.stream, "--json"]).ok();
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["storage"], serde_json::json!([]));
}

#[test]
fn storage_nodes_are_named_in_signed_records_alone() {
    let home = Home::new();
    let stream = home.stream("prices");
    for args in [
        ["node", "--store-assigned", &home.address()].as_slice(),
        &["stream", "create", "other", "--storage", &home.address()],
        &["stream", "set", &stream, "--storage", &home.address()],
    ] {
        home.run(args).failed(2, &["--registry grants"]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_node_whose_disk_is_full_says_that_nothing_is_stored_any_more_and_ends_with_exit_code_1() {
    let mut market = Market::open();
    market.node.signal("-TERM");
    assert_eq!(market.node.wait(), Some(0), "{:#?}", market.node.stderr.all());
    let args = [&["node", "--listen", LOCAL, "--store", &market.stream][..], &SIGNED].concat();
    market.node = market.keeper.start_with_little_disk(&args);
    market.at = market.node.stdout.wait_for("/p2p/");
    market.publish(&vec!["x".repeat(40_000); 400].join("\n"));
    assert_eq!(market.node.wait(), Some(1), "{:#?}", market.node.stderr.all());
    market.node.stderr.wait_for("nothing is stored any more");
}
