//! The command line, as clap reads it. What is malformed is found here, before anything is opened.

mod access;
mod api_key;
mod audit;
mod care;
mod config;
mod demo;
mod grant;
mod identity;
mod key;
mod key_care;
mod log;
mod network;
mod registry;
mod rhythm;
mod run;
mod shell;
mod stream;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

pub(crate) use access::{AccessCommand, ClearArgs, ListedArgs};
pub(crate) use api_key::{ApiKeyAddArgs, ApiKeyCommand};
pub(crate) use audit::{AuditAnewArgs, AuditCommand, AuditExportArgs, AuditFormat, AuditVerifyArgs};
pub(crate) use care::{
    BackupArgs, FilePassphraseArgs, FingerprintArgs, PassphraseChangeArgs, PassphraseCommand, RestoreArgs,
};
pub(crate) use config::ConfigCommand;
pub(crate) use demo::DemoArgs;
pub(crate) use grant::{AnnounceArgs, GrantCommand, GrantRevokeArgs, GrantShowArgs, ImportArgs, PeriodArgs};
pub(crate) use identity::IdentityCommand;
pub(crate) use key::{KeyAddArgs, KeyCommand, KeyFetchArgs, KeyListArgs, KeyRekeyArgs, RingKeyArgs};
pub(crate) use key_care::{KeyExportArgs, KeyForgetArgs, KeyImportArgs};
pub(crate) use log::LogFormat;
pub(crate) use network::{NetworkArgs, NodeArgs, PublishArgs, ResendArgs, SubscribeArgs, parse_size};
pub(crate) use registry::{ChainArgs, Kept, Registry, RegistryArgs, RpcUrl, SpendArgs};
pub(crate) use rhythm::{RhythmArgs, in_text as rhythm_text, parse_rhythm};
pub(crate) use run::{Door, RunArgs};
pub(crate) use shell::{CompletionsArgs, ManArgs};
pub(crate) use stream::{
    CreateArgs, GrantArgs, RevokeArgs, SetArgs, ShowArgs, StreamCommand, SubscribersArgs, parse_history,
};

/// No line of the examples is longer, so that none is cut in two where somebody copies it.
const HELP_WIDTH: usize = 134;

const EXAMPLES: &str = "\
Examples:
  veilcast demo                                   see it all happen on this machine, in a few seconds
  veilcast identity new                           first of all: who you are
  veilcast stream create prices                   prints the id of your new stream
  veilcast stream grant ID 0xUSER --for 30d       sell a month of it
  veilcast grant issue ID 0xUSER --for 30d        or signed by you: holds while you are away, see grant --help
  veilcast node --listen /ip4/0.0.0.0/tcp/4100    a meeting point for publishers and subscribers
  tail -f prices.log | veilcast publish ID --bootstrap ADDR
  veilcast subscribe ID --bootstrap ADDR
  veilcast resend ID --bootstrap ADDR --last 100  what was published before
  veilcast run                                    all of it for months, with an HTTP door for applications

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused by the publisher.";

/// Encrypted data streams that can be sold: keys go only to those who may read, relays carry ciphertext.
#[derive(Debug, Parser)]
#[command(name = "veilcast", version, after_help = EXAMPLES, arg_required_else_help = true, term_width = HELP_WIDTH)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) shared: Shared,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options every command takes, before or after its name.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Shared options")]
pub(crate) struct Shared {
    /// Folder with your identity, streams and keys [default: ~/.local/share/veilcast]
    #[arg(long, global = true, value_name = "DIR", env = "VEILCAST_DATA_DIR", hide_env_values = true)]
    pub(crate) data_dir: Option<PathBuf>,
    /// Read options from this file [default: veilcast.toml in the data folder, if it is there]; see veilcast config
    #[arg(long, global = true, value_name = "FILE", env = "VEILCAST_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON: one object for a result, one object per line for messages and events
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Log more to stderr: -v what happens, -vv why, -vvv everything (VEILCAST_LOG takes a filter instead, as in
    /// veilcast::exchange=debug,veilcast::network=info)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Write log lines as text or as JSON, one object a line
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t, hide_possible_values = true)]
    #[arg(env = "VEILCAST_LOG_FORMAT", hide_env_values = true)]
    pub(crate) log_format: LogFormat,
    /// Read the passphrase of the data folder from the first line of this file (or set VEILCAST_PASSPHRASE)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the whole story on this machine: real nodes, keys, rotation, paid time that ends
    Demo(DemoArgs),
    /// Make or show your identity
    #[command(subcommand)]
    Identity(IdentityCommand),
    /// Create streams and decide who may read them
    #[command(subcommand)]
    Stream(StreamCommand),
    /// Sign permissions on your streams that hold while you are away, and take in those of others
    #[command(subcommand)]
    Grant(GrantCommand),
    /// Narrow whom you serve on a stream that you publish on: your own allow and deny lists
    #[command(subcommand)]
    Access(AccessCommand),
    /// Check, print or witness the log of every key given and refused
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Run on this data folder for as long as you like: answer for keys, enforce ends, let applications ask over HTTP
    Run(RunArgs),
    /// Make, list and revoke keys for applications that ask a running veilcast over HTTP
    #[command(subcommand)]
    ApiKey(ApiKeyCommand),
    /// Run a relay and meeting point, which may keep messages; it reads nothing
    Node(NodeArgs),
    /// Publish lines of stdin, encrypted; one line is one message
    Publish(PublishArgs),
    /// Print the messages of a stream; one line is one message
    Subscribe(SubscribeArgs),
    /// Print stored messages of a stream, and end
    Resend(ResendArgs),
    /// List keys, fetch those of the past, or add one agreed on beforehand
    #[command(subcommand)]
    Key(KeyCommand),
    /// Write the data folder to one file: identity, keys, grants, all under a passphrase
    Backup(BackupArgs),
    /// Make a data folder out of a backup
    Restore(RestoreArgs),
    /// Change what opens the data folder
    #[command(subcommand)]
    Passphrase(PassphraseCommand),
    /// Print an address as words, to compare it by voice or on paper
    Fingerprint(FingerprintArgs),
    /// See what the config file says, or get one with every key
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print what lets a shell complete this command line
    Completions(CompletionsArgs),
    /// Write the man pages
    Man(ManArgs),
}

impl Command {
    /// What it is called, without what stands behind it.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Demo(_) => "demo",
            Self::Identity(_) => "identity",
            Self::Stream(_) => "stream",
            Self::Grant(_) => "grant",
            Self::Access(_) => "access",
            Self::Audit(_) => "audit",
            Self::Run(_) => "run",
            Self::ApiKey(_) => "api-key",
            Self::Node(_) => "node",
            Self::Publish(_) => "publish",
            Self::Subscribe(_) => "subscribe",
            Self::Resend(_) => "resend",
            Self::Key(_) => "key",
            Self::Backup(_) => "backup",
            Self::Restore(_) => "restore",
            Self::Passphrase(_) => "passphrase",
            Self::Fingerprint(_) => "fingerprint",
            Self::Config(_) => "config",
            Self::Completions(_) => "completions",
            Self::Man(_) => "man",
        }
    }

    /// Where the command line says who decides about permissions; `None` for commands that ask nobody.
    pub(crate) const fn registry_mut(&mut self) -> Option<&mut RegistryArgs> {
        match self {
            Self::Stream(command) => Some(command.registry_mut()),
            Self::Node(args) => Some(&mut args.registry),
            Self::Publish(args) => Some(&mut args.registry),
            Self::Subscribe(args) => Some(&mut args.registry),
            Self::Resend(args) => Some(&mut args.registry),
            Self::Key(KeyCommand::Fetch(args)) => Some(&mut args.registry),
            Self::Key(KeyCommand::Rekey(args)) => Some(&mut args.registry),
            Self::Run(args) => Some(&mut args.registry),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_that_does_something_shows_examples_in_its_help() {
        fn check(command: &clap::Command) {
            if command.get_subcommands().count() == 0 && command.get_name() != "help" {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Example"), "{} has no examples", command.get_name());
                for line in help.lines() {
                    assert!(line.chars().count() <= HELP_WIDTH, "{}: {line}", command.get_name());
                }
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn only_options_about_a_contract_stand_under_its_heading() {
        fn check(command: &clap::Command) {
            for arg in command.get_arguments().filter(|arg| arg.get_help_heading() == Some(registry::CHAIN)) {
                let name = arg.get_id().as_str();
                let known = ["rpc", "chain_id", "agree", "confirmations", "from_block", "yes"];
                assert!(known.contains(&name), "{}: {name}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn shared_options_stand_before_or_after_the_command() {
        for line in [["veilcast", "--json", "identity", "show"], ["veilcast", "identity", "show", "--json"]] {
            assert!(Cli::try_parse_from(line).unwrap().shared.json, "{line:?}");
        }
    }
}
