//! Arguments of `veilcast audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use veilcast::StreamId;

use crate::times::{When, parse_past};

/// `veilcast audit ...`
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check that nobody altered, removed or added anything, nor cut off the end
    Verify(AuditVerifyArgs),
    /// Print the log, entry by entry, as it is checked
    Export(AuditExportArgs),
    /// Print the signed head, to be kept elsewhere
    Head(AuditHeadArgs),
    /// Remove the log, so that another begins: where it is damaged, and not written on for that reason
    BeginAnew(AuditAnewArgs),
}

/// `veilcast audit verify`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast audit verify
  veilcast audit verify --since-head january.head       also that it still holds what it held in January
  veilcast audit verify --export log.jsonl              an export, by anybody, without a data folder
  veilcast audit verify --stream STREAM --json          and how much was given and refused on one stream

The first thing that is wrong is named by its entry, and the exit code is 1. Whoever has the identity can write a whole log anew;
that shows only against a head that was kept elsewhere (veilcast audit head), or an export, which begins with one.")]
pub(crate) struct AuditVerifyArgs {
    /// Count what was given and refused on this stream only: owner/path
    #[arg(long, value_name = "STREAM")]
    pub(crate) stream: Option<StreamId>,
    /// A head of this log that was kept: a file from veilcast audit head, or an export
    #[arg(long, value_name = "FILE")]
    pub(crate) since_head: Option<PathBuf>,
    /// Check this export (JSON lines, all of the log) instead of the data folder
    #[arg(long, value_name = "FILE")]
    pub(crate) export: Option<PathBuf>,
}

/// `veilcast audit export`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast audit export > log.jsonl                          all of it: veilcast audit verify --export checks it
  veilcast audit export --from 30d --stream STREAM           of the last 30 days and one stream
  veilcast audit export --format csv > log.csv               for a spreadsheet

T is RFC 3339, unix milliseconds, or a span that ended just now such as 30d. No key is ever in it: ids, and fingerprints of
subscribers' public keys. The first line of JSON lines is the signed head. An export of a part cannot be checked by itself.")]
pub(crate) struct AuditExportArgs {
    /// Entries from this time on
    #[arg(long, value_name = "T", value_parser = parse_past)]
    pub(crate) from: Option<When>,
    /// Entries up to this time
    #[arg(long, value_name = "T", value_parser = parse_past)]
    pub(crate) to: Option<When>,
    /// Only entries of this stream: owner/path
    #[arg(long, value_name = "STREAM")]
    pub(crate) stream: Option<StreamId>,
    /// How it is written
    #[arg(long, value_name = "FORMAT", default_value = "jsonl")]
    pub(crate) format: AuditFormat,
}

/// How an export is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AuditFormat {
    /// One JSON object on each line, with everything that is needed to check it
    Jsonl,
    /// A table with a header, for spreadsheets
    Csv,
}

/// `veilcast audit head`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast audit head > january.head
  veilcast audit head --json

Give it to somebody else, or keep it where the data folder's owner cannot change it: veilcast audit verify --since-head FILE
tells later whether the log still holds what it held then.")]
pub(crate) struct AuditHeadArgs {}

/// `veilcast audit begin-anew`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast backup before.backup && veilcast audit begin-anew --yes

A log that is not whole is not written on, for that would hide what was done to it. Keep a copy of the data folder first: what
the log said is gone afterwards, and heads that were kept of it show that this is another one.")]
pub(crate) struct AuditAnewArgs {
    /// Do it: nothing brings the log back
    #[arg(long, required = true)]
    pub(crate) yes: bool,
    /// Also where nothing is wrong with it
    #[arg(long)]
    pub(crate) although_whole: bool,
}
