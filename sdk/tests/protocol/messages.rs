//! Section M: what decoding and signatures refuse, and how a chain is linked.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use rand::SeedableRng;
use rand::rngs::StdRng;
use veilcast::cipher::MessageCipher;
use veilcast::exchange::{self, Page};
use veilcast::identity::{Domain, Identity, SignatureError};
use veilcast::key_store::{KeyId, KeyOrigin, StoredKey, TimeRange};
use veilcast::message::{ComposeError, Draft, Payload, compose};
use veilcast::publisher::Chain;
use veilcast::wire::{
    Content, Frame, KeyAnswer, KeyPush, KeyRange, KeyReceipt, KeyRequest, MessageContent, PublisherRecord, Received,
    Refused, RequestId, SignedGrant, StreamRecord, Verified, Wanted, WireError,
};
use veilcast::{Period, Permission, Refusal, StreamId, UserId};

use crate::support::{
    Envelope, MessageParts, NOW, Scripted, Verdict, answer, at, draft, field, judge, judge_as, key, message,
    page_answer, part, publisher, push, range_request, receipt, record, request, samples, scope, sealed,
    showing_request, signed_grant, stream, stream_record, subscriber, whole_refusal,
};

#[test]
fn an_unknown_version_is_refused_at_decoding() {
    for found in [0, 2, u32::MAX] {
        for (domain, sample) in samples() {
            let envelope = Envelope { version: found, ..Envelope::read(&sample) }.bytes();
            assert_eq!(judge_as(domain, &envelope), Verdict::Decode);
        }
        let envelope = Envelope { version: found, ..Envelope::read(message().envelope()) }.bytes();
        let refused = Received::<MessageContent>::decode(&envelope).unwrap_err();
        assert_eq!(refused, WireError::UnknownVersion { found });
    }
}

#[test]
fn an_unknown_or_other_kind_is_refused_at_decoding() {
    for (domain, sample) in samples() {
        for found in (0..14).filter(|kind| *kind != domain.number()) {
            let envelope = Envelope { kind: found, ..Envelope::read(&sample) }.bytes();
            assert_eq!(judge_as(domain, &envelope), Verdict::Decode, "{domain:?} as {found}");
        }
    }
    let envelope = Envelope { kind: 2, ..Envelope::read(message().envelope()) }.bytes();
    let refused = Received::<MessageContent>::decode(&envelope).unwrap_err();
    assert_eq!(refused, WireError::WrongKind { expected: 1, found: 2 });
}

#[test]
fn a_signature_for_one_kind_never_verifies_for_another() {
    for (domain, sample) in samples() {
        let Envelope { content, .. } = Envelope::read(&sample);
        let signer = if matches!(domain, Domain::KeyRequest | Domain::KeyReceipt | Domain::ResendRequest) {
            subscriber()
        } else {
            publisher()
        };
        for other in Domain::ALL.into_iter().filter(|other| *other != domain) {
            let foreign = Envelope::signed(other, content.clone(), &signer);
            let shown = Envelope { kind: domain.number(), ..foreign };
            assert_eq!(judge_as(domain, &shown.bytes()), Verdict::Signature, "{other:?} shown as {domain:?}");
        }
    }
}

#[test]
fn one_content_of_two_kinds_is_two_statements() {
    // Answer and push have one shape, so only the tag keeps them apart.
    let content = push().encode();
    let as_push = Envelope::signed(Domain::KeyPush, content.clone(), &publisher());
    assert_eq!(judge::<KeyPush>(&as_push.bytes()), Verdict::Accept);
    let shown = Envelope { kind: Domain::KeyAnswer.number(), ..as_push }.bytes();
    assert_eq!(judge::<KeyAnswer>(&shown), Verdict::Signature);
    let as_answer = Envelope::signed(Domain::KeyAnswer, content, &publisher());
    assert_eq!(judge::<KeyAnswer>(&as_answer.bytes()), Verdict::Accept);
    let shown = Envelope { kind: Domain::KeyPush.number(), ..as_answer }.bytes();
    assert_eq!(judge::<KeyPush>(&shown), Verdict::Signature);
}

/// Shows `other`'s content under the signature of `whole`.
fn moved<T: Content>(whole: &Bytes, other: &T) -> Verdict {
    let signature = Envelope::read(whole).signature;
    let shown = Envelope { version: 1, kind: T::DOMAIN.number(), content: other.encode(), signature };
    judge::<T>(&shown.bytes())
}

#[test]
fn a_signature_for_one_message_never_verifies_for_another_stream_partition_chain_or_place() {
    let (whole, payload) = (message(), Payload::text("a payload worth money"));
    let drafts = [
        Draft { part: stream("price").part(7).unwrap(), ..draft() },
        Draft { part: stream("prices").part(8).unwrap(), ..draft() },
        Draft { chain: [4; 16], ..draft() },
        Draft { at: at(6, 1), ..draft() },
        Draft { at: at(5, 2), ..draft() },
        Draft { previous: None, ..draft() },
        Draft { previous: Some(at(4, 0)), ..draft() },
        Draft { key_updates: Vec::new(), ..draft() },
    ];
    for draft in drafts {
        assert_eq!(moved(whole.envelope(), sealed(draft, &payload, &key("k", 1)).content()), Verdict::Signature);
    }
    for other in [
        sealed(draft(), &Payload::text("a payload worth moneY"), &key("k", 1)),
        sealed(draft(), &Payload::binary("a payload worth money"), &key("k", 1)),
        sealed(draft(), &payload, &key("l", 1)),
        sealed(draft(), &payload, &key("k", 2)),
        compose(draft(), &payload, None, &publisher(), &mut Scripted::new(&[])).unwrap(),
    ] {
        assert_eq!(moved(whole.envelope(), other.content()), Verdict::Signature);
    }
    assert_eq!(moved(whole.envelope(), whole.content()), Verdict::Accept);
}

#[test]
fn a_signature_of_one_publisher_never_verifies_for_another() {
    let whole = message();
    let theirs = compose(draft(), &Payload::text("x"), None, &subscriber(), &mut Scripted::new(&[])).unwrap();
    assert_eq!(moved(whole.envelope(), theirs.content()), Verdict::Signature);
    // Signed well, by somebody who is not the one named.
    let content = Envelope::read(whole.envelope()).content;
    let forged = Envelope::signed(Domain::Message, content, &subscriber()).bytes();
    let refused = Received::<MessageContent>::decode(&forged).unwrap().verify().unwrap_err();
    let (expected, found) = (publisher().user(), subscriber().user());
    assert_eq!(refused, SignatureError::Foreign { expected, found });
}

#[test]
fn a_signature_of_a_key_exchange_never_verifies_for_another_id_stream_publisher_subscriber_or_key() {
    let (id, stream, user) = (RequestId([9; 16]), stream("price"), UserId::from_bytes([1; 20]));
    let sign = |content: KeyRequest| Verified::sign(content, &subscriber()).unwrap().envelope().clone();
    let whole = sign(request());
    let others = [
        KeyRequest { id, ..request() },
        KeyRequest { stream: stream.clone(), ..request() },
        KeyRequest { publisher: user, ..request() },
        KeyRequest { requester: user, ..request() },
        KeyRequest { sent: NOW.plus(Duration::from_millis(1)), ..request() },
        KeyRequest { algorithm: 2, ..request() },
        KeyRequest { public_key: vec![1; 40], ..request() },
        KeyRequest { wanted: Wanted::Keys(vec![KeyId::new("k").unwrap()]), ..request() },
        showing_request(),
    ];
    assert!(others.iter().all(|other| moved(&whole, other) == Verdict::Signature));

    let whole = sign(range_request());
    let Wanted::Range(asked) = range_request().wanted else { panic!("a span of time") };
    let TimeRange { from, to } = asked.range;
    let with = |wanted| KeyRequest { wanted, ..request() };
    let range = |range, after| with(Wanted::Range(KeyRange { range, after }));
    let others = [
        with(request().wanted),
        range(TimeRange { from: from - 1, to }, asked.after.clone()),
        range(TimeRange { from, to: to + 1 }, asked.after.clone()),
        range(asked.range, None),
    ];
    assert!(others.iter().all(|other| moved(&whole, other) == Verdict::Signature));

    let whole = Verified::sign(page_answer(), &publisher()).unwrap().envelope().clone();
    let others = [answer(), whole_refusal()];
    assert!(others.iter().all(|other| moved(&whole, other) == Verdict::Signature));
    let whole = Verified::sign(whole_refusal(), &publisher()).unwrap().envelope().clone();
    let others = [KeyAnswer { refusal: Some(Refusal::Denied), ..whole_refusal() }, page_answer()];
    assert!(others.iter().all(|other| moved(&whole, other) == Verdict::Signature));

    let whole = Verified::sign(answer(), &publisher()).unwrap().envelope().clone();
    let mut other_reason = answer();
    other_reason.refused[0].refusal = Refusal::Denied;
    let mut other_time = answer();
    other_time.refused[0].refusal = Refusal::Expired { since: NOW.plus(Duration::from_millis(1)) };
    let mut other_wrap = answer();
    other_wrap.granted[0].wrapped[0] ^= 1;
    let mut other_period = answer();
    other_period.granted[0].until = None;
    let others = [
        KeyAnswer { id, ..answer() },
        KeyAnswer { stream: stream.clone(), ..answer() },
        KeyAnswer { publisher: user, ..answer() },
        KeyAnswer { requester: user, ..answer() },
        KeyAnswer { encapsulated: vec![1; 64], ..answer() },
        KeyAnswer { refused: Vec::new(), ..answer() },
        other_reason,
        other_time,
        other_wrap,
        other_period,
    ];
    assert!(others.iter().all(|other| moved(&whole, other) == Verdict::Signature));

    let whole = Verified::sign(push(), &publisher()).unwrap().envelope().clone();
    let others = [
        KeyPush { id, ..push() },
        KeyPush { stream: stream.clone(), ..push() },
        KeyPush { publisher: user, ..push() },
        KeyPush { subscriber: user, ..push() },
        KeyPush { sent: NOW.plus(Duration::from_millis(1)), ..push() },
    ];
    assert!(others.iter().all(|other| moved(&whole, other) == Verdict::Signature));

    let whole = Verified::sign(receipt(), &subscriber()).unwrap().envelope().clone();
    let others = [
        KeyReceipt { id, ..receipt() },
        KeyReceipt { subscriber: user, ..receipt() },
        KeyReceipt { publisher: user, ..receipt() },
        KeyReceipt { stream, ..receipt() },
    ];
    assert!(others.iter().all(|other| moved(&whole, other) == Verdict::Signature));
}

#[test]
fn a_publisher_record_is_believed_of_its_own_publisher_only() {
    let whole = Verified::sign(record(), &publisher()).unwrap().envelope().clone();
    let others = [
        PublisherRecord { publisher: subscriber().user(), ..record() },
        PublisherRecord { peer: vec![3; 38], ..record() },
        PublisherRecord { addresses: Vec::new(), ..record() },
        PublisherRecord { issued: NOW.plus(Duration::from_millis(1)), ..record() },
        PublisherRecord { expires: NOW.plus(Duration::from_millis(1)), ..record() },
        PublisherRecord { slot: 1, ..record() },
    ];
    assert!(others.iter().all(|other| moved(&whole, other) == Verdict::Signature));
    let keys = [publisher(), subscriber()]
        .iter()
        .flat_map(|author| PublisherRecord::slots().map(|slot| PublisherRecord::dht_key(author.user(), slot)))
        .collect::<std::collections::BTreeSet<_>>();
    assert_eq!(keys.len(), 2 * PublisherRecord::slots().len());
}

#[test]
fn a_grant_or_stream_record_is_believed_of_the_owner_that_its_stream_names_and_only_as_it_was_signed() {
    let whole = Verified::sign(signed_grant(), &publisher()).unwrap().envelope().clone();
    let (later, user) = (NOW.plus(Duration::from_secs(7200)), UserId::from_bytes([1; 20]));
    let others = [
        SignedGrant { stream: stream("price"), ..signed_grant() },
        SignedGrant { stream: StreamId::of(user, "prices").unwrap(), ..signed_grant() },
        SignedGrant { registry: "eip155:1:0x01".into(), ..signed_grant() },
        SignedGrant { user, ..signed_grant() },
        SignedGrant { permission: Permission::Publish, ..signed_grant() },
        SignedGrant { period: Period::until(later), ..signed_grant() },
        SignedGrant { serial: 5, ..signed_grant() },
        SignedGrant { issued: later, ..signed_grant() },
    ];
    assert!(others.iter().all(|other| moved(&whole, other) == Verdict::Signature));
    let by_another = Verified::sign(signed_grant(), &subscriber()).unwrap_err();
    let (expected, found) = (publisher().user(), subscriber().user());
    assert_eq!(by_another, SignatureError::Foreign { expected, found }.into());

    let whole = Verified::sign(stream_record(), &publisher()).unwrap().envelope().clone();
    let others = [
        StreamRecord { stream: stream("price"), ..stream_record() },
        StreamRecord { registry: "eip155:1:0x01".into(), ..stream_record() },
        StreamRecord { partitions: 1, ..stream_record() },
        StreamRecord { public: true, ..stream_record() },
        StreamRecord { public_until: None, ..stream_record() },
        StreamRecord { publishers: vec![user], ..stream_record() },
        StreamRecord { version: 8, ..stream_record() },
        StreamRecord { expires: NOW.plus(Duration::from_secs(1)), ..stream_record() },
        StreamRecord { revocations: Vec::new(), ..stream_record() },
        StreamRecord { storage: Vec::new(), ..stream_record() },
    ];
    assert!(others.iter().all(|other| moved(&whole, other) == Verdict::Signature));
}

#[test]
fn a_revocation_covers_one_serial_or_all_of_a_user_up_to_one_and_no_more() {
    let record = stream_record();
    let with = |user, serial| SignedGrant { user, serial, ..signed_grant() };
    let (of_it, of_another) = (subscriber().user(), UserId::from_bytes([1; 20]));
    assert_eq!(record.revoked(&with(of_it, 3)), Some(NOW));
    assert_eq!(record.revoked(&with(of_it, 1)), Some(NOW));
    assert_eq!(record.revoked(&with(of_it, 4)), None, "granted later");
    assert_eq!(record.revoked(&with(of_another, 3)), None);
    assert_eq!(record.revoked(&with(of_another, 9)), Some(NOW), "by its serial");
}

#[test]
fn a_publisher_record_holds_until_it_expires_and_from_a_minute_before_it_was_issued() {
    let record = record();
    assert!(record.holds_at(record.issued) && record.holds_at(record.expires.minus(Duration::from_millis(1))));
    assert!(!record.holds_at(record.expires));
    assert!(record.holds_at(record.issued.minus(Duration::from_secs(60))));
    assert!(!record.holds_at(record.issued.minus(Duration::from_millis(60_001))));
}

#[test]
fn nobody_can_sign_in_the_name_of_another() {
    fn refuses<T: Content + std::fmt::Debug>(content: T, identity: &veilcast::Identity) {
        let expected = content.signer();
        let refused = Verified::sign(content, identity).unwrap_err();
        assert_eq!(refused, WireError::Signature(SignatureError::Foreign { expected, found: identity.user() }));
    }
    refuses(request(), &publisher());
    refuses(answer(), &subscriber());
    refuses(push(), &subscriber());
    refuses(receipt(), &publisher());
    refuses(record(), &subscriber());
}

/// The four fields of an envelope, each as it is written.
fn written(whole: &Bytes) -> [Vec<u8>; 4] {
    let Envelope { version, kind, content, signature } = Envelope::read(whole);
    let small = |number: u8, value: u32| vec![number << 3, value.try_into().unwrap()];
    [small(1, version), small(2, kind), field(3, &content), field(4, &signature)]
}

#[test]
fn an_envelope_written_in_any_but_the_canonical_way_is_refused_though_its_signature_is_good() {
    for (domain, whole) in samples() {
        let [version, kind, content, signature] = written(&whole);
        let number = kind[1];
        let join = |parts: &[&[u8]]| Bytes::from(parts.concat());
        assert_eq!(join(&[&version, &kind, &content, &signature]), whole);
        let others = [
            ("an unknown field behind", join(&[&whole, &field(5, &[1, 2, 3])])),
            ("an unknown number behind", join(&[&whole, &[5 << 3, 1]])),
            ("an unknown field between", join(&[&version, &kind, &field(9, b""), &content, &signature])),
            ("an over-long value", join(&[&[1 << 3, 0x81, 0], &kind, &content, &signature])),
            ("an over-long field number", join(&[&version, &[2 << 3 | 0x80, 0, number], &content, &signature])),
            ("an over-long length", join(&[&version, &kind, &content, &[4 << 3 | 2, 0x80 | 65, 0], &signature[2..]])),
            ("a value beyond 32 bits", join(&[&[1 << 3, 0x81, 0x80, 0x80, 0x80, 0x10], &kind, &content, &signature])),
            ("a default before the value", join(&[&[1 << 3, 0], &version, &kind, &content, &signature])),
            ("an empty content before the content", join(&[&version, &kind, &field(3, b""), &content, &signature])),
            ("a field twice", join(&[&version, &kind, &content, &signature, &signature])),
            ("two fields exchanged", join(&[&kind, &version, &content, &signature])),
            ("the content behind its signature", join(&[&version, &kind, &signature, &content])),
        ];
        for (why, envelope) in others {
            assert_eq!(judge_as(domain, &envelope), Verdict::Decode, "{domain:?}: {why}");
            if domain == Domain::Message {
                let refused = Received::<MessageContent>::decode(&envelope).unwrap_err();
                assert_eq!(refused, WireError::NotCanonical, "{why}");
            }
        }
    }
}

#[test]
fn a_second_content_that_would_take_the_place_of_the_first_is_refused_at_decoding() {
    let whole = message();
    let other = sealed(Draft { chain: [4; 16], ..draft() }, &Payload::text("x"), &key("k", 1));
    let content = Envelope { version: 0, kind: 0, signature: Vec::new(), ..Envelope::read(other.envelope()) };
    let swapped: Bytes = [whole.envelope().as_ref(), &content.bytes()].concat().into();
    assert_eq!(Received::<MessageContent>::decode(&swapped).unwrap_err(), WireError::NotCanonical);
}

/// `content`, well signed by `identity`, as a receiver decodes it.
fn decoded<T: Content>(content: Vec<u8>, identity: &Identity) -> Result<T, WireError> {
    let envelope = Envelope::signed(T::DOMAIN, content, identity).bytes();
    let received = Received::<T>::decode(&envelope)?;
    Ok(received.verify().unwrap().into_content())
}

#[test]
fn a_receipt_without_a_sound_id_subscriber_publisher_and_stream_is_refused_at_decoding() {
    let (id, user) = ([6; 16], subscriber().user());
    let (whose, stream) = (publisher().user(), stream("prices"));
    let of = |id: &[u8], user: &[u8], whose: &[u8], stream: &[u8]| {
        let content = [field(1, id), field(2, user), field(3, whose), field(4, stream)].concat();
        decoded::<KeyReceipt>(content, &subscriber())
    };
    let (user, whose, name) = (user.as_bytes(), whose.as_bytes(), stream.as_str().as_bytes());
    assert_eq!(of(&id, user, whose, name), Ok(receipt()));
    let refused = WireError::Field;
    assert_eq!(of(&id[1..], user, whose, name), Err(refused("a request id has 16 bytes")));
    for bad in [&user[1..], &[]] {
        assert_eq!(of(&id, bad, whose, name), Err(refused("the subscriber of a receipt is an address of 20 bytes")));
    }
    for bad in [&whose[1..], &[0; 21], &[]] {
        assert_eq!(of(&id, user, bad, name), Err(refused("the publisher of a receipt is an address of 20 bytes")));
    }
    for bad in [&b""[..], b"nopath.eth", &name[1..]] {
        assert!(matches!(of(&id, user, whose, bad), Err(WireError::StreamId(_))));
    }
    assert_eq!(of(&id, user, whose, &[0xff]), Err(WireError::Malformed));
}

#[test]
fn a_refusal_reason_above_8_is_read_as_policy_and_the_rest_of_the_answer_counts() {
    let content = KeyAnswer { refused: Vec::new(), ..answer() }.encode();
    let with = |reason: &[u8]| {
        let refused = [field(1, b"l"), [&[2 << 3], reason].concat(), vec![3 << 3, 7]].concat();
        decoded::<KeyAnswer>([content.as_slice(), &field(9, &refused)].concat(), &publisher())
    };
    let policy = Refused { key_id: KeyId::new("l").unwrap(), refusal: Refusal::Policy };
    for reason in [&[6][..], &[9], &[127], &[0xff, 0xff, 0xff, 0xff, 0x0f]] {
        assert_eq!(with(reason), Ok(KeyAnswer { refused: vec![policy.clone()], ..answer() }), "{reason:?}");
    }
    assert_eq!(with(&[8]).unwrap().refused[0].refusal, Refusal::UnacceptableAlgorithm);
    assert_eq!(policy.refusal.name(), "policy");
}

#[test]
fn a_refusal_without_a_reason_is_refused_at_decoding() {
    let content = KeyAnswer { refused: Vec::new(), ..answer() }.encode();
    for refused in [field(1, b"l"), [field(1, b"l"), vec![2 << 3, 0]].concat()] {
        let content = [content.as_slice(), &field(9, &refused)].concat();
        let read = decoded::<KeyAnswer>(content, &publisher());
        assert_eq!(read, Err(WireError::Field("a refusal has a reason")));
    }
}

#[test]
fn an_answer_or_push_in_another_algorithm_than_1_is_refused_at_decoding() {
    let rule = WireError::Field("unknown algorithm of the transport key");
    for algorithm in [0, 2, u32::MAX] {
        let refusing = KeyAnswer { granted: Vec::new(), encapsulated: Vec::new(), ..answer() };
        for other in [answer(), refusing] {
            let content = KeyAnswer { algorithm, ..other }.encode();
            assert_eq!(decoded::<KeyAnswer>(content, &publisher()), Err(rule.clone()));
        }
        let content = KeyPush { algorithm, ..push() }.encode();
        assert_eq!(decoded::<KeyPush>(content, &publisher()), Err(rule.clone()));
    }
}

#[test]
fn a_request_may_name_any_algorithm_and_is_refused_by_name() {
    let identity = publisher();
    for algorithm in [0, 2, u32::MAX] {
        let asked = decoded::<KeyRequest>(KeyRequest { algorithm, ..request() }.encode(), &subscriber()).unwrap();
        assert_eq!(asked.algorithm, algorithm);
        let held = key("k", 1);
        let stored = StoredKey { key: held.clone(), since: 1, until: None, origin: KeyOrigin::Made };
        let decisions = vec![(held.id().clone(), Ok(stored))];
        let made = exchange::answer(&asked, decisions, &identity, NOW, &mut Scripted::new(&[])).unwrap();
        let said = made.content();
        assert_eq!((said.algorithm, said.granted.len(), said.encapsulated.len()), (1, 0, 0));
        assert_eq!(said.refused, [Refused { key_id: held.id().clone(), refusal: Refusal::UnacceptableAlgorithm }]);
    }
}

#[test]
fn a_span_asked_for_with_a_public_key_that_cannot_be_used_is_refused_as_a_whole() {
    let asked = KeyRequest { algorithm: 2, ..range_request() };
    let say = |page| exchange::answer_page(&asked, page, &publisher(), NOW, &mut Scripted::new(&[])).unwrap();
    let unusable = say(Ok(Page { decisions: Vec::new(), next: None, looked_at: 0 }));
    assert_eq!(unusable.content().refusal, Some(Refusal::UnacceptableAlgorithm));
    let denied = say(Err(Refusal::Denied));
    assert_eq!(denied.content().refusal, Some(Refusal::Denied), "whoever may not ask learns that first");
}

/// A message of `header` and `payload`, well signed, as a receiver decodes it.
fn message_of(header: Vec<u8>, payload: Vec<u8>) -> Result<MessageContent, WireError> {
    decoded(MessageParts { header, payload }.encode_to_vec(), &publisher())
}

#[test]
fn a_key_update_of_an_unknown_kind_is_skipped_and_the_header_stays_as_it_was_signed() {
    let whole = MessageParts::of(&message());
    let kind = |n: u8| vec![1 << 3, n];
    // What is in it is nobody's business: its ids need not be key ids.
    let others = [Vec::new(), kind(0), kind(2), [kind(9), field(2, b"two words"), field(4, &[0; 3])].concat()];
    let others: Vec<u8> = others.iter().flat_map(|update| field(11, update)).collect();
    let header = [whole.header.as_slice(), &others].concat();
    let cipher = MessageCipher::new(&scope(), &key("k", 1));
    let payload = cipher.seal(&header, b"a payload", &mut Scripted::new(&[&[4; 16]]));
    let read = message_of(header.clone(), payload.clone()).unwrap();
    assert_eq!(read.key_updates, draft().key_updates);
    assert_eq!(read.encode(), MessageParts { header: header.clone(), payload }.encode_to_vec());
    assert_eq!(cipher.open(&header, &read.payload).unwrap(), b"a payload");
    assert!(cipher.open(&whole.header, &read.payload).is_err());
}

#[test]
fn key_updates_of_unknown_kinds_count_among_the_8_of_a_message() {
    let MessageParts { header, payload } = MessageParts::of(&message());
    let with = |n: usize| message_of([header.as_slice(), &field(11, &[1 << 3, 9]).repeat(n)].concat(), payload.clone());
    assert_eq!(with(7).unwrap().key_updates.len(), 1);
    assert_eq!(with(8), Err(WireError::Field("a message carries at most 8 key updates")));
}

#[test]
fn a_sealed_payload_of_fewer_than_48_bytes_is_refused_at_decoding() {
    let MessageParts { header, payload } =
        MessageParts::of(&sealed(draft(), &Payload::binary(b"".to_vec()), &key("k", 1)));
    assert_eq!(payload.len(), 48);
    assert!(message_of(header.clone(), payload.clone()).is_ok());
    let refused = WireError::Field("a sealed payload has an IV and a tag: 48 bytes at least");
    for len in [0, 1, 32, 47] {
        assert_eq!(message_of(header.clone(), payload[..len].to_vec()), Err(refused.clone()));
    }
    let plain = compose(draft(), &Payload::text(""), None, &publisher(), &mut Scripted::new(&[])).unwrap();
    assert!(message_of(MessageParts::of(&plain).header, Vec::new()).is_ok());
}

#[test]
fn a_header_of_more_than_8192_bytes_is_refused_before_it_is_decoded() {
    let MessageParts { header, payload } = MessageParts::of(&message());
    // An unknown field of a content is skipped; here it fills the header up.
    let filled = |len: usize| [header.as_slice(), &field(15, &vec![0; len - header.len() - 3])].concat();
    let refused = WireError::Field("a message header has at most 8192 bytes");
    assert_eq!(filled(8192).len(), 8192);
    assert_eq!(message_of(filled(8192), payload.clone()).map(|read| read.at), Ok(at(5, 1)));
    assert_eq!(message_of(filled(8193), payload.clone()), Err(refused.clone()));
    assert_eq!(message_of(vec![0xff; 8193], payload.clone()), Err(refused));
    assert_eq!(message_of(vec![0xff; 8192], payload), Err(WireError::Malformed));
}

#[test]
fn what_no_receiver_would_take_is_not_signed() {
    fn rule_of<T: Content>(content: T, identity: &Identity) -> WireError {
        Verified::sign(content, identity).map(|_| ()).unwrap_err()
    }
    let twice = KeyRequest { wanted: Wanted::Keys(vec![KeyId::new("k").unwrap(); 2]), ..request() };
    assert_eq!(rule_of(twice, &subscriber()), WireError::Field("a request names each key once"));
    let other = KeyAnswer { algorithm: 2, ..answer() };
    assert_eq!(rule_of(other, &publisher()), WireError::Field("unknown algorithm of the transport key"));
    let nothing = KeyPush { granted: Vec::new(), ..push() };
    assert_eq!(rule_of(nothing, &publisher()), WireError::Field("a push carries 1 to 256 keys and answers nothing"));
    let void = PublisherRecord { expires: NOW, ..record() };
    let rule = "a record lives more than 0 and at most 24 hours";
    assert_eq!(rule_of(void, &publisher()), WireError::Field(rule));
    let nowhere = PublisherRecord { slot: PublisherRecord::slots().end, ..record() };
    assert_eq!(rule_of(nowhere, &publisher()), WireError::Field("the slot of a publisher record is 0 to 3"));
    let of_nobody = SignedGrant { stream: StreamId::new("sensors.eth/roof").unwrap(), ..signed_grant() };
    assert!(matches!(rule_of(of_nobody, &publisher()), WireError::Signature(SignatureError::Foreign { .. })));
    let empty = Period { start: Some(NOW), end: Some(NOW.minus(Duration::from_secs(1))) };
    let rule = WireError::Field("a grant does not end before it starts");
    assert_eq!(rule_of(SignedGrant { period: empty, ..signed_grant() }, &publisher()), rule);
    let rule = WireError::Field("a stream record lives more than 0 and at most 366 days");
    assert_eq!(rule_of(StreamRecord { expires: NOW, ..stream_record() }, &publisher()), rule);
    let node = |byte| UserId::from_bytes([byte; 20]);
    let rule = WireError::Field("a stream record names each storage node once");
    assert_eq!(rule_of(StreamRecord { storage: vec![node(1); 2], ..stream_record() }, &publisher()), rule);
    let rule = WireError::Field("a stream record names at most 8 storage nodes");
    assert_eq!(rule_of(StreamRecord { storage: (1..=9).map(node).collect(), ..stream_record() }, &publisher()), rule);
    let crowded = Draft { key_updates: vec![draft().key_updates[0].clone(); 9], ..draft() };
    let made = compose(crowded, &Payload::text("x"), None, &publisher(), &mut Scripted::new(&[]));
    let rule = WireError::Field("a message carries at most 8 key updates");
    assert_eq!(made.unwrap_err(), ComposeError::Wire(rule));
}

#[test]
fn a_frame_is_refused_when_one_part_breaks_a_rule_or_there_are_more_than_1024() {
    let one = Frame::of_message(message().envelope().clone());
    let of_record = Frame::of_record(Verified::sign(record(), &publisher()).unwrap().envelope().clone());
    let join = |frames: &[&Bytes]| Bytes::from(frames.iter().map(|frame| frame.as_ref()).collect::<Vec<_>>().concat());
    let both = Frame::decode(&join(&[&of_record, &one, &one])).unwrap();
    assert_eq!((both.messages.len(), both.records.len()), (2, 1));

    let misplaced = Frame::of_record(message().envelope().clone());
    let empty = Frame::of_message(Bytes::new());
    for bad in [&misplaced, &empty] {
        assert!(Frame::decode(&join(&[&one, bad, &one])).is_err());
    }
    assert_eq!(Frame::decode(&one.repeat(1024).into()).unwrap().messages.len(), 1024);
    assert!(Frame::decode(&one.repeat(1025).into()).is_err());
    assert!(Frame::decode(&one.slice(..one.len() - 1)).is_err());
}

#[test]
fn a_frame_with_anything_but_length_delimited_messages_and_records_is_refused() {
    let one = Frame::of_message(message().envelope().clone());
    let others: [(&str, Vec<u8>); 9] = [
        ("field 0", field(0, message().envelope())),
        ("field 3", field(3, message().envelope())),
        ("field 3, empty", field(3, b"")),
        ("a number in place of a message", vec![1 << 3, 1]),
        ("an unknown number", vec![3 << 3, 1]),
        ("4 bytes", vec![3 << 3 | 5, 0, 0, 0, 0]),
        ("8 bytes", vec![2 << 3 | 1, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("a group", vec![3 << 3 | 3, 3 << 3 | 4]),
        ("a field number beyond 32 bits", vec![0x8a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01, 0]),
    ];
    for (why, other) in others {
        for joined in [[one.as_ref(), &other].concat(), [other.as_slice(), &one].concat()] {
            assert!(Frame::decode(&joined.into()).is_err(), "{why}");
        }
    }
    for wire_type in [0, 1, 3, 4, 5] {
        let other = [&[1 << 3 | wire_type], &one[1..]].concat();
        assert!(Frame::decode(&other.into()).is_err(), "wire type {wire_type} on a part that is sound otherwise");
    }
    assert_eq!(Frame::decode(&one).unwrap().messages.len(), 1);
}

#[test]
fn the_parts_of_a_frame_are_counted_before_any_of_them_is_decoded() {
    let rule = WireError::Field("a frame is at most 1024 length-delimited parts");
    let empty = field(1, b"");
    assert_eq!(Frame::decode(&empty.repeat(1025).into()).unwrap_err(), rule);
    assert_eq!(Frame::decode(&empty.repeat(512 * 1024).into()).unwrap_err(), rule);
    assert_ne!(Frame::decode(&empty.repeat(1024).into()).unwrap_err(), rule);
    let both = [field(1, b"").repeat(1024), field(2, b"")].concat();
    assert_eq!(Frame::decode(&both.into()).unwrap_err(), rule);
}

#[test]
fn every_message_of_a_chain_names_the_one_before_it_and_the_sequence_rises_on_equal_timestamps() {
    let mut chain = Chain::begin(&mut StdRng::seed_from_u64(1));
    let mut read = Vec::new();
    // The clock stands, goes on, and is set back.
    for millis in [5, 5, 5, 6, 4, 4] {
        let at = chain.next(NOW.plus(Duration::from_millis(millis)));
        let draft = Draft { part: part(), chain: chain.id(), at, previous: chain.last(), key_updates: Vec::new() };
        let made = compose(draft, &Payload::text("x"), None, &publisher(), &mut Scripted::new(&[])).unwrap();
        chain.advance(at);
        read.push(Received::<MessageContent>::decode(made.envelope()).unwrap().verify().unwrap().into_content());
    }
    let places = read.iter().map(|message| message.at).collect::<Vec<_>>();
    assert_eq!(places, [at(5, 0), at(5, 1), at(5, 2), at(6, 0), at(6, 1), at(6, 2)]);
    assert_eq!(read[0].previous, None);
    assert!(read.windows(2).all(|pair| pair[1].previous == Some(pair[0].at) && pair[1].chain == pair[0].chain));
}

#[test]
fn a_back_dated_message_is_refused_and_the_chain_stays_intact() {
    let mut chain = Chain::begin(&mut StdRng::seed_from_u64(1));
    chain.advance(at(5, 3));
    assert!(chain.next_at(at(4, 0).timestamp).is_err());
    assert_eq!((chain.last(), chain.next_at(at(5, 0).timestamp)), (Some(at(5, 3)), Ok(at(5, 4))));
}

#[test]
fn a_previous_reference_that_is_not_strictly_before_the_message_is_refused_at_decoding() {
    for previous in [at(5, 1), at(5, 2), at(6, 0)] {
        let rule = WireError::Field("the previous reference must be strictly before the message");
        let MessageParts { header, payload } = MessageParts::of(&message());
        // A repeated field of one message is merged: the later values count.
        let reference = Reference { timestamp: previous.timestamp.as_millis(), sequence: previous.sequence };
        let header = [header.as_slice(), &field(7, &reference.encode_to_vec())].concat();
        assert_eq!(message_of(header, payload), Err(rule.clone()));
        let draft = Draft { previous: Some(previous), ..draft() };
        let made = compose(draft, &Payload::text("x"), None, &publisher(), &mut Scripted::new(&[]));
        assert_eq!(made.unwrap_err(), ComposeError::Wire(rule), "nor is it signed");
    }
}

/// `Ref` of docs/PROTOCOL.md.
#[derive(Clone, PartialEq, prost::Message)]
struct Reference {
    #[prost(uint64, tag = "1")]
    timestamp: u64,
    #[prost(uint32, tag = "2")]
    sequence: u32,
}

/// The fields of a header that say how its payload is protected.
#[derive(Clone, PartialEq, prost::Message)]
struct Protection {
    #[prost(uint32, tag = "9")]
    encryption: u32,
    #[prost(string, tag = "10")]
    key_id: String,
}

#[test]
fn an_encrypted_message_without_key_id_is_refused_at_decoding() {
    // Appended fields take the place of those before them; an empty one must be spelled out.
    let parts = MessageParts::of(&message());
    let without = [parts.header.as_slice(), &[10 << 3 | 2, 0]].concat();
    let plain_with = [parts.header.as_slice(), &[9 << 3, 0]].concat();
    let unknown = [parts.header, Protection { encryption: 2, key_id: String::new() }.encode_to_vec()].concat();
    let expected = [
        (without, "an encrypted message must name its key"),
        (plain_with, "a plaintext message names no key"),
        (unknown, "unknown encryption"),
    ];
    for (header, rule) in expected {
        let content = MessageParts { header, payload: parts.payload.clone() }.encode_to_vec();
        let envelope = Envelope::signed(Domain::Message, content, &publisher()).bytes();
        assert_eq!(Received::<MessageContent>::decode(&envelope).unwrap_err(), WireError::Field(rule));
    }
}

#[test]
fn a_message_is_encrypted_by_default_with_json_or_binary_content() {
    for payload in [Payload::json(&[1, 2]).unwrap(), Payload::binary(vec![1, 2])] {
        let parts = MessageParts::of(&sealed(draft(), &payload, &key("k", 1)));
        let body = &parts.payload[16..parts.payload.len() - 32];
        assert_eq!(body.len(), payload.len());
        assert_ne!(body, b"[1,2]");
        assert_ne!(body, [1, 2]);
    }
}
