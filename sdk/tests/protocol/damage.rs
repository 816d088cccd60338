//! Damaged input: an error or what was signed, never a panic and never anything else.

use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::Config;
use rand::SeedableRng;
use rand::rngs::StdRng;
use veilcast::cipher::{MessageCipher, PublicKey, Recipient, encapsulate};
use veilcast::identity::{Domain, Identity, Signature};
use veilcast::key_store::{HistoryCursor, KeyId, TimeRange};
use veilcast::message::{Draft, Payload, compose};
use veilcast::stream::{StreamId, StreamPart};
use veilcast::wire::{
    ALGORITHM_RSA_OAEP_SHA256, AuditHead, Content, Frame, GrantedKey, KeyAnswer, KeyPush, KeyRange, KeyReceipt,
    KeyRequest, KeyUpdate, MessageContent, MessageRef, PublisherRecord, Received, Refused, RequestId, ResendPage,
    ResendRequest, Revocation, Revoked, SignedGrant, StorageRecord, StreamRecord, UpdateKind, Verified, Wanted,
    WireError,
};
use veilcast::{Period, Permission, Refusal, Timestamp, UserId};

use crate::support::{
    Envelope, Scripted, Vectors, Verdict, answer, field, judge_as, key, message, publisher, record, request, samples,
    scope, showing_request, signed_grant, stream_record, subscriber, whole_refusal,
};

#[test]
fn an_envelope_with_any_one_bit_flipped_is_refused() {
    for (domain, whole) in samples() {
        assert_eq!(judge_as(domain, &whole), Verdict::Accept);
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(judge_as(domain, &damaged.into()), Verdict::Accept, "{domain:?}, bit {bit}");
        }
    }
}

#[test]
fn an_envelope_cut_short_anywhere_is_refused() {
    for (domain, whole) in samples() {
        for cut in 0..whole.len() {
            assert_ne!(judge_as(domain, &whole.slice(..cut)), Verdict::Accept, "{domain:?}, cut at {cut}");
        }
    }
}

/// Two bytes on the wire that would be a hundred in memory, many times over: counted before they become a list.
#[test]
fn content_of_more_than_1024_fields_is_refused_before_a_list_is_made_of_them() {
    let too_many = Err(WireError::Field("content has at most 1024 fields"));
    let hollow = |number, times: usize| Bytes::from(field(number, b"").repeat(times));
    assert_eq!(KeyAnswer::decode(&hollow(8, 1025)).map(|_| ()), too_many);
    assert_eq!(KeyPush::decode(&hollow(8, 1025)).map(|_| ()), too_many);
    assert_eq!(KeyRequest::decode(&hollow(8, 1025)).map(|_| ()), too_many);
    assert_eq!(PublisherRecord::decode(&hollow(3, 1025)).map(|_| ()), too_many);
    assert_eq!(StreamRecord::decode(&hollow(10, 1025)).map(|_| ()), too_many);
    assert_eq!(SignedGrant::decode(&hollow(1, 1025)).map(|_| ()), too_many);
    assert_eq!(KeyRequest::decode(&hollow(10, 1025)).map(|_| ()), too_many);
    let message = Bytes::from(field(1, &hollow(11, 1025)));
    assert_eq!(MessageContent::decode(&message).map(|_| ()), too_many);
    assert_ne!(KeyAnswer::decode(&hollow(8, 1024)).map(|_| ()), too_many);
}

/// One thing that goes wrong with bytes on their way.
#[derive(Clone, Debug)]
enum Damage {
    Flip(usize, u8),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Repeat(usize, usize),
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let place = |n: usize| n % (bytes.len() + 1);
        match self {
            Self::Flip(at, mask) => {
                let at = place(*at);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= mask;
                }
            }
            Self::Insert(at, new) => {
                let at = place(*at);
                bytes.splice(at..at, new.iter().copied());
            }
            Self::Remove(at, len) => {
                let at = place(*at);
                let end = (at + len).min(bytes.len());
                bytes.drain(at..end);
            }
            Self::Repeat(at, len) => {
                let at = place(*at);
                let end = (at + len).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(end..end, again);
            }
        }
    }
}

fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let one = prop_oneof![
        (any::<usize>(), 1..=u8::MAX).prop_map(|(at, mask)| Damage::Flip(at, mask)),
        (any::<usize>(), vec(any::<u8>(), 1..12)).prop_map(|(at, new)| Damage::Insert(at, new)),
        (any::<usize>(), 1..40usize).prop_map(|(at, len)| Damage::Remove(at, len)),
        (any::<usize>(), 1..120usize).prop_map(|(at, len)| Damage::Repeat(at, len)),
    ];
    vec(one, 1..5)
}

fn damaged(whole: &[u8], damages: &[Damage]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    damages.iter().for_each(|damage| damage.apply(&mut bytes));
    bytes
}

/// Whatever happened to `whole` on its way: if it verifies, it is what it was, byte for byte.
fn only_what_was_signed<T: Content + PartialEq + std::fmt::Debug>(
    whole: &Bytes,
    arrived: &Bytes,
) -> Result<(), TestCaseError> {
    let Ok(Ok(read)) = Received::<T>::decode(arrived).map(Received::verify) else { return Ok(()) };
    let said = Received::<T>::decode(whole).unwrap().verify().unwrap();
    prop_assert_eq!(read.content(), said.content());
    prop_assert_eq!(Envelope::read(arrived).content, Envelope::read(whole).content);
    prop_assert_eq!(&Envelope::read(arrived).bytes(), arrived);
    Ok(())
}

/// What decodes is encoded to something that says the same.
fn says_the_same_again<T: Content + PartialEq + std::fmt::Debug>(content: &[u8]) -> Result<(), TestCaseError> {
    let Ok(read) = T::decode(&Bytes::copy_from_slice(content)) else { return Ok(()) };
    let again = T::decode(&read.encode().into());
    prop_assert_eq!(again.as_ref(), Ok(&read));
    Ok(())
}

fn properties_of<T: Content + PartialEq + std::fmt::Debug>(
    whole: &Bytes,
    damages: &[Damage],
) -> Result<(), TestCaseError> {
    only_what_was_signed::<T>(whole, &damaged(whole, damages).into())?;
    says_the_same_again::<T>(&damaged(&Envelope::read(whole).content, damages))
}

fn config(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}

proptest! {
    #![proptest_config(config(768))]

    #[test]
    fn a_damaged_envelope_of_any_kind_is_an_error_or_says_what_was_signed(damages in damage(), kind in 0..18usize) {
        let (domain, whole) = samples().swap_remove(kind);
        match domain {
            Domain::Message => properties_of::<MessageContent>(&whole, &damages)?,
            Domain::KeyRequest => properties_of::<KeyRequest>(&whole, &damages)?,
            Domain::KeyAnswer => properties_of::<KeyAnswer>(&whole, &damages)?,
            Domain::KeyPush => properties_of::<KeyPush>(&whole, &damages)?,
            Domain::KeyReceipt => properties_of::<KeyReceipt>(&whole, &damages)?,
            Domain::PublisherRecord => properties_of::<PublisherRecord>(&whole, &damages)?,
            Domain::StreamRecord => properties_of::<StreamRecord>(&whole, &damages)?,
            Domain::SignedGrant => properties_of::<SignedGrant>(&whole, &damages)?,
            Domain::ResendRequest => properties_of::<ResendRequest>(&whole, &damages)?,
            Domain::ResendPage => properties_of::<ResendPage>(&whole, &damages)?,
            Domain::StorageRecord => properties_of::<StorageRecord>(&whole, &damages)?,
            Domain::AuditHead => properties_of::<AuditHead>(&whole, &damages)?,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn arbitrary_bytes_are_never_a_statement_of_anybody(bytes in vec(any::<u8>(), 0..600)) {
        let bytes = Bytes::from(bytes);
        for domain in Domain::ALL {
            prop_assert_ne!(judge_as(domain, &bytes), Verdict::Accept);
        }
        says_the_same_again::<MessageContent>(&bytes)?;
        says_the_same_again::<KeyRequest>(&bytes)?;
        says_the_same_again::<KeyAnswer>(&bytes)?;
        says_the_same_again::<KeyPush>(&bytes)?;
        says_the_same_again::<KeyReceipt>(&bytes)?;
        says_the_same_again::<PublisherRecord>(&bytes)?;
        says_the_same_again::<StreamRecord>(&bytes)?;
        says_the_same_again::<SignedGrant>(&bytes)?;
        says_the_same_again::<ResendRequest>(&bytes)?;
        says_the_same_again::<ResendPage>(&bytes)?;
        says_the_same_again::<StorageRecord>(&bytes)?;
        says_the_same_again::<AuditHead>(&bytes)?;
    }

    #[test]
    fn a_damaged_frame_is_an_error_or_holds_only_what_was_signed(damages in damage()) {
        let of_record = Verified::sign(record(), &publisher()).unwrap();
        let said = message();
        let parts = [Frame::of_message(said.envelope().clone()), Frame::of_record(of_record.envelope().clone())];
        let frame = parts.concat();
        if let Ok(parts) = Frame::decode(&damaged(&frame, &damages).into()) {
            for part in parts.messages.into_iter().filter_map(|part| part.verify().ok()) {
                prop_assert_eq!(part.content(), said.content());
            }
            for part in parts.records.into_iter().filter_map(|part| part.verify().ok()) {
                prop_assert_eq!(part.content(), &record());
            }
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_as_a_frame_or_hold_nothing_signed(bytes in vec(any::<u8>(), 0..600)) {
        if let Ok(parts) = Frame::decode(&bytes.into()) {
            prop_assert!(parts.messages.into_iter().all(|part| part.verify().is_err()));
            prop_assert!(parts.records.into_iter().all(|part| part.verify().is_err()));
        }
    }

    #[test]
    fn an_arbitrary_signature_never_names_the_identity(
        bytes in vec(any::<u8>(), 65), content in vec(any::<u8>(), 0..40),
    ) {
        let signature = Signature::from_bytes(&bytes).unwrap();
        prop_assert_ne!(signature.signer(Domain::Message, &content), Ok(publisher().user()));
    }

    #[test]
    fn any_damage_to_a_sealed_payload_or_its_header_is_an_error(damages in damage(), to_header in any::<bool>()) {
        let cipher = MessageCipher::new(&scope(), &key("k", 1));
        let whole = cipher.seal(b"a header", b"a payload", &mut StdRng::seed_from_u64(1));
        let (header, sealed) = match to_header {
            true => (damaged(b"a header", &damages), whole.clone()),
            false => (b"a header".to_vec(), damaged(&whole, &damages)),
        };
        let untouched = header == b"a header" && sealed == whole;
        prop_assert_eq!(cipher.open(&header, &sealed).is_ok(), untouched);
    }

    #[test]
    fn an_accepted_name_prints_as_it_was_written(
        text in "[ -~\u{e9}]{0,70}", owner in "(0x[0-9a-fA-F]{40}|0x[0-9a-f]{40}|[a-z.-]{1,9})", n in "[0-9+-]{0,4}",
    ) {
        for candidate in [text.clone(), format!("{owner}/{text}"), format!("{owner}/p#{n}")] {
            if let Ok(id) = candidate.parse::<StreamId>() {
                prop_assert_eq!(id.as_str(), candidate.as_str());
            }
            if let Ok(part) = candidate.parse::<StreamPart>() {
                prop_assert_eq!(part.to_string(), candidate.as_str());
                prop_assert_eq!(StreamPart::from_topic(&part.topic()), Some(part));
            }
            if let Ok(id) = candidate.parse::<KeyId>() {
                prop_assert_eq!(id.as_str(), candidate.as_str());
            }
        }
        for candidate in [&text, &owner] {
            if let Ok(user) = candidate.parse::<UserId>() {
                prop_assert_eq!(user.to_string(), candidate.to_lowercase());
            }
        }
    }
}

proptest! {
    #![proptest_config(config(192))]

    #[test]
    fn a_damaged_public_key_is_refused_or_can_be_used(damages in damage()) {
        let whole = Vectors::read("transport.json").top().bytes("public_key");
        let der = damaged(&whole, &damages);
        if let Ok(public) = PublicKey::from_der(&der) {
            prop_assert_eq!(public.as_der(), der.as_slice());
            let scope = scope();
            let recipient = Recipient { scope: &scope, subscriber: subscriber().user(), request: RequestId([5; 16]) };
            let (_, encapsulated) = encapsulate(recipient, &public, &mut StdRng::seed_from_u64(1)).unwrap();
            prop_assert!((256..=512).contains(&encapsulated.len()));
        }
    }
}

fn user() -> impl Strategy<Value = UserId> {
    any::<[u8; 20]>().prop_map(UserId::from_bytes)
}

fn stream_id() -> impl Strategy<Value = StreamId> {
    let owner = prop_oneof![user().prop_map(|user| user.to_string()), "[a-z0-9_-]{1,8}(\\.[a-z0-9_-]{1,8}){1,3}"];
    (owner, "[!\"$-~]{1,40}").prop_filter_map("an owner that begins with 0x is an address", |(owner, path)| {
        StreamId::new(&format!("{owner}/{path}")).ok()
    })
}

fn key_id() -> impl Strategy<Value = KeyId> {
    "[!-~]{1,64}".prop_map(|text| KeyId::new(&text).unwrap())
}

fn moment() -> impl Strategy<Value = Timestamp> {
    prop_oneof![Just(0), Just(u64::MAX), any::<u64>()].prop_map(Timestamp::from_millis)
}

fn place() -> impl Strategy<Value = MessageRef> {
    (moment(), any::<u32>()).prop_map(|(timestamp, sequence)| MessageRef { timestamp, sequence })
}

fn granted() -> impl Strategy<Value = GrantedKey> {
    (key_id(), vec(any::<u8>(), 80), moment(), proptest::option::of(moment()))
        .prop_map(|(key_id, wrapped, since, until)| GrantedKey { key_id, wrapped, since, until })
}

fn refusal() -> impl Strategy<Value = Refusal> {
    let span = any::<u64>().prop_map(Duration::from_millis);
    prop_oneof![
        Just(Refusal::Denied),
        moment().prop_map(|from| Refusal::NotYet { from }),
        moment().prop_map(|since| Refusal::Expired { since }),
        Just(Refusal::UnknownKey),
        span.clone().prop_map(|retry_after| Refusal::Throttled { retry_after }),
        Just(Refusal::Policy),
        span.prop_map(|retry_after| Refusal::Unavailable { retry_after }),
        Just(Refusal::UnacceptableAlgorithm),
    ]
}

fn refused() -> impl Strategy<Value = Refused> {
    (key_id(), refusal()).prop_map(|(key_id, refusal)| Refused { key_id, refusal })
}

fn request_id() -> impl Strategy<Value = RequestId> {
    any::<[u8; 16]>().prop_map(RequestId)
}

fn key_update() -> impl Strategy<Value = KeyUpdate> {
    let kind = UpdateKind::Rotate;
    (vec(any::<u8>(), 80), key_id(), key_id()).prop_map(move |(wrapped, key_id, wrapped_by)| KeyUpdate {
        kind,
        key_id,
        wrapped_by,
        wrapped,
    })
}

fn any_draft() -> impl Strategy<Value = Draft> {
    let places = (place(), proptest::option::of(place()));
    (stream_id(), 0..100u32, any::<[u8; 16]>(), places, vec(key_update(), 0..=8)).prop_map(
        |(stream, number, chain, (at, other), key_updates)| {
            // The earlier of two different places is the previous one.
            let (at, previous) = match other {
                Some(other) if other != at => (at.max(other), Some(at.min(other))),
                _ => (at, None),
            };
            Draft { part: stream.part(number).unwrap(), chain, at, previous, key_updates }
        },
    )
}

/// What `identity` signs is read back as it was.
fn comes_back<T: Content + Clone + PartialEq + std::fmt::Debug>(
    content: T,
    identity: &Identity,
) -> Result<(), TestCaseError> {
    let made = Verified::sign(content.clone(), identity).unwrap();
    let read = Received::<T>::decode(made.envelope()).map(Received::verify);
    let read = read.expect("it keeps the rules").expect("it was signed");
    prop_assert_eq!(read.content(), &content);
    prop_assert_eq!(read.envelope(), made.envelope());
    Ok(())
}

proptest! {
    #![proptest_config(config(192))]

    #[test]
    fn every_valid_message_comes_back_as_it_was_and_opens(
        draft in any_draft(), payload in vec(any::<u8>(), 0..300), id in proptest::option::of(key_id()),
        bytes in any::<[u8; 32]>(),
    ) {
        let scope = veilcast::scope(publisher().user(), draft.part.stream());
        let key = id.map(|id| veilcast::key_store::GroupKey::new(id, &bytes).unwrap());
        let cipher = key.as_ref().map(|key| MessageCipher::new(&scope, key));
        let with = key.as_ref().map(|key| key.id()).zip(cipher.as_ref());
        let (content, mut rng) = (Payload::binary(payload.clone()), Scripted::new(&[&[4; 16]]));
        let made = compose(draft, &content, with, &publisher(), &mut rng).unwrap();
        let read = Received::<MessageContent>::decode(made.envelope()).unwrap().verify().unwrap();
        prop_assert_eq!(read.content(), made.content());
        let parts = crate::support::MessageParts::of(&made);
        let opened = match &cipher {
            Some(cipher) => cipher.open(&parts.header, &parts.payload).unwrap(),
            None => parts.payload,
        };
        prop_assert_eq!(opened, payload);
    }

    #[test]
    fn every_valid_request_comes_back_as_it_was(
        id in request_id(), stream in stream_id(), asked in user(), sent in moment(), algorithm in any::<u32>(),
        public_key in vec(any::<u8>(), 0..=1024), key_ids in proptest::collection::btree_set(key_id(), 1..=256),
    ) {
        let (requester, wanted) = (subscriber().user(), Wanted::Keys(key_ids.into_iter().collect()));
        let proofs = showing_request().proofs;
        let plain = KeyRequest { id, stream, publisher: asked, requester, sent, algorithm, public_key, wanted, proofs };
        comes_back(plain, &subscriber())?;
    }

    #[test]
    fn every_valid_request_for_a_span_of_time_comes_back_as_it_was(
        id in request_id(), stream in stream_id(), asked in user(), sent in moment(), a in moment(), b in moment(),
        behind in proptest::option::of((moment(), key_id())),
    ) {
        let (from, to) = (a.min(b).as_millis(), a.max(b).as_millis());
        let after = behind.map(|(since, id)| HistoryCursor { since: since.as_millis().min(to), id });
        let wanted = Wanted::Range(KeyRange { range: TimeRange { from, to }, after });
        comes_back(KeyRequest { id, stream, publisher: asked, sent, wanted, ..request() }, &subscriber())?;
    }

    #[test]
    fn every_valid_answer_and_push_comes_back_as_it_was(
        id in request_id(), stream in stream_id(), to in user(), sent in moment(),
        encapsulated in vec(any::<u8>(), 1..=512), granted in vec(granted(), 0..6), refused in vec(refused(), 0..6),
        next in proptest::option::of((moment(), key_id())), whole in refusal(),
    ) {
        let (me, publisher, algorithm) = (publisher(), publisher().user(), ALGORITHM_RSA_OAEP_SHA256);
        if !granted.is_empty() {
            let (stream, encapsulated, granted) = (stream.clone(), encapsulated.clone(), granted.clone());
            comes_back(KeyPush { id, stream, publisher, subscriber: to, sent, algorithm, encapsulated, granted }, &me)?;
        }
        let encapsulated = if granted.is_empty() { Vec::new() } else { encapsulated };
        let requester = to;
        let next = next.map(|(since, id)| HistoryCursor { since: since.as_millis(), id });
        let page = KeyAnswer { id, stream, requester, sent, encapsulated, granted, refused, next, ..answer() };
        comes_back(page, &me)?;
        comes_back(KeyAnswer { refusal: Some(whole), ..whole_refusal() }, &me)?;
    }

    #[test]
    fn every_valid_grant_and_stream_record_comes_back_as_it_was(
        whose in user(), serial in 1..=u64::MAX, a in proptest::option::of(moment()), b in proptest::option::of(moment()),
        issued in 0..u64::MAX / 2, life in 1..=366 * 24 * 3600 * 1000u64, partitions in 1..=100u32, public in any::<bool>(),
        publishers in proptest::collection::btree_set(user(), 0..=64), registry in "[!-~]{1,64}",
        taken_back in vec((proptest::option::of(user()), 1..=u64::MAX, moment()), 0..=256),
        storage in proptest::collection::btree_set(user(), 0..=8),
    ) {
        let (start, end) = match (a, b) {
            (Some(a), Some(b)) => (Some(a.min(b)), Some(a.max(b))),
            other => other,
        };
        let permission = if public { Permission::Publish } else { Permission::Subscribe };
        let (user, period) = (whose, Period { start, end });
        comes_back(SignedGrant { user, serial, period, permission, registry: registry.clone(), ..signed_grant() }, &publisher())?;
        let (issued, expires) = (Timestamp::from_millis(issued), Timestamp::from_millis(issued + life));
        let revocation = |(user, serial, at): (Option<UserId>, u64, Timestamp)| {
            let what = user.map_or(Revoked::Serial(serial), |user| Revoked::User { user, through: serial });
            Revocation { what, at }
        };
        let (publishers, revocations) = (publishers.into_iter().collect(), taken_back.into_iter().map(revocation).collect());
        let (version, public_until) = (serial, a);
        let record = StreamRecord {
            registry, partitions, public, public_until, publishers, version, issued, expires, revocations,
            storage: storage.into_iter().collect(), ..stream_record()
        };
        comes_back(record, &publisher())?;
    }

    #[test]
    fn every_valid_receipt_and_record_comes_back_as_it_was(
        id in request_id(), peer in vec(any::<u8>(), 1..=256), addresses in vec(vec(any::<u8>(), 1..=256), 0..=16),
        issued in 0..u64::MAX / 2, life in 1..=24 * 3600 * 1000u64, slot in PublisherRecord::slots(), stream in stream_id(),
        whose in user(),
    ) {
        let receipt = KeyReceipt { id, subscriber: subscriber().user(), publisher: whose, stream };
        comes_back(receipt, &subscriber())?;
        let (issued, expires) = (Timestamp::from_millis(issued), Timestamp::from_millis(issued + life));
        let publisher = publisher();
        comes_back(PublisherRecord { publisher: publisher.user(), peer, addresses, issued, expires, slot }, &publisher)?;
    }
}
