//! A grant bought while another still holds is shown to the stream's publishers at once. Otherwise those that know only the
//! one before would shut its holder out at the end of that, and let it in again when it asks.
//!
//! What a key request carried need not be shown again; how far a publisher was shown is on disk.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use veilcast_key_store::TimeRange;

use super::asking::{Ask, Question, ask_at};
use super::finding::{self, Wish};
use super::shared::{Shared, blocking, lock};
use crate::identity::UserId;
use crate::permission::PermissionSource;
use crate::stream::StreamId;
use crate::wire::{KeyRange, RequestId, Wanted};

/// How often it is looked whether there is something to show; where nothing changed that costs a comparison.
const LOOK: Duration = Duration::from_millis(200);
/// Who could not be shown something is tried again after this.
const AGAIN: Duration = Duration::from_secs(10);
/// Publishers shown something at a time.
const AT_ONCE: usize = 8;

/// A publisher that was not shown our newest grant.
struct Due {
    stream: StreamId,
    publisher: UserId,
}

pub(super) async fn run(shared: Arc<Shared>) {
    let (mut seen, mut again) = (None, Instant::now());
    loop {
        let streams: BTreeSet<StreamId> = lock(&shared.readers).iter().map(|reader| reader.stream.clone()).collect();
        let now = Some((shared.grants.changes(), streams.clone()));
        if seen != now || again <= Instant::now() {
            (seen, again) = (now, Instant::now() + AGAIN);
            for some in due(&shared, streams).await.chunks(AT_ONCE) {
                join_all(some.iter().map(|due| show(&shared, due))).await;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The publishers whose keys are here, and that were not shown the newest grant that counts.
async fn due(shared: &Arc<Shared>, streams: BTreeSet<StreamId>) -> Vec<Due> {
    if streams.is_empty() {
        return Vec::new();
    }
    let worker = shared.clone();
    let found = blocking(move || {
        let mut due = Vec::new();
        for scope in worker.store.scopes().unwrap_or_default() {
            let Ok(stream) = StreamId::new(scope.stream()) else { continue };
            let publisher = UserId::from_bytes(*scope.publisher());
            if publisher == worker.user || !streams.contains(&stream) {
                continue;
            }
            if newest(&worker, &stream, publisher).is_some() {
                due.push(Due { stream, publisher });
            }
        }
        due
    });
    found.await.unwrap_or_default()
}

/// The newest grant of ours that this publisher was not shown. Waits for the disk.
pub(super) fn newest(shared: &Shared, stream: &StreamId, publisher: UserId) -> Option<u64> {
    if !shared.by_grants {
        return None;
    }
    let found = shared.grants.unshown(stream, shared.user, publisher, shared.now());
    found.unwrap_or_else(|error| {
        tracing::warn!(%stream, %error, "the signed grants cannot be read: nothing is shown");
        None
    })
}

/// Asks each device for the key in use, for the sake of what goes along with the request.
async fn show(shared: &Arc<Shared>, due: &Due) {
    let Due { stream, publisher } = due;
    let wish = Wish::default();
    let find = finding::find(shared, *publisher, &wish);
    let _ = timeout(shared.config.requester.find_timeout, find).await;
    let contacts = lock(&shared.directory).contacts(*publisher, shared.now());
    for contact in contacts {
        may_send(shared).await;
        let now = shared.now().as_millis();
        let present = KeyRange { range: TimeRange { from: now, to: now }, after: None };
        let (id, wanted) = (RequestId(rand::random()), Wanted::Range(present));
        let question = Question { id, publisher: *publisher, stream: stream.clone(), wanted };
        if let Err(failure) = ask_at(shared, question, contact.peer).await {
            tracing::debug!(%stream, %publisher, ?failure, "a grant was not shown");
        }
    }
}

/// Requests of every kind share one limit.
async fn may_send(shared: &Shared) {
    loop {
        let (asker, leave) = oneshot::channel();
        if shared.asking.send(Ask::Leave(asker)).await.is_err() {
            return;
        }
        match leave.await {
            Ok(Err(wait)) => tokio::time::sleep(wait).await,
            _ => return,
        }
    }
}

/// A request that carried our grants, up to this serial, was answered.
pub(super) async fn carried(shared: &Arc<Shared>, stream: &StreamId, publisher: UserId, serial: Option<u64>) {
    let Some(serial) = serial else { return };
    let (grants, stream) = (shared.grants.clone(), stream.clone());
    let kept = blocking(move || grants.was_shown(&stream, publisher, serial)).await;
    if let Ok(Err(error)) = kept {
        tracing::warn!(%error, "that a grant was shown is not on disk: it will be shown again");
    }
}
