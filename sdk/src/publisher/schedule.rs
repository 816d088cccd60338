//! Which key seals the next message, and which key that message carries.
//!
//! ```text
//!            first message: make a key            rekey: new key at once, queue dropped
//!   (none) ───────────────────────────▶ current ◀──────────────────────────────────────
//!                                          │ rotate: next key queued (the last one wins)
//!                                          ▼
//!                          message M under `current`, carries the queued key;
//!                          then the queued key is current, and the wrap rides
//!                          on the following messages too (WRAP_REPEATS)
//! ```
//! A queued key that is [hurried](KeySchedule::hurry) seals that message itself, which carries it all the same: whoever holds
//! the key before opens the wrap first.
//!
//! Every step is planned first and applied only once its key is durable: [`KeySchedule::plan_message`] changes nothing,
//! [`KeySchedule::message_sent`] does.

use std::collections::VecDeque;

use rand_core::CryptoRng;
use veilcast_key_store::{GroupKey, KeyScope};

use crate::cipher::wrap_next;
use crate::wire::{KeyUpdate, UpdateKind};

/// On how many messages after the first a wrapped key is repeated, so that one lost message costs no key request.
pub const WRAP_REPEATS: u32 = 8;
/// Most wraps riding at once; the oldest is dropped, whoever misses it asks for the key.
const MAX_RIDING: usize = 8;

/// The keys of one (publisher, stream).
#[derive(Debug)]
pub struct KeySchedule {
    scope: KeyScope,
    current: Option<GroupKey>,
    queued: Option<GroupKey>,
    /// The queued key seals the very next message.
    hurried: bool,
    riding: VecDeque<Riding>,
}

#[derive(Clone, Debug)]
struct Riding {
    update: KeyUpdate,
    left: u32,
}

/// What the next message needs.
#[derive(Debug)]
pub struct MessageStep {
    /// The key that seals it.
    pub key: GroupKey,
    /// What it carries, oldest first.
    pub key_updates: Vec<KeyUpdate>,
    /// The key to make current in the store, durably, before the message leaves; `None` when nothing changes.
    pub make_current: Option<GroupKey>,
}

/// A rekey, before it happened.
#[derive(Debug)]
pub struct RekeyStep {
    /// The key to make current in the store, durably.
    pub make_current: GroupKey,
}

impl KeySchedule {
    /// Continues with the publisher's current key, if there is one.
    pub fn resume(scope: KeyScope, current: Option<GroupKey>) -> Self {
        Self { scope, current, queued: None, hurried: false, riding: VecDeque::new() }
    }

    /// The key in use.
    pub fn current(&self) -> Option<&GroupKey> {
        self.current.as_ref()
    }

    /// The key that the next message will carry.
    pub fn queued(&self) -> Option<&GroupKey> {
        self.queued.as_ref()
    }

    /// Queues `next`. Before any key was in use it is not queued: the caller makes it current, as for a rekey.
    pub fn rotate(&mut self, next: GroupKey) -> Option<RekeyStep> {
        if self.current.is_none() {
            return Some(RekeyStep { make_current: next });
        }
        self.queued = Some(next);
        None
    }

    /// The queued key is current from the next message on, which carries it, instead of the one after: for a key that has
    /// sealed all it may. Without a queued key nothing changes.
    pub fn hurry(&mut self) {
        self.hurried = self.queued.is_some();
    }

    /// Plans a rekey to `next`. Applied by [`Self::rekeyed`].
    pub fn plan_rekey(&self, next: GroupKey) -> RekeyStep {
        RekeyStep { make_current: next }
    }

    /// The rekey's key is durable: it is current from now on, and nothing queued or riding survives it.
    pub fn rekeyed(&mut self, step: RekeyStep) {
        self.current = Some(step.make_current);
        self.queued = None;
        self.hurried = false;
        self.riding.clear();
    }

    /// Plans the next message. Changes nothing, so a failed store leaves the schedule as it was.
    pub fn plan_message<R: CryptoRng + ?Sized>(&self, rng: &mut R) -> MessageStep {
        let Some(current) = self.current.clone() else {
            let first = GroupKey::generate(rng);
            return MessageStep { key: first.clone(), key_updates: Vec::new(), make_current: Some(first) };
        };
        let mut key_updates: Vec<KeyUpdate> = self.riding.iter().map(|riding| riding.update.clone()).collect();
        if let Some(next) = &self.queued {
            if key_updates.len() == MAX_RIDING {
                key_updates.remove(0);
            }
            key_updates.push(KeyUpdate {
                kind: UpdateKind::Rotate,
                key_id: next.id().clone(),
                wrapped_by: current.id().clone(),
                wrapped: wrap_next(&self.scope, &current, next, rng),
            });
        }
        let key = self.queued.clone().filter(|_| self.hurried).unwrap_or(current);
        MessageStep { key, key_updates, make_current: self.queued.clone() }
    }

    /// The planned message's key is durable and the message was made.
    pub fn message_sent(&mut self, step: &MessageStep) {
        self.riding.iter_mut().for_each(|riding| riding.left -= 1);
        self.riding.retain(|riding| riding.left > 0);
        self.hurried = false;
        if self.queued.take().is_some() {
            if let Some(update) = step.key_updates.last() {
                self.riding.push_back(Riding { update: update.clone(), left: WRAP_REPEATS });
            }
            while self.riding.len() > MAX_RIDING {
                self.riding.pop_front();
            }
        }
        if let Some(key) = &step.make_current {
            self.current = Some(key.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use veilcast_key_store::KeyId;

    use super::*;
    use crate::cipher::unwrap_next;

    fn key(id: &str) -> GroupKey {
        GroupKey::new(KeyId::new(id).unwrap(), &[id.as_bytes()[0]; 32]).unwrap()
    }

    fn schedule(current: Option<&str>) -> KeySchedule {
        KeySchedule::resume(KeyScope::new([1; 20], "s"), current.map(key))
    }

    fn send(schedule: &mut KeySchedule) -> MessageStep {
        let step = schedule.plan_message(&mut StdRng::seed_from_u64(1));
        schedule.message_sent(&step);
        step
    }

    #[test]
    fn the_first_message_makes_a_key_that_is_to_be_stored_first() {
        let mut schedule = schedule(None);
        let first = send(&mut schedule);
        assert!(first.make_current.unwrap().same_as(&first.key));
        let second = send(&mut schedule);
        assert!(second.key.same_as(&first.key) && second.make_current.is_none());
    }

    #[test]
    fn after_rotate_the_next_message_is_under_the_old_key_and_carries_the_new_and_the_one_after_uses_it() {
        let mut schedule = schedule(Some("a"));
        assert!(schedule.rotate(key("b")).is_none());
        let first = send(&mut schedule);
        assert!(first.key.same_as(&key("a")));
        assert!(first.make_current.as_ref().unwrap().same_as(&key("b")), "durable before it is announced");
        let update = &first.key_updates[0];
        let opened = unwrap_next(&schedule.scope, &key("a"), &update.key_id, &update.wrapped).unwrap();
        assert!(opened.same_as(&key("b")));
        assert!(send(&mut schedule).key.same_as(&key("b")));
    }

    #[test]
    fn the_wrap_is_repeated_for_a_short_window_and_then_no_more() {
        let mut schedule = schedule(Some("a"));
        schedule.rotate(key("b"));
        let carried = (0..WRAP_REPEATS + 2).map(|_| send(&mut schedule).key_updates.len()).collect::<Vec<_>>();
        let mut expected = vec![1; WRAP_REPEATS as usize + 1];
        expected.push(0);
        assert_eq!(carried, expected);
    }

    #[test]
    fn rotate_before_any_message_makes_the_key_current_and_wraps_nothing() {
        let mut schedule = schedule(None);
        let step = schedule.rotate(key("a")).unwrap();
        schedule.rekeyed(step);
        let first = send(&mut schedule);
        assert!(first.key.same_as(&key("a")) && first.key_updates.is_empty() && first.make_current.is_none());
    }

    #[test]
    fn of_two_rotates_in_a_row_the_last_wins() {
        let mut schedule = schedule(Some("a"));
        schedule.rotate(key("b"));
        schedule.rotate(key("c"));
        let first = send(&mut schedule);
        assert_eq!(first.key_updates.iter().map(|u| u.key_id.as_str()).collect::<Vec<_>>(), ["c"]);
        assert!(send(&mut schedule).key.same_as(&key("c")));
    }

    #[test]
    fn rekey_discards_a_queued_rotate_and_rotate_after_it_wraps_under_the_rekeyed_key() {
        let mut schedule = schedule(Some("a"));
        schedule.rotate(key("b"));
        send(&mut schedule);
        schedule.rotate(key("c"));
        let step = schedule.plan_rekey(key("r"));
        schedule.rekeyed(step);
        let first = send(&mut schedule);
        assert!(first.key.same_as(&key("r")) && first.key_updates.is_empty(), "no way from the old key to the new");
        schedule.rotate(key("d"));
        assert_eq!(send(&mut schedule).key_updates[0].wrapped_by.as_str(), "r");
    }

    #[test]
    fn a_hurried_key_seals_the_message_that_carries_it_and_the_wrap_is_repeated_as_ever() {
        let mut schedule = schedule(Some("a"));
        schedule.hurry();
        assert!(send(&mut schedule).key_updates.is_empty(), "nothing was queued");
        schedule.rotate(key("b"));
        schedule.hurry();
        let first = send(&mut schedule);
        assert!(first.key.same_as(&key("b")) && first.make_current.as_ref().unwrap().same_as(&key("b")));
        let update = &first.key_updates[0];
        assert!(unwrap_next(&schedule.scope, &key("a"), &update.key_id, &update.wrapped).unwrap().same_as(&key("b")));
        assert_eq!(send(&mut schedule).key_updates.len(), 1);
        schedule.rotate(key("c"));
        assert!(send(&mut schedule).key.same_as(&key("b")), "the hurry is over");
    }

    #[test]
    fn a_plan_that_was_not_applied_changes_nothing() {
        let mut schedule = schedule(Some("a"));
        schedule.rotate(key("b"));
        drop(schedule.plan_message(&mut StdRng::seed_from_u64(1)));
        assert!(schedule.current().unwrap().same_as(&key("a")));
        assert!(schedule.queued().unwrap().same_as(&key("b")));
    }

    #[test]
    fn rotating_before_every_message_keeps_the_number_of_wraps_bounded() {
        let mut schedule = schedule(Some("a"));
        for n in 0..100u8 {
            schedule.rotate(key(&char::from(b'b' + n % 20).to_string()));
            assert!(send(&mut schedule).key_updates.len() <= MAX_RIDING);
        }
    }
}
