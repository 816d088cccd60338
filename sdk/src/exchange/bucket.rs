//! Token buckets with the time passed in, and a bounded map of them.
//!
//! The caller's time decides, and the number of buckets is bounded: that is what a simulator and a flood of identities need.

use std::hash::Hash;
use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;

use crate::time::Timestamp;

/// How many per second, and how many at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens that come back per second.
    pub per_second: u32,
    /// Tokens a rested bucket holds.
    pub burst: u32,
}

/// Scale of the fixed-point count: one token is this many parts.
const TOKEN: i64 = 1_000;

/// One bucket.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    rate: Rate,
    /// Below zero when it was charged more than it had.
    parts: i64,
    filled: Timestamp,
}

impl Bucket {
    /// A full bucket.
    pub fn full(rate: Rate, now: Timestamp) -> Self {
        Self { rate, parts: capacity(rate), filled: now }
    }

    /// Takes a token, or says how long until there is one.
    ///
    /// # Errors
    /// The time until the next token.
    pub fn take(&mut self, now: Timestamp) -> Result<(), Duration> {
        self.refill(now);
        if self.parts >= TOKEN {
            self.parts -= TOKEN;
            return Ok(());
        }
        let missing = TOKEN.abs_diff(self.parts);
        Err(Duration::from_millis(missing.div_ceil(u64::from(self.rate.per_second.max(1)))))
    }

    /// Takes this many more tokens, whether they are there or not: what is missing must come back before the next is
    /// given. The debt is never more than a full bucket.
    pub fn charge(&mut self, tokens: u32, now: Timestamp) {
        self.refill(now);
        self.parts = (self.parts - i64::from(tokens) * TOKEN).max(-capacity(self.rate));
    }

    /// How long until there is a token, where there is none.
    fn wait(&self, now: Timestamp) -> Option<Duration> {
        let mut bucket = *self;
        bucket.take(now).err()
    }

    /// Brings back tokens that were taken for nothing.
    pub(super) fn give_back(&mut self, tokens: u32) {
        self.parts = (self.parts + i64::from(tokens) * TOKEN).min(capacity(self.rate));
    }

    /// One millisecond brings `per_second` parts. A clock set back brings nothing and loses nothing.
    fn refill(&mut self, now: Timestamp) {
        let elapsed = i64::try_from(now.since(self.filled).as_millis()).unwrap_or(i64::MAX);
        let gained = elapsed.saturating_mul(i64::from(self.rate.per_second));
        self.parts = self.parts.saturating_add(gained).min(capacity(self.rate));
        self.filled = now;
    }
}

fn capacity(rate: Rate) -> i64 {
    i64::from(rate.burst) * TOKEN
}

/// A bucket per key; the least recently used is forgotten beyond the capacity.
#[derive(Debug)]
pub(crate) struct Buckets<K: Hash + Eq> {
    rate: Rate,
    buckets: LruCache<K, Bucket>,
}

impl<K: Hash + Eq> Buckets<K> {
    pub(crate) fn new(rate: Rate, capacity: NonZeroUsize) -> Self {
        Self { rate, buckets: LruCache::new(capacity) }
    }

    pub(crate) fn take(&mut self, key: K, now: Timestamp) -> Result<(), Duration> {
        let rate = self.rate;
        self.buckets.get_or_insert_mut(key, || Bucket::full(rate, now)).take(now)
    }

    pub(crate) fn charge(&mut self, key: K, tokens: u32, now: Timestamp) {
        let rate = self.rate;
        self.buckets.get_or_insert_mut(key, || Bucket::full(rate, now)).charge(tokens, now);
    }

    /// How long until there is a token, where there is none. One that is not remembered is full.
    pub(crate) fn wait(&self, key: &K, now: Timestamp) -> Option<Duration> {
        self.buckets.peek(key).and_then(|bucket| bucket.wait(now))
    }

    /// Brings tokens back to a bucket that is remembered; one that is not is full.
    pub(super) fn give_back(&mut self, key: &K, tokens: u32) {
        if let Some(bucket) = self.buckets.get_mut(key) {
            bucket.give_back(tokens);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.buckets.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_allows_its_burst_then_its_rate_and_says_how_long_to_wait() {
        let at = Timestamp::from_millis;
        let mut bucket = Bucket::full(Rate { per_second: 20, burst: 3 }, at(1000));
        for _ in 0..3 {
            assert_eq!(bucket.take(at(1000)), Ok(()));
        }
        assert_eq!(bucket.take(at(1000)), Err(Duration::from_millis(50)));
        assert_eq!(bucket.take(at(1049)), Err(Duration::from_millis(1)));
        assert_eq!(bucket.take(at(1050)), Ok(()));
        assert!(bucket.take(at(900)).is_err(), "a clock set back brings no tokens");
        let allowed = (0..10_000).filter(|n| bucket.take(at(2000 + n)).is_ok()).count();
        assert!((200..=203).contains(&allowed), "{allowed} in ten seconds");
    }

    #[test]
    fn a_bucket_charged_more_than_it_has_gives_nothing_until_the_debt_is_paid_and_owes_at_most_its_burst() {
        let at = Timestamp::from_millis;
        let mut bucket = Bucket::full(Rate { per_second: 10, burst: 5 }, at(0));
        assert_eq!(bucket.take(at(0)), Ok(()));
        bucket.charge(6, at(0));
        assert_eq!(bucket.take(at(0)), Err(Duration::from_millis(300)));
        assert!(bucket.take(at(299)).is_err());
        assert_eq!(bucket.take(at(300)), Ok(()));
        bucket.charge(u32::MAX, at(300));
        assert_eq!(bucket.take(at(300)), Err(Duration::from_millis(600)));
        assert_eq!(bucket.take(at(900)), Ok(()));
    }
}
