//! Reading a partition's stored messages from nodes that nobody trusts, as a pure state machine: what to ask for next, and
//! what of an answer counts.
//!
//! A storage node cannot forge a message, for its author signed it. What it can do is to send others than were asked for, send
//! them in another order or twice, or leave some out. The first three show at once. What is left out in the middle of a
//! chain shows as well, since each message names the one before it: that is a [`Hole`], for another node to fill. What is left
//! out at the end shows only when another node has more.

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
    /// Behind this one; before it everything was read.
    after: Option<Place>,
    /// Where each chain has come to.
    chains: LruCache<ChainName, MessageRef>,
    taken: u64,
}

/// Messages that are missing from a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hole {
    /// Before which message of the page.
    pub before: usize,
    /// Of which publisher and chain.
    pub chain: ChainName,
    /// The last one read of the chain; `None` when nothing was.
    pub after: Option<MessageRef>,
    /// The last one missing.
    pub until: MessageRef,
}

/// What an answer brought.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Taken {
    /// In order.
    pub messages: Vec<Verified<MessageContent>>,
    /// What is missing between them.
    pub holes: Vec<Hole>,
    /// The node has more.
    pub more: bool,
}

impl History {
    /// Nothing was read yet.
    pub fn new(part: StreamPart, span: Span, filter: Filter) -> Self {
        Self { part, span, filter, after: None, chains: LruCache::new(CHAINS), taken: 0 }
    }

    /// Which partition.
    pub fn part(&self) -> &StreamPart {
        &self.part
    }

    /// How many messages were read.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// How far was read.
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

    /// What to ask the next node for, or the same one for the next page.
    pub fn wanted(&self) -> (Span, Option<Place>, Filter) {
        let span = match (self.span, self.after) {
            // Behind a place there is no counting from the end any more.
            (Span::Last(_), Some(_)) => Span::Range { from: Timestamp::ZERO, to: Timestamp::from_millis(u64::MAX) },
            (span, _) => span,
        };
        (span, self.after, self.filter)
    }

    /// How many of the last messages are still wanted; `None` where a span of time is.
    pub fn left(&self) -> Option<u64> {
        match self.span {
            Span::Last(n) => Some(n.saturating_sub(self.taken)),
            Span::Range { .. } => None,
        }
    }

    /// How many more of the last messages were read than were wanted.
    pub fn over(&self) -> u64 {
        match self.span {
            Span::Last(n) => self.taken.saturating_sub(n),
            Span::Range { .. } => 0,
        }
    }

    /// Takes a page in, whose messages' signatures were checked.
    ///
    /// # Errors
    /// What the node did wrong; nothing was taken in.
    pub fn page(
        &mut self,
        asked: &ResendRequest,
        page: &ResendPage,
        messages: Vec<Verified<MessageContent>>,
    ) -> Result<Taken, StorageFault> {
        if let Some(refusal) = page.refusal {
            return Err(StorageFault::Refused(refusal));
        }
        let last = check(asked, page, &messages)?;
        let mut holes = self.holes(&messages);
        holes.truncate(MAX_HOLES);
        for message in &messages {
            self.note(message.content());
        }
        // Also behind messages that did not pass the filter.
        self.after = page.next.or(last).or(self.after);
        Ok(Taken { messages, holes, more: page.next.is_some() })
    }

    /// Messages that filled a hole, or came live, in the order of their chain.
    pub fn note(&mut self, content: &MessageContent) {
        self.taken += 1;
        let at = self.chains.get_or_insert_mut((content.publisher, content.chain), || content.at);
        *at = content.at.max(*at);
    }

    /// A message that came live: what is missing before it, of a chain that was met.
    pub fn live(&mut self, content: &MessageContent) -> Option<Hole> {
        let chain = (content.publisher, content.chain);
        let after = self.chains.get(&chain).copied();
        self.note(content);
        let (after, until) = after.zip(content.previous)?;
        (until > after).then_some(Hole { before: 0, chain, after: Some(after), until })
    }

    fn holes(&self, messages: &[Verified<MessageContent>]) -> Vec<Hole> {
        let mut reached: std::collections::HashMap<ChainName, MessageRef> = Default::default();
        let mut holes = Vec::new();
        for (before, content) in messages.iter().map(Verified::content).enumerate() {
            let chain = (content.publisher, content.chain);
            let after = reached.insert(chain, content.at).or_else(|| self.chains.peek(&chain).copied());
            if let Some(until) = content.previous
                && self.is_missing(after, until)
            {
                holes.push(Hole { before, chain, after, until });
            }
        }
        holes
    }

    fn is_missing(&self, after: Option<MessageRef>, until: MessageRef) -> bool {
        match (after, self.span) {
            (Some(after), _) => until > after,
            // Where the chain begins within the span, it should have been there from its beginning.
            (None, Span::Range { from, .. }) => until.timestamp >= from,
            (None, Span::Last(_)) => false,
        }
    }
}

impl Hole {
    /// What to ask another node for.
    pub fn wanted(&self, span: Span) -> (Span, Option<Place>, Filter) {
        let from = match (self.after, span) {
            (Some(after), _) => after.timestamp,
            (None, Span::Range { from, .. }) => from,
            (None, Span::Last(_)) => Timestamp::ZERO,
        };
        let (publisher, chain) = self.chain;
        let after = self.after.map(|at| Place { at, publisher, chain });
        (Span::Range { from, to: self.until.timestamp }, after, Filter::chain(publisher, chain))
    }
}

/// Whether a page is an answer to what was asked, by itself. Answers the place of its last message.
fn check(
    asked: &ResendRequest,
    page: &ResendPage,
    messages: &[Verified<MessageContent>],
) -> Result<Option<Place>, StorageFault> {
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
    let last = messages.last().map(|message| Place::from(message.content()));
    match page.next {
        // Else one could be sent in circles for ever.
        Some(next) if Some(next) <= asked.after || Some(next) < last => {
            Err(StorageFault::Lied("a page that goes back"))
        }
        _ => Ok(last),
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
