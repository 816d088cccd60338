//! What the store holds, as it is in memory: the newest messages themselves, and of the rest which blocks there are.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::info::BlockInfo;
use crate::storage::{Place, StorageError, memory::size_of};
use crate::stream::{StreamId, StreamPart};

/// How much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) messages: u64,
    /// Of messages and their places.
    pub(super) bytes: u64,
}

impl Tally {
    const NOTHING: Self = Self { messages: 0, bytes: 0 };

    fn of_block(block: &BlockInfo) -> Self {
        Self { messages: block.messages.into(), bytes: block.bytes }
    }

    fn of_one(envelope: &Bytes) -> Self {
        Self { messages: 1, bytes: size_of(envelope) }
    }

    fn add(&mut self, put: Self) {
        self.messages += put.messages;
        self.bytes += put.bytes;
    }

    fn remove(&mut self, dropped: Self) {
        self.messages = self.messages.saturating_sub(dropped.messages);
        self.bytes = self.bytes.saturating_sub(dropped.bytes);
    }
}

/// One partition. A reader takes a copy, which costs next to nothing and stays as it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    /// What is in no block yet.
    pub(super) fresh: Arc<BTreeMap<Place, Bytes>>,
    /// Its bytes.
    pub(super) fresh_bytes: u64,
    /// By the first place that is left in each. They do not overlap: one reaches as far as to the beginning of the next.
    pub(super) blocks: Arc<BTreeMap<Place, Arc<BlockInfo>>>,
}

impl Part {
    /// The block that reaches over a place, be the place in it or behind its last.
    pub(super) fn block_at(&self, place: &Place) -> Option<&Arc<BlockInfo>> {
        self.blocks.range(..=place).next_back().map(|(_, block)| block)
    }

    /// The place of the oldest message.
    pub(super) fn head(&self) -> Option<Place> {
        let (fresh, block) = (self.fresh.keys().next(), self.blocks.keys().next());
        fresh.into_iter().chain(block).min().copied()
    }

    /// The place of the newest.
    fn tail(&self) -> Option<Place> {
        let fresh = self.fresh.keys().next_back().copied();
        fresh.into_iter().chain(self.blocks.values().next_back().map(|block| block.last)).max()
    }

    fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.blocks.is_empty()
    }

    /// How much came, and how much went.
    fn apply(&mut self, step: Step) -> (Tally, Tally) {
        match step {
            Step::PutFresh(place, envelope) => {
                let put = Tally::of_one(&envelope);
                self.fresh_bytes += put.bytes;
                Arc::make_mut(&mut self.fresh).insert(place, envelope);
                (put, Tally::NOTHING)
            }
            Step::DropFresh(place) => {
                let envelope = Arc::make_mut(&mut self.fresh).remove(&place);
                let dropped = envelope.as_ref().map_or(Tally::NOTHING, Tally::of_one);
                self.fresh_bytes -= dropped.bytes;
                (Tally::NOTHING, dropped)
            }
            Step::PutBlock(block) => {
                let put = Tally::of_block(&block);
                Arc::make_mut(&mut self.blocks).insert(block.first, Arc::new(block));
                (put, Tally::NOTHING)
            }
            Step::DropBlock(first) => {
                let block = Arc::make_mut(&mut self.blocks).remove(&first);
                (Tally::NOTHING, block.map_or(Tally::NOTHING, |block| Tally::of_block(&block)))
            }
        }
    }
}

/// One change of what is in memory; [`Change`](super::change::Change) has it beside the same change on disk.
#[derive(Debug)]
pub(super) enum Step {
    PutFresh(Place, Bytes),
    DropFresh(Place),
    PutBlock(BlockInfo),
    /// By its first place that is left.
    DropBlock(Place),
}

#[derive(Debug, Default)]
pub(super) struct View {
    parts: BTreeMap<StreamPart, Part>,
    streams: BTreeMap<StreamId, Tally>,
    all: Tally,
    /// Of all partitions.
    fresh_bytes: u64,
}

/// Whose oldest message is to go when there is too much.
#[derive(Debug)]
pub(super) struct Dearest {
    pub(super) part: StreamPart,
    /// What the stream has that comes second: bytes, and its name.
    pub(super) second: (u64, Option<StreamId>),
    /// Where the next partition of the same stream begins.
    pub(super) next: Option<(Place, StreamPart)>,
}

impl View {
    pub(super) fn part(&self, part: &StreamPart) -> Part {
        self.parts.get(part).cloned().unwrap_or_default()
    }

    pub(super) fn all(&self) -> Tally {
        self.all
    }

    pub(super) fn of(&self, stream: &StreamId) -> Tally {
        self.streams.get(stream).copied().unwrap_or_default()
    }

    pub(super) fn fresh_bytes(&self) -> u64 {
        self.fresh_bytes
    }

    pub(super) fn heads(&self) -> impl Iterator<Item = (Place, &StreamPart)> {
        self.parts.iter().filter_map(|(part, held)| Some((held.head()?, part)))
    }

    pub(super) fn tails(&self) -> impl Iterator<Item = Place> {
        self.parts.values().filter_map(Part::tail)
    }

    /// The partitions of which at least so many bytes are in no block yet.
    pub(super) fn fresh_from(&self, bytes: u64) -> impl Iterator<Item = (&StreamPart, &Part)> {
        self.parts.iter().filter(move |(_, held)| held.fresh_bytes >= bytes)
    }

    /// The one of which the most is.
    pub(super) fn freshest(&self) -> Option<(&StreamPart, &Part)> {
        self.parts.iter().max_by_key(|(_, held)| held.fresh_bytes)
    }

    /// Of the stream that has the most: the last of them in the order of names, where several have.
    pub(super) fn dearest(&self) -> Option<Dearest> {
        let rank = |(stream, tally): (&StreamId, &Tally)| (tally.bytes, stream.clone());
        let (_, stream) = self.streams.iter().map(rank).max()?;
        let second = self.streams.iter().filter(|(other, _)| **other != stream).map(rank).max();
        let mut heads: Vec<_> = self.heads().filter(|(_, part)| *part.stream() == stream).collect();
        heads.sort_unstable();
        let mut heads = heads.into_iter().map(|(place, part)| (place, part.clone()));
        let (_, part) = heads.next()?;
        let second = second.map_or((0, None), |(bytes, stream)| (bytes, Some(stream)));
        Some(Dearest { part, second, next: heads.next() })
    }

    pub(super) fn apply(&mut self, part: &StreamPart, step: Step) {
        let held = self.parts.entry(part.clone()).or_default();
        let fresh_before = held.fresh_bytes;
        let (put, dropped) = held.apply(step);
        self.fresh_bytes = self.fresh_bytes - fresh_before + held.fresh_bytes;
        let of_stream = self.streams.entry(part.stream().clone()).or_default();
        for tally in [of_stream, &mut self.all] {
            tally.add(put);
            tally.remove(dropped);
        }
        self.tidy(part);
    }

    fn tidy(&mut self, part: &StreamPart) {
        if self.parts.get(part).is_some_and(Part::is_empty) {
            self.parts.remove(part);
        }
        if self.streams.get(part.stream()).is_some_and(|tally| tally.messages == 0) {
            self.streams.remove(part.stream());
        }
    }

    /// That what was read from disk can be: a block begins behind the one before it.
    pub(super) fn check(&self) -> Result<(), StorageError> {
        let apart = |held: &Part| {
            let blocks = || held.blocks.values();
            blocks().zip(blocks().skip(1)).all(|(one, next)| one.last < next.first)
        };
        let good = self.parts.values().all(apart);
        if good { Ok(()) } else { Err(StorageError::damaged("blocks of messages overlap")) }
    }
}
