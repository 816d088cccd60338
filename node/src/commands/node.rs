//! `veilcast node`: a relay and meeting point. It has no group keys, so there is nothing it could read. Where it keeps messages
//! it has an identity, which signs its answers.

mod keypair;
mod store;

use serde_json::json;
use veilcast::client::{ClientError, Multiaddr, PeerId, Relay};

pub(crate) use keypair::NodeKeyError;
pub(crate) use store::must_be_known;

use crate::args::{NodeArgs, Shared};
use crate::connect;
use crate::data_dir::DataDir;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;

/// Where a node listens if nothing else is said.
pub(crate) const DEFAULT_LISTEN: [&str; 2] = ["/ip4/0.0.0.0/tcp/4100", "/ip4/0.0.0.0/udp/4100/quic-v1"];

pub(crate) async fn run(
    args: NodeArgs,
    shared: Shared,
    output: Output<'_>,
    mut stop: Interrupt,
) -> Result<Exit, Failure> {
    let dir = DataDir::find(shared.data_dir.as_deref())?;
    dir.create()?;
    // Peers and stored messages need many.
    crate::descriptors::raise();
    // Held until the end: two nodes with one network key would take each other's connections.
    let held = keypair::load_or_make(&dir.node_key())?;
    if !(args.store.is_empty() && args.store_assigned.is_empty()) {
        return store::run(args, &shared, &dir, held.keypair.clone(), output, stop).await;
    }
    let mut builder = Relay::builder().keypair(held.keypair.clone());
    for address in listen_on(&args) {
        builder = builder.listen(address);
    }
    for address in &args.bootstrap {
        builder = builder.bootstrap(address.clone());
    }
    let Some(started) = stop.or(builder.start()).await else { return Ok(Exit::Done) };
    let relay = started?;
    let outcome = announce(relay.addresses().await, relay.peer_id(), output);
    if outcome.is_ok() {
        tokio::select! {
            () = stop.wait() => {}
            () = missed(&args.bootstrap, |address| relay.connect(address), output) => {}
        }
        output.note("stopping", "stopping");
    }
    let _ = tokio::time::timeout(std::time::Duration::from_secs(3), relay.stop()).await;
    outcome.map(|()| Exit::Done)
}

/// Says who is not there, and never returns.
async fn missed<F>(bootstrap: &[Multiaddr], connect: impl Fn(Multiaddr) -> F, output: Output<'_>)
where
    F: Future<Output = Result<(), ClientError>>,
{
    connect::tell_absent(bootstrap, connect, output).await;
    std::future::pending().await
}

fn listen_on(args: &NodeArgs) -> Vec<Multiaddr> {
    let default = || DEFAULT_LISTEN.iter().filter_map(|text| text.parse().ok()).collect();
    if args.listen.is_empty() { default() } else { args.listen.clone() }
}

fn announce(addresses: Vec<Multiaddr>, peer: PeerId, output: Output) -> Result<(), Failure> {
    let addresses: Vec<String> = addresses.iter().map(Multiaddr::to_string).collect();
    let json = json!({ "peer_id": peer.to_string(), "addresses": addresses });
    output.result(addresses.join("\n"), &json)?;
    output.note("running", "the node runs; give one of these addresses to others as --bootstrap; Ctrl-C stops it");
    Ok(())
}
