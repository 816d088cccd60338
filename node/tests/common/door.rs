//! A running `veilcast run`, and curl to ask it with.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Home, LOCAL, Process, document, run_with};

/// Every verb.
pub const VERBS: [&str; 7] = ["publish", "subscribe", "history", "keys", "permissions", "metrics", "admin"];

const RUN: [&str; 5] = ["run", "--listen", LOCAL, "--gateway", "127.0.0.1:0"];

/// A daemon that is ready.
pub struct Daemon {
    pub process: Process,
    /// Of its gateway.
    pub url: String,
    /// Where others meet it.
    pub address: String,
}

impl Daemon {
    pub fn start(home: &Home, more: &[&str]) -> Self {
        Self::ready(home.start(&[&RUN[..], more].concat()))
    }

    /// The same, with limits that a shell sets.
    pub fn start_under(limits: &str, home: &Home) -> Self {
        Self::ready(home.start_under(limits, &RUN))
    }

    fn ready(process: Process) -> Self {
        let ready = process.stderr.wait_for("ready as");
        let url = ready.split_whitespace().last().unwrap().to_owned();
        let address = process.stdout.wait_for("/p2p/");
        Self { process, url, address }
    }

    /// Asks for this path of its gateway; what it answers must be documented.
    pub fn ask(&self, path: &str, args: &[&str]) -> Answer {
        let url = format!("{}{path}", self.url);
        let answer = curl(&[&[url.as_str()], args].concat());
        document::names(path, args, answer.status);
        answer
    }

    /// The same with a key.
    pub fn with(&self, key: &str, path: &str, args: &[&str]) -> Answer {
        let header = format!("Authorization: Bearer {key}");
        self.ask(path, &[&["-H", &header], args].concat())
    }

    /// Its gateway, as `IP:PORT`.
    pub fn authority(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    /// A curl that goes on; once this returns the answer has begun.
    pub fn follow(&self, key: &str, path: &str) -> Process {
        let mut command = Command::new("curl");
        command.args(["-sSNv", "--noproxy", "*", "-H", "Accept: text/event-stream"]);
        command.args(["-H", &format!("Authorization: Bearer {key}"), &format!("{}{path}", self.url)]);
        let process = Process::start(command, Stdio::null());
        // Told at once, while what goes to stdout waits for the first of the body.
        process.stderr.wait_for("< HTTP/1.1 200");
        process
    }

    /// Ends it as a service manager does; it must have gone well.
    pub fn end(mut self) {
        self.process.signal("-TERM");
        assert_eq!(self.process.wait(), Some(0), "{:#?}", self.process.stderr.all());
    }
}

/// What curl got.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    pub fn lines(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{self:?}");
        self.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// It worked.
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }

    /// It is a no with this status and code, and says why.
    pub fn refused(self, status: u16, code: &str) {
        let json = self.json();
        assert_eq!((self.status, json["code"].as_str()), (status, Some(code)), "{self:?}");
        assert!(!json["message"].as_str().unwrap().is_empty());
    }
}

pub fn curl(args: &[&str]) -> Answer {
    let mut command = Command::new("curl");
    command.args(["-sS", "--noproxy", "*", "--max-time", "60", "-w", "\n%{http_code}"]).args(args);
    let output = run_with(command, b"");
    let (body, status) = output.stdout.rsplit_once('\n').unwrap_or_else(|| panic!("{output:?}"));
    Answer { status: status.parse().unwrap(), body: body.into() }
}

impl Home {
    /// An API key with these verbs, for every stream.
    pub fn api_key(&self, name: &str, verbs: &[&str]) -> String {
        let verbs = verbs.iter().flat_map(|verb| ["--verb", verb]);
        let args: Vec<&str> = ["api-key", "add", name, "--all-streams"].into_iter().chain(verbs).collect();
        self.run(&args).ok()
    }

    /// Writes its config file.
    pub fn config(&self, text: &str) {
        std::fs::write(self.path().join("veilcast.toml"), text).unwrap();
    }
}

/// A stream as it stands in a path.
pub fn in_path(stream: &str) -> String {
    stream.replace('/', "%2F")
}
