//! A node that keeps messages.

use std::sync::Arc;

use serde_json::json;
use veilcast::client::{Client, Keypair};
use veilcast::storage::{SledMessageStore, StorageLimits};

use crate::args::{Kept, NodeArgs, Registry, Shared};
use crate::connect;
use crate::data_dir::DataDir;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::session::Session;
use crate::times;

/// How long leaving politely may take.
const LEAVE: std::time::Duration = std::time::Duration::from_secs(3);

pub(super) async fn run(
    args: NodeArgs,
    shared: &Shared,
    dir: &DataDir,
    keypair: Keypair,
    output: Output,
    mut stop: Interrupt,
) -> Result<Exit, Failure> {
    if !args.store_assigned.is_empty() && !matches!(args.registry.named(), Registry::Kept(Kept::Grants)) {
        return Err(Failure::UnsignedStorage);
    }
    let session = Session::open(shared)?;
    let limits = StorageLimits::default().max_bytes(args.store_size).max_age(args.store_age);
    let store = Arc::new(SledMessageStore::open(&dir.messages(), limits)?);
    let mut builder = connect::node(session, &args.registry)?.keypair(keypair).relay();
    builder = builder.storage(store, args.store.iter().cloned()).assigned_by(args.store_assigned.iter().copied());
    for address in super::listen_on(&args) {
        builder = builder.listen(address);
    }
    for address in &args.bootstrap {
        builder = builder.bootstrap(address.clone());
    }
    let Some(started) = stop.or(builder.start()).await else { return Ok(Exit::Done) };
    let client = started?;
    let outcome = super::announce(client.addresses().await, client.peer_id(), output);
    if outcome.is_ok() {
        tell(&client, output).await?;
        stop.wait().await;
        output.note("stopping", "stopping");
        tell(&client, output).await?;
    }
    let _ = tokio::time::timeout(LEAVE, client.stop()).await;
    outcome.map(|()| Exit::Done)
}

/// How much is kept.
async fn tell(client: &Client, output: Output) -> Result<(), Failure> {
    let Some(state) = client.storage_state().await? else { return Ok(()) };
    let age = state.oldest.map_or(String::new(), |oldest| format!(", the oldest of {}", times::show(oldest)));
    let text = format!("{} messages are kept, {} bytes{age}", state.messages, state.bytes);
    let (oldest, newest) = (state.oldest.map(|at| at.as_millis()), state.newest.map(|at| at.as_millis()));
    let json = json!({
        "event": "storage", "messages": state.messages, "bytes": state.bytes, "oldest": oldest, "newest": newest,
    });
    output.event(text, &json);
    Ok(())
}
