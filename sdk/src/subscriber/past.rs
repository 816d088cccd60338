//! What of a stream's past could not be read, key by key.
//!
//! A past can be long, and a key that nobody gives can seal a million messages of it. So each key is told of when it is refused or
//! given up, and once more at the end, with how many messages lie under it and from when to when they were published.
//!
//! Live, where there is no end, it is those messages that nothing was said of when they came: they are told before the next word of
//! their key.

use std::num::NonZeroUsize;

use lru::LruCache;

use super::Event;
use super::keyring::{KeyName, key_of};
use crate::time::Timestamp;
use crate::wire::MessageContent;

/// Keys counted at a time. Beyond, what was counted of the one that was met longest ago is told at once.
const KEYS: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// Messages under keys that could not be had.
#[derive(Debug)]
pub(super) struct Past {
    unread: LruCache<KeyName, Unread>,
}

#[derive(Clone, Copy, Debug)]
struct Unread {
    messages: u64,
    from: Timestamp,
    until: Timestamp,
}

impl Past {
    pub(super) fn new() -> Self {
        Self { unread: LruCache::new(KEYS) }
    }

    /// This message is given up. What is to be told of that now.
    pub(super) fn note(&mut self, content: &MessageContent) -> Option<Event> {
        let (name, at) = (key_of(content)?, content.at.timestamp);
        if let Some(unread) = self.unread.get_mut(&name) {
            unread.messages += 1;
            (unread.from, unread.until) = (unread.from.min(at), unread.until.max(at));
            return None;
        }
        let (name, unread) = self.unread.push(name, Unread { messages: 1, from: at, until: at })?;
        Some(told(name, unread))
    }

    /// What is yet to be told of this key.
    pub(super) fn of(&mut self, name: &KeyName) -> Option<Event> {
        self.unread.pop(name).map(|unread| told(name.clone(), unread))
    }

    /// All that is yet to be told, the key that was met longest ago first.
    pub(super) fn over(mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.unread.pop_lru()).map(|(name, unread)| told(name, unread)).collect()
    }
}

fn told((publisher, key_id): KeyName, Unread { messages, from, until }: Unread) -> Event {
    Event::Unread { publisher, key_id, messages, from, until }
}
