//! Where the stored messages of a stream can be asked for: a signed record that expires.

use std::ops::Range;

use bytes::Bytes;
use prost::Message as _;
use sha2::{Digest, Sha256};

use crate::identity::{Domain, UserId};
use crate::stream::StreamId;
use crate::time::Timestamp;
use crate::wire::{Content, WireError, few_fields, stream, user, whereabouts};

/// Places in the DHT for the storage nodes of one stream.
const SLOTS: u8 = 8;

/// A storage node's word that it keeps a stream, and where it is. It proves nothing about what the node keeps: readers check
/// every message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageRecord {
    /// Which stream.
    pub stream: StreamId,
    /// Who keeps it.
    pub node: UserId,
    /// The libp2p peer id, as bytes.
    pub peer: Vec<u8>,
    /// Its multiaddresses, as bytes.
    pub addresses: Vec<Vec<u8>>,
    /// When it was made; a later one replaces it.
    pub issued: Timestamp,
    /// From when on it is void.
    pub expires: Timestamp,
    /// Its place in the DHT, 0 to 7.
    pub slot: u8,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RecordProto {
    #[prost(string, tag = "1")]
    stream: String,
    #[prost(bytes = "vec", tag = "2")]
    node: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    peer: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "4")]
    addresses: Vec<Vec<u8>>,
    #[prost(uint64, tag = "5")]
    issued: u64,
    #[prost(uint64, tag = "6")]
    expires: u64,
    #[prost(uint32, tag = "7")]
    slot: u32,
}

impl StorageRecord {
    /// The DHT key of a record: `SHA-256("veilcast/1/storage-record" | stream id | slot, one byte)`.
    pub fn dht_key(stream: &StreamId, slot: u8) -> Vec<u8> {
        let mut hash = Sha256::new();
        hash.update(Domain::StorageRecord.tag());
        hash.update(stream.as_str());
        hash.update([slot]);
        hash.finalize().to_vec()
    }

    /// The DHT key of the record of a node that the stream's owner names in its record, where nobody else's can be:
    /// `SHA-256("veilcast/1/storage-record" | stream id | 0xff | address)`.
    pub fn dht_key_of(stream: &StreamId, node: UserId) -> Vec<u8> {
        let mut hash = Sha256::new();
        hash.update(Domain::StorageRecord.tag());
        hash.update(stream.as_str());
        // No slot, and no part of a stream id.
        hash.update([0xff]);
        hash.update(node.as_bytes());
        hash.finalize().to_vec()
    }

    /// Whether it may lie under this key of the DHT.
    pub fn belongs_under(&self, key: &[u8]) -> bool {
        key == Self::dht_key(&self.stream, self.slot) || key == Self::dht_key_of(&self.stream, self.node)
    }

    /// Every slot there is.
    pub fn slots() -> Range<u8> {
        0..SLOTS
    }

    /// Whether it holds at `now`; a record from the future is allowed a minute of clock difference.
    pub fn holds_at(&self, now: Timestamp) -> bool {
        whereabouts::holds_at(self.issued, self.expires, now)
    }
}

impl Content for StorageRecord {
    const DOMAIN: Domain = Domain::StorageRecord;

    fn encode(&self) -> Vec<u8> {
        RecordProto {
            stream: self.stream.as_str().into(),
            node: self.node.as_bytes().to_vec(),
            peer: self.peer.clone(),
            addresses: self.addresses.clone(),
            issued: self.issued.as_millis(),
            expires: self.expires.as_millis(),
            slot: self.slot.into(),
        }
        .encode_to_vec()
    }

    fn decode(content: &Bytes) -> Result<Self, WireError> {
        few_fields(content)?;
        let proto = RecordProto::decode(content.clone()).map_err(|_| WireError::Malformed)?;
        whereabouts::reachable(&proto.peer, &proto.addresses)?;
        let (issued, expires) = whereabouts::lifetime(proto.issued, proto.expires)?;
        let slot = u8::try_from(proto.slot).ok().filter(|slot| *slot < SLOTS);
        Ok(Self {
            stream: stream(&proto.stream)?,
            node: user(&proto.node, "the node of a record is an address of 20 bytes")?,
            peer: proto.peer,
            addresses: proto.addresses,
            issued,
            expires,
            slot: slot.ok_or(WireError::Field("the slot of a storage record is 0 to 7"))?,
        })
    }

    fn signer(&self) -> UserId {
        self.node
    }
}
