//! From an opened data folder to a running client that does all that the config file says.

use std::sync::Arc;

use veilcast::client::{Client, ClientConfig, Multiaddr};
use veilcast::permission::ethereum::EthereumRegistry;
use veilcast::publisher::KeyPolicy;
use veilcast::storage::{SledMessageStore, StorageLimits};

use crate::args::{Kept, Registry, RunArgs};
use crate::commands::node::{DEFAULT_LISTEN, must_be_known};
use crate::config::{Config, StreamSection};
use crate::connect;
use crate::data_dir::DataDir;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;

/// A running client, and the contract it follows.
pub(super) struct Opened {
    pub(super) client: Client,
    pub(super) contract: Option<Arc<EthereumRegistry>>,
}

pub(super) async fn open(
    session: Session,
    dir: &DataDir,
    args: &RunArgs,
    config: &Config,
    output: Output<'static>,
) -> Result<Opened, Failure> {
    let storage = &config.storage;
    let stores = !(storage.streams.is_empty() && storage.assigned_by.is_empty());
    if !storage.assigned_by.is_empty() && !matches!(args.registry.named(), Registry::Kept(Kept::Grants)) {
        return Err(Failure::UnsignedStorage);
    }
    must_be_known(&storage.streams, &args.registry, &session)?;
    for stream in &config.streams {
        keep(stream, &session)?;
    }
    let (mut builder, contract) = connect::publisher(session, &args.registry)?;
    if stores {
        let usual = StorageLimits::default();
        let limits = usual.max_bytes(storage.max_size.unwrap_or(usual.max_bytes)).max_age(storage.max_age);
        let store = Arc::new(SledMessageStore::open(&dir.messages(), limits)?);
        builder = builder.storage(store, storage.streams.iter().cloned());
        builder = builder.assigned_by(storage.assigned_by.iter().copied());
    }
    if config.network.relay {
        builder = builder.relay();
    }
    for address in listen_on(args) {
        builder = builder.listen(address);
    }
    for address in &args.bootstrap {
        builder = builder.bootstrap(address.clone());
    }
    let mut settings = ClientConfig::default();
    // Applications that ask here hear each other.
    settings.hear_own = true;
    let client = builder.config(settings).start().await?;
    for address in args.bootstrap.clone() {
        tokio::spawn(meet(client.clone(), address, output));
    }
    Ok(Opened { client, contract })
}

/// One that is away is met later, and no reason not to start.
async fn meet(client: Client, address: Multiaddr, output: Output<'static>) {
    if let Err(error) = client.connect(address).await {
        output.note("bootstrap_failed", format!("{error}; it is tried again"));
    }
}

fn listen_on(args: &RunArgs) -> Vec<Multiaddr> {
    let usual = || DEFAULT_LISTEN.iter().filter_map(|text| text.parse().ok()).collect();
    if args.listen.is_empty() { usual() } else { args.listen.clone() }
}

/// What the config file says of a stream is kept with it, as `veilcast stream set` does.
fn keep(told: &StreamSection, session: &Session) -> Result<(), Failure> {
    let policy = KeyPolicy::load(&*session.store, &told.id)?;
    let changed = told.rhythm.over(policy);
    if changed != policy {
        changed.save(&*session.store, &told.id)?;
    }
    if let Some(history) = told.history {
        session.histories().set(&told.id, history)?;
    }
    Ok(())
}
