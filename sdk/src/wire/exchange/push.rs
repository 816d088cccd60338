//! A publisher sends a new key unasked.

use bytes::Bytes;
use prost::Message as _;

use super::answer::AnswerProto;
use super::keys::{GrantedKey, GrantedProto, granted};
use super::{MAX_KEYS_PER_ANSWER, RequestId, encapsulated, known_algorithm, request_id};
use crate::identity::{Domain, UserId};
use crate::stream::StreamId;
use crate::time::Timestamp;
use crate::wire::{Content, WireError, few_fields, stream, user};

/// A new key sent to a subscriber unasked, at a rekey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPush {
    /// Comes back in the receipt.
    pub id: RequestId,
    /// The stream.
    pub stream: StreamId,
    /// Who sends.
    pub publisher: UserId,
    /// For whom.
    pub subscriber: UserId,
    /// When.
    pub sent: Timestamp,
    /// How the transport key is wrapped.
    pub algorithm: u32,
    /// The transport key wrapped for the public key of the subscriber's last request.
    pub encapsulated: Vec<u8>,
    /// The keys, 1 to 256.
    pub granted: Vec<GrantedKey>,
}

impl Content for KeyPush {
    const DOMAIN: Domain = Domain::KeyPush;

    fn encode(&self) -> Vec<u8> {
        AnswerProto {
            id: self.id.0.to_vec(),
            stream: self.stream.as_str().into(),
            publisher: self.publisher.as_bytes().to_vec(),
            subscriber: self.subscriber.as_bytes().to_vec(),
            sent: self.sent.as_millis(),
            algorithm: self.algorithm,
            encapsulated: self.encapsulated.clone(),
            granted: self.granted.iter().map(GrantedProto::from).collect(),
            refused: Vec::new(),
            next: None,
            refusal: None,
        }
        .encode_to_vec()
    }

    fn decode(content: &Bytes) -> Result<Self, WireError> {
        few_fields(content)?;
        let proto = AnswerProto::decode(content.clone()).map_err(|_| WireError::Malformed)?;
        let count = proto.granted.len();
        let answers = !proto.refused.is_empty() || proto.next.is_some() || proto.refusal.is_some();
        if count == 0 || count > MAX_KEYS_PER_ANSWER || answers || proto.encapsulated.is_empty() {
            return Err(WireError::Field("a push carries 1 to 256 keys and answers nothing"));
        }
        known_algorithm(proto.algorithm)?;
        Ok(Self {
            id: request_id(&proto.id)?,
            stream: stream(&proto.stream)?,
            publisher: user(&proto.publisher, "the publisher of a push is an address of 20 bytes")?,
            subscriber: user(&proto.subscriber, "the subscriber of a push is an address of 20 bytes")?,
            sent: Timestamp::from_millis(proto.sent),
            algorithm: proto.algorithm,
            encapsulated: encapsulated(proto.encapsulated)?,
            granted: proto.granted.into_iter().map(granted).collect::<Result<_, _>>()?,
        })
    }

    fn signer(&self) -> UserId {
        self.publisher
    }
}
