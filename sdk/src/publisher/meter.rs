//! How much the current key was used, and what the policy makes of it.
//!
//! ```text
//! due(now) ─▶ change the key where due, plan ─▶ begin(step) ─▶ reserve: record durable ─▶ seal ─▶ sealed(step)
//! ```
//! The count must survive a crash, and must not cost a disk write for each message. So it is written ahead in blocks: before a
//! message is sealed, the record on disk allows for it. After a crash the whole block counts as used: a key may then seal
//! fewer messages than it could, never more. [`Meter::settle`] gives the exact count back at a clean stop.
//!
//! A clock that is set back makes a key's age start again from there; it never makes it negative. That too is written down
//! before the next message, or every restart would make the key young again.

use veilcast_key_store::{KeyId, StoredKey};

use super::policy::{Every, KeyPolicy};
use super::schedule::MessageStep;
use crate::time::Timestamp;

/// Of a policy's number of messages, so many blocks are reserved one after another.
const BLOCKS: u64 = 8;
const VERSION: u8 = 1;
/// A count that nobody kept: more than any policy allows.
const UNKNOWN: u64 = u64::MAX;

/// What the policy wants of the next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// It goes out under the current key.
    Nothing,
    /// It is the last one under the current key, and carries the next.
    RotateWith,
    /// The current key has sealed all it may: the next key seals this message, which carries it wrapped.
    RotateBefore,
    /// It goes out under a key that was handed to everybody anew.
    Rekey,
}

/// Counts and ages of one stream's current key.
#[derive(Clone, Debug)]
pub struct Meter {
    policy: KeyPolicy,
    /// False until there is a key.
    begun: bool,
    under_key: u64,
    since_rekey: u64,
    began: Timestamp,
    rekeyed: Timestamp,
    /// How many more messages the durable record allows for.
    reserved: u64,
}

impl Meter {
    /// Goes on with the current key, as far as the record tells. Where it does not, the key counts as used up.
    pub fn resume(
        policy: KeyPolicy,
        record: Option<&[u8]>,
        current: Option<&StoredKey>,
        last_rekey: Timestamp,
    ) -> Self {
        let mut fresh = Self {
            policy,
            begun: current.is_some(),
            under_key: 0,
            since_rekey: 0,
            began: Timestamp::ZERO,
            rekeyed: last_rekey,
            reserved: 0,
        };
        let Some(current) = current else { return fresh };
        fresh.began = Timestamp::from_millis(current.since);
        match record.and_then(Count::read) {
            Some(count) if count.key_id == current.key.id().as_str() => {
                fresh.under_key = count.under_key.saturating_add(count.ahead);
                fresh.since_rekey = count.since_rekey.saturating_add(count.ahead);
                (fresh.began, fresh.rekeyed) = (count.began, count.rekeyed);
            }
            // Nothing is sealed under a key that no record allows for: this one is new.
            Some(count) => fresh.since_rekey = count.since_rekey.saturating_add(count.ahead),
            None => (fresh.under_key, fresh.since_rekey) = (UNKNOWN, UNKNOWN),
        }
        fresh
    }

    /// The policy that it follows.
    pub fn policy(&self) -> KeyPolicy {
        self.policy
    }

    /// Follows another policy from now on. Returns the record to keep with it.
    pub fn set_policy(&mut self, policy: KeyPolicy, current: Option<&KeyId>) -> Option<Vec<u8>> {
        self.policy = policy;
        self.settle(current)
    }

    /// What is due with the next message. Changes nothing but the start of ages that lie in the future.
    pub fn due(&mut self, now: Timestamp) -> Due {
        if !self.begun || self.policy.is_never() {
            return Due::Nothing;
        }
        if now < self.began.max(self.rekeyed) {
            (self.began, self.rekeyed) = (self.began.min(now), self.rekeyed.min(now));
            self.reserved = 0;
        }
        let (rotate, rekey) = (self.policy.rotate_every, self.policy.rekey_every);
        let next = self.since_rekey.saturating_add(1);
        if is_full(rekey, self.since_rekey) || is_old(rekey, self.rekeyed, now) {
            Due::Rekey
        } else if is_full(rotate, self.under_key) {
            Due::RotateBefore
        // A rekey with the message after this one would leave the rotated key unused.
        } else if is_full(rekey, next) {
            Due::Nothing
        } else if is_full(rotate, self.under_key.saturating_add(1)) || is_old(rotate, self.began, now) {
            Due::RotateWith
        } else {
            Due::Nothing
        }
    }

    /// The planned message's key is durable and the message is about to be sealed.
    pub fn begin(&mut self, step: &MessageStep, now: Timestamp) {
        match &step.make_current {
            Some(_) if !self.begun => self.rekeyed(now),
            Some(key) if key.id() == step.key.id() => self.rotated(now),
            _ => {}
        }
    }

    /// The record that must be durable before a message is sealed under `key`; `None` when the last one still allows for it.
    /// Applied by [`Self::reserved`].
    pub fn reserve(&self, key: &KeyId) -> Option<Vec<u8>> {
        let needed = self.reserved == 0 && !self.policy.is_never();
        needed.then(|| self.count(key, self.block()).write())
    }

    /// What [`Self::reserve`] returned is durable.
    pub fn reserved(&mut self) {
        self.reserved = self.block();
    }

    /// The planned message was sealed.
    pub fn sealed(&mut self, step: &MessageStep, now: Timestamp) {
        self.under_key = self.under_key.saturating_add(1);
        self.since_rekey = self.since_rekey.saturating_add(1);
        self.reserved = self.reserved.saturating_sub(1);
        if step.make_current.as_ref().is_some_and(|key| key.id() != step.key.id()) {
            self.rotated(now);
        }
    }

    /// A rekey's key is current since `now`.
    pub fn rekeyed(&mut self, now: Timestamp) {
        (self.begun, self.since_rekey, self.rekeyed) = (true, 0, now);
        self.rotated(now);
    }

    /// The exact count, to be made durable at a clean stop; whatever is sealed after it needs a new record first.
    pub fn settle(&mut self, current: Option<&KeyId>) -> Option<Vec<u8>> {
        self.reserved = 0;
        let current = current.filter(|_| !self.policy.is_never() && self.under_key < UNKNOWN)?;
        Some(self.count(current, 0).write())
    }

    fn rotated(&mut self, now: Timestamp) {
        (self.under_key, self.began, self.reserved) = (0, now, 0);
    }

    fn block(&self) -> u64 {
        let limits = [self.policy.rotate_every.messages, self.policy.rekey_every.messages];
        limits.iter().flatten().map(|limit| limit.get().div_ceil(BLOCKS)).min().unwrap_or(UNKNOWN)
    }

    fn count<'a>(&self, key: &'a KeyId, ahead: u64) -> Count<'a> {
        let Self { under_key, since_rekey, began, rekeyed, .. } = *self;
        Count { under_key, since_rekey, ahead, began, rekeyed, key_id: key.as_str() }
    }
}

fn is_full(every: Every, count: u64) -> bool {
    every.messages.is_some_and(|limit| count >= limit.get())
}

fn is_old(every: Every, since: Timestamp, now: Timestamp) -> bool {
    every.time.is_some_and(|limit| now.since(since) >= limit)
}

/// `version 1 | under key 8 | since rekey 8 | ahead 8 | began 8 | rekeyed 8 | key id`, big-endian.
struct Count<'a> {
    under_key: u64,
    since_rekey: u64,
    ahead: u64,
    began: Timestamp,
    rekeyed: Timestamp,
    key_id: &'a str,
}

impl<'a> Count<'a> {
    fn write(&self) -> Vec<u8> {
        let numbers = [self.under_key, self.since_rekey, self.ahead, self.began.as_millis(), self.rekeyed.as_millis()];
        let mut out = vec![VERSION];
        numbers.iter().for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
        out.extend_from_slice(self.key_id.as_bytes());
        out
    }

    fn read(record: &'a [u8]) -> Option<Self> {
        let (numbers, key_id) = record.strip_prefix(&[VERSION])?.split_first_chunk::<40>()?;
        let mut numbers = numbers.as_chunks::<8>().0.iter().map(|bytes| u64::from_be_bytes(*bytes));
        Some(Self {
            under_key: numbers.next()?,
            since_rekey: numbers.next()?,
            ahead: numbers.next()?,
            began: Timestamp::from_millis(numbers.next()?),
            rekeyed: Timestamp::from_millis(numbers.next()?),
            key_id: std::str::from_utf8(key_id).ok()?,
        })
    }
}

#[cfg(test)]
#[path = "meter_tests.rs"]
mod tests;
