//! The keys of a running node, in memory, so that no request waits for the disk.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::watch;
use veilcast::key_store::RecordStore;

use super::{ApiKey, ApiKeyError, KeyName, hash, shelf};

/// Every key there is. What is added or revoked counts at once, and whoever has something open with a revoked one is told.
pub(crate) struct ApiKeys {
    records: Arc<dyn RecordStore>,
    known: RwLock<Vec<Arc<ApiKey>>>,
    /// Records that are damaged, by what they are called.
    damaged: RwLock<Vec<String>>,
    /// Held by whoever changes them.
    turn: Mutex<()>,
    changed: watch::Sender<u64>,
}

impl ApiKeys {
    /// Those in the store.
    pub(crate) fn load(records: Arc<dyn RecordStore>) -> Result<Self, ApiKeyError> {
        let kept = shelf::list(&*records)?;
        let known = kept.keys.into_iter().map(Arc::new).collect();
        Ok(Self {
            records,
            known: RwLock::new(known),
            damaged: RwLock::new(kept.damaged),
            turn: Mutex::new(()),
            changed: watch::Sender::new(0),
        })
    }

    /// The key of this text. All are compared, whichever it is.
    pub(crate) fn find(&self, text: &str) -> Option<Arc<ApiKey>> {
        let shown = hash(text);
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().fold(None, |found, key| if key.opens(&shown) { Some(key.clone()) } else { found })
    }

    /// Whether it was not revoked yet.
    pub(crate) fn knows(&self, key: &ApiKey) -> bool {
        self.all().iter().any(|known| known.hash == key.hash)
    }

    /// Every key, by name.
    pub(crate) fn all(&self) -> Vec<Arc<ApiKey>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the records are called that cannot be used.
    pub(crate) fn damaged(&self) -> Vec<String> {
        self.damaged.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps a key. Waits for the disk.
    pub(crate) fn add(&self, key: &ApiKey) -> Result<(), ApiKeyError> {
        self.change(|records| shelf::add(records, key))
    }

    /// Removes a key. Waits for the disk.
    pub(crate) fn revoke(&self, name: &KeyName) -> Result<(), ApiKeyError> {
        self.change(|records| shelf::revoke(records, name))
    }

    /// One change at a time, on disk before it counts.
    fn change(&self, change: impl FnOnce(&dyn RecordStore) -> Result<(), ApiKeyError>) -> Result<(), ApiKeyError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        change(&*self.records)?;
        let kept = shelf::list(&*self.records)?;
        let now = kept.keys.into_iter().map(Arc::new).collect();
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = now;
        *self.damaged.write().unwrap_or_else(PoisonError::into_inner) = kept.damaged;
        self.changed.send_modify(|changes| *changes += 1);
        Ok(())
    }

    /// Returns once this very key is no more: revoked, also where another has its name now.
    pub(crate) async fn gone(&self, key: &Arc<ApiKey>) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if !self.knows(key) {
                return;
            }
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}
