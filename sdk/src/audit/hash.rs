//! The chain's hashes: SHA-256 under a tag, every part with its length.

use sha2::{Digest, Sha256};

use crate::identity::UserId;

const LOG: &str = "veilcast/1/audit-log";
const ENTRY: &str = "veilcast/1/audit-entry";

/// What the first entry of a log follows.
pub(super) fn beginning(publisher: UserId, log: &[u8; 16]) -> [u8; 32] {
    framed(LOG, &[publisher.as_bytes(), log])
}

/// The hash of an entry behind another.
pub(super) fn of_entry(before: &[u8; 32], content: &[u8]) -> [u8; 32] {
    framed(ENTRY, &[before, content])
}

/// `SHA-256( u8 len(tag) | tag | for each part: u64 len(part) | part )`, numbers big-endian.
pub(super) fn framed(tag: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update([tag.len() as u8]);
    hash.update(tag);
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}
