//! Arguments of `veilcast completions` and `veilcast man`.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

/// `veilcast completions`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast completions bash > ~/.local/share/bash-completion/completions/veilcast
  veilcast completions zsh > ~/.zfunc/_veilcast                    a folder in $fpath
  veilcast completions fish > ~/.config/fish/completions/veilcast.fish")]
pub(crate) struct CompletionsArgs {
    /// Which shell
    #[arg(value_name = "SHELL", value_enum)]
    pub(crate) shell: Shell,
}

/// `veilcast man`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  veilcast man ~/.local/share/man/man1     then: man veilcast-publish")]
pub(crate) struct ManArgs {
    /// Where to write them, a file for each command; made if it is not there
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
}
