//! Arguments of `veilcast stream`.

use clap::{Args, Subcommand, value_parser};
use veilcast::exchange::{HistoryPolicy, HistoryPolicyError};
use veilcast::{Permission, StreamId, UserId};

use super::{PeriodArgs, RegistryArgs, RhythmArgs, SpendArgs};
use crate::times::parse_span;

/// `veilcast stream ...`
#[derive(Debug, Subcommand)]
pub(crate) enum StreamCommand {
    /// Make a stream of yours; prints its id
    Create(CreateArgs),
    /// Allow somebody to read (or publish), for a time or for good; granting again renews
    Grant(GrantArgs),
    /// Take a permission back at once
    Revoke(RevokeArgs),
    /// Show a stream, who may do what and who holds keys, or all streams
    Show(ShowArgs),
    /// Change who may read a stream (everybody, in plaintext, or subscribers only), and when its key changes by itself
    Set(SetArgs),
    /// Show a stream's subscribers: since when, until when, which key they were given last
    Subscribers(SubscribersArgs),
}

impl StreamCommand {
    /// Who decides about permissions.
    pub(crate) const fn registry(&self) -> &RegistryArgs {
        match self {
            Self::Create(args) => &args.registry,
            Self::Grant(args) => &args.registry,
            Self::Revoke(args) => &args.registry,
            Self::Set(args) => &args.registry,
            Self::Show(args) => &args.registry,
            Self::Subscribers(args) => &args.registry,
        }
    }

    pub(super) const fn registry_mut(&mut self) -> &mut RegistryArgs {
        match self {
            Self::Create(args) => &mut args.registry,
            Self::Grant(args) => &mut args.registry,
            Self::Revoke(args) => &mut args.registry,
            Self::Set(args) => &mut args.registry,
            Self::Show(args) => &mut args.registry,
            Self::Subscribers(args) => &mut args.registry,
        }
    }
}

/// `veilcast stream create`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast stream create prices
  veilcast stream create sensors/roof --partitions 4
  STREAM=$(veilcast stream create prices)
  veilcast stream create prices --registry grants       permissions that you sign (veilcast grant)
  veilcast stream create prices --registry polygon --rpc URL      on a chain; what it costs is said first
  veilcast stream create prices --history since-grant-start      who buys today reads nothing of yesterday
  veilcast stream create prices --json | jq -r .id")]
pub(crate) struct CreateArgs {
    /// The path after your address, such as prices or sensors/roof
    pub(crate) path: String,
    /// Into how many partitions messages are split
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=100))]
    pub(crate) partitions: u32,
    /// Let everybody read it: messages are signed but not encrypted
    #[arg(long)]
    pub(crate) public: bool,
    /// Let this user publish on it, beside you; may be given more than once
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) publisher: Vec<UserId>,
    /// Name this node, by its identity, to keep the messages (with --registry grants); may be given up to 8 times
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) storage: Vec<UserId>,
    #[command(flatten)]
    pub(crate) rhythm: RhythmArgs,
    /// How far back its keys are handed out [default: all]
    #[arg(long, value_name = HISTORY, value_parser = parse_history)]
    pub(crate) history: Option<HistoryPolicy>,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    #[command(flatten)]
    pub(crate) spend: SpendArgs,
}

/// `veilcast stream grant`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast stream grant STREAM 0xUSER                              for good
  veilcast stream grant STREAM 0xUSER --for 30d                    from now on
  veilcast stream grant STREAM 0xUSER --from 2027-01-01T00:00:00Z --for 30d
  veilcast stream grant STREAM 0xUSER --until 1830297600000        unix milliseconds
  veilcast stream grant STREAM 0xUSER --permission publish
  veilcast stream grant STREAM 0xUSER --for 30d --registry grants  as: veilcast grant issue
  veilcast stream grant STREAM 0xUSER --for 30d --registry polygon --rpc URL --yes

T is RFC 3339, unix milliseconds, or a span from now such as 2h.")]
pub(crate) struct GrantArgs {
    #[command(flatten)]
    pub(crate) period: PeriodArgs,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    #[command(flatten)]
    pub(crate) spend: SpendArgs,
}

/// `veilcast stream revoke`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  veilcast stream revoke STREAM 0xUSER")]
pub(crate) struct RevokeArgs {
    /// The stream: owner/path
    pub(crate) stream: StreamId,
    /// From whom
    pub(crate) user: UserId,
    /// What is taken back: subscribe or publish [default: subscribe; with --registry grants everything]
    #[arg(long, value_name = "WHAT")]
    pub(crate) permission: Option<Permission>,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    #[command(flatten)]
    pub(crate) spend: SpendArgs,
}

/// `veilcast stream show`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast stream show
  veilcast stream show STREAM
  veilcast stream show STREAM --json | jq '.grants[] | select(.state == \"expired\")'
  veilcast stream show STREAM --json | jq -r '.holders[] | [.user, .newest_key, .last] | @tsv'

Holders are those who were given keys by this folder's publisher and were not refused since. The newest of these keys is
shown; who reads on may hold newer ones that came inside messages.")]
pub(crate) struct ShowArgs {
    /// The stream: owner/path; without it all streams are listed
    pub(crate) stream: Option<StreamId>,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

/// `veilcast stream set`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true).args([
    "rotate_every", "rekey_every", "history", "publisher", "no_publisher", "storage", "no_storage", "private", "public",
]))]
#[command(after_help = "\
Examples:
  veilcast stream set STREAM --public
  veilcast stream set STREAM --private                     encrypted from the very next message
  veilcast stream set STREAM --rotate-every 1000,10m       the next key rides in the message that is due
  veilcast stream set STREAM --rekey-every 30d --rotate-every never
  veilcast stream set STREAM --history window:30d          keys in use in the last 30 days, and no older ones
  veilcast stream set STREAM --storage 0xNODE --registry grants      its record names a node that keeps its messages

Each key you publish with seals exactly so many messages, or is so old at most, also across restarts. Where somebody's
grant ended, a rotate that is due is a rekey. A key that nobody counted so far changes with the next message.

History is how far back keys are handed out, from the next request on: all; since-grant-start, those in use since the asker's
grant began; window:SPAN, those in use at most so long ago; none, the current one. The owner is given every key.")]
pub(crate) struct SetArgs {
    /// The stream: owner/path
    pub(crate) stream: StreamId,
    /// Everybody may read; messages are no longer encrypted
    #[arg(long, conflicts_with = "private")]
    pub(crate) public: bool,
    /// Only who has a grant may read
    #[arg(long)]
    pub(crate) private: bool,
    /// Let this user publish on it, beside you; may be given more than once
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) publisher: Vec<UserId>,
    /// Let this user publish no more; may be given more than once
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) no_publisher: Vec<UserId>,
    /// Name this node, by its identity, to keep the messages (with --registry grants); may be given more than once, up to 8 in all
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) storage: Vec<UserId>,
    /// Name this node no more; may be given more than once
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) no_storage: Vec<UserId>,
    #[command(flatten)]
    pub(crate) rhythm: RhythmArgs,
    /// How far back its keys are handed out; also for a stream of somebody else that you publish on
    #[arg(long, value_name = HISTORY, value_parser = parse_history)]
    pub(crate) history: Option<HistoryPolicy>,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    #[command(flatten)]
    pub(crate) spend: SpendArgs,
}

/// `veilcast stream subscribers`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast stream subscribers STREAM
  veilcast stream subscribers STREAM --json | jq -r '.subscribers[] | select(.status == \"active\") | .user'
  veilcast stream subscribers STREAM --registry polygon --rpc URL      the first time all of its events are read

One line for each grant, those that are over included. Since is when the unbroken time began; the
last key is the newest that this folder's publisher gave, which opens what it did for good. Status is active, not_yet, expired,
revoked, or denied: a grant that holds, of somebody whom your own lists keep out (veilcast access).")]
pub(crate) struct SubscribersArgs {
    /// The stream: owner/path
    pub(crate) stream: StreamId,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

/// How a history policy is written.
const HISTORY: &str = "all|since-grant-start|window:SPAN|none";

pub(crate) fn parse_history(text: &str) -> Result<HistoryPolicy, String> {
    match text.strip_prefix("window:") {
        Some(span) => parse_span(span).map(HistoryPolicy::Window).map_err(|error| error.to_string()),
        None => text.parse().map_err(|error: HistoryPolicyError| error.to_string()),
    }
}
