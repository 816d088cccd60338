//! Messages on disk: in blocks, with an index in sled.
//!
//! # What lies in the folder
//! ```text
//! lock     held while a process has the store open
//! blocks/  one file for each block: many messages of one partition that follow each other in time (block.rs)
//! sled/    v -> layout 2
//!          b | partition | number of a block -> what is in it (info.rs)
//!          m | partition | place -> version 1 | envelope      a message that is in no block yet
//! ```
//! A partition is `length 2 | stream id # number`, a place `timestamp 8 | sequence 4 | publisher 20 | chain 16`, all
//! big-endian. Envelopes are stored as they travelled; nothing in here could open them, and whoever reads them checks their
//! signatures again.
//!
//! ```text
//! append ──▶ one by one, in sled and in memory ──enough for a block──▶ a block ──all given up──▶ its file goes
//! ```
//! A message that comes late is put into the block that it belongs in, which is written anew with it, and cut in two where it
//! gets too large. Messages are given up from the beginning of a block by a number in the index: its file lies on as it is until its last
//! one is given up.
//!
//! # What holds
//! - A message is on disk when [`append`](super::MessageStore::append) returns: atomic batches, flushed and synced; callers
//!   that wait at the same time share one sync ([`veilcast_key_store::durable`]). A block's file is on disk before the batch that names it and
//!   takes its messages out of sled, and a file goes only after the batch that names it no more is on disk.
//! - Tallies are counted when the store is opened, from what there is.
//! - Memory: [`StorageLimits::cache_bytes`](super::StorageLimits::cache_bytes) for what is in no block yet, for blocks and for sled's pages, shared out in
//!   [`Sizes`]; and some 400 bytes for each block there is, which has 256 to 512 KiB where enough comes for that. That is why blocks do not lie
//!   in sled: it keeps some hundred bytes in memory for each of its pages, however small its cache, a page has 8 to 16 entries, and
//!   its cache counts pages as used only after 64 uses, which is too late for large ones.

mod block;
mod change;
mod evict;
mod files;
mod fold;
mod info;
mod keys;
mod migrate;
mod opening;
mod publishers;
mod reading;
#[cfg(test)]
mod tests;
mod view;
mod walk;
mod writing;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, RwLock};
use std::{fs, io};

use veilcast_key_store::durable::{GroupCommit, StoreLock, SyncedLog, wait_for_rest};

use super::{Appended, Beginning, Filter, MessageStore, Page, Query, StorageError, StorageLimits, StorageState};
use crate::stream::StreamPart;
use crate::time::Timestamp;
use crate::wire::{MessageContent, Verified};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use block::reads_block;
use files::BlockFiles;
use view::View;
use writing::Writer;

/// Version of what lies where.
const LAYOUT: u8 = 2;

/// Keeps messages on disk, for one process at a time.
pub struct SledMessageStore {
    limits: StorageLimits,
    sizes: Sizes,
    writer: Mutex<Writer>,
    view: RwLock<View>,
    files: BlockFiles,
    commits: GroupCommit,
    // Closed in this order: nobody else may come in before the files have come to rest.
    db: sled::Db,
    log: SyncedLog,
    _lock: StoreLock,
}

impl std::fmt::Debug for SledMessageStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SledMessageStore").field("folder", &self.log).finish_non_exhaustive()
    }
}

/// What the memory that a store may take is spent on, bytes. Half of it is for what lies there; the other half goes to what is
/// in the hands of those who read and write, and to what allocating and indexing it costs.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// What a block is made of, about.
    block: u64,
    /// Of all partitions, what is in no block yet.
    fresh: u64,
    /// Blocks that were read. Few are enough: the system keeps files in memory that it has no other use for.
    blocks: usize,
    /// sled's pages.
    pages: u64,
}

impl Sizes {
    fn of(cache: u64) -> Self {
        let block = (cache / 32).clamp(4 << 10, 512 << 10);
        Self {
            block,
            fresh: (cache / 8).max(block),
            blocks: usize::try_from(cache / 4).unwrap_or(usize::MAX),
            pages: (cache / 8).max(1 << 20),
        }
    }
}

impl SledMessageStore {
    /// Opens the store in the folder `dir`, or makes one there. One that an earlier version of this program made is brought to the
    /// layout of today, which takes as long as reading and writing all of it.
    ///
    /// # Errors
    /// [`StorageError::InUse`] when somebody has it open; [`StorageError::Damaged`], [`StorageError::NewerVersion`];
    /// [`StorageError::Io`] when the disk fails.
    pub fn open(dir: &Path, limits: StorageLimits) -> Result<Self, StorageError> {
        make_private(dir).map_err(StorageError::io("make the folder of"))?;
        let lock = StoreLock::take(dir).map_err(StorageError::of_lock)?;
        let (sled, sizes) = (dir.join("sled"), Sizes::of(limits.cache_bytes));
        wait_for_rest(&sled).map_err(StorageError::io("open"))?;
        let files = BlockFiles::open(&dir.join("blocks"), sizes.blocks)?;
        let (db, opened) = guarded(|| {
            // No flusher thread: every change is flushed before it is acknowledged.
            let config = sled::Config::new().path(&sled).cache_capacity(sizes.pages).flush_every_ms(None);
            let db = config.open()?;
            let opened = opening::read(&db, &files, &sizes)?;
            db.flush()?;
            Ok((db, opened))
        })?;
        let log = SyncedLog::open(&sled).map_err(StorageError::io("sync"))?;
        // Not before: the index that names them no more is on disk only now.
        opened.strays.iter().for_each(|id| files.file(*id).doom());
        Ok(Self {
            limits,
            sizes,
            writer: Mutex::new(Writer::beginning_behind(opened.last_block)),
            view: RwLock::new(opened.view),
            files,
            commits: GroupCommit::starting_at(0),
            db,
            log,
            _lock: lock,
        })
    }
}

impl Drop for SledMessageStore {
    fn drop(&mut self) {
        if self.commits.is_broken() {
            // sled flushes as it goes, and waits for ever for what it could not write. It stays as it is until the process ends; what
            // was acknowledged is on disk.
            std::mem::forget(self.db.clone());
        }
    }
}

impl MessageStore for SledMessageStore {
    fn append(&self, now: Timestamp, messages: &[Verified<MessageContent>]) -> Result<Appended, StorageError> {
        // The wait is also for what was known: whoever put it there may still be waiting for the disk.
        self.change(|writer| {
            let appended = self.insert(writer, now, messages)?;
            let evicted = self.give_up(writer, now)?;
            self.fold(writer)?;
            Ok(Appended { evicted, ..appended })
        })
    }

    fn read(&self, query: &Query) -> Result<Page, StorageError> {
        self.page(query)
    }

    fn last(&self, part: &StreamPart, filter: &Filter, n: u64) -> Result<Beginning, StorageError> {
        self.beginning(part, filter, n)
    }

    fn evict(&self, now: Timestamp) -> Result<usize, StorageError> {
        self.change(|writer| self.give_up(writer, now))
    }

    fn state(&self) -> Result<StorageState, StorageError> {
        let view = self.view();
        Ok(StorageState {
            messages: view.all().messages,
            bytes: view.all().bytes,
            oldest: view.heads().map(|(head, _)| head.at.timestamp).min(),
            newest: view.tails().map(|tail| tail.at.timestamp).max(),
        })
    }
}

/// sled asserts rather than reports when its files make no sense, so opening runs where a panic is caught.
fn guarded<T>(open: impl FnOnce() -> Result<T, StorageError>) -> Result<T, StorageError> {
    catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|panic| {
        drop(panic); // its text may quote file contents
        Err(StorageError::damaged("its sled folder"))
    })
}

fn make_private(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}
