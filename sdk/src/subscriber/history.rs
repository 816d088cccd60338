//! Reading a partition's stored messages from nodes that nobody trusts, as a pure state machine: what to ask for next, and
//! what of an answer counts.
//!
//! A storage node cannot forge a message, for its author signed it. What it can do is to send others than were asked for, send
//! them in another order or twice, or leave some out. The first three show at once. What is left out in the middle of a
//! chain shows as well, since each message names the one before it: that is a [`Hole`], for another node to fill. What is left
//! out at the end, or of a chain of which nothing is given at all, shows only when another node has more.

use std::num::NonZeroUsize;

use lru::LruCache;

use super::StorageFault;
use super::chains::ChainName;
use crate::storage::{Filter, Place};
use crate::stream::StreamPart;
use crate::time::Timestamp;
use crate::wire::{MessageContent, MessageRef, ResendPage, ResendRequest, Span, Verified};

/// Chains of which it is remembered where they have come to.
const CHAINS: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// Holes of one page that others are asked about; what is missing beyond is reported as gaps.
pub const MAX_HOLES: usize = 64;

/// How far the stored messages of one partition were read.
#[derive(Debug)]
pub struct History {
    part: StreamPart,
    span: Span,
    filter: Filter,
    /// Where it begins: strictly behind a place, if one was given.
    begin: Option<Place>,
    /// The last one read of the span.
    after: Option<Place>,
    /// The first one read of the span.
    first: Option<Place>,
    /// Where each chain has come to.
    chains: LruCache<ChainName, MessageRef>,
    taken: u64,
}

/// Messages that are missing from a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hole {
    /// Before which of the messages that were taken.
    pub before: usize,
    /// Of which publisher and chain.
    pub chain: ChainName,
    /// The last one read of the chain; `None` when nothing was.
    pub after: Option<MessageRef>,
    /// The last one missing.
    pub until: MessageRef,
}

impl History {
    /// Nothing was read yet.
    pub fn new(part: StreamPart, span: Span, filter: Filter) -> Self {
        Self { part, span, filter, begin: None, after: None, first: None, chains: LruCache::new(CHAINS), taken: 0 }
    }

    /// Reads on behind a place that was reached before.
    #[must_use]
    pub fn behind(self, place: Option<Place>) -> Self {
        Self { begin: place, after: place, ..self }
    }

    /// Which partition.
    pub fn part(&self) -> &StreamPart {
        &self.part
    }

    /// How many messages were read.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// The last message that was read, by its place. What a node says of where its pages lead is not counted: it could lead
    /// past everything.
    pub fn after(&self) -> Option<Place> {
        self.after
    }

    /// Whether the chain was met.
    pub fn knows(&self, content: &MessageContent) -> bool {
        self.chains.contains(&(content.publisher, content.chain))
    }

    /// Whether the message, or a later one of its chain, was read.
    pub fn covers(&self, content: &MessageContent) -> bool {
        self.chains.peek(&(content.publisher, content.chain)).is_some_and(|at| content.at <= *at)
    }

    /// What to ask for next.
    pub fn wanted(&self) -> (Span, Option<Place>, Filter) {
        let span = match (self.span, self.after) {
            // Behind a place there is no counting from the end any more.
            (Span::Last(_), Some(_)) => ALWAYS,
            (span, _) => span,
        };
        (span, self.after, self.filter)
    }

    /// Takes messages in that are the next ones in order. What is missing between them.
    pub fn take(&mut self, messages: &[Verified<MessageContent>]) -> Vec<Hole> {
        let place_of = |message: &Verified<MessageContent>| Place::from(message.content());
        self.first = self.first.or(messages.first().map(place_of));
        let mut holes = self.holes(messages);
        holes.truncate(MAX_HOLES);
        for message in messages {
            self.note(message.content());
        }
        self.after = messages.last().map(place_of).or(self.after);
        holes
    }

    /// A message that filled a hole, or came live, in the order of its chain.
    pub fn note(&mut self, content: &MessageContent) {
        self.taken += 1;
        let at = self.chains.get_or_insert_mut((content.publisher, content.chain), || content.at);
        *at = content.at.max(*at);
    }

    /// A message that came live: what is missing before it.
    pub fn live(&mut self, content: &MessageContent) -> Option<Hole> {
        let chain = (content.publisher, content.chain);
        let after = self.chains.get(&chain).copied();
        self.note(content);
        let until = content.previous.filter(|until| self.is_missing(chain, after, *until))?;
        Some(Hole { before: 0, chain, after, until })
    }

    fn holes(&self, messages: &[Verified<MessageContent>]) -> Vec<Hole> {
        let mut reached: std::collections::HashMap<ChainName, MessageRef> = Default::default();
        let mut holes = Vec::new();
        for (before, content) in messages.iter().map(Verified::content).enumerate() {
            let chain = (content.publisher, content.chain);
            let after = reached.insert(chain, content.at).or_else(|| self.chains.peek(&chain).copied());
            if let Some(until) = content.previous
                && self.is_missing(chain, after, until)
            {
                holes.push(Hole { before, chain, after, until });
            }
        }
        holes
    }

    fn is_missing(&self, (publisher, chain): ChainName, after: Option<MessageRef>, until: MessageRef) -> bool {
        match after {
            Some(after) => until > after,
            None => self.begins_before(Place { at: until, publisher, chain }),
        }
    }

    /// Whether a message at this place, of a chain that was not met, should have been read.
    pub(super) fn begins_before(&self, place: Place) -> bool {
        if !self.filter.passes(&place) || self.begin.is_some_and(|begin| place <= begin) {
            return false;
        }
        match self.span {
            // Where the chain begins within the span, it should have been there from its beginning.
            Span::Range { from, .. } => place.at.timestamp >= from,
            Span::Last(_) => self.first.is_some_and(|first| first < place),
        }
    }

    /// What to ask others for, to fill a hole.
    pub fn wanted_for(&self, hole: &Hole) -> (Span, Option<Place>, Filter) {
        let (publisher, chain) = hole.chain;
        let after = hole.after.map(|at| Place { at, publisher, chain });
        let after = after.or(self.begin).or_else(|| self.first.filter(|_| matches!(self.span, Span::Last(_))));
        let least = match self.span {
            Span::Range { from, .. } => from,
            Span::Last(_) => Timestamp::ZERO,
        };
        let from = after.map_or(least, |after| after.at.timestamp);
        (Span::Range { from, to: hole.until.timestamp }, after, Filter::chain(publisher, chain))
    }
}

/// Every moment.
const ALWAYS: Span = Span::Range { from: Timestamp::ZERO, to: Timestamp::from_millis(u64::MAX) };

/// Whether a page is an answer to what was asked, by itself. The signatures of its messages were checked.
///
/// # Errors
/// What the node did wrong: nothing of the page counts.
pub fn check(
    asked: &ResendRequest,
    page: &ResendPage,
    messages: &[Verified<MessageContent>],
) -> Result<(), StorageFault> {
    if (page.id, &page.part, page.node, page.requester) != (asked.id, &asked.part, asked.node, asked.requester) {
        return Err(StorageFault::Lied("an answer to another request"));
    }
    let mut behind = asked.after;
    for content in messages.iter().map(Verified::content) {
        let place = Place::from(content);
        let within = match asked.span {
            Span::Last(_) => true,
            Span::Range { from, to } => (from..=to).contains(&place.at.timestamp),
        };
        if content.part != asked.part || !asked.filter.passes(&place) || !within {
            return Err(StorageFault::Lied("messages that were not asked for"));
        }
        if behind.is_some_and(|behind| place <= behind) {
            return Err(StorageFault::Lied("messages out of order, or twice"));
        }
        behind = Some(place);
    }
    match page.next {
        // Else one could be sent in circles for ever.
        Some(next) if Some(next) <= asked.after || Some(next) < behind => {
            Err(StorageFault::Lied("a page that goes back"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
