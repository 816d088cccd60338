//! The state file: what must be found again at the next opening.
//!
//! sled recovers a shortened or damaged log by silently dropping what it cannot read. So we note beside it how far we
//! got, and compare before anything is trusted:
//!
//! - after a clean close, the length and the SHA-256 of all of sled's files;
//! - while open, the number of the last change that was acknowledged.
//!
//! Two slots of 128 bytes are written in turn, each a sealed record, so that a write cut short leaves the other:
//! ```text
//! turn 8 | change 8 | db length 8 | closed 1 | length of all files 8 | SHA-256 of all files 32
//! ```
//! Noting a change does not sync this file: the note is written after sled's file is synced, so it never promises more
//! than there is. It survives the death of the process; after a power cut it may be behind, and then a file truncated by
//! no more than that goes unnoticed. Opening, closing and the very first change do sync it.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    sync::Arc,
};

use super::{
    files::{self, Measure},
    seal::{OVERHEAD, Seal},
};
use crate::StoreError;

const SLOT_LEN: usize = 128;
const PLAIN_LEN: usize = 8 + 8 + 8 + 1 + 8 + 32;
const SEALED_LEN: usize = PLAIN_LEN + OVERHEAD;
const SLOTS: u64 = 2;

/// What is noted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Facts {
    /// The last acknowledged change.
    pub(super) seq: u64,
    /// How long sled's log was then. It may become shorter rightly, so this only helps to tell what went wrong.
    pub(super) db_len: u64,
    /// The files as we left them; `None` while the store is open.
    pub(super) closed: Option<Measure>,
}

pub(super) struct State {
    file: File,
    seal: Arc<Seal>,
    turn: u64,
    facts: Facts,
}

impl State {
    /// For a new store.
    pub(super) fn create(dir: &Path, seal: Arc<Seal>) -> Result<Self, StoreError> {
        let make = || {
            let path = dir.join(files::STATE);
            let mut file = files::private().read(true).write(true).create(true).truncate(true).open(path)?;
            file.write_all(&[0; SLOT_LEN * SLOTS as usize])?;
            Ok(file)
        };
        let file = make().map_err(StoreError::io("make the key store's state file"))?;
        let mut state = Self { file, seal, turn: 0, facts: Facts::default() };
        state.write_synced(Facts::default())?;
        Ok(state)
    }

    pub(super) fn load(dir: &Path, seal: Arc<Seal>) -> Result<Self, StoreError> {
        let action = "read the key store's state file";
        let mut file = match files::private().read(true).write(true).open(dir.join(files::STATE)) {
            Ok(file) => file,
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::damaged("the key store's state file (missing)"));
            }
            Err(fault) => return Err(StoreError::io(action)(fault)),
        };
        let mut bytes = Vec::new();
        (&mut file).take(4096).read_to_end(&mut bytes).map_err(StoreError::io(action))?;
        let expected = SLOT_LEN as u64 * SLOTS;
        if (bytes.len() as u64) < expected {
            let file = "the key store's state file".to_owned();
            return Err(StoreError::Truncated { file, expected, found: bytes.len() as u64 });
        }
        let slots = bytes.chunks_exact(SLOT_LEN).take(SLOTS as usize).enumerate();
        let mut newest = Err(StoreError::damaged("the key store's state file"));
        for (slot, bytes) in slots {
            match read_slot(&seal, slot as u64, bytes) {
                Ok(found) if newest.as_ref().is_ok_and(|newest: &(u64, Facts)| newest.0 > found.0) => {}
                Ok(found) => newest = Ok(found),
                Err(fault @ StoreError::NewerVersion { .. }) if newest.is_err() => newest = Err(fault),
                Err(_) => {}
            }
        }
        let (turn, facts) = newest?;
        Ok(Self { file, seal, turn, facts })
    }

    pub(super) fn facts(&self) -> Facts {
        self.facts
    }

    /// Notes an acknowledged change; see above why this needs no sync.
    pub(super) fn note(&mut self, seq: u64, db_len: u64) -> Result<(), StoreError> {
        let facts = Facts { seq, db_len, closed: None };
        // From the first change on, a log that went missing must be missed.
        if self.facts.seq == 0 { self.write_synced(facts) } else { self.write(facts) }
    }

    pub(super) fn mark_open(&mut self) -> Result<(), StoreError> {
        self.write_synced(Facts { closed: None, ..self.facts })
    }

    pub(super) fn mark_closed(&mut self, seq: u64, db_len: u64, files: Measure) -> Result<(), StoreError> {
        self.write_synced(Facts { seq, db_len, closed: Some(files) })
    }

    fn write_synced(&mut self, facts: Facts) -> Result<(), StoreError> {
        self.write(facts)?;
        self.file.sync_all().map_err(StoreError::io("sync the key store's state file"))
    }

    fn write(&mut self, facts: Facts) -> Result<(), StoreError> {
        let turn = self.turn + 1;
        let slot = turn % SLOTS;
        let sealed = self.seal.close(&place(&slot.to_be_bytes()), &encode(turn, facts));
        self.file
            .seek(SeekFrom::Start(slot * SLOT_LEN as u64))
            .and_then(|_| self.file.write_all(&sealed))
            .map_err(StoreError::io("write the key store's state file"))?;
        (self.turn, self.facts) = (turn, facts);
        Ok(())
    }
}

fn place(slot: &[u8; 8]) -> [&[u8]; 2] {
    [b"state", slot]
}

fn encode(turn: u64, facts: Facts) -> Vec<u8> {
    let files = facts.closed.unwrap_or_default();
    let mut out = Vec::with_capacity(PLAIN_LEN);
    for number in [turn, facts.seq, facts.db_len] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.push(u8::from(facts.closed.is_some()));
    out.extend_from_slice(&files.len.to_be_bytes());
    out.extend_from_slice(&files.digest);
    out
}

fn read_slot(seal: &Seal, slot: u64, bytes: &[u8]) -> Result<(u64, Facts), StoreError> {
    let what = "the key store's state file";
    let plain = seal.open(&place(&slot.to_be_bytes()), &bytes[..SEALED_LEN], what)?;
    decode(&plain).ok_or_else(|| StoreError::damaged(what))
}

fn decode(plain: &[u8]) -> Option<(u64, Facts)> {
    let (turn, rest) = plain.split_first_chunk()?;
    let (seq, rest) = rest.split_first_chunk()?;
    let (db_len, rest) = rest.split_first_chunk()?;
    let (closed, rest) = rest.split_first()?;
    let (len, rest) = rest.split_first_chunk()?;
    let files = Measure { len: u64::from_be_bytes(*len), digest: *rest.as_array()? };
    let closed = match closed {
        0 if files == Measure::default() => None,
        1 => Some(files),
        _ => return None,
    };
    let facts = Facts { seq: u64::from_be_bytes(*seq), db_len: u64::from_be_bytes(*db_len), closed };
    Some((u64::from_be_bytes(*turn), facts))
}

/// For the fuzz target: whether it is a state, which must then be what is written for it.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn reads(plain: &[u8]) -> bool {
    let Some((turn, facts)) = decode(plain) else { return false };
    assert_eq!(encode(turn, facts), plain, "one state has one encoding");
    true
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn seal() -> Arc<Seal> {
        Arc::new(Seal::new(&Box::new(Zeroizing::new([1; 32]))))
    }

    #[test]
    fn the_newest_note_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::create(dir.path(), seal()).unwrap();
        for seq in 1..=5 {
            state.note(seq, seq * 10).unwrap();
            let expected = Facts { seq, db_len: seq * 10, closed: None };
            assert_eq!(State::load(dir.path(), seal()).unwrap().facts(), expected);
        }
        let files = Measure { len: 7, digest: [3; 32] };
        state.mark_closed(6, 60, files).unwrap();
        let expected = Facts { seq: 6, db_len: 60, closed: Some(files) };
        assert_eq!(State::load(dir.path(), seal()).unwrap().facts(), expected);
    }

    #[test]
    fn a_note_cut_short_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::create(dir.path(), seal()).unwrap();
        state.note(1, 10).unwrap();
        state.note(2, 20).unwrap();
        let path = dir.path().join(files::STATE);
        let mut bytes = std::fs::read(&path).unwrap();
        let newest = usize::try_from(state.turn % SLOTS).unwrap() * SLOT_LEN;
        bytes[newest + SEALED_LEN - 1] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(State::load(dir.path(), seal()).unwrap().facts().seq, 1);

        bytes[SLOT_LEN - newest] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let fault = State::load(dir.path(), seal()).err().unwrap();
        assert!(matches!(fault, StoreError::Damaged { .. } | StoreError::NewerVersion { .. }), "{fault}");
    }

    #[test]
    fn a_shortened_or_missing_state_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        drop(State::create(dir.path(), seal()).unwrap());
        let path = dir.path().join(files::STATE);
        std::fs::write(&path, &std::fs::read(&path).unwrap()[..255]).unwrap();
        let fault = State::load(dir.path(), seal()).err().unwrap();
        assert!(matches!(fault, StoreError::Truncated { expected: 256, found: 255, .. }));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(State::load(dir.path(), seal()).err().unwrap(), StoreError::Damaged { .. }));
    }
}
