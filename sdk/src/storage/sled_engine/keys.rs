//! The keys of one partition in sled.

use crate::identity::UserId;
use crate::storage::{Place, StorageError};
use crate::stream::StreamPart;

/// Makes and reads the keys of one partition. Its name is written with its length, so that none is the beginning of
/// another's.
pub(super) struct Keys {
    messages: Vec<u8>,
    publishers: Vec<u8>,
}

impl Keys {
    /// All keys of messages are from here...
    pub(super) const FIRST: &'static [u8] = b"m";
    /// ...to here, left out.
    pub(super) const END: &'static [u8] = b"n";
    /// What stands between the partition and the place in the index by publisher.
    pub(super) const PUBLISHER_LEN: usize = UserId::LEN;

    pub(super) fn of(part: &StreamPart) -> Self {
        let name = part.to_string();
        let named = |table: u8| {
            // A stream id has at most some hundred bytes.
            let len = u16::try_from(name.len()).unwrap_or(u16::MAX);
            [&[table], len.to_be_bytes().as_slice(), name.as_bytes()].concat()
        };
        Self { messages: named(b'm'), publishers: named(b'p') }
    }

    /// What the keys of all messages begin with.
    pub(super) fn messages(&self) -> &[u8] {
        &self.messages
    }

    pub(super) fn message(&self, place: &Place) -> Vec<u8> {
        [self.messages.as_slice(), &place.to_key()].concat()
    }

    /// What the index of one publisher begins with.
    pub(super) fn publisher(&self, publisher: UserId) -> Vec<u8> {
        [self.publishers.as_slice(), publisher.as_bytes()].concat()
    }

    pub(super) fn by_publisher(&self, place: &Place) -> Vec<u8> {
        self.indexed(place.publisher, place)
    }

    /// Where a place stands in the index of a publisher, be it his or not.
    pub(super) fn indexed(&self, publisher: UserId, place: &Place) -> Vec<u8> {
        [self.publisher(publisher).as_slice(), &place.to_key()].concat()
    }

    /// Behind all messages of this partition.
    pub(super) fn behind(&self) -> Vec<u8> {
        [self.messages.as_slice(), &[0xff; Place::LEN + 1]].concat()
    }

    pub(super) fn place_of(&self, key: &[u8]) -> Result<Place, StorageError> {
        self.place_behind(key, 0)
    }

    /// The place in a key of this partition, so many bytes behind its beginning.
    pub(super) fn place_behind(&self, key: &[u8], cut: usize) -> Result<Place, StorageError> {
        key.get(self.messages.len() + cut..).and_then(Place::from_key).ok_or_else(damaged)
    }

    /// Whose message a key is.
    pub(super) fn read(key: &[u8]) -> Result<(StreamPart, Place), StorageError> {
        let read = || {
            let (len, rest) = key.get(1..)?.split_first_chunk()?;
            let (name, place) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
            Some((std::str::from_utf8(name).ok()?.parse().ok()?, Place::from_key(place)?))
        };
        read().ok_or_else(damaged)
    }
}

fn damaged() -> StorageError {
    StorageError::damaged("a key of its index makes no sense")
}
