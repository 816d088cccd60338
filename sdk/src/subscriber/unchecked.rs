//! Messages whose author is being checked, or cannot be for the moment, because the permission source does not answer.
//!
//! They wait, in the order they came, and their author is checked again when the source said it is worth it. One that waited
//! longer than [`IntakeLimits::permission_wait`] is dropped. Beyond the limits on messages and bytes, whoever has the most
//! waiting loses the oldest, so that a flood under one name costs that name; strangers, of whom no check ever said that they
//! may publish, lose theirs before anybody else, so that a flood under many names costs those.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::limits::{Held, IntakeLimits};
use super::order::size_of;
use crate::identity::UserId;
use crate::time::Timestamp;
use crate::wire::{MessageContent, Verified};

/// However soon the source says: not more often than this.
const SOONEST: Duration = Duration::from_millis(50);

/// Messages of authors who are yet to be checked.
#[derive(Debug)]
pub struct Unchecked {
    limits: IntakeLimits,
    authors: BTreeMap<UserId, Waiting>,
    count: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    messages: VecDeque<(Timestamp, Verified<MessageContent>)>,
    check_at: Timestamp,
    /// Being checked right now.
    checking: bool,
    /// Never yet permitted, as far as was known when it came.
    stranger: bool,
}

impl Unchecked {
    /// Nothing waits.
    pub fn new(limits: IntakeLimits) -> Self {
        Self { limits, authors: BTreeMap::new(), count: 0, bytes: 0 }
    }

    /// Whether messages of this author wait: then the next ones wait behind them.
    pub fn waits_for(&self, author: UserId) -> bool {
        self.authors.contains_key(&author)
    }

    /// How many messages wait.
    pub fn len(&self) -> usize {
        self.count
    }

    /// The same, with their bytes.
    pub fn held(&self) -> Held {
        Held { messages: self.count, bytes: self.bytes }
    }

    /// Whether as many wait as half of what may, of authors who are no strangers.
    pub fn is_half_full_of_known(&self) -> bool {
        if !self.limits.is_half(self.held()) {
            return false;
        }
        let known = || self.authors.values().filter(|waiting| !waiting.stranger).flat_map(|waiting| &waiting.messages);
        let bytes = known().map(|(_, message)| size_of(message)).sum();
        self.limits.is_half(Held { messages: known().count(), bytes })
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// A message whose author is yet to be checked, the first time at once. Returns whose message was dropped for want of room.
    pub fn push(&mut self, now: Timestamp, message: Verified<MessageContent>, stranger: bool) -> Option<UserId> {
        let fresh = || Waiting { messages: VecDeque::new(), check_at: now, checking: false, stranger };
        self.count += 1;
        self.bytes += size_of(&message);
        let author = message.content().publisher;
        self.authors.entry(author).or_insert_with(fresh).messages.push_back((now, message));
        let over = self.count > self.limits.parked || self.bytes > self.limits.held_bytes;
        over.then(|| self.drop_one()).flatten()
    }

    /// Whose check has been due the longest, which begins now; [`Self::take`] and [`Self::put_off`] end it. A stranger's only
    /// if there is room for one.
    pub fn begin_next(&mut self, now: Timestamp, strangers: bool) -> Option<UserId> {
        let due = |waiting: &Waiting| waiting.may_begin(strangers) && waiting.check_at <= now;
        let due = self.authors.iter_mut().filter(|(_, waiting)| due(waiting));
        let (author, waiting) = due.min_by_key(|(_, waiting)| waiting.check_at)?;
        waiting.checking = true;
        Some(*author)
    }

    /// When [`Self::begin_next`] is next worth asking.
    pub fn next_wake(&self, strangers: bool) -> Option<Timestamp> {
        let waiting = self.authors.values().filter(|waiting| waiting.may_begin(strangers));
        waiting.map(|waiting| waiting.check_at).min()
    }

    /// The author was checked: here are the messages, in the order they came.
    pub fn take(&mut self, author: UserId) -> Vec<Verified<MessageContent>> {
        let waiting = self.authors.remove(&author).map(|waiting| waiting.messages).unwrap_or_default();
        self.count -= waiting.len();
        self.bytes -= waiting.iter().map(|(_, message)| size_of(message)).sum::<usize>();
        waiting.into_iter().map(|(_, message)| message).collect()
    }

    /// The author could not be checked again. Returns how many messages waited too long and were dropped.
    pub fn put_off(&mut self, now: Timestamp, author: UserId, retry_after: Duration) -> usize {
        let patience = self.limits.permission_wait;
        let Some(waiting) = self.authors.get_mut(&author) else { return 0 };
        waiting.check_at = now.plus(retry_after.max(SOONEST));
        waiting.checking = false;
        let mut dropped = 0;
        while waiting.messages.front().is_some_and(|(came, _)| now.since(*came) >= patience) {
            let gone = waiting.messages.pop_front();
            self.bytes -= gone.map_or(0, |(_, message)| size_of(&message));
            dropped += 1;
        }
        self.count -= dropped;
        // It must not lie about longer than it may because the next check comes late.
        if let Some((came, _)) = waiting.messages.front() {
            waiting.check_at = waiting.check_at.min(came.plus(patience));
        } else {
            self.authors.remove(&author);
        }
        dropped
    }

    fn drop_one(&mut self) -> Option<UserId> {
        let cost = |waiting: &Waiting| (waiting.stranger, waiting.messages.len());
        let (author, waiting) = self.authors.iter_mut().max_by_key(|(_, waiting)| cost(waiting))?;
        let (author, (_, gone)) = (*author, waiting.messages.pop_front()?);
        let empty = waiting.messages.is_empty();
        self.count -= 1;
        self.bytes -= size_of(&gone);
        if empty {
            self.authors.remove(&author);
        }
        Some(author)
    }
}

impl Waiting {
    fn may_begin(&self, strangers: bool) -> bool {
        !self.checking && (strangers || !self.stranger)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;
    use crate::message::{Draft, Payload, compose};
    use crate::stream::StreamId;
    use crate::wire::MessageRef;

    const NOW: Timestamp = Timestamp::from_secs(1000);
    const SECOND: Duration = Duration::from_secs(1);

    fn message(author: u8, sequence: u32) -> Verified<MessageContent> {
        let identity = Identity::from_secret_bytes(&[author; 32]).unwrap();
        let part = StreamId::of(UserId::from_bytes([7; 20]), "s").unwrap().part(0).unwrap();
        let at = MessageRef { timestamp: NOW, sequence };
        let draft = Draft { part, chain: [author; 16], at, previous: None, key_updates: Vec::new() };
        compose(draft, &Payload::text("x"), None, &identity, &mut rand::rng()).unwrap()
    }

    fn user(author: u8) -> UserId {
        Identity::from_secret_bytes(&[author; 32]).unwrap().user()
    }

    fn sequences(messages: &[Verified<MessageContent>]) -> Vec<u32> {
        messages.iter().map(|message| message.content().at.sequence).collect()
    }

    #[test]
    fn messages_wait_for_the_next_check_and_come_out_in_their_order() {
        let mut unchecked = Unchecked::new(IntakeLimits::default());
        for sequence in 0..3 {
            assert_eq!(unchecked.push(NOW, message(1, sequence), false), None);
        }
        assert!(unchecked.waits_for(user(1)) && !unchecked.waits_for(user(2)));
        assert_eq!((unchecked.next_wake(true), unchecked.begin_next(NOW, true)), (Some(NOW), Some(user(1))));
        assert_eq!((unchecked.next_wake(true), unchecked.begin_next(NOW, true)), (None, None), "it is being checked");
        assert_eq!(unchecked.put_off(NOW, user(1), SECOND), 0);
        assert_eq!((unchecked.next_wake(true), unchecked.begin_next(NOW, true)), (Some(NOW.plus(SECOND)), None));
        assert_eq!(unchecked.begin_next(NOW.plus(SECOND), true), Some(user(1)));
        assert_eq!(sequences(&unchecked.take(user(1))), [0, 1, 2]);
        assert!(unchecked.is_empty() && unchecked.bytes == 0 && unchecked.next_wake(true).is_none());
    }

    #[test]
    fn strangers_keep_nobody_from_being_checked_and_lose_their_messages_first() {
        let mut unchecked = Unchecked::new(IntakeLimits { parked: 10, ..IntakeLimits::default() });
        for sequence in 0..5 {
            unchecked.push(NOW.plus(SECOND), message(1, sequence), false);
        }
        let dropped: Vec<_> = (2..20).filter_map(|author| unchecked.push(NOW, message(author, 0), true)).collect();
        assert!(dropped.len() == 13 && !dropped.contains(&user(1)), "{dropped:?}");
        assert_eq!(unchecked.begin_next(NOW.plus(SECOND), false), Some(user(1)));
        assert_eq!((unchecked.next_wake(false), unchecked.next_wake(true)), (None, Some(NOW)));
        assert_eq!(sequences(&unchecked.take(user(1))), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn it_is_half_full_by_messages_or_bytes_of_those_who_are_no_strangers() {
        for limits in [
            IntakeLimits { parked: 10, ..IntakeLimits::default() },
            IntakeLimits { held_bytes: 10 * size_of(&message(1, 0)), ..IntakeLimits::default() },
        ] {
            let mut unchecked = Unchecked::new(limits);
            for n in 0..9 {
                assert_eq!(unchecked.push(NOW, message(2, n), true), None);
            }
            assert!(!unchecked.is_half_full_of_known(), "strangers hold nobody up");
            let filled: Vec<bool> = (0..5)
                .map(|n| {
                    unchecked.push(NOW, message(1, n), false);
                    unchecked.is_half_full_of_known()
                })
                .collect();
            assert_eq!(filled, [false, false, false, false, true]);
            unchecked.take(user(1));
            assert!(!unchecked.is_half_full_of_known());
        }
    }

    #[test]
    fn a_message_waits_as_long_as_it_may_and_no_longer() {
        let mut unchecked = Unchecked::new(IntakeLimits { permission_wait: SECOND * 60, ..IntakeLimits::default() });
        unchecked.push(NOW, message(1, 0), false);
        unchecked.push(NOW.plus(SECOND * 30), message(1, 1), false);
        assert_eq!(unchecked.put_off(NOW.plus(SECOND * 59), user(1), SECOND * 1000), 0);
        assert_eq!(unchecked.next_wake(true), Some(NOW.plus(SECOND * 60)));
        assert_eq!(unchecked.put_off(NOW.plus(SECOND * 60), user(1), SECOND), 1);
        assert_eq!((unchecked.len(), unchecked.put_off(NOW.plus(SECOND * 90), user(1), SECOND)), (1, 1));
        assert!(!unchecked.waits_for(user(1)) && unchecked.bytes == 0);
    }

    #[test]
    fn a_flood_under_one_name_costs_that_name() {
        for limits in [
            IntakeLimits { parked: 10, ..IntakeLimits::default() },
            IntakeLimits { held_bytes: 10 * size_of(&message(1, 0)), ..IntakeLimits::default() },
        ] {
            let mut unchecked = Unchecked::new(limits);
            unchecked.push(NOW, message(1, 0), false);
            let dropped: Vec<_> = (0..100).filter_map(|n| unchecked.push(NOW, message(2, n), false)).collect();
            assert!(dropped.len() >= 91 && dropped.iter().all(|author| *author == user(2)), "{}", dropped.len());
            assert_eq!(sequences(&unchecked.take(user(1))), [0]);
            assert_eq!(unchecked.take(user(2)).last().map(|last| last.content().at.sequence), Some(99));
            assert!(unchecked.is_empty() && unchecked.bytes == 0);
        }
    }
}
