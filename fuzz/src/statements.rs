//! What peers say: frames, envelopes, and the contents of each kind.

use std::fmt::Debug;

use bytes::Bytes;
use veilcast::wire::{
    AuditHead, Content, Frame, KeyAnswer, KeyPush, KeyReceipt, KeyRequest, MessageContent, PublisherRecord, Received,
    ResendPage, ResendRequest, SignedGrant, StorageRecord, StreamRecord,
};

use crate::bounded::bounded;

/// A gossip frame: bounded in its parts, and joined to itself it is both.
pub fn frame(data: &[u8]) -> bool {
    const MOST: usize = 1024;
    let bytes = Bytes::copy_from_slice(data);
    let Ok(parts) = bounded(data, || Frame::decode(&bytes)) else { return false };
    let (messages, records) = (parts.messages.len(), parts.records.len());
    assert!(messages + records <= MOST);
    let twice = Frame::decode(&[data, data].concat().into());
    match twice {
        Ok(twice) => assert_eq!((twice.messages.len(), twice.records.len()), (2 * messages, 2 * records)),
        Err(_) => assert!(2 * (messages + records) > MOST, "two frames joined are one"),
    }
    messages + records > 0
}

/// A signed envelope: of one kind at most, and if it verifies it says what it says in these bytes only.
pub fn envelope(data: &[u8]) -> bool {
    let bytes = Bytes::copy_from_slice(data);
    let kinds = [
        enveloped::<MessageContent>(&bytes),
        enveloped::<KeyRequest>(&bytes),
        enveloped::<KeyAnswer>(&bytes),
        enveloped::<KeyPush>(&bytes),
        enveloped::<KeyReceipt>(&bytes),
        enveloped::<PublisherRecord>(&bytes),
        enveloped::<StreamRecord>(&bytes),
        enveloped::<SignedGrant>(&bytes),
        enveloped::<ResendRequest>(&bytes),
        enveloped::<ResendPage>(&bytes),
        enveloped::<StorageRecord>(&bytes),
        enveloped::<AuditHead>(&bytes),
    ];
    let taken = kinds.into_iter().filter(|taken| *taken).count();
    assert!(taken <= 1, "an envelope is of one kind");
    taken == 1
}

fn enveloped<T: Content + PartialEq + Debug>(bytes: &Bytes) -> bool {
    let Ok(received) = bounded(bytes, || Received::<T>::decode(bytes)) else { return false };
    let claimed = T::encode(received.claims());
    if let Ok(verified) = received.verify() {
        assert_eq!(verified.envelope(), bytes);
        assert_eq!(verified.content().encode(), claimed);
    }
    true
}

/// Content bytes: what was read says the same when it is written, and is then written in one way.
fn content<T: Content + PartialEq + Debug>(data: &[u8]) -> bool {
    let bytes = Bytes::copy_from_slice(data);
    let Ok(read) = bounded(data, || T::decode(&bytes)) else { return false };
    let written = Bytes::from(read.encode());
    let again = T::decode(&written).expect("what was read can be written and read");
    assert_eq!(again, read);
    assert_eq!(again.encode(), written);
    true
}

/// A message's header and payload.
pub fn message(data: &[u8]) -> bool {
    content::<MessageContent>(data)
}

/// Where a publisher can be reached.
pub fn record(data: &[u8]) -> bool {
    content::<PublisherRecord>(data)
}

/// A stream's settings and revocations.
pub fn stream_record(data: &[u8]) -> bool {
    content::<StreamRecord>(data)
}

/// A grant that an owner signed.
pub fn signed_grant(data: &[u8]) -> bool {
    content::<SignedGrant>(data)
}

/// A request for stored messages.
pub fn resend_request(data: &[u8]) -> bool {
    content::<ResendRequest>(data)
}

/// A page of stored messages.
pub fn resend_page(data: &[u8]) -> bool {
    content::<ResendPage>(data)
}

/// Where a storage node can be reached.
pub fn storage_record(data: &[u8]) -> bool {
    content::<StorageRecord>(data)
}

/// How far an audit log goes.
pub fn audit_head(data: &[u8]) -> bool {
    content::<AuditHead>(data)
}

/// A key request.
pub fn request(data: &[u8]) -> bool {
    content::<KeyRequest>(data)
}

/// A publisher's answer.
pub fn answer(data: &[u8]) -> bool {
    content::<KeyAnswer>(data)
}

/// A key pushed at a rekey.
pub fn push(data: &[u8]) -> bool {
    content::<KeyPush>(data)
}

/// A subscriber's receipt for a push.
pub fn receipt(data: &[u8]) -> bool {
    content::<KeyReceipt>(data)
}
