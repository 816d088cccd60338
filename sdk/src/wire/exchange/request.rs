//! A subscriber asks.

use std::collections::HashSet;

use bytes::Bytes;
use prost::Message as _;
use veilcast_key_store::KeyId;

use super::range::{RangeProto, Wanted, range};
use super::{MAX_KEYS_PER_REQUEST, MAX_PROOFS, MAX_PROOFS_LEN, RequestId, request_id};
use crate::cipher::MAX_PUBLIC_KEY_LEN;
use crate::identity::{Domain, UserId};
use crate::stream::StreamId;
use crate::time::Timestamp;
use crate::wire::{Content, WireError, few_fields, key_id, stream, user};

/// "I am `requester`; give me these keys of this publisher and stream, wrapped for this public key."
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRequest {
    /// Comes back in the answer.
    pub id: RequestId,
    /// The stream whose keys are wanted.
    pub stream: StreamId,
    /// Whose keys.
    pub publisher: UserId,
    /// Who asks.
    pub requester: UserId,
    /// When; outside the freshness window the request is not looked at further.
    pub sent: Timestamp,
    /// How keys are to be wrapped.
    pub algorithm: u32,
    /// The requester's public key: RSA as DER SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
    /// The keys wanted.
    pub wanted: Wanted,
    /// Envelopes of the stream's owner that show what the requester may do: grants and stream records, at most
    /// [`MAX_PROOFS`] and [`MAX_PROOFS_LEN`] bytes. Not looked into until somebody goes by them.
    pub proofs: Vec<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RequestProto {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(string, tag = "2")]
    stream: String,
    #[prost(bytes = "vec", tag = "3")]
    publisher: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    requester: Vec<u8>,
    #[prost(uint64, tag = "5")]
    sent: u64,
    #[prost(uint32, tag = "6")]
    algorithm: u32,
    #[prost(bytes = "vec", tag = "7")]
    public_key: Vec<u8>,
    #[prost(string, repeated, tag = "8")]
    key_ids: Vec<String>,
    #[prost(message, optional, tag = "9")]
    range: Option<RangeProto>,
    #[prost(bytes = "bytes", repeated, tag = "10")]
    proofs: Vec<Bytes>,
}

impl Content for KeyRequest {
    const DOMAIN: Domain = Domain::KeyRequest;

    fn encode(&self) -> Vec<u8> {
        RequestProto {
            id: self.id.0.to_vec(),
            stream: self.stream.as_str().into(),
            publisher: self.publisher.as_bytes().to_vec(),
            requester: self.requester.as_bytes().to_vec(),
            sent: self.sent.as_millis(),
            algorithm: self.algorithm,
            public_key: self.public_key.clone(),
            key_ids: self.wanted.key_ids().iter().map(|id| id.as_str().into()).collect(),
            range: match &self.wanted {
                Wanted::Keys(_) => None,
                Wanted::Range(range) => Some(range.into()),
            },
            proofs: self.proofs.clone(),
        }
        .encode_to_vec()
    }

    fn decode(content: &Bytes) -> Result<Self, WireError> {
        few_fields(content)?;
        let proto = RequestProto::decode(content.clone()).map_err(|_| WireError::Malformed)?;
        if proto.public_key.len() > MAX_PUBLIC_KEY_LEN {
            return Err(WireError::Field("the public key of a request is too long"));
        }
        let wanted = match &proto.range {
            None => Wanted::Keys(key_ids(&proto.key_ids)?),
            Some(asked) if proto.key_ids.is_empty() => Wanted::Range(range(asked)?),
            Some(_) => return Err(WireError::Field("a request names keys or a span of time, not both")),
        };
        if proto.proofs.len() > MAX_PROOFS || proto.proofs.iter().map(Bytes::len).sum::<usize>() > MAX_PROOFS_LEN {
            return Err(WireError::Field("a request has at most 4 proofs of 24 KiB together"));
        }
        Ok(Self {
            id: request_id(&proto.id)?,
            stream: stream(&proto.stream)?,
            publisher: user(&proto.publisher, "the publisher of a request is an address of 20 bytes")?,
            requester: user(&proto.requester, "the requester is an address of 20 bytes")?,
            sent: Timestamp::from_millis(proto.sent),
            algorithm: proto.algorithm,
            public_key: proto.public_key,
            wanted,
            proofs: proto.proofs,
        })
    }

    fn signer(&self) -> UserId {
        self.requester
    }
}

fn key_ids(texts: &[String]) -> Result<Vec<KeyId>, WireError> {
    if texts.is_empty() || texts.len() > MAX_KEYS_PER_REQUEST {
        return Err(WireError::Field("a request names 1 to 256 keys"));
    }
    let ids = texts.iter().map(|id| key_id(id)).collect::<Result<Vec<_>, _>>()?;
    if ids.iter().collect::<HashSet<_>>().len() < ids.len() {
        return Err(WireError::Field("a request names each key once"));
    }
    Ok(ids)
}
