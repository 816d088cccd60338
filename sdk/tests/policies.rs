//! Keys that change by themselves, between real nodes over loopback TCP.

#![cfg(feature = "p2p")]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::*;
use veilcast::client::{Client, ClientError, KeyUpdateMethod, StreamOptions, Subscription};
use veilcast::key_store::{KeyId, MemoryKeyStore};
use veilcast::publisher::{Every, KeyPolicy};
use veilcast::time::{Clock, ManualClock, SystemClock};
use veilcast::{Delivery, Event, Partition, Payload, Period, Permission, StreamId, Timestamp};

const MINUTE: Duration = Duration::from_secs(60);

fn rotate(every: Every) -> KeyPolicy {
    KeyPolicy { rotate_every: every, ..KeyPolicy::default() }
}

fn rekey(every: Every) -> KeyPolicy {
    KeyPolicy { rekey_every: every, ..KeyPolicy::default() }
}

/// A clock that stands at the beginning of the present second, for messages must be fresh elsewhere too.
fn standing_clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_secs(SystemClock.now().as_secs())))
}

/// Publishes and reads one message; under which key it was.
async fn key_of_next(publisher: &Client, stream: &StreamId, reads: &mut Subscription) -> KeyId {
    say(publisher, stream, "x").await;
    next_message(reads).await.key_id.unwrap()
}

async fn keys_of_next(n: usize, publisher: &Client, stream: &StreamId, reads: &mut Subscription) -> Vec<KeyId> {
    let mut keys = Vec::new();
    for _ in 0..n {
        keys.push(key_of_next(publisher, stream, reads).await);
    }
    keys
}

fn runs(keys: &[KeyId]) -> Vec<usize> {
    keys.chunk_by(|a, b| a == b).map(<[KeyId]>::len).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_after_exactly_n_messages_of_all_partitions_and_every_message_is_read_for_one_request() {
    const N: u64 = 7;
    let net = Net::start().await;
    let publisher = net.client(1).await;
    let options =
        StreamOptions { partitions: 2, key_policy: Some(rotate(Every::messages(N))), ..StreamOptions::default() };
    let stream = publisher.create_stream("s", options).await.unwrap();
    let reader = net.client(2).await;
    publisher.grant(&stream, reader.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    let mut reads = [
        reader.subscribe_part(&stream.part(0).unwrap()).await.unwrap(),
        reader.subscribe_part(&stream.part(1).unwrap()).await.unwrap(),
    ];
    for part in [0, 1].map(|n| stream.part(n).unwrap()) {
        within(net.relay.wait_for_peers(&part, 1)).await;
        within(publisher.wait_for_peers(&part, 1)).await;
    }
    let mut keys = Vec::new();
    for n in 0..60_u32 {
        let partition = u32::from(n % 3 == 0);
        let sent = publisher.publish_to(&stream, Partition::Number(partition), Payload::text(n.to_string()), None);
        let at = sent.await.unwrap();
        let message = next_message(&mut reads[partition as usize]).await;
        assert_eq!((message.text(), message.at), (Some(n.to_string().as_str()), at));
        keys.push(message.key_id.unwrap());
    }
    assert_eq!(runs(&keys), [7, 7, 7, 7, 7, 7, 7, 7, 4]);
    assert_eq!(reader.stats().key_requests_sent, 1);
    assert_eq!((publisher.stats().keys_rotated, publisher.stats().keys_rekeyed), (8, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_published_all_at_once_keep_to_the_policy_and_none_is_lost() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    publisher.set_key_policy(&stream, rotate(Every::messages(10))).await.unwrap();
    let (_reader, mut reads) = net.granted_reader(2, &publisher, &stream).await;
    net.ready(&publisher, &stream, 1).await;
    let calls = (0..95).map(|n| {
        let (publisher, stream) = (publisher.clone(), stream.clone());
        tokio::spawn(async move { say(&publisher, &stream, &n.to_string()).await })
    });
    let calls: Vec<_> = calls.collect();
    let mut keys = Vec::new();
    for _ in 0..95 {
        keys.push(next_message(&mut reads).await.key_id.unwrap());
    }
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(runs(&keys), [10, 10, 10, 10, 10, 10, 10, 10, 10, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_and_restarted_publisher_goes_on_with_its_policy_and_its_exact_count() {
    let net = Net::start().await;
    let store = Arc::new(MemoryKeyStore::default());
    let publisher = net.client_with(1, store.clone(), config()).await;
    let policy = KeyPolicy { rotate_every: Every::messages(10), rekey_every: Every::messages(20) };
    let options = StreamOptions { key_policy: Some(policy), ..StreamOptions::default() };
    let stream = publisher.create_stream("s", options).await.unwrap();
    let (reader, mut reads) = net.granted_reader(2, &publisher, &stream).await;
    net.ready(&publisher, &stream, 1).await;
    let mut keys = keys_of_next(13, &publisher, &stream, &mut reads).await;
    publisher.stop().await;
    net.peers(1).await;
    assert!(matches!(publisher.set_key_policy(&stream, KeyPolicy::default()).await, Err(ClientError::Stopped)));

    let publisher = net.client_with(1, store, config()).await;
    assert_eq!(publisher.key_policy(&stream).await.unwrap(), policy);
    net.ready(&publisher, &stream, 1).await;
    keys.extend(keys_of_next(14, &publisher, &stream, &mut reads).await);
    assert_eq!(runs(&keys), [10, 10, 7]);
    assert_eq!((publisher.stats().keys_rotated, publisher.stats().keys_rekeyed), (0, 1));
    assert!(reader.stats().key_requests_sent <= 2, "the first key, and the rekeyed one unless it was pushed");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_duration_the_next_message_carries_the_next_key_or_is_under_a_rekeyed_one() {
    let net = Net::start().await;
    let clock = standing_clock();
    let publisher = net.join(net.builder(1).clock(clock.clone())).await;
    let stream = publisher.create_stream("s", StreamOptions::default()).await.unwrap();
    // What is pushed and asked must be fresh on both sides.
    let reader = net.join(net.builder(2).clock(clock.clone())).await;
    publisher.grant(&stream, reader.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    let mut reads = reader.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 1).await;
    publisher.set_key_policy(&stream, rotate(Every::time(MINUTE))).await.unwrap();
    let first = key_of_next(&publisher, &stream, &mut reads).await;
    clock.advance(MINUTE - Duration::from_millis(1));
    assert_eq!(keys_of_next(2, &publisher, &stream, &mut reads).await, [first.clone(), first.clone()]);
    clock.advance(Duration::from_millis(1));
    let keys = keys_of_next(2, &publisher, &stream, &mut reads).await;
    assert!(keys[0] == first && keys[1] != first, "the first message at that moment is the last under the key");

    publisher.set_key_policy(&stream, rekey(Every::time(MINUTE * 2))).await.unwrap();
    clock.advance(MINUTE - Duration::from_millis(1));
    assert_eq!(key_of_next(&publisher, &stream, &mut reads).await, keys[1]);
    clock.advance(Duration::from_millis(1));
    assert_ne!(key_of_next(&publisher, &stream, &mut reads).await, keys[1], "two minutes after the first key");
    assert_eq!((publisher.stats().keys_rotated, publisher.stats().keys_rekeyed), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotate_that_is_due_after_a_grant_ended_is_a_rekey_and_no_error() {
    let net = Net::start().await;
    let mut config = config();
    config.rekey_on_end = false;
    let publisher = net.client_with(1, Arc::new(MemoryKeyStore::default()), config).await;
    let options = StreamOptions { key_policy: Some(rotate(Every::messages(3))), ..StreamOptions::default() };
    let stream = publisher.create_stream("s", options).await.unwrap();
    let (stays, mut reads) = net.granted_reader(2, &publisher, &stream).await;
    let (leaves, mut out) = net.granted_reader(3, &publisher, &stream).await;
    net.ready(&publisher, &stream, 2).await;
    let mut keys = vec![key_of_next(&publisher, &stream, &mut reads).await];
    assert_eq!(next_message(&mut out).await.key_id.as_ref(), keys.last());
    publisher.revoke(&stream, leaves.user(), Permission::Subscribe).await.unwrap();
    keys.extend(keys_of_next(4, &publisher, &stream, &mut reads).await);
    assert_eq!(runs(&keys), [2, 3], "not even the message that would have carried the next key is under the old one");
    assert_eq!((publisher.stats().keys_rotated, publisher.stats().keys_rekeyed), (1, 1));
    assert_eq!(next_message(&mut out).await.key_id, Some(keys[0].clone()));
    let refused = |event: &Event| match event {
        Event::KeyRefused { key_id, .. } => Some(key_id.clone()),
        _ => None,
    };
    assert_eq!(next_event(&mut out, refused).await, keys[2]);
    assert!(stays.stats().key_requests_sent <= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_policy_replaces_a_pre_agreed_key() {
    let net = Net::start().await;
    let clock = standing_clock();
    let publisher = net.join(net.builder(1).clock(clock.clone())).await;
    let every = Every { time: Some(MINUTE), ..Every::messages(2) };
    let key_policy = Some(KeyPolicy { rotate_every: every, rekey_every: every });
    let options = StreamOptions { key_policy, ..StreamOptions::default() };
    let stream = publisher.create_stream("s", options).await.unwrap();
    let key = group_key("agreed", 9);
    let reader = net.client(2).await;
    for client in [&publisher, &reader] {
        client.add_encryption_key(&key, publisher.user(), &stream).await.unwrap();
    }
    publisher.update_encryption_key(&stream, KeyUpdateMethod::Rekey, Some(key.clone())).await.unwrap();
    let mut reads = reader.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 1).await;
    let keys = keys_of_next(5, &publisher, &stream, &mut reads).await;
    clock.advance(MINUTE * 2);
    let last = key_of_next(&publisher, &stream, &mut reads).await;
    assert!(keys.iter().chain([&last]).all(|id| id == key.id()), "{keys:?}");
    assert_eq!(reader.stats().key_requests_sent, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_is_what_was_set_last_and_never_where_nothing_was_set() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let (_reader, mut reads) = net.granted_reader(2, &publisher, &stream).await;
    net.ready(&publisher, &stream, 1).await;
    assert_eq!(publisher.key_policy(&stream).await.unwrap(), KeyPolicy::default());
    let mut keys = keys_of_next(4, &publisher, &stream, &mut reads).await;
    publisher.set_key_policy(&stream, rotate(Every::messages(5))).await.unwrap();
    keys.extend(keys_of_next(3, &publisher, &stream, &mut reads).await);
    publisher.set_key_policy(&stream, KeyPolicy::default()).await.unwrap();
    keys.extend(keys_of_next(10, &publisher, &stream, &mut reads).await);
    assert_eq!(runs(&keys), [5, 12]);
    assert_eq!(publisher.key_policy(&stream).await.unwrap(), KeyPolicy::default());
    while let Ok(Some(delivery)) = tokio::time::timeout(Duration::ZERO, reads.next()).await {
        assert!(matches!(delivery, Delivery::Event(Event::KeyArrived { .. })), "{delivery:?}");
    }
}
