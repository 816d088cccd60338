//! When a publisher first heard that somebody's access ended.
//!
//! An owner's record says when a grant was taken back, or the stream stopped being public. It may come days later: until then the
//! one it is about could ask, and may have been given a key made in the meantime. So what counts for a rekey is the moment the
//! record came, and that is kept beside it.

use std::collections::BTreeMap;

use super::error::GrantError;
use super::shelf::Shelf;
use crate::identity::UserId;
use crate::stream::StreamId;
use crate::time::Timestamp;
use crate::wire::{Revocation, Revoked, StreamRecord};

/// One end that a record tells of, and when it was by the owner's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AccessEnd {
    Serial { serial: u64, at: Timestamp },
    User { user: UserId, through: u64, at: Timestamp },
    Public { at: Timestamp },
}

impl AccessEnd {
    fn of(revocation: &Revocation) -> Self {
        let at = revocation.at;
        match revocation.what {
            Revoked::Serial(serial) => Self::Serial { serial, at },
            Revoked::User { user, through } => Self::User { user, through, at },
        }
    }

    fn all(record: &StreamRecord) -> impl Iterator<Item = Self> {
        let public = record.public_until.map(|at| Self::Public { at });
        record.revocations.iter().map(Self::of).chain(public)
    }

    /// `kind 1 | at 8 | serial 8 | user 20`, as much of it as there is.
    pub(super) fn written(&self) -> Vec<u8> {
        let number = |number: u64| number.to_be_bytes().to_vec();
        match self {
            Self::Serial { serial, at } => [vec![1], number(at.as_millis()), number(*serial)].concat(),
            Self::User { user, through, at } => {
                [vec![2], number(at.as_millis()), number(*through), user.as_bytes().to_vec()].concat()
            }
            Self::Public { at } => [vec![3], number(at.as_millis())].concat(),
        }
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (at, rest) = rest.split_first_chunk::<8>()?;
        let at = Timestamp::from_millis(u64::from_be_bytes(*at));
        if *kind == 3 {
            return rest.is_empty().then_some(Self::Public { at });
        }
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let number = u64::from_be_bytes(*number);
        match kind {
            1 => rest.is_empty().then_some(Self::Serial { serial: number, at }),
            2 => Some(Self::User { user: UserId::from_bytes(rest.try_into().ok()?), through: number, at }),
            _ => None,
        }
    }
}

/// Notes what a record tells that was not known. To be durable before the record is.
///
/// # Errors
/// [`GrantError::Store`], [`GrantError::Damaged`].
pub(super) fn note(shelf: &Shelf, record: &StreamRecord, now: Timestamp) -> Result<(), GrantError> {
    let known = shelf.heard(&record.stream)?;
    let said: BTreeMap<AccessEnd, Timestamp> = AccessEnd::all(record).map(|end| (end, now)).collect();
    let new: Vec<_> = said.iter().filter(|(end, _)| !known.contains_key(end)).map(|(end, at)| (*end, *at)).collect();
    let gone: Vec<_> = known.into_keys().filter(|end| !said.contains_key(end)).collect();
    Ok(shelf.put_heard(&record.stream, &new, &gone)?)
}

/// The record with each end at the moment from which on it counts here: when it was, or when it was heard of if that was later.
///
/// # Errors
/// [`GrantError::Store`], [`GrantError::Damaged`].
pub(super) fn as_heard(shelf: &Shelf, stream: &StreamId, mut record: StreamRecord) -> Result<StreamRecord, GrantError> {
    let heard = shelf.heard(stream)?;
    let counts = |end: AccessEnd, at: Timestamp| heard.get(&end).map_or(at, |heard| at.max(*heard));
    for revocation in &mut record.revocations {
        revocation.at = counts(AccessEnd::of(revocation), revocation.at);
    }
    record.public_until = record.public_until.map(|at| counts(AccessEnd::Public { at }, at));
    Ok(record)
}
