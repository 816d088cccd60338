//! A publisher and its disk: what cannot be written down is not sent, and a client that stopped has let go of its store.

#![cfg(feature = "p2p")]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

#[path = "simulator/disk.rs"]
#[allow(dead_code, reason = "the simulator asks a disk for more")]
mod disk;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use disk::Disk;
use support::*;
use veilcast::client::{ClientError, KeyUpdateMethod, StreamOptions};
use veilcast::{Payload, Period, Permission};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_key_cannot_be_made_durable_is_not_sent() {
    let (net, disk) = (Net::start().await, Arc::new(Disk::new()));
    let publisher = net.client_with(1, disk.clone(), config()).await;
    let stream = publisher.create_stream("s", StreamOptions::default()).await.unwrap();
    let (_reader, mut reads) = net.granted_reader(2, &publisher, &stream).await;
    net.ready(&publisher, &stream, 1).await;
    say(&publisher, &stream, "first").await;
    let first = next_message(&mut reads).await;

    let rotated = publisher.update_encryption_key(&stream, KeyUpdateMethod::Rotate, None).await.unwrap();
    disk.wear_out(0);
    let failed = publisher.publish(&stream, Payload::text("lost")).await;
    assert!(matches!(failed, Err(ClientError::Store(_))), "{failed:?}");
    disk.mend();
    say(&publisher, &stream, "second").await;
    let second = next_message(&mut reads).await;
    assert_eq!((first.text(), second.text()), (Some("first"), Some("second")), "nothing left while the disk failed");
    assert_eq!(first.key_id, second.key_id, "the rotated key, not durable then, is carried by this message");
    say(&publisher, &stream, "third").await;
    assert_eq!(next_message(&mut reads).await.key_id, Some(rotated.key_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stopped_has_let_go_of_its_store_whatever_it_was_doing() {
    let (net, disk) = (Net::start().await, Arc::new(Disk::new()));
    let publisher = net.client_with(1, disk.clone(), config()).await;
    let stream = publisher.create_stream("s", StreamOptions::default()).await.unwrap();
    publisher.grant(&stream, identity(2).user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    let raw = Raw::start(&net.address).await;
    let request = signed_request(&identity(2), publisher.user(), &stream, &[group_key("k", 1).id()]);
    disk.hold();
    let (asked, asking) = (publisher.clone(), request.envelope().to_vec());
    let asker = tokio::spawn(async move { raw.ask(&asked, asking).await });
    until(async || disk.somebody_waits()).await;

    let released = Arc::new(AtomicBool::new(false));
    let (later, releases) = (disk.clone(), released.clone());
    // Long enough for a stop that does not wait to be found out.
    std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        releases.store(true, Ordering::SeqCst);
        later.let_go();
    });
    within(publisher.stop()).await;
    assert!(released.load(Ordering::SeqCst), "a request was still being answered from the store");
    drop(within(asker).await);
}
