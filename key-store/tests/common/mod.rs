//! What the test files share. Each uses a part of it.
#![allow(dead_code, unreachable_pub, reason = "each test file is a crate of its own and uses a part of this")]
#![allow(clippy::unwrap_used, reason = "a test may fall over")]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Lines},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use veilcast_key_store::{GroupKey, KdfCost, KeyId, KeyScope, SledKeyStore, StoreConfig, StoreError, Unlock};

pub const CHILD_DIR: &str = "VEILCAST_TEST_CHILD_DIR";

pub fn scope(stream: &str) -> KeyScope {
    KeyScope::new([0x11; 20], stream)
}

pub fn id(text: &str) -> KeyId {
    KeyId::new(text).unwrap()
}

/// A key whose bytes follow from its number, so that another process can tell what they should be.
pub fn numbered(n: usize) -> GroupKey {
    let mut bytes = [0xc3; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    GroupKey::new(id(&format!("key-{n}")), &bytes).unwrap()
}

pub fn tulip() -> Unlock {
    Unlock::passphrase("tulip")
}

/// The cheapest passphrase there is: the tests are not about guessing.
pub fn quick() -> StoreConfig {
    StoreConfig::default().kdf(KdfCost { memory_kib: 8, passes: 1, lanes: 1 })
}

pub fn open(dir: &Path) -> SledKeyStore {
    try_open(dir).unwrap()
}

pub fn try_open(dir: &Path) -> Result<SledKeyStore, StoreError> {
    SledKeyStore::open_with(dir, &tulip(), &quick())
}

/// Every file below `dir` with its contents, the empty lock file aside.
pub fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else if path.file_name().unwrap() != "lock" {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, bytes);
        }
    }
    found
}

/// What a crash at this moment would leave: a copy taken while the store is open.
pub fn crash_image(dir: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            crash_image(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// One of this file's tests run in another process, where `CHILD_DIR` tells it to act.
pub struct Other {
    pub child: Child,
    pub lines: Lines<BufReader<ChildStdout>>,
    pub stdin: Option<ChildStdin>,
}

impl Other {
    pub fn start(test: &str, dir: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(CHILD_DIR, dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let stdin = child.stdin.take();
        Self { child, lines, stdin }
    }

    /// The next line the child said to us; the test harness prints others around them.
    pub fn heard(&mut self) -> Option<String> {
        self.lines.by_ref().find_map(|line| Some(line.unwrap().split_once("SAYS ")?.1.to_owned()))
    }

    /// SIGKILL: no destructor runs, no buffer is written.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In the child: says a line to the parent.
pub fn say(text: &str) {
    println!("SAYS {text}");
}

/// In the child: the directory to work in. `None` in an ordinary test run.
pub fn child_dir() -> Option<PathBuf> {
    std::env::var_os(CHILD_DIR).map(PathBuf::from)
}
