//! Where each record lies, so that byte order is the order we ask for.
//!
//! ```text
//! scope    publisher 20 | stream length 4 | stream
//! 'k' | scope | packed id              a key            -> record::KeyRecord
//! 'o' | scope                          the first keys in time -> a sheet, see `order`
//! 'o' | scope | since 8 | id           those from this one on -> a sheet
//! 'c' | scope                          the current key  -> record::Current
//! 'r' | table length 4 | table | key   a small record   -> as given
//! packed   'h' | 16 bytes               an id of 32 lower-case hex characters, as random ones are
//!          't' | text                   any other
//! ```
//! Numbers are big-endian. Random ids are packed because they are nearly all there is: sled holds a short place without a
//! heap cell of its own, which takes about a seventh off a cached key.

use crate::{KeyId, KeyScope, StoreError};

const KEY: u8 = b'k';
const ORDER: u8 = b'o';
const CURRENT: u8 = b'c';
const RECORD: u8 = b'r';

const PACKED_HEX: u8 = b'h';
const PACKED_TEXT: u8 = b't';
/// Sorts after every packed id.
const AFTER_ALL_IDS: u8 = 0xff;
const PUBLISHER_LEN: usize = 20;

pub(super) fn key(scope: &KeyScope, id: &KeyId) -> Vec<u8> {
    let mut place = scoped(KEY, scope);
    push_id(&mut place, id);
    place
}

/// The id, packed.
pub(super) fn push_id(out: &mut Vec<u8>, id: &KeyId) {
    let text = id.as_str();
    let mut packed = [0; 16];
    let lower = !text.bytes().any(|c| c.is_ascii_uppercase());
    if lower && hex::decode_to_slice(text, &mut packed).is_ok() {
        out.push(PACKED_HEX);
        out.extend_from_slice(&packed);
    } else {
        out.push(PACKED_TEXT);
        out.extend_from_slice(text.as_bytes());
    }
}

/// Reads back what [`push_id`] wrote, and nothing that it would have written otherwise.
pub(super) fn read_id(packed: &[u8]) -> Option<KeyId> {
    match packed.split_first()? {
        (&PACKED_HEX, bytes) if bytes.len() == 16 => KeyId::new(&hex::encode(bytes)).ok(),
        (&PACKED_TEXT, text) => {
            let id = KeyId::new(std::str::from_utf8(text).ok()?).ok()?;
            let mut again = Vec::with_capacity(packed.len());
            push_id(&mut again, &id);
            (again == packed).then_some(id)
        }
        _ => None,
    }
}

pub(super) fn current(scope: &KeyScope) -> Vec<u8> {
    scoped(CURRENT, scope)
}

pub(super) fn order(scope: &KeyScope, since: u64, id: &KeyId) -> Vec<u8> {
    let mut place = scoped(ORDER, scope);
    place.extend_from_slice(&since.to_be_bytes());
    place.extend_from_slice(id.as_str().as_bytes());
    place
}

/// The prefix of all of a scope's places in time.
pub(super) fn order_of(scope: &KeyScope) -> Vec<u8> {
    scoped(ORDER, scope)
}

/// The prefix of all keys of all scopes.
pub(super) fn all_keys() -> [u8; 1] {
    [KEY]
}

/// The prefixes of what stands in a store about keys beside them: their order, and which ones are current.
pub(super) fn all_derived() -> [[u8; 1]; 2] {
    [[ORDER], [CURRENT]]
}

/// A place after the last key of this scope and before the first of the next.
pub(super) fn after_keys_of(scope: &KeyScope) -> Vec<u8> {
    let mut place = scoped(KEY, scope);
    place.push(AFTER_ALL_IDS);
    place
}

/// Whose key lies at this place.
pub(super) fn read_scope(place: &[u8]) -> Result<KeyScope, StoreError> {
    let read = || {
        let (publisher, rest) = place.strip_prefix(&[KEY])?.split_first_chunk::<PUBLISHER_LEN>()?;
        let (len, rest) = rest.split_first_chunk()?;
        let stream = rest.get(..usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
        Some(KeyScope::new(*publisher, std::str::from_utf8(stream).ok()?))
    };
    read().ok_or_else(|| StoreError::damaged("the name of a key"))
}

/// Whose key lies at this place, and its id.
pub(super) fn read_key(place: &[u8]) -> Result<(KeyScope, KeyId), StoreError> {
    let scope = read_scope(place)?;
    let id = read_id(&place[scoped(KEY, &scope).len()..]);
    Ok((scope, id.ok_or_else(|| StoreError::damaged("the name of a key"))?))
}

/// The prefix of all records of all tables.
pub(super) fn all_records() -> [u8; 1] {
    [RECORD]
}

/// The table and the key of the record at this place.
pub(super) fn read_record(place: &[u8]) -> Result<(&str, &[u8]), StoreError> {
    let read = || {
        let (len, rest) = place.strip_prefix(&[RECORD])?.split_first_chunk()?;
        let (table, key) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
        Some((std::str::from_utf8(table).ok()?, key))
    };
    read().ok_or_else(|| StoreError::damaged("the name of a record"))
}

/// The prefix of a table's records.
pub(super) fn table(name: &str) -> Vec<u8> {
    let mut place = vec![RECORD];
    push_text(&mut place, name);
    place
}

pub(super) fn record(table_prefix: &[u8], key: &[u8]) -> Vec<u8> {
    [table_prefix, key].concat()
}

fn scoped(kind: u8, scope: &KeyScope) -> Vec<u8> {
    let mut place = Vec::with_capacity(1 + PUBLISHER_LEN + 4 + scope.stream().len() + 8 + 64);
    place.push(kind);
    place.extend_from_slice(scope.publisher());
    push_text(&mut place, scope.stream());
    place
}

fn push_text(place: &mut Vec<u8>, text: &str) {
    // A length beyond u32 would take a 4 GiB name; saturating keeps this total, and such a name fails to be read back.
    let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
    place.extend_from_slice(&len.to_be_bytes());
    place.extend_from_slice(text.as_bytes());
}

/// For the fuzz target: whether it is a key's place, which must then be where that lies.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn reads(place: &[u8]) -> bool {
    let of_key = read_scope(place);
    if let Ok(scope) = &of_key {
        assert!(place.starts_with(&scoped(KEY, scope)), "a key lies under its own scope");
    }
    if let Ok((scope, id)) = &read_key(place) {
        assert_eq!(key(scope, id), place, "one key has one place");
    }
    of_key.is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn places_are_frozen() {
        let scope = KeyScope::new([0x11; 20], "o/p");
        let id = KeyId::new("k1").unwrap();
        let name = format!("{}000000036f2f70", "11".repeat(20));
        assert_eq!(hex::encode(key(&scope, &id)), format!("6b{name}746b31"));
        let random = KeyId::new("00112233445566778899aabbccddeeff").unwrap();
        assert_eq!(hex::encode(key(&scope, &random)), format!("6b{name}68{random}"));
        let upper = KeyId::new("00112233445566778899AABBCCDDEEFF").unwrap();
        assert_eq!(hex::encode(key(&scope, &upper)), format!("6b{name}74{}", hex::encode(upper.as_str())));
        assert_eq!(hex::encode(order(&scope, 258, &id)), format!("6f{name}00000000000001026b31"));
        assert_eq!(hex::encode(current(&scope)), format!("63{name}"));
        assert_eq!(hex::encode(record(&table("t"), b"ab")), "7200000001746162");
    }

    proptest! {
        #[test]
        fn a_scope_and_a_key_read_back_as_written(publisher: [u8; 20], stream in ".{0,40}", id in "[!-~]{1,64}") {
            let (scope, id) = (KeyScope::new(publisher, &stream), KeyId::new(&id).unwrap());
            prop_assert_eq!(read_scope(&key(&scope, &id)).unwrap(), scope.clone());
            prop_assert_eq!(read_key(&key(&scope, &id)).unwrap(), (scope.clone(), id.clone()));
            prop_assert!(key(&scope, &id) < after_keys_of(&scope));
        }

        #[test]
        fn a_random_id_and_the_name_of_a_record_read_back_as_written(id: [u8; 16], name in ".{0,40}", bytes: Vec<u8>) {
            let (scope, id) = (KeyScope::new([1; 20], "o/p"), KeyId::new(&hex::encode(id)).unwrap());
            prop_assert_eq!(read_key(&key(&scope, &id)).unwrap(), (scope, id));
            let place = record(&table(&name), &bytes);
            prop_assert_eq!(read_record(&place).unwrap(), (name.as_str(), &bytes[..]));
        }

        #[test]
        fn a_damaged_place_is_an_error_or_another_name_and_never_a_panic(place: Vec<u8>) {
            let _ = read_scope(&place);
            let _ = read_key(&place);
            let _ = read_record(&place);
            let _ = read_id(&place);
        }
    }
}
