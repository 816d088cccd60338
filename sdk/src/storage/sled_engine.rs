//! Messages on disk, in sled.
//!
//! # What lies in the folder
//! ```text
//! lock    held while a process has the store open
//! sled/   # -> tally                                              version 1 | messages 8 | bytes 8
//!         s | stream id -> tally                                  of one stream
//!         m | partition | place -> version 1 | envelope           the messages, in the order of time
//!         p | partition | publisher | place -> nothing            the same by publisher, for one's messages alone
//! ```
//! A partition is `length 2 | stream id # number`, a place `timestamp 8 | sequence 4 | publisher 20 | chain 16`, all
//! big-endian: so a span of time of one partition is one scan. Envelopes are stored as they travelled; nothing in here could
//! open them, and whoever reads them checks their signatures again.
//!
//! # What holds
//! - A message is on disk when [`append`](super::MessageStore::append) returns: one atomic batch, flushed and synced; callers
//!   that wait at the same time share one sync ([`veilcast_key_store::durable`]).
//! - The tally changes in the batch that changes what it counts, so that it is right after a crash.
//! - Memory: the page cache of [`StorageLimits`](super::StorageLimits), one page of messages for each call, and what sled itself keeps of
//!   each of its pages, which hold 8 to 16 entries: some 60 to 120 bytes for each message.

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
use super::{Appended, Beginning, Filter, MessageStore, Page, Place, Query, StorageError, StorageLimits, StorageState};
use crate::stream::{StreamId, StreamPart};
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
    /// What there is of each stream.
    streams: BTreeMap<StreamId, Tally>,
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
            let (tally, streams) = (Tally::load(&db)?, streams(&db)?);
            let writer = Writer { seq: 0, tally, streams, heads: heads(&db)? };
            Ok((db, writer))
        })?;
        let log = SyncedLog::open(&sled).map_err(StorageError::io("sync"))?;
        Ok(Self { limits, writer: Mutex::new(writer), commits: GroupCommit::starting_at(0), db, log, _lock: lock })
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A change, and the wait for the disk. Once one failed, sled's view may be ahead of its log: no further one is begun, and
    /// nothing is acknowledged any more, not even what is there.
    fn change<T>(&self, change: impl FnOnce(&mut Writer) -> Result<T, StorageError>) -> Result<T, StorageError> {
        let changed = {
            let mut writer = self.writer();
            self.not_broken()?;
            // sled asserts as well as reports.
            catch_unwind(AssertUnwindSafe(|| change(&mut writer))).unwrap_or(Err(StorageError::Broken))
        };
        let changed = changed.inspect_err(|_| self.commits.break_off())?;
        self.settle()?;
        self.not_broken()?;
        Ok(changed)
    }

    fn not_broken(&self) -> Result<(), StorageError> {
        if self.commits.is_broken() { Err(StorageError::Broken) } else { Ok(()) }
    }

    /// One atomic batch, with the tallies that are true after it.
    fn apply(&self, writer: &mut Writer, mut batch: sled::Batch, after: Tallies) -> Result<(), StorageError> {
        batch.insert(Tally::KEY, &after.all.encode());
        for (stream, tally) in &after.of {
            match tally.is_empty() {
                true => batch.remove(Tally::key_of(stream)),
                false => batch.insert(Tally::key_of(stream), &tally.encode()),
            }
        }
        self.db.apply_batch(batch)?;
        writer.tally = after.all;
        writer.streams.extend(after.of);
        writer.streams.retain(|_, tally| !tally.is_empty());
        writer.seq += 1;
        self.commits.applied(writer.seq);
        Ok(())
    }

    fn settle(&self) -> Result<(), StorageError> {
        self.commits.settle(|_| {
            catch_unwind(AssertUnwindSafe(|| self.db.flush())).map_err(|_| StorageError::Broken)??;
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
        let (mut appended, mut batch, mut after) = (Appended::default(), sled::Batch::default(), Tallies::of(writer));
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
                after.change(writer, part.stream(), |tally| tally.add(key.len() + index.len() + value.len()));
                batch.insert(key.as_slice(), value);
                batch.insert(index, &[]);
                fresh.insert(key, (part.clone(), place));
                appended.stored += 1;
            }
        }
        if appended.stored > 0 {
            self.apply(writer, batch, after)?;
            for (part, place) in fresh.into_values() {
                let head = writer.heads.entry(part).or_insert(place);
                *head = place.min(*head);
            }
        }
        Ok(appended)
    }

    /// Gives up what is too old; and while there is too much, the oldest of the stream that has the most, so that no stream
    /// pushes another out that has less. Nothing of it is on disk yet.
    fn give_up(&self, writer: &mut Writer, now: Timestamp) -> Result<usize, StorageError> {
        let (mut evicted, too_old) = (0, self.limits.oldest(now));
        while let Some((part, _)) = writer.heads.iter().find(|(_, head)| head.at.timestamp < too_old) {
            let part = part.clone();
            evicted += self.give_up_from(writer, &part, |place, _| place.at.timestamp < too_old)?;
        }
        while writer.tally.bytes > self.limits.max_bytes {
            let Some((part, next, second)) = writer.dearest() else { break };
            evicted += self.give_up_from(writer, &part, |place, after| {
                let has_most = after.of.get(part.stream()).is_some_and(|tally| tally.bytes >= second);
                after.all.bytes > self.limits.max_bytes && has_most && next.is_none_or(|next| *place <= next)
            })?;
        }
        Ok(evicted)
    }

    /// The oldest of one partition, as long as they are to go.
    fn give_up_from(
        &self,
        writer: &mut Writer,
        part: &StreamPart,
        goes: impl Fn(&Place, &Tallies) -> bool,
    ) -> Result<usize, StorageError> {
        let (keys, mut batch, mut after, mut evicted) =
            (Keys::of(part), sled::Batch::default(), Tallies::of(writer), 0);
        after.change(writer, part.stream(), |_| {});
        let mut head = None;
        for entry in self.db.scan_prefix(keys.messages()) {
            let (key, value) = entry?;
            let place = keys.place_of(&key)?;
            if evicted == EVICTED_AT_ONCE || !goes(&place, &after) {
                head = Some(place);
                break;
            }
            let index = keys.by_publisher(&place);
            after.change(writer, part.stream(), |tally| tally.remove(key.len() + index.len() + value.len()));
            batch.remove(key);
            batch.remove(index);
            evicted += 1;
        }
        self.apply(writer, batch, after)?;
        match head {
            Some(head) => writer.heads.insert(part.clone(), head),
            None => writer.heads.remove(part),
        };
        Ok(evicted)
    }
}

impl Writer {
    /// Where the oldest message of the stream lies that has the most, where its next partition begins, and how many bytes
    /// the stream has that comes second.
    fn dearest(&self) -> Option<(StreamPart, Option<Place>, u64)> {
        let stream = self.streams.iter().max_by_key(|(_, tally)| tally.bytes).map(|(stream, _)| stream)?;
        let others = self.streams.iter().filter(|(other, _)| *other != stream);
        let second = others.map(|(_, tally)| tally.bytes).max().unwrap_or(0);
        let mut heads: Vec<_> = self.heads.iter().filter(|(part, _)| part.stream() == stream).collect();
        heads.sort_by_key(|(_, head)| **head);
        let (part, _) = heads.first()?;
        Some(((*part).clone(), heads.get(1).map(|(_, head)| **head), second))
    }
}

/// What the tallies will be.
struct Tallies {
    all: Tally,
    of: BTreeMap<StreamId, Tally>,
}

impl Tallies {
    fn of(writer: &Writer) -> Self {
        Self { all: writer.tally, of: BTreeMap::new() }
    }

    fn change(&mut self, writer: &Writer, stream: &StreamId, change: impl Fn(&mut Tally)) {
        if !self.of.contains_key(stream) {
            self.of.insert(stream.clone(), writer.streams.get(stream).copied().unwrap_or_default());
        }
        change(&mut self.all);
        self.of.get_mut(stream).into_iter().for_each(change);
    }
}

impl MessageStore for SledMessageStore {
    fn append(&self, now: Timestamp, messages: &[Verified<MessageContent>]) -> Result<Appended, StorageError> {
        // The wait is also for what was known: whoever put it there may still be waiting for the disk.
        self.change(|writer| {
            let appended = self.insert(writer, now, messages)?;
            Ok(Appended { evicted: self.give_up(writer, now)?, ..appended })
        })
    }

    fn read(&self, query: &Query) -> Result<Page, StorageError> {
        let (keys, mut page) = (Keys::of(&query.part), PageMaker::new(query));
        let (begin, left_out) = query.begin();
        let publisher = query.filter.publisher;
        let (prefix, begin) = match publisher {
            Some(publisher) => (keys.publisher(publisher), keys.indexed(publisher, &begin)),
            None => (keys.messages().to_vec(), keys.message(&begin)),
        };
        let begin = if left_out { Excluded(begin) } else { Included(begin) };
        let cut = publisher.map_or(0, |_| Keys::PUBLISHER_LEN);
        for entry in self.db.range((begin, Unbounded)) {
            let (key, value) = entry?;
            if !key.starts_with(&prefix) {
                break;
            }
            let place = keys.place_behind(&key, cut)?;
            let envelope = || match publisher {
                None => envelope_of(&value).map(|envelope| Some(Bytes::copy_from_slice(envelope))),
                Some(_) => {
                    let value = self.db.get(keys.message(&place))?;
                    value.map(|value| envelope_of(&value).map(Bytes::copy_from_slice)).transpose()
                }
            };
            if !page.offer(place, envelope)? {
                break;
            }
        }
        Ok(page.finish())
    }

    fn last(&self, part: &StreamPart, filter: &Filter, n: u64) -> Result<Beginning, StorageError> {
        let keys = Keys::of(part);
        let (prefix, cut) = match filter.publisher {
            Some(publisher) => (keys.publisher(publisher), Keys::PUBLISHER_LEN),
            None => (keys.messages().to_vec(), 0),
        };
        let entries = self.db.scan_prefix(&prefix).keys().rev();
        Beginning::of(entries.map(|entry| keys.place_behind(&entry?, cut)), filter, n)
    }

    fn evict(&self, now: Timestamp) -> Result<usize, StorageError> {
        self.change(|writer| self.give_up(writer, now))
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

/// What there is of each stream. Where that was not kept yet it is counted, once.
fn streams(db: &sled::Db) -> Result<BTreeMap<StreamId, Tally>, StorageError> {
    let kept = Tally::load_streams(db)?;
    if !kept.is_empty() {
        return Ok(kept);
    }
    let mut counted: BTreeMap<StreamId, Tally> = BTreeMap::new();
    for entry in db.range(Keys::FIRST.to_vec()..Keys::END.to_vec()) {
        let (key, value) = entry?;
        let (part, place) = Keys::read(&key)?;
        let index = Keys::of(&part).by_publisher(&place);
        counted.entry(part.stream().clone()).or_default().add(key.len() + index.len() + value.len());
    }
    let mut batch = sled::Batch::default();
    counted.iter().for_each(|(stream, tally)| batch.insert(Tally::key_of(stream), &tally.encode()));
    db.apply_batch(batch)?;
    Ok(counted)
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
