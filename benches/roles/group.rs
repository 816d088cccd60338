//! A publisher and its subscribers, each a process of its own.

use std::time::Duration;

use super::{Got, Kind, Pace, Publish, PublisherSetup, Reader, ReaderSetup, Sent};
use crate::{Child, Outcome, Sample};

/// What was sent may be on its way for so long.
const ON_ITS_WAY: Duration = Duration::from_millis(300);

/// All of them connected, every subscriber reading.
#[derive(Debug)]
pub struct Group {
    publisher: Child<Publish>,
    readers: Vec<Child<Reader>>,
}

impl Group {
    /// Starts them, and waits until every subscriber has read messages.
    ///
    /// # Errors
    /// One of them failed.
    pub fn start(kind: Kind, readers: u32) -> Outcome<Self> {
        Self::through(None, kind, readers)
    }

    /// The same, where all meet at this node.
    ///
    /// # Errors
    /// As [`Group::start`].
    pub fn through(node: Option<&str>, kind: Kind, readers: u32) -> Outcome<Self> {
        let through = node.map(str::to_string);
        let setup =
            PublisherSetup { kind, subscribers: readers, through: through.clone(), ..PublisherSetup::default() };
        let (mut publisher, listens) = Child::<Publish>::start(&setup)?;
        let address = through.unwrap_or(listens);
        let begin = |number| Child::<Reader>::begin(&ReaderSetup { kind, number, address: address.clone() });
        let mut readers: Vec<Child<Reader>> = (1..=readers).map(begin).collect::<Outcome<_>>()?;
        for reader in &mut readers {
            reader.hear::<()>()?;
        }
        for reader in &mut readers {
            reader.say(&Reader::Subscribe)?;
        }
        publisher.ask(&Publish::Await(if node.is_some() { 1 } else { readers.len() }))?;
        let mut group = Self { publisher, readers };
        // Those who read from the first message on count it as the first; the last account is what came after.
        group.publisher.ask(&Publish::Messages(Pace { per_second: Some(50.0), size: 256, seconds: 1.0 }))?;
        std::thread::sleep(ON_ITS_WAY);
        for reader in &mut group.readers {
            reader.hear::<Got>()?;
            reader.ask(&Reader::Expect(0))?;
        }
        Ok(group)
    }

    /// Publishes, and waits until everybody has everything, or gets no more.
    ///
    /// # Errors
    /// One of them failed.
    pub fn messages(&mut self, pace: Pace) -> Outcome<Run> {
        let sent = self.publisher.ask(&Publish::Messages(pace))?;
        for reader in &mut self.readers {
            reader.say(&Reader::Expect(sent.count))?;
        }
        let got = self.readers.iter_mut().map(Child::hear).collect::<Outcome<_>>()?;
        Ok(Run { sent, got })
    }

    /// Changes the key; for each subscriber how long it took from the call to its first plaintext under the new key, in seconds.
    ///
    /// # Errors
    /// One of them failed, or did not get the key.
    pub fn update(&mut self, rekey: bool) -> Outcome<Sample> {
        let update = self.publisher.ask(&Publish::Update { rekey })?;
        let mut took = Vec::new();
        for reader in &mut self.readers {
            let got = reader.ask(&Reader::Under(update.key.clone()))?;
            let first = got.first_under.ok_or("a subscriber read nothing under the new key")?;
            took.push(first.saturating_sub(update.called) as f64 / 1e9);
        }
        Ok(Sample::of(took))
    }

    /// The publisher's process.
    pub fn publisher(&mut self) -> &mut Child<Publish> {
        &mut self.publisher
    }
}

/// What went out and what came in.
#[derive(Debug)]
pub struct Run {
    /// At the publisher.
    pub sent: Sent,
    /// At each subscriber.
    pub got: Vec<Got>,
}

impl Run {
    /// Messages read per second, by all subscribers together.
    pub fn rate(&self) -> f64 {
        let seconds = self.got.iter().map(|got| got.seconds).fold(0.0, f64::max);
        self.got.iter().map(|got| got.count).sum::<u64>() as f64 / seconds.max(1e-9)
    }

    /// The largest of all subscribers'.
    pub fn worst(&self, of: impl Fn(&Got) -> f64) -> f64 {
        self.got.iter().map(of).fold(0.0, f64::max)
    }

    /// What did not come, as a part of what should have.
    pub fn lost(&self) -> f64 {
        let due = self.sent.count * self.got.len() as u64;
        due.saturating_sub(self.got.iter().map(|got| got.count).sum()) as f64 / due.max(1) as f64
    }
}

/// Several runs, and what to make of them.
#[derive(Debug, Default)]
pub struct Runs(Vec<Run>);

impl Runs {
    /// One more. Says so if something did not come.
    pub fn push(&mut self, run: Run) {
        if run.lost() > 0.0 {
            let gaps: u64 = run.got.iter().map(|got| got.gaps).sum();
            println!("  {:.2} % of {} messages did not come; told as {gaps} gaps", run.lost() * 100.0, run.sent.count);
        }
        self.0.push(run);
    }

    /// A value of each run.
    pub fn of(&self, value: impl Fn(&Run) -> f64) -> Sample {
        Sample::of(self.0.iter().map(value))
    }
}
