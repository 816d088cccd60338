//! The twin without a disk.

use std::{
    collections::BTreeMap,
    fmt,
    ops::{Bound, ControlFlow},
    sync::{PoisonError, RwLock},
};

use crate::{
    StoreError,
    delegate::delegate_to_ledger,
    ledger::{Changes, Ledger, Plain, Shelf, Visit},
};

/// Keys and records in memory, gone with the value: for tests, simulators and programs that keep nothing.
///
/// It follows the same rules as [`SledKeyStore`](crate::SledKeyStore), save that "durable" means nothing here. Contents
/// are wiped when replaced, removed or dropped. It grows with what is put in.
#[derive(Default)]
pub struct MemoryKeyStore {
    ledger: Ledger<MemoryShelf>,
}

impl MemoryKeyStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn ledger(&self) -> &Ledger<MemoryShelf> {
        &self.ledger
    }
}

delegate_to_ledger!(MemoryKeyStore);

impl fmt::Debug for MemoryKeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryKeyStore").finish_non_exhaustive()
    }
}

#[derive(Default)]
pub(crate) struct MemoryShelf(RwLock<BTreeMap<Vec<u8>, Plain>>);

impl Shelf for MemoryShelf {
    fn read(&self, place: &[u8]) -> Result<Option<Plain>, StoreError> {
        Ok(self.0.read().unwrap_or_else(PoisonError::into_inner).get(place).cloned())
    }

    fn walk(&self, prefix: &[u8], after: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let mut after = after.filter(|after| *after >= prefix).map(<[u8]>::to_vec);
        loop {
            // One step per lock: the visitor may read the shelf itself.
            let step = {
                let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
                let start = after.as_deref().map_or(Bound::Included(prefix), Bound::Excluded);
                let next = map.range::<[u8], _>((start, Bound::Unbounded)).next();
                next.filter(|(place, _)| place.starts_with(prefix)).map(|(place, plain)| (place.clone(), plain.clone()))
            };
            let Some((place, plain)) = step else {
                return Ok(());
            };
            if visit(&place, plain)? == ControlFlow::Break(()) {
                return Ok(());
            }
            after = Some(place);
        }
    }

    fn last_before(&self, prefix: &[u8], end: &[u8]) -> Result<Option<(Vec<u8>, Plain)>, StoreError> {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let last = map.range::<[u8], _>((Bound::Included(prefix), Bound::Excluded(end))).next_back();
        Ok(last.map(|(place, plain)| (place.clone(), plain.clone())))
    }

    fn apply(&self, changes: Changes) -> Result<(), StoreError> {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (place, plain) in changes {
            match plain {
                Some(plain) => map.insert(place, plain),
                None => map.remove(&place),
            };
        }
        Ok(())
    }

    fn entries(&self) -> u64 {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    fn settle(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
