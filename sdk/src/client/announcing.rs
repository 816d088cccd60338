//! Saying where this publisher can be reached: in the DHT, to a stream's peers, and beside messages.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::finding;
use super::shared::{Shared, blocking, lock};
use crate::permission::Permission;
use crate::stream::{StreamId, StreamPart};
use crate::time::Timestamp;
use crate::wire::{Frame, PublisherRecord, Verified};

/// How often a publisher repeats its record beside its messages.
pub(super) const REPEAT: Duration = Duration::from_secs(30);
/// Addresses put into a record: what the wire allows.
const ADDRESSES: usize = 16;
/// Topics of either kind waiting for a greeting; a neighbour that is not told looks into the DHT.
const GREETINGS: usize = 1024;
/// Between two rounds of greetings.
const PAUSE: Duration = Duration::from_millis(200);
/// After a change of addresses or neighbours the record is put again, once things have settled.
const SETTLE: Duration = Duration::from_millis(200);

/// Two devices that took one slot at the same time: looked at again after this.
const VERIFY: Duration = Duration::from_secs(3);
/// What the slots hold is looked at so often at most.
const LOOKED: Duration = Duration::from_secs(2);
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// Keeps the DHT record alive: at start, when addresses or neighbours changed, and well before it expires.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut so_far = Announced::default();
    loop {
        announce(&shared, &mut so_far).await;
        let pause = if so_far.in_new_slot { VERIFY } else { shared.config.record_lifetime / 3 };
        tokio::select! {
            () = settled(&shared) => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn settled(shared: &Shared) {
    shared.announce_soon.notified().await;
    tokio::time::sleep(SETTLE).await;
}

/// Announce again shortly.
pub(super) fn soon(shared: &Shared) {
    shared.announce_soon.notify_one();
}

#[derive(Default)]
struct Announced {
    slot: Option<u8>,
    /// Somebody may have taken it at the same time.
    in_new_slot: bool,
    looked: Option<Instant>,
}

/// Puts the record into the DHT, if this identity publishes anything, in a slot that no other device of it holds where there
/// is one.
async fn announce(shared: &Arc<Shared>, so_far: &mut Announced) {
    so_far.in_new_slot = false;
    if !is_publisher(shared).await {
        return;
    }
    let slot = choose_slot(shared, &mut so_far.looked).await;
    shared.slot.store(slot, Ordering::Relaxed);
    let before = so_far.slot.replace(slot);
    so_far.in_new_slot = before != Some(slot);
    if let Some(before) = before.filter(|before| *before != slot) {
        shared.network.forget_record(PublisherRecord::dht_key(shared.user, before)).await;
    }
    let Some(record) = record(shared).await else { return };
    let key = PublisherRecord::dht_key(shared.user, slot);
    let put = shared.network.put_record(key, record.envelope().to_vec(), shared.config.record_lifetime);
    if let Err(error) = put.await {
        tracing::debug!(%error, "the publisher record was not put into the DHT");
    }
}

async fn choose_slot(shared: &Arc<Shared>, looked: &mut Option<Instant>) -> u8 {
    let held = shared.slot.load(Ordering::Relaxed);
    if looked.is_some_and(|at| at.elapsed() < LOOKED) {
        return held;
    }
    let look = async |slot| {
        let records = finding::in_slot(shared, shared.user, slot).await;
        let newest = records.iter().map(Verified::content).max_by_key(|record| record.issued);
        let newest = newest.map(|record| (record.peer.clone(), record.issued));
        // A device may want keys that only another has.
        records.into_iter().for_each(|record| finding::learn(shared, record));
        newest
    };
    let looks = join_all(PublisherRecord::slots().map(look));
    let Ok(seen) = tokio::time::timeout(LOOK_TIMEOUT, looks).await else { return held };
    *looked = Some(Instant::now());
    best_slot(&shared.network.local_peer().to_bytes(), held, &seen)
}

/// Of the slots, by the device that holds each and when it said so: one's own, else the first empty one from the preferred
/// on, else the one that was not renewed for the longest time.
pub(super) fn best_slot(me: &[u8], preferred: u8, seen: &[Option<(Vec<u8>, Timestamp)>]) -> u8 {
    let slots = seen.len().max(1);
    let in_order = || (0..slots).map(|n| (usize::from(preferred) + n) % slots);
    let holder = |slot: usize| seen.get(slot).and_then(Option::as_ref);
    let own = in_order().find(|slot| holder(*slot).is_some_and(|(peer, _)| peer == me));
    let empty = || in_order().find(|slot| holder(*slot).is_none());
    let oldest = || in_order().min_by_key(|slot| holder(*slot).map(|(_, issued)| *issued));
    own.or_else(empty).or_else(oldest).and_then(|slot| u8::try_from(slot).ok()).unwrap_or(preferred)
}

/// Where a device begins: most pairs of devices that come at the same time begin apart.
pub(super) fn preferred_slot(peer: PeerId) -> u8 {
    let digest = Sha256::digest(peer.to_bytes());
    digest.first().map_or(0, |byte| byte % PublisherRecord::slots().end)
}

/// A fresh signed record of this node's addresses.
pub(super) async fn record(shared: &Shared) -> Option<Verified<PublisherRecord>> {
    let now = shared.now();
    let record = PublisherRecord {
        publisher: shared.user,
        peer: shared.network.local_peer().to_bytes(),
        addresses: reachable(shared).await,
        issued: now,
        expires: now.plus(shared.config.record_lifetime),
        slot: shared.slot.load(Ordering::Relaxed),
    };
    Verified::sign(record, &shared.identity).ok()
}

/// This node's addresses, as bytes. Those at which most others reach us come first: what is cut off is cut off at the end.
pub(super) async fn reachable(shared: &Shared) -> Vec<Vec<u8>> {
    let mut addresses = shared.network.listen_addresses().await;
    addresses.sort_by_key(reach);
    addresses.iter().take(ADDRESSES).map(|address| address.to_vec()).collect()
}

/// 0 public, 1 private network, 2 this machine only.
fn reach(address: &Multiaddr) -> u8 {
    let near = |ip: IpAddr| match ip {
        IpAddr::V4(ip) if ip.is_loopback() => 2,
        IpAddr::V4(ip) if ip.is_private() || ip.is_link_local() => 1,
        IpAddr::V6(ip) if ip.is_loopback() => 2,
        IpAddr::V6(ip) if ip.is_unique_local() || ip.is_unicast_link_local() => 1,
        _ => 0,
    };
    let ip = address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(IpAddr::V6(ip)),
        _ => None,
    });
    ip.map_or(0, near)
}

/// Topics whose neighbours are to be told where we are.
#[derive(Default)]
pub(super) struct Joined {
    /// Of streams known to be ours.
    ours: BTreeSet<StreamPart>,
    /// Of streams that may be: anybody can name any, so these never take the places of the others.
    unknown: BTreeSet<StreamPart>,
    /// The streams of ours, when they were last looked at.
    streams: HashSet<StreamId>,
}

impl Joined {
    /// Whether there was room.
    fn add(&mut self, part: StreamPart, is_ours: bool) -> bool {
        let waiting = match is_ours || self.streams.contains(part.stream()) {
            true => &mut self.ours,
            false => &mut self.unknown,
        };
        let has_room = waiting.len() < GREETINGS;
        if has_room {
            waiting.insert(part);
        }
        has_room
    }

    /// Those to greet, after a look at which streams are ours.
    fn take(&mut self, streams: HashSet<StreamId>) -> BTreeSet<StreamPart> {
        self.streams = streams;
        let mut ours = std::mem::take(&mut self.ours);
        let unknown = std::mem::take(&mut self.unknown);
        ours.extend(unknown.into_iter().filter(|part| self.streams.contains(part.stream())));
        ours
    }
}

/// A neighbour takes part in a topic: if we publish there, it will be told where we are.
pub(super) fn peer_joined(shared: &Shared, topic: &str) {
    let Some(part) = StreamPart::from_topic(topic) else { return };
    let is_ours = lock(&shared.publishers).contains_key(part.stream());
    if lock(&shared.joined).add(part, is_ours) {
        shared.peers_joined.notify_one();
    }
}

/// One task tells them all, a topic at most once a pause however many neighbours come and go.
pub(super) async fn greet(shared: Arc<Shared>) {
    loop {
        shared.peers_joined.notified().await;
        // The source is asked about streams of ours alone: which others there are, strangers say.
        let streams = own_streams(&shared).await;
        let parts = lock(&shared.joined).take(streams);
        for part in parts {
            let mine = shared.check(part.stream(), shared.user, Permission::Publish).await.is_ok();
            if mine && let Some(record) = record(&shared).await {
                let _ = shared.network.publish(&part.topic(), Frame::of_record(record.envelope().clone())).await;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Has streams of its own, or keys it made.
async fn is_publisher(shared: &Arc<Shared>) -> bool {
    !lock(&shared.publishers).is_empty() || !own_streams(shared).await.is_empty()
}

/// The streams on record here, those this identity has keys of, and those published to.
async fn own_streams(shared: &Arc<Shared>) -> HashSet<StreamId> {
    let worker = shared.clone();
    let looked = blocking(move || {
        let mut streams: HashSet<StreamId> = lock(&worker.publishers).keys().cloned().collect();
        streams.extend(worker.registry.streams().unwrap_or_default().into_iter().map(|(stream, _)| stream));
        streams.extend(worker.issuer.streams().unwrap_or_default());
        let scopes = worker.store.scopes().unwrap_or_default();
        let own = scopes.iter().filter(|scope| scope.publisher() == worker.user.as_bytes());
        streams.extend(own.filter_map(|scope| StreamId::new(scope.stream()).ok()));
        streams
    });
    looked.await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(slots: [Option<(u8, u64)>; 4]) -> Vec<Option<(Vec<u8>, Timestamp)>> {
        slots.map(|held| held.map(|(peer, secs)| (vec![peer], Timestamp::from_secs(secs)))).to_vec()
    }

    #[test]
    fn a_device_keeps_its_slot_else_takes_an_empty_one_else_the_one_renewed_longest_ago() {
        let me = [7];
        assert_eq!(best_slot(&me, 2, &seen([None; 4])), 2);
        assert_eq!(best_slot(&me, 2, &seen([None, Some((7, 5)), None, None])), 1);
        assert_eq!(best_slot(&me, 2, &seen([None, None, Some((1, 9)), None])), 3);
        assert_eq!(best_slot(&me, 3, &seen([None, None, Some((1, 9)), Some((2, 1))])), 0);
        assert_eq!(best_slot(&me, 0, &seen([Some((1, 9)), Some((2, 8)), Some((3, 4)), Some((4, 6))])), 2);
    }

    #[test]
    fn of_two_devices_that_took_one_slot_the_later_stays_and_the_earlier_moves() {
        // What both see there is the newest record.
        let there = seen([None, Some((2, 6)), None, None]);
        assert_eq!(best_slot(&[2], 1, &there), 1);
        assert_eq!(best_slot(&[1], 1, &there), 2);
    }

    #[test]
    fn topics_that_strangers_make_up_take_no_place_of_a_stream_of_ours() {
        let me = crate::identity::Identity::from_secret_bytes(&[1; 32]).unwrap().user();
        let part = |name: String| StreamId::of(me, &name).unwrap().part(0).unwrap();
        let (published, stored) = (part("published".into()), part("stored".into()));
        let mut joined = Joined::default();
        joined.add(stored.clone(), false);
        // Until the first look, nothing tells it from what was made up.
        for n in 0..2 * GREETINGS {
            assert_eq!(joined.add(part(format!("made-up-{n}")), false), n < GREETINGS - 1);
        }
        assert!(joined.add(published.clone(), true));
        let all = BTreeSet::from([published.clone(), stored.clone()]);
        let own: HashSet<StreamId> = all.iter().map(|part| part.stream().clone()).collect();
        assert_eq!(joined.take(own.clone()), all);

        for n in 0..2 * GREETINGS {
            joined.add(part(format!("made-up-{n}")), false);
        }
        assert!(joined.add(stored.clone(), false));
        assert_eq!(joined.take(own), BTreeSet::from([stored]));
    }
}
