//! Stores of earlier and later versions of this program, and what a crash leaves.

use super::keys::Keys;
use super::*;
use crate::storage::memory::size_of;

/// As layout 1 had it.
fn of_layout_1(dir: &Path, all: &[Verified<MessageContent>]) {
    let db = index(dir);
    for message in all {
        let (keys, place) = (Keys::of(&message.content().part), Place::from(message.content()));
        db.insert(keys.message(&place), [&[1], message.envelope().as_ref()].concat()).unwrap();
        db.insert(keys.old_by_publisher(&place), &[]).unwrap();
    }
    db.insert("#", &[[1].as_slice(), &[7; 16]].concat()[..]).unwrap();
    let stream = all[0].content().part.stream().clone();
    db.insert(format!("s{stream}"), &[[1].as_slice(), &[7; 16]].concat()[..]).unwrap();
}

fn tables(dir: &Path) -> String {
    let db = index(dir);
    let mut tables: Vec<char> = db.iter().keys().map(|key| char::from(key.unwrap()[0])).collect();
    tables.dedup();
    tables.into_iter().collect()
}

#[test]
fn a_store_of_the_first_layout_is_brought_to_that_of_today_and_has_everything() {
    let dir = tempfile::tempdir().unwrap();
    let parts = [part("s", 0), part("s", 1), part("t", 0)];
    let all: Vec<_> = parts.iter().zip([70, 3, 40]).flat_map(|(part, count)| messages(1, part, count)).collect();
    of_layout_1(dir.path(), &all);
    let has_all = |store: &SledMessageStore| {
        for part in &parts {
            let own = all.iter().filter(|message| message.content().part == *part);
            let own: Vec<_> = own.map(|message| message.envelope().clone()).collect();
            let found = everything(store, Query::everything(part.clone())).into_iter().map(|(_, envelope)| envelope);
            assert_eq!(found.collect::<Vec<_>>(), own);
        }
        let bytes = all.iter().map(|message| size_of(message.envelope())).sum();
        let state = store.state().unwrap();
        assert_eq!((state.messages, state.bytes), (all.len() as u64, bytes));
    };
    has_all(&open(dir.path()));
    assert_eq!(tables(dir.path()), "bmv");
    assert!(block_files(dir.path()).len() > 5);
    // Interrupted before the last step.
    index(dir.path()).remove(Keys::LAYOUT).unwrap();
    has_all(&open(dir.path()));
    assert_eq!(open(dir.path()).append(NOW, &all).unwrap().known, all.len());
}

#[test]
fn a_store_of_a_later_layout_is_said_to_be_one() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    index(dir.path()).insert(Keys::LAYOUT, &[3]).unwrap();
    let opened = SledMessageStore::open(dir.path(), small());
    assert!(matches!(opened, Err(StorageError::NewerVersion { found: 3, supported: 2 })), "{opened:?}");
}

#[test]
fn files_that_a_crash_left_go_when_the_store_is_opened_and_their_numbers_are_not_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let part = part("s", 0);
    open(dir.path()).append(NOW, &messages(1, &part, 30)).unwrap();
    let before = block_files(dir.path());
    let stray = dir.path().join("blocks").join(format!("{:016x}", 4000));
    fs::write(&stray, "half a block").unwrap();
    let store = open(dir.path());
    assert_eq!(block_files(dir.path()), before);
    store.append(NOW, &messages(2, &part, 30)).unwrap();
    assert!(block_files(dir.path()).last().unwrap() > &stray);
    assert_ne!(store.state().unwrap(), StorageState::default());
}
