//! What is said of streams, partitions and words that there are not: over HTTP and on the command line.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod common;

use common::{Daemon, Home, VERBS, in_path};
use serde_json::json;

const JSON: [&str; 2] = ["-H", "Content-Type: application/json"];

/// Paths that would be part of a stream's name for good, and are none.
const NO_PATHS: [&str; 7] = ["", ".", "../x", "a/../b", "a//b", "a/", "a/./b"];

/// A running daemon with one stream of two partitions, which it keeps, and a key with every verb.
fn house(gateway: &str, more: &[&str]) -> (Home, Daemon, String, String) {
    let home = Home::new();
    let stream = home.run(&["stream", "create", "prices", "--partitions", "2"]).ok();
    home.config(&format!("[storage]\nstreams = [\"{stream}\"]\n[gateway]\n{gateway}\n"));
    let key = home.api_key("root", &VERBS);
    let daemon = Daemon::start(&home, more);
    (home, daemon, stream, key)
}

#[test]
fn nothing_is_published_rekeyed_or_read_where_a_stream_or_partition_is_not_there() {
    let (home, daemon, stream, key) = house("", &[]);
    let there = format!("/streams/{}", in_path(&stream));
    let nowhere = format!("{there}-mistyped");
    let one = [&JSON[..], &["-d", "1"]].concat();
    for (path, args) in [
        ("", &one[..]),
        ("?partition=7", &one),
        ("/keys/rekey", &["-X", "POST"]),
        ("/keys/rotate", &["-X", "POST"]),
        ("/data/partitions/0/last", &[]),
        ("/subscribe", &[]),
        ("/subscribe?partitions=0", &[]),
        ("/subscribers", &[]),
    ] {
        daemon.with(&key, &format!("{nowhere}{path}"), args).refused(404, "no_stream");
    }
    let upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"];
    let upgrade = upgrade.into_iter().chain(["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]);
    let upgrade: Vec<&str> = upgrade.flat_map(|header| ["-H", header]).collect();
    daemon.with(&key, &format!("{nowhere}/publish"), &upgrade).refused(404, "no_stream");
    assert_eq!(daemon.with(&key, &format!("{nowhere}/keys"), &[]).ok()["keys"], json!([]), "no key was made for it");

    for path in ["/data/partitions/2/last", "/subscribe?partitions=0,2"] {
        daemon.with(&key, &format!("{there}{path}"), &[]).refused(400, "bad_request");
    }
    daemon.with(&key, &format!("{there}?partition=2"), &one).refused(400, "bad_request");
    daemon.with(&key, &there, &one).ok();
    let mistyped = format!("{stream}-mistyped");
    home.run_with(&["publish", &mistyped], b"1\n").failed(1, &["there is no stream"]);
    home.run(&["key", "rekey", &mistyped]).failed(1, &["there is no stream"]);
    daemon.end();
    home.run(&["key", "rekey", &mistyped]).failed(1, &["there is no stream", "stream create"]);
    home.run(&["key", "rekey", &stream]).ok();
}

#[test]
fn a_stream_is_made_by_a_path_of_names_or_its_whole_id_also_over_http() {
    let (home, daemon, _, key) = house("", &[]);
    let make = |path: &str| {
        let body = json!({ "path": path }).to_string();
        daemon.with(&key, "/streams", &[&JSON[..], &["-d", &body]].concat())
    };
    for path in NO_PATHS {
        make(path).refused(400, "bad_request");
        make(&format!("{}/{path}", home.address())).refused(400, "bad_request");
        home.run(&["stream", "create", path]).failed(2, &[]);
    }
    let mine = format!("{}/sensors/roof", home.address());
    assert_eq!(make("sensors/roof").ok()["id"], mine);
    assert_eq!(make(&mine).ok()["id"], mine);
    assert_eq!(home.run(&["stream", "create", &mine]).ok(), mine);
    make("0x00000000000000000000000000000000000000bb/x").refused(400, "bad_request");
    daemon.end();
    for path in NO_PATHS {
        home.run(&["stream", "create", path]).failed(2, &["no path of a stream", "sensors/roof"]);
        home.run(&["stream", "create", &format!("{}/{path}", home.address())]).failed(2, &["no path of a stream"]);
        home.run(&["stream", "create", path, "--registry", "grants"]).failed(2, &["no path of a stream"]);
    }
}
