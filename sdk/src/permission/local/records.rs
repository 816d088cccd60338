//! What is on record, and where it stands in the store.
//!
//! ```text
//! streams | stream id                                    ▶ StreamEntry, JSON
//! grants  | stream id | 0 | user 20 | permission name    ▶ GrantEntry, JSON
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use veilcast_key_store::RecordStore;

use super::RegistryError;
use crate::identity::UserId;
use crate::permission::{Grant, Period, Permission, StreamInfo};
use crate::stream::StreamId;
use crate::time::Timestamp;

const STREAMS: &str = "streams";
const GRANTS: &str = "grants";
/// How many records one scan of the store fetches.
const PAGE: usize = 256;

#[derive(Serialize, Deserialize)]
pub(super) struct StreamEntry {
    pub(super) partitions: u32,
    pub(super) public: bool,
    #[serde(default)]
    pub(super) public_until: Option<u64>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct GrantEntry {
    // Said in every record, though it be "none": a record that lacks its end must not become a grant for ever.
    #[serde(deserialize_with = "Option::deserialize")]
    pub(super) start: Option<u64>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub(super) end: Option<u64>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub(super) revoked: Option<u64>,
    /// From when on an earlier grant, which this one does not continue, was void.
    #[serde(default)]
    pub(super) before: Option<u64>,
    /// When the holder's unbroken time began.
    #[serde(default)]
    pub(super) began: Option<u64>,
}

impl StreamEntry {
    pub(super) fn info(&self) -> StreamInfo {
        let public_until = self.public_until.map(Timestamp::from_millis);
        StreamInfo { partitions: self.partitions, public: self.public, public_until, public_ends: None }
    }
}

impl GrantEntry {
    pub(super) fn grant(&self, permission: Permission) -> Grant {
        let moment = |millis: Option<u64>| millis.map(Timestamp::from_millis);
        let period = Period { start: moment(self.start), end: moment(self.end) };
        let (revoked, before, began) = (moment(self.revoked), moment(self.before), moment(self.began));
        Grant { permission, period, revoked, before, began }
    }
}

/// The records, in the store.
pub(super) struct Records {
    store: Arc<dyn RecordStore>,
    changes: AtomicU64,
}

impl Records {
    pub(super) fn new(store: Arc<dyn RecordStore>) -> Self {
        Self { store, changes: AtomicU64::new(0) }
    }

    /// How often something was written.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    pub(super) fn stream(&self, stream: &StreamId) -> Result<Option<StreamEntry>, RegistryError> {
        self.get(STREAMS, stream.as_str().as_bytes())
    }

    pub(super) fn put_stream(&self, stream: &StreamId, entry: &StreamEntry) -> Result<(), RegistryError> {
        self.put(STREAMS, stream.as_str().as_bytes().to_vec(), entry)
    }

    pub(super) fn streams(&self) -> Result<Vec<(StreamId, StreamInfo)>, RegistryError> {
        self.all(STREAMS, b"", |key, value| {
            let id = std::str::from_utf8(key).ok().and_then(|text| StreamId::new(text).ok());
            Ok((id.ok_or(RegistryError::Record)?, parse::<StreamEntry>(value)?.info()))
        })
    }

    pub(super) fn grant(
        &self,
        stream: &StreamId,
        user: UserId,
        permission: Permission,
    ) -> Result<Option<GrantEntry>, RegistryError> {
        self.get(GRANTS, &grant_key(stream, user, permission))
    }

    pub(super) fn put_grant(
        &self,
        stream: &StreamId,
        user: UserId,
        permission: Permission,
        entry: &GrantEntry,
    ) -> Result<(), RegistryError> {
        self.put(GRANTS, grant_key(stream, user, permission), entry)
    }

    pub(super) fn grants(&self, stream: &StreamId) -> Result<Vec<(UserId, Grant)>, RegistryError> {
        let prefix = grant_prefix(stream);
        self.all(GRANTS, &prefix, |key, value| {
            let (user, permission) = parse_grant_key(&key[prefix.len()..]).ok_or(RegistryError::Record)?;
            Ok((user, parse::<GrantEntry>(value)?.grant(permission)))
        })
    }

    /// All records of a table whose keys begin so.
    fn all<T>(
        &self,
        table: &str,
        prefix: &[u8],
        read: impl Fn(&[u8], &[u8]) -> Result<T, RegistryError>,
    ) -> Result<Vec<T>, RegistryError> {
        let mut found = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.store.scan(table, prefix, after.as_deref(), PAGE)?;
            for (key, value) in &page {
                found.push(read(key, value)?);
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE => after = Some(last.clone()),
                _ => return Ok(found),
            }
        }
    }

    fn get<T: for<'de> Deserialize<'de>>(&self, table: &str, key: &[u8]) -> Result<Option<T>, RegistryError> {
        self.store.get(table, key)?.map(|value| parse(&value)).transpose()
    }

    fn put<T: Serialize>(&self, table: &str, key: Vec<u8>, entry: &T) -> Result<(), RegistryError> {
        let value = serde_json::to_vec(entry).map_err(|_| RegistryError::Record)?;
        self.store.write(table, &[(key, Some(value))])?;
        self.changes.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// A stream id has no zero byte, so no id is another's prefix.
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

fn parse<T: for<'de> Deserialize<'de>>(value: &[u8]) -> Result<T, RegistryError> {
    serde_json::from_slice(value).map_err(|_| RegistryError::Record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_does_not_say_when_a_grant_ends_grants_nothing() {
        for text in [r"{}", r#"{"start":0,"end":null}"#, r#"{"start":0,"revoked":null}"#, r#"{"end":9,"revoked":null}"#]
        {
            assert!(parse::<GrantEntry>(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse::<GrantEntry>(br#"{"start":0,"end":null,"revoked":null}"#).is_ok());
    }
}
