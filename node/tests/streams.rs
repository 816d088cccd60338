//! Streams and grants from the command line.
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod common;

use common::Home;
use serde_json::json;

const USER: &str = "0x00000000000000000000000000000000000000bb";

#[test]
fn a_stream_is_named_after_its_owner_and_created_once() {
    let home = Home::new();
    let json = home.run(&["stream", "create", "prices/btc", "--partitions", "4", "--json"]).json();
    assert_eq!(json["id"], format!("{}/prices/btc", home.address()));
    assert_eq!(json["partitions"], 4);
    let id = json["id"].as_str().unwrap();
    assert_eq!(
        home.run(&["stream", "create", "prices/btc", "--partitions", "4"]).ok(),
        id,
        "the same again is no error"
    );
    home.run(&["stream", "create", "prices/btc"]).failed(1, &["exists already with other settings", "stream show"]);
    home.run(&["stream", "create", ""]).failed(2, &["no path of a stream"]);
    home.run(&["stream", "create", "two words"]).failed(2, &["visible ASCII"]);
}

#[test]
fn grants_are_given_for_a_time_renewed_revoked_and_shown() {
    let home = Home::new();
    let stream = home.stream("prices");
    let grant = home.run(&["stream", "grant", &stream, USER, "--from", "2h", "--for", "30d", "--json"]).json();
    let (from, until) = (grant["from"].as_u64().unwrap(), grant["until"].as_u64().unwrap());
    assert_eq!(until - from, 30 * 24 * 3600 * 1000);
    let shown = |field: &str| home.run(&["stream", "show", &stream, "--json"]).json()["grants"][0][field].clone();
    assert_eq!((shown("user"), shown("state")), (USER.into(), "not_yet".into()));

    home.run(&["stream", "grant", &stream, USER]).ok();
    assert_eq!((shown("state"), shown("until")), ("active".into(), serde_json::Value::Null));
    assert_eq!(home.run(&["stream", "show", &stream, "--json"]).json()["grants"].as_array().unwrap().len(), 1);

    home.run(&["stream", "revoke", &stream, USER]).ok();
    assert_eq!(shown("state"), "revoked");
    home.run(&["stream", "revoke", &stream, USER, "--permission", "publish"]).failed(1, &["has no publish grant"]);

    home.run(&["stream", "grant", &stream, USER, "--permission", "publish", "--until", "2099-01-01T00:00:00Z"]).ok();
    let text = home.run(&["stream", "show", &stream]).ok();
    assert!(text.contains("publish    active    until 2099-01-01T00:00:00Z"), "{text}");
}

#[test]
fn a_period_that_makes_no_sense_is_wrong_usage() {
    let home = Home::new();
    let stream = home.stream("prices");
    let grant = |more: &[&str]| home.run(&[&["stream", "grant", &stream, USER], more].concat());
    grant(&["--until", "2020-01-01T00:00:00Z"]).failed(2, &["in the past", "--until"]);
    grant(&["--from", "2h", "--until", "1h"]).failed(2, &["before it starts"]);
}

#[test]
fn a_stream_that_is_not_there_is_an_error_that_says_how_to_make_it() {
    let home = Home::new();
    let other = format!("{}/other", home.address());
    for command in [
        &["stream", "show", &other][..],
        &["stream", "grant", &other, USER],
        &["stream", "revoke", &other, USER],
        &["stream", "set", &other, "--public"],
    ] {
        home.run(command).failed(1, &["there is no stream", "veilcast stream create"]);
    }
    assert!(home.run(&["stream", "show"]).ok().contains("no streams yet"));
}

#[test]
fn a_stream_is_made_public_and_private_again() {
    let home = Home::new();
    let stream = home.stream("prices");
    let public = || home.run(&["stream", "show", &stream, "--json"]).json()["public"].clone();
    assert_eq!(public(), false);
    home.run(&["stream", "set", &stream, "--public"]).ok();
    assert_eq!(public(), true);
    home.run(&["stream", "set", &stream, "--private"]).ok();
    assert_eq!(public(), false);
}

#[test]
fn when_a_streams_key_changes_by_itself_is_set_shown_changed_and_ended() {
    let home = Home::new();
    let stream = home.run(&["stream", "create", "prices", "--rotate-every", "1000,10m"]).ok();
    let shown = || home.run(&["stream", "show", &stream, "--json"]).json()["key_policy"].clone();
    assert_eq!(shown()["rotate_every"], json!({ "messages": 1000, "time_ms": 600_000 }));
    home.run(&["stream", "set", &stream, "--rekey-every", "30d"]).ok();
    let text = home.run(&["stream", "show", &stream]).ok();
    assert!(text.contains("the key rotates every 1000 messages or 10m, rekeys every 30d"), "{text}");
    home.run(&["stream", "create", "prices"]).ok();
    home.run(&["stream", "set", &stream, "--rotate-every", "never", "--public"]).ok();
    assert_eq!(
        shown(),
        json!({ "rotate_every": null, "rekey_every": { "messages": null, "time_ms": 2_592_000_000_u64 } })
    );
}

#[test]
fn publishers_beside_the_owner_are_named_when_a_stream_is_made_and_changed_later() {
    let home = Home::new();
    let stream = home.run(&["stream", "create", "prices", "--publisher", USER]).ok();
    let shown = || {
        let json = home.run(&["stream", "show", &stream, "--json"]).json();
        let grant = &json["grants"][0];
        [&grant["user"], &grant["permission"], &grant["state"]].map(|field| field.as_str().unwrap().to_owned())
    };
    assert_eq!(shown(), [USER, "publish", "active"]);
    home.run(&["stream", "set", &stream, "--no-publisher", USER]).ok();
    assert_eq!(shown(), [USER, "publish", "revoked"]);
    home.run(&["stream", "set", &stream, "--publisher", USER]).ok();
    assert_eq!(shown(), [USER, "publish", "active"]);
}
