//! Arguments of `veilcast backup`, `restore`, `passphrase` and `fingerprint`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use veilcast::UserId;

/// `veilcast backup`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast backup /media/stick/veilcast.backup
  VEILCAST_BACKUP_PASSPHRASE=... veilcast backup nightly.backup --force
  veilcast backup off-site.backup --backup-passphrase-file ./long.passphrase

In it: your identity, every key with its period, which one is current, key rings, streams, grants and stream records, allow and
deny lists, policies, who was given which key, the audit log, the network keys. Not in it: stored messages (messages/) and
veilcast.toml.

The file opens with VEILCAST_BACKUP_PASSPHRASE or --backup-passphrase-file; without either it is asked for where there is a
terminal, and else is the passphrase of the data folder. It is synced, read back and compared before it takes its name. A veilcast
run on the folder goes on meanwhile; the key store's writers wait. What an interrupted backup left beside it (.veilcast-*.part) the
next one removes.")]
pub(crate) struct BackupArgs {
    /// The file to write
    pub(crate) file: PathBuf,
    /// Replace the file if it is there, once the new one is whole
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) passphrase: FilePassphraseArgs,
}

/// `veilcast restore`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast restore /media/stick/veilcast.backup --data-dir ./alice
  VEILCAST_BACKUP_PASSPHRASE=... VEILCAST_PASSPHRASE=... veilcast restore nightly.backup
  veilcast restore nightly.backup --key-file --force

The data folder opens afterwards with VEILCAST_PASSPHRASE or --passphrase-file, with a key file (--key-file), or with what is
typed; without any of these, with the passphrase of the backup. All of it is restored or nothing, also if the machine stops in
the middle. With --force what was there is kept beside it, in a folder named replaced-.

The backup knows what was known when it was made. Publishers should rekey afterwards (publish with --rekey-every, or the API's
rekey), and take in their newest stream record (veilcast grant import). Do not let two copies of one folder run at once.")]
pub(crate) struct RestoreArgs {
    /// The backup
    pub(crate) file: PathBuf,
    /// Restore although the data folder has an identity or a store; they are kept beside it
    #[arg(long)]
    pub(crate) force: bool,
    /// Lock the restored folder with a key file in it instead of a passphrase
    #[arg(long)]
    pub(crate) key_file: bool,
    #[command(flatten)]
    pub(crate) passphrase: FilePassphraseArgs,
}

/// What opens the file itself.
#[derive(Debug, Args)]
pub(crate) struct FilePassphraseArgs {
    /// Read the passphrase of the backup from the first line of this file (or set VEILCAST_BACKUP_PASSPHRASE)
    #[arg(long, value_name = "FILE")]
    pub(crate) backup_passphrase_file: Option<PathBuf>,
}

/// `veilcast passphrase ...`
#[derive(Debug, Subcommand)]
pub(crate) enum PassphraseCommand {
    /// Let another passphrase, or a key file, open the data folder from now on
    Change(PassphraseChangeArgs),
}

/// `veilcast passphrase change`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast passphrase change                       asks for the old one and twice for the new one
  veilcast passphrase change --passphrase-file old.txt --new-passphrase-file new.txt
  VEILCAST_NEW_PASSPHRASE=... veilcast passphrase change      from a key file to a passphrase
  veilcast passphrase change --key-file            to a new key file

Identity and store change together or not at all. No key is sealed again: whoever has an older copy of the folder, or a backup, opens
it as before. If the old passphrase became known together with the folder, make new keys (rekey) and a new identity.")]
pub(crate) struct PassphraseChangeArgs {
    /// Read the new passphrase from the first line of this file (or set VEILCAST_NEW_PASSPHRASE)
    #[arg(long, value_name = "FILE", conflicts_with = "key_file")]
    pub(crate) new_passphrase_file: Option<PathBuf>,
    /// Lock the folder with a new key file in it instead of a passphrase
    #[arg(long)]
    pub(crate) key_file: bool,
}

/// `veilcast fingerprint`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast fingerprint                             yours, to be read out on the phone
  veilcast fingerprint 0xUSER                      of somebody whose address was sent to you

Compare all twelve words: another address with the same ones takes about 2^132 attempts, with the same six 2^66. The first four
letters of a word are enough. The words are as public as the address, and no seed phrase of a wallet.")]
pub(crate) struct FingerprintArgs {
    /// Whose; without it your own
    pub(crate) user: Option<UserId>,
}
