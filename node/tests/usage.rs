//! Wrong usage: exit code 2, a cause and a way on, and nothing done.
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod common;

use common::{Home, LOCAL, command, run, run_with};
use serde_json::Value;

const STREAM: &str = "0x00000000000000000000000000000000000000aa/prices";
const USER: &str = "0x00000000000000000000000000000000000000bb";

#[test]
fn malformed_arguments_are_wrong_usage_and_the_message_names_the_cause() {
    let long = format!("{USER}/{}", "x".repeat(300));
    let cases: &[(&[&str], &str)] = &[
        (&["publish", "prices"], "the owner is missing before \"prices\""),
        (&["publish", "0xAA/prices"], "owner of a stream id"),
        (&["subscribe", &long], "at most 255 bytes"),
        (&["subscribe", "0x00000000000000000000000000000000000000aa/a#1"], "visible ASCII"),
        (&["stream", "grant", STREAM, "alice"], "an address is 0x and 40 hex digits"),
        (&["stream", "grant", STREAM, "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1Beaed"], "wrong checksum"),
        (&["stream", "grant", STREAM, USER, "--until", "tomorrow"], "is no time"),
        (&["stream", "grant", STREAM, USER, "--until", "2027-01-31"], "offset from UTC"),
        (&["stream", "grant", STREAM, USER, "--until", "1800000000"], "looks like unix seconds"),
        (&["stream", "grant", STREAM, USER, "--for", "soon"], "is no span"),
        (&["stream", "grant", STREAM, USER, "--for", "3mo"], "no fixed length"),
        (&["stream", "grant", STREAM, USER, "--for", "1h", "--until", "2h"], "cannot be used with"),
        (&["stream", "grant", STREAM, USER, "--permission", "dance"], "publish or subscribe"),
        (&["stream", "create", "prices", "--partitions", "101"], "1..=100"),
        (&["stream", "set", STREAM], "--private"),
        (&["stream", "set", STREAM], "--rekey-every"),
        (&["grant", "revoke", STREAM], "--serial"),
        (&["grant", "revoke", STREAM, USER, "--serial", "1"], "cannot be used with"),
        (&["key", "add", "--key-id", "k"], "--prefix"),
        (&["key", "add", STREAM, "--prefix", USER, "--key-id", "k"], "cannot be used with"),
        (&["publish", STREAM, "--bootstrap", "127.0.0.1:4100"], "/ip4/127.0.0.1/tcp/4100"),
        (&["node", "--listen", "localhost"], "write for example /ip4/"),
        (&["publish", STREAM, "--rotate-every", "0"], "no number of messages from 1 on"),
        (&["stream", "set", STREAM, "--rekey-every", "often"], "or a number of messages"),
        (&["publish", STREAM, "--partition", "1", "--partition-key", "k"], "cannot be used with"),
        (&["subscribe", STREAM, "--count", "many"], "invalid digit"),
        (&["subscribe", STREAM, "--partition", "100"], "100 is not in"),
        (&["key", "add", STREAM, "--key-id", ""], "at least 1 character"),
        (&["key", "add", STREAM, "--key-id", "two words"], "visible ASCII"),
        (&["key", "add", STREAM], "--key-id"),
        (&["demo", "--messages", "1"], "1 is not in"),
        (&["dance"], "unrecognized subcommand"),
        (&["publish", STREAM, "--frobnicate"], "unexpected argument"),
    ];
    for (args, says) in cases {
        run(args).failed(2, &[says]);
    }
}

#[test]
fn wrong_usage_is_one_json_object_with_what_to_do_where_json_is_wanted() {
    let told = run(&["publish", "prices", "--json"]).failed(2, &[]);
    let json: Value = serde_json::from_str(&told.stderr).unwrap();
    assert!(json["error"].as_str().unwrap().contains("the owner is missing"), "{json}");
    assert!(json["hint"].as_str().unwrap().contains("--help"), "{json}");
    assert_eq!(told.stdout, "");
    let told = run(&["stream", "set", STREAM, "--json"]).failed(2, &[]);
    let json: Value = serde_json::from_str(&told.stderr).unwrap();
    assert!(json["error"].as_str().unwrap().contains("--private"), "{json}");
}

#[test]
fn a_span_that_ends_before_it_begins_and_a_partition_that_is_not_there_are_wrong_usage() {
    let home = Home::new();
    let stream = home.stream("prices");
    let foreign = format!("{USER}/prices");
    for command in [["resend", &stream], ["key", "fetch"]] {
        let more = if command[0] == "key" { vec![foreign.as_str()] } else { vec![] };
        let args = [&command[..], &more, &["--from", "7d", "--to", "8d", "--listen", LOCAL]].concat();
        home.run(&args).failed(2, &["before it begins", "--from"]);
    }
    for command in [["resend", &stream, "--last", "5"].as_slice(), &["subscribe", &stream]] {
        let args = [command, &["--partition", "3", "--listen", LOCAL]].concat();
        home.run(&args).failed(2, &["stream show"]);
    }
}

#[test]
fn a_stream_that_only_looks_like_ones_own_is_not_made() {
    let home = Home::new();
    let me = home.address();
    for path in ["../x", "/x", "x/", "a//b", "./x", ""] {
        home.run(&["stream", "create", path]).failed(2, &["what to do next"]);
    }
    home.run(&["stream", "create", STREAM]).failed(2, &["somebody else", &me]);
    assert_eq!(home.run(&["stream", "create", &format!("{me}/x")]).ok(), format!("{me}/x"));
    assert_eq!(home.run(&["stream", "create", "sensors/roof.2"]).ok(), format!("{me}/sensors/roof.2"));
}

#[test]
fn a_list_of_a_stream_that_is_not_known_beside_others_of_its_owner_is_made_with_a_warning() {
    let home = Home::new();
    let stream = home.stream("v");
    let said = home.run(&["access", "deny", &stream.replace("/v", "/V"), USER]);
    assert!(said.code == Some(0) && said.stderr.contains(&stream), "{said:#?}");
    for known in [&stream, STREAM] {
        let said = home.run(&["access", "deny", known, USER]);
        assert!(said.code == Some(0) && said.stderr.is_empty(), "{said:#?}");
    }
}

#[test]
fn help_of_every_command_has_examples_and_is_no_error() {
    let commands: [&[&str]; 17] = [
        &[],
        &["demo"],
        &["identity", "new"],
        &["identity", "show"],
        &["stream", "create"],
        &["stream", "grant"],
        &["stream", "revoke"],
        &["stream", "show"],
        &["stream", "set"],
        &["node"],
        &["publish"],
        &["subscribe"],
        &["key", "add"],
        &["key", "use"],
        &["key", "remove"],
        &["config", "check"],
        &["config", "default"],
    ];
    for command in commands {
        let help = run(&[command, &["--help"]].concat()).ok();
        assert!(help.contains("Example"), "{command:?}: {help}");
    }
    run(&["--version"]).ok();
}

#[test]
fn nothing_works_without_an_identity_and_the_error_says_how_to_make_one() {
    let home = Home::empty();
    let commands: [&[&str]; 6] = [
        &["identity", "show"],
        &["stream", "create", "prices"],
        &["stream", "show"],
        &["key", "list"],
        &["publish", STREAM, "--listen", LOCAL],
        &["subscribe", STREAM, "--listen", LOCAL],
    ];
    for command in commands {
        home.run(command).failed(1, &["there is no identity in", "veilcast identity new"]);
    }
    assert!(!home.path().exists(), "looking must not make anything");
}

#[test]
fn the_version_is_an_object_where_json_is_wanted() {
    assert_eq!(run(&["--version"]).ok(), format!("veilcast {}", env!("CARGO_PKG_VERSION")));
    let version = run(&["--version", "--json"]).json();
    assert_eq!(
        (version["name"].as_str(), version["version"].as_str()),
        (Some("veilcast"), Some(env!("CARGO_PKG_VERSION")))
    );
}

#[test]
fn an_export_of_the_audit_log_has_one_form() {
    let home = Home::new();
    home.run(&["audit", "export", "--format", "csv", "--json"]).failed(2, &["two forms", "leave one"]);
}

#[test]
fn where_the_past_is_meant_a_time_that_is_none_is_answered_with_how_to_write_how_long_ago() {
    let home = Home::new();
    let past = ["key", "fetch", STREAM, "--from"];
    home.run(&[&past[..], &["last week"]].concat()).failed(2, &["how long ago"]);
    home.run(&[&past[..], &["0d"]].concat()).failed(2, &["for now leave the option away"]);
    let told = home.run(&["stream", "grant", &home.stream("prices"), USER, "--until", "2020-01-01T00:00:00Z"]);
    assert!(told.stderr.contains("2020-01-01T00:00:00Z") && !told.stderr.contains("15778"), "{told:?}");
}

#[test]
fn a_log_filter_that_is_none_is_wrong_usage() {
    let mut wrong = command(&["identity", "show"]);
    wrong.env("VEILCAST_LOG", "veilcast=loudly");
    run_with(wrong, b"").failed(2, &["VEILCAST_LOG", "what to do next"]);
}

#[test]
fn a_data_folder_that_is_a_file_is_said_to_be_one() {
    let home = Home::empty();
    let file = home.file("occupied", b"");
    for command in [["identity", "show"], ["stream", "show"]] {
        let args = [&command[..], &["--data-dir", file.to_str().unwrap()]].concat();
        run(&args).failed(1, &["cannot look into the data folder", "occupied"]);
    }
}

#[test]
fn announcing_with_nobody_to_announce_to_fails_at_once() {
    let home = Home::new();
    home.run(&["stream", "create", "prices", "--registry", "grants"]).ok();
    home.run(&["grant", "announce"]).failed(1, &["--bootstrap"]);
}

#[test]
fn a_data_folder_that_cannot_be_made_is_an_error_that_names_it() {
    let home = Home::empty();
    let file = home.file("occupied", b"");
    let inside = file.join("data");
    run(&["identity", "new", "--data-dir", inside.to_str().unwrap()]).failed(1, &["occupied", "--data-dir"]);
}
