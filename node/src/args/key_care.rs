//! Arguments of `veilcast key export`, `key import` and `key forget`.

use std::path::PathBuf;

use clap::Args;
use veilcast::{StreamId, UserId};

use super::FilePassphraseArgs;
use crate::times::{When, parse_past};

/// `veilcast key export`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast key export STREAM january.keys --from 2027-01-01T00:00:00Z --to 2027-02-01T00:00:00Z
  veilcast key export STREAM OTHER-STREAM all.keys --force
  VEILCAST_BACKUP_PASSPHRASE=... veilcast key export STREAM --publisher 0xPUBLISHER bought.keys

T is RFC 3339, unix milliseconds, or a span that ended just now such as 30d. A key is in the file if it was in use at any moment
of the period, and tells when it was; which key is current is not told. The passphrase is found as veilcast backup finds it.
Whoever has the file and its passphrase reads what is under these keys, whatever was granted.")]
pub(crate) struct KeyExportArgs {
    /// The streams: owner/path
    #[arg(required = true, value_name = "STREAM")]
    pub(crate) streams: Vec<StreamId>,
    /// The file to write
    pub(crate) file: PathBuf,
    /// Keys in use at this time or later; without it from the first key on
    #[arg(long, value_name = "T", value_parser = parse_past)]
    pub(crate) from: Option<When>,
    /// Keys in use at this time or earlier; without it up to the current one
    #[arg(long, value_name = "T", value_parser = parse_past)]
    pub(crate) to: Option<When>,
    /// Only keys of this publisher
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) publisher: Option<UserId>,
    /// Replace the file if it is there, once the new one is whole
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) passphrase: FilePassphraseArgs,
}

/// `veilcast key import`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast key import january.keys
  VEILCAST_BACKUP_PASSPHRASE=... veilcast key import january.keys --json

The file is read to its end before anything is taken in. A key under whose id another one is stored is left out and named. Which key
is current stays as it is; keys that another publisher made count as received.")]
pub(crate) struct KeyImportArgs {
    /// The file
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) passphrase: FilePassphraseArgs,
}

/// `veilcast key forget`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast key forget STREAM --before 2027-01-01T00:00:00Z
  veilcast key forget STREAM --before 365d --yes
  veilcast key forget STREAM --before 365d --publisher 0xPUBLISHER

T is RFC 3339, unix milliseconds, or a span that ended just now such as 30d. Removed are keys whose period ended before T, of every
publisher of the stream unless one is named; never the current key, and none of whose end nobody told. What was sealed under them can
no longer be read here, and who asks for one is told that it is unknown. Subscribers, backups and copies of the folder keep theirs.
The store's files give up the sealed bytes when their space is used again; a backup and a restore --force write them anew at once.")]
pub(crate) struct KeyForgetArgs {
    /// The stream: owner/path
    pub(crate) stream: StreamId,
    /// Keys whose period ended before this time
    #[arg(long, value_name = "T", value_parser = parse_past)]
    pub(crate) before: When,
    /// Only keys of this publisher
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) publisher: Option<UserId>,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}
