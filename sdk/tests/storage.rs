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
            let place = store.last(&part(0), &filter, n).unwrap();
            place.map(|place: Place| NOW.since(place.at.timestamp).as_secs())
        };
        assert_eq!([1, 3, 10, 11].map(|n| begin(Filter::ALL, n)), [Some(1), Some(3), Some(10), Some(10)]);
        let odd = Filter::publisher(identity(2).user());
        assert_eq!([1, 3, 9].map(|n| begin(odd, n)), [Some(1), Some(5), Some(9)]);
        assert_eq!(begin(Filter::chain(identity(2).user(), [2; 16]), 2), Some(3));
        assert_eq!(begin(Filter::ALL, 0), None);
        assert_eq!(store.last(&part(7), &Filter::ALL, 5).unwrap(), None);
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

/// Started by the test below in a process of its own; does nothing in an ordinary run.
#[test]
fn child_appends_from_four_threads() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let store = SledMessageStore::open(Path::new(&dir), StorageLimits::default()).unwrap();
    std::thread::scope(|threads| {
        for thread in 0..4 {
            let store = &store;
            threads.spawn(move || {
                for n in 0.. {
                    let messages = [0, 1, 2].map(|more| message(1 + thread as u8, part(thread), 500, 3 * n + more));
                    store.append(NOW, &messages).unwrap();
                    println!("SAYS {thread} {n}");
                }
            });
        }
    });
}

#[test]
fn kill_9_during_writing_loses_no_acknowledged_message_and_the_tally_stays_right() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_appends_from_four_threads", "--nocapture"])
        .env(CHILD_DIR, dir.path())
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

    let store = SledMessageStore::open(dir.path(), StorageLimits::default()).unwrap();
    let found: Vec<Vec<u32>> = (0..4)
        .map(|thread| {
            let (mut found, mut query) = (Vec::new(), Query::everything(part(thread)));
            loop {
                let page = store.read(&query).unwrap();
                found.extend(page.messages.iter().map(|stored| stored.place.at.sequence));
                let Some(next) = page.next else { return found };
                query = query.after(Some(next));
            }
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
}
