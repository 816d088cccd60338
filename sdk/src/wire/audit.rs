//! How far an audit log goes: what its publisher signs after every batch of entries.

use bytes::Bytes;
use prost::Message as _;

use super::{Content, WireError, few_fields, fixed, user};
use crate::identity::{Domain, UserId};
use crate::time::Timestamp;

/// A publisher's word on one of its audit logs: the last entry, and what was dropped at the front to keep it within its
/// limits. Whoever keeps one can tell later whether the log still holds what it held then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditHead {
    /// Whose log.
    pub publisher: UserId,
    /// Which of his logs: made at random when it began.
    pub log: [u8; 16],
    /// When this was signed, ms since the epoch.
    pub at: Timestamp,
    /// The sequence number of the last entry; the first entry ever was 1.
    pub sequence: u64,
    /// The hash of the last entry, which covers every entry before it.
    pub hash: [u8; 32],
    /// The sequence number of the last entry that was dropped at the front; 0 where none was.
    pub pruned: u64,
    /// The hash that the first entry kept follows: that of the last one dropped, or the one the log began with.
    pub pruned_hash: [u8; 32],
    /// How much the kept entries take in the store, bytes.
    pub size: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HeadProto {
    #[prost(bytes = "vec", tag = "1")]
    publisher: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    log: Vec<u8>,
    #[prost(uint64, tag = "3")]
    at: u64,
    #[prost(uint64, tag = "4")]
    sequence: u64,
    #[prost(bytes = "vec", tag = "5")]
    hash: Vec<u8>,
    #[prost(uint64, tag = "6")]
    pruned: u64,
    #[prost(bytes = "vec", tag = "7")]
    pruned_hash: Vec<u8>,
    #[prost(uint64, tag = "8")]
    size: u64,
}

impl Content for AuditHead {
    const DOMAIN: Domain = Domain::AuditHead;

    fn encode(&self) -> Vec<u8> {
        HeadProto {
            publisher: self.publisher.as_bytes().to_vec(),
            log: self.log.to_vec(),
            at: self.at.as_millis(),
            sequence: self.sequence,
            hash: self.hash.to_vec(),
            pruned: self.pruned,
            pruned_hash: self.pruned_hash.to_vec(),
            size: self.size,
        }
        .encode_to_vec()
    }

    fn decode(content: &Bytes) -> Result<Self, WireError> {
        few_fields(content)?;
        let proto = HeadProto::decode(content.clone()).map_err(|_| WireError::Malformed)?;
        if proto.pruned >= proto.sequence {
            return Err(WireError::Field("the head of an audit log stands at an entry that is kept"));
        }
        Ok(Self {
            publisher: user(&proto.publisher, "the publisher of an audit log is an address of 20 bytes")?,
            log: fixed(&proto.log, "an audit log is named by 16 bytes")?,
            at: Timestamp::from_millis(proto.at),
            sequence: proto.sequence,
            hash: fixed(&proto.hash, "the hash of an entry has 32 bytes")?,
            pruned: proto.pruned,
            pruned_hash: fixed(&proto.pruned_hash, "the hash of an entry has 32 bytes")?,
            size: proto.size,
        })
    }

    fn signer(&self) -> UserId {
        self.publisher
    }
}
