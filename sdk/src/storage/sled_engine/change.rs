//! A change, made at once on disk and in memory.

use std::sync::Arc;

use bytes::Bytes;

use super::files::BlockFile;
use super::info::BlockInfo;
use super::keys::Keys;
use super::view::{Step, View};
use crate::storage::{Place, StorageError};
use crate::stream::StreamPart;

/// Version of a message that lies by itself.
const VERSION: u8 = 1;

/// What is to change, of any partitions: all of it or nothing.
#[derive(Debug, Default)]
pub(super) struct Change {
    batch: sled::Batch,
    steps: Vec<(StreamPart, Step)>,
    /// Files that the index names no more after it.
    left: Vec<Arc<BlockFile>>,
}

impl Change {
    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    pub(super) fn put_fresh(&mut self, part: &StreamPart, place: Place, envelope: &[u8]) {
        self.batch.insert(Keys::of(part).message(&place), [&[VERSION], envelope].concat());
        // A copy: the envelope may be a piece of a frame that is much larger.
        self.steps.push((part.clone(), Step::PutFresh(place, Bytes::copy_from_slice(envelope))));
    }

    pub(super) fn drop_fresh(&mut self, part: &StreamPart, place: Place) {
        self.batch.remove(Keys::of(part).message(&place));
        self.steps.push((part.clone(), Step::DropFresh(place)));
    }

    pub(super) fn put_block(&mut self, part: &StreamPart, block: BlockInfo) {
        self.batch.insert(Keys::of(part).block(block.file.id), block.encode());
        self.steps.push((part.clone(), Step::PutBlock(block)));
    }

    pub(super) fn drop_block(&mut self, part: &StreamPart, block: &BlockInfo) {
        self.batch.remove(Keys::of(part).block(block.file.id));
        self.steps.push((part.clone(), Step::DropBlock(block.first)));
        self.left.push(block.file.clone());
    }

    /// The same block with some of its messages given up.
    pub(super) fn trim_block(&mut self, part: &StreamPart, block: &BlockInfo, trimmed: BlockInfo) {
        self.steps.push((part.clone(), Step::DropBlock(block.first)));
        self.put_block(part, trimmed);
    }

    /// Nothing of it is on disk for certain before the next flush. Answers which files are to go after that.
    pub(super) fn apply(self, db: &sled::Db, view: &mut View) -> Result<Vec<Arc<BlockFile>>, StorageError> {
        db.apply_batch(self.batch)?;
        for (part, step) in self.steps {
            view.apply(&part, step);
        }
        Ok(self.left)
    }
}

/// What stands behind the version of a message that lies by itself.
pub(super) fn envelope_of(value: &[u8]) -> Result<&[u8], StorageError> {
    match value.split_first() {
        Some((&VERSION, envelope)) => Ok(envelope),
        Some((&found, _)) if found > VERSION => Err(StorageError::NewerVersion { found, supported: VERSION }),
        _ => Err(StorageError::damaged("a message makes no sense")),
    }
}
