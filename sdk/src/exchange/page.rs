//! One page of a publisher's history: which keys it speaks of, and where the next one begins.

use veilcast_key_store::{HistoryCursor, KeyScope, KeyStore, StoreError, StoredKey, TimeRange};

use super::answer::Decision;
use crate::permission::Refusal;
use crate::wire::{KeyRange, MAX_KEYS_PER_ANSWER};

/// Keys looked at for one page, whatever span is asked for: keys that ended before it have to be passed by. What was not found
/// among them is looked for by the next request, so that no single one costs a walk through a long history.
pub(super) const LOOKED_AT: usize = 1024;
/// Keys read at a time: a page that is full of keys of the span, and one more to see whether there is another.
const READ: usize = MAX_KEYS_PER_ANSWER + 1;

/// What a page says, and where the next one begins.
#[derive(Debug)]
pub struct Page {
    /// A decision for each key of the page.
    pub decisions: Vec<Decision>,
    /// Where the next page begins; absent at the end of the span.
    pub next: Option<HistoryCursor>,
    /// Keys of the store it took: those it speaks of, and those passed by.
    pub looked_at: usize,
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
        let mut page = Self { decisions: Vec::new(), next: asked.after.clone(), looked_at: 0 };
        while page.looked_at < LOOKED_AT {
            let limit = READ.min(LOOKED_AT - page.looked_at);
            let read = store.history(scope, up_to, page.next.as_ref(), limit)?;
            let is_last = read.len() < limit;
            for stored in read {
                if page.decisions.len() == MAX_KEYS_PER_ANSWER {
                    return Ok(page);
                }
                page.looked_at += 1;
                page.next = Some(stored.cursor());
                if stored.touches(asked.range) {
                    page.decisions.push((stored.key.id().clone(), decide(&stored).map(|()| stored)));
                }
            }
            if is_last {
                page.next = None;
                break;
            }
        }
        Ok(page)
    }
}
