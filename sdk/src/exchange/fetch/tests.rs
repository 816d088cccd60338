use rand::SeedableRng;
use rand::rngs::StdRng;
use veilcast_key_store::{GroupKey, KeyOrigin, KeyScope, KeyStore, MemoryKeyStore, StoredKey};

use super::*;
use crate::exchange::Page;
use crate::identity::Identity;
use crate::time::Timestamp;
use crate::wire::{ALGORITHM_RSA_OAEP_SHA256, MAX_KEYS_PER_ANSWER};

const SPAN: TimeRange = TimeRange { from: 1_000, to: 9_000 };

struct Bench {
    fetch: Fetch,
    rng: StdRng,
}

fn identity(byte: u8) -> Identity {
    Identity::from_secret_bytes(&[byte; 32]).unwrap()
}

fn stream(name: &str) -> StreamId {
    StreamId::of(identity(1).user(), name).unwrap()
}

fn place(since: u64, id: &str) -> HistoryCursor {
    HistoryCursor { since, id: KeyId::new(id).unwrap() }
}

fn granted(id: &str, since: u64, until: Option<u64>) -> GrantedKey {
    let (since, until) = (Timestamp::from_millis(since), until.map(Timestamp::from_millis));
    GrantedKey { key_id: KeyId::new(id).unwrap(), wrapped: vec![0; 80], since, until }
}

fn refused(id: &str) -> Refused {
    Refused { key_id: KeyId::new(id).unwrap(), refusal: Refusal::Policy }
}

fn answer(id: RequestId, granted: Vec<GrantedKey>, next: Option<HistoryCursor>) -> KeyAnswer {
    KeyAnswer {
        id,
        stream: stream("s"),
        publisher: identity(1).user(),
        requester: identity(2).user(),
        sent: Timestamp::ZERO,
        algorithm: ALGORITHM_RSA_OAEP_SHA256,
        encapsulated: if granted.is_empty() { Vec::new() } else { vec![0; 256] },
        granted,
        refused: Vec::new(),
        next,
        refusal: None,
    }
}

fn whole(id: RequestId, refusal: Refusal) -> KeyAnswer {
    KeyAnswer { refusal: Some(refusal), ..answer(id, Vec::new(), None) }
}

impl Bench {
    fn from(after: Option<HistoryCursor>) -> Self {
        Self::over(SPAN, after)
    }

    fn over(range: TimeRange, after: Option<HistoryCursor>) -> Self {
        let (me, publisher) = (identity(2).user(), identity(1).user());
        let fetch = Fetch::new(me, publisher, stream("s"), range, after, RequesterConfig::default());
        Self { fetch, rng: StdRng::seed_from_u64(1) }
    }

    fn ask(&mut self) -> (RequestId, KeyRange) {
        self.fetch.ask(&mut self.rng)
    }

    fn hear(&mut self, answer: KeyAnswer, by: u8) -> Result<FetchStep, AnswerFault> {
        let answer = Verified::sign(answer, &identity(by)).unwrap();
        self.fetch.answered(&answer, &mut self.rng)
    }

    fn page(&mut self, answer: KeyAnswer) -> FetchedPage {
        match self.hear(answer, 1) {
            Ok(FetchStep::Keep(page)) => page,
            other => panic!("a page was expected, not {other:?}"),
        }
    }
}

#[test]
fn pages_follow_one_another_and_the_cursor_moves_only_when_a_page_is_stored() {
    let mut bench = Bench::from(None);
    let (id, asked) = bench.ask();
    assert_eq!(asked, KeyRange { range: SPAN, after: None });
    let page = bench.page(answer(id, vec![granted("a", 500, Some(1_500))], Some(place(500, "a"))));
    assert_eq!(page.granted.len(), 1);
    assert_eq!(bench.fetch.cursor(), None, "not stored yet");
    assert!(matches!(bench.fetch.stored(), FetchStep::Ask));
    assert_eq!(bench.fetch.cursor(), Some(&place(500, "a")));
    let (id, asked) = bench.ask();
    assert_eq!(asked.after, Some(place(500, "a")));
    bench.page(answer(id, vec![granted("b", 1_500, None)], None));
    assert!(matches!(bench.fetch.stored(), FetchStep::Done));
}

#[test]
fn a_page_that_does_not_fit_what_was_asked_changes_nothing_and_the_true_one_still_counts() {
    let mut bench = Bench::from(Some(place(2_000, "m")));
    let (id, _) = bench.ask();
    let key = |id: &str, since, until| vec![granted(id, since, until)];
    let fine = || answer(id, key("n", 3_000, Some(4_000)), Some(place(3_000, "n")));
    let unfit = [
        ("over before the span", answer(id, key("n", 2_500, Some(1_000)), None)),
        ("begun after the span", answer(id, key("n", 9_001, None), None)),
        ("before the page", answer(id, key("n", 1_999, Some(2_500)), None)),
        ("where the page before ended", answer(id, key("m", 2_000, Some(2_500)), None)),
        ("behind where the next begins", answer(id, key("n", 3_000, None), Some(place(2_500, "n")))),
        ("the next is where this one was", answer(id, Vec::new(), Some(place(2_000, "m")))),
        ("the next is before this one", answer(id, Vec::new(), Some(place(2_000, "l")))),
        ("the next is beyond the span", answer(id, Vec::new(), Some(place(9_001, "a")))),
        ("twice", answer(id, [key("n", 3_000, None), key("n", 3_000, None)].concat(), None)),
        ("granted and refused", KeyAnswer { refused: vec![refused("n")], ..fine() }),
        ("refused twice", KeyAnswer { refused: vec![refused("o"), refused("o")], ..fine() }),
    ];
    for (what, answer) in unfit {
        assert_eq!(bench.hear(answer, 1).unwrap_err(), AnswerFault::NotAsked, "{what}");
    }
    let foreign = [
        (KeyAnswer { publisher: identity(3).user(), ..fine() }, 3),
        (KeyAnswer { stream: stream("t"), ..fine() }, 1),
        (KeyAnswer { requester: identity(4).user(), ..fine() }, 1),
        (KeyAnswer { publisher: identity(3).user(), ..whole(id, Refusal::Denied) }, 3),
    ];
    for (answer, by) in foreign {
        assert_eq!(bench.hear(answer, by).unwrap_err(), AnswerFault::Foreign);
    }
    let late = KeyAnswer { id: RequestId([9; 16]), ..fine() };
    assert_eq!(bench.hear(late, 1).unwrap_err(), AnswerFault::NotPending);
    bench.page(fine());
    assert_eq!(bench.hear(fine(), 1).unwrap_err(), AnswerFault::NotPending, "once is enough");
}

#[test]
fn a_span_refused_as_a_whole_ends_the_fetch_where_it_was() {
    for refusal in [Refusal::Denied, Refusal::Expired { since: Timestamp::ZERO }, Refusal::UnacceptableAlgorithm] {
        let mut bench = Bench::from(Some(place(2_000, "m")));
        let (id, _) = bench.ask();
        match bench.hear(whole(id, refusal), 1) {
            Ok(FetchStep::Failed(FetchFailure::Refused(said))) => assert_eq!(said, refusal),
            other => panic!("{other:?}"),
        }
        assert_eq!(bench.fetch.cursor(), Some(&place(2_000, "m")));
    }
}

#[test]
fn a_publisher_that_asks_to_wait_is_asked_again_when_it_said_but_cannot_put_a_fetch_off_for_ever() {
    let mut bench = Bench::from(None);
    let secs = Duration::from_secs;
    for (retry_after, expected) in [(secs(7), secs(7)), (secs(1_000_000), secs(300))] {
        let (id, _) = bench.ask();
        match bench.hear(whole(id, Refusal::Throttled { retry_after }), 1) {
            Ok(FetchStep::Wait { failure: AskFailure::AskedToWait, after }) => assert_eq!(after, expected),
            other => panic!("{other:?}"),
        }
    }
    for _ in 3..RequesterConfig::default().max_tries {
        let (id, _) = bench.ask();
        let unavailable = Refusal::Unavailable { retry_after: secs(1) };
        assert!(matches!(bench.hear(whole(id, unavailable), 1), Ok(FetchStep::Wait { .. })));
    }
    let (id, _) = bench.ask();
    let last = bench.hear(whole(id, Refusal::Throttled { retry_after: secs(1) }), 1);
    assert!(matches!(last, Ok(FetchStep::Failed(FetchFailure::GivenUp(AskFailure::AskedToWait)))), "{last:?}");
}

#[test]
fn silence_is_retried_with_back_off_given_up_after_the_last_try_and_a_page_makes_good_for_it() {
    let mut bench = Bench::from(None);
    bench.ask();
    let first = bench.fetch.failed(AskFailure::Timeout, &mut bench.rng);
    assert!(matches!(first, FetchStep::Wait { after, .. } if after <= Duration::from_millis(500)));
    let (id, _) = bench.ask();
    bench.page(answer(id, vec![granted("a", 1_000, None)], Some(place(1_000, "a"))));
    bench.fetch.stored();

    let mut waits = Vec::new();
    let failure = loop {
        bench.ask();
        match bench.fetch.failed(AskFailure::Unreachable, &mut bench.rng) {
            FetchStep::Wait { after, .. } => waits.push(after),
            FetchStep::Failed(failure) => break failure,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(failure, FetchFailure::GivenUp(AskFailure::Unreachable));
    assert_eq!(waits.len(), 9);
    assert!(waits[0] <= Duration::from_millis(500) && waits[8] >= Duration::from_secs(30), "{waits:?}");
    assert_eq!(bench.fetch.cursor(), Some(&place(1_000, "a")));
}

#[test]
fn a_page_whose_keys_do_not_open_is_asked_for_again() {
    let mut bench = Bench::from(None);
    let (id, before) = bench.ask();
    bench.page(answer(id, vec![granted("a", 1_000, None)], None));
    assert!(matches!(bench.fetch.did_not_open(&mut bench.rng), FetchStep::Wait { .. }));
    assert_eq!(bench.ask().1, before);
}

#[test]
fn a_publisher_that_goes_on_for_ever_is_left_after_a_bounded_number_of_pages() {
    let mut bench = Bench::over(TimeRange::ALL, None);
    // As so many pages before would have left it; a signature for each would take minutes.
    bench.fetch.pages = MAX_PAGES - 3;
    for page in 1..=3 {
        let (id, _) = bench.ask();
        bench.page(answer(id, Vec::new(), Some(place(page, "a"))));
        match bench.fetch.stored() {
            FetchStep::Ask => assert!(page < 3),
            FetchStep::Failed(FetchFailure::TooLong) => assert_eq!(page, 3),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(bench.fetch.cursor(), Some(&place(3, "a")), "another may go on there");
}

fn scope() -> KeyScope {
    crate::scope(identity(1).user(), &stream("s"))
}

/// A publisher's store with so many keys, each current for a second.
fn long_history(keys: u64) -> MemoryKeyStore {
    let store = MemoryKeyStore::new();
    for n in 0..keys {
        let key = GroupKey::new(KeyId::new(&format!("key-{n}")).unwrap(), &[1; 32]).unwrap();
        store.make_current(&scope(), &key, n * 1000).unwrap();
    }
    store
}

/// Both sides without network or cipher: the keys of a span as they come, page by page, from a place on.
fn fetched(store: &MemoryKeyStore, bench: &mut Bench, most: usize) -> (Vec<KeyId>, Vec<KeyId>, usize) {
    let (mut keys, mut no, mut pages) = (Vec::new(), Vec::new(), 0);
    while pages < most {
        let (id, asked) = bench.ask();
        let even = |stored: &StoredKey| if stored.since.is_multiple_of(2000) { Ok(()) } else { Err(Refusal::Policy) };
        let page = Page::read(store, &scope(), &asked, even).unwrap();
        assert!(page.decisions.len() <= MAX_KEYS_PER_ANSWER);
        let given = page.decisions.iter().filter_map(|(_, decided)| decided.as_ref().ok());
        let given = given.map(|stored| granted(stored.key.id().as_str(), stored.since, stored.until)).collect();
        let refused = page.decisions.iter().filter(|(_, decided)| decided.is_err());
        let refused = refused.map(|(id, _)| Refused { key_id: id.clone(), refusal: Refusal::Policy }).collect();
        let page = bench.page(KeyAnswer { refused, ..answer(id, given, page.next) });
        keys.extend(page.granted.into_iter().map(|granted| granted.key_id));
        no.extend(page.refused.into_iter().map(|refused| refused.key_id));
        pages += 1;
        if matches!(bench.fetch.stored(), FetchStep::Done) {
            break;
        }
    }
    (keys, no, pages)
}

#[test]
fn ten_thousand_keys_come_in_forty_pages_each_key_once_and_in_order() {
    let store = long_history(10_000);
    let mut bench = Bench::over(TimeRange::ALL, None);
    let (keys, refused, pages) = fetched(&store, &mut bench, usize::MAX);
    assert_eq!(pages, 40);
    assert_eq!((keys.len(), refused.len()), (5_000, 5_000));
    assert!(keys.iter().enumerate().all(|(n, id)| id.as_str() == format!("key-{}", 2 * n)));
}

#[test]
fn a_fetch_interrupted_anywhere_goes_on_without_asking_again_for_what_it_has() {
    let store = long_history(2_000);
    for pages in [1, 3, 7] {
        let mut bench = Bench::over(TimeRange::ALL, None);
        let (first, ..) = fetched(&store, &mut bench, pages);
        let mut resumed = Bench::over(TimeRange::ALL, bench.fetch.cursor().cloned());
        let (rest, ..) = fetched(&store, &mut resumed, usize::MAX);
        assert_eq!(first.len(), pages * MAX_KEYS_PER_ANSWER / 2);
        assert_eq!(first.len() + rest.len(), 1_000);
        assert!(rest.iter().all(|id| !first.contains(id)));
    }
}

#[test]
fn a_span_late_in_a_long_history_is_found_although_no_page_looks_at_more_than_a_part_of_it() {
    let store = long_history(5_000);
    let span = TimeRange { from: 4_990_500, to: 4_995_000 };
    let mut bench = Bench::over(span, None);
    let (keys, refused, pages) = fetched(&store, &mut bench, usize::MAX);
    let names = |ids: Vec<KeyId>| ids.iter().map(|id| id.as_str().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(keys), ["key-4990", "key-4992", "key-4994"]);
    assert_eq!(names(refused), ["key-4991", "key-4993", "key-4995"]);
    assert!((2..=6).contains(&pages), "{pages} pages");
}

#[test]
fn a_page_says_how_many_keys_it_took_and_takes_no_more_than_it_must() {
    let store = long_history(2_000);
    let looked_at = |from, to| {
        let asked = KeyRange { range: TimeRange { from, to }, after: None };
        let page = Page::read(&store, &scope(), &asked, |_| Ok(())).unwrap();
        (page.decisions.len(), page.looked_at, page.next.is_some())
    };
    assert_eq!(looked_at(0, 1_000), (2, 2, false), "the span ends with the second");
    assert_eq!(looked_at(0, u64::MAX), (256, 256, true), "full");
    assert_eq!(looked_at(300_000, u64::MAX), (256, 556, true), "300 passed by");
    assert_eq!(looked_at(1_900_000, u64::MAX), (0, 1024, true), "all passed by");
    assert_eq!(looked_at(0, 255_000), (256, 256, false), "full, and nothing behind it");
}

#[test]
fn a_key_belongs_to_a_span_when_its_period_reaches_into_it() {
    let store = long_history(10);
    for (from, to, expected) in [
        (3_000, 3_000, vec!["key-3"]),
        (2_999, 3_000, vec!["key-2", "key-3"]),
        (3_001, 3_999, vec!["key-3"]),
        (9_000, 99_000, vec!["key-9"]),
        (0, 0, vec!["key-0"]),
    ] {
        let asked = KeyRange { range: TimeRange { from, to }, after: None };
        let page = Page::read(&store, &scope(), &asked, |_| Ok(())).unwrap();
        let ids: Vec<&str> = page.decisions.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!((ids, page.next), (expected, None), "{from} to {to}");
    }
}

#[test]
fn a_cursor_behind_everything_is_an_empty_page_and_the_end() {
    let store = long_history(3);
    let asked = KeyRange { range: TimeRange::ALL, after: Some(place(u64::MAX, "~")) };
    let page = Page::read(&store, &scope(), &asked, |_| Ok(())).unwrap();
    assert!(page.decisions.is_empty() && page.next.is_none());
}

#[test]
fn keys_agreed_on_beforehand_are_refused_by_policy_and_other_streams_keys_not_found() {
    let store = long_history(1);
    let agreed = GroupKey::new(KeyId::new("agreed").unwrap(), &[2; 32]).unwrap();
    store.add(&scope(), &agreed, 500, None, KeyOrigin::PreAgreed).unwrap();
    let elsewhere = crate::scope(identity(1).user(), &stream("t"));
    let other = GroupKey::new(KeyId::new("other").unwrap(), &[3; 32]).unwrap();
    store.make_current(&elsewhere, &other, 500).unwrap();
    let (now, is_owner) = (Timestamp::from_secs(10), true);
    let grant = crate::Grant::new(crate::Permission::Subscribe, crate::Period::ALWAYS);
    let asker = crate::exchange::Asker { grant, is_owner, now };
    let asked = KeyRange { range: TimeRange::ALL, after: None };
    let decide = |stored: &StoredKey| crate::exchange::HistoryPolicy::All.allows(stored, &asker);
    let page = Page::read(&store, &scope(), &asked, decide).unwrap();
    let said: Vec<_> = page.decisions.iter().map(|(id, said)| (id.as_str(), said.is_ok())).collect();
    assert_eq!(said, [("key-0", true), ("agreed", false)]);
}
