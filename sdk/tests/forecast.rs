//! What a key change would do is told before it is done, and is what it then does.

#![cfg(feature = "p2p")]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod support;

use std::sync::Arc;

use support::*;
use veilcast::client::{Client, ClientError, KeyUpdateMethod, StreamOptions};
use veilcast::key_store::MemoryKeyStore;
use veilcast::{Period, Permission, StreamId};

/// A publisher whose keys change by hand only.
async fn publisher(net: &Net, options: StreamOptions) -> (Client, StreamId) {
    let mut by_hand = config();
    by_hand.rekey_on_end = false;
    let publisher = net.client_with(1, Arc::new(MemoryKeyStore::default()), by_hand).await;
    let stream = publisher.create_stream("s", options).await.unwrap();
    (publisher, stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rekey_gives_and_keeps_the_key_as_it_was_forecast() {
    let net = Net::start().await;
    let (publisher, stream) = publisher(&net, StreamOptions::default()).await;
    assert!(within(publisher.forecast_update(&stream)).await.unwrap().is_first);

    let (stays, mut first) = net.granted_reader(2, &publisher, &stream).await;
    let (leaves, mut second) = net.granted_reader(3, &publisher, &stream).await;
    let comes = identity(4).user();
    publisher.grant(&stream, comes, Permission::Subscribe, Period::ALWAYS).await.unwrap();
    net.ready(&publisher, &stream, 2).await;
    say(&publisher, &stream, "a").await;
    assert_eq!((next_text(&mut first).await, next_text(&mut second).await), ("a".into(), "a".into()));

    let mut both = vec![stays.user(), leaves.user()];
    both.sort_unstable();
    let whole = within(publisher.forecast_update(&stream)).await.unwrap();
    assert_eq!((whole.reads_on, whole.will_ask, whole.is_first), (both, vec![comes], false));
    assert!(whole.shut_out.is_empty() && whole.ended.is_empty() && !whole.in_plaintext);

    publisher.revoke(&stream, leaves.user(), Permission::Subscribe).await.unwrap();
    let forecast = within(publisher.forecast_update(&stream)).await.unwrap();
    assert_eq!((&forecast.reads_on, &forecast.ended), (&vec![stays.user()], &vec![leaves.user()]));
    let rotated = within(publisher.update_encryption_key(&stream, KeyUpdateMethod::Rotate, None)).await;
    assert!(matches!(rotated, Err(ClientError::GrantEnded { ended }) if ended == forecast.ended));

    let report = within(publisher.update_encryption_key(&stream, KeyUpdateMethod::Rekey, None)).await.unwrap();
    let mut given = [report.pushed, report.must_pull].concat();
    given.sort_unstable();
    assert_eq!((given, report.refused), (forecast.reads_on, forecast.shut_out));
    // Who was shut out is a holder no more, and stands in the way of no rotate.
    let after = within(publisher.forecast_update(&stream)).await.unwrap();
    assert!(after.shut_out.is_empty() && after.ended.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forecast_changes_no_key_and_fails_where_the_change_would() {
    let net = Net::start().await;
    let (publisher, stream) = publisher(&net, StreamOptions { public: true, ..StreamOptions::default() }).await;
    assert!(within(publisher.forecast_update(&stream)).await.unwrap().in_plaintext);
    let stats = publisher.stats();
    assert_eq!((stats.keys_rekeyed, stats.keys_rotated), (0, 0));

    let elsewhere = StreamId::of(identity(9).user(), "s").unwrap();
    let refused = within(publisher.forecast_update(&elsewhere)).await;
    assert!(matches!(refused, Err(ClientError::NotPermitted { permission: Permission::Publish, .. })));
}
