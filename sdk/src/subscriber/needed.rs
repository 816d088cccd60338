//! Keys that are needed and not here, and the publishers from whom none can be had for now.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;

use lru::LruCache;
use veilcast_key_store::KeyId;

use super::keyring::{KeyName, key_of};
use crate::identity::UserId;
use crate::wire::MessageContent;

/// Publishers remembered to be away.
const AWAY: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// What was said to be needed and neither came, nor was refused, nor given up.
#[derive(Debug)]
pub(super) struct Needed {
    keys: HashMap<UserId, HashSet<KeyId>>,
    away: LruCache<UserId, ()>,
}

impl Needed {
    pub(super) fn new() -> Self {
        Self { keys: HashMap::new(), away: LruCache::new(AWAY) }
    }

    /// Whether it was not needed before.
    pub(super) fn insert(&mut self, (publisher, key_id): KeyName) -> bool {
        self.keys.entry(publisher).or_default().insert(key_id)
    }

    /// Whether it was needed.
    pub(super) fn remove(&mut self, publisher: UserId, key_id: &KeyId) -> bool {
        let Some(keys) = self.keys.get_mut(&publisher) else { return false };
        let removed = keys.remove(key_id);
        if keys.is_empty() {
            self.keys.remove(&publisher);
        }
        removed
    }

    pub(super) fn contains(&self, (publisher, key_id): &KeyName) -> bool {
        self.keys.get(publisher).is_some_and(|keys| keys.contains(key_id))
    }

    pub(super) fn clear(&mut self) {
        self.keys.clear();
    }

    /// Whether a message need not go on before its key came: it is asked for, and its publisher is there, as far as is known.
    pub(super) fn awaits(&self, content: &MessageContent) -> bool {
        key_of(content).is_some_and(|name| self.contains(&name) && !self.is_away(&name.0))
    }

    /// How many keys of publishers that are not away.
    pub(super) fn of_present(&self) -> usize {
        let present = self.keys.iter().filter(|(publisher, _)| !self.is_away(publisher));
        present.map(|(_, keys)| keys.len()).sum()
    }

    pub(super) fn is_away(&self, publisher: &UserId) -> bool {
        self.away.contains(publisher)
    }

    pub(super) fn went_away(&mut self, publisher: UserId) {
        self.away.put(publisher, ());
    }

    pub(super) fn came_back(&mut self, publisher: UserId) {
        self.away.pop(&publisher);
    }

    pub(super) fn nobody_is_away(&mut self) {
        self.away.clear();
    }
}
