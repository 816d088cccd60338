//! "Two processes: what one publishes the other reads at once, and as much of it as the machine can sign and check."
//!
//! A publisher and a subscriber in processes of their own, over loopback TCP; and the same two without any work of ours, gossiping
//! frames of the same size: that is the limit. Both run in turn. Latency is from when a message was due, by a steady pace, to
//! its plaintext: at a tenth of what the pair can do, and when it is sent as much as it takes.

use std::hint::black_box;

use veilcast::Payload;
use veilcast::identity::Domain;
use veilcast::wire::Frame;
use veilcast_benches::roles::{Group, Kind, Pace, Run, Runs};
use veilcast_benches::{Better, Desk, Line, Outcome, Report, Sample, in_turn, quick_or, run};

/// Sizes of payload, and how often each is measured.
const SIZES: [(usize, usize); 3] = [(256, 5), (4096, 3), (65_536, 3)];
/// The size that targets speak of.
const SIZE: usize = 256;

/// With and without work of ours.
struct Both {
    ours: Group,
    raw: Group,
}

impl Both {
    fn start() -> Outcome<Self> {
        Ok(Self { ours: Group::start(Kind::Veilcast, 1)?, raw: Group::start(Kind::Raw, 1)? })
    }

    /// Several times, in turn: ours, then raw.
    fn measure(&mut self, per_second: Option<f64>, size: usize, rounds: usize) -> Outcome<(Runs, Runs)> {
        let (mut ours, mut raw) = (Runs::default(), Runs::default());
        let pace = |size| Pace { per_second, size, seconds: quick_or(0.3, 3.0) };
        for _ in 0..quick_or(1, rounds) {
            raw.push(self.raw.messages(pace(frame(size)))?);
            ours.push(self.ours.messages(pace(size))?);
        }
        Ok((ours, raw))
    }
}

/// What `size` bytes of payload are on the wire.
fn frame(size: usize) -> usize {
    Frame::of_message(Desk::new().seal_and_sign(&Payload::binary(vec![5; size]))).to_vec().len()
}

/// What a signature and its recovery cost, microseconds.
fn signature() -> (f64, f64) {
    let mut desk = Desk::new();
    let envelope = desk.seal_and_sign(&Payload::binary(vec![5; SIZE]));
    let signature = desk.identity.sign(Domain::Message, &envelope);
    let mut sign = || _ = black_box(desk.identity.sign(Domain::Message, black_box(&envelope)));
    let mut recover = || _ = black_box(signature.signer(Domain::Message, black_box(&envelope)));
    let [sign, recover] = in_turn(quick_or(5, 50), 50, [&mut sign, &mut recover]);
    (sign.median() * 1e6, recover.median() * 1e6)
}

/// As much as goes. Returns how many messages a second that was.
fn saturated(report: &mut Report, both: &mut Both, (size, rounds): (usize, usize)) -> Outcome<f64> {
    let (ours, raw) = both.measure(None, size, rounds)?;
    let (rate, most) = (ours.of(Run::rate), raw.of(Run::rate).median());
    let line = Line::rate(format!("messages of {size} B"), "1/s", &rate).limit(most, "raw gossip");
    report.line(if size == SIZE { line.target(20_000.0) } else { line });
    let megabytes = |rate: f64| rate * size as f64 / 1e6;
    let line = Line::new(format!("payload in messages of {size} B"), Better::More, "MB/s", megabytes(rate.median()));
    report.line(line.limit(megabytes(most), "raw gossip"));
    if size == SIZE {
        latency(report, "at saturation", (&ours, &raw), None);
        let (sign, recover) = signature();
        let cost = |name: &str, ours: &Sample, limit: f64, limit_is: &str| {
            Line::cost(format!("processor time per message, {name}"), "us", 1.0, ours).limit(limit, limit_is)
        };
        let (sender, reader) = (|run: &Run| run.sent.cpu, |run: &Run| run.worst(|got| got.cpu));
        let (sending, reading) = (raw.of(sender).median() + sign, raw.of(reader).median() + recover);
        report.line(cost("publisher", &ours.of(sender), sending, "raw gossip and a signature").target(60.0));
        report.line(cost("subscriber", &ours.of(reader), reading, "raw gossip and a recovery"));
    }
    Ok(rate.median())
}

fn latency(report: &mut Report, when: &str, (ours, raw): (&Runs, &Runs), target: Option<f64>) {
    let line = |name: &str, of: fn(&Run) -> f64| {
        let line = Line::cost(format!("{name} from due to plaintext {when}"), "ms", 1.0, &ours.of(of));
        line.limit(raw.of(of).median(), "raw gossip at the same pace")
    };
    report.line(line("p50", |run| run.worst(|got| got.p50)));
    let p99 = line("p99", |run| run.worst(|got| got.p99));
    report.line(match target {
        Some(target) => p99.target(target),
        None => p99,
    });
}

fn main() -> Outcome<()> {
    run(|| {
        let mut report = Report::begin("end_to_end")?;
        let mut both = Both::start()?;
        for measured in SIZES {
            let rate = saturated(&mut report, &mut both, measured)?;
            if measured.0 == SIZE {
                let (ours, raw) = both.measure(Some(rate / 10.0), SIZE, 3)?;
                latency(&mut report, "at a tenth of that", (&ours, &raw), Some(5.0));
            }
        }
        report.save()
    })
}
