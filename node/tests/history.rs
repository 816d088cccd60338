//! Keys of the past from the command line.
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod common;

use common::{Home, LOCAL, Process, node, seller_and_buyer, subscribed};

/// A publisher that has published so many lines, each under a key of its own, and stays to answer.
fn publisher(seller: &Home, stream: &str, at: &str, lines: usize) -> Process {
    // Nobody publishes to nobody.
    let reader = Home::new();
    seller.run(&["stream", "grant", stream, &reader.address()]).ok();
    let _reading = subscribed(&reader, stream, at, &[]);
    let file = seller.file("lines", "a line\n".repeat(lines).as_bytes());
    let network = ["--bootstrap", at, "--listen", LOCAL];
    let args = [&["publish", stream, "--rekey-every", "1", "--stay"][..], &network].concat();
    let publisher = seller.start_with_file(&args, &file);
    publisher.stderr.wait_for("until Ctrl-C");
    publisher
}

fn fetch<'a>(stream: &'a str, at: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["key", "fetch", stream, "--bootstrap", at, "--listen", LOCAL][..], more].concat()
}

#[test]
fn keys_of_the_past_are_fetched_in_pages_counted_and_listed() {
    let (_relay_home, _relay, at) = node();
    let (seller, buyer, stream) = seller_and_buyer();
    let _publisher = publisher(&seller, &stream, &at, 300);
    let run = buyer.run(&fetch(&stream, &at, &["--json"]));
    let pages = run.stderr.lines().filter(|line| line.contains("\"event\":\"page\"")).count();
    assert_eq!(pages, 1, "the second page is the last: {run:#?}");
    let summary = run.json();
    assert_eq!((&summary["keys"], &summary["refused"]), (&300.into(), &0.into()));
    assert_eq!((&summary["stream"], &summary["publisher"]), (&stream.as_str().into(), &seller.address().into()));
    let listed = buyer.run(&["key", "list", &stream, "--json"]).json();
    let received = |key: &serde_json::Value| key["origin"] == "received";
    assert_eq!(listed["keys"].as_array().unwrap().iter().filter(|key| received(key)).count(), 300);

    let text = buyer.run(&fetch(&stream, &at, &["--from", "1h", "--to", "30m"])).ok();
    assert!(text.starts_with("0 keys of "), "nothing was published then: {text}");
}

#[test]
fn the_policy_set_for_a_stream_decides_which_keys_of_the_past_are_given() {
    let (_relay_home, _relay, at) = node();
    let (seller, buyer) = (Home::new(), Home::new());
    let stream = seller.run(&["stream", "create", "prices", "--history", "window:30d"]).ok();
    let shown = || seller.run(&["stream", "show", &stream, "--json"]).json()["history"].clone();
    assert_eq!(shown(), "window:30d");
    assert_eq!(seller.stream("prices"), stream, "made again without a word about history");
    assert_eq!(shown(), "window:30d");
    seller.run(&["stream", "set", &stream, "--history", "since-grant-start"]).ok();
    assert_eq!(shown(), "since-grant-start");
    let text = seller.run(&["stream", "set", &stream, "--history", "none", "--private"]).ok();
    assert!(text.contains("the current key only") && text.contains("only who has a grant"), "{text}");
    assert!(seller.run(&["stream", "show", &stream]).ok().contains("history: the current key only"));

    seller.run(&["stream", "grant", &stream, &buyer.address()]).ok();
    let publisher = publisher(&seller, &stream, &at, 3);
    // All of them were current within the last minute, and messages may still wait for them.
    assert_eq!(buyer.run(&fetch(&stream, &at, &["--json"])).json()["keys"], 3);
    drop(publisher);

    for wrong in ["sometimes", "window:", "window:soon", "window:3mo"] {
        seller.run(&["stream", "set", &stream, "--history", wrong]).failed(2, &["--history"]);
    }
    seller.run(&["stream", "set", &stream]).failed(2, &["--public"]);
    let mistyped = format!("{}/typo", seller.address());
    seller.run(&["stream", "set", &mistyped, "--history", "none"]).failed(1, &["there is no stream"]);
}

#[test]
fn whoever_may_not_subscribe_is_refused_with_exit_code_3() {
    let (_relay_home, _relay, at) = node();
    let (seller, _, stream) = seller_and_buyer();
    let _publisher = publisher(&seller, &stream, &at, 2);
    let stranger = Home::new();
    stranger.run(&fetch(&stream, &at, &[])).failed(3, &["denied", "stream grant"]);
    let json = stranger.run(&fetch(&stream, &at, &["--json"])).failed(3, &["denied"]);
    assert!(json.stdout.is_empty(), "{json:#?}");
}

#[test]
fn a_publisher_that_cannot_be_reached_is_a_failure_that_says_what_to_do() {
    let (_relay_home, _relay, at) = node();
    let (_, buyer, stream) = seller_and_buyer();
    buyer.run(&fetch(&stream, &at, &[])).failed(1, &["cannot be reached", "trying again", "run it again"]);
}

#[test]
fn a_span_or_a_publisher_that_makes_no_sense_is_wrong_usage() {
    let (seller, buyer, stream) = seller_and_buyer();
    let ask = |args: &[&str]| buyer.run(&[&["key", "fetch", &stream][..], args].concat());
    ask(&["--from", "1h", "--to", "2h"]).failed(2, &["before it begins", "--from and --to"]);
    ask(&["--from", "yesterday"]).failed(2, &["is no time"]);
    seller.run(&["key", "fetch", &stream]).failed(2, &["in this data folder already"]);
    buyer.run(&["key", "fetch", "prices.eth/btc"]).failed(2, &["--publisher"]);
}
