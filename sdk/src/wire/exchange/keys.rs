//! What an answer says about one key: wrapped, or refused.

use std::time::Duration;

use veilcast_key_store::KeyId;

use crate::cipher::WRAPPED_KEY_LEN;
use crate::permission::Refusal;
use crate::time::{Timestamp, millis};
use crate::wire::{WireError, key_id};

/// A key in an answer or push, wrapped under the transport key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantedKey {
    /// Which key.
    pub key_id: KeyId,
    /// `iv 16 | ciphertext 32 | tag 32`.
    pub wrapped: Vec<u8>,
    /// When it became current, as far as the publisher knows.
    pub since: Timestamp,
    /// When the next one did; `None` while it is current.
    pub until: Option<Timestamp>,
}

/// A signed "no" for one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which key.
    pub key_id: KeyId,
    /// Why.
    pub refusal: Refusal,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GrantedProto {
    #[prost(string, tag = "1")]
    key_id: String,
    #[prost(bytes = "vec", tag = "2")]
    wrapped: Vec<u8>,
    #[prost(uint64, tag = "3")]
    since: u64,
    #[prost(uint64, optional, tag = "4")]
    until: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RefusedProto {
    #[prost(string, tag = "1")]
    key_id: String,
    #[prost(uint32, tag = "2")]
    reason: u32,
    #[prost(uint64, tag = "3")]
    millis: u64,
}

pub(super) fn granted(proto: GrantedProto) -> Result<GrantedKey, WireError> {
    if proto.wrapped.len() != WRAPPED_KEY_LEN {
        return Err(WireError::Field("a wrapped key has 80 bytes"));
    }
    Ok(GrantedKey {
        key_id: key_id(&proto.key_id)?,
        wrapped: proto.wrapped,
        since: Timestamp::from_millis(proto.since),
        until: proto.until.map(Timestamp::from_millis),
    })
}

impl From<&GrantedKey> for GrantedProto {
    fn from(key: &GrantedKey) -> Self {
        Self {
            key_id: key.key_id.as_str().into(),
            wrapped: key.wrapped.clone(),
            since: key.since.as_millis(),
            until: key.until.map(Timestamp::as_millis),
        }
    }
}

/// A "no" to a whole request.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RefusalProto {
    #[prost(uint32, tag = "1")]
    reason: u32,
    #[prost(uint64, tag = "2")]
    millis: u64,
}

impl From<&Refused> for RefusedProto {
    fn from(refused: &Refused) -> Self {
        let RefusalProto { reason, millis } = RefusalProto::from(refused.refusal);
        Self { key_id: refused.key_id.as_str().into(), reason, millis }
    }
}

impl From<Refusal> for RefusalProto {
    fn from(refusal: Refusal) -> Self {
        let (reason, millis) = match refusal {
            Refusal::Denied => (1, 0),
            Refusal::NotYet { from } => (2, from.as_millis()),
            Refusal::Expired { since } => (3, since.as_millis()),
            Refusal::UnknownKey => (4, 0),
            Refusal::Throttled { retry_after } => (5, millis(retry_after)),
            Refusal::Policy => (6, 0),
            Refusal::Unavailable { retry_after } => (7, millis(retry_after)),
            Refusal::UnacceptableAlgorithm => (8, 0),
        };
        Self { reason, millis }
    }
}

pub(super) fn refused(proto: &RefusedProto) -> Result<Refused, WireError> {
    let refusal = refusal(&RefusalProto { reason: proto.reason, millis: proto.millis })?;
    Ok(Refused { key_id: key_id(&proto.key_id)?, refusal })
}

pub(crate) fn refusal(proto: &RefusalProto) -> Result<Refusal, WireError> {
    let (moment, span) = (Timestamp::from_millis(proto.millis), Duration::from_millis(proto.millis));
    Ok(match proto.reason {
        1 => Refusal::Denied,
        2 => Refusal::NotYet { from: moment },
        3 => Refusal::Expired { since: moment },
        4 => Refusal::UnknownKey,
        5 => Refusal::Throttled { retry_after: span },
        7 => Refusal::Unavailable { retry_after: span },
        8 => Refusal::UnacceptableAlgorithm,
        0 => return Err(WireError::Field("a refusal has a reason")),
        // 6, and reasons of later versions: a "no" all the same, and no reason to lose the rest of the answer.
        _ => Refusal::Policy,
    })
}
