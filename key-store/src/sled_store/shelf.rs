//! The shelf in sled: every value sealed to its place, every change one atomic batch, every acknowledgement after a sync.
//!
//! A batch also rewrites the **tally**: the number of the change and how many records there are. sled recovers batches
//! whole or not at all, so the tally tells at the next opening how far its log was readable.
//!
//! sled's own `flush` is not enough: see [`crate::durable`].

use std::{
    any::Any,
    io,
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{files, seal::Seal, state::State};
use crate::{
    StoreError,
    durable::{GroupCommit, SyncedLog},
    ledger::{Changes, Plain, Shelf, Visit},
};

/// Where the tally lies; no place of the ledger starts with this byte.
const TALLY: &[u8] = b"#";
const TABLE: &[u8] = b"sled";

/// What sled takes beside its cache however little there is in it, bytes: measured.
const SLED_BUFFERS: u64 = 10 << 20;
/// Bytes of log for which sled keeps one byte of memory, in a store of keys: measured.
const LOG_FOR_NOTES: u64 = 11;
const LEAST_CACHE: u64 = 64 << 10;

pub(crate) struct SledShelf {
    // Dropped in this order: sled first, then the closing note about the files it left.
    db: sled::Db,
    seal: Arc<Seal>,
    tally: Mutex<Tally>,
    closing: Closing,
}

/// Which change was the last, and how many records there are, the tally not counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Tally {
    pub(super) seq: u64,
    pub(super) records: u64,
}

impl SledShelf {
    /// Opens files that were found good.
    pub(super) fn open(dir: &Path, seal: Arc<Seal>, state: State, cache_bytes: u64) -> Result<Self, StoreError> {
        let sled = dir.join(files::SLED);
        let (db, tally) = guarded(|| {
            let db = open_sled(&sled, cache_bytes)?;
            let tally = read_tally(&db, &seal)?;
            Ok((db, tally))
        })?;
        let log = SyncedLog::open(&sled).map_err(StoreError::io("sync the key store"))?;
        let closing = Closing { commits: GroupCommit::starting_at(tally.seq), state: Mutex::new(state), log };
        Ok(Self { db, seal, tally: Mutex::new(tally), closing })
    }

    fn apply_sealed(&self, changes: Changes) -> Result<Tally, StoreError> {
        let mut tally = *lock(&self.tally);
        let mut batch = sled::Batch::default();
        for (place, plain) in changes {
            let had = self.db.contains_key(&place).map_err(sled_fault)?;
            match plain {
                Some(plain) => {
                    tally.records += u64::from(!had);
                    let sealed = self.seal.close(&[TABLE, &place], &plain);
                    batch.insert(place, sealed);
                }
                None => {
                    tally.records -= u64::from(had);
                    batch.remove(place);
                }
            }
        }
        tally.seq += 1;
        batch.insert(TALLY, self.seal.close(&[TABLE, TALLY], &tally.encode()));
        self.db.apply_batch(batch).map_err(sled_fault)?;
        Ok(tally)
    }
}

impl Shelf for SledShelf {
    fn read(&self, place: &[u8]) -> Result<Option<Plain>, StoreError> {
        let sealed = self.db.get(place).map_err(sled_fault)?;
        sealed.map(|sealed| open_record(&self.seal, place, &sealed)).transpose()
    }

    fn walk(&self, prefix: &[u8], after: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        use std::ops::Bound::{Excluded, Included, Unbounded};

        let start = after.filter(|after| *after >= prefix).map_or(Included(prefix), Excluded);
        for entry in self.db.range::<&[u8], _>((start, Unbounded)) {
            let (place, sealed) = entry.map_err(sled_fault)?;
            if !place.starts_with(prefix) {
                break;
            }
            if visit(&place, open_record(&self.seal, &place, &sealed)?)? == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    fn last_before(&self, prefix: &[u8], end: &[u8]) -> Result<Option<(Vec<u8>, Plain)>, StoreError> {
        let Some(last) = self.db.range::<&[u8], _>(prefix..end).next_back() else { return Ok(None) };
        let (place, sealed) = last.map_err(sled_fault)?;
        Ok(Some((place.to_vec(), open_record(&self.seal, &place, &sealed)?)))
    }

    fn apply(&self, changes: Changes) -> Result<(), StoreError> {
        if self.closing.commits.is_broken() {
            return Err(StoreError::Broken);
        }
        // Whatever stops a batch halfway, sled's view may be ahead of its log from then on.
        let tally = self.apply_sealed(changes).inspect_err(|_| self.closing.commits.break_off())?;
        *lock(&self.tally) = tally;
        self.closing.commits.applied(tally.seq);
        Ok(())
    }

    fn entries(&self) -> u64 {
        lock(&self.tally).records
    }

    fn settle(&self) -> Result<(), StoreError> {
        self.closing.commits.settle(|seq| {
            self.db.flush().map_err(sled_fault)?;
            self.closing.synced(seq)
        })
    }
}

/// What outlives sled itself: the syncs while it runs, and the note about its files once it has gone.
struct Closing {
    commits: GroupCommit,
    state: Mutex<State>,
    log: SyncedLog,
}

impl Closing {
    fn synced(&self, seq: u64) -> Result<(), StoreError> {
        let db_len = self.log.sync().map_err(StoreError::io("sync the key store"))?;
        lock(&self.state).note(seq, db_len)
    }

    fn note_closed(&self) -> Result<(), StoreError> {
        let rest = || {
            let sled = self.log.folder();
            files::wait_for_rest(sled)?;
            files::sync_tree(sled)?;
            Ok((self.log.len()?, files::measure(sled)?))
        };
        let (db_len, measure) = rest().map_err(StoreError::io("close the key store"))?;
        let mut state = lock(&self.state);
        let seq = state.facts().seq;
        state.mark_closed(seq, db_len, measure)
    }
}

impl Drop for SledShelf {
    fn drop(&mut self) {
        if self.closing.commits.is_broken() {
            // sled flushes as it goes, and waits for ever for what it could not write. It stays as it is until the process ends; what
            // was acknowledged is on disk.
            std::mem::forget(self.db.clone());
        }
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        if !self.commits.is_broken() {
            // Without the note the store counts as not closed, and the next opening checks every record instead.
            let _ = self.note_closed();
        }
    }
}

impl Tally {
    fn encode(self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.seq.to_be_bytes());
        out[8..].copy_from_slice(&self.records.to_be_bytes());
        out
    }

    fn decode(plain: &[u8]) -> Option<Self> {
        let (seq, records) = plain.split_first_chunk()?;
        Some(Self { seq: u64::from_be_bytes(*seq), records: u64::from_be_bytes(*records.as_array()?) })
    }
}

/// `memory` is what sled may take in all, bytes.
pub(super) fn open_sled(dir: &Path, memory: u64) -> Result<sled::Db, StoreError> {
    let rest = || {
        files::wait_for_rest(dir)?;
        files::len(&dir.join("db"))
    };
    let log_len = rest().map_err(StoreError::io("open the key store's files"))?;
    let cache = sled_cache(memory, log_len);
    // No flusher thread: every change is flushed before it is acknowledged.
    sled::Config::new().path(dir).cache_capacity(cache).flush_every_ms(None).open().map_err(sled_fault)
}

/// What sled is told to keep in its cache so that it takes `memory` in all, bytes.
///
/// Beside the cache it has buffers, and notes about each change in its log, whose length tells how many there are; and a page takes
/// half as much again as it counts for. However little is left, the pages that lead to the records must stay in the cache.
fn sled_cache(memory: u64, log_len: u64) -> u64 {
    let left = memory.saturating_sub(SLED_BUFFERS + log_len / LOG_FOR_NOTES);
    (left / 3 * 2).max(memory / 8).max(LEAST_CACHE)
}

pub(super) fn read_tally(db: &sled::Db, seal: &Seal) -> Result<Tally, StoreError> {
    let Some(sealed) = db.get(TALLY).map_err(sled_fault)? else {
        return Ok(Tally::default());
    };
    let plain = open_record(seal, TALLY, &sealed)?;
    Tally::decode(&plain).ok_or_else(|| StoreError::damaged("the key store's tally"))
}

/// Opens every record there is and counts them, the tally not counted.
pub(super) fn count_records(db: &sled::Db, seal: &Seal) -> Result<u64, StoreError> {
    let mut records = 0;
    for entry in db.iter() {
        let (place, sealed) = entry.map_err(sled_fault)?;
        open_record(seal, &place, &sealed)?;
        records += u64::from(&*place != TALLY);
    }
    Ok(records)
}

/// sled asserts rather than reports when its files make no sense, so opening runs where a panic is caught.
pub(super) fn guarded<T>(run: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic: Box<dyn Any + Send>| {
        drop(panic); // its text may quote file contents
        Err(StoreError::damaged("the key store's sled folder"))
    })
}

fn open_record(seal: &Seal, place: &[u8], sealed: &[u8]) -> Result<Plain, StoreError> {
    seal.open(&[TABLE, place], sealed, "a record of the key store")
}

fn sled_fault(fault: sled::Error) -> StoreError {
    match fault {
        sled::Error::Io(source) if source.kind() != io::ErrorKind::UnexpectedEof => {
            StoreError::io("use the key store's files")(source)
        }
        sled::Error::Io(_) | sled::Error::Corruption { .. } => StoreError::damaged("the key store's sled folder"),
        other => StoreError::damaged(format!("the key store's sled folder ({other})")),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "shelf_tests.rs"]
mod tests;
