//! All of a store into a file, and out of a file a new store.

use std::{
    fs, io,
    io::{Read, Seek, Write},
    path::Path,
};

use super::{
    Attachment, Kind, MAX_FILES, PortableError, PortableFile, Progress, Sealing, Step, Summary, Watch,
    file::write_file,
    item::{Item, ItemWriter},
};
use crate::{
    SledKeyStore, StoreConfig, Unlock,
    ledger::{Entry, Ledger, Shelf},
    sled_store::files,
};

/// A restored store takes so many entries, or so many bytes, with one wait for the disk.
const BATCH_ENTRIES: usize = 1024;
const BATCH_BYTES: usize = 1024 * 1024;
/// Progress is told after so many entries.
const TELL_EVERY: u64 = 256;

/// Writes all of a store, and `files` that belong to it, to a new file at `path`; with `replace` an existing file gives way
/// to it, once it is whole. The store's writers wait meanwhile.
///
/// The file is written under another name in the same folder, synced, read back, and renamed. A process that dies leaves at
/// most that other file, whose name begins with `.veilcast-`.
///
/// # Errors
/// [`PortableError::Exists`], [`PortableError::NotAFile`], [`PortableError::TooLarge`], [`PortableError::Cost`], [`PortableError::Io`] or
/// [`PortableError::Store`]; then `path` is as it was.
pub fn back_up(
    store: &SledKeyStore,
    files: &[Attachment],
    path: &Path,
    sealing: &Sealing<'_>,
    replace: bool,
    watch: &mut Watch<'_>,
) -> Result<Summary, PortableError> {
    write_file(path, replace, Kind::Backup, sealing, watch, |items, watch| put_all(store.ledger(), files, items, watch))
}

pub(super) fn put_all<S: Shelf, W: Write>(
    ledger: &Ledger<S>,
    files: &[Attachment],
    items: &mut ItemWriter<W>,
    watch: &mut Watch<'_>,
) -> Result<(), PortableError> {
    if files.len() > MAX_FILES {
        return Err(PortableError::TooLarge { what: "the list of files", got: files.len(), limit: MAX_FILES });
    }
    for file in files {
        items.put(&Item::File(file.clone()))?;
    }
    let (total, mut done, mut told) = (ledger.estimate()?, 0, 0);
    ledger.each(|entry| {
        done += 1;
        items.put(&Item::Entry(entry))?;
        if done - told >= TELL_EVERY || done == total {
            watch(Progress { step: Step::Writing, done, total });
            told = done;
        }
        Ok(())
    })
}

/// Makes the store that a backup holds, with a data key of its own, in `dir`, which must be empty or not there. Returns the
/// files that went along.
///
/// The backup is read to its end before anything is made. The store is made in place: a process that dies meanwhile leaves a
/// store that lacks something and does not say so. Make it beside its place, and then [`Placing`](crate::durable::Placing)
/// puts it there whole.
///
/// # Errors
/// [`PortableError::OtherKind`], [`PortableError::NotEmpty`], the errors of [`PortableFile::verify`], and then nothing was
/// made; [`PortableError::Store`], and then what was made is removed again.
pub fn restore<R: Read + Seek>(
    backup: &mut PortableFile<R>,
    dir: &Path,
    unlock: &Unlock,
    config: &StoreConfig,
    watch: &mut Watch<'_>,
) -> Result<(Summary, Vec<Attachment>), PortableError> {
    backup.expect(Kind::Backup)?;
    check_empty(dir)?;
    let expected = backup.verify(watch)?;
    let restored = fill_store(backup, dir, unlock, config, watch);
    match restored {
        Ok((summary, files)) if summary == expected => Ok((summary, files)),
        failed => {
            // What is there is ours: the folder was empty.
            let _ = files::remove_tree(dir);
            failed.and(Err(PortableError::Unverified))
        }
    }
}

fn fill_store<R: Read + Seek>(
    backup: &mut PortableFile<R>,
    dir: &Path,
    unlock: &Unlock,
    config: &StoreConfig,
    watch: &mut Watch<'_>,
) -> Result<(Summary, Vec<Attachment>), PortableError> {
    let store = SledKeyStore::open_with(dir, unlock, config)?;
    let (mut files, mut batch) = (Vec::new(), Batch::default());
    let summary = backup.each(Step::TakingIn, watch, |item| {
        match item {
            Item::File(_) if files.len() >= MAX_FILES => return Err(PortableError::damaged("too many files")),
            Item::File(file) => files.push(file),
            Item::Entry(entry) => {
                if batch.push(entry) {
                    store.ledger().fill(batch.take())?;
                }
            }
        }
        Ok(())
    })?;
    store.ledger().fill(batch.take())?;
    Ok((summary, files))
}

/// Entries on their way into the store.
#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    bytes: usize,
}

impl Batch {
    /// Whether it is full.
    fn push(&mut self, entry: Entry) -> bool {
        self.bytes += match &entry {
            Entry::Key { scope, .. } => scope.stream().len() + 64,
            Entry::Record { table, key, value } => table.len() + key.len() + value.len(),
        };
        self.entries.push(entry);
        self.entries.len() >= BATCH_ENTRIES || self.bytes >= BATCH_BYTES
    }

    fn take(&mut self) -> Vec<Entry> {
        self.bytes = 0;
        std::mem::take(&mut self.entries)
    }
}

fn check_empty(dir: &Path) -> Result<(), PortableError> {
    let io_fault = PortableError::io(format!("look into {}", dir.display()));
    match fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(PortableError::NotEmpty { dir: dir.to_owned() }),
        },
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(fault) => Err(io_fault(fault)),
    }
}
