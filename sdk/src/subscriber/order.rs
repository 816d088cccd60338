//! The order of one chain: each message names the one before it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use crate::time::Timestamp;
use crate::wire::{MessageContent, MessageRef, Verified};

/// A message in order, and what is known to be missing before it.
#[derive(Debug)]
pub(super) struct InOrder {
    pub(super) message: Verified<MessageContent>,
    pub(super) gap: Option<(MessageRef, MessageRef)>,
}

/// How long missing messages are waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Before the first message seen of a chain: several paths may lead here, and an earlier one may be on the slower.
    pub(super) join: Duration,
    /// Between two messages.
    pub(super) gap: Duration,
}

/// One (publisher, chain).
#[derive(Debug, Default)]
pub(super) struct Order {
    last: Option<MessageRef>,
    waiting: BTreeMap<MessageRef, Verified<MessageContent>>,
    gap_until: Option<Timestamp>,
    /// The wait before the first message is over, but its key is not here yet: nothing is lost by waiting on.
    held: bool,
    bytes: usize,
}

impl Order {
    /// Takes a message in; returns what is in order now. Duplicates and stale ones vanish.
    pub(super) fn insert(
        &mut self,
        now: Timestamp,
        message: Verified<MessageContent>,
        patience: Patience,
    ) -> Vec<InOrder> {
        let at = message.content().at;
        if self.last.is_some_and(|last| at <= last) {
            return Vec::new();
        }
        let wait = if self.last.is_none() { patience.join } else { patience.gap };
        let size = size_of(&message);
        if let Entry::Vacant(place) = self.waiting.entry(at) {
            place.insert(message);
            self.bytes += size;
        }
        if self.last.is_none() && patience.join.is_zero() {
            return self.skip(now, patience);
        }
        let ready = self.take_linked();
        self.gap_until = match (self.waiting.is_empty(), ready.is_empty()) {
            (true, _) => None,
            (false, true) if self.is_held() => None,
            (false, true) => self.gap_until.or(Some(now.plus(wait))),
            (false, false) => Some(now.plus(patience.gap)),
        };
        ready
    }

    /// The gap has waited long enough: go on behind it. Before the first message of all the wait is longer if that one
    /// cannot be opened yet, since `key_awaited`: until [`Self::release`].
    pub(super) fn expire(
        &mut self,
        now: Timestamp,
        patience: Patience,
        key_awaited: impl Fn(&MessageContent) -> bool,
    ) -> Vec<InOrder> {
        if self.gap_until.is_none_or(|until| now < until) {
            return Vec::new();
        }
        if self.is_joining() && self.first_waiting().is_some_and(key_awaited) {
            self.held = true;
            self.gap_until = None;
            return Vec::new();
        }
        self.skip(now, patience)
    }

    /// The first message seen, whose wait was over, need not wait for its key any more: go on with it.
    pub(super) fn release(&mut self, now: Timestamp, patience: Patience) -> Vec<InOrder> {
        if self.is_held() { self.skip(now, patience) } else { Vec::new() }
    }

    /// Nothing but the key of [`Self::first_waiting`] is waited for.
    pub(super) fn is_held(&self) -> bool {
        self.held && self.is_joining()
    }

    pub(super) fn first_waiting(&self) -> Option<&MessageContent> {
        self.waiting.first_key_value().map(|(_, message)| message.content())
    }

    /// The last one before the gap that is waited for, and the last one missing.
    pub(super) fn missing(&self) -> Option<(MessageRef, MessageRef)> {
        let (after, until) = self.last.zip(self.first_waiting()?.previous)?;
        (until > after).then_some((after, until))
    }

    /// Waits for the present gap until then at least.
    pub(super) fn wait_longer(&mut self, until: Timestamp) {
        if !self.is_joining() {
            self.gap_until = self.gap_until.map(|before| before.max(until));
        }
    }

    /// Goes on behind the first gap at once.
    pub(super) fn skip(&mut self, now: Timestamp, patience: Patience) -> Vec<InOrder> {
        let Some((at, message)) = self.waiting.pop_first() else { return Vec::new() };
        self.bytes -= size_of(&message);
        let gap = self.last.zip(message.content().previous);
        self.last = Some(at);
        let mut ready = vec![InOrder { message, gap }];
        ready.extend(self.take_linked());
        self.gap_until = (!self.waiting.is_empty()).then(|| now.plus(patience.gap));
        ready
    }

    /// Nothing of this chain was delivered yet.
    pub(super) fn is_joining(&self) -> bool {
        self.last.is_none()
    }

    /// Messages that wait, and their bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.waiting.len(), self.bytes)
    }

    pub(super) fn gap_until(&self) -> Option<Timestamp> {
        self.gap_until
    }

    fn take_linked(&mut self) -> Vec<InOrder> {
        let mut ready = Vec::new();
        while let Some(first) = self.waiting.first_entry() {
            if !follows(self.last, first.get().content().previous) {
                break;
            }
            let (at, message) = first.remove_entry();
            self.last = Some(at);
            self.bytes -= size_of(&message);
            ready.push(InOrder { message, gap: None });
        }
        ready
    }
}

/// The first of a chain names nothing before it. Any other must name nothing later than the last one seen.
fn follows(last: Option<MessageRef>, previous: Option<MessageRef>) -> bool {
    match (last, previous) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(last), Some(previous)) => previous <= last,
    }
}

/// What holding a message costs, bytes.
pub(crate) fn size_of(message: &Verified<MessageContent>) -> usize {
    /// Of the decoded header beside the envelope, about.
    const DECODED: usize = 256;
    message.envelope().len() + DECODED
}
