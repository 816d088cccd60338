//! Fetching historical keys: a publisher may have several devices, each with keys that only it has, so every device that is
//! known is asked for the span, at the same time. One task for each fetch.
//!
//! Known are those that told us where they are, those in the DHT, and those that an earlier fetch of the same span did not come
//! to the end of. A device that cannot be asked holds up none of the others, and is named when they are done.

mod device;
mod span;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use libp2p::PeerId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use veilcast_key_store::TimeRange;

use self::span::Span;
use super::error::ClientError;
use super::finding::{self, Wish};
use super::shared::Shared;
use crate::exchange::{AskFailure, FetchFailure, FetchStep};
use crate::identity::UserId;
use crate::stream::StreamId;
use crate::time::Timestamp;

/// News waiting for the application; the fetch waits for it beyond.
const NEWS: usize = 16;
/// Most devices of one publisher asked by one fetch. A further one is named as missed.
const MAX_DEVICES: usize = 16;

/// How far a fetch has come at all devices together, what an earlier one of the same span brought included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchProgress {
    /// Keys received and stored; one that two devices gave counts twice.
    pub keys: u64,
    /// Keys of the span that a device does not give.
    pub refused: u64,
    /// Every device known has been asked for every key of the span that became current before this moment.
    pub up_to: Timestamp,
}

/// A device that was not asked to the end of the span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissedDevice {
    /// Its peer id.
    pub device: PeerId,
    /// Why not.
    pub failure: FetchFailure,
}

impl fmt::Display for MissedDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.device, self.failure)
    }
}

/// What happens during a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FetchEvent {
    /// An earlier fetch of the same span was interrupted here, and this one goes on.
    Resumed(FetchProgress),
    /// A page is stored.
    Page(FetchProgress),
    /// A try failed, or the publisher asked to wait; another follows.
    Waiting {
        /// At which device; `None` while none is found.
        device: Option<PeerId>,
        /// Why.
        failure: AskFailure,
        /// How long until the next try.
        after: Duration,
    },
    /// A device is given up. The fetch goes on at the others, and ends with an error unless an earlier one asked this device.
    Missed(MissedDevice),
    /// Every page of every device known is here; nothing follows.
    Done(FetchProgress),
}

/// A fetch of historical keys under way: a stream of [`FetchEvent`]s that ends behind `Done` or an error.
///
/// It goes on by itself as long as its events are taken. Dropping it stops it; what was stored stays, and a fetch of the same
/// publisher, stream and span goes on behind the last page of each device that was stored.
#[derive(Debug)]
pub struct KeyFetch {
    news: mpsc::Receiver<Result<FetchEvent, ClientError>>,
}

impl KeyFetch {
    /// The next event; `None` when nothing follows. Dropping the future loses no event.
    pub async fn next(&mut self) -> Option<Result<FetchEvent, ClientError>> {
        self.news.recv().await
    }

    /// Waits for the end. Dropping the future stops the fetch, as dropping `self` does.
    ///
    /// # Errors
    /// [`ClientError::FetchFailed`]: refused as a whole, or not to be had. [`ClientError::FetchIncomplete`]: not all devices
    /// were asked to the end. [`ClientError::Store`], [`ClientError::Stopped`].
    pub async fn finish(mut self) -> Result<FetchProgress, ClientError> {
        while let Some(event) = self.next().await {
            if let FetchEvent::Done(summary) = event? {
                return Ok(summary);
            }
        }
        Err(ClientError::Stopped)
    }
}

impl Stream for KeyFetch {
    type Item = Result<FetchEvent, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.news.poll_recv(cx)
    }
}

pub(super) fn start(shared: &Arc<Shared>, stream: StreamId, publisher: UserId, range: TimeRange) -> KeyFetch {
    let (tell, news) = mpsc::channel(NEWS);
    let worker = shared.clone();
    shared.spawn(async move {
        let over = tell.clone();
        tokio::select! {
            () = over.closed() => {}
            outcome = fetch(worker, stream, publisher, range, tell) => {
                let _ = over.send(outcome.map(FetchEvent::Done)).await;
            }
        }
    });
    KeyFetch { news }
}

async fn fetch(
    shared: Arc<Shared>,
    stream: StreamId,
    publisher: UserId,
    range: TimeRange,
    tell: mpsc::Sender<Result<FetchEvent, ClientError>>,
) -> Result<FetchProgress, ClientError> {
    let span = Arc::new(Span::open(shared, stream, publisher, range, tell).await?);
    if span.was_begun().await {
        span.tell(FetchEvent::Resumed(span.progress().await)).await;
    }
    if span.devices().await.is_empty() {
        find_one(&span).await?;
    }
    let missed = ask_all(&span).await?;
    span.close(missed).await
}

/// Waits until there is a device to ask, as often as a request would be tried.
async fn find_one(span: &Span) -> Result<(), ClientError> {
    let (shared, publisher) = (&span.shared, span.publisher);
    // It counts the tries and says how long to wait; nothing is asked.
    let mut tries = span.fetch(None);
    let wish = Wish::default();
    loop {
        let found = timeout(shared.config.requester.find_timeout, finding::find(shared, publisher, &wish));
        if found.await.is_ok_and(|found| found.is_some()) {
            return Ok(());
        }
        let step = tries.failed(AskFailure::Unreachable, &mut rand::rng());
        match step {
            FetchStep::Wait { failure, after } => span.wait(None, failure, after).await,
            _ => return Err(span.failed(FetchFailure::GivenUp(AskFailure::Unreachable))),
        }
    }
}

/// Asks every device there is, until no other turns up. Returns those that were not asked to the end.
///
/// Each device has a task of its own, since one holds the marks while they are written; a client that stops waits for it.
async fn ask_all(span: &Arc<Span>) -> Result<BTreeMap<PeerId, FetchFailure>, ClientError> {
    let (mut begun, mut missed) = (BTreeSet::new(), BTreeMap::new());
    let mut under_way = JoinSet::new();
    let lookup = finding::look_again(&span.shared, span.publisher);
    let mut lookup = pin!(timeout(span.shared.config.requester.find_timeout, lookup));
    let mut is_looking = true;
    loop {
        for device in span.devices().await.difference(&begun.clone()) {
            if begun.len() < MAX_DEVICES {
                begun.insert(*device);
                under_way.spawn(span.shared.counted(device::ask(span.clone(), *device)));
            } else if missed.len() <= MAX_DEVICES {
                missed.insert(*device, FetchFailure::GivenUp(AskFailure::Overload));
            }
        }
        tokio::select! {
            _ = &mut lookup, if is_looking => is_looking = false,
            Some(ended) = under_way.join_next() => {
                if let (device, Err(failure)) = ended.map_err(|_| ClientError::Stopped)?? {
                    missed.insert(device, failure);
                    span.tell(FetchEvent::Missed(MissedDevice { device, failure })).await;
                }
            }
            else => return Ok(missed),
        }
    }
}
