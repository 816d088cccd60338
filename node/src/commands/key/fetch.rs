//! `veilcast key fetch`: the keys of the past, page by page, from their publisher into the data folder.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use veilcast::client::{Client, ClientConfig, FetchEvent, FetchProgress, KeyFetch, PeerId};
use veilcast::exchange::AskFailure;
use veilcast::{StreamId, Timestamp, UserId};

use crate::args::{KeyFetchArgs, Shared};
use crate::commands::{now, past_span};
use crate::connect;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::session::Session;
use crate::times;

/// Tries for one page before a person is told that the publisher cannot be reached.
const TRIES: u32 = 5;
/// How often the bar moves while nothing is heard.
const TICK: Duration = Duration::from_millis(200);

/// Whose keys are fetched, of which stream and time.
struct Wanted {
    stream: StreamId,
    publisher: UserId,
    from: Timestamp,
    to: Timestamp,
}

pub(crate) async fn run(
    args: KeyFetchArgs,
    shared: Shared,
    output: Output<'_>,
    mut stop: Interrupt,
) -> Result<Exit, Failure> {
    let session = Session::open(&shared)?;
    let wanted = Wanted::of(&args, session.identity.user())?;
    let Some(started) = stop.or(connect::start(session, &args.network, &args.registry, config(), output)).await else {
        return Ok(Exit::Failed);
    };
    let client = started?;
    let outcome = stop.or(fetch(&client, &wanted, output)).await;
    connect::leave(&client).await;
    match outcome {
        Some(Ok(summary)) => output.result(wanted.in_words(&summary), &wanted.in_json(&summary)).map(|()| Exit::Done),
        Some(Err(failure)) => Err(failure),
        None => {
            output.note("interrupted", "interrupted; the same command goes on where this one was");
            Ok(Exit::Failed)
        }
    }
}

/// By a client that runs, which has joined the network.
pub(crate) async fn through(args: &KeyFetchArgs, client: &Client, output: Output<'_>) -> Result<Exit, Failure> {
    let wanted = Wanted::of(args, client.user())?;
    let summary = fetch(client, &wanted, output).await?;
    output.result(wanted.in_words(&summary), &wanted.in_json(&summary)).map(|()| Exit::Done)
}

fn config() -> ClientConfig {
    let mut config = ClientConfig::default();
    config.requester.max_tries = TRIES;
    config
}

async fn fetch(client: &Client, wanted: &Wanted, output: Output<'_>) -> Result<FetchProgress, Failure> {
    let span = wanted.from..=wanted.to;
    let mut fetch = client.fetch_keys(&wanted.stream, wanted.publisher, span)?;
    let bar = wanted.bar(output);
    let outcome = follow(&mut fetch, wanted, &bar, output).await;
    bar.finish_and_clear();
    outcome
}

async fn follow(
    fetch: &mut KeyFetch,
    wanted: &Wanted,
    bar: &ProgressBar,
    output: Output<'_>,
) -> Result<FetchProgress, Failure> {
    while let Some(event) = fetch.next().await {
        match event? {
            FetchEvent::Done(summary) => return Ok(summary),
            FetchEvent::Page(progress) => {
                wanted.show(bar, &progress);
                if output.is_json() {
                    output.event("", &told("page", &progress));
                }
            }
            FetchEvent::Resumed(progress) => {
                wanted.show(bar, &progress);
                let text = format!("going on behind {}, with {}", times::show(progress.up_to), counted(&progress));
                bar.suspend(|| output.event(text, &told("resumed", &progress)));
            }
            FetchEvent::Waiting { device, failure, after } => {
                let (text, json) = wanted.waiting(device, failure, after);
                bar.suspend(|| output.event(text, &json));
            }
            FetchEvent::Missed(missed) => {
                let text = format!("given up: device {missed} of {}", wanted.publisher);
                let (device, failure) = (missed.device.to_string(), missed.failure.to_string());
                bar.suspend(|| output.event(text, &json!({ "event": "missed", "device": device, "failure": failure })));
            }
            _ => {}
        }
    }
    Err(veilcast::ClientError::Stopped.into())
}

impl Wanted {
    fn of(args: &KeyFetchArgs, me: UserId) -> Result<Self, Failure> {
        let stream = args.stream.clone();
        let owner = || args.stream.owner().ok_or_else(|| KeyFetchError::NoAddress { stream: stream.clone() });
        let publisher = args.publisher.map_or_else(owner, Ok)?;
        if publisher == me {
            return Err(KeyFetchError::Mine.into());
        }
        let (from, to) = past_span(args.from, args.to)?;
        Ok(Self { stream, publisher, from, to })
    }

    /// On a terminal only. How much there is nobody knows before it is there, but where in the span it has come to.
    fn bar(&self, output: Output) -> ProgressBar {
        if !output.draws() {
            return ProgressBar::hidden();
        }
        let known = self.from > Timestamp::ZERO;
        let length = self.to.min(now()).since(self.from).as_secs();
        let bar = if known { ProgressBar::new(length.max(1)) } else { ProgressBar::new_spinner() };
        let template = if known { "{bar:30} {msg}" } else { "{spinner} {msg}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message("looking for the publisher");
        bar.enable_steady_tick(TICK);
        bar
    }

    fn show(&self, bar: &ProgressBar, progress: &FetchProgress) {
        bar.set_position(progress.up_to.since(self.from).as_secs());
        bar.set_message(format!("{}, up to {}", counted(progress), times::show(progress.up_to)));
    }

    fn waiting(&self, device: Option<PeerId>, failure: AskFailure, after: Duration) -> (String, Value) {
        let whom =
            device.map_or_else(|| self.publisher.to_string(), |at| format!("{}, at device {at},", self.publisher));
        let json = json!({
            "event": "waiting",
            "device": device.map(|at| at.to_string()),
            "failure": failure.to_string(),
            "after_ms": u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
        });
        (format!("{whom} was asked for keys, but {failure}; trying again in {after:?}"), json)
    }

    fn in_words(&self, summary: &FetchProgress) -> String {
        format!("{} of {} on {}", counted(summary), self.publisher, self.stream)
    }

    fn in_json(&self, summary: &FetchProgress) -> Value {
        let open = self.to.as_millis() == u64::MAX;
        json!({
            "stream": self.stream.as_str(),
            "publisher": self.publisher.to_string(),
            "from": (self.from > Timestamp::ZERO).then_some(self.from.as_millis()),
            "to": (!open).then_some(self.to.as_millis()),
            "keys": summary.keys,
            "refused": summary.refused,
        })
    }
}

fn counted(progress: &FetchProgress) -> String {
    let keys = if progress.keys == 1 { "1 key".into() } else { format!("{} keys", progress.keys) };
    match progress.refused {
        0 => keys,
        refused => format!("{keys} ({refused} more the publisher does not give out)"),
    }
}

fn told(event: &str, progress: &FetchProgress) -> Value {
    let up_to = progress.up_to.as_millis();
    json!({ "event": event, "keys": progress.keys, "refused": progress.refused, "up_to": up_to })
}

/// Why there is nothing to fetch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum KeyFetchError {
    #[error("your own keys are in this data folder already; see them with: veilcast key list")]
    Mine,
    #[error("the owner of {stream} is a name and no address; say whose keys with --publisher")]
    NoAddress { stream: StreamId },
}

impl KeyFetchError {
    pub(crate) const fn exit(&self) -> Exit {
        Exit::Usage
    }
}
