//! Keys put in by hand. Their bytes go in and never come out.
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod common;

use common::{Home, LOCAL, node, subscribed};

const SECRET: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn says_no_secret(text: &str) {
    for window in SECRET.as_bytes().windows(16) {
        assert!(!text.contains(std::str::from_utf8(window).unwrap()), "{text}");
    }
}

#[test]
fn a_key_from_stdin_or_a_file_is_listed_without_its_bytes() {
    let home = Home::new();
    let stream = home.stream("prices");
    let added = home.run_with(&["key", "add", &stream, "--key-id", "summer", "--current"], SECRET.as_bytes());
    says_no_secret(&format!("{added:?}"));
    added.ok();
    let file = home.file("key", format!("{SECRET}\n").as_bytes());
    let other = "0x00000000000000000000000000000000000000bb";
    let more = ["--publisher", other, "--key-id", "theirs", "--key-file", file.to_str().unwrap()];
    home.run(&[&["key", "add", &stream][..], &more].concat()).ok();

    let text = home.run(&["key", "list"]).ok();
    says_no_secret(&text);
    let json = home.run(&["key", "list", &stream, "--json"]);
    says_no_secret(&json.stdout);
    let json = json.json();
    let keys = json["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 2);
    let summer = keys.iter().find(|key| key["key_id"] == "summer").unwrap();
    assert_eq!((&summer["origin"], &summer["current"]), (&"pre_agreed".into(), &true.into()));
    let theirs = keys.iter().find(|key| key["key_id"] == "theirs").unwrap();
    assert_eq!((&theirs["publisher"], &theirs["current"]), (&other.into(), &false.into()));
    assert_eq!(summer["fingerprint"], theirs["fingerprint"], "the same bytes have one fingerprint");
}

#[test]
fn what_is_no_key_is_wrong_usage_and_is_not_repeated() {
    let home = Home::new();
    let stream = home.stream("prices");
    let add = |input: &[u8]| home.run_with(&["key", "add", &stream, "--key-id", "k"], input);
    add(b"").failed(2, &["no key on the input", "--key-file"]);
    let short = add(&SECRET.as_bytes()[..40]).failed(2, &["64 hex digits", "these are 40"]);
    says_no_secret(&short.stderr);
    add(&[b'x'; 64]).failed(2, &["hex digits only"]);
    add(&[0xff; 1_000_000]).failed(2, &["64 hex digits"]);
    home.run(&["key", "add", &stream, "--key-id", "k", "--key-file", "/nowhere"])
        .failed(1, &["cannot read the key file"]);
    let stranger = ["--publisher", "0x00000000000000000000000000000000000000bb", "--current"];
    let args = [&["key", "add", &stream, "--key-id", "k"][..], &stranger].concat();
    home.run_with(&args, SECRET.as_bytes()).failed(2, &["keys of your own"]);
}

#[test]
fn another_key_under_the_same_id_is_refused_and_the_first_stays() {
    let home = Home::new();
    let stream = home.stream("prices");
    let add = |input: &str| home.run_with(&["key", "add", &stream, "--key-id", "k"], input.as_bytes());
    add(SECRET).ok();
    add(SECRET).ok();
    add(&"ab".repeat(32)).failed(1, &["another key is stored under the id k"]);
}

#[test]
fn with_a_pre_agreed_key_on_both_sides_messages_flow_without_a_grant_and_without_a_request() {
    let (_relay_home, _relay, at) = node();
    let (seller, buyer) = (Home::new(), Home::new());
    let stream = seller.stream("prices");
    seller.run_with(&["key", "add", &stream, "--key-id", "agreed", "--current"], SECRET.as_bytes()).ok();
    let add = ["key", "add", &stream, "--publisher", &seller.address(), "--key-id", "agreed"];
    buyer.run_with(&add, SECRET.as_bytes()).ok();

    let mut reading = subscribed(&buyer, &stream, &at, &["--count", "2", "--json"]);
    let publish = ["publish", &stream, "--bootstrap", &at, "--listen", LOCAL, "--json"];
    let sent = seller.run_with(&publish, b"one\ntwo\n").json();
    assert_eq!((&sent["published"], &sent["key_requests"]), (&2.into(), &0.into()));
    assert_eq!(reading.wait(), Some(0));
    let lines = reading.stdout.until_end();
    assert!(lines.iter().all(|line| line.contains("\"key_id\":\"agreed\"")), "{lines:?}");
    let events = reading.stderr.until_end().join("\n");
    assert!(!events.contains("key_pending"), "{events}");
}

#[test]
fn a_pre_agreed_key_missing_on_one_side_is_refused_by_name() {
    let (_relay_home, _relay, at) = node();
    let (seller, buyer, stream) = common::seller_and_buyer();
    seller.run_with(&["key", "add", &stream, "--key-id", "agreed", "--current"], SECRET.as_bytes()).ok();
    let mut reading = subscribed(&buyer, &stream, &at, &[]);
    let selling = common::publishing(&seller, &stream, &at, b"one\n", &[]);
    reading.stderr.wait_for("key agreed");
    assert_eq!(reading.wait(), Some(3), "{:?}", reading.stderr.all());
    common::end(selling);
}

#[test]
fn keys_of_a_prefix_are_added_used_listed_and_removed_without_showing_their_bytes() {
    let home = Home::new();
    let prefix = format!("{}/plant", home.address());
    let of = |command: &'static str, id: &'static str| {
        ["key", command, "--prefix", &prefix, "--key-id", id].map(String::from)
    };
    let run = |command, id, input: &str| {
        let args = of(command, id);
        home.run_with(&args.each_ref().map(String::as_str), input.as_bytes())
    };
    let added = run("add", "old", SECRET);
    says_no_secret(&format!("{added:?}"));
    added.ok();
    run("use", "new", "").failed(1, &["there is no key new in the ring of", "add it first"]);
    run("add", "new", &"ab".repeat(32)).ok();
    run("use", "new", "").ok();
    run("remove", "new", "").failed(1, &["is in use"]);
    let json = home.run(&["key", "list", "--json"]);
    says_no_secret(&json.stdout);
    let json = json.json();
    let shown = |id: &str| json["keys"].as_array().unwrap().iter().find(|key| key["key_id"] == id).unwrap().clone();
    assert_eq!((&shown("old")["prefix"], &shown("old")["current"]), (&prefix.as_str().into(), &false.into()));
    assert_eq!((&shown("new")["stream"], &shown("new")["current"]), (&serde_json::Value::Null, &true.into()));
    run("remove", "old", "").ok();
    let text = home.run(&["key", "list"]).ok();
    assert!(text.contains("all streams under it") && !text.contains("old"), "{text}");
    home.run_with(&["key", "add", "--prefix", "plant/", "--key-id", "k"], SECRET.as_bytes())
        .failed(2, &["path is missing"]);
    home.run_with(&["key", "add", "--key-id", "k"], SECRET.as_bytes()).failed(2, &["required"]);
}

#[test]
fn with_agreed_keys_only_a_key_of_a_prefix_serves_both_sides_and_a_missing_one_is_named() {
    let (_relay_home, _relay, at) = node();
    let (seller, buyer, stranger) = (Home::new(), Home::new(), Home::new());
    let stream = seller.stream("plant/pressure");
    let prefix = format!("{}/plant", seller.address());
    let publish = ["publish", &stream, "--bootstrap", &at, "--listen", LOCAL, "--pre-agreed-only", "--json"];
    let add = ["key", "add", "--prefix", &prefix, "--key-id", "plant-1"];
    buyer.run_with(&add, SECRET.as_bytes()).ok();
    let mut reading = subscribed(&buyer, &stream, &at, &["--count", "2", "--pre-agreed-only"]);
    let refused = seller.run_with(&publish, b"one\n").failed(1, &[&stream, "veilcast key add"]);
    assert_eq!(refused.stdout, "", "nothing was sent");
    seller.run_with(&[&add[..], &["--current"]].concat(), SECRET.as_bytes()).ok();
    let mut lacking = subscribed(&stranger, &stream, &at, &["--pre-agreed-only"]);
    let sent = seller.run_with(&publish, b"one\ntwo\n").json();
    assert_eq!((&sent["published"], &sent["key_requests"]), (&2.into(), &0.into()));
    assert_eq!(reading.wait(), Some(0), "{:?}", reading.stderr.all());
    assert_eq!(reading.stdout.until_end(), ["one", "two"]);
    assert_eq!(lacking.wait(), Some(1), "{:?}", lacking.stderr.all());
    assert!(lacking.stderr.all().join("\n").contains("key plant-1"), "{:?}", lacking.stderr.all());
}
