//! Every example runs to its end and says what it promises.

#[path = "../../sdk/tests/chain/anvil.rs"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "this test uses some of it")]
mod anvil;

use std::process::Command;

use anvil::Chain;
use veilcast::{Identity, UserId};

fn run(path: &str) -> String {
    run_with(path, &mut Command::new(path))
}

fn run_with(path: &str, command: &mut Command) -> String {
    let output = command.output().expect("the example was built");
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{path} failed: {text}{errors}");
    text.into_owned()
}

#[test]
fn first_stream_is_read_by_who_was_granted_it_and_tells_the_other_why_not() {
    let text = run(env!("CARGO_BIN_EXE_first_stream"));
    assert!(text.contains("the buyer reads 64000"), "{text}");
    assert!(text.contains("a stranger gets no key: denied"), "{text}");
}

#[test]
fn timed_subscription_ends_with_its_time_and_nobody_else_notices() {
    assert!(run(env!("CARGO_BIN_EXE_timed_subscription")).contains("then: expired"));
}

#[tokio::test]
async fn timed_subscription_on_a_chain_ends_with_its_time_and_nobody_else_notices() {
    let (chain, key) = (Chain::start_now().await, [0x5a; 32]);
    let seller = Identity::from_secret_bytes(&key).expect("a secret key");
    chain.give(seller.user(), 1_000_000_000_000_000_000).await;
    chain.rpc("evm_setIntervalMining", serde_json::json!([1])).await;
    let path = env!("CARGO_BIN_EXE_timed_subscription");
    let mut command = Command::new(path);
    command.args([&UserId::from_bytes(chain.contract.0).to_string(), &chain.url]).env("SELLER_KEY", hex::encode(key));
    let text = run_with(path, &mut command);
    assert!(text.contains("seller: at most") && text.contains("then: expired"), "{text}");
}

#[test]
fn historical_keys_open_what_the_window_of_a_month_allows_and_open_it_again_without_the_publisher() {
    let text = run(env!("CARGO_BIN_EXE_historical_keys"));
    assert!(text.contains("108 messages of 30 days are stored, sealed under 27 keys"), "{text}");
    assert!(text.contains("denied") && text.contains("  days 00 to 01: refused by policy, 4 messages"), "{text}");
    assert!(!text.contains("day 21") && text.contains("day 23, 00:00") && text.contains("day 29, 18:00"), "{text}");
    assert!(text.contains("the publisher is gone") && text.contains("0 key requests sent"), "{text}");
}

#[test]
fn pre_agreed_keys_need_no_key_request_and_a_ring_changes_over() {
    let text = run(env!("CARGO_BIN_EXE_pre_agreed_keys"));
    assert!(text.contains("key requests of the partner: 0"), "{text}");
    assert!(text.contains("under hall-1: 21 degrees") && text.contains("under hall-2: 22 degrees"), "{text}");
}
