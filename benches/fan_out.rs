//! "However many read a stream, each reads it at once."
//!
//! A publisher with 1, 8 and 32 subscribers, each a process of its own, all on this machine: its cores check every signature once
//! for each of them. The limit is the same number of processes that gossip frames of the same size without any work of ours.

use veilcast::Payload;
use veilcast::wire::Frame;
use veilcast_benches::roles::{Group, Kind, Pace, Run, Runs};
use veilcast_benches::{Desk, Line, Outcome, Report, quick_or, run};

const SIZE: usize = 256;
/// Messages per second where latency is measured.
const LIGHT: f64 = 50.0;

/// As much as goes, and at a light pace.
fn measure(kind: Kind, readers: u32, size: usize) -> Outcome<(Runs, Runs)> {
    let (mut group, mut full, mut light) = (Group::start(kind, readers)?, Runs::default(), Runs::default());
    let seconds = quick_or(0.3, 2.0);
    for _ in 0..quick_or(1, 3) {
        full.push(group.messages(Pace { per_second: None, size, seconds })?);
        light.push(group.messages(Pace { per_second: Some(LIGHT), size, seconds })?);
    }
    Ok((full, light))
}

fn main() -> Outcome<()> {
    run(|| {
        let mut report = Report::begin("fan_out")?;
        let frame = Frame::of_message(Desk::new().seal_and_sign(&Payload::binary(vec![5; SIZE]))).to_vec().len();
        for readers in quick_or(&[1, 3][..], &[1, 8, 32]) {
            let (limit, limit_light) = measure(Kind::Raw, *readers, frame)?;
            let (ours, light) = measure(Kind::Veilcast, *readers, SIZE)?;
            let line = Line::rate(format!("plaintexts at {readers} subscribers together"), "1/s", &ours.of(Run::rate));
            report.line(line.limit(limit.of(Run::rate).median(), "raw gossip"));
            let p99 = |run: &Run| run.worst(|got| got.p99);
            let line =
                Line::cost(format!("p99 of {LIGHT} messages/s at the slowest of {readers}"), "ms", 1.0, &light.of(p99));
            report.line(line.limit(limit_light.of(p99).median(), "raw gossip"));
        }
        report.save()
    })
}
