//! Where the ledger's records lie, and what is in them.
//!
//! ```text
//! h | publisher 20 | stream id | 0 | user 20                          a holder
//! d | publisher 20 | stream id | 0 | user 20 | since 8 | key id       a key given to it
//! n | publisher 20 | stream id | 0                                    how many holders of the stream are on record
//! ```
//! A stream id has no zero byte, so no id is another's prefix; `since` is big-endian, so keys lie in their order. Values are
//! protobuf with a version, except the number: 8 bytes, big-endian.

use prost::Message;
use veilcast_key_store::KeyId;

use super::{Given, GivenBy, GivenKey, Holder, Place};
use crate::identity::UserId;
use crate::permission::Period;
use crate::stream::StreamId;
use crate::time::Timestamp;

const VERSION: u32 = 1;

/// Why a record is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RecordFault {
    #[error("it is written in version {0}, this program knows version {VERSION}")]
    Version(u32),
    #[error("it is damaged")]
    Damaged,
}

pub(super) fn holders(publisher: UserId, stream: &StreamId) -> Vec<u8> {
    [b"h", publisher.as_bytes().as_slice(), stream.as_str().as_bytes(), &[0]].concat()
}

pub(super) fn holder(publisher: UserId, stream: &StreamId, user: UserId) -> Vec<u8> {
    [&holders(publisher, stream), user.as_bytes().as_slice()].concat()
}

pub(super) fn keys(publisher: UserId, stream: &StreamId, user: UserId) -> Vec<u8> {
    [b"d", publisher.as_bytes().as_slice(), stream.as_str().as_bytes(), &[0], user.as_bytes()].concat()
}

pub(super) fn key(of: &[u8], id: &KeyId, since: Timestamp) -> Vec<u8> {
    [of, &since.as_millis().to_be_bytes(), id.as_str().as_bytes()].concat()
}

pub(super) fn number(publisher: UserId, stream: &StreamId) -> Vec<u8> {
    [b"n", publisher.as_bytes().as_slice(), stream.as_str().as_bytes(), &[0]].concat()
}

/// Whose record lies at a place under [`holders`].
pub(super) fn user_at(place: &[u8], prefix: &[u8]) -> Option<UserId> {
    UserId::try_from(place.strip_prefix(prefix)?).ok()
}

/// A holder as it is written.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HolderRecord {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "vec", tag = "2")]
    peer: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    addresses: Vec<Vec<u8>>,
    #[prost(bytes = "vec", tag = "4")]
    public_key: Vec<u8>,
    #[prost(uint64, tag = "5")]
    first: u64,
    #[prost(uint64, tag = "6")]
    pub(super) last: u64,
    #[prost(string, tag = "7")]
    newest_key: String,
    #[prost(uint64, tag = "8")]
    newest_since: u64,
    #[prost(uint64, optional, tag = "9")]
    grant_start: Option<u64>,
    #[prost(uint64, optional, tag = "10")]
    grant_end: Option<u64>,
    /// Keys on record as given to it.
    #[prost(uint32, tag = "11")]
    pub(super) keys: u32,
    /// When it was refused for good: from then on nobody pushes to it.
    #[prost(uint64, optional, tag = "12")]
    pub(super) left: Option<u64>,
}

impl HolderRecord {
    pub(super) fn first_seen(at: Timestamp) -> Self {
        Self { version: VERSION, first: at.as_millis(), ..Self::default() }
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self, RecordFault> {
        let record = Self::decode(bytes).map_err(|_| RecordFault::Damaged)?;
        if record.version == VERSION { Ok(record) } else { Err(RecordFault::Version(record.version)) }
    }

    /// Given keys now: what it was before is replaced, except where it can be reached when nothing newer is known of this peer.
    pub(super) fn take(&mut self, given: &Given) {
        let Place { peer, addresses, public_key } = &given.place;
        if *peer != self.peer || !addresses.is_empty() {
            self.addresses.clone_from(addresses);
        }
        self.peer.clone_from(peer);
        self.public_key.clone_from(public_key);
        self.last = given.at.as_millis();
        (self.grant_start, self.grant_end) = millis(given.grant);
        self.left = None;
        let newest = given.keys.iter().max_by_key(|(_, since)| *since);
        if let Some((id, since)) = newest.filter(|(_, since)| since.as_millis() >= self.newest_since) {
            (self.newest_key, self.newest_since) = (id.as_str().to_string(), since.as_millis());
        }
    }

    /// Refused for good: what it got stays on record, where it is does not.
    pub(super) fn leave(&mut self, at: Timestamp) {
        self.left = Some(at.as_millis());
        (self.peer, self.addresses, self.public_key) = (Vec::new(), Vec::new(), Vec::new());
    }

    pub(super) fn into_holder(self, user: UserId) -> Result<(Holder, Place), RecordFault> {
        let holder = Holder {
            user,
            first: Timestamp::from_millis(self.first),
            last: Timestamp::from_millis(self.last),
            newest_key: KeyId::new(&self.newest_key).map_err(|_| RecordFault::Damaged)?,
            grant: period(self.grant_start, self.grant_end),
        };
        Ok((holder, Place { peer: self.peer, addresses: self.addresses, public_key: self.public_key }))
    }
}

/// A given key as it is written; which one stands in its place.
#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyRecord {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(uint64, tag = "2")]
    at: u64,
    #[prost(uint32, tag = "3")]
    times: u32,
    #[prost(uint64, optional, tag = "4")]
    grant_start: Option<u64>,
    #[prost(uint64, optional, tag = "5")]
    grant_end: Option<u64>,
    #[prost(bytes = "vec", tag = "6")]
    fingerprint: Vec<u8>,
    #[prost(uint32, tag = "7")]
    by: u32,
}

impl KeyRecord {
    pub(super) fn of(given: &Given, before: Option<&Self>) -> Self {
        let (grant_start, grant_end) = millis(given.grant);
        let by = match given.by {
            GivenBy::Answer => 1,
            GivenBy::Push => 2,
        };
        Self {
            version: VERSION,
            at: given.at.as_millis(),
            times: before.map_or(0, |before| before.times).saturating_add(1),
            grant_start,
            grant_end,
            fingerprint: given.place.fingerprint().to_vec(),
            by,
        }
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self, RecordFault> {
        let record = Self::decode(bytes).map_err(|_| RecordFault::Damaged)?;
        if record.version == VERSION { Ok(record) } else { Err(RecordFault::Version(record.version)) }
    }

    /// `rest` is what follows the user in its place.
    pub(super) fn into_given(self, rest: &[u8]) -> Result<GivenKey, RecordFault> {
        let (since, id) = rest.split_first_chunk().ok_or(RecordFault::Damaged)?;
        let id = std::str::from_utf8(id).ok().and_then(|id| KeyId::new(id).ok()).ok_or(RecordFault::Damaged)?;
        Ok(GivenKey {
            key_id: id,
            since: Timestamp::from_millis(u64::from_be_bytes(*since)),
            at: Timestamp::from_millis(self.at),
            times: self.times,
            grant: period(self.grant_start, self.grant_end),
            public_key: self.fingerprint.as_slice().try_into().map_err(|_| RecordFault::Damaged)?,
            by: match self.by {
                1 => GivenBy::Answer,
                2 => GivenBy::Push,
                _ => return Err(RecordFault::Damaged),
            },
        })
    }
}

fn millis(period: Period) -> (Option<u64>, Option<u64>) {
    (period.start.map(Timestamp::as_millis), period.end.map(Timestamp::as_millis))
}

fn period(start: Option<u64>, end: Option<u64>) -> Period {
    Period { start: start.map(Timestamp::from_millis), end: end.map(Timestamp::from_millis) }
}
