//! What the acts share: who listens, what was published so far, and how the next message goes out.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use veilcast::client::StreamOptions;
use veilcast::{Message, Period, Permission, StreamId, StreamPart, Timestamp};

use super::super::DemoError;
use super::super::cast::{Actor, Cast, RSA_BITS};
use super::super::listener::{Listener, messages};
use super::super::measurements::Measurements;
use super::super::report::Report;
use super::super::source::Source;
use super::super::stage::{Stage, shown};
use crate::commands::now;
use crate::times;

/// Up to so many messages each is shown and a reading apart from the next.
const EACH_SHOWN: u64 = 30;
/// Of more, so many are shown in each act.
const FIRST_SHOWN: u64 = 2;
/// How long two nodes may take to meet on a topic.
const MEET: Duration = Duration::from_secs(5);
/// The reader and the guest.
const READERS: usize = 2;
/// How many seconds the guest has paid for; one more for every thousand messages.
const PAID: u64 = 4;

/// How many messages each act has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) opening: u64,
    pub(super) rotate: u64,
    pub(super) ended: u64,
    pub(super) restart: u64,
}

impl Share {
    /// The stranger's act has one; the first act takes what the others leave.
    fn of(total: u64) -> Self {
        let each = (total / 6).max(2);
        Self { opening: total.saturating_sub(3 * each + 1), rotate: each, ended: each, restart: each }
    }
}

pub(super) struct Story<'a> {
    pub(super) cast: &'a mut Cast,
    pub(super) stage: &'a Stage,
    pub(super) report: Report,
    pub(super) stream: StreamId,
    pub(super) part: StreamPart,
    pub(super) reader: Listener,
    pub(super) guest: Listener,
    /// Last second the guest has paid for.
    pub(super) guest_end: Timestamp,
    pub(super) share: Share,
    pub(super) sent: Vec<Vec<u8>>,
    source: &'a Source,
    measurements: Measurements,
    last: Instant,
}

impl<'a> Story<'a> {
    /// Creates the stream, grants, subscribes.
    pub(super) async fn begin(cast: &'a mut Cast, source: &'a Source, stage: &'a Stage) -> Result<Self, DemoError> {
        let measurements = Measurements::begin()?;
        let publisher = cast.publisher.client()?;
        let stream = publisher.create_stream("demo/live", StreamOptions::default()).await?;
        let part = stream.part(0).map_err(veilcast::client::ClientError::from)?;
        stage.says("publisher", format!("creates {stream}"));
        stage.says("publisher", format!("publishes {}", source.in_words()));
        for who in [&cast.reader, &cast.latecomer] {
            publisher.grant(&stream, who.user(), Permission::Subscribe, Period::ALWAYS).await?;
        }
        stage.says("reader", format!("has a grant without an end (RSA {RSA_BITS} here, 3072 by default)"));
        let reader = listen(&cast.reader, &stream, &part).await?;
        let guest = listen(&cast.guest, &stream, &part).await?;
        let _ = timeout(MEET, publisher.wait_for_peers(&part, 1)).await;
        let _ = timeout(MEET, cast.relay.wait_for_peers(&part, READERS)).await;
        let guest_end = Timestamp::from_secs(now().as_secs() + PAID + source.count() / 1000);
        publisher.grant(&stream, cast.guest.user(), Permission::Subscribe, Period::until(guest_end)).await?;
        stage.says("guest", format!("has paid until {}", times::show(guest_end)));
        let share = Share::of(source.count());
        let (report, sent, last) = (Report::default(), Vec::new(), Instant::now());
        Ok(Self {
            cast,
            stage,
            report,
            stream,
            part,
            reader,
            guest,
            guest_end,
            share,
            sent,
            source,
            measurements,
            last,
        })
    }

    /// Publishes the next `count` messages and waits until the reader has them all.
    pub(super) async fn publish(&mut self, count: u64) -> Result<(), DemoError> {
        let all_shown = self.source.count() <= EACH_SHOWN;
        for number in 0..count {
            if all_shown {
                sleep(Measurements::interval().saturating_sub(self.last.elapsed())).await;
            }
            self.last = Instant::now();
            let (bytes, payload) = self.source.payload(self.sent.len() as u64, &mut self.measurements)?;
            self.cast.publisher.client()?.publish(&self.stream, payload).await?;
            self.sent.push(bytes);
            if all_shown || number < FIRST_SHOWN {
                self.show_last().await;
            }
        }
        self.cast.publisher.client()?.flush().await;
        if !self.reader.read(self.sent.len() as u64).await {
            self.stage.says("reader", "has not received everything");
        }
        if !all_shown && count > FIRST_SHOWN {
            self.stage.says("reader", format!("reads {} more", count - FIRST_SHOWN));
        }
        Ok(())
    }

    async fn show_last(&mut self) {
        let index = self.sent.len() - 1;
        let read = self.reader.wait(|heard| messages(heard).nth(index).map(|message| shown(&message.payload))).await;
        self.stage.says("reader", read.map_or_else(|| "has not received it".into(), |text| format!("reads {text}")));
    }

    /// A message as the reader received it.
    pub(super) fn message(&self, index: usize) -> Option<Message> {
        self.reader.look(|heard| messages(heard).nth(index).cloned())
    }

    /// The last one.
    pub(super) fn last_message(&self) -> Option<Message> {
        self.reader.look(|heard| messages(heard).last().cloned())
    }

    /// Listens as somebody else, beside the reader and the guest.
    pub(super) async fn listen(&self, who: &Actor) -> Result<Listener, DemoError> {
        let listener = listen(who, &self.stream, &self.part).await?;
        let _ = timeout(MEET, self.cast.relay.wait_for_peers(&self.part, READERS + 1)).await;
        Ok(listener)
    }

    /// Waits until the publisher has met the relay on the stream's topic.
    pub(super) async fn meet(&self) -> Result<(), DemoError> {
        let _ = timeout(MEET, self.cast.publisher.client()?.wait_for_peers(&self.part, 1)).await;
        Ok(())
    }

    /// Key requests the publisher has looked at since it started.
    pub(super) fn requests(&self) -> Result<u64, DemoError> {
        Ok(self.cast.publisher.client()?.stats().key_requests_received)
    }
}

async fn listen(who: &Actor, stream: &StreamId, part: &StreamPart) -> Result<Listener, DemoError> {
    let client = who.client()?;
    let listener = Listener::to(client.subscribe(stream).await?);
    let _ = timeout(MEET, client.wait_for_peers(part, 1)).await;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_act_has_messages_and_together_they_are_all() {
        for total in [8, 12, 30, 31, 10_000] {
            let Share { opening, rotate, ended, restart } = Share::of(total);
            assert_eq!(opening + rotate + 1 + ended + restart, total);
            assert!(opening >= 1 && rotate >= 2 && ended >= 2 && restart >= 2, "{total}");
        }
    }
}
