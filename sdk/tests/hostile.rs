//! Peers that break the rules, against real nodes over loopback TCP: what they send changes nothing for anybody else.

#![cfg(feature = "p2p")]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use prost::Message as _;
use support::*;
use veilcast::cipher::PublicKey;
use veilcast::client::{Client, KeyUpdateMethod, StreamOptions};
use veilcast::exchange::AskFailure;
use veilcast::key_store::{GroupKey, KeyStore, MemoryKeyStore};
use veilcast::message::Draft;
use veilcast::network::RequestError;
use veilcast::permission::{Answer, Grant, LocalRegistry, PermissionSource, StreamInfo, Subscriber};
use veilcast::time::{Clock, SystemClock, Timestamp};
use veilcast::wire::{
    Content, Frame, GrantedKey, KeyAnswer, KeyPush, KeyReceipt, KeyRequest, MessageContent, MessageRef,
    PublisherRecord, Received, RequestId, Verified, Wanted,
};
use veilcast::{Delivery, Event, Identity, Payload, Period, Permission, Refusal, StreamId, StreamPart, UserId};

/// A publisher that holds the key `k`, which identity 2 may have.
struct Selling {
    net: Net,
    publisher: Client,
    stream: StreamId,
    key: GroupKey,
    asker: Identity,
}

impl Selling {
    async fn start() -> Self {
        let net = Net::start().await;
        let (publisher, stream) = net.publisher().await;
        let (key, asker) = (group_key("k", 7), identity(2));
        publisher.update_encryption_key(&stream, KeyUpdateMethod::Rekey, Some(key.clone())).await.unwrap();
        publisher.grant(&stream, asker.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
        Self { net, publisher, stream, key, asker }
    }

    fn request(&self) -> KeyRequest {
        key_request(&self.asker, self.publisher.user(), &self.stream, &[self.key.id()])
    }

    fn signed(&self, request: KeyRequest) -> Bytes {
        Verified::sign(request, &self.asker).unwrap().envelope().clone()
    }

    /// An honest request is answered.
    async fn serves(&self, raw: &Raw) {
        let request = Verified::sign(self.request(), &self.asker).unwrap();
        assert!(opened(&raw.answer(&self.publisher, &request).await)[0].same_as(&self.key));
    }
}

/// Declined without a word, and at once rather than by a timeout.
fn silent(answer: &Result<Bytes, RequestError>) -> bool {
    matches!(answer, Err(RequestError::Closed(_)))
}

fn hex_vector(name: &str) -> Vec<u8> {
    let file = format!("{}/tests/vectors/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    hex::decode(std::fs::read_to_string(file).unwrap().trim()).unwrap()
}

/// A record of somebody who publishes nothing, to be recognised by.
async fn marker(raw: &Raw, identity: &Identity) -> Bytes {
    let record = Verified::sign(raw.record(identity).await, identity).unwrap();
    Frame::of_record(record.envelope().clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_stale_misdirected_forged_and_replayed_requests_get_silence_and_an_honest_one_right_after_its_key() {
    let selling = Selling::start().await;
    let raw = Raw::start(&selling.net.address).await;
    let (request, now) = (selling.request(), SystemClock.now());
    let fresh = || KeyRequest { id: RequestId(rand::random()), ..request.clone() };
    let valid = || AnyEnvelope::of(&fresh(), &selling.asker);
    let minute = Duration::from_secs(65);
    let replayed = selling.signed(fresh());
    assert!(!silent(&raw.ask(&selling.publisher, replayed.clone()).await));
    let ids = request.wanted.key_ids();
    let twice = KeyRequest { wanted: Wanted::Keys([ids, ids].concat()), ..fresh() };
    let message = sealed(
        Draft {
            part: selling.stream.part(0).unwrap(),
            chain: [1; 16],
            at: MessageRef { timestamp: now, sequence: 0 },
            previous: None,
            key_updates: Vec::new(),
        },
        "x",
        &selling.key,
        &selling.asker,
    );
    let attempts: [(&str, Bytes); 15] = [
        ("nothing", Bytes::new()),
        ("garbage", Bytes::from_static(b"\xff\xff\xff\xff garbage")),
        ("cut short", valid().bytes().slice(..40)),
        ("of another version", AnyEnvelope { version: 2, ..valid() }.bytes()),
        ("of an unknown kind", AnyEnvelope { kind: 99, ..valid() }.bytes()),
        ("a message", message.envelope().clone()),
        ("with a field beside the four", AnyEnvelope { extra: vec![1], ..valid() }.bytes()),
        ("with the signature of another kind", {
            let content = fresh().encode();
            let signature = selling.asker.sign(veilcast::identity::Domain::KeyAnswer, &content);
            AnyEnvelope { content, signature: signature.as_bytes().to_vec(), ..valid() }.bytes()
        }),
        ("without a signature", AnyEnvelope { signature: Vec::new(), ..valid() }.bytes()),
        ("signed by somebody else", AnyEnvelope::of(&fresh(), &identity(9)).bytes()),
        ("old", selling.signed(KeyRequest { sent: now.minus(minute), ..fresh() })),
        ("from the future", selling.signed(KeyRequest { sent: now.plus(minute), ..fresh() })),
        ("for another publisher", selling.signed(KeyRequest { publisher: identity(9).user(), ..fresh() })),
        ("naming a key twice", AnyEnvelope::of(&twice, &selling.asker).bytes()),
        ("replayed", replayed),
    ];
    for (counted, (what, bytes)) in attempts.into_iter().enumerate() {
        let answer = raw.ask(&selling.publisher, bytes).await;
        assert!(silent(&answer), "a request {what}: {answer:?}");
        assert_eq!(selling.publisher.stats().key_requests_dropped, counted as u64 + 1, "a request {what}");
    }
    assert_eq!(selling.publisher.stats().keys_granted, 1, "only the one that was replayed later");
    selling.serves(&raw).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_request_is_cut_off_and_an_honest_one_right_after_is_answered() {
    let selling = Selling::start().await;
    let raw = Raw::start(&selling.net.address).await;
    let limit = config().network.max_request;
    let answer = raw.ask(&selling.publisher, vec![0; limit + 1]).await;
    assert!(silent(&answer), "{answer:?}");
    assert_eq!(selling.publisher.stats().key_requests_received, 0);
    selling.serves(&raw).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn public_keys_that_are_too_small_too_large_or_no_rsa_are_refused_by_name_or_dropped() {
    let selling = Selling::start().await;
    let raw = Raw::start(&selling.net.address).await;
    let good = selling.request().public_key;
    let with = |public_key: Vec<u8>| selling.signed(KeyRequest { public_key, ..selling.request() });
    let changed = |from_end: usize, byte: fn(u8) -> u8| {
        let mut der = good.clone();
        let at = der.len() - from_end;
        der[at] = byte(der[at]);
        der
    };
    // SubjectPublicKeyInfo of Ed25519 (RFC 8410, section 10.1).
    let ed25519 = "302a300506032b657003210019bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";
    // The last five bytes are the exponent 65537: 02 03 01 00 01. Before them ends the modulus.
    let refused = [
        ("RSA-1024", hex_vector("rsa_public_1024")),
        ("RSA-2047", hex_vector("rsa_public_2047")),
        ("RSA-4104", hex_vector("rsa_public_4104")),
        ("Ed25519", hex::decode(ed25519).unwrap()),
        ("nothing", Vec::new()),
        ("garbage", vec![0xa5; 294]),
        ("cut short", good[..good.len() - 1].to_vec()),
        ("an even modulus", changed(6, |byte| byte & !1)),
        ("an even exponent", changed(1, |_| 0)),
        ("exponent 1", {
            let mut der = good.clone();
            let end = der.len();
            der[end - 3..].copy_from_slice(&[0, 0, 1]);
            der
        }),
    ];
    for (what, public_key) in refused {
        let answer = raw.ask(&selling.publisher, with(public_key)).await;
        let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(refusal_of(&answer_of(&answer)), Refusal::UnacceptableAlgorithm, "{what}");
    }
    // Longer than any acceptable key: not even decoded.
    for (what, public_key) in [("RSA-8192", hex_vector("rsa_public_8192")), ("a long one", vec![0xa5; 60_000])] {
        let long = KeyRequest { public_key, ..selling.request() };
        let answer = raw.ask(&selling.publisher, AnyEnvelope::of(&long, &selling.asker).bytes()).await;
        assert!(silent(&answer), "{what}: {answer:?}");
    }
    assert_eq!(selling.publisher.stats().keys_granted, 0);
    selling.serves(&raw).await;
}

/// Ways to answer a request wrongly. `earlier` was a true answer to the same question.
fn wrong_answers(publisher: &HandMade, request: &KeyRequest, earlier: &Bytes) -> Vec<(&'static str, Bytes)> {
    let intruder = identity(9);
    let answer = || publisher.answer(request).into_content();
    let signed = |answer: KeyAnswer| Verified::sign(answer, &publisher.identity).unwrap().envelope().clone();
    let not_asked = {
        let mut ids = request.wanted.key_ids().to_vec();
        ids.push(veilcast::key_store::KeyId::new("not-asked").unwrap());
        let more = KeyRequest { wanted: Wanted::Keys(ids.clone()), ..request.clone() };
        let decisions = ids.iter().map(|id| (id.clone(), Ok(stored(&group_key(id.as_str(), 0x5a)))));
        let (now, rng) = (SystemClock.now(), &mut rand::rng());
        veilcast::exchange::answer(&more, decisions.collect(), &publisher.identity, now, rng).unwrap()
    };
    let twice = {
        let mut answer = answer();
        answer.granted.push(answer.granted[0].clone());
        answer
    };
    vec![
        ("nothing", Bytes::new()),
        ("garbage", Bytes::from_static(b"\x08\x01garbage")),
        ("an echo", Verified::sign(request.clone(), &identity(2)).unwrap().envelope().clone()),
        ("of somebody else, in his own name", {
            let answer = KeyAnswer { publisher: intruder.user(), ..answer() };
            Verified::sign(answer, &intruder).unwrap().envelope().clone()
        }),
        ("of somebody else, in the publisher's name", AnyEnvelope::of(&answer(), &intruder).bytes()),
        ("to a request of another id", signed(KeyAnswer { id: RequestId([8; 16]), ..answer() })),
        ("to an earlier request", earlier.clone()),
        ("for another subscriber", signed(KeyAnswer { requester: intruder.user(), ..answer() })),
        ("about another stream", {
            let stream = StreamId::of(publisher.identity.user(), "t").unwrap();
            signed(KeyAnswer { stream, ..answer() })
        }),
        ("with keys not asked for", not_asked.envelope().clone()),
        ("with a key twice", signed(twice)),
        (
            "with a foreign signature kind",
            AnyEnvelope { kind: 4, ..AnyEnvelope::of(&answer(), &publisher.identity) }.bytes(),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_not_the_publishers_to_this_very_request_are_ignored_and_the_true_one_still_works() {
    let net = Net::start().await;
    let mut publisher = HandMade::start(&net, 1).await;
    let store = Arc::new(MemoryKeyStore::default());
    let mut config = config();
    config.requester.retry_base = Duration::from_millis(20);
    config.requester.retry_max = Duration::from_millis(40);
    config.requester.max_tries = 1000;
    let subscriber = net.join(net.builder(2).store(store.clone()).config(config)).await;
    let mut subscription = subscriber.subscribe(&publisher.stream).await.unwrap();
    within(net.relay.wait_for_peers(&publisher.part(), 1)).await;
    publisher.say("one").await;

    let (first, reply) = publisher.requested().await;
    let earlier = publisher.answer(&first).envelope().clone();
    drop(reply);
    let mut wrong = 0;
    loop {
        let (request, reply) = publisher.requested().await;
        let Some((what, bytes)) = wrong_answers(&publisher, &request, &earlier).into_iter().nth(wrong) else {
            reply.send(publisher.answer(&request).envelope().to_vec());
            break;
        };
        reply.send(bytes.to_vec());
        wrong += 1;
        let until_ignored = async || subscriber.stats().key_answers_ignored == wrong as u64;
        until(until_ignored).await;
        assert_eq!(subscriber.stats().key_answers_accepted, 0, "an answer {what}");
    }
    assert_eq!(wrong, 12);
    let mut failures = Vec::new();
    let read = within(async {
        loop {
            match subscription.next().await.unwrap() {
                Delivery::Message(message) => return message,
                Delivery::Event(Event::KeyRetry { failure, .. }) => failures.push(failure),
                Delivery::Event(_) => {}
            }
        }
    });
    assert_eq!(read.await.text(), Some("one"));
    assert_eq!(failures.iter().filter(|failure| **failure == AskFailure::BadAnswer).count(), wrong);
    assert_eq!(subscriber.stats().key_answers_accepted, 1);
    // Nothing but the key that was asked for was kept.
    let scope = veilcast::scope(publisher.identity.user(), &publisher.stream);
    assert_eq!(store.scopes().unwrap(), std::slice::from_ref(&scope));
    let kept = store.history(&scope, veilcast::key_store::TimeRange::ALL, None, 10).unwrap();
    assert!(matches!(&kept[..], [only] if only.key.same_as(&publisher.key)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_sends_subscribers_elsewhere_counts_only_from_the_publisher_himself() {
    let selling = Selling::start().await;
    let Selling { net, publisher, stream, .. } = &selling;
    // Read by a witness, so that the subscriber has only the DHT to find the publisher by.
    let witness = net.client(2).await;
    let mut of_witness = witness.subscribe(stream).await.unwrap();
    net.ready(publisher, stream, 1).await;
    say(publisher, stream, "one").await;
    let one = next_message(&mut of_witness).await;

    let key = PublisherRecord::dht_key(publisher.user(), 0);
    let (mut thief, observer) = (Raw::start(&net.address).await, Raw::leaf(&net.address).await);
    let later = SystemClock.now().plus(Duration::from_secs(30));
    let lie = PublisherRecord { publisher: publisher.user(), issued: later, ..thief.record(&selling.asker).await };
    let lie = AnyEnvelope::of(&lie, &identity(9)).bytes();
    let own = Verified::sign(thief.record(&identity(9)).await, &identity(9)).unwrap().envelope().clone();
    // One that nobody asks keeps no record of its own in the way of what the others keep.
    let (sender, own_key) = (Raw::leaf(&net.address).await, PublisherRecord::dht_key(identity(9).user(), 0));
    for (from, key, value) in [
        (&thief, &key, &lie),
        (&sender, &key, &lie),
        (&sender, &key, &own),
        // In its own place it is taken, and with it whatever was sent before was looked at.
        (&sender, &own_key, &own),
    ] {
        let put = from.network.put_record(key.clone(), value.to_vec(), Duration::from_secs(600));
        within(put).await.unwrap();
    }
    let lookup = async |key: &Vec<u8>| within(observer.network.get_record(key.clone())).await.unwrap();
    until(async || lookup(&own_key).await.contains(&own.to_vec())).await;
    assert!(!lookup(&key).await.contains(&own.to_vec()), "a record was taken in another's place");
    let subscriber = net.client(3).await;
    publisher.grant(stream, subscriber.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    // The thief itself answers lookups, too.
    within(subscriber.connect(thief.network.listen_addresses().await.remove(0))).await.unwrap();
    assert_eq!(within(subscriber.open(one.envelope)).await.unwrap().text(), Some("one"));
    assert_eq!(subscriber.stats().key_requests_sent, 1);
    while let Ok(event) = thief.events.try_recv() {
        assert!(!matches!(event, veilcast::network::NetworkEvent::Request { .. }), "{event:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_record_of_the_publisher_played_again_does_not_take_the_place_of_the_present_one() {
    let net = Net::start().await;
    let author = identity(1);
    let (old_home, home) = (Raw::leaf(&net.address).await, Raw::leaf(&net.address).await);
    let now = SystemClock.now();
    let sign =
        |record, issued| Verified::sign(PublisherRecord { issued, ..record }, &author).unwrap().envelope().to_vec();
    let old = sign(old_home.record(&author).await, now.minus(Duration::from_secs(10)));
    let present = sign(home.record(&author).await, now);
    let key = PublisherRecord::dht_key(author.user(), 0);
    // What it finds, the relay keeps.
    let (thief, observer) = (Raw::leaf(&net.address).await, Raw::leaf(&net.address).await);
    let lookup = async |key: &Vec<u8>| within(observer.network.get_record(key.clone())).await.unwrap();
    let put = async |from: &Raw, key: &Vec<u8>, value: &[u8]| {
        within(from.network.put_record(key.clone(), value.to_vec(), Duration::from_secs(600))).await.unwrap();
    };
    put(&old_home, &key, &old).await;
    until(async || lookup(&key).await == [old.clone()]).await;
    put(&home, &key, &present).await;
    until(async || lookup(&key).await == [present.clone()]).await;

    put(&thief, &key, &old).await;
    let (own_key, own) = (PublisherRecord::dht_key(identity(9).user(), 0), thief.record(&identity(9)).await);
    let own = Verified::sign(own, &identity(9)).unwrap().envelope().to_vec();
    put(&thief, &own_key, &own).await;
    until(async || lookup(&own_key).await == [own.clone()]).await;
    assert_eq!(lookup(&key).await, [present]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_passes_nothing_on_that_is_not_well_formed_signed_and_in_its_place() {
    let net = Net::start().await;
    let mut author = HandMade::start(&net, 1).await;
    let (part, elsewhere) = (author.part(), author.stream.part(1).unwrap());
    let mut ear = Raw::leaf(&net.address).await;
    ear.network.join(&part.topic()).await.unwrap();
    let subscriber = net.client(2).await;
    let subscription = subscriber.subscribe(&author.stream).await.unwrap();
    within(net.relay.wait_for_peers(&part, 2)).await;

    let intruder = identity(9);
    let forged = AnyEnvelope::of(author.message("forged").content(), &intruder).bytes();
    let damaged = {
        let mut bytes = author.message("damaged").envelope().to_vec();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        Bytes::from(bytes)
    };
    let misplaced = {
        let (at, draft) = (MessageRef { timestamp: SystemClock.now(), sequence: 0 }, [3; 16]);
        let draft = Draft { part: elsewhere, chain: draft, at, previous: None, key_updates: Vec::new() };
        sealed(draft, "misplaced", &author.key, &author.identity).envelope().clone()
    };
    let good = author.message("good").envelope().clone();
    let forged_record = AnyEnvelope::of(&author.raw.record(&author.identity).await, &intruder).bytes();
    let joined = |frames: &[Bytes]| Bytes::from(frames.concat());
    let bad: [(&str, Bytes); 8] = [
        ("garbage", Bytes::from_static(b"\xff\xff\xffgarbage")),
        ("an empty frame", Bytes::new()),
        ("an unknown part", joined(&[Frame::of_message(good.clone()), Bytes::from_static(b"\x1a\x01x")])),
        ("a forged message", Frame::of_message(forged.clone())),
        ("a damaged message", Frame::of_message(damaged)),
        ("a message of another partition", Frame::of_message(misplaced)),
        ("a forged message behind a good one", joined(&[Frame::of_message(good.clone()), Frame::of_message(forged)])),
        ("a forged record", Frame::of_record(forged_record)),
    ];
    for (what, frame) in bad {
        // A node of its own for each: after a few of these a relay does not listen any more.
        let hostile = Raw::leaf(&net.address).await;
        hostile.send(&part, frame).await;
        // It travels the same way behind the other, and is passed on.
        let mark = marker(&hostile, &intruder).await;
        hostile.send(&part, mark.clone()).await;
        assert_eq!(ear.frame().await, mark, "{what} was passed on");
    }
    // It was not the author whom the relay had something against.
    author.raw.send(&part, Frame::of_message(good)).await;
    until(async || subscriber.stats().messages_received == 1).await;
    drop(subscription);
}

/// The chain that the message in this frame belongs to.
fn chain_of(frame: &Bytes) -> (Verified<MessageContent>, [u8; 16]) {
    let message = Frame::decode(frame).unwrap().messages.remove(0).verify().unwrap();
    let chain = message.content().chain;
    (message, chain)
}

/// The next frame with a message in it.
async fn message_frame(ear: &mut Raw) -> Bytes {
    loop {
        let frame = ear.frame().await;
        if Frame::decode(&frame).is_ok_and(|parts| !parts.messages.is_empty()) {
            return frame;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_somebody_who_may_not_publish_is_reported_and_changes_nothing_for_the_true_publisher() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let subscriber = net.client(2).await;
    publisher.grant(&stream, subscriber.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    let part = stream.part(0).unwrap();
    let mut ear = Raw::leaf(&net.address).await;
    ear.network.join(&part.topic()).await.unwrap();
    let mut subscription = subscriber.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 2).await;
    say(&publisher, &stream, "one").await;
    assert_eq!(next_text(&mut subscription).await, "one");
    let (one, chain) = chain_of(&message_frame(&mut ear).await);

    // In the publisher's own chain, far ahead of it, under a key nobody has, carrying keys.
    let intruder = identity(9);
    let ahead = |n| MessageRef { timestamp: SystemClock.now().plus(Duration::from_secs(300)), sequence: n };
    let draft = |n, previous| Draft { part: part.clone(), chain, at: ahead(n), previous, key_updates: Vec::new() };
    let hostile = Raw::leaf(&net.address).await;
    for n in 0..3 {
        let message = sealed(draft(n, Some(one.content().at)), "intruding", &group_key("intruding", 1), &intruder);
        hostile.send(&part, Frame::of_message(message.envelope().clone())).await;
    }
    // The same in the publisher's name goes straight to the subscriber, for no relay would pass it on.
    let direct = Raw::leaf(subscriber.addresses().await.first().unwrap()).await;
    let named = sealed(draft(9, Some(one.content().at)), "forged", &group_key("intruding", 1), &identity(1));
    direct.send(&part, Frame::of_message(AnyEnvelope::of(named.content(), &intruder).bytes())).await;
    // Behind it on the same way comes one in the intruder's own name, so that the other is known to have been looked at.
    let message = sealed(draft(10, None), "intruding", &group_key("intruding", 1), &intruder);
    direct.send(&part, Frame::of_message(message.envelope().clone())).await;

    let reported = |event: &Event| match event {
        Event::NotAPublisher { publisher, refusal } => Some((*publisher, *refusal)),
        _ => None,
    };
    assert_eq!(next_event(&mut subscription, reported).await, (intruder.user(), Refusal::Denied));
    until(async || subscriber.stats().messages_received == 5).await;
    for text in ["two", "three"] {
        say(&publisher, &stream, text).await;
    }
    for text in ["two", "three"] {
        // Reported once; neither a gap, nor a pending key, nor another message.
        match within(subscription.next()).await.unwrap() {
            Delivery::Message(message) => {
                assert_eq!((message.text(), message.publisher), (Some(text), publisher.user()));
            }
            Delivery::Event(event) => panic!("{event:?}"),
        }
    }
    assert_eq!(subscriber.stats().key_requests_sent, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_sent_again_in_other_frames_are_delivered_once() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let subscriber = net.client(2).await;
    publisher.grant(&stream, subscriber.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    let part = stream.part(0).unwrap();
    let mut ear = Raw::leaf(&net.address).await;
    ear.network.join(&part.topic()).await.unwrap();
    let mut subscription = subscriber.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 2).await;
    let mut recorded = Vec::new();
    for text in ["one", "two"] {
        say(&publisher, &stream, text).await;
        assert_eq!(next_text(&mut subscription).await, text);
        let (message, _) = chain_of(&message_frame(&mut ear).await);
        recorded.push(Frame::of_message(message.envelope().clone()));
    }
    assert_eq!(subscriber.stats().messages_received, 2);

    // Each time with a new record beside it, so that the frame as a whole is news and gets through the relay.
    let (hostile, own) = (Raw::leaf(&net.address).await, identity(9));
    for again in [vec![&recorded[0]], vec![&recorded[1], &recorded[0]], vec![&recorded[0], &recorded[0]]] {
        let mut frame = again.into_iter().map(|bytes| bytes.as_ref()).collect::<Vec<_>>().concat();
        frame.extend_from_slice(&marker(&hostile, &own).await);
        hostile.send(&part, frame.clone()).await;
        // The publisher may say where it is in between.
        while ear.frame().await != frame {}
    }
    until(async || subscriber.stats().messages_received == 7).await;
    say(&publisher, &stream, "three").await;
    match within(subscription.next()).await.unwrap() {
        Delivery::Message(message) => assert_eq!(message.text(), Some("three")),
        Delivery::Event(event) => panic!("{event:?}"),
    }
    assert_eq!(subscriber.stats().messages_delivered, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_of_an_hour_ago_is_not_live_however_well_it_is_signed() {
    let net = Net::start().await;
    let mut publisher = HandMade::start(&net, 1).await;
    let subscriber = net.client(2).await;
    subscriber.add_encryption_key(&publisher.key, publisher.identity.user(), &publisher.stream).await.unwrap();
    let mut subscription = subscriber.subscribe(&publisher.stream).await.unwrap();
    within(net.relay.wait_for_peers(&publisher.part(), 1)).await;
    let at = MessageRef { timestamp: SystemClock.now().minus(Duration::from_secs(3600)), sequence: 0 };
    let draft = Draft { part: publisher.part(), chain: [77; 16], at, previous: None, key_updates: Vec::new() };
    let old = sealed(draft, "an hour ago", &publisher.key, &publisher.identity);
    let courier = Raw::leaf(&net.address).await;
    courier.send(&publisher.part(), Frame::of_message(old.envelope().clone())).await;
    until(async || subscriber.stats().messages_received == 1).await;
    publisher.say("now").await;
    assert_eq!(next_text(&mut subscription).await, "now");
    assert_eq!(subscriber.stats().messages_delivered, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_once_read_is_found_again_although_strangers_flooded_the_topic_with_their_records() {
    // More than a subscriber remembers strangers.
    const FRAMES: u64 = 80;
    let net = Net::start().await;
    let mut publisher = HandMade::start_unlisted(&net, 1).await;
    let reader = net.client(2).await;
    let mut subscription = reader.subscribe(&publisher.stream).await.unwrap();
    publisher.say("one").await;
    let (request, reply) = publisher.requested().await;
    reply.send(publisher.answer(&request).envelope().to_vec());
    assert_eq!(next_text(&mut subscription).await, "one");

    let flooder = Raw::leaf(&net.address).await;
    let content = flooder.record(&identity(9)).await;
    for n in 0..FRAMES {
        let mut frame = Vec::new();
        for k in 0..8 {
            let mut secret = [3; 32];
            secret[..8].copy_from_slice(&(8 * n + k).to_be_bytes());
            let stranger = Identity::from_secret_bytes(&secret).unwrap();
            let record = PublisherRecord { publisher: stranger.user(), ..content.clone() };
            frame.extend_from_slice(&Frame::of_record(Verified::sign(record, &stranger).unwrap().envelope().clone()));
        }
        flooder.send(&publisher.part(), frame).await;
    }
    // Behind the flood on its way: whoever has read this has heard every record before it.
    let end = publisher.message("end of the flood").envelope().clone();
    flooder.send(&publisher.part(), Frame::of_message(end)).await;
    assert_eq!(next_text(&mut subscription).await, "end of the flood");

    publisher.key = group_key("another-key", 0x5b);
    let message = publisher.message("two").envelope().clone();
    publisher.raw.send(&publisher.part(), Frame::of_message(message)).await;
    // The DHT does not know where it is: whoever forgot cannot ask.
    let (request, reply) = publisher.requested().await;
    reply.send(publisher.answer(&request).envelope().to_vec());
    assert_eq!(next_text(&mut subscription).await, "two");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_neighbour_that_comes_and_goes_does_not_make_a_publisher_flood_its_topic() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let part = stream.part(0).unwrap();
    let mut ear = Raw::leaf(&net.address).await;
    ear.network.join(&part.topic()).await.unwrap();
    net.ready(&publisher, &stream, 1).await;
    say(&publisher, &stream, "begin").await;
    message_frame(&mut ear).await;

    let restless = Raw::leaf(publisher.addresses().await.first().unwrap()).await;
    let started = Instant::now();
    for _ in 0..100 {
        restless.network.join(&part.topic()).await.unwrap();
        within(publisher.wait_for_peers(&part, 2)).await;
        restless.network.leave(&part.topic()).await;
    }
    restless.network.join(&part.topic()).await.unwrap();
    within(publisher.wait_for_peers(&part, 2)).await;
    say(&publisher, &stream, "end").await;
    let mut records = 0;
    loop {
        let parts = Frame::decode(&ear.frame().await).unwrap();
        records += parts.records.len();
        if !parts.messages.is_empty() {
            break;
        }
    }
    // One at once, then one a second.
    assert!(records as u64 <= 2 + started.elapsed().as_secs(), "{records} records in {:?}", started.elapsed());
}

/// Notes which streams anybody's permission was asked for.
struct Noting {
    inner: LocalRegistry,
    about: Mutex<BTreeSet<StreamId>>,
}

impl PermissionSource for Noting {
    fn check<'a>(
        &'a self,
        stream: &'a StreamId,
        user: UserId,
        permission: Permission,
        now: Timestamp,
    ) -> Answer<'a, Result<Grant, Refusal>> {
        self.about.lock().unwrap().insert(stream.clone());
        self.inner.check(stream, user, permission, now)
    }

    fn subscribers<'a>(&'a self, stream: &'a StreamId) -> Answer<'a, Result<Vec<Subscriber>, Refusal>> {
        self.inner.subscribers(stream)
    }

    fn stream<'a>(&'a self, stream: &'a StreamId) -> Answer<'a, Result<Option<StreamInfo>, Refusal>> {
        self.inner.stream(stream)
    }

    fn changes(&self) -> u64 {
        self.inner.changes()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_topics_are_not_what_a_publisher_asks_its_source_about_and_after_a_restart_it_greets_on_its_own() {
    let (net, store) = (Net::start().await, Arc::new(MemoryKeyStore::default()));
    let before = net.client_with(1, store.clone(), config()).await;
    let stream = before.create_stream("s", StreamOptions::default()).await.unwrap();
    say(&before, &stream, "makes a key").await;
    before.stop().await;

    let source = Arc::new(Noting { inner: LocalRegistry::new(store.clone()), about: Mutex::default() });
    let mut quiet = config();
    // Nobody looks at its streams by himself.
    quiet.rekey_on_end = false;
    let publisher = net.join(net.builder(1).store(store).permissions(source.clone()).config(quiet)).await;
    let mut stranger = Raw::leaf(publisher.addresses().await.first().unwrap()).await;
    for n in 0..200 {
        let made_up = StreamId::of(identity(9).user(), &n.to_string()).unwrap();
        stranger.network.join(&made_up.part(0).unwrap().topic()).await.unwrap();
    }
    let topic = stream.part(0).unwrap().topic();
    // By the second greeting, whatever was asked for the first is known.
    for _ in 0..2 {
        stranger.network.join(&topic).await.unwrap();
        assert_eq!(Frame::decode(&stranger.frame().await).unwrap().records.len(), 1);
        stranger.network.leave(&topic).await;
    }
    assert_eq!(*source.about.lock().unwrap(), BTreeSet::from([stream]));
}

/// Asks honestly, again and again; how long each answer took.
async fn ask_often(raw: &Raw, selling: &Selling, who: &Identity, times: usize) -> Vec<Duration> {
    let mut took = Vec::new();
    for _ in 0..times {
        let request = signed_request(who, selling.publisher.user(), &selling.stream, &[selling.key.id()]);
        let start = Instant::now();
        let answer = raw.answer(&selling.publisher, &request).await;
        took.push(start.elapsed());
        assert!(matches!(&opened(&answer)[..], [key] if key.same_as(&selling.key)), "{answer:?}");
    }
    took
}

fn p99(mut took: Vec<Duration>) -> Duration {
    took.sort();
    took[(took.len() * 99).div_ceil(100) - 1]
}

#[tokio::test(flavor = "multi_thread")]
async fn while_one_identity_floods_with_key_requests_it_is_throttled_and_every_other_is_answered() {
    /// Twice this is what one subscriber may ask at once.
    const TIMES: usize = 20;
    let selling = Arc::new(Selling::start().await);
    let others = [identity(3), identity(4)];
    for other in &others {
        let stream = &selling.stream;
        selling.publisher.grant(stream, other.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    }
    let honest = [Raw::start(&selling.net.address).await, Raw::start(&selling.net.address).await];
    let ask = async || {
        let all = join_all(honest.iter().zip(&others).map(|(raw, who)| ask_often(raw, &selling, who, TIMES)));
        p99(all.await.concat())
    };
    let quiet = ask().await;

    let (stop, throttled) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let granted = Arc::new(AtomicUsize::new(0));
    let (started, mut flood) = (Instant::now(), Vec::new());
    for _ in 0..3 {
        let raw = Arc::new(Raw::start(&selling.net.address).await);
        for _ in 0..16 {
            let (raw, selling, stop) = (raw.clone(), selling.clone(), stop.clone());
            let (throttled, granted) = (throttled.clone(), granted.clone());
            flood.push(tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let request = selling.signed(selling.request());
                    let Ok(answer) = raw.ask(&selling.publisher, request).await else { continue };
                    let answer = answer_of(&answer);
                    granted.fetch_add(answer.granted.len(), Ordering::SeqCst);
                    for refused in &answer.refused {
                        match refused.refusal {
                            Refusal::Throttled { retry_after } => assert!(retry_after >= Duration::from_secs(1)),
                            other => panic!("{other:?}"),
                        }
                        throttled.fetch_add(1, Ordering::SeqCst);
                    }
                }
            }));
        }
    }
    until(async || throttled.load(Ordering::SeqCst) > 100).await;
    let flooded = ask().await;
    stop.store(true, Ordering::SeqCst);
    for task in flood {
        within(task).await.unwrap();
    }
    let lasted = started.elapsed();
    println!("p99 of the others' answers: {quiet:?} quiet, {flooded:?} under a flood that lasted {lasted:?}");
    let (throttled, granted) = (throttled.load(Ordering::SeqCst), granted.load(Ordering::SeqCst));
    println!("the flood was granted {granted} keys and throttled {throttled} times");
    // However many peers it comes through.
    let allowed = config().screen.per_subscriber;
    let allowed = f64::from(allowed.burst) + f64::from(allowed.per_second) * lasted.as_secs_f64() + 1.0;
    assert!(granted as f64 <= allowed, "{granted} granted, {allowed} allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn pushed_keys_count_only_from_a_publisher_of_a_stream_subscribed_to_and_once() {
    let net = Net::start().await;
    let mut publisher = HandMade::start(&net, 1).await;
    let store = Arc::new(MemoryKeyStore::default());
    let subscriber = net.join(net.builder(2).store(store.clone())).await;
    let mut subscription = subscriber.subscribe(&publisher.stream).await.unwrap();
    within(net.relay.wait_for_peers(&publisher.part(), 1)).await;
    publisher.say("one").await;
    let (request, reply) = publisher.requested().await;
    reply.send(publisher.answer(&request).envelope().to_vec());
    assert_eq!(next_text(&mut subscription).await, "one");

    let public = PublicKey::from_der(&request.public_key).unwrap();
    let (intruder, next, now) = (identity(9), group_key("next", 3), SystemClock.now());
    let push = |key: &GroupKey, identity: &Identity, to: UserId, stream: &StreamId| {
        veilcast::exchange::push(stream, to, &public, &stored(key), identity, SystemClock.now(), &mut rand::rng())
            .unwrap()
            .into_content()
    };
    let (stream, to) = (publisher.stream.clone(), subscriber.user());
    let honest = || push(&next, &publisher.identity, to, &stream);
    let signed = |push: KeyPush, by: &Identity| Verified::sign(push, by).unwrap().envelope().clone();
    let other_stream = StreamId::of(publisher.identity.user(), "t").unwrap();
    let evil = group_key("evil", 4);
    let damaged = {
        let mut push = honest();
        let GrantedKey { wrapped, .. } = &mut push.granted[0];
        wrapped[20] ^= 1;
        push
    };
    let ignored: [(&str, Bytes); 8] = [
        ("from somebody who may not publish", signed(push(&evil, &intruder, to, &stream), &intruder)),
        ("on the pusher's own stream", {
            let made = StreamId::of(intruder.user(), "s").unwrap();
            signed(push(&evil, &intruder, to, &made), &intruder)
        }),
        (
            "for a stream not subscribed to",
            signed(push(&evil, &publisher.identity, to, &other_stream), &publisher.identity),
        ),
        (
            "for another subscriber",
            signed(push(&next, &publisher.identity, intruder.user(), &stream), &publisher.identity),
        ),
        ("forged", AnyEnvelope::of(&honest(), &intruder).bytes()),
        ("stale", signed(KeyPush { sent: now.minus(Duration::from_secs(65)), ..honest() }, &publisher.identity)),
        ("damaged", signed(damaged, &publisher.identity)),
        ("of another request", signed(KeyPush { id: RequestId([5; 16]), ..honest() }, &publisher.identity)),
    ];
    for (what, bytes) in ignored {
        let answer = publisher.raw.ask(&subscriber, bytes).await;
        assert!(silent(&answer), "a push {what}: {answer:?}");
    }
    assert_eq!(subscriber.stats().pushes_accepted, 0);
    let mine = veilcast::scope(publisher.identity.user(), &stream);
    assert_eq!(store.scopes().unwrap(), std::slice::from_ref(&mine));
    assert!(store.key(&mine, next.id()).unwrap().is_none());

    // The true one is confirmed, its replay is not, and its key opens the next message without a request.
    let (true_push, id) = {
        let push = honest();
        (signed(push.clone(), &publisher.identity), push.id)
    };
    let receipt = publisher.raw.ask(&subscriber, true_push.clone()).await.unwrap();
    let receipt = Received::<KeyReceipt>::decode(&receipt).unwrap().verify().unwrap().into_content();
    let expected = KeyReceipt { id, subscriber: to, publisher: publisher.identity.user(), stream };
    assert_eq!(receipt, expected);
    assert!(silent(&publisher.raw.ask(&subscriber, true_push).await));
    assert_eq!(subscriber.stats().pushes_accepted, 1);
    publisher.key = next;
    publisher.say("two").await;
    assert_eq!(next_text(&mut subscription).await, "two");
    assert_eq!(subscriber.stats().key_requests_sent, 1);
}

const SECRET: u8 = 0xa7;
const TEXT: &str = "a very secret text";

/// Whether bytes that are to stay secret stand in these, raw or written in a usual way.
fn leaks(bytes: &[u8]) -> Option<&'static str> {
    let raw = [SECRET; 8];
    let hex = hex::encode(raw);
    let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    let texts =
        [hex.clone(), hex.to_uppercase(), format!("{SECRET}, {SECRET}, "), "1, 1, 1, 1, ".into(), "01".repeat(8)];
    if holds(&raw) || texts.iter().any(|text| holds(text.as_bytes())) {
        return Some("a secret key");
    }
    let text = format!("{:?}", TEXT.as_bytes());
    let plain = [TEXT.into(), hex::encode(TEXT), text.trim_matches(['[', ']']).to_string()];
    plain.iter().any(|plain: &String| holds(plain.as_bytes())).then_some("plaintext")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_shows_in_debug_output_of_what_an_application_holds() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let subscriber = net.client(2).await;
    publisher.grant(&stream, subscriber.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    let key = group_key("k", SECRET);
    let report = publisher.update_encryption_key(&stream, KeyUpdateMethod::Rekey, Some(key.clone())).await.unwrap();
    let mut subscription = subscriber.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 1).await;
    let payload = Payload::text(TEXT);
    publisher.publish(&stream, payload.clone()).await.unwrap();
    let mut shown = vec![format!("{report:?} {payload:?} {key:?} {:?} {:?}", stored(&key), identity(1))];
    let mut events = 0;
    within(async {
        loop {
            let delivery = subscription.next().await.unwrap();
            shown.push(format!("{delivery:?} {delivery:#?}"));
            match delivery {
                Delivery::Message(message) => {
                    assert_eq!(message.text(), Some(TEXT));
                    return;
                }
                Delivery::Event(_) => events += 1,
            }
        }
    })
    .await;
    assert_eq!(events, 2, "pending, then arrived");
    for client in [&publisher, &subscriber] {
        shown.push(format!("{client:?} {client:#?} {:?} {:?}", client.stats(), client.user()));
    }
    let error = publisher.publish(&stream, Payload::binary(vec![SECRET; (1 << 20) + 1])).await.unwrap_err();
    shown.push(format!("{subscription:?} {error:?} {error} {:?} {:?}", net.relay, rsa()));
    for text in shown {
        assert_eq!(leaks(text.as_bytes()), None, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_listens_in_sees_neither_plaintext_nor_a_key_in_messages_rotations_or_answers() {
    let net = Net::start().await;
    let (publisher, stream) = net.publisher().await;
    let subscriber = net.client(2).await;
    publisher.grant(&stream, subscriber.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
    let key = group_key("k", SECRET);
    publisher.update_encryption_key(&stream, KeyUpdateMethod::Rekey, Some(key.clone())).await.unwrap();
    let mut ear = Raw::leaf(&net.address).await;
    let part: StreamPart = stream.part(0).unwrap();
    ear.network.join(&part.topic()).await.unwrap();
    let mut subscription = subscriber.subscribe(&stream).await.unwrap();
    net.ready(&publisher, &stream, 2).await;
    let mut heard = Vec::new();
    for n in 0..3 {
        // The second message carries the next key.
        if n == 1 {
            let next = Some(group_key("next", SECRET));
            publisher.update_encryption_key(&stream, KeyUpdateMethod::Rotate, next).await.unwrap();
        }
        say(&publisher, &stream, TEXT).await;
        assert_eq!(next_text(&mut subscription).await, TEXT);
        heard.push(message_frame(&mut ear).await);
    }
    let carried = chain_of(&heard[1]).0.content().key_updates.len();
    assert_eq!(carried, 1);
    let request = signed_request(&identity(2), publisher.user(), &stream, &[key.id()]);
    let answer = ear.ask(&publisher, request.envelope().to_vec()).await.unwrap();
    assert!(opened(&answer_of(&answer))[0].same_as(&key));
    heard.push(answer);
    for bytes in heard {
        assert_eq!(leaks(&bytes), None, "{}", hex::encode(&bytes));
    }
    // What is looked for would be found.
    assert_eq!(
        leaks(&AnyEnvelope { extra: vec![SECRET; 32], ..Default::default() }.encode_to_vec()),
        Some("a secret key")
    );
    assert_eq!(leaks(TEXT.as_bytes()), Some("plaintext"));
}
