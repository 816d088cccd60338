//! Vector files, a random generator that says what it is told to, and samples of every statement.

use std::collections::VecDeque;
use std::convert::Infallible;

use bytes::Bytes;
use prost::Message as _;
use rand_core::{TryCryptoRng, TryRng};
use serde_json::Value;
use veilcast::cipher::MessageCipher;
use veilcast::identity::{Domain, Identity, UserId};
use veilcast::key_store::{GroupKey, HistoryCursor, KeyId, KeyScope, TimeRange};
use veilcast::message::{Draft, Payload, compose};
use veilcast::storage::{Filter, Place};
use veilcast::stream::{StreamId, StreamPart};
use veilcast::time::Timestamp;
use veilcast::wire::{
    AuditHead, Content, GrantedKey, KeyAnswer, KeyPush, KeyRange, KeyReceipt, KeyRequest, KeyUpdate, MessageContent,
    MessageRef, OWNERS_REGISTRY, PublisherRecord, Received, Refused, RequestId, ResendPage, ResendRequest, Revocation,
    Revoked, SignedGrant, Span, StorageRecord, StreamRecord, UpdateKind, Verified, Wanted,
};
use veilcast::{Period, Permission};

/// Yields the bytes it was given, in order, and panics when there are no more: a vector names every random byte used.
#[derive(Debug)]
pub(crate) struct Scripted(VecDeque<u8>);

impl Scripted {
    pub(crate) fn new(parts: &[&[u8]]) -> Self {
        Self(parts.iter().flat_map(|part| part.iter().copied()).collect())
    }

    pub(crate) fn is_used_up(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryRng for Scripted {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        for byte in dst {
            *byte = self.0.pop_front().expect("the script names every random byte");
        }
        Ok(())
    }
}

impl TryCryptoRng for Scripted {}

/// A file of sdk/tests/vectors.
pub(crate) struct Vectors(Value);

impl Vectors {
    pub(crate) fn read(name: &str) -> Self {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
        Self(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
    }

    /// The file's own fields.
    pub(crate) fn top(&self) -> Fields<'_> {
        Fields(&self.0)
    }

    /// The entries of one of its lists; an empty list would prove nothing.
    pub(crate) fn list(&self, name: &str) -> Vec<Fields<'_>> {
        let entries = self.top().list(name);
        assert!(!entries.is_empty(), "no vectors in {name}");
        entries
    }
}

/// The fields of one entry.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(&'a Value);

impl<'a> Fields<'a> {
    pub(crate) fn text(self, name: &str) -> &'a str {
        self.0[name].as_str().unwrap_or_else(|| panic!("{name} is not text"))
    }

    pub(crate) fn bytes(self, name: &str) -> Vec<u8> {
        hex::decode(self.text(name)).unwrap()
    }

    pub(crate) fn array<const N: usize>(self, name: &str) -> [u8; N] {
        self.bytes(name).try_into().unwrap()
    }

    pub(crate) fn number(self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap_or_else(|| panic!("{name} is not a number"))
    }

    pub(crate) fn small(self, name: &str) -> u32 {
        self.number(name).try_into().unwrap()
    }

    pub(crate) fn list(self, name: &str) -> Vec<Fields<'a>> {
        self.0[name].as_array().unwrap_or_else(|| panic!("{name} is not a list")).iter().map(Fields).collect()
    }

    pub(crate) fn object(self, name: &str) -> Option<Fields<'a>> {
        Some(Fields(&self.0[name])).filter(|found| found.0.is_object())
    }

    /// As [`Self::list`], empty in a vector that was written before there was such a field.
    pub(crate) fn optional_list(self, name: &str) -> Vec<Fields<'a>> {
        self.0.get(name).map_or_else(Vec::new, |_| self.list(name))
    }

    /// As [`Self::object`], also in a vector that was written before there was such a field.
    pub(crate) fn optional_object(self, name: &str) -> Option<Fields<'a>> {
        self.0.get(name).map(Fields).filter(|found| found.0.is_object())
    }

    pub(crate) fn optional_number(self, name: &str) -> Option<u64> {
        self.0[name].as_u64()
    }

    pub(crate) fn itself(self) -> &'a str {
        self.0.as_str().unwrap()
    }

    pub(crate) fn itself_number(self) -> u64 {
        self.0.as_u64().unwrap()
    }

    /// Whether there is a field of one of these names, at any depth, that holds 32 bytes or more.
    pub(crate) fn has_bytes_named(self, names: &[&str]) -> bool {
        let is_bytes =
            |value: &Value| value.as_str().is_some_and(|text| hex::decode(text).is_ok_and(|b| b.len() >= 32));
        match self.0 {
            Value::Object(fields) => fields.iter().any(|(name, value)| {
                names.contains(&name.as_str()) && is_bytes(value) || Fields(value).has_bytes_named(names)
            }),
            Value::Array(entries) => entries.iter().any(|entry| Fields(entry).has_bytes_named(names)),
            _ => false,
        }
    }

    pub(crate) fn user(self, name: &str) -> UserId {
        UserId::from_bytes(self.array(name))
    }

    pub(crate) fn stream(self) -> StreamId {
        StreamId::new(self.text("stream")).unwrap()
    }

    pub(crate) fn scope(self) -> KeyScope {
        veilcast::scope(self.user("publisher"), &self.stream())
    }

    pub(crate) fn key_id(self, name: &str) -> KeyId {
        KeyId::new(self.text(name)).unwrap()
    }

    pub(crate) fn key(self, id: &str, bytes: &str) -> GroupKey {
        GroupKey::new(self.key_id(id), &self.bytes(bytes)).unwrap()
    }

    pub(crate) fn moment(self, name: &str) -> Timestamp {
        Timestamp::from_millis(self.number(name))
    }

    pub(crate) fn request_id(self, name: &str) -> RequestId {
        RequestId(self.array(name))
    }

    pub(crate) fn identity(self) -> Identity {
        Identity::from_secret_bytes(&self.array("secret")).unwrap()
    }
}

/// `Envelope` of docs/PROTOCOL.md, so that tests can say anything in it.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Envelope {
    #[prost(uint32, tag = "1")]
    pub(crate) version: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) kind: u32,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) content: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) signature: Vec<u8>,
}

impl Envelope {
    pub(crate) fn read(bytes: &Bytes) -> Self {
        Self::decode(bytes.clone()).unwrap()
    }

    pub(crate) fn bytes(&self) -> Bytes {
        self.encode_to_vec().into()
    }

    /// Well signed by `identity`, whatever the content is.
    pub(crate) fn signed(domain: Domain, content: Vec<u8>, identity: &Identity) -> Self {
        let signature = identity.sign(domain, &content).as_bytes().to_vec();
        Self { version: 1, kind: domain.number(), content, signature }
    }
}

/// `Message` of docs/PROTOCOL.md.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MessageParts {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) header: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) payload: Vec<u8>,
}

impl MessageParts {
    pub(crate) fn of(message: &Verified<MessageContent>) -> Self {
        Self::decode(Envelope::read(message.envelope()).content.as_slice()).unwrap()
    }
}

/// One Protocol Buffers field of the length-delimited type, its number below 16.
pub(crate) fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    prost::encode_length_delimiter(bytes.len(), &mut out).unwrap();
    [out.as_slice(), bytes].concat()
}

/// Who refuses an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Decode,
    Signature,
    Accept,
}

pub(crate) fn judge<T: Content>(envelope: &Bytes) -> Verdict {
    match Received::<T>::decode(envelope).map(Received::verify) {
        Err(_) => Verdict::Decode,
        Ok(Err(_)) => Verdict::Signature,
        Ok(Ok(_)) => Verdict::Accept,
    }
}

pub(crate) fn judge_as(domain: Domain, envelope: &Bytes) -> Verdict {
    match domain {
        Domain::Message => judge::<MessageContent>(envelope),
        Domain::KeyRequest => judge::<KeyRequest>(envelope),
        Domain::KeyAnswer => judge::<KeyAnswer>(envelope),
        Domain::KeyPush => judge::<KeyPush>(envelope),
        Domain::KeyReceipt => judge::<KeyReceipt>(envelope),
        Domain::PublisherRecord => judge::<PublisherRecord>(envelope),
        Domain::StreamRecord => judge::<StreamRecord>(envelope),
        Domain::SignedGrant => judge::<SignedGrant>(envelope),
        Domain::ResendRequest => judge::<ResendRequest>(envelope),
        Domain::ResendPage => judge::<ResendPage>(envelope),
        Domain::StorageRecord => judge::<StorageRecord>(envelope),
        Domain::AuditHead => judge::<AuditHead>(envelope),
        other => panic!("no samples of {other:?}"),
    }
}

pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_900_000_000);

pub(crate) fn publisher() -> Identity {
    Identity::from_secret_bytes(&[0x11; 32]).unwrap()
}

pub(crate) fn subscriber() -> Identity {
    Identity::from_secret_bytes(&[0x22; 32]).unwrap()
}

pub(crate) fn stream(path: &str) -> StreamId {
    StreamId::of(publisher().user(), path).unwrap()
}

pub(crate) fn part() -> StreamPart {
    stream("prices").part(7).unwrap()
}

pub(crate) fn scope() -> KeyScope {
    veilcast::scope(publisher().user(), &stream("prices"))
}

pub(crate) fn key(id: &str, byte: u8) -> GroupKey {
    GroupKey::new(KeyId::new(id).unwrap(), &[byte; 32]).unwrap()
}

pub(crate) fn at(millis: u64, sequence: u32) -> MessageRef {
    MessageRef { timestamp: NOW.plus(std::time::Duration::from_millis(millis)), sequence }
}

pub(crate) fn draft() -> Draft {
    let update = KeyUpdate {
        kind: UpdateKind::Rotate,
        key_id: KeyId::new("next").unwrap(),
        wrapped_by: KeyId::new("k").unwrap(),
        wrapped: vec![9; 80],
    };
    Draft { part: part(), chain: [3; 16], at: at(5, 1), previous: Some(at(5, 0)), key_updates: vec![update] }
}

/// Sealed under `key` with a fixed IV.
pub(crate) fn sealed(draft: Draft, payload: &Payload, key: &GroupKey) -> Verified<MessageContent> {
    let cipher = MessageCipher::new(&veilcast::scope(publisher().user(), draft.part.stream()), key);
    compose(draft, payload, Some((key.id(), &cipher)), &publisher(), &mut Scripted::new(&[&[4; 16]])).unwrap()
}

pub(crate) fn message() -> Verified<MessageContent> {
    sealed(draft(), &Payload::text("a payload worth money"), &key("k", 1))
}

pub(crate) fn request() -> KeyRequest {
    KeyRequest {
        id: RequestId([5; 16]),
        stream: stream("prices"),
        publisher: publisher().user(),
        requester: subscriber().user(),
        sent: NOW,
        algorithm: 1,
        public_key: vec![7; 40],
        wanted: Wanted::Keys(vec![KeyId::new("k").unwrap(), KeyId::new("l").unwrap()]),
        proofs: Vec::new(),
    }
}

pub(crate) fn granted(id: &str) -> GrantedKey {
    GrantedKey { key_id: KeyId::new(id).unwrap(), wrapped: vec![8; 80], since: NOW, until: Some(NOW) }
}

pub(crate) fn answer() -> KeyAnswer {
    let refused = Refused { key_id: KeyId::new("l").unwrap(), refusal: veilcast::Refusal::Expired { since: NOW } };
    KeyAnswer {
        id: RequestId([5; 16]),
        stream: stream("prices"),
        publisher: publisher().user(),
        requester: subscriber().user(),
        sent: NOW,
        algorithm: 1,
        encapsulated: vec![6; 64],
        granted: vec![granted("k")],
        refused: vec![refused],
        next: None,
        refusal: None,
    }
}

pub(crate) fn push() -> KeyPush {
    KeyPush {
        id: RequestId([6; 16]),
        stream: stream("prices"),
        publisher: publisher().user(),
        subscriber: subscriber().user(),
        sent: NOW,
        algorithm: 1,
        encapsulated: vec![6; 64],
        granted: vec![granted("k")],
    }
}

pub(crate) fn receipt() -> KeyReceipt {
    KeyReceipt {
        id: RequestId([6; 16]),
        subscriber: subscriber().user(),
        publisher: publisher().user(),
        stream: stream("prices"),
    }
}

pub(crate) fn record() -> PublisherRecord {
    PublisherRecord {
        publisher: publisher().user(),
        peer: vec![2; 38],
        addresses: vec![vec![4, 127, 0, 0, 1]],
        issued: NOW,
        expires: NOW.plus(std::time::Duration::from_secs(3600)),
        slot: 0,
    }
}

pub(crate) fn stream_record() -> StreamRecord {
    let of_user = Revoked::User { user: subscriber().user(), through: 3 };
    StreamRecord {
        stream: stream("prices"),
        registry: OWNERS_REGISTRY.into(),
        partitions: 10,
        public: false,
        public_until: Some(NOW),
        publishers: vec![subscriber().user()],
        version: 7,
        issued: NOW,
        expires: NOW.plus(std::time::Duration::from_secs(24 * 3600)),
        revocations: vec![Revocation { what: Revoked::Serial(9), at: NOW }, Revocation { what: of_user, at: NOW }],
        storage: vec![UserId::from_bytes([12; 20])],
    }
}

pub(crate) fn signed_grant() -> SignedGrant {
    SignedGrant {
        stream: stream("prices"),
        registry: OWNERS_REGISTRY.into(),
        user: subscriber().user(),
        permission: Permission::Subscribe,
        period: Period { start: Some(NOW), end: Some(NOW.plus(std::time::Duration::from_secs(3600))) },
        serial: 4,
        issued: NOW,
    }
}

/// A request that shows what its requester may do.
pub(crate) fn showing_request() -> KeyRequest {
    let grant = Verified::sign(signed_grant(), &publisher()).unwrap();
    let record = Verified::sign(stream_record(), &publisher()).unwrap();
    KeyRequest { proofs: vec![record.envelope().clone(), grant.envelope().clone()], ..request() }
}

/// A request for a page of a span of time.
pub(crate) fn range_request() -> KeyRequest {
    let range = TimeRange { from: NOW.as_millis() - 1000, to: NOW.as_millis() };
    let after = Some(HistoryCursor { since: NOW.as_millis() - 500, id: KeyId::new("j").unwrap() });
    KeyRequest { wanted: Wanted::Range(KeyRange { range, after }), ..request() }
}

/// A page, and where the next one begins.
pub(crate) fn page_answer() -> KeyAnswer {
    KeyAnswer { next: Some(HistoryCursor { since: NOW.as_millis(), id: KeyId::new("l").unwrap() }), ..answer() }
}

/// A span refused as a whole.
pub(crate) fn whole_refusal() -> KeyAnswer {
    let refusal = Some(veilcast::Refusal::NotYet { from: NOW });
    KeyAnswer { encapsulated: Vec::new(), granted: Vec::new(), refused: Vec::new(), refusal, ..answer() }
}

pub(crate) fn place() -> Place {
    Place { at: at(0, 3), publisher: publisher().user(), chain: [4; 16] }
}

/// The publisher is the storage node as well.
pub(crate) fn resend_request() -> ResendRequest {
    ResendRequest {
        id: RequestId([6; 16]),
        part: part(),
        node: publisher().user(),
        requester: subscriber().user(),
        sent: NOW,
        span: Span::Range { from: NOW.minus(std::time::Duration::from_secs(60)), to: NOW },
        after: Some(place()),
        filter: Filter::chain(publisher().user(), [4; 16]),
        proofs: showing_request().proofs,
    }
}

pub(crate) fn last_request() -> ResendRequest {
    ResendRequest { span: Span::Last(100), after: None, filter: Filter::ALL, proofs: Vec::new(), ..resend_request() }
}

pub(crate) fn resend_page() -> ResendPage {
    ResendPage {
        id: RequestId([6; 16]),
        part: part(),
        node: publisher().user(),
        requester: subscriber().user(),
        sent: NOW,
        messages: vec![message().envelope().clone()],
        next: Some(place()),
        refusal: None,
    }
}

pub(crate) fn resend_refusal() -> ResendPage {
    ResendPage { messages: Vec::new(), next: None, refusal: Some(veilcast::Refusal::Denied), ..resend_page() }
}

pub(crate) fn storage_record() -> StorageRecord {
    StorageRecord {
        stream: stream("prices"),
        node: publisher().user(),
        peer: vec![3; 38],
        addresses: vec![vec![4; 8]],
        issued: NOW,
        expires: NOW.plus(std::time::Duration::from_secs(3600)),
        slot: 7,
    }
}

pub(crate) fn audit_head() -> AuditHead {
    AuditHead {
        publisher: publisher().user(),
        log: [5; 16],
        at: NOW,
        sequence: 9,
        hash: [6; 32],
        pruned: 8,
        pruned_hash: [7; 32],
        size: 300,
    }
}

/// One envelope of each kind, and of each shape it has.
pub(crate) fn samples() -> Vec<(Domain, Bytes)> {
    fn by<T: Content>(content: T, identity: &Identity) -> Bytes {
        Verified::sign(content, identity).unwrap().envelope().clone()
    }
    vec![
        (Domain::Message, message().envelope().clone()),
        (Domain::KeyRequest, by(request(), &subscriber())),
        (Domain::KeyAnswer, by(answer(), &publisher())),
        (Domain::KeyPush, by(push(), &publisher())),
        (Domain::KeyReceipt, by(receipt(), &subscriber())),
        (Domain::PublisherRecord, by(record(), &publisher())),
        (Domain::KeyRequest, by(range_request(), &subscriber())),
        (Domain::KeyAnswer, by(page_answer(), &publisher())),
        (Domain::KeyAnswer, by(whole_refusal(), &publisher())),
        (Domain::StreamRecord, by(stream_record(), &publisher())),
        (Domain::SignedGrant, by(signed_grant(), &publisher())),
        (Domain::KeyRequest, by(showing_request(), &subscriber())),
        (Domain::ResendRequest, by(resend_request(), &subscriber())),
        (Domain::ResendRequest, by(last_request(), &subscriber())),
        (Domain::ResendPage, by(resend_page(), &publisher())),
        (Domain::ResendPage, by(resend_refusal(), &publisher())),
        (Domain::StorageRecord, by(storage_record(), &publisher())),
        (Domain::AuditHead, by(audit_head(), &publisher())),
    ]
}
