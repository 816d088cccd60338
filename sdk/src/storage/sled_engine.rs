//! Messages on disk, in sled.
//!
//! # What lies in the folder
//! ```text
//! lock    held while a process has the store open
//! sled/   # -> tally                                              version 1 | messages 8 | bytes 8
//!         m | partition | place -> version 1 | envelope           the messages, in the order of time
//!         p | partition | publisher | place -> nothing            the same by publisher, for the last N of one
//! ```
//! A partition is `length 2 | stream id # number`, a place `timestamp 8 | sequence 4 | publisher 20 | chain 16`, all
//! big-endian: so a span of time of one partition is one scan. Envelopes are stored as they travelled; nothing in here could
//! open them, and whoever reads them checks their signatures again.
//!
//! # What holds
//! - A message is on disk when [`append`](super::MessageStore::append) returns: one atomic batch, flushed and synced; callers
//!   that wait at the same time share one sync ([`veilcast_key_store::durable`]).
//! - The tally changes in the batch that changes what it counts, so that it is right after a crash.
//! - Memory is bounded by the page cache of [`StorageLimits`](super::StorageLimits) and one page of messages for each call.

mod keys;
mod tally;

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{fs, io};

use bytes::Bytes;
use veilcast_key_store::durable::{GroupCommit, StoreLock, SyncedLog, wait_for_rest};

use super::query::PageMaker;
use super::{Appended, Filter, MessageStore, Page, Place, Query, StorageError, StorageLimits, StorageState};
use crate::stream::StreamPart;
use crate::time::Timestamp;
use crate::wire::{MessageContent, Verified};
use keys::Keys;
use tally::Tally;

/// Version of a stored message.
const VERSION: u8 = 1;
/// Messages given up in one batch.
const EVICTED_AT_ONCE: usize = 1024;

/// Keeps messages on disk, for one process at a time.
pub struct SledMessageStore {
    limits: StorageLimits,
    writer: Mutex<Writer>,
    commits: GroupCommit,
    // Closed in this order: nobody else may come in before the files have come to rest.
    db: sled::Db,
    log: SyncedLog,
    _lock: StoreLock,
}

/// What changes with every write, one at a time.
struct Writer {
    seq: u64,
    tally: Tally,
    /// The oldest message of each partition.
    heads: BTreeMap<StreamPart, Place>,
}

impl std::fmt::Debug for SledMessageStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SledMessageStore").field("folder", &self.log).finish_non_exhaustive()
    }
}

impl SledMessageStore {
    /// Opens the store in the folder `dir`, or makes one there.
    ///
    /// # Errors
    /// [`StorageError::InUse`] when somebody has it open; [`StorageError::Damaged`], [`StorageError::NewerVersion`];
    /// [`StorageError::Io`] when the disk fails.
    pub fn open(dir: &Path, limits: StorageLimits) -> Result<Self, StorageError> {
        make_private(dir).map_err(StorageError::io("make the folder of"))?;
        let lock = StoreLock::take(dir).map_err(StorageError::of_lock)?;
        let sled = dir.join("sled");
        wait_for_rest(&sled).map_err(StorageError::io("open"))?;
        let (db, writer) = guarded(|| {
            // No flusher thread: every change is flushed before it is acknowledged.
            let config = sled::Config::new().path(&sled).cache_capacity(limits.cache_bytes).flush_every_ms(None);
            let db = config.open()?;
            let writer = Writer { seq: 0, tally: Tally::load(&db)?, heads: heads(&db)? };
            Ok((db, writer))
        })?;
        let log = SyncedLog::open(&sled).map_err(StorageError::io("sync"))?;
        Ok(Self { limits, writer: Mutex::new(writer), commits: GroupCommit::starting_at(0), db, log, _lock: lock })
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One atomic batch, with the tally that is true after it.
    fn apply(&self, writer: &mut Writer, mut batch: sled::Batch, tally: Tally) -> Result<(), StorageError> {
        batch.insert(Tally::KEY, &tally.encode());
        // Whatever stops a batch halfway, sled's view may be ahead of its log from then on.
        self.db.apply_batch(batch).inspect_err(|_| self.commits.break_off())?;
        writer.tally = tally;
        writer.seq += 1;
        self.commits.applied(writer.seq);
        Ok(())
    }

    fn settle(&self) -> Result<(), StorageError> {
        self.commits.settle(|_| {
            self.db.flush()?;
            self.log.sync().map_err(StorageError::io("sync"))?;
            Ok(())
        })
    }

    /// Puts in what is new. Nothing of it is on disk yet.
    fn insert(
        &self,
        writer: &mut Writer,
        now: Timestamp,
        messages: &[Verified<MessageContent>],
    ) -> Result<Appended, StorageError> {
        let (mut appended, mut batch, mut tally) = (Appended::default(), sled::Batch::default(), writer.tally);
        let mut fresh: BTreeMap<Vec<u8>, (StreamPart, Place)> = BTreeMap::new();
        for message in messages {
            let (part, place) = (&message.content().part, Place::from(message.content()));
            let keys = Keys::of(part);
            let key = keys.message(&place);
            if !self.limits.takes(place.at.timestamp, now) {
                appended.out_of_range += 1;
            } else if fresh.contains_key(&key) || self.db.contains_key(&key)? {
                appended.known += 1;
            } else {
                let (index, value) = (keys.by_publisher(&place), [&[VERSION], message.envelope().as_ref()].concat());
                tally.add(key.len() + index.len() + value.len());
                batch.insert(key.as_slice(), value);
                batch.insert(index, &[]);
                fresh.insert(key, (part.clone(), place));
                appended.stored += 1;
            }
        }
        if appended.stored > 0 {
            self.apply(writer, batch, tally)?;
            for (part, place) in fresh.into_values() {
                let head = writer.heads.entry(part).or_insert(place);
                *head = place.min(*head);
            }
        }
        Ok(appended)
    }

    /// Gives up the oldest while there is too much, or it is too old. Nothing of it is on disk yet.
    fn give_up(&self, writer: &mut Writer, now: Timestamp) -> Result<usize, StorageError> {
        let (mut evicted, too_old) = (0, self.limits.oldest(now));
        loop {
            let Some((part, head)) = writer.heads.iter().min_by_key(|(_, head)| **head) else { return Ok(evicted) };
            if writer.tally.bytes <= self.limits.max_bytes && head.at.timestamp >= too_old {
                return Ok(evicted);
            }
            let part = part.clone();
            let next = writer.heads.iter().filter(|(other, _)| **other != part).map(|(_, head)| *head).min();
            evicted += self.give_up_from(writer, &part, next, too_old)?;
        }
    }

    /// The oldest of one partition, as long as they are older than those of all others.
    fn give_up_from(
        &self,
        writer: &mut Writer,
        part: &StreamPart,
        others: Option<Place>,
        too_old: Timestamp,
    ) -> Result<usize, StorageError> {
        let (keys, mut batch, mut tally, mut evicted) = (Keys::of(part), sled::Batch::default(), writer.tally, 0);
        let mut head = None;
        for entry in self.db.scan_prefix(keys.messages()) {
            let (key, value) = entry?;
            let place = keys.place_of(&key)?;
            let needed = tally.bytes > self.limits.max_bytes || place.at.timestamp < too_old;
            if !needed || evicted == EVICTED_AT_ONCE || others.is_some_and(|other| place > other) {
                head = Some(place);
                break;
            }
            let index = keys.by_publisher(&place);
            tally.remove(key.len() + index.len() + value.len());
            batch.remove(key);
            batch.remove(index);
            evicted += 1;
        }
        self.apply(writer, batch, tally)?;
        match head {
            Some(head) => writer.heads.insert(part.clone(), head),
            None => writer.heads.remove(part),
        };
        Ok(evicted)
    }
}

impl MessageStore for SledMessageStore {
    fn append(&self, now: Timestamp, messages: &[Verified<MessageContent>]) -> Result<Appended, StorageError> {
        let appended = {
            let mut writer = self.writer();
            let mut appended = self.insert(&mut writer, now, messages)?;
            appended.evicted = self.give_up(&mut writer, now)?;
            appended
        };
        // Also for what was known: whoever put it there may still be waiting for the disk.
        self.settle()?;
        Ok(appended)
    }

    fn read(&self, query: &Query) -> Result<Page, StorageError> {
        let (keys, mut page) = (Keys::of(&query.part), PageMaker::new(query));
        let (begin, left_out) = query.begin();
        let begin = keys.message(&begin);
        let begin = if left_out { Excluded(begin) } else { Included(begin) };
        for entry in self.db.range((begin, Unbounded)) {
            let (key, value) = entry?;
            if !key.starts_with(keys.messages()) {
                break;
            }
            let envelope = envelope_of(&value)?;
            if !page.offer(keys.place_of(&key)?, || Bytes::copy_from_slice(envelope)) {
                break;
            }
        }
        Ok(page.finish())
    }

    fn last(&self, part: &StreamPart, filter: &Filter, n: u64) -> Result<Option<Place>, StorageError> {
        let keys = Keys::of(part);
        let (prefix, cut) = match filter.publisher {
            Some(publisher) => (keys.publisher(publisher), Keys::PUBLISHER_LEN),
            None => (keys.messages().to_vec(), 0),
        };
        let (mut found, mut first) = (0, None);
        for entry in self.db.scan_prefix(&prefix).keys().rev() {
            if found == n {
                break;
            }
            let place = keys.place_behind(&entry?, cut)?;
            if filter.passes(&place) {
                found += 1;
                first = Some(place);
            }
        }
        Ok(first)
    }

    fn evict(&self, now: Timestamp) -> Result<usize, StorageError> {
        let evicted = self.give_up(&mut self.writer(), now)?;
        self.settle()?;
        Ok(evicted)
    }

    fn state(&self) -> Result<StorageState, StorageError> {
        let (tally, heads) = {
            let writer = self.writer();
            (writer.tally, writer.heads.clone())
        };
        let mut newest = None;
        for part in heads.keys() {
            let keys = Keys::of(part);
            if let Some(entry) = self.db.scan_prefix(keys.messages()).keys().next_back() {
                newest = newest.max(Some(keys.place_of(&entry?)?.at.timestamp));
            }
        }
        let oldest = heads.values().map(|head| head.at.timestamp).min();
        Ok(StorageState { messages: tally.messages, bytes: tally.bytes, oldest, newest })
    }
}

fn envelope_of(value: &[u8]) -> Result<&[u8], StorageError> {
    match value.split_first() {
        Some((&VERSION, envelope)) => Ok(envelope),
        Some((&found, _)) => Err(StorageError::NewerVersion { found, supported: VERSION }),
        None => Err(StorageError::damaged("a message is empty")),
    }
}

/// The first message of each partition, found by jumping from one to the next.
fn heads(db: &sled::Db) -> Result<BTreeMap<StreamPart, Place>, StorageError> {
    let (mut heads, mut from) = (BTreeMap::new(), Keys::FIRST.to_vec());
    while let Some(entry) = db.range(from..Keys::END.to_vec()).keys().next() {
        let (part, place) = Keys::read(&entry?)?;
        from = Keys::of(&part).behind();
        heads.insert(part, place);
    }
    Ok(heads)
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
