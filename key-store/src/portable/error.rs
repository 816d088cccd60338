//! What can be wrong with a portable file, and what to do next.

use std::{io, path::PathBuf};

use super::Kind;
use crate::StoreError;

/// A portable file could not be written, read or taken in. None of the messages holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortableError {
    /// It does not begin as these files do.
    #[error("it is no backup or export of keys; name the file that was written")]
    NotPortable,
    /// Written by a later version of this program.
    #[error("it is written in format version {found}, this program knows up to {supported}; use a newer program")]
    NewerVersion {
        /// The version found.
        found: u8,
        /// The newest version this program reads.
        supported: u8,
    },
    /// The file is whole as far as one can see, and this is not its passphrase.
    #[error("wrong passphrase; give the one it was written with")]
    WrongPassphrase,
    /// Its end is missing.
    #[error("it is truncated; nothing was changed, use another copy")]
    Truncated,
    /// It is not what was written.
    #[error("it is damaged ({what}); nothing was changed, use another copy")]
    Damaged {
        /// Where.
        what: &'static str,
    },
    /// The passphrase costs more, or less, than this program accepts.
    #[error("the cost of its passphrase is out of range: {rule}; nothing was tried")]
    Cost {
        /// The rule it breaks.
        rule: String,
    },
    /// A backup where an export is wanted, or the other way round.
    #[error("it is {found}, not {wanted}; nothing was changed, take it in with the other command")]
    OtherKind {
        /// What it is.
        found: Kind,
        /// What was asked for.
        wanted: Kind,
    },
    /// Something is too long for a portable file.
    #[error("{what} is too large: {got} bytes, the limit is {limit}; leave it out")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size, bytes.
        got: usize,
        /// The limit, bytes.
        limit: usize,
    },
    /// There is a file already.
    #[error("{} exists already and was left as it is; name another file, or say that it may be replaced", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// There is something else than a file, which no file may take the place of.
    #[error("{} is no regular file (a device, a pipe, a link or a folder) and was left as it is; name another", path.display())]
    NotAFile {
        /// What was named.
        path: PathBuf,
    },
    /// There is something already where a store was to be made.
    #[error("{} is not empty; name an empty folder", dir.display())]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
    },
    /// What was written does not read back.
    #[error("what was written does not read back as it was; see to the disk and try again")]
    Unverified,
    /// The disk failed.
    #[error("could not {action}: {source}; see to the disk, the path and its permissions and try again")]
    Io {
        /// What was being done.
        action: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The key store itself could not do as asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PortableError {
    pub(super) const fn damaged(what: &'static str) -> Self {
        Self::Damaged { what }
    }

    /// For `map_err`: names what was being done when the disk failed.
    pub(super) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}
