//! The header: how to get from an unlock to the data key.
//!
//! ```text
//! magic 8 | version 1 | unlock kind 1 | memory 4 | passes 4 | lanes 4 | salt 16 | nonce 24 | wrapped data key 48 | SHA-256 32
//! ```
//! Numbers are big-endian. The data key is sealed with XChaCha20-Poly1305 under the key that comes from the unlock; all
//! fields before the nonce are associated data. The last 32 bytes are the SHA-256 of all before, in every version: they
//! tell a damaged header from a wrong passphrase, which the cipher alone could not.
//!
//! The file is replaced whole by a rename, so a change of passphrase happens or does not, and touches nothing else.

use std::{fs, io, path::Path};

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use rand_core::Rng;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{
    files,
    seal::{DATA_KEY_LEN, DataKey},
    unlock::{self, KdfCost, Unlock},
};
use crate::StoreError;

const MAGIC: &[u8; 8] = b"VLCSTORE";
const VERSION: u8 = 1;
const SALT_LEN: usize = 16;
const NONCE_LEN: usize = 24;
const WRAPPED_LEN: usize = DATA_KEY_LEN + 16;
const FIELDS_LEN: usize = 8 + 1 + 1 + 4 + 4 + 4 + SALT_LEN;
const CHECK_LEN: usize = 32;
const HEADER_LEN: usize = FIELDS_LEN + NONCE_LEN + WRAPPED_LEN + CHECK_LEN;

const PASSPHRASE: u8 = 1;
const KEY_FILE: u8 = 2;

/// A header whose bytes are whole. Whether an unlock fits is another question.
#[derive(Debug)]
pub(super) struct Header {
    kind: u8,
    cost: KdfCost,
    salt: [u8; SALT_LEN],
    nonce: [u8; NONCE_LEN],
    wrapped: [u8; WRAPPED_LEN],
}

impl Header {
    /// Wraps a data key for an unlock, under a fresh salt and nonce.
    pub(super) fn wrap(data_key: &DataKey, unlock: &Unlock, cost: KdfCost) -> Result<Self, StoreError> {
        let (kind, cost) = match unlock {
            Unlock::Passphrase(_) => (PASSPHRASE, cost),
            Unlock::KeyFile(_) => (KEY_FILE, KdfCost { memory_kib: 0, passes: 0, lanes: 0 }),
        };
        let mut header = Self { kind, cost, salt: [0; SALT_LEN], nonce: [0; NONCE_LEN], wrapped: [0; WRAPPED_LEN] };
        rand::rng().fill_bytes(&mut header.salt);
        rand::rng().fill_bytes(&mut header.nonce);
        let sealed = header
            .cipher(unlock)?
            .encrypt(&XNonce::from(header.nonce), Payload { msg: &data_key[..], aad: &header.fields() })
            .expect("32 bytes are far below the cipher's limit");
        header.wrapped.copy_from_slice(&sealed);
        Ok(header)
    }

    pub(super) fn unwrap_with(&self, unlock: &Unlock) -> Result<DataKey, StoreError> {
        let opened = self
            .cipher(unlock)?
            .decrypt(&XNonce::from(self.nonce), Payload { msg: &self.wrapped, aad: &self.fields() })
            .map_err(|_| StoreError::WrongPassphrase)?;
        let opened = Zeroizing::new(opened);
        let mut data_key: DataKey = Box::default();
        data_key.copy_from_slice(&opened);
        Ok(data_key)
    }

    /// Whether a key file opens it, and no passphrase.
    pub(super) fn opens_with_key_file(&self) -> bool {
        self.kind == KEY_FILE
    }

    /// The cost a passphrase of this store has, if it has one.
    pub(super) fn passphrase_cost(&self) -> Option<KdfCost> {
        (self.kind == PASSPHRASE).then_some(self.cost)
    }

    /// `None`: there is no header file.
    pub(super) fn load(dir: &Path) -> Result<Option<Self>, StoreError> {
        match fs::read(dir.join(files::HEADER)) {
            Ok(bytes) => Self::decode(&bytes).map(Some),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(fault) => Err(StoreError::io("read the key store's header")(fault)),
        }
    }

    pub(super) fn save(&self, dir: &Path) -> Result<(), StoreError> {
        files::replace(dir, files::HEADER, &self.encode()).map_err(StoreError::io("write the key store's header"))
    }

    fn cipher(&self, unlock: &Unlock) -> Result<XChaCha20Poly1305, StoreError> {
        let key = match (self.kind, unlock) {
            (PASSPHRASE, Unlock::Passphrase(text)) => unlock::from_passphrase(text, &self.salt, self.cost)?,
            (KEY_FILE, Unlock::KeyFile(path)) => unlock::from_key_file(path, &self.salt)?,
            (PASSPHRASE, _) => {
                return Err(StoreError::WrongUnlockKind { expected: "passphrase" });
            }
            _ => {
                return Err(StoreError::WrongUnlockKind { expected: "key file" });
            }
        };
        Ok(XChaCha20Poly1305::new((&**key).into()))
    }

    fn fields(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[VERSION, self.kind]);
        for number in [self.cost.memory_kib, self.cost.passes, self.cost.lanes] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&self.salt);
        out
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = self.fields();
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&self.wrapped);
        let check = Sha256::digest(&out);
        out.extend_from_slice(&check);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let damaged = || StoreError::damaged("the key store's header");
        let Some((body, check)) = bytes.split_last_chunk::<CHECK_LEN>() else {
            return Err(too_short(bytes));
        };
        if Sha256::digest(body)[..] != check[..] {
            return Err(if bytes.len() < HEADER_LEN { too_short(bytes) } else { damaged() });
        }
        let read = || {
            let (magic, rest) = body.split_first_chunk()?;
            let (&[version, kind], rest) = rest.split_first_chunk()?;
            Some((magic == MAGIC, version, kind, rest))
        };
        let (true, version, kind, rest) = read().ok_or_else(damaged)? else {
            return Err(damaged());
        };
        if version > VERSION {
            return Err(StoreError::NewerVersion { found: version, supported: VERSION });
        }
        let read = || {
            let (memory_kib, rest) = rest.split_first_chunk()?;
            let (passes, rest) = rest.split_first_chunk()?;
            let (lanes, rest) = rest.split_first_chunk()?;
            let (salt, rest) = rest.split_first_chunk()?;
            let (nonce, rest) = rest.split_first_chunk()?;
            let cost = KdfCost {
                memory_kib: u32::from_be_bytes(*memory_kib),
                passes: u32::from_be_bytes(*passes),
                lanes: u32::from_be_bytes(*lanes),
            };
            let known = matches!(kind, PASSPHRASE | KEY_FILE) && version == VERSION;
            known.then_some(Self { kind, cost, salt: *salt, nonce: *nonce, wrapped: *rest.as_array()? })
        };
        read().ok_or_else(damaged)
    }
}

fn too_short(bytes: &[u8]) -> StoreError {
    let (file, expected) = ("the key store's header".to_owned(), HEADER_LEN as u64);
    StoreError::Truncated { file, expected, found: bytes.len() as u64 }
}

/// For the fuzz target: whether it is a header, which must then be what is written for it. The checksum, which no fuzzer
/// finds, is made good.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn reads(body: &[u8]) -> bool {
    let whole = [body, &Sha256::digest(body)].concat();
    let read = Header::decode(&whole);
    if let Ok(header) = &read {
        assert_eq!(header.encode(), whole, "one header has one encoding");
    }
    let _ = Header::decode(body);
    read.is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QUICK: KdfCost = KdfCost { memory_kib: 8, passes: 1, lanes: 1 };

    fn data_key() -> DataKey {
        Box::new(Zeroizing::new([9; DATA_KEY_LEN]))
    }

    #[test]
    fn a_header_v1_still_opens() {
        let bytes = hex::decode(include_str!("../../tests/vectors/header_v1.hex").trim()).unwrap();
        let opened = Header::decode(&bytes).unwrap().unwrap_with(&Unlock::passphrase("tulip")).unwrap();
        assert_eq!(&opened[..], &data_key()[..]);
    }

    #[test]
    fn a_changed_cost_with_its_checksum_made_good_does_not_open() {
        let mut header = Header::wrap(&data_key(), &Unlock::passphrase("tulip"), QUICK).unwrap();
        header.cost.memory_kib = 16;
        let fault = Header::decode(&header.encode()).unwrap().unwrap_with(&Unlock::passphrase("tulip")).unwrap_err();
        assert!(matches!(fault, StoreError::WrongPassphrase));
    }

    #[test]
    fn a_made_up_cost_is_refused_before_any_memory_is_taken() {
        let mut header = Header::wrap(&data_key(), &Unlock::passphrase("tulip"), QUICK).unwrap();
        header.cost.memory_kib = u32::MAX;
        let fault = header.unwrap_with(&Unlock::passphrase("tulip")).unwrap_err();
        assert!(matches!(fault, StoreError::KdfCost { .. }));
    }

    #[test]
    fn a_header_of_a_newer_version_says_so_even_if_its_layout_is_another() {
        let mut bytes = [&MAGIC[..], &[2], b"whatever that will be"].concat();
        let check = Sha256::digest(&bytes);
        bytes.extend_from_slice(&check);
        let fault = Header::decode(&bytes).unwrap_err();
        assert!(matches!(fault, StoreError::NewerVersion { found: 2, supported: 1 }));
    }

    proptest! {
        #[test]
        fn any_flipped_bit_of_a_header_is_damage_and_not_a_wrong_passphrase(at in 0..HEADER_LEN, bit in 0..8u8) {
            let mut bytes = Header::wrap(&data_key(), &Unlock::passphrase("tulip"), QUICK).unwrap().encode();
            bytes[at] ^= 1 << bit;
            let fault = Header::decode(&bytes).unwrap_err();
            prop_assert!(matches!(fault, StoreError::Damaged { .. }), "expected damage");
        }

        #[test]
        fn a_shortened_header_is_truncated(keep in 0..HEADER_LEN) {
            let bytes = Header::wrap(&data_key(), &Unlock::passphrase("tulip"), QUICK).unwrap().encode();
            let fault = Header::decode(&bytes[..keep]).unwrap_err();
            prop_assert!(matches!(fault, StoreError::Truncated { .. }), "expected truncation");
        }
    }
}
