//! Who takes part: streams, and who reads them.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Value;
use tokio::task::JoinHandle;
use veilcast::client::{Client, ClientConfig, Delivery};
use veilcast::{Event, Identity, StreamId};
use veilcast_benches::Outcome;

use crate::book::{Book, Part};
use crate::clock::LeapingClock;
use crate::mqtt;

/// In every payload that only those who paid may read.
pub(crate) const SECRET_WORD: &str = "paid-words-5d07";
/// In every payload of the public stream.
const PUBLIC_WORD: &str = "free-words-5d07";

/// Streams by their paths, and their partitions.
pub(crate) const STREAMS: [(&str, u32); 5] =
    [("prices", 3), ("trades", 1), ("meters", 1), ("weather", 1), ("noise", 1)];
/// Which of them comes in and goes out by MQTT.
pub(crate) const METERS: usize = 2;
/// Which of them is public.
pub(crate) const PUBLIC: usize = 3;
/// Which of them is for slow readers, and not stored.
pub(crate) const NOISE: usize = 4;

/// The streams of a run.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    ids: Vec<StreamId>,
    parts: Vec<(usize, u32)>,
}

impl Streams {
    pub(crate) fn new(ids: Vec<StreamId>) -> Self {
        let parts = STREAMS.iter().enumerate().flat_map(|(stream, (_, count))| (0..*count).map(move |n| (stream, n)));
        Self { ids, parts: parts.collect() }
    }

    pub(crate) fn count(&self) -> usize {
        self.parts.len()
    }

    pub(crate) fn id(&self, stream: usize) -> &StreamId {
        &self.ids[stream]
    }

    /// Of a part: its stream and number there.
    pub(crate) fn of(&self, part: Part) -> (usize, u32) {
        self.parts[part]
    }

    pub(crate) fn parts(&self, stream: usize) -> Vec<Part> {
        (0..self.parts.len()).filter(|part| self.parts[*part].0 == stream).collect()
    }

    /// The path of a stream at the gateway.
    pub(crate) fn path(&self, stream: usize, rest: &str) -> String {
        format!("/streams/{}{rest}", self.ids[stream].as_str().replace('/', "%2F"))
    }

    fn part(&self, stream: &str, number: u32) -> Option<Part> {
        self.parts.iter().position(|(place, n)| *n == number && self.ids[*place].as_str() == stream)
    }

    /// The payload of a message.
    pub(crate) fn payload(&self, part: Part, number: usize) -> String {
        let (stream, _) = self.parts[part];
        let word = if stream == PUBLIC { PUBLIC_WORD } else { SECRET_WORD };
        let more = if stream == NOISE { ".".repeat(60_000) } else { ".".repeat(150) };
        format!(r#"{{"n":{number},"word":"{word}","more":"{more}"}}"#)
    }
}

/// The number in a payload.
pub(crate) fn number(payload: &Value) -> Option<usize> {
    usize::try_from(payload.get("n")?.as_u64()?).ok()
}

/// A subscriber of the SDK, in this process, with keys in its memory.
#[derive(Debug)]
pub(crate) struct Native {
    pub(crate) name: String,
    pub(crate) client: Client,
    tasks: Vec<JoinHandle<()>>,
}

impl Native {
    /// Starts one and lets it read these parts. What it reads goes into the book.
    pub(crate) async fn start(
        name: &str,
        seed: u64,
        clock: Arc<LeapingClock>,
        daemon: &str,
        streams: &Streams,
        parts: &[Part],
        book: &Arc<Book>,
    ) -> Outcome<Self> {
        let identity = Identity::generate(&mut StdRng::seed_from_u64(seed));
        let mut config = ClientConfig::default();
        config.rsa_bits = 2048;
        // It is remembered by the machine's time, whatever leaps: the usual ten seconds would be two rounds.
        config.requester.refusal_memory = Duration::from_secs(1);
        let builder = Client::builder(identity).config(config).clock(clock).listen("/ip4/127.0.0.1/tcp/0".parse()?);
        let client = builder.bootstrap(daemon.parse()?).start().await?;
        let mut tasks = Vec::new();
        for part in parts.iter().copied() {
            let (stream, partition) = streams.of(part);
            let mut subscription = client.subscribe_part(&streams.id(stream).part(partition)?).await?;
            let (name, book) = (name.to_owned(), book.clone());
            tasks.push(tokio::spawn(async move {
                while let Some(delivery) = subscription.next().await {
                    take(&name, part, &delivery, &book);
                }
            }));
        }
        Ok(Self { name: name.into(), client, tasks })
    }

    /// The user that grants are for.
    pub(crate) fn user(&self) -> String {
        self.client.user().to_string()
    }

    pub(crate) async fn stop(self) {
        self.client.stop().await;
        for task in self.tasks {
            // It ends with the client.
            let _ = tokio::time::timeout(Duration::from_secs(30), task).await;
        }
    }
}

fn take(name: &str, part: Part, delivery: &Delivery, book: &Book) {
    match delivery {
        Delivery::Message(message) => {
            let payload = serde_json::from_slice(&message.payload).ok();
            match payload.as_ref().and_then(number) {
                Some(number) => book.read(name, part, number, message.at.timestamp.as_millis()),
                None => book.fault(format!("{name} read a message of part {part} that nobody published")),
            }
        }
        Delivery::Event(event) => {
            let kind = match event {
                Event::KeyPending { .. } => "key pending",
                Event::KeyArrived { .. } => "key arrived",
                Event::KeyRefused { .. } => "key refused",
                Event::KeyRetry { .. } => "key retry",
                Event::KeyUnavailable { .. } => "key unavailable",
                Event::Gap { .. } => "gap",
                _ => "other",
            };
            book.event(name, kind);
            if !matches!(event, Event::KeyPending { .. } | Event::KeyArrived { .. } | Event::KeyRefused { .. }) {
                eprintln!("  {name}, part {part}: {event:?}");
            }
        }
    }
}

/// Part, number and timestamp of a message, as a door of the daemon tells it.
pub(crate) type Told = (Part, usize, u64);

/// Readers at a door of the daemon: each has one connection for a life.
pub(crate) const APPLICATIONS: [&str; 3] = ["by WebSocket", "by events", "by MQTT"];

/// What an application gets, until its connection is closed. What `read` makes of it goes into the book.
pub(crate) fn follow<T: Debug + Send + 'static>(
    name: &str,
    mut gets: impl Stream<Item = T> + Send + Unpin + 'static,
    read: fn(&T, &Streams) -> Option<Told>,
    streams: &Streams,
    book: &Arc<Book>,
) -> JoinHandle<()> {
    let (name, streams, book) = (name.to_owned(), streams.clone(), book.clone());
    tokio::spawn(async move {
        while let Some(got) = gets.next().await {
            match read(&got, &streams) {
                Some((part, number, at)) => book.read(&name, part, number, at),
                None => book.fault(format!("{name} was sent what is no message of the run: {got:.80?}")),
            }
        }
    })
}

/// A message as the MQTT door tells it.
pub(crate) fn read_message(message: &mqtt::Message, streams: &Streams) -> Option<Told> {
    let part = streams.part(&message.topic, message.about.get("partition")?.parse().ok()?)?;
    let payload = serde_json::from_slice(&message.payload).ok()?;
    Some((part, number(&payload)?, message.about.get("timestamp")?.parse().ok()?))
}

/// A message as the gateway tells it.
pub(crate) fn read_line(line: &str, streams: &Streams) -> Option<Told> {
    let json: Value = serde_json::from_str(line).ok()?;
    let partition = u32::try_from(json["partition"].as_u64()?).ok()?;
    let part = streams.part(json["stream"].as_str()?, partition)?;
    Some((part, number(&json["payload"])?, json["timestamp"].as_u64()?))
}
