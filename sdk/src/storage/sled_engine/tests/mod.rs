//! The engine in small: blocks of some ten messages.

mod damage;
mod layouts;
mod model;

use std::time::Duration;

use super::*;
use crate::identity::Identity;
use crate::message::{Draft, Payload, compose};
use crate::storage::Place;
use crate::stream::StreamId;
use crate::wire::{MessageRef, Verified};

const NOW: Timestamp = Timestamp::from_secs(1_000_000);
/// A cache so small that a block has 4 KiB.
const SMALL: u64 = 64 << 10;

fn identity(byte: u8) -> Identity {
    Identity::from_secret_bytes(&[byte; 32]).unwrap()
}

fn part(stream: &str, number: u32) -> StreamPart {
    StreamId::of(identity(1).user(), stream).unwrap().part(number).unwrap()
}

/// A message of author `byte`, `ago` seconds old.
fn message(byte: u8, part: &StreamPart, ago: u64, sequence: u32) -> Verified<MessageContent> {
    let at = MessageRef { timestamp: NOW.minus(Duration::from_secs(ago)), sequence };
    let draft = Draft { part: part.clone(), chain: [byte; 16], at, previous: None, key_updates: Vec::new() };
    compose(draft, &Payload::text("x".repeat(100)), None, &identity(byte), &mut rand::rng()).unwrap()
}

/// So many of one author, the oldest first, a second apart.
fn messages(byte: u8, part: &StreamPart, count: u64) -> Vec<Verified<MessageContent>> {
    (1..=count).rev().map(|ago| message(byte, part, ago, 0)).collect()
}

fn small() -> StorageLimits {
    StorageLimits::default().cache_bytes(SMALL)
}

fn open(dir: &Path) -> SledMessageStore {
    SledMessageStore::open(dir, small()).unwrap()
}

/// What lies in sled, once the store has let go of it.
fn index(dir: &Path) -> sled::Db {
    let sled = dir.join("sled");
    wait_for_rest(&sled).unwrap();
    sled::open(sled).unwrap()
}

fn everything(store: &dyn MessageStore, query: Query) -> Vec<(Place, bytes::Bytes)> {
    let (mut found, mut query) = (Vec::new(), query);
    loop {
        let page = store.read(&query).unwrap();
        found.extend(page.messages.into_iter().map(|stored| (stored.place, stored.envelope)));
        let Some(next) = page.next else { return found };
        query = query.after(Some(next));
    }
}

fn block_files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir.join("blocks")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn memory_is_what_the_cache_allows_however_much_is_stored_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let (store, part) = (open(dir.path()), part("s", 0));
    for batch in messages(1, &part, 600).chunks(50) {
        store.append(NOW, batch).unwrap();
        assert!(store.view().fresh_bytes() <= store.sizes.fresh);
    }
    assert_eq!(everything(&store, Query::everything(part.clone())).len(), 600);
    assert!(store.files.cached() <= store.sizes.blocks && store.files.cached() > 0);
    // Many partitions with little in each.
    for number in 0..60 {
        store.append(NOW, &messages(1, &super::tests::part("many", number), 3)).unwrap();
        assert!(store.view().fresh_bytes() <= store.sizes.fresh);
    }
    let blocks = block_files(dir.path());
    assert!(blocks.len() > 50, "{}", blocks.len());
    assert!(blocks.iter().all(|path| path.metadata().unwrap().len() < 2 * store.sizes.block));
}

#[test]
fn little_at_a_time_does_not_end_in_a_crumb_for_each() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    // 100 partitions in turn: each time one of them has to give way, it has four or five messages.
    for n in (0..2000).rev() {
        store.append(NOW, &[message(1, &part("s", n as u32 % 100), n, 0)]).unwrap();
    }
    let most = (0..100).map(|number| store.view().part(&part("s", number)).blocks.len()).max().unwrap();
    assert!(most <= 5, "20 messages of one partition lie in {most} blocks");
}

#[test]
fn what_comes_late_here_and_there_waits_for_its_like_and_has_no_block_written_anew_for_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (store, part) = (open(dir.path()), part("s", 0));
    store.append(NOW, &messages(1, &part, 500)).unwrap();
    let before = block_files(dir.path());
    for ago in (1..=500).step_by(50) {
        store.append(NOW, &[message(2, &part, ago, 1)]).unwrap();
    }
    assert_eq!(block_files(dir.path()), before);
    // Enough for one block.
    store.append(NOW, &(10..40).map(|n| message(2, &part, 250, n)).collect::<Vec<_>>()).unwrap();
    let kept = block_files(dir.path()).iter().filter(|file| before.contains(file)).count();
    assert_eq!(kept, before.len() - 1, "one was written anew");
    assert_eq!(everything(&store, Query::everything(part)).len(), 540);
}

#[test]
fn the_last_are_counted_block_by_block_and_not_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let (store, part) = (open(dir.path()), part("s", 0));
    store.append(NOW, &messages(1, &part, 500)).unwrap();
    store.append(NOW, &[message(1, &part, 250, 1)]).unwrap();
    let ago = |beginning: &Beginning| NOW.since(beginning.first.unwrap().at.timestamp).as_secs();
    for n in [1, 10, 100, 249, 250] {
        assert_eq!(ago(&store.last(&part, &Filter::ALL, n).unwrap()), n);
    }
    for n in [252, 400, 501, 9999] {
        let beginning = store.last(&part, &Filter::ALL, n).unwrap();
        assert_eq!(ago(&beginning), (n - 1).min(500));
        assert!(beginning.looked_at < 100, "{beginning:?}");
    }
}

#[test]
fn one_publishers_messages_are_found_without_reading_the_blocks_that_have_none_of_him() {
    let dir = tempfile::tempdir().unwrap();
    let (store, part) = (open(dir.path()), part("s", 0));
    store.append(NOW, &messages(1, &part, 500)).unwrap();
    store.append(NOW, &messages(2, &part, 20)).unwrap();
    store.append(NOW, &[message(2, &part, 400, 0)]).unwrap();
    // Away from what is new.
    store.append(NOW, &messages(1, &super::tests::part("t", 0), 100)).unwrap();
    let filter = Filter::publisher(identity(2).user());
    let page = store.read(&Query::everything(part.clone()).filter(filter)).unwrap();
    assert_eq!((page.messages.len(), page.next), (21, None));
    assert!(store.view().part(&part).blocks.len() > 40 && page.looked_at < 21 + 8 * 64, "{}", page.looked_at);
    let beginning = store.last(&part, &filter, 21).unwrap();
    assert_eq!(NOW.since(beginning.first.unwrap().at.timestamp).as_secs(), 400);
    assert!(beginning.looked_at < 21 + 8 * 64);
}

#[test]
fn who_reads_a_block_that_is_given_up_reads_it_to_its_end_and_then_its_file_goes() {
    let dir = tempfile::tempdir().unwrap();
    let part = part("s", 0);
    let store = SledMessageStore::open(dir.path(), small().max_age(Some(Duration::from_secs(500)))).unwrap();
    store.append(NOW, &messages(1, &part, 100)).unwrap();
    let held = store.view().part(&part);
    assert_eq!(store.evict(NOW.plus(Duration::from_secs(1000))).unwrap(), 100);
    assert_eq!(store.state().unwrap(), StorageState::default());
    let walk = walk::Walk::forward(&store.files, &held, std::ops::Bound::Unbounded, None);
    assert_eq!(walk.map(Result::unwrap).count(), 100);
    assert!(!block_files(dir.path()).is_empty());
    drop(held);
    assert_eq!(block_files(dir.path()), Vec::<std::path::PathBuf>::new());
}
