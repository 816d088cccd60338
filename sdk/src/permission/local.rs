//! The embedded registry: streams and grants in the owner's own store.
//!
//! Records live in two tables of the [`RecordStore`]: `streams` by stream id, `grants` by stream id, user and permission.
//! A stream whose id names an owner's address needs no record for that owner: owners may do everything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use veilcast_key_store::{RecordStore, StoreError};

use super::{Answer, Grant, Period, PeriodError, Permission, PermissionSource, Refusal, StreamInfo, Subscriber};
use crate::identity::UserId;
use crate::stream::{MAX_PARTITIONS, StreamId};
use crate::time::Timestamp;

const STREAMS: &str = "streams";
const GRANTS: &str = "grants";
/// How many records one scan of the store fetches.
const PAGE: usize = 256;
/// What a refusal for want of the store tells the asker.
const RETRY: std::time::Duration = std::time::Duration::from_secs(5);

/// Permissions kept in a store by the streams' owner.
pub struct LocalRegistry {
    records: Arc<dyn RecordStore>,
    changes: AtomicU64,
    /// Held by whoever reads a record and writes another in its place.
    turn: Mutex<()>,
}

#[derive(Serialize, Deserialize)]
struct StreamEntry {
    partitions: u32,
    public: bool,
    #[serde(default)]
    public_until: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct GrantEntry {
    // Said in every record, though it be "none": a record that lacks its end must not become a grant for ever.
    #[serde(deserialize_with = "Option::deserialize")]
    start: Option<u64>,
    #[serde(deserialize_with = "Option::deserialize")]
    end: Option<u64>,
    #[serde(deserialize_with = "Option::deserialize")]
    revoked: Option<u64>,
    /// From when on an earlier grant, which this one does not continue, was void.
    #[serde(default)]
    before: Option<u64>,
    /// When the holder's unbroken time began.
    #[serde(default)]
    began: Option<u64>,
}

impl LocalRegistry {
    /// Over the records of a store.
    pub fn new(records: Arc<dyn RecordStore>) -> Self {
        Self { records, changes: AtomicU64::new(0), turn: Mutex::default() }
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
        match self.stream_entry(stream)? {
            Some(found) if found.partitions == partitions && found.public == public => Ok(()),
            Some(_) => Err(RegistryError::StreamExists { stream: stream.clone() }),
            None => {
                let entry = StreamEntry { partitions, public, public_until: None };
                self.put(STREAMS, stream.as_str().as_bytes().to_vec(), &entry)
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
        self.put(STREAMS, stream.as_str().as_bytes().to_vec(), &StreamEntry { public, public_until, ..entry })
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
        let key = grant_key(stream, user, permission);
        let old = self.get::<GrantEntry>(GRANTS, &key)?.map(|entry| entry_grant(&entry, permission));
        let (start, before) = match &old {
            Some(old) => succeed(old, &period, now).ok_or(RegistryError::StillHeld { user, permission })?,
            None => (period.start, None),
        };
        let began = began(old.filter(|old| old.holds_at(now).is_ok()), &period, now);
        let millis = |moment: Option<Timestamp>| moment.map(Timestamp::as_millis);
        let (start, end, before) = (millis(start), millis(period.end), millis(before));
        self.put(GRANTS, key, &GrantEntry { start, end, revoked: None, before, began: millis(Some(began)) })
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
        let key = grant_key(stream, user, permission);
        let found = self.get::<GrantEntry>(GRANTS, &key)?;
        let entry = found.ok_or_else(|| RegistryError::NoGrant { stream: stream.clone(), user, permission })?;
        // An end is told from another by its moment, so one user's rise strictly: also when a grant is given and taken back
        // within the millisecond of the end before it, or after a clock was set back.
        let moment = entry.before.map_or(now.as_millis(), |before| now.as_millis().max(before.saturating_add(1)));
        let revoked = Some(entry.revoked.unwrap_or(moment));
        self.put(GRANTS, key, &GrantEntry { revoked, ..entry })
    }

    /// Every grant on record, ended ones included.
    ///
    /// # Errors
    /// [`RegistryError::Store`].
    pub fn grants(&self, stream: &StreamId) -> Result<Vec<(UserId, Grant)>, RegistryError> {
        let prefix = grant_prefix(stream);
        let mut found = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.records.scan(GRANTS, &prefix, after.as_deref(), PAGE)?;
            for (key, value) in &page {
                let (user, permission) = parse_grant_key(&key[prefix.len()..]).ok_or(RegistryError::Record)?;
                found.push((user, entry_grant(&parse::<GrantEntry>(value)?, permission)));
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE => after = Some(last.clone()),
                _ => return Ok(found),
            }
        }
    }

    /// The streams on record.
    ///
    /// # Errors
    /// [`RegistryError::Store`].
    pub fn streams(&self) -> Result<Vec<(StreamId, StreamInfo)>, RegistryError> {
        let mut found = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.records.scan(STREAMS, b"", after.as_deref(), PAGE)?;
            for (key, value) in &page {
                let id = std::str::from_utf8(key).ok().and_then(|text| StreamId::new(text).ok());
                found.push((id.ok_or(RegistryError::Record)?, info(&parse(value)?)));
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE => after = Some(last.clone()),
                _ => return Ok(found),
            }
        }
    }

    /// The stream's settings; `None` when it is not on record.
    ///
    /// # Errors
    /// [`RegistryError::Store`].
    pub fn stream_info(&self, stream: &StreamId) -> Result<Option<StreamInfo>, RegistryError> {
        Ok(self.stream_entry(stream)?.map(|entry| info(&entry)))
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
        let public = || Ok::<_, RegistryError>(self.stream_entry(stream)?.is_some_and(|entry| entry.public));
        if permission == Permission::Subscribe && public()? {
            return Ok(Ok(Grant::new(permission, Period::ALWAYS)));
        }
        let Some(entry) = self.get::<GrantEntry>(GRANTS, &grant_key(stream, user, permission))? else {
            return Ok(Err(Refusal::Denied));
        };
        let grant = entry_grant(&entry, permission);
        Ok(grant.holds_at(now).map(|()| grant))
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, stream: &StreamId) -> Result<StreamEntry, RegistryError> {
        self.stream_entry(stream)?.ok_or_else(|| RegistryError::NoStream { stream: stream.clone() })
    }

    fn stream_entry(&self, stream: &StreamId) -> Result<Option<StreamEntry>, RegistryError> {
        self.get(STREAMS, stream.as_str().as_bytes())
    }

    fn get<T: for<'de> Deserialize<'de>>(&self, table: &str, key: &[u8]) -> Result<Option<T>, RegistryError> {
        self.records.get(table, key)?.map(|value| parse(&value)).transpose()
    }

    fn put<T: Serialize>(&self, table: &str, key: Vec<u8>, entry: &T) -> Result<(), RegistryError> {
        let value = serde_json::to_vec(entry).map_err(|_| RegistryError::Record)?;
        self.records.write(table, &[(key, Some(value))])?;
        self.changes.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// The start of the grant that follows `old`, and the end of `old` if it does not continue it. `None` when `old` still holds
/// and the new one would leave a hole behind it.
fn succeed(old: &Grant, new: &Period, now: Timestamp) -> Option<(Option<Timestamp>, Option<Timestamp>)> {
    let later = new.start.filter(|start| now.as_secs() < start.as_secs());
    match (old.holds_at(now).is_ok(), later) {
        (true, None) => Some((new.start, old.before)),
        (true, Some(start)) => {
            let continues = old.ends().is_none_or(|end| start.as_secs() <= end.as_secs() + 1);
            continues.then_some((old.period.start, old.before))
        }
        (false, _) => Some((new.start, if old.is_over_at(now) { old.void_from() } else { old.before })),
    }
}

/// When the unbroken time begins that a grant given at `now` belongs to. What continues a grant that holds keeps its beginning,
/// or has an earlier one if the owner says so; what follows a pause begins anew.
fn began(continued: Option<Grant>, new: &Period, now: Timestamp) -> Timestamp {
    let said = new.start.unwrap_or(now);
    // Of a grant of which nobody noted when it began it is known that it holds.
    continued.map_or(said, |old| old.beginning().unwrap_or(now).min(said))
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
        self.changes.load(Ordering::SeqCst)
    }

    fn kind(&self) -> &'static str {
        "local"
    }

    fn waits_for_the_disk(&self) -> bool {
        true
    }
}

/// `stream id | 0 | user 20 | permission name`: a stream id has no zero byte, so no id is another's prefix.
fn grant_key(stream: &StreamId, user: UserId, permission: Permission) -> Vec<u8> {
    let mut key = grant_prefix(stream);
    key.extend_from_slice(user.as_bytes());
    key.extend_from_slice(permission.name().as_bytes());
    key
}

fn grant_prefix(stream: &StreamId) -> Vec<u8> {
    let mut key = stream.as_str().as_bytes().to_vec();
    key.push(0);
    key
}

fn parse_grant_key(rest: &[u8]) -> Option<(UserId, Permission)> {
    let (user, permission) = rest.split_at_checked(UserId::LEN)?;
    Some((UserId::try_from(user).ok()?, std::str::from_utf8(permission).ok()?.parse().ok()?))
}

fn entry_grant(entry: &GrantEntry, permission: Permission) -> Grant {
    let moment = |millis: Option<u64>| millis.map(Timestamp::from_millis);
    let period = Period { start: moment(entry.start), end: moment(entry.end) };
    let (revoked, before, began) = (moment(entry.revoked), moment(entry.before), moment(entry.began));
    Grant { permission, period, revoked, before, began }
}

fn info(entry: &StreamEntry) -> StreamInfo {
    let public_until = entry.public_until.map(Timestamp::from_millis);
    StreamInfo { partitions: entry.partitions, public: entry.public, public_until, public_ends: None }
}

fn parse<T: for<'de> Deserialize<'de>>(value: &[u8]) -> Result<T, RegistryError> {
    serde_json::from_slice(value).map_err(|_| RegistryError::Record)
}

/// Why the local registry did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Not on record here.
    #[error("there is no stream {stream} in this registry; create it first")]
    NoStream {
        /// The stream named.
        stream: StreamId,
    },
    /// There is one of this name with other settings.
    #[error("the stream {stream} exists already with other settings")]
    StreamExists {
        /// The stream named.
        stream: StreamId,
    },
    /// Out of range.
    #[error("a stream has 1 to {MAX_PARTITIONS} partitions, not {got}")]
    Partitions {
        /// The number given.
        got: u32,
    },
    /// Nothing to revoke.
    #[error("{user} has no {permission} grant on {stream}")]
    NoGrant {
        /// The stream named.
        stream: StreamId,
        /// The user named.
        user: UserId,
        /// The permission named.
        permission: Permission,
    },
    /// A grant that holds now cannot be replaced by one that begins after a pause.
    #[error(
        "{user} holds a {permission} grant that ends before the new one would begin; revoke it first, or leave no pause"
    )]
    StillHeld {
        /// The user named.
        user: UserId,
        /// The permission named.
        permission: Permission,
    },
    /// A period that makes no sense.
    #[error(transparent)]
    Period(#[from] PeriodError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record that cannot be read: the store is damaged or newer.
    #[error("a registry record cannot be read; it may come from a newer version")]
    Record,
}

#[cfg(test)]
mod tests {
    use veilcast_key_store::MemoryKeyStore;

    use super::*;

    const fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn period(start: u64, end: u64) -> Period {
        Period { start: Some(at(start)), end: Some(at(end)) }
    }

    struct Desk {
        registry: LocalRegistry,
        stream: StreamId,
        user: UserId,
    }

    impl Desk {
        fn new() -> Self {
            let registry = LocalRegistry::new(Arc::new(MemoryKeyStore::default()));
            let stream = StreamId::of(UserId::from_bytes([1; 20]), "s").unwrap();
            registry.create_stream(&stream, 1, false).unwrap();
            Self { registry, stream, user: UserId::from_bytes([2; 20]) }
        }

        fn grant(&self, period: Period, now: u64) -> Result<(), RegistryError> {
            self.registry.grant(&self.stream, self.user, Permission::Subscribe, period, at(now))
        }

        fn only(&self) -> Grant {
            self.registry.grants(&self.stream).unwrap()[0].1
        }
    }

    #[test]
    fn next_month_sold_in_advance_lengthens_the_present_one() {
        let desk = Desk::new();
        desk.grant(period(10, 20), 10).unwrap();
        desk.grant(period(21, 30), 15).unwrap();
        assert_eq!(desk.only().period, period(10, 30));
        assert_eq!(desk.only().voids_at(at(31)).collect::<Vec<_>>(), [at(31)]);
    }

    #[test]
    fn a_present_grant_is_not_replaced_by_one_that_begins_after_a_pause() {
        let desk = Desk::new();
        desk.grant(period(10, 20), 10).unwrap();
        assert!(matches!(desk.grant(period(25, 30), 15), Err(RegistryError::StillHeld { .. })));
        assert_eq!(desk.only().period, period(10, 20));
    }

    #[test]
    fn an_end_is_not_forgotten_when_the_user_buys_again_for_later() {
        let desk = Desk::new();
        desk.grant(period(10, 20), 10).unwrap();
        desk.grant(period(30, 40), 25).unwrap();
        assert_eq!(desk.only().voids_at(at(41)).collect::<Vec<_>>(), [at(21), at(41)], "he may hold the key of then");
    }

    #[test]
    fn bought_again_and_taken_back_within_the_millisecond_of_a_revocation_is_another_end() {
        let desk = Desk::new();
        let revoke = || desk.registry.revoke(&desk.stream, desk.user, Permission::Subscribe, at(12)).unwrap();
        desk.grant(period(10, 20), 10).unwrap();
        revoke();
        desk.grant(period(12, 20), 12).unwrap();
        revoke();
        let again = at(12).plus(std::time::Duration::from_millis(1));
        assert_eq!(desk.only().voids_at(at(12)).collect::<Vec<_>>(), [at(12), again]);
    }

    #[test]
    fn a_grant_begins_when_it_was_given_or_is_said_to_and_keeps_its_beginning_while_it_is_renewed() {
        let (desk, open) = (Desk::new(), |end| Period::until(at(end)));
        desk.grant(open(20), 10).unwrap();
        assert_eq!(desk.only().beginning(), Some(at(10)), "given without a start");
        desk.grant(open(30), 15).unwrap();
        desk.grant(period(31, 40), 25).unwrap();
        desk.grant(period(26, 50), 26).unwrap();
        assert_eq!(desk.only().beginning(), Some(at(10)), "renewed three times, without a pause");
        desk.grant(period(5, 50), 27).unwrap();
        assert_eq!(desk.only().beginning(), Some(at(5)), "the owner gave an earlier beginning");
    }

    #[test]
    fn a_grant_bought_again_after_its_end_or_a_revocation_begins_anew() {
        let desk = Desk::new();
        desk.grant(Period::until(at(20)), 10).unwrap();
        desk.grant(Period::until(at(40)), 21).unwrap();
        assert_eq!(desk.only().beginning(), Some(at(21)));
        desk.registry.revoke(&desk.stream, desk.user, Permission::Subscribe, at(30)).unwrap();
        desk.grant(Period::ALWAYS, 31).unwrap();
        assert_eq!(desk.only().beginning(), Some(at(31)));
    }

    #[test]
    fn a_grant_of_an_older_version_has_the_beginning_it_is_known_to_have() {
        let desk = Desk::new();
        let written = |start: &str| {
            let key = grant_key(&desk.stream, desk.user, Permission::Subscribe);
            let value = format!(r#"{{"start":{start},"end":null,"revoked":null}}"#).into_bytes();
            desk.registry.records.write(GRANTS, &[(key, Some(value))]).unwrap();
        };
        written("7000");
        assert_eq!(desk.only().beginning(), Some(at(7)));
        written("null");
        assert_eq!(desk.only().beginning(), None);
        desk.grant(Period::ALWAYS, 50).unwrap();
        assert_eq!(desk.only().beginning(), Some(at(50)));
    }

    #[test]
    fn a_stream_remembers_when_it_stopped_being_public() {
        let desk = Desk::new();
        desk.registry.set_public(&desk.stream, true, at(5)).unwrap();
        desk.registry.set_public(&desk.stream, false, at(9)).unwrap();
        desk.registry.set_public(&desk.stream, false, at(12)).unwrap();
        let info = desk.registry.stream_info(&desk.stream).unwrap().unwrap();
        assert_eq!((info.public, info.public_until), (false, Some(at(9))));
    }

    #[test]
    fn a_record_that_does_not_say_when_a_grant_ends_grants_nothing() {
        for text in [r"{}", r#"{"start":0,"end":null}"#, r#"{"start":0,"revoked":null}"#, r#"{"end":9,"revoked":null}"#]
        {
            assert!(parse::<GrantEntry>(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse::<GrantEntry>(br#"{"start":0,"end":null,"revoked":null}"#).is_ok());
    }
}
