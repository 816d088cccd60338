//! The audit log from the command line: what real processes gave and refused, checked, exported, and tampered with.
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod common;

use common::{Home, LOCAL, node, seller_and_buyer, subscribed};
use serde_json::Value;
use veilcast::key_store::{RecordStore, SledKeyStore, Unlock};

/// A seller whose three keys were given to a buyer, in one answer or more, and refused to two strangers, and who has stopped.
struct Audited {
    seller: Home,
    buyer: Home,
    stranger: Home,
    stream: String,
}

fn audited() -> Audited {
    let (_relay_home, _relay, at) = node();
    let (seller, buyer, stream) = seller_and_buyer();
    let stranger = Home::new();
    let reading = subscribed(&buyer, &stream, &at, &[]);
    let file = seller.file("lines", b"one\ntwo\nthree\n");
    let network = ["--bootstrap", &at, "--listen", LOCAL];
    let args = [&["publish", &stream, "--rekey-every", "1", "--stay"][..], &network].concat();
    let mut publisher = seller.start_with_file(&args, &file);
    reading.stdout.wait_for("three");
    for home in [&stranger, &Home::new()] {
        home.run(&[&["key", "fetch", &stream][..], &network].concat()).failed(3, &["denied"]);
    }
    publisher.interrupt();
    assert_eq!(publisher.wait(), Some(0));
    Audited { seller, buyer, stranger, stream }
}

fn lines(export: &str) -> Vec<Value> {
    export.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_was_given_and_refused_is_exported_checked_and_compared_with_a_head_that_was_kept() {
    let Audited { seller, buyer, stranger, stream } = audited();
    let export = seller.run(&["audit", "export"]).ok();
    let all = lines(&export);
    let (head, entries) = all.split_first().unwrap();
    assert_eq!((&head["publisher"], &head["sequence"]), (&seller.address().into(), &entries.len().into()));
    let of = |who: &Home, what: &str| -> Vec<Value> {
        let (user, mut found) = (Value::from(who.address()), entries.to_vec());
        found.retain(|entry| entry["user"] == user && entry["what"] == what);
        found
    };
    let given = of(&buyer, "given");
    let keys: Vec<_> = given.iter().flat_map(|entry| entry["keys"].as_array().unwrap()).collect();
    assert!(keys.len() >= 3, "{export}");
    assert!(given.iter().all(|entry| entry["grant"]["end"].is_u64() && entry["stream"] == stream.as_str()), "{export}");
    let listed = seller.run(&["key", "list", &stream, "--json"]).json();
    let made: Vec<_> = listed["keys"].as_array().unwrap().iter().map(|key| &key["key_id"]).collect();
    assert!(keys.iter().all(|key| made.contains(key)), "{made:?} {export}");
    let refused = of(&stranger, "refused");
    assert_eq!((refused.len(), &refused[0]["refusal"]["reason"]), (1, &"denied".into()), "{export}");
    assert_eq!(refused[0]["by"], "span");

    let report = seller.run(&["audit", "verify", "--json", "--stream", &stream]).json();
    assert_eq!((&report["whole"], &report["entries"]), (&true.into(), &entries.len().into()));
    assert!(report["keys_given"].as_u64() >= Some(3) && report["keys_refused"] == 2, "{report}");
    let elsewhere = format!("{}/other", seller.address());
    let report = seller.run(&["audit", "verify", "--json", "--stream", &elsewhere]).json();
    assert_eq!((&report["keys_given"], &report["keys_refused"]), (&0.into(), &0.into()));

    // A head as text, as JSON, and the first line of an export.
    let text = seller.run(&["audit", "head"]).ok();
    assert_eq!(seller.run(&["audit", "head", "--json"]).json(), *head);
    for kept in [text, head.to_string(), export.clone()] {
        let kept = seller.file("kept", kept.as_bytes());
        let said = seller.run(&["audit", "verify", "--since-head", kept.to_str().unwrap()]).ok();
        assert!(said.contains("is whole"), "{said}");
    }
    // An export is checked by anybody, without a data folder.
    let nobody = Home::empty();
    let whole = nobody.file("whole", export.as_bytes());
    let said = nobody.run(&["audit", "verify", "--export", whole.to_str().unwrap()]).ok();
    assert!(said.contains("is whole"), "{said}");

    let csv = seller.run(&["audit", "export", "--format", "csv", "--stream", &stream]).ok();
    assert!(csv.starts_with("sequence,at,what,stream,user,keys"), "{csv}");
    assert_eq!(csv.lines().count(), entries.len() + 1);
    assert!(csv.contains(&buyer.address()) && csv.contains(",denied,"), "{csv}");
    assert_eq!(lines(&seller.run(&["audit", "export", "--to", "1h"]).ok()).len(), 1, "nothing happened before");
    assert_eq!(lines(&seller.run(&["audit", "export", "--from", "1h"]).ok()), all);
}

/// Writes something else into the record of the log's first page, or takes it out.
fn tamper(home: &Home, change: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>) {
    let unlock = Unlock::KeyFile(home.path().join("store.key"));
    let store = SledKeyStore::open(&home.path().join("store"), &unlock).unwrap();
    let (place, page) = store.scan("audit", b"e", None, 1).unwrap().pop().unwrap();
    store.write("audit", &[(place, change(page))]).unwrap();
}

#[test]
fn a_tampered_store_or_export_is_refused_with_exit_code_1_and_the_number_of_its_first_bad_entry() {
    let Audited { seller, stream, .. } = audited();
    let export = seller.run(&["audit", "export"]).ok();
    let rows: Vec<&str> = export.lines().collect();
    assert!(rows.len() > 3, "{export}");
    let check = |rows: &[&str]| {
        let file = seller.file("export", (rows.join("\n") + "\n").as_bytes());
        seller.run(&["audit", "verify", "--export", file.to_str().unwrap()])
    };
    check(&rows).ok();
    check(&[&rows[..2], &rows[3..]].concat()).failed(1, &["entry 2 is missing: entry 3 stands in its place"]);
    check(&[rows[0], rows[2], rows[1]]).failed(1, &["entry 1 is missing: entry 2"]);
    check(&rows[..rows.len() - 1]).failed(1, &[&format!("entry {} is missing", rows.len() - 1), "cut off"]);
    check(&[&rows[..], &rows[1..2]].concat()).failed(1, &["is missing: entry 1"]);
    let mut row: Value = serde_json::from_str(rows[1]).unwrap();
    let content = row["content"].as_str().unwrap();
    // The last bytes are the fingerprint of the public key.
    let altered = format!("{}{}", &content[..content.len() - 2], if content.ends_with("00") { "01" } else { "00" });
    row["content"] = altered.into();
    let row = row.to_string();
    check(&[&[rows[0], &row], &rows[2..]].concat()).failed(1, &["entry 1 was altered"]);
    check(&[rows[0], "{}"]).failed(1, &["line 2", "no entry"]);
    // What stands beside the signed bytes, for people to read, is held against them as well.
    let falsified = |line: usize, field: &str, value: Value| {
        let mut row: Value = serde_json::from_str(rows[line]).unwrap();
        row[field] = value;
        let row = row.to_string();
        check(&[&rows[..line], &[&row], &rows[line + 1..]].concat())
    };
    let entry: Value = serde_json::from_str(rows[2]).unwrap();
    for field in entry.as_object().unwrap().keys().filter(|field| !["content", "hash"].contains(&field.as_str())) {
        falsified(2, field, "falsified".into()).failed(1, &["entry 2 was altered", &format!("{field:?}")]);
    }
    falsified(2, "note", "added".into()).failed(1, &["entry 2 was altered", "\"note\""]);
    for field in ["publisher", "log", "at", "sequence", "hash", "pruned"] {
        falsified(0, field, 7.into()).failed(1, &["the head in", "was altered", &format!("{field:?}")]);
    }
    let bare = |line: &&str| -> String {
        let row: Value = serde_json::from_str(line).unwrap();
        serde_json::json!({ "content": row["content"], "hash": row["hash"] }).to_string()
    };
    let bare: Vec<String> = rows[1..].iter().map(bare).collect();
    check(&[&rows[..1], &bare.iter().map(String::as_str).collect::<Vec<_>>()].concat()).ok();
    check(&rows[1..]).failed(1, &["begins with no head"]);
    let part = seller.run(&["audit", "export", "--stream", &format!("{stream}2")]).ok();
    check(&part.lines().collect::<Vec<_>>()).failed(1, &["entry 1 is missing"]);

    let kept = seller.file("kept", seller.run(&["audit", "head"]).ok().as_bytes());
    let mut whole = Vec::new();
    tamper(&seller, |mut page| {
        whole = page.clone();
        // Within the hash of the first entry.
        page[12] ^= 1;
        Some(page)
    });
    for command in [&["audit", "verify"][..], &["audit", "export"]] {
        seller.run(command).failed(1, &["entry 1 was altered", "keep the data folder as it is"]);
    }
    tamper(&seller, |_| Some(whole));
    seller.run(&["audit", "verify", "--since-head", kept.to_str().unwrap()]).ok();
    tamper(&seller, |_| None);
    seller.run(&["audit", "verify"]).failed(1, &["is missing"]);

    seller.run(&["audit", "begin-anew"]).failed(2, &["--yes"]);
    seller.run(&["audit", "begin-anew", "--yes"]).ok();
    assert_eq!(seller.run(&["audit", "verify"]).ok(), "there is no audit log yet");
    seller.run(&["audit", "verify", "--since-head", kept.to_str().unwrap()]).failed(1, &["entry 1 is missing"]);
}

#[test]
fn where_nothing_was_given_there_is_no_log_and_a_head_that_is_none_is_said_so() {
    let home = Home::new();
    assert_eq!(home.run(&["audit", "verify"]).ok(), "there is no audit log yet");
    home.run(&["audit", "head"]).failed(1, &["there is no audit log"]);
    home.run(&["audit", "export"]).failed(1, &["there is no audit log"]);
    let file = home.file("kept", b"no head\n");
    home.run(&["audit", "verify", "--since-head", file.to_str().unwrap()]).failed(1, &["begins with no head"]);
    home.run(&["audit", "verify", "--since-head", "nowhere"]).failed(1, &["cannot read nowhere"]);
    home.run(&["audit", "export", "--format", "xml"]).failed(2, &["--format"]);
}
