//! What is found when a store is opened.

use std::collections::BTreeSet;

use super::Sizes;
use super::change::envelope_of;
use super::files::BlockFiles;
use super::info::BlockInfo;
use super::keys::Keys;
use super::view::{Step, View};
use super::{LAYOUT, migrate};
use crate::storage::StorageError;

/// All that an open store knows.
pub(super) struct Opened {
    pub(super) view: View,
    pub(super) last_block: u64,
    /// Files that no index names: a crash left them.
    pub(super) strays: BTreeSet<u64>,
}

/// Reads the index, brought to the layout of today where it is of an earlier one.
pub(super) fn read(db: &sled::Db, files: &BlockFiles, sizes: &Sizes) -> Result<Opened, StorageError> {
    match db.get(Keys::LAYOUT)?.as_deref() {
        Some(&[LAYOUT]) => {}
        Some(&[found, ..]) if found > LAYOUT => return Err(StorageError::NewerVersion { found, supported: LAYOUT }),
        Some(_) => return Err(StorageError::damaged("its layout")),
        None => migrate::from_one_entry_each(db, files, sizes)?,
    }
    let ids = files.ids()?;
    let last_block = ids.last().copied().unwrap_or(0);
    let (mut view, mut strays) = (View::default(), ids);
    for entry in db.range(Keys::MESSAGES) {
        let (key, value) = entry?;
        let (part, place) = Keys::read(&key)?;
        view.apply(&part, Step::PutFresh(place, envelope_of(&value)?.to_vec().into()));
    }
    for entry in db.range(Keys::BLOCKS) {
        let (key, value) = entry?;
        let (part, id) = Keys::read_block(&key)?;
        if !strays.remove(&id) {
            return Err(StorageError::damaged("a block of messages is missing"));
        }
        view.apply(&part, Step::PutBlock(BlockInfo::decode(files.file(id), &value)?));
    }
    view.check()?;
    Ok(Opened { view, last_block, strays })
}
