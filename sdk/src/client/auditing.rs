//! The audit log behind the answers: what was given and refused is collected in memory, bounded, and written in batches, one
//! wait for the disk and one signature each, so that no answer waits for it.
//!
//! A crash loses the last batch, and the counts of what repeated itself within the last ten minutes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use veilcast_key_store::KeyId;

use super::error::ClientError;
use super::shared::{Shared, blocking, lock};
use super::stats::count;
use crate::audit::{AuditHead, AuditLog, AuditPace, AuditReport, Collector, LoggedEntry};
use crate::identity::UserId;
use crate::permission::{Period, Refusal};
use crate::publisher::{Given, Place};
use crate::stream::StreamId;
use crate::time::Timestamp;
use crate::wire::{KeyAnswer, KeyRequest, Verified};

/// Entries written together.
const BATCH: usize = 1024;
/// How long the first entry of a batch waits for more.
const LINGER: Duration = Duration::from_millis(250);
/// How often it is looked whether something that was counted is due, or a disk that failed is back.
const TICK: Duration = Duration::from_secs(1);

/// What the writing task is told beside entries.
enum Order {
    /// Everything so far is to be on disk.
    Flush(oneshot::Sender<()>),
    /// The last one: what was counted is written, too.
    End(oneshot::Sender<()>),
}

/// The log, and the way to its writer.
pub(super) struct Auditor {
    log: Arc<AuditLog>,
    collector: Mutex<Collector>,
    /// Whether anything is written at all.
    is_on: bool,
    wake: Notify,
    orders: mpsc::Sender<Order>,
}

/// What [`run`] needs: the queue's other end.
pub(super) struct Orders(mpsc::Receiver<Order>);

impl Auditor {
    pub(super) fn new(log: AuditLog, is_on: bool, now: Timestamp) -> (Self, Orders) {
        let (orders, ordered) = mpsc::channel(16);
        let collector = Mutex::new(Collector::new(AuditPace::default(), now));
        (Self { log: Arc::new(log), collector, is_on, wake: Notify::new(), orders }, Orders(ordered))
    }

    /// A request was answered, under this grant where keys were given. Never waits.
    pub(super) fn answered(&self, request: &KeyRequest, answer: &KeyAnswer, grant: Option<Period>) {
        self.collect(|collector| collector.answered(request, answer, grant, answer.sent));
    }

    /// A rekey sent somebody the key. Never waits.
    pub(super) fn pushed(&self, given: &Given, confirmed: bool) {
        self.collect(|collector| collector.pushed(given, confirmed, given.at));
    }

    /// A rekey kept the key from somebody. Never waits.
    pub(super) fn withheld(
        &self,
        stream: &StreamId,
        to: (UserId, &Place),
        key: &KeyId,
        refusal: Refusal,
        now: Timestamp,
    ) {
        self.collect(|collector| collector.withheld(stream, to, key, refusal, now));
    }

    /// A request was refused as one too many. Never waits.
    pub(super) fn throttled(&self, request: &KeyRequest, now: Timestamp) {
        self.collect(|collector| collector.throttled(request.wanted.key_ids().len(), now));
    }

    fn collect(&self, take: impl FnOnce(&mut Collector)) {
        if self.is_on {
            let mut collector = lock(&self.collector);
            take(&mut collector);
            let wakes = collector.is_waiting();
            drop(collector);
            if wakes {
                self.wake.notify_one();
            }
        }
    }

    /// Returns when everything so far is on disk, or could not be written, or the client was stopped.
    pub(super) async fn flush(&self) {
        self.order(Order::Flush).await;
    }

    /// Ends the writer once it has written everything, what was counted as well.
    pub(super) async fn end(&self) {
        self.order(Order::End).await;
    }

    async fn order(&self, order: impl FnOnce(oneshot::Sender<()>) -> Order) {
        let (reply, done) = oneshot::channel();
        if self.orders.send(order(reply)).await.is_ok() {
            let _ = done.await;
        }
    }

    /// The log, with everything so far on disk.
    pub(super) async fn log(&self) -> Arc<AuditLog> {
        self.flush().await;
        self.log.clone()
    }

    pub(super) async fn head(&self) -> Result<Option<Verified<AuditHead>>, ClientError> {
        let log = self.log().await;
        Ok(blocking(move || log.head()).await??)
    }

    pub(super) async fn verify(&self, kept: Option<AuditHead>) -> Result<Option<AuditReport>, ClientError> {
        let log = self.log().await;
        blocking(move || log.verify(kept.as_ref(), |_| Ok(()))).await?
    }

    pub(super) async fn read(&self, after: u64, limit: usize) -> Result<Vec<LoggedEntry>, ClientError> {
        let log = self.log().await;
        Ok(blocking(move || log.read(after, limit)).await??)
    }
}

/// Writes until it is told to end; not cut off when the client stops.
pub(super) async fn run(shared: Arc<Shared>, Orders(mut orders): Orders) {
    let auditor = &shared.audit;
    let mut is_failing = false;
    loop {
        let is_idle = !lock(&auditor.collector).is_counting() && !is_failing;
        let order = tokio::select! {
            order = orders.recv() => order,
            () = auditor.wake.notified() => linger(&mut orders).await,
            () = tokio::time::sleep(TICK), if !is_idle => None,
        };
        let now = shared.now();
        match &order {
            Some(Order::End(_)) => lock(&auditor.collector).settle(now),
            _ => lock(&auditor.collector).tick(now),
        }
        is_failing = !write(&shared, is_failing).await;
        match order {
            Some(Order::End(done)) => {
                let _ = done.send(());
                return;
            }
            Some(Order::Flush(done)) => drop(done.send(())),
            None => {}
        }
    }
}

/// Waits for more, unless somebody waits for what there is.
async fn linger(orders: &mut mpsc::Receiver<Order>) -> Option<Order> {
    tokio::time::timeout(LINGER, orders.recv()).await.ok().flatten()
}

/// Writes all that waits, and says whether that went well.
async fn write(shared: &Arc<Shared>, was_failing: bool) -> bool {
    loop {
        let batch = lock(&shared.audit.collector).batch(BATCH, shared.now());
        if batch.is_empty() {
            return true;
        }
        let (entries, listed) = (batch.iter().map(|(_, event)| event.stands_for()).sum(), batch.len());
        let worker = shared.clone();
        let now = shared.now();
        let written = blocking(move || worker.audit.log.append(batch, &worker.identity, now, &mut rand::rng())).await;
        let Err(error) = written.unwrap_or(Ok(())) else {
            count(&shared.counters.audit_entries, listed);
            continue;
        };
        // It is tried again every second, and said once.
        if !was_failing {
            tracing::error!(%error, "the audit log cannot be written; what happens meanwhile is counted");
        }
        count(&shared.counters.audit_failures, 1);
        lock(&shared.audit.collector).failed(entries);
        return false;
    }
}
