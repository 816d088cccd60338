//! Arguments of `veilcast config`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `veilcast config ...`
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Read a config file as a command would, and say what it says; nothing is opened or asked
    Check(CheckArgs),
    /// Print a config file with every key, its meaning and its default
    Default(DefaultArgs),
}

/// `veilcast config check`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast config check                    the file that a command would use here
  veilcast config check veilcast.toml

Of endpoints only the host is shown: a URL may have a key in it.")]
pub(crate) struct CheckArgs {
    /// The file; without it the one that --config or VEILCAST_CONFIG names, else veilcast.toml in the data folder
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// `veilcast config default`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  veilcast config default > ~/.local/share/veilcast/veilcast.toml

The file is read from there, or where --config or VEILCAST_CONFIG says. The environment wins over it, and the command line
over both.")]
pub(crate) struct DefaultArgs {}
