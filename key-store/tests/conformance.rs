//! One suite of rules, run against every store.
#![allow(clippy::unwrap_used, reason = "a test may fall over")]

mod common;

use common::{id, numbered, open, scope};
use veilcast_key_store::{
    GroupKey, KeyOrigin, KeyScope, KeyStore, MAX_RECORD_CHANGES, MAX_RECORD_KEY_LEN, MAX_RECORD_LEN, MemoryKeyStore,
    RecordStore, Store, StoreError, StoredKey, TimeRange, forget, forgettable,
};

macro_rules! against_every_store {
    ($($rule:ident)*) => {
        mod memory {
            use super::*;
            $(#[test] fn $rule() { super::$rule(&MemoryKeyStore::new()); })*
        }
        mod sled {
            use super::*;
            $(#[test] fn $rule() {
                let dir = tempfile::tempdir().unwrap();
                super::$rule(&open(dir.path()));
            })*
        }
    };
}

against_every_store! {
    an_unknown_key_is_none
    a_key_is_found_under_its_own_publisher_and_stream_only
    no_name_runs_into_the_next
    the_last_key_made_current_is_the_current_one
    a_made_keys_period_ends_where_the_next_begins
    a_start_that_is_not_later_is_raised_so_that_order_is_strict
    saying_make_current_twice_changes_nothing
    the_same_id_with_other_bytes_is_a_conflict_and_changes_nothing
    adding_a_key_leaves_the_current_one_current
    adding_a_key_again_widens_its_period_only
    keys_added_together_are_all_there_but_those_whose_id_is_taken
    a_pre_agreed_key_can_become_current_and_keeps_its_origin
    a_removed_key_is_gone_and_another_may_take_its_id
    keys_removed_together_are_gone_and_those_that_were_not_there_are_not_counted
    forgetting_removes_the_keys_whose_period_ended_and_never_the_current_one
    a_scope_without_its_current_key_has_none_until_the_next
    history_is_ordered_by_time_and_then_id
    history_by_range_holds_the_keys_whose_period_touches_it
    history_pages_join_without_loss_or_repetition
    the_scopes_that_have_keys_are_listed_once_each
    a_record_reads_back_until_it_is_deleted
    a_group_of_changes_lands_together_and_the_later_of_two_counts
    a_scan_goes_through_one_table_one_prefix_and_page_by_page
    what_is_too_large_is_refused_whole
    a_store_fits_behind_one_trait_object
}

fn keys_removed_together_are_gone_and_those_that_were_not_there_are_not_counted(store: &dyn Store) {
    for n in 0..4 {
        store.make_current(&scope("o/p"), &numbered(n), n as u64).unwrap();
    }
    store.make_current(&scope("o/q"), &numbered(1), 1).unwrap();
    let names = ["key-1", "key-3", "key-1", "key-9"].map(id);
    assert_eq!(store.remove_all(&scope("o/p"), &names).unwrap(), 2);
    assert_eq!(ids(&all(store, &scope("o/p"))), ["key-0", "key-2"]);
    assert!(store.current(&scope("o/p")).unwrap().is_none(), "it was among them");
    assert_eq!(ids(&all(store, &scope("o/q"))), ["key-1"]);
    assert_eq!(store.remove_all(&scope("o/p"), &[]).unwrap(), 0);
}

fn forgetting_removes_the_keys_whose_period_ended_and_never_the_current_one(store: &dyn Store) {
    let (mine, theirs) = (scope("o/p"), KeyScope::new([0x22; 20], "o/p"));
    for n in 0..600 {
        store.make_current(&mine, &numbered(n), 10 * n as u64).unwrap();
    }
    store.add(&mine, &numbered(900), 5, None, KeyOrigin::PreAgreed).unwrap();
    store.add(&theirs, &numbered(1), 5, Some(6), KeyOrigin::Received).unwrap();
    let found = forgettable(store, &mine, 5_000).unwrap();
    assert_eq!((found.over, found.unended), (500, 1));
    assert_eq!(forget(store, &mine, 4_999).unwrap(), 499, "a period that ends at 5,000 is not over at 4,999");
    assert_eq!(forget(store, &mine, 5_000).unwrap(), 1);
    assert_eq!(forget(store, &mine, 5_000).unwrap(), 0);
    assert!(store.key(&mine, numbered(499).id()).unwrap().is_none());
    assert!(store.key(&mine, numbered(500).id()).unwrap().is_some());
    // However late the moment: what is current stays, and what nobody told the end of.
    assert_eq!(forget(store, &mine, u64::MAX).unwrap(), 99);
    assert_eq!(ids(&all(store, &mine)), ["key-900", "key-599"]);
    assert!(store.current(&mine).unwrap().unwrap().key.same_as(&numbered(599)));
    assert_eq!(ids(&all(store, &theirs)), ["key-1"], "keys of another publisher");
}

fn ids(keys: &[StoredKey]) -> Vec<&str> {
    keys.iter().map(|stored| stored.key.id().as_str()).collect()
}

fn all(store: &dyn Store, scope: &KeyScope) -> Vec<StoredKey> {
    store.history(scope, TimeRange::ALL, None, 100).unwrap()
}

fn an_unknown_key_is_none(store: &dyn Store) {
    assert!(store.key(&scope("o/p"), &id("k")).unwrap().is_none());
    assert!(store.current(&scope("o/p")).unwrap().is_none());
    assert!(all(store, &scope("o/p")).is_empty());
    assert!(store.scopes().unwrap().is_empty());
    assert!(!store.remove(&scope("o/p"), &id("k")).unwrap());
}

fn a_key_is_found_under_its_own_publisher_and_stream_only(store: &dyn Store) {
    let (mine, key) = (KeyScope::new([1; 20], "o/p"), numbered(1));
    store.make_current(&mine, &key, 5).unwrap();
    let found = store.key(&mine, key.id()).unwrap().unwrap();
    assert!(found.key.same_as(&key));
    assert_eq!((found.since, found.until, found.origin), (5, None, KeyOrigin::Made));
    for other in [KeyScope::new([2; 20], "o/p"), KeyScope::new([1; 20], "o/q"), KeyScope::new([1; 20], "o/p/")] {
        assert!(store.key(&other, key.id()).unwrap().is_none(), "{other:?}");
        assert!(store.current(&other).unwrap().is_none(), "{other:?}");
        assert!(all(store, &other).is_empty(), "{other:?}");
        assert!(!store.remove(&other, key.id()).unwrap(), "{other:?}");
    }
}

fn no_name_runs_into_the_next(store: &dyn Store) {
    // Same letters in a row, cut at different places.
    store.add(&scope("ab"), &GroupKey::new(id("c"), &[1; 32]).unwrap(), 0, None, KeyOrigin::Received).unwrap();
    assert!(store.key(&scope("a"), &id("bc")).unwrap().is_none());
    assert!(all(store, &scope("a")).is_empty());
    store.write("ab", &[(b"c".to_vec(), Some(vec![1]))]).unwrap();
    assert_eq!(store.get("a", b"bc").unwrap(), None);
    assert!(store.scan("a", b"", None, 10).unwrap().is_empty());
}

fn the_last_key_made_current_is_the_current_one(store: &dyn Store) {
    for n in 1..=3 {
        store.make_current(&scope("o/p"), &numbered(n), 100 * n as u64).unwrap();
        let current = store.current(&scope("o/p")).unwrap().unwrap();
        assert!(current.key.same_as(&numbered(n)));
        assert_eq!((current.since, current.until), (100 * n as u64, None));
    }
}

fn a_made_keys_period_ends_where_the_next_begins(store: &dyn Store) {
    for n in 1..=3 {
        store.make_current(&scope("o/p"), &numbered(n), 100 * n as u64).unwrap();
    }
    let periods: Vec<_> = all(store, &scope("o/p")).iter().map(|stored| (stored.since, stored.until)).collect();
    assert_eq!(periods, [(100, Some(200)), (200, Some(300)), (300, None)]);
}

fn a_start_that_is_not_later_is_raised_so_that_order_is_strict(store: &dyn Store) {
    for (n, since) in [(1, 100), (2, 100), (3, 7), (4, 102), (5, 200)] {
        store.make_current(&scope("o/p"), &numbered(n), since).unwrap();
    }
    let history = all(store, &scope("o/p"));
    assert_eq!(ids(&history), ["key-1", "key-2", "key-3", "key-4", "key-5"]);
    let starts: Vec<_> = history.iter().map(|stored| stored.since).collect();
    assert_eq!(starts, [100, 101, 102, 103, 200]);
}

fn saying_make_current_twice_changes_nothing(store: &dyn Store) {
    store.make_current(&scope("o/p"), &numbered(1), 100).unwrap();
    store.make_current(&scope("o/p"), &numbered(1), 900).unwrap();
    let history = all(store, &scope("o/p"));
    assert_eq!(ids(&history), ["key-1"]);
    assert_eq!((history[0].since, history[0].until), (100, None));
}

fn the_same_id_with_other_bytes_is_a_conflict_and_changes_nothing(store: &dyn Store) {
    store.make_current(&scope("o/p"), &numbered(1), 100).unwrap();
    store.make_current(&scope("o/p"), &numbered(2), 200).unwrap();
    let other = GroupKey::new(id("key-1"), &[9; 32]).unwrap();
    for outcome in
        [store.make_current(&scope("o/p"), &other, 300), store.add(&scope("o/p"), &other, 0, None, KeyOrigin::Received)]
    {
        let fault = outcome.unwrap_err();
        assert!(matches!(&fault, StoreError::Conflict { id } if id.as_str() == "key-1"), "{fault}");
    }
    assert!(store.key(&scope("o/p"), &id("key-1")).unwrap().unwrap().key.same_as(&numbered(1)));
    assert_eq!(store.current(&scope("o/p")).unwrap().unwrap().key.id().as_str(), "key-2");
    // Elsewhere the id is free.
    store.make_current(&scope("o/q"), &other, 300).unwrap();
}

fn adding_a_key_leaves_the_current_one_current(store: &dyn Store) {
    store.make_current(&scope("o/p"), &numbered(1), 100).unwrap();
    store.add(&scope("o/p"), &numbered(2), 900, Some(950), KeyOrigin::Received).unwrap();
    let current = store.current(&scope("o/p")).unwrap().unwrap();
    assert_eq!((current.key.id().as_str(), current.until), ("key-1", None));
    let added = store.key(&scope("o/p"), &id("key-2")).unwrap().unwrap();
    assert_eq!((added.since, added.until, added.origin), (900, Some(950), KeyOrigin::Received));
}

fn adding_a_key_again_widens_its_period_only(store: &dyn Store) {
    let add = |since, until| {
        store.add(&scope("o/p"), &numbered(1), since, until, KeyOrigin::Received).unwrap();
        let stored = store.key(&scope("o/p"), &id("key-1")).unwrap().unwrap();
        assert_eq!(ids(&all(store, &scope("o/p"))), ["key-1"], "listed once, wherever its period starts");
        (stored.since, stored.until)
    };
    assert_eq!(add(100, None), (100, None));
    assert_eq!(add(100, Some(200)), (100, Some(200)), "a known end over an unknown one");
    assert_eq!(add(150, Some(180)), (100, Some(200)), "never narrower");
    assert_eq!(add(50, Some(300)), (50, Some(300)));
    assert_eq!(add(60, None), (50, Some(300)));

    store.make_current(&scope("o/m"), &numbered(1), 100).unwrap();
    store.make_current(&scope("o/m"), &numbered(2), 200).unwrap();
    store.add(&scope("o/m"), &numbered(1), 0, Some(999), KeyOrigin::Received).unwrap();
    let made = store.key(&scope("o/m"), &id("key-1")).unwrap().unwrap();
    assert_eq!((made.since, made.until, made.origin), (100, Some(200), KeyOrigin::Made), "we know our own best");
}

fn keys_added_together_are_all_there_but_those_whose_id_is_taken(store: &dyn Store) {
    let scope = scope("s");
    let received = |key, since, until| StoredKey { key, since, until, origin: KeyOrigin::Received };
    store.make_current(&scope, &numbered(1), 100).unwrap();
    store.add(&scope, &numbered(2), 200, None, KeyOrigin::Received).unwrap();
    let other = |n: usize| GroupKey::new(numbered(n).id().clone(), &[0xee; 32]).unwrap();
    let batch = [
        received(numbered(1), 50, Some(60)),
        received(numbered(2), 150, Some(300)),
        received(numbered(3), 300, Some(400)),
        received(other(3), 10, None),
        received(other(2), 10, None),
        received(numbered(4), 400, None),
    ];
    let left_out = store.add_all(&scope, &batch).unwrap();
    assert_eq!(left_out, [numbered(3).id().clone(), numbered(2).id().clone()]);
    let all = all(store, &scope);
    let periods: Vec<_> = all.iter().map(|stored| (stored.since, stored.until)).collect();
    assert_eq!(ids(&all), [1, 2, 3, 4].map(|n| numbered(n).id().as_str().to_owned()));
    assert_eq!(periods, [(100, None), (150, Some(300)), (300, Some(400)), (400, None)]);
    assert!((1..=4).all(|n| all[n - 1].key.same_as(&numbered(n))));
    assert!(store.add_all(&scope, &[]).unwrap().is_empty());
}

fn a_pre_agreed_key_can_become_current_and_keeps_its_origin(store: &dyn Store) {
    store.make_current(&scope("o/p"), &numbered(1), 100).unwrap();
    store.add(&scope("o/p"), &numbered(2), 50, None, KeyOrigin::PreAgreed).unwrap();
    store.make_current(&scope("o/p"), &numbered(2), 300).unwrap();
    let current = store.current(&scope("o/p")).unwrap().unwrap();
    assert_eq!((current.key.id().as_str(), current.since, current.until), ("key-2", 50, None));
    assert_eq!(current.origin, KeyOrigin::PreAgreed);
    assert_eq!(store.key(&scope("o/p"), &id("key-1")).unwrap().unwrap().until, Some(300));
    // It became current at 300, whatever its period says: the next one comes after that.
    store.make_current(&scope("o/p"), &numbered(3), 200).unwrap();
    assert_eq!(store.current(&scope("o/p")).unwrap().unwrap().since, 301);
    assert_eq!(store.key(&scope("o/p"), &id("key-2")).unwrap().unwrap().until, Some(301));
    // While it is current its end stays open.
    store.add(&scope("o/p"), &numbered(4), 400, None, KeyOrigin::PreAgreed).unwrap();
    store.make_current(&scope("o/p"), &numbered(4), 400).unwrap();
    store.add(&scope("o/p"), &numbered(4), 400, Some(500), KeyOrigin::PreAgreed).unwrap();
    assert_eq!(store.current(&scope("o/p")).unwrap().unwrap().until, None);
}

fn a_removed_key_is_gone_and_another_may_take_its_id(store: &dyn Store) {
    store.add(&scope("o/p"), &numbered(1), 100, None, KeyOrigin::Received).unwrap();
    store.add(&scope("o/p"), &numbered(2), 100, None, KeyOrigin::Received).unwrap();
    assert!(store.remove(&scope("o/p"), &id("key-1")).unwrap());
    assert!(!store.remove(&scope("o/p"), &id("key-1")).unwrap());
    assert!(store.key(&scope("o/p"), &id("key-1")).unwrap().is_none());
    assert_eq!(ids(&all(store, &scope("o/p"))), ["key-2"]);
    let right = GroupKey::new(id("key-1"), &[9; 32]).unwrap();
    store.add(&scope("o/p"), &right, 100, None, KeyOrigin::Received).unwrap();
    assert!(store.key(&scope("o/p"), &id("key-1")).unwrap().unwrap().key.same_as(&right));
}

fn a_scope_without_its_current_key_has_none_until_the_next(store: &dyn Store) {
    store.make_current(&scope("o/p"), &numbered(1), 100).unwrap();
    store.make_current(&scope("o/p"), &numbered(2), 200).unwrap();
    assert!(store.remove(&scope("o/p"), &id("key-2")).unwrap());
    assert!(store.current(&scope("o/p")).unwrap().is_none());
    store.make_current(&scope("o/p"), &numbered(3), 300).unwrap();
    assert_eq!(store.current(&scope("o/p")).unwrap().unwrap().key.id().as_str(), "key-3");
    assert_eq!(ids(&all(store, &scope("o/p"))), ["key-1", "key-3"]);
}

fn history_is_ordered_by_time_and_then_id(store: &dyn Store) {
    for (n, since) in [(3, 1 << 40), (1, 255), (2, 256), (5, 256), (4, 0)] {
        store.add(&scope("o/p"), &numbered(n), since, None, KeyOrigin::Received).unwrap();
    }
    assert_eq!(ids(&all(store, &scope("o/p"))), ["key-4", "key-1", "key-2", "key-5", "key-3"]);
}

fn history_by_range_holds_the_keys_whose_period_touches_it(store: &dyn Store) {
    for n in 1..=4 {
        store.make_current(&scope("o/p"), &numbered(n), 100 * n as u64).unwrap();
    }
    // key-1 [100, 200)  key-2 [200, 300)  key-3 [300, 400)  key-4 [400, ..
    for (from, to, expected) in [
        (0, 99, &[][..]),
        (0, 100, &["key-1"]),
        (150, 150, &["key-1"]),
        (199, 199, &["key-1"]),
        (200, 200, &["key-2"]),
        (199, 300, &["key-1", "key-2", "key-3"]),
        (400, 400, &["key-4"]),
        (1_000_000, u64::MAX, &["key-4"]),
        (300, 200, &[]),
    ] {
        let found = store.history(&scope("o/p"), TimeRange { from, to }, None, 10).unwrap();
        assert_eq!(ids(&found), expected, "{from}..={to}");
    }
}

fn history_pages_join_without_loss_or_repetition(store: &dyn Store) {
    for n in 10..35 {
        // Four keys a millisecond: pages must be able to end between two of the same time.
        store.add(&scope("o/p"), &numbered(n), n as u64 / 4, None, KeyOrigin::Received).unwrap();
    }
    for limit in [1, 2, 3, 7, 24, 25, 26] {
        let (mut joined, mut after) = (Vec::new(), None);
        loop {
            let page = store.history(&scope("o/p"), TimeRange::ALL, after.as_ref(), limit).unwrap();
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            after = Some(last.cursor());
            joined.extend(page);
        }
        let expected: Vec<_> = (10..35).map(|n| format!("key-{n}")).collect();
        assert_eq!(ids(&joined), expected, "limit {limit}");
    }
    assert!(store.history(&scope("o/p"), TimeRange::ALL, None, 0).unwrap().is_empty());
}

fn the_scopes_that_have_keys_are_listed_once_each(store: &dyn Store) {
    let mut expected = Vec::new();
    for publisher in [[1; 20], [2; 20], [0xff; 20]] {
        for stream in ["o/p", "o/pq", "o/q", "Ω/ñ", ""] {
            let scope = KeyScope::new(publisher, stream);
            store.make_current(&scope, &numbered(1), 1).unwrap();
            store.make_current(&scope, &GroupKey::new(id(&"~".repeat(64)), &[1; 32]).unwrap(), 2).unwrap();
            expected.push(scope);
        }
    }
    expected.sort();
    assert_eq!(store.scopes().unwrap(), expected);
    store.remove(&expected[0], &id("key-1")).unwrap();
    assert_eq!(store.scopes().unwrap(), expected);
    store.remove(&expected[0], &id(&"~".repeat(64))).unwrap();
    assert_eq!(store.scopes().unwrap(), expected[1..]);
}

fn a_record_reads_back_until_it_is_deleted(store: &dyn Store) {
    assert_eq!(store.get("grants", b"k").unwrap(), None);
    store.write("grants", &[(b"k".to_vec(), Some(b"v".to_vec())), (vec![], Some(vec![]))]).unwrap();
    assert_eq!(store.get("grants", b"k").unwrap(), Some(b"v".to_vec()));
    assert_eq!(store.get("grants", b"").unwrap(), Some(vec![]), "an empty key and an empty value are fine");
    assert_eq!(store.get("chains", b"k").unwrap(), None);
    store.write("grants", &[(b"k".to_vec(), None), (b"never there".to_vec(), None)]).unwrap();
    assert_eq!(store.get("grants", b"k").unwrap(), None);
    assert_eq!(store.get("grants", b"").unwrap(), Some(vec![]));
}

fn a_group_of_changes_lands_together_and_the_later_of_two_counts(store: &dyn Store) {
    store.write("t", &[(b"gone".to_vec(), Some(vec![0]))]).unwrap();
    let change = |key: &[u8], value: Option<u8>| (key.to_vec(), value.map(|byte| vec![byte]));
    store
        .write("t", &[change(b"a", Some(1)), change(b"gone", None), change(b"a", Some(2)), change(b"b", Some(3))])
        .unwrap();
    let expected = [(b"a".to_vec(), vec![2]), (b"b".to_vec(), vec![3])];
    assert_eq!(store.scan("t", b"", None, 10).unwrap(), expected);
}

fn a_scan_goes_through_one_table_one_prefix_and_page_by_page(store: &dyn Store) {
    let key = |n: u8| vec![b'p', n];
    let changes: Vec<_> = (0..10).map(|n| (key(n), Some(vec![n]))).collect();
    store.write("t", &changes).unwrap();
    store.write("t", &[(b"o".to_vec(), Some(vec![])), (b"q".to_vec(), Some(vec![]))]).unwrap();
    store.write("u", &[(key(3), Some(vec![99]))]).unwrap();

    let page = |after: Option<&[u8]>, limit| store.scan("t", b"p", after, limit).unwrap();
    let numbers = |from: u8, to| (from..to).map(|n| (key(n), vec![n])).collect::<Vec<_>>();
    assert_eq!(page(None, 100), numbers(0, 10));
    assert_eq!(page(None, 4), numbers(0, 4));
    assert_eq!(page(Some(&key(3)), 4), numbers(4, 8));
    assert_eq!(page(Some(&key(9)), 4), []);
    assert_eq!(page(Some(b"a"), 2), numbers(0, 2), "a start before the prefix is the prefix");
    assert_eq!(page(Some(b"z"), 2), []);
    assert_eq!(page(None, 0), []);
}

fn what_is_too_large_is_refused_whole(store: &dyn Store) {
    let good = (b"good".to_vec(), Some(vec![1]));
    let big = |len| (b"big".to_vec(), Some(vec![7; len]));
    for refused in [
        store.write("t", &[good.clone(), big(MAX_RECORD_LEN + 1)]),
        store.write("t", &[good.clone(), (vec![0; MAX_RECORD_KEY_LEN + 1], None)]),
        store.write(&"t".repeat(MAX_RECORD_KEY_LEN + 1), std::slice::from_ref(&good)),
        store.write("t", &vec![good; MAX_RECORD_CHANGES + 1]),
    ] {
        assert!(matches!(refused.unwrap_err(), StoreError::TooLarge { .. }));
    }
    assert_eq!(store.get("t", b"good").unwrap(), None);
    store.write("t", &[big(MAX_RECORD_LEN)]).unwrap();
    assert_eq!(store.get("t", b"big").unwrap().unwrap().len(), MAX_RECORD_LEN);
}

fn a_store_fits_behind_one_trait_object(store: &dyn Store) {
    fn through_both(keys: &dyn KeyStore, records: &dyn RecordStore) -> bool {
        keys.scopes().unwrap().is_empty() && records.scan("t", b"", None, 1).unwrap().is_empty()
    }
    assert!(through_both(store, store));
}
