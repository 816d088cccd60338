//! Backups and exports: what goes in comes out, and nothing else does.
#![allow(clippy::unwrap_used, reason = "a test may fall over")]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    io::{Cursor, Write},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use common::{Other, child_dir, contents, crash_image, id, numbered, open, quick, say, scope};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use veilcast_key_store::{
    GroupKey, KdfCost, KeyOrigin, KeyScope, KeyStore, MemoryKeyStore, RecordStore, SledKeyStore, StoredKey, TimeRange,
    Unlock,
    durable::{OldFiles, Placing},
    portable::{self, Attachment, Incoming, Kind, PortableError, PortableFile, Progress, Sealing, Step, Summary},
};
use zeroize::Zeroizing;

const PASSPHRASE: &str = "a long one for the drawer";
/// The length of a file's head.
const HEAD: usize = 163;
const RECORD: &[u8] = b"who bought what, and until when";

fn sealing() -> Sealing<'static> {
    let mut sealing = Sealing::new(PASSPHRASE);
    sealing.cost = KdfCost { memory_kib: 8, passes: 1, lanes: 1 };
    sealing
}

fn rose() -> Unlock {
    Unlock::passphrase("rose")
}

fn attachment() -> Attachment {
    Attachment { name: "identity.json".into(), contents: Zeroizing::new(b"{\"crypto\":1}".to_vec()) }
}

/// Keys of every origin, with and without an end, current and not, under random and given ids; records in several tables.
fn fill(store: &SledKeyStore, keys: usize) {
    for n in 0..keys {
        store.make_current(&scope("o/made"), &numbered(n), 1000 + n as u64).unwrap();
    }
    store.make_current(&scope("o/one"), &GroupKey::generate(&mut rand::rng()), 7).unwrap();
    let other = KeyScope::new([0x22; 20], "o/made");
    store.add(&other, &numbered(1), 5, Some(9), KeyOrigin::Received).unwrap();
    store.add(&other, &numbered(2), 9, None, KeyOrigin::PreAgreed).unwrap();
    // Known before it became current: its period begins earlier than its time as the current one.
    store.add(&scope("o/agreed"), &numbered(3), 1, None, KeyOrigin::PreAgreed).unwrap();
    store.make_current(&scope("o/agreed"), &numbered(3), 50).unwrap();
    store.write("grants", &[(b"g".to_vec(), Some(RECORD.to_vec())), (vec![0, 255], Some(vec![]))]).unwrap();
    store.write("ledger", &[(vec![b'k'; 1024], Some(vec![7; 64 * 1024]))]).unwrap();
}

/// All of a store, in words that can be compared.
fn told(store: &SledKeyStore) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for scope in store.scopes().unwrap() {
        let current = store.current(&scope).unwrap().map(|stored| stored.key.id().clone());
        all.insert(format!("{scope:?} current"), format!("{current:?}"));
        for stored in store.history(&scope, TimeRange::ALL, None, 100_000).unwrap() {
            let StoredKey { key, since, until, origin } = &stored;
            let told = format!("{:?} {since} {until:?} {origin:?}", key.expose());
            all.insert(format!("{scope:?} {}", key.id()), told);
        }
    }
    for table in ["grants", "ledger"] {
        for (key, value) in store.scan(table, b"", None, 1_000).unwrap() {
            all.insert(format!("{table} {key:?}"), format!("{value:?}"));
        }
    }
    all
}

fn back_up(store: &SledKeyStore, path: &Path) -> Summary {
    portable::back_up(store, &[attachment()], path, &sealing(), false, &mut |_| {}).unwrap()
}

/// A filled store, closed, and a backup of it.
struct Kept {
    _folder: TempDir,
    dir: PathBuf,
    path: PathBuf,
}

fn kept() -> &'static Kept {
    static ONCE: OnceLock<Kept> = OnceLock::new();
    ONCE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let (dir, path) = (folder.path().join("store"), folder.path().join("backup"));
        let store = open(&dir);
        fill(&store, 2_000);
        back_up(&store, &path);
        drop(store);
        Kept { _folder: folder, dir, path }
    })
}

/// A copy to open and write.
fn copy_of(dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    crash_image(dir, copy.path());
    copy
}

fn restore(bytes: &[u8], dir: &Path) -> Result<(Summary, Vec<Attachment>), PortableError> {
    let mut file = PortableFile::from_reader(Cursor::new(bytes), PASSPHRASE)?;
    portable::restore(&mut file, dir, &rose(), &quick(), &mut |_| {})
}

fn open_restored(dir: &Path) -> SledKeyStore {
    SledKeyStore::open_with(dir, &rose(), &quick()).unwrap()
}

#[test]
fn a_restored_store_holds_every_key_period_origin_and_record_and_goes_on_from_there() {
    let (target, whole) = (tempfile::tempdir().unwrap(), fs::read(&kept().path).unwrap());
    let dir = target.path().join("store");
    let (summary, files) = restore(&whole, &dir).unwrap();
    assert_eq!((summary.keys, summary.records, summary.files), (2_004, 3, 1));
    assert_eq!((files[0].name.as_str(), &files[0].contents[..]), ("identity.json", &attachment().contents[..]));

    let original = copy_of(&kept().dir);
    let (restored, original) = (open_restored(&dir), open(original.path()));
    assert_eq!(told(&restored), told(&original));
    for store in [&restored, &original] {
        store.make_current(&scope("o/made"), &numbered(9_999), 5).unwrap();
        store.make_current(&scope("o/agreed"), &numbered(9_998), 5).unwrap();
        assert!(store.remove(&scope("o/made"), numbered(7).id()).unwrap());
    }
    assert_eq!(told(&restored), told(&original), "both go on in the same way");
    drop(restored);
    assert_eq!(told(&open_restored(&dir)), told(&original));
}

#[test]
fn a_restored_store_opens_with_its_own_passphrase_only_and_has_a_data_key_of_its_own() {
    let (target, whole) = (tempfile::tempdir().unwrap(), fs::read(&kept().path).unwrap());
    let dir = target.path().join("store");
    restore(&whole, &dir).unwrap();
    assert!(common::try_open(&dir).is_err(), "the passphrase of the store that was backed up");
    // With the header of the other store, whose data key is another, nothing opens.
    fs::copy(kept().dir.join("header"), dir.join("header")).unwrap();
    assert!(common::try_open(&dir).is_err());
}

#[test]
fn an_empty_store_has_a_backup_too() {
    let folder = tempfile::tempdir().unwrap();
    let (path, dir) = (folder.path().join("backup"), folder.path().join("new"));
    let store = open(&folder.path().join("store"));
    let summary = portable::back_up(&store, &[], &path, &sealing(), false, &mut |_| {}).unwrap();
    assert_eq!(summary, Summary::default());
    restore(&fs::read(&path).unwrap(), &dir).unwrap();
    assert!(open_restored(&dir).scopes().unwrap().is_empty());
}

#[test]
fn no_plaintext_is_anywhere_in_a_backup_or_an_export() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("store"));
    let keys: Vec<_> = (0..50).map(|_| GroupKey::generate(&mut rand::rng())).collect();
    for (n, key) in keys.iter().enumerate() {
        store.make_current(&scope("o/secret-stream"), key, n as u64).unwrap();
    }
    store.write("grants", &[(b"g".to_vec(), Some(RECORD.to_vec()))]).unwrap();
    back_up(&store, &folder.path().join("backup"));
    let (scopes, path) = ([scope("o/secret-stream")], folder.path().join("export"));
    portable::export_keys(&store, &scopes, TimeRange::ALL, &path, &sealing(), false, &mut |_| {}).unwrap();
    for name in ["backup", "export"] {
        let bytes = fs::read(folder.path().join(name)).unwrap();
        let holds = |wanted: &[u8]| bytes.windows(wanted.len()).any(|window| window == wanted);
        for key in &keys {
            let text: String = key.expose().iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(!holds(&key.expose()[..8]) && !holds(&text.as_bytes()[..16]), "{name}: key bytes");
            assert!(!holds(key.id().as_str().as_bytes()), "{name}: an id, which need not be known either");
        }
        for secret in [RECORD, b"secret-stream", b"crypto", PASSPHRASE.as_bytes()] {
            assert!(!holds(secret), "{name}: {}", String::from_utf8_lossy(secret));
        }
    }
}

#[cfg(unix)]
#[test]
fn a_backup_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(&kept().path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn two_backups_of_one_store_share_no_bytes_behind_their_first_fields() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("store"));
    let read = |name: &str| {
        back_up(&store, &folder.path().join(name));
        fs::read(folder.path().join(name)).unwrap()
    };
    let (a, b) = (read("a"), read("b"));
    let same = a.iter().zip(&b).skip(24).filter(|(a, b)| a == b).count();
    assert!(same < a.len() / 100, "{same} of {}", a.len());
}

#[test]
fn an_existing_file_is_left_as_it_is_unless_it_may_be_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (store, path) = (open(&folder.path().join("store")), folder.path().join("backup"));
    fs::write(&path, "precious").unwrap();
    let try_it = |replace| portable::back_up(&store, &[], &path, &sealing(), replace, &mut |_| {});
    assert!(matches!(try_it(false), Err(PortableError::Exists { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    try_it(true).unwrap();
    assert_eq!(PortableFile::open(&path, PASSPHRASE).unwrap().kind(), Kind::Backup);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left beside it");
}

#[test]
fn a_link_a_device_or_a_folder_is_never_replaced_by_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let (store, file) = (open(&folder.path().join("store")), folder.path().join("precious"));
    fs::write(&file, "precious").unwrap();
    let (link, dangling) = (folder.path().join("link"), folder.path().join("dangling"));
    std::os::unix::fs::symlink(&file, &link).unwrap();
    std::os::unix::fs::symlink("nowhere", &dangling).unwrap();
    // A socket stands for devices and pipes, which take more to make.
    let socket = folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for path in [&link, &dangling, &socket, &folder.path().join("store")] {
        let kind = fs::symlink_metadata(path).unwrap().file_type();
        for replace in [false, true] {
            let fault = portable::back_up(&store, &[], path, &sealing(), replace, &mut |_| {}).unwrap_err();
            assert!(matches!(&fault, PortableError::NotAFile { path: named } if named == path), "{fault}");
        }
        assert_eq!(fs::symlink_metadata(path).unwrap().file_type(), kind);
    }
    assert_eq!(fs::read(&file).unwrap(), b"precious");
}

#[test]
fn a_file_that_appears_meanwhile_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let (store, path) = (open(&folder.path().join("store")), folder.path().join("backup"));
    let mut appears = |progress: Progress| {
        if progress.step == Step::Verifying {
            fs::write(&path, "precious").unwrap();
        }
    };
    let fault = portable::back_up(&store, &[], &path, &sealing(), false, &mut appears).unwrap_err();
    assert!(matches!(fault, PortableError::Exists { .. }), "{fault}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_path_that_cannot_be_written_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("store"));
    let path = folder.path().join("no/such/folder/backup");
    let fault = portable::back_up(&store, &[], &path, &sealing(), true, &mut |_| {}).unwrap_err();
    assert!(matches!(fault, PortableError::Io { .. }) && fault.to_string().contains("no/such/folder"), "{fault}");
    let fault = portable::back_up(&store, &[], folder.path(), &sealing(), true, &mut |_| {}).unwrap_err();
    assert!(matches!(fault, PortableError::NotAFile { .. }), "{fault}");
}

#[test]
fn a_store_is_restored_into_an_empty_folder_only_and_what_was_there_stays() {
    let (target, whole) = (tempfile::tempdir().unwrap(), fs::read(&kept().path).unwrap());
    open(target.path()).make_current(&scope("o/p"), &numbered(1), 1).unwrap();
    let before = contents(target.path());
    let fault = restore(&whole, target.path()).unwrap_err();
    assert!(matches!(fault, PortableError::NotEmpty { .. }), "{fault}");
    assert_eq!(contents(target.path()), before);
}

#[test]
fn each_thing_that_is_wrong_with_a_file_has_its_own_error_and_makes_nothing() {
    let whole = fs::read(&kept().path).unwrap();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        bytes
    };
    let newer = changed(&|bytes| {
        bytes[8] = 2;
        let header = HEAD - 32;
        let check = Sha256::digest(&bytes[..header]);
        bytes[header..HEAD].copy_from_slice(&check);
    });
    type Check = fn(&PortableError) -> bool;
    let cases: [(&str, Vec<u8>, Check, &str); 7] = [
        ("cut", whole[..whole.len() - 1].to_vec(), |fault| matches!(fault, PortableError::Truncated), "truncated"),
        ("cut to nothing", vec![], |fault| matches!(fault, PortableError::Truncated), "another copy"),
        (
            "a chunk cut off",
            whole[..whole.len() - 65_552].to_vec(),
            |fault| matches!(fault, PortableError::Truncated),
            "",
        ),
        ("flipped", changed(&|b| b[200_000] ^= 4), |fault| matches!(fault, PortableError::Damaged { .. }), "damaged"),
        ("longer", changed(&|b| b.push(0)), |fault| matches!(fault, PortableError::Damaged { .. }), "behind its end"),
        ("newer", newer, |fault| matches!(fault, PortableError::NewerVersion { found: 2, .. }), "newer program"),
        ("a picture", b"\x89PNG and more".to_vec(), |fault| matches!(fault, PortableError::NotPortable), "no backup"),
    ];
    for (what, bytes, check, says) in cases {
        let target = tempfile::tempdir().unwrap();
        let fault = restore(&bytes, target.path()).unwrap_err();
        assert!(check(&fault) && fault.to_string().contains(says), "{what}: {fault}");
        assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0, "{what}: something was made");
    }
    let fault = PortableFile::open(&kept().path, "another").unwrap_err();
    assert!(matches!(fault, PortableError::WrongPassphrase), "{fault}");
}

#[test]
fn a_backup_is_no_export_and_an_export_no_backup() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("store"));
    let path = folder.path().join("export");
    portable::export_keys(&store, &[], TimeRange::ALL, &path, &sealing(), false, &mut |_| {}).unwrap();
    let fault = restore(&fs::read(&path).unwrap(), &folder.path().join("new")).unwrap_err();
    assert!(matches!(fault, PortableError::OtherKind { found: Kind::Keys, wanted: Kind::Backup }), "{fault}");
    let mut backup = PortableFile::open(&kept().path, PASSPHRASE).unwrap();
    let fault = portable::import_keys(&store, &mut backup, |_, origin| origin, &mut |_| {}).unwrap_err();
    assert!(matches!(fault, PortableError::OtherKind { found: Kind::Backup, wanted: Kind::Keys }), "{fault}");
}

#[test]
fn progress_goes_forward_to_the_end_of_each_step() {
    let (target, mut seen) = (tempfile::tempdir().unwrap(), Vec::new());
    let (dir, path) = (copy_of(&kept().dir), target.path().join("backup"));
    portable::back_up(&open(dir.path()), &[], &path, &sealing(), false, &mut |progress| seen.push(progress)).unwrap();
    let mut file = PortableFile::open(&path, PASSPHRASE).unwrap();
    let new = target.path().join("new");
    portable::restore(&mut file, &new, &rose(), &quick(), &mut |progress| seen.push(progress)).unwrap();
    let steps: Vec<_> = seen.chunk_by(|a, b| a.step == b.step).collect();
    assert_eq!(steps.len(), 3, "written, verified; verified, taken in");
    assert!(seen.len() > 20);
    for step in [Step::Writing, Step::Verifying, Step::TakingIn] {
        let of_step: Vec<_> = seen.iter().filter(|progress| progress.step == step).collect();
        let last = of_step.last().unwrap();
        assert_eq!(last.done, last.total, "{step:?}");
        assert!(of_step.iter().all(|progress| progress.done <= progress.total), "{step:?}");
    }
}

/// Started by the test below in a process of its own; does nothing in an ordinary run.
#[test]
fn child_backs_up_again_and_again() {
    let Some(dir) = child_dir() else { return };
    let store = open(&dir.join("store"));
    loop {
        say("round");
        portable::back_up(&store, &[], &dir.join("backup"), &sealing(), true, &mut |progress| {
            say(&format!("at {:?} {}", progress.step, progress.done));
        })
        .unwrap();
    }
}

#[test]
fn killed_while_writing_the_backup_is_the_one_before_or_the_new_one_and_always_whole() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("store"));
    fill(&store, 3_000);
    let summary =
        portable::back_up(&store, &[], &folder.path().join("backup"), &sealing(), false, &mut |_| {}).unwrap();
    drop(store);
    for steps in [2, 5, 9, 14, 23, 31] {
        let mut other = Other::start("child_backs_up_again_and_again", folder.path());
        for _ in 0..steps {
            other.heard().unwrap();
        }
        other.kill();
        let mut file = PortableFile::open(&folder.path().join("backup"), PASSPHRASE).unwrap();
        assert_eq!(file.verify(&mut |_| {}).unwrap(), summary);
    }
}

/// Restores into `new/store` and lets it take its place, as a program does that wants all or nothing.
fn restore_in_place(dir: &Path, path: &Path, mut watch: impl FnMut(Progress)) {
    let placing = Placing::begin(dir).unwrap();
    let mut file = PortableFile::open(path, PASSPHRASE).unwrap();
    portable::restore(&mut file, &placing.new_files().join("store"), &rose(), &quick(), &mut watch).unwrap();
    placing.commit(&["store"], OldFiles::Remove).unwrap();
}

/// Started by the test below in a process of its own; does nothing in an ordinary run.
#[test]
fn child_restores() {
    let Some(dir) = child_dir() else { return };
    let path = dir.join("backup");
    restore_in_place(&dir.join("target"), &path, |progress| say(&format!("{:?} {}", progress.step, progress.done)));
    say("done");
}

#[test]
fn killed_while_restoring_there_is_nothing_or_all_of_it_and_the_same_again_restores() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("target");
    fs::create_dir(&target).unwrap();
    let (path, dir) = (folder.path().join("backup"), copy_of(&kept().dir));
    let original = open(dir.path());
    back_up(&original, &path);
    let (mut nothing, mut all) = (0, 0);
    // Until it gets to its end: later and later kills.
    for steps in (1..).step_by(3) {
        let mut other = Other::start("child_restores", folder.path());
        let heard: Vec<_> = std::iter::from_fn(|| other.heard()).take(steps).collect();
        other.kill();
        Placing::finish(&target).unwrap();
        if target.join("store").exists() {
            assert_eq!(told(&open_restored(&target.join("store"))), told(&original));
            all += 1;
            fs::remove_dir_all(target.join("store")).unwrap();
        } else {
            nothing += 1;
        }
        if heard.last().is_some_and(|line| line == "done") {
            break;
        }
    }
    assert!(nothing > 2 && all > 0, "{nothing} times nothing, {all} times all");
    restore_in_place(&target, &path, |_| {});
    assert_eq!(told(&open_restored(&target.join("store"))), told(&original));
}

fn exported(store: &dyn KeyStore, scopes: &[KeyScope], range: TimeRange) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("export");
    portable::export_keys(store, scopes, range, &path, &sealing(), false, &mut |_| {}).unwrap();
    fs::read(path).unwrap()
}

fn import(store: &dyn KeyStore, bytes: &[u8]) -> BTreeMap<KeyScope, portable::ImportedScope> {
    let mut file = PortableFile::from_reader(Cursor::new(bytes), PASSPHRASE).unwrap();
    portable::import_keys(store, &mut file, |_, origin| origin, &mut |_| {}).unwrap()
}

#[test]
fn an_export_holds_the_chosen_streams_and_periods_and_nothing_else() {
    let (from, to) = (MemoryKeyStore::new(), MemoryKeyStore::new());
    for n in 0..600 {
        from.make_current(&scope("o/a"), &numbered(n), 100 * n as u64).unwrap();
        from.make_current(&scope("o/b"), &numbered(n), 100 * n as u64).unwrap();
    }
    from.write("grants", &[(b"g".to_vec(), Some(RECORD.to_vec()))]).unwrap();
    let bytes = exported(&from, &[scope("o/a"), scope("o/none")], TimeRange { from: 10_050, to: 50_000 });
    let told = import(&to, &bytes);
    assert_eq!(to.scopes().unwrap(), [scope("o/a")]);
    assert_eq!((told[&scope("o/a")].new, told.len()), (401, 1));
    let keys = to.history(&scope("o/a"), TimeRange::ALL, None, 1_000).unwrap();
    assert_eq!((keys.len(), keys[0].since, keys[400].until), (401, 10_000, Some(50_100)));
    assert!(keys[0].key.same_as(&numbered(100)));
    assert!(to.current(&scope("o/a")).unwrap().is_none(), "which key is current is not told");
    assert!(to.get("grants", b"g").unwrap().is_none());
}

#[test]
fn an_import_says_what_was_new_and_never_replaces_another_key_under_the_same_id() {
    let (from, to) = (MemoryKeyStore::new(), MemoryKeyStore::new());
    for n in 0..300 {
        from.add(&scope("o/a"), &numbered(n), n as u64, Some(n as u64 + 1), KeyOrigin::Received).unwrap();
    }
    to.add(&scope("o/a"), &numbered(7), 7, Some(8), KeyOrigin::Received).unwrap();
    let mine = GroupKey::new(id("key-8"), &[9; 32]).unwrap();
    to.make_current(&scope("o/a"), &mine, 8).unwrap();
    let bytes = exported(&from, &[scope("o/a")], TimeRange::ALL);
    let told = import(&to, &bytes).remove(&scope("o/a")).unwrap();
    assert_eq!((told.new, told.known, told.left_out, &told.left_out_ids[..]), (298, 1, 1, &[id("key-8")][..]));
    assert!(to.current(&scope("o/a")).unwrap().unwrap().key.same_as(&mine));
    let again = import(&to, &bytes).remove(&scope("o/a")).unwrap();
    assert_eq!((again.new, again.known, again.left_out), (0, 299, 1));
}

#[test]
fn whoever_imports_says_as_what_a_key_counts() {
    let (from, to) = (MemoryKeyStore::new(), MemoryKeyStore::new());
    from.make_current(&scope("o/a"), &numbered(1), 1).unwrap();
    let bytes = exported(&from, &[scope("o/a")], TimeRange::ALL);
    let mut file = PortableFile::from_reader(Cursor::new(&bytes), PASSPHRASE).unwrap();
    portable::import_keys(&to, &mut file, |_, _| KeyOrigin::Received, &mut |_| {}).unwrap();
    let found = to.key(&scope("o/a"), numbered(1).id()).unwrap().unwrap();
    assert_eq!(found.origin, KeyOrigin::Received);
}

#[test]
fn a_damaged_export_brings_in_no_key_at_all() {
    let (from, to) = (MemoryKeyStore::new(), MemoryKeyStore::new());
    for n in 0..2_000 {
        from.make_current(&scope("o/a"), &numbered(n), n as u64).unwrap();
    }
    let mut bytes = exported(&from, &[scope("o/a")], TimeRange::ALL);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let mut file = PortableFile::from_reader(Cursor::new(&bytes), PASSPHRASE).unwrap();
    let fault = portable::import_keys(&to, &mut file, |_, origin| origin, &mut |_| {}).unwrap_err();
    assert!(matches!(fault, PortableError::Damaged { .. }), "{fault}");
    assert!(to.scopes().unwrap().is_empty());
}

#[test]
fn a_portable_file_v1_still_opens() {
    let bytes = include_bytes!("vectors/portable_v1.bin");
    let to = MemoryKeyStore::new();
    let mut file = PortableFile::from_reader(Cursor::new(bytes), "tulip").unwrap();
    portable::import_keys(&to, &mut file, |_, origin| origin, &mut |_| {}).unwrap();
    let found = to.key(&scope("o/p"), numbered(1).id()).unwrap().unwrap();
    assert!(found.key.same_as(&numbered(1)));
    assert_eq!((found.since, found.until, found.origin), (1_000, Some(2_000), KeyOrigin::Received));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_backup_with_any_bit_flipped_is_refused_and_makes_nothing(at: prop::sample::Index, bit in 0..8u8, head: bool) {
        static WHOLE: OnceLock<Vec<u8>> = OnceLock::new();
        let mut bytes = WHOLE.get_or_init(|| fs::read(&kept().path).unwrap()).clone();
        let at = at.index(if head { HEAD } else { bytes.len() });
        bytes[at] ^= 1 << bit;
        let target = tempfile::tempdir().unwrap();
        let fault = restore(&bytes, target.path()).unwrap_err();
        prop_assert!(matches!(fault, PortableError::Damaged { .. } | PortableError::NotPortable), "{}: {}", at, fault);
        prop_assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_backup_cut_anywhere_is_truncated_and_makes_nothing(keep: prop::sample::Index) {
        let whole = fs::read(&kept().path).unwrap();
        let target = tempfile::tempdir().unwrap();
        let fault = restore(&whole[..keep.index(whole.len())], target.path()).unwrap_err();
        prop_assert!(matches!(fault, PortableError::Truncated), "{}", fault);
        prop_assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_file_that_comes_from_elsewhere_takes_its_place_once_it_is_whole_and_opens_and_else_nothing_of_it_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backup");
    let whole = fs::read(&kept().path).unwrap();
    let arrive = |bytes: &[u8], replace: bool, kind: Kind, passphrase: &str| {
        let mut incoming = Incoming::begin(&path, replace)?;
        incoming.write_all(bytes).unwrap();
        incoming.finish(kind, passphrase, &mut |_| {})
    };
    let alone = |names: &[&str]| {
        let found: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(found, names);
    };
    assert!(arrive(&whole[..whole.len() - 1], false, Kind::Backup, PASSPHRASE).is_err());
    assert!(matches!(arrive(&whole, false, Kind::Keys, PASSPHRASE), Err(PortableError::OtherKind { .. })));
    assert!(matches!(arrive(&whole, false, Kind::Backup, "another"), Err(PortableError::WrongPassphrase)));
    drop(Incoming::begin(&path, false).unwrap());
    alone(&[]);
    arrive(&whole, false, Kind::Backup, PASSPHRASE).unwrap();
    assert!(matches!(arrive(&whole, false, Kind::Backup, PASSPHRASE), Err(PortableError::Exists { .. })));
    arrive(&whole, true, Kind::Backup, PASSPHRASE).unwrap();
    alone(&["backup"]);
    assert_eq!(fs::read(&path).unwrap(), whole);
}
