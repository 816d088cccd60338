//! `--registry`: who decides about permissions.

use std::fmt;
use std::str::FromStr;

use clap::Args;
use veilcast::permission::ethereum::Deployment;

use crate::config::RegistrySection;

/// Where these options stand in the help. Said of each: a heading for all that follow would be that of other options, too.
pub(super) const CHAIN: &str = "With a contract as the registry";

/// A permission source, as it is named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registry {
    /// In the data folder.
    Kept(Kept),
    /// A contract.
    Chain(Deployment),
}

/// What is kept in the data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Grants given in it.
    Local,
    /// What streams' owners signed.
    Grants,
}

impl FromStr for Registry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "local" => Ok(Self::Kept(Kept::Local)),
            "grants" => Ok(Self::Kept(Kept::Grants)),
            other => other.parse().map(Self::Chain).map_err(|error| format!("a registry is local or grants; {error}")),
        }
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept(Kept::Local) => f.write_str("local"),
            Self::Kept(Kept::Grants) => f.write_str("grants"),
            Self::Chain(deployment) => deployment.fmt(f),
        }
    }
}

/// Who decides.
#[derive(Clone, Debug, Args)]
pub(crate) struct RegistryArgs {
    /// Who decides about permissions: local, the grants given in this folder; grants, what streams' owners signed; or a contract: that
    /// on polygon, amoy, peaq or iotex, or at an 0xADDRESS [default: local]
    #[arg(long, value_name = "NAME", env = "VEILCAST_REGISTRY", hide_env_values = true)]
    registry: Option<Registry>,
    #[command(flatten)]
    pub(crate) chain: ChainArgs,
}

impl RegistryArgs {
    /// The one that was named.
    pub(crate) const fn given(&self) -> Option<Registry> {
        self.registry
    }

    /// The one that was named, else the local one.
    pub(crate) fn named(&self) -> Registry {
        self.registry.unwrap_or(Registry::Kept(Kept::Local))
    }

    /// Goes by this one, whatever was named.
    pub(crate) const fn settle(&mut self, registry: Registry) {
        self.registry = Some(registry);
    }

    /// Takes from the config file what neither the command line nor the environment says. How a contract is asked is of no use for
    /// another one.
    pub(crate) fn fill(&mut self, file: RegistrySection) {
        let another = file.name.is_some() && self.registry.is_some_and(|named| Some(named) != file.name);
        self.registry = self.registry.or(file.name);
        if another {
            return;
        }
        let chain = &mut self.chain;
        if chain.rpc.is_empty() {
            chain.rpc = file.rpc;
        }
        chain.chain_id = chain.chain_id.or(file.chain_id);
        chain.agree = chain.agree.or(file.agree);
        chain.confirmations = chain.confirmations.or(file.confirmations);
        chain.from_block = chain.from_block.or(file.from_block);
    }
}

/// How a contract is asked.
#[derive(Clone, Debug, Args)]
pub(crate) struct ChainArgs {
    /// An endpoint of the chain (JSON-RPC, http:// or https://); of several the next is asked while one fails. Others on this
    /// machine see the command line: a URL with a key in it is better set as VEILCAST_RPC, several separated by commas
    #[arg(long, value_name = "URL", env = "VEILCAST_RPC", hide_env_values = true, help_heading = CHAIN, value_delimiter = ',')]
    pub(crate) rpc: Vec<RpcUrl>,
    /// The chain that a contract named by its address is on (EIP-155): endpoints of another chain are not believed [default: the chain
    /// of the first endpoint that answers; known for the networks with a name]
    #[arg(long, value_name = "ID", env = "VEILCAST_CHAIN_ID", hide_env_values = true, help_heading = CHAIN, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) chain_id: Option<u64>,
    /// How many endpoints must say the same about a permission [default: 1]
    #[arg(long, value_name = "N", env = "VEILCAST_AGREE", hide_env_values = true, help_heading = CHAIN)]
    pub(crate) agree: Option<usize>,
    /// How many blocks lie on top of the one whose grants count [default: 12]
    #[arg(long, value_name = "N", env = "VEILCAST_CONFIRMATIONS", hide_env_values = true, help_heading = CHAIN)]
    pub(crate) confirmations: Option<u64>,
    /// The block to read the contract's events from: its first or an earlier one. They tell who subscribes [default: known for the
    /// networks with a name, else 0]
    #[arg(long, value_name = "BLOCK", env = "VEILCAST_FROM_BLOCK", hide_env_values = true, help_heading = CHAIN)]
    pub(crate) from_block: Option<u64>,
}

/// May have the key of a customer in it: never shown.
#[derive(Clone)]
pub(crate) struct RpcUrl(pub(crate) String);

impl FromStr for RpcUrl {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.into()))
    }
}

impl fmt::Debug for RpcUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RpcUrl(..)")
    }
}

/// For what costs gas.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct SpendArgs {
    /// Send the transaction without asking; what it may cost is shown all the same
    #[arg(long, help_heading = CHAIN)]
    pub(crate) yes: bool,
}
