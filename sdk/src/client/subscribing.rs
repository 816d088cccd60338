//! A subscription: one task that drives an intake, and the stream of deliveries it feeds.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use lru::LruCache;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;
use veilcast_key_store::{GroupKey, KeyId, KeyOrigin};

use super::asking::Ask;
use super::bounded;
use super::checks::{Checked, Checks};
use super::config::GapFill;
use super::depots;
use super::error::ClientError;
use super::gaps::{Filled, Gaps};
use super::incoming::{Incoming, Item};
use super::metrics::{Lost, Parking};
use super::replaying::{self, Plan};
use super::shared::{READER_KEYS, Reader, Shared, blocking};
use super::stats::count;
use crate::exchange::{AskFailure, Bucket, Rate};
use crate::identity::UserId;
use crate::key_ring::Looked;
use crate::message::Message;
use crate::permission::{Permission, Refusal};
use crate::stream::{StreamId, StreamPart};
use crate::subscriber::{Arrival, Event, Intake, IntakeEffect, IntakeLimits, Replay, Unchecked, size_of};
use crate::time::Timestamp;
use crate::wire::{MessageContent, Verified};

/// Pages of history waiting for a subscription.
const PAGES: usize = 4;
/// How long live messages wait for keys of the history before them.
const SEAM: Duration = Duration::from_secs(5);
/// Frames waiting for a subscription, and their bytes.
const FRAMES: usize = 1024;
const FRAMES_BYTES: usize = 32 << 20;
/// Bytes of the messages waiting for the application; how many is configured.
const DELIVERIES_BYTES: usize = 64 << 20;
/// How long a publisher without permission is not reported again.
const REPORT_AGAIN: Duration = Duration::from_secs(10);
/// How long a key that is not among those agreed on is not reported again.
const NOT_AGREED_AGAIN: Duration = Duration::from_secs(60);
/// Publishers without permission remembered for that.
const REPORTED: usize = 1024;
/// Deliveries waiting for the application beyond which events are counted instead of told.
const MAX_READY: usize = 16_384;
/// Carried keys stored of one publisher.
const KEPT: Rate = Rate { per_second: 100, burst: 1000 };
/// Publishers for whom that is counted.
const KEPT_OF: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
/// Messages of the past whose keys are asked for ahead of them, and their bytes.
const AHEAD: usize = 2048;
const AHEAD_BYTES: usize = 4 << 20;
/// Keys under way beyond which no more of the past is taken in.
const AWAITED: usize = 2048;
/// How long a publisher that asks to be asked later may hold up the past of others.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause before a key that could not be asked for, because too much was being asked, is asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// What a subscription brings.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// A message, in the order of its chain.
    Message(Message),
    /// Something beside the messages.
    Event(Event),
}

/// Where a subscription's messages come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Live,
    Past,
    PastThenLive,
}

/// What a subscription takes in.
pub(super) enum Feed {
    /// Messages whose signatures were checked.
    Messages(Vec<Verified<MessageContent>>),
    /// Told where it stands among them.
    Tell(Event),
    /// Nothing comes any more: the subscription ends when everything is settled.
    End,
}

/// News of keys for the intakes of one stream.
#[derive(Clone)]
pub(super) enum KeyNews {
    Arrived { publisher: UserId, key: GroupKey, by: Arrival },
    Refused { publisher: UserId, key_id: KeyId, refusal: Refusal, until: Timestamp },
    Retrying { publisher: UserId, failure: AskFailure, after: Duration },
    Unavailable { publisher: UserId, key_id: KeyId, failure: AskFailure },
    RingChanged,
}

/// Messages and events of a stream. Dropping it ends the subscription.
pub struct Subscription {
    deliveries: bounded::Receiver<Delivery>,
}

impl Feed {
    /// What it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Messages(messages) => messages.iter().map(size_of).sum(),
            Self::Tell(_) | Self::End => 0,
        }
    }
}

impl Delivery {
    fn bytes(&self) -> usize {
        match self {
            Self::Message(message) => message.envelope.len() + message.payload.len(),
            Self::Event(_) => 0,
        }
    }
}

impl Subscription {
    /// The next message or event; `None` once the client was stopped. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.deliveries.recv().await
    }
}

impl futures::Stream for Subscription {
    type Item = Delivery;
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        self.deliveries.poll_recv(context)
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Subscription { .. }")
    }
}

pub(super) async fn subscribe(
    shared: &Arc<Shared>,
    stream: StreamId,
    parts: Vec<StreamPart>,
) -> Result<Subscription, ClientError> {
    let subscription = start(shared, stream, parts.clone(), Vec::new(), shared.config.intake)?;
    for part in &parts {
        shared.network.join(&part.topic()).await?;
    }
    Ok(subscription)
}

/// Stored messages, then live ones.
pub(super) async fn subscribe_from(
    shared: &Arc<Shared>,
    stream: StreamId,
    parts: Vec<StreamPart>,
    replay: Replay,
) -> Result<Subscription, ClientError> {
    // Stored messages are of any age. Live ones of a chain that nobody met are looked at before they come here.
    let gap_wait = shared.config.gap_fill.wait(&shared.config.intake);
    let limits = IntakeLimits { live_window: Duration::MAX, gap_wait, ..shared.config.intake };
    let (live, lived) = bounded::channel(FRAMES, FRAMES_BYTES);
    let (subscription, feed) =
        begin(shared, stream.clone(), parts.clone(), Vec::new(), limits, Kind::PastThenLive, Some(live))?;
    for part in &parts {
        shared.network.join(&part.topic()).await?;
    }
    // Storage nodes are looked for while live messages are held back already.
    let plan = Plan { stream, parts, replay, depots: None, feed };
    shared.spawn(replaying::then_live(shared.clone(), plan, lived));
    Ok(subscription)
}

/// Stored messages only.
pub(super) async fn resend(
    shared: &Arc<Shared>,
    stream: StreamId,
    parts: Vec<StreamPart>,
    replay: Replay,
) -> Result<Subscription, ClientError> {
    let depots = depots::find(shared, &stream).await;
    if depots.is_empty() {
        return Err(ClientError::NoStorage { stream });
    }
    // Of any age, in order already; what is missing was looked for elsewhere before it comes here.
    let (join_wait, gap_wait, live_window) = (Duration::ZERO, Duration::ZERO, Duration::MAX);
    let limits = IntakeLimits { join_wait, gap_wait, live_window, ..shared.config.intake };
    let (subscription, feed) = begin(shared, stream.clone(), Vec::new(), Vec::new(), limits, Kind::Past, None)?;
    let plan = Plan { stream, parts, replay, depots: Some(depots), feed };
    shared.spawn(replaying::history(shared.clone(), plan));
    Ok(subscription)
}

/// Starts the task of a subscription, with messages to begin with.
pub(super) fn start(
    shared: &Arc<Shared>,
    stream: StreamId,
    parts: Vec<StreamPart>,
    first: Vec<Verified<MessageContent>>,
    limits: IntakeLimits,
) -> Result<Subscription, ClientError> {
    Ok(begin(shared, stream, parts, first, limits, Kind::Live, None)?.0)
}

/// The same, with the way to feed it. What comes live goes to `live` instead, where that is given.
fn begin(
    shared: &Arc<Shared>,
    stream: StreamId,
    parts: Vec<StreamPart>,
    first: Vec<Verified<MessageContent>>,
    limits: IntakeLimits,
    kind: Kind,
    live: Option<bounded::Sender<Feed>>,
) -> Result<(Subscription, bounded::Sender<Feed>), ClientError> {
    let (feed, frames) = match kind {
        Kind::Live => bounded::channel(FRAMES, FRAMES_BYTES),
        Kind::Past | Kind::PastThenLive => bounded::channel(PAGES, FRAMES_BYTES),
    };
    let messages = live.unwrap_or_else(|| feed.clone());
    let (keys, news) = mpsc::channel(READER_KEYS);
    let (deliver, deliveries) = bounded::channel(shared.config.subscription_queue, DELIVERIES_BYTES);
    shared.add_reader(Reader { stream: stream.clone(), parts: parts.clone(), messages, keys })?;
    let reading = Reading::new(shared.clone(), stream, limits, kind);
    // Not cut off at the stop: what has arrived is still handed over.
    shared.tasks.spawn(reading.run(parts, first, frames, news, deliver));
    Ok((Subscription { deliveries }, feed))
}

struct Reading {
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
    fn new(shared: Arc<Shared>, stream: StreamId, limits: IntakeLimits, kind: Kind) -> Self {
        let mut intake = Intake::new(stream.clone(), limits);
        if kind != Kind::Live {
            intake = intake.in_the_past();
        }
        intake.look_again(shared.now(), shared.agreed_only(&stream));
        // Behind history its reader fills them.
        let strategy = if kind == Kind::Live { shared.config.gap_fill } else { GapFill::Off };
        Self {
            checks: Checks::new(shared.clone(), stream.clone()),
            gaps: Gaps::new(shared.clone(), stream.clone(), strategy),
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
            reported: HashMap::new(),
            kept: LruCache::new(KEPT_OF),
            kind,
            in_the_past: kind != Kind::Live,
            seam: None,
            ending: false,
        }
    }

    async fn run(
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
            true => self.incoming.len() < AHEAD && self.incoming.bytes() < AHEAD_BYTES,
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
        self.ready.len() < self.room && self.ready_bytes < DELIVERIES_BYTES
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

    /// Signature checked already; now the permission to publish, then order and key.
    fn messages(&mut self, messages: Vec<Verified<MessageContent>>) {
        messages.into_iter().for_each(|message| self.message(message));
    }

    fn message(&mut self, message: Verified<MessageContent>) {
        let publisher = message.content().publisher;
        let waits = self.unchecked.waits_for(publisher);
        match self.shared.checked(&self.stream, publisher, Permission::Publish).filter(|_| !waits) {
            Some(Ok(_)) => self.take_in(message),
            Some(Err(refusal)) => self.report_intruder(publisher, refusal, 1),
            None => self.hold(message),
        }
    }

    /// The end: no answer is waited for any more.
    fn last_message(&mut self, message: Verified<MessageContent>) {
        let publisher = message.content().publisher;
        let check = || self.shared.check(&self.stream, publisher, Permission::Publish).now_or_never();
        if !self.unchecked.waits_for(publisher) && matches!(check(), Some(Ok(_))) {
            self.take_in(message);
        }
    }

    fn take_in(&mut self, message: Verified<MessageContent>) {
        let effects = self.intake.message(self.shared.now(), message);
        self.carry_out(effects);
    }

    /// It is not known yet whether its author may publish. A source that need not wait for its answer lets it through here.
    fn hold(&mut self, message: Verified<MessageContent>) {
        let stranger = self.checks.is_stranger(message.content().publisher);
        if let Some(publisher) = self.unchecked.push(self.shared.now(), message, stranger) {
            self.carry_out(vec![IntakeEffect::Notify(Event::ParkedDropped { publisher, dropped: 1 })]);
        }
        self.check_due();
    }

    fn check_due(&mut self) {
        while self.checks.has_room() {
            let strangers = self.checks.has_room_for_strangers();
            let Some(author) = self.unchecked.begin_next(self.shared.now(), strangers) else { return };
            if let Some(checked) = self.checks.begin(author) {
                self.checked(checked);
            }
        }
    }

    fn checked(&mut self, (publisher, answer): Checked) {
        let refusal = match answer {
            Ok(_) => return self.unchecked.take(publisher).into_iter().for_each(|message| self.take_in(message)),
            Err(refusal) => refusal,
        };
        let dropped = match refusal.retry_after() {
            Some(after) => self.unchecked.put_off(self.shared.now(), publisher, after),
            None => self.unchecked.take(publisher).len(),
        };
        if dropped > 0 {
            self.report_intruder(publisher, refusal, dropped);
        }
    }

    fn report_intruder(&mut self, publisher: UserId, refusal: Refusal, messages: usize) {
        self.shared.meters.lost(Lost::NotAPublisher, messages);
        let now = self.shared.now();
        self.reported.retain(|_, until| now < *until);
        if self.reported.len() < REPORTED && !self.reported.contains_key(&publisher) && self.ready.len() < MAX_READY {
            self.reported.insert(publisher, now.plus(REPORT_AGAIN));
            self.ready.push_back(Delivery::Event(Event::NotAPublisher { publisher, refusal }));
        }
    }

    fn news(&mut self, news: KeyNews) {
        let now = self.shared.now();
        let effects = match news {
            // Asked for, or sent, before it was agreed that only agreed keys count here.
            KeyNews::Arrived { by: Arrival::Answer | Arrival::Push | Arrival::Rotate, .. } if self.is_agreed_only() => {
                return;
            }
            KeyNews::RingChanged => {
                let only = self.is_agreed_only();
                self.intake.look_again(now, only)
            }
            KeyNews::Arrived { publisher, key, by } => self.intake.key_arrived(now, publisher, key, by),
            KeyNews::Refused { publisher, key_id, refusal, until } => {
                self.intake.key_refused(now, publisher, &key_id, refusal, until)
            }
            KeyNews::Unavailable { publisher, key_id, failure } => {
                self.intake.key_unavailable(now, publisher, &key_id, failure)
            }
            KeyNews::Retrying { publisher, failure, after } => {
                let mut effects = vec![IntakeEffect::Notify(Event::KeyRetry { publisher, failure, after })];
                let is_there = failure.is_ours() || (failure == AskFailure::AskedToWait && after <= PATIENCE);
                if !is_there {
                    effects.extend(self.intake.publisher_away(now, publisher));
                }
                effects
            }
        };
        self.carry_out(effects);
    }

    fn is_agreed_only(&self) -> bool {
        self.shared.agreed_only(&self.stream)
    }

    /// What carrying one out brings about comes before the rest, and never on the stack: as many as are parked may follow
    /// from one another.
    fn carry_out(&mut self, effects: Vec<IntakeEffect>) {
        let mut work = VecDeque::from(effects);
        while let Some(effect) = work.pop_front() {
            self.shared.meters.noted(&effect);
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
    }

    /// The store first; a key that is there causes no request.
    fn need(&mut self, publisher: UserId, key_id: KeyId) -> Vec<IntakeEffect> {
        let now = self.shared.now();
        match self.shared.look_for_key(publisher, &self.stream, &key_id) {
            Looked::Found(key) => self.intake.key_arrived(now, publisher, key, Arrival::Store),
            Looked::NotAgreed => self.intake.key_not_agreed(now, publisher, &key_id, now.plus(NOT_AGREED_AGAIN)),
            Looked::Absent => {
                self.unasked.entry(publisher).or_default().push(key_id.clone());
                vec![IntakeEffect::Notify(Event::KeyPending { publisher, key_id })]
            }
        }
    }

    /// Never waits: the task that asks must always be able to tell this one its news.
    fn ask(&mut self) {
        while self.ask_again <= Instant::now()
            && let Some((publisher, key_ids)) = self.unasked.pop_first()
        {
            let want = Ask::Want { publisher, stream: self.stream.clone(), key_ids };
            if let Err(TrySendError::Full(Ask::Want { key_ids, .. })) = self.shared.asking.try_send(want) {
                self.unasked.insert(publisher, key_ids);
                self.ask_again = Instant::now() + ASK_AGAIN;
            }
        }
    }

    fn keep(&mut self, publisher: UserId, key: GroupKey, since: Timestamp) {
        let told = Ask::Arrived { publisher, stream: self.stream.clone(), key_id: key.id().clone() };
        let _ = self.shared.asking.try_send(told);
        if self.shared.config.hear_own && publisher == self.shared.user {
            // One of our own is stored by the publisher that made it, as made here; as received it would be handed out less far back.
            return;
        }
        // More than this, per second or at a time, is a publisher making trouble: a key that is not kept is asked for when it is
        // needed.
        let now = self.shared.now();
        if self.kept.get_or_insert_mut(publisher, || Bucket::full(KEPT, now)).take(now).is_err() {
            return;
        }
        let Ok(permit) = self.shared.keeping.clone().try_acquire_owned() else { return };
        let (store, scope) = (self.shared.store.clone(), crate::scope(publisher, &self.stream));
        self.shared.tasks.spawn(async move {
            let _permit = permit;
            let added = blocking(move || store.add(&scope, &key, since.as_millis(), None, KeyOrigin::Received)).await;
            if let Ok(Err(error)) = added {
                tracing::warn!(%error, "a rotated key could not be stored");
            }
        });
    }
}

/// Leaves the partitions that nothing here reads or stores any more.
pub(super) async fn leave(shared: &Shared, stream: &StreamId, parts: &[StreamPart]) {
    let is_stored = || shared.storage.as_ref().is_some_and(|storage| storage.keeps(stream));
    let is_read = |part: &StreamPart| is_stored() || shared.readers_of(stream).iter().any(|reader| reader.reads(part));
    for part in parts.iter().filter(|part| !is_read(part)) {
        shared.network.leave(&part.topic()).await;
        // Somebody may have subscribed meanwhile.
        if is_read(part) {
            let _ = shared.network.join(&part.topic()).await;
        }
    }
}

#[cfg(test)]
#[path = "subscribing_tests.rs"]
mod tests;
