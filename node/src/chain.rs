//! A contract as the registry: opening it as the command line says, and spending gas on it.

mod catching_up;
mod coins;
mod failure;
mod spend;

use std::sync::Arc;

pub(crate) use catching_up::{subscribers, tell};
pub(crate) use coins::show as in_coins;
pub(crate) use failure::ChainFailure;
pub(crate) use spend::{Purse, agreed};
use veilcast::key_store::RecordStore;
use veilcast::permission::ethereum::{ChainConfig, Deployment, EthereumRegistry, FollowConfig};

use crate::args::{ChainArgs, Registry, RegistryArgs};
use crate::clock::clock;

/// The registry that the command line names. Nobody is asked yet.
pub(crate) fn open(deployment: Deployment, args: &ChainArgs) -> Result<EthereumRegistry, ChainFailure> {
    if args.rpc.is_empty() {
        return Err(ChainFailure::NoEndpoint { deployment });
    }
    let deployment = match (deployment.chain_id(), args.chain_id) {
        (Some(known), Some(given)) if known != given => {
            return Err(ChainFailure::OtherChain { deployment, known, given });
        }
        (None, Some(given)) => deployment.on_chain(given),
        _ => deployment,
    };
    let mut config = ChainConfig::default();
    config.agreement = args.agree.unwrap_or(config.agreement);
    config.confirmations = args.confirmations.unwrap_or(config.confirmations);
    let builder = EthereumRegistry::builder(deployment).config(config).clock(clock());
    let builder = args.rpc.iter().fold(builder, |builder, url| builder.rpc(url.0.as_str()));
    builder.build().map_err(ChainFailure::Setup)
}

/// Finds out whether a contract that decides can be asked at all: whoever reads needs to know first, and which endpoint failed.
pub(crate) async fn verify(args: &RegistryArgs) -> Result<(), ChainFailure> {
    match args.named() {
        Registry::Chain(deployment) => Ok(open(deployment, &args.chain)?.verify().await?),
        Registry::Kept(_) => Ok(()),
    }
}

/// The registry that the command line names, following the contract's events: what a publisher needs to know of ends, and whoever wants a list.
pub(crate) fn follow(
    deployment: Deployment,
    args: &ChainArgs,
    records: Arc<dyn RecordStore>,
) -> Result<Arc<EthereumRegistry>, ChainFailure> {
    let mut config = FollowConfig::default();
    config.first_block = args.from_block;
    Ok(Arc::new(open(deployment, args)?.follow(records, config)))
}
