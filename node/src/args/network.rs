//! Arguments of the commands that open the network: `node`, `publish`, `subscribe`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, value_parser};
use veilcast::client::Multiaddr;
use veilcast::{StreamId, Timestamp, UserId};

use super::{RegistryArgs, RhythmArgs};
use crate::times::{TimeError, When, parse_past, parse_span};

/// Where to listen and whom to meet.
#[derive(Clone, Debug, Args)]
pub(crate) struct NetworkArgs {
    /// Join the network at this node, as `veilcast node` prints it; may be given more than once
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    pub(crate) bootstrap: Vec<Multiaddr>,
    /// Listen here; may be given more than once [default: any free TCP port]
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    pub(crate) listen: Vec<Multiaddr>,
}

impl NetworkArgs {
    /// Whether anything of it was said.
    pub(crate) const fn is_given(&self) -> bool {
        !(self.bootstrap.is_empty() && self.listen.is_empty())
    }
}

/// An address as libp2p writes it.
fn parse_address(text: &str) -> Result<Multiaddr, String> {
    text.parse().map_err(|_| {
        // What most people would type.
        let meant = text.parse::<SocketAddr>().map(|at| match at {
            SocketAddr::V4(at) => format!("/ip4/{}/tcp/{}", at.ip(), at.port()),
            SocketAddr::V6(at) => format!("/ip6/{}/tcp/{}", at.ip(), at.port()),
        });
        let example = meant.unwrap_or_else(|_| "/ip4/203.0.113.7/tcp/4100 or what veilcast node prints".into());
        format!("{text:?} is no address of a node; write for example {example}")
    })
}

/// `veilcast node`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("storing").multiple(true).args(["store", "store_assigned"]))]
#[command(after_help = "\
Examples:
  veilcast node                                          TCP and QUIC on port 4100
  veilcast node --listen /ip4/127.0.0.1/tcp/0            any free port, this machine only
  veilcast node --bootstrap /ip4/203.0.113.7/tcp/4100/p2p/12D3KooW...
  veilcast node --store STREAM --registry grants         keep the messages of a stream, for 30 days:
                --store-age 30d                          (after veilcast identity new, veilcast grant import)
  veilcast node --store-assigned 0xOWNER --registry grants     keep each stream of this owner whose record names this
                                                         node (veilcast stream set STREAM --storage ADDRESS)

With --store it keeps the sealed messages of these streams, which it cannot read, and gives them to whoever may subscribe;
--registry says who may publish and subscribe. With --store-assigned it keeps those that the owner's records assign to its
identity, as long as they do; a record comes by veilcast grant import, or by itself once somebody connected to this node takes
part in the stream. Prints its addresses on stdout, one a line; give one of them to publish and subscribe as --bootstrap.
Its network key stays in the data folder, so that its addresses stay the same.")]
pub(crate) struct NodeArgs {
    /// Listen here; may be given more than once [default: port 4100, TCP and QUIC]
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    pub(crate) listen: Vec<Multiaddr>,
    /// Join other nodes; may be given more than once
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    pub(crate) bootstrap: Vec<Multiaddr>,
    /// Keep the messages of this stream; may be given more than once
    #[arg(long, value_name = "STREAM")]
    pub(crate) store: Vec<StreamId>,
    /// Keep each stream of this owner whose record names this node's identity; may be given more than once
    #[arg(long, value_name = "OWNER")]
    pub(crate) store_assigned: Vec<UserId>,
    /// Keep no message that is older; without it as old as there is room
    #[arg(long, value_name = "SPAN", value_parser = parse_span, requires = "storing")]
    pub(crate) store_age: Option<Duration>,
    /// Keep so much at most; beyond, the stream that has the most loses its oldest. Files may take a tenth more
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "10GB", requires = "storing")]
    pub(crate) store_size: u64,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

/// A size such as 500MB or 10GB, in bytes.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: Option<u64> = match text.get(digits.len()..).unwrap_or_default() {
        "B" | "" => Some(1),
        "kB" | "KB" => Some(1_000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        "TB" => Some(1_000_000_000_000),
        _ => None,
    };
    let size = digits.parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    size.filter(|size| *size > 0).ok_or_else(|| format!("{text:?} is no size; write for example 500MB or 10GB"))
}

/// `veilcast resend`
#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("which").required(true).args(["last", "from"]),
    after_help = "\
Examples:
  veilcast resend STREAM --bootstrap ADDR --last 100
  veilcast resend STREAM --bootstrap ADDR --from 0 > everything.jsonl
  veilcast resend STREAM --bootstrap ADDR --from 2027-01-01T00:00:00Z --to 2027-02-01T00:00:00Z --json | jq .payload

T is RFC 3339, unix milliseconds, or a span that ended just now such as 30d; 0 is the beginning. Messages come from storage nodes
and are printed as veilcast subscribe does; every one is checked, and what is missing is told on stderr. Where nothing may be
read, the exit code is 3. It ends with 0 where a storage node was read to the end of what it has; what no node was ever given, such as
the last messages of a publisher whose machine failed, nobody can see missing."
)]
pub(crate) struct ResendArgs {
    /// The stream: owner/path
    pub(crate) stream: StreamId,
    /// The last N messages of each partition
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=1_000_000), conflicts_with_all = ["from", "to"])]
    pub(crate) last: Option<u64>,
    /// Messages of this time or later; 0 for all
    #[arg(long, value_name = "T", value_parser = parse_from)]
    pub(crate) from: Option<When>,
    /// Messages of this time or earlier
    #[arg(long, value_name = "T", value_parser = parse_past, requires = "from")]
    pub(crate) to: Option<When>,
    /// Only messages of this publisher
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) publisher: Option<UserId>,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// Read what is under keys agreed on beforehand only (veilcast key add); none is asked for
    #[arg(long)]
    pub(crate) pre_agreed_only: bool,
    /// Only this partition; may be given more than once [default: all that are known of, else 0]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(0..100))]
    pub(crate) partition: Vec<u32>,
}

/// A moment, or 0 for the beginning.
fn parse_from(text: &str) -> Result<When, TimeError> {
    if text == "0" { Ok(When::At(Timestamp::ZERO)) } else { parse_past(text) }
}

/// `veilcast publish`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast publish STREAM --bootstrap ADDR < prices.jsonl
  tail -f prices.log | veilcast publish STREAM --bootstrap ADDR --rotate-every 1000,10m --rekey-every 30d
  veilcast publish STREAM --listen /ip4/127.0.0.1/tcp/4200 --stay < prices.jsonl

--rotate-every and --rekey-every are kept with the stream (veilcast stream set changes them) and counted across restarts.
A line that is JSON goes out as JSON, byte for byte, any other line as text. Keys are handed out only while this runs:
at the end of stdin it lingers until nobody has asked for a key for 2 s, and for a first request where nobody has a key yet.")]
pub(crate) struct PublishArgs {
    /// The stream: owner/path
    pub(crate) stream: StreamId,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    #[command(flatten)]
    pub(crate) rhythm: RhythmArgs,
    /// Publish under keys agreed on beforehand only (veilcast key add); none is made or handed out
    #[arg(long)]
    pub(crate) pre_agreed_only: bool,
    /// The partition to publish to
    #[arg(long, value_name = "N", conflicts_with = "partition_key")]
    pub(crate) partition: Option<u32>,
    /// Publish to the partition this key belongs to
    #[arg(long, value_name = "KEY")]
    pub(crate) partition_key: Option<String>,
    /// How long to wait for somebody to publish to [default: 10s with --bootstrap, else until somebody comes]
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub(crate) wait: Option<Duration>,
    /// How long at most to go on answering key requests after the last line
    #[arg(long, value_name = "SPAN", default_value = "10s", value_parser = parse_span, conflicts_with = "stay")]
    pub(crate) linger: Duration,
    /// Go on answering key requests until Ctrl-C
    #[arg(long)]
    pub(crate) stay: bool,
}

/// `veilcast subscribe`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast subscribe STREAM --bootstrap ADDR
  veilcast subscribe STREAM --bootstrap ADDR --count 1000 > first-thousand.jsonl
  veilcast subscribe STREAM --bootstrap ADDR --json | jq .payload
  veilcast subscribe STREAM --bootstrap ADDR --last 100         the last 100 stored messages first

Messages go to stdout, what happens beside them (keys asked, refused, gaps) to stderr. Where the publisher refuses
before anything could be read, the exit code is 3. What could not be read is counted, with the next word of its key and at the end.

The event history_end says read_to_end where a storage node was read to the end of what it has. What no node was ever given, such as
the last messages of a publisher whose machine failed, nobody can see missing.")]
pub(crate) struct SubscribeArgs {
    /// The stream: owner/path
    pub(crate) stream: StreamId,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// Read what is under keys agreed on beforehand only (veilcast key add); none is asked for
    #[arg(long)]
    pub(crate) pre_agreed_only: bool,
    /// Begin with the last N stored messages of each partition
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=1_000_000))]
    pub(crate) last: Option<u64>,
    /// Stop after N messages
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Only this partition; may be given more than once [default: all that are known of, else 0]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(0..100))]
    pub(crate) partition: Vec<u32>,
}
