//! A publisher changes keys: rotate for later, rekey at once, and by itself when somebody's time ended.

use veilcast::cipher::PublicKey;
use veilcast::exchange::push;
use veilcast::key_store::{GroupKey, KeyOrigin, KeyStore, StoreError, StoredKey};
use veilcast::permission::{LocalRegistry, Period};
use veilcast::publisher::{Circle, Due, KeyAhead};
use veilcast::stream::StreamId;
use veilcast::{Grant, Permission, Refusal, Timestamp, UserId, scope};

use crate::access::check;
use crate::env::{Env, subscribing};
use crate::grants::{Source, public};
use crate::network::{Body, Event};
use crate::plan::Change;
use crate::publisher::{Office, Publisher};

/// Between two looks for ends that come, milliseconds.
const LOOK: u64 = 500;

impl Publisher {
    pub(crate) fn rotate(&mut self, env: &mut Env, stream: &StreamId) {
        if self.try_rotate(env, stream).is_err() {
            env.figures.disk_failures += 1;
        }
    }

    fn try_rotate(&mut self, env: &mut Env, stream: &StreamId) -> Result<(), StoreError> {
        let (now, user) = (self.clock(env), self.user());
        let Some(office) = &mut self.office else { return Ok(()) };
        let Some(desk) = office.desks.get_mut(stream) else { return Ok(()) };
        let ended = !desk.ended(&office.registry, &self.disk, stream, now).is_empty();
        if ended && desk.schedule.current().is_some() {
            env.figures.rotates_refused += 1;
            return Ok(());
        }
        desk.ahead.discard();
        let next = GroupKey::generate(&mut self.rng);
        env.facts.made(user, stream, &next);
        env.figures.rotates += 1;
        desk.rotated.insert(next.id().as_str().into());
        if let Some(first) = desk.schedule.rotate(next) {
            self.disk.make_current(&scope(user, stream), &first.make_current, now.as_millis())?;
            let used = self.used.entry(stream.clone()).or_default();
            used.becomes_current(first.make_current.id(), true, env.now);
            desk.schedule.rekeyed(first);
            desk.meter.rekeyed(now);
            desk.note_rekey(&self.disk, stream, now)?;
        }
        Ok(())
    }

    /// As the shell does before every message: for somebody whose grant ended, or as the policy says.
    pub(crate) fn change_key_where_due(&mut self, env: &mut Env, stream: &StreamId) -> Result<(), StoreError> {
        let now = self.clock(env);
        let Some(office) = &mut self.office else { return Ok(()) };
        let Some(desk) = office.desks.get_mut(stream) else { return Ok(()) };
        if desk.schedule.current().is_none() {
            return Ok(());
        }
        let mut due = desk.meter.due(now);
        if desk.must_rekey(&office.registry, &self.disk, stream, now) {
            due = Due::Rekey;
        }
        if due == Due::Rekey {
            self.try_rekey(env, stream, false)?;
            due = self.due_after_rekey(stream, now);
        }
        if matches!(due, Due::RotateWith | Due::RotateBefore) {
            self.queue_next(env, stream, due == Due::RotateBefore);
        }
        Ok(())
    }

    /// Where each key seals one message, the first under a rekeyed one carries the next already.
    fn due_after_rekey(&mut self, stream: &StreamId, now: Timestamp) -> Due {
        let desk = self.office.as_mut().and_then(|office| office.desks.get_mut(stream));
        let due = desk.map(|desk| desk.meter.due(now)).filter(|due| *due == Due::RotateWith);
        due.unwrap_or(Due::Nothing)
    }

    /// Unless one was queued by hand.
    fn queue_next(&mut self, env: &mut Env, stream: &StreamId, at_once: bool) {
        let user = self.user();
        let Some(desk) = self.office.as_mut().and_then(|office| office.desks.get_mut(stream)) else { return };
        if desk.schedule.queued().is_none() {
            let next = GroupKey::generate(&mut self.rng);
            env.facts.made(user, stream, &next);
            env.figures.rotates += 1;
            desk.rotated.insert(next.id().as_str().into());
            desk.schedule.rotate(next);
        }
        if at_once {
            desk.schedule.hurry();
        }
    }

    /// The shell's task looks more often.
    pub(crate) fn look_soon(&self, env: &mut Env) {
        if env.now < env.last_act {
            env.net.at(env.now + LOOK, Event::Look(self.number, self.life));
        }
    }

    /// As the shell does whether anybody publishes or not: a key for each end that comes, to those who may read now and then.
    pub(crate) fn look_ahead(&mut self, env: &mut Env, life: usize) {
        if self.office.is_none() || self.life != life {
            return;
        }
        for stream in self.streams.clone() {
            self.make_ahead(env, &stream);
        }
        self.look_soon(env);
    }

    fn make_ahead(&mut self, env: &mut Env, stream: &StreamId) {
        let (now, user) = (self.clock(env), self.user());
        let Some(office) = &mut self.office else { return };
        let Some(desk) = office.desks.get_mut(stream) else { return };
        desk.ended(&office.registry, &self.disk, stream, now);
        let Some(from) = desk.ahead.due(now, &desk.ends) else { return };
        if desk.schedule.current().is_none() || desk.info.as_ref().is_none_or(|info| info.public) {
            return;
        }
        let key = GroupKey::generate(&mut self.rng);
        env.note(format_args!("publisher {} sends {} ahead of {from} on {stream}", self.number, key.id()));
        env.facts.made(user, stream, &key);
        env.figures.keys_ahead += 1;
        let served_always = [Some(user), stream.owner()].into_iter().flatten();
        let ahead = desk.ahead.make(from, key.clone(), now, &desk.ends, served_always);
        let holders: Vec<UserId> =
            office.holders.keys().filter(|(of, _)| of == stream).map(|(_, holder)| *holder).collect();
        for holder in holders.into_iter().filter(|holder| ahead.circle().is_open_to(*holder)) {
            let may = env.may_subscribe_then(self.number, stream, holder, from);
            env.must(may, "a key sent ahead is for those who may read after the end", || format!("{holder} at {from}"));
        }
        let stored = StoredKey { key, since: from.as_millis(), until: None, origin: KeyOrigin::Made };
        self.hand_out(env, stream, &stored, Some(ahead.circle()));
    }

    pub(crate) fn rekey(&mut self, env: &mut Env, stream: &StreamId) {
        if self.try_rekey(env, stream, true).is_err() {
            env.figures.disk_failures += 1;
        }
    }

    /// The key is durable, then current, then handed to everybody who may have it and was not sent it ahead.
    fn try_rekey(&mut self, env: &mut Env, stream: &StreamId, by_hand: bool) -> Result<(), StoreError> {
        let (now, user) = (self.clock(env), self.user());
        let Some(office) = &mut self.office else { return Ok(()) };
        let Some(desk) = office.desks.get_mut(stream) else { return Ok(()) };
        desk.ended(&office.registry, &self.disk, stream, now);
        if by_hand {
            desk.ahead.discard();
        }
        let ahead = desk.ahead.take(now, &desk.ends);
        env.figures.ahead_used += u64::from(ahead.is_some());
        let since = ahead.as_ref().map_or(now, KeyAhead::from);
        let key = ahead.as_ref().map(|ahead| ahead.key().clone());
        let key = key.unwrap_or_else(|| GroupKey::generate(&mut self.rng));
        env.note(format_args!("publisher {} rekeys {stream} to {}", self.number, key.id()));
        env.facts.made(user, stream, &key);
        let step = desk.schedule.plan_rekey(key);
        self.disk.make_current(&scope(user, stream), &step.make_current, since.as_millis())?;
        let used = self.used.entry(stream.clone()).or_default();
        used.becomes_current(step.make_current.id(), true, env.now);
        let stored = self.disk.key(&scope(user, stream), step.make_current.id())?;
        desk.schedule.rekeyed(step);
        desk.meter.rekeyed(now);
        desk.rotated.clear();
        env.figures.rekeys += 1;
        desk.note_rekey(&self.disk, stream, now)?;
        let circle = ahead.as_ref().map(KeyAhead::circle);
        stored.iter().for_each(|stored| self.hand_out(env, stream, stored, circle));
        Ok(())
    }

    fn hand_out(&mut self, env: &mut Env, stream: &StreamId, stored: &StoredKey, circle: Option<&Circle>) {
        let (now, place) = (self.clock(env), self.place());
        let Some(office) = &mut self.office else { return };
        // A key that is current counts from now, however late it is dated because a clock was set back.
        let current = office.desks.get(stream).and_then(|desk| desk.schedule.current());
        let is_current = current.is_some_and(|current| current.id() == stored.key.id());
        let of_stream = office.holders.iter().filter(|((of, _), _)| of == stream);
        let holders: Vec<_> = of_stream.map(|((_, user), holder)| (*user, holder.clone())).collect();
        for (user, (at, public_key)) in holders {
            if circle.is_some_and(|circle| !circle.join(user)) {
                continue;
            }
            let checked = office.may_subscribe(stream, user, now);
            if !checked.as_ref().is_ok_and(|grant| circle.is_none_or(|circle| circle.allows(grant))) {
                circle.into_iter().for_each(|circle| circle.leave(user));
                if checked.is_err_and(|refusal| refusal.retry_after().is_none()) {
                    office.holders.remove(&(stream.clone(), user));
                }
                continue;
            }
            let since = if is_current { now } else { Timestamp::from_millis(stored.since).max(now) };
            let may = env.may_subscribe(self.number, stream, user)
                && env.may_subscribe_then(self.number, stream, user, since);
            env.must(may, "no key without a grant", || format!("publisher {} pushes to {user}", self.number));
            let public = PublicKey::from_der(&public_key).unwrap();
            let signed = push(stream, user, &public, stored, &self.identity, now, &mut self.rng).unwrap();
            env.facts.handed.insert((user, stored.key.id().clone()));
            env.figures.keys_handed += 1;
            env.send(place, at, Body::Push(signed.envelope().clone()));
        }
    }

    /// Works on this publisher's own registry, whether its process runs or not.
    fn registry<T>(&self, work: impl FnOnce(&LocalRegistry) -> T) -> T {
        let by_hand = LocalRegistry::new(self.disk.clone());
        work(self.office.as_ref().map_or(&by_hand, |office| &office.registry))
    }

    pub(crate) fn permit(&mut self, env: &mut Env, stream: &StreamId, subscriber: usize, change: Change) {
        let (now, user) = (self.clock(env), env.subscribers[subscriber]);
        let question = subscribing(self.number, stream, user);
        let done = match change {
            Change::Give { start, end } => {
                let millis = |moment: Option<u64>| moment.map(Timestamp::from_millis);
                let period = Period { start: millis(start), end: millis(end) };
                let done = self.registry(|r| r.grant(stream, user, Permission::Subscribe, period, now).is_ok());
                if done {
                    // A grant that holds is lengthened by one that begins later; with a pause between them it is refused.
                    let goes_on = env.grants.given(&question, &env.clocks, env.now);
                    env.facts.begins(&question, goes_on, start.unwrap_or(now.as_millis()));
                    let lengthened = |start: &u64| goes_on && now.as_secs() < start / 1000;
                    env.grants.give(question, env.now, start.filter(|start| !lengthened(start)), end);
                }
                done
            }
            Change::TakeBack => {
                let done = self.registry(|r| r.revoke(stream, user, Permission::Subscribe, now).is_ok());
                if done {
                    env.grants.take_back(question, env.now);
                }
                done
            }
        };
        env.note(format_args!("publisher {} on {stream}: {change:?} for {user}: {done}", self.number));
    }

    /// Everybody may subscribe, or nobody but those with a grant.
    pub(crate) fn open_or_close(&mut self, env: &mut Env, stream: &StreamId, open: bool) {
        let (now, question) = (self.clock(env), public(Source::Publisher(self.number), stream));
        if self.registry(|registry| registry.set_public(stream, open, now).is_err()) {
            return;
        }
        if open {
            env.grants.give(question, env.now, None, None);
        } else {
            env.grants.take_back(question, env.now);
        }
    }
}

impl Office {
    pub(crate) fn may_subscribe(&mut self, stream: &StreamId, user: UserId, now: Timestamp) -> Result<Grant, Refusal> {
        check(&self.registry, &mut self.cache, stream, user, Permission::Subscribe, now)
    }
}
