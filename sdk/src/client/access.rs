//! Permission checks, cached while fresh.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::executor::block_on;
use tokio::time::Instant;

use super::shared::{Shared, blocking, lock};
use crate::identity::UserId;
use crate::permission::{
    Answer, Grant, Permission, PermissionCache, PermissionSource, Refusal, StreamInfo, Subscriber,
};
use crate::stream::StreamId;
use crate::time::Timestamp;

#[derive(Default)]
pub(super) struct Access(Mutex<PermissionCache>);

impl Shared {
    /// Whether `user` holds `permission` now: from the cache while that is fresh, else from the source.
    pub(super) async fn check(
        &self,
        stream: &StreamId,
        user: UserId,
        permission: Permission,
    ) -> Result<Grant, Refusal> {
        let (now, changes) = (self.now(), self.source.changes_for(stream, user));
        let key = (stream.clone(), user, permission);
        if let Some(answer) = self.access.lock().get(&key, now, changes) {
            self.meters.checked_from_memory(&answer);
            return answer;
        }
        let begun = Instant::now();
        let answer = if self.source.waits_for_the_disk() {
            let (source, stream) = (self.source.clone(), stream.clone());
            off_workers(move || block_on(source.check(&stream, user, permission, now))).await
        } else {
            in_time(self.source.check(stream, user, permission, now)).await
        };
        self.meters.checked(&answer, begun.elapsed());
        self.keep_answer(key, answer, now, changes);
        answer
    }

    /// The same, of a source that waits for nothing but the disk, on a thread that may.
    pub(super) fn check_here(&self, stream: &StreamId, user: UserId, permission: Permission) -> Result<Grant, Refusal> {
        let (now, changes) = (self.now(), self.source.changes_for(stream, user));
        let key = (stream.clone(), user, permission);
        if let Some(answer) = self.access.lock().get(&key, now, changes) {
            self.meters.checked_from_memory(&answer);
            return answer;
        }
        let begun = Instant::now();
        let answer = block_on(self.source.check(stream, user, permission, now));
        self.meters.checked(&answer, begun.elapsed());
        self.keep_answer(key, answer, now, changes);
        answer
    }

    fn keep_answer(
        &self,
        key: (StreamId, UserId, Permission),
        answer: Result<Grant, Refusal>,
        now: Timestamp,
        changes: u64,
    ) {
        if key.2 == Permission::Publish && answer.is_ok() {
            lock(&self.directory).know(key.1);
        }
        self.access.lock().put(key, answer, now, changes);
    }

    /// The answer to a check, if one is cached and fresh.
    pub(super) fn checked(
        &self,
        stream: &StreamId,
        user: UserId,
        permission: Permission,
    ) -> Option<Result<Grant, Refusal>> {
        let changes = self.source.changes_for(stream, user);
        let answer = self.access.lock().get(&(stream.clone(), user, permission), self.now(), changes);
        answer.inspect(|answer| self.meters.checked_from_memory(answer))
    }

    /// Every grant of SUBSCRIBE on the stream, from the source, ended where this publisher's own lists keep somebody out.
    pub(super) async fn subscribers(&self, stream: &StreamId) -> Result<Vec<Subscriber>, Refusal> {
        listed(self.source.clone(), stream).await
    }

    /// The same as the source has them, whatever the lists say.
    pub(super) async fn granted(&self, stream: &StreamId) -> Result<Vec<Subscriber>, Refusal> {
        listed(self.source.unnarrowed().clone(), stream).await
    }

    /// What the source knows about the stream.
    pub(super) async fn stream_info(&self, stream: &StreamId) -> Result<Option<StreamInfo>, Refusal> {
        let now = self.now();
        if self.source.waits_for_the_disk() {
            let (source, stream) = (self.source.clone(), stream.clone());
            return off_workers(move || block_on(source.stream_at(&stream, now))).await;
        }
        in_time(self.source.stream_at(stream, now)).await
    }

    /// Whether a stream that the source has never heard of cannot be read, wherever else it may be on record: nobody is the owner
    /// of one that is named after an ENS name, except by a contract's word.
    pub(super) fn is_nowhere(&self, stream: &StreamId) -> bool {
        self.source.knows_every_stream() || stream.owner().is_none()
    }
}

/// A source that does not answer cannot tell, and nobody waits for it longer than this.
const PATIENCE: Duration = Duration::from_secs(5);

const UNAVAILABLE: Refusal = Refusal::Unavailable { retry_after: PATIENCE };

async fn listed(source: Arc<dyn PermissionSource>, stream: &StreamId) -> Result<Vec<Subscriber>, Refusal> {
    if source.waits_for_the_disk() {
        let stream = stream.clone();
        return off_workers(move || block_on(source.subscribers(&stream))).await;
    }
    in_time(source.subscribers(stream)).await
}

async fn in_time<T>(answer: Answer<'_, Result<T, Refusal>>) -> Result<T, Refusal> {
    tokio::time::timeout(PATIENCE, answer).await.unwrap_or(Err(UNAVAILABLE))
}

/// The same of a source that waits for the disk: it must not hold up everybody else's work.
async fn off_workers<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let asked = blocking(ask);
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or(Ok(Err(UNAVAILABLE))).unwrap_or(Err(UNAVAILABLE))
}

impl Access {
    fn lock(&self) -> std::sync::MutexGuard<'_, PermissionCache> {
        // A poisoned cache still holds only answers that were true when asked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
