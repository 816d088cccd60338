//! What travels: envelopes of exact signed bytes.
//!
//! Everything a party says is an envelope: version, kind, content bytes and the signature over exactly those
//! bytes. Decoding gives a [`Received`], which claims but proves nothing; only [`Received::verify`] turns it into a
//! [`Verified`]. Encodings are Protocol Buffers (proto3), written down in docs/PROTOCOL.md; no field is ever reused.

mod audit;
mod envelope;
mod exchange;
mod frame;
mod message;
mod permits;
mod record;
mod resend;
mod whereabouts;

pub use audit::AuditHead;
pub(crate) use envelope::kind_of;
pub use envelope::{Content, Received, Verified};
pub use exchange::{
    ALGORITHM_RSA_OAEP_SHA256, GrantedKey, KeyAnswer, KeyPush, KeyRange, KeyReceipt, KeyRequest, MAX_KEYS_PER_ANSWER,
    MAX_KEYS_PER_REQUEST, MAX_PROOFS, MAX_PROOFS_LEN, Refused, RequestId, Wanted,
};
pub(crate) use exchange::{RefusalProto, refusal as read_refusal};
pub use frame::{Frame, FrameParts};
pub use message::{ContentType, Encryption, KeyUpdate, MessageContent, MessageRef, UpdateKind};
pub use permits::{MAX_PROOF_LEN, OWNERS_REGISTRY, Revocation, Revoked, SignedGrant, StreamRecord};
pub use record::PublisherRecord;
pub use resend::{MAX_MESSAGES_PER_PAGE, ResendPage, ResendRequest, Span, StorageRecord};

use exchange::request_id;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use veilcast_key_store::{KeyError, KeyId};

use crate::identity::{SignatureError, UserId};
use crate::stream::{StreamId, StreamIdError};

/// The version of everything on the wire.
pub const WIRE_VERSION: u32 = 1;

/// Why bytes from a peer are not what they should be. The peer's fault, always.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Not Protocol Buffers, or of the wrong types.
    #[error("malformed bytes")]
    Malformed,
    /// A version this build does not know.
    #[error("unknown version {found}; this build speaks version {WIRE_VERSION}")]
    UnknownVersion {
        /// The version found.
        found: u32,
    },
    /// Another kind of statement than was expected here, or none that is known.
    #[error("kind {found} where kind {expected} belongs")]
    WrongKind {
        /// The kind expected.
        expected: u32,
        /// The kind found.
        found: u32,
    },
    /// An envelope with something beside its four fields, or written in another way than the one.
    #[error("the envelope is not written in the canonical way")]
    NotCanonical,
    /// A field that breaks a rule.
    #[error("{0}")]
    Field(&'static str),
    /// A stream id that is none.
    #[error(transparent)]
    StreamId(#[from] StreamIdError),
    /// A key id that is none.
    #[error(transparent)]
    KeyId(#[from] KeyError),
    /// The signature does not count.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// Most fields of any content: twice what the longest valid one has.
const MAX_FIELDS: usize = 1024;

/// Counts the fields before Protocol Buffers makes a list of them: two bytes on the wire must not become a hundred in
/// memory half a million times over before somebody looks at the list's length.
fn few_fields(mut content: &[u8]) -> Result<(), WireError> {
    let mut found = 0;
    while !content.is_empty() {
        let (tag, kind) = decode_key(&mut content).map_err(|_| WireError::Malformed)?;
        skip_field(kind, tag, &mut content, DecodeContext::default()).map_err(|_| WireError::Malformed)?;
        found += 1;
        if found > MAX_FIELDS {
            return Err(WireError::Field("content has at most 1024 fields"));
        }
    }
    Ok(())
}

fn user(bytes: &[u8], rule: &'static str) -> Result<UserId, WireError> {
    UserId::try_from(bytes).map_err(|_| WireError::Field(rule))
}

fn fixed<const N: usize>(bytes: &[u8], rule: &'static str) -> Result<[u8; N], WireError> {
    bytes.try_into().map_err(|_| WireError::Field(rule))
}

fn stream(text: &str) -> Result<StreamId, WireError> {
    Ok(StreamId::new(text)?)
}

fn key_id(text: &str) -> Result<KeyId, WireError> {
    Ok(KeyId::new(text)?)
}

#[cfg(test)]
pub(crate) mod testing;
