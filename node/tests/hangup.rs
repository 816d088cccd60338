//! A terminal that goes: whoever runs in it ends as if told to, unless it was started to survive that.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod common;

use std::process::{Command, Stdio};

use common::{Home, LOCAL, Process};

#[test]
fn a_node_whose_terminal_goes_stops_with_nothing_lost_and_says_so() {
    for args in [&["run", "--gateway", "none"][..], &["node"]] {
        let home = Home::new();
        let mut process = home.start(&[args, &["--listen", LOCAL]].concat());
        process.stdout.wait_for("/p2p/");
        process.signal("-HUP");
        assert_eq!(process.wait(), Some(0), "{args:?}: {:#?}", process.stderr.all());
        let said = process.stderr.until_end();
        assert!(said.iter().any(|line| line.contains("stop")), "{args:?}: {said:#?}");
    }
}

#[test]
fn one_that_was_started_to_survive_its_terminal_does() {
    let home = Home::new();
    let mut command = Command::new("nohup");
    command.arg(env!("CARGO_BIN_EXE_veilcast")).args(["run", "--listen", LOCAL, "--gateway", "none"]);
    command.env("VEILCAST_DATA_DIR", home.path());
    let mut process = Process::start(command, Stdio::null());
    process.stderr.wait_for("ready as");
    process.signal("-HUP");
    // A second signal would end it with 1.
    process.signal("-TERM");
    assert_eq!(process.wait(), Some(0), "{:#?}", process.stderr.all());
}
