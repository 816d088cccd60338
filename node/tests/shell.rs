//! What a shell and `man` know of the command line is all of it.
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use common::{Home, run};

/// Commands below this one, by what its help lists, and so on downwards; itself first.
fn commands(path: &[String]) -> Vec<Vec<String>> {
    let help = help(path);
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // A description that is wrapped begins further to the right.
    let name = |line: &str| {
        Some(line.strip_prefix("  ")?.split_whitespace().next()?.to_owned()).filter(|_| !line.starts_with("   "))
    };
    let below = listed.filter_map(name).filter(|name| name != "help");
    let below = below.flat_map(|name| commands(&[path, &[name]].concat()));
    [path.to_vec()].into_iter().chain(below).collect()
}

fn help(path: &[String]) -> String {
    let args = path.iter().cloned().chain(["--help".to_owned()]).collect::<Vec<_>>();
    run(&args).ok()
}

/// Long options that a command's help names at the beginning of a line.
fn options(path: &[String]) -> BTreeSet<String> {
    let help = help(path);
    let of = |line: &str| {
        let line = line.trim_start();
        let long = if line.starts_with("--") { line } else { line.strip_prefix('-')?.get(3..)?.trim_start() };
        let name = long.strip_prefix("--")?;
        Some(name.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect::<String>())
    };
    help.lines().filter_map(of).filter(|name| !name.is_empty()).collect()
}

#[test]
fn every_command_has_a_man_page_with_each_of_its_options_and_there_are_no_others() {
    let home = Home::empty();
    let folder = home.path().join("man/man1");
    let said = home.run(&["man", folder.to_str().unwrap(), "--json"]).json();
    let commands = commands(&[]);
    assert!(commands.len() > 40, "{commands:?}");
    let names: BTreeSet<String> = commands.iter().map(|path| page(path)).collect();
    let there = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(there.collect::<BTreeSet<_>>(), names);
    assert_eq!(said["pages"], names.len());
    for path in &commands {
        let text = fs::read_to_string(folder.join(page(path))).unwrap();
        assert!(text.contains(".TH ") && text.contains(".SH SYNOPSIS"), "{path:?}");
        for option in options(path).iter().filter(|option| !["help", "version"].contains(&option.as_str())) {
            let written = format!("\\-\\-{}", option.replace('-', "\\-"));
            assert!(text.contains(&written), "{path:?} says nothing of --{option}");
        }
    }
}

fn page(path: &[String]) -> String {
    [&["veilcast".to_owned()], path].concat().join("-") + ".1"
}

#[test]
fn no_page_tells_anything_of_the_machine_it_was_made_on() {
    let home = Home::empty();
    let folder = home.path().join("man1");
    let secret = "https://rpc.example/v2/s3cret-key-of-a-customer";
    let mut command = home.command(&["man", folder.to_str().unwrap()]);
    command.env("VEILCAST_RPC", secret).env("VEILCAST_CONFIG", "/folder-of-a-customer/all.toml");
    common::run_with(command, b"").ok();
    for entry in fs::read_dir(&folder).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        for private in ["s3cret", "of-a-customer", home.path().to_str().unwrap()] {
            assert!(!text.contains(private), "{private}: {text}");
        }
    }
}

#[test]
fn every_shells_completions_know_every_command() {
    let commands = commands(&[]);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]).ok();
        for name in commands.iter().filter_map(|path| path.last()) {
            assert!(script.contains(name.as_str()), "{shell} does not know {name}");
        }
        assert!(script.contains("bootstrap"), "{shell} knows no options");
    }
    run(&["completions", "cmd.exe"]).failed(2, &["bash", "fish"]);
}

#[test]
fn bash_takes_the_completions_and_completes_a_command_and_an_option_with_them() {
    let home = Home::empty();
    let script = home.run(&["completions", "bash"]).ok();
    let file = home.file("veilcast.bash", script.as_bytes());
    let checked = Command::new("bash").arg("-n").arg(&file).output().unwrap();
    assert!(checked.status.success() && checked.stderr.is_empty(), "{checked:?}");
    for (words, expected) in [("subs", "subscribe"), ("key fe", "fetch"), ("publish --boot", "--bootstrap")] {
        assert!(completed(&file, words).iter().any(|word| word == expected), "{words}");
    }
}

/// What bash offers behind these words.
fn completed(script: &Path, words: &str) -> Vec<String> {
    let ask = "source \"$1\"; read -ra COMP_WORDS <<< \"veilcast $2\"; COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); \
        _veilcast veilcast \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let said = Command::new("bash").args(["--norc", "-c", ask, "bash"]).arg(script).arg(words).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    String::from_utf8(said.stdout).unwrap().lines().map(str::to_owned).collect()
}
