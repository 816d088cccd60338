//! A subscriber asks for keys, as the shell does around the requester.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand::RngExt;
use veilcast::exchange::{AskFailure, Device, RequesterEffect};
use veilcast::key_store::KeyId;
use veilcast::stream::StreamId;
use veilcast::subscriber::{Intake, IntakeEffect};
use veilcast::wire::{ALGORITHM_RSA_OAEP_SHA256, KeyRequest, RequestId, Verified, Wanted};
use veilcast::{Refusal, Timestamp, UserId};

use crate::env::Env;
use crate::network::{Body, Event, Place};
use crate::subscriber::Subscriber;

/// What is left to do within one step of a subscriber.
pub(crate) enum Todo {
    Intake(StreamId, IntakeEffect),
    Asking(RequesterEffect),
}

impl Todo {
    pub(crate) fn intake(stream: &StreamId, effects: Vec<IntakeEffect>) -> VecDeque<Self> {
        effects.into_iter().map(|effect| Self::Intake(stream.clone(), effect)).collect()
    }

    pub(crate) fn asking(effects: Vec<RequesterEffect>) -> VecDeque<Self> {
        effects.into_iter().map(Self::Asking).collect()
    }
}

type KeyName = (UserId, StreamId, KeyId);

/// What one life asked, and what it was told; kept to check the requester, which keeps its own.
#[derive(Default)]
pub(crate) struct AskLog {
    pub(crate) sent: BTreeMap<RequestId, (UserId, StreamId, Vec<KeyId>)>,
    pub(crate) last: Option<RequestId>,
    times: BTreeMap<KeyName, u64>,
    /// The request under way to each publisher, by stream.
    under_way: BTreeMap<(UserId, StreamId), RequestId>,
    refused_until: BTreeMap<KeyName, Timestamp>,
    recent: VecDeque<Timestamp>,
    /// When the last answer was made, as it says.
    pub(crate) answered: Timestamp,
}

/// The requester's time, which nobody sets, whatever becomes of the clock.
pub(crate) fn steady(env: &Env) -> Timestamp {
    Timestamp::from_millis(env.now)
}

impl AskLog {
    /// A request was answered, or its time is over.
    pub(crate) fn ended(&mut self, publisher: UserId, stream: &StreamId) {
        self.under_way.remove(&(publisher, stream.clone()));
    }

    pub(crate) fn arrived(&mut self, publisher: UserId, stream: &StreamId, key_id: &KeyId) {
        self.refused_until.remove(&(publisher, stream.clone(), key_id.clone()));
    }
}

impl Subscriber {
    pub(crate) fn asking_effect(&mut self, env: &mut Env, effect: RequesterEffect) -> VecDeque<Todo> {
        let now = self.clock(env);
        match effect {
            // Here every publisher has one device.
            RequesterEffect::Send { id, publisher, stream, key_ids, .. } => {
                self.no_storm(env, publisher, &stream, &key_ids);
                self.ask(env, id, publisher, stream, key_ids);
                VecDeque::new()
            }
            RequesterEffect::Refused { publisher, stream, key_id, refusal, until } => {
                let until = now.plus(until.since(steady(env)));
                self.remember_refusal(env, (publisher, stream.clone(), key_id.clone()), refusal);
                self.tell(&stream, |intake| intake.key_refused(now, publisher, &key_id, refusal, until))
            }
            RequesterEffect::Retrying { publisher, stream, failure, after } => {
                self.run.iter_mut().for_each(|run| run.log.ended(publisher, &stream));
                env.note(format_args!("subscriber {} asks {publisher} again in {after:?}: {failure}", self.number));
                VecDeque::new()
            }
            RequesterEffect::GivenUp { publisher, stream, key_ids, failure } => {
                self.run.iter_mut().for_each(|run| run.log.ended(publisher, &stream));
                let unavailable = |key_id| self.tell(&stream, |i| i.key_unavailable(now, publisher, key_id, failure));
                key_ids.iter().flat_map(unavailable).collect()
            }
        }
    }

    pub(crate) fn tell(
        &mut self,
        stream: &StreamId,
        news: impl FnOnce(&mut Intake) -> Vec<IntakeEffect>,
    ) -> VecDeque<Todo> {
        let intake = self.run.as_mut().and_then(|run| run.intakes.get_mut(stream));
        Todo::intake(stream, intake.map(news).unwrap_or_default())
    }

    /// Only what this life really was told counts; what it was reminded of does not make the memory longer.
    fn remember_refusal(&mut self, env: &mut Env, name: KeyName, refusal: Refusal) {
        let (now, memory) = (steady(env), self.config.refusal_memory);
        let Some(run) = &mut self.run else { return };
        let until = match refusal {
            // Both moments are the publisher's.
            Refusal::NotYet { from } => now.plus(memory.min(from.since(run.log.answered))),
            _ => now.plus(memory),
        };
        let known = run.log.refused_until.entry(name).or_insert(until);
        if *known <= now {
            *known = until;
        }
    }

    /// A refused key is not asked for again while the refusal is remembered, and nobody asks faster than promised, whatever
    /// becomes of its clock.
    fn no_storm(&mut self, env: &mut Env, publisher: UserId, stream: &StreamId, key_ids: &[KeyId]) {
        let now = steady(env);
        let Some(run) = &mut self.run else { return };
        let per_second = self.config.max_key_requests_per_second as usize;
        run.log.recent.push_back(now);
        while run.log.recent.front().is_some_and(|at| at.plus(Duration::from_secs(1)) <= now) {
            run.log.recent.pop_front();
        }
        let recent = run.log.recent.len();
        env.must(recent <= per_second, "no request storm", || format!("{recent} requests within a second"));
        for key_id in key_ids {
            let name = (publisher, stream.clone(), key_id.clone());
            let until = run.log.refused_until.get(&name).copied().unwrap_or(now);
            env.must(until <= now, "no request storm", || format!("{key_id} is refused until {until}"));
            let times = run.log.times.entry(name).or_default();
            *times += 1;
            env.figures.most_asked_per_key = env.figures.most_asked_per_key.max(*times);
        }
    }

    fn ask(&mut self, env: &mut Env, id: RequestId, publisher: UserId, stream: StreamId, key_ids: Vec<KeyId>) {
        let (user, sent) = (self.identity.user(), self.clock(env));
        let (Some(run), Some(number)) = (&mut self.run, env.number_of(publisher)) else { return };
        let another = run.log.under_way.insert((publisher, stream.clone()), id);
        env.must(another.is_none(), "one request at a time", || format!("{id:?} beside {another:?}"));
        run.log.sent.insert(id, (publisher, stream.clone(), key_ids.clone()));
        run.log.last = Some(id);
        run.requester.left(steady(env), id, Device::new(publisher.as_bytes()));
        env.figures.key_requests += 1;
        let request = KeyRequest {
            id,
            stream,
            publisher,
            requester: user,
            sent,
            algorithm: ALGORITHM_RSA_OAEP_SHA256,
            public_key: run.pair.public().as_der().to_vec(),
            wanted: Wanted::Keys(key_ids),
            proofs: Vec::new(),
        };
        let signed = Verified::sign(request, &self.identity).unwrap();
        env.facts.asked.insert((user, id));
        let (from, to) = (self.place(), Place::Publisher(number));
        if !env.net.reaches(from, to) && self.rng.random_bool(0.5) {
            env.net.at(env.now + 3, Event::Unreachable(self.number, self.life, id));
            return;
        }
        env.send(from, to, Body::Request(signed.envelope().clone()));
    }

    pub(crate) fn unreachable(&mut self, env: &mut Env, life: usize, id: RequestId) {
        let Some(run) = self.run.as_mut().filter(|_| self.life == life) else { return };
        let effects = run.requester.failed(steady(env), id, AskFailure::Unreachable, &mut self.rng);
        self.carry_out(env, Todo::asking(effects));
    }
}
