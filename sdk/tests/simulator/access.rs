//! Asking a permission source, as the shell does: cached while fresh, else at once.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use veilcast::permission::{LocalRegistry, PermissionCache, PermissionSource};
use veilcast::stream::StreamId;
use veilcast::{Grant, Permission, Refusal, Timestamp, UserId};

/// The answer of a source that needs no waiting; the local registry never does.
pub(crate) fn ready<T>(answer: impl Future<Output = T>) -> T {
    match pin!(answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => unreachable!("the local registry answers at once"),
    }
}

pub(crate) fn check(
    source: &LocalRegistry,
    cache: &mut PermissionCache,
    stream: &StreamId,
    user: UserId,
    permission: Permission,
    now: Timestamp,
) -> Result<Grant, Refusal> {
    let (key, changes) = ((stream.clone(), user, permission), source.changes());
    if let Some(answer) = cache.get(&key, now, changes) {
        return answer;
    }
    let answer = ready(source.check(stream, user, permission, now));
    cache.put(key, answer, now, changes);
    answer
}
