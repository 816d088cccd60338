//! What a message store keeps: one suite for both engines, and what the one on disk keeps through a kill -9.

#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use veilcast::cipher::MessageCipher;
use veilcast::key_store::{GroupKey, KeyId};
use veilcast::message::{Draft, compose};
use veilcast::storage::{
    Filter, MemoryMessageStore, MessageStore, Page, Place, Query, SledMessageStore, StorageError, StorageLimits,
};
use veilcast::wire::{MessageContent, MessageRef, Verified};
use veilcast::{Identity, Payload, StreamId, StreamPart, Timestamp};

const NOW: Timestamp = Timestamp::from_secs(1_000_000);
const CHILD_DIR: &str = "VEILCAST_TEST_CHILD_DIR";
const CHILD_DISK: &str = "VEILCAST_TEST_CHILD_DISK";
const CHILD_CACHE: &str = "VEILCAST_TEST_CHILD_CACHE";

fn identity(byte: u8) -> Identity {
    Identity::from_secret_bytes(&[byte; 32]).unwrap()
}

fn part(number: u32) -> StreamPart {
    StreamId::of(identity(1).user(), "s").unwrap().part(number).unwrap()
}

/// A message of author `byte`, `ago` seconds old.
fn message(byte: u8, part: StreamPart, ago: u64, sequence: u32) -> Verified<MessageContent> {
    let at = MessageRef { timestamp: NOW.minus(Duration::from_secs(ago)), sequence };
    let draft = Draft { part, chain: [byte; 16], at, previous: None, key_updates: Vec::new() };
    compose(draft, &Payload::text("x".repeat(100)), None, &identity(byte), &mut rand::rng()).unwrap()
}

/// Both engines, the one on disk in `dir`.
fn engines(dir: &Path, limits: StorageLimits) -> [Box<dyn MessageStore>; 2] {
    [Box::new(MemoryMessageStore::new(limits)), Box::new(SledMessageStore::open(dir, limits).unwrap())]
}

fn on_each(limits: StorageLimits, check: impl Fn(&dyn MessageStore)) {
    let dir = tempfile::tempdir().unwrap();
    for engine in engines(dir.path(), limits) {
        check(&*engine);
    }
}

fn ages(page: &Page) -> Vec<u64> {
    page.messages.iter().map(|stored| NOW.since(stored.place.at.timestamp).as_secs()).collect()
}

fn all(store: &dyn MessageStore, query: Query) -> Vec<u64> {
    let (mut found, mut query) = (Vec::new(), query);
    loop {
        let page = store.read(&query).unwrap();
        found.extend(ages(&page));
        match page.next {
            Some(next) => query = query.after(Some(next)),
            None => return found,
        }
    }
}

#[test]
fn messages_are_read_back_in_order_of_time_whatever_the_order_they_came_in() {
    on_each(StorageLimits::default(), |store| {
        let came = [3, 1, 5, 2, 4].map(|ago| message(1, part(0), ago, 0));
        assert_eq!(store.append(NOW, &came).unwrap().stored, 5);
        let page = store.read(&Query::everything(part(0))).unwrap();
        assert_eq!((ages(&page), page.next), (vec![5, 4, 3, 2, 1], None));
        let envelopes: Vec<_> = page.messages.iter().map(|stored| stored.envelope.clone()).collect();
        assert_eq!(envelopes[0], came[2].envelope(), "byte for byte as it travelled");
        assert_eq!(store.read(&Query::everything(part(1))).unwrap(), Page::default());
    });
}

#[test]
fn a_message_stored_twice_is_there_once() {
    on_each(StorageLimits::default(), |store| {
        let one = message(1, part(0), 1, 0);
        let appended = store.append(NOW, &[one.clone(), one.clone()]).unwrap();
        assert_eq!((appended.stored, appended.known), (1, 1));
        assert_eq!(store.append(NOW, &[one]).unwrap().known, 1);
        assert_eq!(store.state().unwrap().messages, 1);
    });
}

#[test]
fn a_span_of_time_a_publisher_and_a_chain_are_found_alone() {
    on_each(StorageLimits::default(), |store| {
        let messages: Vec<_> = (1..=10).map(|ago| message(1 + (ago % 2) as u8, part(0), ago, 0)).collect();
        store.append(NOW, &messages).unwrap();
        let ago = |secs| NOW.minus(Duration::from_secs(secs));
        let everything = || Query::everything(part(0));
        assert_eq!(all(store, everything().between(ago(7), ago(4))), [7, 6, 5, 4], "both ends included");
        let odd = Filter::publisher(identity(2).user());
        assert_eq!(all(store, everything().filter(odd)), [9, 7, 5, 3, 1]);
        assert_eq!(all(store, everything().filter(odd).between(ago(6), ago(2))), [5, 3]);
        assert_eq!(all(store, everything().filter(Filter::chain(identity(2).user(), [2; 16]))), [9, 7, 5, 3, 1]);
        assert_eq!(all(store, everything().filter(Filter::chain(identity(2).user(), [1; 16]))), [0; 0]);
        assert_eq!(all(store, everything().filter(Filter::publisher(identity(3).user()))), [0; 0]);
    });
}

#[test]
fn the_last_n_begin_where_n_messages_are_left_also_of_one_publisher() {
    on_each(StorageLimits::default(), |store| {
        let messages: Vec<_> = (1..=10).map(|ago| message(1 + (ago % 2) as u8, part(0), ago, 0)).collect();
        store.append(NOW, &messages).unwrap();
        store.append(NOW, &[message(1, part(1), 0, 0), message(2, part(1), 0, 0)]).unwrap();
        let begin = |filter: Filter, n| {
            let beginning = store.last(&part(0), &filter, n).unwrap();
            beginning.first.map(|place: Place| NOW.since(place.at.timestamp).as_secs())
        };
        assert_eq!([1, 3, 10, 11].map(|n| begin(Filter::ALL, n)), [Some(1), Some(3), Some(10), Some(10)]);
        let odd = Filter::publisher(identity(2).user());
        assert_eq!([1, 3, 9].map(|n| begin(odd, n)), [Some(1), Some(5), Some(9)]);
        assert_eq!(begin(Filter::chain(identity(2).user(), [2; 16]), 2), Some(3));
        assert_eq!(begin(Filter::ALL, 0), None);
        assert_eq!(store.last(&part(7), &Filter::ALL, 5).unwrap().first, None);
        let looked_at = |filter: Filter, n| store.last(&part(0), &filter, n).unwrap().looked_at;
        assert_eq!([3, 10, 99].map(|n| looked_at(Filter::ALL, n)), [3, 10, 10]);
        assert!((3..=5).contains(&looked_at(odd, 3)));
    });
}

#[test]
fn pages_join_to_the_whole_without_loss_or_repeat() {
    on_each(StorageLimits::default(), |store| {
        let messages: Vec<_> = (0..50).map(|n| message(1, part(0), 10 - n / 5, n as u32)).collect();
        store.append(NOW, &messages).unwrap();
        for most in [1, 7, 49, 50, 51] {
            let (mut found, mut query) = (Vec::new(), Query::everything(part(0)).most(most));
            loop {
                let page = store.read(&query).unwrap();
                assert!(page.messages.len() <= most);
                found.extend(page.messages.iter().map(|stored| stored.place));
                let Some(next) = page.next else { break };
                query = query.after(Some(next));
            }
            assert!(found.len() == 50 && found.is_sorted(), "{most} on a page");
        }
    });
}

#[test]
fn beyond_the_limit_on_size_the_oldest_of_all_partitions_go_first() {
    let one = 600;
    on_each(StorageLimits::default().max_bytes(10 * one), |store| {
        for ago in (1..=40).rev() {
            store.append(NOW, &[message(1, part(ago as u32 % 3), ago, 0)]).unwrap();
        }
        let state = store.state().unwrap();
        assert!(state.bytes <= 10 * one && state.messages >= 5, "{state:?}");
        let mut left: Vec<u64> = (0..3).flat_map(|n| all(store, Query::everything(part(n)))).collect();
        left.sort_unstable();
        assert_eq!(left, (1..=state.messages).collect::<Vec<_>>(), "the newest are left");
        assert_eq!(state.newest, Some(NOW.minus(Duration::from_secs(1))));
        assert_eq!(state.oldest, Some(NOW.minus(Duration::from_secs(state.messages))));
    });
}

#[test]
fn a_stream_that_has_the_most_loses_its_oldest_and_pushes_no_other_out_however_late_it_dates_its_messages() {
    let one = 600;
    let of = |path: &str, ago| {
        let part = StreamId::of(identity(1).user(), path).unwrap().part(ago as u32 % 2).unwrap();
        message(1, part, ago, 0)
    };
    let left = |store: &dyn MessageStore, path: &str| {
        let parts = (0..2).map(|n| StreamId::of(identity(1).user(), path).unwrap().part(n).unwrap());
        let mut left: Vec<u64> = parts.flat_map(|part| all(store, Query::everything(part))).collect();
        left.sort_unstable();
        left
    };
    on_each(StorageLimits::default().max_bytes(20 * one), |store| {
        let quiet: Vec<_> = (1000..1005).map(|ago| of("quiet", ago)).collect();
        store.append(NOW, &quiet).unwrap();
        for ago in (1..=100).rev() {
            store.append(NOW, &[of("loud", ago)]).unwrap();
        }
        let state = store.state().unwrap();
        assert!(state.bytes <= 20 * one && state.messages >= 12, "{state:?}");
        assert_eq!(left(store, "quiet"), [1000, 1001, 1002, 1003, 1004]);
        assert_eq!(left(store, "loud"), (1..=state.messages - 5).collect::<Vec<_>>(), "its newest");
        // Both have their half where both need it.
        for ago in (101..=300).rev() {
            store.append(NOW, &[of("quiet", ago)]).unwrap();
        }
        let (quiet, loud) = (left(store, "quiet").len(), left(store, "loud").len());
        assert!(quiet.abs_diff(loud) <= 1, "{quiet} and {loud}");
    });
}

#[test]
fn the_shares_of_streams_are_known_again_when_the_store_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let limits = StorageLimits::default();
    let of = |path: &str, ago| message(1, StreamId::of(identity(1).user(), path).unwrap().part(0).unwrap(), ago, 0);
    let store = SledMessageStore::open(dir.path(), limits).unwrap();
    store.append(NOW, &(100..105).map(|ago| of("quiet", ago)).collect::<Vec<_>>()).unwrap();
    store.append(NOW, &(1..50).map(|ago| of("loud", ago)).collect::<Vec<_>>()).unwrap();
    let bytes = store.state().unwrap().bytes;
    drop(store);
    let store = SledMessageStore::open(dir.path(), limits.max_bytes(bytes / 2)).unwrap();
    assert!(store.evict(NOW).unwrap() > 20);
    assert_eq!(all(&store, Query::everything(of("quiet", 1).content().part.clone())), [104, 103, 102, 101, 100]);
}

#[test]
fn one_publishers_messages_are_read_without_looking_at_those_of_the_others_and_in_the_same_order() {
    on_each(StorageLimits::default(), |store| {
        // Three authors in every second, whose places are told apart by the author alone.
        let messages: Vec<_> = (0..300).map(|n| message(1 + (n % 3) as u8, part(0), 200 - n / 3, 0)).collect();
        store.append(NOW, &messages).unwrap();
        let whole = store.read(&Query::everything(part(0))).unwrap();
        for byte in [1, 2, 3] {
            let filter = Filter::publisher(identity(byte).user());
            let own: Vec<_> = whole.messages.iter().filter(|stored| filter.passes(&stored.place)).cloned().collect();
            assert_eq!(own.len(), 100);
            let read = |after| store.read(&Query::everything(part(0)).filter(filter).after(after)).unwrap().messages;
            assert_eq!(read(None), own);
            for stored in whole.messages.iter().step_by(7) {
                let rest: Vec<_> = own.iter().filter(|own| own.place > stored.place).cloned().collect();
                assert_eq!(read(Some(stored.place)), rest, "behind a place of anybody's");
            }
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let store = SledMessageStore::open(dir.path(), StorageLimits::default()).unwrap();
    store
        .append(NOW, &(0..300).map(|n| message(1 + u8::from(n == 299), part(0), 300 - n, 0)).collect::<Vec<_>>())
        .unwrap();
    let page = store.read(&Query::everything(part(0)).filter(Filter::publisher(identity(2).user()))).unwrap();
    assert_eq!((page.messages.len(), page.looked_at), (1, 1));
}

#[test]
fn what_is_older_than_the_limit_on_age_is_not_taken_and_goes_when_its_time_is_over() {
    on_each(StorageLimits::default().max_age(Some(Duration::from_secs(10))), |store| {
        let appended = store.append(NOW, &[9, 10, 11].map(|ago| message(1, part(0), ago, 0))).unwrap();
        assert_eq!((appended.stored, appended.out_of_range), (2, 1));
        assert_eq!(store.evict(NOW).unwrap(), 0);
        assert_eq!(store.evict(NOW.plus(Duration::from_secs(1))).unwrap(), 1);
        assert_eq!(all(store, Query::everything(part(0))), [9]);
        assert_eq!(store.evict(NOW.plus(Duration::from_secs(100))).unwrap(), 1);
        assert_eq!(store.state().unwrap(), Default::default());
    });
}

#[test]
fn a_message_dated_far_ahead_would_outlive_all_others_and_is_not_taken() {
    on_each(StorageLimits::default(), |store| {
        let early = NOW.minus(Duration::from_secs(3601));
        assert_eq!(store.append(early, &[message(1, part(0), 0, 0)]).unwrap().out_of_range, 1);
        assert_eq!(store.append(early, &[message(1, part(0), 1, 0)]).unwrap().stored, 1);
    });
}

#[test]
fn nothing_in_the_files_can_be_read_without_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledMessageStore::open(dir.path(), StorageLimits::default()).unwrap();
    let (key, secret) = (GroupKey::generate(&mut rand::rng()), "the price of tulips");
    let at = MessageRef { timestamp: NOW, sequence: 0 };
    let draft = Draft { part: part(0), chain: [1; 16], at, previous: None, key_updates: Vec::new() };
    let scope = veilcast::scope(identity(1).user(), part(0).stream());
    let cipher = MessageCipher::new(&scope, &key);
    let id: &KeyId = key.id();
    let sealed = compose(draft, &Payload::text(secret), Some((id, &cipher)), &identity(1), &mut rand::rng()).unwrap();
    store.append(NOW, &[sealed]).unwrap();
    drop(store);
    let bytes = files(dir.path()).into_iter().flat_map(|path| std::fs::read(path).unwrap()).collect::<Vec<_>>();
    let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(has(part(0).to_string().as_bytes()), "the stream's name is there");
    assert!(!has(secret.as_bytes()));
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn a_second_opening_is_told_that_the_store_is_in_use_and_a_later_one_finds_everything() {
    let dir = tempfile::tempdir().unwrap();
    let limits = StorageLimits::default();
    let store = SledMessageStore::open(dir.path(), limits).unwrap();
    store.append(NOW, &[1, 2, 3].map(|ago| message(1, part(0), ago, 0))).unwrap();
    store.append(NOW, &[message(1, part(7), 9, 0)]).unwrap();
    let state = store.state().unwrap();
    assert!(matches!(SledMessageStore::open(dir.path(), limits), Err(StorageError::InUse { .. })));
    drop(store);
    let store = SledMessageStore::open(dir.path(), limits).unwrap();
    assert_eq!((store.state().unwrap(), state.messages), (state, 4));
    assert_eq!(all(&store, Query::everything(part(0))), [3, 2, 1]);
    // What is the oldest is known again, too.
    drop(store);
    let store = SledMessageStore::open(dir.path(), limits.max_bytes(0)).unwrap();
    assert_eq!((store.evict(NOW).unwrap(), store.state().unwrap().messages), (4, 0));
}

/// Started by the test below in a process of its own, which may write little; does nothing in an ordinary run.
#[test]
fn child_fills_its_disk() {
    let Some(dir) = std::env::var_os(CHILD_DIR).filter(|_| std::env::var_os(CHILD_DISK).is_some()) else { return };
    let store = SledMessageStore::open(Path::new(&dir), StorageLimits::default()).unwrap();
    let batch = |n: u32| (0..20).map(|m| message(1, part(0), 500, 20 * n + m)).collect::<Vec<_>>();
    let failed = (0..100_000).find(|n| store.append(NOW, &batch(*n)).is_err()).expect("the disk is full at some time");
    let seen = || store.read(&Query::everything(part(0)).most(1000)).ok();
    let there = seen();
    for again in [0, failed, failed + 1] {
        assert!(matches!(store.append(NOW, &batch(again)), Err(StorageError::Broken)), "batch {again} of {failed}");
    }
    assert!(matches!(store.evict(NOW), Err(StorageError::Broken)));
    assert_eq!(seen(), there, "nothing more is seen");
    // Whoever lets go of it does not wait for a disk that is full.
    drop(store);
    println!("SAYS {failed}");
}

#[cfg(target_os = "linux")]
#[test]
fn after_a_write_failed_nothing_is_acknowledged_or_shown_any_more_and_what_was_acknowledged_is_found_later() {
    let dir = tempfile::tempdir().unwrap();
    // A limit on the size of files stands for a full disk.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 6000; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child_fills_its_disk", "--nocapture"])
        .env(CHILD_DIR, dir.path())
        .env(CHILD_DISK, "full")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = text.lines().find_map(|line| Some(line.split_once("SAYS ")?.1.to_owned()));
    let failed: u64 =
        said.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr))).parse().unwrap();
    assert!(failed > 0);
    let store = SledMessageStore::open(dir.path(), StorageLimits::default()).unwrap();
    assert!(store.state().unwrap().messages >= 20 * failed);
    assert_eq!(store.append(NOW, &[message(1, part(0), 500, 20 * failed as u32 - 1)]).unwrap().known, 1);
}

/// Started by the test below in a process of its own; does nothing in an ordinary run.
#[test]
fn child_appends_from_four_threads() {
    let Some(dir) = std::env::var_os(CHILD_DIR).filter(|_| std::env::var_os(CHILD_DISK).is_none()) else { return };
    let cache = std::env::var(CHILD_CACHE).unwrap().parse().unwrap();
    let store = SledMessageStore::open(Path::new(&dir), StorageLimits::default().cache_bytes(cache)).unwrap();
    std::thread::scope(|threads| {
        for thread in 0..4 {
            let store = &store;
            threads.spawn(move || {
                for n in 0.. {
                    // Every second batch comes late: it belongs before those that came before it.
                    let ago = if n % 2 == 0 { 500 } else { 600 };
                    let messages = [0, 1, 2].map(|more| message(1 + thread as u8, part(thread), ago, 3 * n + more));
                    store.append(NOW, &messages).unwrap();
                    println!("SAYS {thread} {n}");
                }
            });
        }
    });
}

#[test]
fn kill_9_during_writing_loses_no_acknowledged_message_and_the_tally_stays_right() {
    kill_9_loses_nothing(StorageLimits::default());
}

#[test]
fn kill_9_while_messages_become_blocks_and_blocks_are_written_anew_loses_nothing_either() {
    let blocks = kill_9_loses_nothing(StorageLimits::default().cache_bytes(1 << 10));
    assert!(blocks >= 8, "{blocks} blocks");
}

/// Answers how many blocks there were in the end.
fn kill_9_loses_nothing(limits: StorageLimits) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_appends_from_four_threads", "--nocapture"])
        .env(CHILD_DIR, dir.path())
        .env(CHILD_CACHE, limits.cache_bytes.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = || lines.by_ref().find_map(|line| Some(line.unwrap().split_once("SAYS ")?.1.to_owned()));
    let mut done = Vec::new();
    while done.len() < 100 {
        done.push(said().expect("it writes until it is killed"));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it said before it died still counts.
    done.extend(std::iter::from_fn(said));

    let store = SledMessageStore::open(dir.path(), limits).unwrap();
    let found: Vec<Vec<u32>> = (0..4)
        .map(|thread| {
            let (mut found, mut query) = (Vec::new(), Query::everything(part(thread)));
            loop {
                let page = store.read(&query).unwrap();
                found.extend(page.messages.iter().map(|stored| stored.place.at.sequence));
                let Some(next) = page.next else { break };
                query = query.after(Some(next));
            }
            found.sort_unstable();
            found
        })
        .collect();
    for line in &done {
        let (thread, n) = line.split_once(' ').unwrap();
        let (thread, n): (usize, u32) = (thread.parse().unwrap(), n.parse().unwrap());
        let there = |more| found[thread].binary_search(&(3 * n + more)).is_ok();
        assert!((0..3).all(there), "batch {n} of thread {thread} was acknowledged");
    }
    let total: usize = found.iter().map(Vec::len).sum();
    assert!(total.is_multiple_of(3) && total <= 3 * (done.len() + 4), "batches are whole: {total} of {}", done.len());
    assert_eq!(store.state().unwrap().messages, total as u64);
    std::fs::read_dir(dir.path().join("blocks")).unwrap().count()
}
