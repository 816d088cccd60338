//! What is missing between stored messages: everybody else is asked for it before what is behind is handed on.

use std::collections::VecDeque;
use std::time::Duration;

use super::merge::{Merge, Merged, Node, up_to};
use super::{Known, Phase, Progress, ReplayEffect, Replayer, Standing, Step, withheld};
use crate::storage::Place;
use crate::subscriber::Event;
use crate::subscriber::history::Hole;
use crate::time::Timestamp;
use crate::wire::{MessageContent, MessageRef, Span, Verified};

/// Messages with holes between them, which others fill.
#[derive(Debug)]
pub(super) struct Filling {
    /// Where they came from, and goes on.
    pub(super) merge: Box<Merge>,
    /// Those not yet handed on, and how many were.
    pub(super) rest: VecDeque<Verified<MessageContent>>,
    pub(super) gone: usize,
    pub(super) holes: VecDeque<Hole>,
    /// The hole being filled, and how many messages were found for it.
    pub(super) open: Option<(Hole, Merge, u64)>,
    /// Those who left something out were told.
    pub(super) told: bool,
}

impl Replayer {
    pub(super) fn fill(&mut self, step: &mut Step<'_>, mut filling: Box<Filling>) -> Progress {
        loop {
            if let Some((hole, mut merge, found)) = filling.open.take() {
                let mut faults = Vec::new();
                let merged = merge.look(step, &mut self.calls, &mut faults);
                self.leave(step, faults);
                match merged {
                    Merged::Pending => {
                        filling.open = Some((hole, merge, found));
                        return Progress::Waits(Phase::Filling(filling));
                    }
                    Merged::Messages(messages, _) if merge.pages() <= self.limits.hole_pages => {
                        let found = found + self.filled(step, &mut filling, &hole, found, messages);
                        filling.open = Some((hole, merge, found));
                        continue;
                    }
                    Merged::Messages(..) => merge.forget(&mut self.calls),
                    Merged::Over => {}
                }
                self.tell_unfilled(step, &hole, found);
            }
            let Some(hole) = filling.holes.pop_front() else { break };
            let before = hole.before.saturating_sub(filling.gone);
            let messages: Vec<_> = filling.rest.drain(..before).collect();
            filling.gone += messages.len();
            self.feed(step, messages);
            let merge = self.ask_others(step, &filling.merge, &hole);
            filling.open = Some((hole, merge, 0));
        }
        let Filling { merge, rest, .. } = *filling;
        self.feed(step, rest.into());
        Progress::Goes(Phase::Reading(merge))
    }

    /// Everybody else is asked for what is missing, and live messages that wait are looked through for it. Whoever is being read
    /// is asked as well, where he was asked for later messages only.
    pub(super) fn ask_others(&mut self, step: &mut Step<'_>, merge: &Merge, hole: &Hole) -> Merge {
        let readers: Vec<Node> = merge.nodes().filter(|_| merge.reaches_back_to(hole)).collect();
        let sound = |known: &&Known| known.standing == Standing::Sound && !readers.contains(&known.node());
        let others: Vec<Node> = self.nodes.iter().filter(sound).map(Known::node).take(self.limits.nodes).collect();
        let (part, wanted) = (self.course().history.part().clone(), self.course().history.wanted_for(hole));
        let history = &self.courses[self.at].history;
        let within = |content: &MessageContent| hole.after.is_some() || history.begins_before(Place::from(content));
        let spare: Vec<_> = self.held.of_hole(&part, hole).filter(|message| within(message.content())).collect();
        self.merge(step, &others, &part, wanted).with(spare.into_iter())
    }

    /// How many messages of the hole were found.
    pub(super) fn filled(
        &mut self,
        step: &mut Step<'_>,
        filling: &mut Filling,
        hole: &Hole,
        found: u64,
        mut messages: Vec<Verified<MessageContent>>,
    ) -> u64 {
        up_to(hole.until, &mut messages);
        let Some(first) = messages.first() else { return 0 };
        if found == 0 {
            self.tell_beginning(step, self.at, hole, first.content().previous);
        }
        // A chain that is cut off at its beginning may be older than the node keeps anything.
        let old = first.content().at.timestamp < step.now.clock.minus(self.limits.lag);
        if !filling.told && hole.after.is_some() && filling.merge.reaches_back_to(hole) && old {
            filling.told = true;
            let publisher = first.content().publisher;
            step.effects.extend(filling.merge.nodes().map(|(_, node)| withheld(node, publisher)));
        }
        let count = messages.len() as u64;
        messages.iter().for_each(|message| self.course().history.note(message.content()));
        self.feed(step, messages);
        count
    }

    /// Where nobody has the beginning of a chain, the subscription cannot know that it is missing.
    pub(super) fn tell_unfilled(&mut self, step: &mut Step<'_>, hole: &Hole, found: u64) {
        if found == 0 {
            self.tell_beginning(step, self.at, hole, Some(hole.until));
        }
    }

    pub(super) fn tell_beginning(&self, step: &mut Step<'_>, course: usize, hole: &Hole, until: Option<MessageRef>) {
        let (Some(until), None) = (until, hole.after) else { return };
        let history = &self.courses[course].history;
        let (publisher, chain) = hole.chain;
        if history.begins_before(Place { at: until, publisher, chain }) {
            let (span, after, _) = history.wanted_for(hole);
            let from = match span {
                Span::Range { from, .. } => from,
                Span::Last(_) => Timestamp::ZERO,
            };
            let after = match after {
                Some(place) if Place { at: place.at, publisher, chain } <= place => place.at,
                // A message of this chain at the same moment is missing as well.
                Some(place) => before(place.at),
                None => before(MessageRef { timestamp: from, sequence: 0 }),
            };
            let part = history.part().clone();
            step.effects.push(ReplayEffect::Tell(Event::Gap { part, publisher, after, until }));
        }
    }
}

/// The last place in a chain before this one.
fn before(at: MessageRef) -> MessageRef {
    match at.sequence.checked_sub(1) {
        Some(sequence) => MessageRef { sequence, ..at },
        None => MessageRef { timestamp: at.timestamp.minus(Duration::from_millis(1)), sequence: u32::MAX },
    }
}
