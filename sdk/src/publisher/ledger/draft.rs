//! Entries on their way into the store: planned over what is there, written together, tidied afterwards.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use veilcast_key_store::{MAX_RECORD_CHANGES, Record, RecordStore, StoreError};

use super::record::{self, HolderRecord, KeyRecord};
use super::{Given, LedgerLimits, PAGE, TABLE, readable};
use crate::identity::UserId;
use crate::stream::StreamId;
use crate::time::Timestamp;

pub(super) struct Draft<'a> {
    records: &'a dyn RecordStore,
    publisher: UserId,
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Whose keys became more, and how many they are.
    grown: BTreeMap<(StreamId, UserId), u32>,
    /// Which streams' holders did.
    joined: BTreeSet<StreamId>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(records: &'a dyn RecordStore, publisher: UserId) -> Self {
        let (changes, grown, joined) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { records, publisher, changes, grown, joined }
    }

    pub(super) fn given(&mut self, given: &Given) -> Result<(), StoreError> {
        if self.changes.len() + given.keys.len() + 2 > MAX_RECORD_CHANGES {
            self.commit()?;
        }
        let Given { stream, user, .. } = given;
        let place = record::holder(self.publisher, stream, *user);
        let known = self.get(&place)?;
        if known.is_none() {
            self.count(stream, |number| number.saturating_add(1))?;
            self.joined.insert(stream.clone());
        }
        let known = known.and_then(|bytes| readable(stream, HolderRecord::read(&bytes)));
        let mut holder = known.unwrap_or_else(|| HolderRecord::first_seen(given.at));
        holder.take(given);
        let of_user = record::keys(self.publisher, stream, *user);
        for (id, since) in &given.keys {
            let place = record::key(&of_user, id, *since);
            let before = self.get(&place)?;
            if before.is_none() {
                holder.keys = holder.keys.saturating_add(1);
                self.grown.insert((stream.clone(), *user), holder.keys);
            }
            let before = before.and_then(|bytes| readable(stream, KeyRecord::read(&bytes)));
            self.put(place, KeyRecord::of(given, before.as_ref()).encode_to_vec());
        }
        self.put(place, holder.encode_to_vec());
        Ok(())
    }

    pub(super) fn refused(&mut self, stream: &StreamId, user: UserId, at: Timestamp) -> Result<(), StoreError> {
        if self.changes.len() + 1 > MAX_RECORD_CHANGES {
            self.commit()?;
        }
        let place = record::holder(self.publisher, stream, user);
        let known = self.get(&place)?.and_then(|bytes| readable(stream, HolderRecord::read(&bytes)));
        if let Some(mut holder) = known.filter(|holder| holder.last <= at.as_millis()) {
            holder.leave(at);
            self.put(place, holder.encode_to_vec());
        }
        Ok(())
    }

    /// Writes what is left, and brings whatever grew too large back under its limit.
    pub(super) fn finish(mut self, limits: LedgerLimits) -> Result<(), StoreError> {
        self.commit()?;
        let mut grown = std::mem::take(&mut self.grown);
        grown.retain(|_, keys| *keys as usize > limits.keys_per_holder);
        for (stream, user) in grown.into_keys() {
            self.trim_keys(&stream, user, limits.keys_per_holder)?;
        }
        for stream in std::mem::take(&mut self.joined) {
            self.trim_holders(&stream, limits.holders)?;
        }
        self.commit()
    }

    fn trim_keys(&mut self, stream: &StreamId, user: UserId, limit: usize) -> Result<(), StoreError> {
        let place = record::holder(self.publisher, stream, user);
        let known = self.get(&place)?.and_then(|bytes| readable(stream, HolderRecord::read(&bytes)));
        let Some(mut holder) = known.filter(|holder| holder.keys as usize > limit) else { return Ok(()) };
        let keys = all_under(self.records, &record::keys(self.publisher, stream, user))?;
        let surplus = keys.len().saturating_sub(limit - limit / 8);
        for (key, _) in keys.iter().take(surplus) {
            self.remove(key.clone())?;
        }
        holder.keys = u32::try_from(keys.len() - surplus).unwrap_or(u32::MAX);
        self.put(place, holder.encode_to_vec());
        Ok(())
    }

    fn trim_holders(&mut self, stream: &StreamId, limit: usize) -> Result<(), StoreError> {
        if self.number(stream)? <= limit as u64 {
            return Ok(());
        }
        let mut known = self.ages(stream)?;
        // Who was refused for good first, then who was served the longest ago; what cannot be read goes with the first.
        known.sort_unstable();
        let surplus = known.len().saturating_sub(limit - limit / 16);
        for (_, _, user) in known.drain(..surplus) {
            for (key, _) in all_under(self.records, &record::keys(self.publisher, stream, user))? {
                self.remove(key)?;
            }
            self.remove(record::holder(self.publisher, stream, user))?;
        }
        let left = known.len() as u64;
        self.count(stream, |_| left)
    }

    /// Whether each is still a holder, when it was last served, and who it is.
    fn ages(&self, stream: &StreamId) -> Result<Vec<(bool, u64, UserId)>, StoreError> {
        let prefix = record::holders(self.publisher, stream);
        let (mut ages, mut after): (Vec<_>, Option<Vec<u8>>) = (Vec::new(), None);
        loop {
            let page = self.records.scan(TABLE, &prefix, after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(ages) };
            after = Some(last.clone());
            ages.extend(page.iter().filter_map(|(place, value)| {
                let user = record::user_at(place, &prefix)?;
                let holder = HolderRecord::read(value).unwrap_or_default();
                Some((holder.left.is_none() && holder.last > 0, holder.last, user))
            }));
        }
    }

    fn number(&self, stream: &StreamId) -> Result<u64, StoreError> {
        let bytes = self.get(&record::number(self.publisher, stream))?.unwrap_or_default();
        Ok(bytes.try_into().map(u64::from_be_bytes).unwrap_or(0))
    }

    fn count(&mut self, stream: &StreamId, to: impl Fn(u64) -> u64) -> Result<(), StoreError> {
        let number = to(self.number(stream)?);
        self.put(record::number(self.publisher, stream), number.to_be_bytes().to_vec());
        Ok(())
    }

    fn get(&self, place: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.changes.get(place) {
            Some(changed) => Ok(changed.clone()),
            None => self.records.get(TABLE, place),
        }
    }

    fn put(&mut self, place: Vec<u8>, value: Vec<u8>) {
        self.changes.insert(place, Some(value));
    }

    fn remove(&mut self, place: Vec<u8>) -> Result<(), StoreError> {
        if self.changes.len() + 2 > MAX_RECORD_CHANGES {
            self.commit()?;
        }
        self.changes.insert(place, None);
        Ok(())
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let changes: Vec<_> = std::mem::take(&mut self.changes).into_iter().collect();
        if changes.is_empty() { Ok(()) } else { self.records.write(TABLE, &changes) }
    }
}

pub(super) fn all_under(records: &dyn RecordStore, prefix: &[u8]) -> Result<Vec<Record>, StoreError> {
    let mut found: Vec<Record> = Vec::new();
    loop {
        let page = records.scan(TABLE, prefix, found.last().map(|(place, _)| place.as_slice()), PAGE)?;
        let is_last = page.len() < PAGE;
        found.extend(page);
        if is_last {
            return Ok(found);
        }
    }
}
