//! What is written about a key, before it is sealed.
//!
//! ```text
//! KeyRecord   key 32 | since 8 | has until 1 | until 8 | origin 1
//! Current     since 8 | id
//! ```
//! Numbers are big-endian; `until` is zero when there is none. The layout's version is the sealed record's.

use zeroize::Zeroizing;

use super::Plain;
use crate::{GROUP_KEY_LEN, GroupKey, KeyId, KeyOrigin, KeyScope, StoreError, StoredKey};

pub(crate) const KEY_RECORD_LEN: usize = GROUP_KEY_LEN + 8 + 1 + 8 + 1;

pub(crate) fn write_key(stored: &StoredKey) -> Plain {
    // Full size from the start: a growing Vec would leave copies of the key behind.
    let mut out = Zeroizing::new(Vec::with_capacity(KEY_RECORD_LEN));
    out.extend_from_slice(stored.key.expose());
    out.extend_from_slice(&stored.since.to_be_bytes());
    out.push(u8::from(stored.until.is_some()));
    out.extend_from_slice(&stored.until.unwrap_or(0).to_be_bytes());
    out.push(match stored.origin {
        KeyOrigin::Made => 1,
        KeyOrigin::Received => 2,
        KeyOrigin::PreAgreed => 3,
    });
    out
}

pub(crate) fn read_key(scope: &KeyScope, id: &KeyId, plain: &[u8]) -> Result<StoredKey, StoreError> {
    let read = || {
        let (key, rest) = plain.split_first_chunk::<GROUP_KEY_LEN>()?;
        let (since, rest) = rest.split_first_chunk()?;
        let (has_until, rest) = rest.split_first()?;
        let (until, rest) = rest.split_first_chunk()?;
        let [origin] = rest else { return None };
        Some(StoredKey {
            key: GroupKey::new(id.clone(), key).ok()?,
            since: u64::from_be_bytes(*since),
            until: match (has_until, u64::from_be_bytes(*until)) {
                (0, 0) => None,
                (1, until) => Some(until),
                _ => return None,
            },
            origin: match origin {
                1 => KeyOrigin::Made,
                2 => KeyOrigin::Received,
                3 => KeyOrigin::PreAgreed,
                _ => return None,
            },
        })
    };
    read().ok_or_else(|| StoreError::damaged(format!("the record of key {id} of stream {}", scope.stream())))
}

/// Which key is current, and since when it is.
pub(super) struct Current {
    pub(super) since: u64,
    pub(super) id: KeyId,
}

impl Current {
    pub(super) fn write(&self) -> Plain {
        Zeroizing::new([&self.since.to_be_bytes(), self.id.as_str().as_bytes()].concat())
    }

    pub(super) fn read(scope: &KeyScope, plain: &[u8]) -> Result<Self, StoreError> {
        let read = || {
            let (since, id) = plain.split_first_chunk()?;
            let id = KeyId::new(std::str::from_utf8(id).ok()?).ok()?;
            Some(Self { since: u64::from_be_bytes(*since), id })
        };
        read().ok_or_else(|| StoreError::damaged(format!("the note of the current key of stream {}", scope.stream())))
    }
}

/// For the fuzz target: whether it is the record of a key, the note of the current one or a sheet of keys in time, which must then
/// be what is written for it.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn reads(plain: &[u8]) -> bool {
    let scope = KeyScope::new([1; 20], "o/p");
    let id = KeyId::new("k").expect("visible ASCII");
    let key = read_key(&scope, &id, plain);
    if let Ok(stored) = &key {
        assert_eq!(&**write_key(stored), plain, "one record has one encoding");
    }
    let current = Current::read(&scope, plain);
    if let Ok(current) = &current {
        assert_eq!(&**current.write(), plain, "one note has one encoding");
    }
    super::order::reads(plain) || key.is_ok() || current.is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scope() -> KeyScope {
        KeyScope::new([1; 20], "o/p")
    }

    fn origin() -> impl Strategy<Value = KeyOrigin> {
        prop_oneof![Just(KeyOrigin::Made), Just(KeyOrigin::Received), Just(KeyOrigin::PreAgreed)]
    }

    #[test]
    fn a_key_record_v1_is_frozen() {
        let key = GroupKey::new(KeyId::new("k1").unwrap(), &[0xaa; 32]).unwrap();
        let stored = StoredKey { key, since: 1, until: Some(2), origin: KeyOrigin::Received };
        let expected = format!("{}0000000000000001{}{}{}", "aa".repeat(32), "01", "0000000000000002", "02");
        assert_eq!(hex::encode(&*write_key(&stored)), expected);
    }

    proptest! {
        #[test]
        fn a_key_record_reads_back_as_written(
            bytes: [u8; 32], since: u64, until: Option<u64>, origin in origin(), id in "[!-~]{1,64}",
        ) {
            let id = KeyId::new(&id).unwrap();
            let stored = StoredKey { key: GroupKey::new(id.clone(), &bytes).unwrap(), since, until, origin };
            let read = read_key(&scope(), &id, &write_key(&stored)).unwrap();
            prop_assert!(read.key.same_as(&stored.key));
            prop_assert_eq!((read.since, read.until, read.origin), (since, until, origin));
        }

        #[test]
        fn a_key_record_of_any_other_length_is_damaged(plain in proptest::collection::vec(any::<u8>(), 0..120)) {
            prop_assume!(plain.len() != KEY_RECORD_LEN);
            let fault = read_key(&scope(), &KeyId::new("k").unwrap(), &plain).unwrap_err();
            prop_assert!(matches!(fault, StoreError::Damaged { .. }), "expected damage");
        }

        #[test]
        fn the_note_of_the_current_key_reads_back_as_written(since: u64, id in "[!-~]{1,64}") {
            let current = Current { since, id: KeyId::new(&id).unwrap() };
            let read = Current::read(&scope(), &current.write()).unwrap();
            prop_assert_eq!((read.since, read.id.as_str()), (since, id.as_str()));
        }
    }
}
