//! The frozen bytes of sdk/tests/vectors, one test for each file.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use veilcast::audit::{AuditCheck, AuditEvent, AuditLog, Handed, LoggedEntry, Repeats};
use veilcast::cipher::{MessageCipher, PublicKey, Recipient, encapsulate, unwrap_next, wrap_next};
use veilcast::identity::{Domain, Signature};
use veilcast::key_store::{HistoryCursor, MemoryKeyStore, TimeRange};
use veilcast::message::{Draft, Payload, compose};
use veilcast::storage::{Filter, Place};
use veilcast::stream::{Partition, StreamId, StreamPart};
use veilcast::time::Timestamp;
use veilcast::wire::{
    AuditHead, Content, Encryption, Frame, GrantedKey, KeyAnswer, KeyPush, KeyRange, KeyReceipt, KeyRequest, KeyUpdate,
    MessageContent, MessageRef, PublisherRecord, Received, Refused, ResendPage, ResendRequest, Revocation, Revoked,
    SignedGrant, Span, StorageRecord, StreamRecord, UpdateKind, Verified, Wanted,
};
use veilcast::{Period, Permission, Refusal, UserId};

use crate::support::{Envelope, Fields, MessageParts, Scripted, Vectors, Verdict, judge_as};

fn domain(number: u64) -> Domain {
    Domain::ALL.into_iter().find(|domain| u64::from(domain.number()) == number).unwrap()
}

/// Both halves of the derived key, by HKDF as RFC 5869 has it.
fn derived(ikm: &[u8], info: &[u8]) -> String {
    let mut okm = [0; 64];
    Hkdf::<Sha256>::new(Some(b"veilcast/1"), ikm).expand(info, &mut okm).unwrap();
    hex::encode(okm)
}

#[test]
fn digest_and_signature_of_each_kind_are_frozen() {
    let file = Vectors::read("signature.json");
    let identity = file.top().identity();
    assert_eq!(identity.user(), file.top().user("address"));
    for vector in file.list("cases") {
        let (domain, content) = (domain(vector.number("kind")), vector.bytes("content"));
        assert_eq!(domain.tag(), vector.text("tag"));
        let tag = domain.tag().as_bytes();
        let mut digest = Sha256::new();
        digest.update([tag.len() as u8]);
        digest.update(tag);
        digest.update((content.len() as u64).to_be_bytes());
        digest.update(&content);
        assert_eq!(hex::encode(digest.finalize()), vector.text("digest"));
        assert_eq!(hex::encode(identity.sign(domain, &content).as_bytes()), vector.text("signature"));
    }
    assert_eq!(file.list("cases").len(), 2 * Domain::ALL.len());
}

#[test]
fn a_malleated_or_foreign_signature_does_not_name_its_address() {
    let file = Vectors::read("signature.json");
    let address = file.top().user("address");
    for vector in file.list("refused") {
        let (domain, content) = (domain(vector.number("kind")), vector.bytes("content"));
        let found = Signature::from_bytes(&vector.bytes("signature")).and_then(|s| s.signer(domain, &content));
        assert_ne!(found, Ok(address), "{}", vector.text("why"));
    }
}

#[test]
fn payload_keys_and_sealed_payload_are_frozen() {
    for vector in Vectors::read("payload.json").list("cases") {
        let cipher = MessageCipher::new(&vector.scope(), &vector.key("key_id", "key"));
        let (header, plaintext) = (vector.bytes("header"), vector.bytes("plaintext"));
        let sealed = cipher.seal(&header, &plaintext, &mut Scripted::new(&[&vector.bytes("iv")]));
        assert_eq!(hex::encode(&sealed), vector.text("sealed"));
        assert_eq!(cipher.open(&header, &sealed).unwrap(), plaintext);
        let keys = derived(&vector.bytes("key"), &vector.bytes("info"));
        assert_eq!(keys, format!("{}{}", vector.text("enc_key"), vector.text("mac_key")));
    }
}

#[test]
fn the_rotate_wrap_is_frozen() {
    for vector in Vectors::read("rotate_wrap.json").list("cases") {
        let (current, next) = (vector.key("current_id", "current_key"), vector.key("next_id", "next_key"));
        let wrapped = wrap_next(&vector.scope(), &current, &next, &mut Scripted::new(&[&vector.bytes("iv")]));
        assert_eq!(hex::encode(&wrapped), vector.text("wrapped"));
        assert!(unwrap_next(&vector.scope(), &current, next.id(), &wrapped).unwrap().same_as(&next));
    }
}

#[test]
fn the_transport_key_its_label_and_its_wraps_are_frozen() {
    let file = Vectors::read("transport.json");
    let top = file.top();
    let public = PublicKey::from_der(&top.bytes("public_key")).unwrap();
    assert_eq!(public.as_der(), top.bytes("public_key"));
    let scope = top.scope();
    let recipient =
        Recipient { scope: &scope, subscriber: top.user("subscriber"), request: top.request_id("request_id") };
    let mut rng = Scripted::new(&[&top.bytes("transport_secret"), &top.bytes("oaep_seed")]);
    let (transport, encapsulated) = encapsulate(recipient, &public, &mut rng).unwrap();
    assert!(rng.is_used_up());
    assert_eq!(hex::encode(&encapsulated), top.text("encapsulated"));
    let keys = derived(&top.bytes("transport_secret"), &top.bytes("label"));
    assert_eq!(keys, format!("{}{}", top.text("enc_key"), top.text("mac_key")));
    for vector in file.list("cases") {
        let key = vector.key("key_id", "key");
        let wrapped = transport.wrap(&key, &mut Scripted::new(&[&vector.bytes("iv")]));
        assert_eq!(hex::encode(&wrapped), vector.text("wrapped"));
        assert!(transport.unwrap(key.id(), &wrapped).unwrap().same_as(&key));
    }
}

fn message_ref(fields: Fields<'_>) -> MessageRef {
    MessageRef { timestamp: fields.moment("timestamp"), sequence: fields.small("sequence") }
}

fn key_update(fields: Fields<'_>) -> KeyUpdate {
    assert_eq!(fields.number("kind"), 1, "no other kind is written");
    KeyUpdate {
        kind: UpdateKind::Rotate,
        key_id: fields.key_id("key_id"),
        wrapped_by: fields.key_id("wrapped_by"),
        wrapped: fields.bytes("wrapped"),
    }
}

fn draft_of(vector: Fields<'_>) -> Draft {
    Draft {
        part: vector.stream().part(vector.small("partition")).unwrap(),
        chain: vector.array("chain"),
        at: message_ref(vector),
        previous: vector.object("previous").map(message_ref),
        key_updates: vector.list("key_updates").into_iter().map(key_update).collect(),
    }
}

fn payload_of(vector: Fields<'_>) -> Payload {
    let bytes = vector.bytes("plaintext");
    match vector.number("content_type") {
        1 => Payload::json_text(bytes).unwrap(),
        2 => Payload::binary(bytes),
        3 => Payload::text(String::from_utf8(bytes).unwrap()),
        other => panic!("content type {other}"),
    }
}

fn compose_from(vector: Fields<'_>) -> Verified<MessageContent> {
    let (draft, payload, identity) = (draft_of(vector), payload_of(vector), vector.identity());
    if vector.number("encryption") == 0 {
        return compose(draft, &payload, None, &identity, &mut Scripted::new(&[])).unwrap();
    }
    let key = vector.key("key_id", "key");
    let cipher = MessageCipher::new(&vector.scope(), &key);
    let mut rng = Scripted::new(&[&vector.bytes("iv")]);
    compose(draft, &payload, Some((key.id(), &cipher)), &identity, &mut rng).unwrap()
}

#[test]
fn header_content_and_envelope_of_a_message_are_frozen() {
    for vector in Vectors::read("message.json").list("cases") {
        let (name, made) = (vector.text("name"), compose_from(vector));
        let parts = MessageParts::of(&made);
        assert_eq!(hex::encode(&parts.header), vector.text("header"), "{name}");
        assert_eq!(hex::encode(&parts.payload), vector.text("payload"), "{name}");
        assert_eq!(hex::encode(made.envelope()), vector.text("envelope"), "{name}");
        assert_eq!(hex::encode(Envelope::read(made.envelope()).content), vector.text("content"), "{name}");
    }
}

#[test]
fn a_frozen_message_is_read_as_what_it_says_and_opens() {
    for vector in Vectors::read("message.json").list("cases") {
        let envelope = Bytes::from(vector.bytes("envelope"));
        let read = Received::<MessageContent>::decode(&envelope).unwrap().verify().unwrap();
        assert_eq!(read.content(), compose_from(vector).content());
        let Draft { part, chain, at, previous, key_updates } = draft_of(vector);
        let content = read.content();
        assert_eq!((&content.part, content.publisher, content.chain), (&part, vector.user("publisher"), chain));
        assert_eq!((content.at, content.previous, &content.key_updates), (at, previous, &key_updates));
        let plaintext = match &content.encryption {
            Encryption::GroupKey(id) => {
                let cipher = MessageCipher::new(&vector.scope(), &vector.key("key_id", "key"));
                assert_eq!(id.as_str(), vector.text("key_id"));
                cipher.open(&vector.bytes("header"), &content.payload).unwrap()
            }
            _ => content.payload.to_vec(),
        };
        assert_eq!(hex::encode(plaintext), vector.text("plaintext"));
    }
}

#[test]
fn a_frozen_message_of_a_later_version_is_read_without_its_unknown_key_updates_and_opens() {
    for vector in Vectors::read("message.json").list("later") {
        let (name, envelope) = (vector.text("name"), Bytes::from(vector.bytes("envelope")));
        let read = Received::<MessageContent>::decode(&envelope).unwrap().verify().unwrap();
        let known: Vec<KeyUpdate> = vector.list("known_updates").into_iter().map(key_update).collect();
        assert_eq!(read.content().key_updates, known, "{name}");
        assert!(known.len() < vector.list("key_updates").len(), "{name}");
        assert_eq!(hex::encode(read.content().encode()), vector.text("content"), "{name}");
        let cipher = MessageCipher::new(&vector.scope(), &vector.key("key_id", "key"));
        let opened = cipher.open(&vector.bytes("header"), &read.content().payload).unwrap();
        assert_eq!(hex::encode(opened), vector.text("plaintext"), "{name}");
    }
}

/// Signing `content` gives the vector's bytes, and reading those gives `content`.
fn is_frozen<T: Content + Clone + PartialEq + std::fmt::Debug>(vector: Fields<'_>, content: T) {
    let name = vector.text("name");
    assert_eq!(hex::encode(content.encode()), vector.text("content"), "{name}");
    let made = Verified::sign(content.clone(), &vector.identity()).unwrap();
    assert_eq!(hex::encode(made.envelope()), vector.text("envelope"), "{name}");
    let read = Received::<T>::decode(&vector.bytes("envelope").into()).unwrap().verify().unwrap();
    assert_eq!(read.content(), &content, "{name}");
}

fn cursor(fields: Fields<'_>) -> HistoryCursor {
    HistoryCursor { since: fields.number("since"), id: fields.key_id("key_id") }
}

fn key_range(fields: Fields<'_>) -> KeyRange {
    let range = TimeRange { from: fields.number("from"), to: fields.number("to") };
    KeyRange { range, after: fields.object("after").map(cursor) }
}

#[test]
fn key_requests_by_ids_and_by_span_of_time_are_frozen() {
    for vector in Vectors::read("key_request.json").list("cases") {
        let content = KeyRequest {
            id: vector.request_id("id"),
            stream: vector.stream(),
            publisher: vector.user("publisher"),
            requester: vector.user("requester"),
            sent: vector.moment("sent"),
            algorithm: vector.small("algorithm"),
            public_key: vector.bytes("public_key"),
            wanted: match vector.optional_object("range") {
                Some(range) => Wanted::Range(key_range(range)),
                None => Wanted::Keys(vector.list("key_ids").iter().map(|id| id.itself().parse().unwrap()).collect()),
            },
            proofs: vector
                .optional_list("proofs")
                .iter()
                .map(|proof| hex::decode(proof.itself()).unwrap().into())
                .collect(),
        };
        is_frozen(vector, content);
    }
}

fn granted(vector: Fields<'_>) -> Vec<GrantedKey> {
    let key = |fields: Fields<'_>| GrantedKey {
        key_id: fields.key_id("key_id"),
        wrapped: fields.bytes("wrapped"),
        since: fields.moment("since"),
        until: fields.optional_number("until").map(Timestamp::from_millis),
    };
    vector.list("granted").into_iter().map(key).collect()
}

fn refused(fields: Fields<'_>) -> Refused {
    Refused { key_id: fields.key_id("key_id"), refusal: refusal(fields.number("reason"), fields) }
}

fn refusal(reason: u64, fields: Fields<'_>) -> Refusal {
    let (moment, span) = (fields.moment("millis"), Duration::from_millis(fields.number("millis")));
    match reason {
        1 => Refusal::Denied,
        2 => Refusal::NotYet { from: moment },
        3 => Refusal::Expired { since: moment },
        4 => Refusal::UnknownKey,
        5 => Refusal::Throttled { retry_after: span },
        6 => Refusal::Policy,
        7 => Refusal::Unavailable { retry_after: span },
        8 => Refusal::UnacceptableAlgorithm,
        other => panic!("reason {other}"),
    }
}

#[test]
fn key_answers_with_grants_pages_and_each_refusal_are_frozen() {
    let file = Vectors::read("key_answer.json");
    let (mut named, mut spans) = (0, 0);
    for vector in file.list("cases") {
        let content = KeyAnswer {
            id: vector.request_id("id"),
            stream: vector.stream(),
            publisher: vector.user("publisher"),
            requester: vector.user("subscriber"),
            sent: vector.moment("sent"),
            algorithm: vector.small("algorithm"),
            encapsulated: vector.bytes("encapsulated"),
            granted: granted(vector),
            refused: vector.list("refused").into_iter().map(refused).collect(),
            next: vector.optional_object("next").map(cursor),
            refusal: vector.optional_object("refusal").map(|fields| refusal(fields.number("reason"), fields)),
        };
        let (name, whole) = (vector.text("name"), content.refusal);
        named += content.refused.iter().filter(|refused| refused.refusal.name() == name).count();
        spans += usize::from(whole.is_some_and(|refusal| name.ends_with(&format!(": {}", refusal.name()))));
        is_frozen(vector, content);
    }
    assert_eq!(named, 8, "one answer for each reason, under its name");
    assert_eq!(spans, 7, "a span refused for each reason but an unknown key");
}

#[test]
fn a_frozen_answer_of_a_later_version_is_read_with_its_unknown_reasons_as_policy() {
    for vector in Vectors::read("key_answer.json").list("later") {
        let name = vector.text("name");
        let read = Received::<KeyAnswer>::decode(&vector.bytes("envelope").into()).unwrap().verify().unwrap();
        let (reasons, mut read_as) = (vector.list("refused"), vector.list("read_as"));
        if let Some(written) = vector.optional_object("refusal") {
            let expected = refusal(read_as.remove(0).itself_number(), written);
            assert_eq!(read.content().refusal, Some(expected), "{name}");
        }
        assert_eq!((reasons.len(), read.content().refused.len()), (read_as.len(), read_as.len()), "{name}");
        assert_eq!(read.content().granted, granted(vector), "{name}");
        for ((written, read_as), found) in reasons.into_iter().zip(read_as).zip(&read.content().refused) {
            assert_eq!(found.key_id, written.key_id("key_id"), "{name}");
            assert_eq!(found.refusal, refusal(read_as.itself_number(), written), "{name}");
        }
    }
}

#[test]
fn key_pushes_are_frozen() {
    for vector in Vectors::read("key_push.json").list("cases") {
        let content = KeyPush {
            id: vector.request_id("id"),
            stream: vector.stream(),
            publisher: vector.user("publisher"),
            subscriber: vector.user("subscriber"),
            sent: vector.moment("sent"),
            algorithm: vector.small("algorithm"),
            encapsulated: vector.bytes("encapsulated"),
            granted: granted(vector),
        };
        is_frozen(vector, content);
    }
}

#[test]
fn key_receipts_are_frozen() {
    for vector in Vectors::read("key_receipt.json").list("cases") {
        let content = KeyReceipt {
            id: vector.request_id("id"),
            subscriber: vector.user("subscriber"),
            publisher: vector.user("publisher"),
            stream: vector.stream(),
        };
        is_frozen(vector, content);
    }
}

#[test]
fn publisher_records_and_their_dht_key_are_frozen() {
    for vector in Vectors::read("publisher_record.json").list("cases") {
        let publisher: UserId = vector.user("publisher");
        let slot = vector.number("slot") as u8;
        assert_eq!(hex::encode(PublisherRecord::dht_key(publisher, slot)), vector.text("dht_key"));
        let content = PublisherRecord {
            publisher,
            peer: vector.bytes("peer"),
            addresses: vector.list("addresses").iter().map(|bytes| hex::decode(bytes.itself()).unwrap()).collect(),
            issued: vector.moment("issued"),
            expires: vector.moment("expires"),
            slot,
        };
        is_frozen(vector, content);
    }
}

fn permission(vector: Fields<'_>) -> Permission {
    match vector.number("permission") {
        1 => Permission::Publish,
        2 => Permission::Subscribe,
        other => panic!("permission {other}"),
    }
}

#[test]
fn signed_grants_are_frozen() {
    for vector in Vectors::read("signed_grant.json").list("cases") {
        let moment = |name| vector.optional_number(name).map(Timestamp::from_millis);
        let content = SignedGrant {
            stream: vector.stream(),
            registry: vector.text("registry").into(),
            user: vector.user("user"),
            permission: permission(vector),
            period: Period { start: moment("start"), end: moment("end") },
            serial: vector.number("serial"),
            issued: vector.moment("issued"),
        };
        is_frozen(vector, content);
    }
}

fn revocation(fields: Fields<'_>) -> Revocation {
    let serial = fields.number("serial");
    let what = match fields.text("user") {
        "" => Revoked::Serial(serial),
        _ => Revoked::User { user: fields.user("user"), through: serial },
    };
    Revocation { what, at: fields.moment("at") }
}

#[test]
fn stream_records_and_their_dht_key_are_frozen() {
    for vector in Vectors::read("stream_record.json").list("cases") {
        assert_eq!(hex::encode(StreamRecord::dht_key(&vector.stream())), vector.text("dht_key"));
        let content = StreamRecord {
            stream: vector.stream(),
            registry: vector.text("registry").into(),
            partitions: vector.small("partitions"),
            public: vector.number("public") == 1,
            public_until: vector.optional_number("public_until").map(Timestamp::from_millis),
            publishers: vector.list("publishers").iter().map(|user| user.itself().parse().unwrap()).collect(),
            version: vector.number("version"),
            issued: vector.moment("issued"),
            expires: vector.moment("expires"),
            revocations: vector.list("revocations").into_iter().map(revocation).collect(),
            storage: vector.list("storage").iter().map(|user| user.itself().parse().unwrap()).collect(),
        };
        is_frozen(vector, content);
    }
}

fn place(fields: Fields<'_>) -> Place {
    let chain = fields.bytes("chain").try_into().unwrap();
    Place { at: message_ref(fields), publisher: fields.user("publisher"), chain }
}

fn part(vector: Fields<'_>) -> StreamPart {
    vector.stream().part(vector.small("partition")).unwrap()
}

#[test]
fn resend_requests_are_frozen() {
    for vector in Vectors::read("resend_request.json").list("cases") {
        let filter = match (vector.text("publisher"), vector.text("chain")) {
            ("", _) => Filter::ALL,
            (_, "") => Filter::publisher(vector.user("publisher")),
            _ => Filter::chain(vector.user("publisher"), vector.bytes("chain").try_into().unwrap()),
        };
        let content = ResendRequest {
            id: vector.request_id("id"),
            part: part(vector),
            node: vector.user("node"),
            requester: vector.user("requester"),
            sent: vector.moment("sent"),
            span: match vector.number("last") {
                0 => Span::Range { from: vector.moment("from"), to: vector.moment("to") },
                n => Span::Last(n),
            },
            after: vector.optional_object("after").map(place),
            filter,
            proofs: vector.list("proofs").iter().map(|p| hex::decode(p.itself()).unwrap().into()).collect(),
        };
        is_frozen(vector, content);
    }
}

#[test]
fn resend_pages_are_frozen() {
    for vector in Vectors::read("resend_page.json").list("cases") {
        let content = ResendPage {
            id: vector.request_id("id"),
            part: part(vector),
            node: vector.user("node"),
            requester: vector.user("requester"),
            sent: vector.moment("sent"),
            messages: vector.list("messages").iter().map(|m| hex::decode(m.itself()).unwrap().into()).collect(),
            next: vector.optional_object("next").map(place),
            refusal: vector.optional_object("refusal").map(|fields| refusal(fields.number("reason"), fields)),
        };
        is_frozen(vector, content);
    }
}

#[test]
fn storage_records_and_their_dht_key_are_frozen() {
    for vector in Vectors::read("storage_record.json").list("cases") {
        let slot = vector.number("slot") as u8;
        assert_eq!(hex::encode(StorageRecord::dht_key(&vector.stream(), slot)), vector.text("dht_key"));
        let of_node = StorageRecord::dht_key_of(&vector.stream(), vector.user("node"));
        assert_eq!(hex::encode(of_node), vector.text("dht_key_of_node"));
        let content = StorageRecord {
            stream: vector.stream(),
            node: vector.user("node"),
            peer: vector.bytes("peer"),
            addresses: vector.list("addresses").iter().map(|bytes| hex::decode(bytes.itself()).unwrap()).collect(),
            issued: vector.moment("issued"),
            expires: vector.moment("expires"),
            slot,
        };
        is_frozen(vector, content);
    }
}

#[test]
fn heads_of_audit_logs_are_frozen() {
    for vector in Vectors::read("audit_head.json").list("cases") {
        let content = AuditHead {
            publisher: vector.user("publisher"),
            log: vector.array("log"),
            at: vector.moment("at"),
            sequence: vector.number("sequence"),
            hash: vector.array("hash"),
            pruned: vector.number("pruned"),
            pruned_hash: vector.array("pruned_hash"),
            size: vector.number("size"),
        };
        is_frozen(vector, content);
    }
}

/// What an entry of a vector says.
fn audit_event(vector: Fields<'_>) -> AuditEvent {
    let (stream, user) = (|| vector.stream(), || vector.user("user"));
    let public_key = || vector.array("public_key");
    let keys = || vector.list("keys").iter().map(|id| veilcast::key_store::KeyId::new(id.itself()).unwrap()).collect();
    let by =
        || [Handed::ToIds, Handed::ToSpan, Handed::Push, Handed::PushUnconfirmed][vector.number("by") as usize - 1];
    let refused = || refusal(vector.object("refusal").unwrap().number("reason"), vector.object("refusal").unwrap());
    let moment = |name| vector.optional_number(name).map(Timestamp::from_millis);
    let repeats = || Repeats {
        times: vector.number("times"),
        keys: vector.number("count"),
        since: vector.moment("since"),
        until: vector.moment("until"),
    };
    match vector.number("what") {
        1 => {
            let grant = Period { start: moment("grant_start"), end: moment("grant_end") };
            AuditEvent::Given {
                stream: stream(),
                user: user(),
                keys: keys(),
                by: by(),
                grant,
                public_key: public_key(),
            }
        }
        2 => AuditEvent::Refused {
            stream: stream(),
            user: user(),
            keys: keys(),
            count: vector.number("count"),
            by: by(),
            refusal: refused(),
            public_key: public_key(),
        },
        3 => AuditEvent::GivenAgain { stream: stream(), user: user(), repeats: repeats() },
        4 => AuditEvent::RefusedAgain { stream: stream(), user: user(), refusal: refused(), repeats: repeats() },
        5 => AuditEvent::Unlisted { repeats: repeats() },
        6 => AuditEvent::Throttled { repeats: repeats() },
        7 => AuditEvent::NotWritten { entries: vector.number("count") },
        other => panic!("an entry of kind {other}"),
    }
}

#[test]
fn an_audit_log_its_hashes_and_the_head_over_them_are_frozen() {
    let file = Vectors::read("audit_log.json");
    let (identity, entries) = (file.top().identity(), file.list("entries"));
    let log = AuditLog::new(Arc::new(MemoryKeyStore::default()), file.top().user("publisher"));
    let events = entries.iter().map(|vector| (vector.moment("at"), audit_event(*vector))).collect();
    let mut rng = Scripted::new(&[&file.top().bytes("log")]);
    log.append(events, &identity, file.top().moment("signed"), &mut rng).unwrap();
    assert!(rng.is_used_up());

    let head = log.head().unwrap().unwrap();
    assert_eq!(hex::encode(head.envelope()), file.top().text("head"));
    assert_eq!(hex::encode(head.content().pruned_hash), file.top().text("beginning"));
    let mut check = AuditCheck::new(head.content(), None).unwrap();
    let written = log.read(0, 100).unwrap();
    assert_eq!(written.len(), entries.len());
    for (logged, vector) in written.iter().zip(entries) {
        assert_eq!(hex::encode(&logged.content), vector.text("content"));
        let read = LoggedEntry::read(vector.bytes("content"), vector.array("hash")).unwrap();
        assert_eq!((&read, &read.entry.event), (logged, &audit_event(vector)));
        check.take(&read).unwrap();
    }
    assert_eq!(check.finish().unwrap().entries, 9);
}

fn parts_of(frame: &[u8]) -> (Vec<String>, Vec<String>) {
    let parts = Frame::decode(&Bytes::copy_from_slice(frame)).unwrap();
    let messages = parts.messages.into_iter().map(|part| hex::encode(part.verify().unwrap().envelope()));
    let records = parts.records.into_iter().map(|part| hex::encode(part.verify().unwrap().envelope()));
    (messages.collect(), records.collect())
}

#[test]
fn frames_are_frozen_and_joined_end_to_end_they_are_one_frame() {
    let file = Vectors::read("frame.json");
    for vector in file.list("cases") {
        let messages =
            vector.list("messages").into_iter().map(|m| Frame::of_message(hex::decode(m.itself()).unwrap().into()));
        let records =
            vector.list("records").into_iter().map(|r| Frame::of_record(hex::decode(r.itself()).unwrap().into()));
        let frame = messages.chain(records).collect::<Vec<_>>().concat();
        assert_eq!(hex::encode(frame), vector.text("frame"));
    }
    for vector in file.list("cases").into_iter().chain(file.list("joined")) {
        let hexes = |name| vector.list(name).into_iter().map(|part| part.itself().to_owned()).collect::<Vec<_>>();
        assert_eq!(parts_of(&vector.bytes("frame")), (hexes("messages"), hexes("records")));
    }
}

#[test]
fn frames_that_must_be_refused_are_refused() {
    for vector in Vectors::read("frame.json").list("refused") {
        let frame = vector.bytes("frame").repeat(vector.small("times") as usize);
        assert!(Frame::decode(&frame.into()).is_err(), "{}", vector.text("why"));
    }
}

#[test]
fn the_partition_of_a_key_is_frozen() {
    for vector in Vectors::read("partition_key.json").list("cases") {
        let key = Partition::Key(vector.text("key").to_owned());
        assert_eq!(key.number(vector.small("partitions")), Ok(vector.small("partition")), "{key:?}");
    }
}

#[test]
fn stream_ids_parts_and_topics_are_accepted_and_refused_as_listed() {
    let file = Vectors::read("stream_id.json");
    for id in file.list("accepted") {
        assert_eq!(StreamId::new(id.itself()).unwrap().as_str(), id.itself());
    }
    for vector in file.list("refused") {
        assert!(StreamId::new(vector.text("id")).is_err(), "{}: {}", vector.text("why"), vector.text("id"));
    }
    for vector in file.list("parts") {
        let part = vector.text("part").parse::<StreamPart>().unwrap();
        assert_eq!((part.stream(), part.number()), (&vector.stream(), vector.small("partition")));
        assert_eq!((part.to_string().as_str(), part.topic().as_str()), (vector.text("part"), vector.text("topic")));
        assert_eq!(StreamPart::from_topic(vector.text("topic")), Some(part));
    }
    for vector in file.list("refused_parts") {
        assert!(vector.text("part").parse::<StreamPart>().is_err(), "{}", vector.text("part"));
    }
}

#[test]
fn envelopes_that_must_be_refused_are_refused_by_the_step_named() {
    for vector in Vectors::read("refused.json").list("cases") {
        let expected = match vector.text("refused_by") {
            "decode" => Verdict::Decode,
            "signature" => Verdict::Signature,
            other => panic!("refused by {other}"),
        };
        let kind = domain(vector.number("kind"));
        let found = judge_as(kind, &vector.bytes("envelope").into());
        assert_eq!(found, expected, "{kind:?}: {}", vector.text("why"));
    }
}

#[test]
fn every_vector_file_with_a_private_or_secret_key_says_that_it_is_thrown_away() {
    let secrets = ["secret", "key", "current_key", "next_key", "private_key_pkcs8", "transport_secret"];
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut marked = 0;
    for name in names.filter(|name| name.ends_with(".json")) {
        let file = Vectors::read(&name);
        if file.top().has_bytes_named(&secrets) {
            assert!(file.top().text("private_keys").starts_with("THROW-AWAY: "), "{name}");
            marked += 1;
        }
    }
    assert_eq!(marked, 17, "of messages, exchanges, records, signatures and ciphers");
}

#[test]
fn every_vector_file_stands_in_the_table_of_the_protocol_notes() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let notes = std::fs::read_to_string(folder.join("../docs/PROTOCOL.md")).unwrap();
    let files = std::fs::read_dir(folder.join("tests/vectors")).unwrap();
    let names = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let missing = names.filter(|name| name.ends_with(".json") && !notes.contains(name.as_str())).collect::<Vec<_>>();
    assert_eq!(missing, Vec::<String>::new());
}
