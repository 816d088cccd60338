//! Messages at rest: what a storage node keeps, and how it is found again.
//!
//! A [`MessageStore`] holds signed envelopes as they travelled, still sealed: it has no keys and needs none. It takes verified
//! messages only, keeps them in the order of time within each partition, and gives up the oldest first when its limits on
//! age or size are reached: for want of room, the oldest of the stream that has the most. [`SledMessageStore`] keeps them on disk, [`MemoryMessageStore`] in memory; one suite of tests
//! holds both to the same rules.
//!
//! ```
//! use veilcast::storage::{MemoryMessageStore, MessageStore, Query, StorageLimits};
//! # use veilcast::{Identity, Payload, StreamId, Timestamp, message::{Draft, compose}, wire::MessageRef};
//! # let identity = Identity::generate(&mut rand::rng());
//! # let part = StreamId::of(identity.user(), "prices").unwrap().part(0).unwrap();
//! # let now = Timestamp::from_secs(1_000_000);
//! # let at = MessageRef { timestamp: now, sequence: 0 };
//! # let draft = Draft { part: part.clone(), chain: [1; 16], at, previous: None, key_updates: Vec::new() };
//! # let message = compose(draft, &Payload::text("x"), None, &identity, &mut rand::rng()).unwrap();
//! let store = MemoryMessageStore::new(StorageLimits::default());
//! assert_eq!(store.append(now, &[message]).unwrap().stored, 1);
//! let page = store.read(&Query::everything(part)).unwrap();
//! assert_eq!((page.messages.len(), page.next), (1, None));
//! ```

mod answer;
mod error;
mod memory;
mod place;
mod query;
mod screen;
mod sled_engine;

pub use answer::{answer, read};
pub use error::StorageError;
pub use memory::MemoryMessageStore;
pub use place::Place;
pub use query::{Filter, MOST_BYTES, MOST_MESSAGES, Page, Query, Stored};
#[cfg(feature = "p2p")]
pub(crate) use screen::looks_far_back;
pub use screen::{Admission, ResendLimits, ResendScreen, Ticket};
pub use sled_engine::SledMessageStore;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use sled_engine::reads_block;

use std::time::Duration;

use crate::stream::StreamPart;
use crate::time::Timestamp;
use crate::wire::{MessageContent, Verified};

/// How far in the future a message may be dated to be kept: it would outlive all others.
const AHEAD: Duration = Duration::from_secs(3600);

/// What is kept, and how much memory that may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StorageLimits {
    /// Bytes of messages and their places: 10 GiB. Beyond, the stream that has the most loses its oldest. The files of an engine
    /// take somewhat more, and lag behind by a block for each partition.
    pub max_bytes: u64,
    /// How old a message may become by its own timestamp; without it as old as there is room.
    pub max_age: Option<Duration>,
    /// Memory for messages and the index, bytes: 64 MiB. Beside it the engine on disk needs some hundred bytes for each block of
    /// messages: less than a thousandth of what is kept. Where many read at once, each has two blocks of half a MiB at most in hand.
    pub cache_bytes: u64,
}

impl Default for StorageLimits {
    fn default() -> Self {
        Self { max_bytes: 10 << 30, max_age: None, cache_bytes: 64 << 20 }
    }
}

impl StorageLimits {
    /// With another limit on size.
    #[must_use]
    pub fn max_bytes(self, max_bytes: u64) -> Self {
        Self { max_bytes, ..self }
    }

    /// With a limit on age, or none.
    #[must_use]
    pub fn max_age(self, max_age: Option<Duration>) -> Self {
        Self { max_age, ..self }
    }

    /// With more memory, or less.
    #[must_use]
    pub fn cache_bytes(self, cache_bytes: u64) -> Self {
        Self { cache_bytes, ..self }
    }

    /// Whether a message of this moment is kept at `now`.
    fn takes(&self, at: Timestamp, now: Timestamp) -> bool {
        at >= self.oldest(now) && at <= now.plus(AHEAD)
    }

    /// What is older is given up.
    fn oldest(&self, now: Timestamp) -> Timestamp {
        self.max_age.map_or(Timestamp::ZERO, |age| now.minus(age))
    }
}

/// What became of messages that were to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Appended {
    /// New, and kept.
    pub stored: usize,
    /// In the store already; the first copy stays.
    pub known: usize,
    /// Older than the limit on age, or dated more than an hour ahead.
    pub out_of_range: usize,
    /// Older ones that were given up for want of room, or for their age.
    pub evicted: usize,
}

/// What a store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct StorageState {
    /// Messages.
    pub messages: u64,
    /// Their bytes, with their places in the index.
    pub bytes: u64,
    /// The timestamp of the oldest message.
    pub oldest: Option<Timestamp>,
    /// The timestamp of the newest.
    pub newest: Option<Timestamp>,
}

/// Where the last so many messages begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Beginning {
    /// The place of the first of them; `None` where there is none.
    pub first: Option<Place>,
    /// How many messages were looked at to find it.
    pub looked_at: usize,
}

impl Beginning {
    /// The first of these, which are counted from the last on.
    fn of(
        places: impl Iterator<Item = Result<Place, StorageError>>,
        filter: &Filter,
        n: u64,
    ) -> Result<Self, StorageError> {
        let (mut beginning, mut found) = (Self::default(), 0);
        for place in places {
            if found == n {
                break;
            }
            let place = place?;
            beginning.looked_at += 1;
            if filter.passes(&place) {
                found += 1;
                beginning.first = Some(place);
            }
        }
        Ok(beginning)
    }
}

/// Where messages are kept. Calls wait for the disk: they belong off async workers.
pub trait MessageStore: Send + Sync {
    /// Keeps messages; what was stored is on disk when this returns. The oldest are given up where there is no room.
    ///
    /// # Errors
    /// The disk failed; what was not acknowledged may be there or not.
    fn append(&self, now: Timestamp, messages: &[Verified<MessageContent>]) -> Result<Appended, StorageError>;

    /// A page of one partition, in the order of [`Place`].
    ///
    /// # Errors
    /// The disk failed, or what lies there is damaged.
    fn read(&self, query: &Query) -> Result<Page, StorageError>;

    /// Where the last `n` messages of a partition that pass the filter begin; the first of all where there are fewer.
    ///
    /// # Errors
    /// The disk failed, or what lies there is damaged.
    fn last(&self, part: &StreamPart, filter: &Filter, n: u64) -> Result<Beginning, StorageError>;

    /// Gives up what is too old at `now`. Answers how many messages.
    ///
    /// # Errors
    /// The disk failed.
    fn evict(&self, now: Timestamp) -> Result<usize, StorageError>;

    /// How much there is.
    ///
    /// # Errors
    /// The disk failed.
    fn state(&self) -> Result<StorageState, StorageError>;
}
