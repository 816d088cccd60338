//! How much there is, kept beside it so that no opening has to count.

use crate::storage::StorageError;

const VERSION: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) messages: u64,
    /// Of keys and values.
    pub(super) bytes: u64,
}

impl Tally {
    pub(super) const KEY: &'static [u8] = b"#";

    pub(super) fn load(db: &sled::Db) -> Result<Self, StorageError> {
        let Some(value) = db.get(Self::KEY)? else { return Ok(Self::default()) };
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
