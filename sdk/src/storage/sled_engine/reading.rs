//! Pages, and where the last so many messages begin.

use std::ops::Bound::{Excluded, Included};

use super::SledMessageStore;
use super::walk::{Met, Walk};
use crate::storage::query::PageMaker;
use crate::storage::{Beginning, Filter, Page, Query, StorageError};
use crate::stream::StreamPart;

/// Of how many messages that were looked at a block has the price that is read for the messages of one publisher.
const BLOCK_READ: usize = 64;

impl SledMessageStore {
    pub(super) fn page(&self, query: &Query) -> Result<Page, StorageError> {
        let (held, mut page) = (self.view().part(&query.part), PageMaker::new(query));
        let (begin, left_out) = query.begin();
        let begin = if left_out { Excluded(begin) } else { Included(begin) };
        for met in Walk::forward(&self.files, &held, begin, query.filter.publisher) {
            let goes_on = match met? {
                Met::Message(found) => page.offer(found.place, || Ok(Some(found.envelope)))?,
                Met::Behind(place) => page.pass(place, BLOCK_READ),
            };
            if !goes_on {
                break;
            }
        }
        Ok(page.finish())
    }

    /// Whole blocks are counted without being read, where nobody is left out.
    pub(super) fn beginning(&self, part: &StreamPart, filter: &Filter, n: u64) -> Result<Beginning, StorageError> {
        let held = self.view().part(part);
        let (mut walk, mut beginning, mut found) =
            (Walk::backward(&self.files, &held, filter.publisher), Beginning::default(), 0);
        while found < n {
            if filter.chain.is_none()
                && let Some((messages, first)) = walk.pass_block(n - found)
            {
                found += messages;
                beginning.looked_at += 1;
                beginning.first = Some(first);
                continue;
            }
            match walk.next().transpose()? {
                Some(Met::Message(met)) => {
                    beginning.looked_at += 1;
                    if filter.passes(&met.place) {
                        found += 1;
                        beginning.first = Some(met.place);
                    }
                }
                Some(Met::Behind(_)) => beginning.looked_at += BLOCK_READ,
                None => break,
            }
        }
        Ok(beginning)
    }
}
