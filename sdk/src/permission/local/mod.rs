//! The embedded registry: streams and grants in the owner's own store.
//!
//! [`records`] is what the store has, [`rules`] what becomes of a grant when another follows. A stream whose id names an owner's address
//! needs no record for that owner: owners may do everything.

mod error;
mod records;
mod rules;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use veilcast_key_store::RecordStore;

pub use self::error::RegistryError;
use self::records::{GrantEntry, Records, StreamEntry};
use self::rules::{began, succeed};
use super::{Answer, Grant, Period, Permission, PermissionSource, Refusal, StreamInfo, Subscriber};
use crate::identity::UserId;
use crate::stream::{MAX_PARTITIONS, StreamId};
use crate::time::Timestamp;

/// What a refusal for want of the store tells the asker.
const RETRY: std::time::Duration = std::time::Duration::from_secs(5);

/// Permissions kept in a store by the streams' owner.
pub struct LocalRegistry {
    records: Records,
    /// Held by whoever reads a record and writes another in its place.
    turn: Mutex<()>,
}

impl LocalRegistry {
    /// Over the records of a store.
    pub fn new(records: Arc<dyn RecordStore>) -> Self {
        Self { records: Records::new(records), turn: Mutex::default() }
    }

    /// Makes a stream. Making it again with other settings is an error; with the same it changes nothing.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn create_stream(&self, stream: &StreamId, partitions: u32, public: bool) -> Result<(), RegistryError> {
        if partitions == 0 || partitions > MAX_PARTITIONS {
            return Err(RegistryError::Partitions { got: partitions });
        }
        let _turn = self.turn();
        match self.records.stream(stream)? {
            Some(found) if found.partitions == partitions && found.public == public => Ok(()),
            Some(_) => Err(RegistryError::StreamExists { stream: stream.clone() }),
            None => {
                let entry = StreamEntry { partitions, public, public_until: None };
                self.records.put_stream(stream, &entry)
            }
        }
    }

    /// Makes a stream readable by everybody, or from `now` on by subscribers only.
    ///
    /// # Errors
    /// [`RegistryError::NoStream`].
    pub fn set_public(&self, stream: &StreamId, public: bool, now: Timestamp) -> Result<(), RegistryError> {
        let _turn = self.turn();
        let entry = self.known(stream)?;
        let stops = entry.public && !public;
        let public_until = if stops { Some(now.as_millis()) } else { entry.public_until };
        self.records.put_stream(stream, &StreamEntry { public, public_until, ..entry })
    }

    /// Gives or renews a permission. It replaces what the user had of it before, unless the new period begins in the future
    /// and continues the present one: then it is lengthened.
    ///
    /// # Errors
    /// [`RegistryError`]: no such stream, a period that makes no sense at `now`, or [`RegistryError::StillHeld`].
    pub fn grant(
        &self,
        stream: &StreamId,
        user: UserId,
        permission: Permission,
        period: Period,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        let _turn = self.turn();
        self.known(stream)?;
        period.grantable_at(now)?;
        let old = self.records.grant(stream, user, permission)?.map(|entry| entry.grant(permission));
        let (start, before) = match &old {
            Some(old) => succeed(old, &period, now).ok_or(RegistryError::StillHeld { user, permission })?,
            None => (period.start, None),
        };
        let began = began(old.filter(|old| old.holds_at(now).is_ok()), &period, now);
        let millis = |moment: Option<Timestamp>| moment.map(Timestamp::as_millis);
        let (start, end, before) = (millis(start), millis(period.end), millis(before));
        let entry = GrantEntry { start, end, revoked: None, before, began: millis(Some(began)) };
        self.records.put_grant(stream, user, permission, &entry)
    }

    /// Takes a permission back at `now`. The grant stays on record as ended.
    ///
    /// # Errors
    /// [`RegistryError::NoGrant`] when there is none to take back.
    pub fn revoke(
        &self,
        stream: &StreamId,
        user: UserId,
        permission: Permission,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        let _turn = self.turn();
        let found = self.records.grant(stream, user, permission)?;
        let entry = found.ok_or_else(|| RegistryError::NoGrant { stream: stream.clone(), user, permission })?;
        // An end is told from another by its moment, so one user's rise strictly: also when a grant is given and taken back
        // within the millisecond of the end before it, or after a clock was set back.
        let moment = entry.before.map_or(now.as_millis(), |before| now.as_millis().max(before.saturating_add(1)));
        let revoked = Some(entry.revoked.unwrap_or(moment));
        self.records.put_grant(stream, user, permission, &GrantEntry { revoked, ..entry })
    }

    /// Every grant on record, ended ones included.
    ///
    /// # Errors
    /// [`RegistryError::Store`].
    pub fn grants(&self, stream: &StreamId) -> Result<Vec<(UserId, Grant)>, RegistryError> {
        self.records.grants(stream)
    }

    /// The streams on record.
    ///
    /// # Errors
    /// [`RegistryError::Store`].
    pub fn streams(&self) -> Result<Vec<(StreamId, StreamInfo)>, RegistryError> {
        self.records.streams()
    }

    /// The stream's settings; `None` when it is not on record.
    ///
    /// # Errors
    /// [`RegistryError::Store`].
    pub fn stream_info(&self, stream: &StreamId) -> Result<Option<StreamInfo>, RegistryError> {
        Ok(self.records.stream(stream)?.map(|entry| entry.info()))
    }

    fn check_now(
        &self,
        stream: &StreamId,
        user: UserId,
        permission: Permission,
        now: Timestamp,
    ) -> Result<Result<Grant, Refusal>, RegistryError> {
        if stream.owner() == Some(user) {
            return Ok(Ok(Grant::new(permission, Period::ALWAYS)));
        }
        let public = || Ok::<_, RegistryError>(self.records.stream(stream)?.is_some_and(|entry| entry.public));
        if permission == Permission::Subscribe && public()? {
            return Ok(Ok(Grant::new(permission, Period::ALWAYS)));
        }
        let Some(entry) = self.records.grant(stream, user, permission)? else {
            return Ok(Err(Refusal::Denied));
        };
        let grant = entry.grant(permission);
        Ok(grant.holds_at(now).map(|()| grant))
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, stream: &StreamId) -> Result<StreamEntry, RegistryError> {
        self.records.stream(stream)?.ok_or_else(|| RegistryError::NoStream { stream: stream.clone() })
    }
}

/// A store that fails cannot tell: refuse, and say when to ask again.
fn unavailable(error: RegistryError) -> Refusal {
    tracing::warn!(%error, "the local registry cannot be read");
    Refusal::Unavailable { retry_after: RETRY }
}

impl PermissionSource for LocalRegistry {
    fn check<'a>(
        &'a self,
        stream: &'a StreamId,
        user: UserId,
        permission: Permission,
        now: Timestamp,
    ) -> Answer<'a, Result<Grant, Refusal>> {
        let answer = self.check_now(stream, user, permission, now).unwrap_or_else(|error| Err(unavailable(error)));
        Box::pin(std::future::ready(answer))
    }

    fn subscribers<'a>(&'a self, stream: &'a StreamId) -> Answer<'a, Result<Vec<Subscriber>, Refusal>> {
        let subscribing = |(user, grant): (UserId, Grant)| {
            (grant.permission == Permission::Subscribe).then_some(Subscriber { user, grant })
        };
        let answer = self.grants(stream).map(|grants| grants.into_iter().filter_map(subscribing).collect());
        Box::pin(std::future::ready(answer.map_err(unavailable)))
    }

    fn stream<'a>(&'a self, stream: &'a StreamId) -> Answer<'a, Result<Option<StreamInfo>, Refusal>> {
        Box::pin(std::future::ready(self.stream_info(stream).map_err(unavailable)))
    }

    fn changes(&self) -> u64 {
        self.records.changes()
    }

    fn kind(&self) -> &'static str {
        "local"
    }

    fn waits_for_the_disk(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
