//! The storage role: keeping the messages of some streams for those who come later.
//!
//! One task for each stream takes what the gate has verified, asks whether its author may publish, and appends in batches, one
//! wait for the disk each. Where the permission source does not answer, messages wait as they do for a subscription. What is
//! refused is dropped and counted. Nothing here has a key: envelopes are kept as they came.
//!
//! A store that failed once is used no more: nothing is kept or given then, this node announces itself no longer, and whoever
//! runs it is told ([`Client::storage_failed`]).

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::Client;
use super::assigning::Owners;
use super::error::ClientError;
use super::keeping::Keeper;
use super::shared::{Shared, blocking, lock};
use super::stats::count;
use super::subscribing;
use crate::storage::{MessageStore, ResendLimits, ResendScreen, StorageError, StorageState};
use crate::stream::{StreamId, StreamPart};
use crate::wire::{MessageContent, Verified};

/// Frames waiting to be stored. Beyond, the node stops reading: its neighbours wait rather than lose what is to be kept.
const INBOX: usize = 1024;
/// And the bytes of their messages, of all streams together.
const INBOX_BYTES: usize = 64 << 20;
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
    /// Pages being read.
    pub(super) reads: Semaphore,
    pub(super) long_reads: Semaphore,
    pub(super) counts: Counts,
    /// Streams that its operator named.
    told: BTreeSet<StreamId>,
    /// Whose records name further ones.
    pub(super) owners: Owners,
    inboxes: Mutex<BTreeMap<StreamId, Inbox>>,
    /// Of the inboxes, in bytes.
    room: Arc<Semaphore>,
    failed: watch::Sender<Option<Arc<StorageError>>>,
}

/// What became of messages since the start.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) stored: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) unchecked: AtomicU64,
    pub(super) out_of_range: AtomicU64,
    pub(super) evicted: AtomicU64,
    pub(super) unannounced: AtomicU64,
    pub(super) unreadable: AtomicU64,
}

/// What a storage node did with messages since it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct StorageCounts {
    /// Stored, and on disk.
    pub stored: u64,
    /// Not stored, because their authors may not publish.
    pub refused: u64,
    /// Not stored, because for as long as they could wait nobody could tell whether their authors may publish.
    pub unchecked: u64,
    /// Not stored: older than the limit on age, or dated more than an hour ahead.
    pub out_of_range: u64,
    /// Given up again, for want of room or for their age.
    pub evicted: u64,
    /// Streams, among those stored, that could not be announced the last time: readers do not find this node for them.
    pub unannounced: u64,
    /// Readers' requests that were refused because the store could not be read.
    pub unreadable: u64,
}

/// Messages of a frame, and their room in the inbox, which is free again once they are stored.
pub(super) struct Taken {
    pub(super) messages: Vec<Verified<MessageContent>>,
    pub(super) room: OwnedSemaphorePermit,
}

/// The way to a stream's tasks, which end when it is dropped.
struct Inbox {
    messages: mpsc::Sender<Taken>,
    _kept: watch::Sender<()>,
}

/// A stream that is kept from now on, and what its tasks read from.
pub(super) struct Begun {
    stream: StreamId,
    messages: mpsc::Receiver<Taken>,
    /// Ends when the stream is kept no more.
    kept: watch::Receiver<()>,
}

impl Storage {
    pub(super) fn new(
        store: Arc<dyn MessageStore>,
        told: BTreeSet<StreamId>,
        owners: Owners,
        screen: ResendScreen,
        limits: &ResendLimits,
    ) -> Self {
        Self {
            store,
            screen: Mutex::new(screen),
            reads: Semaphore::new(limits.reads.max(1)),
            long_reads: Semaphore::new(limits.long_reads.max(1)),
            counts: Counts::default(),
            told,
            owners,
            inboxes: Mutex::default(),
            room: Arc::new(Semaphore::new(INBOX_BYTES)),
            failed: watch::Sender::new(None),
        }
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
        let Some(inbox) = inbox else { return };
        let bytes: usize = messages.iter().map(|message| message.envelope().len()).sum();
        let bytes = u32::try_from(bytes.min(INBOX_BYTES)).unwrap_or(u32::MAX);
        if let Ok(room) = self.room.clone().acquire_many_owned(bytes).await {
            let _ = inbox.send(Taken { messages, room }).await;
        }
    }

    /// Nothing is kept or given any more.
    pub(super) fn fail(&self, error: StorageError) {
        tracing::error!(%error, "the message store failed, nothing is stored any more");
        self.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            failed.get_or_insert_with(|| Arc::new(error));
            first
        });
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.borrow().is_some()
    }

    /// Returns once the store failed.
    pub(super) async fn failure(&self) -> Arc<StorageError> {
        let mut failed = self.failed.subscribe();
        let failure = failed.wait_for(Option::is_some).await.ok().and_then(|failure| (*failure).clone());
        match failure {
            Some(failure) => failure,
            None => std::future::pending().await,
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

    /// What this client did with messages that it may have to store; `None` where it has no message store.
    pub fn storage_counts(&self) -> Option<StorageCounts> {
        self.shared.storage.as_ref().map(|storage| storage.counts.snapshot())
    }

    /// Returns once the message store failed, and why. From then on this client keeps nothing, tells readers that it is not
    /// available, and is announced as a storage node no more: only opening the store again, after a look at the disk, helps. Never
    /// returns for a client without a message store. Dropping the future changes nothing.
    pub async fn storage_failed(&self) -> Arc<StorageError> {
        match &self.shared.storage {
            Some(storage) => storage.failure().await,
            None => std::future::pending().await,
        }
    }
}

impl Counts {
    pub(super) fn snapshot(&self) -> StorageCounts {
        let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StorageCounts {
            stored: now(&self.stored),
            refused: now(&self.refused),
            unchecked: now(&self.unchecked),
            out_of_range: now(&self.out_of_range),
            evicted: now(&self.evicted),
            unannounced: now(&self.unannounced),
            unreadable: now(&self.unreadable),
        }
    }
}

/// Starts the tasks of streams that are kept from now on.
pub(super) fn start(shared: &Arc<Shared>, begun: Vec<Begun>) {
    for Begun { stream, messages, kept } in begun {
        shared.spawn(take_part(shared.clone(), stream.clone(), kept));
        // Not cut off at the stop: what has arrived is still stored.
        shared.tasks.spawn(keep(shared.clone(), stream, messages));
    }
}

/// Keeps one stream until the client stops or the store fails. A panic below is a failure, too: none is silent.
async fn keep(shared: Arc<Shared>, stream: StreamId, inbox: mpsc::Receiver<Taken>) {
    let Some(storage) = &shared.storage else { return };
    let keeper = AssertUnwindSafe(Keeper::new(shared.clone(), stream).run(storage, inbox)).catch_unwind();
    let kept = tokio::select! {
        kept = keeper => kept,
        _ = storage.failure() => return,
    };
    if let Err(error) = kept.unwrap_or(Err(StorageError::Broken)) {
        storage.fail(error);
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
            Ok(Ok(evicted)) => count(&storage.counts.evicted, evicted),
            Ok(Err(error)) => return storage.fail(error),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;
    use crate::message::{Draft, Payload, compose};
    use crate::storage::{MemoryMessageStore, StorageLimits};
    use crate::time::Timestamp;
    use crate::wire::MessageRef;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stream_that_is_to_be_kept_just_when_the_client_stops_holds_nothing_up() {
        let identity = Identity::from_secret_bytes(&[1; 32]).unwrap();
        let stream = StreamId::of(identity.user(), "a").unwrap();
        let store = Arc::new(MemoryMessageStore::new(StorageLimits::default()));
        let client = Client::builder(identity).storage(store, []).start().await.unwrap();
        client.shared.stopping.send_replace(true);
        let begun = client.shared.storage.as_ref().unwrap().assign(BTreeSet::from([stream]));
        super::start(&client.shared, begun);
        tokio::time::timeout(Duration::from_secs(180), client.stop()).await.unwrap();
    }

    #[tokio::test]
    async fn messages_that_wait_for_the_disk_are_bounded_in_bytes_over_all_streams_together() {
        let identity = Identity::from_secret_bytes(&[1; 32]).unwrap();
        let streams = ["a", "b"].map(|path| StreamId::of(identity.user(), path).unwrap());
        let at = MessageRef { timestamp: Timestamp::from_secs(1), sequence: 0 };
        let part = streams[0].part(0).unwrap();
        let draft = Draft { part, chain: [1; 16], at, previous: None, key_updates: Vec::new() };
        let payload = Payload::binary(vec![0; 1 << 20]);
        let message = compose(draft, &payload, None, &identity, &mut rand::rng()).unwrap();
        let fits = INBOX_BYTES / message.envelope().len();

        let store = Arc::new(MemoryMessageStore::new(StorageLimits::default()));
        let limits = ResendLimits::default();
        let screen = ResendScreen::new(identity.user(), limits, Timestamp::from_secs(1));
        let owners = Owners::new(BTreeSet::new());
        let storage = Storage::new(store, streams.iter().cloned().collect(), owners, screen, &limits);
        let mut begun = storage.assign(BTreeSet::new());
        for n in 0..fits {
            let offered = storage.offer(&streams[n % 2], vec![message.clone()]).now_or_never();
            assert!(offered.is_some(), "{n} of {fits}");
        }
        assert!(storage.offer(&streams[0], vec![message.clone()]).now_or_never().is_none(), "it waits");
        let taken = begun[1].messages.try_recv().unwrap();
        assert!(storage.offer(&streams[0], vec![message.clone()]).now_or_never().is_none(), "it is not stored yet");
        drop(taken);
        assert!(storage.offer(&streams[0], vec![message]).now_or_never().is_some());
    }
}
