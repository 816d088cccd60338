//! "A node is there at once, and nobody notices that it runs."
//!
//! The program itself, as users start it: `veilcast node`, from the start to its first line, which names where it listens; what
//! memory it takes when nobody needs it, and while it passes a stream on between two others; and how large it is. The limit of
//! the first two is a process that gossips and does nothing else.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use veilcast_benches::roles::{Group, Kind, Pace, Publish, PublisherSetup};
use veilcast_benches::{Better, Child, Line, Outcome, Report, Sample, Usage, quick_or, run};

/// The program, built as it is released.
const PROGRAM: &str = env!("CARGO_BIN_EXE_veilcast");
/// After so long without anything to do a node is idle.
const IDLE: Duration = Duration::from_secs(3);
/// Messages per second that it passes on.
const BUSY: f64 = 2000.0;
const MIB: f64 = 1024.0 * 1024.0;

/// A running `veilcast node`, ended when it is dropped.
struct Node {
    process: std::process::Child,
    address: String,
    /// From the start to its first line.
    took: Duration,
}

impl Node {
    fn start(program: &Path, folder: &Path) -> Outcome<Self> {
        let start = Instant::now();
        let mut process = Command::new(program)
            .args(["node", "--listen", "/ip4/127.0.0.1/tcp/0", "--data-dir"])
            .arg(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let stdout = process.stdout.take();
        let mut node = Self { process, address: String::new(), took: Duration::ZERO };
        BufReader::new(stdout.ok_or("a node without stdout")?).read_line(&mut node.address)?;
        node.took = start.elapsed();
        node.address.truncate(node.address.trim_end().len());
        if node.address.is_empty() { Err("the node said nothing".into()) } else { Ok(node) }
    }

    fn memory(&self) -> Outcome<f64> {
        Ok(Usage::of(self.process.id())?.resident_mib())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Bytes of the program as it would be handed out: without what only debuggers read, where that can be taken off.
fn size(program: &Path, folder: &Path) -> Outcome<u64> {
    let stripped = folder.join("stripped");
    let done =
        Command::new("strip").arg("-o").arg(&stripped).arg(program).status().is_ok_and(|status| status.success());
    Ok(std::fs::metadata(if done { &stripped } else { program })?.len())
}

fn starts(report: &mut Report, program: &Path, folder: &Path) -> Outcome<()> {
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    for _ in 0..quick_or(1, 10) {
        ours.push(Node::start(program, folder)?.took);
        let start = Instant::now();
        raw_node()?;
        raw.push(start.elapsed());
    }
    let line = Line::cost("from start to ready", "ms", 1e3, &Sample::of_times(&ours)).target(300.0);
    report.line(line.limit(Sample::of_times(&raw).median() * 1e3, "a process that only gossips"));
    Ok(())
}

fn raw_node() -> Outcome<Child<Publish>> {
    Ok(Child::start(&PublisherSetup { kind: Kind::Raw, ..PublisherSetup::default() })?.0)
}

fn memory(report: &mut Report, program: &Path, folder: &Path) -> Outcome<()> {
    let (node, raw) = (Node::start(program, folder)?, raw_node()?);
    std::thread::sleep(quick_or(IDLE / 10, IDLE));
    let (idle, raw) = (node.memory()?, raw.usage()?.resident_mib());
    let line = Line::new("memory of an idle node", Better::Less, "MiB", idle).target(40.0);
    report.line(line.limit(raw, "a process that only gossips"));
    let mut group = Group::through(Some(&node.address), Kind::Veilcast, 1)?;
    let before = Usage::of(node.process.id())?.cpu;
    let run = group.messages(Pace { per_second: Some(BUSY), size: 256, seconds: quick_or(0.3, 10.0) })?;
    let cpu = (Usage::of(node.process.id())?.cpu - before).as_secs_f64() * 1e6 / run.sent.count.max(1) as f64;
    if run.lost() > 0.0 {
        println!("  {:.2} % of the messages did not come", run.lost() * 100.0);
    }
    let name = format!("memory of a node that passes {BUSY} messages/s on");
    report.line(Line::new(name, Better::Less, "MiB", node.memory()?).limit(idle, "idle"));
    report.line(Line::new("its processor time per message", Better::Less, "us", cpu));
    Ok(())
}

fn main() -> Outcome<()> {
    run(|| {
        let mut report = Report::begin("node")?;
        let (program, folder) = (Path::new(PROGRAM), tempfile::tempdir()?);
        let bytes = size(program, folder.path())? as f64;
        report.line(Line::new("size of the program", Better::Less, "MiB", bytes / MIB));
        starts(&mut report, program, folder.path())?;
        memory(&mut report, program, folder.path())?;
        report.save()
    })
}
