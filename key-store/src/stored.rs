//! What a store knows about a key beside its bytes: whose it is, where it came from and when it was in use.

use std::sync::Arc;

use crate::{GroupKey, KeyId};

/// Whose key it is: a key belongs to one publisher and one stream, and is found under no other.
///
/// Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct KeyScope {
    publisher: [u8; 20],
    stream: Arc<str>,
}

impl KeyScope {
    /// The keys `publisher` (its 20-byte address) uses on `stream`.
    pub fn new(publisher: [u8; 20], stream: &str) -> Self {
        Self { publisher, stream: stream.into() }
    }

    /// The publisher's address.
    pub fn publisher(&self) -> &[u8; 20] {
        &self.publisher
    }

    /// The stream's id.
    pub fn stream(&self) -> &str {
        &self.stream
    }
}

/// How a key got here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KeyOrigin {
    /// Made by us as the publisher.
    Made,
    /// Handed over by the publisher.
    Received,
    /// Agreed on outside the network and put in by hand.
    PreAgreed,
}

/// A key as the store holds it.
///
/// Its period is `since` up to but not including `until`, in milliseconds since the Unix epoch.
#[derive(Clone, Debug)]
pub struct StoredKey {
    /// The key.
    pub key: GroupKey,
    /// When it became current.
    pub since: u64,
    /// When the scope's next key became current; `None` while this one still is, or if nobody told us.
    pub until: Option<u64>,
    /// How it got here.
    pub origin: KeyOrigin,
}

impl StoredKey {
    /// Where this key stands in its scope's history: the next page starts after it.
    pub fn cursor(&self) -> HistoryCursor {
        HistoryCursor { since: self.since, id: self.key.id().clone() }
    }

    /// Was this key in use at any moment of `range`?
    pub fn touches(&self, range: TimeRange) -> bool {
        self.since <= range.to && self.until.is_none_or(|until| until > range.from)
    }
}

/// A span of time in milliseconds since the Unix epoch; both ends belong to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TimeRange {
    /// First millisecond.
    pub from: u64,
    /// Last millisecond.
    pub to: u64,
}

impl TimeRange {
    /// All of time.
    pub const ALL: Self = Self { from: 0, to: u64::MAX };
}

/// A place in the history of a scope's keys, which is ordered by `since`, then by id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HistoryCursor {
    /// When the key became current.
    pub since: u64,
    /// Its id.
    pub id: KeyId,
}
