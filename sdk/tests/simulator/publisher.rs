//! A publisher's host: what the shell does around schedule, chain, end watch and compose.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use veilcast::cipher::MessageCipher;
use veilcast::exchange::{HistoryPolicies, Screen, ScreenLimits};
use veilcast::identity::Identity;
use veilcast::key_store::{KeyStore, RecordStore, StoreError};
use veilcast::message::{Draft, Payload, compose};
use veilcast::permission::{LocalRegistry, PermissionCache, PermissionSource, StreamInfo};
use veilcast::publisher::{Chain, EndWatch, KeySchedule, KeysAhead, MessageStep, Meter, policy};
use veilcast::stream::StreamId;
use veilcast::wire::{Encryption, Frame, MessageContent, RequestId, Verified};
use veilcast::{Timestamp, UserId, scope};

use crate::access::ready;
use crate::archive::Happening;
use crate::disk::Disk;
use crate::env::{Env, subscribing};
use crate::facts::MessageFact;
use crate::network::{Body, Event, Place};
use crate::rules::{Rules, Used};

/// Table of what the last rekey shut out, by stream, as the shell keeps it.
const REKEYS: &str = "rekeys";

/// A publisher: what outlives a crash, and the process if it runs.
pub(crate) struct Publisher {
    pub(crate) number: usize,
    pub(crate) identity: Identity,
    pub(crate) streams: Vec<StreamId>,
    pub(crate) disk: Arc<Disk>,
    pub(crate) limits: ScreenLimits,
    pub(crate) rng: StdRng,
    pub(crate) life: usize,
    pub(crate) rules: BTreeMap<StreamId, Rules>,
    /// How its keys were used, through all its lives.
    pub(crate) used: BTreeMap<StreamId, Used>,
    pub(crate) office: Option<Office>,
}

/// One life of a publisher.
pub(crate) struct Office {
    pub(crate) registry: LocalRegistry,
    pub(crate) history: HistoryPolicies,
    pub(crate) cache: PermissionCache,
    pub(crate) screen: Screen,
    pub(crate) desks: BTreeMap<StreamId, Desk>,
    /// Who was given a key: where it was asked from, and for which public key.
    pub(crate) holders: BTreeMap<(StreamId, UserId), (Place, Vec<u8>)>,
    /// Requests admitted; a check of ours, not the shell's.
    pub(crate) admitted: BTreeSet<(UserId, RequestId)>,
}

/// One stream of one life.
pub(crate) struct Desk {
    pub(crate) schedule: KeySchedule,
    chains: BTreeMap<u32, Chain>,
    pub(crate) meter: Meter,
    pub(crate) ends: EndWatch,
    pub(crate) ahead: KeysAhead,
    /// What the source last said of the stream.
    pub(crate) info: Option<StreamInfo>,
    /// Keys queued by rotate since the last rekey: only these may ride.
    pub(crate) rotated: BTreeSet<String>,
}

impl Publisher {
    pub(crate) fn new(number: usize, seed: u64, streams: Vec<StreamId>, limits: ScreenLimits) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ (0x50 + number as u64) << 32);
        let identity = Identity::generate(&mut rng);
        Self {
            number,
            identity,
            streams,
            disk: Arc::new(Disk::new()),
            limits,
            rng,
            life: 0,
            rules: BTreeMap::new(),
            used: BTreeMap::new(),
            office: None,
        }
    }

    pub(crate) fn user(&self) -> UserId {
        self.identity.user()
    }

    pub(crate) fn place(&self) -> Place {
        Place::Publisher(self.number)
    }

    pub(crate) fn clock(&self, env: &Env) -> Timestamp {
        env.clock(self.place())
    }

    pub(crate) fn set_rules(&mut self, stream: &StreamId, rules: Rules) {
        rules.keys.save(&*self.disk, stream).unwrap();
        HistoryPolicies::new(self.disk.clone()).set(stream, rules.history).unwrap();
        self.rules.insert(stream.clone(), rules);
        self.used.entry(stream.clone()).or_default();
    }

    /// Begins a life. Nobody starts from a disk that cannot be read, so it was mended.
    pub(crate) fn start(&mut self, env: &mut Env) {
        self.disk.mend();
        self.life += 1;
        let now = self.clock(env);
        let desks = self.streams.clone().into_iter().map(|stream| {
            let current = self.disk.current(&scope(self.user(), &stream)).unwrap();
            let noted = self.disk.get(REKEYS, stream.as_str().as_bytes()).unwrap();
            let (policy, count) = policy::load_with_count(&*self.disk, &stream).unwrap();
            let ends = EndWatch::resume(noted.as_deref());
            let desk = Desk {
                meter: Meter::resume(policy, count.as_deref(), current.as_ref(), ends.last_rekey()),
                schedule: KeySchedule::resume(scope(self.user(), &stream), current.map(|stored| stored.key)),
                chains: BTreeMap::new(),
                ends,
                ahead: KeysAhead::default(),
                info: None,
                rotated: BTreeSet::new(),
            };
            (stream, desk)
        });
        let desks = desks.collect();
        self.office = Some(Office {
            registry: LocalRegistry::new(self.disk.clone()),
            history: HistoryPolicies::new(self.disk.clone()),
            cache: PermissionCache::default(),
            screen: Screen::new(self.user(), self.limits, now),
            desks,
            holders: BTreeMap::new(),
            admitted: BTreeSet::new(),
        });
        self.look_soon(env);
    }

    /// Publishes a message nobody has seen before; with `dies` the process ends once the key is stored.
    pub(crate) fn publish(&mut self, env: &mut Env, stream: &StreamId, part: u32, dies: bool) {
        if self.office.is_some() && self.try_publish(env, stream, part, dies).is_err() {
            env.figures.disk_failures += 1;
            env.note(format_args!("publisher {} cannot publish: its disk fails", self.number));
        }
    }

    fn try_publish(&mut self, env: &mut Env, stream: &StreamId, part: u32, dies: bool) -> Result<(), StoreError> {
        let Some(office) = &mut self.office else { return Ok(()) };
        let Some(desk) = office.desks.get_mut(stream) else { return Ok(()) };
        let known = office.registry.stream_info(stream).ok().flatten();
        // What cannot be told is not public.
        let public = known.as_ref().is_some_and(|info| info.public);
        desk.info = known.or(desk.info.take());
        if desk.info.is_none() {
            return Ok(());
        }
        if public {
            self.say(env, stream, part, None);
            return Ok(());
        }
        self.change_key_where_due(env, stream)?;
        let step = self.next_step(env, stream)?;
        if !dies {
            self.say(env, stream, part, step.as_ref());
        }
        Ok(())
    }

    /// What seals the next message, durable already.
    fn next_step(&mut self, env: &mut Env, stream: &StreamId) -> Result<Option<MessageStep>, StoreError> {
        let (now, user) = (self.clock(env), self.user());
        let Some(office) = &mut self.office else { return Ok(None) };
        let Some(desk) = office.desks.get_mut(stream) else { return Ok(None) };
        let step = desk.schedule.plan_message(&mut self.rng);
        if let Some(key) = &step.make_current {
            env.facts.made(user, stream, key);
            let first = desk.schedule.current().is_none();
            if first {
                desk.ended(&office.registry, &self.disk, stream, now);
            }
            self.disk.make_current(&scope(user, stream), key, now.as_millis())?;
            self.used.entry(stream.clone()).or_default().becomes_current(key.id(), first, env.now);
            if first {
                desk.note_rekey(&self.disk, stream, now)?;
            }
        }
        desk.meter.begin(&step, now);
        if let Some(record) = desk.meter.reserve(step.key.id()) {
            policy::save_count(&*self.disk, stream, record)?;
            desk.meter.reserved();
        }
        Ok(Some(step))
    }

    /// In plaintext without a step.
    fn say(&mut self, env: &mut Env, stream: &StreamId, part: u32, step: Option<&MessageStep>) {
        let (scope, user, now) = (scope(self.user(), stream), self.user(), self.clock(env));
        let Some(desk) = self.office.as_mut().and_then(|office| office.desks.get_mut(stream)) else { return };
        let number = env.facts.messages.len();
        let payload = format!("message {number} {}", "x".repeat(self.rng.random_range(0..60)));
        let chain = desk.chains.entry(part).or_insert_with(|| Chain::begin(&mut self.rng));
        let at = chain.next(now);
        let draft = Draft {
            part: stream.part(part).unwrap(),
            chain: chain.id(),
            at,
            previous: chain.last(),
            key_updates: step.map(|step| step.key_updates.clone()).unwrap_or_default(),
        };
        let sealed = step.map(|step| (step.key.id().clone(), MessageCipher::new(&scope, &step.key)));
        let sealing = sealed.as_ref().map(|(key_id, cipher)| (key_id, cipher));
        let signed = compose(draft, &Payload::text(payload.clone()), sealing, &self.identity, &mut self.rng).unwrap();
        chain.advance(at);
        if let Some(step) = step {
            desk.schedule.message_sent(step);
            desk.meter.sealed(step, now);
        }
        let fact = MessageFact {
            stream: stream.clone(),
            payload: payload.into(),
            key_id: sealed.map(|(key_id, _)| key_id),
            published: env.now,
            envelope: signed.envelope().clone(),
        };
        env.facts.messages.insert((user, signed.content().chain, at), fact);
        env.figures.messages += 1;
        self.judge(env, stream, &signed);
        self.broadcast(env, &signed);
    }

    /// What must be true of a message that leaves.
    fn judge(&mut self, env: &mut Env, stream: &StreamId, signed: &Verified<MessageContent>) {
        let public = env.is_public(self.number, stream);
        let Encryption::GroupKey(key_id) = &signed.content().encryption else {
            return env.must(public, "a private stream is encrypted", || format!("{:?}", signed.content()));
        };
        self.nobody_ended_holds(env, stream, key_id);
        let (rules, timely) = (self.rules[stream], !env.clocks.was_set(self.place()));
        let counted = self.used.entry(stream.clone()).or_default().seals(key_id, &rules, timely, env.now);
        env.must(counted.is_ok(), "a key seals no more than its policy says", || format!("{key_id}: {counted:?}"));
        let durable = self.disk.has(&scope(self.user(), stream), key_id);
        env.must(durable, "a key is durable before its first message", || format!("{key_id}"));
        let Some(desk) = self.office.as_ref().and_then(|office| office.desks.get(stream)) else { return };
        for update in &signed.content().key_updates {
            let allowed = desk.rotated.contains(update.key_id.as_str());
            env.must(allowed, "a rekey discards what was queued", || format!("{:?} still rides", update.key_id));
            let durable = self.disk.has(&scope(self.user(), stream), &update.key_id);
            env.must(durable, "a key is durable before its first message", || format!("{:?} rides", update.key_id));
            env.facts.rides(&update.key_id, env.now);
        }
    }

    fn nobody_ended_holds(&self, env: &mut Env, stream: &StreamId, key_id: &veilcast::key_store::KeyId) {
        for holder in env.facts.holders_of(key_id) {
            let question = subscribing(self.number, stream, holder);
            let may = env.grants.goes_on(&question, &env.clocks, env.now);
            env.must(may, "an ended subscriber reads nothing published later", || {
                format!("{holder} holds {key_id}, of which publisher {} still makes use", self.number)
            });
        }
    }

    fn broadcast(&self, env: &mut Env, signed: &Verified<MessageContent>) {
        let part = signed.content().part.clone();
        let at = signed.content().at;
        env.note(format_args!("publisher {} says {}/{} on {part}", self.number, at.timestamp, at.sequence));
        let frame = Frame::of_message(signed.envelope().clone());
        for subscriber in 0..env.subscribers.len() {
            env.send(self.place(), Place::Subscriber(subscriber), Body::Frame(part.clone(), frame.clone()));
        }
        env.net.at(env.now, Event::Archive(Happening::Said(part, frame)));
    }
}

impl Desk {
    /// Whose grants ended since the last rekey; the source is asked only when something changed, as in the shell.
    pub(crate) fn ended(
        &mut self,
        registry: &LocalRegistry,
        disk: &Disk,
        stream: &StreamId,
        now: Timestamp,
    ) -> &[UserId] {
        let changes = registry.changes();
        self.ends.tick(now);
        if !self.ends.is_current(now, changes) {
            self.ends.learn(now, changes, ready(registry.subscribers(stream)).ok());
            self.save_ends(disk, stream);
        }
        self.ends.ended()
    }

    /// Whether somebody may hold the key in use who may not read any more.
    pub(crate) fn must_rekey(
        &mut self,
        registry: &LocalRegistry,
        disk: &Disk,
        stream: &StreamId,
        now: Timestamp,
    ) -> bool {
        let public_until = self.info.as_ref().and_then(|info| info.public_until);
        let ended = !self.ended(registry, disk, stream, now).is_empty();
        ended || self.ends.is_blind() || self.ends.was_public(public_until)
    }

    pub(crate) fn handed(&mut self, disk: &Disk, stream: &StreamId, now: Timestamp) {
        self.ends.handed(now);
        self.save_ends(disk, stream);
    }

    /// A failed disk is no reason to stop, as in the shell.
    fn save_ends(&mut self, disk: &Disk, stream: &StreamId) {
        if let Some(record) = self.ends.unsaved() {
            let _ = disk.write(REKEYS, &[(stream.as_str().as_bytes().to_vec(), Some(record))]);
        }
    }

    pub(crate) fn note_rekey(&mut self, disk: &Disk, stream: &StreamId, now: Timestamp) -> Result<(), StoreError> {
        let record = self.ends.rekeyed(now, self.info.as_ref().and_then(|info| info.public_until));
        disk.write(REKEYS, &[(stream.as_str().as_bytes().to_vec(), Some(record))])
    }
}
