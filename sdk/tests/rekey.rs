//! Rekeys that reach people: real nodes over loopback TCP, the grant ledger, and what a restart leaves of it.

#![cfg(feature = "p2p")]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use support::*;
use veilcast::client::{Client, KeyUpdateMethod, StreamOptions, Subscription, UpdateReport};
use veilcast::key_store::MemoryKeyStore;
use veilcast::permission::LocalRegistry;
use veilcast::publisher::{GivenBy, GrantLedger};
use veilcast::subscriber::Arrival;
use veilcast::time::{Clock, SystemClock};
use veilcast::{Delivery, Event, Permission, Refusal, StreamId, UserId};

const READERS: u8 = 50;
/// Fifty RSA pairs take a while on a busy machine.
const VERY_LONG: Duration = Duration::from_secs(120);

async fn rekey(publisher: &Client, stream: &StreamId) -> UpdateReport {
    within(publisher.update_encryption_key(stream, KeyUpdateMethod::Rekey, None)).await.unwrap()
}

/// Whoever reads, in the order of addresses.
type Readers = Vec<(Client, Subscription)>;

fn users(readers: &[(Client, Subscription)]) -> Vec<UserId> {
    readers.iter().map(|(client, _)| client.user()).collect()
}

/// Says it until everybody has read it: gossip promises a message to who is part of its mesh, and whoever has just come or is on a
/// busy machine may not be yet.
async fn all_read(publisher: &Client, stream: &StreamId, readers: &mut [&mut Readers], text: &str) {
    let readers = readers.iter_mut().flat_map(|readers| readers.iter_mut());
    let all = join_all(readers.map(|(client, subscription)| reads(client, subscription, text)));
    let saying = async {
        loop {
            say(publisher, stream, text).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        _ = all => {}
        () = saying => {}
    }
}

/// Waits for this very text; what was said again of the one before is passed over.
async fn reads(client: &Client, subscription: &mut Subscription, text: &str) {
    let mut heard = Vec::new();
    let reading = async {
        loop {
            match subscription.next().await.expect("the client runs") {
                Delivery::Message(message) if message.text() == Some(text) => return,
                Delivery::Message(message) => heard.push(format!("{:?}", message.text())),
                Delivery::Event(event) => heard.push(format!("{event:?}")),
            }
        }
    };
    if tokio::time::timeout(VERY_LONG, reading).await.is_err() {
        panic!("{} waits for {text:?}; it heard {heard:?} and did {:?}", client.user(), client.stats());
    }
}

/// Waits until it is told that its grant ended; until then it must not have read this text.
async fn is_cut_off(subscription: &mut Subscription, text: &str) {
    let told = async {
        loop {
            match subscription.next().await.expect("the client runs") {
                Delivery::Message(message) => assert_ne!(message.text(), Some(text)),
                Delivery::Event(Event::KeyRefused { refusal: Refusal::Expired { .. }, .. }) => return,
                Delivery::Event(_) => {}
            }
        }
    };
    within(told).await;
}

fn requests(readers: &Readers) -> Vec<u64> {
    readers.iter().map(|(client, _)| client.stats().key_requests_sent).collect()
}

async fn fifty(net: &Net, publisher: &Client, stream: &StreamId) -> Readers {
    let start = |byte| net.granted_reader(byte, publisher, stream);
    let mut readers = join_all((100..100 + READERS).map(start)).await;
    readers.sort_by_key(|(client, _)| client.user());
    net.ready(publisher, stream, readers.len()).await;
    readers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rekey_reaches_fifty_subscribers_and_after_a_restart_those_who_are_there_before_anybody_asked() {
    let (net, store) = (Net::start().await, Arc::new(MemoryKeyStore::default()));
    let publisher = net.client_with(1, store.clone(), config()).await;
    let stream = publisher.create_stream("s", StreamOptions::default()).await.unwrap();
    let mut readers = fifty(&net, &publisher, &stream).await;
    let everybody = users(&readers);
    all_read(&publisher, &stream, &mut [&mut readers], "one").await;
    assert_eq!(requests(&readers), [1; READERS as usize]);

    let report = rekey(&publisher, &stream).await;
    assert_eq!((&report.pushed, &report.refused[..], &report.must_pull[..]), (&everybody, &[][..], &[][..]));
    all_read(&publisher, &stream, &mut [&mut readers], "two").await;
    assert_eq!(requests(&readers), [1; READERS as usize], "nobody had to ask for the rekeyed key");
    assert_eq!(publisher.stats().pushes_confirmed, u64::from(READERS));

    let holders = publisher.holders(&stream).await.unwrap();
    assert_eq!(holders.iter().map(|holder| holder.user).collect::<Vec<_>>(), everybody);
    assert!(holders.iter().all(|holder| holder.newest_key == report.key_id));
    let given = publisher.given_keys(&stream, everybody[0]).await.unwrap();
    assert_eq!(given.iter().map(|given| given.by).collect::<Vec<_>>(), [GivenBy::Answer, GivenBy::Push]);
    assert_eq!(given[0].public_key, given[1].public_key);

    // The publisher goes; while it is away some subscribers go too, and the grant of one ends.
    publisher.stop().await;
    let gone: Readers = readers.drain(..5).collect();
    let gone_bytes: Vec<u8> = (100..100 + READERS).filter(|b| users(&gone).contains(&identity(*b).user())).collect();
    join_all(gone.iter().map(|(client, _)| client.stop())).await;
    let (ended, mut of_ended) = readers.remove(0);
    let registry = LocalRegistry::new(store.clone());
    registry.revoke(&stream, ended.user(), Permission::Subscribe, SystemClock.now()).unwrap();

    // It would rekey by itself in a moment; here that is to be done by hand, and looked at.
    let mut patient = config();
    patient.end_window = VERY_LONG * 10;
    let restarted = net.client_with(1, store, patient).await;
    let report = rekey(&restarted, &stream).await;
    assert_eq!(report.pushed, users(&readers), "the ledger tells where they are");
    assert_eq!(report.must_pull, users(&gone));
    assert!(matches!(report.refused[..], [(user, Refusal::Expired { .. })] if user == ended.user()), "{report:?}");
    assert_eq!(restarted.stats().key_requests_received, 0);

    net.ready(&restarted, &stream, readers.len() + 1).await;
    all_read(&restarted, &stream, &mut [&mut readers], "three").await;
    assert_eq!(requests(&readers), vec![1; readers.len()], "nobody had to ask after the restart either");
    is_cut_off(&mut of_ended, "three").await;

    // Those who were away come back and pull.
    let mut returned = Readers::new();
    for client in join_all(gone_bytes.into_iter().map(|byte| net.client(byte))).await {
        let subscription = client.subscribe(&stream).await.unwrap();
        returned.push((client, subscription));
    }
    net.ready(&restarted, &stream, readers.len() + returned.len() + 1).await;
    all_read(&restarted, &stream, &mut [&mut readers, &mut returned], "four").await;
    // More than once where the record of the publisher's former run was found first.
    assert!(requests(&returned).iter().all(|requests| *requests >= 1), "they pulled: {:?}", requests(&returned));

    // A grant ends in between: the next message is under a key that the others get, asked for or not.
    let (ended, mut of_ended) = readers.remove(0);
    restarted.revoke(&stream, ended.user(), Permission::Subscribe).await.unwrap();
    all_read(&restarted, &stream, &mut [&mut readers, &mut returned], "five").await;
    is_cut_off(&mut of_ended, "five").await;
    until(async || restarted.holders(&stream).await.unwrap().len() == readers.len() + returned.len()).await;
    assert!(!restarted.given_keys(&stream, ended.user()).await.unwrap().is_empty(), "what it got is not forgotten");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_leaves_everybody_who_was_given_a_key_in_the_ledger_and_where_he_is() {
    let (net, store) = (Net::start().await, Arc::new(MemoryKeyStore::default()));
    let publisher = net.client_with(1, store.clone(), config()).await;
    let stream = publisher.create_stream("s", StreamOptions::default()).await.unwrap();
    let (reader, mut subscription) = net.granted_reader(2, &publisher, &stream).await;
    net.ready(&publisher, &stream, 1).await;
    say(&publisher, &stream, "one").await;
    let key_id = next_message(&mut subscription).await.key_id.unwrap();
    publisher.stop().await;

    let places = GrantLedger::new(store, publisher.user()).places(&stream, None, 10).unwrap();
    let [(holder, place)] = &places[..] else { panic!("{places:?}") };
    assert_eq!((holder.user, &holder.newest_key), (reader.user(), &key_id));
    assert_eq!(place.peer, reader.peer_id().to_bytes());
    assert!(!place.addresses.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rekey_whose_future_is_dropped_is_carried_out_all_the_same() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let (reader, mut subscription) = net.granted_reader(2, &publisher, &stream).await;
    net.ready(&publisher, &stream, 1).await;
    say(&publisher, &stream, "one").await;
    let before = next_message(&mut subscription).await.key_id.unwrap();

    let rekey = publisher.update_encryption_key(&stream, KeyUpdateMethod::Rekey, None);
    assert!(tokio::time::timeout(Duration::ZERO, rekey).await.is_err(), "it was begun, and dropped");
    let pushed = |event: &Event| match event {
        Event::KeyArrived { key_id, by: Arrival::Push, .. } => Some(key_id.clone()),
        _ => None,
    };
    let pushed = next_event(&mut subscription, pushed).await;
    assert_ne!(pushed, before);
    say(&publisher, &stream, "two").await;
    let message = next_message(&mut subscription).await;
    assert_eq!((message.text(), message.key_id.as_ref()), (Some("two"), Some(&pushed)));
    assert_eq!(reader.stats().key_requests_sent, 1);
}
