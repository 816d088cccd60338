//! The MQTT door of a running daemon, asked by mosquitto's clients and by bare sockets.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod common;

use std::process::{Command, Stdio};

use common::{Daemon, Home, Process, Run, VERBS, in_path, run_with, subscribed};

const VERSIONS: [&str; 2] = ["mqttv311", "mqttv5"];
const USER: &str = "0x00000000000000000000000000000000000000bb";

/// A daemon with both doors that keeps its stream, and a key with every verb.
struct House {
    home: Home,
    daemon: Daemon,
    stream: String,
    key: String,
}

impl House {
    fn open(mqtt: &str) -> Self {
        let home = Home::new();
        let stream = home.run(&["stream", "create", "prices", "--partitions", "3"]).ok();
        home.config(&format!("[storage]\nstreams = [\"{stream}\"]\n[mqtt]\nlisten = \"127.0.0.1:0\"\n{mqtt}\n"));
        let key = home.api_key("root", &VERBS);
        let daemon = Daemon::start(&home, &["-v"]);
        Self { home, daemon, stream, key }
    }

    /// Of its MQTT door, as `IP:PORT`.
    fn mqtt(&self) -> String {
        let ready = self.daemon.process.stderr.wait_for("ready as");
        let (_, rest) = ready.split_once("mqtt://").unwrap();
        rest.split_once(';').unwrap().0.to_owned()
    }

    fn client(&self, program: &str, version: &str, key: &str, args: &[&str]) -> Command {
        let address = self.mqtt();
        let (host, port) = address.rsplit_once(':').unwrap();
        // Line by line, also into a pipe.
        let mut command = Command::new("stdbuf");
        command.args(["-oL", program, "-h", host, "-p", port, "-V", version]);
        if !key.is_empty() {
            command.args(["-u", "till", "-P", key]);
        }
        command.args(args);
        command
    }

    fn publish(&self, version: &str, key: &str, args: &[&str]) -> Run {
        run_with(self.client("mosquitto_pub", version, key, args), b"")
    }

    /// A subscriber whose subscription was answered.
    fn subscribe(&self, version: &str, key: &str, args: &[&str]) -> Process {
        let process =
            Process::start(self.client("mosquitto_sub", version, key, &[&["-d"], args].concat()), Stdio::null());
        process.stdout.wait_for("Subscribed (mid");
        process
    }
}

#[test]
fn what_clients_of_both_versions_publish_is_read_by_others_over_mqtt_and_http_and_elsewhere() {
    let house = House::open("");
    let (stream, key) = (house.stream.as_str(), house.key.as_str());
    let old = house.subscribe("mqttv311", key, &["-q", "1", "-t", stream, "-F", "%t got %p"]);
    let new = house.subscribe("mqttv5", key, &["-q", "2", "-t", stream, "-F", "%p is %C of %P"]);
    assert!(new.stdout.all().iter().any(|line| line.ends_with("Subscribed (mid: 1): 1")), "{:?}", new.stdout.all());
    let path = format!("/streams/{}", in_path(stream));
    let http = house.daemon.follow(key, &format!("{path}/subscribe"));
    let buyer = Home::new();
    house.home.run(&["stream", "grant", stream, &buyer.address()]).ok();
    let elsewhere = subscribed(&buyer, stream, &house.daemon.address, &["--json"]);

    for version in VERSIONS {
        for qos in ["0", "1", "2"] {
            let payload = format!("{{\"from\": \"{version}\", \"qos\": {qos}, \"digits\": 1.10}}");
            house.publish(version, key, &["-q", qos, "-t", stream, "-m", &payload]).ok();
            old.stdout.wait_for(&format!("{stream} got {payload}"));
            let line = new.stdout.wait_for(&format!("{payload} is application/json of "));
            for named in ["partition:0", "publisher:0x", "timestamp:", "sequence:", "key_id:"] {
                assert!(line.contains(named), "{line}");
            }
            http.stdout.wait_for(&format!("\"content_type\":\"json\",\"payload\":{payload}"));
            elsewhere.stdout.wait_for(&payload);
        }
    }
    // In version 5 with the parameters that the HTTP door has.
    let to = ["-D", "publish", "user-property", "partition", "2", "-D", "publish", "content-type", "text/plain"];
    house.publish("mqttv5", key, &[&["-q", "1", "-t", stream, "-m", "17"], &to[..]].concat()).ok();
    assert!(new.stdout.wait_for("17 is text/plain").contains("partition:2"));
    house.publish("mqttv311", key, &["-q", "1", "-t", stream, "-m", "no json"]).ok();
    new.stdout.wait_for("no json is text/plain");

    // What HTTP publishes comes as well.
    house.daemon.with(key, &path, &["-H", "Content-Type: application/octet-stream", "-d", "bytes"]).ok();
    old.stdout.wait_for("got bytes");
    new.stdout.wait_for("bytes is application/octet-stream");
    house.daemon.end();
}

#[test]
fn without_a_known_key_nobody_gets_in_and_a_key_does_only_what_it_is_for() {
    let house = House::open("");
    let stream = house.stream.as_str();
    let other = house.home.run(&["stream", "create", "other"]).ok();
    let args = ["api-key", "add", "till", "--stream", stream, "--verb", "publish"];
    let till = house.home.run(&args).ok();
    for version in VERSIONS {
        for wrong in ["", "veilcast_0", &format!("{till}0")] {
            let run = house.publish(version, wrong, &["-t", stream, "-m", "1"]);
            assert_ne!(run.code, Some(0), "{run:?}");
            assert!(run.stderr.to_lowercase().contains("bad user name or password"), "{run:?}");
        }
        house.publish(version, &till, &["-q", "1", "-t", stream, "-m", "1"]).ok();
        let denied = |topic: &str| {
            let run = run_with(house.client("mosquitto_sub", version, &till, &["-d", "-t", topic]), b"");
            assert!(run.stderr.contains("All subscription requests were denied"), "{topic}: {run:?}");
            run.stdout
        };
        let refused = denied(stream);
        let code = if version == "mqttv5" { ": 135" } else { ": 128" };
        assert!(refused.contains(code), "{refused}");
    }
    // Streams out of its scope, somebody else's, and what is none: told in version 5.
    let key = house.key.as_str();
    let foreign = format!("{USER}/x");
    for (key, topic, why) in [
        (&till[..], &other[..], "Not authorized"),
        (key, &foreign, "Not authorized"),
        (key, "../../etc/passwd", "Topic Name invalid"),
        (&till, &format!("{stream}/../other"), "Not authorized"),
    ] {
        for qos in ["1", "2"] {
            let run = house.publish("mqttv5", key, &["-d", "-q", qos, "-t", topic, "-m", "1"]);
            assert!(format!("{run:?}").contains(why), "{topic}: {run:?}");
        }
    }
    let wrong = ["-D", "publish", "content-type", "application/json"];
    let run = house.publish("mqttv5", key, &[&["-q", "1", "-t", stream, "-m", "{\"a\":"], &wrong[..]].concat());
    assert!(format!("{run:?}").contains("Payload format invalid"), "{run:?}");
    house.daemon.end();
}

#[test]
fn a_revoked_key_ends_the_connections_that_were_opened_with_it_and_others_go_on() {
    let house = House::open("");
    let stream = house.stream.as_str();
    let reader = house.home.api_key("reader", &["subscribe"]);
    let all = VERSIONS.map(|version| house.subscribe(version, &reader, &["-t", stream]));
    let other = house.subscribe("mqttv5", &house.key, &["-t", stream]);
    house.home.run(&["api-key", "revoke", "reader"]).ok();
    // The old one tries again by itself, and is not let in; the new one was told.
    for (mut one, why) in all.into_iter().zip(["bad user name or password", "received disconnect (135)"]) {
        one.wait();
        let said = [one.stdout.until_end(), one.stderr.until_end()].concat().join("\n");
        assert!(said.to_lowercase().contains(why), "{said}");
    }
    house.publish("mqttv311", &house.key, &["-q", "1", "-t", stream, "-m", "still here"]).ok();
    other.stdout.wait_for("still here");
    let said = house.daemon.process.stderr.all().join("\n");
    assert!(!said.contains(&reader) && !said.contains(&house.key) && said.contains("key=\"reader\""), "{said}");
    house.daemon.end();
}
