//! A contract has no list of subscribers: its events are read, all of them the first time, and that may take long.

use std::sync::Weak;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::time::Instant;
use veilcast::StreamId;
use veilcast::permission::ethereum::{EthereumRegistry, Progress, Trouble};
use veilcast::permission::{PermissionSource, Subscriber};

use super::ChainFailure;
use crate::output::Output;

/// How often it is looked how far it is.
const LOOK: Duration = Duration::from_millis(100);
/// How often a publisher is told, and programs.
const TELL: Duration = Duration::from_secs(5);
/// How long trouble lasts, without a block read meanwhile, before whoever waits for a list is told that there is none.
const PATIENCE: Duration = Duration::from_secs(15);

/// The list of a stream, as soon as all events are read. What was read is kept: the next time goes on where this one was.
pub(crate) async fn subscribers(
    registry: &EthereumRegistry,
    stream: &StreamId,
    output: Output<'_>,
) -> Result<Vec<Subscriber>, ChainFailure> {
    registry.watch(stream);
    let bar = bar(output);
    let (mut moved, mut told, mut at) = (Instant::now(), Instant::now(), None);
    loop {
        if let Ok(list) = registry.subscribers(stream).await {
            bar.finish_and_clear();
            return Ok(list);
        }
        let progress = registry.progress();
        if progress.map(|progress| progress.at) != at {
            (moved, at) = (Instant::now(), progress.map(|progress| progress.at));
        }
        if let Some(trouble) = registry.trouble().filter(|trouble| moved.elapsed() > PATIENCE || is_final(trouble)) {
            bar.finish_and_clear();
            return Err(ChainFailure::Events { trouble });
        }
        if let Some(progress) = progress {
            show(&bar, progress);
            if output.is_json() && told.elapsed() >= TELL {
                told = Instant::now();
                say(progress, output);
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waiting does not help.
fn is_final(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Index(_) | Trouble::Full { .. })
}

/// Tells a publisher how far it is until all events are read: until then who was taken back early is not noticed.
/// Ends with the registry.
pub(crate) async fn tell(registry: Weak<EthereumRegistry>, output: Output<'static>) {
    let mut is_first = true;
    loop {
        tokio::time::sleep(TELL).await;
        let Some(registry) = registry.upgrade() else { return };
        let Some(progress) = registry.progress() else { return };
        if progress.is_caught_up {
            if !is_first {
                output.note("caught_up", "all of the contract's events are read");
            }
            return;
        }
        is_first = false;
        match registry.trouble() {
            Some(trouble) => output.note("chain_trouble", format!("{trouble}; trying again")),
            None => say(progress, output),
        }
    }
}

fn say(progress: Progress, output: Output) {
    let Progress { at, head, .. } = progress;
    let text =
        format!("reading the contract's events: block {at} of {head}; until then nobody taken back early is noticed");
    output.event(text, &json!({ "event": "catching_up", "at": at, "head": head }));
}

fn bar(output: Output) -> ProgressBar {
    if !output.draws() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(1);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {msg}") {
        bar.set_style(style);
    }
    bar.set_message("reading the contract's events");
    bar
}

fn show(bar: &ProgressBar, progress: Progress) {
    let Progress { from, at, head, .. } = progress;
    bar.set_length(head.saturating_sub(from).max(1));
    bar.set_position(at.saturating_sub(from));
    bar.set_message(format!("reading the contract's events: block {at} of {head}"));
}
