//! The config file: what would otherwise be said on every command line.
//!
//! ```text
//! --config FILE ─▶ VEILCAST_CONFIG ─▶ veilcast.toml in the data folder, where it is there
//! ```
//! One section for each subject, one key for each option of the command line, under the option's own name. What the environment says
//! wins over the file, and what the command line says over both. A key that nobody knows is an error. Values are never repeated in
//! errors: an endpoint's URL may have a customer's key in it.

mod fault;
mod registry;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use self::fault::{Fault, line_of};
pub(crate) use self::registry::{RegistrySection, host};
use crate::args::Shared;
use crate::data_dir::DataDir;
use crate::failure::Failure;

/// Every key there is, with what holds where the file does not say.
pub(crate) const DEFAULT: &str = include_str!("config/default.toml");

/// What a config file says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Config {
    /// Who decides about permissions.
    pub(crate) registry: RegistrySection,
}

/// The same as it stands there, not yet understood.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    registry: registry::Written,
}

impl Config {
    /// What counts for this command line; without a file, nothing.
    pub(crate) fn of(shared: &Shared) -> Result<Self, Failure> {
        Ok(Self::file(shared)?.map_or_else(|| Ok(Self::default()), |file| Self::read(&file))?)
    }

    /// The file that counts. One that was named must be there.
    pub(crate) fn file(shared: &Shared) -> Result<Option<PathBuf>, Failure> {
        match &shared.config {
            Some(named) => Ok(Some(named.clone())),
            None => Ok(Some(DataDir::find(shared.data_dir.as_deref())?.config()).filter(|file| file.exists())),
        }
    }

    /// What a file says.
    pub(crate) fn read(file: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(file).map_err(|source| ConfigError::Read { file: file.into(), source })?;
        Self::parse(&text).map_err(|fault| ConfigError::Wrong {
            file: file.into(),
            line: line_of(&text, fault.at),
            what: fault.what,
        })
    }

    fn parse(text: &str) -> Result<Self, Fault> {
        let written: Written = toml::from_str(text).map_err(Fault::of)?;
        Ok(Self { registry: written.registry.understood()? })
    }
}

/// Why a config file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ConfigError {
    #[error(
        "cannot read the config file {}: {source}; check --config and VEILCAST_CONFIG, or write one with: veilcast config default", .file.display()
    )]
    Read { file: PathBuf, source: io::Error },
    #[error("{}, line {line}: {what}; see every key with: veilcast config default", .file.display())]
    Wrong { file: PathBuf, line: usize, what: String },
    #[error("there is no config file; write one with: veilcast config default > {}", .would_be.display())]
    None { would_be: PathBuf },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Kept, Registry};

    fn wrong(text: &str) -> (usize, String) {
        let fault = Config::parse(text).unwrap_err();
        (line_of(text, fault.at), fault.what)
    }

    #[test]
    fn the_default_file_says_what_holds_without_one_and_every_key_of_it_can_be_used() {
        let plain = Config::parse(DEFAULT).unwrap().registry;
        assert_eq!((plain.name, plain.rpc.len(), plain.agree), (Some(Registry::Kept(Kept::Local)), 0, None));
        let all: String = DEFAULT
            .lines()
            .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned() + "\n")
            .filter(|line| !line.starts_with("name = \"local\""))
            .collect();
        let full = Config::parse(&all).unwrap().registry;
        assert!(matches!(full.name, Some(Registry::Chain(_))), "{all}");
        assert!(full.rpc.len() == 2 && full.agree.is_some(), "{all}");
        assert!(full.confirmations.is_some() && full.from_block.is_some(), "{all}");
    }

    #[test]
    fn a_key_or_section_that_nobody_knows_is_named_with_its_line() {
        let (line, what) = wrong("[registry]\nname = \"local\"\nconfirmation = 3\n");
        assert!(line == 3 && what.contains("`confirmation`") && what.contains("`confirmations`"), "{line} {what}");
        let (line, what) = wrong("\n\n[registri]\n");
        assert!(line == 3 && what.contains("`registri`"), "{line} {what}");
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_named_by_its_key_and_line_and_never_repeated() {
        let secret = "https://example.org/KEY-OF-A-CUSTOMER";
        let cases = [
            (format!("registry = \"{secret}\""), 1, "a table"),
            (format!("[registry]\nname = \"{secret}\""), 2, "registry.name"),
            (format!("[registry]\n\nagree = \"{secret}\""), 3, "registry.agree"),
            ("[registry]\nagree = 0".into(), 2, "registry.agree"),
            ("[registry]\nconfirmations = -1".into(), 2, "registry.confirmations"),
            (format!("[registry]\nfrom_block = [\"{secret}\"]"), 2, "registry.from_block"),
            (format!("[registry]\nrpc = {{ url = \"{secret}\" }}"), 2, "registry.rpc"),
            (format!("[registry]\nrpc = [\n  \"{secret}\",\n  5,\n]"), 2, "registry.rpc"),
            ("[registry]\nrpc = [\"ftp://KEY-OF-A-CUSTOMER@x\"]".into(), 2, "http:// or https://"),
            ("[registry]\nrpc = \"http://KEY-OF-A-CUSTOMER@x\"".into(), 2, "without user and password"),
            (format!("[registry]\nrpc = [\"{secret}\"]\nagree = 2"), 3, "registry.agree"),
            (format!("[registry]\nrpc = [\"{secret}\""), 2, ""),
            (format!("[registry]\nrpc = \"{secret}\" nonsense"), 2, ""),
            (format!("[registry]\nrpc = \"{secret}\"\nrpc = \"{secret}\""), 3, "duplicate"),
            (format!("[registry]\n{secret}\n"), 2, ""),
        ];
        for (text, at, says) in cases {
            let (line, what) = wrong(&text);
            assert!(line == at && what.contains(says), "{text}\n{line}: {what}");
            assert!(!what.contains("CUSTOMER"), "{what}");
        }
    }
}
