//! Section G: keys and cipher.

use rand::SeedableRng;
use rand::rngs::StdRng;
use veilcast::Timestamp;
use veilcast::cipher::{
    MessageCipher, PublicKey, Recipient, RsaPair, TransportKey, encapsulate, unwrap_next, wrap_next,
};
use veilcast::key_store::{KeyId, KeyScope};
use veilcast::message::{Draft, Payload};
use veilcast::subscriber::{Arrival, Event, Intake, IntakeEffect, IntakeLimits};
use veilcast::wire::{ContentType, MessageContent, MessageRef, RequestId, Verified};
use veilcast::{Partition, UserId};

use crate::support::{
    MessageParts, NOW, Scripted, Vectors, at, draft, key, message, publisher, scope, sealed, stream, subscriber,
};

fn rng() -> StdRng {
    StdRng::seed_from_u64(11)
}

fn recipient(scope: &KeyScope) -> Recipient<'_> {
    Recipient { scope, subscriber: subscriber().user(), request: RequestId([5; 16]) }
}

fn frozen_public_key() -> Vec<u8> {
    Vectors::read("transport.json").top().bytes("public_key")
}

#[test]
fn a_sealed_payload_opens_under_no_header_that_differs_in_any_field() {
    let cipher = MessageCipher::new(&scope(), &key("k", 1));
    let payload = Payload::text("a payload worth money");
    let whole = MessageParts::of(&message());
    assert_eq!(cipher.open(&whole.header, &whole.payload).unwrap(), b"a payload worth money");

    let other_updates = {
        let mut draft = draft();
        draft.key_updates[0].wrapped[0] ^= 1;
        draft
    };
    let drafts = [
        Draft { part: stream("prices").part(8).unwrap(), ..draft() },
        Draft { part: stream("price").part(7).unwrap(), ..draft() },
        Draft { chain: [4; 16], ..draft() },
        Draft { at: at(5, 2), ..draft() },
        Draft { at: at(6, 1), ..draft() },
        Draft { previous: None, ..draft() },
        Draft { previous: Some(at(4, 0)), ..draft() },
        Draft { key_updates: Vec::new(), ..draft() },
        other_updates,
    ];
    let mut headers: Vec<Vec<u8>> =
        drafts.into_iter().map(|draft| MessageParts::of(&sealed(draft, &payload, &key("k", 1))).header).collect();
    headers.push(MessageParts::of(&sealed(draft(), &Payload::binary("a payload worth money"), &key("k", 1))).header);
    headers.push(MessageParts::of(&sealed(draft(), &payload, &key("l", 1))).header);
    for header in headers {
        assert_ne!(header, whole.header);
        assert!(cipher.open(&header, &whole.payload).is_err());
    }
}

#[test]
fn a_message_of_0_bytes_and_of_1_mib_opens_and_sealing_it_twice_differs() {
    let key = key("k", 1);
    let cipher = MessageCipher::new(&scope(), &key);
    for payload in [Vec::new(), vec![7; 1 << 20]] {
        let seal = |rng: &mut StdRng| {
            let payload = Payload::binary(payload.clone());
            let made = veilcast::message::compose(draft(), &payload, Some((key.id(), &cipher)), &publisher(), rng);
            MessageParts::of(&made.unwrap())
        };
        let mut rng = rng();
        let (one, two) = (seal(&mut rng), seal(&mut rng));
        assert_ne!(one.payload, two.payload);
        for made in [one, two] {
            assert_eq!(cipher.open(&made.header, &made.payload).unwrap(), payload);
        }
    }
}

#[test]
fn any_flipped_bit_or_missing_byte_of_a_wrapped_key_is_an_error() {
    let (current, next, scope) = (key("k", 1), key("next", 2), scope());
    let rotated = wrap_next(&scope, &current, &next, &mut rng());
    let public = PublicKey::from_der(&frozen_public_key()).unwrap();
    let (transport, _) = encapsulate(recipient(&scope), &public, &mut rng()).unwrap();
    let transported = transport.wrap(&next, &mut rng());
    for bit in 0..rotated.len() * 8 {
        let flipped = |wrapped: &[u8]| {
            let mut damaged = wrapped.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            damaged
        };
        assert!(unwrap_next(&scope, &current, next.id(), &flipped(&rotated)).is_err(), "bit {bit}");
        assert!(transport.unwrap(next.id(), &flipped(&transported)).is_err(), "bit {bit}");
    }
    for cut in 0..rotated.len() {
        assert!(unwrap_next(&scope, &current, next.id(), &rotated[..cut]).is_err(), "cut at {cut}");
        assert!(transport.unwrap(next.id(), &transported[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_damaged_encapsulated_key_is_the_same_error_whatever_the_damage() {
    let pair = RsaPair::generate(2048, &mut rng()).unwrap();
    let scope = scope();
    let (_, whole) = encapsulate(recipient(&scope), pair.public(), &mut rng()).unwrap();
    let mut damaged: Vec<Vec<u8>> = (0..whole.len() * 8)
        .step_by(61)
        .map(|bit| {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        })
        .collect();
    damaged.extend([
        Vec::new(),
        whole[1..].to_vec(),
        whole[..255].to_vec(),
        [&[0], whole.as_slice()].concat(),
        vec![0xff; 512],
    ]);
    let mut errors = damaged
        .iter()
        .map(|bytes| TransportKey::decapsulate(recipient(&scope), &pair, bytes, &mut rng()).unwrap_err().to_string())
        .collect::<Vec<_>>();
    errors.dedup();
    assert_eq!(errors, ["it does not open under this key: wrong key or damaged bytes"]);
    assert!(TransportKey::decapsulate(recipient(&scope), &pair, &whole, &mut rng()).is_ok());
}

#[test]
fn a_wrapped_key_opened_under_another_stream_publisher_key_id_subscriber_or_request_is_an_error() {
    let pair = RsaPair::generate(2048, &mut rng()).unwrap();
    let (scope, next) = (scope(), key("next", 2));
    let (transport, encapsulated) = encapsulate(recipient(&scope), pair.public(), &mut rng()).unwrap();
    let wrapped = transport.wrap(&next, &mut rng());
    let opens = |recipient: Recipient<'_>, id: &str| {
        TransportKey::decapsulate(recipient, &pair, &encapsulated, &mut rng())
            .and_then(|transport| transport.unwrap(&KeyId::new(id).unwrap(), &wrapped))
            .is_ok()
    };
    assert!(opens(recipient(&scope), "next"));
    assert!(!opens(recipient(&scope), "nexu"));
    let other_stream = veilcast::scope(publisher().user(), &stream("price"));
    let other_publisher = veilcast::scope(subscriber().user(), &stream("prices"));
    assert!(!opens(recipient(&other_stream), "next"));
    assert!(!opens(recipient(&other_publisher), "next"));
    assert!(!opens(Recipient { subscriber: UserId::from_bytes([1; 20]), ..recipient(&scope) }, "next"));
    assert!(!opens(Recipient { request: RequestId([6; 16]), ..recipient(&scope) }, "next"));
}

#[test]
fn what_was_sealed_for_one_use_opens_for_no_other() {
    let (scope, current, next) = (scope(), key("k", 1), key("next", 2));
    let cipher = MessageCipher::new(&scope, &current);
    let rotated = wrap_next(&scope, &current, &next, &mut rng());
    let as_payload = cipher.seal(b"", next.expose(), &mut rng());
    assert!(unwrap_next(&scope, &current, next.id(), &rotated).is_ok() && cipher.open(b"", &as_payload).is_ok());
    assert!(unwrap_next(&scope, &current, next.id(), &as_payload).is_err());
    assert!(cipher.open(b"", &rotated).is_err());

    // A transport secret with the very bytes of a group key is still another key.
    let public = PublicKey::from_der(&frozen_public_key()).unwrap();
    let mut same_bytes = Scripted::new(&[current.expose(), &[0; 32]]);
    let (transport, _) = encapsulate(recipient(&scope), &public, &mut same_bytes).unwrap();
    assert!(transport.unwrap(next.id(), &rotated).is_err());
    let transported = transport.wrap(&next, &mut rng());
    assert!(unwrap_next(&scope, &current, next.id(), &transported).is_err());
    assert!(cipher.open(b"", &transported).is_err());
}

#[test]
fn contexts_do_not_run_into_each_other() {
    // Without lengths, stream "a" with key id "bc" and stream "ab" with key id "c" would be one context.
    let user = [1; 20];
    let sealed = MessageCipher::new(&KeyScope::new(user, "a"), &key("bc", 1)).seal(b"", b"payload", &mut rng());
    assert!(MessageCipher::new(&KeyScope::new(user, "ab"), &key("c", 1)).open(b"", &sealed).is_err());
    // Nor may bytes move between header and ciphertext.
    let cipher = MessageCipher::new(&scope(), &key("k", 1));
    let sealed = cipher.seal(b"header", b"payload", &mut rng());
    let (first, rest) = sealed.split_at(1);
    assert!(cipher.open(&[b"header", first].concat(), rest).is_err());
    assert!(cipher.open(b"heade", &[b"r", sealed.as_slice()].concat()).is_err());
}

#[test]
fn a_public_key_that_is_not_sound_rsa_of_an_acceptable_size_is_refused() {
    let whole = frozen_public_key();
    assert!(PublicKey::from_der(&whole).is_ok());
    let end = whole.len();
    let changed = |place: usize, value: u8| {
        let mut der = whole.clone();
        der[place] = value;
        der
    };
    let modulus_ends = end - 6;
    let refused = [
        ("an even modulus", changed(modulus_ends, whole[modulus_ends] & 0xfe)),
        ("an even exponent", changed(end - 1, 2)),
        ("a negative exponent", changed(end - 3, 0x81)),
        ("a modulus with a leading zero too many", changed(end - 6 - 255, 0)),
        ("another algorithm of the family (RSASSA-PSS)", changed(16, 10)),
        ("bytes after the key", [whole.as_slice(), &[0]].concat()),
        ("a key cut short", whole[..end - 1].to_vec()),
        ("nothing", Vec::new()),
    ];
    for (why, der) in refused {
        assert!(PublicKey::from_der(&der).is_err(), "{why}");
    }
    for size in ["1024", "2047", "4104", "8192"] {
        let file = format!("{}/tests/vectors/rsa_public_{size}.hex", env!("CARGO_MANIFEST_DIR"));
        let der = hex::decode(std::fs::read_to_string(file).unwrap().trim()).unwrap();
        assert!(PublicKey::from_der(&der).is_err(), "{size} bits");
    }
}

fn next_in_chain(millis: u64, wrong: bool) -> Verified<MessageContent> {
    let previous = (millis > 0).then(|| at(millis - 1, 0));
    let draft = Draft { at: at(millis, 0), previous, key_updates: Vec::new(), ..draft() };
    sealed(draft, &Payload::text(format!("number {millis}")), &key("k", if wrong { 9 } else { 1 }))
}

#[test]
fn a_key_of_the_right_id_and_wrong_bytes_is_reported_once_and_the_stream_goes_on() {
    let mut intake = Intake::new(stream("prices"), IntakeLimits::default());
    intake.key_arrived(NOW, publisher().user(), key("k", 1), Arrival::Store);
    let mut told = Vec::new();
    for (millis, wrong) in [(0, false), (1, true), (2, true), (3, false)] {
        for effect in intake.message(NOW, next_in_chain(millis, wrong)) {
            told.push(match effect {
                IntakeEffect::Deliver(message) => message.text().unwrap().to_owned(),
                IntakeEffect::Notify(Event::WrongKey { key_id, .. }) => format!("wrong key {key_id}"),
                other => panic!("{other:?}"),
            });
        }
    }
    assert_eq!(told, ["number 0", "wrong key k", "number 3"]);
}

#[test]
fn a_content_type_survives_sealing() {
    let payloads = [
        (Payload::json_text("{}").unwrap(), ContentType::Json),
        (Payload::binary(vec![0xff]), ContentType::Binary),
        (Payload::text("t"), ContentType::Text),
    ];
    for (payload, expected) in payloads {
        assert_eq!(sealed(draft(), &payload, &key("k", 1)).content().content_type, expected);
    }
    assert!(Payload::json_text("{").is_err());
}

#[test]
fn a_partition_is_a_number_below_the_count_or_the_one_its_key_maps_to() {
    assert_eq!(Partition::default().number(1), Ok(0));
    for count in 1..=100 {
        assert!(Partition::Key("sensor-7".into()).number(count).unwrap() < count);
        assert_eq!(Partition::Number(count - 1).number(count), Ok(count - 1));
        assert!(Partition::Number(count).number(count).is_err());
    }
    let earliest = MessageRef { timestamp: Timestamp::ZERO, sequence: 0 };
    assert!(earliest < at(0, 0) && at(0, 1) < at(1, 0), "time first, then sequence");
}
