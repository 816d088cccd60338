//! The two narrow traits a store offers, shaped by the protocol and not by a database.

use crate::{GroupKey, HistoryCursor, KeyId, KeyOrigin, KeyScope, StoreError, StoredKey, TimeRange};

/// The longest value a [`RecordStore`] takes, in bytes.
pub const MAX_RECORD_LEN: usize = 64 * 1024;
/// The longest key or table name a [`RecordStore`] takes, in bytes.
pub const MAX_RECORD_KEY_LEN: usize = 1024;
/// How many changes one [`RecordStore::write`] takes.
pub const MAX_RECORD_CHANGES: usize = 4096;

/// A record: its key and its value.
pub type Record = (Vec<u8>, Vec<u8>);
/// A change of one record: its key and its new value; `None` deletes it.
pub type RecordChange = (Vec<u8>, Option<Vec<u8>>);

/// Group keys at rest.
///
/// Whatever changes a store is on disk when the call returns, all of it or nothing. Calls block for as long as the disk
/// takes, so an async program makes them on a thread that may wait.
pub trait KeyStore: Send + Sync {
    /// One key by its full name.
    ///
    /// `Ok(None)`: never had it. `Err`: the disk failed or the record is damaged. Callers react differently.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails or the record is damaged or newer than this program.
    fn key(&self, scope: &KeyScope, id: &KeyId) -> Result<Option<StoredKey>, StoreError>;

    /// The key last given to [`make_current`](Self::make_current). Whatever is returned here is durable.
    ///
    /// # Errors
    /// As [`key`](Self::key).
    fn current(&self, scope: &KeyScope) -> Result<Option<StoredKey>, StoreError>;

    /// Adds a key and makes it the current one; the period of the one before ends where this one starts.
    ///
    /// Order is strict: a `since` not after the current key's is raised to one millisecond after it. Saying the same
    /// again changes nothing. A key already known from [`add`](Self::add) keeps its origin and its earlier start.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the scope has other bytes under this id; otherwise as [`key`](Self::key).
    fn make_current(&self, scope: &KeyScope, key: &GroupKey, since: u64) -> Result<(), StoreError>;

    /// Adds a received or pre-agreed key; which key is current stays as it is.
    ///
    /// Adding the same key again widens its period: the earlier start, the later end, and a known end over an unknown
    /// one. The period of a key we made is exact already and stays, and so does the open end of the current key.
    ///
    /// # Errors
    /// As [`make_current`](Self::make_current).
    fn add(
        &self,
        scope: &KeyScope,
        key: &GroupKey,
        since: u64,
        until: Option<u64>,
        origin: KeyOrigin,
    ) -> Result<(), StoreError>;

    /// Adds several keys as [`add`](Self::add) does, all of them or none, with one wait for the disk.
    ///
    /// Returns the ids left out: those under which the scope has other bytes, and those that an earlier one of `keys` has.
    ///
    /// # Errors
    /// As [`key`](Self::key).
    fn add_all(&self, scope: &KeyScope, keys: &[StoredKey]) -> Result<Vec<KeyId>, StoreError>;

    /// Takes out a key found to be wrong; `false` if there was none. If it was current, the scope has no current key
    /// until the next [`make_current`](Self::make_current).
    ///
    /// # Errors
    /// As [`key`](Self::key).
    fn remove(&self, scope: &KeyScope, id: &KeyId) -> Result<bool, StoreError>;

    /// Takes out several keys as [`remove`](Self::remove) does, all of them or none, with one wait for the disk, and tells how many
    /// there were. A store that does not say better takes them out one by one.
    ///
    /// # Errors
    /// As [`key`](Self::key).
    fn remove_all(&self, scope: &KeyScope, ids: &[KeyId]) -> Result<u64, StoreError> {
        let mut removed = 0;
        for id in ids {
            removed += u64::from(self.remove(scope, id)?);
        }
        Ok(removed)
    }

    /// The keys in use at any moment of `range`, ordered by `since` and then id, at most `limit` of them.
    ///
    /// The next page starts strictly `after` the [`cursor`](StoredKey::cursor) of the last key; an empty page is the end.
    ///
    /// # Errors
    /// As [`key`](Self::key).
    fn history(
        &self,
        scope: &KeyScope,
        range: TimeRange,
        after: Option<&HistoryCursor>,
        limit: usize,
    ) -> Result<Vec<StoredKey>, StoreError>;

    /// Every scope that has keys, ordered.
    ///
    /// # Errors
    /// As [`key`](Self::key).
    fn scopes(&self) -> Result<Vec<KeyScope>, StoreError>;
}

/// Small sealed records beside the keys: permissions, grants, the heads of a publisher's chains.
///
/// Values are sealed like keys. Tables and keys are not: they order the file, so they hold names and no secrets.
pub trait RecordStore: Send + Sync {
    /// One record, `Ok(None)` if there is none.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails or the record is damaged or newer than this program.
    fn get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Applies all changes or none; `None` deletes. Of two changes to one key the later counts.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] beyond [`MAX_RECORD_LEN`], [`MAX_RECORD_KEY_LEN`] or [`MAX_RECORD_CHANGES`], and then
    /// nothing was written; otherwise as [`get`](Self::get).
    fn write(&self, table: &str, changes: &[RecordChange]) -> Result<(), StoreError>;

    /// Records whose key starts with `prefix` and comes strictly after `after`, in key order, at most `limit`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn scan(&self, table: &str, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Record>, StoreError>;
}

/// Keys and records in one place: what a client wants.
pub trait Store: KeyStore + RecordStore {}

impl<T: KeyStore + RecordStore + ?Sized> Store for T {}
