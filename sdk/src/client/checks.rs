//! Checks of a subscription's authors that are under way. Nothing waits for one: whoever asks is told when it is done.

use std::num::NonZeroUsize;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use lru::LruCache;

use super::shared::Shared;
use crate::identity::UserId;
use crate::permission::{Grant, Permission, Refusal};
use crate::stream::StreamId;

/// Under way at a time.
const CHECKS: usize = 32;
/// Of them for authors who were never permitted: the others are left to those who were, however many strangers come.
const STRANGERS: usize = 24;
/// Authors remembered as permitted.
const PERMITTED: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// Who, and whether he may publish.
pub(super) type Checked = (UserId, Result<Grant, Refusal>);

pub(super) struct Checks {
    shared: Arc<Shared>,
    stream: StreamId,
    under_way: FuturesUnordered<BoxFuture<'static, Checked>>,
    permitted: LruCache<UserId, ()>,
}

impl Checks {
    pub(super) fn new(shared: Arc<Shared>, stream: StreamId) -> Self {
        Self { shared, stream, under_way: FuturesUnordered::new(), permitted: LruCache::new(PERMITTED) }
    }

    pub(super) fn any_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    pub(super) fn is_stranger(&self, author: UserId) -> bool {
        !self.permitted.contains(&author)
    }

    pub(super) fn has_room(&self) -> bool {
        self.under_way.len() < CHECKS
    }

    pub(super) fn has_room_for_strangers(&self) -> bool {
        self.under_way.len() < STRANGERS
    }

    /// Begins a check; its answer, if the source has it at once.
    pub(super) fn begin(&mut self, author: UserId) -> Option<Checked> {
        let (shared, stream) = (self.shared.clone(), self.stream.clone());
        let check = async move { (author, shared.check(&stream, author, Permission::Publish).await) };
        let mut check = check.boxed();
        let Some(checked) = (&mut check).now_or_never() else {
            self.under_way.push(check);
            return None;
        };
        Some(self.remember(checked))
    }

    /// The next answer; `None` when no check is under way. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Option<Checked> {
        let checked = self.under_way.next().await?;
        Some(self.remember(checked))
    }

    fn remember(&mut self, (author, answer): Checked) -> Checked {
        match answer {
            Ok(_) => drop(self.permitted.put(author, ())),
            Err(refusal) if refusal.retry_after().is_none() => drop(self.permitted.pop(&author)),
            Err(_) => {}
        }
        (author, answer)
    }
}
