use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::identity::Identity;
use crate::wire::{ALGORITHM_RSA_OAEP_SHA256, GrantedKey, Refused};

const START: Timestamp = Timestamp::from_secs(1000);

struct Bench {
    requester: Requester,
    rng: StdRng,
}

fn identity(byte: u8) -> Identity {
    Identity::from_secret_bytes(&[byte; 32]).unwrap()
}

fn publisher() -> UserId {
    identity(1).user()
}

fn stream(name: &str) -> StreamId {
    StreamId::of(publisher(), name).unwrap()
}

fn id(text: &str) -> KeyId {
    KeyId::new(text).unwrap()
}

fn secs(n: u64) -> Timestamp {
    START.plus(Duration::from_secs(n))
}

impl Bench {
    fn new() -> Self {
        let requester = Requester::new(identity(2).user(), RequesterConfig::default(), START);
        Self { requester, rng: StdRng::seed_from_u64(1) }
    }

    fn want(&mut self, now: Timestamp, key: &str) -> Vec<RequesterEffect> {
        self.requester.want(now, publisher(), stream("s"), vec![id(key)], &mut self.rng)
    }

    fn sent(effects: &[RequesterEffect]) -> (RequestId, Vec<KeyId>) {
        match effects {
            [RequesterEffect::Send { id, key_ids, .. }] => (*id, key_ids.clone()),
            other => panic!("one request expected, not {other:?}"),
        }
    }

    /// Of a publisher with one device.
    fn settle(&mut self, now: Timestamp, answer: KeyAnswer, by: u8) -> Result<Settled, AnswerFault> {
        let answer = Verified::sign(answer, &identity(by)).unwrap();
        self.requester.settle(now, &answer, |_| false, &mut self.rng)
    }

    /// The answer of one device of many.
    fn settle_at(&mut self, now: Timestamp, to: RequestId, from: u8, answer: KeyAnswer) -> Vec<RequesterEffect> {
        self.requester.left(now, to, device(from));
        let answer = Verified::sign(answer, &identity(1)).unwrap();
        self.requester.settle(now, &answer, |_| true, &mut self.rng).unwrap().effects
    }

    fn tick(&mut self, now: Timestamp) -> Vec<RequesterEffect> {
        self.requester.tick(now, &mut self.rng)
    }

    fn arrived(&mut self, now: Timestamp, key: &str) -> Vec<RequesterEffect> {
        self.requester.arrived(now, publisher(), &stream("s"), &id(key), &mut self.rng)
    }
}

fn device(n: u8) -> Device {
    Device::new(&[n; 38])
}

fn devices(numbers: &[u8]) -> BTreeSet<Device> {
    numbers.iter().map(|n| device(*n)).collect()
}

/// The only request among these: its id, its keys, and where it must not go.
fn request(effects: &[RequesterEffect]) -> (RequestId, Vec<KeyId>, BTreeSet<Device>) {
    let sends = effects.iter().filter_map(|effect| match effect {
        RequesterEffect::Send { id, key_ids, not_at, .. } => Some((*id, key_ids.clone(), not_at.clone())),
        _ => None,
    });
    match &sends.collect::<Vec<_>>()[..] {
        [only] => only.clone(),
        _ => panic!("one request expected: {effects:?}"),
    }
}

/// The keys refused among these, and why.
fn refused(effects: &[RequesterEffect]) -> Vec<(KeyId, Refusal)> {
    let refused = effects.iter().filter_map(|effect| match effect {
        RequesterEffect::Refused { key_id, refusal, .. } => Some((key_id.clone(), *refusal)),
        _ => None,
    });
    refused.collect()
}

const UNKNOWN: Refusal = Refusal::UnknownKey;

fn granted(key: &str) -> GrantedKey {
    GrantedKey { key_id: id(key), wrapped: vec![0; 80], since: START, until: None }
}

fn answer(request: RequestId, grants: &[&str], refusals: &[(&str, Refusal)]) -> KeyAnswer {
    KeyAnswer {
        id: request,
        stream: stream("s"),
        publisher: publisher(),
        requester: identity(2).user(),
        sent: START,
        algorithm: ALGORITHM_RSA_OAEP_SHA256,
        encapsulated: if grants.is_empty() { Vec::new() } else { vec![0; 256] },
        granted: grants.iter().map(|key| granted(key)).collect(),
        refused: refusals.iter().map(|(key, refusal)| Refused { key_id: id(key), refusal: *refusal }).collect(),
        next: None,
        refusal: None,
    }
}

#[test]
fn a_missing_key_causes_exactly_one_request_however_many_messages_wait_for_it() {
    let mut bench = Bench::new();
    let first = bench.want(START, "a");
    assert_eq!(Bench::sent(&first).1, [id("a")]);
    for _ in 0..100 {
        assert!(bench.want(START, "a").is_empty());
    }
}

#[test]
fn keys_missed_while_a_request_is_under_way_share_the_next_one() {
    let mut bench = Bench::new();
    let (first, _) = Bench::sent(&bench.want(START, "a"));
    assert!(bench.want(START, "b").is_empty() && bench.want(START, "c").is_empty());
    bench.settle(START, answer(first, &["a"], &[]), 1).unwrap();
    let next = bench.requester.arrived(START, publisher(), &stream("s"), &id("a"), &mut bench.rng);
    assert_eq!(Bench::sent(&next).1, [id("b"), id("c")]);
}

#[test]
fn a_bogus_late_or_repeated_answer_is_ignored_and_the_true_one_still_works() {
    let mut bench = Bench::new();
    let (request, _) = Bench::sent(&bench.want(START, "a"));
    let fault = |bench: &mut Bench, answer, by| bench.settle(START, answer, by).unwrap_err();

    let elsewhere = KeyAnswer { publisher: identity(3).user(), ..answer(request, &["a"], &[]) };
    assert_eq!(fault(&mut bench, elsewhere, 3), AnswerFault::Foreign);
    let other_stream = KeyAnswer { stream: stream("t"), ..answer(request, &["a"], &[]) };
    assert_eq!(fault(&mut bench, other_stream, 1), AnswerFault::Foreign);
    let for_another = KeyAnswer { requester: identity(4).user(), ..answer(request, &["a"], &[]) };
    assert_eq!(fault(&mut bench, for_another, 1), AnswerFault::Foreign);
    assert_eq!(fault(&mut bench, answer(RequestId([9; 16]), &["a"], &[]), 1), AnswerFault::NotPending);
    assert_eq!(fault(&mut bench, answer(request, &["a", "z"], &[]), 1), AnswerFault::NotAsked);
    assert_eq!(fault(&mut bench, answer(request, &["a", "a"], &[]), 1), AnswerFault::NotAsked);

    let page = KeyAnswer { next: Some(granted("a").place()), ..answer(request, &["a"], &[]) };
    assert_eq!(fault(&mut bench, page, 1), AnswerFault::NotAsked);
    let whole = KeyAnswer { refusal: Some(Refusal::Denied), ..answer(request, &[], &[]) };
    assert_eq!(fault(&mut bench, whole, 1), AnswerFault::NotAsked);

    assert_eq!(bench.settle(START, answer(request, &["a"], &[]), 1).unwrap().granted.len(), 1);
    assert_eq!(fault(&mut bench, answer(request, &["a"], &[]), 1), AnswerFault::NotPending);
}

#[test]
fn silence_fails_after_the_timeout_is_retried_with_back_off_and_given_up_after_the_last_try() {
    let mut bench = Bench::new();
    let (first, _) = Bench::sent(&bench.want(START, "a"));
    bench.requester.left(START, first, device(1));
    assert!(bench.requester.tick(secs(29), &mut bench.rng).is_empty());
    let (mut now, mut waits) = (secs(30), Vec::new());
    loop {
        let effects = bench.requester.tick(now, &mut bench.rng);
        match effects.as_slice() {
            [RequesterEffect::Retrying { failure: AskFailure::Timeout, after, .. }] => {
                waits.push(*after);
                now = now.plus(*after);
                let (again, _) = Bench::sent(&bench.requester.tick(now, &mut bench.rng));
                bench.requester.left(now, again, device(1));
                now = now.plus(Duration::from_secs(30));
            }
            [RequesterEffect::GivenUp { key_ids, .. }] => {
                assert_eq!(key_ids, &[id("a")]);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(waits.len(), 9);
    assert!(waits[0] <= Duration::from_millis(500) && waits[8] >= Duration::from_secs(30), "{waits:?}");
    assert_eq!(bench.requester.pending(), 0);
    assert_eq!(bench.requester.next_wake(now), None);
}

#[test]
fn after_a_refusal_no_request_storm_follows() {
    let mut bench = Bench::new();
    let (request, _) = Bench::sent(&bench.want(START, "a"));
    let settled = bench.settle(START, answer(request, &[], &[("a", Refusal::Denied)]), 1).unwrap();
    assert!(matches!(settled.effects[..], [RequesterEffect::Refused { refusal: Refusal::Denied, .. }]));
    for n in 0..10 {
        let again = bench.want(secs(n), "a");
        assert!(matches!(again[..], [RequesterEffect::Refused { refusal: Refusal::Denied, .. }]), "{again:?}");
    }
    Bench::sent(&bench.want(secs(10), "a"));
}

#[test]
fn a_throttled_subscriber_comes_back_when_told_and_not_before() {
    let mut bench = Bench::new();
    let (request, _) = Bench::sent(&bench.want(START, "a"));
    let wait = Refusal::Throttled { retry_after: Duration::from_secs(7) };
    let settled = bench.settle(START, answer(request, &[], &[("a", wait)]), 1).unwrap();
    assert!(
        matches!(settled.effects[..], [RequesterEffect::Retrying { after, .. }] if after == Duration::from_secs(7))
    );
    assert!(bench.requester.tick(secs(6), &mut bench.rng).is_empty());
    Bench::sent(&bench.requester.tick(secs(7), &mut bench.rng));
}

/// The last of its tries grants one key and asks to wait for the other. Returns what is told then.
fn half_granted_on_the_last_try(bench: &mut Bench) -> Vec<RequesterEffect> {
    let mut effects = [bench.want(START, "a"), bench.want(START, "b")].concat();
    let wait = Refusal::Throttled { retry_after: Duration::from_secs(1) };
    let mut now = START;
    for _ in 1..RequesterConfig::default().max_tries {
        let (request, keys) = Bench::sent(&effects);
        let no: Vec<_> = keys.iter().map(|key| (key.as_str(), wait)).collect();
        bench.settle(now, answer(request, &[], &no), 1).unwrap();
        now = now.plus(RequesterConfig::default().retry_max);
        effects = bench.tick(now);
    }
    let (request, keys) = Bench::sent(&effects);
    assert_eq!(keys, [id("a"), id("b")]);
    bench.settle(now, answer(request, &["a"], &[("b", wait)]), 1).unwrap().effects
}

#[test]
fn of_an_answer_that_grants_one_key_and_throttles_another_on_the_last_try_only_the_other_is_unavailable() {
    let mut bench = Bench::new();
    let told = half_granted_on_the_last_try(&mut bench);
    match &told[..] {
        [RequesterEffect::GivenUp { key_ids, failure: AskFailure::AskedToWait, .. }] => {
            assert_eq!(key_ids, &[id("b")]);
        }
        other => panic!("{other:?}"),
    }
    assert!(bench.want(START, "a").is_empty(), "it is being opened, and not asked for again");
    assert!(bench.arrived(START, "a").is_empty());
    assert_eq!(bench.requester.pending(), 0);
}

#[test]
fn a_key_granted_on_the_last_try_that_does_not_open_is_unavailable_then() {
    let mut bench = Bench::new();
    half_granted_on_the_last_try(&mut bench);
    let told = bench.requester.did_not_open(START, publisher(), &stream("s"), &[id("a")], &mut bench.rng);
    match &told[..] {
        [RequesterEffect::GivenUp { key_ids, failure: AskFailure::BadAnswer, .. }] => assert_eq!(key_ids, &[id("a")]),
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.requester.pending(), 0);
}

#[test]
fn never_more_requests_leave_in_any_second_than_the_limit() {
    let mut bench = Bench::new();
    let mut sent: Vec<u64> = Vec::new();
    let mut count = |at: Timestamp, effects: Vec<RequesterEffect>| {
        sent.extend(effects.iter().filter(|e| matches!(e, RequesterEffect::Send { .. })).map(|_| at.as_millis()));
    };
    for n in 0..200 {
        let effects = bench.requester.want(START, publisher(), stream(&format!("s{n}")), vec![id("a")], &mut bench.rng);
        count(START, effects);
    }
    for step in 1..2000 {
        let now = START.plus(Duration::from_millis(step * 10));
        let effects = bench.requester.tick(now, &mut bench.rng);
        count(now, effects);
    }
    assert_eq!(sent.len(), 200, "every one is sent in the end, once");
    let busiest = sent.iter().map(|from| sent.iter().filter(|at| (*from..*from + 1000).contains(at)).count()).max();
    assert!(busiest.unwrap() <= 20, "{busiest:?} in one second");
}

#[test]
fn an_answer_that_is_silent_about_a_key_is_retried_for_that_key() {
    let mut bench = Bench::new();
    bench.want(START, "x");
    let (request, _) = {
        let effects =
            bench.requester.failed(START, Bench::only_pending(&bench), AskFailure::Unreachable, &mut bench.rng);
        assert!(matches!(effects[..], [RequesterEffect::Retrying { .. }]));
        bench.want(START, "y");
        Bench::sent(&bench.requester.tick(secs(1), &mut bench.rng))
    };
    bench.settle(secs(1), answer(request, &["x"], &[]), 1).unwrap();
    bench.requester.arrived(secs(1), publisher(), &stream("s"), &id("x"), &mut bench.rng);
    let (_, keys) = Bench::sent(&bench.requester.tick(secs(3), &mut bench.rng));
    assert_eq!(keys, [id("y")]);
}

impl Bench {
    fn only_pending(bench: &Bench) -> RequestId {
        let mut lanes = bench.requester.asks.values().flat_map(|ask| ask.lanes.values());
        lanes.find_map(|lane| lane.asking.as_ref().map(|asking| asking.id)).unwrap()
    }
}

#[test]
fn a_key_unknown_at_one_device_is_asked_for_at_another_and_refused_once_there_is_none() {
    let mut bench = Bench::new();
    let (first, ..) = request(&bench.want(START, "a"));
    let effects = bench.settle_at(START, first, 1, answer(first, &[], &[("a", UNKNOWN)]));
    let (second, keys, not_at) = request(&effects);
    assert_eq!((keys, not_at), (vec![id("a")], devices(&[1])));
    assert!(refused(&effects).is_empty(), "one device's word is not final");
    let (third, _, not_at) = request(&bench.settle_at(START, second, 2, answer(second, &[], &[("a", UNKNOWN)])));
    assert_eq!(not_at, devices(&[1, 2]));
    let effects = bench.requester.nobody_else(START, third);
    assert_eq!(refused(&effects), [(id("a"), UNKNOWN)]);
    assert_eq!(bench.requester.pending(), 0);
}

#[test]
fn with_a_single_device_an_unknown_key_is_refused_by_its_answer() {
    let mut bench = Bench::new();
    let (first, ..) = request(&bench.want(START, "a"));
    bench.requester.left(START, first, device(1));
    let settled = bench.settle(START, answer(first, &[], &[("a", UNKNOWN)]), 1).unwrap();
    assert_eq!(refused(&settled.effects), [(id("a"), UNKNOWN)]);
}

#[test]
fn every_refusal_but_unknown_key_speaks_for_all_devices() {
    for refusal in [
        Refusal::Denied,
        Refusal::NotYet { from: secs(50) },
        Refusal::Expired { since: START },
        Refusal::Policy,
        Refusal::UnacceptableAlgorithm,
    ] {
        let mut bench = Bench::new();
        let (first, ..) = request(&bench.want(START, "a"));
        let effects = bench.settle_at(START, first, 1, answer(first, &[], &[("a", refusal)]));
        assert_eq!(refused(&effects), [(id("a"), refusal)]);
        assert_eq!(effects.len(), 1);
    }
}

#[test]
fn what_one_device_grants_counts_and_only_the_rest_goes_to_the_other() {
    let mut bench = Bench::new();
    let (first, ..) = request(&bench.want(START, "x"));
    bench.want(START, "a");
    bench.want(START, "b");
    let (second, keys, _) = {
        bench.settle_at(START, first, 1, answer(first, &["x"], &[]));
        request(&bench.arrived(START, "x"))
    };
    assert_eq!(keys, [id("a"), id("b")]);
    let effects = bench.settle_at(START, second, 1, answer(second, &["a"], &[("b", UNKNOWN)]));
    let (third, keys, not_at) = request(&effects);
    assert_eq!((keys, not_at), (vec![id("b")], devices(&[1])));
    bench.settle_at(START, third, 2, answer(third, &["b"], &[]));
    bench.arrived(START, "a");
    bench.arrived(START, "b");
    assert_eq!((bench.requester.pending(), bench.requester.next_wake(START)), (0, None));
}

#[test]
fn a_device_that_is_away_holds_up_none_of_the_keys_that_a_present_one_has() {
    let mut bench = Bench::new();
    let (first, ..) = request(&bench.want(START, "others"));
    let (elsewhere, ..) = request(&bench.settle_at(START, first, 1, answer(first, &[], &[("others", UNKNOWN)])));
    bench.requester.left(START, elsewhere, device(2));
    // Asked of the second, which is silent.
    let (own, keys, not_at) = request(&bench.want(START, "own"));
    assert_eq!((keys, not_at), (vec![id("own")], devices(&[])));
    bench.settle_at(START, own, 1, answer(own, &["own"], &[]));
    bench.arrived(START, "own");
    let effects = bench.tick(secs(30));
    assert!(matches!(effects[..], [RequesterEffect::Retrying { failure: AskFailure::Timeout, .. }]), "{effects:?}");
    let (_, keys, not_at) = request(&bench.want(secs(30), "own-too"));
    assert_eq!((keys, not_at), (vec![id("own-too")], devices(&[])), "nor does the pause of the other");
}

#[test]
fn a_key_that_one_device_does_not_have_and_the_others_cannot_be_asked_for_is_given_up_after_a_few_tries() {
    let mut bench = Bench::new();
    let (first, ..) = request(&bench.want(START, "a"));
    let mut effects = bench.settle_at(START, first, 1, answer(first, &[], &[("a", UNKNOWN)]));
    let mut now = START;
    for tries in 1.. {
        let (asked, _, not_at) = request(&effects);
        assert_eq!(not_at, devices(&[1]));
        bench.requester.left(now, asked, device(2));
        match &bench.requester.failed(now, asked, AskFailure::Unreachable, &mut bench.rng)[..] {
            [RequesterEffect::Retrying { after, .. }] => now = now.plus(*after),
            [RequesterEffect::GivenUp { key_ids, failure: AskFailure::Unreachable, .. }] => {
                assert_eq!((key_ids, tries), (&vec![id("a")], MAX_TRIES_ELSEWHERE));
                break;
            }
            other => panic!("{other:?}"),
        }
        effects = bench.tick(now);
    }
    assert_eq!((bench.requester.pending(), bench.requester.next_wake(now)), (0, None));
}

#[test]
fn a_key_is_asked_for_at_eight_devices_at_most_and_then_nobody_is_asked_while_that_is_remembered() {
    let mut bench = Bench::new();
    let (mut asked, ..) = request(&bench.want(START, "a"));
    let mut n = 1;
    let end = loop {
        let effects = bench.settle_at(START, asked, n, answer(asked, &[], &[("a", UNKNOWN)]));
        if !refused(&effects).is_empty() {
            break effects;
        }
        // Tokens come back while the devices are asked.
        let effects = if effects.is_empty() { bench.tick(secs(1)) } else { effects };
        (asked, n) = (request(&effects).0, n + 1);
    };
    assert_eq!((refused(&end), usize::from(n)), (vec![(id("a"), UNKNOWN)], MAX_DEVICES));
    for millis in 0..100 {
        let again = bench.want(START.plus(Duration::from_millis(millis * 100)), "a");
        assert_eq!(refused(&again), [(id("a"), UNKNOWN)]);
        assert_eq!(again.len(), 1);
    }
    assert_eq!(request(&bench.want(secs(11), "a")).2, devices(&[]), "then everything begins anew");
}

#[test]
fn answers_that_would_part_the_keys_into_ever_more_groups_make_sixteen_at_most() {
    let mut bench = Bench::new();
    let names: Vec<String> = (0..200).map(|n| format!("k{n:03}")).collect();
    let mut effects: Vec<RequesterEffect> = names.iter().flat_map(|name| bench.want(START, name)).collect();
    let (mut now, mut requests, mut busiest) = (START, 0, 0);
    while bench.requester.pending() > 0 {
        let sends: Vec<_> = effects
            .iter()
            .filter_map(|effect| match effect {
                RequesterEffect::Send { id, key_ids, not_at, .. } => Some((*id, key_ids.clone(), not_at.clone())),
                _ => None,
            })
            .collect();
        effects = Vec::new();
        for (asked, keys, not_at) in sends {
            requests += 1;
            // Every key is unknown at a device, and each time another device says so.
            let from = (0..=255).find(|n| !not_at.contains(&device(*n)) && (requests + n) % 3 == 0).unwrap();
            let refusals: Vec<_> = keys.iter().step_by(2).map(|key| (key.as_str(), UNKNOWN)).collect();
            effects.extend(bench.settle_at(now, asked, from, answer(asked, &[], &refusals)));
        }
        busiest = busiest.max(bench.requester.asks.values().map(|ask| ask.lanes.len()).max().unwrap_or(0));
        now = now.plus(Duration::from_millis(500));
        effects.extend(bench.tick(now));
    }
    assert!(busiest <= 16, "{busiest} groups");
}

#[test]
fn a_silent_or_unreachable_device_is_avoided_at_the_next_try_and_the_first_to_fail_is_the_first_to_be_tried_again() {
    let mut bench = Bench::new();
    let avoided = |effects: &[RequesterEffect]| match effects {
        [RequesterEffect::Send { id, rather_not, .. }] => (*id, rather_not.clone()),
        other => panic!("{other:?}"),
    };
    let (first, none) = avoided(&bench.want(START, "a"));
    assert_eq!(none, []);
    bench.requester.left(START, first, device(1));
    bench.tick(secs(30));
    let (second, silent) = avoided(&bench.tick(secs(31)));
    assert_eq!(silent, [device(1)]);
    bench.requester.left(secs(31), second, device(2));
    bench.requester.failed(secs(31), second, AskFailure::Unreachable, &mut bench.rng);
    let (third, both) = avoided(&bench.tick(secs(33)));
    assert_eq!(both, [device(1), device(2)]);
    bench.settle_at(secs(33), third, 1, answer(third, &["a"], &[]));
    bench.arrived(secs(33), "a");
    assert_eq!(avoided(&bench.want(secs(33), "b")).1, [], "what worked again is forgiven");
}

#[test]
fn the_time_for_an_answer_runs_from_when_the_request_left() {
    let mut bench = Bench::new();
    let (first, _) = Bench::sent(&bench.want(START, "a"));
    // Finding the publisher and making an RSA pair take their time.
    assert!(bench.tick(secs(40)).is_empty());
    bench.requester.left(secs(40), first, device(1));
    assert!(bench.tick(secs(69)).is_empty());
    bench.requester.left(secs(69), first, device(2));
    assert!(bench.tick(secs(98)).is_empty(), "sent to a second device");
    let effects = bench.tick(secs(99));
    assert!(matches!(effects[..], [RequesterEffect::Retrying { failure: AskFailure::Timeout, .. }]), "{effects:?}");

    // One that never leaves is no silence of the publisher's.
    let mut bench = Bench::new();
    bench.want(START, "a");
    let effects = bench.tick(secs(130));
    assert!(matches!(effects[..], [RequesterEffect::Retrying { failure: AskFailure::Unmade, .. }]), "{effects:?}");
}

#[test]
fn a_request_for_which_there_is_no_other_device_takes_nothing_from_the_limit() {
    let mut bench = Bench::new();
    let want = |bench: &mut Bench, n: usize| {
        bench.requester.want(START, publisher(), stream(&format!("s{n}")), vec![id("a")], &mut bench.rng)
    };
    // The burst is five.
    for n in 0..4 {
        let (asked, ..) = request(&want(&mut bench, n));
        let stream = stream(&format!("s{n}"));
        let unknown = KeyAnswer { stream, ..answer(asked, &[], &[("a", UNKNOWN)]) };
        let (elsewhere, ..) = request(&bench.settle_at(START, asked, 1, unknown));
        assert_eq!(refused(&bench.requester.nobody_else(START, elsewhere)).len(), 1);
    }
    request(&want(&mut bench, 4));
    assert!(want(&mut bench, 5).is_empty(), "what was sent counts");
}

#[test]
fn too_much_at_a_time_is_given_up_as_our_own_overload_and_not_as_the_publishers_refusal() {
    let mut bench = Bench::new();
    for n in 0..MAX_WANTED {
        bench.want(START, &format!("k{n}"));
    }
    let effects = bench.want(START, "one-more");
    assert!(
        matches!(&effects[..], [RequesterEffect::GivenUp { key_ids, failure: AskFailure::Overload, .. }] if key_ids == &[id("one-more")]),
        "{effects:?}"
    );
    assert_eq!(bench.requester.pending(), MAX_WANTED);
}

#[test]
fn a_grant_that_begins_soon_is_asked_for_again_when_it_does_whatever_time_it_is_here() {
    let mut bench = Bench::new();
    let (first, _) = Bench::sent(&bench.want(START, "a"));
    // The publisher's clock is at another hour altogether; the grant begins three seconds after its answer.
    let sent = Timestamp::from_secs(5_000_000);
    let from = sent.plus(Duration::from_secs(3));
    let answer = KeyAnswer { sent, ..answer(first, &[], &[("a", Refusal::NotYet { from })]) };
    bench.settle(START, answer, 1).unwrap();
    assert_eq!(refused(&bench.want(secs(2), "a")), [(id("a"), Refusal::NotYet { from })]);
    Bench::sent(&bench.want(secs(3), "a"));
}

#[test]
fn keys_wanted_together_are_asked_for_in_one_request() {
    let mut bench = Bench::new();
    let wanted: Vec<KeyId> = ["a", "b", "c"].map(id).to_vec();
    let effects = bench.requester.want(START, publisher(), stream("s"), wanted.clone(), &mut bench.rng);
    assert_eq!(Bench::sent(&effects).1, wanted);
}
