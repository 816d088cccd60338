//! An encrypted stream between real nodes over loopback TCP, through a relay.

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::*;
use veilcast::client::{ClientError, Delivery, KeyUpdateMethod, StreamOptions};
use veilcast::key_store::{GroupKey, KeyId, MemoryKeyStore};
use veilcast::time::{Clock, SystemClock};
use veilcast::{Event, Partition, Payload, Period, Permission, Refusal, Timestamp};

fn refusal(event: &Event) -> Option<Refusal> {
    match event {
        Event::KeyRefused { refusal, .. } => Some(*refusal),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_granted_subscriber_reads_with_one_key_request_however_many_messages() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let (subscriber, mut subscription) = net.granted_reader(2, &publisher, &stream).await;
    net.ready(&publisher, &stream, 1).await;
    for n in 0..100 {
        say(&publisher, &stream, &n.to_string()).await;
    }
    for n in 0..100 {
        assert_eq!(next_text(&mut subscription).await, n.to_string());
    }
    assert_eq!(subscriber.stats().key_requests_sent, 1);
    assert_eq!(publisher.stats().keys_granted, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_refused_at_once_and_does_not_ask_again() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let stranger = net.client(3).await;
    let mut subscription = stranger.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 1).await;
    say(&publisher, &stream, "secret").await;
    assert_eq!(next_event(&mut subscription, refusal).await, Refusal::Denied);
    for _ in 0..20 {
        say(&publisher, &stream, "secret").await;
    }
    publisher.flush().await;
    within(async {
        while stranger.stats().messages_received < 21 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(stranger.stats().key_requests_sent, 1, "no storm follows a refusal");
    assert_eq!(stranger.stats().messages_delivered, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_that_ended_or_have_not_begun_are_refused_with_their_dates() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let now = SystemClock.now();
    let (ended, early) = (net.client(4).await, net.client(5).await);
    let begins = now.plus(Duration::from_secs(3600));
    publisher.grant(&stream, ended.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    publisher.revoke(&stream, ended.user(), Permission::Subscribe).await.unwrap();
    let later = Period { start: Some(begins), end: None };
    publisher.grant(&stream, early.user(), Permission::Subscribe, later).await.unwrap();

    let mut of_ended = ended.subscribe(&stream).await.unwrap();
    let mut of_early = early.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 2).await;
    say(&publisher, &stream, "secret").await;
    assert!(matches!(next_event(&mut of_ended, refusal).await, Refusal::Expired { since } if since >= now));
    assert_eq!(next_event(&mut of_early, refusal).await, Refusal::NotYet { from: begins });
}

#[tokio::test(flavor = "multi_thread")]
async fn rotate_causes_no_key_request_and_rekey_shuts_out_whoever_lost_his_grant() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let (stays, leaves) = (net.client(2).await, net.client(4).await);
    for user in [stays.user(), leaves.user()] {
        publisher.grant(&stream, user, Permission::Subscribe, Period::ALWAYS).await.unwrap();
    }
    let mut of_stays = stays.subscribe(&stream).await.unwrap();
    let mut of_leaves = leaves.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 2).await;
    say(&publisher, &stream, "one").await;
    assert_eq!(next_text(&mut of_stays).await, "one");
    assert_eq!(next_text(&mut of_leaves).await, "one");

    publisher.update_encryption_key(&stream, KeyUpdateMethod::Rotate, None).await.unwrap();
    for text in ["two", "three"] {
        say(&publisher, &stream, text).await;
        assert_eq!(next_text(&mut of_stays).await, text);
        assert_eq!(next_text(&mut of_leaves).await, text);
    }
    assert_eq!((stays.stats().key_requests_sent, leaves.stats().key_requests_sent), (1, 1));

    publisher.revoke(&stream, leaves.user(), Permission::Subscribe).await.unwrap();
    let rotated = publisher.update_encryption_key(&stream, KeyUpdateMethod::Rotate, None).await;
    assert!(matches!(rotated, Err(ClientError::GrantEnded { ended }) if ended == [leaves.user()]));
    let report = publisher.update_encryption_key(&stream, KeyUpdateMethod::Rekey, None).await.unwrap();
    assert_eq!(report.pushed, [stays.user()]);
    assert!(matches!(report.refused[..], [(user, Refusal::Expired { .. })] if user == leaves.user()));

    say(&publisher, &stream, "four").await;
    assert_eq!(next_text(&mut of_stays).await, "four");
    assert!(matches!(next_event(&mut of_leaves, refusal).await, Refusal::Expired { .. }));
    assert_eq!(stays.stats().key_requests_sent, 1, "the rekeyed key was pushed");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_rotate_regardless_a_subscriber_whose_grant_ended_reads_on_until_the_next_rekey_and_after_a_restart_too()
{
    let net = Net::start().await;
    let store = Arc::new(MemoryKeyStore::default());
    let mut patient = config();
    // Only a message is a reason to look, here.
    patient.end_window = LONG;
    let publisher = net.client_with(1, store.clone(), patient.clone()).await;
    let stream = publisher.create_stream("s", StreamOptions::default()).await.unwrap();
    let (subscriber, mut subscription) = net.granted_reader(2, &publisher, &stream).await;
    let (another, _) = net.granted_reader(3, &publisher, &stream).await;
    net.ready(&publisher, &stream, 1).await;
    say(&publisher, &stream, "one").await;
    assert_eq!(next_text(&mut subscription).await, "one");
    publisher.revoke(&stream, subscriber.user(), Permission::Subscribe).await.unwrap();
    let rotated = publisher.rotate_regardless(&stream, None).await.unwrap();
    for text in ["two", "three"] {
        say(&publisher, &stream, text).await;
        assert_eq!(next_text(&mut subscription).await, text);
    }
    publisher.stop().await;
    let publisher = net.client_with(1, store, patient).await;
    net.ready(&publisher, &stream, 1).await;
    say(&publisher, &stream, "four").await;
    let four = next_message(&mut subscription).await;
    assert_eq!((four.text(), Some(&rotated.key_id)), (Some("four"), four.key_id.as_ref()));

    publisher.revoke(&stream, another.user(), Permission::Subscribe).await.unwrap();
    say(&publisher, &stream, "five").await;
    assert!(matches!(next_event(&mut subscription, refusal).await, Refusal::Expired { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_message_after_a_grant_ended_is_under_a_new_key_without_anyone_asking_for_it() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let (subscriber, mut subscription) = net.granted_reader(2, &publisher, &stream).await;
    net.ready(&publisher, &stream, 1).await;
    say(&publisher, &stream, "paid").await;
    assert_eq!(next_text(&mut subscription).await, "paid");
    publisher.revoke(&stream, subscriber.user(), Permission::Subscribe).await.unwrap();
    say(&publisher, &stream, "unpaid").await;
    assert!(matches!(next_event(&mut subscription, refusal).await, Refusal::Expired { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_publisher_answers_for_old_keys_before_publishing_and_goes_on_with_its_latest() {
    let net = Net::start().await;
    let store = Arc::new(MemoryKeyStore::default());
    let publisher = net.client_with(1, store.clone(), config()).await;
    let stream = publisher.create_stream("s", StreamOptions::default()).await.unwrap();
    let (first, late) = (net.client(2).await, net.client(3).await);
    for user in [first.user(), late.user()] {
        publisher.grant(&stream, user, Permission::Subscribe, Period::ALWAYS).await.unwrap();
    }
    let mut subscription = first.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 1).await;
    say(&publisher, &stream, "old").await;
    let old = next_message(&mut subscription).await;
    publisher.update_encryption_key(&stream, KeyUpdateMethod::Rekey, None).await.unwrap();
    say(&publisher, &stream, "new").await;
    let new = next_message(&mut subscription).await;
    publisher.stop().await;

    let restarted = net.client_with(1, store, config()).await;
    assert_eq!(within(late.open(old.envelope)).await.unwrap().text(), Some("old"));
    say(&restarted, &stream, "newer").await;
    assert_eq!(next_message(&mut subscription).await.key_id, new.key_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn pre_agreed_keys_need_no_key_request_and_a_missing_one_is_an_error_naming_its_id() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let (holds, lacks) = (net.client(2).await, net.client(3).await);
    for user in [holds.user(), lacks.user()] {
        publisher.grant(&stream, user, Permission::Subscribe, Period::ALWAYS).await.unwrap();
    }
    let key = GroupKey::new(KeyId::new("spring-2027").unwrap(), &[9; 32]).unwrap();
    publisher.add_encryption_key(&key, publisher.user(), &stream).await.unwrap();
    publisher.update_encryption_key(&stream, KeyUpdateMethod::Rekey, Some(key.clone())).await.unwrap();
    holds.add_encryption_key(&key, publisher.user(), &stream).await.unwrap();
    let mut of_holds = holds.subscribe(&stream).await.unwrap();
    let mut of_lacks = lacks.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 2).await;
    say(&publisher, &stream, "agreed").await;
    assert_eq!(next_text(&mut of_holds).await, "agreed");
    assert_eq!(holds.stats().key_requests_sent, 0);
    let named = |event: &Event| match event {
        Event::KeyRefused { key_id, refusal, .. } => Some((key_id.clone(), *refusal)),
        _ => None,
    };
    assert_eq!(next_event(&mut of_lacks, named).await, (key.id().clone(), Refusal::Policy));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_stream_is_plaintext_and_once_made_private_the_next_message_is_encrypted() {
    let net = Net::start().await;
    let publisher = net.client(1).await;
    let options = StreamOptions { public: true, ..StreamOptions::default() };
    let stream = publisher.create_stream("s", options).await.unwrap();
    let anybody = net.client(2).await;
    let mut subscription = anybody.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 1).await;
    say(&publisher, &stream, "for all").await;
    let open = next_message(&mut subscription).await;
    assert_eq!((open.text(), &open.key_id), (Some("for all"), &None));
    publisher.set_public(&stream, false).await.unwrap();
    say(&publisher, &stream, "not for all").await;
    assert_eq!(next_event(&mut subscription, refusal).await, Refusal::Denied);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_published_is_a_typed_error_and_nothing_is_sent() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let other = net.client(2).await;
    let subscription = other.subscribe(&stream).await.unwrap();
    let refused = other.publish(&stream, Payload::text("x")).await.unwrap_err();
    let text = refused.to_string();
    assert!(text.contains(&other.user().to_string()) && text.contains(stream.as_str()), "{text}");
    let oversized = publisher.publish(&stream, Payload::binary(vec![0; (1 << 20) + 1])).await.unwrap_err();
    assert!(matches!(oversized, ClientError::PayloadTooLarge { size: 1_048_577, limit: 1_048_576 }));
    let outside = publisher.publish_to(&stream, Partition::Number(1), Payload::text("x"), None).await;
    assert!(matches!(outside, Err(ClientError::StreamId(_))));
    let at = publisher.publish(&stream, Payload::text("now")).await.unwrap();
    let earlier = Timestamp::from_millis(at.timestamp.as_millis() - 1);
    let back_dated = publisher.publish_to(&stream, Partition::default(), Payload::text("x"), Some(earlier)).await;
    assert!(matches!(back_dated, Err(ClientError::BackDated(_))));
    assert_eq!((publisher.stats().messages_published, other.stats().messages_published), (1, 0));
    drop(subscription);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_concurrent_publishes_form_one_unbroken_chain_under_one_key() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let (_subscriber, mut subscription) = net.granted_reader(2, &publisher, &stream).await;
    net.ready(&publisher, &stream, 1).await;
    let calls = (0..100).map(|n| {
        let (publisher, stream) = (publisher.clone(), stream.clone());
        tokio::spawn(async move { publisher.publish(&stream, Payload::text(n.to_string())).await.unwrap() })
    });
    let calls: Vec<_> = calls.collect();
    let mut published = Vec::new();
    for call in calls {
        published.push(call.await.unwrap());
    }
    published.sort();
    let mut keys = std::collections::BTreeSet::new();
    for expected in published {
        match within(subscription.next()).await.unwrap() {
            Delivery::Message(message) => {
                assert_eq!(message.at, expected);
                keys.insert(message.key_id);
            }
            Delivery::Event(Event::KeyPending { .. } | Event::KeyArrived { .. }) => {
                let message = next_message(&mut subscription).await;
                assert_eq!(message.at, expected);
                keys.insert(message.key_id);
            }
            Delivery::Event(event) => panic!("{event:?}"),
        }
    }
    assert_eq!(keys.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_one_mebibyte_and_an_empty_one_arrive_unchanged() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let (_subscriber, mut subscription) = net.granted_reader(2, &publisher, &stream).await;
    net.ready(&publisher, &stream, 1).await;
    let large: Vec<u8> = (0..1 << 20).map(|n| n as u8).collect();
    for payload in [large, Vec::new()] {
        publisher.publish(&stream, Payload::binary(payload.clone())).await.unwrap();
        assert_eq!(next_message(&mut subscription).await.payload, payload);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_got_a_key_while_the_stream_was_public_reads_nothing_once_it_is_private_again() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let (_reader, mut reads) = net.granted_reader(2, &publisher, &stream).await;
    let stranger = net.client(3).await;
    let mut listens = stranger.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 2).await;
    say(&publisher, &stream, "one").await;
    let sealed = next_message(&mut reads).await.envelope;
    assert_eq!(next_event(&mut listens, refusal).await, Refusal::Denied);

    publisher.set_public(&stream, true).await.unwrap();
    let visitor = net.client(4).await;
    assert_eq!(within(visitor.open(sealed)).await.unwrap().text(), Some("one"));
    let mut visits = visitor.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 3).await;
    publisher.set_public(&stream, false).await.unwrap();
    say(&publisher, &stream, "two").await;
    assert_eq!(next_text(&mut reads).await, "two");
    assert_eq!(next_event(&mut visits, refusal).await, Refusal::Denied);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_grant_does_not_replace_a_pre_agreed_key() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let key = GroupKey::new(KeyId::new("agreed").unwrap(), &[9; 32]).unwrap();
    publisher.add_encryption_key(&key, publisher.user(), &stream).await.unwrap();
    publisher.update_encryption_key(&stream, KeyUpdateMethod::Rekey, Some(key.clone())).await.unwrap();
    let partner = net.client(2).await;
    partner.add_encryption_key(&key, publisher.user(), &stream).await.unwrap();
    let mut reads = partner.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 1).await;
    let somebody = identity(7).user();
    publisher.grant(&stream, somebody, Permission::Subscribe, Period::ALWAYS).await.unwrap();
    publisher.revoke(&stream, somebody, Permission::Subscribe).await.unwrap();
    say(&publisher, &stream, "still ours").await;
    assert_eq!(next_text(&mut reads).await, "still ours");
    let rotated = publisher.update_encryption_key(&stream, KeyUpdateMethod::Rotate, Some(key)).await;
    assert!(matches!(rotated, Err(ClientError::PreAgreed { .. })), "rotate would hand it out: {rotated:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_subscription_leaves_its_topic_and_a_later_one_joins_again() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let (reader, subscription) = net.granted_reader(2, &publisher, &stream).await;
    net.ready(&publisher, &stream, 1).await;
    drop(subscription);
    within(net.relay.wait_for_no_peers(&stream.part(0).unwrap())).await;
    let mut again = reader.subscribe(&stream).await.unwrap();
    // The publisher may still hear of the relay's leaving after its coming back: it goes on until it is heard.
    let heard = within(async {
        loop {
            say(&publisher, &stream, "heard").await;
            if let Ok(text) = tokio::time::timeout(Duration::from_millis(200), next_text(&mut again)).await {
                return text;
            }
        }
    });
    assert_eq!(heard.await, "heard");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_client_says_so_and_nothing_hangs() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let (reader, mut reads) = net.granted_reader(2, &publisher, &stream).await;
    net.ready(&publisher, &stream, 1).await;
    say(&publisher, &stream, "one").await;
    let sealed = next_message(&mut reads).await.envelope;
    within(reader.stop()).await;
    assert!(within(reads.next()).await.is_none());
    assert!(matches!(within(reader.open(sealed)).await, Err(ClientError::Stopped)));
    assert!(matches!(within(reader.subscribe(&stream)).await, Err(ClientError::Stopped)));
    within(reader.wait_for_peers(&stream.part(0).unwrap(), 5)).await;
    within(reader.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_settings_are_refused_at_the_start() {
    let start = |config| async { veilcast::Client::builder(identity(1)).config(config).start().await.unwrap_err() };
    let mut small = config();
    small.rsa_bits = 1024;
    assert!(matches!(start(small).await, ClientError::Rsa(_)));
    let mut large = config();
    large.max_payload = 100 << 20;
    assert!(matches!(start(large).await, ClientError::Config(_)));
    let mut silent = config();
    silent.requester.max_key_requests_per_second = 0;
    assert!(matches!(start(silent).await, ClientError::Config(_)));
}
