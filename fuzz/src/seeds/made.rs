//! Real values, encoded by the code as it is.

use std::time::Duration;

use veilcast::cipher::{MessageCipher, encapsulate, wrap_next};
use veilcast::exchange::{Page, answer_page};
use veilcast::key_store::{HistoryCursor, KeyOrigin, StoredKey, TimeRange};
use veilcast::message::{Draft, Payload, compose};
use veilcast::storage::{Filter, Place};
use veilcast::wire::{
    ALGORITHM_RSA_OAEP_SHA256, AuditHead, Content, Frame, KeyAnswer, KeyPush, KeyRange, KeyReceipt, KeyRequest,
    KeyUpdate, MessageContent, MessageRef, OWNERS_REGISTRY, PublisherRecord, RequestId, ResendPage, ResendRequest,
    Revocation, Revoked, SignedGrant, Span, StorageRecord, StreamRecord, UpdateKind, Verified, Wanted,
};
use veilcast::{Identity, Period, Permission, Refusal, UserId};

use super::Seed;
use crate::cast::{NOW, identity, key, key_id, pair, publisher, rng, scope, stream, subscriber};
use crate::keys::{HEADER, INSIDE, PAYLOAD, UNDER, recipient};

pub(super) fn seeds() -> Vec<Seed> {
    let (plain, sealed) = (message(false), message(true));
    let (receipt, record) = (signed(receipt(), &subscriber()), signed(record(), &publisher()));
    let frames = [Frame::of_message(plain.envelope().clone()), Frame::of_message(sealed.envelope().clone())];
    let of_record = Frame::of_record(record.envelope().clone());
    let single = vec![
        Seed::new("frame", "message", frames[1].clone()),
        Seed::new("frame", "record", of_record.clone()),
        Seed::new("frame", "both", [frames.concat(), of_record.to_vec()].concat()),
        Seed::new("frame", "empty_parts", [10, 0].repeat(1100)),
        Seed::new("public_key", "rsa_2048", pair().public().as_der()),
        Seed::new("screen", "requests", program(&[(0, 1, 5), (2, 1, 6), (0, 2, 5), (9, 1, 7)])),
        Seed::new("screen", "flood", program(&[(0, 1, 1), (0, 1, 2), (0, 2, 3), (0, 3, 4), (0, 1, 5), (0, 1, 6)])),
        Seed::new("screen", "cut", program(&[(0, 1, 5)])[..200].to_vec()),
        Seed::new("intake", "raw_envelope", raw(&plain)),
    ];
    [
        single,
        of_kind("message", &plain, "plain"),
        of_kind("message", &sealed, "sealed"),
        of_kind("request", &request(5), "request"),
        of_kind("request", &span(), "span"),
        of_kind("answer", &answer(), "answer"),
        of_kind("answer", &page(true), "page"),
        of_kind("answer", &page(false), "no_page"),
        of_kind("push", &push(), "push"),
        of_kind("receipt", &receipt, "receipt"),
        of_kind("record", &record, "record"),
        of_kind("stream_record", &stream_record(), "stream_record"),
        of_kind("signed_grant", &grant(), "grant"),
        of_kind("request", &showing(), "showing"),
        of_kind("resend_request", &resend_request(), "resend_request"),
        of_kind("resend_page", &resend_page(), "resend_page"),
        of_kind("storage_record", &storage_record(), "storage_record"),
        of_kind("audit_head", &audit_head(), "audit_head"),
        hollow(),
        openers(),
        intakes(),
        names(),
    ]
    .concat()
}

fn signed<T: Content>(content: T, identity: &Identity) -> Verified<T> {
    Verified::sign(content, identity).expect("it keeps the rules")
}

/// The content for its own target, the envelope for the other, and each damaged.
fn of_kind<T: Content>(target: &'static str, whole: &Verified<T>, name: &str) -> Vec<Seed> {
    let (content, envelope) = (whole.content().encode(), whole.envelope().to_vec());
    vec![
        Seed::new(target, name, content.clone()),
        Seed::new(target, format!("{name}_cut"), &content[..content.len() * 2 / 3]),
        Seed::new(target, format!("{name}_twice"), content.repeat(2)),
        Seed::new("envelope", name, envelope.clone()),
        Seed::new("envelope", format!("{name}_and_more"), [envelope.as_slice(), &[42, 1, 0]].concat()),
    ]
}

/// Fields that cost two bytes each and might become large lists.
fn hollow() -> Vec<Seed> {
    let many = |field: u8| [field << 3 | 2, 0].repeat(8_000);
    vec![
        Seed::new("answer", "hollow_granted", many(8)),
        Seed::new("answer", "hollow_refused", many(9)),
        Seed::new("push", "hollow_granted", many(8)),
        Seed::new("request", "hollow_key_ids", many(8)),
        Seed::new("record", "hollow_addresses", many(3)),
        Seed::new("stream_record", "hollow_revocations", many(10)),
        Seed::new("resend_page", "hollow_messages", many(7)),
        Seed::new("storage_record", "hollow_addresses", many(4)),
        Seed::new("request", "hollow_proofs", many(10)),
        Seed::new("message", "hollow_updates", [vec![10, 128, 61], [90, 0].repeat(3_904)].concat()),
    ]
}

fn message(is_sealed: bool) -> Verified<MessageContent> {
    let at = |sequence| MessageRef { timestamp: NOW, sequence };
    let update = KeyUpdate {
        kind: UpdateKind::Rotate,
        key_id: key_id(INSIDE.0),
        wrapped_by: key_id(UNDER.0),
        wrapped: wrap_next(&scope(), &key(UNDER.0, UNDER.1), &key(INSIDE.0, INSIDE.1), &mut rng()),
    };
    let draft = Draft {
        part: stream().part(7).expect("below 100"),
        chain: [3; 16],
        at: at(1),
        previous: is_sealed.then(|| at(0)),
        key_updates: if is_sealed { vec![update] } else { Vec::new() },
    };
    let (key, text) = (key(UNDER.0, UNDER.1), Payload::text("a payload worth money"));
    let cipher = MessageCipher::new(&scope(), &key);
    compose(draft, &text, is_sealed.then_some((key.id(), &cipher)), &publisher(), &mut rng()).expect("a valid draft")
}

fn request(id: u8) -> Verified<KeyRequest> {
    let content = KeyRequest {
        id: RequestId([id; 16]),
        stream: stream(),
        publisher: publisher().user(),
        requester: subscriber().user(),
        sent: NOW,
        algorithm: ALGORITHM_RSA_OAEP_SHA256,
        public_key: pair().public().as_der().to_vec(),
        wanted: Wanted::Keys(vec![key_id(UNDER.0), key_id(INSIDE.0)]),
        proofs: Vec::new(),
    };
    signed(content, &subscriber())
}

fn stream_record() -> Verified<StreamRecord> {
    let of_user = Revoked::User { user: subscriber().user(), through: 3 };
    let content = StreamRecord {
        stream: stream(),
        registry: OWNERS_REGISTRY.into(),
        partitions: 10,
        public: false,
        public_until: Some(NOW),
        publishers: vec![subscriber().user()],
        version: 7,
        issued: NOW,
        expires: NOW.plus(Duration::from_secs(24 * 3600)),
        revocations: vec![Revocation { what: Revoked::Serial(9), at: NOW }, Revocation { what: of_user, at: NOW }],
        storage: vec![UserId::from_bytes([12; 20])],
    };
    signed(content, &publisher())
}

fn grant() -> Verified<SignedGrant> {
    let content = SignedGrant {
        stream: stream(),
        registry: OWNERS_REGISTRY.into(),
        user: subscriber().user(),
        permission: Permission::Subscribe,
        period: Period { start: Some(NOW), end: Some(NOW.plus(Duration::from_secs(3600))) },
        serial: 4,
        issued: NOW,
    };
    signed(content, &publisher())
}

/// A request that shows what its requester may do.
fn showing() -> Verified<KeyRequest> {
    let proofs = vec![stream_record().envelope().clone(), grant().envelope().clone()];
    signed(KeyRequest { proofs, ..request(9).into_content() }, &subscriber())
}

fn place() -> Place {
    let at = MessageRef { timestamp: NOW, sequence: 3 };
    Place { at, publisher: publisher().user(), chain: [4; 16] }
}

/// A request for a page of one chain, with proofs.
fn resend_request() -> Verified<ResendRequest> {
    let content = ResendRequest {
        id: RequestId([6; 16]),
        part: stream().part(0).expect("there is one"),
        node: publisher().user(),
        requester: subscriber().user(),
        sent: NOW,
        span: Span::Range { from: NOW.minus(Duration::from_secs(60)), to: NOW },
        after: Some(place()),
        filter: Filter::chain(publisher().user(), [4; 16]),
        proofs: vec![stream_record().envelope().clone(), grant().envelope().clone()],
    };
    signed(content, &subscriber())
}

fn resend_page() -> Verified<ResendPage> {
    let content = ResendPage {
        id: RequestId([6; 16]),
        part: stream().part(0).expect("there is one"),
        node: publisher().user(),
        requester: subscriber().user(),
        sent: NOW,
        messages: vec![message(true).envelope().clone(), message(false).envelope().clone()],
        next: Some(place()),
        refusal: None,
    };
    signed(content, &publisher())
}

fn storage_record() -> Verified<StorageRecord> {
    let (issued, expires) = (NOW, NOW.plus(Duration::from_secs(3600)));
    let content = StorageRecord {
        stream: stream(),
        node: publisher().user(),
        peer: vec![3; 38],
        addresses: vec![vec![4; 8]],
        issued,
        expires,
        slot: 7,
    };
    signed(content, &publisher())
}

fn audit_head() -> Verified<AuditHead> {
    let (log, hash, pruned_hash) = ([5; 16], [6; 32], [7; 32]);
    let publisher = publisher().user();
    let content = AuditHead { publisher, log, at: NOW, sequence: 9, hash, pruned: 8, pruned_hash, size: 300 };
    signed(content, &self::publisher())
}

/// A request for a span of time, from its second page on.
fn span() -> Verified<KeyRequest> {
    let after = Some(HistoryCursor { since: 7, id: key_id(UNDER.0) });
    let range = KeyRange { range: TimeRange { from: 1, to: NOW.as_millis() }, after };
    let content = KeyRequest { wanted: Wanted::Range(range), ..request(8).into_content() };
    signed(content, &subscriber())
}

fn page(given: bool) -> Verified<KeyAnswer> {
    let decisions = vec![(key_id(UNDER.0), Ok(stored())), (key_id(INSIDE.0), Err(Refusal::Policy))];
    let next = Some(HistoryCursor { since: 9, id: key_id(INSIDE.0) });
    let page = if given { Ok(Page { decisions, next, looked_at: 2 }) } else { Err(Refusal::Denied) };
    answer_page(span().content(), page, &publisher(), NOW, &mut rng()).expect("our own request")
}

fn stored() -> StoredKey {
    let (since, until) = (NOW.as_millis(), Some(NOW.as_millis() + 1));
    StoredKey { key: key(UNDER.0, UNDER.1), since, until, origin: KeyOrigin::Made }
}

fn answer() -> Verified<KeyAnswer> {
    let refusal = Refusal::Expired { since: NOW };
    let decisions = vec![(key_id(UNDER.0), Ok(stored())), (key_id(INSIDE.0), Err(refusal))];
    veilcast::exchange::answer(request(5).content(), decisions, &publisher(), NOW, &mut rng()).expect("our own request")
}

fn push() -> Verified<KeyPush> {
    let (to, public) = (subscriber().user(), pair().public());
    veilcast::exchange::push(&stream(), to, public, &stored(), &publisher(), NOW, &mut rng()).expect("a usable key")
}

fn receipt() -> KeyReceipt {
    let (subscriber, publisher) = (subscriber().user(), publisher().user());
    KeyReceipt { id: RequestId([6; 16]), subscriber, publisher, stream: stream() }
}

fn record() -> PublisherRecord {
    PublisherRecord {
        publisher: publisher().user(),
        peer: vec![2; 38],
        addresses: vec![vec![4, 127, 0, 0, 1], vec![4, 10, 0, 0, 1]],
        issued: NOW,
        expires: NOW.plus(Duration::from_secs(3600)),
        slot: 0,
    }
}

/// Input of the screen: eighths of a second, peer, request id.
fn program(steps: &[(u8, u8, u8)]) -> Vec<u8> {
    let step = |(wait, peer, id): &(u8, u8, u8)| {
        let envelope = request(*id).envelope().clone();
        [&[*wait, *peer], (envelope.len() as u16).to_be_bytes().as_slice(), &envelope].concat()
    };
    steps.iter().flat_map(step).collect()
}

fn raw(message: &Verified<MessageContent>) -> Vec<u8> {
    let envelope = message.envelope();
    [&[7, 0], (envelope.len() as u16).to_be_bytes().as_slice(), envelope].concat()
}

/// A genuine input for each opener, and each with one bit changed at its end.
fn openers() -> Vec<Seed> {
    let (under, inside, scope) = (key(UNDER.0, UNDER.1), key(INSIDE.0, INSIDE.1), scope());
    let payload = MessageCipher::new(&scope, &under).seal(HEADER, PAYLOAD, &mut rng());
    let rotated = wrap_next(&scope, &under, &inside, &mut rng());
    let (transport, encapsulated) = encapsulate(recipient(&scope), pair().public(), &mut rng()).expect("a usable key");
    let transported = [encapsulated, transport.wrap(&inside, &mut rng())].concat();
    let mut all = Vec::new();
    for (kind, name, bytes) in [(0, "payload", payload), (1, "rotated", rotated), (2, "transported", transported)] {
        let whole = [&[kind], bytes.as_slice()].concat();
        let mut damaged = whole.clone();
        if let Some(last) = damaged.last_mut() {
            *last ^= 1;
        }
        all.extend([Seed::new("sealed", name, whole), Seed::new("sealed", format!("{name}_damaged"), damaged)]);
    }
    all
}

/// Programs of the pipeline: kind of step, who, which key, how far.
fn intakes() -> Vec<Seed> {
    const PLAIN: u8 = 48;
    const UNDER_A: u8 = 48 + 64;
    let programs: [(&str, &[[u8; 4]]); 6] = [
        ("plain_in_order", &[[0, 0, PLAIN, 2], [0, 8, PLAIN, 3], [0, 8, PLAIN, 4], [6, 0, 0, 20]]),
        ("gap_then_wait", &[[0, 0, PLAIN, 2], [6, 0, 0, 20], [0, 8, PLAIN, 9], [6, 0, 0, 255], [0, 8, PLAIN, 10]]),
        ("parked_then_key", &[[0, 0, UNDER_A, 2], [0, 8, UNDER_A, 3], [6, 0, 0, 20], [3, 0, 0, 0], [6, 0, 0, 1]]),
        ("wrong_key", &[[3, 0, 0, 255], [0, 0, UNDER_A, 2], [6, 0, 0, 20], [3, 0, 0, 0], [0, 8, UNDER_A, 3]]),
        ("carried", &[[3, 0, 0, 0], [0, 0, 64 + 4, 2], [6, 0, 0, 20], [0, 8, UNDER_A + 1, 3]]),
        ("refused", &[[0, 0, UNDER_A, 2], [4, 0, 0, 9], [0, 8, UNDER_A, 3], [6, 0, 0, 40], [5, 0, 0, 0]]),
    ];
    programs.into_iter().map(|(name, steps)| Seed::new("intake", name, steps.concat())).collect()
}

fn names() -> Vec<Seed> {
    let (user, part) = (identity(1).user().to_string(), stream().part(99).expect("below 100"));
    let texts = [
        ("user", user.to_uppercase().replacen("0X", "0x", 1)),
        ("stream", stream().to_string()),
        ("ens", "alice.eth/prices/btc".into()),
        ("part", part.to_string()),
        ("part_padded", format!("{}#07", stream())),
        ("topic", part.topic()),
        ("key", "0123456789abcdef0123456789abcdef".into()),
        ("long_key", "k".repeat(65)),
        ("permission", "subscribe".into()),
    ];
    texts.into_iter().map(|(name, text)| Seed::new("names", name, text)).collect()
}
