//! A node that keeps messages.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use veilcast::StreamId;
use veilcast::client::{Client, Keypair, StorageCounts};
use veilcast::permission::LocalRegistry;
use veilcast::storage::{SledMessageStore, StorageLimits};

use crate::args::{Kept, NodeArgs, Registry, RegistryArgs, Shared};
use crate::connect;
use crate::data_dir::DataDir;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::session::Session;
use crate::times;

/// How long leaving politely may take.
const LEAVE: Duration = Duration::from_secs(3);
/// How often it is looked whether there is anything to say, and how often it is said how much is kept, where that changed.
const LOOK: Duration = Duration::from_secs(1);
const TELL: Duration = Duration::from_secs(60);

pub(super) async fn run(
    args: NodeArgs,
    shared: &Shared,
    dir: &DataDir,
    keypair: Keypair,
    output: Output<'_>,
    mut stop: Interrupt,
) -> Result<Exit, Failure> {
    if !args.store_assigned.is_empty() && !matches!(args.registry.named(), Registry::Kept(Kept::Grants)) {
        return Err(Failure::UnsignedStorage);
    }
    let session = Session::open(shared)?;
    must_be_known(&args.store, &args.registry, &session)?;
    let unknown = without_record(&args, &session)?;
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
    let mut outcome = super::announce(client.addresses().await, client.peer_id(), output);
    if outcome.is_ok() {
        for stream in &unknown {
            let text = format!(
                "there is no record of {stream} here yet; nothing of it is kept until one comes (veilcast grant import, or a subscriber or publisher that has it)"
            );
            output.note("no_record", text);
        }
        outcome = tokio::select! {
            () = stop.wait() => leave(&client, output).await,
            () = super::missed(&args.bootstrap, |address| client.connect(address), output) => Ok(()),
            error = client.storage_failed() => Err(Failure::StorageFailed(error)),
            failed = watch(&client, output) => failed,
        };
    }
    let _ = tokio::time::timeout(LEAVE, client.stop()).await;
    outcome.map(|()| Exit::Done)
}

/// Grants kept in this folder are given in it alone: of any other stream it would never know who may publish, and store nothing.
pub(crate) fn must_be_known(stored: &[StreamId], registry: &RegistryArgs, session: &Session) -> Result<(), Failure> {
    if !matches!(registry.named(), Registry::Kept(Kept::Local)) {
        return Ok(());
    }
    let known = LocalRegistry::new(session.store.clone()).streams()?;
    let is_known = |stream: &StreamId| known.iter().any(|(known, _)| known == stream);
    match stored.iter().find(|stream| !is_known(stream)) {
        Some(stream) => Err(Failure::StoredUnknown { stream: stream.clone() }),
        None => Ok(()),
    }
}

/// Where owners sign permissions, nobody may publish on a stream whose record is not here: it may still come.
fn without_record(args: &NodeArgs, session: &Session) -> Result<Vec<StreamId>, Failure> {
    if !matches!(args.registry.named(), Registry::Kept(Kept::Grants)) {
        return Ok(Vec::new());
    }
    let grants = session.signed_grants();
    let mut unknown = Vec::new();
    for stream in &args.store {
        if grants.record(stream)?.is_none() {
            unknown.push(stream.clone());
        }
    }
    Ok(unknown)
}

async fn leave(client: &Client, output: Output<'_>) -> Result<(), Failure> {
    output.note("stopping", "stopping");
    tell(client, output).await
}

/// Says what is kept, now and then, and at once what is not. Returns only when the store cannot be read.
async fn watch(client: &Client, output: Output<'_>) -> Result<(), Failure> {
    let mut before = client.storage_counts().unwrap_or_default();
    let (mut told, mut told_at) = (before, Instant::now());
    tell(client, output).await?;
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(counts) = client.storage_counts() else { return Ok(()) };
        warn(&before, &counts, output);
        before = counts;
        if counts != told && told_at.elapsed() >= TELL {
            (told, told_at) = (counts, Instant::now());
            tell(client, output).await?;
        }
    }
}

/// The first time that something is not kept.
fn warn(before: &StorageCounts, now: &StorageCounts, output: Output) {
    let first = |before: u64, now: u64| before == 0 && now > 0;
    if first(before.refused, now.refused) {
        let text = "a message was not stored: its author may not publish on the stream, as far as --registry knows";
        output.note("storage_refused", text);
    }
    if first(before.unchecked, now.unchecked) {
        let text = "a message was not stored: nobody could say whether its author may publish; see to --registry";
        output.note("storage_unchecked", text);
    }
    if first(before.out_of_range, now.out_of_range) {
        let text =
            "a message was not stored: it is older than --store-age, or dated more than an hour ahead of this clock";
        output.note("storage_out_of_range", text);
    }
    if first(before.unreadable, now.unreadable) {
        let text = "a reader was refused: the message store cannot be read; see to the disk and to the folder messages \
            (-v tells more), or move it away to begin with an empty one";
        output.note("storage_unreadable", text);
    }
    if first(before.unannounced, now.unannounced) {
        let text =
            format!("{} streams are kept, but readers do not find them here: too many for one node", now.unannounced);
        output.note("storage_unannounced", text);
    }
}

/// How much is kept.
async fn tell(client: &Client, output: Output<'_>) -> Result<(), Failure> {
    let Some(state) = client.storage_state().await? else { return Ok(()) };
    let age = state.oldest.map_or(String::new(), |oldest| format!(", the oldest of {}", times::show(oldest)));
    let counts = client.storage_counts().unwrap_or_default();
    let more = [
        (counts.refused, "refused"),
        (counts.unchecked, "not to be checked"),
        (counts.out_of_range, "out of range"),
        (counts.evicted, "given up"),
        (counts.unreadable, "requests refused because the store cannot be read"),
    ];
    let more: String = more.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!(", {n} {what}")).collect();
    let text = format!(
        "{} messages are kept, {} bytes{age}; since the start {} stored{more}",
        state.messages, state.bytes, counts.stored
    );
    let (oldest, newest) = (state.oldest.map(|at| at.as_millis()), state.newest.map(|at| at.as_millis()));
    let json = json!({
        "event": "storage", "messages": state.messages, "bytes": state.bytes, "oldest": oldest, "newest": newest,
        "stored": counts.stored, "refused": counts.refused, "unchecked": counts.unchecked,
        "out_of_range": counts.out_of_range, "evicted": counts.evicted, "unannounced": counts.unannounced,
        "unreadable": counts.unreadable,
    });
    output.event(text, &json);
    Ok(())
}
