//! When a stream's key changes by itself.
//!
//! Two rhythms, each counted in messages, in time, or in both, whichever is over first. *Rotate*: exactly so many messages
//! are sealed under each key, the last of them carries the next; or the first message at or after the moment at which the
//! key is that old carries it. *Rekey*: no message goes out under a key that came, by whatever rotations, from a rekey so
//! many messages or that much time ago.
//!
//! Kept in the publisher's store, beside the [`Meter`](super::Meter)'s count, so that a restarted publisher goes on with both.

use std::num::NonZeroU64;
use std::time::Duration;

use veilcast_key_store::{RecordStore, StoreError};

use crate::stream::StreamId;
use crate::time::millis;

/// Table of policies and counts: `p` or `u`, then the stream's id.
const TABLE: &str = "key_policies";
const VERSION: u8 = 1;

/// A rhythm: after so many messages or so much time, whichever comes first. The default is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Every {
    /// After this many messages.
    pub messages: Option<NonZeroU64>,
    /// After this much time, at millisecond precision; zero means with every message after the first.
    pub time: Option<Duration>,
}

impl Every {
    /// Never.
    pub const NEVER: Self = Self { messages: None, time: None };

    /// Every so many messages; never for zero.
    pub const fn messages(count: u64) -> Self {
        Self { messages: NonZeroU64::new(count), time: None }
    }

    /// Every so often.
    pub const fn time(span: Duration) -> Self {
        Self { messages: None, time: Some(span) }
    }

    /// Whether it never comes round.
    pub const fn is_never(&self) -> bool {
        self.messages.is_none() && self.time.is_none()
    }

    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.messages.map_or(0, NonZeroU64::get).to_be_bytes());
        // No span has so many milliseconds that one more does not fit.
        out.extend_from_slice(&self.time.map_or(0, |span| millis(span).saturating_add(1)).to_be_bytes());
    }

    fn read(bytes: &[u8; 16]) -> Self {
        let (messages, time) = bytes.split_at(8);
        let number = |part: &[u8]| part.iter().fold(0, |n: u64, byte| (n << 8) | u64::from(*byte));
        let time = number(time).checked_sub(1).map(Duration::from_millis);
        Self { messages: NonZeroU64::new(number(messages)), time }
    }
}

/// When the key of a stream changes by itself. The default is never; a grant that ends causes a rekey in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyPolicy {
    /// The next key rides in a message; nobody is re-checked, unless somebody's grant ended: then it is a rekey.
    pub rotate_every: Every,
    /// The new key goes to each subscriber separately, after a check.
    pub rekey_every: Every,
}

impl KeyPolicy {
    /// Whether the key never changes by itself.
    pub const fn is_never(&self) -> bool {
        self.rotate_every.is_never() && self.rekey_every.is_never()
    }

    /// The policy kept for this publisher's keys on `stream`; the default where there is none.
    ///
    /// # Errors
    /// [`StoreError`]: the store failed, or what it holds is no policy.
    pub fn load(store: &(impl RecordStore + ?Sized), stream: &StreamId) -> Result<Self, StoreError> {
        Ok(load_with_count(store, stream)?.0)
    }

    /// Keeps a policy, durably. The count goes on where there was a policy before; without one nothing was counted, and the
    /// key in use is taken for used up. A running `Client` is told by its own `set_key_policy` instead.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn save(self, store: &(impl RecordStore + ?Sized), stream: &StreamId) -> Result<(), StoreError> {
        if self.is_never() {
            // A count that nobody keeps up must not be found again later.
            return store.write(TABLE, &[(place(b'p', stream), None), (place(b'u', stream), None)]);
        }
        store.write(TABLE, &[(place(b'p', stream), Some(self.write()))])
    }

    fn write(self) -> Vec<u8> {
        let mut out = vec![VERSION];
        self.rotate_every.write(&mut out);
        self.rekey_every.write(&mut out);
        out
    }

    fn read(record: &[u8]) -> Option<Self> {
        let (rhythms, rest) = record.strip_prefix(&[VERSION])?.as_chunks::<16>();
        match (rhythms, rest) {
            ([rotate, rekey], []) => Some(Self { rotate_every: Every::read(rotate), rekey_every: Every::read(rekey) }),
            _ => None,
        }
    }
}

/// The policy and the record of the count, for [`Meter::resume`](super::Meter::resume).
///
/// # Errors
/// As [`KeyPolicy::load`].
pub fn load_with_count(
    store: &(impl RecordStore + ?Sized),
    stream: &StreamId,
) -> Result<(KeyPolicy, Option<Vec<u8>>), StoreError> {
    let Some(record) = store.get(TABLE, &place(b'p', stream))? else { return Ok((KeyPolicy::default(), None)) };
    let damaged = || StoreError::Damaged { what: format!("the key policy of stream {stream}") };
    let policy = KeyPolicy::read(&record).ok_or_else(damaged)?;
    Ok((policy, store.get(TABLE, &place(b'u', stream))?))
}

/// Keeps a count that [`Meter`](super::Meter) wrote, durably.
///
/// # Errors
/// [`StoreError`].
pub fn save_count(store: &(impl RecordStore + ?Sized), stream: &StreamId, count: Vec<u8>) -> Result<(), StoreError> {
    store.write(TABLE, &[(place(b'u', stream), Some(count))])
}

/// Keeps a policy and the count that goes with it, both or neither.
///
/// # Errors
/// [`StoreError`].
pub fn save_with_count(
    store: &(impl RecordStore + ?Sized),
    stream: &StreamId,
    policy: KeyPolicy,
    count: Option<Vec<u8>>,
) -> Result<(), StoreError> {
    let kept = (!policy.is_never()).then(|| policy.write());
    let count = count.filter(|_| kept.is_some());
    store.write(TABLE, &[(place(b'p', stream), kept), (place(b'u', stream), count)])
}

fn place(kind: u8, stream: &StreamId) -> Vec<u8> {
    [&[kind], stream.as_str().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use veilcast_key_store::MemoryKeyStore;

    use super::*;
    use crate::identity::UserId;

    fn stream() -> StreamId {
        StreamId::of(UserId::from_bytes([1; 20]), "s").unwrap()
    }

    fn every() -> impl Strategy<Value = Every> {
        let time = proptest::option::of((0..u64::MAX).prop_map(Duration::from_millis));
        (any::<Option<u64>>(), time).prop_map(|(count, time)| Every { messages: count.and_then(NonZeroU64::new), time })
    }

    #[test]
    fn without_a_policy_there_is_none_and_taking_it_away_takes_the_count_with_it() {
        let store = MemoryKeyStore::new();
        assert_eq!(KeyPolicy::load(&store, &stream()).unwrap(), KeyPolicy::default());
        let policy = KeyPolicy { rotate_every: Every::messages(5), ..KeyPolicy::default() };
        save_with_count(&store, &stream(), policy, Some(b"count".to_vec())).unwrap();
        policy.save(&store, &stream()).unwrap();
        assert_eq!(load_with_count(&store, &stream()).unwrap(), (policy, Some(b"count".to_vec())));
        KeyPolicy::default().save(&store, &stream()).unwrap();
        policy.save(&store, &stream()).unwrap();
        assert_eq!(load_with_count(&store, &stream()).unwrap(), (policy, None));
    }

    #[test]
    fn a_policy_that_cannot_be_read_is_an_error_and_not_no_policy() {
        let store = MemoryKeyStore::new();
        store.write(TABLE, &[(place(b'p', &stream()), Some(vec![VERSION, 1, 2]))]).unwrap();
        assert!(matches!(KeyPolicy::load(&store, &stream()), Err(StoreError::Damaged { .. })));
    }

    proptest! {
        #[test]
        fn a_policy_reads_back_as_written(rotate_every in every(), rekey_every in every(), junk: Vec<u8>) {
            let (store, policy) = (MemoryKeyStore::new(), KeyPolicy { rotate_every, rekey_every });
            policy.save(&store, &stream()).unwrap();
            prop_assert_eq!(KeyPolicy::load(&store, &stream()).unwrap(), policy);
            let _ = KeyPolicy::read(&junk);
        }
    }
}
