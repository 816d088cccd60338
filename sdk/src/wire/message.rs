//! A message of a stream: a signed header and a payload.
//!
//! The header travels as its own bytes inside the content, because those exact bytes are the associated data of the
//! payload's cipher as well.

use std::fmt;

use bytes::Bytes;
use prost::Message as _;
use veilcast_key_store::KeyId;

use super::{Content, WireError, few_fields, fixed, key_id, stream, user};
use crate::cipher::{SEAL_OVERHEAD, WRAPPED_KEY_LEN};
use crate::identity::{Domain, UserId};
use crate::stream::StreamPart;
use crate::time::Timestamp;

/// Most key updates one message may carry.
const MAX_KEY_UPDATES: usize = 8;
/// Longest header, bytes; looked at before anything in it is.
const MAX_HEADER_LEN: usize = 8192;

#[derive(Clone, PartialEq, prost::Message)]
struct MessageProto {
    #[prost(bytes = "bytes", tag = "1")]
    header: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    payload: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HeaderProto {
    #[prost(string, tag = "1")]
    stream: String,
    #[prost(uint32, tag = "2")]
    partition: u32,
    #[prost(bytes = "vec", tag = "3")]
    publisher: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    chain: Vec<u8>,
    #[prost(uint64, tag = "5")]
    timestamp: u64,
    #[prost(uint32, tag = "6")]
    sequence: u32,
    #[prost(message, optional, tag = "7")]
    previous: Option<RefProto>,
    #[prost(uint32, tag = "8")]
    content_type: u32,
    #[prost(uint32, tag = "9")]
    encryption: u32,
    #[prost(string, tag = "10")]
    key_id: String,
    #[prost(message, repeated, tag = "11")]
    key_updates: Vec<UpdateProto>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct RefProto {
    #[prost(uint64, tag = "1")]
    timestamp: u64,
    #[prost(uint32, tag = "2")]
    sequence: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct UpdateProto {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(string, tag = "2")]
    key_id: String,
    #[prost(string, tag = "3")]
    wrapped_by: String,
    #[prost(bytes = "vec", tag = "4")]
    wrapped: Vec<u8>,
}

/// Where a message stands in its chain: milliseconds, then a sequence number on equal milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageRef {
    /// When it was published.
    pub timestamp: Timestamp,
    /// Which of the messages of that millisecond, from 0.
    pub sequence: u32,
}

/// How a payload is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ContentType {
    /// JSON text.
    Json,
    /// Bytes.
    Binary,
    /// UTF-8 text.
    Text,
}

/// How a payload is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Encryption {
    /// Readable by everybody: a public stream.
    None,
    /// AES-256-CTR then HMAC-SHA-256 under the group key of this id.
    GroupKey(KeyId),
}

/// How a key update is to be applied. The list in a header has room for other kinds; unknown ones are skipped when read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpdateKind {
    /// The key that follows, wrapped in the one before it.
    Rotate,
}

/// A key carried in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUpdate {
    /// How it is wrapped.
    pub kind: UpdateKind,
    /// The key inside.
    pub key_id: KeyId,
    /// The key that opens it.
    pub wrapped_by: KeyId,
    /// The wrapped key; 80 bytes for [`UpdateKind::Rotate`].
    pub wrapped: Vec<u8>,
}

/// Header and payload of one message. Its `Debug` shows the payload's size only: that of a public stream is plaintext.
#[derive(Clone, PartialEq, Eq)]
pub struct MessageContent {
    /// Stream and partition.
    pub part: StreamPart,
    /// Who publishes.
    pub publisher: UserId,
    /// One run of one publisher on one partition: 16 random bytes.
    pub chain: [u8; 16],
    /// Where it stands in the chain.
    pub at: MessageRef,
    /// The message before it in the chain; `None` for the first.
    pub previous: Option<MessageRef>,
    /// How to read the payload.
    pub content_type: ContentType,
    /// How the payload is protected.
    pub encryption: Encryption,
    /// Keys it carries.
    pub key_updates: Vec<KeyUpdate>,
    /// The payload: plaintext, or `iv 16 | ciphertext | tag 32`.
    pub payload: Bytes,
    /// The header's exact bytes, associated data of the payload.
    pub(crate) header: Bytes,
}

impl MessageContent {
    /// The header's exact bytes: what a payload's cipher takes as associated data.
    pub fn header(&self) -> &Bytes {
        &self.header
    }

    /// Fixes the header's bytes. The payload is put in by the cipher, which needs them.
    pub(crate) fn with_header_fixed(mut self) -> Self {
        self.header = self.header_proto().encode_to_vec().into();
        self
    }

    fn header_proto(&self) -> HeaderProto {
        let (encryption, key_id) = match &self.encryption {
            Encryption::None => (0, String::new()),
            Encryption::GroupKey(id) => (1, id.as_str().into()),
        };
        HeaderProto {
            stream: self.part.stream().as_str().into(),
            partition: self.part.number(),
            publisher: self.publisher.as_bytes().to_vec(),
            chain: self.chain.to_vec(),
            timestamp: self.at.timestamp.as_millis(),
            sequence: self.at.sequence,
            previous: self.previous.map(RefProto::from),
            content_type: self.content_type.number(),
            encryption,
            key_id,
            key_updates: self.key_updates.iter().map(UpdateProto::from).collect(),
        }
    }
}

impl fmt::Debug for MessageContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageContent")
            .field("part", &self.part)
            .field("publisher", &self.publisher)
            .field("at", &self.at)
            .field("previous", &self.previous)
            .field("encryption", &self.encryption)
            .field("bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

impl Content for MessageContent {
    const DOMAIN: Domain = Domain::Message;

    fn encode(&self) -> Vec<u8> {
        MessageProto { header: self.header.clone(), payload: self.payload.clone() }.encode_to_vec()
    }

    fn decode(content: &Bytes) -> Result<Self, WireError> {
        let outer = MessageProto::decode(content.clone()).map_err(|_| WireError::Malformed)?;
        if outer.header.len() > MAX_HEADER_LEN {
            return Err(WireError::Field("a message header has at most 8192 bytes"));
        }
        few_fields(&outer.header)?;
        let header = HeaderProto::decode(outer.header.clone()).map_err(|_| WireError::Malformed)?;
        let at = MessageRef { timestamp: Timestamp::from_millis(header.timestamp), sequence: header.sequence };
        let previous = header.previous.map(MessageRef::from);
        if header.encryption != 0 && outer.payload.len() < SEAL_OVERHEAD {
            return Err(WireError::Field("a sealed payload has an IV and a tag: 48 bytes at least"));
        }
        if previous.is_some_and(|previous| previous >= at) {
            return Err(WireError::Field("the previous reference must be strictly before the message"));
        }
        if header.key_updates.len() > MAX_KEY_UPDATES {
            return Err(WireError::Field("a message carries at most 8 key updates"));
        }
        Ok(Self {
            part: stream(&header.stream)?.part(header.partition)?,
            publisher: user(&header.publisher, "the publisher of a message is an address of 20 bytes")?,
            chain: fixed(&header.chain, "a chain id has 16 bytes")?,
            at,
            previous,
            content_type: ContentType::from_number(header.content_type)?,
            encryption: encryption(header.encryption, &header.key_id)?,
            key_updates: header.key_updates.iter().filter_map(key_update).collect::<Result<_, _>>()?,
            payload: outer.payload,
            header: outer.header,
        })
    }

    fn signer(&self) -> UserId {
        self.publisher
    }
}

impl ContentType {
    fn number(self) -> u32 {
        match self {
            Self::Json => 1,
            Self::Binary => 2,
            Self::Text => 3,
        }
    }

    fn from_number(number: u32) -> Result<Self, WireError> {
        match number {
            1 => Ok(Self::Json),
            2 => Ok(Self::Binary),
            3 => Ok(Self::Text),
            _ => Err(WireError::Field("unknown content type")),
        }
    }
}

fn encryption(number: u32, id: &str) -> Result<Encryption, WireError> {
    match (number, id) {
        (0, "") => Ok(Encryption::None),
        (0, _) => Err(WireError::Field("a plaintext message names no key")),
        (1, "") => Err(WireError::Field("an encrypted message must name its key")),
        (1, id) => Ok(Encryption::GroupKey(key_id(id)?)),
        _ => Err(WireError::Field("unknown encryption")),
    }
}

/// `None` for a kind this build does not know: whoever needs the key asks for it.
fn key_update(proto: &UpdateProto) -> Option<Result<KeyUpdate, WireError>> {
    (proto.kind == ROTATE).then(|| {
        if proto.wrapped.len() != WRAPPED_KEY_LEN {
            return Err(WireError::Field("a rotated key is wrapped in 80 bytes"));
        }
        let (id, wrapped_by) = (key_id(&proto.key_id)?, key_id(&proto.wrapped_by)?);
        Ok(KeyUpdate { kind: UpdateKind::Rotate, key_id: id, wrapped_by, wrapped: proto.wrapped.clone() })
    })
}

const ROTATE: u32 = 1;

impl From<&KeyUpdate> for UpdateProto {
    fn from(update: &KeyUpdate) -> Self {
        let UpdateKind::Rotate = update.kind;
        Self {
            kind: ROTATE,
            key_id: update.key_id.as_str().into(),
            wrapped_by: update.wrapped_by.as_str().into(),
            wrapped: update.wrapped.clone(),
        }
    }
}

impl From<MessageRef> for RefProto {
    fn from(at: MessageRef) -> Self {
        Self { timestamp: at.timestamp.as_millis(), sequence: at.sequence }
    }
}

impl From<RefProto> for MessageRef {
    fn from(proto: RefProto) -> Self {
        Self { timestamp: Timestamp::from_millis(proto.timestamp), sequence: proto.sequence }
    }
}
