//! Where the index's records lie, and what is in them.
//!
//! ```text
//! root 8 | m                                how far the index is
//! root 8 | e | stream 16                    when the stream was made and deleted: changes that leave nothing to anybody
//! root 8 | e | stream 16 | user 20          what a user had on the stream, change by change
//! root 8 | j | block 8 | stream 16 [| user 20]   which of those a recent block changed
//! root 8 | f | stream id                    a stream that is followed, and from which block on without a hole
//! ```
//! `root` is the start of SHA-256 over chain id and contract, so that one store serves several registries; `stream` that over
//! the stream id. Numbers in places are big-endian, so they lie in their order. Values are protobuf with a version, but the
//! last: `version 1 | block 8`.

use std::fmt;

use prost::Message;
use sha2::{Digest, Sha256};
use veilcast_key_store::RecordChange;

use super::{Block, Expiration, Held, Position, Read};
use crate::identity::UserId;
use crate::stream::StreamId;

pub(super) const TABLE: &str = "chain";
const VERSION: u32 = 1;
const FOLLOWED_VERSION: u8 = 1;
/// Changes kept of one entry: beyond it the oldest go, and a user's time seems to have begun later than it did.
const MAX_CHANGES: usize = 32;

/// What the places of one registry's records begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Root([u8; 8]);

/// A stream, in 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in super::super) struct StreamKey([u8; 16]);

impl StreamKey {
    pub(in super::super) fn of(stream: &StreamId) -> Self {
        let digest: [u8; 32] = Sha256::digest(stream.as_str()).into();
        let (key, _) = digest.split_first_chunk().expect("16 of 32 bytes");
        Self(*key)
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Whose changes: a user's on a stream, or those of the stream itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) stream: StreamKey,
    pub(super) user: Option<UserId>,
}

impl Root {
    pub(super) fn new(chain_id: u64, contract: UserId) -> Self {
        let digest: [u8; 32] =
            Sha256::new().chain_update(chain_id.to_be_bytes()).chain_update(contract.as_bytes()).finalize().into();
        let (root, _) = digest.split_first_chunk().expect("eight of 32 bytes");
        Self(*root)
    }

    pub(super) fn meta(self) -> Vec<u8> {
        self.under(b"m", &[])
    }

    pub(super) fn entry(self, place: Place) -> Vec<u8> {
        self.under(b"e", &place.bytes())
    }

    pub(super) fn entries(self) -> Vec<u8> {
        self.under(b"e", &[])
    }

    /// All entries of one stream, its own first.
    pub(super) fn stream(self, stream: StreamKey) -> Vec<u8> {
        self.under(b"e", &stream.0)
    }

    pub(super) fn journal(self) -> Vec<u8> {
        self.under(b"j", &[])
    }

    pub(super) fn journal_row(self, block: u64, place: Place) -> Vec<u8> {
        self.under(b"j", &[block.to_be_bytes().as_slice(), &place.bytes()].concat())
    }

    /// Behind all rows of this block and those before it.
    pub(super) fn journal_after(self, block: u64) -> Vec<u8> {
        self.under(b"j", &[block.to_be_bytes().as_slice(), &[0xff; 40]].concat())
    }

    pub(super) fn followed(self) -> Vec<u8> {
        self.under(b"f", &[])
    }

    pub(super) fn followed_stream(self, stream: &StreamId) -> Vec<u8> {
        self.under(b"f", stream.as_str().as_bytes())
    }

    fn under(self, kind: &[u8; 1], rest: &[u8]) -> Vec<u8> {
        [&self.0[..], kind, rest].concat()
    }

    /// What stands in a row of the journal.
    pub(super) fn read_journal(self, key: &[u8]) -> Option<(u64, Place)> {
        let (block, place) = key.strip_prefix(self.journal().as_slice())?.split_first_chunk()?;
        Some((u64::from_be_bytes(*block), Place::read(place)?))
    }

    pub(super) fn read_entry(self, key: &[u8]) -> Option<Place> {
        Place::read(key.strip_prefix(self.entries().as_slice())?)
    }

    /// The record of a stream that is followed.
    pub(super) fn followed_row(self, stream: &StreamId, since: u64) -> RecordChange {
        (self.followed_stream(stream), Some([&[FOLLOWED_VERSION][..], &since.to_be_bytes()].concat()))
    }

    /// The block in that record.
    pub(super) fn read_since(value: &[u8]) -> Option<u64> {
        let since = value.strip_prefix(&[FOLLOWED_VERSION])?;
        since.try_into().ok().map(u64::from_be_bytes)
    }

    pub(super) fn read_followed(self, key: &[u8]) -> Option<StreamId> {
        let text = std::str::from_utf8(key.strip_prefix(self.followed().as_slice())?).ok()?;
        StreamId::new(text).ok()
    }
}

impl Place {
    fn bytes(&self) -> Vec<u8> {
        let user = self.user.as_ref().map_or(&[][..], |user| user.as_bytes());
        [&self.stream.0[..], user].concat()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (stream, user) = bytes.split_first_chunk()?;
        let user = if user.is_empty() { None } else { Some(UserId::try_from(user).ok()?) };
        Some(Self { stream: StreamKey(*stream), user })
    }
}

/// Something that can be read back, or else the store is damaged or newer.
pub(super) trait Stored: Message + Default {
    fn version(&self) -> u32;

    fn parse(bytes: &[u8]) -> Option<Self> {
        Self::decode(bytes).ok().filter(|record| record.version() == VERSION)
    }
}

/// A user's changes, or a stream's, in the order of the chain.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Entry {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(message, repeated, tag = "2")]
    changes: Vec<Change>,
    #[prost(message, optional, tag = "3")]
    read: Option<ReadRecord>,
}

/// A change.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Change {
    #[prost(uint64, tag = "1")]
    block: u64,
    #[prost(uint32, tag = "2")]
    index: u32,
    #[prost(uint64, tag = "3")]
    publish: u64,
    #[prost(uint64, tag = "4")]
    subscribe: u64,
    #[prost(uint64, optional, tag = "5")]
    pub(super) time: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct ReadRecord {
    #[prost(uint64, tag = "1")]
    since: u64,
    #[prost(uint64, tag = "2")]
    time: u64,
    #[prost(uint64, tag = "3")]
    as_of: u64,
    #[prost(uint64, tag = "4")]
    publish: u64,
    #[prost(uint64, tag = "5")]
    subscribe: u64,
}

impl Change {
    pub(super) fn new(at: Position, time: Option<u64>, held: Held) -> Self {
        let (publish, subscribe) = (held.publish.number(), held.subscribe.number());
        Self { block: at.block, index: at.index, publish, subscribe, time }
    }

    pub(super) fn at(&self) -> Position {
        Position { block: self.block, index: self.index }
    }

    pub(super) fn held(&self) -> Held {
        Held { publish: Expiration::at(self.publish), subscribe: Expiration::at(self.subscribe) }
    }
}

impl Entry {
    pub(super) fn new() -> Self {
        Self { version: VERSION, ..Self::default() }
    }

    pub(super) fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Puts a change where it belongs; `false` when it is there already.
    pub(super) fn insert(&mut self, change: Change) -> bool {
        match self.changes.binary_search_by_key(&change.at(), Change::at) {
            Ok(place) if self.changes[place].held() == change.held() => return false,
            Ok(place) => self.changes[place] = change,
            Err(place) => self.changes.insert(place, change),
        }
        let more = self.changes.len().saturating_sub(MAX_CHANGES);
        self.changes.drain(..more);
        true
    }

    /// Notes the times of blocks, where they were not known.
    pub(super) fn date(&mut self, time_of: impl Fn(u64) -> Option<u64>) -> bool {
        let mut dated = false;
        for change in self.changes.iter_mut().filter(|change| change.time.is_none()) {
            change.time = time_of(change.block);
            dated |= change.time.is_some();
        }
        dated
    }

    /// Forgets what was after `block`; `false` where nothing was.
    pub(super) fn cut(&mut self, block: u64) -> bool {
        let before = (self.changes.len(), self.read);
        self.changes.retain(|change| change.block <= block);
        self.read = self.read.filter(|read| read.as_of <= block);
        before != (self.changes.len(), self.read)
    }

    pub(super) fn read(&self) -> Option<Read> {
        self.read.map(|read| Read {
            since: read.since,
            time: read.time,
            as_of: read.as_of,
            held: Held { publish: Expiration::at(read.publish), subscribe: Expiration::at(read.subscribe) },
        })
    }

    pub(super) fn set_read(&mut self, read: Read) {
        let Read { since, time, as_of, held } = read;
        let (publish, subscribe) = (held.publish.number(), held.subscribe.number());
        self.read = Some(ReadRecord { since, time, as_of, publish, subscribe });
    }
}

impl Stored for Entry {
    fn version(&self) -> u32 {
        self.version
    }
}

/// How far the index is.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Meta {
    #[prost(uint32, tag = "1")]
    version: u32,
    /// The block that it began with.
    #[prost(uint64, tag = "2")]
    pub(super) start: u64,
    /// Blocks read, the last of them last.
    #[prost(message, repeated, tag = "3")]
    marks: Vec<Mark>,
    /// Entries on record.
    #[prost(uint64, tag = "4")]
    pub(super) entries: u64,
    /// The last block in which the contract was upgraded.
    #[prost(uint64, tag = "5")]
    pub(super) upgraded: u64,
    /// The first block of which something found no room.
    #[prost(uint64, optional, tag = "6")]
    pub(super) overflow: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct Mark {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(bytes = "vec", tag = "2")]
    hash: Vec<u8>,
    #[prost(uint64, tag = "3")]
    time: u64,
}

impl Meta {
    pub(super) fn new(start: u64) -> Self {
        Self { version: VERSION, start, ..Self::default() }
    }

    pub(super) fn marks(&self) -> Option<Vec<Block>> {
        let block = |mark: &Mark| {
            let hash = mark.hash.as_slice().try_into().ok()?;
            Some(Block { number: mark.number, hash, time: mark.time })
        };
        self.marks.iter().map(block).collect()
    }

    pub(super) fn set_marks(&mut self, marks: &[Block]) {
        let mark = |block: &Block| Mark { number: block.number, hash: block.hash.to_vec(), time: block.time };
        self.marks = marks.iter().map(mark).collect();
    }
}

impl Stored for Meta {
    fn version(&self) -> u32 {
        self.version
    }
}
