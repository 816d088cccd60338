//! Stopping with nothing lost: what was accepted is published, stored and on disk before the process ends.

use std::sync::Arc;
use std::time::Duration;

use veilcast::permission::ethereum::EthereumRegistry;

use crate::gateway::Gateway;
use crate::output::Output;

/// How long each step may take, with a peer that does not let go or a disk that stands still.
const PATIENCE: Duration = Duration::from_secs(20);

/// After the doors are closed.
pub(super) async fn all(gateway: &Gateway, contract: Option<Arc<EthereumRegistry>>, output: Output<'_>) {
    gateway.work.close();
    step("requests under way", gateway.work.wait(), output).await;
    step("messages on their way", gateway.client.flush(), output).await;
    step("the network and the store", gateway.client.stop(), output).await;
    if let Some(contract) = contract {
        step("the contract's events", contract.stop(), output).await;
    }
    output.note("stopped", "stopped");
}

async fn step(what: &str, work: impl Future<Output = ()>, output: Output<'_>) {
    if tokio::time::timeout(PATIENCE, work).await.is_err() {
        output.note("cut_off", format!("{what} took too long and were cut off"));
    }
}
