//! Answering readers, as a storage node: a page of stored messages, or a signed no.

use std::sync::Arc;

use bytes::Bytes;
use libp2p::PeerId;

use super::shared::{Shared, blocking, lock};
use super::storing::Storage;
use crate::permission::{Permission, PermissionSource, Refusal, Shown};
use crate::storage::{self, Page, StorageError};
use crate::wire::{Received, ResendRequest};

/// How long a reader should wait when our own store failed.
const STORE_RETRY: std::time::Duration = std::time::Duration::from_secs(5);

/// The page for one request; `None` for silence.
pub(super) async fn answer(shared: &Arc<Shared>, from: PeerId, envelope: &Bytes) -> Option<Bytes> {
    let storage = shared.storage.as_ref()?;
    let received = Received::<ResendRequest>::decode(envelope).ok()?;
    if !lock(&storage.screen).glance(shared.now(), &from.to_bytes(), received.claims()) {
        return None;
    }
    let Ok(verified) = received.verify() else {
        lock(&storage.screen).vain(shared.now(), &from.to_bytes());
        return None;
    };
    let request = verified.into_content();
    let admitted = lock(&storage.screen).admit(shared.now(), &request);
    let ticket = match admitted {
        Ok(ticket) => ticket?,
        Err(retry_after) => return page_of(shared, &request, Err(Refusal::Throttled { retry_after })),
    };
    let page = match permitted(shared, storage, from, &request).await {
        Ok(()) => read(storage, &request).await,
        Err(refusal) => Err(refusal),
    };
    let looked_at = page.as_ref().map_or(0, |page| page.looked_at);
    lock(&storage.screen).done(shared.now(), ticket, looked_at);
    page_of(shared, &request, page)
}

/// As for keys: whoever may subscribe now may read what is kept, and nobody else. It opens nothing without the keys.
async fn permitted(
    shared: &Arc<Shared>,
    storage: &Storage,
    from: PeerId,
    request: &ResendRequest,
) -> Result<(), Refusal> {
    let stream = request.part.stream();
    if !storage.keeps(stream) {
        return Err(Refusal::Policy);
    }
    let shown = show(shared, from, request).await;
    match shared.check(stream, request.requester, Permission::Subscribe).await {
        Ok(_) => Ok(()),
        // What was shown tells why.
        Err(Refusal::Denied) => Err(shown.refusal.unwrap_or(Refusal::Denied)),
        Err(refusal) => Err(refusal),
    }
}

async fn show(shared: &Arc<Shared>, from: PeerId, request: &ResendRequest) -> Shown {
    if request.proofs.is_empty() {
        return Shown::default();
    }
    let (worker, request) = (shared.clone(), request.clone());
    let shown =
        blocking(move || worker.source.show(request.part.stream(), request.requester, &request.proofs, worker.now()));
    let shown = shown.await.unwrap_or_default();
    lock(&shared.screen).charge_vain(&from.to_bytes(), shown.vain_checks, shared.now());
    shown
}

async fn read(storage: &Storage, request: &ResendRequest) -> Result<Page, Refusal> {
    let (store, request) = (storage.store.clone(), request.clone());
    let page = blocking(move || storage::read(&*store, &request));
    page.await.unwrap_or(Err(StorageError::Broken)).map_err(|error| {
        tracing::error!(%error, "the message store cannot be read");
        Refusal::Unavailable { retry_after: STORE_RETRY }
    })
}

fn page_of(shared: &Shared, request: &ResendRequest, page: Result<Page, Refusal>) -> Option<Bytes> {
    match storage::answer(request, page, &shared.identity, shared.now()) {
        Ok(signed) => Some(signed.envelope().clone()),
        Err(error) => {
            tracing::error!(%error, "a page could not be made");
            None
        }
    }
}
