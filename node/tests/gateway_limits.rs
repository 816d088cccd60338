//! What one application can cost a running daemon, and the others.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

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
        std::thread::sleep(Duration::from_millis(20));
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

/// A WebSocket with nothing of a library in between, which could keep what it is to send in order.
fn bare_socket(daemon: &Daemon, key: &str, path: &str) -> TcpStream {
    let mut socket = TcpStream::connect(daemon.authority()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "GET {path}?apiKey={key} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    socket
}

/// The code of the close frame that comes next, and that nothing comes behind it.
fn close_code(mut socket: TcpStream) -> u16 {
    let mut all = Vec::new();
    socket.read_to_end(&mut all).unwrap();
    assert!(all.len() >= 4 && all[0] == 0x88 && usize::from(all[1]) == all.len() - 2, "{all:?}");
    u16::from_be_bytes([all[2], all[3]])
}

#[test]
fn a_websocket_is_told_by_a_close_code_what_was_wrong_with_what_it_sent_or_why_else_it_is_closed() {
    let (home, path, [key]) = home("", ["writer"]);
    let daemon = Daemon::start(&home, &[]);
    let publish = format!("{path}/publish");
    // Frames with a mask of zeros.
    let large = [&[0x82, 0xff, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0][..], &vec![7; 2 << 20]].concat();
    for (sent, code) in [
        (large, 1009),
        (vec![0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe], 1007),
        // A kind of frame that there is not; a frame without mask.
        (vec![0x83, 0x80, 0, 0, 0, 0], 1002),
        (vec![0x81, 0x01, b'x'], 1002),
        // Who leaves in order is answered in kind.
        (vec![0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8], 1000),
    ] {
        let mut socket = bare_socket(&daemon, &key, &publish);
        socket.write_all(&sent).unwrap();
        assert_eq!(close_code(socket), code);
    }
    let open = bare_socket(&daemon, &key, &publish);
    home.run(&["api-key", "revoke", "writer"]).ok();
    assert_eq!(close_code(open), 1008);
    daemon.end();
}

#[test]
fn a_websocket_that_gives_way_is_told_to_come_again_and_one_that_is_open_at_the_stop_that_the_node_goes() {
    let settings = "max_connections = 4\nmax_connections_per_key = 4";
    let (home, path, [most, one, late]) = home(settings, ["most", "one", "late"]);
    let daemon = Daemon::start(&home, &[]);
    let [first, second, _third] = [(); 3].map(|()| bare_socket(&daemon, &most, &format!("{path}/subscribe")));
    let _one = following(&daemon, &one, &path, 1);
    daemon.with(&late, &path, &JSON).ok();
    assert_eq!(close_code(first), 1013);
    let mut second = std::io::BufReader::new(second);
    // What was published came first.
    let mut frame = [0; 2];
    second.read_exact(&mut frame).unwrap();
    assert_eq!(frame[0], 0x81);
    daemon.end();
    let mut rest = Vec::new();
    second.read_to_end(&mut rest).unwrap();
    let close = rest.windows(4).rfind(|four| four[0] == 0x88).unwrap();
    assert_eq!(close[2..], 1001_u16.to_be_bytes());
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

#[test]
fn who_asks_before_a_body_is_sent_that_is_too_large_is_told_so_and_not_to_go_on() {
    let (home, path, [key]) = home("", ["writer"]);
    let daemon = Daemon::start(&home, &[]);
    for (length, status) in [(5, "HTTP/1.1 100"), (1 << 30, "HTTP/1.1 413")] {
        let mut socket = TcpStream::connect(daemon.authority()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Type: text/plain\r\n\
             Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).unwrap();
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), status);
    }
    daemon.end();
}

/// A stream of events that has begun, and of which nothing more is taken.
#[cfg(target_os = "linux")]
fn taking_nothing(daemon: &Daemon, key: &str, path: &str) -> TcpStream {
    let mut lazy = TcpStream::connect(daemon.authority()).unwrap();
    lazy.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "GET {path}/subscribe?events=true&partitions=0,0,0 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n"
    );
    lazy.write_all(head.as_bytes()).unwrap();
    let mut begun = [0; 12];
    lazy.read_exact(&mut begun).unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200");
    lazy
}

#[cfg(target_os = "linux")]
#[test]
fn readers_that_take_nothing_cost_a_few_megabytes_each_and_learn_later_what_they_lost_and_others_lose_nothing() {
    const READERS: usize = 8;
    const MESSAGES: usize = 24;
    const LARGE: usize = 900_000;
    // What waits, and the message that is being sent, in some copies.
    const COSTS: usize = (4 << 20) + 4 * LARGE;
    let (home, path, [key]) = home("write_timeout = \"1h\"", ["reader"]);
    let daemon = Daemon::start(&home, &[]);
    let large = format!("@{}", home.file("large.txt", &vec![b'x'; LARGE]).display());
    let publish = || drop(daemon.with(&key, &path, &["-H", "Content-Type: text/plain", "--data-binary", &large]).ok());
    publish();
    let mut lazy: Vec<TcpStream> = (0..READERS).map(|_| taking_nothing(&daemon, &key, &path)).collect();
    let live = daemon.follow(&key, &format!("{path}/subscribe"));
    let before = daemon.process.memory();
    for n in 0..MESSAGES {
        publish();
        daemon.with(&key, &path, &["-H", "Content-Type: application/json", "-d", &n.to_string()]).ok();
        let payload = format!("\"payload\":{n}}}");
        // The newest first: the others are long.
        live.stdout
            .wait(&payload, |lines| lines.iter().rev().take(8).any(|line| line.ends_with(&payload)).then_some(()));
    }
    let grown = daemon.process.memory().saturating_sub(before);
    let most = (READERS * COSTS) as u64;
    assert!(most * 2 < (READERS * MESSAGES * LARGE) as u64, "what is waiting would not show");
    assert!(grown < most, "{grown} bytes more, of {most}");
    assert_eq!(live.stdout.all().iter().filter(|line| line.len() > LARGE).count(), MESSAGES);

    let mut told = String::new();
    let mut lines = std::io::BufReader::new(lazy.remove(0));
    while !told.contains("\"event\":\"gap\"") {
        told.clear();
        let read = std::io::BufRead::read_line(&mut lines, &mut told);
        assert!(read.is_ok_and(|bytes| bytes > 0), "it ends without");
    }
    daemon.end();
}
