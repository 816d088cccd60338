//! What can go wrong with stored messages, and what to do next.

use std::io;
use std::path::PathBuf;

use veilcast_key_store::StoreError;
use veilcast_key_store::durable::Broken;

/// A message store could not do as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// Somebody else has it open.
    #[error("the message store {} is in use by another process; stop that process or choose another folder", dir.display())]
    InUse {
        /// The folder.
        dir: PathBuf,
    },
    /// What lies there is not what was written.
    #[error(
        "the message store is damaged: {what}; restore it from a copy, or begin with an empty folder and keep this one: nothing fills it again with what was stored before"
    )]
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
    /// An earlier write failed, so what is on disk is not certain any more.
    #[error("an earlier write did not reach the disk; see to the disk and open the message store again")]
    Broken,
    /// The disk failed.
    #[error("could not {action} the message store: {source}; see to the disk or the permissions and try again")]
    Io {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl StorageError {
    pub(super) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }

    pub(super) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged { what: what.into() }
    }

    /// Of the lock on the folder, which is the key store's kind.
    pub(super) fn of_lock(fault: StoreError) -> Self {
        match fault {
            StoreError::InUse { dir } => Self::InUse { dir },
            StoreError::Io { source, .. } => Self::Io { action: "lock", source },
            other => Self::Io { action: "lock", source: io::Error::other(other) },
        }
    }
}

impl From<Broken> for StorageError {
    fn from(_: Broken) -> Self {
        Self::Broken
    }
}

impl From<sled::Error> for StorageError {
    fn from(fault: sled::Error) -> Self {
        match fault {
            sled::Error::Io(source) if source.kind() != io::ErrorKind::UnexpectedEof => {
                Self::Io { action: "use", source }
            }
            other => Self::damaged(other.to_string()),
        }
    }
}
