//! The signed envelope, and the two types that carry trust.

use bytes::Bytes;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::{WIRE_VERSION, WireError};
use crate::identity::{Domain, Identity, Signature, SignatureError, UserId};

/// `Envelope` of docs/PROTOCOL.md. Fields 5 and up are kept for a Merkle path and a delegation certificate, which need a new
/// version: a reader that does not know them could not check the signature.
#[derive(Clone, PartialEq, prost::Message)]
struct EnvelopeProto {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(uint32, tag = "2")]
    kind: u32,
    #[prost(bytes = "bytes", tag = "3")]
    content: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    signature: Bytes,
}

/// What an envelope of one kind contains.
pub trait Content: Sized {
    /// The kind, and with it the tag the signature is made under.
    const DOMAIN: Domain;

    /// The exact bytes that are signed.
    fn encode(&self) -> Vec<u8>;

    /// Reads and checks content bytes; every rule that needs no context is checked here.
    ///
    /// # Errors
    /// [`WireError`] names the rule.
    fn decode(content: &Bytes) -> Result<Self, WireError>;

    /// Who says this, by its own account.
    fn signer(&self) -> UserId;
}

/// Decoded, but its signature is not checked: good for cheap checks, never to be believed.
#[derive(Clone, Debug)]
pub struct Received<T> {
    content: T,
    signed: Bytes,
    signature: Signature,
    envelope: Bytes,
}

impl<T: Content> Received<T> {
    /// Decodes an envelope of this kind.
    ///
    /// # Errors
    /// [`WireError`]: unknown version, another kind, or a field that breaks a rule.
    pub fn decode(envelope: &Bytes) -> Result<Self, WireError> {
        let proto = EnvelopeProto::decode(envelope.clone()).map_err(|_| WireError::Malformed)?;
        if proto.version != WIRE_VERSION {
            return Err(WireError::UnknownVersion { found: proto.version });
        }
        if proto.kind != T::DOMAIN.number() {
            return Err(WireError::WrongKind { expected: T::DOMAIN.number(), found: proto.kind });
        }
        // One statement has one envelope: anything beside the four fields would travel and be kept unsigned.
        if !is_canonical(&proto, envelope) {
            return Err(WireError::NotCanonical);
        }
        let signature = Signature::from_bytes(&proto.signature)?;
        let content = T::decode(&proto.content)?;
        Ok(Self { content, signed: proto.content, signature, envelope: envelope.clone() })
    }

    /// What it claims.
    pub fn claims(&self) -> &T {
        &self.content
    }

    /// Checks that the one it names as its author signed exactly these bytes.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify(self) -> Result<Verified<T>, SignatureError> {
        let (expected, found) = (self.content.signer(), self.signature.signer(T::DOMAIN, &self.signed)?);
        if expected != found {
            return Err(SignatureError::Foreign { expected, found });
        }
        Ok(Verified { content: self.content, envelope: self.envelope })
    }
}

/// Whether `envelope` is what is written for what was read from it. The content, which may be long, is compared where it stands and
/// not written once more.
fn is_canonical(proto: &EnvelopeProto, envelope: &[u8]) -> bool {
    let mut head = EnvelopeProto { content: Bytes::new(), signature: Bytes::new(), ..*proto }.encode_to_vec();
    if !proto.content.is_empty() {
        encode_key(3, WireType::LengthDelimited, &mut head);
        encode_varint(proto.content.len() as u64, &mut head);
    }
    let tail = EnvelopeProto { signature: proto.signature.clone(), ..EnvelopeProto::default() }.encode_to_vec();
    let rest = envelope.strip_prefix(head.as_slice()).and_then(|rest| rest.strip_suffix(tail.as_slice()));
    rest == Some(&proto.content)
}

/// Signed by the one it names as its author. Built only by checking or making the signature.
#[derive(Clone, Debug)]
pub struct Verified<T> {
    content: T,
    envelope: Bytes,
}

impl<T: Content> Verified<T> {
    /// Signs `content`. The author it names must be `identity`.
    ///
    /// # Errors
    /// [`SignatureError::Foreign`] when it names somebody else; otherwise whatever a receiver would refuse it for.
    pub fn sign(content: T, identity: &Identity) -> Result<Self, WireError> {
        if content.signer() != identity.user() {
            return Err(SignatureError::Foreign { expected: content.signer(), found: identity.user() }.into());
        }
        let bytes = Bytes::from(content.encode());
        // What is signed is what the bytes say, and only what a receiver would take.
        let content = T::decode(&bytes)?;
        let signature = identity.sign(T::DOMAIN, &bytes);
        let envelope = EnvelopeProto {
            version: WIRE_VERSION,
            kind: T::DOMAIN.number(),
            content: bytes,
            signature: Bytes::copy_from_slice(signature.as_bytes()),
        };
        Ok(Self { content, envelope: envelope.encode_to_vec().into() })
    }

    /// What it says.
    pub fn content(&self) -> &T {
        &self.content
    }

    /// The envelope as it travels.
    pub fn envelope(&self) -> &Bytes {
        &self.envelope
    }

    /// What it says, by value.
    pub fn into_content(self) -> T {
        self.content
    }
}

/// The kind of an envelope, without believing or decoding the rest.
pub(crate) fn kind_of(envelope: &Bytes) -> Result<u32, WireError> {
    let proto = EnvelopeProto::decode(envelope.clone()).map_err(|_| WireError::Malformed)?;
    Ok(proto.kind)
}

#[cfg(test)]
pub(crate) fn envelope_of(version: u32, kind: u32, content: &[u8], signature: &[u8]) -> Bytes {
    let (content, signature) = (Bytes::copy_from_slice(content), Bytes::copy_from_slice(signature));
    EnvelopeProto { version, kind, content, signature }.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn canonical_is_what_would_be_written_again(
            version in 0..3u32, kind in 0..300u32, content in proptest::collection::vec(any::<u8>(), 0..200),
            signature in proptest::collection::vec(any::<u8>(), 0..3), added in proptest::collection::vec(0..40u8, 0..4),
            at: prop::sample::Index,
        ) {
            let mut bytes = envelope_of(version, kind, &content, &signature).to_vec();
            let at = at.index(bytes.len() + 1);
            bytes.splice(at..at, added);
            if let Ok(proto) = EnvelopeProto::decode(bytes.as_slice()) {
                prop_assert_eq!(is_canonical(&proto, &bytes), proto.encode_to_vec() == bytes);
            }
        }
    }
}
