//! Subscriptions: where their messages come from, and the stream of deliveries that an application reads.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc;
use veilcast_key_store::{GroupKey, KeyId};

use super::bounded;
use super::depots;
use super::error::ClientError;
use super::reading::Reading;
use super::replaying::{self, Plan};
use super::shared::{READER_KEYS, Reader, Shared};
use crate::exchange::AskFailure;
use crate::identity::UserId;
use crate::message::Message;
use crate::permission::Refusal;
use crate::stream::{StreamId, StreamPart};
use crate::subscriber::{Arrival, Event, IntakeLimits, Replay, size_of};
use crate::time::Timestamp;
use crate::wire::{MessageContent, Verified};

/// Pages of history waiting for a subscription.
pub(super) const PAGES: usize = 4;
/// Frames waiting for a subscription.
pub(super) const FRAMES: usize = 1024;

/// What a subscription brings.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// A message, in the order of its chain.
    Message(Message),
    /// Something beside the messages.
    Event(Event),
}

/// Where a subscription's messages come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Live,
    Past,
    PastThenLive,
}

/// What a subscription takes in.
pub(super) enum Feed {
    /// Messages whose signatures were checked.
    Messages(Vec<Verified<MessageContent>>),
    /// Told where it stands among them.
    Tell(Event),
    /// Nothing comes any more: the subscription ends when everything is settled.
    End,
}

/// News of keys for the intakes of one stream.
#[derive(Clone)]
pub(super) enum KeyNews {
    Arrived { publisher: UserId, key: GroupKey, by: Arrival },
    Refused { publisher: UserId, key_id: KeyId, refusal: Refusal, until: Timestamp },
    Retrying { publisher: UserId, failure: AskFailure, after: Duration },
    Unavailable { publisher: UserId, key_id: KeyId, failure: AskFailure },
    RingChanged,
}

/// Messages and events of a stream. Dropping it ends the subscription.
pub struct Subscription {
    deliveries: bounded::Receiver<Delivery>,
}

impl Feed {
    /// What it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Messages(messages) => messages.iter().map(size_of).sum(),
            Self::Tell(_) | Self::End => 0,
        }
    }
}

impl Delivery {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Message(message) => message.envelope.len() + message.payload.len(),
            Self::Event(_) => 0,
        }
    }
}

impl Subscription {
    /// The next message or event; `None` behind the last one: the client was stopped, or all that was stored was read. Dropping the
    /// future loses nothing.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.deliveries.recv().await
    }
}

impl futures::Stream for Subscription {
    type Item = Delivery;
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        self.deliveries.poll_recv(context)
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Subscription { .. }")
    }
}

pub(super) async fn subscribe(
    shared: &Arc<Shared>,
    stream: StreamId,
    parts: Vec<StreamPart>,
    limits: IntakeLimits,
) -> Result<Subscription, ClientError> {
    let subscription = start(shared, stream, parts.clone(), Vec::new(), limits)?;
    for part in &parts {
        shared.network.join(&part.topic()).await?;
    }
    Ok(subscription)
}

/// Stored messages, then live ones.
pub(super) async fn subscribe_from(
    shared: &Arc<Shared>,
    stream: StreamId,
    parts: Vec<StreamPart>,
    replay: Replay,
    limits: IntakeLimits,
) -> Result<Subscription, ClientError> {
    // Stored messages are of any age. Live ones of a chain that nobody met are looked at before they come here.
    let gap_wait = shared.config.gap_fill.wait(&limits);
    let limits = IntakeLimits { live_window: Duration::MAX, gap_wait, ..limits };
    let held_back = limits.incoming_bytes();
    let (live, lived) = bounded::channel(FRAMES, held_back);
    let (subscription, feed) =
        begin(shared, stream.clone(), parts.clone(), Vec::new(), limits, Kind::PastThenLive, Some(live))?;
    for part in &parts {
        shared.network.join(&part.topic()).await?;
    }
    // Storage nodes are looked for while live messages are held back already.
    let plan = Plan { stream, parts, replay, depots: None, feed, held_back };
    shared.spawn(replaying::then_live(shared.clone(), plan, lived));
    Ok(subscription)
}

/// Stored messages only.
pub(super) async fn resend(
    shared: &Arc<Shared>,
    stream: StreamId,
    parts: Vec<StreamPart>,
    replay: Replay,
    limits: IntakeLimits,
) -> Result<Subscription, ClientError> {
    let depots = depots::find(shared, &stream).await;
    if depots.is_empty() {
        return Err(ClientError::NoStorage { stream });
    }
    // Of any age, in order already; what is missing was looked for elsewhere before it comes here.
    let (join_wait, gap_wait, live_window) = (Duration::ZERO, Duration::ZERO, Duration::MAX);
    let limits = IntakeLimits { join_wait, gap_wait, live_window, ..limits };
    let (subscription, feed) = begin(shared, stream.clone(), Vec::new(), Vec::new(), limits, Kind::Past, None)?;
    let held_back = limits.incoming_bytes();
    let plan = Plan { stream, parts, replay, depots: Some(depots), feed, held_back };
    shared.spawn(replaying::history(shared.clone(), plan));
    Ok(subscription)
}

/// Starts the task of a subscription, with messages to begin with.
pub(super) fn start(
    shared: &Arc<Shared>,
    stream: StreamId,
    parts: Vec<StreamPart>,
    first: Vec<Verified<MessageContent>>,
    limits: IntakeLimits,
) -> Result<Subscription, ClientError> {
    Ok(begin(shared, stream, parts, first, limits, Kind::Live, None)?.0)
}

/// The same, with the way to feed it. What comes live goes to `live` instead, where that is given.
pub(super) fn begin(
    shared: &Arc<Shared>,
    stream: StreamId,
    parts: Vec<StreamPart>,
    first: Vec<Verified<MessageContent>>,
    limits: IntakeLimits,
    kind: Kind,
    live: Option<bounded::Sender<Feed>>,
) -> Result<(Subscription, bounded::Sender<Feed>), ClientError> {
    let (feed, frames) = match kind {
        Kind::Live => bounded::channel(FRAMES, limits.incoming_bytes()),
        Kind::Past | Kind::PastThenLive => bounded::channel(PAGES, limits.incoming_bytes()),
    };
    let messages = live.unwrap_or_else(|| feed.clone());
    let (keys, news) = mpsc::channel(READER_KEYS);
    let (deliver, deliveries) = bounded::channel(shared.config.subscription_queue, limits.delivered_bytes());
    shared.add_reader(Reader { stream: stream.clone(), parts: parts.clone(), messages, keys })?;
    let reading = Reading::new(shared.clone(), stream, limits, kind);
    // Not cut off at the stop: what has arrived is still handed over.
    shared.tasks.spawn(reading.run(parts, first, frames, news, deliver));
    Ok((Subscription { deliveries }, feed))
}

/// Leaves the partitions that nothing here reads or stores any more.
pub(super) async fn leave(shared: &Shared, stream: &StreamId, parts: &[StreamPart]) {
    let is_stored = || shared.storage.as_ref().is_some_and(|storage| storage.keeps(stream));
    let is_read = |part: &StreamPart| is_stored() || shared.readers_of(stream).iter().any(|reader| reader.reads(part));
    for part in parts.iter().filter(|part| !is_read(part)) {
        shared.network.leave(&part.topic()).await;
        // Somebody may have subscribed meanwhile.
        if is_read(part) {
            let _ = shared.network.join(&part.topic()).await;
        }
    }
}
