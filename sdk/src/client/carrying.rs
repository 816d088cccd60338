//! Stream records in the DHT: who owns a stream puts its record there, and who goes by it looks for a newer one.
//!
//! Nobody has to trust the DHT: a record counts by its owner's signature, and an older one never takes a newer one's place.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use tokio::time::{Instant, timeout};

use super::Client;
use super::error::ClientError;
use super::shared::{Shared, blocking, lock};
use crate::network::NetworkError;
use crate::permission::{GrantError, PermissionSource};
use crate::stream::StreamId;
use crate::wire::StreamRecord;

/// How long the DHT keeps a record; its owner puts it again when a third of that is over.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// A stream that is only read, or heard of: where its record is known, and where it is not.
const READ: Duration = Duration::from_secs(600);
const MISSING: Duration = Duration::from_secs(2);
/// How often it is looked whether anything is due.
const LOOK: Duration = Duration::from_millis(200);
/// Streams looked up at a time.
const AT_ONCE: usize = 8;
/// Nobody waits longer for a record before subscribing.
const MEETING: Duration = Duration::from_secs(5);
/// One lookup.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

impl Client {
    /// Puts the newest record of a stream of this identity into the DHT, where publishers and subscribers find it, also once
    /// this client is gone. Returns how many peers have it; none where none is connected yet. Set up with
    /// [`ClientBuilder::signed_grants`](super::ClientBuilder::signed_grants), a client does so by itself whenever a record changes.
    ///
    /// # Errors
    /// [`ClientError::Grant`]: it is not this identity's, or there is no record of it. [`ClientError::Network`].
    pub async fn announce_record(&self, stream: &StreamId) -> Result<usize, ClientError> {
        let (issuer, grants) = (self.shared.issuer.clone(), self.shared.grants.clone());
        let (id, now) = (stream.clone(), self.shared.now());
        let found = blocking(move || {
            issuer.renew(&id, now)?;
            grants.record(&id)
        });
        let (record, envelope) = found.await??.ok_or_else(|| GrantError::NoStream { stream: stream.clone() })?;
        Ok(put(&self.shared, &record, envelope).await?)
    }
}

async fn put(shared: &Shared, record: &StreamRecord, envelope: Bytes) -> Result<usize, NetworkError> {
    let key = StreamRecord::dht_key(&record.stream);
    let lasts = KEPT.min(record.expires.since(shared.now()));
    shared.network.put_record(key, envelope.to_vec(), lasts).await
}

/// Keeps the records of this identity's streams in the DHT: at start, when one changed, and before it lapses there.
pub(super) async fn announce(shared: Arc<Shared>) {
    let (mut changes, mut so_far) = (None, HashMap::new());
    loop {
        let now = Instant::now();
        let due = |at: &(u64, Instant)| now.duration_since(at.1) > KEPT / 3;
        if changes != Some(shared.grants.changes()) || so_far.values().any(due) {
            changes = Some(shared.grants.changes());
            so_far.retain(|_, at| !due(at));
            announce_changed(&shared, &mut so_far).await;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Puts those whose version is another than the one that was put.
async fn announce_changed(shared: &Arc<Shared>, so_far: &mut HashMap<StreamId, (u64, Instant)>) {
    let (issuer, grants) = (shared.issuer.clone(), shared.grants.clone());
    let own = blocking(move || {
        let of = |stream: StreamId| grants.record(&stream).transpose();
        issuer.streams()?.into_iter().filter_map(of).collect::<Result<Vec<_>, _>>()
    });
    let own = match own.await {
        Ok(Ok(own)) => own,
        Ok(Err(error)) => return tracing::warn!(%error, "the stream records cannot be read"),
        Err(_) => return,
    };
    for (record, envelope) in own {
        let is_there = so_far.get(&record.stream).is_some_and(|(version, _)| *version == record.version);
        if is_there || !record.holds_at(shared.now()) {
            continue;
        }
        if let Err(error) = put(shared, &record, envelope).await {
            tracing::warn!(stream = %record.stream, %error, "the stream record was not put into the DHT");
        }
        so_far.insert(record.stream.clone(), (record.version, Instant::now()));
    }
}

/// Looks for newer records of the streams that others own and that are published to, read or stored here.
pub(super) async fn look(shared: Arc<Shared>) {
    let mut next: HashMap<StreamId, (bool, Instant)> = HashMap::new();
    loop {
        let streams = streams(&shared);
        next.retain(|stream, _| streams.contains_key(stream));
        let now = Instant::now();
        // What is published or stored from now on is not left to the pause of what was only read.
        let is_due = |(stream, is_published): &(StreamId, bool)| {
            next.get(stream).is_none_or(|(before, at)| *at <= now || (*is_published && !before))
        };
        let due: Vec<_> = streams.into_iter().filter(is_due).collect();
        for some in due.chunks(AT_ONCE) {
            let pauses = join_all(some.iter().map(|(stream, is_published)| look_up(&shared, stream, *is_published)));
            let pauses = pauses.await;
            let until = |pause| Instant::now() + pause;
            let looked_up = some.iter().zip(pauses);
            next.extend(looked_up.map(|((stream, kind), pause)| (stream.clone(), (*kind, until(pause)))));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Looks once, for somebody who is about to subscribe and has no record that holds: it says into how many partitions the
/// stream is split, and who publishes.
pub(super) async fn meet(shared: &Arc<Shared>, stream: &StreamId) {
    if !shared.by_grants || stream.owner().is_none_or(|owner| owner == shared.user) {
        return;
    }
    let (grants, id, now) = (shared.grants.clone(), stream.clone(), shared.now());
    let known = blocking(move || grants.record(&id)).await;
    if !matches!(known, Ok(Ok(Some((record, _)))) if record.holds_at(now)) {
        let _ = timeout(MEETING, look_up(shared, stream, false)).await;
    }
}

/// Those of others, and whether they are published to or stored here: there it matters soon who was put out.
fn streams(shared: &Shared) -> HashMap<StreamId, bool> {
    let (stored, heard) = match &shared.storage {
        Some(storage) => (storage.streams(), storage.owners.heard()),
        None => Default::default(),
    };
    let published: HashSet<StreamId> = lock(&shared.publishers).keys().cloned().chain(stored).collect();
    let read: Vec<StreamId> = lock(&shared.readers).iter().map(|reader| reader.stream.clone()).collect();
    let all = published.iter().cloned().chain(read).chain(heard);
    let foreign = all.filter(|stream| stream.owner().is_some_and(|owner| owner != shared.user));
    foreign.map(|stream| (stream.clone(), published.contains(&stream))).collect()
}

/// Takes in what the DHT has of a stream, and says when to look again: whoever publishes must soon know what was taken
/// back; a reader needs a record at all.
async fn look_up(shared: &Arc<Shared>, stream: &StreamId, is_published: bool) -> Duration {
    let lookup = timeout(LOOKUP_TIMEOUT, shared.network.get_record(StreamRecord::dht_key(stream)));
    let found = lookup.await.unwrap_or(Ok(Vec::new())).unwrap_or_default();
    let (grants, stream, now) = (shared.grants.clone(), stream.clone(), shared.now());
    let taken = blocking(move || {
        for value in found {
            match grants.import(&Bytes::from(value), now) {
                Ok(_) | Err(GrantError::Outdated { .. }) => {}
                Err(error) => tracing::warn!(%stream, %error, "a stream record from the DHT was not taken in"),
            }
        }
        grants.record(&stream)
    });
    match taken.await {
        _ if is_published => shared.config.stream_record_refresh,
        Ok(Ok(Some((record, _)))) if record.holds_at(now) => READ,
        _ => MISSING,
    }
}
