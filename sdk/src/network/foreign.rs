//! Records kept for others: bounded apart from our own, and those nearest to us stay.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p::{
    PeerId,
    kad::{KBucketDistance, KBucketKey, RecordKey, store::MemoryStore, store::RecordStore},
};

/// Looking through all places for those whose records expired costs something: at most so often.
const SWEEP: Duration = Duration::from_secs(10);

/// The places of foreign records in the store, by their distance from this node.
///
/// Anybody can sign records by the thousand. Lookups for a key come to the nodes nearest to it, so the record that is worth
/// least here is the farthest; whoever wants to push out the others must find keys that are nearer to this very node.
pub(super) struct Foreign {
    own: KBucketKey<PeerId>,
    places: usize,
    taken: BTreeMap<KBucketDistance, RecordKey>,
    swept: Option<Instant>,
}

impl Foreign {
    pub(super) fn new(own: PeerId, places: usize) -> Self {
        Self { own: own.into(), places, taken: BTreeMap::new(), swept: None }
    }

    /// Takes a place for a record, that of a farther one if need be, which leaves the store. Whether there is one.
    pub(super) fn make_room(&mut self, key: &RecordKey, store: &mut MemoryStore, now: Instant) -> bool {
        let distance = self.distance(key);
        if self.taken.contains_key(&distance) {
            return true;
        }
        if self.taken.len() >= self.places {
            self.sweep(store, now);
        }
        while self.taken.len() >= self.places {
            match self.taken.last_entry() {
                Some(farthest) if *farthest.key() > distance => store.remove(&farthest.remove()),
                _ => return false,
            }
        }
        self.taken.insert(distance, key.clone());
        true
    }

    /// The record is our own from now on.
    pub(super) fn forget(&mut self, key: &RecordKey) {
        let distance = self.distance(key);
        self.taken.remove(&distance);
    }

    fn distance(&self, key: &RecordKey) -> KBucketDistance {
        self.own.distance(&KBucketKey::new(key.clone()))
    }

    /// The store drops what expired without a word.
    fn sweep(&mut self, store: &mut MemoryStore, now: Instant) {
        if self.swept.is_some_and(|at| now.duration_since(at) < SWEEP) {
            return;
        }
        self.swept = Some(now);
        self.taken.retain(|_, key| {
            let holds = store.get(key).is_some_and(|record| !record.is_expired(now));
            if !holds {
                store.remove(key);
            }
            holds
        });
    }
}

#[cfg(test)]
mod tests {
    use libp2p::kad::{Record, store::MemoryStoreConfig};

    use super::*;

    const PLACES: usize = 8;

    struct Kept {
        foreign: Foreign,
        store: MemoryStore,
        now: Instant,
    }

    impl Kept {
        fn new() -> Self {
            let own = PeerId::random();
            let config = MemoryStoreConfig { max_records: PLACES, ..MemoryStoreConfig::default() };
            let store = MemoryStore::with_config(own, config);
            Self { foreign: Foreign::new(own, PLACES), store, now: Instant::now() }
        }

        fn put(&mut self, n: usize, lifetime: Duration) -> bool {
            let mut record = Record::new(key(n), Vec::new());
            record.expires = Some(self.now + lifetime);
            let room = self.foreign.make_room(&key(n), &mut self.store, self.now);
            if room {
                self.store.put(record).expect("a place was made");
            }
            room
        }

        fn held(&self) -> Vec<KBucketDistance> {
            let mut held: Vec<_> = self.store.records().map(|record| self.foreign.distance(&record.key)).collect();
            held.sort();
            held
        }
    }

    fn key(n: usize) -> RecordKey {
        RecordKey::new(&n.to_be_bytes())
    }

    #[test]
    fn of_too_many_records_the_nearest_stay_whatever_their_order() {
        let mut kept = Kept::new();
        let mut nearest: Vec<_> = (0..100).map(|n| kept.foreign.distance(&key(n))).collect();
        nearest.sort();
        for n in 0..100 {
            let before = kept.held();
            let nearer = before.len() < PLACES || before.last() > Some(&kept.foreign.distance(&key(n)));
            assert_eq!(kept.put(n, Duration::from_secs(60)), nearer);
        }
        assert_eq!(kept.held(), nearest[..PLACES]);
    }

    #[test]
    fn what_expired_makes_room_for_what_is_farther() {
        let mut kept = Kept::new();
        let mut keys: Vec<usize> = (0..=PLACES).collect();
        keys.sort_by_key(|n| kept.foreign.distance(&key(*n)));
        for n in &keys[..PLACES] {
            assert!(kept.put(*n, Duration::from_secs(1)));
        }
        let farthest = keys[PLACES];
        assert!(!kept.put(farthest, Duration::from_secs(60)));
        kept.now += SWEEP;
        assert!(kept.put(farthest, Duration::from_secs(60)));
        assert_eq!(kept.held().len(), 1);
    }

    #[test]
    fn a_record_that_became_our_own_takes_no_place() {
        let mut kept = Kept::new();
        for n in 0..PLACES {
            assert!(kept.put(n, Duration::from_secs(60)));
        }
        kept.store.remove(&key(0));
        kept.foreign.forget(&key(0));
        assert!(kept.put(PLACES, Duration::from_secs(60)));
    }
}
