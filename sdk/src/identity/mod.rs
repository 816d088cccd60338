//! Who signs: Ethereum identities.
//!
//! An [`Identity`] is a secp256k1 key, a [`UserId`] the 20-byte address it has on Ethereum. Everything a party says is
//! signed by its identity under a [domain tag](Domain) that names protocol, version and kind, so that a signature for
//! one kind of statement never verifies for another. The node's libp2p key is another key and proves nothing here.

mod curve;
#[cfg(feature = "ethereum")]
mod keystore;
mod signature;
#[cfg(feature = "ethereum")]
mod transaction;
mod user;
mod words;

use std::fmt;

use rand_core::CryptoRng;
use secp256k1::SecretKey;
use zeroize::{Zeroize, Zeroizing};

#[cfg(feature = "ethereum")]
pub use keystore::KeystoreError;
pub use signature::{Domain, Signature, SignatureError};
#[cfg(feature = "ethereum")]
pub(crate) use transaction::SignedTransaction;
pub use user::{UserId, UserIdError};

/// A secp256k1 key that signs, and the address it has. Never printed; wiped on drop.
#[derive(Clone)]
pub struct Identity {
    secret: SecretKey,
    user: UserId,
}

impl Identity {
    /// A new random identity.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut bytes = Zeroizing::new([0u8; 32]);
        loop {
            rng.fill_bytes(bytes.as_mut_slice());
            // Zero and values from the group order on are not keys; the chance is about 2^-128.
            if let Ok(identity) = Self::from_secret_bytes(&bytes) {
                return identity;
            }
        }
    }

    /// From the 32 secret bytes.
    ///
    /// # Errors
    /// [`IdentityError`] when they are not a secp256k1 secret key.
    pub fn from_secret_bytes(bytes: &[u8; 32]) -> Result<Self, IdentityError> {
        let secret = SecretKey::from_byte_array(*bytes).map_err(|_| IdentityError)?;
        let user = UserId::of_public_key(&secp256k1::PublicKey::from_secret_key(curve::curve(), &secret));
        Ok(Self { secret, user })
    }

    /// The address.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// Signs `content` as a statement of the kind that `domain` names. Deterministic (RFC 6979), low s.
    pub fn sign(&self, domain: Domain, content: &[u8]) -> Signature {
        Signature::make(domain, content, &self.secret)
    }

    #[cfg(feature = "ethereum")]
    fn expose_secret(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.secret.secret_bytes())
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        self.secret.non_secure_erase();
        self.user.0.zeroize();
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Not a secp256k1 secret key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an identity is a secp256k1 secret key: 32 bytes, not zero and below the group order")]
pub struct IdentityError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_the_one_ethereum_gives_this_key() {
        // The first account of the well-known test mnemonic "test test ... junk".
        let secret = hex::decode("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80").unwrap();
        let identity = Identity::from_secret_bytes(&secret.try_into().unwrap()).unwrap();
        assert_eq!(identity.user().to_string(), "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266");
        assert_eq!(identity.user().checksummed(), "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
    }

    #[test]
    fn debug_of_an_identity_shows_its_address_only() {
        let identity = Identity::from_secret_bytes(&[7; 32]).unwrap();
        assert_eq!(format!("{identity:?}"), format!("Identity {{ user: {}, .. }}", identity.user()));
    }

    #[test]
    fn bytes_that_are_no_secret_key_are_refused() {
        assert_eq!(Identity::from_secret_bytes(&[0; 32]).unwrap_err(), IdentityError);
        assert_eq!(Identity::from_secret_bytes(&[0xff; 32]).unwrap_err(), IdentityError);
    }
}
