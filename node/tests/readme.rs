//! The tour of the README, pasted into a bash as a reader does it; and the program in it, which is one that runs.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod common;

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{PATIENCE, Process, command};

const README: &str = include_str!("../../README.md");
const HEADING: &str = "## A node in five minutes\n";
/// What publishes for the first time. Whoever subscribes is on the way there until then, and gossip keeps nothing for later.
const FIRST: &str = "\"price\": 42";

/// What is pasted, and what the README says it prints.
struct Block {
    commands: String,
    prints: Vec<String>,
}

/// The blocks of the tour, but for that which builds.
fn tour() -> Vec<Block> {
    let section = README.split_once(HEADING).unwrap().1.split("\n## ").next().unwrap();
    let mut blocks = Vec::<Block>::new();
    for fenced in section.split("\n```sh\n").skip(1) {
        let (commands, after) = fenced.split_once("\n```\n").unwrap();
        let printed = after.strip_prefix("```text\n").map(|text| text.split_once("\n```\n").unwrap().0);
        let prints = printed.into_iter().flat_map(str::lines).map(Into::into).collect();
        blocks.push(Block { commands: commands.into(), prints });
    }
    assert!(blocks.remove(0).commands.starts_with("cargo build"));
    blocks
}

/// `...` in what is expected is anything.
fn fits(expected: &str, line: &str) -> bool {
    let mut parts = expected.split("...");
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        match parts.peek() {
            None => return rest.ends_with(part),
            Some(_) => match rest.split_once(part) {
                Some((_, after)) => rest = after,
                None => return false,
            },
        }
    }
    rest.is_empty()
}

/// Ports that are free, none of which the system gives to whoever asks for any.
fn free_ports(wanted: usize) -> Vec<u16> {
    let first = 10_000 + u16::try_from(std::process::id() % 20_000).unwrap();
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let found: Vec<_> = (first..32_000).chain(10_000..first).filter(is_free).take(wanted).collect();
    assert_eq!(found.len(), wanted);
    found
}

/// Its ports, as others of this machine may have those of the README.
fn with_ports(text: &str, ports: &[u16]) -> String {
    let mut text = text.to_owned();
    for (port, free) in ["4100", "4101", "7171", "7172"].into_iter().zip(ports) {
        for before in ["/tcp/", "127.0.0.1:"] {
            text = text.replace(&format!("{before}{port}"), &format!("{before}{free}"));
        }
    }
    text
}

/// A bash that goes on until it is told no more, and ends with the first command that fails.
struct Bash {
    process: Process,
    folder: tempfile::TempDir,
    /// Blocks that were pasted.
    pasted: usize,
}

impl Bash {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = std::env::var_os("PATH").unwrap();
        let ours = Path::new(env!("CARGO_BIN_EXE_veilcast")).parent().unwrap().to_owned();
        let path = std::env::join_paths([ours].into_iter().chain(std::env::split_paths(&path))).unwrap();
        let mut bash = Command::new("bash");
        // Without what this machine may have set for veilcast.
        for (variable, value) in command::<&str>(&[]).get_envs() {
            assert!(value.is_none());
            bash.env_remove(variable);
        }
        bash.args(["--norc", "-e"]).process_group(0).current_dir(&folder).env("PATH", path).env("no_proxy", "*");
        let mut process = Process::start(bash, Stdio::piped());
        writeln!(process.stdin.as_mut().unwrap(), "exec 2>&1").unwrap();
        Self { process, folder, pasted: 0 }
    }

    /// Pastes the commands; returns once the last of them is done.
    fn paste(&mut self, commands: &str) {
        self.pasted += 1;
        let over = format!("block {} is over", self.pasted);
        let file = self.folder.path().join(format!("block-{}", self.pasted));
        fs::write(&file, commands).unwrap();
        let stdin = self.process.stdin.as_mut().unwrap();
        writeln!(stdin, ". {} </dev/null; echo; echo {over}", file.display()).unwrap();
        self.process.stdout.wait_for(&over);
    }

    /// Whether all of these lines were printed since `begin`, however they came among each other, each for itself.
    fn missing(&self, begin: usize, lines: &[String]) -> Option<String> {
        let mut printed: Vec<String> = self.process.stdout.all().split_off(begin);
        for line in lines {
            let found = printed.iter().position(|printed| fits(line, printed));
            let Some(found) = found else { return Some(line.clone()) };
            printed.remove(found);
        }
        None
    }
}

impl Drop for Bash {
    /// What it started and did not stop goes with it.
    fn drop(&mut self) {
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
    }
}

#[test]
fn every_command_of_the_tour_works_in_an_empty_folder_and_prints_what_the_readme_says() {
    let ports = free_ports(4);
    let mut bash = Bash::start();
    let blocks = tour();
    assert!(blocks.len() >= 8, "{}", blocks.len());
    for Block { commands, prints } in blocks {
        let (commands, began) = (with_ports(&commands, &ports), Instant::now());
        let prints: Vec<_> = prints.iter().map(|line| with_ports(line, &ports)).collect();
        let begin = bash.process.stdout.all().len();
        bash.paste(&commands);
        let mut pasted = Instant::now();
        while let Some(missing) = bash.missing(begin, &prints) {
            let printed = bash.process.stdout.all().split_off(begin);
            assert!(began.elapsed() < PATIENCE, "{missing}\nis not printed by\n{commands}\nbut\n{printed:#?}");
            if commands.contains(FIRST) && pasted.elapsed() > Duration::from_secs(1) {
                bash.paste(&commands);
                pasted = Instant::now();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if commands.contains("api-key add desk") {
            the_dashboard_is_there(&mut bash, ports[2]);
        }
    }
    drop(bash.process.stdin.take());
    assert_eq!(bash.process.wait(), Some(0));
}

/// The page that a reader is sent to, and what it shows to the key that was just made.
fn the_dashboard_is_there(bash: &mut Bash, port: u16) {
    let key = bash.process.stdout.all().into_iter().find(|line| line.starts_with("veilcast_")).unwrap();
    let url = format!("http://127.0.0.1:{port}");
    let page = common::curl(&[&format!("{url}/dashboard")]);
    assert_eq!(page.status, 200);
    let shown = common::curl(&["-H", &format!("Authorization: Bearer {key}"), &format!("{url}/overview")]);
    assert_eq!((shown.status, shown.body.contains("/prices")), (200, true), "{shown:?}");
}

/// The lines of the first example that the README shows, without what they are indented by.
fn marked(source: &str) -> String {
    let blocks = source.split("// README: from here\n").skip(1).map(|block| {
        let (shown, _) = block.split_once("// README: to here").unwrap();
        let indent = shown.len() - shown.trim_start_matches(' ').len();
        let lines: Vec<_> = shown.trim_end().lines().map(|line| line.get(indent..).unwrap_or("")).collect();
        lines.join("\n")
    });
    blocks.collect::<Vec<_>>().join("\n\n")
}

#[test]
fn the_program_in_the_readme_is_the_heart_of_the_first_example() {
    let section = README.split_once("## In a program\n").unwrap().1;
    let (program, _) = section.split_once("\n```rust\n").unwrap().1.split_once("\n```\n").unwrap();
    assert!(program.contains("seller.grant(") && program.contains("KeyRefused"), "{program}");
    assert_eq!(program, marked(include_str!("../../examples/first_stream.rs")));
}

#[test]
fn dots_stand_for_anything_and_all_else_for_itself() {
    assert!(fits("0x... may subscribe until ...", "0xabc may subscribe until 2026"));
    assert!(fits("plain", "plain") && !fits("plain", "plainer") && !fits("a...c", "a b"));
    assert!(!fits("key ... is ...!", "key 1 is") && fits("", "") && !fits("", "x"));
}
