//! A store in memory whose disk may fail.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Condvar, Mutex};

use veilcast::key_store::{
    GroupKey, HistoryCursor, KeyId, KeyOrigin, KeyScope, KeyStore, MemoryKeyStore, Record, RecordChange, RecordStore,
    StoreError, StoredKey, TimeRange,
};

/// Writes that a sound disk takes: more than any run makes.
const SOUND: u32 = u32::MAX;

/// What a publisher keeps. Every write is durable once it returned.
pub(crate) struct Disk {
    inner: MemoryKeyStore,
    broken: AtomicBool,
    writes_left: AtomicU32,
    key_reads: Mutex<Reads>,
    changed: Condvar,
}

/// Whether whoever reads a key is made to wait, and whether somebody does.
#[derive(Default)]
struct Reads {
    held: bool,
    waiting: bool,
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self {
            inner: MemoryKeyStore::new(),
            broken: AtomicBool::new(false),
            writes_left: AtomicU32::new(SOUND),
            key_reads: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// It fails for good after so many more writes; with none left it cannot be read either.
    pub(crate) fn wear_out(&self, writes: u32) {
        self.writes_left.store(writes, Ordering::Relaxed);
        self.broken.store(writes == 0, Ordering::Relaxed);
    }

    pub(crate) fn mend(&self) {
        self.wear_out(SOUND);
    }

    /// Whoever reads a key from now on waits.
    pub(crate) fn hold(&self) {
        self.key_reads.lock().unwrap().held = true;
    }

    pub(crate) fn let_go(&self) {
        self.key_reads.lock().unwrap().held = false;
        self.changed.notify_all();
    }

    pub(crate) fn somebody_waits(&self) -> bool {
        self.key_reads.lock().unwrap().waiting
    }

    /// What is on it, even if it cannot be read now.
    pub(crate) fn has(&self, scope: &KeyScope, id: &KeyId) -> bool {
        self.inner.key(scope, id).unwrap().is_some()
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    fn reads(&self) -> Result<&MemoryKeyStore, StoreError> {
        if self.broken.load(Ordering::Relaxed) { Err(failed()) } else { Ok(&self.inner) }
    }

    fn writes(&self) -> Result<&MemoryKeyStore, StoreError> {
        let left = self.writes_left.load(Ordering::Relaxed);
        if left == 0 {
            self.broken.store(true, Ordering::Relaxed);
            return Err(failed());
        }
        self.writes_left.store(if left == SOUND { left } else { left - 1 }, Ordering::Relaxed);
        Ok(&self.inner)
    }
}

fn failed() -> StoreError {
    StoreError::Damaged { what: "the simulated disk".into() }
}

impl KeyStore for Disk {
    fn key(&self, scope: &KeyScope, id: &KeyId) -> Result<Option<StoredKey>, StoreError> {
        let mut reads = self.key_reads.lock().unwrap();
        while reads.held {
            reads.waiting = true;
            reads = self.changed.wait(reads).unwrap();
        }
        drop(reads);
        self.reads()?.key(scope, id)
    }

    fn current(&self, scope: &KeyScope) -> Result<Option<StoredKey>, StoreError> {
        self.reads()?.current(scope)
    }

    fn make_current(&self, scope: &KeyScope, key: &GroupKey, since: u64) -> Result<(), StoreError> {
        self.writes()?.make_current(scope, key, since)
    }

    fn add(
        &self,
        scope: &KeyScope,
        key: &GroupKey,
        since: u64,
        until: Option<u64>,
        origin: KeyOrigin,
    ) -> Result<(), StoreError> {
        self.writes()?.add(scope, key, since, until, origin)
    }

    fn add_all(&self, scope: &KeyScope, keys: &[StoredKey]) -> Result<Vec<KeyId>, StoreError> {
        self.writes()?.add_all(scope, keys)
    }

    fn remove(&self, scope: &KeyScope, id: &KeyId) -> Result<bool, StoreError> {
        self.writes()?.remove(scope, id)
    }

    fn history(
        &self,
        scope: &KeyScope,
        range: TimeRange,
        after: Option<&HistoryCursor>,
        limit: usize,
    ) -> Result<Vec<StoredKey>, StoreError> {
        self.reads()?.history(scope, range, after, limit)
    }

    fn scopes(&self) -> Result<Vec<KeyScope>, StoreError> {
        self.reads()?.scopes()
    }
}

impl RecordStore for Disk {
    fn get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.reads()?.get(table, key)
    }

    fn write(&self, table: &str, changes: &[RecordChange]) -> Result<(), StoreError> {
        self.writes()?.write(table, changes)
    }

    fn scan(&self, table: &str, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.reads()?.scan(table, prefix, after, limit)
    }
}
