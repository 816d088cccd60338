//! A message as applications see it, and how one is made.

mod compose;

use std::fmt;

use bytes::Bytes;
use veilcast_key_store::KeyId;

pub use compose::{ComposeError, Draft, Payload, compose};

use crate::identity::UserId;
use crate::stream::StreamPart;
use crate::wire::{ContentType, Encryption, MessageContent, MessageRef, Verified};

/// A message whose signature was checked and whose payload is readable. Its `Debug` shows no plaintext.
#[derive(Clone)]
pub struct Message {
    /// Stream and partition.
    pub part: StreamPart,
    /// Who published it.
    pub publisher: UserId,
    /// Where it stands in its publisher's chain.
    pub at: MessageRef,
    /// How to read the payload.
    pub content_type: ContentType,
    /// The key it was sealed with; `None` for a plaintext message of a public stream.
    pub key_id: Option<KeyId>,
    /// The plaintext.
    pub payload: Bytes,
    /// The signed envelope as it travelled, still sealed: what an archive keeps.
    pub envelope: Bytes,
}

impl Message {
    pub(crate) fn opened(verified: &Verified<MessageContent>, payload: Bytes) -> Self {
        let content = verified.content();
        let key_id = match &content.encryption {
            Encryption::None => None,
            Encryption::GroupKey(id) => Some(id.clone()),
        };
        Self {
            part: content.part.clone(),
            publisher: content.publisher,
            at: content.at,
            content_type: content.content_type,
            key_id,
            payload,
            envelope: verified.envelope().clone(),
        }
    }

    /// The payload as text, where it is UTF-8.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.payload).ok()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("part", &self.part)
            .field("publisher", &self.publisher)
            .field("at", &self.at)
            .field("key_id", &self.key_id)
            .field("bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}
