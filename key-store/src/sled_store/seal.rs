//! Seals one record to its place.
//!
//! ```text
//! version 1 | nonce 24 | XChaCha20-Poly1305 ciphertext and tag
//! ```
//! The key is the store's data key, the nonce random. Bound in as associated data are a domain tag, the version and every
//! part of the place, each with its length: a record moved, or put back under another name, does not open.

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use rand_core::Rng;
use zeroize::Zeroizing;

use crate::{StoreError, ledger::Plain};

pub(crate) const DATA_KEY_LEN: usize = 32;
pub(crate) type DataKey = Box<Zeroizing<[u8; DATA_KEY_LEN]>>;

const TAG: &[u8] = b"veilcast key-store record";
const VERSION: u8 = 1;
const NONCE_LEN: usize = 24;
const AUTH_LEN: usize = 16;

/// How much longer a sealed record is than what it holds.
pub(super) const OVERHEAD: usize = 1 + NONCE_LEN + AUTH_LEN;

pub(super) struct Seal(XChaCha20Poly1305);

impl Seal {
    pub(super) fn new(key: &DataKey) -> Self {
        Self(XChaCha20Poly1305::new((&***key).into()))
    }

    pub(super) fn close(&self, place: &[&[u8]], plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        rand::rng().fill_bytes(&mut nonce);
        let aad = bound(place, VERSION);
        let sealed = self
            .0
            .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: &aad })
            .expect("a record is far below the cipher's 256 GiB");
        [&[VERSION], &nonce[..], &sealed].concat()
    }

    /// `what` names the record in the error.
    pub(super) fn open(&self, place: &[&[u8]], sealed: &[u8], what: &str) -> Result<Plain, StoreError> {
        let damaged = || StoreError::damaged(what);
        let (version, rest) = sealed.split_first().ok_or_else(damaged)?;
        if *version > VERSION {
            return Err(StoreError::NewerVersion { found: *version, supported: VERSION });
        }
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(damaged)?;
        let aad = bound(place, *version);
        let opened = self.0.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: &aad });
        opened.map(Zeroizing::new).map_err(|_| damaged())
    }
}

fn bound(place: &[&[u8]], version: u8) -> Vec<u8> {
    let mut aad = Vec::with_capacity(64 + place.iter().map(|part| 8 + part.len()).sum::<usize>());
    for part in [TAG, &[version]].iter().chain(place) {
        aad.extend_from_slice(&(part.len() as u64).to_be_bytes());
        aad.extend_from_slice(part);
    }
    aad
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seal(byte: u8) -> Seal {
        Seal::new(&Box::new(Zeroizing::new([byte; DATA_KEY_LEN])))
    }

    #[test]
    fn a_sealed_record_v1_still_opens() {
        let sealed = hex::decode(include_str!("../../tests/vectors/sealed_record_v1.hex").trim()).unwrap();
        assert_eq!(&**seal(7).open(&[b"t", b"place"], &sealed, "it").unwrap(), b"kept");
    }

    #[test]
    fn a_record_of_a_newer_version_says_so() {
        let mut sealed = seal(1).close(&[b"t", b"place"], b"kept");
        sealed[0] = 2;
        let fault = seal(1).open(&[b"t", b"place"], &sealed, "it").unwrap_err();
        assert!(matches!(fault, StoreError::NewerVersion { found: 2, supported: 1 }));
    }

    #[test]
    fn the_same_contents_never_look_the_same() {
        assert_ne!(seal(1).close(&[b"t"], b"kept"), seal(1).close(&[b"t"], b"kept"));
    }

    proptest! {
        #[test]
        fn a_record_opens_in_its_place_and_nowhere_else(plain: Vec<u8>, place: Vec<u8>, other: Vec<u8>) {
            let sealed = seal(1).close(&[b"t", &place], &plain);
            prop_assert_eq!(sealed.len(), plain.len() + OVERHEAD);
            prop_assert_eq!(&**seal(1).open(&[b"t", &place], &sealed, "it").unwrap(), &plain[..]);
            prop_assert!(seal(2).open(&[b"t", &place], &sealed, "it").is_err());
            prop_assert!(seal(1).open(&[b"u", &place], &sealed, "it").is_err());
            prop_assert!(seal(1).open(&[&[b"t", &place[..]].concat()], &sealed, "it").is_err());
            if other != place {
                prop_assert!(seal(1).open(&[b"t", &other], &sealed, "it").is_err());
            }
        }

        #[test]
        fn any_flipped_bit_is_an_error_and_never_output(plain: Vec<u8>, at: prop::sample::Index, bit in 0..8u8) {
            let mut sealed = seal(1).close(&[b"t"], &plain);
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            let fault = seal(1).open(&[b"t"], &sealed, "it").unwrap_err();
            let refused = matches!(fault, StoreError::Damaged { .. } | StoreError::NewerVersion { .. });
            prop_assert!(refused, "unexpected: {fault}");
        }

        #[test]
        fn a_shortened_record_is_damaged(plain: Vec<u8>, keep: prop::sample::Index) {
            let sealed = seal(1).close(&[b"t"], &plain);
            let fault = seal(1).open(&[b"t"], &sealed[..keep.index(sealed.len())], "it").unwrap_err();
            prop_assert!(matches!(fault, StoreError::Damaged { .. }), "expected damage");
        }
    }
}
