//! `veilcast run`: one process that holds the folder, and the commands that go through it.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::{Daemon, Home, LOCAL, VERBS, in_path, seller_and_buyer, subscribed};

const USER: &str = "0x00000000000000000000000000000000000000bb";

#[test]
fn a_buyer_reads_what_is_published_through_a_running_daemon_which_goes_on_with_its_key_after_a_restart() {
    let (seller, buyer, stream) = seller_and_buyer();
    let daemon = Daemon::start(&seller, &[]);
    let mut reading = subscribed(&buyer, &stream, &daemon.address, &["--count", "3"]);
    let published = seller.run_with(&["publish", &stream], b"one\n{\"n\": 2.50}\nthree\n");
    assert!(published.stderr.contains("3 messages published"), "{published:?}");
    assert_eq!(reading.wait(), Some(0), "{:#?}", reading.stderr.all());
    assert_eq!(reading.stdout.until_end(), ["one", "{\"n\": 2.50}", "three"]);
    let listed = || seller.run(&["key", "list", &stream, "--json"]).json();
    let before = listed();
    assert_eq!(before["keys"].as_array().unwrap().len(), 1);
    daemon.end();
    assert_eq!(listed(), before, "the same without it");
    let daemon = Daemon::start(&seller, &[]);
    seller.run_with(&["publish", &stream], b"four\n").ok();
    assert_eq!(listed(), before, "and the key goes on");
    daemon.end();
}

#[test]
fn keys_streams_and_permissions_are_looked_after_through_the_daemon_as_without_it() {
    let home = Home::new();
    let daemon = Daemon::start(&home, &[]);
    let stream = home.run(&["stream", "create", "prices", "--partitions", "2", "--rotate-every", "1000,10m"]).ok();
    assert_eq!(stream, format!("{}/prices", home.address()));
    home.run(&["stream", "create", "prices"]).failed(1, &["exists already"]);
    let grant = home.run(&["stream", "grant", &stream, USER, "--for", "30d", "--json"]).json();
    assert_eq!((grant["user"].as_str(), grant["permission"].as_str()), (Some(USER), Some("subscribe")));
    let subscribers = || home.run(&["stream", "subscribers", &stream, "--json"]).json()["subscribers"].clone();
    assert_eq!(subscribers()[0]["status"], "active");
    assert_eq!(subscribers()[0]["until"], grant["until"]);
    home.run_with(&["publish", &stream, "--rotate-every", "5"], b"x\n").failed(2, &["cannot be told", "stream set"]);
    home.run(&["stream", "revoke", &stream, USER]).ok();
    assert_eq!(subscribers()[0]["status"], "revoked");
    home.run(&["stream", "revoke", &stream, USER, "--permission", "publish"]).failed(1, &["has no publish grant"]);
    home.run(&["stream", "grant", &format!("{stream}-2"), USER]).failed(1, &["there is no stream", "stream create"]);
    home.run(&["stream", "grant", &stream, USER, "--until", "2020-01-01T00:00:00Z"]).failed(2, &["in the past"]);
    home.run(&["stream", "grant", &stream, USER, "--registry", "grants"]).failed(2, &["goes by the registry local"]);

    home.run_with(&["publish", &stream, "--partition-key", "a"], b"one\n").ok();
    let rotated = home.run(&["key", "rotate", &stream, "--json"]).json()["key_id"].clone();
    home.run_with(&["publish", &stream], b"two\nthree\n").ok();
    let keys = home.run(&["key", "list", &stream, "--json"]).json()["keys"].clone();
    assert_eq!((keys.as_array().unwrap().len(), &keys[1]["key_id"], &keys[1]["current"]), (2, &rotated, &true.into()));
    assert_eq!(keys[1]["origin"], "made");
    let rekeyed = home.run(&["key", "rekey", &stream, "--json"]).json();
    assert_ne!(rekeyed["key_id"], rotated);
    daemon.end();

    home.run(&["key", "rotate", &stream]).failed(1, &["veilcast run", "key rekey"]);
    let again = home.run(&["key", "rekey", &stream, "--json"]).json();
    let keys = home.run(&["key", "list", &stream, "--json"]).json()["keys"].clone();
    assert_eq!((keys.as_array().unwrap().len(), &keys[3]["key_id"]), (4, &again["key_id"]));
}

#[test]
fn signed_grants_are_issued_and_taken_back_through_a_daemon_that_goes_by_them() {
    let home = Home::new();
    home.config("[registry]\nname = \"grants\"\n");
    let daemon = Daemon::start(&home, &[]);
    let stream = home.run(&["stream", "create", "prices"]).ok();
    let lines = home.run(&["stream", "grant", &stream, USER, "--for", "30d"]).ok();
    let buyer = Home::new();
    buyer.run_with(&["grant", "import"], lines.as_bytes()).ok();
    assert!(home.run(&["stream", "subscribers", &stream]).ok().contains(USER));
    let record = home.run(&["stream", "revoke", &stream, USER]).ok();
    buyer.run_with(&["grant", "import"], record.as_bytes()).ok();
    assert!(buyer.run(&["grant", "show", &stream]).ok().contains("taken back"));
    daemon.end();
}

#[test]
fn the_control_socket_is_for_its_owner_only_and_one_left_by_a_killed_daemon_is_in_nobodys_way() {
    let home = Home::new();
    let stream = home.stream("prices");
    let mut daemon = Daemon::start(&home, &[]);
    let socket = home.path().join("control.sock");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&home.path()), mode(&socket)), (0o700, 0o600));
    daemon.process.signal("-KILL");
    daemon.process.wait();
    assert!(socket.exists());
    home.run(&["stream", "show", &stream]).ok();
    home.run(&["key", "list"]).ok();
    let daemon = Daemon::start(&home, &[]);
    home.run_with(&["publish", &stream], b"x\n").ok();
    daemon.end();
    assert!(!socket.exists());
}

#[test]
fn what_was_acknowledged_before_a_stop_is_stored_and_readable_after_it() {
    let home = Home::new();
    let stream = home.stream("prices");
    home.config(&format!("[storage]\nstreams = [\"{stream}\"]\n"));
    for signal in ["-TERM", "-INT"] {
        let mut daemon = Daemon::start(&home, &[]);
        let key = home.api_key(&format!("key{signal}"), &VERBS);
        let lines: String = (0..200_000).map(|n| format!("{{\"of\": \"{signal}\", \"n\": {n}}}\n")).collect();
        let file = home.file("lines.jsonl", lines.as_bytes());
        let mut publishing = home.start_with_file(&["publish", &stream, "--json"], &file);
        // In the middle of it.
        let path = format!("/streams/{}/data/partitions/0/last?count=1000000", in_path(&stream));
        let of_this = |daemon: &Daemon, key: &str| {
            let lines = daemon.with(key, &path, &[]).lines();
            let of_this = lines.iter().filter(|line| line["payload"]["of"] == signal);
            of_this.map(|line| line["payload"]["n"].as_u64().unwrap()).collect::<Vec<_>>()
        };
        let began = std::time::Instant::now();
        while of_this(&daemon, &key).len() < 20 {
            assert!(began.elapsed() < common::PATIENCE, "{:#?}", publishing.stderr.all());
        }
        daemon.process.signal(signal);
        assert_eq!(daemon.process.wait(), Some(0), "{:#?}", daemon.process.stderr.all());
        daemon.process.stderr.wait_for("stopped");
        assert_eq!(publishing.wait(), Some(1), "it was told that it did not publish them all");
        let told: serde_json::Value = serde_json::from_str(&publishing.stdout.until_end()[0]).unwrap();
        let acknowledged = told["published"].as_u64().unwrap();
        assert!(acknowledged >= 20);
        let daemon = Daemon::start(&home, &[]);
        let kept = of_this(&daemon, &key);
        assert!(kept.len() as u64 >= acknowledged, "{} of {acknowledged}", kept.len());
        assert_eq!(kept, (0..kept.len() as u64).collect::<Vec<_>>(), "in order and whole");
        daemon.end();
    }
}

#[test]
fn it_lives_before_it_is_ready_and_says_why_it_is_not() {
    let home = Home::new();
    let args = ["--registry", "polygon", "--rpc", "http://127.0.0.1:1/SECRET-OF-A-CUSTOMER"];
    let daemon = Daemon::start(&home, &args);
    assert_eq!(daemon.ask("/health", &[]).ok()["status"], "alive");
    let answer = daemon.ask("/ready", &[]);
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.json()["reasons"][0].as_str().unwrap().contains("contract"), "{answer:?}");
    assert!(!answer.body.contains("SECRET"));
    daemon.end();
    let daemon = Daemon::start(&home, &[]);
    assert_eq!(daemon.ask("/ready", &[]).ok()["status"], "ready");
    daemon.end();
}

#[cfg(target_os = "linux")]
#[test]
fn a_message_store_whose_disk_is_full_ends_the_daemon_with_exit_code_1_and_the_reason() {
    let home = Home::new();
    let stream = home.stream("prices");
    home.config(&format!("[storage]\nstreams = [\"{stream}\"]\n"));
    let mut daemon = Daemon::start_under("trap '' XFSZ; ulimit -f 6000", &home);
    // Whoever publishes may be told before or after the last line.
    home.run_with(&["publish", &stream], vec!["x".repeat(40_000); 400].join("\n").as_bytes());
    assert_eq!(daemon.process.wait(), Some(1), "{:#?}", daemon.process.stderr.all());
    daemon.process.stderr.wait_for("nothing is stored any more");
}

#[test]
fn the_config_file_sets_it_up_the_environment_wins_over_it_and_the_command_line_over_both() {
    let home = Home::new();
    let stream = home.stream("prices");
    let folder = home.path();
    let config = format!(
        "[data]\nfolder = \"{}\"\n[network]\nlisten = \"{LOCAL}\"\n[gateway]\nlisten = \"none\"\n[[streams]]\nid = \"{stream}\"\n\
         rotate_every = \"7\"\nhistory = \"none\"\n[log]\nfilter = \"veilcast=info\"\n",
        folder.display()
    );
    let file = home.file("elsewhere.toml", config.as_bytes());
    let start = |gateway: Option<&str>, more: &[&str]| {
        let mut command = common::command(&[&["run", "--config", file.to_str().unwrap()], more].concat());
        command.envs(gateway.map(|address| ("VEILCAST_GATEWAY", address)));
        let process = common::Process::start(command, std::process::Stdio::null());
        let ready = process.stderr.wait_for("ready as");
        common::end(process);
        ready
    };
    assert!(start(None, &[]).contains("no gateway"));
    assert!(start(Some("127.0.0.1:0"), &[]).contains("http://127.0.0.1:"));
    assert!(start(Some("127.0.0.1:0"), &["--gateway", "none"]).contains("no gateway"));
    let shown = home.run(&["stream", "show", &stream, "--json"]).json();
    assert_eq!(shown["key_policy"]["rotate_every"]["messages"], 7);
    assert_eq!(shown["history"], "none");
}

#[test]
fn what_it_cannot_do_is_told_before_it_begins() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    home.run(&["run", "--listen", LOCAL, "--gateway", &address]).failed(1, &["cannot listen", &address, "--gateway"]);
    home.run(&["run", "--gateway", "nowhere"]).failed(2, &["127.0.0.1:7171"]);
    home.config("[gateway]\nlisten = \"127.0.0.1:0\"\nmax_connections = 0\n");
    home.run(&["run"]).failed(2, &["line 3", "gateway.max_connections", "config default"]);
    home.config(&format!("[storage]\nassigned_by = [\"{USER}\"]\n"));
    home.run(&["run", "--listen", LOCAL, "--gateway", "none"]).failed(2, &["--registry grants"]);
    Home::empty().run(&["run"]).failed(1, &["veilcast identity new"]);
}
