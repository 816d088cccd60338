//! Follows the contract's events: one task that looks at the chain every few seconds, and keeps the index.
//!
//! An own cursor over the logs, never a filter of the node's, which loses events silently. While the index is not caught up, or the
//! chain could not be asked for a while, nobody is given a list: half of one would keep somebody who ended.

mod board;
mod chain;
mod look;
mod recheck;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use veilcast_key_store::RecordStore;

use self::board::Board;
pub(super) use self::chain::ChainSource;
use self::look::{Looker, Opener};
use super::index::{IndexError, IndexLimits, LogSource, SourceError};
use crate::identity::UserId;
use crate::permission::{Grant, Permission, Refusal, Subscriber};
use crate::stream::StreamId;
use crate::time::Timestamp;

/// The longest pause after looks that failed.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// How long whoever asks about a stream for the first time waits for its list, and whoever asks right after the start.
const PATIENCE: Duration = Duration::from_secs(2);

/// How the chain is followed. The default suits Polygon.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FollowConfig {
    /// The pause between two looks at the chain: what is taken back early is seen that much later at most.
    pub poll: Duration,
    /// Blocks asked for at a time, at most. Halved whenever an endpoint cannot give so many.
    pub max_range: u64,
    /// How long an endpoint may take for the events of some blocks.
    pub deadline: Duration,
    /// How long after the last look that found everything lists are still given.
    pub max_silence: Duration,
    /// The block to begin with, the one of the contract or an earlier one. Without it that of a public network, and of any other
    /// registry the first of the chain.
    pub first_block: Option<u64>,
    /// How often the entries of those who hold something are read from the contract anew, though no event said that they changed: an
    /// endpoint may keep events back. Some hundred at each look.
    pub recheck: Duration,
    /// Entries (a user on a stream) kept of all streams together, some 150 bytes each.
    pub max_entries: u64,
}

impl Default for FollowConfig {
    fn default() -> Self {
        Self {
            poll: Duration::from_secs(3),
            max_range: 10_000,
            deadline: Duration::from_secs(20),
            max_silence: Duration::from_secs(60),
            first_block: None,
            recheck: Duration::from_secs(300),
            max_entries: 4_000_000,
        }
    }
}

/// How far the index of a registry's events is, in numbers of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The first block read.
    pub from: u64,
    /// The last one read.
    pub at: u64,
    /// The newest one there is.
    pub head: u64,
    /// Whether all of them were read not longer ago than [`FollowConfig::max_silence`]: only then lists are given.
    pub is_caught_up: bool,
}

/// What keeps the index from being up to date.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// The chain cannot be asked, or what it says cannot be true.
    #[error("the chain's events cannot be read: {0}")]
    Source(#[from] SourceError),
    /// No answer in time.
    #[error("the chain's events cannot be read: no answer within {} s", .after.as_secs())]
    Deadline {
        /// The deadline.
        after: Duration,
    },
    /// The endpoint knows fewer blocks than were read already.
    #[error("the endpoint is behind: it is at block {head}, everything up to {at} is known")]
    Behind {
        /// Its newest block.
        head: u64,
        /// The last one read.
        at: u64,
    },
    /// The store.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A stream's list is larger than what is kept.
    #[error("there is no room for the subscribers of {stream}")]
    Full {
        /// Which stream.
        stream: StreamId,
    },
}

/// Follows one registry. Dropping it ends that; [`Self::stop`] is the polite way.
pub(super) struct Follower {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// Between the task and those who ask.
struct Shared {
    board: Mutex<Board>,
    config: FollowConfig,
    wake: Notify,
    /// Looks asked for.
    asked: AtomicU64,
    /// Of those, how many had been asked for when the last finished look began; closed when the task has ended.
    served: watch::Receiver<u64>,
    is_stopping: watch::Sender<bool>,
}

impl Shared {
    fn board(&self) -> MutexGuard<'_, Board> {
        // Whoever panicked while holding it left numbers and lists, each whole.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follower {
    /// Begins, or goes on where the records say. Needs a tokio runtime.
    pub(super) fn start(
        source: Arc<dyn LogSource>,
        records: Arc<dyn RecordStore>,
        contract: UserId,
        (start, confirmations): (u64, u64),
        config: FollowConfig,
    ) -> Self {
        let board = Mutex::new(Board::new(start, confirmations));
        let (serve, served) = watch::channel(0);
        let (wake, asked, is_stopping) = (Notify::new(), AtomicU64::new(0), watch::Sender::new(false));
        let shared = Arc::new(Shared { board, config, wake, asked, served, is_stopping });
        let limits = IndexLimits { start, confirmations, entries: config.max_entries };
        let opener = Opener { source, records, contract, limits, shared: shared.clone() };
        let task = Mutex::new(Some(tokio::spawn(run(shared.clone(), opener, serve))));
        Self { shared, task }
    }

    /// Lists a stream from now on.
    pub(super) fn watch(&self, stream: &StreamId) {
        self.shared.board().listing(stream);
        self.shared.wake.notify_one();
    }

    /// Every grant of SUBSCRIBE there is or was. A stream that was never asked about is followed from now on; dropping the
    /// future changes nothing about that.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`] while the list may be incomplete.
    pub(super) async fn subscribers(&self, stream: &StreamId) -> Result<Vec<Subscriber>, Refusal> {
        let mut found = self.listing(stream);
        let awaited = self.shared.board().awaited(stream);
        if let Some(until) = awaited.map(|since| since + PATIENCE).filter(|until| *until > Instant::now()) {
            // Later it may be that nobody can tell for hours, and whoever asks has to go on without.
            let _ = tokio::time::timeout_at(until, self.look_now()).await;
            found = self.listing(stream);
        }
        found.ok_or(Refusal::Unavailable { retry_after: self.shared.config.poll })
    }

    fn listing(&self, stream: &StreamId) -> Option<Vec<Subscriber>> {
        let mut board = self.shared.board();
        let listing = board.listing(stream);
        let is_current = board.is_current(self.shared.config.max_silence);
        drop(board);
        listing.filter(|_| is_current).map(|listing| listing.subscribers().to_vec())
    }

    /// What is known of a user's permission: since when it lasts, and what was before. `None` where the stream is not followed or its
    /// list is not complete.
    pub(super) fn grant(&self, stream: &StreamId, user: UserId, permission: Permission) -> Option<Grant> {
        let mut board = self.shared.board();
        board.watch(stream);
        if !board.is_current(self.shared.config.max_silence) {
            return None;
        }
        board.known(stream)?.grant(user, permission)
    }

    /// When a stream that is followed stopped being public.
    pub(super) fn public_until(&self, stream: &StreamId, now: Timestamp) -> Option<Timestamp> {
        let mut board = self.shared.board();
        board.watch(stream);
        board.known(stream)?.public_until(now)
    }

    /// Streams that are listed.
    pub(super) fn watched(&self) -> Vec<StreamId> {
        self.shared.board().wanted()
    }

    /// A number that changes whenever an answer may have changed for a reason other than time.
    pub(super) fn changes(&self) -> u64 {
        self.shared.board().changes()
    }

    /// How far the index is.
    pub(super) fn progress(&self) -> Progress {
        let board = self.shared.board();
        Progress { is_caught_up: board.is_current(self.shared.config.max_silence), ..board.progress }
    }

    /// What was wrong with the last look.
    pub(super) fn trouble(&self) -> Option<Arc<Trouble>> {
        self.shared.board().trouble.clone()
    }

    /// Looks at the chain without waiting for the next time. Returns when a look that began after the call is over, or the
    /// follower has been stopped. Dropping the future calls nothing off.
    pub(super) async fn look_now(&self) {
        let number = self.shared.asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.shared.wake.notify_one();
        // An error means that there is nobody left to look.
        let _ = self.shared.served.clone().wait_for(|served| *served >= number).await;
    }

    /// Ends the task; when this returns it holds the store no more. Dropping the future leaves that to the task.
    pub(super) async fn stop(&self) {
        self.shared.is_stopping.send_replace(true);
        self.shared.wake.notify_one();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(error)) = match task {
            Some(task) => Some(task.await),
            None => None,
        } {
            tracing::error!(%error, "the task that follows the chain did not end well");
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.is_stopping.send_replace(true);
        self.shared.wake.notify_one();
    }
}

async fn run(shared: Arc<Shared>, opener: Opener, serve: watch::Sender<u64>) {
    let mut stopping = shared.is_stopping.subscribe();
    let (mut looker, mut failures) = (None, 0);
    loop {
        let asked = shared.asked.load(Ordering::SeqCst);
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => break,
            outcome = look(&opener, &mut looker) => {
                failures = if outcome.is_err() { failures + 1 } else { 0 };
                let (trouble, is_whole) = (outcome.unwrap_or_else(Some), failures == 0);
                if let Some(trouble) = &trouble {
                    tracing::warn!(%trouble, "the chain could not be followed");
                }
                shared.board().end_look(trouble, is_whole);
            }
        }
        serve.send_replace(asked);
        let pause = shared.config.poll.saturating_mul(1 << failures.min(16)).min(MAX_PAUSE.max(shared.config.poll));
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => break,
            () = shared.wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    if let Some(looker) = looker {
        looker.close().await;
    }
}

async fn look(opener: &Opener, looker: &mut Option<Looker>) -> Result<Option<Trouble>, Trouble> {
    let looker = match looker {
        Some(looker) => looker,
        None => looker.insert(opener.open().await?),
    };
    looker.look().await
}
