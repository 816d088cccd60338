//! The HTTP door of a running daemon, asked by curl, a WebSocket client and bare sockets.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use common::{Daemon, Home, PATIENCE, VERBS, in_path, subscribed};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

const USER: &str = "0x00000000000000000000000000000000000000bb";
const JSON: [&str; 2] = ["-H", "Content-Type: application/json"];
const TEXT: [&str; 2] = ["-H", "Content-Type: text/plain"];
const BYTES: [&str; 2] = ["-H", "Content-Type: application/octet-stream"];

/// A daemon that keeps its stream, and a key with every verb.
struct House {
    home: Home,
    daemon: Daemon,
    stream: String,
    path: String,
    key: String,
}

impl House {
    fn open(gateway: &str, more: &[&str]) -> Self {
        let home = Home::new();
        let stream = home.run(&["stream", "create", "prices", "--partitions", "3"]).ok();
        home.config(&format!("[storage]\nstreams = [\"{stream}\"]\n[gateway]\n{gateway}\n"));
        let key = home.api_key("root", &VERBS);
        let daemon = Daemon::start(&home, more);
        let path = format!("/streams/{}", in_path(&stream));
        Self { home, daemon, stream, path, key }
    }

    fn with(&self, more: &str, args: &[&str]) -> common::Answer {
        self.daemon.with(&self.key, &format!("{}{more}", self.path), args)
    }

    fn post(&self, more: &str, kind: &[&str], body: &str) -> common::Answer {
        self.with(more, &[kind, &["--data-binary", body]].concat())
    }

    /// Stored messages of a partition, once there are so many.
    fn stored(&self, partition: u32, many: usize) -> Vec<Value> {
        let began = Instant::now();
        loop {
            let lines = self.with(&format!("/data/partitions/{partition}/last?count=1000"), &[]).lines();
            if lines.len() >= many {
                return lines;
            }
            assert!(began.elapsed() < PATIENCE, "{lines:?}");
        }
    }
}

fn payloads(lines: &[Value]) -> Vec<Value> {
    lines.iter().map(|line| line["payload"].clone()).collect()
}

#[test]
fn what_is_published_over_http_is_read_live_by_others_here_and_elsewhere_and_later_from_storage() {
    let house = House::open("", &[]);
    let live = house.daemon.follow(&house.key, &format!("{}/subscribe?events=true", house.path));
    let buyer = Home::new();
    house.home.run(&["stream", "grant", &house.stream, &buyer.address()]).ok();
    let elsewhere = subscribed(&buyer, &house.stream, &house.daemon.address, &["--partition", "0", "--json"]);

    let place = house.post("", &JSON, "{\"b\": 1.10, \"a\": 123456789012345678901}").ok();
    assert_eq!(place["stream"], house.stream.as_str());
    house.post("?partition=0", &TEXT, "plain text").ok();
    house.post("", &BYTES, "\x01\x02").ok();
    house.post("?partition=2", &JSON, "3").ok();
    house.post("?partitionKey=till-7", &JSON, "\"by key\"").ok();

    let digits = "\"payload\":{\"b\": 1.10, \"a\": 123456789012345678901}";
    live.stdout.wait_for(digits);
    live.stdout.wait_for("\"content_type\":\"binary\",\"payload\":\"0102\"");
    live.stdout.wait_for("by key");
    elsewhere.stdout.wait_for(digits);
    elsewhere.stdout.wait_for("\"payload\":\"plain text\"");

    let kept = house.stored(0, 3);
    assert_eq!((&kept[1]["payload"], &kept[2]["payload"]), (&json!("plain text"), &json!("0102")));
    assert_eq!(kept[0]["timestamp"], place["timestamp"]);
    assert_eq!(payloads(&house.stored(2, 1))[0], json!(3));
    let asked = |more: &str| payloads(&house.with(&format!("/data/partitions/0/{more}"), &[]).lines());
    assert_eq!(asked("last"), [json!("0102")]);
    let (first, second) = (&kept[0]["timestamp"], &kept[1]["timestamp"]);
    assert_eq!(asked(&format!("from?fromTimestamp={second}")).last(), Some(&json!("0102")));
    assert!(asked(&format!("range?fromTimestamp=0&toTimestamp={first}")).len() < 3);
    assert_eq!(asked("from?fromTimestamp=2099-01-01T00:00:00Z"), [Value::Null; 0]);
    assert_eq!(asked(&format!("last?count=9&publisherId={USER}")), [Value::Null; 0]);
    house.daemon.end();
}

#[test]
fn without_a_known_key_nothing_is_done_and_a_key_does_only_what_it_is_for() {
    let house = House::open("", &[]);
    let other = house.home.run(&["stream", "create", "other"]).ok();
    let args = ["api-key", "add", "till", "--stream", &house.stream, "--verb", "publish"];
    let till = house.home.run(&args).ok();
    let daemon = &house.daemon;
    daemon.ask(&house.path, &[&JSON[..], &["-d", "1"]].concat()).refused(401, "unauthorized");
    for header in ["Bearer nonsense", "Bearer", "Basic dXNlcjpwYXNz", &format!("Bearer {}0", house.key)] {
        let header = format!("Authorization: {header}");
        daemon.ask(&house.path, &["-H", &header, "-d", "1"]).refused(401, "unauthorized");
    }
    // In a query it counts for WebSockets only.
    daemon.ask(&format!("{}/keys?apiKey={}", house.path, house.key), &[]).refused(401, "unauthorized");
    daemon.with(&till, &house.path, &[&JSON[..], &["-d", "1"]].concat()).ok();
    let others = format!("/streams/{}", in_path(&other));
    daemon.with(&till, &others, &[&JSON[..], &["-d", "1"]].concat()).refused(403, "out_of_scope");
    for (method, path) in [
        ("GET", format!("{}/keys", house.path)),
        ("POST", format!("{}/keys/rekey", house.path)),
        ("GET", format!("{}/subscribers", house.path)),
        ("DELETE", format!("{}/permissions/{USER}", house.path)),
        ("GET", format!("{}/subscribe", house.path)),
        ("GET", format!("{}/data/partitions/0/last", house.path)),
        ("GET", "/keys".into()),
        ("GET", "/node".into()),
        ("GET", "/api-keys".into()),
        ("POST", "/streams".into()),
    ] {
        daemon.with(&till, &path, &["-X", method]).refused(403, "out_of_scope");
    }
    let seen = daemon.with(&till, "/streams", &[]).ok()["streams"].clone();
    assert_eq!((seen.as_array().unwrap().len(), &seen[0]["id"]), (1, &json!(house.stream)));
    assert_eq!(house.daemon.with(&house.key, "/streams", &[]).ok()["streams"].as_array().unwrap().len(), 2);

    // Somebody else's stream is not ours to publish on, whatever the key allows.
    let foreign = format!("/streams/{USER}%2Fx");
    daemon.with(&house.key, &foreign, &[&JSON[..], &["-d", "1"]].concat()).refused(403, "not_permitted");
    house.daemon.end();
}

#[test]
fn a_key_made_or_revoked_while_it_runs_counts_at_once_and_what_is_open_with_it_is_closed() {
    let house = House::open("", &[]);
    let reader = house.home.api_key("reader", &["subscribe"]);
    house.home.run(&["api-key", "add", "reader", "--all-streams", "--verb", "keys"]).failed(1, &["already", "revoke"]);
    let mut live = house.daemon.follow(&reader, &format!("{}/subscribe", house.path));
    let listed = house.home.run(&["api-key", "list"]).ok();
    assert!(listed.contains("reader  subscribe  on every stream") && !listed.contains(&reader), "{listed}");
    assert!(house.home.run(&["api-key", "revoke", "reader"]).ok().contains("opens nothing"));
    assert_eq!(live.wait(), Some(0), "{:#?}", live.stdout.all());
    house.daemon.with(&reader, &format!("{}/subscribe", house.path), &[]).refused(401, "unauthorized");
    house.home.run(&["api-key", "revoke", "reader"]).failed(1, &["there is no API key reader"]);

    let made = json!({ "name": "desk", "verbs": ["permissions"], "streams": [house.stream] }).to_string();
    let made = house.daemon.with(&house.key, "/api-keys", &[&JSON[..], &["-d", &made]].concat()).ok();
    let desk = made["key"].as_str().unwrap();
    house.daemon.with(desk, &format!("{}/subscribers", house.path), &[]).ok();
    let all = house.daemon.with(&house.key, "/api-keys", &[]);
    assert!(!all.body.contains(desk) && all.ok()["api_keys"].as_array().unwrap().len() == 2);
    house.daemon.with(&house.key, "/api-keys/desk", &["-X", "DELETE"]).ok();
    house.daemon.with(desk, &format!("{}/subscribers", house.path), &[]).refused(401, "unauthorized");
    house.daemon.end();
    // Nowhere in the folder is a key in the clear.
    for entry in std::fs::read_dir(house.home.path().join("store")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(path).unwrap();
            assert!(!bytes.windows(house.key.len()).any(|window| window == house.key.as_bytes()));
        }
    }
}

#[test]
fn bodies_too_large_too_slow_or_of_another_kind_and_questions_that_make_no_sense_are_refused() {
    let house = House::open("body_timeout = \"5s\"", &[]);
    let large = house.home.file("large", &vec![b'x'; (1 << 20) + 1]);
    let large = format!("@{}", large.display());
    house.with("", &["-H", "Expect:", "--data-binary", &large, BYTES[0], BYTES[1]]).refused(413, "too_large");
    let chunked = ["-H", "Expect:", "-H", "Transfer-Encoding: chunked", "--data-binary", &large, BYTES[0], BYTES[1]];
    house.with("", &chunked).refused(413, "too_large");
    house.post("", &["-H", "Content-Type: application/xml"], "<a/>").refused(415, "content_type");
    house.post("", &JSON, "{\"a\":").refused(400, "bad_request");
    for query in [
        "?partition=0&partitionKey=a",
        "?partition=100",
        "?partition=-1",
        "?partition=x",
        "?partion=0",
        "?timestamp=soon",
        // Whatever came behind it would be dated later still, and nobody would keep it.
        "?timestamp=9999999999999",
    ] {
        house.post(query, &JSON, "1").refused(400, "bad_request");
    }
    house.post("?partition=3", &JSON, "1").refused(400, "bad_request");
    house.post("", &JSON, "1").ok();
    house.post("?timestamp=1000000000000", &JSON, "1").refused(409, "back_dated");
    for path in ["/streams/..%2F..%2Fetc%2Fpasswd", "/streams/x", "/streams/%00%2Fx", "/streams/0xAB%2Fx"] {
        let answer = house.daemon.with(&house.key, path, &["--path-as-is", "-d", "1"]);
        answer.refused(400, "bad_request");
    }
    for path in ["/streams/a/b", "/streams/../api-keys", "//api-keys", "/etc/passwd", "/streams/%ff%2Fx/keys"] {
        let answer = house.daemon.with(&house.key, path, &["--path-as-is"]);
        assert!(matches!(answer.status, 400 | 404), "{path}: {answer:?}");
    }
    house.daemon.with(&house.key, "/health", &["-X", "DELETE"]).refused(405, "no_method");
    for query in
        ["last?count=0", "last?cuont=3", "from", "range?fromTimestamp=0", "range?fromTimestamp=2&toTimestamp=1"]
    {
        house.with(&format!("/data/partitions/0/{query}"), &[]).refused(400, "bad_request");
    }
    for query in ["last=0", "last=18446744073709551615", "partition=0", "partitions=0,x"] {
        house.with(&format!("/subscribe?{query}"), &["-H", "Accept: text/event-stream"]).refused(400, "bad_request");
    }
    let nowhere = format!("/streams/{}x/keys/rekey", in_path(&house.stream));
    house.daemon.with(&house.key, &nowhere, &["-X", "POST"]).refused(404, "no_stream");
    house.with("/publish", &[]).refused(426, "upgrade_required");
    house.with("/subscribe", &["-H", "Accept: application/json"]).refused(406, "not_acceptable");

    let mut slow = TcpStream::connect(house.daemon.authority()).unwrap();
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: 9\r\n\r\n1",
        house.path, house.key
    );
    slow.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 12];
    slow.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    house.daemon.end();
}

#[test]
fn pages_of_other_sites_are_refused_also_where_a_name_was_rebound_to_this_machine() {
    let house = House::open("hosts = [\"node.example\"]", &[]);
    let asked = |headers: &[&str]| {
        let args: Vec<&str> = headers.iter().flat_map(|header| ["-H", header]).collect();
        house.with("/keys", &args)
    };
    for refused in [
        &["Host: evil.example"][..],
        &["Host: evil.example:7171", "Origin: http://evil.example:7171"],
        &["Origin: http://evil.example"],
        &["Origin: null"],
        &["Sec-Fetch-Site: cross-site"],
    ] {
        asked(refused).refused(403, "cross_site");
    }
    let own = format!("Origin: {}", house.daemon.url);
    for fine in [&[][..], &["Host: localhost"], &["Host: node.example"], &[&own, "Sec-Fetch-Site: same-origin"]] {
        asked(fine).ok();
    }
    let headers = house.with("/keys", &["-i", "-H", &own]).body.to_lowercase();
    assert!(!headers.contains("access-control"), "{headers}");
    assert!(headers.contains("cache-control: no-store") && headers.contains("nosniff"), "{headers}");
    // A link to the page may be followed, and nothing else be got that way.
    let link = ["-H", "Sec-Fetch-Site: cross-site", "-H", "Sec-Fetch-Mode: navigate", "-H", "Sec-Fetch-Dest: document"];
    assert_eq!(house.daemon.ask("/dashboard", &link).status, 200);
    house.with("/keys", &link).refused(403, "cross_site");
    // In a query a key opens WebSockets alone.
    let upgrade =
        ["-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="];
    let in_query = format!("/keys?apiKey={}", house.key);
    house.daemon.ask(&in_query, &upgrade).refused(401, "unauthorized");
    house.daemon.ask(&format!("{}?apiKey={}", house.path, house.key), &["-d", "1"]).refused(401, "unauthorized");
    house.with("/keys", &["-X", "OPTIONS"]).refused(405, "no_method");
    house.daemon.end();
}

#[test]
fn keys_are_listed_without_their_bytes_and_changed_and_permissions_given_and_taken_back() {
    let house = House::open("", &[]);
    house.post("", &JSON, "1").ok();
    let keys = house.with("/keys", &[]).ok()["keys"].clone();
    let fields: Vec<&String> = keys[0].as_object().unwrap().keys().collect();
    assert_eq!(
        fields,
        ["current", "fingerprint", "key_id", "origin", "prefix", "publisher", "since", "stream", "until"]
    );

    let granted = house.post("/permissions", &JSON, &json!({ "user": USER, "for": "30d" }).to_string()).ok();
    assert!(granted["until"].as_u64().unwrap() > granted["from"].as_u64().unwrap_or_default());
    assert_eq!(house.with("/subscribers", &[]).ok()["subscribers"][0]["status"], "active");
    for wrong in [
        json!({ "user": "bob" }),
        json!({ "user": USER, "permission": "rule" }),
        json!({ "user": USER, "for": "30d", "until": 1 }),
        json!({ "user": USER, "until": "2020-01-01T00:00:00Z" }),
        json!({ "user": USER, "til": 1 }),
    ] {
        house.post("/permissions", &JSON, &wrong.to_string()).refused(400, "bad_request");
    }
    house.post("/permissions", &TEXT, &json!({ "user": USER }).to_string()).refused(415, "content_type");

    let rotated = house.with("/keys/rotate", &["-X", "POST"]).ok()["key_id"].clone();
    house.with(&format!("/permissions/{USER}"), &["-X", "DELETE"]).ok();
    house.with(&format!("/permissions/{USER}?permission=publish"), &["-X", "DELETE"]).refused(404, "no_grant");
    assert_eq!(house.with("/subscribers", &[]).ok()["subscribers"][0]["status"], "revoked");
    let rekeyed = house.with("/keys/rekey", &["-X", "POST"]).ok();
    assert_ne!(rekeyed["key_id"], rotated);
    house.post("", &JSON, "2").ok();
    let keys = house.with("/keys", &[]).ok()["keys"].clone();
    let current = keys.as_array().unwrap().iter().find(|key| key["current"] == true).unwrap();
    assert_eq!(current["key_id"], rekeyed["key_id"]);
    let one = house.with("/keys?limit=1", &[]).ok();
    assert_eq!((one["keys"].as_array().unwrap().len(), &one["more"]), (1, &json!(true)));
    let nowhere = format!("/streams/{}-2", in_path(&house.stream));
    house.daemon.with(&house.key, &format!("{nowhere}/subscribers"), &[]).refused(404, "no_stream");
    house.daemon.end();
}

#[test]
fn history_of_a_stream_that_nobody_keeps_is_told_as_such() {
    let house = House::open("", &[]);
    let other = house.home.run(&["stream", "create", "other"]).ok();
    let path = format!("/streams/{}/data/partitions/0/last", in_path(&other));
    house.daemon.with(&house.key, &path, &[]).refused(404, "no_storage");
    assert_eq!(house.daemon.ask("/openapi.json", &[]).ok()["openapi"], "3.1.0");
    assert_eq!(house.daemon.with(&house.key, "/node", &[]).ok()["identity"], house.home.address());
    house.daemon.end();
}

async fn socket(
    house: &House,
    path: &str,
) -> tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>> {
    let url = format!("ws://{}{}{path}", house.daemon.authority(), house.path);
    tokio::time::timeout(PATIENCE, tokio_tungstenite::connect_async(url)).await.unwrap().unwrap().0
}

async fn heard(
    socket: &mut (impl StreamExt<Item = tokio_tungstenite::tungstenite::Result<Message>> + Unpin),
) -> Message {
    loop {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap();
        match message.unwrap_or(Ok(Message::Close(None))).unwrap_or(Message::Close(None)) {
            Message::Ping(_) | Message::Pong(_) => {}
            other => return other,
        }
    }
}

/// The code that it is closed with.
async fn closed(
    socket: &mut (impl StreamExt<Item = tokio_tungstenite::tungstenite::Result<Message>> + Unpin),
) -> CloseCode {
    match heard(socket).await {
        Message::Close(Some(frame)) => frame.code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn over_websockets_messages_are_published_and_read_and_no_key_or_plaintext_is_in_any_log() {
    let house = House::open("", &["-vvv"]);
    let mut reading = socket(&house, &format!("/subscribe?apiKey={}", house.key)).await;
    let mut publishing = socket(&house, &format!("/publish?apiKey={}&partition=1", house.key)).await;
    for message in [Message::text("{\"n\": 1.50}"), Message::text("PLAIN-TEXT"), Message::binary(vec![1, 2, 3])] {
        publishing.send(message).await.unwrap();
        let place: Value = serde_json::from_str(heard(&mut publishing).await.to_text().unwrap()).unwrap();
        assert!(place["timestamp"].is_u64(), "{place}");
    }
    for expected in ["\"payload\":{\"n\": 1.50}", "\"payload\":\"PLAIN-TEXT\"", "\"payload\":\"010203\""] {
        let line = heard(&mut reading).await.into_text().unwrap();
        assert!(line.contains(expected) && line.contains("\"partition\":1"), "{line}");
    }
    for path in ["/subscribe?apiKey=nonsense".to_owned(), "/publish".into()] {
        let url = format!("ws://{}{}{path}", house.daemon.authority(), house.path);
        let refused = tokio_tungstenite::connect_async(url).await.unwrap_err();
        assert!(refused.to_string().contains("401"), "{refused}");
    }
    // A page of another site opens none, though it knew the key.
    let url = format!("ws://{}{}/subscribe?apiKey={}", house.daemon.authority(), house.path, house.key);
    let mut request = tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(url).unwrap();
    request.headers_mut().insert("origin", "http://evil.example".parse().unwrap());
    let refused = tokio_tungstenite::connect_async(request).await.unwrap_err();
    assert!(refused.to_string().contains("403"), "{refused}");

    // Too large a frame ends its own socket, and no other.
    let mut large = socket(&house, &format!("/publish?apiKey={}", house.key)).await;
    let _ = large.send(Message::binary(vec![0; (1 << 20) + 1])).await;
    assert_eq!(closed(&mut large).await, CloseCode::Size);
    publishing.send(Message::text("still here")).await.unwrap();
    assert!(heard(&mut publishing).await.to_text().unwrap().contains("timestamp"));
    heard(&mut reading).await;

    // A revoked key closes what it opened.
    house.home.run(&["api-key", "revoke", "root"]).ok();
    assert_eq!(closed(&mut reading).await, CloseCode::Policy);
    let stderr = house.daemon.process.stderr.clone();
    house.daemon.end();
    let log = stderr.all().join("\n");
    assert!(log.contains("/streams/{id}/subscribe"), "it is logged at all");
    assert!(!log.contains(&house.key) && !log.contains("PLAIN-TEXT") && !log.contains("apiKey"));
}

#[tokio::test]
async fn a_stop_closes_websockets_and_streams_and_waits_for_none_of_them() {
    let house = House::open("", &[]);
    let mut reading = socket(&house, &format!("/subscribe?apiKey={}", house.key)).await;
    let mut live = house.daemon.follow(&house.key, &format!("{}/subscribe", house.path));
    house.daemon.end();
    assert_eq!(closed(&mut reading).await, CloseCode::Away);
    live.wait();
}

#[test]
fn a_client_that_takes_nothing_is_cut_off_and_others_are_served() {
    let house = House::open("write_timeout = \"3s\"", &["-vv"]);
    let mut lazy = TcpStream::connect(house.daemon.authority()).unwrap();
    let head = format!(
        "GET {}/subscribe HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
        house.path, house.key
    );
    lazy.write_all(head.as_bytes()).unwrap();
    let mut begun = [0; 12];
    lazy.read_exact(&mut begun).unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200");
    let live = house.daemon.follow(&house.key, &format!("{}/subscribe", house.path));
    let large = house.home.file("large.txt", &vec![b'x'; 900_000]);
    let large = format!("@{}", large.display());
    let (began, mut published) = (Instant::now(), 0);
    while !house.daemon.process.stderr.all().iter().any(|line| line.contains("the client takes nothing")) {
        assert!(began.elapsed() < PATIENCE, "{published} published");
        house.post("", &TEXT, &large).ok();
        published += 1;
    }
    // One that takes everything may still be behind, and miss what comes beyond its share of the room.
    while !live.stdout.all().iter().any(|line| line.contains("for the others")) {
        assert!(began.elapsed() < PATIENCE * 2, "{:#?}", live.stderr.all());
        house.post("", &JSON, "\"for the others\"").ok();
    }
    house.daemon.end();
}

#[test]
fn any_number_of_connections_that_say_nothing_keep_nobody_out_who_has_a_key_and_are_closed() {
    let house = House::open("max_connections = 4\nhead_timeout = \"2s\"", &[]);
    let live = house.daemon.follow(&house.key, &format!("{}/subscribe", house.path));
    let mut silent = Vec::new();
    for n in 0..60 {
        let mut stream = TcpStream::connect(house.daemon.authority()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // Some say nothing, some never finish, some ask and then say nothing.
        let said: &[u8] = match n % 3 {
            0 => b"",
            1 => b"GET /health HTTP/1.1\r\nHost: loc",
            _ => b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
        };
        stream.write_all(said).unwrap();
        silent.push(stream);
        if n % 10 == 0 {
            house.post("", &JSON, &n.to_string()).ok();
        }
    }
    live.stdout.wait_for("\"payload\":50");
    for mut stream in silent {
        let mut rest = Vec::new();
        // Closed or reset; the test fails where it stays open.
        if let Err(error) = stream.read_to_end(&mut rest) {
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "it is still open");
        }
    }
    house.daemon.end();
}
