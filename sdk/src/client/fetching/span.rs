//! What the devices of one fetch share: what is asked for, how far each has come, and who is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;
use tokio::sync::{Mutex, mpsc};
use veilcast_key_store::{HistoryCursor, TimeRange};

use super::{FetchEvent, FetchProgress, MissedDevice};
use crate::client::bookmarks::{self, Bookmark, Mark};
use crate::client::error::ClientError;
use crate::client::shared::{Shared, blocking, lock};
use crate::exchange::{AskFailure, Fetch, FetchFailure};
use crate::identity::UserId;
use crate::stream::StreamId;
use crate::time::Timestamp;

pub(super) struct Span {
    pub(super) shared: Arc<Shared>,
    pub(super) stream: StreamId,
    pub(super) publisher: UserId,
    range: TimeRange,
    tell: mpsc::Sender<Result<FetchEvent, ClientError>>,
    /// Held while it is written, so that the disk has the newest.
    marks: Mutex<Bookmark>,
}

impl Span {
    pub(super) async fn open(
        shared: Arc<Shared>,
        stream: StreamId,
        publisher: UserId,
        range: TimeRange,
        tell: mpsc::Sender<Result<FetchEvent, ClientError>>,
    ) -> Result<Self, ClientError> {
        let span = Self { shared, stream, publisher, range, tell, marks: Mutex::default() };
        let (store, name, now) = (span.shared.store.clone(), span.name(), span.shared.now());
        let read = async move {
            blocking(move || {
                bookmarks::sweep(&*store, now)?;
                bookmarks::read(&*store, &name, now)
            })
            .await?
        };
        *span.marks.lock().await = span.shared.to_its_end(read).await?;
        Ok(span)
    }

    fn name(&self) -> Vec<u8> {
        bookmarks::name(&self.stream, self.publisher, self.range)
    }

    /// A fetch of it from this place on.
    pub(super) fn fetch(&self, after: Option<HistoryCursor>) -> Fetch {
        let (me, config) = (self.shared.user, self.shared.config.requester);
        Fetch::new(me, self.publisher, self.stream.clone(), self.range, after, config)
    }

    /// The devices known now: those that are somewhere, and those that an earlier fetch did not come to the end of.
    pub(super) async fn devices(&self) -> BTreeSet<PeerId> {
        let now = self.shared.now();
        let contacts = lock(&self.shared.directory).contacts(self.publisher, now);
        let mut marks = self.marks.lock().await;
        for contact in &contacts {
            marks.entry(contact.peer).or_default().heard = now;
        }
        let known: BTreeSet<PeerId> = contacts.iter().map(|contact| contact.peer).collect();
        let left = marks.iter().filter(|(_, mark)| !mark.done).map(|(peer, _)| *peer);
        left.chain(known).collect()
    }

    pub(super) async fn was_begun(&self) -> bool {
        self.marks.lock().await.values().any(|mark| mark.done || mark.after.is_some())
    }

    /// Where this device goes on.
    pub(super) async fn after(&self, device: &PeerId) -> Option<HistoryCursor> {
        self.marks.lock().await.get(device).and_then(|mark| mark.after.clone())
    }

    /// A page of a device is stored: keeps what came of it.
    pub(super) async fn keep(&self, device: PeerId, change: impl FnOnce(&mut Mark)) -> Result<(), ClientError> {
        let mut marks = self.marks.lock().await;
        change(marks.entry(device).or_default());
        self.write(&marks).await?;
        if marks.values().all(|mark| mark.done) {
            return Ok(());
        }
        let progress = sum(self.range, &marks);
        drop(marks);
        self.tell(FetchEvent::Page(progress)).await;
        Ok(())
    }

    async fn write(&self, marks: &Bookmark) -> Result<(), ClientError> {
        let (store, name, marks) = (self.shared.store.clone(), self.name(), marks.clone());
        self.shared.to_its_end(async move { blocking(move || bookmarks::write(&*store, name, &marks)).await? }).await
    }

    pub(super) async fn tell(&self, event: FetchEvent) {
        let _ = self.tell.send(Ok(event)).await;
    }

    /// Says so, and waits.
    pub(super) async fn wait(&self, device: Option<PeerId>, failure: AskFailure, after: Duration) {
        self.tell(FetchEvent::Waiting { device, failure, after }).await;
        tokio::time::sleep(after).await;
    }

    pub(super) async fn progress(&self) -> FetchProgress {
        sum(self.range, &*self.marks.lock().await)
    }

    /// All were asked, and these not to the end. What an earlier fetch had asked to the end is not missed.
    pub(super) async fn close(&self, missed: BTreeMap<PeerId, FetchFailure>) -> Result<FetchProgress, ClientError> {
        let marks = self.marks.lock().await.clone();
        let progress = sum(self.range, &marks);
        let is_missed = |device: &PeerId| !marks.get(device).is_some_and(|mark| mark.done);
        let missed: Vec<MissedDevice> = missed
            .into_iter()
            .filter(|(device, _)| is_missed(device))
            .map(|(device, failure)| MissedDevice { device, failure })
            .collect();
        let Some(first) = missed.first() else {
            self.write(&Bookmark::new()).await?;
            return Ok(progress);
        };
        self.write(&marks).await?;
        let nobody_was_asked = !marks.values().any(|mark| mark.done);
        if nobody_was_asked && missed.iter().all(|missed| missed.failure == first.failure) {
            return Err(self.failed(first.failure));
        }
        let (publisher, stream) = (self.publisher, self.stream.clone());
        Err(ClientError::FetchIncomplete { publisher, stream, progress, missed })
    }

    pub(super) fn failed(&self, failure: FetchFailure) -> ClientError {
        ClientError::FetchFailed { publisher: self.publisher, stream: self.stream.clone(), failure }
    }
}

/// What all devices gave, and how far the last of them has come.
fn sum(range: TimeRange, marks: &Bookmark) -> FetchProgress {
    let come_to = |mark: &Mark| match &mark.after {
        _ if mark.done => range.to,
        Some(after) => after.since,
        None => range.from,
    };
    let up_to = marks.values().map(come_to).min().unwrap_or(range.from);
    FetchProgress {
        keys: marks.values().map(|mark| mark.keys).sum(),
        refused: marks.values().map(|mark| mark.refused).sum(),
        up_to: Timestamp::from_millis(up_to),
    }
}
