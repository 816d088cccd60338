//! Giving up the oldest: for their age, and for want of room.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::SledMessageStore;
use super::change::Change;
use super::view::{Dearest, Part};
use super::walk::{Met, Walk};
use super::writing::Writer;
use crate::storage::{Place, StorageError, memory::size_of};
use crate::stream::StreamPart;
use crate::time::Timestamp;

/// Messages given up in one batch.
const EVICTED_AT_ONCE: usize = 1024;

/// How many bytes there still are, of all streams and of the one at hand.
#[derive(Clone, Copy, Debug)]
struct Left {
    all: u64,
    stream: u64,
}

/// What went of a block: messages, and their bytes.
type Went = (u32, u64);

impl SledMessageStore {
    /// Gives up what is too old; and while there is too much, the oldest of the stream that has the most, so that no stream
    /// pushes another out that has less. Nothing of it is on disk yet.
    pub(super) fn give_up(&self, writer: &mut Writer, now: Timestamp) -> Result<usize, StorageError> {
        let (mut evicted, too_old) = (0, self.limits.oldest(now));
        let is_too_old = |place: &Place| place.at.timestamp < too_old;
        while let Some(part) = self.head_where(is_too_old) {
            evicted += self.give_up_from(writer, &part, |place, _| is_too_old(place))?;
        }
        while let Some(dearest) = self.dearest_of_too_much() {
            evicted += self.give_up_from(writer, &dearest.part, |place, left| {
                left.all > self.limits.max_bytes && dearest.has_most(left.stream) && dearest.is_oldest(place)
            })?;
        }
        Ok(evicted)
    }

    fn head_where(&self, matches: impl Fn(&Place) -> bool) -> Option<StreamPart> {
        self.view().heads().find(|(head, _)| matches(head)).map(|(_, part)| part.clone())
    }

    fn dearest_of_too_much(&self) -> Option<Dearest> {
        let view = self.view();
        if view.all().bytes > self.limits.max_bytes { view.dearest() } else { None }
    }

    /// The oldest of one partition, as long as they are to go.
    fn give_up_from(
        &self,
        writer: &mut Writer,
        part: &StreamPart,
        goes: impl Fn(&Place, Left) -> bool,
    ) -> Result<usize, StorageError> {
        let (held, mut left) = {
            let view = self.view();
            (view.part(part), Left { all: view.all().bytes, stream: view.of(part.stream()).bytes })
        };
        let (mut change, mut evicted, mut blocks) = (Change::default(), 0, BTreeMap::<Place, Went>::new());
        for met in Walk::forward(&self.files, &held, Bound::Unbounded, None) {
            let Met::Message(found) = met? else { continue };
            if evicted == EVICTED_AT_ONCE || !goes(&found.place, left) {
                break;
            }
            let bytes = size_of(&found.envelope);
            left = Left { all: left.all.saturating_sub(bytes), stream: left.stream.saturating_sub(bytes) };
            evicted += 1;
            match found.block {
                None => change.drop_fresh(part, found.place),
                Some(block) => {
                    let went = blocks.entry(block).or_default();
                    *went = (went.0 + 1, went.1 + bytes);
                }
            }
        }
        for (first, went) in blocks {
            self.shorten(&mut change, part, &held, &first, went)?;
        }
        drop(held); // else it would be copied to be changed
        self.apply(writer, change)?;
        Ok(evicted)
    }

    /// Takes messages off the beginning of a block. Its file stays as it is, and goes with the last of them.
    fn shorten(
        &self,
        change: &mut Change,
        part: &StreamPart,
        held: &Part,
        first: &Place,
        (messages, bytes): Went,
    ) -> Result<(), StorageError> {
        let Some(block) = held.blocks.get(first) else { return Ok(()) };
        let mut rest = (**block).clone();
        rest.gone += messages;
        rest.messages = rest.messages.saturating_sub(messages);
        rest.bytes = rest.bytes.saturating_sub(bytes);
        match self.files.load(block)?.get(rest.begin()) {
            Some((first, _)) => {
                rest.first = first;
                change.trim_block(part, block, rest);
            }
            None => change.drop_block(part, block),
        }
        Ok(())
    }
}

impl Dearest {
    /// Whether a stream with so many bytes still is the one that has the most.
    fn has_most(&self, bytes: u64) -> bool {
        let (second, name) = &self.second;
        (bytes, Some(self.part.stream())) > (*second, name.as_ref())
    }

    /// Whether no other partition of the stream has an older one.
    fn is_oldest(&self, place: &Place) -> bool {
        self.next.as_ref().is_none_or(|(next, part)| (place, &self.part) < (next, part))
    }
}
