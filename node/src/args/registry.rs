//! `--registry`: who decides about permissions.

use std::str::FromStr;

use clap::Args;

/// A permission source, as it is named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registry {
    /// Grants given in this data folder.
    Local,
    /// What streams' owners signed.
    Grants,
}

impl FromStr for Registry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "local" => Ok(Self::Local),
            "grants" => Ok(Self::Grants),
            other => Err(format!("a registry is local or grants, not {other:?}")),
        }
    }
}

/// Who decides.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct RegistryArgs {
    /// Who decides about permissions: local, the grants given in this folder, or grants, what streams' owners signed
    #[arg(long, value_name = "NAME", default_value = "local", env = "VEILCAST_REGISTRY", hide_env_values = true)]
    pub(crate) registry: Registry,
}
