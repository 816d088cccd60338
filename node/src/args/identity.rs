//! Arguments of `veilcast identity`.

use clap::Subcommand;

/// `veilcast identity ...`
#[derive(Debug, Subcommand)]
pub(crate) enum IdentityCommand {
    /// Make a new identity in the data folder; one that is there is never overwritten
    #[command(after_help = "\
Examples:
  veilcast identity new
  veilcast identity new --data-dir ./alice --passphrase-file ./alice.passphrase
  VEILCAST_PASSPHRASE=... veilcast identity new --json")]
    New,
    /// Print your address, which others need to grant you a stream
    #[command(after_help = "\
Examples:
  veilcast identity show
  veilcast identity show --json | jq -r .address")]
    Show,
}
