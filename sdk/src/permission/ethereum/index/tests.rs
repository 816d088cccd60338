//! The index beside its follower: what lies in the store, whole, half written or damaged.

use std::sync::atomic::{AtomicUsize, Ordering};

use veilcast_key_store::{MemoryKeyStore, Record, RecordChange};

use super::*;
use crate::permission::Subscriber;
use crate::time::Timestamp;

const HEAD: u64 = 1000;

fn stream() -> StreamId {
    StreamId::of(UserId::from_bytes([1; 20]), "s").unwrap()
}

fn user(n: u8) -> UserId {
    UserId::from_bytes([n; 20])
}

const fn block(number: u64) -> Block {
    Block { number, hash: [7; 32], time: 5000 + number }
}

/// `who` may subscribe until this second, by the block `at`.
fn until(at: u64, who: u8, end: u64) -> Placed {
    let (publish, subscribe) = (Expiration::NONE, Expiration::at(end));
    let event = RegistryEvent::Permission { stream: stream(), user: user(who), publish, subscribe };
    Placed { at: Position { block: at, index: who.into() }, time: Some(5000 + at), event }
}

fn limits() -> IndexLimits {
    IndexLimits { start: 0, confirmations: 0, entries: 100 }
}

fn open(records: &Arc<dyn RecordStore>) -> Result<Index, IndexError> {
    Index::open(records.clone(), 137, user(9), limits())
}

/// Who is listed until when, with the contract saying what the events say.
fn listed(index: &mut Index) -> Vec<(UserId, u64)> {
    loop {
        match index.survey(&stream()).unwrap() {
            Survey::Whole(listing) => {
                let end = |one: &Subscriber| (one.user, one.grant.ends().map_or(0, Timestamp::as_secs));
                return listing.subscribers().iter().map(end).collect();
            }
            Survey::Lacks(lack) => {
                let end = |who: &UserId| Expiration::at(90_000 + u64::from(who.as_bytes()[0]));
                let held = |who| (who, Held { publish: Expiration::NONE, subscribe: end(&who) });
                let reads: Vec<_> = lack.users.iter().copied().map(held).collect();
                index.supply(&stream(), &lack, &BTreeMap::new(), &reads).unwrap();
            }
            Survey::Full => panic!("there is room"),
        }
    }
}

/// Ends as the contract of [`listed`] says them.
fn sold(at: u64, who: u8) -> Placed {
    until(at, who, 90_000 + u64::from(who))
}

/// A disk that fails from the n-th write on.
struct Failing {
    disk: Arc<dyn RecordStore>,
    writes_left: AtomicUsize,
}

impl RecordStore for Failing {
    fn get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.disk.get(table, key)
    }
    fn write(&self, table: &str, changes: &[RecordChange]) -> Result<(), StoreError> {
        let left = self.writes_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        left.map_err(|_| StoreError::Damaged { what: "the disk".into() })?;
        self.disk.write(table, changes)
    }
    fn scan(&self, table: &str, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.disk.scan(table, prefix, after, limit)
    }
}

#[test]
fn wherever_the_process_dies_the_index_goes_on_with_whole_blocks_and_loses_none() {
    for writes in 0..12 {
        let disk: Arc<dyn RecordStore> = Arc::new(MemoryKeyStore::default());
        let mut index = open(&disk).unwrap();
        index.follow(&stream()).unwrap();
        index.advance(block(900), HEAD, &[sold(900, 2)]).unwrap();
        drop(index);
        let dying: Arc<dyn RecordStore> =
            Arc::new(Failing { disk: disk.clone(), writes_left: AtomicUsize::new(writes) });
        let died = (|| {
            let mut index = open(&dying)?;
            index.advance(block(910), HEAD, &[sold(905, 3), until(908, 2, 0)])?;
            index.step_back(Some(&block(900)))?;
            index.advance(block(911), HEAD, &[sold(911, 4)])?;
            index.save()
        })();
        let mut index = open(&disk).unwrap();
        let at = index.cursor().unwrap().number;
        // What the chain came to at last, read again where the cursor says.
        if at == 910 {
            index.step_back(Some(&block(900))).unwrap();
        }
        if at < 911 {
            index.advance(block(911), HEAD, &[sold(911, 4)]).unwrap();
        }
        assert_eq!(listed(&mut index), [(user(2), 90_002), (user(4), 90_004)], "after {writes} writes: {died:?}");
        assert!(at == 911 || died.is_err(), "after {writes} writes");
    }
}

#[test]
fn records_that_are_damaged_or_newer_are_an_error_and_stay_as_they_are() {
    let disk: Arc<dyn RecordStore> = Arc::new(MemoryKeyStore::default());
    let mut index = open(&disk).unwrap();
    index.follow(&stream()).unwrap();
    index.advance(block(900), HEAD, &[sold(900, 2)]).unwrap();
    let (root, place) = (index.root, Place { stream: StreamKey::of(&stream()), user: Some(user(2)) });
    drop(index);
    // The version of a record comes first, in protobuf behind the number of its field.
    for (key, version) in [(root.meta(), 1), (root.entry(place), 1), (root.followed_stream(&stream()), 0)] {
        let whole = disk.get(TABLE, &key).unwrap();
        let mut newer = whole.clone().unwrap();
        newer[version] += 1;
        for wrong in [vec![0xff; 40], vec![], newer] {
            disk.write(TABLE, &[(key.clone(), Some(wrong.clone()))]).unwrap();
            let seen = open(&disk).and_then(|mut index| {
                index.advance(block(901), HEAD, &[until(901, 2, 0)])?;
                index.survey(&stream()).map(drop)
            });
            assert!(matches!(seen, Err(IndexError::Record)), "{key:?} {wrong:?} {seen:?}");
            assert_eq!(disk.get(TABLE, &key).unwrap(), Some(wrong));
        }
        disk.write(TABLE, &[(key, whole)]).unwrap();
    }
    assert_eq!(listed(&mut open(&disk).unwrap()), [(user(2), 90_002)]);
}

#[test]
fn one_store_serves_several_registries() {
    let disk: Arc<dyn RecordStore> = Arc::new(MemoryKeyStore::default());
    let registries = [(137, user(9)), (137, user(8)), (80_002, user(9))];
    for ((chain, contract), who) in registries.into_iter().zip(2..) {
        let mut index = Index::open(disk.clone(), chain, contract, limits()).unwrap();
        index.follow(&stream()).unwrap();
        index.advance(block(900), HEAD, &[sold(900, who)]).unwrap();
    }
    for ((chain, contract), who) in registries.into_iter().zip(2..) {
        let mut index = Index::open(disk.clone(), chain, contract, limits()).unwrap();
        assert_eq!(listed(&mut index), [(user(who), 90_000 + u64::from(who))]);
    }
    let before = disk.scan(TABLE, &[], None, 1000).unwrap().len();
    let mut index = open(&disk).unwrap();
    index.step_back(None).unwrap();
    assert!(disk.scan(TABLE, &[], None, 1000).unwrap().len() < before);
    assert_eq!(listed(&mut Index::open(disk, 137, user(8), limits()).unwrap()).len(), 1);
}

#[test]
fn of_a_user_whose_permission_changes_without_end_the_newest_changes_are_kept() {
    let disk: Arc<dyn RecordStore> = Arc::new(MemoryKeyStore::default());
    let mut index = open(&disk).unwrap();
    index.follow(&stream()).unwrap();
    for at in 1..=600 {
        let end = if at % 2 == 0 { 90_002 } else { 0 };
        index.advance(block(at), HEAD, &[until(at, 2, end)]).unwrap();
    }
    assert_eq!(listed(&mut index), [(user(2), 90_002)]);
    let record = disk.get(TABLE, &index.root.entry(Place { stream: StreamKey::of(&stream()), user: Some(user(2)) }));
    assert!(record.unwrap().unwrap().len() < 2048);
    let journal = disk.scan(TABLE, &index.root.journal(), None, 1000).unwrap().len();
    assert!(journal <= 600, "{journal}");
}
