//! The storage role: keeping the messages of some streams for those who come later.
//!
//! One task for each stream takes what the gate has verified, asks whether its author may publish, and appends in batches, one
//! wait for the disk each. Where the permission source does not answer, messages wait as they do for a subscription. What is
//! refused is dropped and counted. Nothing here has a key: envelopes are kept as they came.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::Client;
use super::assigning::Owners;
use super::checks::{Checked, Checks};
use super::error::ClientError;
use super::shared::{Shared, blocking, lock};
use super::subscribing;
use crate::permission::Permission;
use crate::storage::{MessageStore, ResendScreen, StorageState};
use crate::stream::{StreamId, StreamPart};
use crate::subscriber::Unchecked;
use crate::wire::{MessageContent, Verified};

/// Frames waiting to be stored. Beyond, the node stops reading: its neighbours wait rather than lose what is to be kept.
const INBOX: usize = 1024;
/// Messages appended together.
const BATCH: usize = 1024;
/// How often it is looked for messages that have become too old.
const LOOK: Duration = Duration::from_secs(30);
/// How often it is looked whether a stream has got more partitions.
const PARTITIONS: Duration = Duration::from_secs(60);
/// Where the permission source cannot tell, sooner.
const SOONER: Duration = Duration::from_secs(1);

/// What a storage node has beside other nodes.
pub(super) struct Storage {
    pub(super) store: Arc<dyn MessageStore>,
    pub(super) screen: Mutex<ResendScreen>,
    /// Streams that its operator named.
    told: BTreeSet<StreamId>,
    /// Whose records name further ones.
    pub(super) owners: Owners,
    inboxes: Mutex<BTreeMap<StreamId, Inbox>>,
    refused: AtomicU64,
}

/// The way to a stream's tasks, which end when it is dropped.
struct Inbox {
    messages: mpsc::Sender<Vec<Verified<MessageContent>>>,
    _kept: watch::Sender<()>,
}

/// A stream that is kept from now on, and what its tasks read from.
pub(super) struct Begun {
    stream: StreamId,
    messages: mpsc::Receiver<Vec<Verified<MessageContent>>>,
    /// Ends when the stream is kept no more.
    kept: watch::Receiver<()>,
}

impl Storage {
    pub(super) fn new(
        store: Arc<dyn MessageStore>,
        told: BTreeSet<StreamId>,
        owners: Owners,
        screen: ResendScreen,
    ) -> Self {
        let (screen, refused) = (Mutex::new(screen), AtomicU64::new(0));
        Self { store, screen, told, owners, inboxes: Mutex::default(), refused }
    }

    pub(super) fn keeps(&self, stream: &StreamId) -> bool {
        lock(&self.inboxes).contains_key(stream)
    }

    pub(super) fn streams(&self) -> Vec<StreamId> {
        lock(&self.inboxes).keys().cloned().collect()
    }

    /// Keeps the streams that its operator named and these, and no others. Answers those that it did not keep before, for
    /// [`start`].
    pub(super) fn assign(&self, assigned: BTreeSet<StreamId>) -> Vec<Begun> {
        let mut inboxes = lock(&self.inboxes);
        inboxes.retain(|stream, _| self.told.contains(stream) || assigned.contains(stream));
        let mut begun = Vec::new();
        for stream in self.told.union(&assigned) {
            if !inboxes.contains_key(stream) {
                let ((sender, messages), (_kept, kept)) = (mpsc::channel(INBOX), watch::channel(()));
                inboxes.insert(stream.clone(), Inbox { messages: sender, _kept });
                begun.push(Begun { stream: stream.clone(), messages, kept });
            }
        }
        begun
    }

    /// Verified messages of one stream. Waits while there is no room.
    pub(super) async fn offer(&self, stream: &StreamId, messages: Vec<Verified<MessageContent>>) {
        let inbox = lock(&self.inboxes).get(stream).map(|inbox| inbox.messages.clone());
        if let Some(inbox) = inbox {
            let _ = inbox.send(messages).await;
        }
    }
}

impl Client {
    /// What this client's message store holds; `None` where it has none.
    ///
    /// # Errors
    /// [`ClientError::Storage`].
    pub async fn storage_state(&self) -> Result<Option<StorageState>, ClientError> {
        let Some(storage) = &self.shared.storage else { return Ok(None) };
        let store = storage.store.clone();
        Ok(Some(blocking(move || store.state()).await??))
    }

    /// How many messages were not stored because their authors may not publish.
    pub fn refused_by_storage(&self) -> u64 {
        self.shared.storage.as_ref().map_or(0, |storage| storage.refused.load(Ordering::Relaxed))
    }
}

/// Starts the tasks of streams that are kept from now on.
pub(super) fn start(shared: &Arc<Shared>, begun: Vec<Begun>) {
    for Begun { stream, messages, kept } in begun {
        shared.spawn(take_part(shared.clone(), stream.clone(), kept));
        // Not cut off at the stop: what has arrived is still stored.
        shared.tasks.spawn(Keeper::new(shared.clone(), stream).run(messages));
    }
}

/// Takes part in every partition of a stream that is known, as long as it is kept.
async fn take_part(shared: Arc<Shared>, stream: StreamId, mut kept: watch::Receiver<()>) {
    let mut parts = Vec::new();
    tokio::select! {
        () = join(&shared, &stream, &mut parts) => {}
        _ = kept.changed() => {}
    }
    subscribing::leave(&shared, &stream, &parts).await;
}

async fn join(shared: &Arc<Shared>, stream: &StreamId, parts: &mut Vec<StreamPart>) {
    loop {
        let info = shared.stream_info(stream).await;
        let count = info.as_ref().ok().and_then(Option::as_ref).map_or(1, |info| info.partitions);
        *parts = (0..count).filter_map(|n| stream.part(n).ok()).collect();
        for part in parts.iter() {
            if let Err(error) = shared.network.join(&part.topic()).await {
                tracing::warn!(%part, %error, "a partition is not stored");
            }
        }
        tokio::time::sleep(if info.is_ok() { PARTITIONS } else { SOONER }).await;
    }
}

/// Gives up, from time to time, what has become too old.
pub(super) async fn evict(shared: Arc<Shared>) {
    let Some(storage) = &shared.storage else { return };
    loop {
        tokio::time::sleep(LOOK).await;
        let (store, now) = (storage.store.clone(), shared.now());
        match blocking(move || store.evict(now)).await {
            Ok(Ok(0)) => {}
            Ok(Ok(evicted)) => tracing::debug!(evicted, "old messages were given up"),
            Ok(Err(error)) => tracing::error!(%error, "old messages could not be given up"),
            Err(_) => return,
        }
    }
}

struct Keeper {
    shared: Arc<Shared>,
    stream: StreamId,
    unchecked: Unchecked,
    checks: Checks,
    batch: Vec<Verified<MessageContent>>,
}

impl Keeper {
    fn new(shared: Arc<Shared>, stream: StreamId) -> Self {
        Self {
            unchecked: Unchecked::new(shared.config.intake),
            checks: Checks::new(shared.clone(), stream.clone()),
            shared,
            stream,
            batch: Vec::new(),
        }
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Vec<Verified<MessageContent>>>) {
        let mut stopping = self.shared.stopping.subscribe();
        loop {
            let pause = self.pause();
            tokio::select! {
                biased;
                Some(checked) = self.checks.next(), if self.checks.any_under_way() => self.checked(checked),
                heard = inbox.recv() => match heard {
                    Some(messages) => self.messages(messages),
                    None => break,
                },
                _ = stopping.changed() => break,
                () = tokio::time::sleep(pause) => {}
            }
            while self.batch.len() < BATCH
                && let Ok(messages) = inbox.try_recv()
            {
                self.messages(messages);
            }
            self.check_due();
            self.store().await;
        }
        inbox.close();
        while let Ok(messages) = inbox.try_recv() {
            self.messages(messages);
        }
        self.store().await;
    }

    fn pause(&self) -> Duration {
        let wake = self.unchecked.next_wake(self.checks.has_room_for_strangers()).filter(|_| self.checks.has_room());
        let pause = wake.map(|at| at.since(self.shared.now()).max(Duration::from_millis(1)));
        pause.unwrap_or(Duration::from_secs(3600))
    }

    fn messages(&mut self, messages: Vec<Verified<MessageContent>>) {
        for message in messages {
            let author = message.content().publisher;
            let waits = self.unchecked.waits_for(author);
            match self.shared.checked(&self.stream, author, Permission::Publish).filter(|_| !waits) {
                Some(Ok(_)) => self.batch.push(message),
                Some(Err(_)) => self.refused(1),
                None => {
                    let stranger = self.checks.is_stranger(author);
                    let dropped = self.unchecked.push(self.shared.now(), message, stranger);
                    self.refused(u64::from(dropped.is_some()));
                    self.check_due();
                }
            }
        }
    }

    fn check_due(&mut self) {
        while self.checks.has_room() {
            let strangers = self.checks.has_room_for_strangers();
            let Some(author) = self.unchecked.begin_next(self.shared.now(), strangers) else { return };
            if let Some(checked) = self.checks.begin(author) {
                self.checked(checked);
            }
        }
    }

    fn checked(&mut self, (author, answer): Checked) {
        let dropped = match answer {
            Ok(_) => {
                self.batch.append(&mut self.unchecked.take(author));
                0
            }
            Err(refusal) => match refusal.retry_after() {
                Some(after) => self.unchecked.put_off(self.shared.now(), author, after),
                None => self.unchecked.take(author).len(),
            },
        };
        self.refused(dropped as u64);
    }

    fn refused(&self, n: u64) {
        if let Some(storage) = &self.shared.storage {
            storage.refused.fetch_add(n, Ordering::Relaxed);
        }
    }

    async fn store(&mut self) {
        let Some(storage) = self.shared.storage.as_ref().filter(|_| !self.batch.is_empty()) else { return };
        let (store, now, batch) = (storage.store.clone(), self.shared.now(), std::mem::take(&mut self.batch));
        if let Ok(Err(error)) = blocking(move || store.append(now, &batch)).await {
            tracing::error!(stream = %self.stream, %error, "messages could not be stored");
        }
    }
}
