//! What a store keeps through crashes, other processes and many threads.
#![allow(clippy::unwrap_used, reason = "a test may fall over")]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read,
    path::Path,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use common::{CHILD_DIR, Other, child_dir, contents, crash_image, numbered, open, say, scope, try_open};
use veilcast_key_store::{GroupKey, KeyId, KeyOrigin, KeyScope, KeyStore, RecordStore, StoreError, TimeRange};

const WRITES: usize = 10_000;

/// Everything in the scope, read to the end page by page.
fn everything(store: &impl KeyStore, scope: &KeyScope) -> Vec<GroupKey> {
    let (mut keys, mut after) = (Vec::new(), None);
    loop {
        let page = store.history(scope, TimeRange::ALL, after.as_ref(), 1_000).unwrap();
        let Some(last) = page.last() else { return keys };
        after = Some(last.cursor());
        keys.extend(page.into_iter().map(|stored| stored.key));
    }
}

/// Started by the tests below in a process of its own; does nothing in an ordinary run.
#[test]
fn child_writes_one_key_after_the_other() {
    let Some(dir) = child_dir() else { return };
    let store = open(&dir);
    for n in 0..WRITES {
        say(&format!("tried {n}"));
        store.make_current(&scope("o/p"), &numbered(n), n as u64).unwrap();
        say(&format!("done {n}"));
    }
}

/// Started by the tests below in a process of its own; does nothing in an ordinary run.
#[test]
fn child_writes_from_eight_threads() {
    let Some(dir) = child_dir() else { return };
    let (store, next) = (open(&dir), AtomicUsize::new(0));
    thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    if n >= WRITES {
                        break;
                    }
                    say(&format!("tried {n}"));
                    store.add(&scope("o/p"), &numbered(n), n as u64, None, KeyOrigin::Received).unwrap();
                    say(&format!("done {n}"));
                }
            });
        }
    });
}

/// Kills the child after so many acknowledgements; returns what it tried and what it was told is on disk.
fn killed_in_the_middle(child: &str, dir: &Path, after: usize) -> (BTreeSet<usize>, BTreeSet<usize>) {
    let mut other = Other::start(child, dir);
    let (mut tried, mut done) = (BTreeSet::new(), BTreeSet::new());
    let mut take = |line: &str| match line.split_once(' ').unwrap() {
        ("tried", n) => tried.insert(n.parse().unwrap()),
        ("done", n) => done.insert(n.parse().unwrap()) && done.len() >= after,
        _ => panic!("the child said {line:?}"),
    };
    while let Some(line) = other.heard() {
        if take(&line) && line.starts_with("done") {
            break;
        }
    }
    other.kill();
    // What it said before it died still counts.
    while let Some(line) = other.heard() {
        take(&line);
    }
    assert!(done.len() >= after && done.len() < WRITES, "killed in the middle, after {} of {WRITES}", done.len());
    (tried, done)
}

fn check_survivors(dir: &Path, tried: &BTreeSet<usize>, done: &BTreeSet<usize>, writers: usize) {
    let store = open(dir);
    let found: BTreeMap<String, GroupKey> =
        everything(&store, &scope("o/p")).into_iter().map(|key| (key.id().to_string(), key)).collect();
    for n in done {
        let key = found.get(numbered(*n).id().as_str()).unwrap_or_else(|| panic!("key {n} was acknowledged"));
        assert!(key.same_as(&numbered(*n)), "key {n} has other bytes");
    }
    let expected: BTreeMap<_, _> = tried.iter().map(|n| (numbered(*n).id().to_string(), *n)).collect();
    for (id, key) in &found {
        let n = expected.get(id).unwrap_or_else(|| panic!("{id} was never written"));
        assert!(key.same_as(&numbered(*n)), "{id} has other bytes");
    }
    assert!(found.len() <= done.len() + writers, "more than the writes on their way came back");
    assert_eq!(store.scopes().unwrap(), [scope("o/p")]);
}

#[test]
fn after_kill_9_in_the_middle_of_10_000_writes_every_acknowledged_key_is_there_and_nothing_else_is() {
    let dir = tempfile::tempdir().unwrap();
    let (tried, done) = killed_in_the_middle("child_writes_one_key_after_the_other", dir.path(), WRITES / 2);
    check_survivors(dir.path(), &tried, &done, 1);

    let store = open(dir.path());
    let last_done = *done.last().unwrap();
    let current = store.current(&scope("o/p")).unwrap().unwrap();
    assert!([last_done, last_done + 1].iter().any(|n| current.key.same_as(&numbered(*n))));
    assert!(store.key(&scope("o/p"), numbered(last_done + 2).id()).unwrap().is_none());
    // And it goes on from there.
    store.make_current(&scope("o/p"), &numbered(WRITES), WRITES as u64).unwrap();
    assert!(store.current(&scope("o/p")).unwrap().unwrap().key.same_as(&numbered(WRITES)));
}

#[test]
fn after_kill_9_of_eight_writers_who_share_their_syncs_every_acknowledged_key_is_there_and_nothing_else_is() {
    let dir = tempfile::tempdir().unwrap();
    let (tried, done) = killed_in_the_middle("child_writes_from_eight_threads", dir.path(), 2_000);
    check_survivors(dir.path(), &tried, &done, 8);
}

/// Started by the test below in a process of its own, whose files may not grow; does nothing in an ordinary run.
#[test]
fn child_fills_its_disk() {
    let Some(dir) = child_dir() else { return };
    let store = open(&dir);
    let failed = (0..WRITES).find(|n| store.make_current(&scope("o/p"), &numbered(*n), *n as u64).is_err());
    let failed = failed.expect("the disk is full at some time");
    let again = store.make_current(&scope("o/p"), &numbered(failed + 1), failed as u64);
    assert!(again.is_err(), "nothing is acknowledged any more");
    // Whoever lets go of it does not wait for a disk that is full.
    drop(store);
    say(&format!("{failed}"));
}

#[cfg(target_os = "linux")]
#[test]
fn after_a_write_failed_no_key_is_acknowledged_the_store_can_be_let_go_of_and_what_was_acknowledged_is_found_later() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    // A limit on the size of files stands for a full disk.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 3000; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child_fills_its_disk", "--nocapture"])
        .env(CHILD_DIR, dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = text.lines().find_map(|line| Some(line.split_once("SAYS ")?.1.to_owned()));
    let failed = said.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    let failed: usize = failed.parse().unwrap();
    let done = (0..failed).collect();
    check_survivors(dir.path(), &(0..=failed).collect(), &done, 1);
}

#[test]
fn a_store_killed_again_and_again_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut tried, mut done) = (BTreeSet::new(), BTreeSet::new());
    for round in 1..=4 {
        // Each child starts at zero again: writing the same key once more is no conflict.
        let (t, d) = killed_in_the_middle("child_writes_from_eight_threads", dir.path(), 150 * round);
        tried.extend(t);
        done.extend(d);
    }
    check_survivors(dir.path(), &tried, &done, 4 * 8);
}

/// Started by the test below in a process of its own; does nothing in an ordinary run.
#[test]
fn child_holds_the_store() {
    let Some(dir) = child_dir() else { return };
    let _store = open(&dir);
    say("open");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn a_second_process_is_told_that_the_store_is_in_use_and_does_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).make_current(&scope("o/p"), &numbered(1), 1).unwrap();

    let mut other = Other::start("child_holds_the_store", dir.path());
    assert_eq!(other.heard().as_deref(), Some("open"));
    let before = contents(dir.path());
    let fault = try_open(dir.path()).unwrap_err();
    assert!(matches!(fault, StoreError::InUse { .. }), "{fault}");
    assert!(fault.to_string().contains("in use by another process"), "{fault}");
    assert_eq!(contents(dir.path()), before);

    drop(other.stdin.take());
    assert!(other.child.wait().unwrap().success());
    assert!(open(dir.path()).key(&scope("o/p"), numbered(1).id()).unwrap().is_some());
}

#[test]
fn the_same_process_cannot_open_a_store_twice_either() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(dir.path());
    assert!(matches!(try_open(dir.path()).unwrap_err(), StoreError::InUse { .. }));
}

#[test]
fn the_latest_key_the_order_and_the_periods_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 1..=5 {
        store.make_current(&scope("o/p"), &numbered(n), 100 * n as u64).unwrap();
    }
    store.write("grants", &[(b"g".to_vec(), Some(b"until Friday".to_vec()))]).unwrap();
    drop(store);

    let store = open(dir.path());
    assert!(store.current(&scope("o/p")).unwrap().unwrap().key.same_as(&numbered(5)));
    let all = store.history(&scope("o/p"), TimeRange::ALL, None, 10).unwrap();
    let periods: Vec<_> = all.iter().map(|stored| (stored.since, stored.until)).collect();
    assert_eq!(periods, [(100, Some(200)), (200, Some(300)), (300, Some(400)), (400, Some(500)), (500, None)]);
    let range = store.history(&scope("o/p"), TimeRange { from: 250, to: 300 }, None, 10).unwrap();
    assert_eq!(range.iter().map(|stored| stored.since).collect::<Vec<_>>(), [200, 300]);
    assert_eq!(store.get("grants", b"g").unwrap().as_deref(), Some(&b"until Friday"[..]));
}

#[test]
fn ten_threads_write_different_keys_at_once_and_all_are_readable() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    thread::scope(|threads| {
        for writer in 0..10 {
            let store = &store;
            threads.spawn(move || {
                for n in 0..50 {
                    let key = numbered(writer * 1_000 + n);
                    // Half into a scope of their own, half into one they share.
                    store.make_current(&scope(&format!("o/{writer}")), &key, n as u64).unwrap();
                    store.add(&scope("o/shared"), &key, n as u64, None, KeyOrigin::Received).unwrap();
                    assert!(store.current(&scope(&format!("o/{writer}"))).unwrap().unwrap().key.same_as(&key));
                }
            });
        }
    });
    let check = |store: &dyn KeyStore| {
        for writer in 0..10 {
            for n in 0..50 {
                let key = numbered(writer * 1_000 + n);
                for scope in [scope(&format!("o/{writer}")), scope("o/shared")] {
                    assert!(store.key(&scope, key.id()).unwrap().unwrap().key.same_as(&key));
                }
            }
        }
        assert_eq!(store.history(&scope("o/shared"), TimeRange::ALL, None, 1_000).unwrap().len(), 500);
        assert_eq!(store.scopes().unwrap().len(), 11);
    };
    check(&store);
    drop(store);
    check(&open(dir.path()));
}

#[test]
fn two_threads_racing_for_the_current_key_leave_one_unbroken_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    thread::scope(|threads| {
        for writer in 0..2 {
            let store = &store;
            threads.spawn(move || {
                for n in 0..100 {
                    store.make_current(&scope("o/p"), &numbered(writer * 1_000 + n), 5).unwrap();
                }
            });
        }
    });
    let all = store.history(&scope("o/p"), TimeRange::ALL, None, 1_000).unwrap();
    assert_eq!(all.len(), 200);
    for pair in all.windows(2) {
        assert_eq!(pair[0].until, Some(pair[1].since));
        assert!(pair[0].since < pair[1].since);
    }
    assert!(store.current(&scope("o/p")).unwrap().unwrap().key.same_as(&all[199].key));
}

#[test]
fn no_plaintext_key_bytes_are_anywhere_in_the_files_of_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let keys: Vec<_> = (0..200).map(|_| GroupKey::generate(&mut rand::rng())).collect();
    for (n, key) in keys.iter().enumerate() {
        store.make_current(&scope("o/p"), key, n as u64).unwrap();
    }
    let record = b"a record that is nobody else's business";
    store.write("grants", &[(b"g".to_vec(), Some(record.to_vec()))]).unwrap();

    let check = |when: &str| {
        for (path, bytes) in contents(dir.path()) {
            let holds = |wanted: &[u8]| bytes.windows(wanted.len()).any(|window| window == wanted);
            for key in keys.iter().step_by(20) {
                let text = key.expose().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
                // A quarter of a key would be too much already.
                assert!(!holds(&key.expose()[..8]), "{when}: raw key bytes in {}", path.display());
                assert!(!holds(&text.as_bytes()[..16]), "{when}: hex key bytes in {}", path.display());
                assert!(!holds(&text.to_uppercase().as_bytes()[..16]), "{when}: hex in {}", path.display());
            }
            assert!(!holds(record), "{when}: a record in {}", path.display());
        }
    };
    check("while open");
    drop(store);
    check("after close");
    // The search itself finds what is there.
    let db = fs::read(dir.path().join("sled/db")).unwrap();
    let id = hex::decode(keys[0].id().as_str()).unwrap();
    assert!(db.windows(16).any(|window| window == id), "ids are no secret");
}

#[test]
fn what_a_crash_leaves_opens_with_everything_acknowledged_and_nothing_left_behind() {
    let (dir, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(dir.path());
    for n in 0..300 {
        store.make_current(&scope("o/p"), &numbered(n), n as u64).unwrap();
    }
    crash_image(dir.path(), image.path());
    // sled writes its snapshots under this name first, and would take a torn one for its newest.
    fs::write(image.path().join("sled/snap.FFFFFFFFFFFFFFFF.generating"), b"torn").unwrap();
    fs::create_dir(image.path().join("scratch")).unwrap();
    fs::write(image.path().join("scratch/db"), b"of an earlier recovery").unwrap();

    let survived = open(image.path());
    assert_eq!(everything(&survived, &scope("o/p")).len(), 300);
    assert!(!image.path().join("scratch").exists());
}

#[test]
fn a_store_that_died_before_its_first_write_opens() {
    let (dir, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let _store = open(dir.path());
    crash_image(dir.path(), image.path());
    assert!(open(image.path()).scopes().unwrap().is_empty());

    let (dir, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let _store = open(dir.path());
    crash_image(dir.path(), image.path());
    fs::remove_dir_all(image.path().join("sled")).unwrap();
    open(image.path()).make_current(&scope("o/p"), &numbered(1), 1).unwrap();
    let found = open(image.path()).key(&scope("o/p"), &KeyId::new("key-1").unwrap()).unwrap();
    assert!(found.unwrap().key.same_as(&numbered(1)));
}
