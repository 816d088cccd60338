//! Care of the data folder: backups, restored whole or not at all.
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use common::{Home, LOCAL, Run, node, run_with, subscribed};

const SECRET: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Runs with passphrases in the environment.
fn with(home: &Home, args: &[&str], variables: &[(&str, &str)]) -> Run {
    let mut command = home.command(args);
    command.envs(variables.iter().copied());
    run_with(command, b"")
}

const OF_BACKUP: (&str, &str) = ("VEILCAST_BACKUP_PASSPHRASE", "for the drawer");

/// An identity locked with a key file, a stream with a grant, a key of its own and one of somebody else's.
fn seller() -> (Home, String) {
    let home = Home::new();
    let stream = home.stream("prices");
    home.run(&["stream", "grant", &stream, "0x00000000000000000000000000000000000000cc", "--for", "30d"]).ok();
    home.run_with(&["key", "add", &stream, "--key-id", "summer", "--current"], SECRET.as_bytes()).ok();
    let other = ["--publisher", "0x00000000000000000000000000000000000000bb", "--key-id", "theirs"];
    home.run_with(&[&["key", "add", &stream][..], &other].concat(), "ab".repeat(32).as_bytes()).ok();
    (home, stream)
}

fn backed_up(home: &Home) -> PathBuf {
    let path = home.path().with_file_name("backup");
    with(home, &["backup", path.to_str().unwrap()], &[OF_BACKUP]).ok();
    path
}

/// What a folder is, as its commands tell it.
fn told(home: &Home, variables: &[(&str, &str)]) -> String {
    let said = |args: &[&str]| with(home, args, variables).ok();
    [&["identity", "show"][..], &["key", "list"], &["stream", "show"]].map(said).join("\n")
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.file_name().unwrap() != "lock" {
            found.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    found
}

#[test]
fn a_backup_restores_identity_keys_streams_and_grants_under_another_passphrase() {
    let (home, _) = seller();
    let before = told(&home, &[]);
    let file = backed_up(&home);
    let new = Home::empty();
    let of_folder = ("VEILCAST_PASSPHRASE", "of the new machine");
    let json = with(&new, &["restore", file.to_str().unwrap(), "--json"], &[OF_BACKUP, of_folder]).json();
    assert_eq!((&json["keys"], &json["kept"]), (&2.into(), &serde_json::Value::Null));
    assert_eq!(json["address"], home.address());
    assert_eq!(told(&new, &[of_folder]), before);
    assert!(!new.path().join("store.key").exists() && !new.path().join("placing").exists());
    with(&new, &["key", "list"], &[OF_BACKUP].map(|(_, text)| ("VEILCAST_PASSPHRASE", text)))
        .failed(1, &["wrong password"]);
}

#[test]
fn without_another_one_a_restored_folder_opens_with_the_passphrase_of_the_backup_or_with_a_new_key_file() {
    let (home, _) = seller();
    let before = told(&home, &[]);
    let file = backed_up(&home);
    let (typed, locked) = (Home::empty(), Home::empty());
    with(&typed, &["restore", file.to_str().unwrap()], &[OF_BACKUP]).ok();
    assert_eq!(told(&typed, &[("VEILCAST_PASSPHRASE", OF_BACKUP.1)]), before);

    with(&locked, &["restore", file.to_str().unwrap(), "--key-file"], &[OF_BACKUP]).ok();
    assert_eq!(told(&locked, &[]), before);
    let key = |home: &Home| fs::read(home.path().join("store.key")).unwrap();
    assert_ne!(key(&locked), key(&home), "a key file of its own");
}

#[test]
fn a_folder_with_a_passphrase_gives_it_to_its_backup_and_one_with_a_key_file_needs_another() {
    let (home, _) = seller();
    let file = home.path().with_file_name("backup");
    home.run(&["backup", file.to_str().unwrap()]).failed(1, &["opens with a key file", "VEILCAST_BACKUP_PASSPHRASE"]);
    assert!(!file.exists());

    let of_folder = ("VEILCAST_PASSPHRASE", "correct horse");
    let home = Home::empty();
    with(&home, &["identity", "new"], &[of_folder]).ok();
    let said = with(&home, &["backup", file.to_str().unwrap()], &[of_folder]).ok();
    assert!(said.contains("the passphrase of the data folder"), "{said}");
    let new = Home::empty();
    new.run(&["restore", file.to_str().unwrap()]).failed(1, &["opens with a passphrase", "--backup-passphrase-file"]);
    with(&new, &["restore", file.to_str().unwrap()], &[of_folder]).ok();
    assert_eq!(new.address(), home.address());
}

#[test]
fn the_publisher_of_a_restored_folder_serves_those_who_bought_before() {
    let (_relay_home, _relay, at) = node();
    let (seller, buyer, stream) = common::seller_and_buyer();
    let publish = ["publish", &stream, "--bootstrap", &at, "--listen", LOCAL];
    let file = backed_up(&seller);
    let restored = Home::empty();
    with(&restored, &["restore", file.to_str().unwrap(), "--key-file"], &[OF_BACKUP]).ok();
    fs::remove_dir_all(seller.path()).unwrap();

    let mut reading = subscribed(&buyer, &stream, &at, &["--count", "2"]);
    restored.run_with(&publish, b"one\ntwo\n").ok();
    assert_eq!(reading.wait(), Some(0), "{:?}", reading.stderr.all());
    assert_eq!(reading.stdout.until_end(), ["one", "two"]);
}

#[test]
fn no_key_and_no_name_can_be_read_in_a_backup() {
    let (home, stream) = seller();
    let bytes = fs::read(backed_up(&home)).unwrap();
    let raw: Vec<u8> = (0..16).map(|n| n * 0x11).collect();
    for secret in [SECRET.as_bytes(), &raw, stream.as_bytes(), home.address().as_bytes(), b"summer", b"ciphertext"] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
}

#[test]
fn an_existing_file_is_replaced_only_with_force() {
    let (home, _) = seller();
    let file = home.file("backup", b"precious");
    let args = ["backup", file.to_str().unwrap(), "--force"];
    with(&home, &args[..2], &[OF_BACKUP]).failed(1, &["exists already", "left as it is"]);
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    with(&home, &args, &[OF_BACKUP]).ok();
    with(&Home::empty(), &["restore", file.to_str().unwrap()], &[OF_BACKUP]).ok();
}

#[test]
fn a_folder_in_use_is_neither_backed_up_nor_replaced() {
    let (home, stream) = seller();
    let file = backed_up(&home);
    let publishing = home.start(&["publish", &stream, "--listen", LOCAL]);
    publishing.stderr.wait_for("waiting for somebody");
    let other = home.path().with_file_name("other");
    with(&home, &["backup", other.to_str().unwrap()], &[OF_BACKUP]).failed(1, &["in use"]);
    with(&home, &["restore", file.to_str().unwrap(), "--force"], &[OF_BACKUP]).failed(1, &["in use"]);
    assert!(!other.exists() && !home.path().join("placing.part").exists());
}

#[test]
fn a_folder_that_has_something_is_left_alone_and_with_force_kept_beside_the_restored_one() {
    let (home, _) = seller();
    let before = told(&home, &[]);
    let file = backed_up(&home);
    let other = Home::new();
    let others = other.address();
    fs::write(other.path().join("veilcast.toml"), "").unwrap();
    let unchanged = files(&other.path());
    let args = ["restore", file.to_str().unwrap(), "--key-file", "--force"];
    with(&other, &args[..3], &[OF_BACKUP]).failed(1, &["already", "identity.json", "--force"]);
    assert_eq!(files(&other.path()), unchanged);

    let json = with(&other, &[&args[..], &["--json"]].concat(), &[OF_BACKUP]).json();
    assert_eq!(told(&other, &[]), before);
    assert!(other.path().join("veilcast.toml").exists(), "what is not in a backup stays");
    let kept = json["kept"].as_str().unwrap();
    assert!(kept.contains("replaced-"), "{kept}");
    let run = other.run(&["identity", "show", "--data-dir", kept]).ok();
    assert_eq!(run, others, "what was there can still be used");
}

#[test]
fn each_thing_that_is_wrong_with_a_backup_is_said_in_its_own_words_and_nothing_is_made() {
    let (home, _) = seller();
    let file = backed_up(&home);
    let whole = fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    damaged[1_000] ^= 1;
    let mut newer = whole.clone();
    newer[8] = 9;
    let cases: [(&str, &[u8], &[&str]); 5] = [
        ("cut", &whole[..whole.len() - 1], &["truncated", "another copy"]),
        ("empty", b"", &["truncated"]),
        ("damaged", &damaged, &["damaged", "another copy"]),
        ("head", &newer, &["damaged"]),
        ("text", b"my backup\n", &["no backup"]),
    ];
    for (name, bytes, says) in cases {
        let (new, path) = (Home::empty(), home.file(name, bytes));
        let told = with(&new, &["restore", path.to_str().unwrap()], &[OF_BACKUP]).failed(1, says);
        assert!(told.stderr.contains(name), "the file is named: {told:?}");
        assert_eq!(files(&new.path()), BTreeMap::new(), "{name}");
    }
    let new = Home::empty();
    let wrong = ("VEILCAST_BACKUP_PASSPHRASE", "battery staple");
    with(&new, &["restore", file.to_str().unwrap()], &[wrong]).failed(1, &["wrong passphrase", "written with"]);
    new.run(&["restore", "/nowhere/at/all", "--backup-passphrase-file", file.to_str().unwrap()]).failed(1, &[]);
    assert_eq!(files(&new.path()), BTreeMap::new());
}

#[test]
fn killed_at_any_moment_of_a_restore_the_folder_has_nothing_or_all_of_it() {
    let (home, _) = seller();
    let before = told(&home, &[]);
    let file = backed_up(&home);
    let new = Home::empty();
    let (mut wait, mut nothing) = (Duration::from_millis(1), 0);
    loop {
        let mut command = new.command(&["restore", file.to_str().unwrap(), "--key-file"]);
        command.env(OF_BACKUP.0, OF_BACKUP.1).stdout(Stdio::null()).stderr(Stdio::null());
        let mut restoring = command.spawn().unwrap();
        // Each a little later than the one before; whenever it comes, what follows must hold.
        std::thread::sleep(wait);
        restoring.kill().unwrap();
        restoring.wait().unwrap();
        wait = wait * 5 / 4 + Duration::from_millis(2);
        let shown = new.run(&["identity", "show"]);
        if shown.code == Some(0) {
            assert_eq!(told(&new, &[]), before);
            break;
        }
        shown.failed(1, &["no identity"]);
        for name in ["store", "store.key", "identity.json"] {
            assert!(!new.path().join(name).exists(), "{name} alone");
        }
        nothing += 1;
    }
    assert!(nothing > 0);
    assert!(!new.path().join("placing").exists() && !new.path().join("placing.part").exists());
}
