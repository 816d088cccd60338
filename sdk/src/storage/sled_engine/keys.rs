//! The keys of one partition in sled.

use std::ops::Range;

use crate::storage::{Place, StorageError};
use crate::stream::StreamPart;

/// Makes and reads the keys of one partition. Its name is written with its length, so that none is the beginning of
/// another's.
pub(super) struct Keys {
    name: Vec<u8>,
}

impl Keys {
    /// Says which layout it is.
    pub(super) const LAYOUT: &'static [u8] = b"v";
    /// Where the keys of all messages are that lie by themselves,
    pub(super) const MESSAGES: Range<&'static [u8]> = b"m"..b"n";
    /// and those of all blocks.
    pub(super) const BLOCKS: Range<&'static [u8]> = b"b"..b"c";
    /// What layout 1 had beside its messages.
    pub(super) const OLD_TALLY: &'static [u8] = b"#";
    pub(super) const OLD_TALLIES: &'static [u8] = b"s";

    pub(super) fn of(part: &StreamPart) -> Self {
        let name = part.to_string();
        // A stream id has at most some hundred bytes.
        let len = u16::try_from(name.len()).unwrap_or(u16::MAX);
        Self { name: [len.to_be_bytes().as_slice(), name.as_bytes()].concat() }
    }

    pub(super) fn message(&self, place: &Place) -> Vec<u8> {
        [b"m", self.name.as_slice(), &place.to_key()].concat()
    }

    pub(super) fn block(&self, id: u64) -> Vec<u8> {
        [b"b", self.name.as_slice(), &id.to_be_bytes()].concat()
    }

    /// In the index by publisher that layout 1 had.
    pub(super) fn old_by_publisher(&self, place: &Place) -> Vec<u8> {
        [b"p", self.name.as_slice(), place.publisher.as_bytes(), &place.to_key()].concat()
    }

    /// Whose message a key is.
    pub(super) fn read(key: &[u8]) -> Result<(StreamPart, Place), StorageError> {
        split(key).and_then(|(part, rest)| Some((part, Place::from_key(rest)?))).ok_or_else(damaged)
    }

    /// Which block of which partition a key is.
    pub(super) fn read_block(key: &[u8]) -> Result<(StreamPart, u64), StorageError> {
        split(key).and_then(|(part, rest)| Some((part, u64::from_be_bytes(rest.try_into().ok()?)))).ok_or_else(damaged)
    }
}

fn split(key: &[u8]) -> Option<(StreamPart, &[u8])> {
    let (len, rest) = key.get(1..)?.split_first_chunk()?;
    let (name, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    Some((std::str::from_utf8(name).ok()?.parse().ok()?, rest))
}

fn damaged() -> StorageError {
    StorageError::damaged("a key of its index makes no sense")
}
