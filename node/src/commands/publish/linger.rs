//! After the last line: whoever lags behind still needs keys, and only a running publisher answers.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use veilcast::client::Client;

/// How long nobody must have asked.
const QUIET: Duration = Duration::from_secs(2);
/// How often to look.
const LOOK: Duration = Duration::from_millis(100);

/// Returns once no key request has come for 2 s, and after `at_most` in any case. Where somebody must ask, so that anything is read at
/// all, the first request is waited for, however slow whoever asks may be.
pub(super) async fn until_quiet(client: &Client, must_be_asked: bool, at_most: Duration) {
    let requests = || client.stats().key_requests_received;
    let start = Instant::now();
    let (mut seen, mut since) = (requests(), start);
    let waits = |since: Instant| since.elapsed() < QUIET || (must_be_asked && requests() == 0);
    while waits(since) && start.elapsed() < at_most {
        sleep(LOOK.min(at_most)).await;
        if requests() != seen {
            (seen, since) = (requests(), Instant::now());
        }
    }
}
