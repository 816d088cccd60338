//! Node, publisher and subscriber as separate processes.
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod common;

use common::{Home, LOCAL, end, node, publishing, seller_and_buyer, subscribed};
use serde_json::Value;

/// Lines of every kind: JSON with digits that a parser would lose, text, other scripts, empty ones.
fn ten_thousand_lines() -> String {
    let line = |n: u32| match n % 5 {
        0 => format!("{{\"n\": {n}, \"price\": {}.10, \"big\": 12345678901234567890{n}}}", n % 97),
        1 => format!("plain text, line {n}, with  two spaces and a tab\t."),
        2 => format!("[{n}, \"{}\"]", "x".repeat((n % 300) as usize)),
        3 => format!("línea {n} — строка — 行"),
        _ => String::new(),
    };
    (0..10_000).map(|n| line(n) + "\n").collect()
}

#[test]
fn ten_thousand_lines_of_a_file_pass_three_processes_unchanged_and_in_order_while_keys_change() {
    let (_relay_home, _relay, at) = node();
    let (seller, buyer, stream) = seller_and_buyer();
    let content = ten_thousand_lines();
    let file = seller.file("lines.txt", content.as_bytes());
    let mut reading = subscribed(&buyer, &stream, &at, &["--count", "10000"]);
    let changes = ["--rotate-every", "1000", "--rekey-every", "3000"];
    // It stays: a slow reader must find it there for the keys that it asks for.
    let args = ["publish", &stream, "--bootstrap", &at, "--listen", LOCAL, "--stay", "--json"];
    let publishing = seller.start_with_file(&[&args[..], &changes].concat(), &file);
    assert_eq!(reading.wait(), Some(0), "{:#?}", reading.stderr.all());
    let said = end(publishing);

    let read = reading.stdout.until_end();
    let different = read.iter().zip(content.lines()).position(|(read, sent)| read != sent);
    assert_eq!((read.len(), different), (10_000, None));
    let sent: Value = serde_json::from_str(&said[0]).unwrap();
    assert_eq!(sent["published"], 10_000);
    let keys = buyer.run(&["key", "list", "--json"]).json();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 11, "the first, seven rotated, three rekeyed");
    assert_eq!((&sent["keys_rotated"], &sent["keys_rekeyed"]), (&7.into(), &3.into()));

    // Nothing runs any more, and the seller's folder still tells who holds keys.
    let shown = seller.run(&["stream", "show", &stream, "--json"]).json();
    let [holder] = &shown["holders"].as_array().unwrap()[..] else { panic!("{shown}") };
    assert_eq!(holder["user"], buyer.address());
    assert!(keys["keys"].as_array().unwrap().iter().any(|key| key["key_id"] == holder["newest_key"]), "{shown} {keys}");
    let text = seller.run(&["stream", "show", &stream]).ok();
    assert!(text.contains(&format!("{}  holds keys up to", buyer.address())), "{text}");
}

#[test]
fn a_subscriber_sees_bytes_of_any_kind_as_they_were() {
    let (_relay_home, _relay, at) = node();
    let (seller, buyer, stream) = seller_and_buyer();
    let mut reading = subscribed(&buyer, &stream, &at, &["--count", "4", "--json"]);
    let input = b"{\"b\":1.10,\"a\":2}\nplain \"text\"\n\xff\xfe\nlast";
    let selling = publishing(&seller, &stream, &at, input, &[]);
    assert_eq!(reading.wait(), Some(0), "{:#?}", reading.stderr.all());
    end(selling);
    let lines = reading.stdout.until_end();
    assert!(lines[0].contains(r#""payload":{"b":1.10,"a":2}"#), "{}", lines[0]);
    let parsed: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = parsed.iter().map(|line| (line["content_type"].as_str(), line["payload"].as_str())).collect();
    assert_eq!(
        kinds[1..],
        [(Some("text"), Some("plain \"text\"")), (Some("binary"), Some("fffe")), (Some("text"), Some("last"))]
    );
    for line in &parsed {
        assert_eq!((&line["stream"], &line["publisher"]), (&stream.as_str().into(), &seller.address().into()));
        assert!(line["timestamp"].is_u64() && line["sequence"].is_u64() && line["key_id"].is_string(), "{line}");
    }
}

#[test]
fn a_subscriber_without_a_grant_is_refused_with_the_reason_and_exit_code_3() {
    let (_relay_home, _relay, at) = node();
    let (seller, stranger) = (Home::new(), Home::new());
    let stream = seller.stream("prices");
    let mut reading = subscribed(&stranger, &stream, &at, &["--json"]);
    let selling = publishing(&seller, &stream, &at, b"secret\n", &[]);
    assert_eq!(reading.wait(), Some(3), "{:#?}", reading.stderr.all());
    end(selling);
    assert_eq!(reading.stdout.until_end(), [""; 0]);
    let events = reading.stderr.until_end();
    let refused: Value =
        serde_json::from_str(events.iter().find(|line| line.contains("key_refused")).unwrap()).unwrap();
    assert_eq!(refused["refusal"]["name"], "denied");
    let told: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert!(told["error"].as_str().unwrap().contains("denied"), "{told}");
    assert!(told["hint"].as_str().unwrap().contains("grant"), "{told}");
}

#[test]
fn a_grant_that_has_not_begun_or_was_revoked_is_told_as_such() {
    let (_relay_home, _relay, at) = node();
    for (change, reason) in [("from", "not yet: the grant begins"), ("revoke", "expired: the grant ended")] {
        let (seller, buyer, stream) = seller_and_buyer();
        seller.run(&["stream", "revoke", &stream, &buyer.address()]).ok();
        if change == "from" {
            seller.run(&["stream", "grant", &stream, &buyer.address(), "--from", "2h"]).ok();
        }
        let mut reading = subscribed(&buyer, &stream, &at, &[]);
        let selling = publishing(&seller, &stream, &at, b"secret\n", &[]);
        assert_eq!(reading.wait(), Some(3), "{:#?}", reading.stderr.all());
        end(selling);
        assert!(reading.stderr.until_end().join("\n").contains(reason), "{:#?}", reading.stderr.all());
    }
}

#[test]
fn a_line_over_the_limit_is_an_error_and_the_lines_before_it_arrive() {
    let (_relay_home, _relay, at) = node();
    let (seller, buyer, stream) = seller_and_buyer();
    let reading = subscribed(&buyer, &stream, &at, &[]);
    let mut input = b"first\n".to_vec();
    input.extend(std::iter::repeat_n(b'x', (1 << 20) + 1));
    input.extend(b"\nnever\n");
    let publish = ["publish", &stream, "--bootstrap", &at, "--listen", LOCAL, "--linger", "60s"];
    seller.run_with(&publish, &input).failed(1, &["line 2", "1048576", "split it"]);
    reading.stdout.wait_for("first");
    reading.interrupt();
    assert_eq!(reading.stdout.until_end(), ["first"]);
}

#[test]
fn a_line_of_exactly_the_limit_passes() {
    let (_relay_home, _relay, at) = node();
    let (seller, buyer, stream) = seller_and_buyer();
    let mut reading = subscribed(&buyer, &stream, &at, &["--count", "1"]);
    let line = vec![b'x'; 1 << 20];
    let selling = publishing(&seller, &stream, &at, &line, &[]);
    assert_eq!(reading.wait(), Some(0), "{:#?}", reading.stderr.all());
    end(selling);
    assert_eq!(reading.stdout.until_end()[0].len(), 1 << 20);
}

#[test]
fn a_subscriber_reads_the_partitions_it_names() {
    let (_relay_home, _relay, at) = node();
    let (seller, buyer) = (Home::new(), Home::new());
    let stream = seller.run(&["stream", "create", "wide", "--partitions", "3"]).ok();
    seller.run(&["stream", "grant", &stream, &buyer.address()]).ok();
    let mut reading = subscribed(&buyer, &stream, &at, &["--partition", "1", "--partition", "2", "--count", "2"]);
    for partition in ["1", "2"] {
        let line = format!("to {partition}\n");
        let selling = publishing(&seller, &stream, &at, line.as_bytes(), &["--partition", partition]);
        reading.stdout.wait_for(line.trim_end());
        end(selling);
    }
    assert_eq!(reading.wait(), Some(0), "{:#?}", reading.stderr.all());
    let mut read = reading.stdout.until_end();
    read.sort();
    assert_eq!(read, ["to 1", "to 2"]);
}

#[test]
fn publisher_and_subscriber_meet_without_a_node_where_the_publisher_listens() {
    let (seller, buyer, stream) = seller_and_buyer();
    let mut publishing = seller.start(&["publish", &stream, "--listen", LOCAL, "--linger", "60s"]);
    let waiting = publishing.stderr.wait_for("waiting for somebody");
    let at = waiting.split(' ').find(|word| word.starts_with("/ip4/127.0.0.1")).unwrap().to_owned();
    let mut reading = buyer.start(&["subscribe", &stream, "--bootstrap", &at, "--listen", LOCAL, "--count", "1"]);
    use std::io::Write;
    publishing.stdin.take().unwrap().write_all(b"direct\n").unwrap();
    assert_eq!(reading.wait(), Some(0), "{:#?}", reading.stderr.all());
    assert_eq!(reading.stdout.until_end(), ["direct"]);
    assert_eq!(publishing.wait(), Some(0));
}
