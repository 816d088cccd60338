//! Arguments of the commands that open the network: `node`, `publish`, `subscribe`.

use std::time::Duration;

use clap::{Args, value_parser};
use veilcast::StreamId;
use veilcast::client::Multiaddr;

use super::{RegistryArgs, RhythmArgs};
use crate::times::parse_span;

/// Where to listen and whom to meet.
#[derive(Clone, Debug, Args)]
pub(crate) struct NetworkArgs {
    /// Join the network at this node, as `veilcast node` prints it; may be given more than once
    #[arg(long, value_name = "ADDR")]
    pub(crate) bootstrap: Vec<Multiaddr>,
    /// Listen here; may be given more than once [default: any free TCP port]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Vec<Multiaddr>,
}

/// `veilcast node`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast node                                          TCP and QUIC on port 4100
  veilcast node --listen /ip4/127.0.0.1/tcp/0            any free port, this machine only
  veilcast node --bootstrap /ip4/203.0.113.7/tcp/4100/p2p/12D3KooW...

Prints its addresses on stdout, one a line; give one of them to publish and subscribe as --bootstrap.
Its network key stays in the data folder, so that its addresses stay the same.")]
pub(crate) struct NodeArgs {
    /// Listen here; may be given more than once [default: port 4100, TCP and QUIC]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Vec<Multiaddr>,
    /// Join other nodes; may be given more than once
    #[arg(long, value_name = "ADDR")]
    pub(crate) bootstrap: Vec<Multiaddr>,
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
at the end of stdin it lingers until nobody has asked for a key for 2 s.")]
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

Messages go to stdout, what happens beside them (keys asked, refused, gaps) to stderr. Where the publisher refuses
before anything could be read, the exit code is 3.")]
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
    /// Stop after N messages
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Only this partition; may be given more than once [default: all of a stream of yours, 0 of another's]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(0..100))]
    pub(crate) partition: Vec<u32>,
}
