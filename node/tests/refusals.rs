//! What is said of streams, partitions and words that there are not: over HTTP and on the command line.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod common;

use std::io::Write;
use std::process::Stdio;

use common::{Daemon, Home, VERBS, in_path};
use serde_json::json;

const JSON: [&str; 2] = ["-H", "Content-Type: application/json"];

/// Paths that would be part of a stream's name for good, and are none.
const NO_PATHS: [&str; 8] = ["", "/x", ".", "../x", "a/../b", "a//b", "a/", "a/./b"];

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
    let upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"];
    let upgrade = upgrade.into_iter().chain(["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]);
    let upgrade: Vec<&str> = upgrade.flat_map(|header| ["-H", header]).collect();
    for (method, path, args) in [
        ("POST", "", &one[..]),
        ("POST", "?partition=7", &one),
        ("POST", "/keys/rekey", &[]),
        ("POST", "/keys/rotate", &[]),
        ("GET", "/data/partitions/0/last", &[]),
        ("GET", "/subscribe", &[]),
        ("GET", "/subscribe?partitions=0", &[]),
        ("GET", "/subscribers", &[]),
        ("GET", "/publish", &upgrade),
    ] {
        let asked = daemon.with(&key, &format!("{nowhere}{path}"), &[&["-X", method], args].concat());
        asked.refused(404, "no_stream");
    }
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

#[test]
fn every_refusal_is_json_also_of_paths_that_cannot_be_understood_and_browsers_find_the_page() {
    let (_home, daemon, stream, key) = house("", &[]);
    let there = format!("/streams/{}", in_path(&stream));
    // Bytes that are no text.
    for path in [
        "/dashboard/%ff",
        "/streams/%ff/timeline",
        "/streams/%ff/predict?act=rekey",
        &format!("{there}/timeline?fnd=0x"),
        &format!("{there}/predict?act=rekey&usr=0x"),
        "/streams/%ff/keys",
        "/streams/%ff/subscribe",
        &format!("{there}/data/partitions/%ff/last"),
    ] {
        daemon.with(&key, path, &[]).refused(400, "bad_request");
    }
    for (path, to) in [("/", "/dashboard"), ("/dashboard/", "/dashboard")] {
        // A link from elsewhere, too.
        let link = ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"];
        let link: Vec<&str> = link.iter().flat_map(|header| ["-H", header]).collect();
        let sent = daemon.ask(path, &[&["-w", "\n%{redirect_url}\n%{http_code}"], &link[..]].concat());
        assert_eq!((sent.status, sent.body.trim()), (303, format!("{}{to}", daemon.url).as_str()));
        assert!(daemon.ask(path, &["-L"]).body.contains("<html"), "{path}");
    }
    daemon.end();
}

#[test]
fn moments_and_spans_that_make_no_sense_are_told_why() {
    let (_home, daemon, stream, key) = house("", &[]);
    let there = format!("/streams/{}", in_path(&stream));
    let user = "0x00000000000000000000000000000000000000bb";
    for (more, says) in [
        (json!({ "until": 1 }), "unix seconds"),
        (json!({ "until": "2h" }), "is a span"),
        (json!({ "until": "soon" }), "until is unix milliseconds or RFC 3339"),
        (json!({ "from": 99999999999999999_u64 }), "year 9999"),
        (json!({ "for": "3mo" }), "days"),
        (json!({ "for": "999999999999d" }), "a thousand years"),
        (json!({ "for": "400000d" }), "a thousand years"),
        (json!({ "for": "long" }), "no span"),
    ] {
        let mut granted = json!({ "user": user });
        granted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let body = granted.to_string();
        let answer = daemon.with(&key, &format!("{there}/permissions"), &[&JSON[..], &["-d", &body]].concat());
        assert!(answer.body.contains(says), "{body}: {answer:?}");
        answer.refused(400, "bad_request");
    }
    let answer = daemon.with(&key, &format!("{there}/data/partitions/0/from?fromTimestamp=1"), &[]);
    assert!(answer.body.contains("unix seconds"), "{answer:?}");
    daemon.end();
}

#[test]
fn a_key_that_could_do_nothing_is_not_made() {
    let (home, daemon, stream, key) = house("", &[]);
    let add =
        |verb: &str| home.run(&["api-key", "add", "useless", "--stream", &stream, "--verb", "publish", "--verb", verb]);
    let post = |verb: &str| {
        let body = json!({ "name": "useless", "verbs": [verb], "streams": [stream] }).to_string();
        daemon.with(&key, "/api-keys", &[&JSON[..], &["-d", &body]].concat())
    };
    for verb in ["admin", "metrics"] {
        add(verb).failed(2, &["about the node as a whole"]);
        post(verb).refused(400, "bad_request");
    }
    daemon.end();
    for verb in ["admin", "metrics"] {
        add(verb).failed(2, &["about the node as a whole", "--all-streams"]);
    }
    assert_eq!(home.run(&["api-key", "list", "--json"]).json()["api_keys"].as_array().unwrap().len(), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn an_api_key_that_could_not_be_shown_is_not_kept() {
    let home = Home::new();
    home.stream("prices");
    for through_a_daemon in [false, true] {
        let daemon = through_a_daemon.then(|| Daemon::start(&home, &[]));
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut add = home.command(&["api-key", "add", "lost", "--all-streams", "--verb", "publish"]);
        assert_eq!(add.stdin(Stdio::null()).stdout(full).stderr(Stdio::null()).status().unwrap().code(), Some(1));
        assert_eq!(home.run(&["api-key", "list", "--json"]).json()["api_keys"], json!([]));
        daemon.into_iter().for_each(Daemon::end);
    }
}

#[test]
fn what_a_config_file_should_not_say_is_told_when_it_is_checked() {
    let home = Home::new();
    home.config("[gateway]\nlisten = \"0.0.0.0:7171\"\n");
    let checked = home.run(&["config", "check"]);
    assert!(checked.stderr.contains("can be asked from other machines"), "{checked:?}");
    checked.ok();
    home.config("[mqtt]\nlisten = \"0.0.0.0:1883\"\n");
    let checked = home.run(&["config", "check"]);
    assert!(checked.stderr.contains("MQTT at 0.0.0.0:1883 can be spoken from other machines"), "{checked:?}");
    checked.ok();
    home.config("[gateway]\nmax_connections = 1\n");
    home.run(&["config", "check"]).failed(2, &["line 2", "gateway.max_connections", "from 4 on"]);
    home.config("[gateway]\n\nmax_connections = 99999999999999999999\n");
    home.run(&["config", "check"]).failed(2, &["line 3", "max_connections"]);
    home.config("[network]\nrelay = true\n[[streams]]\nhistory = \"all\"\n");
    home.run(&["config", "check"]).failed(2, &["line 3", "streams.id", "no id"]);
}

#[test]
fn what_a_config_file_says_is_all_shown_when_it_is_checked() {
    let home = Home::new();
    let stream = home.stream("prices");
    home.config(&format!(
        "[gateway]\nmax_connections_per_key = 7\n[[streams]]\nid = \"{stream}\"\nrotate_every = \"1000,10m\"\nhistory = \"window:30d\"\n"
    ));
    let run = home.run(&["config", "check", "--json"]).json()["run"].clone();
    assert_eq!(run["gateway"]["max_connections_per_key"], 7);
    let expected = json!({ "id": stream, "rotate_every": "1000,10m", "rekey_every": null, "history": "window:30d" });
    assert_eq!(run["streams"], json!([expected]));
    let shown = home.run(&["config", "check"]).ok();
    assert!(shown.contains("1000,10m") && shown.contains("max_connections_per_key"), "{shown}");
    home.config("[network]\nrelay = true\n");
    assert!(!home.run(&["config", "check"]).ok().contains("streams"));
}

#[test]
fn whoever_publishes_through_a_daemon_that_stops_is_told_so() {
    let (home, daemon, stream, _) = house("", &[]);
    let mut publishing = home.start(&["publish", &stream]);
    publishing.stderr.wait_for("publishes lines of stdin");
    let mut stdin = publishing.stdin.take().unwrap();
    daemon.end();
    stdin.write_all(b"too late\n").unwrap();
    drop(stdin);
    assert_eq!(publishing.wait(), Some(1));
    let said = publishing.stderr.until_end().join("\n");
    assert!(said.contains("has stopped or is stopping"), "{said}");
}
