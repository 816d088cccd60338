//! From layout 1, which had an entry for each message and another for its publisher, and no blocks.
//!
//! ```text
//! # -> tally    s | stream id -> tally    p | partition | publisher | place -> nothing
//! m | partition | place -> version 1 | envelope     as today, but for all messages
//! ```
//! Block by block, each in one atomic batch: whoever is interrupted goes on from there.

use bytes::Bytes;

use super::block::Block;
use super::change::envelope_of;
use super::files::BlockFiles;
use super::info::BlockInfo;
use super::keys::Keys;
use super::{LAYOUT, Sizes};
use crate::storage::{Place, StorageError, memory::size_of};
use crate::stream::StreamPart;

/// Does so; to a folder in which there is nothing yet as well.
pub(super) fn from_one_entry_each(db: &sled::Db, files: &BlockFiles, sizes: &Sizes) -> Result<(), StorageError> {
    let mut next = files.ids()?.last().map_or(1, |last| last + 1);
    let mut piece = Piece::default();
    for entry in db.range(Keys::MESSAGES) {
        let (key, value) = entry?;
        let (part, place) = Keys::read(&key)?;
        if piece.part.as_ref() != Some(&part) {
            piece.forget_index(db)?;
            piece = Piece { part: Some(part), ..Piece::default() };
        }
        let envelope = Bytes::copy_from_slice(envelope_of(&value)?);
        piece.bytes += size_of(&envelope);
        piece.messages.push((place, envelope));
        if piece.bytes >= sizes.block {
            piece.become_block(db, files, next)?;
            next += 1;
        }
    }
    piece.forget_index(db)?;
    let mut batch = sled::Batch::default();
    for key in db.scan_prefix(Keys::OLD_TALLIES).keys() {
        batch.remove(key?);
    }
    batch.remove(Keys::OLD_TALLY);
    batch.insert(Keys::LAYOUT, &[LAYOUT]);
    Ok(db.apply_batch(batch)?)
}

/// Messages that follow each other in one partition.
#[derive(Default)]
struct Piece {
    part: Option<StreamPart>,
    messages: Vec<(Place, Bytes)>,
    bytes: u64,
}

impl Piece {
    /// They stay as they lie, for they are too few; the index by publisher they need no more.
    fn forget_index(&self, db: &sled::Db) -> Result<(), StorageError> {
        let Some(part) = &self.part else { return Ok(()) };
        let (keys, mut batch) = (Keys::of(part), sled::Batch::default());
        self.messages.iter().for_each(|(place, _)| batch.remove(keys.old_by_publisher(place)));
        Ok(db.apply_batch(batch)?)
    }

    fn become_block(&mut self, db: &sled::Db, files: &BlockFiles, id: u64) -> Result<(), StorageError> {
        let Some(part) = &self.part else { return Ok(()) };
        let file = files.write(id, &Block::encode(&self.messages))?;
        files.sync()?;
        let (keys, mut batch) = (Keys::of(part), sled::Batch::default());
        for (place, _) in &self.messages {
            batch.remove(keys.message(place));
            batch.remove(keys.old_by_publisher(place));
        }
        if let Some(info) = BlockInfo::of(file, &self.messages) {
            batch.insert(keys.block(id), info.encode());
        }
        db.apply_batch(batch)?;
        self.messages.clear();
        self.bytes = 0;
        Ok(())
    }
}
