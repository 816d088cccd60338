//! A subscriber's host: what the shell does around the intake.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;
use veilcast::cipher::RsaPair;
use veilcast::exchange::{Requester, RequesterConfig};
use veilcast::identity::Identity;
use veilcast::key_store::{GroupKey, KeyId, KeyOrigin, KeyStore, MemoryKeyStore};
use veilcast::message::Message;
use veilcast::permission::PermissionCache;
use veilcast::stream::{StreamId, StreamPart};
use veilcast::subscriber::{Arrival, Event, Intake, IntakeEffect, IntakeLimits};
use veilcast::wire::{Frame, MessageContent, RequestId, Verified};
use veilcast::{Permission, Refusal, Timestamp, UserId, scope};

use crate::access::check;
use crate::asking::{AskLog, Todo, steady};
use crate::env::Env;
use crate::journal::{GapSeen, Journal};
use crate::network::{Event as Happening, Place};
use crate::rsa_pool;

/// From here on a limit is not expected to be reached.
const LARGE: usize = 1 << 20;

/// A subscriber: what outlives a crash, and the process if it runs.
pub(crate) struct Subscriber {
    pub(crate) number: usize,
    pub(crate) identity: Identity,
    pub(crate) streams: Vec<StreamId>,
    pub(crate) store: Arc<MemoryKeyStore>,
    pub(crate) limits: IntakeLimits,
    pub(crate) config: RequesterConfig,
    pub(crate) rng: StdRng,
    pub(crate) life: usize,
    /// Its clock was set in this run, so what it measured need not be true.
    pub(crate) clock_was_set: bool,
    pub(crate) run: Option<Running>,
}

/// One life of a subscriber.
pub(crate) struct Running {
    pub(crate) requester: Requester,
    pub(crate) intakes: BTreeMap<StreamId, Intake>,
    pub(crate) cache: PermissionCache,
    pub(crate) pair: &'static RsaPair,
    pub(crate) pushes: BTreeSet<(UserId, RequestId)>,
    wake: Option<u64>,
    pub(crate) log: AskLog,
    pub(crate) journals: BTreeMap<StreamId, Journal>,
}

impl Subscriber {
    pub(crate) fn user(&self) -> UserId {
        self.identity.user()
    }

    pub(crate) fn place(&self) -> Place {
        Place::Subscriber(self.number)
    }

    pub(crate) fn clock(&self, env: &Env) -> Timestamp {
        env.clock(self.place())
    }

    pub(crate) fn new(
        number: usize,
        seed: u64,
        streams: Vec<StreamId>,
        limits: IntakeLimits,
        config: RequesterConfig,
    ) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ (0x53 + number as u64) << 40);
        let identity = Identity::generate(&mut rng);
        let store = Arc::new(MemoryKeyStore::new());
        Self { number, identity, streams, store, limits, config, rng, life: 0, clock_was_set: false, run: None }
    }

    pub(crate) fn start(&mut self, env: &mut Env) {
        self.life += 1;
        let (limits, now) = (self.limits, steady(env));
        self.run = Some(Running {
            requester: Requester::new(self.user(), self.config, now),
            intakes: self.streams.iter().map(|stream| (stream.clone(), Intake::new(stream.clone(), limits))).collect(),
            cache: PermissionCache::default(),
            pair: rsa_pool::of_subscriber(self.number, self.life),
            pushes: BTreeSet::new(),
            wake: None,
            log: AskLog::default(),
            journals: self.streams.iter().map(|stream| (stream.clone(), Journal::default())).collect(),
        });
    }

    /// The part and every signature is checked here, as at the shell's gate.
    pub(crate) fn frame(&mut self, env: &mut Env, part: &StreamPart, bytes: &Bytes) {
        if self.run.as_ref().is_none_or(|run| !run.intakes.contains_key(part.stream())) {
            return;
        }
        let received = Frame::decode(bytes).map(|parts| parts.messages).unwrap_or_default();
        let of_part = received.into_iter().filter(|message| &message.claims().part == part);
        let verified: Vec<Verified<MessageContent>> = of_part.filter_map(|message| message.verify().ok()).collect();
        if verified.is_empty() {
            env.figures.refused_bytes += 1;
        }
        for message in verified {
            self.message(env, part.stream(), message);
        }
    }

    /// Now the permission to publish, then order and key.
    fn message(&mut self, env: &mut Env, stream: &StreamId, message: Verified<MessageContent>) {
        let (now, publisher) = (self.clock(env), message.content().publisher);
        let Some(run) = &mut self.run else { return };
        if check(&env.readers, &mut run.cache, stream, publisher, Permission::Publish, now).is_err() {
            return;
        }
        accepted(env, stream, &message);
        let (name, at) = ((publisher, message.content().chain), message.content().at);
        if let Some(journal) = run.journals.get_mut(stream) {
            let live = at.timestamp >= now.minus(self.limits.live_window);
            journal.arrived(name, at, env.now, live);
        }
        let effects = run.intakes.get_mut(stream).map(|intake| intake.message(now, message)).unwrap_or_default();
        self.carry_out(env, Todo::intake(stream, effects));
    }

    /// What time alone brings about.
    pub(crate) fn woken(&mut self, env: &mut Env) {
        let now = self.clock(env);
        let Some(run) = self.run.as_mut().filter(|run| run.wake == Some(env.now)) else { return };
        run.wake = None;
        let mut todo = VecDeque::new();
        for (stream, intake) in &mut run.intakes {
            todo.extend(Todo::intake(stream, intake.tick(now)));
        }
        todo.extend(Todo::asking(run.requester.tick(steady(env), &mut self.rng)));
        self.carry_out(env, todo);
    }

    /// Works off what intake and requester want, and what that brings about, until both are content.
    pub(crate) fn carry_out(&mut self, env: &mut Env, mut todo: VecDeque<Todo>) {
        while let Some(next) = todo.pop_front() {
            match next {
                Todo::Intake(stream, effect) => todo.extend(self.intake_effect(env, &stream, effect)),
                Todo::Asking(effect) => todo.extend(self.asking_effect(env, effect)),
            }
        }
        self.measure(env, self.limits.held_bytes < LARGE);
        self.set_timer(env);
    }

    fn intake_effect(&mut self, env: &mut Env, stream: &StreamId, effect: IntakeEffect) -> VecDeque<Todo> {
        match effect {
            IntakeEffect::Deliver(message) => self.deliver(env, stream, &message),
            IntakeEffect::Notify(event) => self.notify(env, stream, event),
            IntakeEffect::Need { publisher, key_id } => return self.need(env, stream, publisher, key_id),
            IntakeEffect::Keep { publisher, key, since } => return self.keep(env, stream, publisher, &key, since),
        }
        VecDeque::new()
    }

    fn deliver(&mut self, env: &mut Env, stream: &StreamId, message: &Message) {
        let Some(journal) = self.run.as_mut().and_then(|run| run.journals.get_mut(stream)) else { return };
        let user = self.identity.user();
        env.figures.deliveries += 1;
        env.note(format_args!("subscriber {} reads {}/{}", self.number, message.at.timestamp, message.at.sequence));
        let known = env.facts.messages.iter().find(|(_, fact)| fact.envelope == message.envelope);
        let Some((name, fact)) = known.map(|(name, fact)| (*name, fact)) else {
            return env.must(false, "no forged or altered message is delivered", || format!("{message:?}"));
        };
        let (published, same) = (fact.published, fact.payload == message.payload && &fact.stream == stream);
        env.must(same, "no forged or altered message is delivered", || format!("{message:?}"));
        let kept = journal.delivered((name.0, name.1), name.2, env.now);
        env.must(kept.is_ok(), "once, in the order of its chain", || format!("{kept:?} by {user}: {message:?}"));
        let could = env.could_subscribe_since(name.0, stream, user, published);
        env.must(could, "an ended subscriber reads nothing published later", || format!("{user} reads {message:?}"));
    }

    fn notify(&mut self, env: &mut Env, stream: &StreamId, event: Event) {
        env.note(format_args!("subscriber {} on {stream}: {event:?}", self.number));
        let Some(journal) = self.run.as_mut().and_then(|run| run.journals.get_mut(stream)) else { return };
        match event {
            Event::Gap { publisher, after, until, .. } => {
                env.figures.gaps += 1;
                journal.gaps.push(GapSeen { publisher, after, until, at: env.now });
            }
            Event::KeyRefused { publisher, key_id, refusal: Refusal::Policy, .. } => {
                journal.withheld.insert((publisher, key_id));
            }
            Event::ParkedDropped { dropped, .. } => journal.dropped += dropped,
            Event::WrongKey { publisher, key_id } => {
                env.must(false, "a key opens what it sealed", || format!("{publisher} {key_id} at {}", self.number));
            }
            _ => {}
        }
    }

    /// The store first; a key that is there causes no request.
    fn need(&mut self, env: &mut Env, stream: &StreamId, publisher: UserId, key_id: KeyId) -> VecDeque<Todo> {
        let now = self.clock(env);
        let Some(run) = &mut self.run else { return VecDeque::new() };
        if let Some(stored) = self.store.key(&scope(publisher, stream), &key_id).unwrap() {
            let intake = run.intakes.get_mut(stream);
            let effects = intake.map(|intake| intake.key_arrived(now, publisher, stored.key, Arrival::Store));
            return Todo::intake(stream, effects.unwrap_or_default());
        }
        Todo::asking(run.requester.want(steady(env), publisher, stream.clone(), vec![key_id], &mut self.rng))
    }

    /// A key that rode in a message: whoever could subscribe since then may have it.
    fn keep(
        &mut self,
        env: &mut Env,
        stream: &StreamId,
        publisher: UserId,
        key: &GroupKey,
        since: Timestamp,
    ) -> VecDeque<Todo> {
        let user = self.identity.user();
        let true_key = env.facts.is_true_key(publisher, stream, key);
        env.must(true_key, "no key across streams or publishers", || format!("{:?} at {user}", key.id()));
        let rode = env.facts.keys.get(key.id()).and_then(|fact| fact.rode).unwrap_or(u64::MAX);
        let could = env.could_subscribe_since(publisher, stream, user, rode);
        env.must(could, "no key without a grant", || format!("{user} unwraps {:?} of a message", key.id()));
        self.store.add(&scope(publisher, stream), key, since.as_millis(), None, KeyOrigin::Received).unwrap();
        let Some(run) = &mut self.run else { return VecDeque::new() };
        run.log.arrived(publisher, stream, key.id());
        Todo::asking(run.requester.arrived(steady(env), publisher, stream, key.id(), &mut self.rng))
    }

    fn set_timer(&mut self, env: &mut Env) {
        let now = self.clock(env);
        let Some(run) = &mut self.run else { return };
        let of_intakes = run.intakes.values().filter_map(Intake::next_wake);
        let of_requester = run.requester.next_wake(steady(env)).map(|at| at.since(steady(env)));
        let wake = of_intakes.map(|at| at.since(now)).chain(of_requester).min();
        let wake = wake.map(|span| env.now + (span.as_millis() as u64).max(1));
        if let Some(at) = wake.filter(|_| run.wake != wake) {
            env.net.at(at, Happening::Wake(self.number));
        }
        run.wake = wake;
    }
}

/// What the intake is given: a message that was published, on this stream, by one who may.
fn accepted(env: &mut Env, stream: &StreamId, message: &Verified<MessageContent>) {
    let content = message.content();
    let may = env.may_publish(stream, content.publisher);
    env.must(may, "no message of a non-publisher is accepted", || format!("{content:?}"));
    let known = env.facts.messages.get(&(content.publisher, content.chain, content.at));
    let same = known.is_some_and(|fact| fact.envelope == *message.envelope());
    env.must(same, "no forged or altered message is accepted", || format!("{content:?}"));
}
