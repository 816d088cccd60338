//! Storage nodes: saying that this is one, and finding those of a stream. Both by the DHT.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::announcing::{best_slot, reachable};
use super::carrying;
use super::shared::{Shared, blocking};
use crate::identity::UserId;
use crate::stream::StreamId;
use crate::wire::{StorageRecord, Verified};

/// A lookup takes no longer.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// Where nobody is known, it is looked again for so long, with such pauses: a node that has just come needs a moment.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(300);
/// Between the first word and the second.
const VERIFY: Duration = Duration::from_secs(3);
/// After a change of addresses or neighbours the records are put again, once things have settled.
const SETTLE: Duration = Duration::from_millis(200);

/// A storage node of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Depot {
    pub(super) node: UserId,
    pub(super) peer: PeerId,
    pub(super) addresses: Vec<Multiaddr>,
}

/// Keeps the records of this node's streams alive.
pub(super) async fn announce(shared: Arc<Shared>) {
    let Some(storage) = &shared.storage else { return };
    // Two that took one place at the same time: looked at again soon.
    let mut pause = VERIFY;
    loop {
        for stream in storage.streams() {
            put(&shared, &stream).await;
        }
        tokio::select! {
            () = shared.depots_soon.notified() => tokio::time::sleep(SETTLE).await,
            () = tokio::time::sleep(pause) => pause = shared.config.record_lifetime / 3,
        }
    }
}

async fn put(shared: &Shared, stream: &StreamId) {
    let me = shared.network.local_peer().to_bytes();
    let looks =
        join_all(StorageRecord::slots().map(|slot| under(shared, stream, StorageRecord::dht_key(stream, slot))));
    let Ok(seen) = tokio::time::timeout(LOOKUP_TIMEOUT, looks).await else { return };
    let newest = |records: Vec<StorageRecord>| {
        let newest = records.into_iter().max_by_key(|record| record.issued);
        newest.map(|record| (record.peer, record.issued))
    };
    let preferred = me.last().map_or(0, |byte| byte % StorageRecord::slots().end);
    let slot = best_slot(&me, preferred, &seen.into_iter().map(newest).collect::<Vec<_>>());
    let (now, lifetime) = (shared.now(), shared.config.record_lifetime);
    let record = StorageRecord {
        stream: stream.clone(),
        node: shared.user,
        peer: me,
        addresses: reachable(shared).await,
        issued: now,
        expires: now.plus(lifetime),
        slot,
    };
    let Ok(signed) = Verified::sign(record, &shared.identity) else { return };
    let mut keys = vec![StorageRecord::dht_key(stream, slot)];
    if named(shared, stream).await.contains(&shared.user) {
        keys.push(StorageRecord::dht_key_of(stream, shared.user));
    }
    for key in keys {
        if let Err(error) = shared.network.put_record(key, signed.envelope().to_vec(), lifetime).await {
            tracing::debug!(%stream, %error, "a storage record was not put into the DHT");
        }
    }
}

/// The storage nodes that the stream's owner names in a record that holds.
async fn named(shared: &Shared, stream: &StreamId) -> Vec<UserId> {
    let (grants, stream, now) = (shared.grants.clone(), stream.clone(), shared.now());
    let record = blocking(move || grants.record(&stream)).await.ok().and_then(Result::ok).flatten();
    record.filter(|(record, _)| record.holds_at(now)).map(|(record, _)| record.storage).unwrap_or_default()
}

/// The storage nodes of a stream, this one not among them: first those that its owner names. Looks for a while where there is
/// none.
pub(super) async fn find(shared: &Arc<Shared>, stream: &StreamId) -> Vec<Depot> {
    carrying::meet(shared, stream).await;
    let until = Instant::now() + PATIENCE;
    loop {
        let found = look(shared, stream).await;
        if !found.is_empty() || Instant::now() >= until {
            return found;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn look(shared: &Shared, stream: &StreamId) -> Vec<Depot> {
    let named = named(shared, stream).await;
    let in_slots = StorageRecord::slots().map(|slot| StorageRecord::dht_key(stream, slot));
    let of_named = named.iter().map(|node| StorageRecord::dht_key_of(stream, *node));
    let looks = join_all(of_named.chain(in_slots).map(|key| under(shared, stream, key)));
    let seen = tokio::time::timeout(LOOKUP_TIMEOUT, looks).await.unwrap_or_default();
    let mut records: Vec<StorageRecord> = seen.into_iter().flatten().collect();
    // The newest word of each, and first those whose word is the owner's as well.
    records.sort_by_key(|record| (!named.contains(&record.node), std::cmp::Reverse(record.issued)));
    let mut found: Vec<Depot> = Vec::new();
    for record in records {
        let Ok(peer) = PeerId::from_bytes(&record.peer) else { continue };
        if peer != shared.network.local_peer() && found.iter().all(|depot| depot.peer != peer) {
            let addresses = record.addresses.into_iter().filter_map(|bytes| Multiaddr::try_from(bytes).ok());
            found.push(Depot { node: record.node, peer, addresses: addresses.collect() });
        }
    }
    found
}

async fn under(shared: &Shared, stream: &StreamId, key: Vec<u8>) -> Vec<StorageRecord> {
    let found = shared.network.get_record(key.clone()).await.unwrap_or_default();
    found.iter().filter_map(|value| shared.gate.storage_record_of(stream, &key, value)).collect()
}
