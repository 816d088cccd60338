//! Care of the data folder: backups, restored whole or not at all.
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
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
        .failed(1, &["wrong passphrase"]);
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
fn what_an_interrupted_backup_left_is_removed_by_the_next_one_but_not_what_another_is_writing() {
    let (home, _) = seller();
    let folder = home.path().parent().unwrap().to_owned();
    let at = |name: &str| folder.join(name);
    fs::write(at(".veilcast-left.part"), b"half of it").unwrap();
    fs::write(at(".veilcast-mine"), b"something else").unwrap();
    let busy = fs::File::create(at(".veilcast-busy.part")).unwrap();
    busy.lock().unwrap();
    backed_up(&home);
    let kept = [".veilcast-left.part", ".veilcast-mine", ".veilcast-busy.part"].map(|name| at(name).exists());
    assert_eq!(kept, [false, true, true]);
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
fn a_part_of_a_folder_that_was_lost_is_named_and_nothing_is_made_in_its_place() {
    let (home, _) = seller();
    let at = |name: &str| home.path().join(name);
    let away = |name: &str| fs::rename(at(name), at("aside")).unwrap();
    let back = |name: &str| fs::rename(at("aside"), at(name)).unwrap();

    away("store");
    home.run(&["key", "list"]).failed(1, &["store of the data folder", "is missing", "veilcast restore"]);
    assert!(!at("store").exists());
    back("store");

    away("identity.json");
    for command in [["key", "list"], ["identity", "show"], ["identity", "new"]] {
        home.run(&command).failed(1, &["identity of the data folder", "is missing", "identity.json"]);
    }
    assert!(!at("identity.json").exists());
    back("identity.json");

    away("store.key");
    home.run(&["key", "list"]).failed(1, &["key file", "is missing", "store.key"]);
    with(&home, &["key", "list"], &[("VEILCAST_PASSPHRASE", "x")]).failed(1, &["key file", "is missing"]);
    for damaged in ["00112233", &"ab".repeat(32)] {
        fs::write(at("store.key"), damaged).unwrap();
        fs::set_permissions(at("store.key"), fs::Permissions::from_mode(0o600)).unwrap();
        home.run(&["key", "list"]).failed(1, &["store.key", "does not open the identity"]);
    }
    fs::remove_file(at("store.key")).unwrap();
    back("store.key");
    home.run(&["key", "list"]).ok();
}

#[test]
fn making_an_identity_that_was_interrupted_can_be_done_again() {
    let home = Home::new();
    fs::remove_file(home.path().join("identity.json")).unwrap();
    home.run(&["identity", "new"]).ok();
    home.run(&["stream", "show"]).ok();
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
        assert!(!new.path().exists(), "{name}");
    }
    let new = Home::empty();
    let wrong = ("VEILCAST_BACKUP_PASSPHRASE", "battery staple");
    with(&new, &["restore", file.to_str().unwrap()], &[wrong]).failed(1, &["wrong passphrase", "written with"]);
    new.run(&["restore", "/nowhere/at/all", "--backup-passphrase-file", file.to_str().unwrap()]).failed(1, &[]);
    assert!(!new.path().exists());
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

#[test]
fn a_changed_passphrase_opens_identity_and_store_and_the_old_one_neither() {
    let (old, new) = (("VEILCAST_PASSPHRASE", "old tulip"), ("VEILCAST_PASSPHRASE", "new tulip"));
    let home = Home::empty();
    with(&home, &["identity", "new"], &[old]).ok();
    let stream = with(&home, &["stream", "create", "prices"], &[old]).ok();
    let before = told(&home, &[old]);
    let file = home.path().with_file_name("backup");
    with(&home, &["backup", file.to_str().unwrap()], &[old]).ok();

    with(&home, &["passphrase", "change"], &[old]).failed(2, &["no new passphrase", "VEILCAST_NEW_PASSPHRASE"]);
    with(&home, &["passphrase", "change"], &[new, ("VEILCAST_NEW_PASSPHRASE", "x")]).failed(1, &["wrong passphrase"]);
    assert_eq!(told(&home, &[old]), before);

    with(&home, &["passphrase", "change"], &[old, ("VEILCAST_NEW_PASSPHRASE", new.1)]).ok();
    assert_eq!(told(&home, &[new]), before);
    with(&home, &["stream", "show", &stream], &[old]).failed(1, &["wrong passphrase"]);
    with(&Home::empty(), &["restore", file.to_str().unwrap()], &[old]).ok();
    let left: Vec<_> = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "nothing that the old one opens is left: {left:?}");
}

#[test]
fn a_folder_changes_from_a_key_file_to_a_passphrase_to_another_key_file() {
    let (home, _) = seller();
    let before = told(&home, &[]);
    let key = || fs::read(home.path().join("store.key")).ok();
    let first = key().unwrap();
    let passphrase = home.file("new", b"from a file\n");
    home.run(&["passphrase", "change", "--new-passphrase-file", passphrase.to_str().unwrap()]).ok();
    assert_eq!((key(), told(&home, &[("VEILCAST_PASSPHRASE", "from a file")])), (None, before.clone()));
    with(&home, &["passphrase", "change", "--key-file"], &[("VEILCAST_PASSPHRASE", "from a file")]).ok();
    assert_eq!(told(&home, &[]), before);
    assert_ne!(key().unwrap(), first);
    home.run(&["passphrase", "change", "--key-file"]).ok();
    assert_eq!(told(&home, &[]), before);
}

#[test]
fn killed_at_any_moment_of_a_change_one_passphrase_opens_identity_and_store() {
    let [old, new] = ["old tulip", "new tulip"].map(|text| ("VEILCAST_PASSPHRASE", text));
    let home = Home::empty();
    with(&home, &["identity", "new"], &[old]).ok();
    with(&home, &["stream", "create", "prices"], &[old]).ok();
    let before = told(&home, &[old]);
    let mut wait = Duration::from_millis(1);
    loop {
        let mut command = home.command(&["passphrase", "change"]);
        command.envs([old, ("VEILCAST_NEW_PASSPHRASE", new.1)]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut changing = command.spawn().unwrap();
        std::thread::sleep(wait);
        changing.kill().unwrap();
        changing.wait().unwrap();
        wait = wait * 5 / 4 + Duration::from_millis(2);
        if with(&home, &["stream", "show"], &[new]).code == Some(0) {
            break;
        }
        assert_eq!(told(&home, &[old]), before);
    }
    assert_eq!(told(&home, &[new]), before);
    with(&home, &["stream", "show"], &[old]).failed(1, &["wrong passphrase"]);
}

#[test]
fn a_folder_in_use_keeps_its_passphrase() {
    let (home, stream) = seller();
    let publishing = home.start(&["publish", &stream, "--listen", LOCAL]);
    publishing.stderr.wait_for("waiting for somebody");
    home.run(&["passphrase", "change", "--key-file"]).failed(1, &["in use"]);
    drop(publishing);
    home.run(&["stream", "show"]).ok();
}

#[test]
fn an_address_has_the_same_twelve_words_for_everybody() {
    let (home, other) = (Home::new(), Home::new());
    let mine = home.run(&["fingerprint", "--json"]).json();
    assert_eq!(mine["address"], home.address());
    assert_eq!(mine["words"].as_array().unwrap().len(), 12);
    assert_eq!(other.run(&["fingerprint", &home.address(), "--json"]).json(), mine);
    assert_ne!(other.run(&["fingerprint", "--json"]).json()["words"], mine["words"]);
    let text = home.run(&["fingerprint"]).ok();
    let words: Vec<_> = text.split_whitespace().skip(1).collect();
    let of_json: Vec<_> = mine["words"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(words, of_json);
    home.run(&["fingerprint", "0x12"]).failed(2, &["address"]);
}

const THEIRS: &str = "0x00000000000000000000000000000000000000bb";

#[test]
fn chosen_keys_are_exported_and_imported_and_only_what_was_new_counts_as_new() {
    let (home, stream) = seller();
    let file = home.path().with_file_name("keys");
    let path = file.to_str().unwrap();
    let other = home.stream("weather");
    home.run_with(&["key", "add", &other, "--key-id", "rain"], "cd".repeat(32).as_bytes()).ok();
    let json = with(&home, &["key", "export", &stream, path, "--json"], &[OF_BACKUP]).json();
    assert_eq!(json["keys"], 2);
    assert!(!fs::read(&file).unwrap().windows(6).any(|window| window == b"summer"));

    let reader = Home::new();
    let import = |path: &str| with(&reader, &["key", "import", path, "--json"], &[OF_BACKUP]).json();
    let json = import(path);
    assert_eq!((&json["new"], json["scopes"].as_array().unwrap().len()), (&2.into(), 2));
    assert_eq!(import(path)["new"], 0, "the same again");
    let list = reader.run(&["key", "list", "--json"]).json();
    let keys = list["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 2, "nothing of the other stream");
    assert!(keys.iter().all(|key| key["current"] == false));

    let both = home.path().with_file_name("both");
    let args = ["key", "export", &stream, &other, both.to_str().unwrap(), "--publisher", &home.address(), "--json"];
    assert_eq!(with(&home, &args, &[OF_BACKUP]).json()["keys"], 2, "summer and rain, and not theirs");
    assert_eq!(import(both.to_str().unwrap())["new"], 1);
    with(&home, &["key", "export", &stream, path], &[OF_BACKUP]).failed(1, &["exists already"]);
    let none = home.path().with_file_name("none");
    let args = ["key", "export", &stream, none.to_str().unwrap(), "--to", "2020-01-01T00:00:00Z"];
    with(&home, &args, &[OF_BACKUP]).failed(1, &["no keys of that time (2020-01-01T00:00:00Z and earlier)", "--to"]);
    assert!(!none.exists(), "nothing is written");
    with(&home, &["key", "export", &format!("{stream}/no"), path], &[OF_BACKUP]).failed(1, &["no keys of", "key list"]);
}

#[test]
fn an_import_leaves_another_key_of_the_same_id_as_it_is_and_names_it() {
    let (home, stream) = seller();
    let file = home.path().with_file_name("keys");
    with(&home, &["key", "export", &stream, file.to_str().unwrap()], &[OF_BACKUP]).ok();
    let reader = Home::new();
    let add = ["key", "add", &stream, "--publisher", THEIRS, "--key-id", "theirs"];
    reader.run_with(&add, "ef".repeat(32).as_bytes()).ok();
    let before = reader.run(&["key", "list", &stream]).ok();
    let said = with(&reader, &["key", "import", file.to_str().unwrap()], &[OF_BACKUP]).ok();
    assert!(said.contains("1 left out") && said.contains("theirs"), "{said}");
    let after = reader.run(&["key", "list", &stream]).ok();
    assert!(before.lines().all(|line| after.contains(line)) && after.contains("summer"), "{after}");

    let wrong = ("VEILCAST_BACKUP_PASSPHRASE", "another");
    with(&reader, &["key", "import", file.to_str().unwrap()], &[wrong]).failed(1, &["wrong passphrase"]);
    let backup = backed_up(&home);
    with(&reader, &["key", "import", backup.to_str().unwrap()], &[OF_BACKUP])
        .failed(1, &["is a backup, not an export of keys"]);
    with(&Home::empty(), &["restore", file.to_str().unwrap()], &[OF_BACKUP]).failed(1, &["an export of keys"]);
}

#[test]
fn a_forgotten_key_is_gone_after_a_yes_and_whoever_asks_for_it_is_told_that_it_is_unknown() {
    let signed = ["--registry", "grants"];
    let (owner, buyer, keeper) = (Home::new(), Home::new(), Home::new());
    let stream = owner.run(&[&["stream", "create", "prices"][..], &signed].concat()).ok();
    let lines = owner.run(&["grant", "issue", &stream, &buyer.address()]).ok();
    buyer.run_with(&["grant", "import"], lines.as_bytes()).ok();
    keeper.run_with(&["grant", "import"], lines.lines().next().unwrap().as_bytes()).ok();
    let keep = keeper.start(&[&["node", "--listen", LOCAL, "--store", &stream][..], &signed].concat());
    let at = keep.stdout.wait_for("/p2p/");
    let publish = ["publish", &stream, "--bootstrap", &at, "--listen", LOCAL];
    // Each message under a key of its own.
    let more = ["--linger", "1s", "--rekey-every", "1"];
    owner.run_with(&[&publish[..], &signed, &more].concat(), b"old\nnew\n").ok();

    let forget = ["key", "forget", &stream, "--before", "2100-01-01T00:00:00Z"];
    owner.run(&forget).failed(2, &["nobody to ask", "--yes"]);
    assert_eq!(owner.run(&["key", "list", "--json"]).json()["keys"].as_array().unwrap().len(), 2);
    let json = owner.run(&[&forget[..], &["--yes", "--json"]].concat()).json();
    assert_eq!((&json["removed"], &json["unended"]), (&1.into(), &0.into()));
    assert_eq!(owner.run(&[&forget[..], &["--json"]].concat()).json()["removed"], 0, "nothing to ask about");
    let keys = owner.run(&["key", "list", "--json"]).json();
    assert_eq!((keys["keys"].as_array().unwrap().len(), &keys["keys"][0]["current"]), (1, &true.into()));

    let none = owner.file("none.txt", b"");
    let _answering = owner.start_with_file(&[&publish[..], &signed, &["--stay"]].concat(), &none);
    let resend = ["resend", &stream, "--bootstrap", &at, "--listen", LOCAL, "--last", "2"];
    let read = buyer.run(&[&resend[..], &signed].concat());
    assert_eq!(read.stdout.trim_end(), "new", "{read:#?}");
    assert!(read.stderr.contains("unknown"), "{read:#?}");
}
