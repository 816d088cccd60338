//! Keys agreed on outside the network: which streams go by them alone, and changing the rings while the client runs.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use veilcast_key_store::{GroupKey, KeyId, KeyOrigin};

use super::config::KeySource;
use super::error::ClientError;
use super::shared::{Reader, Shared, blocking, lock};
use super::subscribing::KeyNews;
use crate::identity::UserId;
use crate::key_ring::{self, Looked, RingError, RingPrefix};
use crate::stream::StreamId;
use crate::subscriber::Arrival;

/// What seals the messages of a stream.
#[derive(Clone, Debug)]
pub(super) enum Sealing {
    /// This publisher's own key of that stream, whether made here or agreed on.
    Own,
    /// The key in use of the ring that decides about the stream.
    Ring(GroupKey),
}

impl Shared {
    /// Whether agreed keys alone count on a stream. A store that cannot tell counts as yes: nobody is asked, nothing is given.
    pub(super) fn agreed_only(&self, stream: &StreamId) -> bool {
        self.config.keys == KeySource::PreAgreedOnly
            || key_ring::find(&*self.store, stream).map_or_else(
                |error| {
                    tracing::error!(%error, "the key store cannot be read; going by agreed keys only");
                    true
                },
                |ring| ring.is_some(),
            )
    }

    /// # Errors
    /// [`ClientError::AgreedKeysOnly`] on streams without key exchange.
    pub(super) async fn must_exchange(self: &Arc<Self>, stream: &StreamId) -> Result<(), ClientError> {
        let (shared, asked) = (self.clone(), stream.clone());
        match blocking(move || shared.agreed_only(&asked)).await? {
            true => Err(ClientError::AgreedKeysOnly { stream: stream.clone() }),
            false => Ok(()),
        }
    }

    /// The key of a message, from the store; or whether its publisher can be asked.
    pub(super) fn look_for_key(&self, publisher: UserId, stream: &StreamId, id: &KeyId) -> Looked {
        let only = self.config.keys == KeySource::PreAgreedOnly;
        key_ring::look(&*self.store, &crate::scope(publisher, stream), stream, id, only).unwrap_or_else(|error| {
            tracing::error!(%error, "the key store cannot be read; nobody is asked for a key that may have been agreed on");
            Looked::NotAgreed
        })
    }

    /// What seals the next message, where the publisher's own key is `pre_agreed` or was made here.
    ///
    /// # Errors
    /// [`ClientError::NoAgreedKey`]: only an agreed key could, and none is in use.
    pub(super) async fn sealing(&self, stream: &StreamId, pre_agreed: bool) -> Result<Sealing, ClientError> {
        if pre_agreed {
            return Ok(Sealing::Own);
        }
        let (store, asked) = (self.store.clone(), stream.clone());
        let ring = blocking(move || {
            let ring = key_ring::find(&*store, &asked)?;
            ring.map(|ring| ring.sealing(&*store).map(|key| (ring, key))).transpose()
        });
        match ring.await?? {
            Some((_, Some(key))) => Ok(Sealing::Ring(key)),
            Some((ring, None)) => {
                Err(ClientError::NoAgreedKey { stream: stream.clone(), ring: Some(ring.prefix().clone()) })
            }
            None if self.config.keys == KeySource::PreAgreedOnly => {
                Err(ClientError::NoAgreedKey { stream: stream.clone(), ring: None })
            }
            None => Ok(Sealing::Own),
        }
    }

    /// Stores a key agreed on, then tells whoever waits for it.
    pub(super) async fn add_pre_agreed(
        &self,
        publisher: UserId,
        stream: &StreamId,
        key: GroupKey,
    ) -> Result<(), ClientError> {
        let (store, scope, added) = (self.store.clone(), crate::scope(publisher, stream), key.clone());
        let since = self.now().as_millis();
        blocking(move || store.add(&scope, &added, since, None, KeyOrigin::PreAgreed)).await??;
        self.key_is_here(publisher, stream, key, Arrival::Store).await;
        Ok(())
    }

    /// A number that changes with the rings.
    pub(super) fn rings(&self) -> u64 {
        self.rings_changed.load(Ordering::Acquire)
    }

    /// Changes a ring, then tells whoever reads or publishes under it: to the end, or a reader would go by what no longer counts.
    pub(super) async fn change_ring(
        self: &Arc<Self>,
        prefix: &RingPrefix,
        change: impl FnOnce(&Shared) -> Result<(), RingError> + Send + 'static,
    ) -> Result<(), ClientError> {
        let (shared, prefix) = (self.clone(), prefix.clone());
        self.to_its_end(async move {
            let changing = shared.clone();
            let changed = blocking(move || {
                let changed = change(&changing);
                changing.rings_changed.fetch_add(1, Ordering::AcqRel);
                changed
            });
            changed.await??;
            shared.tell_of_ring(&prefix).await;
            Ok(())
        })
        .await
    }

    async fn tell_of_ring(&self, prefix: &RingPrefix) {
        let covered = |reader: &&Reader| prefix.covers(&reader.stream);
        let readers: Vec<_> = lock(&self.readers).iter().filter(covered).cloned().collect();
        for reader in readers {
            // A reader always takes news, unless it has ended.
            let _ = reader.keys.send(KeyNews::RingChanged).await;
        }
    }
}
