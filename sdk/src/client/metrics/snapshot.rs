//! What is known elsewhere, looked at when somebody asks.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;

use crate::client::shared::{Shared, blocking, lock};
use crate::client::{Stats, StorageCounts};
use crate::metrics::Registry;

/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long for one stream's publisher, which may wait for its permission source.
const TURN: Duration = Duration::from_millis(50);

pub(super) async fn take(shared: &Arc<Shared>) -> Registry {
    let mut registry = Registry::with_prefix("veilcast");
    registry.register("build", "The version of the SDK", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
    stats(&mut registry, &shared.counters.snapshot());
    let readers = lock(&shared.readers).iter().filter(|reader| !reader.keys.is_closed()).count();
    gauge(&mut registry, "subscriptions", "Subscriptions, with those that read history alone", readers);
    let own = lock(&shared.publishers).len();
    gauge(&mut registry, "own_streams", "Streams that this node published on since it started", own);
    if let Ok(peers) = tokio::time::timeout(PATIENCE, shared.network.connected_peers()).await {
        gauge(&mut registry, "peers", "Connected peers", peers);
    }
    if let Ok(ends) = tokio::time::timeout(PATIENCE, ends_to_come(shared)).await {
        let help = "Ends of grants to come that are known, on own streams: each will cause a rekey, together with those near it";
        gauge(&mut registry, "ends_scheduled", help, ends);
    }
    if let Some(storage) = &shared.storage {
        stored(&mut registry, &storage.counts.snapshot());
        gauge(
            &mut registry,
            "storage_failed",
            "1 once the message store failed, and nothing is kept any more",
            storage.has_failed().into(),
        );
        let store = storage.store.clone();
        if let Ok(Ok(Ok(state))) = tokio::time::timeout(PATIENCE, blocking(move || store.state())).await {
            registry.register("stored_messages", "Messages in the message store", ConstGauge::new(state.messages));
            registry.register(
                "stored_bytes",
                "Their bytes, with their places in its index",
                ConstGauge::new(state.bytes),
            );
        }
    }
    registry
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: usize) {
    registry.register(name, help, ConstGauge::new(value as u64));
}

/// The counters that no family tells more of.
fn stats(registry: &mut Registry, stats: &Stats) {
    for (name, help, value) in [
        ("messages_received", "Verified messages from others, as they arrived", stats.messages_received),
        ("messages_delivered", "Messages handed to an application", stats.messages_delivered),
        ("events_lost", "Events lost because an application did not take them in time", stats.events_lost),
        ("keys_rotated", "Own keys rotated to, by policy or by hand", stats.keys_rotated),
        ("keys_rekeyed", "Own keys rekeyed to: by policy, for a grant that ended, or by hand", stats.keys_rekeyed),
        ("keys_ahead", "Own keys made and sent before an end of paid time that was known", stats.keys_ahead),
        ("rekeys_failed", "Rekeys that were due and failed; they are tried again", stats.rekeys_failed),
        ("pushes_confirmed", "Rekeyed keys that a subscriber confirmed", stats.pushes_confirmed),
        ("pushes_accepted", "Rekeyed keys that a publisher sent and that were taken in", stats.pushes_accepted),
        ("audit_entries", "Entries written into the audit log", stats.audit_entries),
        ("audit_failures", "Times that the audit log could not be written", stats.audit_failures),
    ] {
        registry.register(name, help, ConstCounter::new(value));
    }
}

fn stored(registry: &mut Registry, counts: &StorageCounts) {
    for (name, help, value) in [
        ("storage_stored", "Messages stored, and on disk", counts.stored),
        ("storage_refused", "Messages not stored because their authors may not publish", counts.refused),
        (
            "storage_unchecked",
            "Messages not stored because nobody could tell whether their authors may publish",
            counts.unchecked,
        ),
        ("storage_out_of_range", "Messages not stored because of their date", counts.out_of_range),
        ("storage_evicted", "Stored messages given up for want of room or for their age", counts.evicted),
    ] {
        registry.register(name, help, ConstCounter::new(value));
    }
    gauge(
        registry,
        "storage_unannounced",
        "Stored streams that could not be announced the last time",
        usize::try_from(counts.unannounced).unwrap_or(usize::MAX),
    );
}

/// Of the streams whose publishers are not busy for longer than a moment.
async fn ends_to_come(shared: &Shared) -> usize {
    let publishers: Vec<_> = lock(&shared.publishers).values().cloned().collect();
    let now = shared.now();
    let mut ends = 0;
    for publisher in publishers {
        if let Ok(publisher) = tokio::time::timeout(TURN, publisher.lock()).await {
            ends += publisher.ends_to_come(now);
        }
    }
    ends
}
