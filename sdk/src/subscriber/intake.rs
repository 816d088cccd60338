//! Order, keys and opening, for the messages of one stream.

use std::collections::HashSet;
use std::time::Duration;

use veilcast_key_store::{GroupKey, KeyId};

use super::chains::{ChainName, Chains, Missing, name_of};
use super::keyring::{KeyName, Keyring, Opened, key_of};
use super::limits::{Held, IntakeLimits};
use super::order::InOrder;
use super::{Arrival, Event, IntakeEffect};
use crate::exchange::AskFailure;
use crate::identity::UserId;
use crate::message::Message;
use crate::permission::Refusal;
use crate::stream::StreamId;
use crate::time::Timestamp;
use crate::wire::{MessageContent, Verified};

/// The pipeline of one stream.
#[derive(Debug)]
pub struct Intake {
    stream: StreamId,
    limits: IntakeLimits,
    chains: Chains,
    keys: Keyring,
    /// Keys that were said to be needed and neither came nor were refused.
    needed: HashSet<KeyName>,
}

impl Intake {
    /// For messages of `stream`.
    pub fn new(stream: StreamId, limits: IntakeLimits) -> Self {
        let keys = Keyring::new(stream.clone(), limits.keys);
        Self { stream, limits, chains: Chains::new(limits), keys, needed: HashSet::new() }
    }

    /// A message whose signature and publisher's permission were checked.
    pub fn message(&mut self, now: Timestamp, message: Verified<MessageContent>) -> Vec<IntakeEffect> {
        let (mut effects, name) = (Vec::new(), name_of(message.content()));
        if message.content().part.stream() != &self.stream || self.is_recording(now, &name, message.content()) {
            return effects;
        }
        if let Some((publisher, dropped)) = self.chains.make_room(&name) {
            effects.push(IntakeEffect::Notify(Event::ParkedDropped { publisher, dropped }));
        }
        let (ready, joining) = self.chains.insert(now, message.clone());
        if joining {
            self.ask_ahead(now, message.content(), &mut effects);
        }
        self.take_in(now, name, ready, &mut effects);
        self.release(now, &mut effects);
        effects
    }

    /// A key is here.
    pub fn key_arrived(&mut self, now: Timestamp, publisher: UserId, key: GroupKey, by: Arrival) -> Vec<IntakeEffect> {
        let (key_id, mut effects) = (key.id().clone(), Vec::new());
        let waited = self.needed.remove(&(publisher, key_id.clone()));
        self.keys.hold(publisher, key);
        if waited || by != Arrival::Store {
            effects.push(IntakeEffect::Notify(Event::KeyArrived { publisher, key_id, by }));
        }
        self.go_on(now, publisher, &mut effects);
        effects
    }

    /// A key was refused: what waited for it cannot be read. Messages under it are dropped quietly until `until`.
    pub fn key_refused(
        &mut self,
        now: Timestamp,
        publisher: UserId,
        key_id: &KeyId,
        refusal: Refusal,
        until: Timestamp,
    ) -> Vec<IntakeEffect> {
        let dropped = self.give_up(now, publisher, key_id);
        self.keys.refuse((publisher, key_id.clone()), until);
        let key_id = key_id.clone();
        let mut effects = vec![IntakeEffect::Notify(Event::KeyRefused { publisher, key_id, refusal, dropped })];
        self.go_on(now, publisher, &mut effects);
        effects
    }

    /// A key could not be had: what waited for it is dropped.
    pub fn key_unavailable(
        &mut self,
        now: Timestamp,
        publisher: UserId,
        key_id: &KeyId,
        failure: AskFailure,
    ) -> Vec<IntakeEffect> {
        let dropped = self.give_up(now, publisher, key_id);
        let key_id = key_id.clone();
        let mut effects = vec![IntakeEffect::Notify(Event::KeyUnavailable { publisher, key_id, failure, dropped })];
        self.go_on(now, publisher, &mut effects);
        effects
    }

    /// A key is not among those agreed on: what waited for it cannot be read. Messages under it are dropped quietly until
    /// `until`, or until something was agreed on.
    pub fn key_not_agreed(
        &mut self,
        now: Timestamp,
        publisher: UserId,
        key_id: &KeyId,
        until: Timestamp,
    ) -> Vec<IntakeEffect> {
        let dropped = self.give_up(now, publisher, key_id);
        self.keys.refuse((publisher, key_id.clone()), until);
        let key_id = key_id.clone();
        let mut effects = vec![IntakeEffect::Notify(Event::KeyNotAgreed { publisher, key_id, dropped })];
        self.go_on(now, publisher, &mut effects);
        effects
    }

    /// Which keys count has changed: all are looked for again. Where only `agreed` ones do, none is taken from a message.
    pub fn look_again(&mut self, now: Timestamp, agreed: bool) -> Vec<IntakeEffect> {
        self.keys.forget(agreed);
        self.needed.clear();
        let (publishers, mut effects) = (self.chains.parked_publishers(), Vec::new());
        for publisher in publishers {
            self.drain(now, publisher, &mut effects);
        }
        self.release(now, &mut effects);
        effects
    }

    /// What time alone brings about: gaps that waited long enough.
    pub fn tick(&mut self, now: Timestamp) -> Vec<IntakeEffect> {
        let mut effects = Vec::new();
        for (name, ready) in self.chains.expire(now, |content| awaits_key(&self.needed, content)) {
            self.take_in(now, name, ready, &mut effects);
        }
        self.release(now, &mut effects);
        effects
    }

    /// What is missing between messages just now, and waited for.
    pub fn missing(&self) -> Vec<Missing> {
        self.chains.missing()
    }

    /// There is somebody who may have what is missing: gaps are waited for so long from now on, those of the present included,
    /// unless they were for longer before.
    pub fn wait_longer(&mut self, now: Timestamp, gap_wait: Duration) {
        self.chains.wait_longer(now, gap_wait);
    }

    /// When [`Self::tick`] is next worth calling.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.chains.next_wake()
    }

    /// Messages that wait for keys, and the bytes of all that wait.
    pub fn held(&self) -> Held {
        Held { messages: self.chains.parked(), bytes: self.chains.bytes() }
    }

    /// Messages that wait for keys.
    pub fn parked(&self) -> usize {
        self.chains.parked()
    }

    /// A chain first met whose message is older than anything live.
    fn is_recording(&self, now: Timestamp, name: &ChainName, content: &MessageContent) -> bool {
        !self.chains.knows(name) && content.at.timestamp < now.minus(self.limits.live_window)
    }

    /// While a newly met chain waits for earlier messages, its key is fetched.
    fn ask_ahead(&mut self, now: Timestamp, content: &MessageContent, effects: &mut Vec<IntakeEffect>) {
        self.take_carried(now, content, effects);
        if key_of(content).is_some_and(|name| !self.keys.is_refused(now, &name)) {
            self.need(content, effects);
        }
    }

    fn take_in(&mut self, now: Timestamp, name: ChainName, ready: Vec<InOrder>, effects: &mut Vec<IntakeEffect>) {
        for InOrder { message, gap } in ready {
            if let Some((after, until)) = gap {
                effects.push(IntakeEffect::Notify(Event::Gap { publisher: name.0, after, until }));
            }
            self.take_carried(now, message.content(), effects);
            let behind = self.chains.has_parked(&name);
            if let Some(message) = if behind { Some(message) } else { self.open(now, message, effects) } {
                self.park(name, message, effects);
            }
        }
    }

    /// Opens a message if its key is held; gives it back if the key is missing.
    fn open(
        &mut self,
        now: Timestamp,
        message: Verified<MessageContent>,
        effects: &mut Vec<IntakeEffect>,
    ) -> Option<Verified<MessageContent>> {
        match self.keys.open(now, message.content()) {
            Opened::Plain(payload) => effects.push(IntakeEffect::Deliver(Message::opened(&message, payload.into()))),
            Opened::Missing => return Some(message),
            Opened::Wrong { first: true } => {
                let wrong = key_of(message.content()).map(|(publisher, key_id)| Event::WrongKey { publisher, key_id });
                effects.extend(wrong.map(IntakeEffect::Notify));
            }
            Opened::Refused | Opened::Wrong { first: false } => {}
        }
        None
    }

    /// Keys that ride in a message may be what other chains of its publisher wait for.
    fn take_carried(&mut self, now: Timestamp, content: &MessageContent, effects: &mut Vec<IntakeEffect>) {
        let (publisher, since) = (content.publisher, content.at.timestamp);
        let keys = self.keys.take_carried(content);
        let any = !keys.is_empty();
        for key in keys {
            let key_id = key.id().clone();
            self.needed.remove(&(publisher, key_id.clone()));
            effects.push(IntakeEffect::Keep { publisher, key, since });
            effects.push(IntakeEffect::Notify(Event::KeyArrived { publisher, key_id, by: Arrival::Rotate }));
        }
        if any {
            self.drain(now, publisher, effects);
        }
    }

    fn park(&mut self, name: ChainName, message: Verified<MessageContent>, effects: &mut Vec<IntakeEffect>) {
        self.need(message.content(), effects);
        for publisher in self.chains.park(name, message) {
            effects.push(IntakeEffect::Notify(Event::ParkedDropped { publisher, dropped: 1 }));
        }
    }

    /// Says once per key that it is needed, not once per message.
    fn need(&mut self, content: &MessageContent, effects: &mut Vec<IntakeEffect>) {
        let Some(name) = key_of(content).filter(|name| !self.keys.holds(name)) else { return };
        if self.needed.insert(name.clone()) {
            effects.push(IntakeEffect::Need { publisher: name.0, key_id: name.1 });
        }
    }

    fn give_up(&mut self, now: Timestamp, publisher: UserId, key_id: &KeyId) -> usize {
        let name = (publisher, key_id.clone());
        self.needed.remove(&name);
        // What waited for nothing else counts among the dropped.
        let ready = self.chains.release(now, |content| key_of(content).as_ref() != Some(&name));
        for (chain, ready) in ready {
            for InOrder { message, .. } in ready {
                self.chains.park(chain, message);
            }
        }
        self.chains.drop_under(publisher, key_id)
    }

    /// Opens what a key that came or was given up leaves to be opened.
    fn go_on(&mut self, now: Timestamp, publisher: UserId, effects: &mut Vec<IntakeEffect>) {
        self.drain(now, publisher, effects);
        self.release(now, effects);
    }

    /// Goes on with the chains just met whose first message need not wait for its key any more. Each can bring keys for others.
    fn release(&mut self, now: Timestamp, effects: &mut Vec<IntakeEffect>) {
        loop {
            let released = self.chains.release(now, |content| awaits_key(&self.needed, content));
            if released.is_empty() {
                return;
            }
            for (name, ready) in released {
                self.take_in(now, name, ready, effects);
            }
        }
    }

    /// Opens what can be opened now, in each chain up to the next message whose key is missing; of all its publisher's chains
    /// the oldest first, so that a past of many runs is read in its order.
    fn drain(&mut self, now: Timestamp, publisher: UserId, effects: &mut Vec<IntakeEffect>) {
        let mut heads = self.chains.parked_of(publisher);
        while let Some((_, name)) = heads.pop_first() {
            let Some(message) = self.chains.unpark(&name) else { continue };
            if let Some(message) = self.open(now, message, effects) {
                self.need(message.content(), effects);
                self.chains.park_again(&name, message);
            } else if let Some(next) = self.chains.parked_head(&name) {
                heads.insert((next, name));
            }
        }
    }
}

/// Whether the key of a message was said to be needed and has neither come nor been given up.
fn awaits_key(needed: &HashSet<KeyName>, content: &MessageContent) -> bool {
    key_of(content).is_some_and(|name| needed.contains(&name))
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;
