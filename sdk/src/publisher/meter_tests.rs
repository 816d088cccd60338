//! A publisher made of the pure parts and a store in memory, through crashes, restarts and clocks that jump.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use veilcast_key_store::{GroupKey, KeyScope, KeyStore, MemoryKeyStore};

use super::*;
use crate::cipher::unwrap_next;
use crate::identity::UserId;
use crate::publisher::{KeySchedule, policy};
use crate::stream::StreamId;

const START: u64 = 1_000_000;

/// How far a publish comes before the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    KeyStored,
    CountStored,
    Sealed,
}

#[derive(Clone, Debug)]
enum Act {
    Publish(u8),
    PublishCut(Cut),
    Clock(i64),
    Rotate,
    Rekey,
    Crash,
    Restart,
}

/// One message as its readers see it.
#[derive(Clone, Debug)]
struct Sent {
    key: String,
    carries: Vec<String>,
    /// The key had been in use for so long, and the last rekey was so long ago.
    age: Duration,
    rekeyed: Duration,
    /// Carries nothing, however old its key: the first of all, or the last before a rekey.
    excused: bool,
}

struct Publisher {
    store: MemoryKeyStore,
    stream: StreamId,
    scope: KeyScope,
    rng: StdRng,
    now: u64,
    last_rekey: Timestamp,
    schedule: KeySchedule,
    meter: Meter,
    sealed: BTreeMap<String, u64>,
    since_rekey: u64,
    reader: BTreeMap<String, GroupKey>,
    /// A crash took a wrap along: the reader may ask for one key, and must then find its way again.
    may_ask: bool,
    writes: u64,
}

impl Publisher {
    fn new(policy: KeyPolicy) -> Self {
        let (user, store) = (UserId::from_bytes([1; 20]), MemoryKeyStore::new());
        let stream = StreamId::of(user, "s").unwrap();
        policy.save(&store, &stream).unwrap();
        let scope = crate::scope(user, &stream);
        Self {
            schedule: KeySchedule::resume(scope.clone(), None),
            meter: Meter::resume(policy, None, None, Timestamp::ZERO),
            store,
            stream,
            scope,
            rng: StdRng::seed_from_u64(7),
            now: START,
            last_rekey: Timestamp::ZERO,
            sealed: BTreeMap::new(),
            since_rekey: 0,
            reader: BTreeMap::new(),
            may_ask: false,
            writes: 0,
        }
    }

    fn at(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }

    fn act(&mut self, act: &Act) -> Vec<Sent> {
        match act {
            Act::Publish(times) => return (0..*times).filter_map(|_| self.publish(None)).collect(),
            Act::PublishCut(cut) => drop(self.publish(Some(*cut))),
            Act::Clock(step) => self.now = self.now.saturating_add_signed(*step),
            Act::Rotate => {
                let next = GroupKey::generate(&mut self.rng);
                if let Some(first) = self.schedule.rotate(next) {
                    self.rekey(first.make_current);
                }
            }
            Act::Rekey => {
                let next = GroupKey::generate(&mut self.rng);
                self.rekey(next);
            }
            Act::Crash => self.resume(),
            Act::Restart => {
                let current = self.schedule.current().map(|key| key.id().clone());
                if let Some(count) = self.meter.settle(current.as_ref()) {
                    policy::save_count(&self.store, &self.stream, count).unwrap();
                }
                self.resume();
            }
        }
        Vec::new()
    }

    fn resume(&mut self) {
        let current = self.store.current(&self.scope).unwrap();
        let (policy, count) = policy::load_with_count(&self.store, &self.stream).unwrap();
        self.meter = Meter::resume(policy, count.as_deref(), current.as_ref(), self.last_rekey);
        self.schedule = KeySchedule::resume(self.scope.clone(), current.map(|stored| stored.key));
    }

    fn rekey(&mut self, next: GroupKey) {
        self.store.make_current(&self.scope, &next, self.now).unwrap();
        self.handed_out(&next);
        self.last_rekey = self.at();
        let step = self.schedule.plan_rekey(next);
        self.schedule.rekeyed(step);
        self.meter.rekeyed(self.at());
    }

    /// What readers get separately.
    fn handed_out(&mut self, key: &GroupKey) {
        self.since_rekey = 0;
        self.reader.insert(key.id().to_string(), key.clone());
    }

    fn publish(&mut self, cut: Option<Cut>) -> Option<Sent> {
        let now = self.at();
        match self.meter.due(now) {
            Due::Nothing => {}
            Due::Rekey => {
                let next = GroupKey::generate(&mut self.rng);
                self.rekey(next);
                if self.meter.due(now) == Due::RotateWith {
                    self.schedule.rotate(GroupKey::generate(&mut self.rng));
                }
            }
            due => {
                if self.schedule.queued().is_none() {
                    self.schedule.rotate(GroupKey::generate(&mut self.rng));
                }
                if due == Due::RotateBefore {
                    self.schedule.hurry();
                }
            }
        }
        let first = self.schedule.current().is_none();
        let step = self.schedule.plan_message(&mut self.rng);
        if let Some(key) = &step.make_current {
            self.store.make_current(&self.scope, key, self.now).unwrap();
            if self.schedule.current().is_none() {
                self.handed_out(key);
                self.last_rekey = now;
            }
            if cut == Some(Cut::KeyStored) {
                return self.cut(&step);
            }
        }
        self.meter.begin(&step, now);
        if let Some(count) = self.meter.reserve(step.key.id()) {
            policy::save_count(&self.store, &self.stream, count).unwrap();
            self.writes += 1;
            self.meter.reserved();
        }
        if cut == Some(Cut::CountStored) {
            return self.cut(&step);
        }
        let (age, rekeyed) = (now.since(self.meter.began), now.since(self.meter.rekeyed));
        *self.sealed.entry(step.key.id().to_string()).or_default() += 1;
        self.since_rekey += 1;
        if cut == Some(Cut::Sealed) {
            return self.cut(&step);
        }
        self.schedule.message_sent(&step);
        self.meter.sealed(&step, now);
        self.read(&step);
        let carries = step.key_updates.iter().map(|update| update.key_id.to_string()).collect();
        let excused = first || is_full(self.meter.policy().rekey_every, self.meter.since_rekey);
        Some(Sent { key: step.key.id().to_string(), carries, age, rekeyed, excused })
    }

    /// The power goes: what the message would have carried never arrives.
    fn cut(&mut self, step: &MessageStep) -> Option<Sent> {
        self.may_ask |= step.make_current.is_some();
        self.resume();
        None
    }

    /// A reader who has the first key of each rekey, and asks for one key where a crash took a wrap along.
    fn read(&mut self, step: &MessageStep) {
        self.take_carried(step);
        let id = step.key.id().to_string();
        if !self.reader.contains_key(&id) && std::mem::take(&mut self.may_ask) {
            self.reader.insert(id.clone(), step.key.clone());
            self.take_carried(step);
        }
        assert!(self.reader.get(&id).is_some_and(|held| held.same_as(&step.key)), "a message that nobody can read");
    }

    fn take_carried(&mut self, step: &MessageStep) {
        for update in &step.key_updates {
            let Some(by) = self.reader.get(update.wrapped_by.as_str()) else { continue };
            let key = unwrap_next(&self.scope, by, &update.key_id, &update.wrapped).unwrap();
            self.reader.insert(key.id().to_string(), key);
        }
    }

    fn keys(&mut self, messages: usize) -> Vec<String> {
        (0..messages).filter_map(|_| self.publish(None)).map(|sent| sent.key).collect()
    }
}

/// How many messages each key sealed, in their order.
fn runs(keys: &[String]) -> Vec<usize> {
    keys.chunk_by(|a, b| a == b).map(<[String]>::len).collect()
}

fn rotate(every: Every) -> KeyPolicy {
    KeyPolicy { rotate_every: every, ..KeyPolicy::default() }
}

fn rekey(every: Every) -> KeyPolicy {
    KeyPolicy { rekey_every: every, ..KeyPolicy::default() }
}

#[test]
fn each_key_seals_exactly_so_many_messages_and_the_last_of_them_carries_the_next() {
    let mut publisher = Publisher::new(rotate(Every::messages(3)));
    let sent: Vec<Sent> = (0..10).filter_map(|_| publisher.publish(None)).collect();
    assert_eq!(runs(&sent.iter().map(|sent| sent.key.clone()).collect::<Vec<_>>()), [3, 3, 3, 1]);
    for (n, pair) in sent.windows(2).enumerate() {
        let first_heard = pair[0].carries.last() == Some(&pair[1].key) && pair[0].key != pair[1].key;
        assert_eq!(first_heard, (n + 1) % 3 == 0, "message {}", n + 1);
    }
}

#[test]
fn with_one_message_per_key_every_message_carries_the_next_key() {
    let mut publisher = Publisher::new(rotate(Every::messages(1)));
    assert_eq!(runs(&publisher.keys(5)), [1; 5]);
}

#[test]
fn a_rekey_comes_before_the_next_message_and_no_rotate_is_wasted_before_it() {
    let policy = KeyPolicy { rotate_every: Every::messages(2), rekey_every: Every::messages(4) };
    let mut publisher = Publisher::new(policy);
    let sent: Vec<Sent> = (0..9).filter_map(|_| publisher.publish(None)).collect();
    assert_eq!(runs(&sent.iter().map(|sent| sent.key.clone()).collect::<Vec<_>>()), [2, 2, 2, 2, 1]);
    assert_eq!(publisher.sealed.len(), 5, "and every key made was used");
    assert!(sent[4].carries.is_empty() && sent[8].carries.is_empty(), "no way from an old key to a rekeyed one");
}

#[test]
fn a_clean_restart_after_every_message_changes_nothing() {
    for policy in [rotate(Every::messages(3)), rekey(Every::messages(3))] {
        let mut publisher = Publisher::new(policy);
        let mut keys = Vec::new();
        for _ in 0..10 {
            keys.extend(publisher.keys(1));
            publisher.act(&Act::Restart);
        }
        assert_eq!(runs(&keys), [3, 3, 3, 1]);
    }
}

#[test]
fn a_crash_costs_at_most_an_eighth_of_the_messages_of_a_key_and_never_adds_one() {
    let mut publisher = Publisher::new(rotate(Every::messages(800)));
    let mut keys = publisher.keys(250);
    publisher.act(&Act::Crash);
    keys.extend(publisher.keys(1000));
    let first = runs(&keys)[0];
    assert!((700..=800).contains(&first), "{first}");
}

#[test]
fn the_count_costs_eight_writes_for_each_key() {
    let mut publisher = Publisher::new(rotate(Every::messages(1000)));
    publisher.keys(4000);
    assert_eq!(publisher.writes, 4 * BLOCKS);
}

#[test]
fn what_is_counted_in_time_counts_from_the_moment_the_key_became_current_also_across_restarts() {
    let minute = Duration::from_secs(60);
    let mut publisher = Publisher::new(rotate(Every::time(minute)));
    let first = publisher.publish(None).unwrap();
    publisher.act(&Act::Clock(59_999));
    publisher.act(&Act::Crash);
    let before = publisher.publish(None).unwrap();
    publisher.act(&Act::Clock(1));
    let at = publisher.publish(None).unwrap();
    let after = publisher.publish(None).unwrap();
    assert!(first.key == before.key && before.key == at.key, "the message at that moment is the last under the key");
    assert!(before.carries.is_empty());
    assert_eq!(at.carries, std::slice::from_ref(&after.key));
    publisher.act(&Act::Clock(60_000));
    assert!(publisher.publish(None).unwrap().carries.len() == 2, "counted anew from the key's own beginning");
}

#[test]
fn no_message_goes_out_under_a_key_older_than_its_rekey_policy_although_it_was_rotated_to_meanwhile() {
    let policy = KeyPolicy { rotate_every: Every::messages(2), rekey_every: Every::time(Duration::from_secs(60)) };
    let mut publisher = Publisher::new(policy);
    let old = publisher.keys(5);
    publisher.act(&Act::Clock(60_000));
    publisher.act(&Act::Restart);
    let late = publisher.publish(None).unwrap();
    assert!(!old.contains(&late.key) && late.carries.is_empty(), "handed out anew, not carried");
}

#[test]
fn a_change_by_hand_starts_the_count_anew() {
    let mut publisher = Publisher::new(rotate(Every::messages(3)));
    let mut keys = publisher.keys(2);
    publisher.act(&Act::Rekey);
    keys.extend(publisher.keys(4));
    publisher.act(&Act::Rotate);
    keys.extend(publisher.keys(4));
    // The rotate by hand rides in the second message of its key.
    assert_eq!(runs(&keys), [2, 3, 2, 3]);
}

#[test]
fn a_key_that_nobody_counted_is_replaced_at_once_and_readers_follow() {
    let mut publisher = Publisher::new(KeyPolicy::default());
    let old = publisher.keys(2);
    publisher.act(&Act::Restart);
    rotate(Every::messages(1000)).save(&publisher.store, &publisher.stream).unwrap();
    publisher.act(&Act::Restart);
    let next = publisher.publish(None).unwrap();
    assert!(next.key != old[0] && next.carries == [next.key.clone()], "the message carries the key that seals it");
    assert_eq!(runs(&publisher.keys(1500)), [999, 501]);
}

#[test]
fn a_policy_given_to_a_running_publisher_counts_what_it_saw() {
    let mut publisher = Publisher::new(KeyPolicy::default());
    let mut keys = publisher.keys(2);
    let current = publisher.schedule.current().map(|key| key.id().clone());
    let policy = rotate(Every::messages(3));
    let count = publisher.meter.set_policy(policy, current.as_ref());
    policy::save_with_count(&publisher.store, &publisher.stream, policy, count).unwrap();
    keys.extend(publisher.keys(1));
    publisher.act(&Act::Restart);
    keys.extend(publisher.keys(4));
    assert_eq!(runs(&keys), [3, 3, 1]);
}

#[test]
fn a_clock_set_back_restarts_the_age_and_one_that_jumps_causes_one_change() {
    let mut publisher = Publisher::new(rekey(Every::time(Duration::from_secs(60))));
    let first = publisher.keys(1);
    publisher.act(&Act::Clock(-500_000));
    assert_eq!(publisher.keys(3), [first[0].clone(), first[0].clone(), first[0].clone()]);
    publisher.act(&Act::Clock(59_999));
    // The restart must not make the key young again.
    publisher.act(&Act::Crash);
    assert_eq!(publisher.keys(1), first);
    publisher.act(&Act::Clock(1));
    assert_ne!(publisher.keys(1), first);
    publisher.act(&Act::Clock(i64::MAX));
    assert_eq!(runs(&publisher.keys(20)), [20]);
    assert_eq!(publisher.sealed.len(), 3, "one change for the jump");
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (1..20u8).prop_map(Act::Publish),
        1 => prop_oneof![Just(Cut::KeyStored), Just(Cut::CountStored), Just(Cut::Sealed)].prop_map(Act::PublishCut),
        2 => prop_oneof![-5_000..50_000i64, any::<i64>()].prop_map(Act::Clock),
        1 => Just(Act::Rotate),
        1 => Just(Act::Rekey),
        1 => Just(Act::Crash),
        1 => Just(Act::Restart),
    ]
}

fn every() -> impl Strategy<Value = Every> {
    let time = proptest::option::of((0..100_000u64).prop_map(Duration::from_millis));
    (0..30u64, time).prop_map(|(count, time)| Every { time, ..Every::messages(count) })
}

#[test]
fn after_a_crash_the_count_written_ahead_decides_whether_a_rekey_is_next() {
    let rotate_every = Every::time(Duration::from_millis(100));
    let mut publisher = Publisher::new(KeyPolicy { rotate_every, rekey_every: Every::messages(9) });
    for act in [Act::Publish(7), Act::Crash, Act::Clock(100)] {
        publisher.act(&act);
    }
    let last = publisher.act(&Act::Publish(1)).remove(0);
    assert!(last.excused && last.carries.is_empty(), "{last:?}");
    let rekeyed = publisher.act(&Act::Publish(1)).remove(0);
    assert_ne!(rekeyed.key, last.key);
}

proptest! {
    #[test]
    fn whatever_happens_no_key_seals_more_than_it_may_and_everything_is_read_through_the_carried_wraps(
        rotate_every in every(), rekey_every in every(), acts in proptest::collection::vec(act(), 0..60),
    ) {
        let policy = KeyPolicy { rotate_every, rekey_every };
        let mut publisher = Publisher::new(policy);
        for act in &acts {
            let made = publisher.store.history(&publisher.scope, veilcast_key_store::TimeRange::ALL, None, usize::MAX);
            let sent = publisher.act(act);
            let now = publisher.store.history(&publisher.scope, veilcast_key_store::TimeRange::ALL, None, usize::MAX);
            let changes = now.unwrap().len() - made.unwrap().len();
            // The first message makes a key, and a message that is rekeyed and the only one of its key carries the next.
            prop_assert!(changes <= 2 * sent.len() + 2, "{} changes in {} messages", changes, sent.len());
            for sent in sent {
                if let Some(limit) = policy.rekey_every.time.filter(|limit| !limit.is_zero()) {
                    prop_assert!(sent.rekeyed < limit, "{:?}", sent);
                }
                if let Some(limit) = policy.rotate_every.time.filter(|_| !sent.excused && act_is_one(act)) {
                    prop_assert!(sent.age < limit || !sent.carries.is_empty(), "{:?}", sent);
                }
            }
            if let Some(limit) = policy.rekey_every.messages {
                prop_assert!(publisher.since_rekey <= limit.get());
            }
        }
        if let Some(limit) = policy.rotate_every.messages {
            prop_assert!(publisher.sealed.values().all(|count| *count <= limit.get()), "{:?}", publisher.sealed);
        }
    }

    #[test]
    fn a_damaged_record_counts_as_used_up(junk: Vec<u8>) {
        let policy = rotate(Every::messages(5));
        let mut publisher = Publisher::new(policy);
        let old = publisher.keys(1);
        prop_assume!(Count::read(&junk).is_none());
        policy::save_count(&publisher.store, &publisher.stream, junk).unwrap();
        publisher.act(&Act::Crash);
        prop_assert_ne!(publisher.keys(1), old);
    }
}

fn act_is_one(act: &Act) -> bool {
    matches!(act, Act::Publish(1))
}
