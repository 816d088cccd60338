//! A storage node answers with a page.

use bytes::Bytes;
use prost::Message as _;

use super::place::{PlaceProto, place};
use crate::identity::{Domain, UserId};
use crate::permission::Refusal;
use crate::storage::Place;
use crate::stream::StreamPart;
use crate::time::Timestamp;
use crate::wire::exchange::{RefusalProto, refusal};
use crate::wire::{Content, RequestId, WireError, few_fields, request_id, stream, user};

/// Most messages on a page.
pub const MAX_MESSAGES_PER_PAGE: usize = 1000;

/// Some messages in the order of their places, as they travelled, and where the next page begins; or a refusal. The node signs
/// for the page: what it left out can be held against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResendPage {
    /// The request answered.
    pub id: RequestId,
    /// Stream and partition of the request.
    pub part: StreamPart,
    /// Who answers.
    pub node: UserId,
    /// Who asked.
    pub requester: UserId,
    /// When it was answered.
    pub sent: Timestamp,
    /// Envelopes of messages; nothing of them is checked here.
    pub messages: Vec<Bytes>,
    /// Behind this place there may be more; absent at the end.
    pub next: Option<Place>,
    /// Nothing is given; then nothing else is said.
    pub refusal: Option<Refusal>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PageProto {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(string, tag = "2")]
    stream: String,
    #[prost(uint32, tag = "3")]
    partition: u32,
    #[prost(bytes = "vec", tag = "4")]
    node: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    requester: Vec<u8>,
    #[prost(uint64, tag = "6")]
    sent: u64,
    #[prost(bytes = "bytes", repeated, tag = "7")]
    messages: Vec<Bytes>,
    #[prost(message, optional, tag = "8")]
    next: Option<PlaceProto>,
    #[prost(message, optional, tag = "9")]
    refusal: Option<RefusalProto>,
}

impl Content for ResendPage {
    const DOMAIN: Domain = Domain::ResendPage;

    fn encode(&self) -> Vec<u8> {
        PageProto {
            id: self.id.0.to_vec(),
            stream: self.part.stream().as_str().into(),
            partition: self.part.number(),
            node: self.node.as_bytes().to_vec(),
            requester: self.requester.as_bytes().to_vec(),
            sent: self.sent.as_millis(),
            messages: self.messages.clone(),
            next: self.next.as_ref().map(PlaceProto::from),
            refusal: self.refusal.map(RefusalProto::from),
        }
        .encode_to_vec()
    }

    fn decode(content: &Bytes) -> Result<Self, WireError> {
        few_fields(content)?;
        let proto = PageProto::decode(content.clone()).map_err(|_| WireError::Malformed)?;
        if proto.messages.len() > MAX_MESSAGES_PER_PAGE {
            return Err(WireError::Field("a page has at most 1000 messages"));
        }
        if proto.refusal.is_some() && (proto.next.is_some() || !proto.messages.is_empty()) {
            return Err(WireError::Field("a page that refuses says nothing else"));
        }
        Ok(Self {
            id: request_id(&proto.id)?,
            part: stream(&proto.stream)?.part(proto.partition)?,
            node: user(&proto.node, "the node of a page is an address of 20 bytes")?,
            requester: user(&proto.requester, "the requester is an address of 20 bytes")?,
            sent: Timestamp::from_millis(proto.sent),
            messages: proto.messages,
            next: proto.next.as_ref().map(place).transpose()?,
            refusal: proto.refusal.as_ref().map(refusal).transpose()?,
        })
    }

    fn signer(&self) -> UserId {
        self.node
    }
}
