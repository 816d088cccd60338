//! `veilcast subscribe`: messages on stdout, one a line; events beside them on stderr.

pub(crate) mod events;
pub(crate) mod print;

use std::collections::HashSet;

use futures::StreamExt;
use futures::stream::SelectAll;
use veilcast::client::{Client, ClientConfig, Delivery, Replay, SlowReader, Subscription};
use veilcast::key_store::KeyId;
use veilcast::{Event, Refusal, UserId};

use super::partitions;
use crate::args::{Shared, SubscribeArgs};
use crate::chain;
use crate::connect;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::lines::LineWriter;
use crate::output::Output;
use crate::session::Session;

/// How long lines already received may take to be written after Ctrl-C; a pipe may have stalled.
const LAST_LINES: std::time::Duration = std::time::Duration::from_secs(1);

pub(crate) async fn run(
    args: SubscribeArgs,
    shared: Shared,
    output: Output<'_>,
    mut stop: Interrupt,
) -> Result<Exit, Failure> {
    let session = Session::open(&shared)?;
    partitions::must_exist(&args.stream, &args.partition, &args.registry, &session).await?;
    let Some(verified) = stop.or(chain::verify(&args.registry)).await else { return Ok(Exit::Done) };
    verified?;
    let Some(started) = stop.or(connect::start(session, &args.network, &args.registry, config(&args), output)).await
    else {
        return Ok(Exit::Done);
    };
    let client = started?;
    let mut out = LineWriter::start();
    let outcome = stop.or(async {
        if args.network.bootstrap.is_empty() {
            let at: Vec<String> = client.addresses().await.iter().map(ToString::to_string).collect();
            let text = format!("no --bootstrap: nothing comes before somebody connects to {}", at.join(" or "));
            output.note("alone", text);
        }
        read(&client, &args, output, &mut out).await
    });
    let outcome = outcome.await;
    let written = match outcome {
        None => {
            output.note("stopping", "stopping");
            tokio::time::timeout(LAST_LINES, out.finish()).await.unwrap_or(Ok(()))
        }
        Some(Ok(())) => out.finish().await,
        Some(Err(failure)) => Err(failure),
    };
    if let Some((text, json)) = events::unread_in_all(client.stats().messages_unread) {
        output.event(text, &json);
    }
    connect::leave(&client).await;
    written.map(|()| Exit::Done)
}

/// By a client that runs, which has joined the network.
pub(crate) async fn through(
    args: &SubscribeArgs,
    session: &Session,
    client: &Client,
    output: Output<'_>,
    mut out: LineWriter,
) -> Result<Exit, Failure> {
    partitions::must_exist(&args.stream, &args.partition, &args.registry, session).await?;
    read(client, args, output, &mut out).await?;
    out.finish().await.map(|()| Exit::Done)
}

/// This program does nothing but read, so a slow pipe may hold everything up and nothing is lost.
fn config(args: &SubscribeArgs) -> ClientConfig {
    let mut config = ClientConfig::default();
    config.keys = connect::keys(args.pre_agreed_only);
    config.slow_reader = SlowReader::Wait;
    config
}

async fn read(client: &Client, args: &SubscribeArgs, output: Output<'_>, out: &mut LineWriter) -> Result<(), Failure> {
    let mut subscription = subscribe(client, args).await?;
    let mut progress = Progress::of(args);
    output.note("subscribed", format!("subscribed to {} as {}; waiting for messages", args.stream, client.user()));
    while args.count.is_none_or(|count| progress.delivered < count) {
        let delivery = tokio::select! {
            delivery = subscription.next() => delivery,
            failure = out.failed() => return Err(failure),
        };
        match delivery {
            None => break,
            Some(Delivery::Message(message)) => {
                out.write(print::line(&message, output)).await?;
                progress.delivered += 1;
            }
            Some(Delivery::Event(event)) => {
                output.event(events::in_words(&event), &events::in_json(&event));
                progress.note(&event)?;
            }
        }
    }
    Ok(())
}

/// All that is to be read, in one. Each partition keeps its own order; there is none between them.
async fn subscribe(client: &Client, args: &SubscribeArgs) -> Result<SelectAll<Subscription>, Failure> {
    let mut all = SelectAll::new();
    for number in &args.partition {
        let part = args.stream.part(*number)?;
        all.push(match args.last {
            None => client.subscribe_part(&part).await?,
            Some(n) => client.subscribe_part_from(&part, Replay::last(n)).await?,
        });
    }
    if all.is_empty() {
        all.push(match args.last {
            None => client.subscribe(&args.stream).await?,
            Some(n) => client.subscribe_from(&args.stream, Replay::last(n)).await?,
        });
    }
    Ok(all)
}

/// Subscriptions that [`subscribe`] makes one of.
fn parts(args: &SubscribeArgs) -> usize {
    args.partition.len().max(1)
}

/// What was read so far, and what is still hoped for.
#[derive(Default)]
struct Progress {
    delivered: u64,
    pending: HashSet<(UserId, KeyId)>,
    /// Pasts that are not over: what is refused of them is no verdict on what comes live.
    histories: usize,
    /// Whether any of it is the past: a policy may be about its keys alone.
    reads_past: bool,
    /// The last refusal of somebody who decided about this user.
    refused: Option<(UserId, Refusal)>,
}

impl Progress {
    fn of(args: &SubscribeArgs) -> Self {
        let reads_past = args.last.is_some();
        Self { histories: if reads_past { parts(args) } else { 0 }, reads_past, ..Self::default() }
    }

    /// Keeps track of keys; a refusal with nothing read and nothing pending means there is nothing to wait for.
    fn note(&mut self, event: &Event) -> Result<(), SubscribeError> {
        match event {
            Event::KeyPending { publisher, key_id } => {
                self.pending.insert((*publisher, key_id.clone()));
            }
            Event::KeyArrived { publisher, key_id, .. } | Event::KeyUnavailable { publisher, key_id, .. } => {
                self.pending.remove(&(*publisher, key_id.clone()));
            }
            Event::KeyRefused { publisher, key_id, refusal, .. } => {
                self.pending.remove(&(*publisher, key_id.clone()));
                let about_old_keys = self.reads_past && *refusal == Refusal::Policy;
                let decides = is_final(refusal) && !about_old_keys;
                self.refused = Some((*publisher, *refusal)).filter(|_| decides).or(self.refused);
                return self.verdict();
            }
            Event::KeyNotAgreed { publisher, key_id, .. } if self.delivered == 0 && self.may_end() => {
                return Err(SubscribeError::NotAgreed { publisher: *publisher, key_id: key_id.clone() });
            }
            Event::HistoryEnd { .. } => {
                self.histories = self.histories.saturating_sub(1);
                return self.verdict();
            }
            _ => {}
        }
        Ok(())
    }

    fn verdict(&self) -> Result<(), SubscribeError> {
        match self.refused {
            Some((publisher, refusal)) if self.delivered == 0 && self.may_end() => {
                Err(SubscribeError::Refused { publisher, refusal })
            }
            _ => Ok(()),
        }
    }

    fn may_end(&self) -> bool {
        self.pending.is_empty() && self.histories == 0
    }
}

/// Whether waiting cannot help: the publisher decided about this user, not about one key or one moment.
const fn is_final(refusal: &Refusal) -> bool {
    !matches!(refusal, Refusal::UnknownKey | Refusal::Throttled { .. } | Refusal::Unavailable { .. })
}

/// Why a subscription ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SubscribeError {
    #[error("{publisher} refused its keys ({}); ask its owner for a grant: veilcast stream grant STREAM YOUR-ADDRESS", events::reason(.refusal))]
    Refused { publisher: UserId, refusal: Refusal },
    #[error(
        "key {key_id} of {publisher} is not among the keys agreed on; put it in with: veilcast key add, for the stream or its prefix"
    )]
    NotAgreed { publisher: UserId, key_id: KeyId },
}

impl SubscribeError {
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Refused { .. } => Exit::Refused,
            Self::NotAgreed { .. } => Exit::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(key: &str, refusal: Refusal) -> Event {
        let key_id = KeyId::new(key).unwrap();
        Event::KeyRefused { publisher: UserId::from_bytes([1; 20]), key_id, refusal, dropped: 1 }
    }

    fn pending(key: &str) -> Event {
        Event::KeyPending { publisher: UserId::from_bytes([1; 20]), key_id: KeyId::new(key).unwrap() }
    }

    #[test]
    fn a_refusal_ends_it_only_when_nothing_was_read_and_nothing_is_pending() {
        let mut progress = Progress::default();
        progress.note(&pending("a")).unwrap();
        progress.note(&pending("b")).unwrap();
        assert!(progress.note(&refused("a", Refusal::Denied)).is_ok(), "b may still come");
        assert!(progress.note(&refused("b", Refusal::Denied)).is_err());
        progress.delivered = 1;
        assert!(progress.note(&refused("c", Refusal::Denied)).is_ok(), "it has read something");
    }

    #[test]
    fn a_refusal_about_one_key_or_one_moment_is_no_reason_to_give_up() {
        let retry_after = std::time::Duration::from_secs(1);
        let throttled = Refusal::Throttled { retry_after };
        for refusal in [Refusal::UnknownKey, throttled, Refusal::Unavailable { retry_after }] {
            assert!(Progress::default().note(&refused("a", refusal)).is_ok());
        }
    }

    #[test]
    fn no_refusal_ends_it_before_the_stored_messages_of_every_partition_are_over() {
        let over = Event::HistoryEnd { messages: 4, complete: true };
        let past = |histories| Progress { histories, reads_past: true, ..Progress::default() };
        let mut progress = past(2);
        progress.note(&refused("old", Refusal::Policy)).unwrap();
        progress.note(&over).unwrap();
        progress.note(&refused("b", Refusal::Denied)).unwrap();
        let agreed = Event::KeyNotAgreed {
            publisher: UserId::from_bytes([1; 20]),
            key_id: KeyId::new("c").unwrap(),
            dropped: 1,
        };
        progress.note(&agreed).unwrap();
        assert!(progress.note(&over).is_err(), "who was denied is denied live as well");
        let mut progress = past(1);
        progress.note(&refused("old", Refusal::Policy)).unwrap();
        assert!(progress.note(&over).is_ok(), "a policy may be about a key of the past");
        assert!(Progress::default().note(&refused("a", Refusal::Policy)).is_err(), "live it is about the reader");
    }
}
