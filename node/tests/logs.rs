//! Log lines: which ones are written, in which form, and that no secret is ever in them.
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod common;

use std::io::Write;
use std::process::{Command, Stdio};

use common::{Daemon, Home, LOCAL, Process, VERBS, in_path, node, run_with};
use serde_json::Value;
use veilcast::key_store::{KeyStore, SledKeyStore, TimeRange, Unlock};
use veilcast::{Identity, StreamId};

const OF_SELLER: &str = "a tulip for the seller";
const OF_BUYER: &str = "a crocus for the buyer";
/// A pre-agreed key, as it is put in.
const AGREED: &str = "8f1d2c3b4a5968778695a4b3c2d1e0ff00112233445566778899aabbccddeeff";
/// What is published.
const SAID: &str = "the price of tulips is 4711";

/// A data folder whose identity and passphrase are known here.
struct Known {
    home: Home,
    secret: [u8; 32],
    passphrase: &'static str,
}

impl Known {
    fn new(byte: u8, passphrase: &'static str) -> Self {
        let (home, secret) = (Home::empty(), std::array::from_fn(|n| byte.wrapping_mul(17).wrapping_add(n as u8 * 7)));
        std::fs::create_dir_all(home.path()).unwrap();
        let identity = Identity::from_secret_bytes(&secret).unwrap();
        identity.save_keystore(&home.path().join("identity.json"), passphrase).unwrap();
        Self { home, secret, passphrase }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.home.command(args);
        command.env("VEILCAST_PASSPHRASE", self.passphrase);
        command
    }

    fn run(&self, args: &[&str], input: &[u8]) -> String {
        run_with(self.command(args), input).ok()
    }

    fn start(&self, args: &[&str]) -> Process {
        Process::start(self.command(args), Stdio::piped())
    }

    fn address(&self) -> String {
        self.run(&["identity", "show"], b"")
    }

    /// Every key in its store, of this publisher and stream.
    fn keys(&self, publisher: &Known, stream: &str) -> Vec<Vec<u8>> {
        let store = SledKeyStore::open(&self.home.path().join("store"), &Unlock::passphrase(self.passphrase)).unwrap();
        let user = Identity::from_secret_bytes(&publisher.secret).unwrap().user();
        let scope = veilcast::scope(user, &stream.parse::<StreamId>().unwrap());
        let history = store.history(&scope, TimeRange::ALL, None, 100).unwrap();
        history.iter().map(|stored| stored.key.expose().to_vec()).collect()
    }
}

/// The ways in which bytes may stand in a text: hex, base64 at any offset, and as numbers.
fn spellings(bytes: &[u8]) -> Vec<String> {
    let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let numbers = bytes.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut all = vec![hex.to_uppercase(), hex, numbers.join(", "), numbers.join(",")];
    for offset in 0..3 {
        // What stands before and behind may be anything: only whole groups count.
        let whole = &bytes[offset..offset + (bytes.len() - offset) / 3 * 3];
        all.extend(["+/", "-_"].map(|special| base64(whole, special)));
    }
    all
}

fn base64(bytes: &[u8], special: &str) -> String {
    let alphabet: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(special.chars()).collect();
    let group = |three: &[u8]| {
        let bits = three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        [18, 12, 6, 0].map(|shift| alphabet[(bits >> shift & 63) as usize])
    };
    bytes.chunks_exact(3).flat_map(group).collect()
}

#[test]
fn the_search_finds_a_key_however_it_is_spelled() {
    assert_eq!(base64(b"Man is d", "+/"), "TWFuIGlz");
    let key: Vec<u8> = (200..232).collect();
    let spelled = spellings(&key);
    let around = [&b"before"[..], &key, b"behind!"].concat();
    for at in 0..3 {
        let text = base64(&[&vec![b'x'; at], &around[..]].concat(), "+/");
        assert!(spelled.iter().any(|spelling| text.contains(spelling)), "{at}: {text}");
    }
    assert!(spelled.iter().any(|spelling| format!("{key:?}").contains(spelling)));
}

fn lines_of(process: Process) -> Vec<String> {
    let stderr = process.stderr.clone();
    common::end(process);
    stderr.until_end()
}

#[test]
fn a_publisher_and_a_subscriber_that_log_everything_log_no_key_no_passphrase_and_no_message() {
    let (seller, buyer) = (Known::new(3, OF_SELLER), Known::new(5, OF_BUYER));
    let stream = seller.run(&["stream", "create", "prices"], b"");
    seller.run(&["stream", "grant", &stream, &buyer.address(), "--for", "30d"], b"");
    let (_relay, _node, at) = node();
    let everything = ["-vvv", "--log-format"];
    let subscribe = ["subscribe", &stream, "--bootstrap", &at, "--listen", LOCAL];
    let reading = buyer.start(&[&subscribe[..], &everything, &["json"]].concat());
    reading.stderr.wait_for("subscribed");
    let publish = ["publish", &stream, "--bootstrap", &at, "--listen", LOCAL, "--stay", "--rotate-every", "1"];
    let mut publishing = seller.start(&[&publish[..], &everything, &["text"]].concat());
    let mut stdin = publishing.stdin.take().unwrap();
    for n in 0..3 {
        stdin.write_all(format!("{SAID} {n}\n").as_bytes()).unwrap();
    }
    reading.stdout.wait_for(&format!("{SAID} 2"));
    let (of_publisher, of_subscriber) = (lines_of(publishing), lines_of(reading));
    drop(stdin);

    let other = "0x00000000000000000000000000000000000000bb";
    let add = ["key", "add", &stream, "--publisher", other, "--key-id", "summer", "-vvv"];
    let added = run_with(buyer.command(&add), AGREED.as_bytes());
    assert_eq!(added.code, Some(0), "{added:?}");
    let of_both = [of_publisher.clone(), of_subscriber.clone(), vec![added.stderr]].concat().join("\n");
    let keys = [seller.keys(&seller, &stream), buyer.keys(&seller, &stream)].concat();
    assert!(keys.len() >= 4, "a key for each message, on both sides: {}", keys.len());
    let agreed: Vec<u8> = (0..32).map(|n| u8::from_str_radix(&AGREED[n * 2..n * 2 + 2], 16).unwrap()).collect();
    for secret in keys.into_iter().chain([agreed, seller.secret.to_vec(), buyer.secret.to_vec()]) {
        for spelled in spellings(&secret) {
            assert!(!of_both.contains(&spelled), "a secret is in the logs");
        }
    }
    for secret in [OF_SELLER, OF_BUYER, SAID] {
        for spelled in spellings(secret.as_bytes()).into_iter().chain([secret.to_owned()]) {
            assert!(!of_both.contains(&spelled), "{secret} is in the logs");
        }
    }

    // They did log, each in its form.
    for of in ["TRACE", "DEBUG", "veilcast::exchange: a key request was answered"] {
        assert!(of_publisher.iter().any(|line| line.contains(of)), "{of}");
    }
    let objects: Vec<Value> = of_subscriber.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let leaves = |line: &&Value| line["message"] == "a key request leaves" && line["target"] == "veilcast::exchange";
    let left = objects.iter().find(leaves).expect("a request for the key");
    assert_eq!((&left["level"], left["publisher"].as_str()), (&"DEBUG".into(), Some(&*seller.address())));
    assert!(left["timestamp"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn the_variable_chooses_modules_and_levels_and_the_flag_wins_over_it() {
    let (seller, buyer, stream) = common::seller_and_buyer();
    let (_relay, _node, at) = node();
    let subscribe = ["subscribe", &stream, "--bootstrap", &at, "--listen", LOCAL, "--count", "1"];
    let mut command = buyer.command(&subscribe);
    command.env("VEILCAST_LOG", "veilcast::exchange=debug").env("VEILCAST_LOG_FORMAT", "json");
    let mut reading = Process::start(command, Stdio::piped());
    reading.stderr.wait_for("subscribed");
    let publish = ["publish", &stream, "--bootstrap", &at, "--listen", LOCAL, "--stay", "-v"];
    let mut command = seller.command(&publish);
    command.env("VEILCAST_LOG", "trace");
    let mut publishing = Process::start(command, Stdio::piped());
    publishing.stdin.take().unwrap().write_all(b"one\n").unwrap();
    assert_eq!(reading.wait(), Some(0), "{:#?}", reading.stderr.all());

    let lines = reading.stderr.until_end();
    let logged: Vec<Value> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(logged.iter().any(|line| line["message"] == "a key request leaves"), "{lines:#?}");
    assert!(logged.iter().all(|line| line["target"] == "veilcast::exchange"), "{lines:#?}");
    let lines = lines_of(publishing);
    assert!(!lines.iter().any(|line| line.contains("TRACE") || line.contains("DEBUG")), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains('\u{1b}')), "colours are for terminals: {lines:#?}");
}

/// Refusals of a minute that are listed of one who asks.
const LISTED: usize = 20;

#[cfg(unix)]
#[test]
fn a_daemon_tells_by_itself_whom_it_refused_what_and_from_where_and_no_key_or_payload_is_in_its_log() {
    let home = Home::new();
    let (stream, other) = (home.stream("prices"), home.stream("other"));
    let root = home.api_key("root", &VERBS);
    let till = home.run(&["api-key", "add", "till-7", "--stream", &stream, "--verb", "publish"]).ok();
    // Whoever wants objects gets nothing else.
    let process = home.start(&["run", "--listen", LOCAL, "--gateway", "127.0.0.1:0", "--json"]);
    let ready: Value = serde_json::from_str(&process.stderr.wait_for("\"ready\"")).unwrap();
    let daemon = Daemon { process, url: ready["gateway"].as_str().unwrap().into(), address: String::new() };
    let path = format!("/streams/{}", in_path(&stream));
    let body = ["-d", SAID, "-H", "Content-Type: text/plain"];
    let (rest, last) = till.split_at(till.len() - 1);
    let wrong = format!("{rest}{}", if last == "0" { "1" } else { "0" });
    daemon.with(&till, &path, &body).ok();
    daemon.with(&till, &format!("/streams/{}", in_path(&other)), &body).refused(403, "out_of_scope");
    daemon.with(&root, &path, &[&body[..], &["-H", "Origin: http://evil.example"]].concat()).refused(403, "cross_site");
    let upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="];
    let upgrade: Vec<&str> = upgrade.iter().flat_map(|header| ["-H", header]).collect();
    daemon.ask(&format!("{path}/publish?apiKey={wrong}"), &upgrade).refused(401, "unauthorized");
    daemon.with(&root, "/streams/forged%20who=root%0AWARN/keys", &[]).refused(400, "bad_request");
    // A flood: so many are listed, the others counted.
    let header = format!("Authorization: Bearer {wrong}");
    let flood = daemon.ask("/keys?limit=[1-60]", &["-H", &header]);
    assert!(flood.body.contains("unauthorized"), "{flood:?}");
    let stderr = daemon.process.stderr.clone();
    daemon.end();

    let lines = stderr.until_end();
    let all = lines.join("\n");
    let objects: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect(line)).collect();
    let refused = |who: &str| -> Vec<&Value> {
        objects.iter().filter(|line| line["message"] == "refused" && line["who"] == who).collect()
    };
    let out_of_scope = refused("till-7");
    let [line] = out_of_scope[..] else { panic!("{all}") };
    for (field, value) in
        [("level", "WARN"), ("method", "POST"), ("path", "/streams/{id}"), ("stream", &other), ("code", "out_of_scope")]
    {
        assert_eq!(line[field], value, "{line}");
    }
    assert_eq!(line["status"], 403);
    assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    assert_eq!(refused("(no key)")[0]["code"], "cross_site", "nobody's key is looked at before the page's origin is");
    let strangers = refused("(unknown key)");
    assert_eq!((strangers.len(), &strangers[0]["stream"]), (LISTED, &stream.as_str().into()), "{all}");
    let counted = objects.iter().find(|line| line["who"] == "(unknown key)" && line["left_out"].is_u64());
    assert_eq!(counted.expect(&all)["left_out"], 61 - LISTED);
    assert!(refused("root").is_empty(), "a mistyped question is for whoever asked it: {all}");
    for secret in [root, till, wrong, SAID.to_owned()] {
        let bytes = secret.strip_prefix("veilcast_").unwrap_or(&secret);
        for spelled in spellings(bytes.as_bytes()).into_iter().chain([bytes.to_owned()]) {
            assert!(!all.contains(&spelled), "{secret} is in the log");
        }
    }
}
