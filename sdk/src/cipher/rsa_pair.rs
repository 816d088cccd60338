//! A subscriber's RSA pair, and the checks on a public key from elsewhere. The one module that uses the `rsa` crate.

use std::fmt;

use rand_core::CryptoRng;
use rsa::pkcs8::{DecodePublicKey, EncodePublicKey};
use rsa::traits::PublicKeyParts;
use rsa::{Oaep, RsaPrivateKey, RsaPublicKey};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use super::seal::OpenError;

/// Smallest modulus accepted, bits.
pub const MIN_RSA_BITS: usize = 2048;
/// Largest modulus accepted, bits.
pub const MAX_RSA_BITS: usize = 4096;
/// Modulus of a new pair, bits.
pub const DEFAULT_RSA_BITS: usize = 3072;
/// Longest DER SubjectPublicKeyInfo of an acceptable key, bytes; 4096 bits take 550.
pub(crate) const MAX_PUBLIC_KEY_LEN: usize = 1024;
/// Longest RSA ciphertext, bytes.
pub(crate) const MAX_ENCAPSULATED_LEN: usize = MAX_RSA_BITS / 8;
/// `AlgorithmIdentifier { rsaEncryption, NULL }` (RFC 8017, appendix A.1).
const RSA_ALGORITHM: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// Why an RSA key is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RsaError {
    /// Outside 2048 to 4096 bits.
    #[error("an RSA key has {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, not {bits}")]
    Size {
        /// Its size, bits; 0 when it is too long to be looked at.
        bits: usize,
    },
    /// Not a DER SubjectPublicKeyInfo of an RSA key with a sensible exponent.
    #[error("the public key is not RSA as DER SubjectPublicKeyInfo")]
    Malformed,
    /// A pair could not be generated.
    #[error("an RSA pair could not be generated")]
    Generate,
}

/// An RSA public key of acceptable size.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    key: RsaPublicKey,
    der: Vec<u8>,
}

impl PublicKey {
    /// Parses and checks a DER SubjectPublicKeyInfo. Sizes are refused before any arithmetic.
    ///
    /// # Errors
    /// [`RsaError`].
    pub fn from_der(der: &[u8]) -> Result<Self, RsaError> {
        if der.len() > MAX_PUBLIC_KEY_LEN {
            return Err(RsaError::Size { bits: 0 });
        }
        // The identifier stands right after the outer sequence header; anything else is another algorithm.
        if !der.windows(RSA_ALGORITHM.len()).take(8).any(|window| window == RSA_ALGORITHM) {
            return Err(RsaError::Malformed);
        }
        let key = RsaPublicKey::from_public_key_der(der).map_err(|_| refusal_of(der))?;
        check_size(key.n().bits() as usize)?;
        Ok(Self { key, der: der.to_vec() })
    }

    /// DER SubjectPublicKeyInfo.
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// RSA-OAEP with SHA-256 and MGF1-SHA-256 (RFC 8017, section 7.1), `label` bound in.
    pub(super) fn encrypt<R: CryptoRng + ?Sized>(
        &self,
        label: &[u8],
        plaintext: &[u8; 32],
        rng: &mut R,
    ) -> Result<Vec<u8>, RsaError> {
        self.key.encrypt(rng, oaep(label), plaintext).map_err(|_| RsaError::Malformed)
    }
}

/// The crate refuses over-long moduli itself; tell that from other faults by the length alone.
fn refusal_of(der: &[u8]) -> RsaError {
    if der.len() > 600 { RsaError::Size { bits: der.len() * 8 } } else { RsaError::Malformed }
}

fn check_size(bits: usize) -> Result<(), RsaError> {
    if (MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) { Ok(()) } else { Err(RsaError::Size { bits }) }
}

fn oaep(label: &[u8]) -> Oaep<Sha256> {
    let mut padding = Oaep::<Sha256>::new();
    padding.label = Some(label.into());
    padding
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} bits)", self.key.n().bits())
    }
}

/// A subscriber's RSA pair. Never stored: a new one is made for each run. Wiped on drop.
pub struct RsaPair {
    private: RsaPrivateKey,
    public: PublicKey,
}

impl RsaPair {
    /// Makes a pair; 3072 bits take a second or so, so make it ahead of need.
    ///
    /// # Errors
    /// [`RsaError::Size`] outside 2048 to 4096 bits, before any work.
    pub fn generate<R: CryptoRng + ?Sized>(bits: usize, rng: &mut R) -> Result<Self, RsaError> {
        check_size(bits)?;
        let private = RsaPrivateKey::new(rng, bits).map_err(|_| RsaError::Generate)?;
        let key = private.to_public_key();
        let der = key.to_public_key_der().map_err(|_| RsaError::Generate)?.into_vec();
        Ok(Self { private, public: PublicKey { key, der } })
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(super) fn decrypt<R: CryptoRng + ?Sized>(
        &self,
        label: &[u8],
        ciphertext: &[u8],
        rng: &mut R,
    ) -> Result<Zeroizing<[u8; 32]>, OpenError> {
        let mut opened = self.private.decrypt_blinded(rng, oaep(label), ciphertext).map_err(|_| OpenError)?;
        let bytes = <[u8; 32]>::try_from(opened.as_slice()).map(Zeroizing::new).map_err(|_| OpenError);
        opened.zeroize();
        bytes
    }
}

impl fmt::Debug for RsaPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RsaPair").field("public", &self.public).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn sizes_outside_2048_to_4096_bits_are_refused_before_any_work() {
        let mut rng = StdRng::seed_from_u64(1);
        for bits in [0, 512, 1024, 2047, 4097, 1 << 20] {
            assert_eq!(RsaPair::generate(bits, &mut rng).unwrap_err(), RsaError::Size { bits });
        }
    }

    #[test]
    fn a_small_malformed_or_foreign_public_key_is_refused() {
        let vectors = [
            include_str!("../../tests/vectors/rsa_public_1024.hex"),
            include_str!("../../tests/vectors/rsa_public_2047.hex"),
            include_str!("../../tests/vectors/rsa_public_4104.hex"),
            include_str!("../../tests/vectors/rsa_public_8192.hex"),
        ];
        for vector in vectors {
            let refused = PublicKey::from_der(&hex::decode(vector).unwrap()).unwrap_err();
            assert!(matches!(refused, RsaError::Size { .. }), "{refused:?}");
        }
        assert_eq!(PublicKey::from_der(&[]).unwrap_err(), RsaError::Malformed);
        assert_eq!(PublicKey::from_der(&[0x30; 300]).unwrap_err(), RsaError::Malformed);
        assert_eq!(PublicKey::from_der(&vec![0x30; 5000]).unwrap_err(), RsaError::Size { bits: 0 });
        // An Ed25519 key (RFC 8410, section 10.1).
        let ed25519 =
            hex::decode("302a300506032b657003210019bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1");
        assert_eq!(PublicKey::from_der(&ed25519.unwrap()).unwrap_err(), RsaError::Malformed);
    }

    #[test]
    fn debug_of_a_pair_shows_its_size_only() {
        let pair = RsaPair::generate(2048, &mut StdRng::seed_from_u64(7)).unwrap();
        assert_eq!(format!("{pair:?}"), "RsaPair { public: PublicKey(2048 bits), .. }");
    }
}
