//! Messages in memory, under the rules of those on disk: for tests, and for nodes that keep the last hour.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::query::PageMaker;
use super::{Appended, Filter, MessageStore, Page, Place, Query, StorageError, StorageLimits, StorageState};
use crate::stream::StreamPart;
use crate::time::Timestamp;
use crate::wire::{MessageContent, Verified};

/// Keeps messages while the process lives.
#[derive(Debug, Default)]
pub struct MemoryMessageStore {
    limits: StorageLimits,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    parts: BTreeMap<StreamPart, BTreeMap<Place, Bytes>>,
    messages: u64,
    bytes: u64,
}

impl MemoryMessageStore {
    /// Nothing is held yet.
    pub fn new(limits: StorageLimits) -> Self {
        Self { limits, held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size_of(envelope: &Bytes) -> u64 {
    (Place::LEN + envelope.len()) as u64
}

impl Held {
    fn insert(&mut self, message: &Verified<MessageContent>) -> bool {
        let envelope = message.envelope().clone();
        let size = size_of(&envelope);
        let part = self.parts.entry(message.content().part.clone()).or_default();
        let place = Place::from(message.content());
        if part.contains_key(&place) {
            return false;
        }
        part.insert(place, envelope);
        self.messages += 1;
        self.bytes += size;
        true
    }

    /// Gives up the oldest while there is too much, or it is too old.
    fn evict(&mut self, limits: &StorageLimits, now: Timestamp) -> usize {
        let mut evicted = 0;
        while let Some((part, place)) = self.oldest() {
            if self.bytes <= limits.max_bytes && place.at.timestamp >= limits.oldest(now) {
                break;
            }
            let Some(messages) = self.parts.get_mut(&part) else { break };
            if let Some(envelope) = messages.remove(&place) {
                self.messages -= 1;
                self.bytes -= size_of(&envelope);
                evicted += 1;
            }
            if messages.is_empty() {
                self.parts.remove(&part);
            }
        }
        evicted
    }

    fn oldest(&self) -> Option<(StreamPart, Place)> {
        let heads = self.parts.iter().filter_map(|(part, messages)| Some((messages.keys().next()?, part)));
        heads.min().map(|(place, part)| (part.clone(), *place))
    }
}

impl MessageStore for MemoryMessageStore {
    fn append(&self, now: Timestamp, messages: &[Verified<MessageContent>]) -> Result<Appended, StorageError> {
        let (mut held, mut appended) = (self.held(), Appended::default());
        for message in messages {
            if !self.limits.takes(message.content().at.timestamp, now) {
                appended.out_of_range += 1;
            } else if held.insert(message) {
                appended.stored += 1;
            } else {
                appended.known += 1;
            }
        }
        appended.evicted = held.evict(&self.limits, now);
        Ok(appended)
    }

    fn read(&self, query: &Query) -> Result<Page, StorageError> {
        let mut page = PageMaker::new(query);
        if let Some(messages) = self.held().parts.get(&query.part) {
            let (begin, left_out) = query.begin();
            let begin = if left_out { Excluded(begin) } else { Included(begin) };
            for (place, envelope) in messages.range((begin, Unbounded)) {
                if !page.offer(*place, || envelope.clone()) {
                    break;
                }
            }
        }
        Ok(page.finish())
    }

    fn last(&self, part: &StreamPart, filter: &Filter, n: u64) -> Result<Option<Place>, StorageError> {
        let held = self.held();
        let Some(messages) = held.parts.get(part) else { return Ok(None) };
        let passing = messages.keys().rev().filter(|place| filter.passes(place));
        Ok(passing.take(usize::try_from(n).unwrap_or(usize::MAX)).last().copied())
    }

    fn evict(&self, now: Timestamp) -> Result<usize, StorageError> {
        Ok(self.held().evict(&self.limits, now))
    }

    fn state(&self) -> Result<StorageState, StorageError> {
        let held = self.held();
        let all = || held.parts.values();
        Ok(StorageState {
            messages: held.messages,
            bytes: held.bytes,
            oldest: all().filter_map(|part| part.keys().next()).map(|place| place.at.timestamp).min(),
            newest: all().filter_map(|part| part.keys().next_back()).map(|place| place.at.timestamp).max(),
        })
    }
}
