//! A reader asks a storage node for messages.

use bytes::Bytes;
use prost::Message as _;

use super::place::{PlaceProto, place};
use crate::identity::{Domain, UserId};
use crate::storage::{Filter, Place};
use crate::stream::StreamPart;
use crate::time::Timestamp;
use crate::wire::{
    Content, MAX_PROOFS, MAX_PROOFS_LEN, RequestId, WireError, few_fields, fixed, request_id, stream, user,
};

/// Most of the last messages that can be asked for: they are counted from the end.
const MAX_LAST: u64 = 1_000_000;

/// Which messages of a partition are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// The last so many, 1 to 1,000,000, and what comes behind them until the answer. Not of one chain.
    Last(u64),
    /// Those of a span of time, both ends included; its end is not before its beginning.
    Range {
        /// First moment.
        from: Timestamp,
        /// Last moment.
        to: Timestamp,
    },
}

/// "I am `requester`; give me a page of these messages."
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResendRequest {
    /// Comes back in the page.
    pub id: RequestId,
    /// Stream and partition.
    pub part: StreamPart,
    /// The storage node that is asked.
    pub node: UserId,
    /// Who asks.
    pub requester: UserId,
    /// When; outside the freshness window the request is not looked at further.
    pub sent: Timestamp,
    /// Which messages.
    pub span: Span,
    /// Strictly behind this place; only with a span of time.
    pub after: Option<Place>,
    /// Whose; a chain only with its publisher.
    pub filter: Filter,
    /// As in a [`KeyRequest`](crate::wire::KeyRequest).
    pub proofs: Vec<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RequestProto {
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
    #[prost(uint64, tag = "7")]
    last: u64,
    #[prost(uint64, tag = "8")]
    from: u64,
    #[prost(uint64, tag = "9")]
    to: u64,
    #[prost(message, optional, tag = "10")]
    after: Option<PlaceProto>,
    #[prost(bytes = "vec", tag = "11")]
    publisher: Vec<u8>,
    #[prost(bytes = "vec", tag = "12")]
    chain: Vec<u8>,
    #[prost(bytes = "bytes", repeated, tag = "13")]
    proofs: Vec<Bytes>,
}

impl Content for ResendRequest {
    const DOMAIN: Domain = Domain::ResendRequest;

    fn encode(&self) -> Vec<u8> {
        let (last, from, to) = match self.span {
            Span::Last(n) => (n, 0, 0),
            Span::Range { from, to } => (0, from.as_millis(), to.as_millis()),
        };
        RequestProto {
            id: self.id.0.to_vec(),
            stream: self.part.stream().as_str().into(),
            partition: self.part.number(),
            node: self.node.as_bytes().to_vec(),
            requester: self.requester.as_bytes().to_vec(),
            sent: self.sent.as_millis(),
            last,
            from,
            to,
            after: self.after.as_ref().map(PlaceProto::from),
            publisher: self.filter.publisher.map(|user| user.as_bytes().to_vec()).unwrap_or_default(),
            chain: self.filter.chain.map(|chain| chain.to_vec()).unwrap_or_default(),
            proofs: self.proofs.clone(),
        }
        .encode_to_vec()
    }

    fn decode(content: &Bytes) -> Result<Self, WireError> {
        few_fields(content)?;
        let proto = RequestProto::decode(content.clone()).map_err(|_| WireError::Malformed)?;
        if proto.proofs.len() > MAX_PROOFS || proto.proofs.iter().map(Bytes::len).sum::<usize>() > MAX_PROOFS_LEN {
            return Err(WireError::Field("a request has at most 4 proofs of 24 KiB together"));
        }
        let (span, after) = (span(&proto)?, proto.after.as_ref().map(place).transpose()?);
        if after.is_some() && matches!(span, Span::Last(_)) {
            return Err(WireError::Field("the last messages do not begin behind a place"));
        }
        Ok(Self {
            id: request_id(&proto.id)?,
            part: stream(&proto.stream)?.part(proto.partition)?,
            node: user(&proto.node, "the node of a request is an address of 20 bytes")?,
            requester: user(&proto.requester, "the requester is an address of 20 bytes")?,
            sent: Timestamp::from_millis(proto.sent),
            span,
            after,
            filter: filter(&proto)?,
            proofs: proto.proofs,
        })
    }

    fn signer(&self) -> UserId {
        self.requester
    }
}

fn span(proto: &RequestProto) -> Result<Span, WireError> {
    let (from, to) = (Timestamp::from_millis(proto.from), Timestamp::from_millis(proto.to));
    match proto.last {
        0 if from <= to => Ok(Span::Range { from, to }),
        0 => Err(WireError::Field("a span of time does not end before it begins")),
        n if proto.from > 0 || proto.to > 0 || n > MAX_LAST => {
            Err(WireError::Field("a request names the last 1 to 1,000,000 messages or a span of time, not both"))
        }
        _ if !proto.chain.is_empty() => Err(WireError::Field("the last messages are not asked for by chain")),
        n => Ok(Span::Last(n)),
    }
}

fn filter(proto: &RequestProto) -> Result<Filter, WireError> {
    let publisher = match proto.publisher.as_slice() {
        [] => None,
        bytes => Some(user(bytes, "the publisher of a request is an address of 20 bytes")?),
    };
    match (publisher, proto.chain.as_slice()) {
        (None, []) => Ok(Filter::ALL),
        (None, _) => Err(WireError::Field("a chain is named with its publisher")),
        (Some(publisher), []) => Ok(Filter::publisher(publisher)),
        (Some(publisher), chain) => Ok(Filter::chain(publisher, fixed(chain, "a chain id has 16 bytes")?)),
    }
}
