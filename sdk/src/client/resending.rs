//! Answering readers, as a storage node: a page of stored messages, or a signed no.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;

use super::shared::{Shared, blocking, lock};
use super::storing::Storage;
use crate::exchange::{Glance, Screened};
use crate::permission::{Permission, PermissionSource, Refusal, Shown};
use crate::storage::{self, Admission, Page, StorageError, looks_far_back};
use crate::wire::{Received, ResendRequest};

/// How long a reader should wait when our own store failed: not at all, for another node may have what it looks for. A store that
/// is damaged stays so, and whoever has nobody else to ask has asked as often as he may within a moment.
const STORE_RETRY: Duration = Duration::ZERO;

/// The page for one request; `None` for silence.
pub(super) async fn answer(shared: &Arc<Shared>, from: PeerId, envelope: &Bytes) -> Option<Bytes> {
    let storage = shared.storage.as_ref()?;
    let (received, peer) = (Received::decode(envelope).ok()?, from.to_bytes());
    let glance = lock(&storage.screen).glance(shared.now(), &peer, received);
    let checked = match glance {
        Glance::Candidate(candidate) => candidate.verify(),
        Glance::Settled(settled) => return turned_away(shared, settled).await,
    };
    let admission = lock(&storage.screen).admit(shared.now(), checked);
    let ticket = match admission {
        Admission::Page(ticket) => ticket,
        Admission::Settled(settled) => return turned_away(shared, settled).await,
    };
    let request = ticket.request().clone();
    let page = match permitted(shared, storage, &peer, &request).await {
        Ok(()) => read(shared, storage, &request).await,
        Err(refusal) => Err(refusal),
    };
    let looked_at = page.as_ref().map_or(0, |page| page.looked_at);
    lock(&storage.screen).done(ticket, looked_at);
    signed(shared, request, page).await
}

async fn turned_away(shared: &Arc<Shared>, settled: Screened<ResendRequest>) -> Option<Bytes> {
    match settled {
        Screened::Refused(received, refusal) => signed(shared, received.claims().clone(), Err(refusal)).await,
        Screened::Admitted(_) | Screened::Dropped(_) => None,
    }
}

/// As for keys: whoever may subscribe now may read what is kept, and nobody else. It opens nothing without the keys.
async fn permitted(
    shared: &Arc<Shared>,
    storage: &Storage,
    peer: &[u8],
    request: &ResendRequest,
) -> Result<(), Refusal> {
    let stream = request.part.stream();
    if !storage.keeps(stream) {
        lock(&storage.screen).charge_vain(peer, 1, shared.now());
        return Err(Refusal::Policy);
    }
    let shown = show(shared, request).await;
    let checked = shared.check(stream, request.requester, Permission::Subscribe).await;
    // Names cost nothing, so that who may not read would have a share under each of his: his peer pays.
    let refused = checked.as_ref().is_err_and(|refusal| refusal.retry_after().is_none());
    let vain = shown.vain_checks.saturating_add(refused.into());
    lock(&storage.screen).charge_vain(peer, vain, shared.now());
    match checked {
        Ok(_) => Ok(()),
        // What was shown tells why.
        Err(Refusal::Denied) => Err(shown.refusal.unwrap_or(Refusal::Denied)),
        Err(refusal) => Err(refusal),
    }
}

async fn show(shared: &Arc<Shared>, request: &ResendRequest) -> Shown {
    if request.proofs.is_empty() {
        return Shown::default();
    }
    let (worker, request) = (shared.clone(), request.clone());
    let shown =
        blocking(move || worker.source.show(request.part.stream(), request.requester, &request.proofs, worker.now()));
    shown.await.unwrap_or_default()
}

/// When it is this page's turn: a few threads read, whoever asks.
async fn read(shared: &Shared, storage: &Storage, request: &ResendRequest) -> Result<Page, Refusal> {
    let unreadable = || {
        storage.counts.unreadable.fetch_add(1, Ordering::Relaxed);
        Refusal::Unavailable { retry_after: STORE_RETRY }
    };
    if storage.has_failed() {
        return Err(unreadable());
    }
    let far_back = looks_far_back(&request.span);
    let _long = if far_back { storage.long_reads.acquire().await.ok() } else { None };
    let _turn = storage.reads.acquire().await;
    let (store, request, most) = (storage.store.clone(), request.clone(), shared.config.resend.page);
    let page = blocking(move || storage::read(&*store, &request, most));
    page.await.unwrap_or(Err(StorageError::Broken)).map_err(|error| {
        tracing::error!(%error, "the message store cannot be read");
        unreadable()
    })
}

/// Made and signed off the async workers: it may have a megabyte.
async fn signed(shared: &Arc<Shared>, request: ResendRequest, page: Result<Page, Refusal>) -> Option<Bytes> {
    shared.meters.resent(&page);
    let worker = shared.clone();
    match blocking(move || storage::answer(&request, page, &worker.identity, worker.now())).await {
        Ok(Ok(signed)) => Some(signed.envelope().clone()),
        Ok(Err(error)) => {
            tracing::error!(%error, "a page could not be made");
            None
        }
        Err(_) => None,
    }
}
