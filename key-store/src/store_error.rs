//! What can go wrong with a store, and what to do next.

use std::{io, path::PathBuf};

use crate::{KeyId, durable::Broken};

/// A store could not do as asked. Each message says why and what to do next; none holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Somebody else has it open.
    #[error("the key store {} is in use by another process; stop that process or choose another directory", dir.display())]
    InUse {
        /// The store.
        dir: PathBuf,
    },
    /// The passphrase or the key file is not this store's.
    #[error("wrong passphrase or key file: the key store did not open; try again with the one it was made with")]
    WrongPassphrase,
    /// A passphrase was given for a store that opens with a key file, or the other way round.
    #[error("this key store opens with a {expected}; give that instead")]
    WrongUnlockKind {
        /// What the store wants.
        expected: &'static str,
    },
    /// A file of the store lost its end.
    #[error(
        "{file} is truncated: {found} bytes of at least {expected}; nothing was changed, restore the key store from a backup"
    )]
    Truncated {
        /// The file, or the folder whose files were added up.
        file: String,
        /// How long it was when last written.
        expected: u64,
        /// How long it is.
        found: u64,
    },
    /// A file or record is not what was written.
    #[error("{what} is damaged; nothing was changed, restore the key store from a backup")]
    Damaged {
        /// What is damaged.
        what: String,
    },
    /// Written by a later version of this program.
    #[error("written in format version {found}, this program knows up to {supported}; use a newer program")]
    NewerVersion {
        /// The version found.
        found: u8,
        /// The newest version this program reads.
        supported: u8,
    },
    /// The scope has a key with this id and other bytes.
    #[error("another key is stored under the id {id}; remove that one first if it is wrong")]
    Conflict {
        /// The id.
        id: KeyId,
    },
    /// A record or a group of changes is over a named limit.
    #[error("{what} is too large: {got}, the limit is {limit}; split it")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        got: usize,
        /// The limit.
        limit: usize,
    },
    /// Others can read the key file.
    #[error("the key file {} may be read by others (mode {mode:04o}); make it private with chmod 600", path.display())]
    KeyFilePermissions {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A store exists, its key file does not.
    #[error("the key file {} does not exist; put back the one this key store was made with", path.display())]
    KeyFileMissing {
        /// The key file.
        path: PathBuf,
    },
    /// The key file does not hold a key.
    #[error("the key file {} is not 64 hex characters; put back the one this key store was made with", path.display())]
    KeyFileFormat {
        /// The key file.
        path: PathBuf,
    },
    /// There is no key store to work on.
    #[error("{} holds no key store; check the path", dir.display())]
    NotAStore {
        /// The directory.
        dir: PathBuf,
    },
    /// The passphrase cost is outside what this program accepts.
    #[error("the passphrase cost is out of range: {rule}; choose another")]
    KdfCost {
        /// The rule it breaks.
        rule: String,
    },
    /// An earlier write failed, so what is on disk is not certain any more.
    #[error("an earlier write did not reach the disk; see to the disk and open the key store again")]
    Broken,
    /// The disk failed.
    #[error("could not {action}: {source}; see to the disk or the permissions and try again")]
    Io {
        /// What was being done.
        action: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl From<Broken> for StoreError {
    fn from(_: Broken) -> Self {
        Self::Broken
    }
}

impl StoreError {
    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged { what: what.into() }
    }

    /// For `map_err`: names what was being done when the disk failed.
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}
