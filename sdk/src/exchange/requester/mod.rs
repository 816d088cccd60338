//! The subscriber's side: when to ask whom for which keys, and which answers count.
//!
//! One [`Requester`] serves a whole client. Per publisher and stream there is at most one request under way; everything
//! else that is missing waits for the next one, so a key is asked for once however many messages wait for it.
//!
//! ```text
//!             want                    bucket, back-off over           answer: all settled
//!  (nothing) ──────▶ Waiting ────────────────────────────▶ Asking ─────────────────────────▶ (nothing)
//!                       ▲                                     │
//!                       ├───── timeout, failure, throttled ───┤   back-off with jitter, bounded tries
//!                       └───── unknown at this device ────────┘   in another lane, without this device
//! ```
//!
//! A publisher may have several devices, each with a store of its own. A key that one of them does not have is asked for at
//! another, if there is one; every other refusal speaks for the publisher and is final. Such keys have a lane of their own,
//! with its own request and back-off: a device that is away holds up none of the keys that a present one has.
//!
//! The times told here must come from one clock that never goes back; which moment it began at does not matter.

mod ask;
mod device;
mod effect;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use rand_core::Rng;
use veilcast_key_store::KeyId;

use ask::{Ask, Asking, Lane, MAX_DEVICES, Tried};
pub use device::Device;
pub use effect::{AnswerFault, AskFailure, RequesterConfig, RequesterEffect, Settled};

use super::bucket::{Bucket, Rate};
use crate::identity::UserId;
use crate::permission::Refusal;
use crate::stream::StreamId;
use crate::time::{Timestamp, millis};
use crate::wire::{KeyAnswer, MAX_KEYS_PER_REQUEST, RequestId, Verified};

/// Most (publisher, stream) pairs asked at a time; beyond it new wants are given up at once.
const MAX_ASKS: usize = 4096;
/// Most keys wanted of one publisher and stream.
const MAX_WANTED: usize = 4096;
/// A publisher cannot tell us to stay away longer than this.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);
/// Tries with the other devices, once one has said that it does not have a key: it may be nowhere.
const MAX_TRIES_ELSEWHERE: u32 = 4;
/// The shell's own work before a request leaves, beside finding the publisher: it makes an RSA pair. Longer than that
/// means that it was lost.
const PREPARATION: Duration = Duration::from_secs(120);

type Source = (UserId, StreamId);

/// Where a request belongs.
type Place = (Source, Tried);

/// All of a client's pending key requests.
#[derive(Debug)]
pub struct Requester {
    me: UserId,
    config: RequesterConfig,
    asks: HashMap<Source, Ask>,
    bucket: Bucket,
}

impl Requester {
    /// For the subscriber `me`.
    pub fn new(me: UserId, config: RequesterConfig, now: Timestamp) -> Self {
        // A burst of one second's worth would let two seconds' worth out within one second; a quarter keeps the promise.
        let burst = (config.max_key_requests_per_second / 4).max(1);
        let rate = Rate { per_second: config.max_key_requests_per_second.saturating_sub(burst).max(1), burst };
        Self { me, config, asks: HashMap::new(), bucket: Bucket::full(rate, now) }
    }

    /// Takes leave to send a request that is not this one's own, under the same limit of requests per second.
    ///
    /// # Errors
    /// How long to wait before asking again.
    pub fn leave_to_send(&mut self, now: Timestamp) -> Result<(), Duration> {
        self.bucket.take(now)
    }

    /// Keys are needed, which one request asks for as far as they fit. Asks at once where possible; a key refused a short while ago
    /// is refused again without asking.
    pub fn want<R: Rng + ?Sized>(
        &mut self,
        now: Timestamp,
        publisher: UserId,
        stream: StreamId,
        key_ids: Vec<KeyId>,
        rng: &mut R,
    ) -> Vec<RequesterEffect> {
        let (source, mut effects, mut too_many) = ((publisher, stream), Vec::new(), Vec::new());
        for key_id in key_ids {
            if let Some((refusal, until)) = self.remembered(now, &source, &key_id) {
                let (publisher, stream) = source.clone();
                effects.push(RequesterEffect::Refused { publisher, stream, key_id, refusal, until });
            } else if self.is_full_for(&source) {
                too_many.push(key_id);
            } else {
                let ask = self.asks.entry(source.clone()).or_default();
                if !ask.is_wanted(&key_id) {
                    ask.lane(now, Tried::new()).wanted.insert(key_id);
                }
            }
        }
        if !too_many.is_empty() {
            let ((publisher, stream), failure) = (source, AskFailure::Overload);
            effects.push(RequesterEffect::GivenUp { publisher, stream, key_ids: too_many, failure });
        }
        effects.extend(self.send_due(now, rng));
        effects
    }

    fn remembered(&self, now: Timestamp, source: &Source, key_id: &KeyId) -> Option<(Refusal, Timestamp)> {
        let (refusal, until) = self.asks.get(source)?.refused.get(key_id)?;
        (now < *until).then_some((*refusal, *until))
    }

    fn is_full_for(&self, source: &Source) -> bool {
        match self.asks.get(source) {
            Some(ask) => ask.wanted() >= MAX_WANTED,
            None => self.asks.len() >= MAX_ASKS,
        }
    }

    /// The request left for this device: the time for its answer runs from now. Again when it is sent to a second one.
    pub fn left(&mut self, now: Timestamp, id: RequestId, device: Device) {
        let deadline = now.plus(self.config.key_request_timeout);
        let asking = self.place_of(id).and_then(|place| self.lane_of(&place)?.asking.as_mut());
        if let Some(asking) = asking {
            (asking.device, asking.deadline) = (Some(device), deadline);
        }
    }

    /// An answer came whose signature is good. Decides whether it counts; a bogus one changes nothing.
    ///
    /// `elsewhere` tells whether the publisher may have a device beside these; without one, what this device does not know
    /// is refused at once.
    ///
    /// # Errors
    /// [`AnswerFault`]: ignored, the request stays pending.
    pub fn settle<R: Rng + ?Sized>(
        &mut self,
        now: Timestamp,
        answer: &Verified<KeyAnswer>,
        elsewhere: impl FnOnce(&BTreeSet<Device>) -> bool,
        rng: &mut R,
    ) -> Result<Settled, AnswerFault> {
        let answer = answer.content();
        let place = self.place_of(answer.id).ok_or(AnswerFault::NotPending)?;
        let (source, tried) = &place;
        if answer.requester != self.me || (answer.publisher, &answer.stream) != (source.0, &source.1) {
            return Err(AnswerFault::Foreign);
        }
        let lane = self.lane_of(&place).ok_or(AnswerFault::NotPending)?;
        lane.check_asked(answer)?;
        let asking = lane.asking.take().ok_or(AnswerFault::NotPending)?;
        let (mut effects, wait) = self.take_final(now, &place, answer);
        let unknown = self.take_unknown(&place, answer);
        let next = asking.device.map(|device| tried.iter().cloned().chain([device]).collect::<Tried>());
        let next = next.filter(|next| !unknown.is_empty() && next.len() < MAX_DEVICES && elsewhere(next));
        effects.extend(match wait {
            Some(wait) => self.back_off(now, &place, AskFailure::AskedToWait, wait, rng),
            // Nothing said about some key: as good as no answer for those.
            None if !answer.covers(&asking.key_ids) => {
                self.back_off(now, &place, AskFailure::BadAnswer, Duration::ZERO, rng)
            }
            None => Vec::new(),
        });
        match next.filter(|next| self.asks.get(source).is_some_and(|ask| ask.has_room_for(next))) {
            Some(next) => {
                self.asks.entry(source.clone()).or_default().lane(now, next).wanted.extend(unknown);
                effects.extend(self.send_due(now, rng));
            }
            None => effects.extend(self.refuse_unknown(now, source, unknown)),
        }
        Ok(Settled { granted: answer.granted.clone(), effects })
    }

    /// Grants, and the refusals that speak for the publisher. Returns those, and how long it asks to wait.
    fn take_final(
        &mut self,
        now: Timestamp,
        place: &Place,
        answer: &KeyAnswer,
    ) -> (Vec<RequesterEffect>, Option<Duration>) {
        let ((publisher, stream), tried) = place;
        let (mut effects, mut wait) = (Vec::new(), None::<Duration>);
        let memory = self.config.refusal_memory;
        let Some(ask) = self.asks.get_mut(&place.0) else { return (effects, wait) };
        for granted in &answer.granted {
            ask.lane(now, tried.clone()).wanted.remove(&granted.key_id);
            ask.opening.insert(granted.key_id.clone(), tried.clone());
        }
        for refused in answer.refused.iter().filter(|refused| refused.refusal != Refusal::UnknownKey) {
            let refusal = refused.refusal;
            if let Some(retry_after) = refusal.retry_after() {
                wait = Some(wait.unwrap_or_default().max(retry_after.min(MAX_RETRY_AFTER)));
                continue;
            }
            let memory = match refusal {
                // By the publisher's clock, which said both: ours here may be any.
                Refusal::NotYet { from } => memory.min(from.since(answer.sent)),
                _ => memory,
            };
            let key_id = refused.key_id.clone();
            ask.lane(now, tried.clone()).wanted.remove(&key_id);
            let until = ask.refuse(now, key_id.clone(), refusal, memory);
            effects.push(RequesterEffect::Refused {
                publisher: *publisher,
                stream: stream.clone(),
                key_id,
                refusal,
                until,
            });
        }
        (effects, wait)
    }

    /// Keys that the device does not have, and that are still wanted.
    fn take_unknown(&mut self, place: &Place, answer: &KeyAnswer) -> Vec<KeyId> {
        let Some(lane) = self.lane_of(place) else { return Vec::new() };
        let unknown = answer.refused.iter().filter(|refused| refused.refusal == Refusal::UnknownKey);
        unknown.map(|refused| refused.key_id.clone()).filter(|key_id| lane.wanted.remove(key_id)).collect()
    }

    fn refuse_unknown(&mut self, now: Timestamp, source: &Source, key_ids: Vec<KeyId>) -> Vec<RequesterEffect> {
        let (refusal, memory) = (Refusal::UnknownKey, self.config.refusal_memory);
        let Some(ask) = self.asks.get_mut(source) else { return Vec::new() };
        let refuse = |key_id: KeyId| {
            let until = ask.refuse(now, key_id.clone(), refusal, memory);
            let (publisher, stream) = source.clone();
            RequesterEffect::Refused { publisher, stream, key_id, refusal, until }
        };
        key_ids.into_iter().map(refuse).collect()
    }

    /// There is no device to send this request to but those that do not have its keys: they are unknown.
    pub fn nobody_else(&mut self, now: Timestamp, id: RequestId) -> Vec<RequesterEffect> {
        let Some(place) = self.place_of(id) else { return Vec::new() };
        let Some(lane) = self.lane_of(&place) else { return Vec::new() };
        let asked = lane.asking.take().map(|asking| asking.key_ids).unwrap_or_default();
        let unknown = asked.into_iter().filter(|key_id| lane.wanted.remove(key_id)).collect();
        // Nothing was sent.
        self.bucket.give_back(1);
        self.refuse_unknown(now, &place.0, unknown)
    }

    /// A key is here, by an answer, a push, a rotate or by hand: nobody needs to ask for it any more.
    pub fn arrived<R: Rng + ?Sized>(
        &mut self,
        now: Timestamp,
        publisher: UserId,
        stream: &StreamId,
        key_id: &KeyId,
        rng: &mut R,
    ) -> Vec<RequesterEffect> {
        let source = (publisher, stream.clone());
        if let Some(ask) = self.asks.get_mut(&source) {
            ask.arrived(key_id);
        }
        self.forget_if_done(now, &source);
        self.send_due(now, rng)
    }

    /// A try brought nothing.
    pub fn failed<R: Rng + ?Sized>(
        &mut self,
        now: Timestamp,
        id: RequestId,
        failure: AskFailure,
        rng: &mut R,
    ) -> Vec<RequesterEffect> {
        let Some(place) = self.place_of(id) else { return Vec::new() };
        self.fail(now, &place, failure, rng)
    }

    fn fail<R: Rng + ?Sized>(
        &mut self,
        now: Timestamp,
        place: &Place,
        failure: AskFailure,
        rng: &mut R,
    ) -> Vec<RequesterEffect> {
        if let Some(lane) = self.lane_of(place) {
            lane.fail();
        }
        self.back_off(now, place, failure, Duration::ZERO, rng)
    }

    /// Granted keys did not open: they are wanted again, after a pause.
    pub fn did_not_open<R: Rng + ?Sized>(
        &mut self,
        now: Timestamp,
        publisher: UserId,
        stream: &StreamId,
        key_ids: &[KeyId],
        rng: &mut R,
    ) -> Vec<RequesterEffect> {
        let source = (publisher, stream.clone());
        let Some(ask) = self.asks.get_mut(&source) else { return Vec::new() };
        let mut lanes = BTreeSet::new();
        for key_id in key_ids {
            if let Some(tried) = ask.opening.remove(key_id) {
                ask.lane(now, tried.clone()).wanted.insert(key_id.clone());
                lanes.insert(tried);
            }
        }
        let places = lanes.into_iter().map(|tried| (source.clone(), tried));
        places.flat_map(|place| self.back_off(now, &place, AskFailure::BadAnswer, Duration::ZERO, rng)).collect()
    }

    /// What time alone brings about: deadlines, retries, tokens.
    pub fn tick<R: Rng + ?Sized>(&mut self, now: Timestamp, rng: &mut R) -> Vec<RequesterEffect> {
        let is_late = |lane: &Lane| lane.asking.as_ref().is_some_and(|asking| asking.deadline <= now);
        let mut effects = Vec::new();
        for place in self.places(is_late) {
            let left = self.lane_of(&place).and_then(|lane| lane.asking.as_ref()).is_some_and(|a| a.device.is_some());
            let failure = if left { AskFailure::Timeout } else { AskFailure::Unmade };
            effects.extend(self.fail(now, &place, failure, rng));
        }
        let sources: Vec<Source> = self.asks.keys().cloned().collect();
        sources.iter().for_each(|source| self.forget_if_done(now, source));
        effects.extend(self.send_due(now, rng));
        effects
    }

    /// When [`Self::tick`] is next worth calling; `None` while nothing is pending.
    pub fn next_wake(&self, now: Timestamp) -> Option<Timestamp> {
        let of_lane = |lane: &Lane| match &lane.asking {
            Some(asking) => Some(asking.deadline),
            None if lane.wanted.is_empty() => None,
            // Due already means waiting for a token.
            None => Some(lane.not_before.max(now.plus(Duration::from_millis(20)))),
        };
        let of_ask = |ask: &Ask| {
            let next = ask.lanes.values().filter_map(of_lane).min();
            next.or_else(|| ask.refused.values().map(|(_, until)| *until).max())
        };
        self.asks.values().filter_map(of_ask).min()
    }

    /// How many keys are wanted and not here.
    pub fn pending(&self) -> usize {
        self.asks.values().map(|ask| ask.wanted() + ask.opening.len()).sum()
    }

    /// The lanes of which this is so, in an order that does not depend on a map's.
    fn places(&self, so: impl Fn(&Lane) -> bool) -> Vec<Place> {
        let mut places = Vec::new();
        for (source, ask) in &self.asks {
            let lanes = ask.lanes.iter().filter(|(_, lane)| so(lane));
            places.extend(lanes.map(|(tried, _)| (source.clone(), tried.clone())));
        }
        places.sort();
        places
    }

    fn place_of(&self, id: RequestId) -> Option<Place> {
        self.asks.iter().find_map(|(source, ask)| {
            let asks = |lane: &Lane| lane.asking.as_ref().is_some_and(|asking| asking.id == id);
            let (tried, _) = ask.lanes.iter().find(|(_, lane)| asks(lane))?;
            Some((source.clone(), tried.clone()))
        })
    }

    fn lane_of(&mut self, (source, tried): &Place) -> Option<&mut Lane> {
        self.asks.get_mut(source)?.lanes.get_mut(tried)
    }

    fn send_due<R: Rng + ?Sized>(&mut self, now: Timestamp, rng: &mut R) -> Vec<RequesterEffect> {
        let due = |lane: &Lane| lane.asking.is_none() && !lane.wanted.is_empty() && lane.not_before <= now;
        let mut ready = self.places(due);
        // The longest waiting first.
        ready.sort_by_key(|place| self.lane_of(place).map(|lane| lane.not_before));
        let deadline = now.plus(self.config.find_timeout).plus(PREPARATION);
        let mut effects = Vec::new();
        for place in ready {
            if self.bucket.take(now).is_err() {
                break;
            }
            let Some(lane) = self.lane_of(&place) else { continue };
            let mut id = RequestId([0; 16]);
            rng.fill_bytes(&mut id.0);
            let key_ids: Vec<KeyId> = lane.wanted.iter().take(MAX_KEYS_PER_REQUEST).cloned().collect();
            lane.asking = Some(Asking { id, key_ids: key_ids.clone(), device: None, deadline });
            let rather_not = lane.failed.clone();
            let ((publisher, stream), not_at) = place;
            effects.push(RequesterEffect::Send { id, publisher, stream, key_ids, not_at, rather_not });
        }
        effects
    }

    fn back_off<R: Rng + ?Sized>(
        &mut self,
        now: Timestamp,
        place: &Place,
        failure: AskFailure,
        at_least: Duration,
        rng: &mut R,
    ) -> Vec<RequesterEffect> {
        let config = self.config;
        let (source, tried) = place;
        let (publisher, stream) = source.clone();
        let Some(lane) = self.lane_of(place) else { return Vec::new() };
        lane.failures += 1;
        let tries = if tried.is_empty() { config.max_tries } else { config.max_tries.min(MAX_TRIES_ELSEWHERE) };
        if lane.failures >= tries {
            let key_ids = self.asks.get_mut(source).map(|ask| ask.give_up(tried)).unwrap_or_default();
            self.forget_if_done(now, source);
            return vec![RequesterEffect::GivenUp { publisher, stream, key_ids, failure }];
        }
        let after = at_least.max(wait_after(lane.failures, &config, rng));
        lane.not_before = now.plus(after);
        vec![RequesterEffect::Retrying { publisher, stream, failure, after }]
    }

    fn forget_if_done(&mut self, now: Timestamp, source: &Source) {
        if self.asks.get_mut(source).is_some_and(|ask| !ask.tidy(now)) {
            self.asks.remove(source);
        }
    }
}

/// How long to wait after so many failures in a row: twice as long after each, within bounds, with jitter.
pub(super) fn wait_after<R: Rng + ?Sized>(failures: u32, config: &RequesterConfig, rng: &mut R) -> Duration {
    let doubled = config.retry_base.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(config.retry_max);
    jittered(doubled, rng)
}

/// Between half of a span and the whole of it.
fn jittered<R: Rng + ?Sized>(span: Duration, rng: &mut R) -> Duration {
    let half = millis(span) / 2;
    Duration::from_millis(half + rng.next_u64() % (half + 1))
}

#[cfg(test)]
mod tests;
