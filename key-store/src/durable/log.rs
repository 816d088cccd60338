//! The sync that sled's flush leaves out.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::sled_store::files;

/// The files of an open sled database, and which of them are known to be on disk.
#[derive(Debug)]
pub struct SyncedLog {
    log: File,
    blobs: Mutex<Vec<OsString>>,
    sled: PathBuf,
}

impl SyncedLog {
    /// For the database that is open in the folder `sled`, all of which is on disk when this returns.
    ///
    /// # Errors
    /// The disk failed.
    pub fn open(sled: &Path) -> io::Result<Self> {
        files::sync_tree(sled)?;
        if let Some(parent) = sled.parent() {
            files::sync_dir(parent)?;
        }
        Ok(Self { log: File::open(sled.join("db"))?, blobs: Mutex::default(), sled: sled.to_owned() })
    }

    /// Everything that was flushed is on disk when this returns. Answers the length of the log, bytes.
    ///
    /// # Errors
    /// The disk failed: nothing is certain any more.
    pub fn sync(&self) -> io::Result<u64> {
        self.sync_new_blobs()?;
        self.log.sync_all()?;
        self.len()
    }

    /// The length of the log, bytes.
    pub(crate) fn len(&self) -> io::Result<u64> {
        Ok(self.log.metadata()?.len())
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.sled
    }

    #[cfg(test)]
    pub(crate) fn blobs_known(&self) -> usize {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// sled puts a node over 128 KiB into a file of its own, written once and never changed.
    fn sync_new_blobs(&self) -> io::Result<()> {
        let dir = self.sled.join("blobs");
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir)? {
            found.push(entry?.file_name());
        }
        found.sort();
        let mut known = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == found {
            return Ok(());
        }
        for name in found.iter().filter(|name| known.binary_search(name).is_err()) {
            match File::open(dir.join(name)) {
                Ok(file) => file.sync_all()?,
                Err(fault) if fault.kind() == io::ErrorKind::NotFound => {} // sled removed it again
                Err(fault) => return Err(fault),
            }
        }
        *known = found;
        files::sync_dir(&dir)
    }
}
