//! Everything a ledger holds, and a new ledger filled with it.

use std::ops::ControlFlow;

use super::{Changes, Ledger, Plain, Shelf, keys, order, place, record};
use crate::{KeyScope, StoreError, StoredKey};

/// One thing a ledger holds. Where it lies and what is derived from it is each ledger's own business.
#[derive(Debug)]
pub(crate) enum Entry {
    /// A key; if it is its scope's current one, since when (ms since the Unix epoch).
    Key { scope: KeyScope, stored: StoredKey, current: Option<u64> },
    /// A small record.
    Record { table: String, key: Vec<u8>, value: Plain },
}

impl<S: Shelf> Ledger<S> {
    /// How many entries [`each`](Self::each) will show, if nobody writes meanwhile: for a progress bar.
    ///
    /// # Errors
    /// What the store answers.
    pub(crate) fn estimate(&self) -> Result<u64, StoreError> {
        let mut derived = 0;
        for prefix in place::all_derived() {
            self.shelf.walk(&prefix, None, &mut |_, _: Plain| {
                derived += 1;
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(self.shelf.entries().saturating_sub(derived))
    }

    /// Shows every key, then every record, as they are at one moment: writers wait until it returns.
    ///
    /// # Errors
    /// The visitor's own, or what the store answers.
    pub(crate) fn each<E: From<StoreError>>(&self, mut visit: impl FnMut(Entry) -> Result<(), E>) -> Result<(), E> {
        let _steady = self.steady();
        let mut scope_before = None;
        self.walk_all(&place::all_keys(), |at, plain| {
            let (scope, id) = place::read_key(at)?;
            if scope_before.as_ref().is_none_or(|(before, _)| *before != scope) {
                scope_before = Some((scope.clone(), keys::read_current(&self.shelf, &scope)?));
            }
            let current = scope_before.as_ref().and_then(|(_, current)| current.as_ref());
            let current = current.filter(|current| current.id == id).map(|current| current.since);
            let stored = record::read_key(&scope, &id, &plain)?;
            visit(Entry::Key { scope, stored, current })
        })?;
        self.walk_all(&place::all_records(), |at, value| {
            let (table, key) = place::read_record(at)?;
            visit(Entry::Record { table: table.to_owned(), key: key.to_owned(), value })
        })
    }

    /// Puts entries into a ledger that is being made, all of these or none.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when one of them, or a scope's current key, is there already.
    pub(crate) fn fill(&self, entries: Vec<Entry>) -> Result<(), StoreError> {
        self.change(|shelf, changes| {
            let put = |changes: &mut Changes, place: Vec<u8>, plain: Plain| {
                if changes.contains_key(&place) || shelf.read(&place)?.is_some() {
                    return Err(StoreError::damaged("the list of entries (one of them stands there twice)"));
                }
                changes.insert(place, Some(plain));
                Ok(())
            };
            for entry in entries {
                match entry {
                    Entry::Key { scope, stored, current } => {
                        let id = stored.key.id();
                        put(changes, place::key(&scope, id), record::write_key(&stored))?;
                        order::put(shelf, changes, &scope, None, &stored)?;
                        if let Some(since) = current {
                            let current = record::Current { since, id: id.clone() };
                            put(changes, place::current(&scope), current.write())?;
                        }
                    }
                    Entry::Record { table, key, value } => {
                        put(changes, place::record(&place::table(&table), &key), value)?;
                    }
                }
            }
            Ok(())
        })
    }

    /// A walk whose visitor has errors of its own.
    fn walk_all<E: From<StoreError>>(
        &self,
        prefix: &[u8],
        mut visit: impl FnMut(&[u8], Plain) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut failed = None;
        self.shelf.walk(prefix, None, &mut |at, plain| {
            failed = visit(at, plain).err();
            Ok(if failed.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        failed.map_or(Ok(()), Err)
    }
}
