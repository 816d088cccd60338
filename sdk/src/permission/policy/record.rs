//! The lists as they are written, JSON in the table `access`.

use std::sync::Arc;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use veilcast_key_store::RecordStore;

use super::{AccessError, Rule};
use crate::identity::UserId;
use crate::stream::StreamId;
use crate::time::Timestamp;

const TABLE: &str = "access";
const PAGE: usize = 256;

/// What holds for a stream as a whole. Nothing is left out by default: a record that lacks something is damaged, and a
/// damaged one lets nobody in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lists {
    /// Since when who is not allowed by name is out; set anew whenever somebody is taken off the allow list.
    #[serde(deserialize_with = "Option::deserialize")]
    narrowed: Option<u64>,
    /// The last change: ends are told apart by their moments.
    last: u64,
}

impl Lists {
    pub(super) const fn only_allowed(&self) -> bool {
        self.narrowed.is_some()
    }

    pub(super) fn narrowed(&self) -> Option<Timestamp> {
        self.narrowed.map(Timestamp::from_millis)
    }

    /// The moment of a change at `now`, later than that of every other.
    pub(super) fn next_moment(&mut self, now: Timestamp) -> Timestamp {
        self.last = now.as_millis().max(self.last.saturating_add(1));
        Timestamp::from_millis(self.last)
    }

    pub(super) const fn begin_allowing(&mut self, at: Timestamp) {
        self.narrowed = Some(at.as_millis());
    }

    pub(super) fn narrow(&mut self, at: Timestamp) {
        if self.narrowed.is_some() {
            self.narrowed = Some(at.as_millis());
        }
    }

    pub(super) fn end(&mut self, now: Timestamp) {
        self.next_moment(now);
        self.narrowed = None;
    }
}

/// A user on a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    deny: bool,
    at: u64,
}

impl Entry {
    pub(super) fn new(rule: Rule, at: Timestamp) -> Self {
        Self { deny: rule == Rule::Deny, at: at.as_millis() }
    }

    pub(super) const fn rule(&self) -> Rule {
        if self.deny { Rule::Deny } else { Rule::Allow }
    }

    pub(super) const fn at(&self) -> Timestamp {
        Timestamp::from_millis(self.at)
    }
}

pub(super) struct Table(Arc<dyn RecordStore>);

impl Table {
    pub(super) fn new(records: Arc<dyn RecordStore>) -> Self {
        Self(records)
    }

    pub(super) fn lists(&self, stream: &StreamId) -> Result<Lists, AccessError> {
        let value = self.0.get(TABLE, stream.as_str().as_bytes())?;
        value.map_or_else(|| Ok(Lists::default()), |value| read(&value))
    }

    pub(super) fn entry(&self, stream: &StreamId, user: UserId) -> Result<Option<Entry>, AccessError> {
        self.0.get(TABLE, &place(stream, user))?.map(|value| read(&value)).transpose()
    }

    /// In the order of addresses.
    pub(super) fn users(&self, stream: &StreamId) -> Result<Vec<(UserId, Entry)>, AccessError> {
        let prefix = prefix(stream);
        let mut found: Vec<(UserId, Entry)> = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.0.scan(TABLE, &prefix, after.as_deref(), PAGE)?;
            for (key, value) in &page {
                let user = key.get(prefix.len()..).and_then(|rest| UserId::try_from(rest).ok());
                found.push((user.ok_or(AccessError::Damaged)?, read(value)?));
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE => after = Some(last.clone()),
                _ => return Ok(found),
            }
        }
    }

    /// Both or neither.
    pub(super) fn write(
        &self,
        stream: &StreamId,
        lists: &Lists,
        user: Option<(UserId, Option<Entry>)>,
    ) -> Result<(), AccessError> {
        let mut changes = vec![(stream.as_str().as_bytes().to_vec(), Some(written(lists)?))];
        if let Some((user, entry)) = user {
            changes.push((place(stream, user), entry.as_ref().map(written).transpose()?));
        }
        Ok(self.0.write(TABLE, &changes)?)
    }

    /// The users first, then the lists: interrupted, fewer are let in than were to be, never more.
    pub(super) fn clear(&self, stream: &StreamId, lists: &Lists) -> Result<(), AccessError> {
        let mut users = self.users(stream)?;
        users.sort_by_key(|(_, entry)| entry.deny);
        for page in users.chunks(PAGE) {
            let gone: Vec<_> = page.iter().map(|(user, _)| (place(stream, *user), None)).collect();
            self.0.write(TABLE, &gone)?;
        }
        self.write(stream, lists, None)
    }
}

fn written(value: &impl Serialize) -> Result<Vec<u8>, AccessError> {
    serde_json::to_vec(value).map_err(|_| AccessError::Damaged)
}

fn read<T: DeserializeOwned>(value: &[u8]) -> Result<T, AccessError> {
    serde_json::from_slice(value).map_err(|_| AccessError::Damaged)
}

fn prefix(stream: &StreamId) -> Vec<u8> {
    [stream.as_str().as_bytes(), &[0]].concat()
}

fn place(stream: &StreamId, user: UserId) -> Vec<u8> {
    [prefix(stream), user.as_bytes().to_vec()].concat()
}
