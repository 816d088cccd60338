//! Care of the data folder: into one file and back, and what opens it. How such a file is made is the key store's business; what
//! belongs into it beside the store is decided here.

pub(crate) mod backup;
pub(crate) mod bar;
pub(crate) mod fingerprint;
pub(crate) mod passphrase;
pub(crate) mod passphrases;
pub(crate) mod restore;

use std::io;
use std::path::{Path, PathBuf};

use veilcast::key_store::portable::{Kind, PortableError};
use veilcast::{StreamId, Timestamp};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::times;

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
    #[error("{} exists already and was left as it is; name another file, or have it replaced with --force", .file.display())]
    Exists { file: PathBuf },
    #[error(
        "{} is no regular file (a device, a pipe, a link or a folder) and was left as it is; name another",
        .file.display()
    )]
    NotAFile { file: PathBuf },
    #[error("{} is an export of keys, not a backup; nothing was changed, take it in with: veilcast key import FILE", .file.display())]
    IsExport { file: PathBuf },
    #[error("{} is a backup, not an export of keys; nothing was changed, make a data folder of it with: veilcast restore FILE", .file.display())]
    IsBackup { file: PathBuf },
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
    #[error(
        "there is no new passphrase; give one with VEILCAST_NEW_PASSPHRASE or --new-passphrase-file, or say --key-file"
    )]
    NoNewPassphrase,
    #[error("there are no keys of {stream}; see what there is with: veilcast key list")]
    NoKeys { stream: StreamId },
    #[error("there are no keys of that time ({}), and nothing was written; choose another --from or --to", span(.from, .to))]
    NoKeysThen { from: Timestamp, to: Timestamp },
    #[error("there is nobody to ask whether the keys may be removed; say so with --yes")]
    NobodyToAsk,
    #[error("nothing was removed; answer y to remove them")]
    Declined,
    #[error("cannot read or write {}: {source}; see to the disk and its permissions", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl CareError {
    /// The exit code.
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::NobodyToAsk | Self::NoNewPassphrase => Exit::Usage,
            _ => Exit::Failed,
        }
    }
}

/// From when until when; the ends of all time are not shown.
fn span(from: &Timestamp, to: &Timestamp) -> String {
    let (from, to) =
        (Some(*from).filter(|from| *from > Timestamp::ZERO), Some(*to).filter(|to| to.as_millis() < u64::MAX));
    match (from.map(times::show), to.map(times::show)) {
        (Some(from), Some(to)) => format!("{from} to {to}"),
        (Some(from), None) => format!("{from} and later"),
        (None, Some(to)) => format!("{to} and earlier"),
        (None, None) => "any".into(),
    }
}

/// For `map_err`: names the file.
pub(crate) fn of_file(file: &Path) -> impl FnOnce(PortableError) -> Failure {
    let file = file.to_owned();
    move |source| match source {
        PortableError::Exists { .. } => CareError::Exists { file }.into(),
        PortableError::NotAFile { .. } => CareError::NotAFile { file }.into(),
        PortableError::OtherKind { found: Kind::Keys, .. } => CareError::IsExport { file }.into(),
        PortableError::OtherKind { .. } => CareError::IsBackup { file }.into(),
        source => CareError::File { file, source }.into(),
    }
}

/// For `map_err`: names what could not be read or written.
pub(crate) fn io_at(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.to_owned();
    move |source| CareError::Io { path, source }.into()
}
