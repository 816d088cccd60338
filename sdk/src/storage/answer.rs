//! A storage node's answer to a request that was admitted and permitted.

use super::{Beginning, MessageStore, Page, Query, StorageError};
use crate::identity::Identity;
use crate::permission::Refusal;
use crate::time::Timestamp;
use crate::wire::{ResendPage, ResendRequest, Span, Verified, WireError};

/// What the store has of what is asked for: one page of so many messages at most. What was looked at to find where the last so many begin counts as well.
///
/// # Errors
/// As [`MessageStore::read`].
pub fn read(store: &dyn MessageStore, request: &ResendRequest, most: usize) -> Result<Page, StorageError> {
    let query = Query::everything(request.part.clone()).filter(request.filter).after(request.after).most(most);
    let (query, looked_at) = match request.span {
        Span::Range { from, to } => (query.between(from, to), 0),
        Span::Last(n) => {
            let Beginning { first, looked_at } = store.last(&request.part, &request.filter, n)?;
            if first.is_none() {
                return Ok(Page { looked_at, ..Page::default() });
            }
            (query.starting_at(first), looked_at)
        }
    };
    let page = store.read(&query)?;
    Ok(Page { looked_at: page.looked_at + looked_at, ..page })
}

/// The page, or the refusal, signed by the node.
///
/// # Errors
/// As [`Verified::sign`].
pub fn answer(
    request: &ResendRequest,
    page: Result<Page, Refusal>,
    node: &Identity,
    now: Timestamp,
) -> Result<Verified<ResendPage>, WireError> {
    let refusal = page.as_ref().err().copied();
    let page = page.unwrap_or_default();
    let page = ResendPage {
        id: request.id,
        part: request.part.clone(),
        node: node.user(),
        requester: request.requester,
        sent: now,
        messages: page.messages.into_iter().map(|stored| stored.envelope).collect(),
        next: page.next,
        refusal,
    };
    Verified::sign(page, node)
}
