//! One stretch of a partition read from several storage nodes at once, their messages joined in order: what one of them has
//! is there, whatever the others leave out.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::calls::{CallId, Calls, Offer, Wanted};
use super::wanted::ALWAYS;
use super::{ReplayLimits, Step};
use crate::identity::UserId;
use crate::storage::Place;
use crate::stream::StreamPart;
use crate::subscriber::StorageFault;
use crate::subscriber::history::Hole;
use crate::time::Timestamp;
use crate::wire::{MessageContent, MessageRef, Span, Verified};

/// A storage node, by its number and name.
pub(super) type Node = (usize, UserId);

/// A stretch being read.
#[derive(Debug)]
pub(super) struct Merge {
    part: StreamPart,
    wanted: Wanted,
    lanes: Vec<Lane>,
    /// What is known without asking.
    spare: BTreeMap<Place, Verified<MessageContent>>,
    /// When the slower ones are not waited for any more.
    until: Option<Timestamp>,
    /// The last n are still to be counted.
    counting: bool,
    slower_by: Duration,
    lag: Duration,
    empty_pages: u32,
    /// Nodes that are read to the end where each has counted for itself and much is wanted.
    copies: usize,
    pages: u32,
}

/// What one node gives of it.
#[derive(Debug)]
struct Lane {
    node: Node,
    state: State,
    /// The page behind the one in hand, asked for already.
    ahead: Option<CallId>,
    /// The first message it gave.
    first: Option<Place>,
    empty: u32,
    /// When its last page was asked for, by the wall clock.
    asked: Timestamp,
    blamed: bool,
}

#[derive(Debug)]
enum State {
    Waiting(CallId),
    /// In order; up to which place it speaks, or to the end.
    Page(VecDeque<Verified<MessageContent>>, Option<Place>),
    Ended,
    Failed,
    /// It is asked again when the others have no more.
    Spared,
}

/// A node that has no more.
#[derive(Clone, Copy, Debug)]
pub(super) struct AtEnd {
    pub(super) node: Node,
    first: Option<Place>,
    asked: Timestamp,
    pub(super) blamed: bool,
}

/// What came of looking.
#[derive(Debug)]
pub(super) enum Merged {
    Pending,
    /// In order. Nodes that left some of it out, and whose it was.
    Messages(Vec<Verified<MessageContent>>, Vec<(Node, UserId)>),
    Over,
}

impl AtEnd {
    /// Whether it should have had a message that another has: it gave earlier ones, and had the time to store it.
    pub(super) fn left_out(&self, content: &MessageContent, lag: Duration) -> bool {
        self.first.is_some_and(|first| first < Place::from(content)) && content.at.timestamp < self.asked.minus(lag)
    }
}

impl Merge {
    pub(super) fn begin(
        step: &mut Step<'_>,
        calls: &mut Calls,
        limits: &ReplayLimits,
        nodes: &[Node],
        part: &StreamPart,
        wanted: Wanted,
        copies: usize,
    ) -> Self {
        let lane = |node: &Node| Lane {
            node: *node,
            state: State::Waiting(calls.ask(step, *node, part, wanted)),
            ahead: None,
            first: None,
            empty: 0,
            asked: step.now.clock,
            blamed: false,
        };
        Self {
            lanes: nodes.iter().map(lane).collect(),
            part: part.clone(),
            counting: matches!(wanted.0, Span::Last(_)),
            wanted,
            spare: BTreeMap::new(),
            until: None,
            slower_by: limits.slower_by,
            lag: limits.lag,
            copies,
            empty_pages: limits.empty_pages,
            pages: 0,
        }
    }

    /// Messages that are here already belong to it as well.
    pub(super) fn with(mut self, spare: impl Iterator<Item = Verified<MessageContent>>) -> Self {
        self.spare = spare.map(|message| (Place::from(message.content()), message)).collect();
        self
    }

    pub(super) fn pages(&self) -> u32 {
        self.pages
    }

    /// Whether what is missing there was asked for.
    pub(super) fn reaches_back_to(&self, hole: &Hole) -> bool {
        let (publisher, chain) = hole.chain;
        let from = hole.after.map(|at| Place { at, publisher, chain });
        self.wanted.1.is_none_or(|began| from.is_some_and(|from| from >= began))
    }

    /// Who takes part and has not failed.
    pub(super) fn nodes(&self) -> impl Iterator<Item = Node> + '_ {
        self.lanes.iter().filter(|lane| !matches!(lane.state, State::Failed | State::Spared)).map(|lane| lane.node)
    }

    /// Who has no more.
    pub(super) fn ended(&self) -> impl Iterator<Item = AtEnd> + '_ {
        self.lanes.iter().filter(|lane| matches!(lane.state, State::Ended)).map(|lane| AtEnd {
            node: lane.node,
            first: lane.first,
            asked: lane.asked,
            blamed: lane.blamed,
        })
    }

    /// Messages in hand.
    pub(super) fn held(&self) -> usize {
        let of_lane = |lane: &Lane| match &lane.state {
            State::Page(messages, _) => messages.len(),
            _ => 0,
        };
        self.spare.len() + self.lanes.iter().map(of_lane).sum::<usize>()
    }

    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        self.until
    }

    /// Nobody waits for it any more.
    pub(super) fn forget(self, calls: &mut Calls) {
        for lane in self.lanes {
            lane.calls().for_each(|call| calls.forget(call));
        }
    }

    /// What can be handed on now. Nodes that did something wrong are left, and told.
    pub(super) fn look(
        &mut self,
        step: &mut Step<'_>,
        calls: &mut Calls,
        faults: &mut Vec<(Node, StorageFault)>,
    ) -> Merged {
        let part = self.part.clone();
        for lane in &mut self.lanes {
            let fault = lane.collect(calls, self.empty_pages).err();
            faults.extend(fault.map(|fault| (lane.node, fault)));
        }
        self.ask_ahead(step, calls, &part);
        if !self.is_complete(step.now.steady) {
            return Merged::Pending;
        }
        self.until = None;
        for lane in self.lanes.iter_mut().filter(|lane| matches!(lane.state, State::Waiting(_))) {
            faults.push((lane.node, lane.fail(calls, StorageFault::Unreachable)));
        }
        if std::mem::take(&mut self.counting) {
            self.count_from_the_end(calls);
        }
        if self.lanes.iter().all(|lane| lane.is_over()) && self.spare.is_empty() {
            return Merged::Over;
        }
        self.pages += 1;
        let (messages, blamed) = self.join();
        self.turn_pages(step, calls, &part);
        Merged::Messages(messages, blamed)
    }

    /// Whether everybody who is waited for has said something.
    fn is_complete(&mut self, now: Timestamp) -> bool {
        let waiting = self.lanes.iter().any(|lane| matches!(lane.state, State::Waiting(_)));
        if !waiting {
            return true;
        }
        if !self.lanes.iter().any(|lane| matches!(lane.state, State::Page(..))) {
            return false;
        }
        let until = *self.until.get_or_insert(now.plus(self.slower_by));
        until <= now
    }

    /// All that is in hand up to where each of them has spoken, and who should have had what he did not give.
    fn join(&mut self) -> (Vec<Verified<MessageContent>>, Vec<(Node, UserId)>) {
        let limit = self.lanes.iter().filter_map(Lane::speaks_to).min();
        let mut joined = match limit {
            Some(limit) => {
                let behind = self.spare.split_off(&limit);
                std::mem::replace(&mut self.spare, behind)
            }
            None => std::mem::take(&mut self.spare),
        };
        if let Some((place, message)) = limit.and_then(|limit| self.spare.remove_entry(&limit)) {
            joined.insert(place, message);
        }
        let mut given: Vec<(Place, usize)> = Vec::new();
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            for (place, message) in lane.take_to(limit) {
                joined.entry(place).or_insert(message);
                given.push((place, number));
            }
        }
        let blamed = self.missing_of(&joined, &given);
        (joined.into_values().collect(), blamed)
    }

    fn missing_of(
        &mut self,
        joined: &BTreeMap<Place, Verified<MessageContent>>,
        given: &[(Place, usize)],
    ) -> Vec<(Node, UserId)> {
        if self.lanes.len() < 2 {
            return Vec::new();
        }
        let mut blamed = Vec::new();
        let given: std::collections::BTreeSet<&(Place, usize)> = given.iter().collect();
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            if lane.blamed || matches!(lane.state, State::Failed | State::Spared | State::Waiting(_)) {
                continue;
            }
            let lacks = |place: &&Place| {
                lane.first.is_some_and(|first| first < **place)
                    && place.at.timestamp < lane.asked.minus(self.lag)
                    && !given.contains(&(**place, number))
            };
            if let Some(place) = joined.keys().find(lacks) {
                lane.blamed = true;
                blamed.push((lane.node, place.publisher));
            }
        }
        blamed
    }

    /// Whoever's page is used up is asked for the next one, or has no more.
    fn turn_pages(&mut self, step: &mut Step<'_>, calls: &mut Calls, part: &StreamPart) {
        for lane in &mut self.lanes {
            let State::Page(messages, next) = &lane.state else { continue };
            if !messages.is_empty() {
                continue;
            }
            lane.state = match (*next, lane.ahead.take()) {
                (None, _) => State::Ended,
                (Some(_), Some(ahead)) => State::Waiting(ahead),
                (Some(next), None) => {
                    lane.asked = step.now.clock;
                    State::Waiting(calls.ask(step, lane.node, part, behind(&self.wanted, next)))
                }
            };
        }
    }

    /// The page behind the one that is being checked is asked for by the node's word alone.
    fn ask_ahead(&mut self, step: &mut Step<'_>, calls: &mut Calls, part: &StreamPart) {
        for lane in self.lanes.iter_mut().filter(|lane| lane.ahead.is_none()) {
            let next = match lane.state {
                State::Waiting(call) => calls.leads_on(call),
                _ => None,
            };
            lane.ahead = next.map(|next| calls.ask(step, lane.node, part, behind(&self.wanted, next)));
        }
    }

    /// Each has counted the last n by what it has itself. Of all together they begin later, or with the one that has most.
    fn count_from_the_end(&mut self, calls: &mut Calls) {
        let Span::Last(n) = self.wanted.0 else { return };
        let n = usize::try_from(n).unwrap_or(usize::MAX);
        let pages = self.lanes.iter().filter_map(|lane| match &lane.state {
            State::Page(messages, next) => Some((messages.front().map(|m| Place::from(m.content()))?, messages, next)),
            _ => None,
        });
        let (mut full, mut least, mut all_ended) = (None, None, true);
        let mut places = std::collections::BTreeSet::new();
        for (first, messages, next) in pages {
            all_ended &= next.is_none();
            places.extend(messages.iter().map(|message| Place::from(message.content())));
            least = Some(least.map_or(first, |least: Place| least.min(first)));
            if messages.len() >= n {
                full = full.max(Some(first));
            }
        }
        // Where more pages are to come, nobody knows yet how many there are.
        let begin = if all_ended { places.iter().rev().nth(n.saturating_sub(1)).copied() } else { full.or(least) };
        let Some(begin) = begin else { return };
        for lane in &mut self.lanes {
            if let State::Page(messages, _) = &mut lane.state {
                while messages.front().is_some_and(|message| Place::from(message.content()) < begin) {
                    messages.pop_front();
                }
            }
        }
        if !all_ended {
            self.spare_some(begin, calls);
        }
    }

    /// Much is to come: not all of it from everybody.
    fn spare_some(&mut self, begin: Place, calls: &mut Calls) {
        // Those that begin early enough come first.
        let mut order: Vec<usize> = (0..self.lanes.len()).collect();
        order.sort_by_key(|number| self.lanes[*number].first.is_none_or(|first| first > begin));
        let reading = |number: &usize| matches!(self.lanes[*number].state, State::Page(..));
        let spared: Vec<usize> = order.into_iter().filter(reading).skip(self.copies).collect();
        for (_, lane) in self.lanes.iter_mut().enumerate().filter(|(number, _)| spared.contains(number)) {
            lane.calls().for_each(|call| calls.forget(call));
            lane.ahead = None;
            lane.state = State::Spared;
        }
    }
}

/// The same, behind a place: there is no counting from the end any more.
fn behind((span, _, filter): &Wanted, next: Place) -> Wanted {
    let span = match *span {
        Span::Last(_) => Span::Range { from: Timestamp::ZERO, to: ALWAYS },
        span => span,
    };
    (span, Some(next), *filter)
}

impl Lane {
    fn calls(&self) -> impl Iterator<Item = CallId> + use<> {
        let waiting = match self.state {
            State::Waiting(call) => Some(call),
            _ => None,
        };
        waiting.into_iter().chain(self.ahead)
    }

    /// Takes its page in hand, if it has come.
    fn collect(&mut self, calls: &mut Calls, empty_pages: u32) -> Result<(), StorageFault> {
        let State::Waiting(call) = self.state else { return Ok(()) };
        if !calls.is_done(call) {
            return Ok(());
        }
        let Offer { messages, next, asked } = calls.take(call).map_err(|fault| self.fail(calls, fault))?;
        self.empty = if messages.is_empty() { self.empty + 1 } else { 0 };
        if self.empty > empty_pages {
            return Err(self.fail(calls, StorageFault::Lied("pages without end, and nothing on them")));
        }
        self.asked = asked;
        self.first = self.first.or(messages.first().map(|message| Place::from(message.content())));
        self.state = State::Page(messages.into(), next);
        Ok(())
    }

    fn fail(&mut self, calls: &mut Calls, fault: StorageFault) -> StorageFault {
        self.calls().for_each(|call| calls.forget(call));
        self.ahead = None;
        self.state = State::Failed;
        fault
    }

    fn is_over(&self) -> bool {
        matches!(self.state, State::Ended | State::Failed | State::Spared)
    }

    /// Up to where it has spoken; `None`: to the end, or not at all.
    fn speaks_to(&self) -> Option<Place> {
        match &self.state {
            State::Page(_, next) => *next,
            _ => None,
        }
    }

    fn take_to(&mut self, limit: Option<Place>) -> Vec<(Place, Verified<MessageContent>)> {
        let State::Page(messages, _) = &mut self.state else { return Vec::new() };
        let mut taken = Vec::new();
        while let Some(message) = messages.pop_front() {
            let place = Place::from(message.content());
            if limit.is_some_and(|limit| place > limit) {
                messages.push_front(message);
                break;
            }
            taken.push((place, message));
        }
        taken
    }
}

/// Those of a chain up to a message.
pub(super) fn up_to(until: MessageRef, messages: &mut Vec<Verified<MessageContent>>) {
    messages.retain(|message| message.content().at <= until);
}
