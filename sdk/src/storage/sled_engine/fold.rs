//! New messages lie one by one, which is quickly done and safe; when there are enough of them they become blocks.

use std::collections::BTreeMap;
use std::ops::Bound::{self, Excluded, Included, Unbounded};
use std::sync::Arc;

use bytes::Bytes;

use super::SledMessageStore;
use super::block::Block;
use super::change::Change;
use super::info::BlockInfo;
use super::view::Part;
use super::writing::Writer;
use crate::storage::{Place, StorageError, memory::size_of};
use crate::stream::StreamPart;

type Messages = Vec<(Place, Bytes)>;
type Span = (Bound<Place>, Bound<Place>);

impl SledMessageStore {
    /// Makes blocks of what is new: where there is enough for one between the same two blocks, and where all together takes more memory
    /// than it may. Nothing of it is on disk yet but the blocks' files.
    // What comes late, here and there, waits for its like: each block that it belongs into is written anew for it.
    pub(super) fn fold(&self, writer: &mut Writer) -> Result<(), StorageError> {
        while let Some((part, span)) = self.to_be_folded() {
            self.fold_one(writer, &part, span)?;
        }
        Ok(())
    }

    fn to_be_folded(&self) -> Option<(StreamPart, Span)> {
        let view = self.view();
        let enough = view.fresh_from(self.sizes.block).find_map(|(part, held)| {
            let (span, bytes) = held.dearest_span();
            (bytes >= self.sizes.block).then(|| (part.clone(), span))
        });
        let too_much = || {
            let over = view.fresh_bytes() > self.sizes.fresh;
            view.freshest().filter(|_| over).map(|(part, held)| (part.clone(), held.dearest_span().0))
        };
        enough.or_else(too_much)
    }

    /// Joins what is new in one span with what it belongs to.
    fn fold_one(&self, writer: &mut Writer, part: &StreamPart, span: Span) -> Result<(), StorageError> {
        let (held, mut change) = (self.view().part(part), Change::default());
        let new: Messages = held.fresh.range(span).map(|(place, envelope)| (*place, envelope.clone())).collect();
        new.iter().for_each(|(place, _)| change.drop_fresh(part, *place));
        let joined = held.joined(&new, self.sizes.block);
        let mut messages = new;
        for block in &joined {
            messages.extend(self.messages_of(block)?);
            change.drop_block(part, block);
        }
        messages.sort_unstable_by_key(|(place, _)| *place);
        for piece in pieces(messages, self.sizes.block) {
            let file = self.files.write(writer.next_block(), &Block::encode(&piece))?;
            BlockInfo::of(file, &piece).into_iter().for_each(|info| change.put_block(part, info));
        }
        self.files.sync()?;
        drop(held); // else it would be copied to be changed
        self.apply(writer, change)
    }

    fn messages_of(&self, info: &BlockInfo) -> Result<Messages, StorageError> {
        let block = self.files.load(info)?;
        Ok((info.begin()..block.len()).filter_map(|n| block.get(n)).collect())
    }
}

impl Part {
    /// Where most of what is new lies, from the beginning of one block to that of the next, and how many bytes that is.
    fn dearest_span(&self) -> (Span, u64) {
        let mut spans = BTreeMap::<Option<Place>, u64>::new();
        for (place, envelope) in &*self.fresh {
            *spans.entry(self.block_at(place).map(|block| block.first)).or_default() += size_of(envelope);
        }
        let (begin, bytes) = spans.into_iter().max_by_key(|(_, bytes)| *bytes).unwrap_or_default();
        let behind = begin.map_or(Unbounded, Excluded);
        let next = self.blocks.range((behind, Unbounded)).next();
        ((begin.map_or(Unbounded, Included), next.map_or(Unbounded, |(next, _)| Excluded(*next))), bytes)
    }

    /// The blocks that new messages of one span are joined with: the one that some of them belong into, and beside it such as are
    /// crumbs and not larger than what is joined already. Else a partition of which little comes at a time would be made of crumbs;
    /// as it is, each message is written anew as often as its block can double.
    fn joined(&self, new: &[(Place, Bytes)], target: u64) -> Vec<Arc<BlockInfo>> {
        let Some((first, _)) = new.first() else { return Vec::new() };
        let mut bytes: u64 = new.iter().map(|(_, envelope)| size_of(envelope)).sum();
        let mut joins = |block: &&Arc<BlockInfo>| {
            let belongs = block.first <= *first && *first <= block.last;
            let is_crumb = block.bytes < target / 2 && block.bytes <= bytes;
            bytes += block.bytes;
            belongs || is_crumb
        };
        let before: Vec<_> = self.blocks.range(..=first).rev().map(|(_, block)| block).take_while(&mut joins).collect();
        // What comes before all blocks has none but those behind it.
        let behind = self.blocks.values().filter(|_| self.block_at(first).is_none()).take_while(&mut joins);
        before.into_iter().chain(behind).cloned().collect()
    }
}

/// Pieces of about the same size, none larger than a block by more than one message.
fn pieces(messages: Messages, block: u64) -> Vec<Messages> {
    let total: u64 = messages.iter().map(|(_, envelope)| size_of(envelope)).sum();
    let share = total.div_ceil(total.div_ceil(block.max(1)).max(1));
    let (mut pieces, mut piece, mut bytes) = (Vec::new(), Messages::new(), 0);
    for message in messages {
        bytes += size_of(&message.1);
        piece.push(message);
        if bytes >= share {
            pieces.push(std::mem::take(&mut piece));
            bytes = 0;
        }
    }
    pieces.extend((!piece.is_empty()).then_some(piece));
    pieces
}
