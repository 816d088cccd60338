//! The ends of paid time, enforced by the clock: nobody has to publish or call anything, and whoever is over is out.
//!
//! Nothing announces that a grant ended, so the task looks: at the clock, which may jump, and at the source's change
//! number. Ends that fall within a window are shut out by one rekey. A message published meanwhile does not wait for it:
//! publishing looks for itself, and rekeys first.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::publishing;
use super::shared::{Shared, blocking, lock};
use crate::stream::StreamId;

/// How often clock and source are looked at. Where nothing changed a look costs two comparisons per stream.
const LOOK: Duration = Duration::from_millis(200);

/// The pause after a rekey that failed, beside the window.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// Streams with somebody to shut out, and since when that is known.
type Noticed = HashMap<StreamId, Instant>;

pub(super) async fn run(shared: Arc<Shared>) {
    resume(&shared).await;
    let mut noticed = Noticed::new();
    loop {
        let streams: Vec<StreamId> = lock(&shared.publishers).keys().cloned().collect();
        for stream in streams {
            look(&shared, &stream, &mut noticed).await;
        }
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

async fn look(shared: &Arc<Shared>, stream: &StreamId, noticed: &mut Noticed) {
    let Some(publisher) = lock(&shared.publishers).get(stream).cloned() else { return };
    // Whoever holds it is publishing or rekeying, and looks for itself.
    let Ok(mut publisher) = publisher.try_lock() else { return };
    let is_due = publishing::is_rekey_due(shared, stream, &mut publisher).await;
    publishing::prepare(shared, stream, &mut publisher).await;
    if !is_due {
        noticed.remove(stream);
        return;
    }
    let since = *noticed.entry(stream.clone()).or_insert_with(Instant::now);
    if since.elapsed() < shared.config.end_window {
        return;
    }
    match publishing::rekey(shared, stream, &mut publisher).await {
        Ok(()) => {
            tracing::info!(%stream, "a grant ended: rekeyed");
            noticed.remove(stream);
        }
        Err(error) => {
            tracing::error!(%stream, %error, "a grant ended and the rekey failed");
            // No message goes out under the old key meanwhile.
            noticed.insert(stream.clone(), Instant::now() + TRY_AGAIN);
        }
    }
}
