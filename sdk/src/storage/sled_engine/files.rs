//! The files that blocks lie in: one for each, written once and never changed.
//!
//! A file is whole and on disk before the index names it, and goes only after the index that does not name it any more is on
//! disk. What a crash leaves in between is removed when the store is opened again.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use lru::LruCache;

use super::block::Block;
use super::info::BlockInfo;
use crate::storage::StorageError;

/// One block's file. Whoever reads of it holds this, so that it does not go under his hands.
#[derive(Debug)]
pub(super) struct BlockFile {
    pub(super) id: u64,
    dir: Arc<Path>,
    doomed: AtomicBool,
}

impl BlockFile {
    fn path(&self) -> PathBuf {
        self.dir.join(format!("{:016x}", self.id))
    }

    /// It goes with its last reader. Only once no index on disk names it.
    pub(super) fn doom(&self) {
        self.doomed.store(true, Ordering::Release);
    }
}

impl Drop for BlockFile {
    fn drop(&mut self) {
        if *self.doomed.get_mut() {
            // Where that fails it lies in nobody's way until the store is opened again.
            let _ = fs::remove_file(self.path());
        }
    }
}

/// The folder of blocks, and those of them that were read last.
pub(super) struct BlockFiles {
    dir: Arc<Path>,
    cache: Mutex<Cache>,
}

struct Cache {
    blocks: LruCache<u64, Arc<Block>>,
    bytes: usize,
    most: usize,
}

impl BlockFiles {
    /// Blocks of so many bytes are kept in memory.
    pub(super) fn open(dir: &Path, most: usize) -> Result<Self, StorageError> {
        super::make_private(dir).map_err(StorageError::io("make the folder of"))?;
        Ok(Self { dir: dir.into(), cache: Mutex::new(Cache { blocks: LruCache::unbounded(), bytes: 0, most }) })
    }

    pub(super) fn file(&self, id: u64) -> Arc<BlockFile> {
        Arc::new(BlockFile { id, dir: self.dir.clone(), doomed: AtomicBool::new(false) })
    }

    /// The numbers of the blocks that lie there.
    pub(super) fn ids(&self) -> Result<BTreeSet<u64>, StorageError> {
        let list = || fs::read_dir(&self.dir)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>();
        let names = list().map_err(StorageError::io("list the blocks of"))?;
        let id = |name: &std::ffi::OsString| {
            let name = name.to_str().filter(|name| name.len() == 16)?;
            u64::from_str_radix(name, 16).ok()
        };
        Ok(names.iter().filter_map(id).collect())
    }

    /// Writes a block's file. Its name is on disk after [`sync`](Self::sync).
    pub(super) fn write(&self, id: u64, bytes: &[u8]) -> Result<Arc<BlockFile>, StorageError> {
        let file = self.file(id);
        let write = || {
            let mut out = File::create_new(file.path())?;
            out.write_all(bytes)?;
            out.sync_all()
        };
        write().map_err(StorageError::io("write a block of"))?;
        Ok(file)
    }

    pub(super) fn sync(&self) -> Result<(), StorageError> {
        sync_dir(&self.dir).map_err(StorageError::io("sync"))
    }

    /// The block that is spoken of.
    pub(super) fn load(&self, info: &BlockInfo) -> Result<Arc<Block>, StorageError> {
        if let Some(block) = self.cache().blocks.get(&info.file.id) {
            return Ok(block.clone());
        }
        let bytes = fs::read(info.file.path()).map_err(|fault| match fault.kind() {
            io::ErrorKind::NotFound => StorageError::damaged("a block of messages is missing"),
            _ => StorageError::io("read a block of")(fault),
        })?;
        let block = Arc::new(Block::decode(Bytes::from(bytes))?);
        if !info.fits(&block) {
            return Err(StorageError::damaged("a block is not the one that its index names"));
        }
        self.cache().keep(info.file.id, block.clone());
        Ok(block)
    }

    /// The index does not name it any more.
    pub(super) fn forget(&self, file: &BlockFile) {
        self.cache().forget(file.id);
        file.doom();
    }

    /// Bytes of the blocks that are kept in memory.
    #[cfg(test)]
    pub(super) fn cached(&self) -> usize {
        self.cache().bytes
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    fn keep(&mut self, id: u64, block: Arc<Block>) {
        self.bytes += block.size();
        if let Some(before) = self.blocks.put(id, block) {
            self.bytes -= before.size();
        }
        while self.bytes > self.most {
            let Some((_, oldest)) = self.blocks.pop_lru() else { break };
            self.bytes -= oldest.size();
        }
    }

    fn forget(&mut self, id: u64) {
        if let Some(block) = self.blocks.pop(&id) {
            self.bytes -= block.size();
        }
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    // Elsewhere a directory cannot be opened as a file, and renames are durable without it.
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}
