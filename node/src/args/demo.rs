//! Arguments of `veilcast demo`.

use std::path::PathBuf;

use clap::{Args, value_parser};

/// Most messages of one demo: it is a demonstration, and every frame is kept to be searched.
const MOST: u64 = 10_000;

/// `veilcast demo`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast demo                            publishes this machine's live measurements
  veilcast demo --input prices.csv         publishes the lines of a file
  journalctl -n 50 | veilcast demo --input -
  veilcast demo --json | jq .expectations  every figure as one object; exit code 0 only if all held

Everything happens on 127.0.0.1 and in a temporary folder, which is removed afterwards.")]
pub(crate) struct DemoArgs {
    /// Publish the lines of this file instead of measurements; - is stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// How many messages to publish in the first act [default: 12, or all lines of --input]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(8..=MOST))]
    pub(crate) messages: Option<u64>,
}
