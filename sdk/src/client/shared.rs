//! What the tasks of one client share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OnceCell, Semaphore, mpsc, watch};
use tokio_util::task::TaskTracker;
use veilcast_key_store::{GroupKey, Store};

use super::access::Access;
use super::announcing::Joined;
use super::asking::{Ask, KEYS_MAILBOX};
use super::auditing::Auditor;
use super::bounded;
use super::config::ClientConfig;
use super::depots::Answered;
use super::directory::Directory;
use super::error::ClientError;
use super::finding::Finder;
use super::gate::ProtocolGate;
use super::holders::Holders;
use super::metrics::Meters;
use super::publishing::StreamPublisher;
use super::pushing::PushScreen;
use super::stats::Counters;
use super::storing::Storage;
use super::subscribing::{Feed, KeyNews};
use super::workers::Workers;
use crate::cipher::RsaPair;
use crate::exchange::{HistoryPolicies, Screen};
use crate::identity::{Identity, UserId};
use crate::network::Network;
use crate::permission::{AccessList, Issuer, LocalRegistry, SignedGrants};
use crate::stream::{StreamId, StreamPart};
use crate::subscriber::Arrival;
use crate::time::{Clock, Timestamp};

pub(super) struct Shared {
    pub(super) identity: Identity,
    pub(super) user: UserId,
    pub(super) config: ClientConfig,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) network: Network,
    pub(super) gate: Arc<ProtocolGate>,
    pub(super) store: Arc<dyn Store>,
    pub(super) registry: Arc<LocalRegistry>,
    /// What decides, narrowed by this publisher's own lists.
    pub(super) source: Arc<AccessList>,
    pub(super) grants: Arc<SignedGrants>,
    pub(super) issuer: Arc<Issuer>,
    /// Whether what owners signed decides.
    pub(super) by_grants: bool,
    pub(super) access: Access,
    pub(super) directory: Mutex<Directory>,
    pub(super) finder: Finder,
    /// Where in the DHT this device's record is.
    pub(super) slot: AtomicU8,
    pub(super) screen: Mutex<Screen>,
    pub(super) history: HistoryPolicies,
    pub(super) pushes: Mutex<PushScreen>,
    pub(super) holders: Holders,
    pub(super) audit: Auditor,
    pub(super) publishers: Mutex<HashMap<StreamId, Arc<tokio::sync::Mutex<StreamPublisher>>>>,
    pub(super) readers: Mutex<Vec<Reader>>,
    pub(super) asking: mpsc::Sender<Ask>,
    pub(super) rsa: Arc<OnceCell<Arc<RsaPair>>>,
    pub(super) counters: Counters,
    pub(super) meters: Meters,
    pub(super) stopping: watch::Sender<bool>,
    pub(super) announce_soon: Notify,
    /// Where this node is has changed, as far as its stored streams are concerned.
    pub(super) depots_soon: Notify,
    /// Storage nodes that answered.
    pub(super) answered: Answered,
    /// Of a storage node.
    pub(super) storage: Option<Storage>,
    pub(super) peers_joined: Notify,
    pub(super) tasks: TaskTracker,
    /// Who makes answers.
    pub(super) workers: Arc<Workers>,
    /// Keys being handed out.
    pub(super) handing: Arc<Semaphore>,
    /// Rotated keys being stored.
    pub(super) keeping: Arc<Semaphore>,
    pub(super) joined: Mutex<Joined>,
    /// Rises whenever a key ring changes.
    pub(super) rings_changed: AtomicU64,
}

/// Where a subscription takes in messages and news of keys.
#[derive(Clone)]
pub(super) struct Reader {
    pub(super) stream: StreamId,
    pub(super) parts: Vec<StreamPart>,
    pub(super) messages: bounded::Sender<Feed>,
    pub(super) keys: mpsc::Sender<KeyNews>,
}

impl Reader {
    /// Whether it still takes messages of this partition.
    pub(super) fn reads(&self, part: &StreamPart) -> bool {
        !self.messages.is_closed() && self.parts.contains(part)
    }
}

impl Shared {
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// # Errors
    /// [`ClientError::DecidedElsewhere`] where the local registry decides nothing.
    pub(super) fn must_decide_here(&self, stream: &StreamId) -> Result<(), ClientError> {
        match self.by_grants {
            true => Err(ClientError::DecidedElsewhere { stream: stream.clone() }),
            false => Ok(()),
        }
    }

    /// The subscriber's RSA pair, made once.
    pub(super) async fn rsa_pair(&self) -> Result<Arc<RsaPair>, ClientError> {
        make_rsa_pair(&self.rsa, self.config.rsa_bits).await
    }

    /// Runs a task that is cut off when the client stops.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut stopping = self.stopping.subscribe();
        if *stopping.borrow() {
            return;
        }
        let task = async move {
            tokio::select! {
                _ = stopping.changed() => {}
                () = task => {}
            }
        };
        self.tasks.spawn(TASKS.scope(self.tasks.clone(), task));
    }

    /// A task of somebody's own that a client that stops waits for, and for the work it hands to other threads.
    pub(super) fn counted<T, F: Future<Output = T>>(&self, task: F) -> impl Future<Output = T> + use<T, F> {
        self.tasks.track_future(TASKS.scope(self.tasks.clone(), task))
    }

    /// Work that changes the store and what is in memory, which a caller that drops the future does not cut off half-way, and that
    /// [`Client::stop`](super::Client::stop) waits for.
    pub(super) async fn to_its_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ClientError>> + Send + 'static,
    ) -> Result<T, ClientError> {
        self.tasks.spawn(work).await.unwrap_or(Err(ClientError::Stopped))
    }

    pub(super) fn readers_of(&self, stream: &StreamId) -> Vec<Reader> {
        lock(&self.readers).iter().filter(|reader| &reader.stream == stream).cloned().collect()
    }

    /// # Errors
    /// [`ClientError::Stopped`]: nobody would ever tell this reader anything.
    pub(super) fn add_reader(&self, reader: Reader) -> Result<(), ClientError> {
        let mut readers = lock(&self.readers);
        if *self.stopping.borrow() {
            return Err(ClientError::Stopped);
        }
        readers.retain(|reader| !reader.keys.is_closed());
        readers.push(reader);
        Ok(())
    }

    /// Tells every reader of the stream, and the task that asks.
    pub(super) async fn key_is_here(&self, publisher: UserId, stream: &StreamId, key: GroupKey, by: Arrival) {
        let told = Ask::Arrived { publisher, stream: stream.clone(), key_id: key.id().clone() };
        // A full mailbox only means that the key is asked for once more than needed.
        let _ = self.asking.try_send(told);
        self.tell_readers(stream, KeyNews::Arrived { publisher, key, by }).await;
    }

    pub(super) async fn tell_readers(&self, stream: &StreamId, news: KeyNews) {
        for reader in self.readers_of(stream) {
            // A reader always takes news, unless it has ended.
            let _ = reader.keys.send(news.clone()).await;
        }
    }

    pub(super) async fn stop(&self) {
        // While the network still knows where they are.
        self.holders.flush().await;
        self.stopping.send_replace(true);
        lock(&self.readers).clear();
        self.network.stop().await;
        self.holders.end().await;
        self.audit.end().await;
        // Whoever stopped a client may open its store again.
        self.tasks.close();
        self.tasks.wait().await;
        self.settle_publishers().await;
    }
}

/// The pair, made by the first who needs it. It holds nothing of the client, which need not wait for it to stop.
pub(super) async fn make_rsa_pair(cell: &OnceCell<Arc<RsaPair>>, bits: usize) -> Result<Arc<RsaPair>, ClientError> {
    let make = || async move { Ok(Arc::new(blocking(move || RsaPair::generate(bits, &mut rand::rng())).await??)) };
    cell.get_or_try_init(make).await.cloned()
}

/// News of keys queued for one reader.
pub(super) const READER_KEYS: usize = KEYS_MAILBOX;

/// Locks what only this client's own short, panic-free sections touch.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

tokio::task_local! {
    /// The client that the present task belongs to, for the work it hands to other threads.
    static TASKS: TaskTracker;
}

/// Work that counts as one of the present task's client's own until it is done, or dropped.
pub(super) fn counted_work<T>(work: impl FnOnce() -> T + Send + 'static) -> impl FnOnce() -> T + Send + 'static {
    let counted = TASKS.try_with(TaskTracker::token).ok();
    move || {
        let _counted = counted;
        work()
    }
}

/// Runs work that waits for the disk, or computes for long, off the async workers. A task that is cut off leaves its work
/// running: it counts as one of the client's own, so that [`Shared::stop`] waits for whatever may hold the store.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ClientError> {
    tokio::task::spawn_blocking(counted_work(work)).await.map_err(|error| match error.try_into_panic() {
        // A bug here is not the caller's stopped client.
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => ClientError::Stopped,
    })
}
