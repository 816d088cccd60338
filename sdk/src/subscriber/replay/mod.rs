//! Reading a stream's past from storage nodes that nobody trusts, and what comes live behind it, as a pure state machine.
//!
//! ```text
//!              page after page ┌──────┐ something is missing between them
//! a partition ────────────────▶│ Read │◀─────────────────────────────────▶ Fill: the others are asked for it
//!        ▲                     └──────┘
//!        │ there is one more       │ the node has no more, or failed: the others are asked whether that is all
//!        └─────────────────────────┤ all are of one mind
//!                                  ▼
//!                    Meet ──▶ every partition once more ──▶ Live        (or the end, for history alone)
//! ```
//! A node that lies is left, and so is one that is lost; whoever is asked next goes on behind the last message that was read.
//! What comes live meanwhile is held back, bounded, and handed over behind the history; where it was too much, storage is
//! read once more instead. What is missing among live messages later on is asked for as well; where nobody had it, storage nodes
//! are looked for again.
//!
//! [`Replayer`] is told what happens and by which two clocks; what it wants done is a [`ReplayEffect`].

mod calls;
mod filling;
mod held;
mod live;
mod merge;
mod wanted;

use bytes::Bytes;
use rand_core::Rng;

pub use wanted::{Replay, ReplayLimits};

use self::calls::Calls;
use self::filling::Filling;
use self::held::Held;
use self::live::Live;
use self::merge::{AtEnd, Merge, Merged, Node};
use super::history::History;
use super::{Event, StorageFault};
use crate::identity::UserId;
use crate::stream::StreamPart;
use crate::time::Timestamp;
use crate::wire::{MessageContent, RequestId, ResendPage, ResendRequest, Span, Verified};

/// A moment, by two clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// By one that never goes back; which moment it began at does not matter. What is waited for is measured by it.
    pub steady: Timestamp,
    /// By the wall clock, as messages are dated.
    pub clock: Timestamp,
}

/// What a [`Replayer`] wants done.
#[derive(Debug)]
pub enum ReplayEffect {
    /// Send this to a node, with what proves the grant; [`Replayer::page`] takes the answer.
    Ask {
        /// Its number among all that were found, in the order in which they were told of.
        node: usize,
        /// The request, without proofs.
        request: ResendRequest,
    },
    /// Check these messages of an answer; [`Replayer::checked`] takes them.
    Check {
        /// The request that was answered.
        id: RequestId,
        /// Their envelopes.
        messages: Vec<Bytes>,
    },
    /// Hand these on, in this order.
    Feed(Vec<Verified<MessageContent>>),
    /// Tell the application, where it stands among the messages.
    Tell(Event),
    /// Wait until neighbours send what is published from now on; [`Replayer::met`] takes the word.
    Meet,
    /// Look for storage nodes again; [`Replayer::found`] takes them.
    Look,
    /// Nothing comes any more.
    End,
}

/// One step: when it is, and what comes of it.
pub(crate) struct Step<'a> {
    now: Moment,
    rng: &'a mut dyn Rng,
    effects: Vec<ReplayEffect>,
}

/// Reads the past of some partitions of one stream, and goes on live or ends.
#[derive(Debug)]
pub struct Replayer {
    replay: Replay,
    limits: ReplayLimits,
    goes_live: bool,
    nodes: Vec<Known>,
    /// How many were found so far, those of earlier looks included.
    numbered: usize,
    /// When they were looked for the last time.
    looked: Option<Timestamp>,
    calls: Calls,
    courses: Vec<Course>,
    /// The partition being read, and for which time.
    at: usize,
    round: usize,
    phase: Phase,
    held: Held,
    live: Live,
    complete: bool,
}

/// A storage node.
#[derive(Debug)]
struct Known {
    number: usize,
    name: UserId,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Sound,
    /// Not reached: not asked again for history.
    Lost,
    /// It lied, or refuses: not asked again.
    Left,
}

/// How far a partition was read.
#[derive(Debug)]
struct Course {
    history: History,
    /// Messages handed on.
    fed: u64,
    /// Nodes that have no more, in this round.
    ended: Vec<AtEnd>,
}

#[derive(Debug, Default)]
enum Phase {
    /// Storage nodes are being looked for.
    #[default]
    Looking,
    Reading(Box<Merge>),
    /// Something is missing among these messages.
    Filling(Box<Filling>),
    /// Neighbours are waited for.
    Meeting,
    Live,
    Ended,
}

/// Whether something else may follow at once.
enum Progress {
    Waits(Phase),
    Goes(Phase),
}

impl Replayer {
    /// For `requester`. It begins when storage nodes are [found](Self::found).
    pub fn new(
        replay: Replay,
        parts: Vec<StreamPart>,
        requester: UserId,
        goes_live: bool,
        limits: ReplayLimits,
    ) -> Self {
        let course = |part| Course {
            history: History::new(part, replay.span, replay.filter).behind(replay.after),
            fed: 0,
            ended: Vec::new(),
        };
        Self {
            replay,
            limits,
            goes_live,
            nodes: Vec::new(),
            numbered: 0,
            looked: None,
            calls: Calls::new(requester, limits),
            courses: parts.into_iter().map(course).collect(),
            at: 0,
            round: 0,
            phase: Phase::Looking,
            held: Held::default(),
            live: Live::default(),
            complete: true,
        }
    }

    /// The stream's storage nodes, in the order in which they are to be asked.
    pub fn found(&mut self, now: Moment, nodes: Vec<UserId>, rng: &mut dyn Rng) -> Vec<ReplayEffect> {
        self.step(now, rng, |this, step| {
            this.looked = Some(step.now.steady);
            match this.phase {
                Phase::Looking => {
                    this.know(nodes);
                    this.phase = this.begin_part(step);
                }
                // Those of before are asked no more, unless they were found again.
                Phase::Live if !nodes.is_empty() => {
                    this.know(nodes);
                    this.live.try_now(step.now.steady);
                }
                _ => this.numbered += nodes.len(),
            }
        })
    }

    fn know(&mut self, nodes: Vec<UserId>) {
        let numbered = self.numbered;
        self.numbered += nodes.len();
        let known = |(n, name)| Known { number: numbered + n, name, standing: Standing::Sound };
        self.nodes = nodes.into_iter().enumerate().map(known).collect();
    }

    /// Whether storage nodes are being looked for now. They are no more often than [`ReplayLimits::look_again`].
    fn look_again(&mut self, step: &mut Step<'_>) -> bool {
        let due = self.looked.is_none_or(|at| step.now.steady >= at.plus(self.limits.look_again));
        if due {
            self.looked = Some(step.now.steady);
            step.effects.push(ReplayEffect::Look);
        }
        due
    }

    /// The answer to a request, signed by the node that was asked; or why there is none.
    pub fn page(
        &mut self,
        now: Moment,
        id: RequestId,
        answer: Result<ResendPage, StorageFault>,
        rng: &mut dyn Rng,
    ) -> Vec<ReplayEffect> {
        self.step(now, rng, |this, step| this.calls.page(step, id, answer))
    }

    /// The messages of an answer, whose signatures were checked; `None` where not every one is signed by its author.
    pub fn checked(
        &mut self,
        now: Moment,
        id: RequestId,
        messages: Option<Vec<Verified<MessageContent>>>,
        rng: &mut dyn Rng,
    ) -> Vec<ReplayEffect> {
        self.step(now, rng, |this, _| this.calls.checked(id, messages))
    }

    /// Neighbours are there, or were waited for long enough.
    pub fn met(&mut self, now: Moment, rng: &mut dyn Rng) -> Vec<ReplayEffect> {
        self.step(now, rng, |this, step| {
            if matches!(this.phase, Phase::Meeting) {
                this.phase = this.begin_part(step);
            }
        })
    }

    /// Messages that came live, whose signatures were checked.
    pub fn live(
        &mut self,
        now: Moment,
        messages: Vec<Verified<MessageContent>>,
        rng: &mut dyn Rng,
    ) -> Vec<ReplayEffect> {
        self.step(now, rng, |this, step| {
            if matches!(this.phase, Phase::Live) {
                this.pass(step, messages);
            } else if this.goes_live {
                this.held.hold(messages, &this.limits);
            }
        })
    }

    /// What time alone brings about.
    pub fn tick(&mut self, now: Moment, rng: &mut dyn Rng) -> Vec<ReplayEffect> {
        self.step(now, rng, |_, _| {})
    }

    /// When [`Self::tick`] is next worth calling, by the steady clock.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let merge = match &self.phase {
            Phase::Reading(merge) => merge.next_wake(),
            Phase::Filling(filling) => filling.open.as_ref().and_then(|(_, merge, _)| merge.next_wake()),
            _ => None,
        };
        [self.calls.next_wake(), merge, self.live.next_wake()].into_iter().flatten().min()
    }

    /// Whether the history is over and what comes live is handed on.
    pub fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live)
    }

    /// Whether nothing is under way.
    pub fn is_at_rest(&self) -> bool {
        matches!(self.phase, Phase::Live | Phase::Ended) && self.calls.len() == 0 && self.live.is_at_rest()
    }

    /// Messages held, beside those of the answers that are being checked: at most [`ReplayLimits::held_back`] that came live,
    /// as many that wait for earlier ones of their chain, and a page of each node that is asked.
    pub fn held(&self) -> usize {
        let reading = match &self.phase {
            Phase::Reading(merge) => merge.held(),
            Phase::Filling(filling) => {
                filling.rest.len()
                    + filling.merge.held()
                    + filling.open.as_ref().map_or(0, |(_, merge, _)| merge.held())
            }
            _ => 0,
        };
        self.held.messages.len() + self.live.held() + reading
    }

    fn step(
        &mut self,
        now: Moment,
        rng: &mut dyn Rng,
        input: impl FnOnce(&mut Self, &mut Step<'_>),
    ) -> Vec<ReplayEffect> {
        let mut step = Step { now, rng, effects: Vec::new() };
        input(self, &mut step);
        self.calls.tick(&mut step);
        loop {
            let phase = std::mem::take(&mut self.phase);
            match self.go_on(&mut step, phase) {
                Progress::Goes(phase) => self.phase = phase,
                Progress::Waits(phase) => {
                    self.phase = phase;
                    break;
                }
            }
        }
        self.fill_gaps(&mut step);
        step.effects
    }

    fn go_on(&mut self, step: &mut Step<'_>, phase: Phase) -> Progress {
        match phase {
            Phase::Reading(merge) => self.read(step, merge),
            Phase::Filling(filling) => self.fill(step, filling),
            settled => Progress::Waits(settled),
        }
    }

    fn course(&mut self) -> &mut Course {
        &mut self.courses[self.at]
    }

    /// Nodes that can be asked and have not said that they have no more.
    fn candidates(&self) -> Vec<Node> {
        let ended = |number: usize| self.courses[self.at].ended.iter().any(|end| end.node.0 == number);
        let sound = |known: &&Known| known.standing == Standing::Sound && !ended(known.number);
        self.nodes.iter().filter(sound).map(Known::node).take(self.limits.nodes).collect()
    }

    fn begin_part(&mut self, step: &mut Step<'_>) -> Phase {
        if self.at < self.courses.len() {
            self.course().ended.clear();
            return self.ask_next(step);
        }
        self.round_is_over(step)
    }

    /// One node is read first, and all others are asked whether that was all. The last n are counted by each.
    fn ask_next(&mut self, step: &mut Step<'_>) -> Phase {
        let (part, wanted) = (self.course().history.part().clone(), self.course().history.wanted());
        let mut nodes = self.candidates();
        let first = self.round == 0 && self.course().ended.is_empty() && !matches!(wanted.0, Span::Last(_));
        if first {
            nodes.truncate(self.replay.copies);
        }
        if nodes.is_empty() {
            return self.part_is_over(step);
        }
        Phase::Reading(Box::new(self.merge(step, &nodes, &part, wanted)))
    }

    fn merge(&mut self, step: &mut Step<'_>, nodes: &[Node], part: &StreamPart, wanted: calls::Wanted) -> Merge {
        Merge::begin(step, &mut self.calls, &self.limits, nodes, part, wanted, self.replay.copies)
    }

    fn read(&mut self, step: &mut Step<'_>, mut merge: Box<Merge>) -> Progress {
        let mut faults = Vec::new();
        let merged = merge.look(step, &mut self.calls, &mut faults);
        self.leave(step, faults);
        match merged {
            Merged::Pending => Progress::Waits(Phase::Reading(merge)),
            Merged::Messages(messages, blamed) => {
                let mut told = false;
                for ((_, node), publisher) in blamed {
                    told = true;
                    step.effects.push(withheld(node, publisher));
                }
                self.blame_ended(step, &messages);
                let holes = self.course().history.take(&messages).into();
                let filling = Filling { merge, rest: messages.into(), gone: 0, holes, open: None, told };
                Progress::Goes(Phase::Filling(Box::new(filling)))
            }
            Merged::Over => {
                let ended: Vec<AtEnd> = merge.ended().collect();
                self.course().ended.extend(ended);
                Progress::Goes(self.ask_next(step))
            }
        }
    }

    /// A node that said that there is no more left out what another has.
    fn blame_ended(&mut self, step: &mut Step<'_>, messages: &[Verified<MessageContent>]) {
        let lag = self.limits.lag;
        for end in self.course().ended.iter_mut().filter(|end| !end.blamed) {
            let left_out = messages.iter().map(Verified::content).find(|content| end.left_out(content, lag));
            if let Some(content) = left_out {
                end.blamed = true;
                step.effects.push(withheld(end.node.1, content.publisher));
            }
        }
    }

    fn feed(&mut self, step: &mut Step<'_>, messages: Vec<Verified<MessageContent>>) {
        self.course().fed += messages.len() as u64;
        if !messages.is_empty() {
            step.effects.push(ReplayEffect::Feed(messages));
        }
    }

    /// A node that failed is not asked again for history.
    fn leave(&mut self, step: &mut Step<'_>, faults: Vec<(Node, StorageFault)>) {
        for ((number, node), fault) in faults {
            // Or it is of those that were found before.
            if let Some(known) = self.nodes.iter_mut().find(|known| known.number == number) {
                known.standing = match fault {
                    StorageFault::Unreachable | StorageFault::Silent => Standing::Lost,
                    _ => Standing::Left,
                };
            }
            step.effects.push(ReplayEffect::Tell(Event::StorageFault { node, fault }));
        }
    }

    fn part_is_over(&mut self, step: &mut Step<'_>) -> Phase {
        self.complete &= !self.course().ended.is_empty();
        self.at += 1;
        self.begin_part(step)
    }

    fn round_is_over(&mut self, step: &mut Step<'_>) -> Phase {
        (self.at, self.round) = (0, self.round + 1);
        if !self.goes_live {
            self.tell_end(step);
            step.effects.push(ReplayEffect::End);
            return Phase::Ended;
        }
        let courses = &self.courses;
        self.held.retain(|content| courses.iter().all(|course| !course.history.covers(content)));
        if self.round == 1 {
            // It began before it was certain that every live message comes here: read on from where it ended.
            self.held.overflowed = false;
            step.effects.push(ReplayEffect::Meet);
            return Phase::Meeting;
        }
        if std::mem::take(&mut self.held.overflowed) && self.round < self.limits.catch_ups {
            return self.begin_part(step);
        }
        self.tell_end(step);
        let held = std::mem::take(&mut self.held).messages;
        self.pass(step, held.into());
        Phase::Live
    }

    fn tell_end(&self, step: &mut Step<'_>) {
        let messages = self.courses.iter().map(|course| course.fed).sum();
        step.effects.push(ReplayEffect::Tell(Event::HistoryEnd { messages, complete: self.complete }));
    }
}

impl Known {
    fn node(&self) -> Node {
        (self.number, self.name)
    }
}

fn withheld(node: UserId, publisher: UserId) -> ReplayEffect {
    ReplayEffect::Tell(Event::StorageFault { node, fault: StorageFault::Withheld { publisher } })
}

#[cfg(test)]
mod tests;
