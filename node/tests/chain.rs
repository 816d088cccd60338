//! A contract as the registry, from the command line: the real contract on a real node.
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

#[path = "../../sdk/tests/chain/anvil.rs"]
#[allow(dead_code, unreachable_pub, reason = "this test uses some of it")]
mod anvil;
mod common;
mod market;

use std::io::Write;

use common::{Home, LOCAL, node, subscribed};
use market::{Market, USER};
use serde_json::json;
use veilcast::UserId;

#[tokio::test]
async fn on_a_chain_a_stream_is_made_and_granted_and_revoked_and_each_cost_is_said_before_it_is_sent() {
    let market = Market::open().await;
    let created = market.run(&["stream", "create", "prices", "--partitions", "3", "--yes"]);
    let (cost, sent) =
        (created.stderr.find("costs at most").unwrap(), created.stderr.find("sent as transaction").unwrap());
    assert!(cost < sent && created.stderr.contains("gwei"), "{created:#?}");
    let stream = created.ok();
    assert_eq!(stream, format!("{}/prices", market.seller.address()));

    let grant = market.run(&["stream", "grant", &stream, USER, "--for", "30d", "--yes", "--json"]).json();
    let until = grant["until"].as_u64().unwrap();
    assert_eq!(market.ends(&stream).await, until / 1000);
    assert_eq!(grant["registry"].as_str().unwrap().to_lowercase(), market.contract());
    assert_eq!(grant["transaction"].as_str().unwrap().len(), 66);

    market.run(&["stream", "revoke", &stream, USER, "--yes"]).ok();
    assert_eq!(market.ends(&stream).await, 0);
    assert_eq!(market.sent().await, 3);
}

#[tokio::test]
async fn a_stream_on_a_chain_is_shown_made_public_and_private_again_and_a_broken_off_creation_goes_on() {
    let market = Market::open().await;
    let stream = market.stream();
    let shown = || market.run(&["stream", "show", &stream, "--json"]).json();
    assert_eq!((shown()["partitions"].as_u64(), shown()["public"].as_bool()), (Some(3), Some(false)));
    assert_eq!(shown()["permissions"]["publish"]["state"], "active");
    market.run(&["stream", "set", &stream, "--public", "--rotate-every", "1000", "--yes"]).ok();
    assert_eq!(shown()["public"], true);
    assert_eq!(market.sent().await, 2);
    // As if the transaction that made it public had not been sent yet.
    market.run(&["stream", "set", &stream, "--private", "--yes"]).ok();
    let again = market.run(&["stream", "create", "prices", "--partitions", "3", "--public", "--yes"]);
    assert!(again.stderr.contains("exists already"), "{again:#?}");
    assert_eq!((again.ok(), shown()["public"].as_bool()), (stream.clone(), Some(true)));
    assert_eq!(market.sent().await, 4);
    market.run(&["stream", "create", "prices", "--yes"]).failed(1, &["exists already with 3"]);
    market.run(&["stream", "show"]).failed(2, &["no list of streams"]);
    let other = format!("{}/other", market.seller.address());
    market.run(&["stream", "show", &other]).failed(1, &["knows no stream"]);
}

#[tokio::test]
async fn nothing_is_sent_that_nobody_agreed_to() {
    let market = Market::open().await;
    market.run(&["stream", "create", "prices"]).failed(2, &["costs at most", "--yes"]);
    assert_eq!(market.sent().await, 0);
}

#[tokio::test]
async fn what_the_contract_or_the_account_does_not_allow_says_why_and_what_to_do() {
    let market = Market::open().await;
    let stream = market.stream();
    let foreign = market.chain.create("foreign", "{}").await.to_string();
    market
        .run(&["stream", "grant", &foreign, USER, "--yes"])
        .failed(1, &["error_noSharePermission", "what to do next"]);
    let nobody = "0x0000000000000000000000000000000000000000";
    market.run(&["stream", "grant", &stream, nobody, "--yes"]).failed(2, &["everybody"]);
    let past = ["stream", "grant", &stream, USER, "--until", "2020-01-01T00:00:00Z", "--yes"];
    market.run(&past).failed(2, &["in the past", "--until"]);
    let later = ["stream", "grant", &stream, USER, "--from", "2h", "--for", "30d", "--yes"];
    market.run(&later).failed(2, &["cannot begin at", "--from"]);
    market.chain.give(market.seller.address().parse().unwrap(), 1000).await;
    market
        .run(&["stream", "grant", &stream, USER, "--yes"])
        .failed(1, &["the account has 1000 wei", "send some coins"]);
    assert_eq!(market.sent().await, 1);
}

#[tokio::test]
async fn a_registry_that_cannot_be_asked_says_which_endpoint_failed_and_how() {
    let market = Market::open().await;
    let (home, contract) = (&market.seller, market.contract());
    let show = |registry: &str, rpc: &[&str]| {
        let stream = format!("{}/prices", home.address());
        home.run(&[&["stream", "show", &stream, "--registry", registry], rpc].concat())
    };
    show("polygon", &[]).failed(2, &["--rpc URL"]);
    show("atlantis", &[]).failed(2, &["polygon, amoy, peaq, iotex"]);
    show(&contract, &["--rpc", "ftp://x"]).failed(2, &["http://"]);
    show(&contract, &["--rpc", &market.chain.url, "--agree", "2"]).failed(2, &["2 different RPC endpoints"]);
    show(&contract, &["--rpc", "http://127.0.0.1:1/secret-of-a-customer"])
        .failed(1, &["cannot be reached", "127.0.0.1:1"]);
    show("polygon", &["--rpc", &market.chain.url]).failed(1, &["is on chain 31337, not 137"]);
    show(USER, &["--rpc", &market.chain.url]).failed(1, &["no contract at"]);
    let rpc = ["--rpc", &market.chain.url, "--chain-id"];
    show(&contract, &[&rpc[..], &["31337"]].concat()).failed(1, &["knows no stream"]);
    show(&contract, &[&rpc[..], &["137"]].concat()).failed(1, &["is on chain 31337, not 137"]);
    show("amoy", &[&rpc[..], &["137"]].concat()).failed(2, &["amoy is on chain 80002, not 137", "--chain-id"]);
    show(&contract, &[&rpc[..], &["0"]].concat()).failed(2, &["--chain-id"]);
    let stream = format!("{}/prices", home.address());
    for command in [&["subscribe", &stream][..], &["resend", &stream, "--last", "1"], &["publish", &stream]] {
        let down = ["--listen", LOCAL, "--registry", &contract, "--rpc", "http://127.0.0.1:1"];
        home.run(&[command, &down].concat()).failed(1, &["127.0.0.1:1", "cannot be reached", "--rpc"]);
    }
    let down = show(&contract, &["--rpc", "http://127.0.0.1:1/secret-of-a-customer", "-v"]);
    assert!(!down.stderr.contains("secret-of"), "{down:#?}");
}

#[tokio::test]
async fn the_subscribers_of_a_stream_on_a_chain_are_listed_from_the_contracts_events_since_when_and_until_when() {
    let market = Market::open().await;
    let stream = market.stream();
    let grant = market.run(&["stream", "grant", &stream, USER, "--for", "30d", "--yes", "--json"]).json();
    let listed = || market.run(&["stream", "subscribers", &stream, "--json"]).json();
    let of = |list: &serde_json::Value| {
        let all = list["subscribers"].as_array().unwrap();
        all.iter().find(|row| row["user"].as_str().unwrap().to_lowercase() == USER).unwrap().clone()
    };
    let row = of(&listed());
    let secs = |json: &serde_json::Value| json["until"].as_u64().unwrap() / 1000;
    assert_eq!((&row["status"], secs(&row)), (&json!("active"), secs(&grant)));
    assert_eq!(row["since"], json!(market.time_of(grant["block"].as_u64().unwrap()).await * 1000), "{row}");
    market.run(&["stream", "revoke", &stream, USER, "--yes"]).ok();
    assert_eq!(of(&listed())["status"], "revoked");
    let table = market.run(&["stream", "subscribers", &stream]).ok();
    assert!(table.contains("since") && table.contains("revoked"), "{table}");
    let contract = market.contract();
    let down = ["--registry", &contract, "--rpc", "http://127.0.0.1:1"];
    market.seller.run(&[&["stream", "subscribers", &stream][..], &down].concat()).failed(1, &["cannot be reached"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_on_a_chain_shuts_out_whoever_is_taken_back_while_it_runs() {
    let market = Market::open().await;
    let (_relay_home, _relay, at) = node();
    let (chain, buyer) = (&market.chain, Home::new());
    let stream = chain.create("prices", "{}").await;
    let (seller, reader) = (market.seller.address().parse().unwrap(), buyer.address().parse::<UserId>().unwrap());
    let ever = ethers_core::types::U256::MAX;
    chain.set(&stream, seller, anvil::Entry { publish: ever, ..Default::default() }).await;
    chain.set(&stream, reader, anvil::Entry { subscribe: ever, ..Default::default() }).await;
    let (id, contract) = (stream.to_string(), market.contract());
    let registry = ["--registry", &contract, "--rpc", &chain.url, "--confirmations", "0"];
    let mut reading = subscribed(&buyer, &id, &at, &[&["--json"][..], &registry].concat());
    let publish = ["publish", &id, "--bootstrap", &at, "--listen", LOCAL, "-v"];
    let mut publishing = market.seller.start(&[&publish[..], &registry].concat());
    let mut stdin = publishing.stdin.take().unwrap();
    stdin.write_all(b"paid for\n").unwrap();
    reading.stdout.wait_for("paid for");

    let user = ethers_core::types::Address::from(*reader.as_bytes());
    chain.send("revokePermission", (id.clone(), user, 3u8)).await;
    publishing.stderr.wait_for("a grant ended: rekeyed");
    stdin.write_all(b"not for you\n").unwrap();
    let refused = reading.stderr.wait_for("key_refused");
    assert!(refused.contains("denied"), "{refused}");
    drop(stdin);
    publishing.interrupt();
    assert_eq!(publishing.wait(), Some(0), "{:#?}", publishing.stderr.all());
    reading.interrupt();
    assert_eq!(reading.wait(), Some(0), "{:#?}", reading.stderr.all());
    let read = reading.stdout.until_end();
    assert!(read.len() == 1 && read[0].contains("paid for"), "{read:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_whose_chain_does_not_answer_waits_for_it_and_says_so() {
    let market = Market::open().await;
    let (_relay_home, _relay, at) = node();
    let (stream, buyer) = (market.stream(), Home::new());
    let contract = market.contract();
    let registry = ["--registry", &contract, "--rpc", &market.chain.url, "--confirmations", "0"];
    let _reading = subscribed(&buyer, &stream, &at, &registry);
    let publish = ["publish", &stream, "--bootstrap", &at, "--listen", LOCAL];
    let mut publishing = market.seller.start(&[&publish[..], &registry].concat());
    let mut stdin = publishing.stdin.take().unwrap();
    stdin.write_all(b"before\n").unwrap();
    publishing.stderr.wait_for("publishing lines");
    let Market { chain, seller: _seller } = market;
    drop(chain);
    // What was asked shortly before counts for some seconds.
    let patience = std::time::Instant::now() + common::PATIENCE;
    while !publishing.stderr.all().iter().any(|line| line.contains("cannot be asked whether you may publish")) {
        assert!(std::time::Instant::now() < patience, "{:#?}", publishing.stderr.all());
        stdin.write_all(b"later\n").unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    publishing.interrupt();
    // The line that waits was not published.
    assert_eq!(publishing.wait(), Some(1), "{:#?}", publishing.stderr.all());
}

#[tokio::test]
async fn a_stream_that_is_not_on_the_chain_or_is_of_an_unresolved_ens_name_is_an_error_of_every_command() {
    let market = Market::open().await;
    let deleted = market.chain.create("deleted", "{}").await;
    market.chain.delete(&deleted).await;
    for stream in [deleted.as_str(), "nobody.eth/prices"] {
        for command in ["publish", "subscribe"] {
            market.run(&[command, stream, "--listen", LOCAL]).failed(1, &[stream, "no stream", "--registry"]);
        }
        market.run(&["resend", stream, "--last", "1", "--listen", LOCAL]).failed(1, &["there is no stream"]);
        market.run(&["subscribe", stream, "--partition", "3", "--listen", LOCAL]).failed(1, &["there is no stream"]);
        for command in ["show", "subscribers"] {
            market.run(&["stream", command, stream]).failed(1, &["knows no stream", stream]);
        }
        market.run(&["stream", "grant", stream, USER, "--yes"]).failed(1, &["error_streamDoesNotExist"]);
    }
    assert_eq!(market.sent().await, 0);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn over_http_and_the_control_socket_permissions_on_a_chain_are_changed_by_whoever_says_that_the_gas_is_meant() {
    use common::{Daemon, in_path};
    let market = Market::open().await;
    let (stream, seller) = (market.stream(), &market.seller);
    let contract = market.contract();
    let daemon = Daemon::start(seller, &["--registry", &contract, "--rpc", &market.chain.url, "--confirmations", "0"]);
    let key = seller.api_key("desk", &["permissions"]);
    let permissions = format!("/streams/{}/permissions", in_path(&stream));
    let grant = |body: serde_json::Value| {
        let json = ["-H", "Content-Type: application/json", "-d"];
        daemon.with(&key, &permissions, &[&json[..], &[body.to_string().as_str()]].concat())
    };
    let one = market.sent().await;

    let looked = grant(json!({ "user": USER, "for": "30d", "dry_run": true })).ok();
    assert!(looked["quote"]["max_cost_wei"].as_str().unwrap().parse::<u128>().unwrap() > 0, "{looked}");
    assert_eq!((looked["transaction"].is_null(), looked["dry_run"].as_bool()), (true, Some(true)));
    let unsaid = grant(json!({ "user": USER, "for": "30d" }));
    assert!(unsaid.body.contains("wei of gas"), "{unsaid:?}");
    unsaid.refused(409, "confirm");
    grant(json!({ "user": USER, "confirm": true, "max_cost_wei": "1" })).refused(409, "too_dear");
    grant(json!({ "user": USER, "confirm": true, "dry_run": true })).refused(400, "bad_request");
    grant(json!({ "user": USER, "confirm": true, "from": "2100-01-01T00:00:00Z" })).refused(400, "bad_request");
    assert_eq!(market.sent().await, one, "nothing was sent that nobody meant");

    let granted = grant(json!({ "user": USER, "for": "30d", "confirm": true })).ok();
    assert_eq!(granted["transaction"].as_str().unwrap().len(), 66, "{granted}");
    assert_eq!(market.ends(&stream).await, granted["until"].as_u64().unwrap() / 1000);
    let listed = format!("/streams/{}/subscribers", in_path(&stream));
    let until = |status: &str| {
        let began = std::time::Instant::now();
        loop {
            let answer = daemon.with(&key, &listed, &[]);
            let all = (answer.status == 200).then(|| answer.json()["subscribers"].as_array().cloned().unwrap());
            if all.iter().flatten().any(|one| one["user"] == USER && one["status"] == status) {
                return;
            }
            assert!(began.elapsed() < common::PATIENCE, "{answer:?}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    };
    until("active");
    let revoke = |query: &str| daemon.with(&key, &format!("{permissions}/{USER}{query}"), &["-X", "DELETE"]);
    revoke("").refused(409, "confirm");
    assert!(revoke("?dry_run=true").ok()["quote"]["gas_limit"].as_u64().unwrap() > 0);
    revoke("?confirm=true").ok();
    assert_eq!(market.ends(&stream).await, 0);
    until("revoked");

    // On the command line without a word about the contract: the running one knows it.
    seller.run(&["stream", "grant", &stream, USER, "--for", "30d"]).failed(2, &["it costs up to", "--yes"]);
    seller.run(&["stream", "grant", &stream, USER, "--for", "30d", "--yes"]).ok();
    assert_ne!(market.ends(&stream).await, 0);
    seller.run(&["stream", "revoke", &stream, USER, "--yes"]).ok();
    assert_eq!(market.ends(&stream).await, 0);
    seller.run(&["stream", "show", &stream]).failed(2, &["goes by the contract", "--registry"]);
    let kept = market.run(&["stream", "set", &stream, "--rotate-every", "5", "--history", "none", "--yes", "--json"]);
    let kept = kept.json();
    assert_eq!((&kept["key_policy"]["rotate_every"]["messages"], &kept["history"]), (&5.into(), &"none".into()));

    let foreign = market.chain.create("foreign", "{}").await.to_string();
    let body = json!({ "user": USER, "confirm": true }).to_string();
    let of_foreign = format!("/streams/{}/permissions", in_path(&foreign));
    let json = ["-H", "Content-Type: application/json", "-d", &body];
    daemon.with(&key, &of_foreign, &json).refused(409, "contract_refuses");
    market.chain.give(seller.address().parse().unwrap(), 1000).await;
    grant(json!({ "user": USER, "confirm": true })).refused(409, "no_funds");
    daemon.end();
}
