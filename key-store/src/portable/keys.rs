//! Keys of chosen streams and periods into a file, and out of a file into a store that may have some of them.

use std::{
    collections::BTreeMap,
    io::{Read, Seek},
    path::Path,
};

use super::{Kind, PortableError, PortableFile, Progress, Sealing, Step, Summary, Watch, file::write_file, item::Item};
use crate::{KeyId, KeyOrigin, KeyScope, KeyStore, StoredKey, TimeRange, ledger::Entry};

/// How many keys are read, or put in, at a time.
const PAGE: usize = 256;
/// How many ids of keys that were left out are told for one scope.
const TOLD: usize = 100;

/// Writes the keys of `scopes` that were in use at any moment of `range` to a new file at `path`. Which key is current is not
/// told. Otherwise as [`back_up`](super::back_up).
///
/// # Errors
/// As [`back_up`](super::back_up).
pub fn export_keys(
    store: &dyn KeyStore,
    scopes: &[KeyScope],
    range: TimeRange,
    path: &Path,
    sealing: &Sealing<'_>,
    replace: bool,
    watch: &mut Watch<'_>,
) -> Result<Summary, PortableError> {
    write_file(path, replace, Kind::Keys, sealing, watch, |items, watch| {
        let total = scopes.len() as u64;
        for (done, scope) in (1..).zip(scopes) {
            let mut after = None;
            loop {
                let page = store.history(scope, range, after.as_ref(), PAGE)?;
                let Some(last) = page.last() else { break };
                after = Some(last.cursor());
                for stored in page {
                    items.put(&Item::Entry(Entry::Key { scope: scope.clone(), stored, current: None }))?;
                }
            }
            watch(Progress { step: Step::Writing, done, total });
        }
        Ok(())
    })
}

/// What an import did to the keys of one scope.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct ImportedScope {
    /// Keys the store did not have.
    pub new: u64,
    /// Keys it had already; the period of one that was received may have become wider.
    pub known: u64,
    /// Keys left out, since the store has another key under the same id.
    pub left_out: u64,
    /// The ids of the first hundred of them.
    pub left_out_ids: Vec<KeyId>,
}

/// Puts the keys of an export into a store, and tells for each scope what was new. A key that is there is never replaced by
/// another. Which key is current stays as it is.
///
/// `origin` says as what a key counts here: one made there was not made by a store of somebody else.
///
/// The file is read to its end before anything is put in. A process that dies then leaves some of the keys; the same again
/// puts in the rest.
///
/// # Errors
/// [`PortableError::OtherKind`] or the errors of [`PortableFile::verify`], and then nothing was put in;
/// [`PortableError::Store`].
pub fn import_keys<R: Read + Seek>(
    store: &dyn KeyStore,
    export: &mut PortableFile<R>,
    origin: impl Fn(&KeyScope, KeyOrigin) -> KeyOrigin,
    watch: &mut Watch<'_>,
) -> Result<BTreeMap<KeyScope, ImportedScope>, PortableError> {
    export.expect(Kind::Keys)?;
    export.verify(watch)?;
    let (mut imported, mut page): (BTreeMap<_, _>, Vec<StoredKey>) = Default::default();
    let mut page_of: Option<KeyScope> = None;
    export.each(Step::TakingIn, watch, |item| {
        let Item::Entry(Entry::Key { scope, mut stored, .. }) = item else {
            return Err(PortableError::damaged("an export that holds more than keys"));
        };
        if page.len() >= PAGE || page_of.as_ref().is_some_and(|of| *of != scope) {
            put_page(store, page_of.as_ref(), &mut page, &mut imported)?;
        }
        stored.origin = origin(&scope, stored.origin);
        page_of = Some(scope);
        page.push(stored);
        Ok(())
    })?;
    put_page(store, page_of.as_ref(), &mut page, &mut imported)?;
    Ok(imported)
}

fn put_page(
    store: &dyn KeyStore,
    scope: Option<&KeyScope>,
    page: &mut Vec<StoredKey>,
    imported: &mut BTreeMap<KeyScope, ImportedScope>,
) -> Result<(), PortableError> {
    let Some(scope) = scope else { return Ok(()) };
    let mut had = 0;
    for stored in page.iter() {
        had += u64::from(store.key(scope, stored.key.id())?.is_some_and(|known| known.key.same_as(&stored.key)));
    }
    let left_out = store.add_all(scope, page)?;
    let told = imported.entry(scope.clone()).or_default();
    told.known += had;
    told.left_out += left_out.len() as u64;
    told.new += (page.len() as u64).saturating_sub(had + left_out.len() as u64);
    let room = TOLD.saturating_sub(told.left_out_ids.len());
    told.left_out_ids.extend(left_out.into_iter().take(room));
    page.clear();
    Ok(())
}
