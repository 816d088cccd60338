//! The messages of a partition in order, from either end, whether they lie in blocks or not.

use std::iter::Peekable;
use std::ops::{Bound, Range};
use std::sync::Arc;

use bytes::Bytes;

use super::block::Block;
use super::files::BlockFiles;
use super::info::BlockInfo;
use super::view::Part;
use crate::identity::UserId;
use crate::storage::{Place, StorageError};

/// What comes next.
#[derive(Debug)]
pub(super) enum Met {
    Message(Found),
    /// A block was read, and all up to this place is settled.
    Behind(Place),
}

#[derive(Debug)]
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) envelope: Bytes,
    /// The block it lies in, by its first place.
    pub(super) block: Option<Place>,
}

type Fresh<'a> = Box<dyn Iterator<Item = (&'a Place, &'a Bytes)> + 'a>;
type Blocks<'a> = Box<dyn Iterator<Item = &'a Arc<BlockInfo>> + 'a>;

/// Goes through a partition. A block is read when it is reached, and not before.
pub(super) struct Walk<'a> {
    files: &'a BlockFiles,
    back: bool,
    publisher: Option<UserId>,
    from: Bound<Place>,
    fresh: Peekable<Fresh<'a>>,
    blocks: Peekable<Blocks<'a>>,
    reading: Option<Reading>,
}

struct Reading {
    info: Arc<BlockInfo>,
    block: Arc<Block>,
    left: Range<usize>,
}

impl<'a> Walk<'a> {
    /// From the oldest on that is not before `from`; of one publisher, or all.
    pub(super) fn forward(
        files: &'a BlockFiles,
        part: &'a Part,
        from: Bound<Place>,
        publisher: Option<UserId>,
    ) -> Self {
        let first = match from {
            Bound::Included(place) | Bound::Excluded(place) => {
                part.block_at(&place).filter(|block| block.last >= place)
            }
            Bound::Unbounded => None,
        };
        let rest = part.blocks.range((from_behind(from), Bound::Unbounded)).map(|(_, block)| block);
        let blocks: Blocks<'a> = Box::new(first.into_iter().chain(rest));
        Self::new(files, publisher, false, from, Box::new(part.fresh.range((from, Bound::Unbounded))), blocks)
    }

    /// From the newest on, backwards.
    pub(super) fn backward(files: &'a BlockFiles, part: &'a Part, publisher: Option<UserId>) -> Self {
        let blocks: Blocks<'a> = Box::new(part.blocks.values().rev());
        Self::new(files, publisher, true, Bound::Unbounded, Box::new(part.fresh.iter().rev()), blocks)
    }

    fn new(
        files: &'a BlockFiles,
        publisher: Option<UserId>,
        back: bool,
        from: Bound<Place>,
        fresh: Fresh<'a>,
        blocks: Blocks<'a>,
    ) -> Self {
        let fresh: Fresh<'a> = match publisher {
            Some(publisher) => Box::new(fresh.filter(move |(place, _)| place.publisher == publisher)),
            None => fresh,
        };
        let blocks: Blocks<'a> = match publisher {
            Some(publisher) => Box::new(blocks.filter(move |block| block.publishers.may_have(publisher))),
            None => blocks,
        };
        Self { files, back, publisher, from, fresh: fresh.peekable(), blocks: blocks.peekable(), reading: None }
    }

    /// Goes over the whole next block without reading it, where nothing else lies in between and it has `most` messages at
    /// most. Answers how many, and the one that was reached last.
    pub(super) fn pass_block(&mut self, most: u64) -> Option<(u64, Place)> {
        if self.publisher.is_some() || self.reading.as_ref().is_some_and(|reading| !reading.left.is_empty()) {
            return None;
        }
        let block = self.blocks.peek()?;
        let reached = if self.back { block.first } else { block.last };
        let (messages, fresh) = (u64::from(block.messages), self.fresh.peek().map(|(place, _)| **place));
        if messages > most || fresh.is_some_and(|fresh| self.comes_before(&fresh, &reached)) {
            return None;
        }
        self.blocks.next();
        self.reading = None;
        Some((messages, reached))
    }

    fn comes_before(&self, one: &Place, other: &Place) -> bool {
        if self.back { one > other } else { one < other }
    }

    fn fresh(&mut self) -> Option<Met> {
        let (place, envelope) = self.fresh.next()?;
        Some(Met::Message(Found { place: *place, envelope: envelope.clone(), block: None }))
    }

    /// The next that lies in no block, where it comes before this place.
    fn fresh_before(&mut self, place: &Place) -> Option<Met> {
        let fresh = **self.fresh.peek().map(|(place, _)| place)?;
        if self.comes_before(&fresh, place) { self.fresh() } else { None }
    }

    fn read(&mut self, info: &Arc<BlockInfo>) -> Result<(), StorageError> {
        let block = self.files.load(info)?;
        let begin = match self.from {
            Bound::Included(place) => block.lower_bound(&place),
            Bound::Excluded(place) => block.lower_bound(&place) + usize::from(block.contains(&place)),
            Bound::Unbounded => 0,
        };
        let left = begin.max(info.begin())..block.len();
        self.reading = Some(Reading { info: info.clone(), block, left });
        Ok(())
    }

    /// Of the block that is being read; `None` when it is done with.
    fn in_block(&mut self) -> Option<Met> {
        loop {
            let reading = self.reading.as_ref()?;
            let left = &reading.left;
            let n = if self.back { left.clone().next_back() } else { left.clone().next() };
            let Some((place, envelope)) = n.and_then(|n| reading.block.get(n)) else {
                let (info, behind) = (self.reading.take()?.info, self.back);
                return self.publisher.map(|_| Met::Behind(if behind { info.first } else { info.last }));
            };
            if let Some(fresh) = self.fresh_before(&place) {
                return Some(fresh);
            }
            let reading = self.reading.as_mut()?;
            if self.back {
                reading.left.next_back()
            } else {
                reading.left.next()
            };
            if self.publisher.is_none_or(|publisher| publisher == place.publisher) {
                return Some(Met::Message(Found { place, envelope, block: Some(reading.info.first) }));
            }
        }
    }
}

/// Blocks that begin behind where the reading begins: the one that it begins in is found by itself.
fn from_behind(from: Bound<Place>) -> Bound<Place> {
    match from {
        Bound::Included(place) | Bound::Excluded(place) => Bound::Excluded(place),
        Bound::Unbounded => Bound::Unbounded,
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Met, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(met) = self.in_block() {
                return Some(Ok(met));
            }
            let Some(info) = self.blocks.peek().map(|info| Arc::clone(info)) else {
                return self.fresh().map(Ok);
            };
            let edge = if self.back { info.last } else { info.first };
            if let Some(fresh) = self.fresh_before(&edge) {
                return Some(Ok(fresh));
            }
            self.blocks.next();
            if let Err(fault) = self.read(&info) {
                return Some(Err(fault));
            }
        }
    }
}
