//! The task of a subscription: drives an intake with what comes, and hands its deliveries to the application.
//!
//! `authors`: whose messages may be taken in. `keys`: what is asked for, heard and kept of keys.

mod authors;
mod keys;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;
use tokio::sync::mpsc;
use tokio::time::Instant;
use veilcast_key_store::KeyId;

use super::bounded;
use super::checks::Checks;
use super::config::GapFill;
use super::gaps::{Filled, Gaps};
use super::incoming::{Incoming, Item};
use super::metrics::Parking;
use super::shared::Shared;
use super::stats::count;
use super::subscribing::{Delivery, Feed, KeyNews, Kind, leave};
use crate::exchange::Bucket;
use crate::identity::UserId;
use crate::permission::Permission;
use crate::stream::{StreamId, StreamPart};
use crate::subscriber::{Event, Intake, IntakeEffect, IntakeLimits, Unchecked, Unreadable};
use crate::time::Timestamp;
use crate::wire::{MessageContent, Verified};

/// How long live messages wait for keys of the history before them.
const SEAM: Duration = Duration::from_secs(5);
/// Deliveries waiting for the application beyond which events are counted instead of told.
const MAX_READY: usize = 16_384;
/// Publishers whose carried keys are counted.
const KEPT_OF: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
/// Messages of the past whose keys are asked for ahead of them, and their bytes.
const AHEAD: usize = 2048;
const AHEAD_BYTES: usize = 4 << 20;
/// Keys under way beyond which no more of the past is taken in.
const AWAITED: usize = 2048;

pub(super) struct Reading {
    shared: Arc<Shared>,
    stream: StreamId,
    limits: IntakeLimits,
    /// What came and is yet to be taken in.
    incoming: Incoming,
    intake: Intake,
    ready: VecDeque<Delivery>,
    /// Of the messages among them.
    ready_bytes: usize,
    /// Deliveries that wait before nothing more is taken in.
    room: usize,
    /// Keys to be asked for, all of a publisher's together.
    unasked: BTreeMap<UserId, Vec<KeyId>>,
    ask_again: Instant,
    unchecked: Unchecked,
    checks: Checks,
    gaps: Gaps,
    parking: Parking,
    /// Of the intake's unread messages, those that are counted.
    unread: [u64; Unreadable::ALL.len()],
    reported: HashMap<UserId, Timestamp>,
    kept: LruCache<UserId, Bucket>,
    kind: Kind,
    /// Until the end of its history it waits for room rather than lose anything.
    in_the_past: bool,
    /// Where history ends: told when what came before it is settled, or was waited for long enough.
    seam: Option<(Event, Option<Instant>)>,
    /// Nothing comes any more.
    ending: bool,
}

impl Reading {
    pub(super) fn new(shared: Arc<Shared>, stream: StreamId, limits: IntakeLimits, kind: Kind) -> Self {
        let mut intake = Intake::new(stream.clone(), limits);
        if kind != Kind::Live {
            intake = intake.in_the_past();
        }
        intake.look_again(shared.now(), shared.agreed_only(&stream));
        // Behind history its reader fills them.
        let strategy = if kind == Kind::Live { shared.config.gap_fill } else { GapFill::Off };
        Self {
            checks: Checks::new(shared.clone(), stream.clone()),
            gaps: Gaps::new(shared.clone(), stream.clone(), strategy, limits.incoming_bytes()),
            parking: shared.meters.parking(),
            shared,
            stream,
            limits,
            incoming: Incoming::default(),
            intake,
            ready: VecDeque::new(),
            ready_bytes: 0,
            room: usize::MAX,
            unasked: BTreeMap::new(),
            ask_again: Instant::now(),
            unchecked: Unchecked::new(limits),
            unread: [0; Unreadable::ALL.len()],
            reported: HashMap::new(),
            kept: LruCache::new(KEPT_OF),
            kind,
            in_the_past: kind != Kind::Live,
            seam: None,
            ending: false,
        }
    }

    pub(super) async fn run(
        mut self,
        parts: Vec<StreamPart>,
        first: Vec<Verified<MessageContent>>,
        mut frames: bounded::Receiver<Feed>,
        mut news: mpsc::Receiver<KeyNews>,
        deliver: bounded::Sender<Delivery>,
    ) {
        self.messages(first);
        self.room = deliver.max_items();
        loop {
            // Keys are always taken in, and before frames: a message must not be judged by what was held, or agreed on, before
            // the news that came ahead of it. Frames only while the application keeps up. Nothing in here waits for anybody.
            // The clock is looked at every time: frames that never pause must not keep it from being seen.
            if self.is_late() {
                self.tick();
            }
            self.take_incoming();
            self.gaps.note(self.intake.missing());
            self.parking.hold(self.intake.parked(), self.unchecked.len());
            self.pass_seam();
            if self.ending && self.is_settled() && self.seam.is_none() && self.ready.is_empty() {
                break;
            }
            self.ask();
            let (pause, next_bytes) = (self.pause(), self.ready.front().map_or(0, Delivery::bytes));
            tokio::select! {
                biased;
                () = deliver.closed() => break,
                heard = news.recv() => match heard {
                    Some(heard) => self.news(heard),
                    None => break,
                },
                Some(checked) = self.checks.next(), if self.checks.any_under_way() => {
                    self.checked(checked);
                    self.check_due();
                }
                filled = self.gaps.next(), if self.gaps.any_under_way() => match filled {
                    Filled::Wait(wait) => self.intake.wait_longer(self.shared.now(), wait),
                    Filled::Messages(messages) => self.messages(messages),
                    Filled::Nothing => {}
                },
                permit = deliver.reserve(next_bytes), if !self.ready.is_empty() => {
                    if let (Ok(permit), Some(delivery)) = (permit, self.ready.pop_front()) {
                        self.ready_bytes -= delivery.bytes();
                        if matches!(delivery, Delivery::Message(_)) {
                            count(&self.shared.counters.messages_delivered, 1);
                        }
                        permit.send(delivery);
                    }
                }
                frame = frames.recv(), if self.looks_further() => match frame {
                    Some(fed) => self.heard(fed),
                    None => break,
                },
                () = tokio::time::sleep(pause) => self.tick(),
            }
        }
        // From here on this reader counts as gone, and whoever is still handing something over is told.
        frames.close();
        news.close();
        while let Some(fed) = frames.try_recv() {
            self.incoming.push(fed);
        }
        while let Some(item) = self.incoming.pop() {
            match item {
                Item::Message(message) => self.last_message(message),
                Item::Tell(event) => self.ready.push_back(Delivery::Event(event)),
                Item::End => {}
            }
        }
        while let Some(delivery) = self.ready.pop_front() {
            let Ok(permit) = deliver.try_reserve(delivery.bytes()) else { break };
            permit.send(delivery);
        }
        let Self { shared, stream, .. } = self;
        leave(&shared, &stream, &parts).await;
    }

    fn heard(&mut self, fed: Feed) {
        if let (Feed::Messages(messages), true) = (&fed, self.in_the_past) {
            let may_publish =
                |author| matches!(self.shared.checked(&self.stream, author, Permission::Publish), Some(Ok(_)));
            let effects = self.intake.ahead(self.shared.now(), messages, may_publish);
            self.carry_out(effects);
        }
        self.incoming.push(fed);
    }

    /// Of the past some lies ready, so that its keys are asked for ahead.
    fn looks_further(&self) -> bool {
        let has_room = match self.in_the_past {
            true => {
                self.incoming.len() < AHEAD && self.incoming.bytes() < AHEAD_BYTES.min(self.limits.incoming_bytes())
            }
            false => self.incoming.is_empty(),
        };
        has_room && !self.ending && self.seam.is_none() && self.has_room()
    }

    /// One after another, as long as there is room.
    fn take_incoming(&mut self) {
        while self.takes_more()
            && let Some(item) = self.incoming.pop()
        {
            match item {
                Item::Message(message) => self.message(message),
                Item::Tell(event @ Event::HistoryEnd { .. }) => {
                    let until = (self.kind == Kind::PastThenLive).then(|| Instant::now() + SEAM);
                    self.seam = Some((event, until));
                }
                Item::Tell(event) => self.ready.push_back(Delivery::Event(event)),
                Item::End => self.ending = true,
            }
        }
    }

    fn takes_more(&self) -> bool {
        let has_room = self.has_room() && !(self.in_the_past && self.is_half_full());
        has_room && !self.ending && self.seam.is_none()
    }

    /// Whether the application keeps up.
    fn has_room(&self) -> bool {
        self.ready.len() < self.room && self.ready_bytes < self.limits.incoming_bytes()
    }

    /// Whether half of what may wait does: for keys, for what comes before it, and for word of its author. The past waits then,
    /// so that however long that takes nothing of it is lost.
    fn is_half_full(&self) -> bool {
        self.limits.is_half(self.intake.held() + self.unchecked.held()) || self.intake.awaited() >= AWAITED
    }

    /// Whether nothing waits for a key, an earlier message or a permission source.
    fn is_settled(&self) -> bool {
        self.intake.parked() == 0 && self.intake.next_wake().is_none() && self.unchecked.is_empty()
    }

    fn pass_seam(&mut self) {
        let over = |until: &Option<Instant>| until.is_some_and(|until| until <= Instant::now());
        let may_pass = self.is_settled() || self.seam.as_ref().is_some_and(|(_, until)| over(until));
        if may_pass && let Some((event, _)) = self.seam.take() {
            self.in_the_past = false;
            let unread = self.intake.past_is_over();
            self.carry_out(unread);
            self.ready.push_back(Delivery::Event(event));
        }
    }

    fn next_wake(&self) -> Option<Timestamp> {
        let strangers = self.checks.has_room_for_strangers();
        let checks = self.checks.has_room().then(|| self.unchecked.next_wake(strangers)).flatten();
        self.intake.next_wake().into_iter().chain(checks).min()
    }

    fn is_late(&self) -> bool {
        let asks = !self.unasked.is_empty() && self.ask_again <= Instant::now();
        asks || self.next_wake().is_some_and(|at| at <= self.shared.now())
    }

    fn pause(&self) -> Duration {
        let wake = self.next_wake().map(|at| at.since(self.shared.now()).max(Duration::from_millis(1)));
        let again = (!self.unasked.is_empty()).then(|| self.ask_again.saturating_duration_since(Instant::now()));
        let seam = self.seam.as_ref().and_then(|(_, until)| *until);
        let seam = seam.map(|until| until.saturating_duration_since(Instant::now()));
        wake.into_iter().chain(again).chain(seam).min().unwrap_or(Duration::from_secs(3600))
    }

    fn tick(&mut self) {
        self.check_due();
        let effects = self.intake.tick(self.shared.now());
        self.carry_out(effects);
    }

    /// What carrying one out brings about comes before the rest, and never on the stack: as many as are parked may follow
    /// from one another.
    fn carry_out(&mut self, effects: Vec<IntakeEffect>) {
        let mut work = VecDeque::from(effects);
        while let Some(effect) = work.pop_front() {
            match effect {
                IntakeEffect::Deliver(message) => {
                    let delivery = Delivery::Message(message);
                    self.ready_bytes += delivery.bytes();
                    self.ready.push_back(delivery);
                }
                // Messages are bounded by not taking more in; what is told beside them must not grow for ever either.
                IntakeEffect::Notify(event) if self.ready.len() < MAX_READY => {
                    self.ready.push_back(Delivery::Event(event));
                }
                IntakeEffect::Notify(_) => count(&self.shared.counters.events_lost, 1),
                IntakeEffect::Need { publisher, key_id } => {
                    for next in self.need(publisher, key_id).into_iter().rev() {
                        work.push_front(next);
                    }
                }
                IntakeEffect::Keep { publisher, key, since } => self.keep(publisher, key, since),
            }
        }
        self.count_unread();
    }

    /// Counts those messages that could not be read since it was last called.
    fn count_unread(&mut self) {
        for (why, counted) in Unreadable::ALL.into_iter().zip(&mut self.unread) {
            let all = self.intake.unread_for(why);
            let more = usize::try_from(all - *counted).unwrap_or(usize::MAX);
            *counted = all;
            count(&self.shared.counters.messages_unread, more);
            self.shared.meters.lost(why.into(), more);
        }
    }

    fn take_in(&mut self, message: Verified<MessageContent>) {
        let effects = self.intake.message(self.shared.now(), message);
        self.carry_out(effects);
    }
}

#[cfg(test)]
mod tests;
