//! Whose answers may have changed: one more grant of one user is no news to the others.

use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use crate::identity::UserId;
use crate::stream::StreamId;

/// Streams and users whose last change is remembered.
const STREAMS: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
const USERS: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();

/// Numbers that rise with every change.
pub(super) struct Changes(Mutex<Numbers>);

struct Numbers {
    now: u64,
    of_records: Recent<StreamId>,
    of_grants: Recent<(StreamId, UserId)>,
}

/// The number of the last change of each; of those that are not remembered, the highest there can be.
struct Recent<K: Hash + Eq> {
    last: LruCache<K, u64>,
    forgotten: u64,
}

impl Changes {
    pub(super) fn new() -> Self {
        Self::remembering(STREAMS, USERS)
    }

    fn remembering(streams: NonZeroUsize, users: NonZeroUsize) -> Self {
        Self(Mutex::new(Numbers { now: 0, of_records: Recent::new(streams), of_grants: Recent::new(users) }))
    }

    /// The number of the last change of all.
    pub(super) fn last(&self) -> u64 {
        self.numbers().now
    }

    /// Changes whenever an answer about this user on this stream may have changed.
    pub(super) fn of(&self, stream: &StreamId, user: UserId) -> u64 {
        let numbers = self.numbers();
        numbers.of_records.get(stream).max(numbers.of_grants.get(&(stream.clone(), user)))
    }

    /// There is another record of the stream.
    pub(super) fn record(&self, stream: &StreamId) {
        let numbers = &mut *self.numbers();
        numbers.now += 1;
        numbers.of_records.put(stream.clone(), numbers.now);
    }

    /// There is another grant of the user.
    pub(super) fn grant(&self, stream: &StreamId, user: UserId) {
        let numbers = &mut *self.numbers();
        numbers.now += 1;
        numbers.of_grants.put((stream.clone(), user), numbers.now);
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        // Whoever panicked while holding it left numbers, each of which is good.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone> Recent<K> {
    fn new(most: NonZeroUsize) -> Self {
        Self { last: LruCache::new(most), forgotten: 0 }
    }

    fn get(&self, key: &K) -> u64 {
        self.last.peek(key).copied().unwrap_or(self.forgotten)
    }

    fn put(&mut self, key: K, number: u64) {
        if let Some((other, last)) = self.last.push(key.clone(), number)
            && other != key
        {
            self.forgotten = self.forgotten.max(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(name: &str) -> StreamId {
        StreamId::of(UserId::from_bytes([1; 20]), name).unwrap()
    }

    fn user(byte: u8) -> UserId {
        UserId::from_bytes([byte; 20])
    }

    #[test]
    fn a_grant_is_news_to_its_user_and_a_record_to_all_users_of_its_stream_and_to_nobody_else() {
        let changes = Changes::new();
        let (s, t) = (stream("s"), stream("t"));
        let all = || [changes.of(&s, user(2)), changes.of(&s, user(3)), changes.of(&t, user(2)), changes.last()];
        let before = all();
        changes.grant(&s, user(2));
        let granted = all();
        assert_eq!([0, 1, 2, 3].map(|n| granted[n] != before[n]), [true, false, false, true]);
        changes.record(&s);
        let said = all();
        assert_eq!([0, 1, 2, 3].map(|n| said[n] != granted[n]), [true, true, false, true]);
    }

    #[test]
    fn what_is_not_remembered_is_news_rather_than_missed() {
        let one = NonZeroUsize::MIN;
        let changes = Changes::remembering(one, one);
        let s = stream("s");
        changes.grant(&s, user(2));
        let known = changes.of(&s, user(2));
        changes.grant(&s, user(3));
        assert_eq!(changes.of(&s, user(2)), known, "nothing happened to it");
        changes.grant(&s, user(2));
        changes.grant(&s, user(3));
        assert_ne!(changes.of(&s, user(2)), known, "and this is forgotten, but not missed");
    }
}
