//! Whether what a path names is there: a stream or partition that was mistyped is told as such, before anything is made for it.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use veilcast::key_ring::RingPrefix;
use veilcast::key_store::KeyStore;
use veilcast::stream::MAX_PARTITIONS;
use veilcast::{StreamId, UserId};

use super::error::ApiError;
use super::{Gateway, Shared};
use crate::api_key::Streams;

/// Streams that are remembered at most; beyond, all are asked for anew.
const MOST: usize = 10_000;

/// Streams of one's own that were found on record: who publishes does not ask a contract again with each message.
#[derive(Default)]
pub(crate) struct Known(Mutex<HashSet<StreamId>>);

impl Known {
    fn has(&self, stream: &StreamId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(stream)
    }

    fn note(&self, stream: &StreamId) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(stream.clone());
    }
}

/// Streams that this node was told of, where a contract decides, which has no list of an owner's streams: those whose subscribers it
/// lists, those in its config file, and those that an API key is for.
pub(super) fn named_here(shared: &Shared) -> BTreeSet<StreamId> {
    let watched = shared.readiness.contract.as_ref().map(|contract| contract.watched()).unwrap_or_default();
    let mut named: BTreeSet<StreamId> = watched.into_iter().chain(shared.settings.streams.iter().cloned()).collect();
    for key in shared.api_keys.all() {
        if let Streams::These(streams) = &key.streams {
            named.extend(streams.iter().cloned());
        }
    }
    named
}

/// Streams that there are keys of here, made by publishers whom `by` picks.
///
/// # Errors
/// 500 when the store fails.
pub(super) fn with_keys(shared: &Shared, by: impl Fn(UserId) -> bool) -> Result<BTreeSet<StreamId>, ApiError> {
    let scopes = shared.store.scopes().map_err(ApiError::internal)?;
    let picked = scopes.iter().filter(|scope| RingPrefix::of_scope(scope).is_none());
    let picked = picked.filter(|scope| by(UserId::from_bytes(*scope.publisher())));
    Ok(picked.filter_map(|scope| StreamId::new(scope.stream()).ok()).collect())
}

/// # Errors
/// 404 where whoever decides about permissions has never heard of it.
pub(super) async fn must_be_known(gateway: &Gateway, stream: &StreamId) -> Result<(), ApiError> {
    let known = gateway.client.stream_info(stream).await?;
    known.map(drop).ok_or_else(|| ApiError::no_stream(stream))
}

/// Before something is published: about streams of others permissions decide, and their owners allow everything on none that is not
/// there.
///
/// # Errors
/// 404 for a stream of one's own that was never made.
pub(super) async fn must_be_made(gateway: &Gateway, stream: &StreamId) -> Result<(), ApiError> {
    if stream.owner() != Some(gateway.client.user()) || gateway.known.has(stream) {
        return Ok(());
    }
    must_be_known(gateway, stream).await?;
    gateway.known.note(stream);
    Ok(())
}

/// How many partitions a stream has that is to be read. Of one of somebody else, and while nobody can tell, the network may know of
/// more than is on record here: all that there may be.
///
/// # Errors
/// 404 for a stream of one's own that was never made.
pub(super) async fn partitions(gateway: &Gateway, stream: &StreamId) -> Result<u32, ApiError> {
    match gateway.client.stream_info(stream).await {
        Ok(Some(info)) => Ok(info.partitions),
        Ok(None) if stream.owner() == Some(gateway.client.user()) => Err(ApiError::no_stream(stream)),
        _ => Ok(MAX_PARTITIONS),
    }
}
