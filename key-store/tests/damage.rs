//! Files that are not what was written: each refused by its own error, the store unchanged.
#![allow(clippy::unwrap_used, reason = "a test may fall over")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use common::{contents, crash_image, numbered, open, quick, scope, try_open};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use veilcast_key_store::{KeyStore, RecordStore, SledKeyStore, StoreError, Unlock};

const KEYS: usize = 400;

fn filled(dir: &Path) -> SledKeyStore {
    let store = open(dir);
    for n in 0..KEYS {
        store.make_current(&scope("o/p"), &numbered(n), n as u64).unwrap();
    }
    store.write("grants", &[(b"g".to_vec(), Some(vec![7; 50_000]))]).unwrap();
    store
}

/// A store as a clean close leaves it.
fn closed() -> TempDir {
    static ONCE: OnceLock<TempDir> = OnceLock::new();
    copy_of(ONCE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        drop(filled(dir.path()));
        dir
    }))
}

/// A store as a crash leaves it.
fn crashed() -> TempDir {
    static ONCE: OnceLock<TempDir> = OnceLock::new();
    copy_of(ONCE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let store = filled(dir.path());
        let image = copy_of(&dir);
        drop(store);
        image
    }))
}

fn copy_of(dir: &TempDir) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    crash_image(dir.path(), copy.path());
    copy
}

fn db(dir: &Path) -> PathBuf {
    dir.join("sled/db")
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// Opens twice: the second attempt must meet the same files and say the same.
fn refused(dir: &Path) -> StoreError {
    let before = contents(dir);
    let fault = try_open(dir).unwrap_err();
    assert_eq!(contents(dir), before, "the refusal changed the store");
    assert_eq!(try_open(dir).unwrap_err().to_string(), fault.to_string());
    fault
}

#[test]
fn a_wrong_passphrase_is_a_wrong_passphrase_and_the_right_one_still_opens() {
    let dir = closed();
    let before = contents(dir.path());
    let wrong = Unlock::passphrase("rose");
    let fault = SledKeyStore::open_with(dir.path(), &wrong, &quick()).unwrap_err();
    assert!(matches!(fault, StoreError::WrongPassphrase), "{fault}");
    assert_eq!(contents(dir.path()), before);
    assert!(open(dir.path()).current(&scope("o/p")).unwrap().is_some());
}

#[test]
fn a_log_shortened_after_a_clean_close_is_truncated_by_however_little() {
    for lost in [1, 100, 5_000] {
        let dir = closed();
        edit(&db(dir.path()), |bytes| bytes.truncate(bytes.len() - lost));
        let fault = refused(dir.path());
        let StoreError::Truncated { expected, found, .. } = fault else { panic!("{fault}") };
        assert_eq!(expected - found, lost as u64);
    }
}

#[test]
fn a_log_shortened_after_a_crash_is_truncated_if_an_acknowledged_change_went_with_it() {
    for keep in [0, 20, 1_000, 40_000] {
        let dir = crashed();
        edit(&db(dir.path()), |bytes| bytes.truncate(keep));
        let fault = refused(dir.path());
        assert!(matches!(fault, StoreError::Truncated { found, .. } if found == keep as u64), "{fault}");
    }
    let dir = crashed();
    edit(&db(dir.path()), |bytes| bytes.truncate(bytes.len() - 1));
    let fault = refused(dir.path());
    assert!(matches!(fault, StoreError::Truncated { .. }), "the last byte belonged to the last change: {fault}");
}

#[test]
fn a_log_that_is_missing_altogether_is_truncated_and_no_fresh_store_takes_its_place() {
    for dir in [closed(), crashed()] {
        fs::remove_file(db(dir.path())).unwrap();
        assert!(matches!(refused(dir.path()), StoreError::Truncated { found: 0, .. }));
        fs::remove_dir_all(dir.path().join("sled")).unwrap();
        assert!(matches!(refused(dir.path()), StoreError::Truncated { found: 0, .. }));
    }
}

#[test]
fn a_flipped_bit_after_a_clean_close_is_damage_wherever_it_is() {
    let dir = closed();
    let whole = fs::read(db(dir.path())).unwrap();
    for at in [0, 5, 19, 20, 37, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
        edit(&db(dir.path()), |bytes| bytes[at] ^= 0x10);
        let fault = refused(dir.path());
        assert!(matches!(fault, StoreError::Damaged { .. }), "at {at}: {fault}");
        fs::write(db(dir.path()), &whole).unwrap();
    }
    assert!(open(dir.path()).current(&scope("o/p")).unwrap().is_some());
}

#[test]
fn a_flipped_bit_after_a_crash_is_damage_wherever_in_the_log_a_change_lies() {
    let dir = crashed();
    let whole = fs::read(db(dir.path())).unwrap();
    for at in [25, 37, whole.len() / 3, whole.len() / 2, whole.len() - 60, whole.len() - 1] {
        edit(&db(dir.path()), |bytes| bytes[at] ^= 0x10);
        let fault = refused(dir.path());
        assert!(matches!(fault, StoreError::Damaged { .. }), "at {at}: {fault}");
        fs::write(db(dir.path()), &whole).unwrap();
    }
    assert!(open(dir.path()).current(&scope("o/p")).unwrap().is_some());
}

#[test]
fn a_hole_in_an_older_part_of_the_log_is_damage_though_the_latest_changes_are_whole() {
    // Small enough that sled keeps them all in its log.
    const RECORDS: usize = 900;
    let (dir, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(dir.path());
    for n in 0..RECORDS {
        store.write("t", &[(format!("{n:03}").into(), Some(vec![7; 4_000]))]).unwrap();
    }
    crash_image(dir.path(), image.path());
    drop(store);

    let whole = fs::read(db(image.path())).unwrap();
    let segment = 512 * 1024;
    assert!(whole.len() > 4 * segment, "the log is long enough to have older parts");
    let mut refusals = 0;
    for at in (0..whole.len() - segment).step_by(segment / 2) {
        let copy = tempfile::tempdir().unwrap();
        crash_image(image.path(), copy.path());
        edit(&db(copy.path()), |bytes| bytes[at + 1_000] ^= 1);
        match try_open(copy.path()) {
            Ok(store) => assert_eq!(store.scan("t", b"", None, 2 * RECORDS).unwrap().len(), RECORDS, "at {at}"),
            Err(fault) => {
                assert!(matches!(fault, StoreError::Damaged { .. }), "at {at}: {fault}");
                refusals += 1;
            }
        }
    }
    assert!(refusals > 0, "some of it still counted");
}

#[test]
fn a_damaged_header_is_not_taken_for_a_wrong_passphrase() {
    let dir = closed();
    edit(&dir.path().join("header"), |bytes| bytes[40] ^= 1);
    let fault = refused(dir.path());
    assert!(matches!(&fault, StoreError::Damaged { what } if what.contains("header")), "{fault}");
}

#[test]
fn a_shortened_header_is_truncated_and_a_missing_one_never_makes_a_new_store() {
    let dir = closed();
    edit(&dir.path().join("header"), |bytes| bytes.truncate(50));
    assert!(matches!(refused(dir.path()), StoreError::Truncated { found: 50, .. }));
    fs::remove_file(dir.path().join("header")).unwrap();
    assert!(matches!(refused(dir.path()), StoreError::Damaged { .. }));
}

#[test]
fn a_store_of_a_newer_version_says_so() {
    let dir = closed();
    edit(&dir.path().join("header"), |bytes| {
        bytes[8] = 2;
        let body = bytes.len() - 32;
        let check = Sha256::digest(&bytes[..body]);
        bytes[body..].copy_from_slice(&check);
    });
    let fault = refused(dir.path());
    assert!(matches!(fault, StoreError::NewerVersion { found: 2, supported: 1 }), "{fault}");
    assert!(fault.to_string().contains("use a newer program"), "{fault}");
}

#[test]
fn a_state_file_that_is_damaged_shortened_or_gone_is_an_error() {
    let dir = closed();
    let state = dir.path().join("state");
    let whole = fs::read(&state).unwrap();
    edit(&state, |bytes| [10, 138].iter().for_each(|at| bytes[*at] ^= 1));
    assert!(matches!(refused(dir.path()), StoreError::Damaged { .. }));
    fs::write(&state, &whole[..200]).unwrap();
    assert!(matches!(refused(dir.path()), StoreError::Truncated { found: 200, .. }));
    fs::remove_file(&state).unwrap();
    assert!(matches!(refused(dir.path()), StoreError::Damaged { .. }));
}

#[test]
fn files_of_another_store_are_damage() {
    let (mine, theirs) = (closed(), tempfile::tempdir().unwrap());
    drop(filled(theirs.path()));
    fs::copy(db(theirs.path()), db(mine.path())).unwrap();
    let fault = refused(mine.path());
    assert!(matches!(fault, StoreError::Damaged { .. } | StoreError::Truncated { .. }), "{fault}");
}

#[test]
fn every_refusal_has_its_own_words_and_says_what_to_do() {
    let truncated = closed();
    edit(&db(truncated.path()), |bytes| bytes.truncate(1_000));
    let damaged = closed();
    edit(&db(damaged.path()), |bytes| bytes[100] ^= 1);
    for (dir, words) in [(&truncated, "truncated"), (&damaged, "damaged")] {
        let text = refused(dir.path()).to_string();
        assert!(text.contains(words) && text.contains("nothing was changed") && text.contains("backup"), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_store_damaged_anywhere_is_refused_or_whole_and_never_short_of_a_key(
        at: prop::sample::Index, bit in 0..8u8, clean: bool,
    ) {
        let dir = if clean { closed() } else { crashed() };
        edit(&db(dir.path()), |bytes| {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        });
        match try_open(dir.path()) {
            // After a crash a flipped bit may lie in bytes that no longer count.
            Ok(store) => {
                prop_assert!(!clean);
                for n in 0..KEYS {
                    let found = store.key(&scope("o/p"), numbered(n).id()).unwrap();
                    prop_assert!(found.is_some_and(|found| found.key.same_as(&numbered(n))), "key {} is gone", n);
                }
            }
            Err(fault) => {
                let refused = matches!(fault, StoreError::Damaged { .. } | StoreError::NewerVersion { .. });
                prop_assert!(refused, "unexpected: {fault}");
            }
        }
    }
}
