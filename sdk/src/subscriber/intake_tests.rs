use rand::rngs::StdRng;
use rand::{SeedableRng, seq::SliceRandom};

use std::time::Duration;

use super::*;
use crate::cipher::MessageCipher;
use crate::identity::Identity;
use crate::message::{Draft, Payload, compose};
use crate::publisher::{Chain, KeySchedule, MessageStep};

const NOW: Timestamp = Timestamp::from_secs(1000);

/// A publisher without a network: makes messages one after another.
struct Author {
    identity: Identity,
    chain: Chain,
    schedule: KeySchedule,
    rng: StdRng,
    count: u64,
    now: Timestamp,
}

fn stream() -> StreamId {
    StreamId::of(UserId::from_bytes([7; 20]), "s").unwrap()
}

fn key(id: &str) -> GroupKey {
    GroupKey::new(KeyId::new(id).unwrap(), &[id.as_bytes()[0]; 32]).unwrap()
}

impl Author {
    fn new(byte: u8, first_key: &str) -> Self {
        let identity = Identity::from_secret_bytes(&[byte; 32]).unwrap();
        let mut rng = StdRng::seed_from_u64(u64::from(byte));
        let scope = crate::scope(identity.user(), &stream());
        let schedule = KeySchedule::resume(scope, Some(key(first_key)));
        Self { identity, chain: Chain::begin(&mut rng), schedule, rng, count: 0, now: NOW }
    }

    fn user(&self) -> UserId {
        self.identity.user()
    }

    fn say(&mut self) -> Verified<MessageContent> {
        let step = self.schedule.plan_message(&mut self.rng);
        self.schedule.message_sent(&step);
        self.seal(&step, &step.key.clone())
    }

    fn seal(&mut self, step: &MessageStep, under: &GroupKey) -> Verified<MessageContent> {
        let at = self.chain.next(self.now);
        let draft = Draft {
            part: stream().part(0).unwrap(),
            chain: self.chain.id(),
            at,
            previous: self.chain.last(),
            key_updates: step.key_updates.clone(),
        };
        self.chain.advance(at);
        let cipher = MessageCipher::new(&crate::scope(self.user(), &stream()), under);
        let payload = Payload::text(self.count.to_string());
        self.count += 1;
        compose(draft, &payload, Some((step.key.id(), &cipher)), &self.identity, &mut self.rng).unwrap()
    }

    fn say_many(&mut self, n: usize) -> Vec<Verified<MessageContent>> {
        (0..n).map(|_| self.say()).collect()
    }
}

fn intake() -> Intake {
    Intake::new(stream(), IntakeLimits::default())
}

fn intake_with(author: &Author, held: &str) -> Intake {
    let mut intake = intake();
    intake.key_arrived(NOW, author.user(), key(held), Arrival::Store);
    intake
}

#[test]
fn what_is_missing_is_told_while_it_is_waited_for_and_waited_for_longer_where_somebody_may_have_it() {
    let mut author = Author::new(1, "a");
    let mut intake = intake_with(&author, "a");
    let said = author.say_many(4);
    let at = |n: usize| said[n].content().at;
    intake.message(NOW, said[0].clone());
    assert_eq!(intake.missing(), []);
    intake.message(NOW, said[3].clone());
    let chain = (author.user(), said[0].content().chain);
    let missing = |after, until| Missing { part: stream().part(0).unwrap(), chain, after, until };
    assert_eq!(intake.missing(), [missing(at(0), at(2))]);

    intake.wait_longer(NOW, Duration::from_secs(3));
    assert!(intake.tick(NOW.plus(Duration::from_millis(2999))).is_empty());
    assert_eq!(texts(&intake.message(NOW, said[1].clone())), ["1"]);
    assert_eq!(intake.missing(), [missing(at(1), at(2))]);
    assert_eq!(texts(&intake.message(NOW, said[2].clone())), ["2", "3"]);
    assert_eq!(intake.missing(), []);

    // Never for ever.
    let later = author.say_many(2);
    assert!(intake.message(NOW, later[1].clone()).is_empty());
    assert_eq!(texts(&intake.tick(NOW.plus(Duration::from_secs(3)))), ["5"]);
    assert_eq!(intake.missing(), []);
}

#[test]
fn a_message_of_another_stream_is_not_taken_in() {
    let mut author = Author::new(1, "a");
    let other = StreamId::of(UserId::from_bytes([7; 20]), "other").unwrap();
    let mut elsewhere = Intake::new(other, IntakeLimits::default());
    elsewhere.key_arrived(NOW, author.user(), key("a"), Arrival::Store);
    let message = author.say();
    assert!(elsewhere.message(NOW, message.clone()).is_empty() && elsewhere.next_wake().is_none());
    assert_eq!(texts(&intake_with(&author, "a").message(NOW, message)), ["0"]);
}

fn texts(effects: &[IntakeEffect]) -> Vec<String> {
    let text = |effect: &IntakeEffect| match effect {
        IntakeEffect::Deliver(message) => message.text().map(String::from),
        _ => None,
    };
    effects.iter().filter_map(text).collect()
}

fn events(effects: &[IntakeEffect]) -> Vec<Event> {
    let event = |effect: &IntakeEffect| match effect {
        IntakeEffect::Notify(event) => Some(event.clone()),
        _ => None,
    };
    effects.iter().filter_map(event).collect()
}

fn needs(effects: &[IntakeEffect]) -> Vec<String> {
    let need = |effect: &IntakeEffect| match effect {
        IntakeEffect::Need { key_id, .. } => Some(key_id.to_string()),
        _ => None,
    };
    effects.iter().filter_map(need).collect()
}

fn feed(intake: &mut Intake, messages: impl IntoIterator<Item = Verified<MessageContent>>) -> Vec<IntakeEffect> {
    messages.into_iter().flat_map(|message| intake.message(NOW, message)).collect()
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[test]
fn messages_that_arrive_out_of_order_are_delivered_in_order_and_duplicates_once() {
    let mut author = Author::new(1, "a");
    let mut intake = intake_with(&author, "a");
    let messages = author.say_many(50);
    let mut shuffled = messages[1..].to_vec();
    shuffled.extend(messages[1..].to_vec());
    shuffled.shuffle(&mut StdRng::seed_from_u64(5));
    let mut effects = feed(&mut intake, [messages[0].clone()]);
    effects.extend(feed(&mut intake, shuffled));
    assert_eq!(texts(&effects), numbers(0..50));
    assert_eq!(intake.next_wake(), None);
}

#[test]
fn a_chain_met_in_its_middle_waits_a_moment_for_earlier_messages_and_asks_for_its_key_meanwhile() {
    let mut author = Author::new(1, "a");
    let mut intake = intake();
    let messages = author.say_many(4);
    let met = feed(&mut intake, [messages[2].clone()]);
    assert_eq!((texts(&met), needs(&met)), (vec![], vec!["a".to_string()]));
    intake.key_arrived(NOW, author.user(), key("a"), Arrival::Answer);
    assert!(texts(&feed(&mut intake, [messages[1].clone(), messages[3].clone()])).is_empty());
    let wake = intake.next_wake().unwrap();
    assert_eq!(wake.since(NOW), IntakeLimits::default().join_wait);
    let after = intake.tick(wake);
    assert_eq!((texts(&after), events(&after)), (numbers(1..4), vec![]));
}

#[test]
fn a_chain_met_in_its_middle_takes_earlier_messages_as_long_as_its_key_is_awaited() {
    let mut author = Author::new(1, "k1");
    let messages = author.say_many(4);
    let (mut intake, patience) = (intake(), IntakeLimits::default().join_wait);
    assert_eq!(needs(&feed(&mut intake, messages[2..].iter().cloned())), ["k1"]);
    assert!(intake.tick(NOW.plus(patience)).is_empty(), "its key is still awaited");
    assert_eq!(intake.next_wake(), None);
    let late = NOW.plus(patience * 100);
    assert!(intake.message(late, messages[1].clone()).is_empty(), "and so an earlier one is not too late");
    let effects = intake.key_arrived(late, author.user(), key("k1"), Arrival::Answer);
    assert_eq!(texts(&effects), ["1", "2", "3"]);
    assert!(intake.message(late, messages[0].clone()).is_empty(), "what comes after that is");
    assert_eq!(intake.chains.waiting(), 0);

    author.say();
    assert!(intake.message(late, author.say()).is_empty());
    assert_eq!(intake.next_wake(), Some(late.plus(IntakeLimits::default().gap_wait)), "gaps are waited for as ever");
}

#[test]
fn a_chain_met_in_its_middle_whose_key_is_refused_counts_among_the_dropped_and_goes_on_under_the_next_key() {
    let mut author = Author::new(1, "k1");
    let mut messages = author.say_many(3);
    let step = author.schedule.plan_rekey(key("k2"));
    author.schedule.rekeyed(step);
    messages.extend(author.say_many(2));
    let mut intake = intake();
    intake.key_arrived(NOW, author.user(), key("k2"), Arrival::Store);
    assert_eq!(needs(&feed(&mut intake, messages[1..].iter().cloned())), ["k1"]);
    intake.tick(NOW.plus(IntakeLimits::default().join_wait));
    let (key_id, until) = (KeyId::new("k1").unwrap(), NOW.plus(Duration::from_secs(5)));
    let effects = intake.key_refused(NOW, author.user(), &key_id, Refusal::Denied, until);
    let refused = Event::KeyRefused { publisher: author.user(), key_id, refusal: Refusal::Denied, dropped: 2 };
    assert_eq!(events(&effects), [refused]);
    assert_eq!(texts(&effects), ["3", "4"]);
}

#[test]
fn a_gap_is_waited_for_then_reported_and_never_blocks_for_ever() {
    let mut author = Author::new(1, "a");
    let mut intake = intake_with(&author, "a");
    let messages = author.say_many(5);
    let (second, third) = (messages[2].content().at, messages[1].content().at);
    let effects = feed(&mut intake, [messages[0].clone(), messages[3].clone(), messages[4].clone()]);
    assert_eq!(texts(&effects), ["0"]);
    let wake = intake.next_wake().unwrap();
    assert!(intake.tick(wake.minus(Duration::from_millis(1))).is_empty());
    let after = intake.tick(wake);
    assert_eq!(texts(&after), ["3", "4"]);
    let until = second.max(third);
    let (part, publisher) = (messages[4].content().part.clone(), author.user());
    let expected = Event::Gap { part, publisher, after: messages[0].content().at, until };
    assert_eq!(events(&after), [expected]);
    assert!(feed(&mut intake, [messages[1].clone()]).is_empty(), "too late is stale");
}

#[test]
fn two_chains_never_block_each_other() {
    let (mut one, mut two) = (Author::new(1, "a"), Author::new(2, "a"));
    let mut intake = intake_with(&two, "a");
    let stuck = feed(&mut intake, one.say_many(3));
    assert_eq!((texts(&stuck), needs(&stuck)), (vec![], vec!["a".to_string()]));
    assert_eq!(texts(&feed(&mut intake, two.say_many(3))), numbers(0..3));
}

#[test]
fn a_missing_key_is_needed_once_however_many_messages_wait_and_then_all_are_delivered() {
    let mut author = Author::new(1, "a");
    let mut intake = intake();
    let effects = feed(&mut intake, author.say_many(100));
    assert_eq!(needs(&effects), ["a"]);
    assert_eq!(intake.parked(), 100);
    let arrived = intake.key_arrived(NOW, author.user(), key("a"), Arrival::Answer);
    assert_eq!(texts(&arrived), numbers(0..100));
    assert_eq!(intake.parked(), 0);
}

#[test]
fn a_rotated_key_is_taken_from_the_message_and_nothing_is_asked() {
    let mut author = Author::new(1, "a");
    let mut intake = intake_with(&author, "a");
    author.schedule.rotate(key("b"));
    let effects = feed(&mut intake, author.say_many(3));
    assert_eq!(texts(&effects), numbers(0..3));
    assert!(needs(&effects).is_empty());
    assert!(effects.iter().any(|e| matches!(e, IntakeEffect::Keep { key, .. } if key.same_as(&self::key("b")))));
}

#[test]
fn a_key_carried_by_one_chain_opens_what_waits_in_another() {
    let mut one = Author::new(1, "a");
    let mut two = Author { chain: Chain::begin(&mut StdRng::seed_from_u64(9)), ..Author::new(1, "b") };
    let mut intake = intake_with(&one, "a");
    assert_eq!(needs(&feed(&mut intake, [two.say()])), ["b"]);
    one.schedule.rotate(key("b"));
    let effects = feed(&mut intake, [one.say()]);
    assert_eq!(texts(&effects), ["0", "0"], "both chains");
    assert_eq!(intake.parked(), 0);
}

#[test]
fn a_recorded_chain_played_again_later_is_not_taken_for_a_live_one() {
    let mut author = Author::new(1, "a");
    let mut intake = intake_with(&author, "a");
    let later = NOW.plus(IntakeLimits::default().live_window).plus(Duration::from_secs(1));
    assert!(intake.message(later, author.say()).is_empty());
}

#[test]
fn the_chains_of_one_publisher_do_not_push_out_anothers() {
    let mut steady = Author::new(1, "a");
    let mut intake = intake_with(&steady, "a");
    feed(&mut intake, [steady.say()]);
    for n in 0..200 {
        let mut restless = Author { chain: Chain::begin(&mut StdRng::seed_from_u64(n)), ..Author::new(2, "a") };
        feed(&mut intake, [restless.say()]);
    }
    let held_back = steady.say();
    assert!(texts(&feed(&mut intake, [steady.say()])).is_empty(), "its order is still known: this one waits");
    assert_eq!(texts(&feed(&mut intake, [held_back])), ["1", "2"]);
}

#[test]
fn bytes_held_are_bounded_too() {
    let mut author = Author::new(1, "a");
    let limits = IntakeLimits { held_bytes: 5000, ..IntakeLimits::default() };
    let mut intake = Intake::new(stream(), limits);
    let effects = feed(&mut intake, author.say_many(25));
    assert!(intake.parked() < 15, "{} parked", intake.parked());
    assert_eq!(events(&effects).len() + intake.parked(), 25);
}

#[test]
fn a_lost_rotate_message_costs_no_key_request_within_the_window() {
    let mut author = Author::new(1, "a");
    let mut intake = intake_with(&author, "a");
    let first = author.say();
    author.schedule.rotate(key("b"));
    let lost_and_after = author.say_many(3);
    let mut effects = feed(&mut intake, [first]);
    effects.extend(feed(&mut intake, lost_and_after.into_iter().skip(1)));
    effects.extend(intake.tick(NOW.plus(Duration::from_secs(1))));
    assert_eq!(texts(&effects), ["0", "2", "3"]);
    assert!(needs(&effects).is_empty());
}

#[test]
fn a_refused_key_drops_what_waited_says_why_once_and_the_rest_reads_on() {
    let mut author = Author::new(1, "b");
    let mut intake = intake();
    feed(&mut intake, author.say_many(3));
    let until = NOW.plus(Duration::from_secs(10));
    let key_id = KeyId::new("b").unwrap();
    let effects = intake.key_refused(NOW, author.user(), &key_id, Refusal::Denied, until);
    let refused = Event::KeyRefused { publisher: author.user(), key_id, refusal: Refusal::Denied, dropped: 3 };
    assert_eq!(events(&effects), [refused]);
    assert!(feed(&mut intake, author.say_many(5)).is_empty(), "no storm after a refusal");
    let later: Vec<_> = intake.message(until, author.say());
    assert_eq!(needs(&later), ["b"]);
}

#[test]
fn what_comes_live_under_a_refused_key_is_counted_and_told_before_the_next_word_of_that_key() {
    let mut author = Author::new(1, "a");
    let (mut intake, key_id) = (intake(), KeyId::new("a").unwrap());
    feed(&mut intake, author.say_many(2));
    let until = NOW.plus(Duration::from_secs(60));
    let refused = intake.key_refused(NOW, author.user(), &key_id, Refusal::Denied, until);
    assert!(matches!(events(&refused)[..], [Event::KeyRefused { dropped: 2, .. }]), "{refused:?}");
    assert!(feed(&mut intake, author.say_many(20)).is_empty(), "nothing is said of each");
    assert_eq!(intake.unread(), 22);

    assert_eq!(needs(&intake.message(until, author.say())), ["a"]);
    let refused =
        intake.key_refused(until, author.user(), &key_id, Refusal::Denied, until.plus(Duration::from_secs(60)));
    let quiet = Event::Unread { publisher: author.user(), key_id: key_id.clone(), messages: 20, from: NOW, until: NOW };
    let told = events(&refused);
    assert_eq!(told[0], quiet);
    assert!(matches!(told[1..], [Event::KeyRefused { dropped: 1, .. }]), "{told:?}");
    assert_eq!(intake.unread(), 23);

    let more = author.say_many(3);
    feed(&mut intake, more);
    let quiet = Event::Unread { publisher: author.user(), key_id: key_id.clone(), messages: 3, from: NOW, until: NOW };
    let arrived = events(&intake.key_arrived(until, author.user(), key("a"), Arrival::Push));
    assert_eq!(arrived[0], quiet);
    assert!(matches!(arrived[1..], [Event::KeyArrived { .. }]), "{arrived:?}");
    assert_eq!(intake.unread(), 26, "what was dropped stays so");
    assert_eq!(intake.unread_for(Unreadable::KeyRefused), 26);
}

#[test]
fn a_wrong_key_is_reported_once_and_the_stream_goes_on() {
    let mut author = Author::new(1, "a");
    let mut intake = intake_with(&author, "a");
    let wrong: Vec<_> = (0..3)
        .map(|_| {
            let step = author.schedule.plan_message(&mut author.rng);
            author.schedule.message_sent(&step);
            author.seal(&step, &key("x"))
        })
        .collect();
    let mut effects = feed(&mut intake, wrong);
    effects.extend(feed(&mut intake, [author.say()]));
    let reported = Event::WrongKey { publisher: author.user(), key_id: KeyId::new("a").unwrap() };
    assert_eq!(events(&effects), [reported]);
    assert_eq!(texts(&effects), ["3"]);
}

#[test]
fn what_waited_for_a_key_in_many_runs_of_a_publisher_is_read_in_the_order_of_time() {
    let (mut author, mut intake) = (Author::new(1, "a"), intake());
    for run in 0..8 {
        author.chain = Chain::begin(&mut author.rng);
        author.now = NOW.plus(Duration::from_secs(run));
        assert!(texts(&feed(&mut intake, author.say_many(3))).is_empty());
    }
    let arrived = intake.key_arrived(NOW, author.user(), key("a"), Arrival::Answer);
    assert_eq!(texts(&arrived), numbers(0..24));
}

#[test]
fn parked_messages_are_bounded_and_the_oldest_are_dropped_with_an_event() {
    let mut author = Author::new(1, "a");
    let limits = IntakeLimits { parked: 10, ..IntakeLimits::default() };
    let mut intake = Intake::new(stream(), limits);
    let effects = feed(&mut intake, author.say_many(25));
    assert_eq!(events(&effects).len(), 15);
    assert_eq!(intake.parked(), 10);
    let arrived = intake.key_arrived(NOW, author.user(), key("a"), Arrival::Answer);
    assert_eq!(texts(&arrived), numbers(15..25));
}

#[test]
fn out_of_order_messages_are_bounded_and_beyond_the_bound_gaps_are_not_waited_for() {
    let mut author = Author::new(1, "a");
    let limits = IntakeLimits { out_of_order: 10, ..IntakeLimits::default() };
    let mut intake = Intake::new(stream(), limits);
    intake.key_arrived(NOW, author.user(), key("a"), Arrival::Store);
    let messages = author.say_many(100);
    let every_second = messages.into_iter().step_by(2);
    let effects = feed(&mut intake, every_second);
    assert!(intake.chains.waiting() <= 10);
    assert_eq!(texts(&effects).len() + intake.chains.waiting(), 50);
}

#[test]
fn in_the_past_a_publisher_that_is_away_holds_up_nobody_and_its_messages_make_room_first() {
    let (mut away, mut slow) = (Author::new(1, "a"), Author::new(2, "b"));
    let limits = IntakeLimits { parked: 100, ..IntakeLimits::default() };
    let mut intake = Intake::new(stream(), limits).in_the_past();
    feed(&mut intake, away.say_many(50));
    assert!(limits.is_half(intake.held()), "it may only be slow");
    intake.publisher_away(NOW, away.user());
    assert!(!limits.is_half(intake.held()));
    let mut effects = Vec::new();
    for _ in 0..40 {
        effects.extend(feed(&mut intake, away.say_many(5)));
        effects.extend(feed(&mut intake, slow.say_many(1)));
    }
    assert_eq!((intake.parked(), intake.held().messages), (100, 40));
    assert!(events(&effects).is_empty(), "no event for each message");
    let arrived = intake.key_arrived(NOW, slow.user(), key("b"), Arrival::Answer);
    assert_eq!(texts(&arrived), numbers(0..40));
    // It is there again: what waits under its other keys is waited for.
    intake.key_arrived(NOW, away.user(), key("z"), Arrival::Answer);
    assert_eq!(intake.held().messages, 60);
    let over = events(&intake.past_is_over());
    let key_id = KeyId::new("a").unwrap();
    let lost = Event::Unread { publisher: away.user(), key_id, messages: 190, from: NOW, until: NOW };
    assert_eq!(over, [lost], "of 250 messages 60 still wait");
}

#[test]
fn live_whoever_has_the_most_waiting_for_keys_makes_room() {
    let (mut many, mut few) = (Author::new(1, "a"), Author::new(2, "b"));
    let mut intake = Intake::new(stream(), IntakeLimits { parked: 20, ..IntakeLimits::default() });
    feed(&mut intake, few.say_many(5));
    feed(&mut intake, many.say_many(100));
    assert_eq!(texts(&intake.key_arrived(NOW, few.user(), key("b"), Arrival::Answer)), numbers(0..5));
    assert_eq!(texts(&intake.key_arrived(NOW, many.user(), key("a"), Arrival::Answer)), numbers(85..100));
}

#[test]
fn in_the_past_a_key_given_up_is_not_asked_for_again_for_a_while_and_live_it_is_at_once() {
    let mut author = Author::new(1, "a");
    let limits = IntakeLimits::default();
    let mut intake = Intake::new(stream(), limits).in_the_past();
    let key_id = KeyId::new("a").unwrap();
    assert_eq!(needs(&feed(&mut intake, author.say_many(3))), ["a"]);
    let given_up = intake.key_unavailable(NOW, author.user(), &key_id, AskFailure::Unreachable);
    assert!(matches!(events(&given_up)[..], [Event::KeyUnavailable { dropped: 3, .. }]));
    assert!(feed(&mut intake, author.say_many(100)).is_empty());
    let later = NOW.plus(limits.given_up_for);
    assert_eq!(needs(&intake.message(later, author.say())), ["a"], "it may be back");
    let given_up = intake.key_unavailable(later, author.user(), &key_id, AskFailure::Unreachable);
    assert!(matches!(events(&given_up)[..], [Event::KeyUnavailable { dropped: 1, .. }]));

    let unread =
        Event::Unread { publisher: author.user(), key_id: key_id.clone(), messages: 104, from: NOW, until: NOW };
    assert_eq!(events(&intake.past_is_over()), [unread]);
    assert_eq!(needs(&intake.message(later, author.say())), ["a"], "who is heard live is there");
    intake.key_unavailable(later, author.user(), &key_id, AskFailure::Unreachable);
    assert_eq!(needs(&intake.message(later, author.say())), ["a"]);
}

#[test]
fn a_key_that_nobody_was_asked_for_is_wanted_by_the_next_message_of_the_past() {
    let (mut author, mut intake) = (Author::new(1, "a"), intake().in_the_past());
    feed(&mut intake, [author.say()]);
    intake.key_unavailable(NOW, author.user(), &KeyId::new("a").unwrap(), AskFailure::Overload);
    assert_eq!(needs(&feed(&mut intake, [author.say()])), ["a"]);
}

#[test]
fn the_keys_of_a_page_of_the_past_are_asked_for_together_ahead_of_its_messages_of_who_may_publish_only() {
    let (mut author, mut intruder) = (Author::new(1, "k0"), Author::new(2, "x"));
    let mut page = Vec::new();
    for n in 1..=5 {
        page.extend(author.say_many(3));
        page.push(intruder.say());
        let step = author.schedule.plan_rekey(key(&format!("k{n}")));
        author.schedule.rekeyed(step);
    }
    let mut intake = intake().in_the_past();
    intake.key_arrived(NOW, author.user(), key("k1"), Arrival::Store);
    let asked = needs(&intake.ahead(NOW, &page, |publisher| publisher == author.user()));
    assert_eq!(asked, ["k0", "k2", "k3", "k4"]);
    let of_author = page.iter().filter(|message| message.content().publisher == author.user());
    assert!(needs(&feed(&mut intake, of_author.cloned())).is_empty(), "none is asked for twice");
    assert_eq!(intake.parked(), 15);
}

#[test]
fn in_the_past_the_first_message_read_of_a_chain_waits_for_none_before_it_so_that_chains_stay_in_order_of_time() {
    let (mut first, mut second) = (Author::new(1, "a"), Author::new(2, "b"));
    let mut intake = intake().in_the_past();
    for (author, id) in [(&first, "a"), (&second, "b")] {
        intake.key_arrived(NOW, author.user(), key(id), Arrival::Store);
    }
    first.say(); // older than what is read
    let page = [first.say(), second.say(), second.say()];
    assert_eq!(texts(&feed(&mut intake, page)), ["1", "0", "1"]);
    intake.past_is_over();
    let mut third = Author::new(3, "c");
    intake.key_arrived(NOW, third.user(), key("c"), Arrival::Store);
    third.say();
    assert!(texts(&feed(&mut intake, [third.say()])).is_empty(), "live, an earlier one may still be on its way");
}
