//! Room for what comes, and whose turn it is to write.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use lru::LruCache;

use super::error::GrantError;
use super::issue::RECORD_LIFETIME;
use super::{SignedGrants, StreamRecord};
use crate::identity::UserId;
use crate::stream::StreamId;
use crate::time::Timestamp;
use crate::wire::SignedGrant;

/// Streams whose number of grants is remembered.
const COUNTED: NonZeroUsize = NonZeroUsize::new(256).unwrap();
/// Turns that all users share.
const TURNS: usize = 64;
/// What has been over for so long gives way: its user was shut out, and clocks do not differ by more.
const OVER: Duration = Duration::from_secs(24 * 3600);
/// How often it is looked for what gives way, of a stream that is full.
const LOOK: Duration = Duration::from_secs(60);

/// How much is on the shelf, and whose turn it is.
pub(super) struct Rooms {
    /// Held by whoever reads the grants of a user first and then writes.
    turns: [Mutex<()>; TURNS],
    counts: Mutex<Counts>,
    /// Whose store it is: what he signed himself never gives way to what others did.
    owner: OnceLock<UserId>,
}

/// Held by whoever reads first and then writes something of a whole stream.
pub(super) struct Counts(LruCache<StreamId, Count>);

/// Grants of one stream, those being written included.
#[derive(Clone, Copy)]
struct Count {
    grants: usize,
    /// How many of them are being written, so that they may not be on the shelf yet.
    writing: usize,
    /// When nothing was found to give way.
    looked: Option<Timestamp>,
}

impl Rooms {
    pub(super) fn new() -> Self {
        let turns = std::array::from_fn(|_| Mutex::new(()));
        Self { turns, counts: Mutex::new(Counts(LruCache::new(COUNTED))), owner: OnceLock::new() }
    }

    pub(super) fn belongs_to(&self, owner: UserId) {
        // A second one issues for streams of its own into the same store; the first stays safe all the same.
        let _ = self.owner.set(owner);
    }

    pub(super) fn turn(&self, stream: &StreamId, user: UserId) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        (stream, user).hash(&mut hasher);
        let place = usize::try_from(hasher.finish() % TURNS as u64).unwrap_or_default();
        self.turns[place].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// A grant that room was made for is on the shelf now, or did not come.
    pub(super) fn settled(&mut self, stream: &StreamId, came: bool) {
        if let Some(count) = self.0.get_mut(stream) {
            count.writing = count.writing.saturating_sub(1);
            count.grants = count.grants.saturating_sub(usize::from(!came));
        }
    }
}

impl SignedGrants {
    /// Takes a place for one more grant of a stream. Where there is none, what has been over for a day gives way.
    pub(super) fn make_room(&self, stream: &StreamId, now: Timestamp) -> Result<(), GrantError> {
        let (counts, limit) = (&mut *self.rooms.lock(), self.limits.per_stream);
        let mut count = match counts.0.get(stream) {
            Some(count) => *count,
            None => Count { grants: self.shelf.grants(stream)?.len(), writing: 0, looked: None },
        };
        let is_due = count.looked.is_none_or(|looked| now < looked || now.since(looked) >= LOOK);
        if count.grants >= limit && is_due {
            // One of those being written may be on the shelf already, and counts twice until the next look.
            count.grants = self.left_of(stream, now)? + count.writing;
            count.looked = Some(now);
        }
        let is_full = count.grants >= limit;
        count.grants += usize::from(!is_full);
        count.writing += usize::from(!is_full);
        counts.0.put(stream.clone(), count);
        if is_full { Err(GrantError::TooMany { what: "grants of one stream", limit }) } else { Ok(()) }
    }

    /// Takes the grants of a stream away that have been over for a day; returns how many are left.
    fn left_of(&self, stream: &StreamId, now: Timestamp) -> Result<usize, GrantError> {
        // What was taken back is over from when that was heard here: its user was let in until then.
        let record = self.record_as_heard(stream)?;
        let mut all = self.shelf.grants(stream)?;
        let before = all.len();
        all.retain(|kept| is_long_over(&kept.content, record.as_ref(), now));
        self.shelf.drop_grants(all.iter().map(|kept| &kept.content))?;
        Ok(before - all.len())
    }

    /// The serial counter of an owner whose own grant comes back to a store that has begun to count anew.
    pub(super) fn count_on(&self, grant: &SignedGrant) -> Result<(), GrantError> {
        let _counts = self.rooms.lock();
        if self.shelf.next_serial(&grant.stream)?.is_some_and(|next| next <= grant.serial) {
            self.shelf.put_next_serial(&grant.stream, grant.serial.saturating_add(1))?;
        }
        Ok(())
    }

    /// Looks for a place for one more stream, while nobody else takes it.
    pub(super) fn make_room_for_stream(&self, now: Timestamp) -> Result<(), GrantError> {
        let (all, limit) = (self.shelf.streams()?, self.limits.streams);
        let mut left = all.len();
        if left < limit {
            return Ok(());
        }
        // Who does not know which are its own takes none away.
        let owner = self.rooms.owner.get().copied();
        for stream in all.iter().filter(|stream| owner.is_some() && stream.owner() != owner) {
            let record = self.shelf.record(stream)?.map(|kept| kept.content);
            if record.is_some_and(|record| now > record.expires.plus(RECORD_LIFETIME)) {
                self.shelf.drop_stream(stream)?;
                self.changes.record(stream);
                left -= 1;
            }
        }
        if left < limit { Ok(()) } else { Err(GrantError::TooMany { what: "streams with a record", limit }) }
    }
}

fn is_long_over(grant: &SignedGrant, record: Option<&StreamRecord>, now: Timestamp) -> bool {
    let revoked = record.and_then(|record| record.revoked(grant));
    let over = revoked.into_iter().chain(grant.period.end).min();
    over.is_some_and(|over| now > over.plus(OVER))
}
