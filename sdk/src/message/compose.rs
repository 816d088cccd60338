//! From payload to signed envelope.

use std::fmt;

use bytes::Bytes;
use rand_core::CryptoRng;
use veilcast_key_store::KeyId;

use crate::cipher::MessageCipher;
use crate::identity::Identity;
use crate::stream::StreamPart;
use crate::wire::{ContentType, Encryption, KeyUpdate, MessageContent, MessageRef, Verified, WireError};

/// What an application publishes. Its `Debug` shows the size only: plaintext does not belong in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload {
    pub(crate) content_type: ContentType,
    pub(crate) bytes: Bytes,
}

impl Payload {
    /// JSON, from any serializable value.
    ///
    /// # Errors
    /// [`ComposeError::Json`] when the value cannot be written as JSON.
    pub fn json<T: serde::Serialize>(value: &T) -> Result<Self, ComposeError> {
        let bytes = serde_json::to_vec(value).map_err(|error| ComposeError::Json(error.to_string()))?;
        Ok(Self { content_type: ContentType::Json, bytes: bytes.into() })
    }

    /// JSON that is text already; it is checked, and sent byte for byte.
    ///
    /// # Errors
    /// [`ComposeError::Json`] says where it stops being JSON.
    pub fn json_text(text: impl Into<Bytes>) -> Result<Self, ComposeError> {
        let bytes = text.into();
        serde_json::from_slice::<serde::de::IgnoredAny>(&bytes)
            .map_err(|error| ComposeError::Json(error.to_string()))?;
        Ok(Self { content_type: ContentType::Json, bytes })
    }

    /// UTF-8 text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { content_type: ContentType::Text, bytes: text.into().into() }
    }

    /// Bytes.
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self { content_type: ContentType::Binary, bytes: bytes.into() }
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({:?}, {} bytes)", self.content_type, self.bytes.len())
    }
}

/// Everything of a message but its payload, cipher and signature.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Stream and partition.
    pub part: StreamPart,
    /// The chain it continues.
    pub chain: [u8; 16],
    /// Where it stands.
    pub at: MessageRef,
    /// The message before it.
    pub previous: Option<MessageRef>,
    /// Keys it carries.
    pub key_updates: Vec<KeyUpdate>,
}

/// Seals (where a cipher is given) and signs one message.
///
/// # Errors
/// [`ComposeError::Wire`]: a draft that no receiver would take, such as one whose previous message is not before it.
pub fn compose<R: CryptoRng + ?Sized>(
    draft: Draft,
    payload: &Payload,
    cipher: Option<(&KeyId, &MessageCipher)>,
    identity: &Identity,
    rng: &mut R,
) -> Result<Verified<MessageContent>, ComposeError> {
    let encryption = cipher.map_or(Encryption::None, |(id, _)| Encryption::GroupKey(id.clone()));
    let mut content = MessageContent {
        part: draft.part,
        publisher: identity.user(),
        chain: draft.chain,
        at: draft.at,
        previous: draft.previous,
        content_type: payload.content_type,
        encryption,
        key_updates: draft.key_updates,
        payload: Bytes::new(),
        header: Bytes::new(),
    }
    .with_header_fixed();
    content.payload = match cipher {
        Some((_, cipher)) => cipher.seal(&content.header, &payload.bytes, rng).into(),
        None => payload.bytes.clone(),
    };
    Ok(Verified::sign(content, identity)?)
}

/// Why a message could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ComposeError {
    /// Not JSON.
    #[error("the payload is not JSON: {0}")]
    Json(String),
    /// What a receiver would refuse.
    #[error(transparent)]
    Wire(#[from] WireError),
}
