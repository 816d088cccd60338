//! Rekeyed keys on their way to subscribers, both ends.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use lru::LruCache;
use veilcast_key_store::KeyId;

use super::asking::{Batch, open_unless_held};
use super::error::ClientError;
use super::handing::Road;
use super::shared::{Shared, lock};
use super::stats::count;
use crate::exchange::{Bucket, Rate};
use crate::identity::{Identity, UserId};
use crate::permission::{Grant, Permission, Refusal};
use crate::publisher::{Entry, Given, Holder, Place};
use crate::stream::StreamId;
use crate::subscriber::Arrival;
use crate::time::Timestamp;
use crate::wire::{KeyPush, KeyReceipt, Received, RequestId, Verified};

/// How far a push's time may be from ours.
const FRESHNESS: Duration = Duration::from_secs(60);
/// An RSA operation costs milliseconds: one publisher makes us do so many of them.
const PER_PUBLISHER: Rate = Rate { per_second: 5, burst: 20 };
/// Pushes of one connected peer, and of all, before a signature is checked.
const PER_PEER: Rate = Rate { per_second: 10, burst: 40 };
const TOTAL: Rate = Rate { per_second: 500, burst: 1000 };
/// Keys taken from one push; a rekey brings one.
const MAX_PUSHED: usize = 4;
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

impl Road for Shared {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn holders(
        &self,
        stream: &StreamId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<(Holder, Place)>, ClientError> {
        self.holders.places(stream, after, limit).await
    }

    async fn check(&self, stream: &StreamId, user: UserId) -> Result<Grant, Refusal> {
        Shared::check(self, stream, user, Permission::Subscribe).await
    }

    /// Over the connection there is, or a new one to where the holder was when it was given a key.
    async fn send(&self, to: &Place, push: Bytes) -> Option<Bytes> {
        let peer = PeerId::from_bytes(&to.peer).ok()?;
        let addresses = to.addresses.iter().filter_map(|bytes| Multiaddr::try_from(bytes.clone()).ok()).collect();
        let sent = self.network.request(peer, addresses, push.to_vec());
        let reply = tokio::time::timeout(self.config.push_timeout, sent).await.ok()?.ok()?;
        Some(reply.into())
    }

    async fn note(&self, entry: Entry) {
        if let Entry::Given(_) = &entry {
            count(&self.counters.pushes_confirmed, 1);
        }
        self.holders.note_all(entry).await;
    }

    fn sent(&self, given: &Given, confirmed: bool) {
        self.audit.pushed(given, confirmed);
    }

    fn withheld(&self, stream: &StreamId, to: (UserId, &Place), key: &KeyId, refusal: Refusal) {
        self.audit.withheld(stream, to, key, refusal, self.now());
    }
}

/// What keeps pushes from costing us more than they are worth.
pub(super) struct PushScreen {
    seen: LruCache<(UserId, RequestId), ()>,
    peers: LruCache<PeerId, Bucket>,
    publishers: LruCache<UserId, Bucket>,
    total: Option<Bucket>,
}

impl Default for PushScreen {
    fn default() -> Self {
        let (peers, publishers) = (LruCache::new(REMEMBERED), LruCache::new(REMEMBERED));
        Self { seen: LruCache::new(REMEMBERED), peers, publishers, total: None }
    }
}

impl PushScreen {
    /// Before the signature, which costs: not seen before, and within what one peer and all together may send.
    fn look(&mut self, now: Timestamp, from: PeerId, push: &KeyPush) -> bool {
        let known = self.seen.contains(&(push.publisher, push.id));
        let per_peer = || Bucket::full(PER_PEER, now);
        let total = self.total.get_or_insert_with(|| Bucket::full(TOTAL, now));
        !known && self.peers.get_or_insert_mut(from, per_peer).take(now).is_ok() && total.take(now).is_ok()
    }

    /// After the signature: nobody else can use up a publisher's share.
    fn admit(&mut self, now: Timestamp, push: &KeyPush) -> bool {
        self.seen.put((push.publisher, push.id), ()).is_none()
            && self.publishers.get_or_insert_mut(push.publisher, || Bucket::full(PER_PUBLISHER, now)).take(now).is_ok()
    }
}

/// Takes a pushed key in. Only for streams subscribed to here, from those who may publish there; the RSA operation is last.
pub(super) async fn receive(shared: &Arc<Shared>, from: PeerId, envelope: &Bytes) -> Option<Bytes> {
    let received = Received::<KeyPush>::decode(envelope).ok()?;
    let (now, claims) = (shared.now(), received.claims());
    let fresh = now.since(claims.sent).max(claims.sent.since(now)) <= FRESHNESS;
    let wanted = claims.subscriber == shared.user && !shared.readers_of(&claims.stream).is_empty();
    let small = claims.granted.len() <= MAX_PUSHED;
    if !fresh || !wanted || !small || !lock(&shared.pushes).look(now, from, claims) {
        return None;
    }
    let push = received.verify().ok()?.into_content();
    shared.check(&push.stream, push.publisher, Permission::Publish).await.ok()?;
    shared.must_exchange(&push.stream).await.ok()?;
    if !lock(&shared.pushes).admit(now, &push) {
        return None;
    }
    let receipt =
        KeyReceipt { id: push.id, subscriber: shared.user, publisher: push.publisher, stream: push.stream.clone() };
    let (publisher, stream) = (push.publisher, push.stream.clone());
    let batch = Batch {
        publisher,
        stream: stream.clone(),
        request: push.id,
        encapsulated: push.encapsulated,
        granted: push.granted,
    };
    let keys = open_unless_held(shared, batch).await.ok()?.keys;
    if keys.is_empty() {
        return None;
    }
    for key in keys {
        count(&shared.counters.pushes_accepted, 1);
        shared.key_is_here(publisher, &stream, key, Arrival::Push).await;
    }
    Verified::sign(receipt, &shared.identity).ok().map(|signed| signed.envelope().clone())
}
