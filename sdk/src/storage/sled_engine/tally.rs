//! How much there is, of each stream and of all, kept beside it so that no opening has to count.

use std::collections::BTreeMap;

use crate::storage::StorageError;
use crate::stream::StreamId;

const VERSION: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) messages: u64,
    /// Of keys and values.
    pub(super) bytes: u64,
}

impl Tally {
    /// Of all streams.
    pub(super) const KEY: &'static [u8] = b"#";
    /// Of each one.
    const OF_STREAM: &'static [u8] = b"s";

    pub(super) fn load(db: &sled::Db) -> Result<Self, StorageError> {
        db.get(Self::KEY)?.map_or(Ok(Self::default()), |value| Self::read(&value))
    }

    /// Of each stream of which there is anything.
    pub(super) fn load_streams(db: &sled::Db) -> Result<BTreeMap<StreamId, Self>, StorageError> {
        let mut streams = BTreeMap::new();
        for entry in db.scan_prefix(Self::OF_STREAM) {
            let (key, value) = entry?;
            let name = key.get(Self::OF_STREAM.len()..).and_then(|name| std::str::from_utf8(name).ok());
            let stream = name.and_then(|name| StreamId::new(name).ok());
            streams.insert(stream.ok_or_else(|| StorageError::damaged("its tally"))?, Self::read(&value)?);
        }
        Ok(streams)
    }

    pub(super) fn key_of(stream: &StreamId) -> Vec<u8> {
        [Self::OF_STREAM, stream.as_str().as_bytes()].concat()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    fn read(value: &[u8]) -> Result<Self, StorageError> {
        match value.split_first() {
            Some((&VERSION, rest)) => Self::decode(rest).ok_or_else(|| StorageError::damaged("its tally")),
            Some((&found, _)) if found > VERSION => Err(StorageError::NewerVersion { found, supported: VERSION }),
            _ => Err(StorageError::damaged("its tally")),
        }
    }

    pub(super) fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }

    pub(super) fn remove(&mut self, bytes: usize) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes as u64);
    }

    pub(super) fn encode(self) -> [u8; 17] {
        let mut out = [VERSION; 17];
        out[1..9].copy_from_slice(&self.messages.to_be_bytes());
        out[9..].copy_from_slice(&self.bytes.to_be_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (messages, bytes) = bytes.split_first_chunk()?;
        Some(Self { messages: u64::from_be_bytes(*messages), bytes: u64::from_be_bytes(bytes.try_into().ok()?) })
    }
}
