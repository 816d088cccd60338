//! Encrypt-then-MAC: AES-256-CTR, then HMAC-SHA-256 over associated data, IV and ciphertext.
//!
//! ```text
//! okm 64   = HKDF-SHA-256(salt = "veilcast/1", ikm = key bytes, info = context)     (RFC 5869)
//! sealed   = iv 16 | AES-256-CTR(okm[0..32], iv, plaintext) | tag 32                 (SP 800-38A, counter 128 bits big-endian)
//! tag      = HMAC-SHA-256(okm[32..64], u64 len(ad) | ad | iv | ciphertext)           (RFC 2104)
//! ```

use aes::Aes256;
use ctr::CtrCore;
use ctr::cipher::{InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper};
use ctr::flavors::Ctr128BE;
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use rand_core::CryptoRng;
use sha2::Sha256;
use std::fmt;
use veilcast_key_store::{GroupKey, KeyScope};
use zeroize::{Zeroize, Zeroizing};

use super::context::Context;

const SALT: &[u8] = b"veilcast/1";
const IV_LEN: usize = 16;
const TAG_LEN: usize = 32;
/// Bytes by which sealing grows a plaintext: IV and tag.
pub const SEAL_OVERHEAD: usize = IV_LEN + TAG_LEN;

/// It did not open: wrong key, damaged bytes or foreign context, and deliberately nothing more precise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it does not open under this key: wrong key or damaged bytes")]
pub struct OpenError;

/// The two derived keys of one purpose.
pub(super) struct Sealer {
    aes: Aes256,
    mac: Hmac<Sha256>,
}

impl Sealer {
    pub(super) fn derive(ikm: &[u8; 32], context: &Context) -> Self {
        let mut okm = Zeroizing::new([0u8; 64]);
        Hkdf::<Sha256>::new(Some(SALT), ikm)
            .expand(context.bytes(), okm.as_mut_slice())
            .expect("64 bytes are within HKDF's limit of 255 blocks");
        let (enc, mac) = okm.split_at(32);
        Self {
            aes: Aes256::new_from_slice(enc).expect("half of the 64 bytes is an AES-256 key"),
            mac: <Hmac<Sha256> as KeyInit>::new_from_slice(mac).expect("HMAC takes a key of any length"),
        }
    }

    pub(super) fn seal<R: CryptoRng + ?Sized>(&self, ad: &[u8], plaintext: &[u8], rng: &mut R) -> Vec<u8> {
        let mut iv = [0; IV_LEN];
        rng.fill_bytes(&mut iv);
        let mut sealed = Vec::with_capacity(plaintext.len() + SEAL_OVERHEAD);
        sealed.extend_from_slice(&iv);
        sealed.extend_from_slice(plaintext);
        self.apply(&iv, &mut sealed[IV_LEN..]);
        let tag = self.authenticated(ad, &sealed).finalize().into_bytes();
        sealed.extend_from_slice(&tag);
        sealed
    }

    pub(super) fn open(&self, ad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let body_len = sealed.len().checked_sub(TAG_LEN).filter(|len| *len >= IV_LEN).ok_or(OpenError)?;
        let (body, tag) = sealed.split_at(body_len);
        self.authenticated(ad, body).verify_slice(tag).map_err(|_| OpenError)?;
        let (iv, ciphertext) = body.split_at(IV_LEN);
        let iv: &[u8; IV_LEN] = iv.try_into().map_err(|_| OpenError)?;
        let mut plaintext = ciphertext.to_vec();
        self.apply(iv, &mut plaintext);
        Ok(plaintext)
    }

    fn apply(&self, iv: &[u8; IV_LEN], data: &mut [u8]) {
        let core = CtrCore::<Aes256, Ctr128BE>::inner_iv_init(self.aes.clone(), iv.into());
        StreamCipherCoreWrapper::from_core(core).apply_keystream(data);
    }

    fn authenticated(&self, ad: &[u8], body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        mac.update(&(ad.len() as u64).to_be_bytes());
        mac.update(ad);
        mac.update(body);
        mac
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer { .. }")
    }
}

/// Seals and opens the payloads of one group key in one (publisher, stream). Deriving it costs a few microseconds; keep it.
#[derive(Debug)]
pub struct MessageCipher(Sealer);

impl MessageCipher {
    /// Derives the payload keys: context `"veilcast/1/payload", publisher, stream, key id`.
    pub fn new(scope: &KeyScope, key: &GroupKey) -> Self {
        let context = Context::of("veilcast/1/payload").scope(scope).key(key.id());
        Self(Sealer::derive(key.expose(), &context))
    }

    /// Seals a payload; `header` is the message's exact header bytes.
    pub fn seal<R: CryptoRng + ?Sized>(&self, header: &[u8], plaintext: &[u8], rng: &mut R) -> Vec<u8> {
        self.0.seal(header, plaintext, rng)
    }

    /// Opens a payload.
    ///
    /// # Errors
    /// [`OpenError`], the same for every cause.
    pub fn open(&self, header: &[u8], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        self.0.open(header, sealed)
    }
}

/// The 32 bytes inside a sealed key; the temporary copy is wiped.
pub(super) fn open_key_bytes(sealer: &Sealer, ad: &[u8], sealed: &[u8]) -> Result<Zeroizing<[u8; 32]>, OpenError> {
    let mut opened = sealer.open(ad, sealed)?;
    let bytes = <[u8; 32]>::try_from(opened.as_slice()).map(Zeroizing::new).map_err(|_| OpenError);
    opened.zeroize();
    bytes
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use veilcast_key_store::KeyId;

    use super::*;

    fn cipher(stream: &str, byte: u8) -> MessageCipher {
        let key = GroupKey::new(KeyId::new("k").unwrap(), &[byte; 32]).unwrap();
        MessageCipher::new(&KeyScope::new([1; 20], stream), &key)
    }

    fn rng() -> StdRng {
        StdRng::seed_from_u64(1)
    }

    #[test]
    fn two_encryptions_differ_and_each_opens_even_empty_or_a_mebibyte() {
        let mut rng = rng();
        for payload in [Vec::new(), b"hello".to_vec(), vec![7; 1 << 20]] {
            let (one, two) =
                (cipher("s", 1).seal(b"h", &payload, &mut rng), cipher("s", 1).seal(b"h", &payload, &mut rng));
            assert_ne!(one, two);
            assert_eq!(one.len(), payload.len() + SEAL_OVERHEAD);
            assert_eq!(cipher("s", 1).open(b"h", &one).unwrap(), payload);
            assert_eq!(cipher("s", 1).open(b"h", &two).unwrap(), payload);
        }
    }

    #[test]
    fn one_flipped_bit_anywhere_is_an_error_never_output() {
        let sealed = cipher("s", 1).seal(b"header", b"payload", &mut rng());
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(cipher("s", 1).open(b"header", &damaged), Err(OpenError), "bit {bit}");
        }
        for cut in 0..sealed.len() {
            assert_eq!(cipher("s", 1).open(b"header", &sealed[..cut]), Err(OpenError), "cut at {cut}");
        }
    }

    #[test]
    fn another_key_stream_or_header_does_not_open_it() {
        let sealed = cipher("s", 1).seal(b"header", b"payload", &mut rng());
        assert_eq!(cipher("s", 2).open(b"header", &sealed), Err(OpenError));
        assert_eq!(cipher("t", 1).open(b"header", &sealed), Err(OpenError));
        assert_eq!(cipher("s", 1).open(b"headex", &sealed), Err(OpenError));
    }

    #[test]
    fn debug_of_a_cipher_shows_nothing() {
        assert_eq!(format!("{:?}", cipher("s", 1)), "MessageCipher(Sealer { .. })");
    }
}
