//! Storage nodes: saying that this is one, and finding those of a stream. Both by the DHT.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use libp2p::{Multiaddr, PeerId};
use lru::LruCache;
use rand::Rng;
use rand::seq::SliceRandom;
use tokio::time::Instant;

use super::announcing::{best_slot, reachable};
use super::carrying;
use super::shared::{Shared, blocking, lock};
use super::storing::Storage;
use crate::identity::UserId;
use crate::network::NetworkError;
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
/// But so often at most: each of them takes a query for every slot, and neighbours come and go as they like.
const SELDOM: Duration = Duration::from_secs(60);
const MOVED: Duration = Duration::from_secs(2);

/// Storage nodes remembered as having answered.
const ANSWERED: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// A storage node of a stream. Anybody may claim any peer for his own: only identity and peer together name a node, and only
/// an answer shows that they belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Depot {
    pub(super) node: UserId,
    pub(super) peer: PeerId,
    pub(super) addresses: Vec<Multiaddr>,
}

impl Depot {
    fn name(&self) -> (UserId, PeerId) {
        (self.node, self.peer)
    }
}

/// Storage nodes that answered, the latest ones: they are asked before those of which nothing is known.
pub(super) struct Answered(Mutex<LruCache<(UserId, PeerId), ()>>);

impl Default for Answered {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(ANSWERED)))
    }
}

impl Answered {
    /// This node signed an answer, and it came from this peer.
    pub(super) fn note(&self, depot: &Depot) {
        lock(&self.0).put(depot.name(), ());
    }

    fn contains(&self, depot: &Depot) -> bool {
        lock(&self.0).contains(&depot.name())
    }
}

/// What was said, and where it lies.
#[derive(Default)]
struct Said {
    addresses: Vec<Vec<u8>>,
    slots: HashMap<StreamId, u8>,
    /// How many others had a record of the last round at most.
    heard_by: usize,
}

/// Keeps the records of this node's streams alive.
pub(super) async fn announce(shared: Arc<Shared>) {
    let Some(storage) = &shared.storage else { return };
    let mut said = Said::default();
    // Two that took one place at the same time: looked at again soon.
    let mut pause = VERIFY;
    loop {
        say_all(&shared, storage, &mut said).await;
        tokio::select! {
            _ = storage.failure() => break,
            () = worth_saying(&shared, &said) => {}
            () = tokio::time::sleep(pause) => pause = shared.config.record_lifetime / 3,
        }
    }
    withdraw(&shared, said.slots).await;
}

/// These are stored here no more.
async fn withdraw(shared: &Shared, slots: impl IntoIterator<Item = (StreamId, u8)>) {
    for (stream, slot) in slots {
        shared.network.forget_record(StorageRecord::dht_key(&stream, slot)).await;
        shared.network.forget_record(StorageRecord::dht_key_of(&stream, shared.user)).await;
    }
}

async fn say_all(shared: &Shared, storage: &Storage, said: &mut Said) {
    (said.addresses, said.heard_by) = (reachable(shared).await, 0);
    let mut unheard = 0;
    let streams = storage.streams();
    let gone: Vec<_> = said.slots.extract_if(|stream, _| !streams.contains(stream)).collect();
    withdraw(shared, gone).await;
    for stream in &streams {
        match put(shared, stream, said).await {
            Ok(peers) => said.heard_by = said.heard_by.max(peers),
            Err(error) => {
                unheard += 1;
                tracing::warn!(%stream, %error, "it is announced nowhere that this stream is stored here");
            }
        }
    }
    storage.counts.unannounced.store(unheard, Ordering::Relaxed);
}

/// Returns once this node is reached elsewhere, or has neighbours that it had not. Whoever comes and goes all the time makes it
/// speak no more often than [`SELDOM`]; only when nobody heard it at all, whoever comes is told.
async fn worth_saying(shared: &Shared, said: &Said) {
    let (at, mut met) = (Instant::now(), false);
    loop {
        let seldom = if said.heard_by == 0 { at } else { at + SELDOM };
        tokio::select! {
            () = shared.depots_soon.notified() => met = true,
            () = tokio::time::sleep_until(seldom), if met => return,
        }
        tokio::time::sleep(SETTLE).await;
        if reachable(shared).await != said.addresses {
            return tokio::time::sleep_until(at + MOVED).await;
        }
    }
}

/// Answers how many others have the record.
async fn put(shared: &Shared, stream: &StreamId, said: &mut Said) -> Result<usize, NetworkError> {
    let me = shared.network.local_peer().to_bytes();
    let looks =
        join_all(StorageRecord::slots().map(|slot| under(shared, stream, StorageRecord::dht_key(stream, slot))));
    let seen = tokio::time::timeout(LOOKUP_TIMEOUT, looks).await.unwrap_or_default();
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
        addresses: said.addresses.clone(),
        issued: now,
        expires: now.plus(lifetime),
        slot,
    };
    // What we make ourselves is no larger than a record may be.
    let Ok(signed) = Verified::sign(record, &shared.identity) else { return Ok(0) };
    if let Some(before) = said.slots.insert(stream.clone(), slot).filter(|before| *before != slot) {
        shared.network.forget_record(StorageRecord::dht_key(stream, before)).await;
    }
    let put = |key| shared.network.put_record(key, signed.envelope().to_vec(), lifetime);
    if named(shared, stream).await.contains(&shared.user) {
        put(StorageRecord::dht_key_of(stream, shared.user)).await?;
    }
    put(StorageRecord::dht_key(stream, slot)).await
}

/// The storage nodes that the stream's owner names in a record that holds.
async fn named(shared: &Shared, stream: &StreamId) -> Vec<UserId> {
    let (grants, stream, now) = (shared.grants.clone(), stream.clone(), shared.now());
    let record = blocking(move || grants.record(&stream)).await.ok().and_then(Result::ok).flatten();
    record.filter(|(record, _)| record.holds_at(now)).map(|(record, _)| record.storage).unwrap_or_default()
}

/// The storage nodes of a stream: first this client itself, where it keeps the stream, then those that its owner names. Looks for a
/// while where there is none.
pub(super) async fn find(shared: &Arc<Shared>, stream: &StreamId) -> Vec<Depot> {
    carrying::meet(shared, stream).await;
    if let Some(own) = own(shared, stream) {
        let others = look(shared, stream).await;
        return std::iter::once(own).chain(others).collect();
    }
    let until = Instant::now() + PATIENCE;
    loop {
        let found = look(shared, stream).await;
        if !found.is_empty() || Instant::now() >= until {
            return found;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn own(shared: &Shared, stream: &StreamId) -> Option<Depot> {
    let storage = shared.storage.as_ref().filter(|storage| storage.keeps(stream) && !storage.has_failed());
    storage.map(|_| Depot { node: shared.user, peer: shared.network.local_peer(), addresses: Vec::new() })
}

async fn look(shared: &Shared, stream: &StreamId) -> Vec<Depot> {
    let named = named(shared, stream).await;
    let in_slots = StorageRecord::slots().map(|slot| StorageRecord::dht_key(stream, slot));
    let of_named = named.iter().map(|node| StorageRecord::dht_key_of(stream, *node));
    let looks = join_all(of_named.chain(in_slots).map(|key| under(shared, stream, key)));
    let seen = tokio::time::timeout(LOOKUP_TIMEOUT, looks).await.unwrap_or_default();
    let records = seen.into_iter().flatten();
    // Those that its owner names are the best known.
    let unknown = |depot: &Depot| (!named.contains(&depot.node), !shared.answered.contains(depot));
    in_order(records, shared.network.local_peer(), unknown, &mut rand::rng())
}

/// The newest word of each node at each peer, but `me`: the least unknown first, and equals in no order that anybody could
/// choose for himself.
fn in_order<K: Ord>(
    records: impl Iterator<Item = StorageRecord>,
    me: PeerId,
    unknown: impl Fn(&Depot) -> K,
    rng: &mut impl Rng,
) -> Vec<Depot> {
    let mut newest: HashMap<(UserId, PeerId), StorageRecord> = HashMap::new();
    for record in records {
        let Ok(peer) = PeerId::from_bytes(&record.peer) else { continue };
        let known = newest.get(&(record.node, peer));
        if peer != me && known.is_none_or(|known| known.issued < record.issued) {
            newest.insert((record.node, peer), record);
        }
    }
    let depot = |((node, peer), record): ((UserId, PeerId), StorageRecord)| {
        let addresses = record.addresses.into_iter().filter_map(|bytes| Multiaddr::try_from(bytes).ok());
        Depot { node, peer, addresses: addresses.collect() }
    };
    let mut found: Vec<Depot> = newest.into_iter().map(depot).collect();
    found.shuffle(rng);
    found.sort_by_key(unknown);
    found
}

async fn under(shared: &Shared, stream: &StreamId, key: Vec<u8>) -> Vec<StorageRecord> {
    let found = shared.network.get_record(key.clone()).await.unwrap_or_default();
    found.iter().filter_map(|value| shared.gate.storage_record_of(stream, &key, value)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::time::Timestamp;

    fn record(node: u8, peer: PeerId, issued: u64) -> StorageRecord {
        let node = UserId::from_bytes([node; 20]);
        let issued = Timestamp::from_secs(issued);
        StorageRecord {
            stream: StreamId::of(node, "s").unwrap(),
            node,
            peer: peer.to_bytes(),
            addresses: Vec::new(),
            issued,
            expires: issued.plus(Duration::from_secs(60)),
            slot: 0,
        }
    }

    fn name(node: u8, peer: PeerId) -> (UserId, PeerId) {
        (UserId::from_bytes([node; 20]), peer)
    }

    #[test]
    fn who_claims_anothers_peer_takes_him_out_of_no_list_and_who_dates_ahead_is_not_asked_first_for_it() {
        let [me, honest, own] = [(); 3].map(|()| PeerId::random());
        let records = || {
            [record(1, honest, 5), record(1, honest, 9), record(2, honest, 99), record(3, own, 99), record(4, me, 1)]
        };
        let mut first = HashSet::new();
        for seed in 0..50 {
            let found = in_order(records().into_iter(), me, |_| false, &mut StdRng::seed_from_u64(seed));
            let names: HashSet<_> = found.iter().map(Depot::name).collect();
            assert_eq!((names, found.len()), (HashSet::from([name(1, honest), name(2, honest), name(3, own)]), 3));
            first.insert(found[0].name());
        }
        assert_eq!(first.len(), 3, "each comes first at times");
    }

    #[test]
    fn a_node_that_answered_before_is_asked_first() {
        let [me, honest, other] = [(); 3].map(|()| PeerId::random());
        let (answered, mut rng) = (Answered::default(), StdRng::seed_from_u64(1));
        let known = Depot { node: UserId::from_bytes([1; 20]), peer: honest, addresses: Vec::new() };
        answered.note(&known);
        for _ in 0..20 {
            let records = (2..30).map(|node| record(node, if node % 2 == 0 { honest } else { other }, 99));
            let records = records.chain([record(1, honest, 1)]);
            assert_eq!(in_order(records, me, |depot| !answered.contains(depot), &mut rng)[0], known);
        }
    }
}
