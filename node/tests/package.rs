//! The Debian package, of the binary under test: what is in it, and what its script says where it cannot be made.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const BINARY: &str = env!("CARGO_BIN_EXE_veilcast");

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn script(args: &[&str]) -> Command {
    let mut command = Command::new(top().join("scripts/deb"));
    // What is looked at is not its size.
    command.args(args).env("DPKG_DEB_COMPRESSOR_TYPE", "none");
    command
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Mode of every file below, by its path.
fn files(root: &Path) -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::metadata(&path).unwrap().permissions().mode() & 0o7777);
            }
        }
    }
    found
}

#[test]
fn the_package_has_the_binary_its_unit_pages_completions_and_config() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("a tree");
    let laid = script(&["--binary", BINARY, "--tree", "--to", root.to_str().unwrap()]).output().unwrap();
    assert!(laid.status.success(), "{laid:?}");
    let files = files(&root);

    let pages = place.path().join("pages");
    assert!(Command::new(BINARY).arg("man").arg(&pages).status().unwrap().success());
    for page in fs::read_dir(pages).unwrap() {
        let name = format!("usr/share/man/man1/{}.gz", page.unwrap().file_name().to_str().unwrap());
        assert_eq!(files.get(&name), Some(&0o644), "{name}");
    }
    for name in [
        "etc/veilcast/veilcast.toml",
        "usr/lib/systemd/system/veilcast.service",
        "usr/share/bash-completion/completions/veilcast",
        "usr/share/zsh/vendor-completions/_veilcast",
        "usr/share/fish/vendor_completions.d/veilcast.fish",
        "usr/share/doc/veilcast/OPERATIONS.md",
        "usr/share/doc/veilcast/changelog.gz",
        "usr/share/doc/veilcast/copyright",
    ] {
        assert_eq!(files.get(name), Some(&0o644), "{name}");
    }
    assert_eq!(files["usr/bin/veilcast"], 0o755);
    let programs = files.values().filter(|mode| **mode != 0o644).count();
    assert_eq!(programs, 1, "nothing else is a program, and nobody but root writes any of it: {files:#?}");

    let installed = root.join("usr/bin/veilcast");
    let checked =
        Command::new(&installed).args(["config", "check"]).arg(root.join("etc/veilcast/veilcast.toml")).output();
    assert!(checked.unwrap().status.success());
    the_unit_starts_what_there_is(&installed, &root.join("usr/lib/systemd/system/veilcast.service"));
}

/// Every option that the unit gives the program is one of `run`.
fn the_unit_starts_what_there_is(installed: &Path, unit: &Path) {
    let unit = fs::read_to_string(unit).unwrap();
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/veilcast run ")).unwrap();
    let help = Command::new(installed).args(["run", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for option in start.split_whitespace().filter(|word| word.starts_with("--")) {
        assert!(help.contains(&format!("{option} <")), "{option}");
    }
}

#[test]
fn the_package_installs_serves_and_is_removed_in_a_copy_of_this_machine_where_one_can_be_made() {
    let able = Command::new(top().join("packaging/debian/check")).arg("--able").output().unwrap();
    if !able.status.success() {
        let (code, _, why) = said(&able);
        assert_eq!(code, Some(1));
        assert!(why.starts_with("packaging/debian/check: "), "it says what is missing: {why}");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("to here");
    let made = script(&["--binary", BINARY, "--to", to.to_str().unwrap(), "--check"]).output().unwrap();
    let (code, out, err) = said(&made);
    assert_eq!(code, Some(0), "{out}{err}");
    let package = PathBuf::from(out.strip_suffix('\n').unwrap());
    assert!(package.is_file() && package.parent() == Some(to.as_path()), "stdout is the path alone: {out}");
    assert_eq!(fs::read_dir(to).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn what_the_package_cannot_be_made_with_or_for_is_said_before_anything_is_built() {
    let cases: &[(&[&str], &str)] = &[
        (&["--fast"], "unknown: --fast"),
        (&["--to"], "--to needs a path"),
        (&["--tree"], "--tree needs --to FOLDER"),
        (&["--tree", "--to", "x", "--check"], "--tree makes no package"),
        (&["--tree", "--to", "x", "--binary", "/bin/true"], "/bin/true is not veilcast"),
    ];
    for (args, cause) in cases {
        let (code, out, err) = said(&script(args).output().unwrap());
        assert_eq!((code, out.as_str()), (Some(1), ""), "{args:?}: {err}");
        assert!(err.starts_with("scripts/deb: ") && err.contains(cause), "{args:?}: {err}");
    }
}

#[test]
fn a_tool_that_the_package_needs_and_is_missing_is_named_with_where_it_comes_from() {
    let place = tempfile::tempdir().unwrap();
    // All that the script calls before it looks, and nothing else.
    for tool in ["bash", "env", "dirname", "realpath"] {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap())
            .map(|dir| dir.join(tool))
            .find(|path| path.is_file())
            .unwrap();
        symlink(found, place.path().join(tool)).unwrap();
    }
    let (code, out, err) = said(&script(&["--debug"]).env("PATH", place.path()).output().unwrap());
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert!(err.contains("readelf is missing: install binutils"), "{err}");
}
