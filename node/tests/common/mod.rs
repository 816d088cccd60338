//! Running the real binary: one-shot commands, and processes that go on until told to stop.
#![allow(dead_code, unused_imports, unreachable_pub, reason = "each test file uses some of it")]

mod document;
mod door;
mod process;

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

pub use door::{Answer, Daemon, VERBS, curl, in_path};
pub use process::Process;

/// How long anything may take before the test fails instead of hanging. Generous: other tests share the machine.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// Listens on any free port of this machine.
pub const LOCAL: &str = "/ip4/127.0.0.1/tcp/0";

/// The binary, without anything of this machine's own setup.
pub fn command<S: AsRef<OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_veilcast"));
    for variable in [
        "VEILCAST_DATA_DIR",
        "VEILCAST_PASSPHRASE",
        "VEILCAST_BACKUP_PASSPHRASE",
        "VEILCAST_NEW_PASSPHRASE",
        "VEILCAST_LOG",
        "VEILCAST_LOG_FORMAT",
        "VEILCAST_REGISTRY",
        "VEILCAST_RPC",
        "VEILCAST_CHAIN_ID",
        "VEILCAST_AGREE",
        "VEILCAST_CONFIRMATIONS",
        "VEILCAST_FROM_BLOCK",
        "VEILCAST_CONFIG",
        "VEILCAST_LISTEN",
        "VEILCAST_BOOTSTRAP",
        "VEILCAST_GATEWAY",
        "VEILCAST_MQTT",
        "XDG_DATA_HOME",
    ] {
        command.env_remove(variable);
    }
    command.args(args);
    command
}

/// What a finished run left.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.stdout.trim_end().into()
    }

    /// It failed with this code, and says all of these.
    pub fn failed(self, code: i32, says: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
        for part in says {
            assert!(self.stderr.contains(part), "{part:?} is missing: {self:#?}");
        }
        self
    }

    pub fn json(self) -> Value {
        serde_json::from_str(&self.ok()).expect("one JSON object")
    }
}

/// Runs to its end, with `input` on stdin.
pub fn run_with(mut command: Command, input: &[u8]) -> Run {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A process that does not read its input closes it; that is its business.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("it ends");
    writer.join().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Run { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

pub fn run<S: AsRef<OsStr>>(args: &[S]) -> Run {
    run_with(command(args), b"")
}

/// A data folder of its own, removed with the test.
pub struct Home {
    folder: TempDir,
}

impl Home {
    pub fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// With an identity in it.
    pub fn new() -> Self {
        let home = Self::empty();
        home.run(&["identity", "new"]).ok();
        home
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = command(args);
        command.env("VEILCAST_DATA_DIR", self.path());
        command
    }

    pub fn run(&self, args: &[&str]) -> Run {
        run_with(self.command(args), b"")
    }

    pub fn run_with(&self, args: &[&str], input: &[u8]) -> Run {
        run_with(self.command(args), input)
    }

    pub fn address(&self) -> String {
        self.run(&["identity", "show"]).ok()
    }

    pub fn stream(&self, path: &str) -> String {
        self.run(&["stream", "create", path]).ok()
    }

    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Starts a process that goes on.
    pub fn start(&self, args: &[&str]) -> Process {
        Process::start(self.command(args), Stdio::piped())
    }

    /// The same, with temporary files in `folder`.
    pub fn start_in(&self, folder: &Path, args: &[&str]) -> Process {
        let mut command = self.command(args);
        command.env("TMPDIR", folder);
        Process::start(command, Stdio::piped())
    }

    /// The same, where no file may become longer than a few megabytes: to it the disk is full then.
    pub fn start_with_little_disk(&self, args: &[&str]) -> Process {
        self.start_under("trap '' XFSZ; ulimit -f 6000", args)
    }

    /// The same, with limits that a shell sets.
    pub fn start_under(&self, limits: &str, args: &[&str]) -> Process {
        let (command, mut limited) = (self.command(args), Command::new("sh"));
        limited.args(["-c", &format!("{limits}; exec \"$0\" \"$@\"")]).arg(command.get_program());
        limited.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => limited.env(name, value),
                None => limited.env_remove(name),
            };
        }
        Process::start(limited, Stdio::piped())
    }

    /// The same, fed from a file.
    pub fn start_with_file(&self, args: &[&str], file: &Path) -> Process {
        Process::start(self.command(args), File::open(file).unwrap().into())
    }
}

/// A running `veilcast node`, and where to meet it.
pub fn node() -> (Home, Process, String) {
    let home = Home::empty();
    let node = home.start(&["node", "--listen", LOCAL]);
    let address = node.stdout.wait_for("/p2p/");
    (home, node, address)
}

/// A publisher and a subscriber who may read its stream.
pub fn seller_and_buyer() -> (Home, Home, String) {
    let (seller, buyer) = (Home::new(), Home::new());
    let stream = seller.stream("prices");
    seller.run(&["stream", "grant", &stream, &buyer.address(), "--for", "30d"]).ok();
    (seller, buyer, stream)
}

/// A publisher of this, which answers for its keys until it is [ended](end): a slow reader must find it there.
pub fn publishing(home: &Home, stream: &str, at: &str, input: &[u8], more: &[&str]) -> Process {
    let args = ["publish", stream, "--bootstrap", at, "--listen", LOCAL, "--stay"];
    let mut process = home.start(&[&args[..], more].concat());
    let (mut stdin, input) = (process.stdin.take().unwrap(), input.to_vec());
    // One that fails meanwhile reads no further.
    std::thread::spawn(move || drop(stdin.write_all(&input)));
    process
}

/// Ends a process as Ctrl-C does; it must have gone well.
pub fn end(mut process: Process) -> Vec<String> {
    process.interrupt();
    assert_eq!(process.wait(), Some(0), "{:#?}", process.stderr.all());
    process.stdout.until_end()
}

/// A subscriber that has joined its stream.
pub fn subscribed(home: &Home, stream: &str, node: &str, more: &[&str]) -> Process {
    let args = [&["subscribe", stream, "--bootstrap", node, "--listen", LOCAL], more].concat();
    let process = home.start(&args);
    process.stderr.wait_for("subscribed");
    process
}
