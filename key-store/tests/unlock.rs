//! Passphrases and key files.
#![allow(clippy::unwrap_used, reason = "a test may fall over")]

mod common;

use std::fs;

use common::{Other, child_dir, contents, numbered, open, quick, say, scope, try_open, tulip};
use veilcast_key_store::{KdfCost, KeyStore, SledKeyStore, StoreConfig, StoreError, Unlock};

fn rose() -> Unlock {
    Unlock::passphrase("rose")
}

#[test]
fn a_new_passphrase_rewraps_one_data_key_and_touches_no_other_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..50 {
        store.make_current(&scope("o/p"), &numbered(n), n as u64).unwrap();
    }
    drop(store);
    let before = contents(dir.path());

    SledKeyStore::change_unlock(dir.path(), &tulip(), &rose()).unwrap();

    let after = contents(dir.path());
    let changed: Vec<_> = after.iter().filter(|(path, bytes)| before.get(*path) != Some(bytes)).collect();
    assert_eq!(changed.len(), 1);
    assert_eq!(changed[0].0, &dir.path().join("header"));
    assert_eq!(before.len(), after.len());

    assert!(matches!(try_open(dir.path()).unwrap_err(), StoreError::WrongPassphrase));
    let store = SledKeyStore::open_with(dir.path(), &rose(), &quick()).unwrap();
    for n in 0..50 {
        assert!(store.key(&scope("o/p"), numbered(n).id()).unwrap().unwrap().key.same_as(&numbered(n)));
    }
}

#[test]
fn a_change_with_the_wrong_old_passphrase_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let before = contents(dir.path());
    let fault = SledKeyStore::change_unlock(dir.path(), &rose(), &Unlock::passphrase("iris")).unwrap_err();
    assert!(matches!(fault, StoreError::WrongPassphrase));
    assert_eq!(contents(dir.path()), before);
    open(dir.path());
}

#[test]
fn a_change_waits_for_nobody_and_says_that_the_store_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let _store = open(dir.path());
    let fault = SledKeyStore::change_unlock(dir.path(), &tulip(), &rose()).unwrap_err();
    assert!(matches!(fault, StoreError::InUse { .. }));
}

#[test]
fn whoever_has_the_store_open_lets_another_passphrase_open_it_and_goes_on() {
    let (dir, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(dir.path());
    store.make_current(&scope("o/p"), &numbered(0), 0).unwrap();
    let fault = store.rewrap_open(dir.path(), &rose(), &tulip(), into.path()).unwrap_err();
    assert!(matches!(fault, StoreError::WrongPassphrase));
    store.rewrap_open(dir.path(), &tulip(), &rose(), into.path()).unwrap();
    fs::rename(into.path().join("header"), dir.path().join("header")).unwrap();
    store.make_current(&scope("o/p"), &numbered(1), 1).unwrap();
    drop(store);
    assert!(matches!(try_open(dir.path()).unwrap_err(), StoreError::WrongPassphrase));
    let store = SledKeyStore::open_with(dir.path(), &rose(), &quick()).unwrap();
    for n in 0..2 {
        assert!(store.key(&scope("o/p"), numbered(n).id()).unwrap().unwrap().key.same_as(&numbered(n)));
    }
}

#[test]
fn a_change_where_there_is_no_store_says_so_and_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let fault = SledKeyStore::change_unlock(dir.path(), &tulip(), &rose()).unwrap_err();
    assert!(matches!(fault, StoreError::NotAStore { .. }));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// Started by the test below in a process of its own; does nothing in an ordinary run.
#[test]
fn child_changes_the_passphrase_to_and_fro() {
    let Some(dir) = child_dir() else { return };
    loop {
        SledKeyStore::change_unlock(&dir, &tulip(), &rose()).unwrap();
        say("changed");
        SledKeyStore::change_unlock(&dir, &rose(), &tulip()).unwrap();
        say("changed");
    }
}

#[test]
fn killed_while_changing_the_passphrase_either_the_old_or_the_new_one_opens() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).make_current(&scope("o/p"), &numbered(1), 1).unwrap();
    for changes in [1, 4, 9] {
        let mut other = Other::start("child_changes_the_passphrase_to_and_fro", dir.path());
        for _ in 0..changes {
            assert_eq!(other.heard().as_deref(), Some("changed"));
        }
        other.kill();
        let opened: Vec<_> = [tulip(), rose()]
            .iter()
            .filter_map(|unlock| match SledKeyStore::open_with(dir.path(), unlock, &quick()) {
                Ok(store) => Some(store.key(&scope("o/p"), numbered(1).id()).unwrap().unwrap()),
                Err(StoreError::WrongPassphrase) => None,
                Err(fault) => panic!("{fault}"),
            })
            .collect();
        assert_eq!(opened.len(), 1);
        assert!(opened[0].key.same_as(&numbered(1)));
        // Back to where the child starts from.
        if try_open(dir.path()).is_err() {
            SledKeyStore::change_unlock(dir.path(), &rose(), &tulip()).unwrap();
        }
    }
}

#[test]
fn a_header_left_half_written_by_a_change_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    fs::write(dir.path().join("header.tmp"), b"half a head").unwrap();
    open(dir.path());
    SledKeyStore::change_unlock(dir.path(), &tulip(), &rose()).unwrap();
    SledKeyStore::open_with(dir.path(), &rose(), &quick()).unwrap();
}

#[test]
fn a_key_file_is_made_with_a_new_store_and_opens_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store_dir, path) = (dir.path().join("keys"), dir.path().join("keys.unlock"));
    let unlock = Unlock::KeyFile(path.clone());
    SledKeyStore::open(&store_dir, &unlock).unwrap().make_current(&scope("o/p"), &numbered(1), 1).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.trim_end().len(), 64);
    assert!(text.trim_end().bytes().all(|c| c.is_ascii_hexdigit()));
    assert!(SledKeyStore::open(&store_dir, &unlock).unwrap().current(&scope("o/p")).unwrap().is_some());

    fs::write(&path, format!("{}\n", "00".repeat(32))).unwrap();
    assert!(matches!(SledKeyStore::open(&store_dir, &unlock).unwrap_err(), StoreError::WrongPassphrase));
    for bad in ["", "zz", &"00".repeat(31), &"00".repeat(33)] {
        fs::write(&path, bad).unwrap();
        let fault = SledKeyStore::open(&store_dir, &unlock).unwrap_err();
        assert!(matches!(fault, StoreError::KeyFileFormat { .. }), "{bad:?}: {fault}");
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(SledKeyStore::open(&store_dir, &unlock).unwrap_err(), StoreError::KeyFileMissing { .. }));
    assert!(!path.exists(), "a store that exists never gets a new key file");
}

#[cfg(unix)]
#[test]
fn a_key_file_others_may_read_is_refused_with_its_mode() {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().unwrap();
    let (store_dir, path) = (dir.path().join("keys"), dir.path().join("keys.unlock"));
    let unlock = Unlock::KeyFile(path.clone());
    drop(SledKeyStore::open(&store_dir, &unlock).unwrap());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&store_dir).unwrap().permissions().mode() & 0o777, 0o700);
    for mode in [0o640, 0o604, 0o610, 0o666] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let fault = SledKeyStore::open(&store_dir, &unlock).unwrap_err();
        assert!(matches!(&fault, StoreError::KeyFilePermissions { mode: found, .. } if *found == mode), "{fault}");
        assert!(fault.to_string().contains("chmod 600"), "{fault}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    drop(SledKeyStore::open(&store_dir, &unlock).unwrap());
}

#[test]
fn a_passphrase_store_becomes_a_key_file_store_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let (store_dir, path) = (dir.path().join("keys"), dir.path().join("keys.unlock"));
    open(&store_dir).make_current(&scope("o/p"), &numbered(1), 1).unwrap();
    let file = Unlock::KeyFile(path);
    SledKeyStore::change_unlock(&store_dir, &tulip(), &file).unwrap();
    let fault = try_open(&store_dir).unwrap_err();
    assert!(matches!(fault, StoreError::WrongUnlockKind { expected: "key file" }), "{fault}");
    assert!(SledKeyStore::open(&store_dir, &file).unwrap().current(&scope("o/p")).unwrap().is_some());

    let cost = KdfCost { memory_kib: 8, passes: 1, lanes: 1 };
    SledKeyStore::change_unlock_with(&store_dir, &file, &tulip(), cost).unwrap();
    let fault = SledKeyStore::open(&store_dir, &file).unwrap_err();
    assert!(matches!(fault, StoreError::WrongUnlockKind { expected: "passphrase" }), "{fault}");
    assert!(open(&store_dir).current(&scope("o/p")).unwrap().is_some());
}

#[test]
fn a_cost_out_of_range_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for cost in [
        KdfCost { memory_kib: 0, passes: 1, lanes: 1 },
        KdfCost { memory_kib: 8, passes: 0, lanes: 1 },
        KdfCost { memory_kib: 8, passes: 1, lanes: 0 },
        KdfCost { memory_kib: u32::MAX, passes: 1, lanes: 1 },
    ] {
        let fault = SledKeyStore::open_with(dir.path(), &tulip(), &StoreConfig::default().kdf(cost)).unwrap_err();
        assert!(matches!(fault, StoreError::KdfCost { .. }), "{cost:?}: {fault}");
    }
}

#[test]
fn the_default_cost_is_64_mib_three_passes_one_lane_and_a_64_mib_cache() {
    assert_eq!(KdfCost::default(), KdfCost { memory_kib: 65_536, passes: 3, lanes: 1 });
    assert_eq!(StoreConfig::default().cache_bytes, 64 * 1024 * 1024);
}

#[test]
fn debug_of_what_holds_a_secret_shows_none_of_it() {
    assert_eq!(format!("{:?}", Unlock::passphrase("tulip")), "Passphrase(..)");
    let file = Unlock::KeyFile("/etc/veilcast/unlock".into());
    assert_eq!(format!("{file:?}"), r#"KeyFile("/etc/veilcast/unlock")"#);
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert_eq!(format!("{store:?}"), "SledKeyStore { .. }");
    assert_eq!(format!("{:?}", veilcast_key_store::MemoryKeyStore::new()), "MemoryKeyStore { .. }");
    store.make_current(&scope("o/p"), &numbered(1), 1).unwrap();
    let stored = store.current(&scope("o/p")).unwrap().unwrap();
    let expected = r#"StoredKey { key: GroupKey { id: KeyId("key-1"), .. }, since: 1, until: None, origin: Made }"#;
    assert_eq!(format!("{stored:?}"), expected);
}
