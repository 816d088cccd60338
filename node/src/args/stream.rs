//! Arguments of `veilcast stream`.

use std::time::Duration;

use clap::{Args, Subcommand, value_parser};
use veilcast::exchange::{HistoryPolicy, HistoryPolicyError};
use veilcast::{Permission, StreamId, UserId};

use super::RhythmArgs;
use crate::times::{When, parse_span, parse_when};

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
}

/// `veilcast stream create`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast stream create prices
  veilcast stream create sensors/roof --partitions 4
  STREAM=$(veilcast stream create prices)
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
    #[command(flatten)]
    pub(crate) rhythm: RhythmArgs,
    /// How far back its keys are handed out [default: all]
    #[arg(long, value_name = HISTORY, value_parser = parse_history)]
    pub(crate) history: Option<HistoryPolicy>,
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

T is RFC 3339, unix milliseconds, or a span from now such as 2h.")]
pub(crate) struct GrantArgs {
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
    /// What is taken back: subscribe or publish
    #[arg(long, value_name = "WHAT", default_value = "subscribe")]
    pub(crate) permission: Permission,
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
}

/// `veilcast stream set`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast stream set STREAM --public
  veilcast stream set STREAM --private                     encrypted from the very next message
  veilcast stream set STREAM --rotate-every 1000,10m       the next key rides in the message that is due
  veilcast stream set STREAM --rekey-every 30d --rotate-every never
  veilcast stream set STREAM --history window:30d          keys in use in the last 30 days, and no older ones

Each key you publish with seals exactly so many messages, or is so old at most, also across restarts. Where somebody's
grant ended, a rotate that is due is a rekey. A key that nobody counted so far changes with the next message.

History is how far back keys are handed out, from the next request on: all; since-grant-start, those in use since the asker's
grant began; window:SPAN, those in use at most so long ago; none, the current one. The owner is given every key.")]
pub(crate) struct SetArgs {
    /// The stream: owner/path
    pub(crate) stream: StreamId,
    /// Everybody may read; messages are no longer encrypted
    #[arg(long, conflicts_with = "private", required_unless_present_any = ["private", "rotate_every", "rekey_every", "history"])]
    pub(crate) public: bool,
    /// Only who has a grant may read
    #[arg(long)]
    pub(crate) private: bool,
    #[command(flatten)]
    pub(crate) rhythm: RhythmArgs,
    /// How far back its keys are handed out; also for a stream of somebody else that you publish on
    #[arg(long, value_name = HISTORY, value_parser = parse_history)]
    pub(crate) history: Option<HistoryPolicy>,
}

/// How a history policy is written.
const HISTORY: &str = "all|since-grant-start|window:SPAN|none";

fn parse_history(text: &str) -> Result<HistoryPolicy, String> {
    match text.strip_prefix("window:") {
        Some(span) => parse_span(span).map(HistoryPolicy::Window).map_err(|error| error.to_string()),
        None => text.parse().map_err(|error: HistoryPolicyError| error.to_string()),
    }
}
