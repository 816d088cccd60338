//! Arguments of `veilcast api-key`.

use clap::{Args, Subcommand};
use veilcast::StreamId;

use crate::api_key::{KeyName, Verb};

/// `veilcast api-key ...`
#[derive(Debug, Subcommand)]
pub(crate) enum ApiKeyCommand {
    /// Make a key for an application; it is printed once and kept only as a hash
    Add(ApiKeyAddArgs),
    /// List the keys there are: names and what they allow
    List(ApiKeyListArgs),
    /// Let a key open nothing any more, from this moment on
    Revoke(ApiKeyRevokeArgs),
}

/// `veilcast api-key add`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast api-key add shop --stream STREAM --verb publish
  veilcast api-key add reader --stream STREAM --verb subscribe --verb history
  veilcast api-key add desk --all-streams --verb permissions --verb keys
  veilcast api-key add prometheus --all-streams --verb metrics
  veilcast api-key add root --all-streams --verb admin

Verbs: publish; subscribe, to what is published from now on; history, what was stored; keys, to list, rotate and rekey; permissions,
to see subscribers, grant and revoke; metrics, to read /metrics; admin, to create streams, see the node, and make and revoke API
keys (of any kind). The last two are about the node as a whole, and go with --all-streams.
The key is printed on stdout, and nowhere else ever: whoever loses it makes another. It counts at once, also in a veilcast run
that is running.")]
pub(crate) struct ApiKeyAddArgs {
    /// What it is called: letters, digits, dot, dash and underscore
    pub(crate) name: KeyName,
    /// The stream it is for; may be given more than once
    #[arg(long, value_name = "STREAM", required_unless_present = "all_streams", conflicts_with = "all_streams")]
    pub(crate) stream: Vec<StreamId>,
    /// It is for every stream
    #[arg(long)]
    pub(crate) all_streams: bool,
    /// What it allows; may be given more than once
    #[arg(long, value_name = "VERB", required = true)]
    pub(crate) verb: Vec<Verb>,
}

/// `veilcast api-key list`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast api-key list
  veilcast api-key list --json | jq -r '.api_keys[].name'")]
pub(crate) struct ApiKeyListArgs {}

/// `veilcast api-key revoke`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  veilcast api-key revoke shop

What was opened with it, a subscription too, is closed.")]
pub(crate) struct ApiKeyRevokeArgs {
    /// What it is called
    pub(crate) name: KeyName,
}
