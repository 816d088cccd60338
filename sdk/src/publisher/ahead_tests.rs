use veilcast_key_store::KeyId;

use super::*;
use crate::permission::{Period, Permission, Subscriber};

const OWNER: UserId = UserId::from_bytes([0xaa; UserId::LEN]);

const fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(1_000_000 + secs)
}

fn user(n: u8) -> UserId {
    UserId::from_bytes([n; UserId::LEN])
}

fn key(id: &str) -> GroupKey {
    GroupKey::new(KeyId::new(id).unwrap(), &[7; 32]).unwrap()
}

fn always(n: u8) -> Subscriber {
    Subscriber { user: user(n), grant: Grant::new(Permission::Subscribe, Period::ALWAYS) }
}

/// Whose last second is `last`.
fn until(n: u8, last: Timestamp) -> Subscriber {
    Subscriber { user: user(n), grant: Grant::new(Permission::Subscribe, Period::until(last)) }
}

fn revoked(n: u8, moment: Timestamp) -> Subscriber {
    let mut revoked = always(n);
    revoked.grant.revoked = Some(moment);
    revoked
}

/// A publisher's keys ahead, and the ends that it watches.
struct Desk {
    ends: EndWatch,
    ahead: KeysAhead,
    changes: u64,
}

impl Desk {
    fn new(now: Timestamp, subscribers: Vec<Subscriber>) -> Self {
        let mut desk = Self { ends: EndWatch::default(), ahead: KeysAhead::default(), changes: 0 };
        desk.ends.rekeyed(at(0), None);
        desk.learn(now, subscribers);
        desk
    }

    fn learn(&mut self, now: Timestamp, subscribers: Vec<Subscriber>) {
        self.changes += 1;
        self.ends.learn(now, self.changes, Some(subscribers));
    }

    /// Only the clock went on.
    fn tick(&mut self, now: Timestamp) {
        self.ends.learn(now, self.changes, None);
    }

    fn due(&mut self, now: Timestamp) -> Option<Timestamp> {
        self.ahead.due(now, &self.ends)
    }

    /// Makes the key that is due, and sends it to everybody it may be sent to.
    fn send(&mut self, now: Timestamp, id: &str) -> KeyAhead {
        let from = self.due(now).expect("an end comes");
        let made = self.ahead.make(from, key(id), now, &self.ends, [OWNER]);
        (0..100).map(user).filter(|user| made.circle().is_open_to(*user)).for_each(|user| {
            assert!(made.circle().join(user));
        });
        made
    }

    fn taken(&mut self, now: Timestamp) -> Option<String> {
        let taken = self.ahead.take(now, &self.ends)?;
        self.ends.rekeyed(now, None);
        Some(taken.key().id().as_str().to_string())
    }
}

#[test]
fn a_key_is_made_two_seconds_before_the_end_and_one_for_each_end() {
    let mut desk = Desk::new(at(10), vec![always(1), until(2, at(20)), until(3, at(20)), until(4, at(21))]);
    assert_eq!(desk.due(at(18)), None);
    assert_eq!(desk.due(at(19)), Some(at(21)), "the last second is the twentieth");
    desk.send(at(19), "a");
    assert_eq!(desk.due(at(19)), None);
    assert_eq!(desk.due(at(20)), Some(at(22)));
    let made = desk.send(at(20), "b");
    assert_eq!((made.from(), desk.due(at(20))), (at(22), None));
}

#[test]
fn an_end_that_is_nearer_than_that_gets_its_key_at_once() {
    let mut desk = Desk::new(at(20), vec![until(1, at(20))]);
    assert_eq!(desk.due(at(20)), Some(at(21)));
}

#[test]
fn it_goes_to_those_only_who_may_read_now_and_after_the_end() {
    let mut begins = always(3);
    begins.grant.period.start = Some(at(30));
    let mut desk = Desk::new(at(20), vec![always(1), until(2, at(20)), begins, revoked(4, at(15)), until(5, at(21))]);
    let made = desk.send(at(20), "a");
    assert_eq!(made.circle().joined(), [user(1), user(5)]);
    assert!(made.circle().is_open_to(OWNER) && !made.circle().is_open_to(user(2)));
    assert!(!made.circle().join(user(2)) && !made.circle().join(user(9)), "nobody who is not known either");
}

#[test]
fn a_grant_that_ends_before_the_key_is_used_does_not_allow_it_whatever_was_known() {
    let mut desk = Desk::new(at(20), vec![always(1), until(2, at(20))]);
    let made = desk.send(at(20), "a");
    assert!(made.circle().allows(&always(1).grant) && made.circle().allows(&until(1, at(21)).grant));
    assert!(!made.circle().allows(&until(1, at(20)).grant));
}

#[test]
fn it_is_not_current_before_the_end_and_then_once() {
    let mut desk = Desk::new(at(20), vec![always(1), until(2, at(20))]);
    desk.send(at(20), "a");
    assert_eq!(desk.taken(at(20).plus(Duration::from_millis(999))), None);
    desk.tick(at(21));
    assert_eq!(desk.taken(at(21)).as_deref(), Some("a"));
    assert_eq!(desk.taken(at(21)), None);
}

#[test]
fn once_it_is_current_it_is_open_to_whoever_was_not_sent_it() {
    let mut desk = Desk::new(at(20), vec![always(1), until(2, at(20))]);
    let made = desk.send(at(20), "a");
    desk.tick(at(21));
    desk.taken(at(21)).unwrap();
    assert!(made.circle().is_open_to(user(9)) && made.circle().allows(&until(9, at(20)).grant), "whom a check allows");
    assert!(!made.circle().join(user(1)), "nobody is sent it twice");
}

#[test]
fn after_a_renewal_before_the_end_it_is_discarded_and_never_used() {
    let mut desk = Desk::new(at(20), vec![always(1), until(2, at(20))]);
    let made = desk.send(at(20), "a");
    desk.learn(at(20), vec![always(1), until(2, at(60))]);
    assert_eq!(desk.due(at(20)), None);
    assert!(!made.circle().is_open_to(user(2)) && !made.circle().allows(&always(1).grant));
    desk.learn(at(25), vec![revoked(1, at(25)), until(2, at(60))]);
    assert_eq!(desk.taken(at(25)), None);
}

#[test]
fn a_renewal_that_is_learned_with_the_end_leaves_nothing_to_use_it_for() {
    let mut desk = Desk::new(at(20), vec![always(1), until(2, at(20))]);
    let made = desk.send(at(20), "a");
    desk.learn(at(21), vec![always(1), until(2, at(60)), revoked(3, at(21).plus(Duration::from_millis(1)))]);
    assert_eq!(desk.taken(at(22)), None, "the rekey is for another");
    assert!(!made.circle().is_open_to(user(2)));
}

#[test]
fn if_somebody_who_was_sent_it_may_not_read_any_more_it_is_not_used() {
    for lost in
        [vec![revoked(1, at(20)), until(2, at(20))], vec![until(2, at(20))], vec![until(1, at(20)), until(2, at(20))]]
    {
        let mut desk = Desk::new(at(20), vec![always(1), until(2, at(20)), always(3)]);
        let made = desk.send(at(20), "a");
        desk.learn(at(21), [lost, vec![always(3)]].concat());
        assert_eq!(desk.taken(at(21)), None);
        assert!(!made.circle().is_open_to(user(3)) && desk.taken(at(22)).is_none());
    }
}

#[test]
fn whoever_joins_before_his_check_is_seen_and_who_was_refused_then_hinders_nobody() {
    let mut desk = Desk::new(at(20), vec![always(1), until(2, at(20))]);
    let from = desk.due(at(20)).unwrap();
    let made = desk.ahead.make(from, key("a"), at(20), &desk.ends, [OWNER]);
    assert!(made.circle().join(user(1)) && made.circle().join(OWNER));
    made.circle().leave(user(1));
    desk.learn(at(21), vec![revoked(1, at(20)), until(2, at(20))]);
    assert_eq!(desk.taken(at(21)).as_deref(), Some("a"), "the owner is served always");
}

#[test]
fn a_change_by_hand_discards_it() {
    let mut desk = Desk::new(at(20), vec![always(1), until(2, at(20))]);
    let made = desk.send(at(20), "a");
    desk.ahead.discard();
    assert!(!made.circle().is_open_to(user(1)));
    assert_eq!(desk.due(at(20)), Some(at(21)), "the end is still to come");
    desk.tick(at(21));
    assert_eq!(desk.taken(at(21)), None);
}

#[test]
fn of_ends_that_one_rekey_shuts_out_the_last_ones_key_is_used() {
    let mut desk = Desk::new(at(20), vec![always(1), until(2, at(20)), until(3, at(21))]);
    let early = desk.send(at(20), "a");
    let late = desk.send(at(20), "b");
    assert_eq!((early.circle().joined(), late.circle().joined()), (vec![user(1), user(3)], vec![user(1)]));
    desk.tick(at(22));
    assert_eq!(desk.taken(at(22)).as_deref(), Some("b"));
    assert!(desk.taken(at(22)).is_none() && !early.circle().is_open_to(user(9)));
}

#[test]
fn of_ends_that_two_rekeys_shut_out_each_has_its_key() {
    let mut desk = Desk::new(at(20), vec![always(1), until(2, at(20)), until(3, at(21))]);
    desk.send(at(20), "a");
    desk.send(at(20), "b");
    desk.tick(at(21));
    assert_eq!(desk.taken(at(21)).as_deref(), Some("a"));
    assert_eq!(desk.due(at(21)), None);
    desk.tick(at(22));
    assert_eq!(desk.taken(at(22)).as_deref(), Some("b"));
}

#[test]
fn the_number_of_keys_stays_bounded_while_a_rekey_is_waited_for_and_ends_come_every_second() {
    let all: Vec<Subscriber> = (0..200u8).map(|n| until(n, at(20 + u64::from(n)))).collect();
    let mut desk = Desk::new(at(20), all);
    for second in 20..200 {
        while desk.due(at(second)).is_some() {
            desk.send(at(second), "k");
        }
        assert!(desk.ahead.keys.len() <= 1 + LEAD.as_secs() as usize + 1, "{}", desk.ahead.keys.len());
    }
}

#[test]
fn a_clock_that_is_set_back_discards_what_is_too_far_ahead_and_one_that_jumps_uses_what_fits() {
    let mut desk = Desk::new(at(20), vec![always(1), until(2, at(20))]);
    desk.send(at(20), "a");
    desk.tick(at(5));
    assert_eq!(desk.due(at(5)), None);
    desk.tick(at(21));
    assert_eq!(desk.taken(at(21)), None);

    let mut desk = Desk::new(at(20), vec![always(1), until(2, at(20)), until(3, at(50))]);
    desk.send(at(20), "a");
    desk.tick(at(100));
    assert_eq!(desk.taken(at(100)), None, "the third was sent it, and is out by now");
}

#[test]
fn nothing_of_a_key_ahead_is_printed_but_its_name() {
    let mut desk = Desk::new(at(20), vec![always(1), until(2, at(20))]);
    let made = desk.send(at(20), "name");
    let told = format!("{made:?} {:?}", desk.ahead);
    assert!(told.contains("name") && !told.contains("7, 7") && !told.contains("0707"), "{told}");
}
