//! A reader's host: what the shell does around replayer and intake.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use veilcast::exchange::AskFailure;
use veilcast::identity::Identity;
use veilcast::key_store::KeyId;
use veilcast::message::Message;
use veilcast::permission::{Period, PermissionCache};
use veilcast::storage::Place;
use veilcast::stream::{StreamId, StreamPart};
use veilcast::subscriber::{
    Arrival, Event as Told, Intake, IntakeEffect, IntakeLimits, Moment, Replay, ReplayEffect, ReplayLimits, Replayer,
};
use veilcast::wire::{Frame, MessageContent, Received, RequestId, ResendPage, Verified};
use veilcast::{Permission, Timestamp, UserId};

use super::plan::{ReaderPlan, Want};
use super::{Archive, Happening, truth};
use crate::access::check;
use crate::env::Env;
use crate::facts::MessageName;
use crate::grants::Source;
use crate::journal::GapSeen;
use crate::network::Event;

/// One who reads what is stored, and goes on live or not.
pub(super) struct Reader {
    pub(super) identity: Identity,
    pub(super) plan: ReaderPlan,
    pub(super) rng: StdRng,
    skew: i64,
    pub(super) run: Option<Running>,
}

pub(super) struct Running {
    pub(super) core: Replayer,
    pub(super) replay: Wanted,
    pub(super) began: u64,
    intake: Intake,
    cache: PermissionCache,
    wake: Option<u64>,
    /// What the replayer handed on.
    pub(super) fed: BTreeSet<MessageName>,
    /// Of that, what was history.
    pub(super) stored: BTreeSet<MessageName>,
    pub(super) delivered: BTreeMap<(UserId, [u8; 16]), BTreeSet<veilcast::wire::MessageRef>>,
    pub(super) gaps: Vec<GapSeen>,
    keys: BTreeSet<KeyId>,
    pub(super) without: BTreeSet<KeyId>,
    /// Storage nodes that failed him.
    pub(super) failed: BTreeSet<UserId>,
    pub(super) history_is_over: bool,
    pub(super) ended: bool,
}

/// What he asked for, in plain numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) last: Option<u64>,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    pub(super) after: Option<Place>,
    pub(super) publisher: Option<UserId>,
}

impl Wanted {
    pub(super) fn has(&self, place: &Place) -> bool {
        place.at.timestamp <= self.to && self.begins_before(place)
    }

    /// In the span, or behind its end.
    pub(super) fn begins_before(&self, place: &Place) -> bool {
        place.at.timestamp >= self.from
            && self.after.is_none_or(|after| *place > after)
            && self.publisher.is_none_or(|publisher| place.publisher == publisher)
    }
}

/// Work within one step.
enum Todo {
    Replay(ReplayEffect),
    Intake(IntakeEffect),
}

impl Reader {
    pub(super) fn new(plan: ReaderPlan, rng: &mut StdRng) -> Self {
        let identity = Identity::generate(rng);
        let skew = rng.random_range(-1_500..1_500);
        Self { identity, plan, rng: StdRng::seed_from_u64(rng.random()), skew, run: None }
    }

    fn clock(&self, env: &Env) -> Timestamp {
        Timestamp::from_millis(env.now.saturating_add_signed(self.skew))
    }

    fn moment(&self, env: &Env) -> Moment {
        Moment { steady: Timestamp::from_millis(env.now), clock: self.clock(env) }
    }

    pub(super) fn listens_to(&self, part: &StreamPart) -> bool {
        self.plan.goes_live && part.stream() == &self.plan.stream && self.run.is_some()
    }

    pub(super) fn parts(&self) -> Vec<StreamPart> {
        (0..self.plan.partitions).map(|n| self.plan.stream.part(n).unwrap()).collect()
    }

    fn wanted(&mut self, env: &Env) -> (Replay, Wanted) {
        let always = Timestamp::from_millis(u64::MAX);
        let mut wanted = Wanted { last: None, from: Timestamp::ZERO, to: always, after: None, publisher: None };
        let mut replay = match self.plan.want {
            Want::Last(n) => {
                wanted.last = Some(n);
                Replay::last(n)
            }
            Want::From(from) => {
                wanted.from = Timestamp::from_millis(from);
                Replay::from(wanted.from)
            }
            Want::Range(from, to) => {
                (wanted.from, wanted.to) = (Timestamp::from_millis(from), Timestamp::from_millis(to));
                Replay::range(wanted.from, wanted.to)
            }
            Want::After => {
                let own = |(_, fact): &(&MessageName, &crate::facts::MessageFact)| fact.stream == self.plan.stream;
                let names: Vec<MessageName> = env.facts.messages.iter().filter(own).map(|(name, _)| *name).collect();
                if names.is_empty() {
                    Replay::from(Timestamp::ZERO)
                } else {
                    let (publisher, chain, at) = names[self.rng.random_range(0..names.len())];
                    let place = Place { at, publisher, chain };
                    (wanted.from, wanted.after) = (at.timestamp, Some(place));
                    Replay::after(place)
                }
            }
        };
        if let Some(publisher) = self.plan.publisher.map(|number| env.publishers[number]) {
            wanted.publisher = Some(publisher);
            replay = replay.publisher(publisher);
        }
        (replay.copies(self.plan.copies), wanted)
    }
}

impl Archive {
    pub(super) fn begin(&mut self, env: &mut Env, number: usize) {
        let reader = &mut self.readers[number];
        let (user, stream, now) = (reader.identity.user(), reader.plan.stream.clone(), Timestamp::from_millis(env.now));
        if reader.plan.may_read {
            self.registry.grant(&stream, user, Permission::Subscribe, Period::ALWAYS, now).unwrap();
            env.grants.give((Source::Depots, stream.clone(), user, Permission::Subscribe), env.now, None, None);
        }
        let (replay, wanted) = reader.wanted(env);
        env.note(format_args!("reader {number} wants {wanted:?}"));
        let mut limits = ReplayLimits::default();
        limits.answer_timeout = Duration::from_secs(5);
        limits.empty_pages = 12;
        limits.held_back = reader.plan.held_back;
        let goes_live = reader.plan.goes_live;
        let (gap_wait, join_wait) = if goes_live { (3_000, 50) } else { (0, 0) };
        let (gap_wait, join_wait) = (Duration::from_millis(gap_wait), Duration::from_millis(join_wait));
        let intake = IntakeLimits { live_window: Duration::MAX, gap_wait, join_wait, ..IntakeLimits::default() };
        reader.run = Some(Running {
            core: Replayer::new(replay, reader.parts(), user, goes_live, limits),
            replay: wanted,
            began: env.now,
            intake: Intake::new(stream, intake).in_the_past(),
            cache: PermissionCache::default(),
            wake: None,
            fed: BTreeSet::new(),
            stored: BTreeSet::new(),
            delivered: BTreeMap::new(),
            gaps: Vec::new(),
            keys: BTreeSet::new(),
            without: BTreeSet::new(),
            failed: BTreeSet::new(),
            history_is_over: false,
            ended: false,
        });
        let delay = reader.rng.random_range(1..300);
        env.net.at(env.now + delay, Event::Archive(Happening::Found(number)));
    }

    pub(super) fn found(&mut self, env: &mut Env, number: usize) {
        let names = self.readers[number].plan.depots.iter().map(|depot| self.name_of(*depot)).collect();
        self.replay(env, number, |core, now, rng| core.found(now, names, rng));
    }

    pub(super) fn met(&mut self, env: &mut Env, number: usize) {
        self.replay(env, number, |core, now, rng| core.met(now, rng));
    }

    pub(super) fn live(&mut self, env: &mut Env, number: usize, part: &StreamPart, frame: &Bytes) {
        let received = Frame::decode(frame).map(|parts| parts.messages).unwrap_or_default();
        let of_part = received.into_iter().filter(|message| &message.claims().part == part);
        let verified = of_part.filter_map(|message| message.verify().ok());
        let verified: Vec<Verified<MessageContent>> = verified.collect();
        for content in verified.iter().map(Verified::content) {
            env.note(format_args!("reader {number} hears {}/{}", content.at.timestamp, content.at.sequence));
        }
        self.replay(env, number, |core, now, rng| core.live(now, verified, rng));
    }

    /// On a connection that broke with the process at its other end, nothing comes.
    pub(super) fn answered(
        &mut self,
        env: &mut Env,
        number: usize,
        id: RequestId,
        (depot, life): (usize, usize),
        answer: Option<Bytes>,
    ) {
        use veilcast::subscriber::StorageFault::{Lied, Unreachable};
        let answer = answer.filter(|_| self.depots[depot].is_up() && self.depots[depot].life == life);
        let page = answer.ok_or(Unreachable).and_then(|bytes| {
            let page = Received::<ResendPage>::decode(&bytes).ok().and_then(|page| page.verify().ok());
            Ok(page.ok_or(Lied("an answer that nobody signed"))?.into_content())
        });
        self.replay(env, number, |core, now, rng| core.page(now, id, page, rng));
    }

    pub(super) fn checked(
        &mut self,
        env: &mut Env,
        number: usize,
        id: RequestId,
        messages: Option<Vec<Verified<MessageContent>>>,
    ) {
        self.replay(env, number, |core, now, rng| core.checked(now, id, messages, rng));
    }

    pub(super) fn wake(&mut self, env: &mut Env, number: usize) {
        let reader = &mut self.readers[number];
        let (now, clock) = (reader.moment(env), reader.clock(env));
        let Some(run) = reader.run.as_mut().filter(|run| run.wake == Some(env.now)) else { return };
        run.wake = None;
        let mut todo: VecDeque<Todo> = run.intake.tick(clock).into_iter().map(Todo::Intake).collect();
        todo.extend(run.core.tick(now, &mut reader.rng).into_iter().map(Todo::Replay));
        self.carry_out(env, number, todo);
    }

    pub(super) fn key(&mut self, env: &mut Env, number: usize, publisher: UserId, key_id: &KeyId, given: bool) {
        let reader = &mut self.readers[number];
        let now = reader.clock(env);
        let Some(run) = &mut reader.run else { return };
        let key = env.facts.keys.get(key_id).filter(|_| given).map(|fact| fact.key.clone());
        let effects = match key {
            Some(key) => {
                run.keys.insert(key_id.clone());
                run.intake.key_arrived(now, publisher, key, Arrival::Answer)
            }
            None => {
                run.without.insert(key_id.clone());
                run.intake.key_unavailable(now, publisher, key_id, AskFailure::Unreachable)
            }
        };
        self.carry_out(env, number, effects.into_iter().map(Todo::Intake).collect());
    }

    fn replay(
        &mut self,
        env: &mut Env,
        number: usize,
        input: impl FnOnce(&mut Replayer, Moment, &mut StdRng) -> Vec<ReplayEffect>,
    ) {
        let reader = &mut self.readers[number];
        let now = reader.moment(env);
        let Some(run) = &mut reader.run else { return };
        let effects = input(&mut run.core, now, &mut reader.rng);
        self.carry_out(env, number, effects.into_iter().map(Todo::Replay).collect());
    }

    fn carry_out(&mut self, env: &mut Env, number: usize, mut todo: VecDeque<Todo>) {
        while let Some(next) = todo.pop_front() {
            match next {
                Todo::Replay(effect) => todo.extend(self.replay_effect(env, number, effect)),
                Todo::Intake(effect) => self.intake_effect(env, number, effect),
            }
        }
        self.set_timer(env, number);
        truth::bounded(env, &self.readers[number], &self.depots);
    }

    fn set_timer(&mut self, env: &mut Env, number: usize) {
        let reader = &mut self.readers[number];
        let (clock, steady) = (reader.clock(env), Timestamp::from_millis(env.now));
        let Some(run) = &mut reader.run else { return };
        let of_core = run.core.next_wake().map(|at| at.since(steady));
        let of_intake = run.intake.next_wake().map(|at| at.since(clock));
        let wake = of_core.into_iter().chain(of_intake).min();
        let wake = wake.map(|span| env.now + (span.as_millis() as u64).max(1));
        if let Some(at) = wake.filter(|_| run.wake != wake) {
            env.net.at(at, Event::Archive(Happening::Wake(number)));
        }
        run.wake = wake;
    }

    fn replay_effect(&mut self, env: &mut Env, number: usize, effect: ReplayEffect) -> Vec<Todo> {
        match effect {
            ReplayEffect::Ask { node, request } => {
                let reader = &mut self.readers[number];
                // The same are found whenever he looks.
                let (depot, id) = (reader.plan.depots[node % reader.plan.depots.len()], request.id);
                let (span, part) = (request.span, request.part.number());
                env.note(format_args!(
                    "reader {number} asks depot {depot} on #{part} for {span:?} after {:?}",
                    request.after
                ));
                let request = Verified::sign(request, &reader.identity).unwrap().envelope().clone();
                let broken = self.weather.broken;
                if !self.depots[depot].is_up() || self.roll(broken) {
                    // Told soon, or never.
                    if self.rng.random_bool(0.7) {
                        let by = (depot, 0);
                        let nothing = Happening::Answered { reader: number, id, by, answer: None };
                        env.net.at(env.now + 3, Event::Archive(nothing));
                    }
                } else {
                    let at = env.now + self.weather.delay(&mut self.rng);
                    env.net.at(at, Event::Archive(Happening::Asked { depot, reader: number, id, request }));
                }
            }
            ReplayEffect::Check { id, messages } => {
                let verified = |bytes: &Bytes| Received::decode(bytes).ok()?.verify().ok();
                let checked = messages.iter().map(verified).collect();
                let at = env.now + self.rng.random_range(0..10);
                env.net.at(at, Event::Archive(Happening::Checked(number, id, checked)));
            }
            ReplayEffect::Feed(messages) => return self.feed(env, number, messages),
            ReplayEffect::Tell(event) => self.told(env, number, event),
            ReplayEffect::Look => {
                let at = env.now + self.rng.random_range(1..300);
                env.net.at(at, Event::Archive(Happening::Found(number)));
            }
            ReplayEffect::Meet => {
                let at = env.now + self.rng.random_range(1..2_000);
                env.net.at(at, Event::Archive(Happening::Met(number)));
            }
            ReplayEffect::End => {
                self.readers[number].run.iter_mut().for_each(|run| run.ended = true);
            }
        }
        Vec::new()
    }

    /// Into the subscription: its author's permission is asked for, then comes the intake.
    fn feed(&mut self, env: &mut Env, number: usize, messages: Vec<Verified<MessageContent>>) -> Vec<Todo> {
        let reader = &mut self.readers[number];
        let (now, stream) = (reader.clock(env), reader.plan.stream.clone());
        let mut todo = Vec::new();
        for message in messages {
            let at = message.content().at;
            env.note(format_args!("reader {number} is given {}/{}", at.timestamp, at.sequence));
            truth::fed(env, reader, &message);
            let Some(run) = &mut reader.run else { break };
            let author = message.content().publisher;
            if check(&self.registry, &mut run.cache, &stream, author, Permission::Publish, now).is_ok() {
                todo.extend(run.intake.message(now, message).into_iter().map(Todo::Intake));
            }
        }
        todo
    }

    fn intake_effect(&mut self, env: &mut Env, number: usize, effect: IntakeEffect) {
        match effect {
            IntakeEffect::Deliver(message) => self.deliver(env, number, &message),
            IntakeEffect::Notify(event) => self.told(env, number, event),
            IntakeEffect::Need { publisher, key_id } => {
                let without = self.readers[number].plan.without_key;
                let (given, at) = (!self.roll(without), env.now + self.rng.random_range(1..3_000));
                env.net.at(at, Event::Archive(Happening::Key(number, publisher, key_id, given)));
            }
            IntakeEffect::Keep { key, .. } => {
                if let Some(run) = &mut self.readers[number].run {
                    run.keys.insert(key.id().clone());
                }
            }
        }
    }

    fn deliver(&mut self, env: &mut Env, number: usize, message: &Message) {
        env.figures.replayed += 1;
        let Reader { run, plan, .. } = &mut self.readers[number];
        let Some(run) = run else { return };
        env.note(format_args!("reader {number} reads {}/{}", message.at.timestamp, message.at.sequence));
        let known = env.facts.messages.iter().find(|(_, fact)| fact.envelope == message.envelope);
        let Some((name, fact)) = known.map(|(name, fact)| (*name, fact)) else {
            return env.must(false, "no forged or altered message is delivered", || format!("{message:?}"));
        };
        let same = fact.payload == message.payload && fact.stream == plan.stream;
        let has_key = fact.key_id.as_ref().is_none_or(|key_id| run.keys.contains(key_id));
        let chain = run.delivered.entry((name.0, name.1)).or_default();
        let behind = chain.last().is_none_or(|last| *last < name.2);
        chain.insert(name.2);
        env.must(same, "no forged or altered message is delivered", || format!("{message:?}"));
        env.must(has_key, "nobody reads without the key", || format!("reader {number}: {message:?}"));
        env.must(behind, "once, in the order of its chain", || format!("reader {number}: {message:?}"));
    }

    fn told(&mut self, env: &mut Env, number: usize, event: Told) {
        env.note(format_args!("reader {number}: {event:?}"));
        match event {
            Told::Gap { publisher, after, until, .. } => {
                let gap = GapSeen { publisher, after, until, at: env.now };
                self.readers[number].run.iter_mut().for_each(|run| run.gaps.push(gap));
            }
            Told::StorageFault { node, fault } => {
                env.figures.storage_faults += 1;
                truth::blamed(env, &self.depots, node, &fault);
                self.readers[number].run.iter_mut().for_each(|run| truth::note_fault(run, node, &fault));
            }
            Told::HistoryEnd { .. } => {
                env.figures.histories += 1;
                let over = self.readers[number].run.as_mut().map(|run| run.intake.past_is_over());
                over.into_iter().flatten().for_each(|effect| self.intake_effect(env, number, effect));
                truth::history_is_over(env, &mut self.readers[number], &self.depots);
            }
            _ => {}
        }
    }

    /// After a run: nothing waits, and nothing is missing that nobody told of.
    pub(crate) fn judge(&self, env: &mut Env) {
        for reader in &self.readers {
            truth::judge(env, reader);
        }
    }
}

/// The stream of a reader, for messages.
pub(super) fn stream_of(reader: &Reader) -> &StreamId {
    &reader.plan.stream
}
