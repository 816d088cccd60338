//! The ends of paid time, enforced by the clock: nobody has to publish or call anything, and whoever is over is out.
//!
//! Nothing announces that a grant ended, so the task looks: at the clock, which may jump, and at the source's change
//! number. What the source told is enough for the ends that were known; where something changed it is asked, and
//! meanwhile nobody waits who publishes, nor any other stream. Ends that fall within a window are shut out by one rekey. A message
//! published meanwhile does not wait for it: publishing looks for itself, and rekeys first.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{FutureExt, StreamExt, stream};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::publishing::{self, Question, StreamPublisher};
use super::shared::{Shared, blocking, lock};
use super::stats::count;
use crate::stream::StreamId;

/// How often clock and source are looked at. Where nothing changed a look costs a few comparisons per stream.
const LOOK: Duration = Duration::from_millis(200);

/// The pause after a rekey that failed, beside the window.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// Streams looked at, and rekeyed, at a time.
const LOOKS: usize = 16;
/// Streams that the source is asked about at a time, and that it does not answer about at once. The others are asked about later.
const ASKS: usize = 32;

struct Watch {
    shared: Arc<Shared>,
    /// Streams with somebody to shut out, and since when that is known.
    noticed: Mutex<HashMap<StreamId, Instant>>,
    asks: Arc<Asks>,
}

/// What the source is being asked.
struct Asks {
    turns: Arc<Semaphore>,
    under_way: Mutex<HashSet<StreamId>>,
}

pub(super) async fn run(shared: Arc<Shared>) {
    resume(&shared).await;
    let asks = Asks { turns: Arc::new(Semaphore::new(ASKS)), under_way: Mutex::default() };
    let watch = Watch { shared, noticed: Mutex::default(), asks: Arc::new(asks) };
    loop {
        let streams: Vec<StreamId> = lock(&watch.shared.publishers).keys().cloned().collect();
        stream::iter(&streams).for_each_concurrent(LOOKS, |stream| watch.look(stream)).await;
        tokio::time::sleep(LOOK).await;
    }
}

/// Takes up every stream that this publisher has keys of: grants may have ended while it was down.
async fn resume(shared: &Arc<Shared>) {
    let worker = shared.clone();
    let scopes = match blocking(move || worker.store.scopes()).await {
        Ok(Ok(scopes)) => scopes,
        Ok(Err(error)) => {
            tracing::error!(%error, "the key store cannot be read: ends are watched for streams published since the start only");
            return;
        }
        Err(_) => return,
    };
    let own = scopes.iter().filter(|scope| scope.publisher() == shared.user.as_bytes());
    for stream in own.filter_map(|scope| StreamId::new(scope.stream()).ok()) {
        if let Err(error) = shared.publisher(&stream).await {
            tracing::error!(%stream, %error, "the ends of this stream's grants are not watched until it is published to");
        }
    }
}

impl Watch {
    async fn look(&self, stream: &StreamId) {
        let Some(publisher) = lock(&self.shared.publishers).get(stream).cloned() else { return };
        // Whoever holds it is publishing or rekeying, and looks for itself.
        let Ok(mut publisher) = publisher.try_lock() else { return };
        if !publishing::is_watched(&self.shared, stream, &mut publisher).await {
            lock(&self.noticed).remove(stream);
            return;
        }
        if let Some(question) = publisher.question(&self.shared) {
            self.ask(stream, &mut publisher, question).await;
        }
        publishing::prepare(&self.shared, stream, &mut publisher);
        if !publisher.must_rekey(&self.shared) {
            lock(&self.noticed).remove(stream);
            return;
        }
        let since = *lock(&self.noticed).entry(stream.clone()).or_insert_with(Instant::now);
        if since.elapsed() >= self.shared.config.end_window {
            self.rekey(stream, &mut publisher).await;
        }
    }

    /// An answer that the source has ready is taken in at once; a slower one is awaited in a task of its own.
    async fn ask(&self, stream: &StreamId, publisher: &mut StreamPublisher, question: Question) {
        if lock(&self.asks.under_way).contains(stream) {
            return;
        }
        let mut asking = publishing::ask(self.shared.clone(), stream.clone(), question).boxed();
        if let Some(told) = (&mut asking).now_or_never() {
            return publisher.take_in(&self.shared, stream, told).await;
        }
        let Ok(turn) = self.asks.turns.clone().try_acquire_owned() else { return };
        lock(&self.asks.under_way).insert(stream.clone());
        let (shared, asks, stream) = (self.shared.clone(), self.asks.clone(), stream.clone());
        self.shared.spawn(async move {
            let told = asking.await;
            if let Ok(publisher) = shared.publisher(&stream).await {
                publisher.lock().await.take_in(&shared, &stream, told).await;
            }
            lock(&asks.under_way).remove(&stream);
            drop(turn);
        });
    }

    async fn rekey(&self, stream: &StreamId, publisher: &mut StreamPublisher) {
        match publishing::rekey(&self.shared, stream, publisher).await {
            Ok(()) => {
                tracing::info!(%stream, "a grant ended: rekeyed");
                lock(&self.noticed).remove(stream);
            }
            Err(error) => {
                tracing::error!(%stream, %error, "a grant ended and the rekey failed");
                count(&self.shared.counters.rekeys_failed, 1);
                // No message goes out under the old key meanwhile.
                lock(&self.noticed).insert(stream.clone(), Instant::now() + TRY_AGAIN);
            }
        }
    }
}
