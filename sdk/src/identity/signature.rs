//! Signatures over exact bytes, under a domain tag.
//!
//! `digest = SHA-256( u8 len(tag) | tag | u64 len(content) | content )`, numbers big-endian. The signature is ECDSA over
//! secp256k1 with a recovery id, `r 32 | s 32 | v 1`, `v` 0 to 3, `s` in the lower half: the high-s twin of a valid
//! signature also recovers, so it is refused, and signature bytes are never used as a name for anything.

use std::fmt;

use secp256k1::SecretKey;
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use sha2::{Digest, Sha256};

use super::UserId;
use super::curve::curve;

/// What kind of statement a signature makes. Its tag names protocol, version and kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Domain {
    /// A message of a stream.
    Message,
    /// A subscriber asks for keys.
    KeyRequest,
    /// A publisher answers a request.
    KeyAnswer,
    /// A publisher sends a rekeyed key unasked.
    KeyPush,
    /// A subscriber confirms a push.
    KeyReceipt,
    /// A publisher says where it can be reached.
    PublisherRecord,
    /// A stream's owner says how the stream is set up, and which grants are void.
    StreamRecord,
    /// A stream's owner allows somebody something.
    SignedGrant,
    /// A reader asks a storage node for messages.
    ResendRequest,
    /// A storage node answers with a page of them.
    ResendPage,
    /// A storage node says which stream it keeps, and where it can be reached.
    StorageRecord,
    /// A publisher says how far its audit log goes.
    AuditHead,
}

impl Domain {
    /// Every kind there is.
    pub const ALL: [Self; 12] = [
        Self::Message,
        Self::KeyRequest,
        Self::KeyAnswer,
        Self::KeyPush,
        Self::KeyReceipt,
        Self::PublisherRecord,
        Self::StreamRecord,
        Self::SignedGrant,
        Self::ResendRequest,
        Self::ResendPage,
        Self::StorageRecord,
        Self::AuditHead,
    ];

    /// The tag that is hashed before the content.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Message => "veilcast/1/message",
            Self::KeyRequest => "veilcast/1/key-request",
            Self::KeyAnswer => "veilcast/1/key-answer",
            Self::KeyPush => "veilcast/1/key-push",
            Self::KeyReceipt => "veilcast/1/key-receipt",
            Self::PublisherRecord => "veilcast/1/publisher-record",
            Self::StreamRecord => "veilcast/1/stream-record",
            Self::SignedGrant => "veilcast/1/signed-grant",
            Self::ResendRequest => "veilcast/1/resend-request",
            Self::ResendPage => "veilcast/1/resend-page",
            Self::StorageRecord => "veilcast/1/storage-record",
            Self::AuditHead => "veilcast/1/audit-head",
        }
    }

    /// The number of this kind in an envelope.
    pub const fn number(self) -> u32 {
        match self {
            Self::Message => 1,
            Self::KeyRequest => 2,
            Self::KeyAnswer => 3,
            Self::KeyPush => 4,
            Self::KeyReceipt => 5,
            Self::PublisherRecord => 6,
            Self::StreamRecord => 7,
            Self::SignedGrant => 8,
            Self::ResendRequest => 9,
            Self::ResendPage => 10,
            Self::StorageRecord => 11,
            Self::AuditHead => 12,
        }
    }

    fn digest(self, content: &[u8]) -> [u8; 32] {
        let tag = self.tag().as_bytes();
        let mut hash = Sha256::new();
        hash.update([tag.len() as u8]);
        hash.update(tag);
        hash.update((content.len() as u64).to_be_bytes());
        hash.update(content);
        hash.finalize().into()
    }
}

/// A recoverable ECDSA signature, 65 bytes `r | s | v`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; Signature::LEN]);

impl Signature {
    /// Bytes in a signature.
    pub const LEN: usize = 65;

    pub(super) fn make(domain: Domain, content: &[u8], secret: &SecretKey) -> Self {
        let message = secp256k1::Message::from_digest(domain.digest(content));
        let (id, compact) = curve().sign_ecdsa_recoverable(message, secret).serialize_compact();
        let mut bytes = [0; Self::LEN];
        bytes[..64].copy_from_slice(&compact);
        bytes[64] = i32::from(id) as u8;
        Self(bytes)
    }

    /// From its 65 bytes. Nothing is checked yet but the length.
    ///
    /// # Errors
    /// [`SignatureError::Length`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SignatureError> {
        bytes.try_into().map(Self).map_err(|_| SignatureError::Length { got: bytes.len() })
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// Who signed `content` as a statement of this kind. The caller compares the answer with whom it expects.
    ///
    /// # Errors
    /// [`SignatureError`] when no key can have made this signature, or its `s` is high.
    pub fn signer(&self, domain: Domain, content: &[u8]) -> Result<UserId, SignatureError> {
        let id = RecoveryId::try_from(i32::from(self.0[64])).map_err(|_| SignatureError::Malformed)?;
        if self.is_high_s() {
            return Err(SignatureError::HighS);
        }
        let signature = RecoverableSignature::from_compact(&self.0[..64], id).map_err(|_| SignatureError::Malformed)?;
        let message = secp256k1::Message::from_digest(domain.digest(content));
        let key = curve().recover_ecdsa(message, &signature).map_err(|_| SignatureError::Malformed)?;
        Ok(UserId::of_public_key(&key))
    }

    fn is_high_s(&self) -> bool {
        /// Half the order of secp256k1, the largest s allowed (EIP-2).
        const HALF_ORDER: [u8; 32] = [
            0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x5d, 0x57,
            0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
        ];
        self.0[32..64] > HALF_ORDER[..]
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({}…)", hex::encode(&self.0[..4]))
    }
}

/// Why a signature does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// Not 65 bytes.
    #[error("a signature has 65 bytes, not {got}")]
    Length {
        /// Its length in bytes.
        got: usize,
    },
    /// No key can have made it.
    #[error("the signature is malformed")]
    Malformed,
    /// The high-s twin of a signature.
    #[error("the signature has a high s")]
    HighS,
    /// Valid, but made by somebody else.
    #[error("signed by {found}, not by {expected}")]
    Foreign {
        /// Who it names as its author.
        expected: UserId,
        /// Who made the signature.
        found: UserId,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    fn identity() -> Identity {
        Identity::from_secret_bytes(&[0x42; 32]).unwrap()
    }

    #[test]
    fn a_signature_names_its_signer_for_its_own_kind_only() {
        let signed = identity().sign(Domain::KeyRequest, b"content");
        assert_eq!(signed.signer(Domain::KeyRequest, b"content"), Ok(identity().user()));
        for domain in Domain::ALL.into_iter().filter(|d| *d != Domain::KeyRequest) {
            assert_ne!(signed.signer(domain, b"content"), Ok(identity().user()), "{domain:?}");
        }
        assert_ne!(signed.signer(Domain::KeyRequest, b"contenu"), Ok(identity().user()));
    }

    #[test]
    fn the_high_s_twin_of_a_signature_is_refused() {
        let order = hex::decode("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141").unwrap();
        let mut twin = *identity().sign(Domain::Message, b"m").as_bytes();
        let mut borrow = 0i16;
        for i in (0..32).rev() {
            let difference = i16::from(order[i]) - i16::from(twin[32 + i]) - borrow;
            borrow = i16::from(difference < 0);
            twin[32 + i] = difference.rem_euclid(256) as u8;
        }
        twin[64] ^= 1;
        let twin = Signature::from_bytes(&twin).unwrap();
        assert_eq!(twin.signer(Domain::Message, b"m"), Err(SignatureError::HighS));
    }

    #[test]
    fn any_damaged_bit_of_a_signature_loses_the_signer() {
        let whole = identity().sign(Domain::Message, b"m");
        for bit in 0..Signature::LEN * 8 {
            let mut bytes = *whole.as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let damaged = Signature::from_bytes(&bytes).unwrap();
            assert_ne!(damaged.signer(Domain::Message, b"m"), Ok(identity().user()), "bit {bit}");
        }
    }
}
