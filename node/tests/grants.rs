//! Permissions that a stream's owner signs, carried as lines of text, and a publisher's own lists.
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod common;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{Home, LOCAL, Run, end, node, publishing, subscribed};
use serde_json::{Value, json};
use veilcast::key_store::{SledKeyStore, Unlock};
use veilcast::permission::{Issuer, SignedGrants};
use veilcast::time::{Clock, SystemClock};
use veilcast::{Identity, Period, Permission, StreamId, UserId};

const SIGNED: [&str; 2] = ["--registry", "grants"];
const SOMEBODY: &str = "0x00000000000000000000000000000000000000bb";

/// An owner with a stream that it signs for, and another publisher of it that has the stream's record.
fn owner_and_publisher() -> (Home, Home, String) {
    let (owner, publisher) = (Home::new(), Home::new());
    let create = ["stream", "create", "prices", "--publisher", &publisher.address()];
    let stream = owner.run(&[&create[..], &SIGNED].concat()).ok();
    let record = owner.run(&["grant", "show", &stream, "--lines"]).ok();
    publisher.run_with(&["grant", "import"], record.as_bytes()).ok();
    (owner, publisher, stream)
}

fn issue(owner: &Home, stream: &str, user: &str, more: &[&str]) -> Run {
    owner.run(&[&["grant", "issue", stream, user], more].concat())
}

fn subscribers(home: &Home, stream: &str) -> Vec<Value> {
    let args = [&["stream", "subscribers", stream, "--json"][..], &SIGNED].concat();
    home.run(&args).json()["subscribers"].as_array().unwrap().clone()
}

#[test]
fn a_publisher_that_is_not_the_owner_serves_what_the_owner_signed_until_it_is_taken_back_and_the_owner_is_never_online()
{
    let (_relay_home, _relay, at) = node();
    let (owner, publisher, stream) = owner_and_publisher();
    let buyer = Home::new();
    let lines = issue(&owner, &stream, &buyer.address(), &["--for", "30d"]).ok();
    assert_eq!(lines.lines().count(), 2, "the record and the grant: {lines}");
    let taken = buyer.run_with(&["grant", "import"], lines.as_bytes()).ok();
    assert!(taken.contains(&format!("{} may subscribe on {stream} until", buyer.address())), "{taken}");

    let mut reading = subscribed(&buyer, &stream, &at, &[&SIGNED[..], &["--count", "1"]].concat());
    let selling = publishing(&publisher, &stream, &at, b"sold\n", &SIGNED);
    assert_eq!(reading.wait(), Some(0), "{:#?}", reading.stderr.all());
    end(selling);
    assert_eq!(reading.stdout.until_end(), ["sold"]);
    let [row] = &subscribers(&publisher, &stream)[..] else { panic!("one subscriber") };
    assert_eq!((&row["user"], &row["status"]), (&buyer.address().into(), &"active".into()));
    let keys = buyer.run(&["key", "list", "--json"]).json();
    assert_eq!(row["last_key"], keys["keys"][0]["key_id"], "learned from the request that was answered");
    assert!(row["until"].as_u64() > row["since"].as_u64(), "{row}");

    let record = owner.run(&["grant", "revoke", &stream, &buyer.address()]).ok();
    publisher.run(&["grant", "import", &record]).ok();
    assert_eq!(subscribers(&publisher, &stream)[0]["status"], "revoked");
    publisher.run(&["grant", "import", lines.lines().last().unwrap()]).failed(1, &["was taken back", "another one"]);
    let outdated = publisher.run(&["grant", "import", lines.lines().next().unwrap()]);
    assert!(outdated.stderr.contains("a newer stream record is here already"), "{outdated:#?}");
    let mut again = subscribed(&buyer, &stream, &at, &SIGNED);
    let selling = publishing(&publisher, &stream, &at, b"not sold\n", &SIGNED);
    // Neighbours may bring what was sold a moment ago once more; then it goes on after the refusal.
    again.stderr.wait_for("expired: the grant ended");
    end(selling);
    again.interrupt();
    again.wait();
    assert!(again.stdout.until_end().iter().all(|line| line == "sold"), "{:#?}", again.stdout.all());
}

#[test]
fn grants_are_numbered_shown_and_taken_back_one_by_one_or_all_of_a_user_at_once() {
    let (owner, publisher, stream) = owner_and_publisher();
    for more in [&["--for", "30d"][..], &["--from", "60d", "--for", "30d"]] {
        issue(&owner, &stream, SOMEBODY, more).ok();
    }
    let other = publisher.address();
    let third = issue(&owner, &stream, &other, &["--json"]).json();
    assert_eq!((&third["serial"], &third["until"], &third["state"]), (&3.into(), &Value::Null, &"active".into()));
    let shown = |more: &[&str]| owner.run(&[&["grant", "show", &stream, "--json"], more].concat()).json();
    let states = |shown: Value| -> Vec<(u64, String)> {
        let of = |grant: &Value| (grant["serial"].as_u64().unwrap(), grant["state"].as_str().unwrap().into());
        shown["grants"].as_array().unwrap().iter().map(of).collect()
    };
    let expected = |all: [(u64, &str); 3]| all.map(|(serial, state)| (serial, state.to_owned()));
    assert_eq!(states(shown(&[])), expected([(1, "active"), (2, "not_yet"), (3, "active")]));
    owner.run(&["grant", "revoke", &stream, "--serial", "2"]).ok();
    assert_eq!(states(shown(&[])), expected([(1, "active"), (2, "revoked"), (3, "active")]));
    owner.run(&[&["stream", "revoke", &stream, SOMEBODY][..], &SIGNED].concat()).ok();
    assert_eq!(states(shown(&[])), expected([(1, "revoked"), (2, "revoked"), (3, "active")]));
    assert_eq!(states(shown(&["--user", &other])).len(), 1);
    let lines = owner.run(&["grant", "show", &stream, "--lines"]).ok();
    assert_eq!(lines.lines().count(), 2, "the record, and the one that is not over: {lines}");

    // Whoever has a line can look at it, without a data folder.
    let of_a_line = Home::empty().run(&["grant", "show", third["grant"].as_str().unwrap()]).ok();
    assert!(of_a_line.contains(&format!("{other} may subscribe on {stream} from now on")), "{of_a_line}");
    owner.run(&["grant", "revoke", &stream, "--serial", "9"]).failed(1, &["no such grant", "grant show"]);
    let one_of_two = ["stream", "revoke", &stream, SOMEBODY, "--permission", "publish"];
    owner.run(&[&one_of_two[..], &SIGNED].concat()).failed(2, &["all at once", "--serial"]);
}

#[test]
fn lines_that_do_not_count_are_refused_with_the_reason_and_what_to_do() {
    let (owner, publisher, stream) = owner_and_publisher();
    let stranger = Home::new();
    issue(&stranger, &stream, SOMEBODY, &[]).failed(1, &["whose owner is", "ask the stream's owner"]);
    issue(&owner, &format!("{}/other", owner.address()), SOMEBODY, &[]).failed(1, &["no record", "--registry grants"]);
    issue(&owner, "alice.eth/prices", SOMEBODY, &[]).failed(1, &["ENS name"]);
    issue(&owner, &stream, SOMEBODY, &["--until", "2020-01-01T00:00:00Z"]).failed(2, &["in the past", "--until"]);
    issue(&owner, &stream, SOMEBODY, &["--from", "2h", "--until", "1h"]).failed(2, &["before it starts"]);

    let ends = issue(&owner, &stream, SOMEBODY, &["--for", "1s", "--json"]).json();
    let (good, end) = (ends["grant"].as_str().unwrap(), ends["until"].as_u64().unwrap());
    let import = |line: &str| publisher.run_with(&["grant", "import"], line.as_bytes());
    for (line, says) in [
        ("", "there is no line"),
        ("veilcast-grant-1:zz", "line 1: this is no grant"),
        ("veilcast-grant-2:0801", "line 1: this is no grant"),
        (&good[..good.len() - 2], "line 1"),
        (&good.replace("grant-1", "record-1"), "line 1: this is no grant"),
    ] {
        import(line).failed(2, &[says]);
    }
    let mut damaged = good.to_owned();
    // A digit of the signature, which comes last.
    let last = if damaged.pop() == Some('0') { '1' } else { '0' };
    damaged.push(last);
    let refused = import(&damaged);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{refused:#?}");

    let over = UNIX_EPOCH + Duration::from_secs(end / 1000 + 1) + Duration::from_millis(50);
    std::thread::sleep(over.duration_since(SystemTime::now()).unwrap_or_default());
    import(good).failed(1, &["line 1: the grant ended", "another one"]);
    assert_eq!(subscribers(&publisher, &stream), [] as [Value; 0], "nothing was taken in");
}

#[test]
fn a_signed_stream_is_made_once_set_up_anew_and_shown() {
    let (owner, publisher, stream) = owner_and_publisher();
    let with = |args: &[&str]| owner.run(&[args, &SIGNED].concat());
    with(&["stream", "create", "prices", "--partitions", "2"]).failed(1, &["exists already with other settings"]);
    let shown = || with(&["stream", "show", &stream, "--json"]).json();
    assert_eq!((&shown()["version"], &shown()["publishers"]), (&1.into(), &json!([publisher.address()])));
    with(&["stream", "set", &stream, "--public", "--publisher", SOMEBODY, "--no-publisher", &publisher.address()]).ok();
    let now = shown();
    assert_eq!((&now["version"], &now["public"], &now["publishers"]), (&2.into(), &true.into(), &json!([SOMEBODY])));
    with(&["stream", "set", &stream, "--private"]).ok();
    assert_eq!((&shown()["version"], &shown()["public"]), (&3.into(), &false.into()));
    assert!(with(&["stream", "show"]).ok().contains(&stream));
    owner.run(&["stream", "show", &stream]).failed(1, &["there is no stream", "--registry grants"]);
    publisher.run(&[&["stream", "set", &stream, "--public"][..], &SIGNED].concat()).failed(1, &["whose owner is"]);
}

#[test]
fn the_registry_is_named_by_option_or_environment_and_another_name_is_wrong_usage() {
    let (owner, _publisher, stream) = owner_and_publisher();
    let mut by_environment = owner.command(&["stream", "show", &stream]);
    by_environment.env("VEILCAST_REGISTRY", "grants");
    common::run_with(by_environment, b"").ok();
    owner.run(&["stream", "show", &stream, "--registry", "nothing"]).failed(2, &["local or grants"]);
}

#[test]
fn a_publishers_own_lists_narrow_whom_it_serves_and_are_shown_and_cleared() {
    let (_relay_home, _relay, at) = node();
    let (seller, buyer, stream) = common::seller_and_buyer();
    let access = |args: &[&str]| seller.run(&[&["access"], args].concat());
    let status = || {
        let json = seller.run(&["stream", "subscribers", &stream, "--json"]).json();
        json["subscribers"][0]["status"].clone()
    };
    access(&["deny", &stream, &buyer.address()]).ok();
    assert_eq!(status(), "denied");
    let mut reading = subscribed(&buyer, &stream, &at, &[]);
    let selling = publishing(&seller, &stream, &at, b"kept back\n", &[]);
    assert_eq!(reading.wait(), Some(3), "{:#?}", reading.stderr.all());
    end(selling);
    assert!(reading.stderr.until_end().join("\n").contains("policy"), "{:#?}", reading.stderr.all());

    access(&["allow", &stream, SOMEBODY]).ok();
    access(&["clear", &stream, &buyer.address()]).ok();
    assert_eq!(status(), "denied", "others are allowed by name");
    let shown = access(&["show", &stream, "--json"]).json();
    assert_eq!(shown["only_allowed"], true);
    assert_eq!(shown["users"], json!([{ "user": SOMEBODY, "rule": "allow" }]));
    access(&["clear", &stream]).ok();
    assert_eq!(status(), "active");
    assert!(access(&["show", &stream]).ok().contains("the registry alone decides"));
    access(&["clear", &stream, SOMEBODY]).failed(1, &["on no list", "access show"]);
    access(&["deny", &stream, &seller.address()]).failed(1, &["always let in"]);

    let reading = subscribed(&buyer, &stream, &at, &[]);
    let selling = publishing(&seller, &stream, &at, b"handed out\n", &[]);
    reading.stdout.wait_for("handed out");
    end(selling);
    end(reading);
}

#[test]
fn subscribers_are_a_table_of_who_since_until_last_key_and_status() {
    let home = Home::new();
    let stream = home.stream("prices");
    let table = || home.run(&["stream", "subscribers", &stream]).ok();
    assert!(table().contains("no subscribers yet"));
    home.run(&["stream", "grant", &stream, SOMEBODY, "--until", "2099-01-01T00:00:00Z"]).ok();
    let text = table();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0].split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect::<Vec<_>>(),
        ["who", "since", "until", "last key", "status"]
    );
    assert!(lines[1].starts_with(SOMEBODY) && lines[1].contains("2099-01-01T00:00:00Z  -         active"), "{text}");
    assert_eq!((lines.len(), lines[0].find("until")), (2, lines[1].find("2099")));
    let other = format!("{}/other", home.address());
    home.run(&["stream", "subscribers", &other]).failed(1, &["there is no stream"]);
}

#[test]
fn what_is_taken_back_and_announced_reaches_a_publisher_that_runs_though_nobody_tells_it() {
    let (_relay_home, _relay, at) = node();
    let (owner, publisher, stream) = owner_and_publisher();
    let buyer = Home::new();
    let lines = issue(&owner, &stream, &buyer.address(), &["--for", "30d"]).ok();
    buyer.run_with(&["grant", "import"], lines.as_bytes()).ok();
    let mut reading = subscribed(&buyer, &stream, &at, &SIGNED);
    let args = [&["publish", &stream, "--bootstrap", &at, "--listen", LOCAL, "-v"][..], &SIGNED].concat();
    let mut publishing = publisher.start(&args);
    let mut stdin = publishing.stdin.take().unwrap();
    stdin.write_all(b"sold\n").unwrap();
    reading.stdout.wait_for("sold");

    owner.run(&["grant", "revoke", &stream, &buyer.address()]).ok();
    let announced = owner.run(&["grant", "announce", "--bootstrap", &at, "--listen", LOCAL, "--json"]).json();
    let [one] = &announced["announced"].as_array().unwrap()[..] else { panic!("{announced}") };
    assert_eq!((&one["id"], &one["version"]), (&stream.as_str().into(), &2.into()));
    assert!(one["peers"].as_u64() > Some(0), "{announced}");
    publishing.stderr.wait_for("a grant ended: rekeyed");
    stdin.write_all(b"not sold\n").unwrap();
    let refused = reading.stderr.wait_for("expired");
    assert!(!refused.contains("denied"), "{refused}");
    drop(stdin);
    assert_eq!(publishing.wait(), Some(0), "{:#?}", publishing.stderr.all());
    reading.interrupt();
    reading.wait();
    assert_eq!(reading.stdout.until_end(), ["sold"]);
    publisher
        .run(&["grant", "announce", &stream, "--bootstrap", &at, "--listen", LOCAL])
        .failed(1, &["whose owner is"]);
}

#[test]
fn a_stream_of_an_ens_name_is_an_error_where_no_contract_is_asked() {
    let home = Home::new();
    let stream = "nobody.eth/prices";
    for registry in ["local", "grants"] {
        let run = |args: &[&str]| home.run(&[args, &["--registry", registry]].concat());
        run(&["subscribe", stream, "--listen", LOCAL]).failed(1, &["no stream", "ENS name", "--registry polygon"]);
        run(&["resend", stream, "--last", "1", "--listen", LOCAL]).failed(1, &["no stream", "ENS name"]);
        run(&["publish", stream, "--listen", LOCAL]).failed(3, &["may not publish", stream]);
        let granted = run(&["stream", "grant", stream, SOMEBODY]);
        assert!(granted.code == Some(1) && granted.stderr.contains(stream), "{granted:#?}");
    }
    home.run(&["grant", "issue", stream, SOMEBODY]).failed(1, &["ENS name"]);
}

#[test]
fn a_stream_record_that_is_nearly_full_of_what_was_taken_back_says_so() {
    let owner = Home::new();
    let stream = owner.run(&["stream", "create", "prices", "--registry", "grants"]).ok();
    let id: StreamId = stream.parse().unwrap();
    {
        // What so many commands would have done, in one process.
        let password = std::fs::read_to_string(owner.path().join("store.key")).unwrap();
        let identity = Identity::load_keystore(&owner.path().join("identity.json"), password.trim_end()).unwrap();
        let unlock = Unlock::KeyFile(owner.path().join("store.key"));
        let store = Arc::new(SledKeyStore::open(&owner.path().join("store"), &unlock).unwrap());
        let issuer = Issuer::new(identity, Arc::new(SignedGrants::new(store)));
        for n in 0..199u8 {
            let (user, now) = (UserId::from_bytes([n + 1; 20]), SystemClock.now());
            issuer.issue(&id, user, Permission::Subscribe, Period::ALWAYS, now).unwrap();
            if n < 198 {
                issuer.revoke_user(&id, user, now).unwrap();
            }
        }
    }
    let revoke = |user: &str| owner.run(&["grant", "revoke", &stream, user]);
    let before = revoke(&UserId::from_bytes([199; 20]).to_string());
    assert!(before.code == Some(0) && !before.stderr.contains("places"), "{before:#?}");
    issue(&owner, &stream, SOMEBODY, &["--for", "30d"]).ok();
    let said = revoke(SOMEBODY);
    assert!(said.stderr.contains("200 of the 256 places") && said.stderr.contains("--for"), "{said:#?}");
    assert!(said.ok().starts_with("veilcast-record-1:"));
}
