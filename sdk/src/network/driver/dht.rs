//! Records in the distributed hash table.

use std::time::{Duration, Instant};

use libp2p::kad::{self, GetRecordOk, InboundRequest, QueryResult, Record, RecordKey, store::RecordStore};
use tokio::sync::oneshot;

use super::{
    super::{Gate, NetworkError},
    Driver,
};

/// A lookup returns no more values than this, however many peers make some up.
const MAX_VALUES: usize = 16;
/// Values of one lookup put through the gate.
const MAX_LOOKED_AT: usize = 256;
/// Once a value is there, slower peers get so much longer to add another.
const GRACE: Duration = Duration::from_millis(300);
/// Records of our own that are kept published.
pub(in crate::network) const MAX_OWN_RECORDS: usize = 256;
/// Records of peers at the gate at once. More are dropped; publishers repeat themselves.
const MAX_RECORD_CHECKS: usize = 64;
/// New DHT peers come in groups: wait for the group before publishing to it.
const REPUBLISH_PAUSE: Duration = Duration::from_secs(1);

/// A smaller quorum would end the query at the first few peers, and leave out the others that should keep the record.
const EVERYONE: kad::Quorum = kad::Quorum::All;

/// A lookup under way.
pub(super) struct Lookup {
    key: Vec<u8>,
    values: Vec<Vec<u8>>,
    looked_at: usize,
    pub(super) finish_at: Option<Instant>,
    reply: oneshot::Sender<Result<Vec<Vec<u8>>, NetworkError>>,
}

impl<G: Gate> Driver<G> {
    pub(super) fn put_record(
        &mut self,
        key: Vec<u8>,
        value: Vec<u8>,
        expires_in: Duration,
        reply: oneshot::Sender<Result<usize, NetworkError>>,
    ) {
        let now = Instant::now();
        self.drop_expired(now);
        let key = RecordKey::from(key);
        let limit = match self.own_records.contains_key(&key) {
            true => usize::MAX,
            false => MAX_OWN_RECORDS,
        };
        if self.own_records.len() >= limit {
            let _ = reply.send(Err(NetworkError::TooMany { what: "records", limit }));
            return;
        }
        if self.puts.len() >= self.limits.dht_queries {
            let limit = self.limits.dht_queries;
            let _ = reply.send(Err(NetworkError::TooMany { what: "stores under way", limit }));
            return;
        }
        let record = Record { key: key.clone(), value, publisher: None, expires: now.checked_add(expires_in) };
        match self.swarm.behaviour_mut().kad.put_record(record.clone(), EVERYONE) {
            Ok(query) => {
                self.foreign.forget(&key);
                self.own_records.insert(key, record);
                self.puts.insert(query, reply);
            }
            Err(error) => {
                tracing::warn!(%error, "a record was not stored");
                let _ = reply.send(Err(NetworkError::TooMany { what: "records", limit: MAX_OWN_RECORDS }));
            }
        }
    }

    /// In the store as well: there they would take the places of those to come.
    fn drop_expired(&mut self, now: Instant) {
        let store = self.swarm.behaviour_mut().kad.store_mut();
        self.own_records.retain(|key, record| {
            let expired = record.is_expired(now);
            if expired {
                store.remove(key);
            }
            !expired
        });
    }

    pub(super) fn forget_record(&mut self, key: Vec<u8>) {
        let key = RecordKey::from(key);
        if self.own_records.remove(&key).is_some() {
            self.swarm.behaviour_mut().kad.remove_record(&key);
        }
    }

    pub(super) fn get_record(&mut self, key: Vec<u8>, reply: oneshot::Sender<Result<Vec<Vec<u8>>, NetworkError>>) {
        let limit = self.limits.dht_queries;
        if self.lookups.len() >= limit {
            let _ = reply.send(Err(NetworkError::TooMany { what: "lookups under way", limit }));
            return;
        }
        let query = self.swarm.behaviour_mut().kad.get_record(RecordKey::new(&key));
        self.lookups.insert(query, Lookup { key, values: Vec::new(), looked_at: 0, finish_at: None, reply });
    }

    pub(super) fn on_dht(&mut self, event: kad::Event) {
        match event {
            kad::Event::InboundRequest { request: InboundRequest::PutRecord { record: Some(record), .. } } => {
                self.check_record(record);
            }
            kad::Event::OutboundQueryProgressed { id, result, step, .. } => {
                self.on_query(id, result, step.last);
            }
            kad::Event::RoutingUpdated { is_new_peer: true, .. } if !self.own_records.is_empty() => {
                self.republish.get_or_insert_with(|| Instant::now() + REPUBLISH_PAUSE);
            }
            _ => {}
        }
    }

    fn on_query(&mut self, id: kad::QueryId, result: QueryResult, last: bool) {
        match result {
            QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))) => {
                if let Some(lookup) = self.lookups.get_mut(&id)
                    && lookup.looked_at < MAX_LOOKED_AT
                {
                    lookup.looked_at += 1;
                    // One signature, a bounded number of times: what is bogus must not end the search for what is not.
                    if self.gate.admit_record(&lookup.key, &found.record.value) {
                        lookup.add(found.record.value, &*self.gate);
                    }
                }
            }
            QueryResult::PutRecord(result) => {
                let stored = stored_by(&result);
                if let Err(error) = result {
                    // The usual case in a network smaller than the replication factor. The record is stored here and will
                    // be published again: not a failure to the caller.
                    tracing::debug!(%error, "a record did not reach every peer it should");
                }
                if let Some(reply) = self.puts.remove(&id) {
                    let _ = reply.send(Ok(stored));
                }
            }
            _ => {}
        }
        if last && let Some(lookup) = self.lookups.remove(&id) {
            self.finish(lookup);
        }
    }

    /// Ends lookups whose grace is over.
    pub(super) fn finish_lookups(&mut self, now: Instant) {
        let over = |lookup: &Lookup| lookup.finish_at.is_some_and(|end| end <= now);
        let ids: Vec<_> = self.lookups.iter().filter(|(_, lookup)| over(lookup)).map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(mut query) = self.swarm.behaviour_mut().kad.query_mut(&id) {
                query.finish();
            }
            if let Some(lookup) = self.lookups.remove(&id) {
                self.finish(lookup);
            }
        }
    }

    fn finish(&self, lookup: Lookup) {
        let _ = lookup.reply.send(Ok(lookup.values));
    }

    fn check_record(&mut self, record: Record) {
        // Our own records are ours to change: an old copy of one may still pass the gate.
        if self.own_records.contains_key(&record.key) || self.record_checks.len() >= MAX_RECORD_CHECKS {
            return;
        }
        let gate = self.gate.clone();
        self.record_checks.push(tokio::task::spawn_blocking(move || {
            gate.admit_record(record.key.as_ref(), &record.value).then_some(record)
        }));
    }

    pub(super) fn on_checked_record(&mut self, record: Option<Record>) {
        if let Some(record) = record
            && !self.own_records.contains_key(&record.key)
            // As the store counts: what it would refuse must push nothing out.
            && record.value.len() < self.limits.max_record
            && self.is_newest(&record)
        {
            self.store_foreign(record);
        }
    }

    fn store_foreign(&mut self, record: Record) {
        let store = self.swarm.behaviour_mut().kad.store_mut();
        if !self.foreign.make_room(&record.key, store, Instant::now()) {
            tracing::debug!("a peer's record was not stored: all that are kept are nearer");
        } else if let Err(error) = store.put(record) {
            tracing::debug!(%error, "a peer's record was not stored");
        }
    }

    /// Whoever recorded an older statement of the same author cannot put it in the place of the present one.
    fn is_newest(&mut self, record: &Record) -> bool {
        let stored = self.swarm.behaviour_mut().kad.store_mut().get(&record.key);
        stored.is_none_or(|stored| self.gate.supersedes(&record.value, &stored.value))
    }

    /// Publishes our records to peers that were not there the first time.
    pub(super) fn republish_records(&mut self, now: Instant) {
        if self.republish.is_none_or(|due| due > now) {
            return;
        }
        self.republish = None;
        self.drop_expired(now);
        for record in self.own_records.values() {
            if let Err(error) = self.swarm.behaviour_mut().kad.put_record(record.clone(), EVERYONE) {
                tracing::debug!(%error, "a record was not published again");
            }
        }
    }
}

impl Lookup {
    fn add(&mut self, value: Vec<u8>, gate: &impl Gate) {
        if self.values.len() < MAX_VALUES && !self.values.contains(&value) {
            self.values.push(value);
        } else if !self.values.contains(&value) {
            // However many old statements there are, they do not keep the newest one out.
            let is_older = |held: &Vec<u8>| gate.supersedes(&value, held) && !gate.supersedes(held, &value);
            if let Some(older) = self.values.iter().position(is_older) {
                self.values[older] = value;
            }
        }
        self.finish_at.get_or_insert_with(|| Instant::now() + GRACE);
    }
}

/// How many peers have it: all that were asked, or those that said so.
fn stored_by(result: &kad::PutRecordResult) -> usize {
    match result {
        Ok(_) => kad::K_VALUE.get(),
        Err(kad::PutRecordError::QuorumFailed { success, .. } | kad::PutRecordError::Timeout { success, .. }) => {
            success.len()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::Verdict;
    use super::*;

    /// Of two values the greater counts.
    struct Greater;

    impl Gate for Greater {
        type Accepted = ();
        fn admit_frame(&self, _: &str, _: &[u8]) -> Result<(), Verdict> {
            Ok(())
        }
        fn is_topic(&self, _: &str) -> bool {
            true
        }
        fn admit_record(&self, _: &[u8], _: &[u8]) -> bool {
            true
        }
        fn supersedes(&self, value: &[u8], stored: &[u8]) -> bool {
            value >= stored
        }
    }

    #[test]
    fn however_many_old_values_a_lookup_finds_the_newest_is_among_those_returned() {
        let (reply, _) = oneshot::channel();
        let mut lookup = Lookup { key: Vec::new(), values: Vec::new(), looked_at: 0, finish_at: None, reply };
        for old in (0..100).rev() {
            lookup.add(vec![old], &Greater);
        }
        lookup.add(vec![200], &Greater);
        lookup.add(vec![200], &Greater);
        assert_eq!(lookup.values.len(), MAX_VALUES);
        assert_eq!(lookup.values.iter().filter(|value| **value == [200]).count(), 1);
    }
}
