//! Commands on a data folder that a `veilcast run` works on: what it holds is looked at and changed through it.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Instant;

use common::{Daemon, Home, LOCAL, PATIENCE, Process, Run, run_with, seller_and_buyer, subscribed};
use serde_json::Value;

const USER: &str = "0x00000000000000000000000000000000000000bb";
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// A data folder with a passphrase, and a daemon on it.
fn with(home: &Home, args: &[&str], variables: &[(&str, &str)]) -> Run {
    let mut command = home.command(args);
    command.envs(variables.iter().copied());
    run_with(command, b"")
}

#[test]
fn streams_lists_and_rhythms_are_set_and_shown_through_the_daemon_and_are_the_same_without_it() {
    let home = Home::new();
    let stream = home.stream("prices");
    let daemon = Daemon::start(&home, &[]);
    home.run_with(&["publish", &stream], b"one\n").ok();
    let told = home.run(&["stream", "set", &stream, "--history", "none", "--rotate-every", "2"]).ok();
    assert!(told.contains("of it") || told.contains("handed out"), "{told}");
    // It counts from the very next message on: the policy is the client's own.
    home.run_with(&["publish", &stream], b"two\nthree\nfour\nfive\n").ok();
    let keys = home.run(&["key", "list", &stream, "--json"]).json()["keys"].as_array().unwrap().len();
    assert!(keys > 1, "{keys}");
    home.run(&["access", "deny", &stream, USER]).ok();
    assert!(home.run(&["access", "show", &stream]).ok().contains("deny"));
    home.run(&["access", "clear", &stream, USER]).ok();
    home.run(&["access", "clear", &stream, USER]).failed(1, &["access show"]);
    home.run(&["access", "allow", &stream, USER]).ok();
    home.run(&["stream", "set", &format!("{stream}-2"), "--public"])
        .failed(1, &["there is no stream", "stream create"]);
    home.run(&["stream", "set", &stream, "--storage", USER]).failed(2, &["--registry grants"]);
    home.run(&["stream", "show", &stream, "--registry", "grants"]).failed(2, &["goes by the registry local"]);
    let shown = || {
        let mut shown = home.run(&["stream", "show", &stream, "--json"]).json();
        shown.as_object_mut().unwrap().remove("holders");
        (shown, home.run(&["stream", "show"]).ok(), home.run(&["access", "show", &stream]).ok())
    };
    let through = shown();
    assert_eq!(
        (&through.0["history"], &through.0["key_policy"]["rotate_every"]["messages"]),
        (&"none".into(), &2.into())
    );
    daemon.end();
    assert_eq!(shown(), through);
}

#[test]
fn whoever_is_denied_through_the_daemon_reads_nothing_that_is_published_afterwards() {
    let (seller, buyer, stream) = seller_and_buyer();
    let daemon = Daemon::start(&seller, &[]);
    let reading = subscribed(&buyer, &stream, &daemon.address, &[]);
    seller.run_with(&["publish", &stream], b"paid for\n").ok();
    reading.stdout.wait_for("paid for");
    seller.run(&["access", "deny", &stream, &buyer.address()]).ok();
    let listed = seller.run(&["stream", "subscribers", &stream, "--json"]).json();
    let buyers = &listed["subscribers"][0];
    assert_eq!(buyers["status"], "denied", "the grant is as it was, and holds: {listed}");
    seller.run_with(&["publish", &stream], b"not for you\n").ok();
    reading.stderr.wait_for("refused");
    assert_eq!(common::end(reading), ["paid for"]);
    let after = seller.run(&["stream", "subscribers", &stream, "--json"]).json();
    assert_eq!(after["subscribers"][0]["until"], buyers["until"]);
    assert!(after["subscribers"][0]["last_key"].is_string(), "he was given one, and reads on with it: {after}");
    daemon.end();
}

#[test]
fn signed_grants_are_issued_shown_taken_in_announced_and_taken_back_through_a_daemon() {
    let (home, other) = (Home::new(), Home::new());
    let relay = Home::new();
    home.config("[registry]\nname = \"grants\"\n");
    let meeting = Daemon::start(&relay, &[]);
    let daemon = Daemon::start(&home, &["--bootstrap", &meeting.address]);
    let stream = home.run(&["stream", "create", "prices"]).ok();
    let lines = home.run(&["grant", "issue", &stream, USER, "--for", "30d"]).ok();
    assert_eq!(lines.lines().count(), 2);
    assert!(home.run(&["grant", "show", &stream]).ok().contains(USER));
    // A line by itself is looked at by whoever has it.
    home.run(&["grant", "show", lines.lines().nth(1).unwrap()]).ok();
    let record = home.run(&["grant", "revoke", &stream, "--serial", "1"]).ok();
    assert!(home.run(&["stream", "subscribers", &stream]).ok().contains("revoked"));
    let announced = home.run(&["grant", "announce", "--json"]).json();
    assert_eq!(announced["announced"][0]["id"], stream.as_str());
    // Lines of stdin pass through as well, those of the command line too.
    other.config("[registry]\nname = \"grants\"\n");
    let second = Daemon::start(&other, &[]);
    other.run_with(&["grant", "import"], lines.as_bytes()).ok();
    other.run(&["grant", "import", &record]).ok();
    assert!(other.run(&["grant", "show", &stream]).ok().contains("taken back"));
    other.run_with(&["grant", "import"], b"no line\n").failed(2, &["line 1"]);
    other.run(&["grant", "import"]).failed(2, &["no line to take in"]);
    second.end();
    daemon.end();
    meeting.end();
}

#[test]
fn keys_are_put_in_used_carried_and_forgotten_through_the_daemon_and_leave_it_only_for_who_knows_what_opens_the_folder()
{
    let (home, other) = (Home::new(), Home::new());
    let stream = home.stream("prices");
    let daemon = Daemon::start(&home, &[]);
    home.run_with(&["key", "add", &stream, "--key-id", "summer", "--current"], KEY.as_bytes()).ok();
    home.run_with(&["key", "add", &stream, "--key-id", "wrong"], b"deadbeef").failed(2, &["64 hex digits"]);
    let of_other = ["key", "add", &stream, "--publisher", USER, "--key-id", "theirs", "--key-file", "their.key"];
    let mut command = home.command(&of_other);
    // A relative name is of the folder of whoever asks.
    home.file("their.key", "ab".repeat(32).as_bytes());
    command.current_dir(home.path().parent().unwrap());
    run_with(command, b"").ok();
    home.run_with(&["publish", &stream], b"under the agreed key\n").ok();
    let listed = home.run(&["key", "list", &stream, "--json"]).json();
    let current: Vec<&Value> = listed["keys"].as_array().unwrap().iter().filter(|key| key["current"] == true).collect();
    assert_eq!(
        (current.len(), &current[0]["key_id"], &current[0]["origin"]),
        (1, &"summer".into(), &"pre_agreed".into())
    );

    let prefix = format!("{}/plant", home.address());
    for id in ["plant-1", "plant-2"] {
        home.run_with(&["key", "add", "--prefix", &prefix, "--key-id", id], KEY.as_bytes()).ok();
    }
    home.run(&["key", "use", "--prefix", &prefix, "--key-id", "plant-2"]).ok();
    home.run(&["key", "remove", "--prefix", &prefix, "--key-id", "plant-1"]).ok();
    home.run(&["key", "remove", "--prefix", &prefix, "--key-id", "plant-9"]).failed(1, &["plant-9"]);

    let passphrase = [("VEILCAST_BACKUP_PASSPHRASE", "for the drawer")];
    let file = home.path().with_file_name("keys");
    let path = file.to_str().unwrap();
    assert!(with(&home, &["key", "export", &stream, path], &passphrase).ok().contains("2 keys, verified"));
    with(&home, &["key", "export", &stream, path], &passphrase).failed(1, &["exists already", "--force"]);
    with(&home, &["key", "export", &stream, path, "--force"], &passphrase).ok();
    with(&home, &["key", "export", &format!("{stream}-2"), path, "--force"], &passphrase).failed(1, &["no keys of"]);
    let second = Daemon::start(&other, &[]);
    with(&other, &["key", "import", path], &[("VEILCAST_BACKUP_PASSPHRASE", "wrong")]).failed(1, &["passphrase"]);
    assert_eq!(with(&other, &["key", "import", path, "--json"], &passphrase).json()["new"], 2);
    assert_eq!(with(&other, &["key", "import", path, "--json"], &passphrase).json()["new"], 0);
    second.end();

    home.run_with(&["key", "add", &stream, "--key-id", "autumn", "--current"], "cd".repeat(32).as_bytes()).ok();
    let forget = ["key", "forget", &stream, "--before", "9999999999999"];
    home.run(&forget).failed(2, &["--yes"]);
    let forgotten = home.run(&[&forget[..], &["--yes", "--json"]].concat()).json();
    assert_eq!(forgotten["removed"], 1, "{forgotten}");
    home.run(&["key", "forget", &stream, "--before", "365d"]).ok();
    daemon.end();
}

#[test]
fn a_backup_made_through_the_daemon_is_whole_and_a_passphrase_changed_through_it_opens_the_folder_from_then_on() {
    let home = Home::empty();
    let old = [("VEILCAST_PASSPHRASE", "the old one")];
    let address = with(&home, &["identity", "new"], &old).ok();
    let stream = with(&home, &["stream", "create", "prices"], &old).ok();
    let start = |passphrase: &str| {
        let mut command = home.command(&["run", "--gateway", "none", "--listen", LOCAL, "-vv"]);
        command.env("VEILCAST_PASSPHRASE", passphrase);
        let process = Process::start(command, Stdio::null());
        process.stderr.wait_for("ready as");
        process
    };
    let daemon = start("the old one");
    home.run_with(&["publish", &stream], b"one\n").ok();
    let file = home.path().with_file_name("backup");
    let path = file.to_str().unwrap();
    home.run(&["backup", path]).failed(1, &["opens with a passphrase"]);
    with(&home, &["backup", path], &[("VEILCAST_PASSPHRASE", "not the one")]).failed(1, &["passphrase"]);
    assert!(!file.exists());
    let told = with(&home, &["backup", path], &old).ok();
    assert!(
        told.contains(&address) && told.contains("1 key and") && told.contains("the passphrase of the data folder"),
        "{told}"
    );
    let left: Vec<_> = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".veilcast-")), "{left:?}");
    assert_eq!(fs::read_dir(home.path().join(".handing-over")).unwrap().count(), 0, "what was handed over is gone");

    let new = ("VEILCAST_NEW_PASSPHRASE", "the new one");
    with(&home, &["passphrase", "change"], &[("VEILCAST_PASSPHRASE", "not the one"), new]).failed(1, &["passphrase"]);
    with(&home, &["passphrase", "change"], &[old[0], new]).ok();
    // It goes on as it was, and the next one is opened with the new passphrase.
    home.run_with(&["publish", &stream], b"two\n").ok();
    with(&home, &["passphrase", "change"], &[old[0], new]).failed(1, &["passphrase"]);
    let said = daemon.stderr.all().join("\n");
    assert!(!said.contains("the old one") && !said.contains("the new one"), "{said}");
    common::end(daemon);
    with(&home, &["key", "list"], &old).failed(1, &["passphrase"]);
    let daemon = start("the new one");
    home.run_with(&["publish", &stream], b"three\n").ok();
    common::end(daemon);

    let restored = Home::empty();
    with(&restored, &["restore", path], &[("VEILCAST_BACKUP_PASSPHRASE", "the old one")]).ok();
    let listed = |home: &Home, passphrase| {
        with(home, &["key", "list", "--json"], &[("VEILCAST_PASSPHRASE", passphrase)]).json()["keys"].clone()
    };
    assert_eq!(listed(&restored, "the old one"), listed(&home, "the new one"), "the same key is current");
}

#[test]
fn the_audit_log_is_checked_printed_and_begun_anew_through_the_daemon_that_writes_it() {
    let (seller, buyer, stream) = seller_and_buyer();
    let daemon = Daemon::start(&seller, &[]);
    let reading = subscribed(&buyer, &stream, &daemon.address, &[]);
    seller.run_with(&["publish", &stream], b"one\n").ok();
    reading.stdout.wait_for("one");
    let verified = seller.run(&["audit", "verify", "--json"]).json();
    assert_eq!((&verified["whole"], &verified["keys_given"]), (&true.into(), &1.into()), "{verified}");
    let head = seller.file("head", seller.run(&["audit", "head"]).ok().as_bytes());
    let since = ["audit", "verify", "--since-head", head.to_str().unwrap()];
    seller.run(&since).ok();
    let log = seller.file("log.jsonl", seller.run(&["audit", "export"]).ok().as_bytes());
    // By anybody, without what runs there.
    seller.run(&["audit", "verify", "--export", log.to_str().unwrap()]).ok();
    seller.run(&["audit", "begin-anew", "--yes"]).failed(1, &["is whole", "--although-whole"]);
    seller.run(&since).ok();
    seller.run(&["audit", "begin-anew", "--yes", "--although-whole"]).ok();
    seller.run(&since).failed(1, &["audit"]);
    drop(reading);
    let again = subscribed(&Home::new(), &stream, &daemon.address, &[]);
    seller.run_with(&["publish", &stream], b"two\n").ok();
    again.stderr.wait_for("refused");
    let verified = seller.run(&["audit", "verify", "--json"]).json();
    assert_eq!((&verified["whole"], &verified["keys_refused"]), (&true.into(), &1.into()), "{verified}");
    daemon.end();
}

#[test]
fn streams_are_read_live_and_from_storage_through_the_daemon_and_end_with_it() {
    let (seller, buyer, stream) = seller_and_buyer();
    seller.config(&format!("[storage]\nstreams = [\"{stream}\"]\n"));
    let daemon = Daemon::start(&seller, &[]);
    let reader = Daemon::start(&buyer, &["--bootstrap", &daemon.address]);
    let mut two = buyer.start(&["subscribe", &stream, "--count", "2", "--bootstrap", &daemon.address]);
    two.stderr.wait_for("joined the network already");
    two.stderr.wait_for("subscribed");
    let endless = buyer.start(&["subscribe", &stream]);
    endless.stderr.wait_for("subscribed");
    let stopped = buyer.start(&["subscribe", &stream]);
    stopped.stderr.wait_for("subscribed");
    seller.run_with(&["publish", &stream], b"one\ntwo\n").ok();
    assert_eq!(two.wait(), Some(0), "{:#?}", two.stderr.all());
    assert_eq!(two.stdout.until_end(), ["one", "two"]);
    endless.stdout.wait_for("two");
    common::end(stopped);
    assert_eq!(seller.run(&["resend", &stream, "--last", "2"]).ok(), "one\ntwo");
    assert_eq!(buyer.run(&["resend", &stream, "--from", "0"]).ok(), "one\ntwo");
    buyer.run(&["key", "fetch", &stream]).ok();
    buyer.run(&["subscribe", &stream, "--pre-agreed-only"]).failed(2, &["cannot be told"]);
    buyer
        .run(&["subscribe", &format!("{stream}-2"), "--registry", "grants"])
        .failed(2, &["goes by the registry local"]);
    reader.end();
    let mut endless = endless;
    assert_eq!(endless.wait(), Some(1), "it was cut off: {:#?}", endless.stderr.all());
    endless.stderr.wait_for("is stopping");
    daemon.end();
}

#[test]
fn whoever_reads_slowly_what_a_command_prints_gets_all_of_it_and_neither_that_nor_what_comes_slowly_holds_up_a_stop() {
    const LINES: usize = 100;
    let home = Home::new();
    let stream = home.stream("prices");
    home.config(&format!("[storage]\nstreams = [\"{stream}\"]\n"));
    let mut daemon = Daemon::start(&home, &[]);
    // More than pipes and sockets hold.
    let lines: Vec<String> = (0..LINES).map(|n| format!("{n} {}", "x".repeat(60_000))).collect();
    home.run_with(&["publish", &stream], lines.join("\n").as_bytes()).ok();
    let last = ["resend", &stream, "--last", &LINES.to_string()];
    let began = Instant::now();
    while home.run(&last).ok().lines().count() < LINES {
        assert!(began.elapsed() < common::PATIENCE, "they are never stored");
    }
    let reads = || {
        let mut command = home.command(&last);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(out.next().unwrap().unwrap(), lines[0]);
        (child, out)
    };
    let ((mut slow, all), (mut paused, some)) = (reads(), reads());
    assert!(all.map(Result::unwrap).eq(lines[1..].iter().cloned()));
    assert_eq!(slow.wait().unwrap().code(), Some(0));

    let mut half = UnixStream::connect(home.path().join("control.sock")).unwrap();
    half.set_read_timeout(Some(common::PATIENCE)).unwrap();
    half.write_all(b"POST /command HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
        .unwrap();
    let mut goes_on = [0; 12];
    half.read_exact(&mut goes_on).unwrap();
    assert_eq!(&goes_on, b"HTTP/1.1 100");

    daemon.process.signal("-TERM");
    assert_eq!(daemon.process.wait(), Some(0));
    let said = daemon.process.stderr.all().join("\n");
    assert!(!said.contains("too long"), "{said}");
    let mut told = String::new();
    half.read_to_string(&mut told).unwrap();
    assert!(told.contains("HTTP/1.1 503") && told.contains("stopping"), "{told}");
    drop(some);
    paused.wait().unwrap();
}

#[test]
fn what_cannot_be_done_while_it_runs_says_why_and_what_to_do_instead() {
    let home = Home::new();
    let stream = home.stream("prices");
    let daemon = Daemon::start(&home, &[]);
    let file = home.file("some.backup", b"");
    for (command, why) in [
        (&["run", "--gateway", "none", "--listen", LOCAL][..], "two that run on one store"),
        (&["node", "--listen", LOCAL, "--store", &stream], "kept by one process"),
        (&["restore", file.to_str().unwrap(), "--force"], "taken away under it"),
        (&["identity", "new"], "an identity in it already"),
    ] {
        home.run(command).failed(1, &["a veilcast run works on the data folder", why, "--data-dir"]);
    }
    // What needs nothing of it is done.
    assert_eq!(home.address().len(), 42);
    home.run(&["fingerprint"]).ok();
    home.run(&["config", "check"]).failed(2, &["no config file"]);
    daemon.end();
}

#[test]
fn commands_of_another_version_and_what_is_no_command_are_refused_on_the_control_socket_and_no_gateway_takes_any() {
    let home = Home::new();
    let daemon = Daemon::start(&home, &[]);
    let socket = home.path().join("control.sock");
    let ask = |body: &[u8]| {
        let file = home.file("body", body);
        let data = format!("@{}", file.display());
        common::curl(&["--unix-socket", socket.to_str().unwrap(), "--data-binary", &data, "http://localhost/command"])
    };
    let head = |json: &str| [&u32::try_from(json.len()).unwrap().to_be_bytes()[..], json.as_bytes()].concat();
    let other = r#"{"version":"0.0.0","line":["veilcast","key","list"],"opens_folder":null,"passphrase":null,"key":null,"head":null}"#;
    ask(&head(other)).refused(400, "no_command");
    ask(&head("{}")).refused(400, "no_command");
    ask(b"\xff\xff\xff\xffx").refused(413, "no_command");
    ask(b"").refused(400, "no_command");
    let key = home.api_key("root", &common::VERBS);
    daemon.with(&key, "/command", &["-X", "POST"]).refused(404, "no_route");
    daemon.end();
}

/// A command whose words are still to come, for ever; it has its seat once this returns.
fn command_under_way(home: &Home) -> UnixStream {
    let mut socket = UnixStream::connect(home.path().join("control.sock")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = "POST /command HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n";
    socket.write_all(head.as_bytes()).unwrap();
    let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut told = vec![0; go_on.len()];
    socket.read_exact(&mut told).unwrap();
    assert_eq!(String::from_utf8_lossy(&told), String::from_utf8_lossy(go_on));
    socket
}

#[test]
fn a_command_that_goes_on_keeps_its_seat_whoever_comes_and_beyond_the_bound_the_newcomer_is_refused_with_a_reason() {
    let home = Home::new();
    let stream = home.stream("prices");
    let daemon = Daemon::start(&home, &[]);
    let reading = home.start(&["subscribe", &stream]);
    reading.stderr.wait_for("subscribed");
    // More than there are seats for strangers and for the owner together.
    let idle: Vec<UnixStream> =
        (0..85).map(|_| UnixStream::connect(home.path().join("control.sock")).unwrap()).collect();
    home.run_with(&["publish", &stream], b"among idle connections\n").ok();
    reading.stdout.wait_for("among idle connections");
    drop(idle);
    // With the one that reads there are sixty-four.
    let mut others: Vec<UnixStream> = (1..64).map(|_| command_under_way(&home)).collect();
    home.run(&["access", "show", &stream])
        .failed(1, &["64 commands are under way", "wait until one of them has ended"]);
    others.pop();
    let under_way = "64 commands are under way";
    let started = std::time::Instant::now();
    let shown = loop {
        // That one has gone is noticed soon.
        let run = home.run(&["access", "show", &stream]);
        if !run.stderr.contains(under_way) {
            break run;
        }
        assert!(started.elapsed() < PATIENCE, "{run:#?}");
    };
    shown.ok();
    drop(others);
    common::end(reading);
    daemon.end();
}

#[test]
fn a_contract_in_the_daemons_environment_is_not_taken_for_one_that_whoever_asks_has_named() {
    let home = Home::new();
    let stream = format!("{}/prices", home.address());
    let mut command = home.command(&["run", "--gateway", "none", "--listen", LOCAL]);
    // Nobody answers there, and nobody needs to.
    command.env("VEILCAST_REGISTRY", "amoy").env("VEILCAST_RPC", "http://127.0.0.1:9");
    let daemon = Process::start(command, Stdio::null());
    daemon.stderr.wait_for("ready as");
    let told = home.run(&["stream", "set", &stream, "--history", "none"]).ok();
    assert!(told.contains(&stream), "{told}");
    home.run(&["stream", "show", &stream]).failed(2, &["goes by the contract amoy", "--registry"]);
    home.run(&["stream", "show", &stream, "--registry", "grants"])
        .failed(2, &["goes by the registry amoy, not grants"]);
    common::end(daemon);
    home.stream("prices");
    assert_eq!(home.run(&["stream", "show", &stream, "--json"]).json()["history"], "none", "what was set was kept");
}

#[test]
fn when_a_grant_ends_the_daemon_rekeys_by_itself_and_whoever_it_was_of_reads_nothing_published_afterwards() {
    let (seller, buyer, stream) = seller_and_buyer();
    let daemon = Daemon::start(&seller, &["-v"]);
    let reading = subscribed(&buyer, &stream, &daemon.address, &[]);
    seller.run_with(&["publish", &stream], b"paid for\n").ok();
    reading.stdout.wait_for("paid for");
    // What was bought ends soon now, however long all of that took; from here on the clock alone does the rest.
    seller.run(&["stream", "grant", &stream, &buyer.address(), "--for", "2s"]).ok();
    daemon.process.stderr.wait_for("a grant ended: rekeyed");
    seller.run_with(&["publish", &stream], b"not for you\n").ok();
    reading.stderr.wait_for("refused");
    assert_eq!(common::end(reading), ["paid for"]);
    let keys = seller.run(&["key", "list", &stream, "--json"]).json()["keys"].clone();
    assert_eq!(keys.as_array().unwrap().len(), 2, "{keys}");
    daemon.end();
}
