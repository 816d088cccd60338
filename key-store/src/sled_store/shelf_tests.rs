//! Damage inside a record, which sled's own checksums would hide from a test that edits files.

use zeroize::Zeroizing;

use super::*;

fn shelf(dir: &Path) -> SledShelf {
    let seal = Arc::new(Seal::new(&Box::new(Zeroizing::new([1; 32]))));
    let state = State::create(dir, Arc::clone(&seal)).unwrap();
    SledShelf::open(dir, seal, state, 1 << 20).unwrap()
}

fn put(shelf: &SledShelf, place: &[u8], plain: &[u8]) {
    shelf.apply(Changes::from([(place.to_vec(), Some(Zeroizing::new(plain.to_vec())))])).unwrap();
    shelf.settle().unwrap();
}

#[test]
fn a_damaged_record_and_one_of_a_newer_version_are_distinct_errors_and_stay_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = shelf(dir.path());
    put(&shelf, b"ka", b"one");
    put(&shelf, b"kb", b"two");

    let mut damaged = shelf.db.get(b"ka").unwrap().unwrap().to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    shelf.db.insert(b"ka", &*damaged).unwrap();
    let mut newer = shelf.db.get(b"kb").unwrap().unwrap().to_vec();
    newer[0] = 9;
    shelf.db.insert(b"kb", &*newer).unwrap();

    assert!(matches!(shelf.read(b"ka").unwrap_err(), StoreError::Damaged { .. }));
    assert!(matches!(shelf.read(b"kb").unwrap_err(), StoreError::NewerVersion { found: 9, supported: 1 }));
    assert_eq!(shelf.db.get(b"ka").unwrap().unwrap(), &*damaged);
    assert_eq!(shelf.db.get(b"kb").unwrap().unwrap(), &*newer);
}

#[test]
fn a_record_put_in_another_ones_place_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = shelf(dir.path());
    put(&shelf, b"ka", b"one");
    put(&shelf, b"kb", b"two");
    let foreign = shelf.db.get(b"kb").unwrap().unwrap();
    shelf.db.insert(b"ka", foreign).unwrap();
    assert!(matches!(shelf.read(b"ka").unwrap_err(), StoreError::Damaged { .. }));
}

#[test]
fn the_tally_counts_records_and_not_writes() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = shelf(dir.path());
    put(&shelf, b"ka", b"one");
    put(&shelf, b"ka", b"two");
    put(&shelf, b"kb", b"three");
    shelf.apply(Changes::from([(b"kb".to_vec(), None), (b"kc".to_vec(), None)])).unwrap();
    shelf.settle().unwrap();
    assert_eq!(*lock(&shelf.tally), Tally { seq: 4, records: 1 });
    assert_eq!(read_tally(&shelf.db, &shelf.seal).unwrap(), Tally { seq: 4, records: 1 });
    assert_eq!(count_records(&shelf.db, &shelf.seal).unwrap(), 1);
}

#[test]
fn a_large_record_outside_the_log_is_synced_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = shelf(dir.path());
    let large = vec![7; 200 * 1024];
    put(&shelf, b"ra", &large);
    assert_eq!(shelf.closing.log.blobs_known(), 1);
    assert_eq!(&**shelf.read(b"ra").unwrap().unwrap(), &large);
}

#[test]
fn a_record_that_sled_lost_while_it_kept_later_ones_is_damage_at_the_next_opening() {
    let (dir, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let shelf = shelf(dir.path());
    put(&shelf, b"ka", b"one");
    put(&shelf, b"kb", b"two");
    let check = |image: &Path| {
        files::copy_tree(dir.path(), image).unwrap();
        let state = State::load(image, Arc::clone(&shelf.seal)).unwrap();
        crate::sled_store::recover::check(image, &state, &shelf.seal, 1 << 20)
    };
    check(&image.path().join("whole")).unwrap();

    shelf.db.remove(b"ka").unwrap();
    shelf.db.flush().unwrap();
    let fault = check(&image.path().join("short")).unwrap_err();
    assert!(matches!(fault, StoreError::Damaged { .. }), "{fault}");
}

#[test]
fn the_cache_and_what_sled_takes_beside_it_come_to_what_the_store_may_take() {
    const MIB: u64 = 1 << 20;
    for (memory, log_len) in [(64, 0), (64, 100), (64, 400), (256, 533), (1024, 5_000)] {
        let (memory, log_len) = (memory * MIB, log_len * MIB);
        let takes = sled_cache(memory, log_len) * 3 / 2 + log_len / LOG_FOR_NOTES + SLED_BUFFERS;
        assert!(takes <= memory && takes + 16 > memory, "{takes} of {memory}");
    }
    // Too many keys for so little: an eighth it has all the same.
    assert_eq!(sled_cache(64 * MIB, 600 * MIB), 8 * MIB);
    assert_eq!(sled_cache(0, 0), LEAST_CACHE);
}
