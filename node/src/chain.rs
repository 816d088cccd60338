//! A contract as the registry: opening it as the command line says, and spending gas on it.

mod coins;
mod failure;
mod spend;

pub(crate) use failure::ChainFailure;
pub(crate) use spend::Purse;
use veilcast::permission::ethereum::{ChainConfig, Deployment, EthereumRegistry};

use crate::args::ChainArgs;

/// The registry that the command line names. Nobody is asked yet.
pub(crate) fn open(deployment: Deployment, args: &ChainArgs) -> Result<EthereumRegistry, ChainFailure> {
    if args.rpc.is_empty() {
        return Err(ChainFailure::NoEndpoint { deployment });
    }
    let mut config = ChainConfig::default();
    config.agreement = args.agree;
    config.confirmations = args.confirmations.unwrap_or(config.confirmations);
    let builder = EthereumRegistry::builder(deployment).config(config);
    let builder = args.rpc.iter().fold(builder, |builder, url| builder.rpc(url.0.as_str()));
    builder.build().map_err(ChainFailure::Setup)
}
