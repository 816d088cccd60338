//! Messages in memory, under the rules of those on disk: for tests, and for nodes that keep the last hour.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::query::PageMaker;
use super::{Appended, Beginning, Filter, MessageStore, Page, Place, Query, StorageError, StorageLimits, StorageState};
use crate::stream::{StreamId, StreamPart};
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
    /// Of each stream.
    streams: BTreeMap<StreamId, u64>,
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

/// What a message counts as, in each engine: with its place.
pub(super) fn size_of(envelope: &Bytes) -> u64 {
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
        *self.streams.entry(message.content().part.stream().clone()).or_default() += size;
        true
    }

    /// Gives up what is too old, and while there is too much, the oldest of the stream that has the most.
    fn evict(&mut self, limits: &StorageLimits, now: Timestamp) -> usize {
        let mut evicted = 0;
        while let Some((part, place)) =
            self.oldest(|_| true).filter(|(_, place)| place.at.timestamp < limits.oldest(now))
        {
            evicted += self.remove(&part, &place);
        }
        while self.bytes > limits.max_bytes {
            let largest = self.streams.iter().max_by_key(|(_, bytes)| **bytes).map(|(stream, _)| stream.clone());
            let Some((part, place)) = self.oldest(|part| Some(part.stream()) == largest.as_ref()) else { break };
            evicted += self.remove(&part, &place);
        }
        evicted
    }

    fn remove(&mut self, part: &StreamPart, place: &Place) -> usize {
        let Some(messages) = self.parts.get_mut(part) else { return 0 };
        let Some(envelope) = messages.remove(place) else { return 0 };
        if messages.is_empty() {
            self.parts.remove(part);
        }
        let size = size_of(&envelope);
        self.messages -= 1;
        self.bytes -= size;
        if let Some(bytes) = self.streams.get_mut(part.stream()) {
            *bytes -= size;
            if *bytes == 0 {
                self.streams.remove(part.stream());
            }
        }
        1
    }

    fn oldest(&self, of: impl Fn(&StreamPart) -> bool) -> Option<(StreamPart, Place)> {
        let parts = self.parts.iter().filter(|(part, _)| of(part));
        let heads = parts.filter_map(|(part, messages)| Some((messages.keys().next()?, part)));
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
                if !page.offer(*place, || Ok(Some(envelope.clone())))? {
                    break;
                }
            }
        }
        Ok(page.finish())
    }

    fn last(&self, part: &StreamPart, filter: &Filter, n: u64) -> Result<Beginning, StorageError> {
        let held = self.held();
        let Some(messages) = held.parts.get(part) else { return Ok(Beginning::default()) };
        Beginning::of(messages.keys().rev().copied().map(Ok), filter, n)
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
