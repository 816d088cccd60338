//! One page of a publisher's history: which keys it speaks of, and where the next one begins.

use veilcast_key_store::{HistoryCursor, KeyScope, KeyStore, StoreError, StoredKey, TimeRange};

use super::answer::Decision;
use crate::permission::Refusal;
use crate::wire::{KeyRange, MAX_KEYS_PER_ANSWER};

/// Keys looked at for one page, whatever span is asked for: keys that ended before it have to be passed by. What was not found
/// among them is looked for by the next request, so that no single one costs a walk through a long history.
const LOOKED_AT: usize = 1024;

/// What a page says, and where the next one begins.
#[derive(Debug)]
pub struct Page {
    /// A decision for each key of the page.
    pub decisions: Vec<Decision>,
    /// Where the next page begins; absent at the end of the span.
    pub next: Option<HistoryCursor>,
}

impl Page {
    /// Reads the page from the publisher's store, in order, and decides about each key of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn read(
        store: &(impl KeyStore + ?Sized),
        scope: &KeyScope,
        asked: &KeyRange,
        decide: impl Fn(&StoredKey) -> Result<(), Refusal>,
    ) -> Result<Self, StoreError> {
        let up_to = TimeRange { from: 0, to: asked.range.to };
        let looked_at = store.history(scope, up_to, asked.after.as_ref(), LOOKED_AT)?;
        let mut more = looked_at.len() == LOOKED_AT;
        let mut page = Self { decisions: Vec::new(), next: None };
        for stored in looked_at {
            if page.decisions.len() == MAX_KEYS_PER_ANSWER {
                more = true;
                break;
            }
            page.next = Some(stored.cursor());
            if stored.touches(asked.range) {
                page.decisions.push((stored.key.id().clone(), decide(&stored).map(|()| stored)));
            }
        }
        page.next = page.next.filter(|_| more);
        Ok(page)
    }
}
