//! The MQTT door of a running daemon, asked by mosquitto's clients and by bare sockets.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Daemon, Home, Process, Run, VERBS, in_path, run_with, subscribed};

const VERSIONS: [&str; 2] = ["mqttv311", "mqttv5"];
/// How long a socket may take before the test fails instead of hanging.
const LONG: Duration = Duration::from_secs(180);
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
    assert!(!said.contains(&reader) && !said.contains(&house.key) && said.contains("who=\"reader\""), "{said}");
    house.daemon.end();
}

/// A packet: its first byte, and all behind its length.
type Packet = (u8, Vec<u8>);

/// A client without a library.
struct Raw(TcpStream);

impl Raw {
    fn to(house: &House) -> Self {
        let stream = TcpStream::connect(house.mqtt()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        Self(stream)
    }

    /// Logged in, in version 4 (3.1.1) or 5.
    fn login(house: &House, version: u8, key: &str, name: &str) -> Self {
        let mut raw = Self::to(house);
        raw.say(&hello(version, key, name, 0, None));
        let (kind, welcome) = raw.hear().unwrap();
        assert_eq!((kind, &welcome[..2]), (0x20, &[0, 0][..]));
        raw
    }

    fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// The next packet; `None` once the connection is closed.
    fn hear(&mut self) -> Option<Packet> {
        let mut byte = [0];
        match self.0.read(&mut byte) {
            Ok(1) => {}
            // Closed, in whichever way.
            Ok(_) => return None,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("{error}"),
        }
        let kind = byte[0];
        let mut length = 0;
        for shift in [0, 7, 14, 21] {
            self.0.read_exact(&mut byte).unwrap();
            length |= usize::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        Some((kind, body))
    }

    /// All packets until the connection is closed.
    fn rest(&mut self) -> Vec<Packet> {
        std::iter::from_fn(|| self.hear()).collect()
    }

    /// It is told why, and the connection is closed.
    fn is_told_to_go(&mut self, reason: u8) {
        let rest = self.rest();
        let (kind, bye) = rest.last().unwrap_or_else(|| panic!("not told {reason:#x}"));
        assert_eq!((*kind, bye[0]), (0xe0, reason), "{rest:?}");
    }
}

fn packet(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let (mut packet, mut length) = (vec![kind], body.len());
    loop {
        let more = if length > 0x7f { 0x80 } else { 0 };
        packet.push(u8::try_from(length & 0x7f).unwrap() | more);
        length >>= 7;
        if length == 0 {
            break;
        }
    }
    [packet, body].concat()
}

fn text(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text].concat()
}

/// `CONNECT`, with a will for a topic if need be.
fn hello(version: u8, key: &str, name: &str, keep_alive: u16, will: Option<&str>) -> Vec<u8> {
    let properties: &[u8] = if version == 5 { &[0] } else { &[] };
    let will = will.map(|topic| [properties, &text(topic), &text("gone")].concat());
    let flags = 0xc2 | if will.is_some() { 0x04 } else { 0 };
    let head = [&text("MQTT")[..], &[version, flags], &keep_alive.to_be_bytes(), properties].concat();
    packet(0x10, &[&head, &text(name), &will.unwrap_or_default(), &text("anybody"), &text(key)])
}

/// `PUBLISH` with QoS 1.
fn publish(version: u8, topic: &str, id: u16, payload: &[u8]) -> Vec<u8> {
    let properties: &[u8] = if version == 5 { &[0] } else { &[] };
    packet(0x32, &[&text(topic), &id.to_be_bytes(), properties, payload])
}

/// `SUBSCRIBE`
fn subscribe(version: u8, topic: &str, qos: u8) -> Vec<u8> {
    let properties: &[u8] = if version == 5 { &[0] } else { &[] };
    packet(0x82, &[&[0, 9], properties, &text(topic), &[qos]])
}

#[test]
fn a_stop_acknowledges_what_was_published_and_tells_why_and_all_of_it_is_stored() {
    const MANY: u16 = 400;
    let house = House::open("");
    let login = |version| Raw::login(&house, version, &house.key, &format!("sensor of {version}"));
    let mut clients = [4, 5].map(|version| (version, login(version)));
    for (version, client) in &mut clients {
        for id in 1..=MANY {
            client.say(&publish(*version, &house.stream, id, format!("{version}-{id}").as_bytes()));
        }
        client.hear().unwrap();
    }
    house.daemon.process.signal("-TERM");
    let mut acknowledged = Vec::new();
    for (version, client) in &mut clients {
        let mut heard = client.rest();
        if *version == 5 {
            let (kind, bye) = heard.pop().unwrap();
            assert_eq!((kind, bye[0]), (0xe0, 0x8b));
        }
        acknowledged.push(format!("{version}-1"));
        for (kind, body) in heard {
            assert_eq!(kind, 0x40);
            acknowledged.push(format!("{version}-{}", u16::from_be_bytes([body[0], body[1]])));
        }
    }
    let House { home, mut daemon, stream, key } = house;
    assert_eq!(daemon.process.wait(), Some(0), "{:#?}", daemon.process.stderr.all());

    let daemon = Daemon::start(&home, &[]);
    let path = format!("/streams/{}/data/partitions/0/last?count=1000", in_path(&stream));
    let stored = daemon.with(&key, &path, &[]).body;
    for one in acknowledged {
        assert!(stored.contains(&format!("\"payload\":\"{one}\"")), "{one}");
    }
    daemon.end();
}

#[test]
fn what_is_no_packet_or_has_no_place_ends_its_connection_and_no_other() {
    let house = House::open("");
    let stream = house.stream.as_str();
    let mut witness = Raw::login(&house, 5, &house.key, "witness");
    let http = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
    let mut wrong_protocol = hello(4, &house.key, "a", 0, None);
    wrong_protocol[4] = b'X';
    for bytes in [
        http,
        vec![0; 64],
        vec![0xff; 64],
        // Lengths that never end, or are larger than anything here.
        vec![0x10, 0xff, 0xff, 0xff, 0xff, 0x7f],
        vec![0x10, 0xff, 0xff, 0xff, 0x7f],
        wrong_protocol,
        hello(3, &house.key, "a", 0, None),
        hello(6, &house.key, "a", 0, None),
        publish(5, stream, 1, b"1"),
        packet(0x10, &[&text("MQTT"), &[5, 0xc2, 0, 0, 0xff, 0xff]]),
        packet(0xe0, &[]),
        // More than a stranger may send.
        packet(0x10, &[&text("MQTT"), &[4, 0xc2, 0, 0], &text(vec![b'x'; 60_000]), &text("u"), &text(&house.key)]),
    ] {
        let mut raw = Raw::to(&house);
        raw.say(&bytes);
        let heard = raw.rest();
        assert!(heard.iter().all(|(kind, body)| *kind == 0x20 && body[1] != 0), "{bytes:02x?}: {heard:02x?}");
    }
    for version in [4, 5] {
        for bytes in [
            hello(version, &house.key, "twice", 0, None),
            packet(0x20, &[&[0, 0]]),
            packet(0x32, &[&text(stream)]),
            packet(0x36, &[&text(stream), &[0, 1], b"1"]),
            publish(version, stream, 0, b"1"),
            packet(0x30, &[&[0xff, 0xff, b'x']]),
            packet(0x30, &[&text(b"\xff\xfe"), &[0]]),
            packet(0x82, &[&[0, 1]]),
            // Flags that its kind has not.
            packet(0x80, &subscribe(version, stream, 1)[2..].chunks(1).collect::<Vec<_>>()),
            packet(0x60, &[&[0, 1]]),
            packet(0x40, &[&[0, 7]]),
            packet(0x50, &[&[0, 7]]),
            packet(0xf0, &[&[0; 8]]),
        ] {
            let mut raw = Raw::login(&house, version, &house.key, "clumsy");
            raw.say(&bytes);
            let heard = raw.rest();
            assert!(heard.iter().all(|(kind, body)| *kind == 0xe0 && body[0] >= 0x80), "{bytes:02x?}: {heard:02x?}");
            assert_eq!(heard.len(), usize::from(version == 5), "{bytes:02x?}: {heard:02x?}");
        }
    }
    witness.say(&publish(5, stream, 1, b"1"));
    let (kind, body) = witness.hear().unwrap();
    assert_eq!((kind, &body[..2]), (0x40, &[0, 1][..]));
    let said = house.daemon.process.stderr.all().join("\n");
    assert!(!said.contains(&house.key) && !said.contains("panicked"), "{said}");
    house.daemon.end();
}

#[test]
fn packets_and_payloads_too_large_are_refused_before_there_is_room_for_them() {
    let house = House::open("");
    let stream = house.stream.as_str();
    let mut raw = Raw::login(&house, 5, &house.key, "large");
    // 255 MiB, announced.
    raw.say(&[0x32, 0xff, 0xff, 0xff, 0x7f]);
    raw.is_told_to_go(0x95);
    let mut raw = Raw::login(&house, 4, &house.key, "large");
    raw.say(&[0x32, 0xff, 0xff, 0xff, 0x7f]);
    assert_eq!(raw.rest(), []);
    for (size, refused) in [(1 << 20, None), ((1 << 20) + 1, Some(0x97))] {
        let mut raw = Raw::login(&house, 5, &house.key, "large");
        raw.say(&publish(5, stream, 1, &vec![0xff; size]));
        let (kind, body) = raw.hear().unwrap();
        assert_eq!((kind, body.get(2).copied().filter(|code| *code != 0)), (0x40, refused));
    }
    house.daemon.end();
}

#[test]
fn a_client_that_takes_or_acknowledges_nothing_is_cut_off_and_others_get_everything() {
    const MANY: u16 = 300;
    let house = House::open("write_timeout = \"10s\"");
    let stream = house.stream.as_str();
    let mut deaf = Raw::login(&house, 5, &house.key, "deaf");
    deaf.say(&subscribe(5, stream, 0));
    assert_eq!(deaf.hear().unwrap().0, 0x90);
    let mut lazy = Raw::login(&house, 5, &house.key, "lazy");
    lazy.say(&subscribe(5, stream, 1));
    assert_eq!(lazy.hear().unwrap().0, 0x90);
    let mut good = Raw::login(&house, 4, &house.key, "good");
    good.say(&subscribe(4, stream, 0));
    assert_eq!(good.hear().unwrap().0, 0x90);
    let acknowledged = std::thread::spawn(move || {
        let heard = lazy.rest();
        (heard.len(), heard.last().map(|(kind, body)| (*kind, body[0])))
    });

    let mut source = Raw::login(&house, 5, &house.key, "source");
    let payload = vec![0xff; 100_000];
    for id in 1..=MANY {
        source.say(&publish(5, stream, id, &payload));
        assert_eq!(source.hear().unwrap().0, 0x40);
        assert!(good.hear().unwrap().1.len() > payload.len());
    }
    house.daemon.process.stderr.wait_for("it takes nothing of what is sent to it");
    // As many as make the 1 MiB that may be on its way, and why no more.
    assert_eq!(acknowledged.join().unwrap(), (12, Some((0xe0, 0x97))));
    drop(deaf);
    house.daemon.end();
}

#[test]
fn connections_that_say_nothing_keep_nobody_out_who_has_a_key_and_are_closed_and_a_key_has_so_many() {
    let house = House::open("connect_timeout = \"5s\"\n[gateway]\nmax_connections = 4\nmax_connections_per_key = 3");
    let shop = house.home.api_key("shop", &["publish"]);
    let mut idle: Vec<Raw> = (0..40).map(|_| Raw::to(&house)).collect();
    let one = Raw::login(&house, 5, &house.key, "one");
    let two = Raw::login(&house, 4, &house.key, "two");
    for (version, refused) in [(4, 3), (5, 0x97)] {
        let mut third = Raw::to(&house);
        third.say(&hello(version, &house.key, "three", 0, None));
        let heard = third.rest();
        assert_eq!((heard[0].0, heard[0].1[1]), (0x20, refused), "{heard:?}");
    }
    let mut other = Raw::login(&house, 5, &shop, "one");
    for raw in &mut idle {
        assert_eq!(raw.rest(), []);
    }
    // Half a packet is no reason to stay.
    let mut slow = Raw::to(&house);
    slow.say(&hello(5, &house.key, "slow", 0, None)[..9]);
    assert_eq!(slow.rest(), []);
    other.say(&publish(5, &house.stream, 1, b"1"));
    assert_eq!(other.hear().unwrap().0, 0x40);
    drop((one, two));
    house.daemon.end();
}

#[test]
fn who_is_silent_for_too_long_is_gone_and_leaves_a_will_and_a_name_has_one_client() {
    let house = House::open("");
    let stream = house.stream.as_str();
    let mut heir = Raw::login(&house, 4, &house.key, "heir");
    heir.say(&subscribe(4, stream, 0));
    assert_eq!(heir.hear().unwrap().0, 0x90);
    let inherited = |heir: &mut Raw| {
        let (kind, body) = heir.hear().unwrap();
        assert!(kind == 0x30 && body.ends_with(b"gone"), "{body:?}");
    };
    let mut silent = Raw::to(&house);
    silent.say(&hello(5, &house.key, "silent", 1, Some(stream)));
    assert_eq!(silent.hear().unwrap().0, 0x20);
    silent.is_told_to_go(0x8d);
    inherited(&mut heir);
    // A connection that breaks leaves one as well, and a goodbye leaves none.
    let mut polite = Raw::to(&house);
    polite.say(&hello(5, &house.key, "polite", 0, Some(stream)));
    polite.hear().unwrap();
    polite.say(&packet(0xe0, &[]));
    assert_eq!(polite.rest(), []);
    let mut lost = Raw::to(&house);
    lost.say(&hello(4, &house.key, "lost", 0, Some(stream)));
    lost.hear().unwrap();
    drop(lost);
    inherited(&mut heir);
    // Another one under the same name, of the same key; a will that its key does not allow.
    let mut before = Raw::login(&house, 5, &house.key, "same");
    let reader = house.home.api_key("reader", &["subscribe"]);
    let mut other = Raw::login(&house, 5, &reader, "same");
    let _after = Raw::login(&house, 5, &house.key, "same");
    before.is_told_to_go(0x8e);
    other.say(&packet(0xc0, &[]));
    assert_eq!(other.hear().unwrap(), (0xd0, vec![]));
    let mut greedy = Raw::to(&house);
    greedy.say(&hello(5, &reader, "greedy", 0, Some(stream)));
    assert_eq!(greedy.hear().unwrap().1[1], 0x87);
    house.daemon.end();
}

#[test]
fn the_later_of_two_clients_of_one_name_stays_also_where_their_key_has_as_many_connections_as_it_may_have() {
    // Two of three may stay.
    let house = House::open("[gateway]\nmax_connections_per_key = 3");
    let mut other = Raw::login(&house, 4, &house.key, "other");
    let mut last = Raw::login(&house, 5, &house.key, "same");
    for version in [4, 5, 4, 5] {
        let mut stranger = Raw::to(&house);
        stranger.say(&hello(5, &house.key, "third", 0, None));
        assert_eq!(stranger.hear().unwrap().1[1], 0x97);
        let next = Raw::login(&house, version, &house.key, "same");
        let heard = last.rest();
        let told = heard.iter().all(|(kind, bye)| *kind == 0xe0 && bye[0] == 0x8e);
        assert!(told && heard.len() == usize::from(version == 4), "{heard:?}");
        last = next;
    }
    for client in [&mut other, &mut last] {
        client.say(&packet(0xc0, &[]));
        assert_eq!(client.hear().unwrap(), (0xd0, vec![]));
    }
    house.daemon.end();
}

/// `PUBLISH` in version 5 with QoS 1 and these properties.
fn publish_with(topic: &str, id: u16, properties: &[u8]) -> Vec<u8> {
    let length = packet(0, &[properties]);
    let length = &length[1..length.len() - properties.len()];
    packet(0x32, &[&text(topic), &id.to_be_bytes(), length, properties, b"1"])
}

#[test]
fn a_packet_with_more_beside_its_payload_than_there_may_be_is_refused_and_what_came_before_it_is_done() {
    const HEAD: usize = 16 * 1024;
    let house = House::open("");
    let stream = house.stream.as_str();
    let named = [&[0x26][..], &text("partition"), &text("1")].concat();
    let empty = |bytes: usize| [0x26, 0, 0, 0, 0].repeat(bytes / 5);
    let mut reader = Raw::login(&house, 5, &house.key, "reader");
    reader.say(&packet(0x82, &[&[0, 9, 16, 0x26], &text("partitions"), &text("1"), &text(stream), &[0]]));
    assert_eq!(reader.hear().unwrap().0, 0x90);
    let mut full = [&empty(HEAD - named.len())[..], &named].concat();
    let mut raw = Raw::login(&house, 5, &house.key, "a");
    raw.say(&publish_with(stream, 1, &full));
    full.extend(empty(HEAD));
    raw.say(&[publish(5, stream, 2, b"1"), publish_with(stream, 3, &full), publish(5, stream, 4, b"1")].concat());
    let heard = raw.rest();
    let said: Vec<(u8, u8)> = heard.iter().map(|(kind, body)| (*kind, body[usize::from(*kind == 0x40)])).collect();
    assert_eq!(said, [(0x40, 1), (0x40, 2), (0xe0, 0x95)], "{heard:?}");
    // What is known among the rest is found.
    let (kind, body) = reader.hear().unwrap();
    assert!(kind == 0x30 && body.windows(named.len()).any(|window| window == named), "{body:02x?}");
    // Nothing but a message is large.
    for version in [4, 5] {
        let mut raw = Raw::login(&house, version, &house.key, "a");
        raw.say(&packet(0xa2, &[&[0, 1, 0], &[0, 1, b'x'].repeat(60_000)]));
        let heard = raw.rest();
        assert!(heard.iter().all(|(kind, body)| *kind == 0xe0 && body[0] == 0x95), "{heard:?}");
        assert_eq!(heard.len(), usize::from(version == 5));
    }
    house.daemon.end();
}

#[test]
fn a_message_that_comes_byte_by_byte_and_again_is_one_and_a_second_half_without_a_first_is_said_to_be_so_in_version_5()
{
    let house = House::open("");
    for version in [4, 5] {
        let mut raw = Raw::login(&house, version, &house.key, "exact");
        let mut message = publish(version, &house.stream, 5, b"once");
        message[0] = 0x34;
        for byte in &message {
            raw.say(&[*byte]);
        }
        assert_eq!(raw.hear().unwrap(), (0x50, vec![0, 5]));
        // Sent again it is the same message.
        message[0] = 0x3c;
        raw.say(&message);
        assert_eq!(raw.hear().unwrap(), (0x50, vec![0, 5]));
        let release = packet(0x62, &[&[0, 5]]);
        raw.say(&release);
        assert_eq!(raw.hear().unwrap(), (0x70, vec![0, 5]));
        for id in [5, 6] {
            raw.say(&packet(0x62, &[&[0, id]]));
            let unknown: &[u8] = if version == 5 { &[0x92] } else { &[] };
            assert_eq!(raw.hear().unwrap(), (0x70, [&[0, id], unknown].concat()));
        }
    }
    house.daemon.end();
}

#[test]
fn a_packet_that_does_not_become_whole_in_time_ends_its_connection() {
    let house = House::open("[gateway]\nbody_timeout = \"3s\"");
    let half = |version| {
        let mut raw = Raw::login(&house, version, &house.key, &format!("half {version}"));
        let message = publish(version, &house.stream, 1, &[b'x'; 1000]);
        raw.say(&message[..message.len() - 1]);
        raw
    };
    let (mut old, mut new) = (half(4), half(5));
    new.is_told_to_go(0x97);
    assert_eq!(old.rest(), []);
    house.daemon.end();
}

/// Eight readers that take nothing, or acknowledge nothing, in both versions.
#[cfg(target_os = "linux")]
#[test]
fn readers_that_take_or_acknowledge_nothing_cost_a_few_megabytes_each_and_others_lose_nothing() {
    const MESSAGES: u16 = 60;
    const LARGE: usize = 900_000;
    const READERS: usize = 8;
    // What waits, what is on its way, and what is being sent, in some copies.
    const COSTS: usize = (4 << 20) + 8 * LARGE;
    // Publishing, keeping and reading it.
    const BESIDE: usize = 64 << 20;
    let house = House::open("write_timeout = \"1h\"");
    let stream = house.stream.as_str();
    let follows = |version: u8, qos: u8, name: &str| {
        let mut raw = Raw::to(&house);
        let mut hello = hello(version, &house.key, name, 0, None);
        // A session that it wants kept would have to be held for it.
        let name = hello.windows(4).position(|four| four == b"MQTT").unwrap();
        hello[name + 5] &= !0x02;
        raw.say(&hello);
        assert_eq!(raw.hear().unwrap().1[1], 0);
        raw.say(&subscribe(version, stream, qos));
        assert_eq!(raw.hear().unwrap().0, 0x90);
        raw
    };
    let mut source = Raw::login(&house, 5, &house.key, "source");
    let mut publish = |id, payload: &[u8]| {
        source.say(&publish(5, stream, id, payload));
        assert_eq!(source.hear().unwrap(), (0x40, vec![0, u8::try_from(id).unwrap()]));
    };
    publish(1, &[0xff; LARGE]);
    let mut good = Raw::login(&house, 4, &house.key, "good");
    good.say(&subscribe(4, stream, 0));
    assert_eq!(good.hear().unwrap().0, 0x90);
    let mut deaf = Vec::new();
    let mut lazy = Vec::new();
    for version in [4, 5] {
        deaf.extend([0, 1].map(|qos| follows(version, qos, &format!("deaf {version} {qos}"))));
        for name in ["a", "b"] {
            let mut raw = follows(version, 1, &format!("lazy {version} {name}"));
            let socket = raw.0.try_clone().unwrap();
            let until_the_pong = move || (0..).take_while(|_| raw.hear().unwrap().0 != 0xd0).count();
            lazy.push((Raw(socket), std::thread::spawn(until_the_pong)));
        }
    }
    let before = house.daemon.process.memory();
    for id in 2..=MESSAGES {
        publish(id, &[0xff; LARGE]);
        assert!(good.hear().unwrap().1.len() > LARGE);
    }
    let grown = house.daemon.process.memory().saturating_sub(before);
    let most = (READERS * COSTS + BESIDE) as u64;
    assert!(most * 2 < READERS as u64 * u64::from(MESSAGES) * LARGE as u64, "what is waiting would not show");
    assert!(grown < most, "{grown} bytes more, of {most}");
    for (mut raw, reader) in lazy {
        raw.say(&packet(0xc0, &[]));
        // What may be on its way, and not all.
        assert!(reader.join().unwrap() <= 2);
    }
    assert_eq!(deaf.len() * 2, READERS);
    drop(deaf);
    house.daemon.end();
}

#[test]
fn what_is_not_done_here_is_said_at_once_or_refused_by_itself() {
    let house = House::open("");
    let stream = house.stream.as_str();
    let mut raw = Raw::to(&house);
    raw.say(&hello(5, &house.key, "", 0, None));
    let welcome = raw.hear().unwrap().1;
    // No retained messages, wildcards, subscription identifiers, shared subscriptions (section 3.2.2.3); a name, and a keep-alive.
    for property in [[0x25, 0], [0x28, 0], [0x29, 0], [0x2a, 0]] {
        assert!(welcome.windows(2).any(|window| window == property), "{property:02x?}: {welcome:02x?}");
    }
    assert!(welcome.windows(9).any(|window| window == b"veilcast-"), "{welcome:02x?}");
    for (topic, code) in [("#", 0xa2), ("0x00/+", 0xa2), ("$share/a/b", 0x9e), ("$SYS/x", 0x8f), (stream, 1)] {
        raw.say(&subscribe(5, topic, 2));
        let (kind, body) = raw.hear().unwrap();
        assert_eq!((kind, body.last()), (0x90, Some(&code)), "{topic}");
    }
    raw.say(&packet(0xa2, &[&[0, 3, 0], &text(stream), &text("other")]));
    assert_eq!(raw.hear().unwrap(), (0xb0, vec![0, 3, 0, 0, 0x11]));
    // Retained, with an identifier, or under a number for a topic.
    raw.say(&packet(0x33, &[&text(stream), &[0, 1, 0], b"1"]));
    raw.is_told_to_go(0x9a);
    let mut raw = Raw::login(&house, 5, &house.key, "a");
    raw.say(&packet(0x82, &[&[0, 9, 2, 0x0b, 1], &text(stream), &[0]]));
    raw.is_told_to_go(0xa1);
    let mut raw = Raw::login(&house, 5, &house.key, "a");
    raw.say(&packet(0x32, &[&text(stream), &[0, 1, 3, 0x23, 0, 1], b"1"]));
    raw.is_told_to_go(0x94);
    // Version 3.1.1 can only be sent away; whoever wants a session kept there needs a name.
    let mut nameless = hello(4, &house.key, "", 0, None);
    let name = nameless.windows(4).position(|four| four == b"MQTT").unwrap();
    nameless[name + 5] &= !0x02;
    let mut raw = Raw::to(&house);
    raw.say(&nameless);
    assert_eq!(raw.rest(), [(0x20, vec![0, 2])]);
    for bytes in [packet(0x33, &[&text(stream), &[0, 1], b"1"]), publish(4, "x/y", 1, b"1")] {
        let mut raw = Raw::login(&house, 4, &house.key, "a");
        raw.say(&bytes);
        assert_eq!(raw.rest(), []);
    }
    house.daemon.end();
}

#[test]
fn a_stream_that_was_never_made_and_a_partition_it_does_not_have_are_refused_and_no_key_is_made_for_them() {
    let house = House::open("");
    let typo = house.stream.replace("prices", "pirces");
    let refused = house.publish("mqttv5", &house.key, &["-q", "1", "-d", "-t", &typo, "-m", "1"]);
    let said = format!("{}{}", refused.stdout, refused.stderr);
    assert!(said.contains("RC:144"), "{said}");
    let args = ["-d", "-q", "1", "-W", "60", "-t", &typo];
    let refused = run_with(house.client("mosquitto_sub", "mqttv5", &house.key, &args), b"");
    let said = format!("{}{}", refused.stdout, refused.stderr);
    assert!(said.contains("143"), "{said}");
    let named = ["-D", "subscribe", "user-property", "partitions", "0,7"];
    let args = [&["-d", "-q", "1", "-W", "60", "-t", &house.stream][..], &named].concat();
    let refused = run_with(house.client("mosquitto_sub", "mqttv5", &house.key, &args), b"");
    let said = format!("{}{}", refused.stdout, refused.stderr);
    assert!(said.contains("Subscribed (mid: 1): 131"), "{said}");
    let keys = house.home.run(&["key", "list", &typo, "--json"]);
    assert!(!keys.stdout.contains("\"id\""), "{keys:?}");
    house.daemon.process.stderr.wait_for("MQTT publish");
    house.daemon.end();
}
