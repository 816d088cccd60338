//! Keys agreed on for all streams under a prefix, between real nodes over loopback TCP.

#![cfg(feature = "p2p")]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod support;

use std::sync::Arc;

use support::*;
use veilcast::client::{Client, ClientConfig, ClientError, KeySource, KeyUpdateMethod, StreamOptions};
use veilcast::key_ring::RingPrefix;
use veilcast::key_store::{KeyId, KeyOrigin, KeyStore, MemoryKeyStore, TimeRange};
use veilcast::publisher::{Every, KeyPolicy};
use veilcast::{Event, Payload, Period, Permission, Refusal, StreamId, UserId};

fn agreed_only() -> ClientConfig {
    let mut config = config();
    config.keys = KeySource::PreAgreedOnly;
    config
}

fn not_agreed(event: &Event) -> Option<(UserId, KeyId)> {
    match event {
        Event::KeyNotAgreed { publisher, key_id, .. } => Some((*publisher, key_id.clone())),
        _ => None,
    }
}

/// The prefix of everything that the first client owns.
fn everything() -> RingPrefix {
    RingPrefix::new(&identity(1).user().to_string()).unwrap()
}

fn made_keys(store: &MemoryKeyStore, stream: &StreamId) -> usize {
    let scope = veilcast::scope(identity(1).user(), stream);
    store.history(&scope, TimeRange::ALL, None, 100).unwrap().len()
}

fn no_requests(clients: &[&Client]) {
    for stats in clients.iter().map(|client| client.stats()) {
        assert_eq!((stats.key_requests_sent, stats.key_requests_received, stats.pushes_confirmed), (0, 0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_changes_over_without_a_lost_message_or_a_key_request_whatever_a_policy_or_a_grant_says() {
    let net = Net::start().await;
    let store = Arc::new(MemoryKeyStore::default());
    let publisher = net.client_with(1, store.clone(), config()).await;
    let every = Every::messages(2);
    let key_policy = Some(KeyPolicy { rotate_every: every, rekey_every: every });
    let options = StreamOptions { key_policy, ..StreamOptions::default() };
    let stream = publisher.create_stream("plant/pressure", options).await.unwrap();
    let (reader, mut reads) = net.granted_reader(2, &publisher, &stream).await;
    let (ring, old, new) = (everything(), group_key("old", 1), group_key("new", 2));
    for client in [&publisher, &reader] {
        client.add_ring_key(&ring, &old).await.unwrap();
    }
    publisher.use_ring_key(&ring, old.id()).await.unwrap();
    net.ready(&publisher, &stream, 1).await;

    let mut keys = Vec::new();
    for n in 0..20 {
        match n {
            5 => reader.add_ring_key(&ring, &new).await.unwrap(),
            6 => publisher.add_ring_key(&ring, &new).await.unwrap(),
            // Somebody leaves who never had the key from us.
            8 => {
                let somebody = identity(7).user();
                publisher.grant(&stream, somebody, Permission::Subscribe, Period::ALWAYS).await.unwrap();
                publisher.revoke(&stream, somebody, Permission::Subscribe).await.unwrap();
            }
            10 => publisher.use_ring_key(&ring, new.id()).await.unwrap(),
            15 => {
                publisher.remove_ring_key(&ring, old.id()).await.unwrap();
                reader.remove_ring_key(&ring, old.id()).await.unwrap();
            }
            _ => {}
        }
        say(&publisher, &stream, &n.to_string()).await;
        let message = next_message(&mut reads).await;
        assert_eq!(message.text(), Some(n.to_string().as_str()));
        keys.push(message.key_id.unwrap());
    }
    assert!(keys[..10].iter().all(|id| id == old.id()) && keys[10..].iter().all(|id| id == new.id()), "{keys:?}");
    no_requests(&[&publisher, &reader]);
    assert_eq!(made_keys(&store, &stream), 0, "none was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_key_missing_on_the_readers_side_is_named_and_not_asked_for_until_it_is_put_in() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let (reader, mut reads) = net.granted_reader(2, &publisher, &stream).await;
    let (ring, old, new) = (everything(), group_key("old", 1), group_key("new", 2));
    reader.add_ring_key(&ring, &old).await.unwrap();
    publisher.add_ring_key(&ring, &new).await.unwrap();
    publisher.use_ring_key(&ring, new.id()).await.unwrap();
    net.ready(&publisher, &stream, 1).await;
    say(&publisher, &stream, "unreadable").await;
    assert_eq!(next_event(&mut reads, not_agreed).await, (publisher.user(), new.id().clone()));
    reader.add_ring_key(&ring, &new).await.unwrap();
    say(&publisher, &stream, "readable").await;
    let message = next_message(&mut reads).await;
    assert_eq!(message.text(), Some("readable"));
    reader.remove_ring_key(&ring, new.id()).await.unwrap();
    let opened = reader.open(message.envelope).await;
    assert!(matches!(&opened, Err(ClientError::KeyNotAgreed { key_id, .. }) if key_id == new.id()), "{opened:?}");
    say(&publisher, &stream, "unreadable again").await;
    assert_eq!(next_event(&mut reads, not_agreed).await.1, *new.id());
    no_requests(&[&publisher, &reader]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_without_a_key_in_use_publishes_nothing_and_names_the_stream() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    say(&publisher, &stream, "by exchange").await;
    publisher.add_ring_key(&everything(), &group_key("agreed", 1)).await.unwrap();
    let refused = publisher.publish(&stream, Payload::text("x")).await.unwrap_err();
    assert!(matches!(&refused, ClientError::NoAgreedKey { ring: Some(ring), .. } if *ring == everything()));
    assert!(refused.to_string().contains(stream.as_str()), "{refused}");
    assert_eq!(publisher.stats().messages_published, 1);
    for method in [KeyUpdateMethod::Rotate, KeyUpdateMethod::Rekey] {
        let changed = publisher.update_encryption_key(&stream, method, Some(group_key("made", 2))).await;
        assert!(matches!(changed, Err(ClientError::AgreedKeysOnly { .. })), "{changed:?}");
    }
    publisher.remove_ring_key(&everything(), group_key("agreed", 1).id()).await.unwrap();
    say(&publisher, &stream, "by exchange again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_for_a_key_where_a_ring_decides_is_refused_also_for_keys_of_before() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let asker = identity(2);
    publisher.grant(&stream, asker.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    let (before, agreed) = (group_key("before", 1), group_key("agreed", 2));
    publisher.update_encryption_key(&stream, KeyUpdateMethod::Rekey, Some(before.clone())).await.unwrap();
    let raw = Raw::start(&net.address).await;
    let ask = async |key: &veilcast::key_store::GroupKey| {
        raw.answer(&publisher, &signed_request(&asker, publisher.user(), &stream, &[key.id()])).await
    };
    assert!(opened(&ask(&before).await)[0].same_as(&before));
    publisher.add_ring_key(&everything(), &agreed).await.unwrap();
    for key in [&before, &agreed] {
        assert_eq!(refusal_of(&ask(key).await), Refusal::Policy);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_only_agreed_keys_count_nothing_is_made_asked_for_handed_out_or_sent_in_the_clear() {
    let net = Net::start().await;
    let store = Arc::new(MemoryKeyStore::default());
    let publisher = net.client_with(1, store.clone(), agreed_only()).await;
    let stream = publisher.create_stream("s", StreamOptions::default()).await.unwrap();
    let refused = publisher.publish(&stream, Payload::text("x")).await.unwrap_err();
    assert!(matches!(&refused, ClientError::NoAgreedKey { ring: None, .. }), "{refused:?}");
    assert!(refused.to_string().contains(stream.as_str()), "{refused}");
    for method in [KeyUpdateMethod::Rotate, KeyUpdateMethod::Rekey] {
        let changed = publisher.update_encryption_key(&stream, method, None).await;
        assert!(matches!(changed, Err(ClientError::AgreedKeysOnly { .. })), "{changed:?}");
    }
    assert_eq!((publisher.stats().messages_published, made_keys(&store, &stream)), (0, 0));

    let key = group_key("agreed", 9);
    publisher.add_encryption_key(&key, publisher.user(), &stream).await.unwrap();
    publisher.update_encryption_key(&stream, KeyUpdateMethod::Rekey, Some(key.clone())).await.unwrap();
    let reader = net.client_with(2, Arc::new(MemoryKeyStore::default()), agreed_only()).await;
    let mut reads = reader.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 1).await;
    say(&publisher, &stream, "unreadable").await;
    assert_eq!(next_event(&mut reads, not_agreed).await.1, *key.id());
    reader.add_encryption_key(&key, publisher.user(), &stream).await.unwrap();
    say(&publisher, &stream, "readable").await;
    assert_eq!(next_text(&mut reads).await, "readable");
    no_requests(&[&publisher, &reader]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_stream_needs_no_agreed_key() {
    let net = Net::start().await;
    let publisher = net.client_with(1, Arc::new(MemoryKeyStore::default()), agreed_only()).await;
    let options = StreamOptions { public: true, ..StreamOptions::default() };
    let stream = publisher.create_stream("s", options).await.unwrap();
    let reader = net.client_with(2, Arc::new(MemoryKeyStore::default()), agreed_only()).await;
    let mut reads = reader.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 1).await;
    say(&publisher, &stream, "for all").await;
    assert_eq!(next_text(&mut reads).await, "for all");
    publisher.set_public(&stream, false).await.unwrap();
    let refused = publisher.publish(&stream, Payload::text("x")).await;
    assert!(matches!(refused, Err(ClientError::NoAgreedKey { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_were_handed_out_before_do_not_count_where_only_agreed_ones_do() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let made = group_key("made", 3);
    publisher.update_encryption_key(&stream, KeyUpdateMethod::Rekey, Some(made.clone())).await.unwrap();
    let store = Arc::new(MemoryKeyStore::default());
    store.add(&veilcast::scope(publisher.user(), &stream), &made, 1, None, KeyOrigin::Received).unwrap();
    let reader = net.client_with(2, store, agreed_only()).await;
    publisher.grant(&stream, reader.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    let mut reads = reader.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 1).await;
    say(&publisher, &stream, "x").await;
    assert_eq!(next_event(&mut reads, not_agreed).await.1, *made.id());
    // Nor those that ride in messages, or are pushed.
    publisher.update_encryption_key(&stream, KeyUpdateMethod::Rotate, Some(group_key("rides", 4))).await.unwrap();
    say(&publisher, &stream, "x").await;
    say(&publisher, &stream, "x").await;
    assert_eq!(next_event(&mut reads, not_agreed).await.1.as_str(), "rides");
    let fetched = reader.fetch_keys(&stream, publisher.user(), veilcast::Timestamp::ZERO..=veilcast::Timestamp::ZERO);
    assert!(matches!(fetched, Err(ClientError::AgreedKeysOnly { .. })));
    no_requests(&[&publisher, &reader]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_grant_makes_no_key_where_a_ring_decides() {
    let net = Net::start().await;
    let store = Arc::new(MemoryKeyStore::default());
    let mut config = config();
    config.end_window = std::time::Duration::ZERO;
    let publisher = net.client_with(1, store.clone(), config).await;
    let ringed = publisher.create_stream("plant/pressure", StreamOptions::default()).await.unwrap();
    let free = publisher.create_stream("free", StreamOptions::default()).await.unwrap();
    for stream in [&ringed, &free] {
        publisher.update_encryption_key(stream, KeyUpdateMethod::Rekey, None).await.unwrap();
    }
    let plant = RingPrefix::new(&format!("{}/plant", publisher.user())).unwrap();
    publisher.add_ring_key(&plant, &group_key("agreed", 1)).await.unwrap();
    // Twice, so that whoever looks at all streams has looked at the ringed one in between.
    for (byte, made) in [(7, 2), (8, 3)] {
        for stream in [&ringed, &free] {
            publisher.grant(stream, identity(byte).user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
            publisher.revoke(stream, identity(byte).user(), Permission::Subscribe).await.unwrap();
        }
        until(async || made_keys(&store, &free) == made).await;
    }
    assert_eq!(made_keys(&store, &ringed), 1);
}
