//! The head of a portable file: how to get from the passphrase to the key of this one file.
//!
//! ```text
//! magic 8 | version 1 | length 2 | kind 1 | memory 4 | passes 4 | lanes 4 | salt 16 | prefix 19
//!         | nonce 24 | wrapped file key 48 | SHA-256 32
//! ```
//! Numbers are big-endian; `length` is that of all of it. The file key is random and sealed with XChaCha20-Poly1305 under the
//! key that Argon2id makes of the passphrase; all fields before the nonce are associated data. The last 32 bytes are the
//! SHA-256 of all before, in every version: they tell damage from a wrong passphrase and from a newer version.

use std::io::Read;

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use rand_core::Rng;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{Kind, PortableError};
use crate::{
    KdfCost, StoreError,
    sled_store::{DATA_KEY_LEN, DataKey, from_passphrase},
};

pub(super) const MAGIC: &[u8; 8] = b"VLCSAVED";
const VERSION: u8 = 1;
const SALT_LEN: usize = 16;
/// What a nonce of the stream begins with; see [`super::sealed`].
pub(super) const PREFIX_LEN: usize = 19;
const NONCE_LEN: usize = 24;
const WRAPPED_LEN: usize = DATA_KEY_LEN + 16;
const FIELDS_LEN: usize = START_LEN + 1 + 4 + 4 + 4 + SALT_LEN + PREFIX_LEN;
const CHECK_LEN: usize = 32;
pub(super) const HEADER_LEN: usize = FIELDS_LEN + NONCE_LEN + WRAPPED_LEN + CHECK_LEN;
/// Magic, version and length: where they stand is the same in every version.
const START_LEN: usize = MAGIC.len() + 1 + 2;
/// The longest header any version may have.
const MAX_HEADER_LEN: usize = 4096;

/// The most memory the passphrase of a file may take, KiB: 1 GiB. The file may come from anybody.
const MAX_MEMORY_KIB: u32 = 1024 * 1024;
/// The most memory times passes, KiB: a few seconds of work.
const MAX_WORK_KIB: u64 = 4 * 1024 * 1024;
const MAX_LANES: u32 = 16;

/// A header whose bytes are whole. Whether a passphrase fits is another question.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) kind: Kind,
    cost: KdfCost,
    salt: [u8; SALT_LEN],
    pub(super) prefix: [u8; PREFIX_LEN],
    nonce: [u8; NONCE_LEN],
    wrapped: [u8; WRAPPED_LEN],
}

impl Header {
    /// A new header, and the key of the file it begins.
    pub(super) fn make(kind: Kind, passphrase: &str, cost: KdfCost) -> Result<(Self, DataKey), PortableError> {
        let mut file_key: DataKey = Box::default();
        let (salt, prefix, nonce, wrapped) = ([0; SALT_LEN], [0; PREFIX_LEN], [0; NONCE_LEN], [0; WRAPPED_LEN]);
        let mut header = Self { kind, cost, salt, prefix, nonce, wrapped };
        let mut rng = rand::rng();
        rng.fill_bytes(&mut file_key[..]);
        rng.fill_bytes(&mut header.salt);
        rng.fill_bytes(&mut header.prefix);
        rng.fill_bytes(&mut header.nonce);
        let sealed = header
            .cipher(passphrase)?
            .encrypt(&XNonce::from(header.nonce), Payload { msg: &file_key[..], aad: &header.fields() })
            .expect("32 bytes are far below the cipher's limit");
        header.wrapped.copy_from_slice(&sealed);
        Ok((header, file_key))
    }

    pub(super) fn unwrap_with(&self, passphrase: &str) -> Result<DataKey, PortableError> {
        let opened = self
            .cipher(passphrase)?
            .decrypt(&XNonce::from(self.nonce), Payload { msg: &self.wrapped, aad: &self.fields() })
            .map_err(|_| PortableError::WrongPassphrase)?;
        let opened = Zeroizing::new(opened);
        let mut file_key: DataKey = Box::default();
        file_key.copy_from_slice(&opened);
        Ok(file_key)
    }

    fn cipher(&self, passphrase: &str) -> Result<XChaCha20Poly1305, PortableError> {
        check_cost(self.cost)?;
        let key = from_passphrase(passphrase, &self.salt, self.cost).map_err(|error| match error {
            StoreError::KdfCost { rule } => PortableError::Cost { rule },
            other => other.into(),
        })?;
        Ok(XChaCha20Poly1305::new((&**key).into()))
    }

    fn fields(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.extend_from_slice(MAGIC);
        out.push(VERSION);
        out.extend_from_slice(&(HEADER_LEN as u16).to_be_bytes());
        out.push(self.kind.code());
        for number in [self.cost.memory_kib, self.cost.passes, self.cost.lanes] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(&self.prefix);
        out
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = self.fields();
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&self.wrapped);
        let check = Sha256::digest(&out);
        out.extend_from_slice(&check);
        out
    }

    /// Reads a header and not a byte more.
    pub(super) fn read(input: &mut impl Read) -> Result<Self, PortableError> {
        let mut bytes = vec![0; START_LEN];
        let got = super::sealed::fill(input, &mut bytes)?;
        if !bytes[..got].iter().zip(MAGIC).all(|(found, expected)| found == expected) {
            return Err(PortableError::NotPortable);
        }
        if got < START_LEN {
            return Err(PortableError::Truncated);
        }
        let len = usize::from(u16::from_be_bytes([bytes[START_LEN - 2], bytes[START_LEN - 1]]));
        if !(START_LEN + CHECK_LEN..=MAX_HEADER_LEN).contains(&len) {
            return Err(DAMAGED);
        }
        bytes.resize(len, 0);
        if super::sealed::fill(input, &mut bytes[START_LEN..])? < len - START_LEN {
            return Err(PortableError::Truncated);
        }
        Self::decode(&bytes)
    }

    fn decode(bytes: &[u8]) -> Result<Self, PortableError> {
        let (body, check) = bytes.split_last_chunk::<CHECK_LEN>().ok_or(DAMAGED)?;
        if Sha256::digest(body)[..] != check[..] {
            return Err(DAMAGED);
        }
        let version = body[MAGIC.len()];
        if version > VERSION {
            return Err(PortableError::NewerVersion { found: version, supported: VERSION });
        }
        let read = || {
            let (&[kind], rest) = body.get(START_LEN..)?.split_first_chunk()?;
            let (memory_kib, rest) = rest.split_first_chunk()?;
            let (passes, rest) = rest.split_first_chunk()?;
            let (lanes, rest) = rest.split_first_chunk()?;
            let (salt, rest) = rest.split_first_chunk()?;
            let (prefix, rest) = rest.split_first_chunk()?;
            let (nonce, rest) = rest.split_first_chunk()?;
            let cost = KdfCost {
                memory_kib: u32::from_be_bytes(*memory_kib),
                passes: u32::from_be_bytes(*passes),
                lanes: u32::from_be_bytes(*lanes),
            };
            let (kind, wrapped) = (Kind::of_code(kind)?, *rest.as_array()?);
            (version == VERSION).then_some(Self { kind, cost, salt: *salt, prefix: *prefix, nonce: *nonce, wrapped })
        };
        read().ok_or(DAMAGED)
    }
}

const DAMAGED: PortableError = PortableError::damaged("its head");

fn check_cost(cost: KdfCost) -> Result<(), PortableError> {
    let work = u64::from(cost.memory_kib) * u64::from(cost.passes);
    if cost.memory_kib > MAX_MEMORY_KIB || work > MAX_WORK_KIB || cost.lanes > MAX_LANES {
        let rule = format!("at most {MAX_MEMORY_KIB} KiB, {MAX_WORK_KIB} KiB times passes and {MAX_LANES} lanes");
        return Err(PortableError::Cost { rule });
    }
    Ok(())
}

/// For the fuzz target: whether it is a header, which must then be what is written for it. The checksum, which no fuzzer
/// finds, is made good.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn reads(body: &[u8]) -> bool {
    let whole = [body, &Sha256::digest(body)].concat();
    let read = Header::read(&mut &whole[..]);
    if let Ok(header) = &read {
        let encoded = header.encode();
        assert_eq!(encoded, whole[..encoded.len()], "one header has one encoding");
    }
    read.is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QUICK: KdfCost = KdfCost { memory_kib: 8, passes: 1, lanes: 1 };

    fn made() -> Vec<u8> {
        Header::make(Kind::Backup, "tulip", QUICK).unwrap().0.encode()
    }

    fn read(bytes: &[u8]) -> Result<Header, PortableError> {
        Header::read(&mut &bytes[..])
    }

    fn good_sum(bytes: &mut [u8]) {
        let body = bytes.len() - CHECK_LEN;
        let check = Sha256::digest(&bytes[..body]);
        bytes[body..].copy_from_slice(&check);
    }

    #[test]
    fn a_header_opens_with_its_passphrase_and_with_no_other() {
        let (header, key) = Header::make(Kind::Keys, "tulip", QUICK).unwrap();
        let header = read(&header.encode()).unwrap();
        assert_eq!(header.kind, Kind::Keys);
        assert_eq!(&header.unwrap_with("tulip").unwrap()[..], &key[..]);
        assert!(matches!(header.unwrap_with("rose"), Err(PortableError::WrongPassphrase)));
    }

    #[test]
    fn no_two_files_share_a_salt_a_key_or_a_nonce() {
        let ((a, a_key), (b, b_key)) =
            (Header::make(Kind::Keys, "t", QUICK).unwrap(), Header::make(Kind::Keys, "t", QUICK).unwrap());
        assert!(a.salt != b.salt && a.prefix != b.prefix && a.nonce != b.nonce && a_key[..] != b_key[..]);
    }

    #[test]
    fn a_made_up_cost_is_refused_before_any_memory_is_taken_and_also_when_writing() {
        let costs = [(u32::MAX, 1, 1), (MAX_MEMORY_KIB, 5, 1), (8 * 64, 1, 64), (0, 1, 1), (8, 0, 1)];
        for (memory_kib, passes, lanes) in costs {
            let cost = KdfCost { memory_kib, passes, lanes };
            assert!(matches!(Header::make(Kind::Keys, "t", cost), Err(PortableError::Cost { .. })), "{cost:?}");
            let (mut header, _) = Header::make(Kind::Keys, "t", QUICK).unwrap();
            header.cost = cost;
            let found = read(&header.encode()).unwrap();
            assert!(matches!(found.unwrap_with("t"), Err(PortableError::Cost { .. })), "{cost:?}");
        }
    }

    #[test]
    fn a_header_of_a_newer_version_says_so_even_if_its_layout_is_another() {
        let mut bytes = [&MAGIC[..], &[2, 0, 80], &[7; 80 - START_LEN]].concat();
        good_sum(&mut bytes);
        assert!(matches!(read(&bytes), Err(PortableError::NewerVersion { found: 2, supported: 1 })));
    }

    #[test]
    fn a_field_changed_with_its_checksum_made_good_does_not_open() {
        for at in START_LEN..FIELDS_LEN {
            let mut bytes = made();
            bytes[at] ^= 1;
            good_sum(&mut bytes);
            let opened = read(&bytes).and_then(|header| header.unwrap_with("tulip"));
            assert!(opened.is_err(), "byte {at}");
        }
    }

    #[test]
    fn what_begins_otherwise_is_no_portable_file() {
        for bytes in [&b"{\"version\":3}"[..], b"VLCSTORE and more", b"x"] {
            assert!(matches!(read(bytes), Err(PortableError::NotPortable)));
        }
    }

    proptest! {
        #[test]
        fn any_flipped_bit_of_a_header_is_damage_and_neither_a_wrong_passphrase_nor_a_newer_version(
            at in 0..HEADER_LEN, bit in 0..8u8,
        ) {
            let mut bytes = made();
            bytes[at] ^= 1 << bit;
            bytes.extend_from_slice(&[0; MAX_HEADER_LEN]); // the file goes on
            let fault = read(&bytes).unwrap_err();
            let refused = matches!(fault, PortableError::Damaged { .. } | PortableError::NotPortable);
            prop_assert!(refused && (at < MAGIC.len()) == matches!(fault, PortableError::NotPortable), "{}", fault);
        }

        #[test]
        fn a_shortened_header_is_truncated(keep in 0..HEADER_LEN) {
            prop_assert!(matches!(read(&made()[..keep]), Err(PortableError::Truncated)));
        }
    }
}
