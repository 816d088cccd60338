//! A process that goes on, and its lines as they come.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::PATIENCE;

/// A running process; killed by its own pid if the test ends first.
pub struct Process {
    child: Child,
    pub stdin: Option<ChildStdin>,
    pub stdout: Lines,
    pub stderr: Lines,
}

impl Process {
    pub fn start(mut command: Command, stdin: Stdio) -> Self {
        let mut child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let (stdin, stdout) = (child.stdin.take(), Lines::of(child.stdout.take().unwrap()));
        let stderr = Lines::of(child.stderr.take().unwrap());
        Self { child, stdin, stdout, stderr }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it takes of the memory, bytes.
    #[cfg(target_os = "linux")]
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() * 1024
    }

    /// As Ctrl-C does.
    pub fn interrupt(&self) {
        self.signal("-INT");
    }

    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Its exit code, once it has ended.
    pub fn wait(&mut self) -> Option<i32> {
        self.wait_within(PATIENCE)
    }

    pub fn wait_within(&mut self, limit: Duration) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return ExitStatus::code(&status);
            }
            assert!(started.elapsed() < limit, "it goes on: {:#?}", self.stderr.all());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Default)]
struct Heard {
    lines: Vec<String>,
    ended: bool,
}

/// The lines of a running process, as they come.
#[derive(Clone, Default)]
pub struct Lines(Arc<(Mutex<Heard>, Condvar)>);

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let writer = lines.clone();
        std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while matches!(pipe.read_until(b'\n', &mut line), Ok(got) if got > 0) {
                let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line)).into_owned();
                writer.change(|heard| heard.lines.push(text));
                line.clear();
            }
            writer.change(|heard| heard.ended = true);
        });
        lines
    }

    fn change(&self, change: impl FnOnce(&mut Heard)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    /// What is found in the lines, now or later; the test fails when they end without it.
    pub fn wait<T>(&self, what: &str, find: impl Fn(&[String]) -> Option<T>) -> T {
        let started = Instant::now();
        let mut heard = self.0.0.lock().unwrap();
        loop {
            if let Some(found) = find(&heard.lines) {
                return found;
            }
            assert!(!heard.ended, "ended without {what}: {:#?}", heard.lines);
            assert!(started.elapsed() < PATIENCE, "waited too long for {what}: {:#?}", heard.lines);
            heard = self.0.1.wait_timeout(heard, Duration::from_secs(1)).unwrap().0;
        }
    }

    /// The first line that contains this.
    pub fn wait_for(&self, part: &str) -> String {
        self.wait(part, |lines| lines.iter().find(|line| line.contains(part)).cloned())
    }

    /// All lines, once the process has closed them.
    pub fn until_end(&self) -> Vec<String> {
        let mut heard = self.0.0.lock().unwrap();
        while !heard.ended {
            let (next, timeout) = self.0.1.wait_timeout(heard, PATIENCE).unwrap();
            assert!(!timeout.timed_out(), "no end: {:#?}", next.lines);
            heard = next;
        }
        heard.lines.clone()
    }

    pub fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap().lines.clone()
    }
}
