//! A subscriber takes in answers and pushes.

use std::collections::VecDeque;

use bytes::Bytes;
use rand::RngExt;
use veilcast::cipher::{Recipient, TransportKey};
use veilcast::key_store::{GroupKey, KeyId, KeyOrigin, KeyStore, StoreError};
use veilcast::stream::StreamId;
use veilcast::subscriber::Arrival;
use veilcast::wire::{GrantedKey, KeyAnswer, KeyPush, KeyReceipt, Received, RequestId, Verified};
use veilcast::{Permission, Timestamp, UserId, scope};

use crate::access::check;
use crate::asking::{Todo, steady};
use crate::env::Env;
use crate::network::{Body, Event, Place};
use crate::subscriber::Subscriber;

/// How far a push's time may be from ours, as in the shell.
const FRESHNESS: std::time::Duration = std::time::Duration::from_secs(60);

/// What unwrapping an answer brought.
pub(crate) struct Opened {
    publisher: UserId,
    stream: StreamId,
    keys: Vec<GroupKey>,
    unopened: Vec<KeyId>,
}

/// Wrapped keys addressed to us.
struct Batch<'a> {
    publisher: UserId,
    stream: &'a StreamId,
    request: RequestId,
    encapsulated: &'a [u8],
    granted: &'a [GrantedKey],
}

impl Subscriber {
    /// Something came on the connection of a call. A bogus answer must change nothing: the call stays open.
    pub(crate) fn answered(&mut self, env: &mut Env, call: RequestId, bytes: &Bytes) {
        let decoded = Received::<KeyAnswer>::decode(bytes).ok().filter(|received| received.claims().id == call);
        let Some(answer) = decoded.and_then(|received| received.verify().ok()) else {
            env.figures.refused_bytes += 1;
            return;
        };
        let Some(run) = &mut self.run else { return };
        let settled = match run.requester.settle(steady(env), &answer, |_| false, &mut self.rng) {
            Ok(settled) => settled,
            Err(fault) => {
                env.figures.bogus_answers += 1;
                return env.note(format_args!("subscriber {} ignores an answer: {fault}", self.number));
            }
        };
        run.log.answered = answer.content().sent;
        run.log.ended(answer.content().publisher, &answer.content().stream);
        self.must_have_asked(env, answer.content());
        let todo = Todo::asking(settled.effects);
        if !settled.granted.is_empty() {
            self.open_later(env, answer.content(), &settled.granted);
        }
        self.carry_out(env, todo);
    }

    /// An answer that counts is of the one asked, for the one who asked, about what was asked.
    fn must_have_asked(&self, env: &mut Env, answer: &KeyAnswer) {
        let Some(run) = &self.run else { return };
        let asked = run.log.sent.get(&answer.id);
        let fits = asked.is_some_and(|(publisher, stream, key_ids)| {
            let granted = answer.granted.iter().map(|granted| &granted.key_id);
            let mut spoken = granted.chain(answer.refused.iter().map(|refused| &refused.key_id));
            let of_whom = (*publisher, stream) == (answer.publisher, &answer.stream);
            of_whom && answer.requester == self.user() && spoken.all(|key_id| key_ids.contains(key_id))
        });
        env.must(fits, "only the answer of the one asked, about what was asked, counts", || format!("{answer:?}"));
    }

    /// Unwrapping takes a while; other things happen meanwhile.
    fn open_later(&mut self, env: &mut Env, answer: &KeyAnswer, granted: &[GrantedKey]) {
        let batch = Batch {
            publisher: answer.publisher,
            stream: &answer.stream,
            request: answer.id,
            encapsulated: &answer.encapsulated,
            granted,
        };
        let keys = self.open_and_store(env, &batch);
        let all = granted.iter().map(|granted| granted.key_id.clone());
        let unopened = all.filter(|id| keys.iter().all(|key| key.id() != id)).collect();
        let opened = Opened { publisher: answer.publisher, stream: answer.stream.clone(), keys, unopened };
        let done = env.now + self.rng.random_range(0..20);
        env.net.at(done, Event::Opened(self.number, self.life, opened));
    }

    pub(crate) fn opened(&mut self, env: &mut Env, life: usize, opened: Opened) {
        let now = self.clock(env);
        let Some(run) = self.run.as_mut().filter(|_| self.life == life) else { return };
        let Opened { publisher, stream, keys, unopened } = opened;
        let mut todo = VecDeque::new();
        for key in &keys {
            run.log.arrived(publisher, &stream, key.id());
            todo.extend(Todo::asking(run.requester.arrived(steady(env), publisher, &stream, key.id(), &mut self.rng)));
        }
        if !unopened.is_empty() {
            let rng = &mut self.rng;
            todo.extend(Todo::asking(run.requester.did_not_open(steady(env), publisher, &stream, &unopened, rng)));
        }
        for key in keys {
            todo.extend(self.tell(&stream, |intake| intake.key_arrived(now, publisher, key, Arrival::Answer)));
        }
        self.carry_out(env, todo);
    }

    fn open_and_store(&mut self, env: &mut Env, batch: &Batch<'_>) -> Vec<GroupKey> {
        let (scope, user) = (scope(batch.publisher, batch.stream), self.identity.user());
        let Some(run) = &self.run else { return Vec::new() };
        let recipient = Recipient { scope: &scope, subscriber: user, request: batch.request };
        let opened = TransportKey::decapsulate(recipient, run.pair, batch.encapsulated, &mut self.rng);
        let Ok(transport) = opened else { return Vec::new() };
        let mut keys = Vec::new();
        for granted in batch.granted {
            let Ok(key) = transport.unwrap(&granted.key_id, &granted.wrapped) else { continue };
            let true_key = env.facts.is_true_key(batch.publisher, batch.stream, &key);
            env.must(true_key, "no key across streams or publishers", || format!("{:?} at {user}", key.id()));
            let handed = env.facts.handed.contains(&(user, key.id().clone()));
            env.must(handed, "only what its publisher hands out is unwrapped", || format!("{:?} at {user}", key.id()));
            let until = granted.until.map(Timestamp::as_millis);
            match self.store.add(&scope, &key, granted.since.as_millis(), until, KeyOrigin::Received) {
                Ok(()) => keys.push(key),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => unreachable!("a store in memory does not fail: {error}"),
            }
        }
        keys
    }

    /// Takes a pushed key in: fresh, new, for a stream read here, of one who may publish there.
    pub(crate) fn pushed(&mut self, env: &mut Env, from: Place, bytes: &Bytes) {
        let (now, user) = (self.clock(env), self.identity.user());
        let Some(run) = &mut self.run else { return };
        let Ok(received) = Received::<KeyPush>::decode(bytes) else {
            env.figures.refused_bytes += 1;
            return;
        };
        let claims = received.claims();
        let fresh = now.since(claims.sent).max(claims.sent.since(now)) <= FRESHNESS;
        let wanted = claims.subscriber == user && run.intakes.contains_key(&claims.stream);
        if !fresh || !wanted || run.pushes.contains(&(claims.publisher, claims.id)) {
            return;
        }
        let Ok(push) = received.verify().map(Verified::into_content) else {
            env.figures.refused_bytes += 1;
            return;
        };
        let may = check(&env.readers, &mut run.cache, &push.stream, push.publisher, Permission::Publish, now);
        if may.is_err() || !run.pushes.insert((push.publisher, push.id)) {
            return;
        }
        let batch = Batch {
            publisher: push.publisher,
            stream: &push.stream,
            request: push.id,
            encapsulated: &push.encapsulated,
            granted: &push.granted,
        };
        let keys = self.open_and_store(env, &batch);
        if keys.is_empty() {
            return;
        }
        self.key_is_here(env, &push, keys);
        let receipt = KeyReceipt { id: push.id, subscriber: user, publisher: push.publisher, stream: push.stream };
        let signed = Verified::sign(receipt, &self.identity).unwrap();
        env.send(self.place(), from, Body::Receipt(signed.envelope().clone()));
    }

    fn key_is_here(&mut self, env: &mut Env, push: &KeyPush, keys: Vec<GroupKey>) {
        let now = self.clock(env);
        for key in keys {
            let Some(run) = &mut self.run else { return };
            run.log.arrived(push.publisher, &push.stream, key.id());
            let arrived = run.requester.arrived(steady(env), push.publisher, &push.stream, key.id(), &mut self.rng);
            let mut todo = Todo::asking(arrived);
            todo.extend(self.tell(&push.stream, |intake| intake.key_arrived(now, push.publisher, key, Arrival::Push)));
            self.carry_out(env, todo);
        }
    }
}
