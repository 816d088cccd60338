use veilcast_key_store::KeyId;

use super::*;
use crate::identity::{Identity, UserId};
use crate::permission::{Period, Refusal};
use crate::publisher::{Given, GivenBy, Place};
use crate::stream::StreamId;
use crate::time::Timestamp;
use crate::wire::{ALGORITHM_RSA_OAEP_SHA256, GrantedKey, KeyAnswer, KeyRange, KeyRequest, Refused, RequestId, Wanted};

fn me() -> UserId {
    Identity::from_secret_bytes(&[1; 32]).unwrap().user()
}

fn user(n: u32) -> UserId {
    let mut bytes = [9; 20];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    UserId::from_bytes(bytes)
}

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(1_000_000 + secs)
}

fn stream() -> StreamId {
    StreamId::of(me(), "s").unwrap()
}

fn key(n: u64) -> KeyId {
    KeyId::new(&format!("key-{n}")).unwrap()
}

fn request(from: u32, keys: &[u64]) -> KeyRequest {
    KeyRequest {
        id: RequestId([1; 16]),
        stream: stream(),
        publisher: me(),
        requester: user(from),
        sent: at(0),
        algorithm: ALGORITHM_RSA_OAEP_SHA256,
        public_key: vec![3; 294],
        wanted: Wanted::Keys(keys.iter().map(|n| key(*n)).collect()),
        proofs: Vec::new(),
    }
}

fn silence(request: &KeyRequest) -> KeyAnswer {
    KeyAnswer {
        id: request.id,
        stream: request.stream.clone(),
        publisher: me(),
        requester: request.requester,
        sent: at(0),
        algorithm: ALGORITHM_RSA_OAEP_SHA256,
        encapsulated: Vec::new(),
        granted: Vec::new(),
        refused: Vec::new(),
        next: None,
        refusal: None,
    }
}

fn granted(n: u64) -> GrantedKey {
    GrantedKey { key_id: key(n), wrapped: vec![0; 80], since: at(0), until: None }
}

struct Desk {
    collector: Collector,
}

impl Desk {
    fn new(change: impl FnOnce(&mut AuditPace)) -> Self {
        let mut pace = AuditPace::default();
        change(&mut pace);
        Self { collector: Collector::new(pace, at(0)) }
    }

    fn give(&mut self, to: u32, keys: &[u64], secs: u64) {
        self.give_under(to, keys, Period::until(at(9_000)), secs);
    }

    fn give_under(&mut self, to: u32, keys: &[u64], grant: Period, secs: u64) {
        let request = request(to, keys);
        let granted = keys.iter().map(|n| granted(*n)).collect();
        let answer = KeyAnswer { granted, ..silence(&request) };
        self.collector.answered(&request, &answer, Some(grant), at(secs));
    }

    fn refuse(&mut self, to: u32, keys: &[u64], refusal: Refusal, secs: u64) {
        let request = request(to, keys);
        let refused = keys.iter().map(|n| Refused { key_id: key(*n), refusal }).collect();
        let answer = KeyAnswer { refused, ..silence(&request) };
        self.collector.answered(&request, &answer, None, at(secs));
    }

    fn batch(&mut self, secs: u64) -> Vec<AuditEvent> {
        self.collector.tick(at(secs));
        self.collector.batch(usize::MAX, at(secs)).into_iter().map(|(_, event)| event).collect()
    }
}

impl Default for Desk {
    fn default() -> Self {
        Self::new(|_| {})
    }
}

fn keys_of(event: &AuditEvent) -> Vec<&str> {
    match event {
        AuditEvent::Given { keys, .. } | AuditEvent::Refused { keys, .. } => keys.iter().map(KeyId::as_str).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_that_gives_and_refuses_is_one_entry_for_what_was_given_and_one_for_each_reason() {
    let mut desk = Desk::default();
    let request = request(2, &[1, 2, 3, 4, 5]);
    let refused = [(3, Refusal::Policy), (4, Refusal::UnknownKey), (5, Refusal::Policy)];
    let refused = refused.into_iter().map(|(n, refusal)| Refused { key_id: key(n), refusal }).collect();
    let answer = KeyAnswer { granted: vec![granted(1), granted(2)], refused, ..silence(&request) };
    let grant = Period::until(at(50));
    desk.collector.answered(&request, &answer, Some(grant), at(7));
    let public_key = Place { peer: Vec::new(), addresses: Vec::new(), public_key: vec![3; 294] }.fingerprint();
    let (stream, user, by) = (stream(), user(2), Handed::ToIds);
    let refused = |keys: Vec<KeyId>, refusal| {
        let (stream, count) = (stream.clone(), keys.len() as u64);
        AuditEvent::Refused { stream, user, keys, count, by, refusal, public_key }
    };
    let expected = [
        AuditEvent::Given { stream: stream.clone(), user, keys: vec![key(1), key(2)], by, grant, public_key },
        refused(vec![key(3), key(5)], Refusal::Policy),
        refused(vec![key(4)], Refusal::UnknownKey),
    ];
    assert_eq!(desk.collector.batch(10, at(8)), expected.map(|event| (at(7), event)));
    assert!(!desk.collector.is_waiting());
}

#[test]
fn a_span_refused_as_a_whole_and_one_answered_with_a_page_say_that_a_span_was_asked_for() {
    let mut desk = Desk::default();
    let range = KeyRange { range: veilcast_key_store::TimeRange { from: 0, to: 9 }, after: None };
    let request = KeyRequest { wanted: Wanted::Range(range), ..request(2, &[]) };
    let whole = KeyAnswer { refusal: Some(Refusal::Denied), ..silence(&request) };
    desk.collector.answered(&request, &whole, None, at(1));
    let page = KeyAnswer { granted: vec![granted(1)], ..silence(&request) };
    desk.collector.answered(&request, &page, Some(Period::ALWAYS), at(2));
    let batch = desk.batch(3);
    let [AuditEvent::Refused { by, keys, count, .. }, AuditEvent::Given { by: given_by, .. }] = &batch[..] else {
        panic!("{batch:?}")
    };
    assert_eq!((*by, *given_by, keys.len(), *count), (Handed::ToSpan, Handed::ToSpan, 0, 0));
}

#[test]
fn a_push_is_told_apart_by_whether_it_was_confirmed_and_one_that_was_withheld_by_its_reason() {
    let mut desk = Desk::default();
    let place = Place { peer: vec![1], addresses: Vec::new(), public_key: vec![4; 294] };
    let given = Given {
        stream: stream(),
        user: user(2),
        place: place.clone(),
        grant: Period::ALWAYS,
        keys: vec![(key(1), at(0))],
        at: at(1),
        by: GivenBy::Push,
    };
    desk.collector.pushed(&given, true, at(1));
    desk.collector.pushed(&Given { user: user(3), ..given }, false, at(1));
    let ended = Refusal::Expired { since: at(0) };
    desk.collector.withheld(&stream(), (user(4), &place), &key(1), ended, at(1));
    let batch = desk.batch(2);
    let [AuditEvent::Given { by: one, .. }, AuditEvent::Given { by: two, .. }, AuditEvent::Refused { by, refusal, .. }] =
        &batch[..]
    else {
        panic!("{batch:?}")
    };
    assert_eq!((*one, *two, *by, *refusal), (Handed::Push, Handed::PushUnconfirmed, Handed::Push, ended));
}

#[test]
fn a_key_given_again_is_counted_and_a_new_one_another_grant_or_another_hour_is_listed() {
    let mut desk = Desk::default();
    desk.give(2, &[1, 2], 0);
    desk.give(2, &[1, 2, 3], 1);
    (2..50).for_each(|secs| desk.give(2, &[2], secs));
    desk.give(3, &[1], 50);
    desk.give_under(2, &[1], Period::ALWAYS, 51);
    let batch = desk.batch(52);
    let listed: Vec<_> = batch.iter().map(|event| (event.user().unwrap(), keys_of(event))).collect();
    let expected = [
        (user(2), vec!["key-1", "key-2"]),
        (user(2), vec!["key-3"]),
        (user(3), vec!["key-1"]),
        (user(2), vec!["key-1"]),
    ];
    assert_eq!(listed, expected);

    assert!(desk.batch(600).is_empty());
    let counted = Repeats { times: 49, keys: 50, since: at(1), until: at(49) };
    let again = AuditEvent::GivenAgain { stream: stream(), user: user(2), repeats: counted };
    assert_eq!(desk.batch(601), [again]);
    assert!(!desk.collector.is_counting());
    desk.give(2, &[1], 3599);
    assert!(desk.batch(3599).is_empty());
    desk.give(2, &[1], 3600);
    assert_eq!(desk.batch(3600).len(), 1);
}

#[test]
fn refusals_of_one_user_stream_and_reason_are_one_entry_at_once_and_then_one_per_interval_with_a_count() {
    let mut desk = Desk::default();
    let mut entries = Vec::new();
    for secs in 0..=3000 {
        desk.refuse(2, &[secs, secs + 1], Refusal::Denied, secs);
        entries.extend(desk.batch(secs).into_iter().map(|event| (secs, event)));
    }
    let written: Vec<_> = entries.iter().map(|(secs, event)| (*secs, event.name())).collect();
    // An interval that was counted is over; what comes then is listed at once, and another begins.
    let expected = [(0, "refused"), (600, "refused_again"), (601, "refused"), (1201, "refused_again")];
    assert_eq!(written[..4], expected);
    assert_eq!(written.len(), 9, "{written:?}");
    let AuditEvent::RefusedAgain { repeats, refusal: Refusal::Denied, .. } = &entries[1].1 else {
        panic!("{entries:?}")
    };
    assert_eq!(*repeats, Repeats { times: 600, keys: 1200, since: at(1), until: at(600) });

    let mut desk = Desk::default();
    desk.refuse(2, &[1], Refusal::Denied, 0);
    desk.refuse(2, &[1], Refusal::Policy, 0);
    desk.refuse(3, &[1], Refusal::Denied, 0);
    desk.refuse(2, &[1], Refusal::Expired { since: at(1) }, 0);
    desk.refuse(2, &[1], Refusal::Expired { since: at(2) }, 0);
    assert_eq!(desk.batch(1).len(), 4, "users and reasons are counted apart, moments are not");
}

#[test]
fn a_refusal_lists_eight_ids_and_how_many_there_were() {
    let mut desk = Desk::default();
    desk.refuse(2, &(0..256).collect::<Vec<_>>(), Refusal::UnknownKey, 0);
    let batch = desk.batch(1);
    let AuditEvent::Refused { keys, count, .. } = &batch[0] else { panic!("{batch:?}") };
    assert_eq!((keys.len(), *count), (8, 256));
}

#[test]
fn a_flood_of_a_hundred_thousand_identities_for_an_hour_makes_a_bounded_number_of_entries_and_none_is_uncounted() {
    let mut desk = Desk::default();
    let (mut listed, mut counted, mut asked) = (0, 0, 0);
    for secs in 0..3600 {
        for n in 0..30 {
            let from = (secs as u32 * 30 + n) % 100_000;
            desk.refuse(from, &[1, 2], Refusal::Denied, secs);
            asked += 1;
        }
        desk.collector.throttled(5, at(secs));
        if secs == 3599 {
            desk.collector.settle(at(secs));
        }
        for event in desk.batch(secs) {
            listed += 1;
            counted += match event {
                AuditEvent::Refused { .. } => 1,
                AuditEvent::RefusedAgain { repeats, .. } | AuditEvent::Unlisted { repeats } => repeats.times,
                AuditEvent::Throttled { repeats } => {
                    assert_eq!(repeats.keys, repeats.times * 5);
                    0
                }
                other => panic!("{other:?}"),
            };
        }
    }
    // The allowance, one more every five seconds, and two counts for every interval.
    assert!(listed <= 2_000 + 3_600 / 5 + 2 * 7, "{listed}");
    assert_eq!(counted, asked);
}

#[test]
fn what_a_full_queue_drops_stands_in_the_next_batch_as_a_number_and_so_does_what_could_not_be_written() {
    for by_number in [true, false] {
        let mut desk = Desk::new(|pace| if by_number { pace.waiting = 10 } else { pace.waiting_bytes = 5_000 });
        (0..100).for_each(|n| desk.give(n, &[1], 0));
        let batch = desk.batch(1);
        let (last, first) = batch.split_last().unwrap();
        assert_eq!(*last, AuditEvent::NotWritten { entries: 100 - first.len() as u64 });
        assert!((5..=10).contains(&first.len()), "{}", first.len());
        desk.collector.failed(batch.iter().map(AuditEvent::stands_for).sum::<u64>());
        assert!(desk.collector.is_waiting());
        desk.give(500, &[1], 2);
        let next = desk.batch(2);
        assert!(matches!(next[..], [AuditEvent::Given { .. }, AuditEvent::NotWritten { entries }] if entries == 100));
        assert!(!desk.collector.is_waiting() && desk.batch(3).is_empty());
    }
}

#[test]
fn what_is_remembered_and_counted_apart_is_bounded() {
    let mut desk = Desk::new(|pace| (pace.apart, pace.listed) = (100, 50));
    (0..1000).for_each(|n| desk.refuse(n, &[1], Refusal::Denied, 0));
    let listed = desk.batch(1).len();
    assert_eq!(listed, 100);
    for n in 0..1000 {
        desk.give(n, &[1], 2);
        desk.give(n, &[1], 2);
    }
    assert_eq!(desk.batch(3).iter().filter(|event| matches!(event, AuditEvent::Given { .. })).count(), 1000);
    desk.collector.settle(at(4));
    let [AuditEvent::Unlisted { repeats }] = desk.batch(4)[..] else { panic!("all else was listed once") };
    assert_eq!(repeats.times, 900 + 1000);
    desk.give(999, &[1], 5);
    desk.give(1, &[1], 5);
    assert_eq!(desk.batch(5).len(), 1, "the least recent is forgotten and listed again");
}

#[test]
fn a_clock_set_back_ends_counts_and_loses_none() {
    let mut desk = Desk::default();
    (0..10).for_each(|_| desk.refuse(2, &[1], Refusal::Denied, 5000));
    assert_eq!(desk.batch(5000).len(), 1);
    let [AuditEvent::RefusedAgain { repeats, .. }] = desk.batch(100)[..] else { panic!("the count was not closed") };
    assert_eq!(repeats.times, 9);
    desk.give(2, &[1], 100);
    desk.give(2, &[1], 50);
    assert_eq!(desk.batch(100).len(), 2, "what was listed later than now is listed again");
}

#[test]
fn a_batch_takes_no_more_than_it_may_and_leaves_the_rest_in_order() {
    let mut desk = Desk::default();
    (0..10).for_each(|n| desk.give(n, &[1], 0));
    let mut seen = Vec::new();
    while desk.collector.is_waiting() {
        let batch = desk.collector.batch(3, at(1));
        assert!(batch.len() <= 3);
        seen.extend(batch.into_iter().filter_map(|(_, event)| event.user()));
    }
    assert_eq!(seen, (0..10).map(user).collect::<Vec<_>>());
}
