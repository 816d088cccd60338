//! The chains a subscription has met: their order, and what of them waits for keys. Keeps count of all it holds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use lru::LruCache;
use veilcast_key_store::KeyId;

use super::limits::{Held, IntakeLimits};
use super::order::{InOrder, Order, Patience, size_of};
use crate::identity::UserId;
use crate::stream::StreamPart;
use crate::time::Timestamp;
use crate::wire::{Encryption, MessageContent, MessageRef, Verified};

/// One run of one publisher on one partition.
pub(super) type ChainName = (UserId, [u8; 16]);

pub(super) fn name_of(content: &MessageContent) -> ChainName {
    (content.publisher, content.chain)
}

/// Messages of a chain that one behind them waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Missing {
    /// In which partition.
    pub part: StreamPart,
    /// Of which publisher and chain.
    pub chain: ChainName,
    /// The last one before them.
    pub after: MessageRef,
    /// The last one missing.
    pub until: MessageRef,
}

#[derive(Debug, Default)]
struct Chain {
    order: Order,
    parked: VecDeque<Verified<MessageContent>>,
}

#[derive(Debug)]
pub(super) struct Chains {
    limits: IntakeLimits,
    /// What comes is sorted already: no message before the first one of a chain is still on its way.
    sorted: bool,
    chains: LruCache<ChainName, Chain>,
    /// Messages that wait for one before them.
    waiting: usize,
    /// Messages that wait for keys.
    parked: usize,
    /// Whose they are.
    parked_by: BTreeMap<UserId, Held>,
    /// Bytes of both.
    bytes: usize,
}

impl Chains {
    pub(super) fn new(limits: IntakeLimits) -> Self {
        Self {
            limits,
            sorted: false,
            chains: LruCache::new(limits.chains),
            waiting: 0,
            parked: 0,
            parked_by: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// Whether what comes from now on is sorted by time, so that a chain is joined without a wait.
    pub(super) fn comes_sorted(&mut self, sorted: bool) {
        self.sorted = sorted;
    }

    pub(super) fn knows(&self, name: &ChainName) -> bool {
        self.chains.contains(name)
    }

    pub(super) fn parked(&self) -> usize {
        self.parked
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What waits for keys of the publishers of whom this is so.
    pub(super) fn parked_if(&self, so: impl Fn(&UserId) -> bool) -> Held {
        let held = self.parked_by.iter().filter(|(publisher, _)| so(publisher)).map(|(_, held)| *held);
        held.fold(Held::default(), |sum, held| sum + held)
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Takes a message in; returns what is in order now, and whether its chain was met just now and waits for earlier ones.
    pub(super) fn insert(&mut self, now: Timestamp, message: Verified<MessageContent>) -> (Vec<InOrder>, bool) {
        let (name, patience) = (name_of(message.content()), self.patience());
        self.chains.get_or_insert_mut(name, Chain::default);
        let mut ready = self.with_order(&name, |order| order.insert(now, message, patience));
        let joining = self.chains.peek(&name).is_some_and(|chain| chain.order.is_joining());
        while self.waiting > self.limits.out_of_order || self.bytes > self.limits.held_bytes {
            let skipped = self.with_order(&name, |order| order.skip(now, patience));
            if skipped.is_empty() {
                break;
            }
            ready.extend(skipped);
        }
        (ready, joining)
    }

    /// What goes on behind gaps that waited long enough. A chain just met waits on while the key of its first message does.
    pub(super) fn expire(
        &mut self,
        now: Timestamp,
        key_awaited: impl Fn(&MessageContent) -> bool,
    ) -> Vec<(ChainName, Vec<InOrder>)> {
        let patience = self.patience();
        let names = self.names(|chain| chain.order.gap_until().is_some_and(|until| until <= now));
        let go_on = |name| (name, self.with_order(&name, |order| order.expire(now, patience, &key_awaited)));
        names.into_iter().map(go_on).collect()
    }

    /// What goes on because the key that alone was waited for came, or never will.
    pub(super) fn release(
        &mut self,
        now: Timestamp,
        key_awaited: impl Fn(&MessageContent) -> bool,
    ) -> Vec<(ChainName, Vec<InOrder>)> {
        // A chain is held while its messages wait: hardly ever, and this is asked for each message.
        if self.waiting == 0 {
            return Vec::new();
        }
        let patience = self.patience();
        let free = |chain: &Chain| chain.order.is_held() && !chain.order.first_waiting().is_some_and(&key_awaited);
        let names = self.names(free);
        names.into_iter().map(|name| (name, self.with_order(&name, |order| order.release(now, patience)))).collect()
    }

    fn names(&self, which: impl Fn(&Chain) -> bool) -> Vec<ChainName> {
        self.chains.iter().filter(|(_, chain)| which(chain)).map(|(name, _)| *name).collect()
    }

    /// When [`Self::expire`] next has something to do.
    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        if self.waiting == 0 {
            return None;
        }
        self.chains.iter().filter_map(|(_, chain)| chain.order.gap_until()).min()
    }

    /// What is waited for just now, as far as one before it was met.
    pub(super) fn missing(&self) -> Vec<Missing> {
        if self.waiting == 0 {
            return Vec::new();
        }
        let missing = |(name, chain): (&ChainName, &Chain)| {
            let ((after, until), first) = (chain.order.missing()?, chain.order.first_waiting()?);
            Some(Missing { part: first.part.clone(), chain: *name, after, until })
        };
        self.chains.iter().filter_map(missing).collect()
    }

    /// Waits so long for gaps from now on, those of the present included.
    pub(super) fn wait_longer(&mut self, now: Timestamp, gap_wait: Duration) {
        self.limits.gap_wait = self.limits.gap_wait.max(gap_wait);
        let until = now.plus(self.limits.gap_wait);
        self.chains.iter_mut().for_each(|(_, chain)| chain.order.wait_longer(until));
    }

    pub(super) fn has_parked(&self, name: &ChainName) -> bool {
        self.chains.peek(name).is_some_and(|chain| !chain.parked.is_empty())
    }

    /// Puts a message behind those that wait for keys. Returns those that were dropped to make room: the oldest of whoever has
    /// the most, of those who are `away` before any other's.
    pub(super) fn park(
        &mut self,
        name: ChainName,
        message: Verified<MessageContent>,
        away: impl Fn(&UserId) -> bool,
    ) -> Vec<Verified<MessageContent>> {
        let Some(chain) = self.chains.peek_mut(&name) else { return Vec::new() };
        let size = size_of(&message);
        chain.parked.push_back(message);
        self.count_parked(name.0, size);
        let mut dropped = Vec::new();
        loop {
            let by_bytes = self.bytes > self.limits.held_bytes;
            if self.parked <= self.limits.parked && !by_bytes {
                break;
            }
            let cost = |held: &Held| if by_bytes { held.bytes } else { held.messages };
            let most = self.parked_by.iter().max_by_key(|(publisher, held)| (away(publisher), cost(held)));
            let oldest = most.and_then(|(publisher, _)| self.parked_of(*publisher).into_iter().next());
            let Some(gone) = oldest.and_then(|(_, oldest)| self.unpark(&oldest)) else { break };
            dropped.push(gone);
        }
        dropped
    }

    /// Takes the first of a chain that waits for a key.
    pub(super) fn unpark(&mut self, name: &ChainName) -> Option<Verified<MessageContent>> {
        let message = self.chains.peek_mut(name)?.parked.pop_front()?;
        self.discount_parked(name.0, Held { messages: 1, bytes: size_of(&message) });
        Some(message)
    }

    /// Puts it back where it was.
    pub(super) fn park_again(&mut self, name: &ChainName, message: Verified<MessageContent>) {
        let Some(chain) = self.chains.peek_mut(name) else { return };
        let size = size_of(&message);
        chain.parked.push_front(message);
        self.count_parked(name.0, size);
    }

    fn count_parked(&mut self, publisher: UserId, bytes: usize) {
        let held = self.parked_by.entry(publisher).or_default();
        *held = *held + Held { messages: 1, bytes };
        self.parked += 1;
        self.bytes += bytes;
    }

    fn discount_parked(&mut self, publisher: UserId, gone: Held) {
        if let Some(held) = self.parked_by.get_mut(&publisher) {
            *held = *held - gone;
            if held.messages == 0 {
                self.parked_by.remove(&publisher);
            }
        }
        self.parked -= gone.messages;
        self.bytes -= gone.bytes;
    }

    /// The chains of a publisher that wait for keys, by the first message of each that does.
    pub(super) fn parked_of(&self, publisher: UserId) -> BTreeSet<(MessageRef, ChainName)> {
        let of_publisher = self.chains.iter().filter(|(name, _)| name.0 == publisher);
        of_publisher.filter_map(|(name, chain)| Some((head_of(chain)?, *name))).collect()
    }

    /// The first of a chain that waits for a key.
    pub(super) fn parked_head(&self, name: &ChainName) -> Option<MessageRef> {
        self.chains.peek(name).and_then(head_of)
    }

    /// Whose messages wait for keys.
    pub(super) fn parked_publishers(&self) -> BTreeSet<UserId> {
        self.parked_by.keys().copied().collect()
    }

    /// Drops what waits for this key, and returns it.
    pub(super) fn drop_under(&mut self, publisher: UserId, key_id: &KeyId) -> Vec<Verified<MessageContent>> {
        let under = |message: &Verified<MessageContent>| matches!(&message.content().encryption, Encryption::GroupKey(id) if id == key_id);
        let mut dropped = Vec::new();
        for (_, chain) in self.chains.iter_mut().filter(|(name, _)| name.0 == publisher) {
            let (gone, stays): (Vec<_>, Vec<_>) = std::mem::take(&mut chain.parked).into_iter().partition(under);
            dropped.extend(gone);
            chain.parked = stays.into();
        }
        self.discount_parked(publisher, Held { messages: dropped.len(), bytes: dropped.iter().map(size_of).sum() });
        dropped
    }

    /// Makes room for a chain that is new: among its own publisher's, or among all. Returns whose messages were dropped.
    pub(super) fn make_room(&mut self, name: &ChainName) -> Option<(UserId, usize)> {
        let oldest = self.in_the_way(name)?;
        let chain = self.chains.pop(&oldest)?;
        let (waiting, bytes) = chain.order.size();
        self.waiting -= waiting;
        self.bytes -= bytes;
        let parked = Held { messages: chain.parked.len(), bytes: chain.parked.iter().map(size_of).sum() };
        self.discount_parked(oldest.0, parked);
        let dropped = waiting + parked.messages;
        (dropped > 0).then_some((oldest.0, dropped))
    }

    fn in_the_way(&self, name: &ChainName) -> Option<ChainName> {
        if self.knows(name) {
            return None;
        }
        let mut own = self.chains.iter().filter(|(other, _)| other.0 == name.0).map(|(other, _)| *other);
        if own.clone().count() >= self.limits.chains_per_publisher {
            // Iteration begins with the most recently used.
            return own.next_back();
        }
        let full = self.chains.len() >= self.limits.chains.get();
        self.chains.peek_lru().filter(|_| full).map(|(other, _)| *other)
    }

    /// Works on a chain's order and keeps count of what it holds.
    fn with_order(&mut self, name: &ChainName, work: impl FnOnce(&mut Order) -> Vec<InOrder>) -> Vec<InOrder> {
        let Some(chain) = self.chains.peek_mut(name) else { return Vec::new() };
        let before = chain.order.size();
        let ready = work(&mut chain.order);
        let after = chain.order.size();
        self.waiting = self.waiting + after.0 - before.0;
        self.bytes = self.bytes + after.1 - before.1;
        ready
    }

    fn patience(&self) -> Patience {
        let join = if self.sorted { Duration::ZERO } else { self.limits.join_wait };
        Patience { join, gap: self.limits.gap_wait }
    }
}

fn head_of(chain: &Chain) -> Option<MessageRef> {
    chain.parked.front().map(|message| message.content().at)
}
