//! The soak run, short: everything of it happens, and no verdict of it depends on how long it takes.

use std::process::Command;

#[test]
fn a_short_soak_run_with_a_stop_and_a_kill_loses_nothing_and_leaves_the_audit_log_whole() {
    let run = ["--minutes", "0", "--hours", "3", "--rounds", "12", "--messages", "8"];
    let output = Command::new(env!("CARGO_BIN_EXE_soak")).args(run).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    assert!(stdout.contains("after each of 2 restarts (1 by kill -9)"), "{stdout}");
    assert!(stdout.trim_end().ends_with("all held"), "{stdout}");
}
