//! Where an owner's statements are kept: as they came, signature and all, so that they can be passed on.
//!
//! ```text
//! owner_records   stream id                                              version 1 | envelope
//! owner_grants    stream id | 0 | user 20 | permission 1 | serial 8      version 1 | envelope
//! owner_serials   stream id                                              the next serial, 8 bytes
//! owner_shown     stream id | 0 | publisher 20                           the newest serial it was shown, 8 bytes
//! owner_heard     stream id | 0 | end of access                          when this store first heard of it, ms, 8 bytes
//! owner_needed    stream id | 0 | what is taken back                     until when that must be said, ms, 8 bytes
//! ```
//! Numbers are big-endian; a stream id has no zero byte. Only what was verified is written, so what is read needs no second
//! look at its signature.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use veilcast_key_store::{MAX_RECORD_CHANGES, RecordStore, StoreError};

use super::error::GrantError;
use super::heard::AccessEnd;
use crate::identity::UserId;
use crate::permission::Permission;
use crate::stream::StreamId;
use crate::time::Timestamp;
use crate::wire::{Content, Received, Revoked, SignedGrant, StreamRecord, Verified};

const RECORDS: &str = "owner_records";
const GRANTS: &str = "owner_grants";
const SERIALS: &str = "owner_serials";
const SHOWN: &str = "owner_shown";
const HEARD: &str = "owner_heard";
const NEEDED: &str = "owner_needed";
const VERSION: u8 = 1;
const PAGE: usize = 256;

/// A key and its value.
type Entry = (Vec<u8>, Vec<u8>);

/// A statement and the envelope it came in.
#[derive(Clone, Debug)]
pub(super) struct Kept<T> {
    pub(super) content: T,
    pub(super) envelope: Bytes,
}

pub(super) struct Shelf(Arc<dyn RecordStore>);

impl Shelf {
    pub(super) fn new(records: Arc<dyn RecordStore>) -> Self {
        Self(records)
    }

    pub(super) fn record(&self, stream: &StreamId) -> Result<Option<Kept<StreamRecord>>, GrantError> {
        self.0.get(RECORDS, stream.as_str().as_bytes())?.map(|value| read(&value)).transpose()
    }

    pub(super) fn put_record(&self, record: &Verified<StreamRecord>) -> Result<(), StoreError> {
        let key = record.content().stream.as_str().as_bytes().to_vec();
        self.0.write(RECORDS, &[(key, Some(written(record.envelope())))])
    }

    /// The streams there are records of.
    pub(super) fn streams(&self) -> Result<Vec<StreamId>, GrantError> {
        let stream = |key: &[u8]| std::str::from_utf8(key).ok().and_then(|text| StreamId::new(text).ok());
        let all = self.all(RECORDS, b"")?;
        all.iter().map(|(key, _)| stream(key).ok_or(GrantError::Damaged)).collect()
    }

    /// The grants of one user for one permission, in the order of their serials.
    pub(super) fn grants_of(
        &self,
        stream: &StreamId,
        user: UserId,
        permission: Permission,
    ) -> Result<Vec<Kept<SignedGrant>>, GrantError> {
        let prefix = of_user(stream, user, permission);
        self.all(GRANTS, &prefix)?.iter().map(|(_, value)| read(value)).collect()
    }

    /// Every grant of the stream, those of one user side by side.
    pub(super) fn grants(&self, stream: &StreamId) -> Result<Vec<Kept<SignedGrant>>, GrantError> {
        self.all(GRANTS, &of_stream(stream))?.iter().map(|(_, value)| read(value)).collect()
    }

    /// Puts a grant in and takes another out, both or neither.
    pub(super) fn put_grant(
        &self,
        grant: &Verified<SignedGrant>,
        instead_of: Option<&SignedGrant>,
    ) -> Result<(), StoreError> {
        let mut changes = vec![(place(grant.content()), Some(written(grant.envelope())))];
        changes.extend(instead_of.map(|old| (place(old), None)));
        self.0.write(GRANTS, &changes)
    }

    /// Takes grants away, some at a time.
    pub(super) fn drop_grants<'a>(&self, grants: impl Iterator<Item = &'a SignedGrant>) -> Result<(), StoreError> {
        let changes: Vec<_> = grants.map(|grant| (place(grant), None)).collect();
        changes.chunks(MAX_RECORD_CHANGES).try_for_each(|part| self.0.write(GRANTS, part))
    }

    /// Forgets a stream of somebody else; its record last, so that a crash on the way leaves it to be forgotten.
    pub(super) fn drop_stream(&self, stream: &StreamId) -> Result<(), StoreError> {
        for table in [GRANTS, SHOWN, HEARD] {
            let gone: Vec<_> = self.all(table, &of_stream(stream))?.into_iter().map(|(key, _)| (key, None)).collect();
            gone.chunks(MAX_RECORD_CHANGES).try_for_each(|part| self.0.write(table, part))?;
        }
        self.0.write(RECORDS, &[(stream.as_str().as_bytes().to_vec(), None)])
    }

    /// The serial of the next grant, where one was counted here.
    pub(super) fn next_serial(&self, stream: &StreamId) -> Result<Option<u64>, GrantError> {
        self.0.get(SERIALS, stream.as_str().as_bytes())?.map(number).transpose()
    }

    /// Durable when it returns.
    pub(super) fn put_next_serial(&self, stream: &StreamId, next: u64) -> Result<(), StoreError> {
        self.0.write(SERIALS, &[(stream.as_str().as_bytes().to_vec(), Some(next.to_be_bytes().to_vec()))])
    }

    /// Up to which serial of ours a publisher was shown.
    pub(super) fn shown(&self, stream: &StreamId, publisher: UserId) -> Result<u64, GrantError> {
        Ok(self.0.get(SHOWN, &of_publisher(stream, publisher))?.map(number).transpose()?.unwrap_or(0))
    }

    pub(super) fn put_shown(&self, stream: &StreamId, publisher: UserId, serial: u64) -> Result<(), StoreError> {
        self.0.write(SHOWN, &[(of_publisher(stream, publisher), Some(serial.to_be_bytes().to_vec()))])
    }

    /// When each end of access was first heard of.
    pub(super) fn heard(&self, stream: &StreamId) -> Result<BTreeMap<AccessEnd, Timestamp>, GrantError> {
        let prefix = of_stream(stream);
        let entry = |(key, value): Entry| {
            let end = AccessEnd::read(key.get(prefix.len()..).unwrap_or_default()).ok_or(GrantError::Damaged)?;
            Ok((end, Timestamp::from_millis(number(value)?)))
        };
        self.all(HEARD, &prefix)?.into_iter().map(entry).collect()
    }

    /// Notes ends that are new, and forgets those that are said no more.
    pub(super) fn put_heard(
        &self,
        stream: &StreamId,
        new: &[(AccessEnd, Timestamp)],
        gone: &[AccessEnd],
    ) -> Result<(), StoreError> {
        let place = |end: &AccessEnd| [of_stream(stream), end.written()].concat();
        let new = new.iter().map(|(end, at)| (place(end), Some(at.as_millis().to_be_bytes().to_vec())));
        let gone = gone.iter().map(|end| (place(end), None));
        let changes: Vec<_> = new.chain(gone).collect();
        if changes.is_empty() { Ok(()) } else { self.0.write(HEARD, &changes) }
    }

    /// Until when it must be said that this is taken back; `None` where that was never noted.
    pub(super) fn needed(&self, stream: &StreamId, what: Revoked) -> Result<Option<Timestamp>, GrantError> {
        let value = self.0.get(NEEDED, &of_revoked(stream, what))?.map(number).transpose()?;
        Ok(value.map(Timestamp::from_millis))
    }

    pub(super) fn put_needed(&self, stream: &StreamId, what: Revoked, until: Timestamp) -> Result<(), StoreError> {
        self.0.write(NEEDED, &[(of_revoked(stream, what), Some(until.as_millis().to_be_bytes().to_vec()))])
    }

    fn all(&self, table: &str, prefix: &[u8]) -> Result<Vec<Entry>, StoreError> {
        let mut found: Vec<Entry> = Vec::new();
        loop {
            let page = self.0.scan(table, prefix, found.last().map(|(key, _)| key.as_slice()), PAGE)?;
            let is_last = page.len() < PAGE;
            found.extend(page);
            if is_last {
                return Ok(found);
            }
        }
    }
}

fn number(value: Vec<u8>) -> Result<u64, GrantError> {
    Ok(u64::from_be_bytes(value.try_into().map_err(|_| GrantError::Damaged)?))
}

fn written(envelope: &Bytes) -> Vec<u8> {
    [&[VERSION], envelope.as_ref()].concat()
}

fn read<T: Content + Clone>(value: &[u8]) -> Result<Kept<T>, GrantError> {
    let Some((&VERSION, envelope)) = value.split_first() else { return Err(GrantError::Damaged) };
    let envelope = Bytes::copy_from_slice(envelope);
    let received = Received::<T>::decode(&envelope).map_err(|_| GrantError::Damaged)?;
    Ok(Kept { content: received.claims().clone(), envelope })
}

fn of_stream(stream: &StreamId) -> Vec<u8> {
    [stream.as_str().as_bytes(), &[0]].concat()
}

fn of_publisher(stream: &StreamId, publisher: UserId) -> Vec<u8> {
    [of_stream(stream), publisher.as_bytes().to_vec()].concat()
}

/// All revocations of one user are one: a later one takes the place of those before.
fn of_revoked(stream: &StreamId, what: Revoked) -> Vec<u8> {
    match what {
        Revoked::Serial(serial) => [of_stream(stream), vec![1], serial.to_be_bytes().to_vec()].concat(),
        Revoked::User { user, .. } => [of_stream(stream), vec![2], user.as_bytes().to_vec()].concat(),
    }
}

fn of_user(stream: &StreamId, user: UserId, permission: Permission) -> Vec<u8> {
    let permission = match permission {
        Permission::Publish => 1,
        Permission::Subscribe => 2,
    };
    [&of_stream(stream), user.as_bytes().as_slice(), &[permission]].concat()
}

fn place(grant: &SignedGrant) -> Vec<u8> {
    [of_user(&grant.stream, grant.user, grant.permission), grant.serial.to_be_bytes().to_vec()].concat()
}
