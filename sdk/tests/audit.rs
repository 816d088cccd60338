//! The audit log of real nodes over loopback TCP: what is given and refused stands in it, under its grant, and nothing stops it.

#![cfg(feature = "p2p")]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod support;

use std::sync::Arc;

use support::*;
use veilcast::audit::{AuditEvent, AuditFault, AuditLog, AuditReport, Handed};
use veilcast::client::{Client, ClientConfig, ClientError, KeyUpdateMethod, StreamOptions};
use veilcast::key_store::{GroupKey, KeyId, MemoryKeyStore, RecordStore};
use veilcast::publisher::Place;
use veilcast::time::{Clock, SystemClock};
use veilcast::{Event, Period, Permission, Refusal, StreamId, Timestamp, UserId};

fn by_hand() -> ClientConfig {
    let mut config = config();
    config.rekey_on_end = false;
    config
}

async fn rekey(publisher: &Client, stream: &StreamId) -> KeyId {
    within(publisher.update_encryption_key(stream, KeyUpdateMethod::Rekey, None)).await.unwrap().key_id
}

async fn events(publisher: &Client) -> Vec<AuditEvent> {
    let logged = publisher.audit_entries(0, 1000).await.unwrap();
    logged.into_iter().map(|logged| logged.entry.event).collect()
}

fn log_in(store: &Arc<MemoryKeyStore>, publisher: UserId) -> AuditLog {
    AuditLog::new(store.clone(), publisher)
}

fn whole(log: &AuditLog) -> AuditReport {
    log.verify::<AuditFault>(None, |_| Ok(())).unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_refusals_and_pushes_stand_in_the_log_under_their_grants_and_a_restart_goes_on_with_it() {
    let (net, store) = (Net::start().await, Arc::new(MemoryKeyStore::default()));
    let publisher = net.client_with(1, store.clone(), by_hand()).await;
    let stream = publisher.create_stream("s", StreamOptions::default()).await.unwrap();
    let hour = Timestamp::from_secs(SystemClock.now().as_secs() + 3600);
    let (reader, stranger) = (net.client(2).await, net.client(3).await);
    publisher.grant(&stream, reader.user(), Permission::Subscribe, Period::until(hour)).await.unwrap();
    let mut reading = reader.subscribe(&stream).await.unwrap();
    let mut refused = stranger.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 2).await;
    assert!(publisher.audit_head().await.unwrap().is_none(), "there is nothing to tell yet");

    say(&publisher, &stream, "one").await;
    assert_eq!(next_text(&mut reading).await, "one");
    let denied = next_event(&mut refused, |event| match event {
        Event::KeyRefused { refusal, .. } => Some(*refusal),
        _ => None,
    });
    assert_eq!(denied.await, Refusal::Denied);
    let second = rekey(&publisher, &stream).await;
    let fetch = reader.fetch_keys(&stream, publisher.user(), Timestamp::ZERO..=hour).unwrap();
    assert_eq!(within(fetch.finish()).await.unwrap().keys, 2);
    publisher.revoke(&stream, reader.user(), Permission::Subscribe).await.unwrap();
    let third = rekey(&publisher, &stream).await;

    let handed = publisher.given_keys(&stream, reader.user()).await.unwrap();
    let (first, key_of_reader) = (handed[0].key_id.clone(), handed[0].public_key);
    let given = |keys: &[&KeyId], by| AuditEvent::Given {
        stream: stream.clone(),
        user: reader.user(),
        keys: keys.iter().copied().cloned().collect(),
        by,
        grant: handed[0].grant,
        public_key: key_of_reader,
    };
    assert_eq!(handed[0].grant.end, Some(hour));
    let told = events(&publisher).await;
    let of_reader: Vec<_> = told.iter().filter(|event| event.user() == Some(reader.user())).collect();
    let [answer, push, span, last] = &of_reader[..] else { panic!("{told:#?}") };
    assert_eq!(**answer, given(&[&first], Handed::ToIds));
    assert_eq!(**push, given(&[&second], Handed::Push));
    assert_eq!(**span, given(&[&first, &second], Handed::ToSpan));
    let AuditEvent::Refused { keys, by: Handed::Push, refusal: Refusal::Expired { .. }, .. } = last else {
        panic!("{told:#?}")
    };
    assert_eq!(keys[..], [third]);
    let of_stranger: Vec<_> = told.iter().filter(|event| event.user() == Some(stranger.user())).collect();
    let [AuditEvent::Refused { keys, count: 1, by: Handed::ToIds, refusal: Refusal::Denied, .. }] = of_stranger[..]
    else {
        panic!("{told:#?}")
    };
    assert_eq!(keys[..], *std::slice::from_ref(&first));

    let head = publisher.audit_head().await.unwrap().unwrap().into_content();
    assert_eq!(publisher.verify_audit(None).await.unwrap().unwrap().entries, told.len() as u64);
    publisher.stop().await;
    let restarted = net.client_with(1, store.clone(), by_hand()).await;
    restarted.grant(&stream, stranger.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    let raw = Raw::start(&restarted.addresses().await[0]).await;
    let request = signed_request(&identity(3), restarted.user(), &stream, &[&first]);
    assert_eq!(raw.answer(&restarted, &request).await.granted.len(), 1);
    let report = restarted.verify_audit(Some(head.clone())).await.unwrap().unwrap();
    assert!(report.head.log == head.log && report.head.sequence > head.sequence, "{report:?}");
    let last = events(&restarted).await.pop().unwrap();
    let public_key = Place { peer: Vec::new(), addresses: Vec::new(), public_key: rsa().public().as_der().to_vec() };
    let AuditEvent::Given { user, keys, grant, public_key: found, .. } = last else { panic!("{last:?}") };
    assert_eq!((user, &keys[..], found), (stranger.user(), std::slice::from_ref(&first), public_key.fingerprint()));
    assert_eq!(grant.end, None);
    restarted.stop().await;
    assert_eq!(whole(&log_in(&store, restarted.user())).head, restarted_head(&store, restarted.user()));
}

fn restarted_head(store: &Arc<MemoryKeyStore>, publisher: UserId) -> veilcast::audit::AuditHead {
    log_in(store, publisher).head().unwrap().unwrap().into_content()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_on_and_on_is_one_entry_and_counted_and_what_is_throttled_is_counted_too() {
    let (net, store) = (Net::start().await, Arc::new(MemoryKeyStore::default()));
    let publisher = net.client_with(1, store.clone(), config()).await;
    let stream = publisher.create_stream("s", StreamOptions::default()).await.unwrap();
    let raw = Raw::start(&publisher.addresses().await[0]).await;
    let (mut denied, mut throttled) = (0, 0);
    while denied < 30 || throttled < 3 {
        let request = signed_request(&identity(9), publisher.user(), &stream, &[&KeyId::new("any").unwrap()]);
        // Beyond the limit of saying so there is silence.
        let Ok(answer) = raw.ask(&publisher, request.envelope().to_vec()).await else { continue };
        match refusal_of(&answer_of(&answer)) {
            Refusal::Denied => denied += 1,
            Refusal::Throttled { .. } => throttled += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(events(&publisher).await.len(), 1);
    publisher.stop().await;
    let log = log_in(&store, publisher.user());
    let (mut refused, mut again, mut turned_away) = (0, 0, 0);
    log.verify::<AuditFault>(None, |logged| {
        match &logged.entry.event {
            AuditEvent::Refused { refusal: Refusal::Denied, .. } => refused += 1,
            AuditEvent::RefusedAgain { repeats, refusal: Refusal::Denied, .. } => again += repeats.times,
            AuditEvent::Throttled { repeats } => turned_away += repeats.times,
            other => panic!("{other:?}"),
        }
        Ok(())
    })
    .unwrap();
    assert_eq!((refused, again, turned_away), (1, denied - 1, throttled));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_tampered_with_is_not_written_on_and_keys_are_answered_all_the_same() {
    let (net, store) = (Net::start().await, Arc::new(MemoryKeyStore::default()));
    let publisher = net.client_with(1, store.clone(), config()).await;
    let (me, stream) = (publisher.user(), publisher.create_stream("s", StreamOptions::default()).await.unwrap());
    publisher.grant(&stream, identity(2).user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    let key: GroupKey = GroupKey::new(KeyId::new("k").unwrap(), &[5; 32]).unwrap();
    within(publisher.update_encryption_key(&stream, KeyUpdateMethod::Rekey, Some(key.clone()))).await.unwrap();
    let ask = async |publisher: &Client| {
        let raw = Raw::start(&publisher.addresses().await[0]).await;
        raw.answer(publisher, &signed_request(&identity(2), me, &stream, &[key.id()])).await.granted.len()
    };
    assert_eq!(ask(&publisher).await, 1);
    publisher.stop().await;
    assert_eq!(publisher.stats().audit_entries, 1);
    let records = store.scan("audit", b"", None, 100).unwrap();
    let shows_key = |bytes: &Vec<u8>| bytes.windows(8).any(|some| some == [5; 8]);
    assert!(!records.is_empty() && !records.iter().any(|(_, value)| shows_key(value)), "the log tells ids, not keys");
    let head = [b"h", me.as_bytes().as_slice()].concat();
    store.write("audit", &[(head, None)]).unwrap();

    let restarted = net.client_with(1, store.clone(), config()).await;
    assert_eq!(ask(&restarted).await, 1);
    let fault = restarted.verify_audit(None).await.unwrap_err();
    assert!(matches!(fault, ClientError::Audit(AuditFault::NoHead { sequence: 1 })), "{fault:?}");
    restarted.stop().await;
    assert!(restarted.stats().audit_failures > 0 && restarted.stats().audit_entries == 0);
}
