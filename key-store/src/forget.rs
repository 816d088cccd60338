//! Keys whose time is over, removed for good.

use crate::{HistoryCursor, KeyId, KeyScope, KeyStore, StoreError, TimeRange};

/// How many keys are looked at, or removed with one wait for the disk, at a time.
const PAGE: usize = 256;

/// The keys of one scope that [`forget`] would remove, and why others stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Forgettable {
    /// Keys whose period ended at or before the moment.
    pub over: u64,
    /// Keys that began before the moment, are not current, and of which nobody told when they ended. They stay.
    pub unended: u64,
}

/// Looks at the keys of a scope, and changes nothing: how many periods ended at or before `before` (ms since the Unix epoch).
///
/// # Errors
/// As [`KeyStore::history`].
pub fn forgettable(store: &dyn KeyStore, scope: &KeyScope, before: u64) -> Result<Forgettable, StoreError> {
    let mut found = Forgettable::default();
    pages(store, scope, before, |page| {
        found.over += page.over.len() as u64;
        found.unended += page.unended;
        Ok(())
    })?;
    Ok(found)
}

/// Removes the keys of a scope whose period ended at or before `before` (ms since the Unix epoch), and tells how many. The
/// current key stays, and so does a key of whose end nobody told.
///
/// What was sealed under them cannot be read with this store any more, and who asks for one gets to hear that it is unknown.
/// The files of a store give up their bytes when their space is used again, and copies of them, backups and subscribers keep
/// theirs. A process that dies has removed some of them; the same again removes the rest.
///
/// # Errors
/// As [`KeyStore::remove_all`].
pub fn forget(store: &dyn KeyStore, scope: &KeyScope, before: u64) -> Result<u64, StoreError> {
    let mut removed = 0;
    pages(store, scope, before, |page| {
        removed += store.remove_all(scope, &page.over)?;
        Ok(())
    })?;
    Ok(removed)
}

/// What of a page of history is over.
#[derive(Default)]
struct Page {
    over: Vec<KeyId>,
    unended: u64,
}

fn pages(
    store: &dyn KeyStore,
    scope: &KeyScope,
    before: u64,
    mut visit: impl FnMut(&Page) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut after: Option<HistoryCursor> = None;
    loop {
        let range = TimeRange { from: 0, to: before };
        let history = store.history(scope, range, after.as_ref(), PAGE)?;
        let Some(last) = history.last() else { return Ok(()) };
        after = Some(last.cursor());
        let current = store.current(scope)?.map(|stored| stored.key.id().clone());
        let mut page = Page::default();
        for stored in history.iter().filter(|stored| Some(stored.key.id()) != current.as_ref()) {
            match stored.until {
                Some(until) if until <= before => page.over.push(stored.key.id().clone()),
                Some(_) => {}
                None => page.unended += 1,
            }
        }
        visit(&page)?;
    }
}
