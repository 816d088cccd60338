//! Where a publisher can be reached: a signed record that expires.

use std::ops::Range;

use bytes::Bytes;
use prost::Message as _;
use sha2::{Digest, Sha256};

use super::{Content, WireError, few_fields, user, whereabouts};
use crate::identity::{Domain, UserId};
use crate::time::Timestamp;

#[derive(Clone, PartialEq, prost::Message)]
struct RecordProto {
    #[prost(bytes = "vec", tag = "1")]
    publisher: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    peer: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    addresses: Vec<Vec<u8>>,
    #[prost(uint64, tag = "4")]
    issued: u64,
    #[prost(uint64, tag = "5")]
    expires: u64,
    #[prost(uint32, tag = "6")]
    slot: u32,
}

/// Places in the DHT for the records of one publisher: devices beyond take each other's.
const SLOTS: u8 = 4;

/// A publisher's word on the peer id and addresses of one of its devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublisherRecord {
    /// Who.
    pub publisher: UserId,
    /// The libp2p peer id, as bytes.
    pub peer: Vec<u8>,
    /// Its multiaddresses, as bytes.
    pub addresses: Vec<Vec<u8>>,
    /// When it was made; a later one replaces it.
    pub issued: Timestamp,
    /// From when on it is void.
    pub expires: Timestamp,
    /// Its place in the DHT, 0 to 3. Signed with the rest: nobody else can fill a publisher's places with copies.
    pub slot: u8,
}

impl PublisherRecord {
    /// The DHT key of a publisher's record: `SHA-256("veilcast/1/publisher-record" | address | slot)`, the slot as one byte
    /// that slot 0 leaves out.
    pub fn dht_key(publisher: UserId, slot: u8) -> Vec<u8> {
        let mut hash = Sha256::new();
        hash.update(Domain::PublisherRecord.tag());
        hash.update(publisher.as_bytes());
        if slot > 0 {
            hash.update([slot]);
        }
        hash.finalize().to_vec()
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

impl Content for PublisherRecord {
    const DOMAIN: Domain = Domain::PublisherRecord;

    fn encode(&self) -> Vec<u8> {
        RecordProto {
            publisher: self.publisher.as_bytes().to_vec(),
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
            publisher: user(&proto.publisher, "the publisher of a record is an address of 20 bytes")?,
            peer: proto.peer,
            addresses: proto.addresses,
            issued,
            expires,
            slot: slot.ok_or(WireError::Field("the slot of a publisher record is 0 to 3"))?,
        })
    }

    fn signer(&self) -> UserId {
        self.publisher
    }
}
