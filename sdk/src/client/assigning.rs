//! Keeping the streams whose owners' records name this node, as long as they do.
//!
//! Only owners that this node was told of count: else strangers could fill its disk. A record comes by import, along with a
//! reader's request, or from the DHT, where it is looked for once a neighbour takes part in a stream of such an owner.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lru::LruCache;
use tokio::time::Instant;

use super::shared::{Shared, blocking, lock};
use super::storing;
use crate::identity::UserId;
use crate::permission::PermissionSource;
use crate::stream::{StreamId, StreamPart};
use crate::wire::StreamRecord;

/// How often it is looked whether a record changed. Where none did a look costs a comparison.
const LOOK: Duration = Duration::from_millis(200);
/// How often records are read even so: one may have expired.
const EXPIRED: Duration = Duration::from_secs(10);
/// Streams that neighbours take part in, remembered for their records.
const HEARD: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// Whose records are gone by, and which of their streams were heard of.
pub(super) struct Owners {
    owners: BTreeSet<UserId>,
    heard: Mutex<LruCache<StreamId, ()>>,
}

impl Owners {
    pub(super) fn new(owners: BTreeSet<UserId>) -> Self {
        Self { owners, heard: Mutex::new(LruCache::new(HEARD)) }
    }

    /// A neighbour takes part in a topic.
    pub(super) fn hear(&self, topic: &str) {
        if self.owners.is_empty() {
            return;
        }
        if let Some(part) = StreamPart::from_topic(topic)
            && self.count(part.stream())
        {
            lock(&self.heard).put(part.stream().clone(), ());
        }
    }

    /// Streams whose records should be looked for.
    pub(super) fn heard(&self) -> Vec<StreamId> {
        lock(&self.heard).iter().map(|(stream, ())| stream.clone()).collect()
    }

    fn count(&self, stream: &StreamId) -> bool {
        stream.owner().is_some_and(|owner| self.owners.contains(&owner))
    }
}

/// Begins and ends the keeping of streams as records say.
pub(super) async fn follow(shared: Arc<Shared>) {
    let Some(storage) = shared.storage.as_ref().filter(|storage| !storage.owners.owners.is_empty()) else { return };
    let (mut changes, mut read) = (None, Instant::now());
    loop {
        if changes != Some(shared.grants.changes()) || read.elapsed() >= EXPIRED {
            (changes, read) = (Some(shared.grants.changes()), Instant::now());
            match assigned(&shared).await {
                Some(streams) => {
                    let begun = storage.assign(streams);
                    if !begun.is_empty() {
                        shared.depots_soon.notify_one();
                    }
                    storing::start(&shared, begun);
                }
                None => changes = None,
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The streams whose records name this node now; `None` when they cannot be read.
async fn assigned(shared: &Arc<Shared>) -> Option<BTreeSet<StreamId>> {
    let (worker, now) = (shared.clone(), shared.now());
    let read = blocking(move || {
        let storage = worker.storage.as_ref();
        let counts = |stream: &StreamId| storage.is_some_and(|storage| storage.owners.count(stream));
        let names_me = |record: &StreamRecord| record.holds_at(now) && record.storage.contains(&worker.user);
        let mut assigned = BTreeSet::new();
        for stream in worker.grants.streams()?.into_iter().filter(counts) {
            if worker.grants.record(&stream)?.is_some_and(|(record, _)| names_me(&record)) {
                assigned.insert(stream);
            }
        }
        Ok::<_, crate::permission::GrantError>(assigned)
    });
    match read.await {
        Ok(Ok(assigned)) => Some(assigned),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the stream records cannot be read: what is kept stays as it is");
            None
        }
        Err(_) => None,
    }
}
