//! What one application can cost a running daemon, and the others.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use common::{Daemon, Home, PATIENCE, Process, in_path};

const READER: [&str; 2] = ["subscribe", "publish"];
const EVENTS: [&str; 2] = ["-H", "Accept: text/event-stream"];
const JSON: [&str; 4] = ["-H", "Content-Type: application/json", "-d", "1"];

/// A data folder with a stream, and keys of these names.
fn home<const N: usize>(gateway: &str, keys: [&str; N]) -> (Home, String, [String; N]) {
    let home = Home::new();
    let stream = home.stream("prices");
    home.config(&format!("[gateway]\n{gateway}\n"));
    let keys = keys.map(|name| home.api_key(name, &READER));
    (home, format!("/streams/{}", in_path(&stream)), keys)
}

/// So many streams of events.
fn following(daemon: &Daemon, key: &str, path: &str, many: usize) -> Vec<Process> {
    (0..many).map(|_| daemon.follow(key, &format!("{path}/subscribe"))).collect()
}

/// So many connections on which nothing is said.
fn silent(daemon: &Daemon, many: usize) -> Vec<TcpStream> {
    (0..many).map(|_| TcpStream::connect(daemon.authority()).unwrap()).collect()
}

/// Once the node has noticed what happened.
fn eventually(mut happens: impl FnMut() -> bool) {
    let began = Instant::now();
    while !happens() {
        assert!(began.elapsed() < PATIENCE, "it never happens");
    }
}

#[test]
fn one_key_has_its_share_of_streams_and_connections_and_never_keeps_the_others_out() {
    let (home, path, [greedy, other]) = home("max_connections = 8", ["greedy", "other"]);
    let daemon = Daemon::start(&home, &[]);
    let held = following(&daemon, &greedy, &path, 3);
    let refused = daemon.with(&greedy, &format!("{path}/subscribe"), &[&["-i"], &EVENTS[..]].concat());
    let told = refused.body.to_lowercase();
    assert!(
        refused.status == 429 && told.contains("retry-after: 5") && told.contains("too_many_connections"),
        "{told}"
    );
    // What it asks is answered all the same, and so are the others.
    daemon.with(&greedy, &path, &JSON).ok();
    let theirs = following(&daemon, &other, &path, 3);
    daemon.with(&other, &path, &JSON).ok();
    daemon.ask("/health", &[]).ok();
    daemon.ask("/ready", &[]).ok();
    // What ends is free again, once the node has noticed.
    drop(held);
    eventually(|| {
        let asked = daemon.with(&greedy, &format!("{path}/subscribe"), &[&EVENTS[..], &["--max-time", "1"]].concat());
        asked.status == 200
    });
    drop(theirs);
    daemon.end();
}

#[test]
fn when_keys_have_taken_every_connection_the_one_with_the_most_gives_way_to_a_late_one() {
    let settings = "max_connections = 4\nmax_connections_per_key = 4";
    let (home, path, [most, one, late]) = home(settings, ["most", "one", "late"]);
    let daemon = Daemon::start(&home, &[]);
    let mut held = following(&daemon, &most, &path, 3);
    let _one = following(&daemon, &one, &path, 1);
    let theirs = following(&daemon, &late, &path, 1);
    assert_eq!(held.remove(0).wait(), Some(0), "its stream is ended and not cut");
    // Nobody has two more than another now.
    let refused = daemon.with(&late, &path, &[&["-i"], &JSON[..]].concat());
    assert!(refused.status == 503 && refused.body.to_lowercase().contains("retry-after: "), "{refused:?}");
    daemon.ask("/health", &[]).ok();
    drop(held);
    eventually(|| daemon.with(&late, &path, &JSON).status == 200);
    theirs[0].stdout.wait_for("\"payload\":1");
    daemon.end();
}

#[test]
fn thousands_of_connections_that_say_nothing_keep_nobody_out_and_are_closed_and_few_files_leave_room_for_the_store() {
    let (home, path, [key]) = home("head_timeout = \"2s\"", ["reader"]);
    let daemon = Daemon::start_under("ulimit -n 320", &home);
    daemon
        .process
        .stderr
        .wait_for("applications have 48 connections instead of 1024: this process may have 320 files open");
    let live = daemon.follow(&key, &format!("{path}/subscribe"));
    for _ in 0..10 {
        let mut idle = silent(&daemon, 200);
        daemon.ask("/health", &[]).ok();
        daemon.with(&key, &path, &JSON).ok();
        idle[0].set_read_timeout(Some(PATIENCE)).unwrap();
        // The one that came first gave way at once; closed or reset.
        let closed = idle[0].read(&mut [0]);
        assert!(!matches!(&closed, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock), "{closed:?}");
    }
    let mut idle = silent(&daemon, 1);
    idle[0].set_read_timeout(Some(PATIENCE)).unwrap();
    // Half a head is no better than none.
    idle[0].write_all(b"GET /health HTTP/1.1\r\nHost: loc").unwrap();
    let mut rest = Vec::new();
    let _ = idle[0].read_to_end(&mut rest);
    live.stdout.wait_for("\"payload\":1");
    daemon.end();
}

#[test]
fn a_soft_limit_of_open_files_is_raised_at_the_start() {
    let (home, _, []) = home("max_connections = 60", []);
    let daemon = Daemon::start_under("ulimit -Sn 300", &home);
    let said = daemon.process.stderr.all();
    assert!(!said.iter().any(|line| line.contains("connections instead of")), "{said:#?}");
    daemon.end();
}
