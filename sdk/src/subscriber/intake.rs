//! Order, keys and opening, for the messages of one stream.

use std::time::Duration;

use veilcast_key_store::{GroupKey, KeyId};

use super::chains::{ChainName, Chains, Missing, name_of};
use super::keyring::{Keyring, Opened, key_of};
use super::limits::{Held, IntakeLimits};
use super::needed::Needed;
use super::order::InOrder;
use super::past::Past;
use super::unread::{Unread, Unreadable};
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
    needed: Needed,
    /// While it is the past that comes.
    past: Option<Past>,
    /// What came live under keys that were refused before, and is yet to be told of.
    quiet: Past,
    /// All messages that could not be read.
    unread: Unread,
}

/// Keys of the past that are asked for ahead of its messages, beyond which no further ones are.
const AHEAD: usize = 1024;

impl Intake {
    /// For messages of `stream`.
    pub fn new(stream: StreamId, limits: IntakeLimits) -> Self {
        let keys = Keyring::new(stream.clone(), limits.keys);
        Self {
            stream,
            limits,
            chains: Chains::new(limits),
            keys,
            needed: Needed::new(),
            past: None,
            quiet: Past::new(),
            unread: Unread::default(),
        }
    }

    /// Begins with the stream's past, until [`Self::past_is_over`]. A publisher that is away holds up no other's messages there: they
    /// wait for his keys within their share of the room. A key that could not be had is not asked for again for a while, and what cannot
    /// be read is counted, and told by key. What comes is sorted by time: no chain waits for anything before its first message.
    #[must_use]
    pub fn in_the_past(mut self) -> Self {
        self.chains.comes_sorted(true);
        Self { past: Some(Past::new()), ..self }
    }

    /// What comes now is live. What could not be read of the past is told.
    pub fn past_is_over(&mut self) -> Vec<IntakeEffect> {
        let Some(past) = self.past.take() else { return Vec::new() };
        self.chains.comes_sorted(false);
        self.keys.try_again();
        self.needed.nobody_is_away();
        past.over().into_iter().map(IntakeEffect::Notify).collect()
    }

    /// Messages of the past that will come soon, of authors who may publish: asks for their keys together.
    pub fn ahead(
        &mut self,
        now: Timestamp,
        messages: &[Verified<MessageContent>],
        may_publish: impl Fn(UserId) -> bool,
    ) -> Vec<IntakeEffect> {
        let mut effects = Vec::new();
        for content in messages.iter().map(Verified::content) {
            let is_asked = key_of(content).is_none_or(|name| self.keys.holds(&name) || self.needed.contains(&name));
            let is_new = !is_asked || !content.key_updates.is_empty();
            if self.needed.of_present() >= AHEAD || self.needed.is_away(&content.publisher) {
                continue;
            }
            if is_new && content.part.stream() == &self.stream && may_publish(content.publisher) {
                self.ask_ahead(now, content, &mut effects);
            }
        }
        effects
    }

    /// A try to have keys of this publisher failed. In the past his messages hold up no others from here on, until he answers.
    pub fn publisher_away(&mut self, now: Timestamp, publisher: UserId) -> Vec<IntakeEffect> {
        let mut effects = Vec::new();
        if self.past.is_some() {
            self.needed.went_away(publisher);
            self.release(now, &mut effects);
        }
        effects
    }

    /// A message whose signature and publisher's permission were checked.
    pub fn message(&mut self, now: Timestamp, message: Verified<MessageContent>) -> Vec<IntakeEffect> {
        let (mut effects, name) = (Vec::new(), name_of(message.content()));
        if message.content().part.stream() != &self.stream || self.is_recording(now, &name, message.content()) {
            return effects;
        }
        if let Some((publisher, dropped)) = self.chains.make_room(&name) {
            self.unread.add(Unreadable::TooManyParked, dropped);
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
        let waited = self.needed.remove(publisher, &key_id);
        if by == Arrival::Answer {
            self.needed.came_back(publisher);
        }
        self.keys.hold(publisher, key);
        self.tell_quiet(publisher, &key_id, &mut effects);
        if waited || by != Arrival::Store {
            effects.push(IntakeEffect::Notify(Event::KeyArrived { publisher, key_id, by }));
        }
        self.go_on(now, publisher, &mut effects);
        effects
    }

    /// A key was refused: what waited for it cannot be read. Messages under it are dropped until `until`, counted, and told of with the
    /// next word of the key ([`Event::Unread`]).
    pub fn key_refused(
        &mut self,
        now: Timestamp,
        publisher: UserId,
        key_id: &KeyId,
        refusal: Refusal,
        until: Timestamp,
    ) -> Vec<IntakeEffect> {
        self.needed.came_back(publisher);
        let mut effects = Vec::new();
        let why = Unreadable::KeyRefused;
        let dropped = self.give_up(now, publisher, key_id, why, &mut effects);
        self.keys.refuse((publisher, key_id.clone()), why, until);
        let key_id = key_id.clone();
        effects.push(IntakeEffect::Notify(Event::KeyRefused { publisher, key_id, refusal, dropped }));
        self.go_on(now, publisher, &mut effects);
        effects
    }

    /// A key could not be had: what waited for it is dropped. In the past it is not asked for again for a while.
    pub fn key_unavailable(
        &mut self,
        now: Timestamp,
        publisher: UserId,
        key_id: &KeyId,
        failure: AskFailure,
    ) -> Vec<IntakeEffect> {
        let mut effects = Vec::new();
        let why = Unreadable::KeyUnavailable;
        let dropped = self.give_up(now, publisher, key_id, why, &mut effects);
        if self.past.is_some() && !failure.is_ours() {
            self.needed.went_away(publisher);
            self.keys.refuse((publisher, key_id.clone()), why, now.plus(self.limits.given_up_for));
        }
        let key_id = key_id.clone();
        effects.push(IntakeEffect::Notify(Event::KeyUnavailable { publisher, key_id, failure, dropped }));
        self.go_on(now, publisher, &mut effects);
        effects
    }

    /// A key is not among those agreed on: what waited for it cannot be read. Messages under it are dropped until `until`, or until
    /// something was agreed on, and counted as those of a refused one.
    pub fn key_not_agreed(
        &mut self,
        now: Timestamp,
        publisher: UserId,
        key_id: &KeyId,
        until: Timestamp,
    ) -> Vec<IntakeEffect> {
        let mut effects = Vec::new();
        let why = Unreadable::KeyNotAgreed;
        let dropped = self.give_up(now, publisher, key_id, why, &mut effects);
        self.keys.refuse((publisher, key_id.clone()), why, until);
        let key_id = key_id.clone();
        effects.push(IntakeEffect::Notify(Event::KeyNotAgreed { publisher, key_id, dropped }));
        self.go_on(now, publisher, &mut effects);
        effects
    }

    /// Which keys count has changed: all are looked for again. Where only `agreed` ones do, none is taken from a message.
    pub fn look_again(&mut self, now: Timestamp, agreed: bool) -> Vec<IntakeEffect> {
        self.keys.forget(agreed);
        self.needed.clear();
        let quiet = std::mem::replace(&mut self.quiet, Past::new()).over();
        let (publishers, mut effects) =
            (self.chains.parked_publishers(), quiet.into_iter().map(IntakeEffect::Notify).collect());
        for publisher in publishers {
            self.drain(now, publisher, &mut effects);
        }
        self.release(now, &mut effects);
        effects
    }

    /// What time alone brings about: gaps that waited long enough.
    pub fn tick(&mut self, now: Timestamp) -> Vec<IntakeEffect> {
        let mut effects = Vec::new();
        for (name, ready) in self.chains.expire(now, |content| self.needed.awaits(content)) {
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

    /// Messages that wait for keys, and the bytes of all that wait, but for what waits for keys of publishers that are away.
    pub fn held(&self) -> Held {
        let all = Held { messages: self.chains.parked(), bytes: self.chains.bytes() };
        all - self.chains.parked_if(|publisher| self.needed.is_away(publisher))
    }

    /// Keys that were asked for and may come, of publishers that are not away.
    pub fn awaited(&self) -> usize {
        self.needed.of_present()
    }

    /// Messages that could not be read so far: their keys were refused, could not be had or do not open them, or too many waited.
    pub fn unread(&self) -> u64 {
        Unreadable::ALL.into_iter().map(|why| self.unread_for(why)).sum()
    }

    /// Of those, the ones that could not be read for this reason.
    pub const fn unread_for(&self, why: Unreadable) -> u64 {
        self.unread.of(why)
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
                let part = message.content().part.clone();
                effects.push(IntakeEffect::Notify(Event::Gap { part, publisher: name.0, after, until }));
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
                self.unread.add(Unreadable::WrongKey, 1);
                let wrong = key_of(message.content()).map(|(publisher, key_id)| Event::WrongKey { publisher, key_id });
                effects.extend(wrong.map(IntakeEffect::Notify));
            }
            Opened::Wrong { first: false } => self.note_unread(message.content(), Unreadable::WrongKey, effects),
            Opened::Refused(why) => self.note_unread(message.content(), why, effects),
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
            self.needed.remove(publisher, &key_id);
            self.tell_quiet(publisher, &key_id, effects);
            effects.push(IntakeEffect::Keep { publisher, key, since });
            effects.push(IntakeEffect::Notify(Event::KeyArrived { publisher, key_id, by: Arrival::Rotate }));
        }
        if any {
            self.drain(now, publisher, effects);
        }
    }

    fn park(&mut self, name: ChainName, message: Verified<MessageContent>, effects: &mut Vec<IntakeEffect>) {
        self.need(message.content(), effects);
        for dropped in self.chains.park(name, message, |publisher| self.needed.is_away(publisher)) {
            if self.past.is_some() {
                self.note_unread(dropped.content(), Unreadable::TooManyParked, effects);
            } else {
                self.unread.add(Unreadable::TooManyParked, 1);
                let publisher = dropped.content().publisher;
                effects.push(IntakeEffect::Notify(Event::ParkedDropped { publisher, dropped: 1 }));
            }
        }
    }

    /// A message that nothing is said of now.
    fn note_unread(&mut self, content: &MessageContent, why: Unreadable, effects: &mut Vec<IntakeEffect>) {
        self.unread.add(why, 1);
        let told = self.past.as_mut().unwrap_or(&mut self.quiet).note(content);
        effects.extend(told.map(IntakeEffect::Notify));
    }

    /// What came live under this key and nothing was said of.
    fn tell_quiet(&mut self, publisher: UserId, key_id: &KeyId, effects: &mut Vec<IntakeEffect>) {
        let told = self.quiet.of(&(publisher, key_id.clone()));
        effects.extend(told.map(IntakeEffect::Notify));
    }

    /// Says once per key that it is needed, not once per message.
    fn need(&mut self, content: &MessageContent, effects: &mut Vec<IntakeEffect>) {
        let Some(name) = key_of(content).filter(|name| !self.keys.holds(name)) else { return };
        if self.needed.insert(name.clone()) {
            effects.push(IntakeEffect::Need { publisher: name.0, key_id: name.1 });
        }
    }

    fn give_up(
        &mut self,
        now: Timestamp,
        publisher: UserId,
        key_id: &KeyId,
        why: Unreadable,
        effects: &mut Vec<IntakeEffect>,
    ) -> usize {
        let name = (publisher, key_id.clone());
        self.needed.remove(publisher, key_id);
        // What waited for nothing else counts among the dropped.
        let ready = self.chains.release(now, |content| key_of(content).as_ref() != Some(&name));
        for (chain, ready) in ready {
            for InOrder { message, .. } in ready {
                for dropped in self.chains.park(chain, message, |publisher| self.needed.is_away(publisher)) {
                    self.note_unread(dropped.content(), Unreadable::TooManyParked, effects);
                }
            }
        }
        self.tell_quiet(publisher, key_id, effects);
        let dropped = self.chains.drop_under(publisher, key_id);
        match self.past {
            Some(_) => dropped.iter().for_each(|message| self.note_unread(message.content(), why, effects)),
            // Of these the event tells that follows.
            None => self.unread.add(why, dropped.len()),
        }
        dropped.len()
    }

    /// Opens what a key that came or was given up leaves to be opened.
    fn go_on(&mut self, now: Timestamp, publisher: UserId, effects: &mut Vec<IntakeEffect>) {
        self.drain(now, publisher, effects);
        self.release(now, effects);
    }

    /// Goes on with the chains just met whose first message need not wait for its key any more. Each can bring keys for others.
    fn release(&mut self, now: Timestamp, effects: &mut Vec<IntakeEffect>) {
        loop {
            let released = self.chains.release(now, |content| self.needed.awaits(content));
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

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;
