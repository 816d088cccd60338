//! How a change is made, and how it comes to be on disk.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, MutexGuard, PoisonError, RwLockReadGuard};

use super::SledMessageStore;
use super::change::Change;
use super::files::BlockFile;
use super::view::View;
use crate::storage::{Appended, Place, StorageError};
use crate::stream::StreamPart;
use crate::time::Timestamp;
use crate::wire::{MessageContent, Verified};

/// What every change needs, one at a time.
#[derive(Debug)]
pub(super) struct Writer {
    seq: u64,
    /// The number of the last block that was made.
    last_block: u64,
    /// Files that go when the change is on disk.
    left: Vec<Arc<BlockFile>>,
}

impl Writer {
    pub(super) fn beginning_behind(last_block: u64) -> Self {
        Self { seq: 0, last_block, left: Vec::new() }
    }

    pub(super) fn next_block(&mut self) -> u64 {
        self.last_block += 1;
        self.last_block
    }
}

impl SledMessageStore {
    /// A change, and the wait for the disk. Once one failed, sled's view may be ahead of its log: no further one is begun, and
    /// nothing is acknowledged any more, not even what is there.
    pub(super) fn change<T>(
        &self,
        change: impl FnOnce(&mut Writer) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let (changed, left) = {
            let mut writer = self.writer();
            self.not_broken()?;
            // sled asserts as well as reports.
            let changed = catch_unwind(AssertUnwindSafe(|| change(&mut writer))).unwrap_or(Err(StorageError::Broken));
            (changed, std::mem::take(&mut writer.left))
        };
        let changed = changed.inspect_err(|_| self.commits.break_off())?;
        self.settle()?;
        self.not_broken()?;
        left.iter().for_each(|file| self.files.forget(file));
        Ok(changed)
    }

    pub(super) fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn not_broken(&self) -> Result<(), StorageError> {
        if self.commits.is_broken() { Err(StorageError::Broken) } else { Ok(()) }
    }

    /// One atomic batch, seen by readers as one.
    pub(super) fn apply(&self, writer: &mut Writer, change: Change) -> Result<(), StorageError> {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        writer.left.extend(change.apply(&self.db, &mut view)?);
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
    pub(super) fn insert(
        &self,
        writer: &mut Writer,
        now: Timestamp,
        messages: &[Verified<MessageContent>],
    ) -> Result<Appended, StorageError> {
        let (mut appended, mut change) = (Appended::default(), Change::default());
        let mut new: BTreeSet<(&StreamPart, Place)> = BTreeSet::new();
        for message in messages {
            let (part, place) = (&message.content().part, Place::from(message.content()));
            if !self.limits.takes(place.at.timestamp, now) {
                appended.out_of_range += 1;
            } else if new.contains(&(part, place)) || self.has(part, &place)? {
                appended.known += 1;
            } else {
                change.put_fresh(part, place, message.envelope());
                new.insert((part, place));
                appended.stored += 1;
            }
        }
        if !change.is_empty() {
            self.apply(writer, change)?;
        }
        Ok(appended)
    }

    /// Whether there is a message at this place. What comes in its time is behind all blocks, and none is read for it.
    fn has(&self, part: &StreamPart, place: &Place) -> Result<bool, StorageError> {
        let held = self.view().part(part);
        if held.fresh.contains_key(place) {
            return Ok(true);
        }
        match held.block_at(place).filter(|block| block.last >= *place) {
            Some(block) => Ok(self.files.load(block)?.contains(place)),
            None => Ok(false),
        }
    }
}
