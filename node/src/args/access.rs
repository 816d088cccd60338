//! Arguments of `veilcast access`.

use clap::{Args, Subcommand};
use veilcast::{StreamId, UserId};

/// `veilcast access ...`
#[derive(Debug, Subcommand)]
pub(crate) enum AccessCommand {
    /// From now on serve, of those who have a grant, only users allowed by name, and this one among them
    Allow(ListedArgs),
    /// Give a user no more keys, whatever grant it has
    Deny(ListedArgs),
    /// Take a user off the lists, or end the lists
    Clear(ClearArgs),
    /// Show who is on the lists
    Show(AccessShowArgs),
}

/// `veilcast access allow` and `veilcast access deny`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast access deny STREAM 0xUSER
  veilcast access allow STREAM 0xUSER      nobody else is served then, but those allowed as well

Lists only narrow: nobody is served whom the registry refuses. The stream's owner, and you, are
served always. Who is put out reads nothing published afterwards. While a list of a public stream
is in force, its messages are encrypted. Through a veilcast run on this data folder it counts at once;
any other publisher on it is to be stopped first: started again, it rekeys before its first message.
Lists are those of one data folder: a publisher with several devices needs them on each.")]
pub(crate) struct ListedArgs {
    /// The stream that you publish on: owner/path
    pub(crate) stream: StreamId,
    /// Whom
    pub(crate) user: UserId,
}

/// `veilcast access clear`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast access clear STREAM 0xUSER      off its list; while others are allowed by name, it is not served
  veilcast access clear STREAM             no lists any more: the registry alone decides")]
pub(crate) struct ClearArgs {
    /// The stream: owner/path
    pub(crate) stream: StreamId,
    /// Whom; without it both lists are ended
    pub(crate) user: Option<UserId>,
}

/// `veilcast access show`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  veilcast access show STREAM")]
pub(crate) struct AccessShowArgs {
    /// The stream: owner/path
    pub(crate) stream: StreamId,
}
