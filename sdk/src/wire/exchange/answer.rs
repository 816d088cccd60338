//! A publisher answers.

use bytes::Bytes;
use prost::Message as _;
use veilcast_key_store::HistoryCursor;

use super::keys::{GrantedKey, GrantedProto, RefusalProto, Refused, RefusedProto, granted, refusal, refused};
use super::range::{CursorProto, cursor};
use super::{MAX_KEYS_PER_ANSWER, RequestId, encapsulated, known_algorithm, request_id};
use crate::identity::{Domain, UserId};
use crate::permission::Refusal;
use crate::stream::StreamId;
use crate::time::Timestamp;
use crate::wire::{Content, WireError, few_fields, stream, user};

/// The publisher's answer: some keys, and for every other key asked a refusal. A span of time is answered with a page of it,
/// or refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyAnswer {
    /// The request answered.
    pub id: RequestId,
    /// The stream of the request.
    pub stream: StreamId,
    /// Who answers.
    pub publisher: UserId,
    /// Who asked.
    pub requester: UserId,
    /// When it was answered.
    pub sent: Timestamp,
    /// How the transport key is wrapped.
    pub algorithm: u32,
    /// The transport key wrapped for the request's public key; empty when no key is granted.
    pub encapsulated: Vec<u8>,
    /// Keys granted.
    pub granted: Vec<GrantedKey>,
    /// Keys refused.
    pub refused: Vec<Refused>,
    /// Where the next page of the span begins; absent at its end, and in an answer to key ids.
    pub next: Option<HistoryCursor>,
    /// The span is refused as a whole; then nothing else is said.
    pub refusal: Option<Refusal>,
}

/// Answer and push share a shape; a push has no refusals.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AnswerProto {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) id: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(super) stream: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) publisher: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) subscriber: Vec<u8>,
    #[prost(uint64, tag = "5")]
    pub(super) sent: u64,
    #[prost(uint32, tag = "6")]
    pub(super) algorithm: u32,
    #[prost(bytes = "vec", tag = "7")]
    pub(super) encapsulated: Vec<u8>,
    #[prost(message, repeated, tag = "8")]
    pub(super) granted: Vec<GrantedProto>,
    #[prost(message, repeated, tag = "9")]
    pub(super) refused: Vec<RefusedProto>,
    #[prost(message, optional, tag = "10")]
    pub(super) next: Option<CursorProto>,
    #[prost(message, optional, tag = "11")]
    pub(super) refusal: Option<RefusalProto>,
}

impl Content for KeyAnswer {
    const DOMAIN: Domain = Domain::KeyAnswer;

    fn encode(&self) -> Vec<u8> {
        AnswerProto {
            id: self.id.0.to_vec(),
            stream: self.stream.as_str().into(),
            publisher: self.publisher.as_bytes().to_vec(),
            subscriber: self.requester.as_bytes().to_vec(),
            sent: self.sent.as_millis(),
            algorithm: self.algorithm,
            encapsulated: self.encapsulated.clone(),
            granted: self.granted.iter().map(GrantedProto::from).collect(),
            refused: self.refused.iter().map(RefusedProto::from).collect(),
            next: self.next.as_ref().map(CursorProto::from),
            refusal: self.refusal.map(RefusalProto::from),
        }
        .encode_to_vec()
    }

    fn decode(content: &Bytes) -> Result<Self, WireError> {
        few_fields(content)?;
        let proto = AnswerProto::decode(content.clone()).map_err(|_| WireError::Malformed)?;
        if proto.granted.len() + proto.refused.len() > MAX_KEYS_PER_ANSWER {
            return Err(WireError::Field("an answer speaks of at most 256 keys"));
        }
        if proto.granted.is_empty() != proto.encapsulated.is_empty() {
            return Err(WireError::Field("an answer has a transport key exactly when it grants a key"));
        }
        let says_more = proto.next.is_some() || !proto.granted.is_empty() || !proto.refused.is_empty();
        if proto.refusal.is_some() && says_more {
            return Err(WireError::Field("an answer that refuses a span says nothing else"));
        }
        known_algorithm(proto.algorithm)?;
        Ok(Self {
            id: request_id(&proto.id)?,
            stream: stream(&proto.stream)?,
            publisher: user(&proto.publisher, "the publisher of an answer is an address of 20 bytes")?,
            requester: user(&proto.subscriber, "the requester is an address of 20 bytes")?,
            sent: Timestamp::from_millis(proto.sent),
            algorithm: proto.algorithm,
            encapsulated: encapsulated(proto.encapsulated)?,
            granted: proto.granted.into_iter().map(granted).collect::<Result<_, _>>()?,
            refused: proto.refused.iter().map(refused).collect::<Result<_, _>>()?,
            next: proto.next.as_ref().map(cursor).transpose()?,
            refusal: proto.refusal.as_ref().map(refusal).transpose()?,
        })
    }

    fn signer(&self) -> UserId {
        self.publisher
    }
}
