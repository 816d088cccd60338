//! Arguments of `veilcast grant`.

use std::time::Duration;

use clap::{Args, Subcommand, value_parser};
use veilcast::{Permission, StreamId, UserId};

use super::NetworkArgs;
use crate::times::{When, parse_span, parse_when};

/// `veilcast grant ...`
#[derive(Debug, Subcommand)]
pub(crate) enum GrantCommand {
    /// Sign a grant for a stream of yours; prints what its holder needs, a line each
    Issue(IssueArgs),
    /// Show a grant or stream record, or all there are of a stream
    Show(GrantShowArgs),
    /// Take in grants and stream records, a line each
    Import(ImportArgs),
    /// Take back what you signed, at once; prints the new stream record
    Revoke(GrantRevokeArgs),
    /// Leave the records of your streams with the network, where running publishers look for them
    Announce(AnnounceArgs),
}

/// `veilcast grant issue`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast stream create prices --registry grants                 first of all
  veilcast grant issue STREAM 0xUSER --for 30d > for-user.txt     hand the file to the user
  veilcast grant issue STREAM 0xUSER --from 2027-01-01T00:00:00Z --until 2027-02-01T00:00:00Z

The lines are the stream's record and the grant. Neither is a secret, and neither lets anybody
else in: the grant names its user. Publishers of the stream need the record only; they learn of a
grant from whoever asks them for a key, also while you are away.

T is RFC 3339, unix milliseconds, or a span from now such as 2h.")]
pub(crate) struct IssueArgs {
    #[command(flatten)]
    pub(crate) period: PeriodArgs,
}

/// Whom, what, and from when until when.
#[derive(Debug, Args)]
pub(crate) struct PeriodArgs {
    /// The stream: owner/path
    pub(crate) stream: StreamId,
    /// Whom: an address, as `veilcast identity show` prints it
    pub(crate) user: UserId,
    /// What is allowed: subscribe or publish
    #[arg(long, value_name = "WHAT", default_value = "subscribe")]
    pub(crate) permission: Permission,
    /// When it begins
    #[arg(long, value_name = "T", value_parser = parse_when)]
    pub(crate) from: Option<When>,
    /// When it ends
    #[arg(long, value_name = "T", value_parser = parse_when, conflicts_with = "lasting")]
    pub(crate) until: Option<When>,
    /// How long it lasts, from --from or from now
    #[arg(long = "for", id = "lasting", value_name = "SPAN", value_parser = parse_span)]
    pub(crate) lasting: Option<Duration>,
}

/// `veilcast grant show`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast grant show veilcast-grant-1:0801...                   what a line says, and whether its signature is good
  veilcast grant show STREAM
  veilcast grant show STREAM --lines > for-publishers.txt        the record and every grant that is not over
  veilcast grant show STREAM --lines --user 0xUSER")]
pub(crate) struct GrantShowArgs {
    /// A line, or a stream: owner/path
    #[arg(value_name = "LINE|STREAM")]
    pub(crate) what: String,
    /// Print the lines themselves, to hand them on
    #[arg(long)]
    pub(crate) lines: bool,
    /// Only the grants of this user
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) user: Option<UserId>,
}

/// `veilcast grant import`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast grant import < for-user.txt
  veilcast grant import veilcast-grant-1:0801... veilcast-record-1:0801...

A grant counts until its end, unless a newer stream record takes it back. Of records the newest stays.

A veilcast run on this data folder takes them in at once. While a veilcast publish runs on it, nothing
else can be done on it: it takes grants in from whoever asks for a key, and looks for newer records
by itself (veilcast grant announce).")]
pub(crate) struct ImportArgs {
    /// Lines as `veilcast grant issue` prints them; without any those of stdin
    #[arg(value_name = "LINE")]
    pub(crate) lines: Vec<String>,
}

/// `veilcast grant revoke`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["user", "serial"]))]
#[command(after_help = "\
Examples:
  veilcast grant revoke STREAM 0xUSER > record.txt         everything that was signed for the user so far
  veilcast grant revoke STREAM --serial 17 > record.txt    this grant only

Publishers shut the user out as soon as they have the new record: leave it with the network, with
`veilcast grant announce`, or hand it to them, for `veilcast grant import`. Any subscriber that has
it brings it along, too. A veilcast run on this data folder rekeys at once; a veilcast publish on it
is to be stopped first, and rekeys once it is started again.")]
pub(crate) struct GrantRevokeArgs {
    /// The stream: owner/path
    pub(crate) stream: StreamId,
    /// From whom
    pub(crate) user: Option<UserId>,
    /// Which grant, as `veilcast grant show STREAM` numbers them
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub(crate) serial: Option<u64>,
}

/// `veilcast grant announce`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast grant revoke STREAM 0xUSER && veilcast grant announce --bootstrap ADDR
  veilcast grant announce STREAM --bootstrap ADDR

The network keeps a record for a day. Publishers that run look for a newer one every 5 s, and
subscribers that have none before they subscribe. `veilcast publish --registry grants` announces
your streams by itself while it runs.")]
pub(crate) struct AnnounceArgs {
    /// Which of your streams: owner/path; without any all of them
    #[arg(value_name = "STREAM")]
    pub(crate) streams: Vec<StreamId>,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
}
