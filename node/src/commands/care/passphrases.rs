//! Which passphrase opens a portable file.
//!
//! ```text
//! --backup-passphrase-file ─▶ VEILCAST_BACKUP_PASSPHRASE ─▶ a terminal: ask ─▶ the passphrase of the data folder
//! ```

use std::path::Path;

use super::CareError;
use crate::args::FilePassphraseArgs;
use crate::failure::Failure;
use crate::unlock::{self, Secret};

const VARIABLE: &str = "VEILCAST_BACKUP_PASSPHRASE";

/// For a file that is to be written. `folders` is the passphrase of the data folder, if it has one.
pub(crate) fn for_new(args: &FilePassphraseArgs, folders: Option<&Secret>) -> Result<Secret, Failure> {
    if let Some(found) = unlock::explicit(args.backup_passphrase_file.as_deref(), VARIABLE)? {
        return Ok(found);
    }
    let typed = match (unlock::at_a_terminal(), folders) {
        (false, _) => None,
        (true, Some(_)) => unlock::prompt_new("Passphrase of the new file (empty: that of the data folder): ")?,
        (true, None) => unlock::prompt_new("Passphrase of the new file: ")?,
    };
    typed.or_else(|| folders.cloned()).ok_or_else(|| CareError::NoPassphrase.into())
}

/// For a file that is there.
pub(crate) fn for_file(args: &FilePassphraseArgs, file: &Path, folders: Option<&Secret>) -> Result<Secret, Failure> {
    if let Some(found) = unlock::explicit(args.backup_passphrase_file.as_deref(), VARIABLE)? {
        return Ok(found);
    }
    let hint = if folders.is_some() { " (empty: that of the data folder)" } else { "" };
    let typed = match unlock::at_a_terminal() {
        true => Some(unlock::prompt(&format!("Passphrase of {}{hint}: ", file.display()))?),
        false => None,
    };
    let typed = typed.filter(|typed| !typed.is_empty());
    typed.or_else(|| folders.cloned()).ok_or_else(|| CareError::PassphraseNeeded { file: file.into() }.into())
}
