//! Starting, failing and ending: ports, peers that are not there, pipes that close, Ctrl-C.
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod common;

use std::net::TcpListener;
use std::time::Duration;

use common::{Home, LOCAL, Process, node, seller_and_buyer, subscribed};

/// Ctrl-C must not take longer, even on a busy machine.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_node_has_the_same_address_after_a_restart_and_one_folder_runs_one_node() {
    let (home, mut node, first) = node();
    home.run(&["node", "--listen", LOCAL]).failed(1, &["another veilcast node", "--data-dir"]);
    node.interrupt();
    assert_eq!(node.wait_within(SOON), Some(0));
    let again = home.start(&["node", "--listen", LOCAL]);
    let peer = |address: &str| address.rsplit_once('/').unwrap().1.to_owned();
    assert_eq!(peer(&again.stdout.wait_for("/p2p/")), peer(&first));
}

#[test]
fn a_node_prints_its_addresses_as_one_json_object() {
    let home = Home::empty();
    let node = home.start(&["--json", "node", "--listen", LOCAL]);
    let line = node.stdout.wait_for("addresses");
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    let address = json["addresses"][0].as_str().unwrap();
    assert!(address.ends_with(json["peer_id"].as_str().unwrap()), "{json}");
}

#[test]
fn a_port_in_use_is_an_error_that_names_it_and_says_how_to_choose_another() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().unwrap().port());
    let home = Home::new();
    let stream = home.stream("prices");
    home.run(&["node", "--listen", &address]).failed(1, &[&address, "in use", "--listen"]);
    home.run(&["publish", &stream, "--listen", &address]).failed(1, &[&address, "in use", "--listen"]);
    home.run(&["subscribe", &stream, "--listen", &address]).failed(1, &[&address, "in use", "--listen"]);
}

#[test]
fn an_address_that_cannot_be_listened_on_is_an_error() {
    let home = Home::empty();
    home.run(&["node", "--listen", "/ip4/203.0.113.7/tcp/0"]).failed(1, &["cannot listen on", "--listen"]);
    home.run(&["node", "--listen", "/dns4/example.org/tcp/80/ws"]).failed(1, &["cannot listen on", "--listen"]);
}

#[test]
fn a_bootstrap_node_that_is_not_there_is_an_error_that_names_it() {
    // A port that was free a moment ago may be somebody's by now; this one is nobody's.
    let address = "/ip4/127.0.0.1/tcp/1";
    let home = Home::new();
    let stream = home.stream("prices");
    for command in ["publish", "subscribe"] {
        let run = home.run(&[command, &stream, "--bootstrap", address, "--listen", LOCAL]);
        run.failed(1, &[address, "check the --bootstrap address"]);
    }
}

#[test]
fn publishing_where_nobody_listens_fails_and_says_what_to_do() {
    let (_relay_home, _relay, at) = node();
    let home = Home::new();
    let stream = home.stream("prices");
    let publish = ["publish", &stream, "--bootstrap", &at, "--listen", LOCAL, "--wait", "500ms"];
    home.run_with(&publish, b"one\n").failed(1, &["nobody listens to", "nothing was sent", "start a subscriber first"]);
}

#[test]
fn publishing_to_a_stream_of_somebody_else_is_refused_before_anything_is_sent() {
    let home = Home::new();
    let theirs = "0x00000000000000000000000000000000000000aa/prices";
    let told =
        home.run_with(&["publish", theirs, "--listen", LOCAL], b"one\n").failed(3, &["may not publish on", theirs]);
    assert!(told.stderr.contains(&home.address()), "{told:?}");
    let missing = format!("{}/typo", home.address());
    home.run_with(&["publish", &missing, "--listen", LOCAL], b"one\n").failed(1, &["there is no stream"]);
    let stream = home.stream("prices");
    home.run_with(&["publish", &stream, "--listen", LOCAL, "--partition", "7"], b"one\n")
        .failed(2, &["there is no partition 7"]);
}

#[test]
fn a_data_folder_serves_one_process_at_a_time() {
    let home = Home::new();
    let stream = home.stream("prices");
    let publishing = home.start(&["publish", &stream, "--listen", LOCAL]);
    publishing.stderr.wait_for("waiting");
    home.run(&["identity", "show"]).ok();
    home.run(&["key", "list"]).failed(1, &["in use by another process", "--data-dir"]);
    let user = "0x00000000000000000000000000000000000000bb";
    for command in [
        &["stream", "grant", &stream, user][..],
        &["stream", "revoke", &stream, user],
        &["access", "deny", &stream, user],
        &["grant", "revoke", &stream, user],
    ] {
        home.run(command)
            .failed(1, &["in use by another process", "stop the veilcast that runs there", "start it again"]);
    }
    home.run(&["grant", "import", "veilcast-grant-1:08"])
        .failed(1, &["in use", "let it find out by itself", "grant announce"]);
}

#[test]
fn ctrl_c_ends_a_node_a_waiting_publisher_and_a_subscriber_with_exit_code_0() {
    let (_relay_home, mut relay, at) = node();
    let (seller, buyer, stream) = seller_and_buyer();
    let mut reading = subscribed(&buyer, &stream, &at, &[]);
    let mut publishing = seller.start(&["publish", &stream, "--bootstrap", &at, "--listen", LOCAL]);
    publishing.stderr.wait_for("publishing lines of stdin");
    for process in [&mut publishing, &mut reading, &mut relay] {
        process.interrupt();
        assert_eq!(process.wait_within(SOON), Some(0), "{:#?}", process.stderr.all());
    }
}

#[test]
fn publishing_that_was_interrupted_before_the_end_of_its_input_is_a_failure() {
    let (_relay_home, _relay, at) = node();
    let (seller, buyer, stream) = seller_and_buyer();
    let input = seller.file("lines", "a line\n".repeat(1_000_000).as_bytes());
    // Before anybody is there, and in the middle.
    let mut alone = seller.start_with_file(&["publish", &stream, "--listen", LOCAL], &input);
    alone.stderr.wait_for("waiting");
    alone.interrupt();
    assert_eq!(alone.wait(), Some(1), "{:#?}", alone.stderr.all());
    assert!(alone.stderr.until_end().iter().any(|line| line.contains("interrupted behind 0 messages")));

    let reading = subscribed(&buyer, &stream, &at, &[]);
    let args = ["publish", &stream, "--bootstrap", &at, "--listen", LOCAL];
    let mut publishing = seller.start_with_file(&args, &input);
    reading.stdout.wait_for("a line");
    publishing.interrupt();
    assert_eq!(publishing.wait(), Some(1), "{:#?}", publishing.stderr.all());
    let said = publishing.stderr.until_end();
    assert!(said.iter().any(|line| line.contains("was not published")), "{said:#?}");
}

#[test]
fn ctrl_c_ends_a_publisher_that_stays_and_one_that_waits_for_somebody() {
    let (_relay_home, _relay, at) = node();
    let (seller, buyer, stream) = seller_and_buyer();
    let end = |process: &mut Process| {
        process.interrupt();
        assert_eq!(process.wait_within(SOON), Some(0), "{:#?}", process.stderr.all());
    };
    let mut alone = seller.start(&["publish", &stream, "--listen", LOCAL]);
    alone.stderr.wait_for("waiting");
    end(&mut alone);

    let reading = subscribed(&buyer, &stream, &at, &[]);
    let mut staying = seller.start(&["publish", &stream, "--bootstrap", &at, "--listen", LOCAL, "--stay"]);
    {
        use std::io::Write;
        staying.stdin.take().unwrap().write_all(b"one\n").unwrap();
    }
    staying.stderr.wait_for("until Ctrl-C");
    reading.stdout.wait_for("one");
    end(&mut staying);
}

#[test]
fn sigterm_ends_as_gracefully_as_ctrl_c() {
    let (_home, mut node, _) = node();
    node.signal("-TERM");
    assert_eq!(node.wait_within(SOON), Some(0));
}

#[test]
fn a_closed_pipe_ends_a_subscriber_quietly() {
    let (_relay_home, _relay, at) = node();
    let (seller, buyer, stream) = seller_and_buyer();
    let (pipe, into) = std::io::pipe().unwrap();
    let mut command = buyer.command(&["subscribe", &stream, "--bootstrap", &at, "--listen", LOCAL]);
    let mut child = command.stdout(into).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(command);
    drop(pipe);
    let mut errors = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    use std::io::{BufRead, Read};
    while !line.contains("subscribed") {
        assert!(errors.read_line(&mut line).unwrap() > 0, "{line}");
    }
    let lines = "one\n".repeat(100);
    let selling = common::publishing(&seller, &stream, &at, lines.as_bytes(), &[]);
    let mut rest = String::new();
    errors.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{rest}");
    assert!(!rest.contains("panicked") && !rest.contains("error"), "{rest}");
    common::end(selling);
}

#[test]
fn a_closed_pipe_is_no_error_for_a_command_that_prints_and_ends() {
    let home = Home::new();
    let (pipe, into) = std::io::pipe().unwrap();
    drop(pipe);
    let output = home.command(&["stream", "show"]).stdout(into).stderr(std::process::Stdio::piped()).output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}
