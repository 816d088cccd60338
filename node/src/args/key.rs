//! Arguments of `veilcast key`. Key bytes are never taken from the command line, where other users could read them.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use veilcast::key_ring::RingPrefix;
use veilcast::key_store::KeyId;
use veilcast::{StreamId, UserId};

use super::{KeyExportArgs, KeyForgetArgs, KeyImportArgs, NetworkArgs, RegistryArgs};
use crate::times::{When, parse_past};

/// `veilcast key ...`
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// List the keys in the data folder: ids, periods and fingerprints, never the keys
    List(KeyListArgs),
    /// Put in a key agreed on beforehand, for a stream or for all under a prefix; it is never asked for over the network
    Add(KeyAddArgs),
    /// Fetch the keys a stream was published under in a span of time, to read what was sent then
    Fetch(KeyFetchArgs),
    /// Pass a new key on inside the next message: cheap, nobody is checked again (through a running veilcast run)
    Rotate(KeyRotateArgs),
    /// Change the key at once; whoever may still read is given the new one, and nobody else
    Rekey(KeyRekeyArgs),
    /// Publish with another key of a prefix from now on
    Use(RingKeyArgs),
    /// Take a key of a prefix out: what is under it can no longer be read
    Remove(RingKeyArgs),
    /// Write keys of streams and periods to one file, under a passphrase
    Export(KeyExportArgs),
    /// Take in the keys of such a file; none that is there is ever replaced
    Import(KeyImportArgs),
    /// Remove keys for good whose period is over
    Forget(KeyForgetArgs),
}

/// `veilcast key list`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast key list
  veilcast key list STREAM --json

Two people have the same key if its fingerprints are the same; a fingerprint reveals nothing of the key.")]
pub(crate) struct KeyListArgs {
    /// Only keys of this stream: owner/path
    pub(crate) stream: Option<StreamId>,
}

/// `veilcast key add`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("where").required(true).args(["stream", "prefix"]))]
#[command(after_help = "\
Examples:
  openssl rand -hex 32 > shared.key && chmod 600 shared.key
  veilcast key add STREAM --key-id summer-2027 --key-file shared.key --current     the publisher
  veilcast key add STREAM --publisher 0xPUBLISHER --key-id summer-2027 < shared.key    a subscriber
  veilcast key add --prefix 0xOWNER/plant --key-id plant-1 --key-file shared.key       all streams under it, any publisher

A prefix is an owner, or an owner and whole segments of a path: 0xOWNER/plant is for 0xOWNER/plant and 0xOWNER/plant/a, not for
0xOWNER/plant2. The longest prefix that has keys decides about a stream alone: no key exchange takes place there.
The key is 32 bytes in hex (64 digits), from stdin or --key-file, never from the command line.")]
pub(crate) struct KeyAddArgs {
    /// The stream: owner/path
    pub(crate) stream: Option<StreamId>,
    /// Instead of a stream: all streams under this prefix, whoever publishes
    #[arg(long, value_name = "PREFIX")]
    pub(crate) prefix: Option<RingPrefix>,
    /// Whose messages it opens; without it your own
    #[arg(long, value_name = "ADDRESS", conflicts_with = "prefix")]
    pub(crate) publisher: Option<UserId>,
    /// The name both sides agreed on: 1 to 64 visible ASCII characters
    #[arg(long, value_name = "ID")]
    pub(crate) key_id: KeyId,
    /// Read the key from this file instead of stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Publish with it from the next message on; only for a key of your own, or of a prefix
    #[arg(long)]
    pub(crate) current: bool,
}

/// `veilcast key rotate`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast key rotate STREAM
  veilcast key rotate STREAM --regardless

Where somebody's grant ended since the last rekey it is refused, for he would read on; --regardless does it all the same. It needs
a veilcast run on the data folder, which publishes the message that the key is passed on in.")]
pub(crate) struct KeyRotateArgs {
    /// The stream: owner/path
    pub(crate) stream: StreamId,
    /// Although somebody whose grant ended reads on
    #[arg(long)]
    pub(crate) regardless: bool,
}

/// `veilcast key rekey`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast key rekey STREAM
  veilcast key rekey STREAM --json | jq -r '.refused[].user'

Through a veilcast run on the data folder it is handed to whoever may read, and the report tells who has it. Without one it is
current with the next message all the same, and whoever may read asks for it then.")]
pub(crate) struct KeyRekeyArgs {
    /// The stream: owner/path
    pub(crate) stream: StreamId,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

/// `veilcast key fetch`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast key fetch STREAM --bootstrap ADDR                        every key there ever was
  veilcast key fetch STREAM --bootstrap ADDR --from 2027-01-01T00:00:00Z --to 2027-02-01T00:00:00Z
  veilcast key fetch STREAM --bootstrap ADDR --from 30d             of the last 30 days

T is RFC 3339, unix milliseconds, or a span that ended just now such as 30d. The keys are stored page by page: interrupted,
the same command goes on where it was; a span counts from now, so give the moment to go on. Where the publisher refuses the
whole span, the exit code is 3; single keys may be refused by its policy for history, and are counted.")]
pub(crate) struct KeyFetchArgs {
    /// The stream: owner/path
    pub(crate) stream: StreamId,
    /// Keys in use at this time or later; without it from the first key on
    #[arg(long, value_name = "T", value_parser = parse_past)]
    pub(crate) from: Option<When>,
    /// Keys in use at this time or earlier; without it up to the current one
    #[arg(long, value_name = "T", value_parser = parse_past)]
    pub(crate) to: Option<When>,
    /// Whose keys; without it those of the stream's owner
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) publisher: Option<UserId>,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

/// `veilcast key use` and `veilcast key remove`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples, the change-over from plant-1 to plant-2 without losing a message:
  veilcast key add --prefix 0xOWNER/plant --key-id plant-2 --key-file new.key    first everybody
  veilcast key use --prefix 0xOWNER/plant --key-id plant-2                       then the publishers
  veilcast key remove --prefix 0xOWNER/plant --key-id plant-1                    then everybody, once nothing under it is read")]
pub(crate) struct RingKeyArgs {
    /// The prefix it was added for
    #[arg(long, value_name = "PREFIX")]
    pub(crate) prefix: RingPrefix,
    /// Its name
    #[arg(long, value_name = "ID")]
    pub(crate) key_id: KeyId,
}
