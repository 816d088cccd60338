//! What is asked of a store, and what it answers.

use bytes::Bytes;

use super::{Place, StorageError};
use crate::identity::UserId;
use crate::stream::StreamPart;
use crate::time::Timestamp;
use crate::wire::MAX_MESSAGES_PER_PAGE;

/// Most messages on a page.
pub const MOST_MESSAGES: usize = MAX_MESSAGES_PER_PAGE;
/// Bytes of messages on a page beyond which no further one is put on it: one message may be larger, and is alone then.
pub const MOST_BYTES: usize = 512 * 1024;
/// Messages looked at for a page at most. A page may be empty and still not the last.
pub(super) const LOOKED_AT: usize = 16_384;

/// Whose messages; everybody's where nothing is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Filter {
    /// Of this publisher only.
    pub publisher: Option<UserId>,
    /// Of this chain only.
    pub chain: Option<[u8; 16]>,
}

impl Filter {
    /// Everybody's.
    pub const ALL: Self = Self { publisher: None, chain: None };

    /// One publisher's.
    pub fn publisher(publisher: UserId) -> Self {
        Self { publisher: Some(publisher), chain: None }
    }

    /// One chain's.
    pub fn chain(publisher: UserId, chain: [u8; 16]) -> Self {
        Self { publisher: Some(publisher), chain: Some(chain) }
    }

    /// Whether a message at this place passes.
    pub fn passes(&self, place: &Place) -> bool {
        self.publisher.is_none_or(|publisher| publisher == place.publisher)
            && self.chain.is_none_or(|chain| chain == place.chain)
    }
}

/// One page of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Query {
    /// Of which partition.
    pub part: StreamPart,
    /// First moment, included.
    pub from: Timestamp,
    /// Last moment, included.
    pub to: Timestamp,
    /// From this place on, itself included; without it from the beginning.
    pub starting_at: Option<Place>,
    /// Strictly behind this place; without it from the beginning.
    pub after: Option<Place>,
    /// Whose.
    pub filter: Filter,
    /// How many messages at most; never more than [`MOST_MESSAGES`].
    pub most: usize,
}

impl Query {
    /// All messages of a partition, from the first page on.
    pub fn everything(part: StreamPart) -> Self {
        let to = Timestamp::from_millis(u64::MAX);
        Self {
            part,
            from: Timestamp::ZERO,
            to,
            starting_at: None,
            after: None,
            filter: Filter::ALL,
            most: MOST_MESSAGES,
        }
    }

    /// Only from one moment to another, both included.
    #[must_use]
    pub fn between(self, from: Timestamp, to: Timestamp) -> Self {
        Self { from, to, ..self }
    }

    /// Only from a place on, itself included.
    #[must_use]
    pub fn starting_at(self, place: Option<Place>) -> Self {
        Self { starting_at: place, ..self }
    }

    /// Only behind a place.
    #[must_use]
    pub fn after(self, after: Option<Place>) -> Self {
        Self { after, ..self }
    }

    /// Only whose.
    #[must_use]
    pub fn filter(self, filter: Filter) -> Self {
        Self { filter, ..self }
    }

    /// So many at most.
    #[must_use]
    pub fn most(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// The first place to look at, and whether it is itself left out.
    pub(super) fn begin(&self) -> (Place, bool) {
        let first = self.starting_at.into_iter().fold(first_of(self.from), Place::max);
        match self.after {
            Some(after) if after >= first => (after, true),
            _ => (first, false),
        }
    }
}

/// The least place of a moment.
pub(super) fn first_of(timestamp: Timestamp) -> Place {
    let at = crate::wire::MessageRef { timestamp, sequence: 0 };
    Place { at, publisher: UserId::from_bytes([0; UserId::LEN]), chain: [0; 16] }
}

/// A message of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Where it stands.
    pub place: Place,
    /// The signed envelope as it travelled.
    pub envelope: Bytes,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Page {
    /// The messages, in the order of their places.
    pub messages: Vec<Stored>,
    /// Behind this place there may be more; `None` when there is nothing more.
    pub next: Option<Place>,
    /// How many messages were looked at.
    pub looked_at: usize,
}

/// Collects a page from what lies in a partition, in order, so that every engine fills pages alike.
pub(super) struct PageMaker<'a> {
    query: &'a Query,
    page: Page,
    bytes: usize,
    /// The last place that is settled: on the page, or passed over.
    behind: Option<Place>,
}

impl<'a> PageMaker<'a> {
    pub(super) fn new(query: &'a Query) -> Self {
        Self { query, page: Page::default(), bytes: 0, behind: None }
    }

    /// The next message there is; without an envelope it went while the page was made. `false`: the page is done.
    pub(super) fn offer(
        &mut self,
        place: Place,
        envelope: impl FnOnce() -> Result<Option<Bytes>, StorageError>,
    ) -> Result<bool, StorageError> {
        if place.at.timestamp > self.query.to {
            return Ok(false);
        }
        let full = self.page.messages.len() >= self.query.most.clamp(1, MOST_MESSAGES);
        if full || self.page.looked_at >= LOOKED_AT {
            self.page.next = self.behind;
            return Ok(false);
        }
        self.page.looked_at += 1;
        if self.query.filter.passes(&place)
            && let Some(envelope) = envelope()?
        {
            if self.bytes > 0 && self.bytes + envelope.len() > MOST_BYTES {
                self.page.next = self.behind;
                return Ok(false);
            }
            self.bytes += envelope.len();
            self.page.messages.push(Stored { place, envelope });
        }
        self.behind = Some(place);
        Ok(true)
    }

    /// All up to this place is settled, although not each of its messages was offered: finding the others cost as much as
    /// looking at so many. `false`: the page is done.
    pub(super) fn pass(&mut self, place: Place, looked_at: usize) -> bool {
        self.page.looked_at += looked_at;
        if place.at.timestamp > self.query.to {
            return false;
        }
        self.behind = Some(place);
        if self.page.looked_at >= LOOKED_AT {
            self.page.next = self.behind;
            return false;
        }
        true
    }

    pub(super) fn finish(self) -> Page {
        self.page
    }
}
