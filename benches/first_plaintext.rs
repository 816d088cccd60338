//! "Whoever subscribes reads the first message before he has looked up."
//!
//! From the call of `subscribe`, at a node that is connected and has its RSA pair ready, to the first plaintext of a stream that
//! is being published: the topic is joined, a message comes, its key is asked for, checked, answered, and opens it. Each try is a
//! new process with an identity of its own. The limit is gossip alone: from joining the topic to the first frame.

use veilcast_benches::roles::{Kind, Pace, Publish, PublisherSetup, Reader, ReaderSetup};
use veilcast_benches::{Child, Line, Outcome, Report, Sample, quick_or, run};

/// Messages per second that are being published.
const PACE: f64 = 200.0;
/// Longer than all tries together.
const SECONDS: f64 = 600.0;

/// Milliseconds of each try.
fn measure(kind: Kind, tries: u32) -> Outcome<Sample> {
    let setup = PublisherSetup { kind, subscribers: tries + 1, ..PublisherSetup::default() };
    let (mut publisher, address) = Child::<Publish>::start(&setup)?;
    // Gossip has nobody to publish to without a first subscriber.
    let first = ReaderSetup { kind, number: tries + 1, address: address.clone() };
    let (mut first, ()) = Child::<Reader>::start(&first)?;
    first.say(&Reader::Subscribe)?;
    publisher.ask(&Publish::Await(1))?;
    publisher.say(&Publish::Messages(Pace { per_second: Some(PACE), size: 256, seconds: SECONDS }))?;
    let mut took = Vec::new();
    for number in 1..=tries {
        let (mut reader, ()) = Child::<Reader>::start(&ReaderSetup { kind, number, address: address.clone() })?;
        took.push(reader.ask(&Reader::Subscribe)?.p50);
    }
    Ok(Sample::of(took))
}

fn main() -> Outcome<()> {
    run(|| {
        let mut report = Report::begin("first_plaintext")?;
        let tries = quick_or(1, 10);
        let (limit, ours) = (measure(Kind::Raw, tries)?, measure(Kind::Veilcast, tries)?);
        let line = Line::cost("from subscribe to the first plaintext, half of the tries", "ms", 1.0, &ours);
        report.line(line.limit(limit.median(), "raw gossip").target(150.0));
        let mut worst = Line::cost("the same, the slowest try", "ms", 1.0, &ours);
        worst.figure = ours.max();
        report.line(worst.limit(limit.max(), "raw gossip"));
        report.save()
    })
}
