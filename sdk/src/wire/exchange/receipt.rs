//! A subscriber confirms a push.

use bytes::Bytes;
use prost::Message as _;

use super::{RequestId, request_id};
use crate::identity::{Domain, UserId};
use crate::stream::StreamId;
use crate::wire::{Content, WireError, stream, user};

/// "I hold the keys of this push now."
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyReceipt {
    /// The push confirmed.
    pub id: RequestId,
    /// Who confirms.
    pub subscriber: UserId,
    /// Whose push.
    pub publisher: UserId,
    /// Of which stream.
    pub stream: StreamId,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReceiptProto {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    subscriber: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    publisher: Vec<u8>,
    #[prost(string, tag = "4")]
    stream: String,
}

impl Content for KeyReceipt {
    const DOMAIN: Domain = Domain::KeyReceipt;

    fn encode(&self) -> Vec<u8> {
        ReceiptProto {
            id: self.id.0.to_vec(),
            subscriber: self.subscriber.as_bytes().to_vec(),
            publisher: self.publisher.as_bytes().to_vec(),
            stream: self.stream.as_str().into(),
        }
        .encode_to_vec()
    }

    fn decode(content: &Bytes) -> Result<Self, WireError> {
        let proto = ReceiptProto::decode(content.clone()).map_err(|_| WireError::Malformed)?;
        Ok(Self {
            id: request_id(&proto.id)?,
            subscriber: user(&proto.subscriber, "the subscriber of a receipt is an address of 20 bytes")?,
            publisher: user(&proto.publisher, "the publisher of a receipt is an address of 20 bytes")?,
            stream: stream(&proto.stream)?,
        })
    }

    fn signer(&self) -> UserId {
        self.subscriber
    }
}
