//! Keys: which one is current, when each was in use, and when two of the same name conflict.

use std::{collections::BTreeSet, ops::ControlFlow};

use super::{Changes, Ledger, Plain, Shelf, order, place, record};
use crate::{GroupKey, HistoryCursor, KeyId, KeyOrigin, KeyScope, KeyStore, StoreError, StoredKey, TimeRange};

impl<S: Shelf> KeyStore for Ledger<S> {
    fn key(&self, scope: &KeyScope, id: &KeyId) -> Result<Option<StoredKey>, StoreError> {
        read_key(&self.shelf, scope, id)
    }

    fn current(&self, scope: &KeyScope) -> Result<Option<StoredKey>, StoreError> {
        let steady = self.steady();
        let current = match read_current(&self.shelf, scope)? {
            Some(current) => Some(read_named(&self.shelf, scope, &current.id)?),
            None => None,
        };
        drop(steady);
        // Another thread may have applied this change and still wait for the disk. A message must not leave under a key
        // that a power cut could take away.
        self.shelf.settle()?;
        Ok(current)
    }

    fn make_current(&self, scope: &KeyScope, key: &GroupKey, since: u64) -> Result<(), StoreError> {
        self.change(|shelf, changes| {
            let known = read_same(shelf, scope, key)?;
            let mut since = since;
            if let Some(last) = read_current(shelf, scope)? {
                if known.is_some() && last.id == *key.id() {
                    return Ok(());
                }
                since = since.max(last.since.saturating_add(1));
                let mut ended = read_named(shelf, scope, &last.id)?;
                ended.until = Some(since);
                put_key(shelf, changes, scope, None, &ended)?;
            }
            let now = StoredKey {
                key: key.clone(),
                since: known.as_ref().map_or(since, |known| known.since.min(since)),
                until: None,
                origin: known.as_ref().map_or(KeyOrigin::Made, |known| known.origin),
            };
            put_key(shelf, changes, scope, known.as_ref(), &now)?;
            let current = record::Current { since, id: key.id().clone() };
            changes.insert(place::current(scope), Some(current.write()));
            Ok(())
        })
    }

    fn add(
        &self,
        scope: &KeyScope,
        key: &GroupKey,
        since: u64,
        until: Option<u64>,
        origin: KeyOrigin,
    ) -> Result<(), StoreError> {
        let stored = StoredKey { key: key.clone(), since, until, origin };
        self.change(|shelf, changes| plan_add(shelf, changes, scope, &stored))
    }

    fn add_all(&self, scope: &KeyScope, keys: &[StoredKey]) -> Result<Vec<KeyId>, StoreError> {
        self.change(|shelf, changes| {
            let (mut planned, mut left_out) = (BTreeSet::new(), Vec::new());
            for stored in keys {
                // A plan reads what is stored and not what is planned, so each name is planned once.
                let fresh = planned.insert(stored.key.id());
                let added = if fresh { plan_add(shelf, changes, scope, stored) } else { conflict(&stored.key) };
                match added {
                    Ok(()) => {}
                    Err(StoreError::Conflict { id }) => left_out.push(id),
                    Err(error) => return Err(error),
                }
            }
            Ok(left_out)
        })
    }

    fn remove(&self, scope: &KeyScope, id: &KeyId) -> Result<bool, StoreError> {
        self.change(|shelf, changes| plan_remove(shelf, changes, scope, id))
    }

    fn remove_all(&self, scope: &KeyScope, ids: &[KeyId]) -> Result<u64, StoreError> {
        self.change(|shelf, changes| {
            let mut removed = 0;
            for id in ids.iter().collect::<BTreeSet<_>>() {
                removed += u64::from(plan_remove(shelf, changes, scope, id)?);
            }
            Ok(removed)
        })
    }

    fn history(
        &self,
        scope: &KeyScope,
        range: TimeRange,
        after: Option<&HistoryCursor>,
        limit: usize,
    ) -> Result<Vec<StoredKey>, StoreError> {
        let mut page = Vec::new();
        if limit == 0 {
            return Ok(page);
        }
        let _steady = self.steady();
        order::walk(&self.shelf, scope, range, after, &mut |at| {
            let stored = read_named(&self.shelf, scope, &at.id)?;
            if (stored.since, stored.until) != (at.since, at.until) {
                return Err(StoreError::damaged(format!("the order of the keys of stream {}", scope.stream())));
            }
            page.push(stored);
            Ok(if page.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(page)
    }

    fn scopes(&self) -> Result<Vec<KeyScope>, StoreError> {
        let _steady = self.steady();
        let mut scopes = Vec::new();
        let mut after = None;
        loop {
            // One look per scope: from its first key straight to the place behind its last.
            let mut next = None;
            self.shelf.walk(&place::all_keys(), after.as_deref(), &mut |at, _: Plain| {
                next = Some(place::read_scope(at)?);
                Ok(ControlFlow::Break(()))
            })?;
            let Some(scope) = next else { break };
            after = Some(place::after_keys_of(&scope));
            scopes.push(scope);
        }
        scopes.sort();
        Ok(scopes)
    }
}

fn read_key(shelf: &impl Shelf, scope: &KeyScope, id: &KeyId) -> Result<Option<StoredKey>, StoreError> {
    shelf.read(&place::key(scope, id))?.map(|plain| record::read_key(scope, id, &plain)).transpose()
}

/// A key something else in the store points to: not having it is damage.
fn read_named(shelf: &impl Shelf, scope: &KeyScope, id: &KeyId) -> Result<StoredKey, StoreError> {
    read_key(shelf, scope, id)?
        .ok_or_else(|| StoreError::damaged(format!("the record of key {id} of stream {} (missing)", scope.stream())))
}

/// What is stored under this key's id, if it is this key.
fn read_same(shelf: &impl Shelf, scope: &KeyScope, key: &GroupKey) -> Result<Option<StoredKey>, StoreError> {
    match read_key(shelf, scope, key.id())? {
        Some(known) if !known.key.same_as(key) => conflict(key),
        known => Ok(known),
    }
}

fn conflict<T>(key: &GroupKey) -> Result<T, StoreError> {
    Err(StoreError::Conflict { id: key.id().clone() })
}

fn plan_add(shelf: &impl Shelf, changes: &mut Changes, scope: &KeyScope, added: &StoredKey) -> Result<(), StoreError> {
    let known = read_same(shelf, scope, &added.key)?;
    let stored = match &known {
        None => added.clone(),
        Some(known) if known.origin == KeyOrigin::Made => return Ok(()),
        Some(known) => {
            let open = read_current(shelf, scope)?.is_some_and(|current| current.id == *added.key.id());
            let wider = StoredKey {
                since: known.since.min(added.since),
                until: if open { None } else { known.until.max(added.until) },
                ..known.clone()
            };
            if (wider.since, wider.until) == (known.since, known.until) {
                return Ok(());
            }
            wider
        }
    };
    put_key(shelf, changes, scope, known.as_ref(), &stored)
}

fn plan_remove(shelf: &impl Shelf, changes: &mut Changes, scope: &KeyScope, id: &KeyId) -> Result<bool, StoreError> {
    let Some(known) = read_key(shelf, scope, id)? else {
        return Ok(false);
    };
    changes.insert(place::key(scope, id), None);
    order::take(shelf, changes, scope, known.since, id)?;
    if read_current(shelf, scope)?.is_some_and(|current| current.id == *id) {
        changes.insert(place::current(scope), None);
    }
    Ok(true)
}

pub(super) fn read_current(shelf: &impl Shelf, scope: &KeyScope) -> Result<Option<record::Current>, StoreError> {
    shelf.read(&place::current(scope))?.map(|plain| record::Current::read(scope, &plain)).transpose()
}

fn put_key(
    shelf: &impl Shelf,
    changes: &mut Changes,
    scope: &KeyScope,
    before: Option<&StoredKey>,
    stored: &StoredKey,
) -> Result<(), StoreError> {
    order::put(shelf, changes, scope, before.map(|before| before.since), stored)?;
    changes.insert(place::key(scope, stored.key.id()), Some(record::write_key(stored)));
    Ok(())
}
