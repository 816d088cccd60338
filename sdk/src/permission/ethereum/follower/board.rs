//! What the follower knows, for those who ask.

use std::collections::{BTreeSet, HashSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;
use tokio::time::Instant;

use super::{Progress, Trouble};
use crate::permission::ethereum::index::{Block, Listing, StreamKey, Touched};
use crate::stream::StreamId;

/// Streams that are followed at once: beyond it the one asked about the longest ago is left.
pub(super) const MAX_FOLLOWED: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// Streams of which it is remembered that somebody asked. Beyond it whatever happens is news.
const MAX_WATCHED: usize = 16_384;

/// The list of a followed stream.
struct Slot {
    /// Since when somebody waits for it.
    since: Instant,
    listing: Option<Arc<Listing>>,
    /// Whether the list is that of the cursor.
    is_settled: bool,
    /// Whether the index knows that it is followed.
    is_followed: bool,
}

impl Slot {
    fn new(is_followed: bool) -> Self {
        Self { since: Instant::now(), listing: None, is_settled: false, is_followed }
    }
}

/// What the follower knows.
pub(super) struct Board {
    slots: LruCache<StreamId, Slot>,
    /// Left, and the index does not know yet.
    left: Vec<StreamId>,
    watched: HashSet<StreamKey>,
    changes: u64,
    /// Something changed that whoever asks will be told once the lists are settled.
    is_news: bool,
    /// Blocks with which something counts that is known already.
    counts_at: BTreeSet<u64>,
    confirmations: u64,
    pub(super) progress: Progress,
    pub(super) trouble: Option<Arc<Trouble>>,
    /// When everything was read up to the newest block.
    looked: Option<Instant>,
}

impl Board {
    pub(super) fn new(start: u64, confirmations: u64) -> Self {
        let slots = LruCache::new(MAX_FOLLOWED);
        let at = start.saturating_sub(1);
        let progress = Progress { from: start, at, head: start, is_caught_up: false };
        let (left, watched, counts_at) = (Vec::new(), HashSet::new(), BTreeSet::new());
        let (changes, is_news, trouble, looked) = (0, false, None, None);
        Self { slots, left, watched, changes, is_news, counts_at, confirmations, progress, trouble, looked }
    }

    /// The index was opened: it follows these streams already.
    pub(super) fn open(&mut self, start: u64, at: u64, followed: Vec<StreamId>) {
        (self.progress.from, self.progress.at, self.progress.head) = (start, at, at);
        for stream in followed {
            if let Some(slot) = self.slots.peek_mut(&stream) {
                slot.is_followed = true;
            } else if self.slots.len() < MAX_FOLLOWED.get() {
                self.slots.put(stream, Slot::new(true));
            } else {
                self.left.push(stream);
            }
        }
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether everything was read up to the newest block, not longer ago than `limit`.
    pub(super) fn is_current(&self, limit: Duration) -> bool {
        self.looked.is_some_and(|looked| looked.elapsed() <= limit)
    }

    /// Somebody asked about this stream: what happens to it is news.
    pub(super) fn watch(&mut self, stream: &StreamId) {
        if self.watched.len() <= MAX_WATCHED {
            self.watched.insert(StreamKey::of(stream));
        }
    }

    /// The list of a stream, which is followed from now on.
    pub(super) fn listing(&mut self, stream: &StreamId) -> Option<Arc<Listing>> {
        self.watch(stream);
        if !self.slots.contains(stream)
            && let Some((left, _)) = self.slots.push(stream.clone(), Slot::new(false))
        {
            self.left.push(left);
        }
        self.known(stream)
    }

    /// The list of a stream, if it is followed and settled.
    pub(super) fn known(&mut self, stream: &StreamId) -> Option<Arc<Listing>> {
        self.slots.get(stream).filter(|slot| slot.is_settled)?.listing.clone()
    }

    /// Since when somebody waits for the list of a stream that never had one.
    pub(super) fn awaited(&self, stream: &StreamId) -> Option<Instant> {
        self.slots.peek(stream).filter(|slot| slot.listing.is_none()).map(|slot| slot.since)
    }

    /// Streams that are to be followed, and those that were left, which the index does not know yet.
    pub(super) fn wishes(&mut self) -> (Vec<StreamId>, Vec<StreamId>) {
        let new: Vec<_> = self.slots.iter().filter(|(_, slot)| !slot.is_followed).map(|(id, _)| id.clone()).collect();
        let mut left = std::mem::take(&mut self.left);
        left.retain(|stream| !self.slots.contains(stream));
        (new, left)
    }

    pub(super) fn followed(&mut self, stream: &StreamId) {
        if let Some(slot) = self.slots.peek_mut(stream) {
            slot.is_followed = true;
        }
    }

    /// Streams whose lists are to be made.
    pub(super) fn unsettled(&self) -> Vec<StreamId> {
        let waiting = self.slots.iter().filter(|(_, slot)| slot.is_followed && !slot.is_settled);
        waiting.map(|(stream, _)| stream.clone()).collect()
    }

    /// Streams that have a list, or will have one.
    pub(super) fn wanted(&self) -> Vec<StreamId> {
        self.slots.iter().map(|(stream, _)| stream.clone()).collect()
    }

    /// Streams that have a list.
    pub(super) fn listed(&self) -> Vec<StreamId> {
        let listed = self.slots.iter().filter(|(_, slot)| slot.is_followed && slot.listing.is_some());
        listed.map(|(stream, _)| stream.clone()).collect()
    }

    /// The list of a stream is to be made anew.
    pub(super) fn unsettle(&mut self, stream: &StreamId) {
        if let Some(slot) = self.slots.peek_mut(stream) {
            slot.is_settled = false;
        }
    }

    pub(super) fn settle(&mut self, stream: &StreamId, listing: Listing) {
        let Some(slot) = self.slots.peek_mut(stream) else { return };
        self.is_news |= slot.listing.as_ref().is_some_and(|before| !before.says_as(&listing));
        (slot.listing, slot.is_settled) = (Some(Arc::new(listing)), true);
    }

    /// The index took something in, and its cursor is at `cursor`.
    pub(super) fn note(&mut self, touched: &Touched, cursor: Option<&Block>) {
        let at = cursor.map_or(0, |cursor| cursor.number);
        for (stream, slot) in &mut self.slots {
            let is_touched = touched.everything || touched.streams.contains_key(&StreamKey::of(stream));
            let counts_now = slot.listing.as_ref().and_then(|listing| listing.until).is_some_and(|until| until <= at);
            slot.is_settled &= !is_touched && !counts_now;
        }
        let all = touched.everything || self.watched.len() > MAX_WATCHED;
        for (stream, block) in &touched.streams {
            if all || self.watched.contains(stream) {
                self.is_news = true;
                self.counts_at.insert(block.saturating_add(self.confirmations));
            }
        }
        self.is_news |= touched.everything;
        let later = self.counts_at.split_off(&at.saturating_add(1));
        self.is_news |= !std::mem::replace(&mut self.counts_at, later).is_empty();
    }

    /// A look is over: whoever asked before may have to ask again.
    pub(super) fn end_look(&mut self, trouble: Option<Trouble>, is_whole: bool) {
        let was_behind = self.looked.is_none();
        if is_whole {
            self.looked = Some(Instant::now());
        }
        // Before the first whole look nobody was told anything.
        if self.looked.is_some() && (self.is_news || was_behind) {
            self.changes += 1;
        }
        self.is_news = false;
        self.trouble = trouble.map(Arc::new);
    }
}
