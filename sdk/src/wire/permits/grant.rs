//! A grant in the owner's own hand.

use bytes::Bytes;
use prost::Message as _;

use super::{owned_stream, owner_of, registry, serial};
use crate::identity::{Domain, UserId};
use crate::permission::{Period, Permission};
use crate::stream::StreamId;
use crate::time::Timestamp;
use crate::wire::{Content, WireError, few_fields, user};

/// "I, the owner of `stream`, allow `user` this, in this period."
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedGrant {
    /// The stream; the address in its id signs.
    pub stream: StreamId,
    /// The registry it is for: in another it counts for nothing.
    pub registry: String,
    /// Who is allowed.
    pub user: UserId,
    /// What.
    pub permission: Permission,
    /// When.
    pub period: Period,
    /// Its number among the owner's grants of the stream, from 1; rises and is never used again.
    pub serial: u64,
    /// When it was made: the start of a period that names none.
    pub issued: Timestamp,
}

#[derive(Clone, PartialEq, prost::Message)]
struct GrantProto {
    #[prost(string, tag = "1")]
    stream: String,
    #[prost(string, tag = "2")]
    registry: String,
    #[prost(bytes = "vec", tag = "3")]
    user: Vec<u8>,
    #[prost(uint32, tag = "4")]
    permission: u32,
    #[prost(uint64, optional, tag = "5")]
    start: Option<u64>,
    #[prost(uint64, optional, tag = "6")]
    end: Option<u64>,
    #[prost(uint64, tag = "7")]
    serial: u64,
    #[prost(uint64, tag = "8")]
    issued: u64,
}

const PUBLISH: u32 = 1;
const SUBSCRIBE: u32 = 2;

impl Content for SignedGrant {
    const DOMAIN: Domain = Domain::SignedGrant;

    fn encode(&self) -> Vec<u8> {
        GrantProto {
            stream: self.stream.as_str().into(),
            registry: self.registry.clone(),
            user: self.user.as_bytes().to_vec(),
            permission: match self.permission {
                Permission::Publish => PUBLISH,
                Permission::Subscribe => SUBSCRIBE,
            },
            start: self.period.start.map(Timestamp::as_millis),
            end: self.period.end.map(Timestamp::as_millis),
            serial: self.serial,
            issued: self.issued.as_millis(),
        }
        .encode_to_vec()
    }

    fn decode(content: &Bytes) -> Result<Self, WireError> {
        few_fields(content)?;
        let proto = GrantProto::decode(content.clone()).map_err(|_| WireError::Malformed)?;
        let moment = |millis: Option<u64>| millis.map(Timestamp::from_millis);
        let period = Period { start: moment(proto.start), end: moment(proto.end) };
        if let (Some(start), Some(end)) = (period.start, period.end)
            && end < start
        {
            return Err(WireError::Field("a grant does not end before it starts"));
        }
        Ok(Self {
            stream: owned_stream(&proto.stream)?,
            registry: registry(proto.registry)?,
            user: user(&proto.user, "the user of a grant is an address of 20 bytes")?,
            permission: match proto.permission {
                PUBLISH => Permission::Publish,
                SUBSCRIBE => Permission::Subscribe,
                _ => return Err(WireError::Field("a grant allows to publish or to subscribe")),
            },
            period,
            serial: serial(proto.serial)?,
            issued: Timestamp::from_millis(proto.issued),
        })
    }

    fn signer(&self) -> UserId {
        owner_of(&self.stream)
    }
}
