//! Identities and what locks them.
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod common;

use common::{Home, run_with};
use serde_json::Value;

#[test]
fn a_new_identity_is_shown_the_same_in_text_and_json() {
    let home = Home::empty();
    let made = home.run(&["identity", "new"]).ok();
    assert_eq!(home.address(), made);
    let json = home.run(&["identity", "show", "--json"]).json();
    assert_eq!(json["address"], made.as_str());
    assert_eq!(json["checksummed"].as_str().unwrap().to_lowercase(), made);
}

#[test]
fn an_identity_is_never_overwritten() {
    let home = Home::new();
    let before = home.address();
    home.run(&["identity", "new"]).failed(1, &["exists already", "veilcast identity show"]);
    assert_eq!(home.address(), before);
}

#[cfg(unix)]
#[test]
fn without_a_passphrase_a_private_key_file_is_made_and_said_once_in_plain_words() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::empty();
    let made = home.run(&["identity", "new"]);
    assert!(made.stderr.contains("locked with a key file that only you can read"), "{made:?}");
    let mode = |name: &str| std::fs::metadata(home.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("store.key"), mode("identity.json"), mode("")), (0o600, 0o600, 0o700));
    let next = home.run(&["stream", "create", "prices"]);
    assert_eq!((next.code, next.stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_passphrase_opens_identity_and_store_and_a_wrong_one_neither() {
    let home = Home::empty();
    let right = home.file("right", b"correct horse\n");
    let wrong = home.file("wrong", b"battery staple\n");
    let with = |file: &std::path::Path, args: &[&str]| {
        home.run(&[args, &["--passphrase-file", file.to_str().unwrap()]].concat())
    };
    let address = with(&right, &["identity", "new"]).ok();
    assert!(!home.path().join("store.key").exists());
    with(&right, &["stream", "create", "prices"]).ok();
    with(&wrong, &["stream", "show"]).failed(1, &["wrong passphrase", "VEILCAST_PASSPHRASE"]);

    let mut by_variable = home.command(&["stream", "show", "--json"]);
    by_variable.env("VEILCAST_PASSPHRASE", "correct horse");
    let json = run_with(by_variable, b"").json();
    assert_eq!(json["streams"][0]["id"], format!("{address}/prices"));
    assert_eq!(home.address(), address, "an address is no secret");
}

#[test]
fn a_folder_with_a_passphrase_does_not_open_without_one() {
    let home = Home::empty();
    let mut new = home.command(&["identity", "new"]);
    new.env("VEILCAST_PASSPHRASE", "correct horse");
    run_with(new, b"").ok();
    home.run(&["stream", "show"]).failed(1, &["opens with a passphrase", "--passphrase-file"]);
    assert!(!home.path().join("store.key").exists(), "no key file is made for it");
}

#[test]
fn a_folder_with_a_key_file_says_so_to_a_passphrase() {
    let home = Home::new();
    let mut show = home.command(&["stream", "show"]);
    show.env("VEILCAST_PASSPHRASE", "correct horse");
    run_with(show, b"").failed(1, &["opens with its key file", "leave out --passphrase-file"]);
}

#[test]
fn missing_and_empty_passphrases_are_errors() {
    let home = Home::empty();
    let empty = home.file("empty", b"\n");
    home.run(&["identity", "new", "--passphrase-file", empty.to_str().unwrap()]).failed(1, &["is empty"]);
    home.run(&["identity", "new", "--passphrase-file", "/nowhere/at/all"]).failed(1, &["cannot read /nowhere/at/all"]);
    let mut new = home.command(&["identity", "new"]);
    new.env("VEILCAST_PASSPHRASE", "");
    run_with(new, b"").failed(1, &["VEILCAST_PASSPHRASE is empty"]);
}

#[test]
fn damaged_files_are_errors_that_name_them_and_nothing_is_changed() {
    let damages: [(&str, &[u8], &[&str]); 4] = [
        ("identity.json", b"{}", &["identity.json", "not a usable keystore"]),
        ("identity.json", b"\xff\xfe", &["identity.json", "not JSON"]),
        ("store/header", b"junk", &["header"]),
        ("store.key", b"0123", &["store.key does not open the identity"]),
    ];
    for (name, content, says) in damages {
        let home = Home::new();
        home.stream("prices");
        let path = home.path().join(name);
        std::fs::write(&path, content).unwrap();
        home.run(&["stream", "show"]).failed(1, says);
        assert_eq!(std::fs::read(&path).unwrap(), content, "{name}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_at_the_prompt_for_a_passphrase_leaves_the_terminal_as_it_was() {
    use std::io::Write;
    use std::process::{Command, Stdio};
    if Command::new("script").arg("--version").output().is_err() {
        return; // There is nothing here that makes a terminal.
    }
    let home = Home::empty();
    let mut new = home.command(&["identity", "new"]);
    new.env("VEILCAST_PASSPHRASE", "rose");
    run_with(new, b"").ok();
    let asking = home.command(&["key", "list"]);
    // Ctrl-C is a character here, as it is to what asks, so that it may be typed before that listens. The shell goes on behind the
    // prompt, and shows how the terminal is then.
    let program = asking.get_program().display();
    let line = format!("stty -isig -icanon; echo ready; '{program}' key list; stty -a; echo end");
    let mut terminal = Command::new("script");
    terminal.args(["-q", "-e", "-c", &line, "/dev/null"]).env("SHELL", "/bin/sh");
    for (name, value) in asking.get_envs() {
        match value {
            Some(value) => terminal.env(name, value),
            None => terminal.env_remove(name),
        };
    }
    let mut process = common::Process::start(terminal, Stdio::piped());
    let mut keys = process.stdin.take().unwrap();
    process.stdout.wait_for("ready");
    let typing = std::thread::spawn(move || {
        while keys.write_all(b"\x03").and_then(|()| keys.flush()).is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    });
    process.wait();
    let said = process.stdout.until_end().join("\n");
    drop(process);
    typing.join().unwrap();
    assert!(said.contains("interrupted") && said.contains("end"), "{said}");
    assert!(said.contains(" echo ") && !said.contains(" -echo "), "{said}");
}

#[test]
fn a_truncated_store_is_told_from_a_wrong_passphrase() {
    let home = Home::new();
    home.stream("prices");
    let records = home.path().join("store/sled/db");
    let whole = std::fs::read(&records).unwrap();
    std::fs::write(&records, &whole[..whole.len() / 2]).unwrap();
    let told = home.run(&["stream", "show"]).failed(1, &["what to do next", "backup"]);
    assert!(told.stderr.contains("truncated") || told.stderr.contains("damaged"), "{told:?}");
}

#[test]
fn errors_are_json_objects_with_a_hint_where_json_is_wanted() {
    let told = Home::empty().run(&["--json", "stream", "show"]).failed(1, &[]);
    let json: Value = serde_json::from_str(&told.stderr).unwrap();
    assert!(json["error"].as_str().unwrap().contains("no identity"), "{json}");
    assert!(json["hint"].as_str().unwrap().contains("identity new"), "{json}");
}
