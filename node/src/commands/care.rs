//! Care of the data folder: into one file and back. How such a file is made is the key store's business; what belongs into it
//! beside the store is decided here.

pub(crate) mod backup;
mod bar;
mod passphrases;
pub(crate) mod restore;

use std::io;
use std::path::{Path, PathBuf};

use veilcast::key_store::portable::PortableError;

use crate::failure::Failure;

/// The identity's keystore, locked with the passphrase of the backup.
const IDENTITY: &str = "identity.json";
/// The network key of `veilcast node`.
const NODE_KEY: &str = "node.key";

/// Why the folder could not be cared for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum CareError {
    #[error("{}: {source}", .file.display())]
    File { file: PathBuf, source: PortableError },
    #[error("{}: there is no identity in it; nothing was changed, use a backup of a data folder", .file.display())]
    NoIdentity { file: PathBuf },
    #[error(
        "the identity in it does not open with the passphrase of the backup; nothing was changed, use another copy"
    )]
    ForeignIdentity,
    #[error(
        "the data folder {} has an identity, a store or a key file already ({found}); name an empty --data-dir, or keep what is there beside the restored one with --force",
        .folder.display()
    )]
    Occupied { folder: PathBuf, found: String },
    #[error(
        "a backup needs a passphrase, and this data folder opens with a key file; give one with VEILCAST_BACKUP_PASSPHRASE or --backup-passphrase-file"
    )]
    NoPassphrase,
    #[error("{} opens with a passphrase; give it with VEILCAST_BACKUP_PASSPHRASE or --backup-passphrase-file", .file.display())]
    PassphraseNeeded { file: PathBuf },
    #[error("cannot read or write {}: {source}; see to the disk and its permissions", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// For `map_err`: names the file.
fn of_file(file: &Path) -> impl FnOnce(PortableError) -> Failure {
    let file = file.to_owned();
    move |source| CareError::File { file, source }.into()
}

/// For `map_err`: names what could not be read or written.
fn io_at(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.to_owned();
    move |source| CareError::Io { path, source }.into()
}
