//! Remembering permission answers for a short time.
//!
//! An answer is served from here only while it is fresh, never past the grant's own end, and never after the source
//! said that something changed.

use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;

use super::{Grant, Permission, Refusal};
use crate::identity::UserId;
use crate::stream::StreamId;
use crate::time::Timestamp;

/// How long a grant is believed without asking again.
pub const GRANT_FRESHNESS: Duration = Duration::from_secs(5);
/// How long a refusal is believed without asking again.
pub const REFUSAL_FRESHNESS: Duration = Duration::from_secs(2);
const CAPACITY: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();

/// Answers by (stream, user, permission); the least recently used is dropped beyond 16,384.
#[derive(Debug)]
pub struct PermissionCache {
    answers: LruCache<(StreamId, UserId, Permission), Cached>,
}

#[derive(Debug)]
struct Cached {
    answer: Result<Grant, Refusal>,
    asked: Timestamp,
    changes: u64,
}

impl Default for PermissionCache {
    fn default() -> Self {
        Self { answers: LruCache::new(CAPACITY) }
    }
}

impl PermissionCache {
    /// The answer, if it may still be believed at `now` while the source's change number is `changes`.
    pub fn get(
        &mut self,
        key: &(StreamId, UserId, Permission),
        now: Timestamp,
        changes: u64,
    ) -> Option<Result<Grant, Refusal>> {
        let cached = self.answers.get(key)?;
        // A clock set back makes every answer stale, not eternally fresh.
        let fresh = |limit| now >= cached.asked && now.since(cached.asked) < limit && cached.changes == changes;
        match &cached.answer {
            Ok(grant) if fresh(GRANT_FRESHNESS) => grant.holds_at(now).is_ok().then_some(Ok(*grant)),
            Err(refusal) if fresh(REFUSAL_FRESHNESS) => match refusal {
                Refusal::NotYet { from } if now.as_secs() >= from.as_secs() => None,
                Refusal::Unavailable { .. } => None,
                refusal => Some(Err(*refusal)),
            },
            _ => None,
        }
    }

    /// Remembers an answer that was asked for at `now`, when the source's change number was `changes`.
    pub fn put(
        &mut self,
        key: (StreamId, UserId, Permission),
        answer: Result<Grant, Refusal>,
        now: Timestamp,
        changes: u64,
    ) {
        self.answers.put(key, Cached { answer, asked: now, changes });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permission::Period;

    fn key() -> (StreamId, UserId, Permission) {
        let owner = UserId::from_bytes([1; 20]);
        (StreamId::of(owner, "s").unwrap(), owner, Permission::Subscribe)
    }

    #[test]
    fn an_answer_is_never_served_past_its_limit_or_the_grants_end_or_a_change() {
        let start = Timestamp::from_secs(100);
        let mut cache = PermissionCache::default();
        let grant = Grant::new(Permission::Subscribe, Period::until(Timestamp::from_secs(102)));
        cache.put(key(), Ok(grant), start, 1);
        assert_eq!(cache.get(&key(), Timestamp::from_secs(102), 1), Some(Ok(grant)));
        assert_eq!(cache.get(&key(), Timestamp::from_secs(103), 1), None, "the grant ended");
        assert_eq!(cache.get(&key(), start, 2), None, "the source changed");
        assert_eq!(cache.get(&key(), Timestamp::from_secs(99), 1), None, "the clock went back");

        cache.put(key(), Ok(Grant::new(Permission::Subscribe, Period::ALWAYS)), start, 1);
        assert!(cache.get(&key(), start.plus(GRANT_FRESHNESS), 1).is_none(), "too old");
        cache.put(key(), Err(Refusal::Denied), start, 1);
        assert_eq!(cache.get(&key(), start, 1), Some(Err(Refusal::Denied)));
        assert!(cache.get(&key(), start.plus(REFUSAL_FRESHNESS), 1).is_none(), "refusals for seconds only");
        let from = Timestamp::from_secs(101);
        cache.put(key(), Err(Refusal::NotYet { from }), start, 1);
        assert_eq!(cache.get(&key(), start, 1), Some(Err(Refusal::NotYet { from })));
        assert_eq!(cache.get(&key(), from, 1), None, "the grant has begun");
    }
}
