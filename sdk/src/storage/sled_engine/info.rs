//! What the index says of a block.
//!
//! Layout, big-endian: `version 1 | gone 4 | messages 4 | bytes 8 | first place 48 | last place 48 | publishers`.

use std::sync::Arc;

use bytes::Bytes;

use super::block::Block;
use super::files::BlockFile;
use super::publishers::Publishers;
use crate::storage::{Place, StorageError, memory::size_of};

/// Version of an entry of the index.
const VERSION: u8 = 1;

/// A block, or what is left of it: messages are given up from its beginning, and its file goes with the last of them.
#[derive(Clone, Debug)]
pub(super) struct BlockInfo {
    /// Removed when nobody needs it any more.
    pub(super) file: Arc<BlockFile>,
    /// How many messages at its beginning were given up.
    pub(super) gone: u32,
    /// How many are left,
    pub(super) messages: u32,
    /// and their bytes.
    pub(super) bytes: u64,
    /// The first that is left.
    pub(super) first: Place,
    pub(super) last: Place,
    pub(super) publishers: Publishers,
}

impl BlockInfo {
    /// Of a new block; `None` of nothing.
    pub(super) fn of(file: Arc<BlockFile>, messages: &[(Place, Bytes)]) -> Option<Self> {
        Some(Self {
            file,
            gone: 0,
            messages: u32::try_from(messages.len()).ok()?,
            bytes: messages.iter().map(|(_, envelope)| size_of(envelope)).sum(),
            first: messages.first()?.0,
            last: messages.last()?.0,
            publishers: Publishers::of(messages.iter().map(|(place, _)| place.publisher)),
        })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend(self.gone.to_be_bytes());
        out.extend(self.messages.to_be_bytes());
        out.extend(self.bytes.to_be_bytes());
        out.extend(self.first.to_key());
        out.extend(self.last.to_key());
        out.extend(self.publishers.as_bytes());
        out
    }

    pub(super) fn decode(file: Arc<BlockFile>, value: &[u8]) -> Result<Self, StorageError> {
        match value.split_first() {
            Some((&VERSION, rest)) => Self::read(file, rest).ok_or_else(damaged),
            Some((&found, _)) if found > VERSION => Err(StorageError::NewerVersion { found, supported: VERSION }),
            _ => Err(damaged()),
        }
    }

    fn read(file: Arc<BlockFile>, bytes: &[u8]) -> Option<Self> {
        let (gone, rest) = bytes.split_first_chunk()?;
        let (messages, rest) = rest.split_first_chunk()?;
        let (bytes, rest) = rest.split_first_chunk()?;
        let (first, rest) = rest.split_at_checked(Place::LEN)?;
        let (last, publishers) = rest.split_at_checked(Place::LEN)?;
        let info = Self {
            file,
            gone: u32::from_be_bytes(*gone),
            messages: u32::from_be_bytes(*messages),
            bytes: u64::from_be_bytes(*bytes),
            first: Place::from_key(first)?,
            last: Place::from_key(last)?,
            publishers: Publishers::read(publishers),
        };
        (info.messages > 0 && info.first <= info.last).then_some(info)
    }

    /// The number of its first message that is left.
    pub(super) fn begin(&self) -> usize {
        self.gone as usize
    }

    /// Whether a block is the one that this is about.
    pub(super) fn fits(&self, block: &Block) -> bool {
        let place = |n: usize| block.get(n).map(|(place, _)| place);
        u64::from(self.gone) + u64::from(self.messages) == block.len() as u64
            && place(self.begin()) == Some(self.first)
            && place(block.len() - 1) == Some(self.last)
    }
}

fn damaged() -> StorageError {
    StorageError::damaged("its index of blocks")
}
