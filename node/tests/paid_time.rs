//! Paid time that ends while publisher and subscriber run.

#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod common;

use std::io::Write;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{Home, LOCAL, node, subscribed};

/// Waits for the second after the last one paid for.
fn wait_until_over(end_ms: u64) {
    let over = UNIX_EPOCH + Duration::from_secs(end_ms / 1000 + 1) + Duration::from_millis(50);
    std::thread::sleep(over.duration_since(SystemTime::now()).unwrap_or_default());
}

#[test]
fn a_subscriber_whose_time_ends_is_cut_off_with_the_reason_and_the_publisher_rekeys_instead_of_rotating() {
    let (_relay_home, _relay, at) = node();
    let (seller, buyer) = (Home::new(), Home::new());
    let stream = seller.stream("prices");
    let began = Instant::now();
    let mut reading = subscribed(&buyer, &stream, &at, &["--json"]);
    // Long enough for a process to start and to be asked for a key, many times over, also where all of that is slow.
    let lasting = format!("{}s", 5 + 10 * began.elapsed().as_secs());
    let grant = seller.run(&["stream", "grant", &stream, &buyer.address(), "--for", &lasting, "--json"]).json();
    let args = ["publish", &stream, "--bootstrap", &at, "--listen", LOCAL, "--rotate-every", "1", "-v"];
    let mut publishing = seller.start(&args);
    let mut stdin = publishing.stdin.take().unwrap();
    stdin.write_all(b"paid for\n").unwrap();
    reading.stdout.wait_for("paid for");

    wait_until_over(grant["until"].as_u64().unwrap());
    stdin.write_all(b"too late\nmuch too late\n").unwrap();
    publishing.stderr.wait_for("rekeying instead of rotating");
    let refused = reading.stderr.wait_for("key_refused");
    assert!(refused.contains("expired"), "{refused}");
    drop(stdin);
    assert_eq!(publishing.wait(), Some(0), "{:#?}", publishing.stderr.all());
    reading.interrupt();
    assert_eq!(reading.wait(), Some(0), "{:#?}", reading.stderr.all());
    // Whether the second one was there by then or not.
    let all = reading.stderr.wait_for("unread_in_all");
    assert!(all.contains("\"messages\":1") || all.contains("\"messages\":2"), "{all}");
    let read = reading.stdout.until_end();
    assert!(read.len() == 1 && read[0].contains("paid for"), "{read:#?}");
}
