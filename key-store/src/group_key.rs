//! The secret itself.

use std::fmt;

use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{KeyError, KeyId};

/// How many secret bytes a group key has.
pub const GROUP_KEY_LEN: usize = 32;

const FINGERPRINT_TAG: &[u8] = b"veilcast group key fingerprint v1";

/// 32 secret bytes and the id they go by.
///
/// The bytes live in one heap cell that is wiped when the key is dropped; moving the key moves a pointer. The type has
/// no `Display`, no `==` and no serde, and its `Debug` shows the id only, so that a key cannot leak by accident.
#[derive(Clone)]
pub struct GroupKey {
    id: KeyId,
    bytes: Box<Zeroizing<[u8; GROUP_KEY_LEN]>>,
}

impl GroupKey {
    /// Takes a key that was made elsewhere: received, agreed on beforehand, or read from a store.
    ///
    /// The caller's `bytes` stay the caller's to wipe.
    ///
    /// # Errors
    /// [`KeyError::Length`] unless there are exactly [`GROUP_KEY_LEN`] bytes.
    pub fn new(id: KeyId, bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.len() != GROUP_KEY_LEN {
            return Err(KeyError::Length { got: bytes.len() });
        }
        let mut key = Self::blank(id);
        key.bytes.copy_from_slice(bytes);
        Ok(key)
    }

    /// Makes a key: random id, random bytes.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut key = Self::blank(KeyId::random(rng));
        rng.fill_bytes(&mut key.bytes[..]);
        key
    }

    // The cell is boxed while it is still zero, so that the secret is only ever written to its final place.
    fn blank(id: KeyId) -> Self {
        Self { id, bytes: Box::new(Zeroizing::new([0; GROUP_KEY_LEN])) }
    }

    /// The name of this key.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// Same id and same bytes; the bytes are compared in constant time.
    pub fn same_as(&self, other: &Self) -> bool {
        self.id == other.id && bool::from(self.expose().ct_eq(other.expose()))
    }

    /// The one way out of this type: `grep expose` lists every use.
    ///
    /// Only two places have a reason to call it: the module that encrypts with it, and one that stores it sealed.
    pub fn expose(&self) -> &[u8; GROUP_KEY_LEN] {
        &self.bytes
    }

    /// Sixteen hex characters that tell two keys apart and reveal neither: safe to print, log and read out on the phone.
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::new_with_prefix(FINGERPRINT_TAG).chain_update(self.expose()).finalize();
        hex::encode(&digest[..8])
    }
}

impl fmt::Debug for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupKey").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> KeyId {
        KeyId::new("k1").unwrap()
    }

    #[test]
    fn a_group_key_has_exactly_32_bytes_and_any_other_length_is_an_error_naming_the_rule() {
        assert!(GroupKey::new(id(), &[7; 32]).is_ok());
        for got in [0, 1, 16, 31, 33, 64] {
            let fault = GroupKey::new(id(), &vec![7; got]).unwrap_err();
            assert_eq!(fault, KeyError::Length { got });
            assert_eq!(fault.to_string(), format!("a group key has exactly 32 bytes, these are {got}"));
        }
    }

    #[test]
    fn debug_shows_the_id_and_none_of_the_secret() {
        let key = GroupKey::new(id(), &[0xab; 32]).unwrap();
        assert_eq!(format!("{key:?}"), r#"GroupKey { id: KeyId("k1"), .. }"#);
        assert_eq!(format!("{key:#?}"), "GroupKey {\n    id: KeyId(\n        \"k1\",\n    ),\n    ..\n}");
    }

    #[test]
    fn keys_are_the_same_only_when_id_and_bytes_are() {
        let key = GroupKey::new(id(), &[1; 32]).unwrap();
        assert!(key.same_as(&key.clone()));
        assert!(!key.same_as(&GroupKey::new(id(), &[2; 32]).unwrap()));
        assert!(!key.same_as(&GroupKey::new(KeyId::new("k2").unwrap(), &[1; 32]).unwrap()));
    }

    #[test]
    fn two_generated_keys_differ_in_id_and_bytes() {
        let (a, b) = (GroupKey::generate(&mut rand::rng()), GroupKey::generate(&mut rand::rng()));
        assert_ne!(a.id(), b.id());
        assert_ne!(a.expose(), b.expose());
    }

    #[test]
    fn a_fingerprint_is_frozen_depends_on_the_bytes_alone_and_holds_none_of_them() {
        let key = GroupKey::new(id(), &[1; 32]).unwrap();
        assert_eq!(key.fingerprint(), "065c71b2029ea831");
        assert_eq!(key.fingerprint(), GroupKey::new(KeyId::new("k2").unwrap(), &[1; 32]).unwrap().fingerprint());
        assert_ne!(key.fingerprint(), GroupKey::new(id(), &[2; 32]).unwrap().fingerprint());
        assert!(!key.fingerprint().contains("0101"));
    }
}
