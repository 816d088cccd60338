//! What comes live behind the history, and what is missing of it.

use std::collections::BTreeMap;

use super::merge::{Merge, Merged, Node, up_to};
use super::{Known, ReplayEffect, ReplayLimits, Replayer, Standing, Step};
use crate::subscriber::StorageFault;
use crate::subscriber::history::Hole;
use crate::subscriber::order::size_of;
use crate::time::Timestamp;
use crate::wire::{MessageContent, MessageRef, Verified};

/// Gaps that storage nodes are asked about.
#[derive(Debug, Default)]
pub(super) struct Live {
    fills: Vec<Fill>,
}

#[derive(Debug)]
struct Fill {
    course: usize,
    hole: Hole,
    tries_left: u32,
    /// When it is tried next; nothing where it is being tried.
    at: Timestamp,
    merge: Option<Merge>,
    found: bool,
    /// Whether storage nodes were looked for again on its account.
    looked: bool,
    /// Of a chain that nobody met, the messages that came: handed on behind what is missing.
    behind: Behind,
    bytes: usize,
}

type Behind = BTreeMap<MessageRef, Verified<MessageContent>>;

impl Live {
    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        let due = |fill: &Fill| fill.merge.as_ref().map_or(Some(fill.at), Merge::next_wake);
        self.fills.iter().filter_map(due).min()
    }

    /// There are other nodes to ask: whoever waits to be tried is tried at once.
    pub(super) fn try_now(&mut self, now: Timestamp) {
        self.fills.iter_mut().filter(|fill| fill.looked).for_each(|fill| fill.at = fill.at.min(now));
    }

    pub(super) fn is_at_rest(&self) -> bool {
        self.fills.is_empty()
    }

    fn has_room(&self, limits: &ReplayLimits) -> bool {
        let bytes: usize = self.fills.iter().map(|fill| fill.bytes).sum();
        self.held() < limits.held_back && bytes < limits.held_back_bytes
    }

    pub(super) fn held(&self) -> usize {
        let merged = |fill: &Fill| fill.merge.as_ref().map_or(0, Merge::held);
        self.fills.iter().map(|fill| fill.behind.len() + merged(fill)).sum()
    }
}

impl Replayer {
    /// Hands on those that are live. An old recording played again is none, unless it goes on with a chain that was met.
    pub(super) fn pass(&mut self, step: &mut Step<'_>, messages: Vec<Verified<MessageContent>>) {
        let oldest = step.now.clock.minus(self.limits.live_window);
        let mut passed = Vec::with_capacity(messages.len());
        for message in messages {
            let content = message.content();
            let Some(number) = self.courses.iter().position(|course| *course.history.part() == content.part) else {
                continue;
            };
            if content.at.timestamp < oldest && !self.courses[number].history.knows(content) {
                continue;
            }
            self.pass_one(step, number, message, &mut passed);
        }
        if !passed.is_empty() {
            step.effects.push(ReplayEffect::Feed(passed));
        }
    }

    fn pass_one(
        &mut self,
        step: &mut Step<'_>,
        course: usize,
        message: Verified<MessageContent>,
        passed: &mut Vec<Verified<MessageContent>>,
    ) {
        let content = message.content();
        let chain = (content.publisher, content.chain);
        let room = self.live.has_room(&self.limits);
        let same = |fill: &Fill| fill.course == course && fill.hole.chain == chain && !fill.behind.is_empty();
        if let Some(number) = self.live.fills.iter().position(same) {
            if room {
                self.courses[course].history.note(content);
                self.live.fills[number].hold(message);
                return;
            }
            // Too much waits: it goes on without what is missing.
            let fill = self.live.fills.swap_remove(number);
            fill.merge.into_iter().for_each(|merge| merge.forget(&mut self.calls));
            self.tell_missing(step, course, &fill.hole, &fill.behind, fill.hole.until);
            passed.extend(fill.behind.into_values());
        }
        let Some(hole) = self.courses[course].history.live(content) else { return passed.push(message) };
        // The subscription waits for what is missing in a chain that it knows; the beginning of another it would not miss.
        let waits = hole.after.is_none();
        let mut tries_left = self.limits.fill_tries;
        if self.live.fills.len() >= self.limits.fills || (waits && !room) {
            tries_left = 0;
        }
        // Where nobody is known, nothing is held back for somebody to be found.
        let looked = tries_left > 0 && self.fillers().is_empty();
        if tries_left == 0 || (looked && (!self.look_again(step) || waits)) {
            self.tell_beginning(step, course, &hole, Some(hole.until));
            return passed.push(message);
        }
        // It may only have come by a longer way; and a storage node has to store it first.
        let wait = if looked { self.limits.fill_again } else { self.limits.fill_after };
        let at = step.now.steady.plus(wait);
        let (merge, found, behind, bytes) = (None, false, Behind::new(), 0);
        let mut fill = Fill { course, hole, tries_left, at, merge, found, looked, behind, bytes };
        if waits {
            fill.hold(message);
        } else {
            passed.push(message);
        }
        self.live.fills.push(fill);
    }

    /// Whoever may have what is missing, also nodes that could not be reached before.
    fn fillers(&self) -> Vec<Node> {
        let known = self.nodes.iter().filter(|known| known.standing != Standing::Left);
        known.map(Known::node).take(self.limits.nodes).collect()
    }

    pub(super) fn fill_gaps(&mut self, step: &mut Step<'_>) {
        for mut fill in std::mem::take(&mut self.live.fills) {
            if !self.try_to_fill(step, &mut fill) {
                self.live.fills.push(fill);
                continue;
            }
            if !fill.found {
                self.tell_missing(step, fill.course, &fill.hole, &fill.behind, fill.hole.until);
            }
            if !fill.behind.is_empty() {
                step.effects.push(ReplayEffect::Feed(fill.behind.into_values().collect()));
            }
        }
    }

    /// Up to what is there: some of it may have come live meanwhile.
    fn tell_missing(&self, step: &mut Step<'_>, course: usize, hole: &Hole, behind: &Behind, until: MessageRef) {
        let first = behind.values().next().map(Verified::content);
        let until = first.filter(|first| first.at <= until).map_or(Some(until), |first| first.previous);
        self.tell_beginning(step, course, hole, until);
    }

    /// Whether it is filled, or given up.
    fn try_to_fill(&mut self, step: &mut Step<'_>, fill: &mut Fill) -> bool {
        if fill.merge.is_none() && fill.at <= step.now.steady {
            let history = &self.courses[fill.course].history;
            let (part, wanted) = (history.part().clone(), history.wanted_for(&fill.hole));
            let (nodes, early) = (self.fillers(), fill.take_early());
            fill.tries_left = fill.tries_left.saturating_sub(1);
            fill.merge = Some(self.merge(step, &nodes, &part, wanted).with(early.into_iter()));
        }
        while let Some(mut merge) = fill.merge.take() {
            let mut faults = Vec::new();
            let merged = merge.look(step, &mut self.calls, &mut faults);
            // Who cannot be reached now may be there the next time.
            faults.retain(|(_, fault)| !matches!(fault, StorageFault::Unreachable | StorageFault::Silent));
            self.leave(step, faults);
            match merged {
                Merged::Pending => {
                    fill.merge = Some(merge);
                    return false;
                }
                Merged::Messages(messages, _) if merge.pages() <= self.limits.hole_pages => {
                    self.found_live(step, fill, messages);
                    fill.merge = Some(merge);
                }
                Merged::Messages(..) => merge.forget(&mut self.calls),
                Merged::Over => {}
            }
            if fill.merge.is_none() {
                fill.at = step.now.steady.plus(self.limits.fill_again);
                if !fill.found && fill.tries_left == 0 && !fill.looked && self.look_again(step) {
                    // Those that are known may be gone, and others there.
                    (fill.looked, fill.tries_left) = (true, 1);
                }
                return fill.found || fill.tries_left == 0;
            }
        }
        false
    }

    fn found_live(&mut self, step: &mut Step<'_>, fill: &mut Fill, mut messages: Vec<Verified<MessageContent>>) {
        up_to(fill.hole.until, &mut messages);
        if let Some(first) = messages.first() {
            if let (false, Some(until)) = (fill.found, first.content().previous) {
                self.tell_missing(step, fill.course, &fill.hole, &fill.behind, until);
            }
            fill.found = true;
            step.effects.push(ReplayEffect::Feed(messages));
        }
    }
}

impl Fill {
    fn hold(&mut self, message: Verified<MessageContent>) {
        self.bytes += size_of(&message);
        if let Some(twice) = self.behind.insert(message.content().at, message) {
            self.bytes -= size_of(&twice);
        }
    }

    /// What came live late, and belongs among what is missing.
    fn take_early(&mut self) -> Vec<Verified<MessageContent>> {
        let mut early = std::mem::take(&mut self.behind);
        self.behind = early.extract_if(.., |at, _| *at > self.hole.until).collect();
        self.bytes = self.behind.values().map(size_of).sum();
        early.into_values().collect()
    }
}
