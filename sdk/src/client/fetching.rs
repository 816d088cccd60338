//! Fetching historical keys: one task for each fetch, which carries out what a [`Fetch`] decides.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, oneshot};
use veilcast_key_store::TimeRange;

use super::asking::{Ask, Batch, Outcome, Question, ask, open_and_store};
use super::bookmarks::{self, Bookmark};
use super::error::ClientError;
use super::finding::Wish;
use super::shared::{Shared, blocking};
use super::stats::count;
use crate::exchange::{AskFailure, Fetch, FetchFailure, FetchStep, FetchedPage};
use crate::identity::UserId;
use crate::stream::StreamId;
use crate::time::Timestamp;
use crate::wire::{KeyAnswer, Received, RequestId, Wanted};

/// News waiting for the application; the fetch waits for it beyond.
const NEWS: usize = 16;

/// A full page costs the publisher what two requests do, and is counted so: who asks faster is throttled.
const PAGE_COST: usize = 2;

/// How far a fetch has come, what an earlier one of the same span brought included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchProgress {
    /// Keys received and stored.
    pub keys: u64,
    /// Keys of the span that the publisher does not give.
    pub refused: u64,
    /// Every key of the span that became current before this moment has been asked for.
    pub up_to: Timestamp,
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
        /// Why.
        failure: AskFailure,
        /// How long until the next try.
        after: Duration,
    },
    /// Every page is here; nothing follows.
    Done(FetchProgress),
}

/// A fetch of historical keys under way: a stream of [`FetchEvent`]s that ends behind `Done` or an error.
///
/// It goes on by itself as long as its events are taken. Dropping it stops it; what was stored stays, and a fetch of the same
/// publisher, stream and span goes on behind the last page that was stored.
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
    /// [`ClientError::FetchFailed`]: refused as a whole, or not to be had. [`ClientError::Store`], [`ClientError::Stopped`].
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
        let fetching = Fetching { shared: worker, stream, publisher, range, rng: rand::make_rng() };
        tokio::select! {
            () = tell.closed() => {}
            outcome = fetching.run(&tell) => {
                let _ = tell.send(outcome.map(FetchEvent::Done)).await;
            }
        }
    });
    KeyFetch { news }
}

type Tell = mpsc::Sender<Result<FetchEvent, ClientError>>;

struct Fetching {
    shared: Arc<Shared>,
    stream: StreamId,
    publisher: UserId,
    range: TimeRange,
    rng: StdRng,
}

impl Fetching {
    async fn run(mut self, tell: &Tell) -> Result<FetchProgress, ClientError> {
        let mut place = self.bookmark().await?;
        if place.after.is_some() {
            let _ = tell.send(Ok(FetchEvent::Resumed(self.progress(&place)))).await;
        }
        let (me, config) = (self.shared.user, self.shared.config.requester);
        let mut fetch = Fetch::new(me, self.publisher, self.stream.clone(), self.range, place.after.clone(), config);
        let mut step = FetchStep::Ask;
        loop {
            step = match step {
                FetchStep::Ask => self.ask(&mut fetch).await?,
                FetchStep::Keep(page) => self.keep(&mut fetch, page, &mut place, tell).await?,
                FetchStep::Wait { failure, after } => {
                    let _ = tell.send(Ok(FetchEvent::Waiting { failure, after })).await;
                    tokio::time::sleep(after).await;
                    FetchStep::Ask
                }
                FetchStep::Done => return Ok(self.progress(&place)),
                FetchStep::Failed(failure) => return Err(self.failed(failure)),
            }
        }
    }

    /// One try for the next page.
    async fn ask(&mut self, fetch: &mut Fetch) -> Result<FetchStep, ClientError> {
        for _ in 0..PAGE_COST {
            self.leave().await?;
        }
        let (id, page) = fetch.ask(&mut self.rng);
        let (publisher, stream) = (self.publisher, self.stream.clone());
        let question = Question { id, publisher, stream, wanted: Wanted::Range(page) };
        let step = match ask(&self.shared, question, Wish::default()).await {
            Ok(Outcome::Answer(envelope)) => self.answered(fetch, id, &envelope),
            Ok(Outcome::Failed(failure)) | Err(failure) => fetch.failed(failure, &mut self.rng),
            Ok(Outcome::NobodyElse) => fetch.failed(AskFailure::Unreachable, &mut self.rng),
        };
        Ok(step)
    }

    /// Waits until the limit of requests per second lets one more out.
    async fn leave(&self) -> Result<(), ClientError> {
        loop {
            let (asker, leave) = oneshot::channel();
            self.shared.asking.send(Ask::Leave(asker)).await.map_err(|_| ClientError::Stopped)?;
            match leave.await.map_err(|_| ClientError::Stopped)? {
                Ok(()) => return Ok(()),
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    fn answered(&mut self, fetch: &mut Fetch, id: RequestId, envelope: &Bytes) -> FetchStep {
        let verified = Received::<KeyAnswer>::decode(envelope)
            .ok()
            .filter(|received| received.claims().id == id)
            .and_then(|received| received.verify().ok());
        let step = verified.and_then(|answer| fetch.answered(&answer, &mut self.rng).ok());
        let counters = &self.shared.counters;
        count(if step.is_some() { &counters.key_answers_accepted } else { &counters.key_answers_ignored }, 1);
        step.unwrap_or_else(|| fetch.failed(AskFailure::BadAnswer, &mut self.rng))
    }

    /// Stores the keys of a page, then where to go on; a crash in between costs this page once more.
    async fn keep(
        &mut self,
        fetch: &mut Fetch,
        page: FetchedPage,
        place: &mut Bookmark,
        tell: &Tell,
    ) -> Result<FetchStep, ClientError> {
        let (granted, refused) = (page.granted.len(), page.refused.len());
        if granted > 0 {
            let batch = Batch {
                publisher: self.publisher,
                stream: self.stream.clone(),
                request: page.request,
                encapsulated: page.encapsulated,
                granted: page.granted,
            };
            let shared = self.shared.clone();
            let opened = self.to_its_end(async move { open_and_store(&shared, batch).await }).await?;
            if opened.keys.len() + opened.conflicting < granted {
                return Ok(fetch.did_not_open(&mut self.rng));
            }
            place.keys += opened.keys.len() as u64;
        }
        place.refused += refused as u64;
        let step = fetch.stored();
        place.after = fetch.cursor().filter(|_| !matches!(step, FetchStep::Done)).cloned();
        self.set_bookmark(place.clone()).await?;
        if !matches!(step, FetchStep::Done) {
            let _ = tell.send(Ok(FetchEvent::Page(self.progress(place)))).await;
        }
        Ok(step)
    }

    /// Work on the store that is not cut off half-way, and that [`Client::stop`](super::Client::stop) waits for.
    async fn to_its_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ClientError>> + Send + 'static,
    ) -> Result<T, ClientError> {
        self.shared.tasks.spawn(work).await.unwrap_or(Err(ClientError::Stopped))
    }

    fn name(&self) -> Vec<u8> {
        bookmarks::name(&self.stream, self.publisher, self.range)
    }

    async fn bookmark(&self) -> Result<Bookmark, ClientError> {
        let (store, name) = (self.shared.store.clone(), self.name());
        self.to_its_end(async move { blocking(move || bookmarks::read(&*store, &name)).await? }).await
    }

    async fn set_bookmark(&self, place: Bookmark) -> Result<(), ClientError> {
        let (store, name) = (self.shared.store.clone(), self.name());
        self.to_its_end(async move { blocking(move || bookmarks::write(&*store, name, &place)).await? }).await
    }

    fn progress(&self, place: &Bookmark) -> FetchProgress {
        let up_to = place.after.as_ref().map_or(self.range.to, |after| after.since);
        FetchProgress { keys: place.keys, refused: place.refused, up_to: Timestamp::from_millis(up_to) }
    }

    fn failed(&self, failure: FetchFailure) -> ClientError {
        ClientError::FetchFailed { publisher: self.publisher, stream: self.stream.clone(), failure }
    }
}
