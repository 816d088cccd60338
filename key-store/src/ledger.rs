//! The rules of the two traits, written once over whatever holds the bytes.
//!
//! [`MemoryKeyStore`](crate::MemoryKeyStore) and [`SledKeyStore`](crate::SledKeyStore) differ only in their [`Shelf`];
//! what a key's period is, when an id conflicts and which key is current is decided here.

mod copy;
mod keys;
mod order;
mod place;
mod record;
mod records;

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

use zeroize::Zeroizing;

use crate::StoreError;

pub(crate) use self::{
    copy::Entry,
    record::{KEY_RECORD_LEN, read_key as read_key_record, write_key as write_key_record},
};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::{place::reads as reads_place, record::reads as reads_record};

/// Plain contents of a record; wiped, for it may be a key.
pub(crate) type Plain = Zeroizing<Vec<u8>>;
/// New contents by place; `None` deletes.
pub(crate) type Changes = BTreeMap<Vec<u8>, Option<Plain>>;
/// Sees one record during a walk and says whether to go on.
pub(crate) type Visit<'a> = dyn FnMut(&[u8], Plain) -> Result<ControlFlow<()>, StoreError> + 'a;

/// Ordered bytes: what a ledger is written on.
pub(crate) trait Shelf: Send + Sync {
    fn read(&self, place: &[u8]) -> Result<Option<Plain>, StoreError>;

    /// In order of place, those that start with `prefix` and come strictly after `after`.
    fn walk(&self, prefix: &[u8], after: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<(), StoreError>;

    /// The last one that starts with `prefix` and comes strictly before `end`, which starts with it as well.
    fn last_before(&self, prefix: &[u8], end: &[u8]) -> Result<Option<(Vec<u8>, Plain)>, StoreError>;

    /// All or nothing, visible when it returns, durable after [`settle`](Self::settle). Called by one thread at a time.
    fn apply(&self, changes: Changes) -> Result<(), StoreError>;

    /// How many there are, which is only ever an estimate while others write.
    fn entries(&self) -> u64;

    /// Returns once everything applied before this call is durable.
    fn settle(&self) -> Result<(), StoreError>;
}

/// A shelf and the lock that makes each read-then-write one step.
#[derive(Debug, Default)]
pub(crate) struct Ledger<S> {
    pub(crate) shelf: S,
    turn: RwLock<()>,
}

impl<S: Shelf> Ledger<S> {
    pub(crate) fn new(shelf: S) -> Self {
        Self { shelf, turn: RwLock::new(()) }
    }

    /// Plans changes from what is stored, applies them in the same step, then waits for the disk with the lock released,
    /// so that concurrent writers share one wait.
    ///
    /// A plan without changes waits too: what it found in place may be another thread's write that is still on its way.
    fn change<T>(&self, plan: impl FnOnce(&S, &mut Changes) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let turn = self.turn.write().unwrap_or_else(PoisonError::into_inner);
        let mut changes = Changes::new();
        let outcome = plan(&self.shelf, &mut changes)?;
        if !changes.is_empty() {
            self.shelf.apply(changes)?;
        }
        drop(turn);
        self.shelf.settle()?;
        Ok(outcome)
    }

    /// Holds writers off while several reads must agree with each other.
    fn steady(&self) -> RwLockReadGuard<'_, ()> {
        self.turn.read().unwrap_or_else(PoisonError::into_inner)
    }
}
