//! What one gossipsub publication carries: some messages, some publisher records.
//!
//! Every field is repeated, so two frames of one topic joined end to end are one frame (Protocol Buffers merge repeated
//! fields). The network uses that to send several small messages at once without knowing what they are.

use bytes::Bytes;
use prost::Message as _;
use prost::encoding::decode_varint;

use super::{MessageContent, PublisherRecord, Received, WireError};

/// Most envelopes in one frame.
const MAX_PARTS: usize = 1024;

#[derive(Clone, PartialEq, prost::Message)]
struct FrameProto {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    messages: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    records: Vec<Bytes>,
}

/// Makes and reads frames.
#[derive(Clone, Copy, Debug)]
pub struct Frame;

/// What a frame was found to contain; nothing of it is verified yet.
#[derive(Debug)]
pub struct FrameParts {
    /// Messages, in the order they were published.
    pub messages: Vec<Received<MessageContent>>,
    /// Where publishers can be reached.
    pub records: Vec<Received<PublisherRecord>>,
}

impl Frame {
    /// A frame of one message envelope.
    pub fn of_message(envelope: Bytes) -> Bytes {
        FrameProto { messages: vec![envelope], records: Vec::new() }.encode_to_vec().into()
    }

    /// A frame of one publisher record envelope.
    pub fn of_record(envelope: Bytes) -> Bytes {
        FrameProto { messages: Vec::new(), records: vec![envelope] }.encode_to_vec().into()
    }

    /// Reads a frame and decodes what is in it. Each part is copied, so that none keeps the whole frame in memory.
    ///
    /// # Errors
    /// [`WireError`] of the first part that is not what it should be; the whole frame is refused then.
    pub fn decode(bytes: &Bytes) -> Result<FrameParts, WireError> {
        Self::read(bytes)
    }

    /// The same of bytes that are lent.
    pub(crate) fn read(bytes: &[u8]) -> Result<FrameParts, WireError> {
        let mut parts = FrameParts { messages: Vec::new(), records: Vec::new() };
        for part in split(bytes)? {
            match part {
                (1, envelope) => parts.messages.push(Received::decode(&Bytes::copy_from_slice(envelope))?),
                (2, envelope) => parts.records.push(Received::decode(&Bytes::copy_from_slice(envelope))?),
                _ => return Err(WireError::Field("a frame has messages and records only")),
            }
        }
        Ok(parts)
    }
}

/// Field numbers and bytes of a frame, counted while they are found: a megabyte of empty parts must not become a list of
/// half a million before somebody looks at its length.
fn split(mut bytes: &[u8]) -> Result<Vec<(u32, &[u8])>, WireError> {
    const LENGTH_DELIMITED: u64 = 2;
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let key = decode_varint(&mut bytes).map_err(|_| WireError::Malformed)?;
        let len = decode_varint(&mut bytes).map_err(|_| WireError::Malformed)?;
        let len = usize::try_from(len).map_err(|_| WireError::Malformed)?;
        let (part, rest) = bytes.split_at_checked(len).ok_or(WireError::Malformed)?;
        let field = u32::try_from(key >> 3).map_err(|_| WireError::Malformed)?;
        if key & 7 != LENGTH_DELIMITED || parts.len() == MAX_PARTS {
            return Err(WireError::Field("a frame is at most 1024 length-delimited parts"));
        }
        parts.push((field, part));
        bytes = rest;
    }
    Ok(parts)
}
