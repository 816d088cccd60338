//! `veilcast resend`: stored messages on stdout, as `veilcast subscribe` prints live ones.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use veilcast::client::{Client, ClientConfig, Delivery, Replay, SlowReader, Subscription};
use veilcast::subscriber::StorageFault;
use veilcast::{Event, Message, Refusal};

use super::subscribe::{events, print};
use super::{partitions, past_span};
use crate::args::{ResendArgs, Shared};
use crate::chain;
use crate::connect;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::lines::LineWriter;
use crate::output::Output;
use crate::session::Session;
use crate::times;

/// How often the bar moves while nothing is heard.
const TICK: Duration = Duration::from_millis(200);
/// Tries for a key before the messages under it are given up.
const TRIES: u32 = 5;

pub(crate) async fn run(
    args: ResendArgs,
    shared: Shared,
    output: Output<'_>,
    mut stop: Interrupt,
) -> Result<Exit, Failure> {
    let session = Session::open(&shared)?;
    let replay = replay(&args)?;
    partitions::must_exist(&args.stream, &args.partition, &args.registry, &session).await?;
    let Some(verified) = stop.or(chain::verify(&args.registry)).await else { return Ok(Exit::Failed) };
    verified?;
    let Some(started) = stop.or(connect::start(session, &args.network, &args.registry, config(&args), output)).await
    else {
        return Ok(Exit::Failed);
    };
    let client = started?;
    let mut out = LineWriter::start();
    let outcome = stop.or(read(&client, &args, replay, output, &mut out)).await;
    let outcome = match outcome {
        Some(Ok(seen)) => out.finish().await.and_then(|()| seen.verdict()),
        Some(Err(failure)) => Err(failure),
        None => {
            output.note("interrupted", "interrupted");
            Ok(Exit::Failed)
        }
    };
    connect::leave(&client).await;
    outcome
}

/// By a client that runs, which has joined the network.
pub(crate) async fn through(
    args: &ResendArgs,
    session: &Session,
    client: &Client,
    output: Output<'_>,
    mut out: LineWriter,
) -> Result<Exit, Failure> {
    partitions::must_exist(&args.stream, &args.partition, &args.registry, session).await?;
    let seen = read(client, args, replay(args)?, output, &mut out).await?;
    out.finish().await?;
    seen.verdict()
}

/// This program does nothing but read, so a slow pipe may hold everything up.
fn config(args: &ResendArgs) -> ClientConfig {
    let mut config = ClientConfig::default();
    config.keys = connect::keys(args.pre_agreed_only);
    config.slow_reader = SlowReader::Wait;
    config.requester.max_tries = TRIES;
    config
}

fn replay(args: &ResendArgs) -> Result<Replay, Failure> {
    let (from, to) = past_span(args.from, args.to)?;
    let replay = args.last.map_or_else(|| Replay::range(from, to), Replay::last);
    Ok(args.publisher.map_or(replay, |publisher| replay.publisher(publisher)))
}

async fn read(
    client: &Client,
    args: &ResendArgs,
    replay: Replay,
    output: Output<'_>,
    out: &mut LineWriter,
) -> Result<Seen, Failure> {
    let bar = bar(args, output);
    let mut seen = Seen::new();
    let outcome = async {
        if args.partition.is_empty() {
            return follow(client.resend(&args.stream, replay).await?, &mut seen, &bar, output, out).await;
        }
        for number in &args.partition {
            let part = args.stream.part(*number)?;
            follow(client.resend_part(&part, replay).await?, &mut seen, &bar, output, out).await?;
        }
        Ok(())
    };
    let outcome = outcome.await;
    bar.finish_and_clear();
    outcome.map(|()| seen)
}

async fn follow(
    mut subscription: Subscription,
    seen: &mut Seen,
    bar: &ProgressBar,
    output: Output<'_>,
    out: &mut LineWriter,
) -> Result<(), Failure> {
    loop {
        let delivery = tokio::select! {
            delivery = subscription.next() => delivery,
            failure = out.failed() => return Err(failure),
        };
        match delivery {
            None => return Ok(()),
            Some(Delivery::Message(message)) => {
                out.write(print::line(&message, output)).await?;
                seen.read += 1;
                show(bar, seen.read, &message);
            }
            Some(Delivery::Event(event)) => {
                bar.suspend(|| output.event(events::in_words(&event), &events::in_json(&event)));
                seen.note(&event);
            }
        }
    }
}

/// On a terminal only, and not where the messages themselves are seen there.
fn bar(args: &ResendArgs, output: Output) -> ProgressBar {
    if !output.draws() || std::io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = args.last.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let template = if args.last.is_some() { "{bar:30} {pos} {msg}" } else { "{spinner} {pos} {msg}" };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message("messages");
    bar.enable_steady_tick(TICK);
    bar
}

fn show(bar: &ProgressBar, read: u64, message: &Message) {
    bar.set_position(read);
    if read.is_multiple_of(256) {
        bar.set_message(format!("messages, up to {}", times::show(message.at.timestamp)));
    }
}

/// What came, and what did not.
struct Seen {
    read: u64,
    complete: bool,
    unread: u64,
    /// Stored messages that came, read or not.
    stored: u64,
    /// Somebody's messages were passed over: who may publish is not known here, or not he.
    ignored: Option<Refusal>,
    /// By a publisher, of keys.
    refused: Option<Refusal>,
    /// By a storage node: one among others, who may say what it likes.
    denied: Option<Refusal>,
}

impl Seen {
    const fn new() -> Self {
        Self { read: 0, complete: true, unread: 0, stored: 0, ignored: None, refused: None, denied: None }
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::HistoryEnd { complete, messages, .. } => {
                self.complete &= complete;
                self.stored += *messages;
            }
            Event::NotAPublisher { refusal, .. } => self.ignored = Some(*refusal),
            Event::StorageFault { fault: StorageFault::Refused(refusal), .. } => self.denied = Some(*refusal),
            Event::KeyRefused { refusal, .. } => self.refused = Some(*refusal),
            Event::Unread { messages, .. } => self.unread += messages,
            _ => {}
        }
    }

    /// Nothing read because of a no is a no; what could be read is worth success where all of it came. A storage node's no
    /// counts for nothing where another was read to its end.
    fn verdict(&self) -> Result<Exit, Failure> {
        match self.refused.or(self.denied.filter(|_| !self.complete)) {
            Some(Refusal::Unavailable { .. }) if self.read == 0 => Err(ResendError::Unavailable.into()),
            Some(refusal) if self.read == 0 => Err(ResendError::Refused { refusal }.into()),
            _ if self.read == 0 && self.stored > 0 && self.ignored.is_some() => {
                Err(ResendError::Ignored { stored: self.stored }.into())
            }
            _ if self.read == 0 && self.unread > 0 => Err(ResendError::NoKeys { messages: self.unread }.into()),
            _ if !self.complete => Err(ResendError::Incomplete.into()),
            _ => Ok(Exit::Done),
        }
    }
}

/// Why stored messages were not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ResendError {
    #[error("refused ({}); ask the stream's owner for a grant: veilcast stream grant STREAM YOUR-ADDRESS", events::reason(.refusal))]
    Refused { refusal: Refusal },
    #[error(
        "no storage node can answer now: its store cannot be read, or it cannot tell who may read; tell whoever runs it, or name another node with --bootstrap"
    )]
    Unavailable,
    #[error(
        "none of {messages} stored messages can be read without their keys; run it again while their publisher is running"
    )]
    NoKeys { messages: u64 },
    #[error(
        "0 of {stored} stored messages could be read: that their publisher may publish is not known here; say who decides: --registry grants where the stream's owner signs permissions, or a contract"
    )]
    Ignored { stored: u64 },
    #[error("no storage node could be read to its end; run it again, with --from where the last line was published")]
    Incomplete,
}

impl ResendError {
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Refused { .. } => Exit::Refused,
            Self::Unavailable | Self::NoKeys { .. } | Self::Ignored { .. } | Self::Incomplete => Exit::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use veilcast::UserId;

    use super::*;

    fn denied() -> Event {
        let node = UserId::from_bytes([1; 20]);
        Event::StorageFault { node, fault: StorageFault::Refused(Refusal::Denied) }
    }

    fn seen(events: &[Event]) -> Seen {
        let mut seen = Seen::new();
        events.iter().for_each(|event| seen.note(event));
        seen
    }

    #[test]
    fn a_storage_nodes_no_is_no_verdict_where_an_honest_one_has_nothing() {
        let over = |complete| Event::HistoryEnd { messages: 0, complete };
        assert!(matches!(seen(&[denied(), over(true)]).verdict(), Ok(Exit::Done)));
        assert_eq!(seen(&[denied(), over(false)]).verdict().unwrap_err().exit(), Exit::Refused);
    }
}
