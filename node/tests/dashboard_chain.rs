//! The dashboard and the gateway where a contract decides: a real browser, the real binary, the real contract on a real node.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

#[path = "../../sdk/tests/chain/anvil.rs"]
#[allow(dead_code, unreachable_pub, reason = "this test uses some of it")]
mod anvil;
#[path = "../../sdk/tests/chain/between.rs"]
#[allow(dead_code, unreachable_pub, reason = "this test uses some of it")]
mod between;
#[allow(unreachable_pub, reason = "shared with another test")]
mod browser;
mod common;
mod market;

use std::time::{Duration, Instant};

use between::{Between, Reply};
use browser::{Browser, log_in, went_well};
use common::{Answer, Daemon, PATIENCE, VERBS, in_path};
use market::{Market, USER};
use serde_json::{Value, json};

/// Whoever asks the daemon with a key for everything.
struct Desk {
    daemon: Daemon,
    key: String,
}

impl Desk {
    /// Of the seller, whose endpoint is `rpc`.
    fn of(market: &Market, rpc: &str, confirmations: u64) -> Self {
        let daemon = market.daemon(rpc, confirmations);
        Self { key: market.seller.api_key("desk", &VERBS), daemon }
    }

    fn get(&self, path: &str) -> Answer {
        self.daemon.with(&self.key, path, &[])
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.daemon.with(&self.key, path, &["-H", "Content-Type: application/json", "-d", &body.to_string()])
    }

    /// Makes a stream by a transaction.
    fn stream(&self, path: &str) -> String {
        let made = self.post("/streams", &json!({ "path": path, "partitions": 3, "confirm": true })).ok();
        made["id"].as_str().unwrap().to_owned()
    }

    /// The answer, once it is not that nobody can tell.
    fn told(&self, path: &str) -> Value {
        let begun = Instant::now();
        loop {
            let answer = self.get(path);
            if answer.status != 503 {
                return answer.ok();
            }
            assert!(begun.elapsed() < PATIENCE, "{answer:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A page that shows this stream.
    fn page(&self, stream: &str) -> Browser {
        let mut page = Browser::start();
        page.size(1200, 800, 1);
        log_in(&mut page, &self.daemon, &self.key);
        let path = stream.split_once('/').unwrap().1;
        page.until(&format!(
            "[...document.querySelectorAll('#streams .path')].some((one) => one.textContent === '{path}')"
        ));
        page.value(&format!("location.hash = encodeURIComponent('{stream}')"));
        page.until(&format!("document.querySelector('#detail h2')?.textContent === '{path}'"));
        page
    }
}

/// Opens the dialog that grants, for a subscriber.
fn begin_grant(page: &mut Browser, user: &str) {
    page.value("document.getElementById('grant').click()");
    page.until("document.activeElement?.id === 'grant-user'");
    page.type_in(user);
}

/// What the table says of the user's state.
fn state(user: &str) -> String {
    format!(
        "[...document.querySelectorAll('#subscribers tbody tr')].find((row) => row.querySelector('code').title === '{user}')?.querySelector('.tag').textContent"
    )
}

/// What is answered to this is among what the document tells of.
fn declared(desk: &Desk, method: &str, route: &str, statuses: &[u16]) {
    let document = desk.daemon.ask("/openapi.json", &[]).ok();
    let told = &document["paths"].as_object().unwrap()[route][method]["responses"];
    for status in statuses {
        assert!(told[status.to_string()].is_object(), "{method} {route}: {status} is not told of");
    }
    assert!(told["501"].is_null(), "{method} {route}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_tells_what_it_costs_sends_what_was_agreed_to_and_follows_it_until_it_counts() {
    let market = Market::open().await;
    let (chain, desk) = (&market.chain, Desk::of(&market, &market.chain.url, 2));
    let stream = desk.stream("prices");
    let mut page = desk.page(&stream);
    let before = market.sent().await;

    begin_grant(&mut page, USER);
    page.until("!document.getElementById('go').disabled");
    let told = page.text(".prediction");
    assert!(told.contains("costs at most") && told.contains("2 more lie on top"), "{told}");
    let shown = page.text("#go");
    assert!(shown.starts_with("Grant for at most 0.") && shown.ends_with("coin"), "{shown}");
    page.picture("grant-on-a-contract");
    // Dearer by now than what was shown: nothing is sent, and the new price is told.
    chain.rpc("anvil_setNextBlockBaseFeePerGas", json!(["0x174876e800"])).await;
    let dear = chain.head().await.0 + 1;
    while chain.head().await.0 < dear {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Each block without transactions is cheaper than the one before it: there are few of them meanwhile.
    chain.rpc("evm_setIntervalMining", json!([15])).await;
    page.tab_to("go");
    page.press("Enter");
    page.until("document.querySelector('.outcome').textContent.includes('more than the limit')");
    page.until(&format!("document.getElementById('go').textContent !== {}", json!(shown)));
    page.until("!document.getElementById('go').disabled");
    assert_eq!(market.sent().await, before, "nothing is sent that nobody agreed to");

    // While there is no block the page says that it waits, and once there is one what became of it.
    chain.rpc("evm_setIntervalMining", json!([0])).await;
    page.value("document.getElementById('go').click()");
    page.until("document.querySelector('.waiting')?.textContent.startsWith('Sending it')");
    chain.rpc("evm_setIntervalMining", json!([1])).await;
    page.until("document.getElementById('dialog-title')?.textContent === 'Granted'");
    assert!(page.text("#dialog").contains("Transaction 0x"), "{}", page.text("#dialog"));
    assert_eq!(market.sent().await, before + 1);
    assert_ne!(market.ends(&stream).await, 0);
    page.until("document.getElementById('following')?.textContent === 'The grant counts now.'");
    page.picture("granted-on-a-contract");
    page.press("Enter");
    page.until("!document.getElementById('dialog').open");
    page.until(&format!("{} === 'may read'", state(USER)));

    page.value(&format!("document.querySelector('[aria-label=\"Take back from {USER}\"]').click()"));
    page.until("document.activeElement?.id === 'go'");
    let told = page.text(".prediction");
    assert!(told.contains("Taken back, they are given no key any more.") && told.contains("costs at most"), "{told}");
    assert!(page.text("#go").starts_with("Take back for at most 0."), "{}", page.text("#go"));
    page.press("Enter");
    page.until("document.getElementById('dialog-title')?.textContent === 'Taken back'");
    page.until(
        "document.getElementById('following')?.textContent === 'It is taken back: they are given no key any more.'",
    );
    assert_eq!((market.sent().await, market.ends(&stream).await), (before + 2, 0));
    page.press("Enter");
    page.until(&format!("{} === 'taken back'", state(USER)));

    // Keys cost nothing.
    page.value("document.getElementById('rekey').click()");
    page.until("document.activeElement?.id === 'go'");
    assert!(page.text(".prediction").contains("It costs no gas"), "{}", page.text(".prediction"));
    page.press("Enter");
    page.until("document.getElementById('dialog-title')?.textContent === 'Rekeyed'");
    assert_eq!(market.sent().await, before + 2);
    went_well(&page, &desk.daemon, 1);
    desk.daemon.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_says_before_it_is_done_that_this_identity_may_not_or_has_no_coins() {
    let market = Market::open().await;
    let desk = Desk::of(&market, &market.chain.url, 0);
    let foreign = market.chain.create("foreign", "{}").await.to_string();
    desk.told(&format!("/streams/{}/subscribers", in_path(&foreign)));
    let stream = desk.stream("prices");
    let before = market.sent().await;

    let mut page = desk.page(&foreign);
    begin_grant(&mut page, USER);
    page.until("document.querySelector('.prediction').textContent.includes('error_noSharePermission')");
    let told = page.text(".prediction");
    assert!(told.contains(&market.seller.address()) && told.contains("may not change permissions"), "{told}");
    assert_eq!(page.value("document.getElementById('go').disabled"), true);
    page.press("Escape");
    page.value(&format!("location.hash = encodeURIComponent('{stream}')"));
    page.until("document.querySelector('#detail h2')?.textContent === 'prices'");
    market.chain.give(market.seller.address().parse().unwrap(), 1000).await;
    begin_grant(&mut page, USER);
    page.until("document.querySelector('.prediction').textContent.includes('send it some coins')");
    assert_eq!(page.value("document.getElementById('go').disabled"), true);
    assert_eq!(market.sent().await, before);
    went_well(&page, &desk.daemon, 0);
    desk.daemon.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_nobody_can_tell_about_is_not_offered_again_before_somebody_looked() {
    let market = Market::open().await;
    let between = Between::start(&market.chain, |_, _| Reply::Truth).await;
    let desk = Desk::of(&market, &between.url, 0);
    let stream = desk.stream("prices");
    let mut page = desk.page(&stream);
    begin_grant(&mut page, USER);
    page.until("!document.getElementById('go').disabled");
    // The node has it, and its answer is lost.
    between.now(|method, _| if method == "eth_sendRawTransaction" { Reply::Unsaid } else { Reply::Truth });
    page.value("document.getElementById('go').click()");
    page.until("document.getElementById('dialog-title')?.textContent === 'Not settled yet'");
    let told = page.text("#dialog");
    assert!(told.contains("0x") && told.contains("before you do the same again"), "{told}");
    assert_eq!(page.value("document.getElementById('go')"), Value::Null);
    page.press("Enter");
    // It was carried out.
    page.until(&format!("{} === 'may read'", state(USER)));
    went_well(&page, &desk.daemon, 1);
    desk.daemon.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_a_stream_is_made_by_whoever_says_that_the_gas_is_meant_and_those_this_node_knows_are_listed() {
    let market = Market::open().await;
    let desk = Desk::of(&market, &market.chain.url, 0);
    assert_eq!(desk.get("/streams").ok(), json!({ "streams": [], "more": false }));
    let new = |more: Value| {
        let mut new = json!({ "path": "prices", "partitions": 3 });
        new.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        desk.post("/streams", &new)
    };
    let looked = new(json!({ "dry_run": true })).ok();
    assert!(looked["quote"]["max_cost_wei"].as_str().unwrap().parse::<u128>().unwrap() > 0, "{looked}");
    new(json!({})).refused(409, "confirm");
    new(json!({ "confirm": true, "max_cost_wei": "1" })).refused(409, "too_dear");
    new(json!({ "confirm": true, "public": true })).refused(400, "one_transaction");
    new(json!({ "confirm": true, "publishers": [USER] })).refused(400, "one_transaction");
    new(json!({ "confirm": true, "dry_run": true })).refused(400, "bad_request");
    assert_eq!((market.sent().await, desk.get("/streams").ok()["streams"].clone()), (0, json!([])));

    let cost = looked["quote"]["max_cost_wei"].clone();
    let made = new(json!({ "confirm": true, "max_cost_wei": cost, "history": "none", "rotate_every": "1000" })).ok();
    let stream = format!("{}/prices", market.seller.address());
    assert_eq!((made["id"].as_str(), made["transaction"].as_str().unwrap().len()), (Some(stream.as_str()), 66));
    assert_eq!((&made["history"], &made["key_policy"]["rotate_every"]["messages"]), (&json!("none"), &json!(1000)));
    let again = new(json!({ "confirm": true })).ok();
    assert_eq!((&again["exists"], &again["transaction"]), (&json!(true), &Value::Null), "{again}");
    new(json!({ "confirm": true, "partitions": 4 })).refused(409, "stream_exists");
    assert_eq!(market.sent().await, 1);
    let listed = json!({ "id": stream, "partitions": 3, "public": false, "history": "none" });
    assert_eq!(desk.get("/streams").ok(), json!({ "streams": [listed], "more": false }));
    declared(&desk, "post", "/streams", &[200, 400, 401, 403, 408, 409, 413, 415, 503, 504]);
    declared(&desk, "get", "/streams", &[200, 401, 503]);

    // What a key is for is known, and told to whoever shows that key.
    let other = market.chain.create("other", "{}").await.to_string();
    let for_other = market.seller.run(&["api-key", "add", "other", "--stream", &other, "--verb", "history"]).ok();
    let told = desk.daemon.with(&for_other, "/streams", &[]).ok();
    assert_eq!(told["streams"], json!([{ "id": other, "partitions": 1, "public": false, "history": "all" }]));

    // On the command line without a word about the contract: the running one knows it.
    let seller = &market.seller;
    seller.run(&["stream", "create", "news"]).failed(2, &["it costs up to", "--yes"]);
    seller.run(&["stream", "create", "news", "--public", "--yes"]).failed(2, &["--registry"]);
    let news = seller.run(&["stream", "create", "news", "--yes"]).ok();
    desk.daemon.end();
    // After a restart it knows them still.
    let desk = Desk { daemon: market.daemon(&market.chain.url, 0), key: desk.key };
    let begun = Instant::now();
    while desk.get("/streams").ok()["streams"].as_array().unwrap().len() < 3 {
        assert!(begun.elapsed() < PATIENCE, "{news} is forgotten");
        std::thread::sleep(Duration::from_millis(50));
    }
    desk.daemon.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn predictions_over_http_tell_the_cost_and_every_no_before_anything_is_sent() {
    let market = Market::open().await;
    let desk = Desk::of(&market, &market.chain.url, 3);
    let stream = desk.stream("prices");
    let ask = |act: &str| desk.told(&format!("/streams/{}/predict?act={act}", in_path(&stream)));
    for act in ["rekey", "rotate"] {
        let told = ask(act);
        assert!(told["refused"].is_null() && told["contract"].is_null(), "{told}");
        assert!(told["says"].to_string().contains("no gas"), "{told}");
    }
    let told = ask(&format!("grant&user={USER}&for=30d"));
    let contract = &told["contract"];
    assert_eq!((&contract["confirmations"], &told["refused"]), (&json!(3), &Value::Null), "{told}");
    assert_eq!(contract["registry"].as_str().unwrap().to_lowercase(), market.contract());
    assert!(contract["quote"]["max_cost_wei"].as_str().unwrap().parse::<u128>().unwrap() > 0, "{told}");
    let refused = |act: &str| ask(act)["refused"].as_str().unwrap_or_default().to_owned();
    assert!(refused(&format!("revoke&user={USER}")).contains("no grant"));
    assert!(refused(&format!("grant&user={USER}&until=1500000000000")).contains("in the past"));
    assert!(refused(&format!("grant&user={USER}&from=2100-01-01T00:00:00Z")).contains("not later"));
    assert!(refused("grant&user=0x0000000000000000000000000000000000000000").contains("everybody"));
    let unknown = format!("{stream}-mistyped");
    desk.get(&format!("/streams/{}/predict?act=grant&user={USER}", in_path(&unknown))).refused(404, "no_stream");
    declared(&desk, "get", "/streams/{id}/predict", &[200, 400, 401, 403, 404, 409, 503]);
    let timeline = desk.told(&format!("/streams/{}/timeline", in_path(&stream)));
    assert_eq!(timeline["contract"]["confirmations"], 3, "{timeline}");
    assert_eq!(market.sent().await, 1);
    let Market { chain, seller: _seller } = market;
    drop(chain);
    desk.get(&format!("/streams/{}/predict?act=grant&user={USER}", in_path(&stream))).refused(503, "unavailable");
    desk.daemon.end();
}
