//! The store on disk.
//!
//! # What lies in the directory
//! ```text
//! header   how to get from the passphrase or key file to the data key      header.rs
//! state    how far we got, or what we left at the last clean close         state.rs
//! lock     held while a process has the store open
//! sled/    the records, each sealed under the data key                     shelf.rs, seal.rs
//! scratch/ a copy, while a store is checked after a crash                  recover.rs
//! ```
//! Names (publishers, stream ids, key ids, tables) can be read by who has the files; keys and record contents cannot.
//!
//! # What holds
//! - A change is on disk when its call returns, whole or not at all. sled 0.34's `flush` does not sync on Linux, so we do;
//!   writers that wait at the same time share one sync ([`crate::durable`]).
//! - Opening tells a wrong passphrase, a truncated file, damage and a newer version apart, and refuses with the store
//!   unchanged (`recover.rs`).
//! - A change of passphrase wraps one data key again and replaces one small file (`header.rs`).
//!
//! # What does not
//! Someone who can write the directory can put back an older copy of all of it, and no store on one disk could tell.

pub(crate) mod files;
mod header;
mod recover;
mod seal;
mod shelf;
mod state;
mod unlock;

use std::{fmt, path::Path, sync::Arc};

use rand_core::Rng;

pub use self::files::{StoreLock, wait_for_rest};
pub use self::unlock::{KdfCost, Unlock};
use self::{header::Header, seal::Seal, shelf::SledShelf, state::State};
pub(crate) use self::{
    seal::{DATA_KEY_LEN, DataKey},
    unlock::from_passphrase,
};
use crate::{StoreError, delegate::delegate_to_ledger, ledger::Ledger};

/// How a store is opened. The default is what we recommend.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoreConfig {
    /// About how much memory the store may take, in bytes. Default 64 MiB. Some 50 bytes for each key and 10 MiB are spent in any case, a cache
    /// of pages gets what they leave when the store is opened, and an eighth of all this at least: with a million keys, 70 MiB.
    pub cache_bytes: u64,
    /// What a guess at the passphrase costs; used when the store is made, and kept in its header.
    pub kdf: KdfCost,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { cache_bytes: 64 * 1024 * 1024, kdf: KdfCost::default() }
    }
}

impl StoreConfig {
    /// With another bound on the memory.
    #[must_use]
    pub fn cache_bytes(self, cache_bytes: u64) -> Self {
        Self { cache_bytes, ..self }
    }

    /// With another passphrase cost.
    #[must_use]
    pub fn kdf(self, kdf: KdfCost) -> Self {
        Self { kdf, ..self }
    }
}

/// Keys and records on disk, sealed, for one process at a time.
///
/// Dropping it closes it: the last writes are on disk already, and the next opening is quick. A process that dies
/// instead loses nothing that was acknowledged; the next opening then checks every record.
pub struct SledKeyStore {
    ledger: Ledger<SledShelf>,
    // After the ledger: nobody else may come in before the files have come to rest.
    _lock: StoreLock,
}

impl SledKeyStore {
    /// Opens the store in `dir`, or makes one there, with the recommended settings.
    ///
    /// # Errors
    /// See [`open_with`](Self::open_with).
    pub fn open(dir: &Path, unlock: &Unlock) -> Result<Self, StoreError> {
        Self::open_with(dir, unlock, &StoreConfig::default())
    }

    /// Opens the store in `dir`, or makes one there.
    ///
    /// # Errors
    /// - [`StoreError::InUse`]: another process, or this one, has it open.
    /// - [`StoreError::WrongPassphrase`], [`StoreError::WrongUnlockKind`] and the `KeyFile` errors: the unlock does not fit.
    /// - [`StoreError::Truncated`], [`StoreError::Damaged`], [`StoreError::NewerVersion`]: the store was not opened and
    ///   is unchanged.
    /// - [`StoreError::KdfCost`]: the cost asked for is out of range.
    /// - [`StoreError::Io`]: the disk failed.
    pub fn open_with(dir: &Path, unlock: &Unlock, config: &StoreConfig) -> Result<Self, StoreError> {
        files::create_private_dir(dir).map_err(StoreError::io(format!("make the directory {}", dir.display())))?;
        let lock = StoreLock::take(dir)?;
        let (seal, mut state) = match Header::load(dir)? {
            Some(header) => {
                let seal = Arc::new(Seal::new(&header.unwrap_with(unlock)?));
                let state = State::load(dir, Arc::clone(&seal))?;
                recover::check(dir, &state, &seal, config.cache_bytes)?;
                (seal, state)
            }
            None => make(dir, unlock, config.kdf)?,
        };
        state.mark_open()?;
        let shelf = SledShelf::open(dir, seal, state, config.cache_bytes)?;
        Ok(Self { ledger: Ledger::new(shelf), _lock: lock })
    }

    /// Whether there is a store in `dir` that opens with a key file. What cannot be read is none: opening it tells.
    pub fn wants_key_file(dir: &Path) -> bool {
        Header::load(dir).ok().flatten().is_some_and(|header| header.opens_with_key_file())
    }

    /// Lets `new` open the store from now on, and `old` no more. The store must be closed.
    ///
    /// Wraps the data key again and replaces the header, atomically; no record is touched. A new key file is made if it
    /// is not there. A copy of the old header still opens with the old unlock: a passphrase that became known calls for
    /// new group keys, not only for a new passphrase.
    ///
    /// # Errors
    /// [`StoreError::NotAStore`] if there is none; otherwise as [`open_with`](Self::open_with).
    pub fn change_unlock(dir: &Path, old: &Unlock, new: &Unlock) -> Result<(), StoreError> {
        let header = Self::header_of(dir)?;
        Self::change_unlock_with(dir, old, new, header.passphrase_cost().unwrap_or_default())
    }

    /// [`change_unlock`](Self::change_unlock) with another passphrase cost than before.
    ///
    /// # Errors
    /// As [`change_unlock`](Self::change_unlock).
    pub fn change_unlock_with(dir: &Path, old: &Unlock, new: &Unlock, cost: KdfCost) -> Result<(), StoreError> {
        Self::header_of(dir)?;
        let _lock = StoreLock::take(dir)?;
        let data_key = Self::header_of(dir)?.unwrap_with(old)?;
        if let Unlock::KeyFile(path) = new {
            unlock::make_key_file(path)?;
        }
        Header::wrap(&data_key, new, cost)?.save(dir)
    }

    /// [`change_unlock`](Self::change_unlock) for callers that change other files along with it: writes the header that lets `new`
    /// open the store, and `old` no more, into the folder `into`, and changes nothing. Nobody opens the store while the lock lives.
    ///
    /// # Errors
    /// As [`change_unlock`](Self::change_unlock).
    pub fn rewrap(dir: &Path, old: &Unlock, new: &Unlock, into: &Path) -> Result<StoreLock, StoreError> {
        Self::header_of(dir)?;
        let lock = StoreLock::take(dir)?;
        Self::rewrap_header(dir, old, new, into)?;
        Ok(lock)
    }

    /// [`rewrap`](Self::rewrap) for whoever has the store in `dir` open: it goes on as it is, for it holds the data key, which stays.
    ///
    /// # Errors
    /// As [`change_unlock`](Self::change_unlock).
    pub fn rewrap_open(&self, dir: &Path, old: &Unlock, new: &Unlock, into: &Path) -> Result<(), StoreError> {
        Self::rewrap_header(dir, old, new, into)
    }

    fn rewrap_header(dir: &Path, old: &Unlock, new: &Unlock, into: &Path) -> Result<(), StoreError> {
        let header = Self::header_of(dir)?;
        let data_key = header.unwrap_with(old)?;
        if let Unlock::KeyFile(path) = new {
            unlock::make_key_file(path)?;
        }
        Header::wrap(&data_key, new, header.passphrase_cost().unwrap_or_default())?.save(into)
    }

    fn header_of(dir: &Path) -> Result<Header, StoreError> {
        Header::load(dir)?.ok_or_else(|| StoreError::NotAStore { dir: dir.to_owned() })
    }

    pub(crate) fn ledger(&self) -> &Ledger<SledShelf> {
        &self.ledger
    }
}

delegate_to_ledger!(SledKeyStore);

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::{header::reads as reads_header, state::reads as reads_state};

impl fmt::Debug for SledKeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledKeyStore").finish_non_exhaustive()
    }
}

/// A new store. The header comes last: with it the store exists, without it there is nothing to lose.
fn make(dir: &Path, unlock: &Unlock, cost: KdfCost) -> Result<(Arc<Seal>, State), StoreError> {
    if dir.join(files::SLED).exists() {
        return Err(StoreError::damaged("the key store's header (missing)"));
    }
    if let Unlock::KeyFile(path) = unlock {
        unlock::make_key_file(path)?;
    }
    let mut data_key: DataKey = Box::default();
    rand::rng().fill_bytes(&mut data_key[..]);
    let header = Header::wrap(&data_key, unlock, cost)?;
    let seal = Arc::new(Seal::new(&data_key));
    let state = State::create(dir, Arc::clone(&seal))?;
    header.save(dir)?;
    Ok((seal, state))
}
