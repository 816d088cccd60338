//! Every example runs to its end and says what it promises.

use std::process::Command;

fn run(path: &str) -> String {
    let output = Command::new(path).output().expect("the example was built");
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{path} failed: {text}{errors}");
    text.into_owned()
}

#[test]
fn timed_subscription_ends_with_its_time_and_nobody_else_notices() {
    assert!(run(env!("CARGO_BIN_EXE_timed_subscription")).contains("then: expired"));
}

#[test]
fn historical_keys_open_an_archive_for_a_late_buyer_and_not_for_a_stranger() {
    let text = run(env!("CARGO_BIN_EXE_historical_keys"));
    assert!(text.contains("day 0: 10 degrees") && text.contains("day 4: 14 degrees"), "{text}");
    assert!(text.contains("denied"), "{text}");
}

#[test]
fn pre_agreed_keys_need_no_key_request_and_a_ring_changes_over() {
    let text = run(env!("CARGO_BIN_EXE_pre_agreed_keys"));
    assert!(text.contains("key requests of the partner: 0"), "{text}");
    assert!(text.contains("under hall-1: 21 degrees") && text.contains("under hall-2: 22 degrees"), "{text}");
}
