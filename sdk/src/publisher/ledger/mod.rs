//! The grant ledger: who was given which key, when, under which grant and for which public key.
//!
//! It tells a rekey whom to push to, also after a restart, and the owner who holds what. Its records lie sealed in the store,
//! in one table, so that a batch of them is one write. What a peer does can make it grow up to [`LedgerLimits`] and no
//! further: a user who asks with ever new public keys, or from ever new places, overwrites its own record.

mod draft;
mod record;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use veilcast_key_store::{KeyId, RecordStore, StoreError};

use self::draft::Draft;
use self::record::{HolderRecord, KeyRecord, RecordFault};
use crate::identity::UserId;
use crate::permission::Period;
use crate::stream::StreamId;
use crate::time::Timestamp;

const TABLE: &str = "ledger";
/// Records read from the store at a time.
const PAGE: usize = 256;

/// How much the ledger keeps.
#[derive(Clone, Copy, Debug)]
pub struct LedgerLimits {
    /// Holders of one stream. At the limit a sixteenth is forgotten, with the account of what it got: first those who were
    /// refused for good, then those served the longest ago. Whoever is forgotten pulls.
    pub holders: usize,
    /// Keys on record as given to one holder. At the limit the eighth that became current first is dropped.
    pub keys_per_holder: usize,
}

impl Default for LedgerLimits {
    fn default() -> Self {
        Self { holders: 65_536, keys_per_holder: 256 }
    }
}

/// Where a holder is, and for which public key it asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its libp2p peer id.
    pub peer: Vec<u8>,
    /// Where that peer said it can be reached, as binary multiaddrs; may be empty.
    pub addresses: Vec<Vec<u8>>,
    /// Its RSA public key, DER SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
}

impl Place {
    /// SHA-256 of the public key.
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.public_key).into()
    }
}

/// Somebody who holds keys of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Who.
    pub user: UserId,
    /// When it was given a key for the first time, ms since the epoch.
    pub first: Timestamp,
    /// And for the last time.
    pub last: Timestamp,
    /// Of the keys given to it, the one that became current last.
    pub newest_key: KeyId,
    /// The grant under which that last was.
    pub grant: Period,
}

/// How a key was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GivenBy {
    /// It asked.
    Answer,
    /// A rekey sent it, and it confirmed.
    Push,
}

/// A key that somebody was given. Never its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GivenKey {
    /// Which.
    pub key_id: KeyId,
    /// When that key became current.
    pub since: Timestamp,
    /// When it was given, the last time.
    pub at: Timestamp,
    /// How many times it was given.
    pub times: u32,
    /// Under which grant.
    pub grant: Period,
    /// SHA-256 of the public key that it was wrapped for, DER SubjectPublicKeyInfo.
    pub public_key: [u8; 32],
    /// How.
    pub by: GivenBy,
}

/// Keys given to somebody at once.
#[derive(Clone, Debug)]
pub struct Given {
    /// Of which stream.
    pub stream: StreamId,
    /// To whom.
    pub user: UserId,
    /// Where, and for which public key.
    pub place: Place,
    /// Under which grant.
    pub grant: Period,
    /// Which keys, and since when each was current.
    pub keys: Vec<(KeyId, Timestamp)>,
    /// When.
    pub at: Timestamp,
    /// How.
    pub by: GivenBy,
}

/// What is written into the ledger.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_enums, reason = "whoever writes knows exactly these two")]
pub enum Entry {
    /// Somebody was given keys.
    Given(Given),
    /// A holder was refused for good at `at`, and is none any more unless it was given keys since.
    Refused {
        /// Of which stream.
        stream: StreamId,
        /// Who.
        user: UserId,
        /// When.
        at: Timestamp,
    },
}

/// The ledger of one publisher in a store.
pub struct GrantLedger {
    records: Arc<dyn RecordStore>,
    publisher: UserId,
    limits: LedgerLimits,
    /// Each writing reads first.
    turn: Mutex<()>,
}

impl GrantLedger {
    /// Over the records of a store.
    pub fn new(records: Arc<dyn RecordStore>, publisher: UserId) -> Self {
        Self::with_limits(records, publisher, LedgerLimits::default())
    }

    /// The same, with other limits.
    pub fn with_limits(records: Arc<dyn RecordStore>, publisher: UserId, limits: LedgerLimits) -> Self {
        Self { records, publisher, limits, turn: Mutex::new(()) }
    }

    /// Writes entries, in their order. They are durable when this returns; one wait for the disk serves all of a thousand.
    ///
    /// # Errors
    /// [`StoreError`]: some of the last ones may be missing.
    pub fn write(&self, entries: &[Entry]) -> Result<(), StoreError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut draft = Draft::new(&*self.records, self.publisher);
        for entry in entries {
            match entry {
                Entry::Given(given) => draft.given(given)?,
                Entry::Refused { stream, user, at } => draft.refused(stream, *user, *at)?,
            }
        }
        draft.finish(self.limits)
    }

    /// Those who hold keys of a stream and where each is, in the order of their addresses, strictly after `after`. Fewer than
    /// `limit` are the last. A record that cannot be read is passed over with a warning: whose it is pulls.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn places(
        &self,
        stream: &StreamId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<(Holder, Place)>, StoreError> {
        let prefix = record::holders(self.publisher, stream);
        let mut cursor = after.map(|user| record::holder(self.publisher, stream, user));
        let mut found = Vec::new();
        while found.len() < limit {
            let page = self.records.scan(TABLE, &prefix, cursor.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { break };
            cursor = Some(last.clone());
            let held = page.iter().filter_map(|(place, value)| readable(stream, holder_in(place, &prefix, value))?);
            found.extend(held);
        }
        found.truncate(limit);
        Ok(found)
    }

    /// Those who were given keys of a stream, in the order of their addresses: those who hold them still, and those refused since,
    /// who read on with what they have. At most [`LedgerLimits::holders`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn recipients(&self, stream: &StreamId) -> Result<Vec<Holder>, StoreError> {
        let prefix = record::holders(self.publisher, stream);
        let records = draft::all_under(&*self.records, &prefix)?;
        let read = |(place, value): &(Vec<u8>, Vec<u8>)| readable(stream, recipient_in(place, &prefix, value))?;
        Ok(records.iter().filter_map(read).collect())
    }

    /// Those who hold keys of a stream, at most [`LedgerLimits::holders`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn holders(&self, stream: &StreamId) -> Result<Vec<Holder>, StoreError> {
        let mut found: Vec<Holder> = Vec::new();
        loop {
            let after = found.last().map(|holder| holder.user);
            let page = self.places(stream, after, PAGE)?;
            let is_last = page.len() < PAGE;
            found.extend(page.into_iter().map(|(holder, _)| holder));
            if is_last {
                return Ok(found);
            }
        }
    }

    /// The keys given to a user, also to one that was refused since, in the order in which they became current; at most
    /// [`LedgerLimits::keys_per_holder`], the newest.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn given_keys(&self, stream: &StreamId, user: UserId) -> Result<Vec<GivenKey>, StoreError> {
        let prefix = record::keys(self.publisher, stream, user);
        let records = draft::all_under(&*self.records, &prefix)?;
        let read = |(place, value): &(Vec<u8>, Vec<u8>)| {
            let rest = place.strip_prefix(prefix.as_slice()).unwrap_or_default();
            readable(stream, KeyRecord::read(value).and_then(|record| record.into_given(rest)))
        };
        Ok(records.iter().filter_map(read).collect())
    }
}

impl std::fmt::Debug for GrantLedger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrantLedger").field("publisher", &self.publisher).finish_non_exhaustive()
    }
}

/// `None` for one that was refused for good.
fn holder_in(place: &[u8], prefix: &[u8], value: &[u8]) -> Result<Option<(Holder, Place)>, RecordFault> {
    let user = record::user_at(place, prefix).ok_or(RecordFault::Damaged)?;
    let record = HolderRecord::read(value)?;
    if record.left.is_some() { Ok(None) } else { record.into_holder(user).map(Some) }
}

/// `None` for one that was refused and never given anything.
fn recipient_in(place: &[u8], prefix: &[u8], value: &[u8]) -> Result<Option<Holder>, RecordFault> {
    let user = record::user_at(place, prefix).ok_or(RecordFault::Damaged)?;
    let record = HolderRecord::read(value)?;
    if record.keys == 0 { Ok(None) } else { record.into_holder(user).map(|(holder, _)| Some(holder)) }
}

fn readable<T>(stream: &StreamId, read: Result<T, RecordFault>) -> Option<T> {
    read.inspect_err(|fault| tracing::warn!(%stream, %fault, "a record of the ledger is passed over")).ok()
}
