//! A scope's keys in time: sheets of some entries each, so that a long history takes little room and a span of it is found without
//! opening every key before.
//!
//! ```text
//! sheet   entries, in order of since, then of id
//! entry   since 8 | has until 1 | until 8 | length of the packed id 1 | packed id
//! ```
//! Numbers are big-endian; `until` is zero when there is none, and the same as the key's record says. A sheet lies where it begins
//! ([`place::order`]), the first one at the scope itself. It holds every key up to where the next one begins; a full one is
//! halved, or, where keys come in their order, left full.

use std::ops::{Bound, ControlFlow};

use zeroize::Zeroizing;

use super::{Changes, Plain, Shelf, place};
use crate::{HistoryCursor, KeyId, KeyScope, StoreError, StoredKey, TimeRange};

/// Entries in a sheet at most.
const FULL: usize = 32;
/// What an entry of a random id takes, bytes.
const USUAL: usize = 8 + 1 + 8 + 1 + 17;

/// One key's place in time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) since: u64,
    pub(super) until: Option<u64>,
    pub(super) id: KeyId,
}

impl Entry {
    fn of(stored: &StoredKey) -> Self {
        Self { since: stored.since, until: stored.until, id: stored.key.id().clone() }
    }

    fn at(&self) -> (u64, &KeyId) {
        (self.since, &self.id)
    }

    fn touches(&self, range: TimeRange) -> bool {
        self.since <= range.to && self.until.is_none_or(|until| until > range.from)
    }
}

/// Enters a key, which stood at `before` until now if that is another place.
///
/// # Errors
/// [`StoreError`].
pub(super) fn put(
    shelf: &impl Shelf,
    changes: &mut Changes,
    scope: &KeyScope,
    before: Option<u64>,
    stored: &StoredKey,
) -> Result<(), StoreError> {
    let entry = Entry::of(stored);
    if let Some(before) = before.filter(|before| *before != entry.since) {
        take(shelf, changes, scope, before, &entry.id)?;
    }
    let (place, mut entries) = sheet_of(shelf, changes, scope, entry.since, &entry.id)?;
    match entries.binary_search_by(|known| known.at().cmp(&entry.at())) {
        Ok(at) => entries[at] = entry,
        Err(at) => {
            let keep = if at == entries.len() { FULL } else { FULL / 2 };
            entries.insert(at, entry);
            if entries.len() > FULL {
                let rest = entries.split_off(keep);
                let (since, id) = rest[0].at();
                changes.insert(place::order(scope, since, id), Some(write(&rest)));
            }
        }
    }
    changes.insert(place, Some(write(&entries)));
    Ok(())
}

/// Strikes a key out.
///
/// # Errors
/// [`StoreError::Damaged`] when it is not there.
pub(super) fn take(
    shelf: &impl Shelf,
    changes: &mut Changes,
    scope: &KeyScope,
    since: u64,
    id: &KeyId,
) -> Result<(), StoreError> {
    let (place, mut entries) = sheet_of(shelf, changes, scope, since, id)?;
    let at = entries.binary_search_by(|known| known.at().cmp(&(since, id))).map_err(|_| damaged(scope))?;
    entries.remove(at);
    changes.insert(place, (!entries.is_empty()).then(|| write(&entries)));
    Ok(())
}

/// Visits the entries of the keys in use at any moment of `range`, in order, strictly after `after`.
///
/// # Errors
/// [`StoreError`], and the visitor's.
pub(super) fn walk(
    shelf: &impl Shelf,
    scope: &KeyScope,
    range: TimeRange,
    after: Option<&HistoryCursor>,
    visit: &mut dyn FnMut(Entry) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    let mut sheet = |plain: &[u8]| {
        for entry in read(scope, plain)? {
            if after.is_some_and(|after| entry.at() <= (after.since, &after.id)) {
                continue;
            }
            if entry.since > range.to || (entry.touches(range) && visit(entry)?.is_break()) {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    };
    let prefix = place::order_of(scope);
    let begins = match after {
        Some(after) => shelf.last_before(&prefix, &behind(place::order(scope, after.since, &after.id)))?,
        None => None,
    };
    if let Some((_, plain)) = &begins
        && sheet(plain)?.is_break()
    {
        return Ok(());
    }
    shelf.walk(&prefix, begins.as_ref().map(|(place, _)| place.as_slice()), &mut |_, plain| sheet(&plain))
}

/// Where the sheet lies that a key belongs into, as planned or as stored, and what is in it.
fn sheet_of(
    shelf: &impl Shelf,
    changes: &Changes,
    scope: &KeyScope,
    since: u64,
    id: &KeyId,
) -> Result<(Vec<u8>, Vec<Entry>), StoreError> {
    let prefix = place::order_of(scope);
    let end = behind(place::order(scope, since, id));
    let within = (Bound::Included(prefix.as_slice()), Bound::Excluded(end.as_slice()));
    let planned = changes.range::<[u8], _>(within).rev().find_map(|(place, plain)| Some((place, plain.as_ref()?)));
    let mut stored = shelf.last_before(&prefix, &end)?;
    // What is planned to go is passed by, and what is planned to change is read as planned.
    while let Some((place, _)) = stored.take_if(|(place, _)| changes.contains_key(place)) {
        stored = shelf.last_before(&prefix, &place)?;
    }
    match (planned, stored) {
        (Some((place, plain)), stored) if stored.as_ref().is_none_or(|(other, _)| other < place) => {
            Ok((place.clone(), read(scope, plain)?))
        }
        (_, Some((place, plain))) => Ok((place, read(scope, &plain)?)),
        (_, None) => Ok((prefix, Vec::new())),
    }
}

/// The first place behind this one.
fn behind(mut place: Vec<u8>) -> Vec<u8> {
    place.push(0);
    place
}

fn write(entries: &[Entry]) -> Plain {
    let mut out = Zeroizing::new(Vec::with_capacity(entries.len() * USUAL));
    for Entry { since, until, id } in entries {
        out.extend_from_slice(&since.to_be_bytes());
        out.push(u8::from(until.is_some()));
        out.extend_from_slice(&until.unwrap_or(0).to_be_bytes());
        let start = out.len();
        out.push(0);
        place::push_id(&mut out, id);
        // 65 bytes at most: an id has up to 64, and one says how it is packed.
        out[start] = u8::try_from(out.len() - start - 1).unwrap_or(u8::MAX);
    }
    out
}

fn read(scope: &KeyScope, plain: &[u8]) -> Result<Vec<Entry>, StoreError> {
    decode(plain).ok_or_else(|| damaged(scope))
}

fn decode(mut plain: &[u8]) -> Option<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::with_capacity(plain.len() / USUAL + 1);
    while !plain.is_empty() {
        let (since, rest) = plain.split_first_chunk()?;
        let (has_until, rest) = rest.split_first()?;
        let (until, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first()?;
        let (id, rest) = rest.split_at_checked(usize::from(*length))?;
        let until = match (has_until, u64::from_be_bytes(*until)) {
            (0, 0) => None,
            (1, until) => Some(until),
            _ => return None,
        };
        let entry = Entry { since: u64::from_be_bytes(*since), until, id: place::read_id(id)? };
        if entries.last().is_some_and(|last| last.at() >= entry.at()) {
            return None;
        }
        entries.push(entry);
        plain = rest;
    }
    // An empty sheet is taken out.
    (!entries.is_empty() && entries.len() <= FULL).then_some(entries)
}

fn damaged(scope: &KeyScope) -> StoreError {
    StoreError::damaged(format!("the order of the keys of stream {}", scope.stream()))
}

/// For the fuzz target: whether it is a sheet, which must then be what is written for it.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn reads(plain: &[u8]) -> bool {
    let entries = decode(plain);
    if let Some(entries) = &entries {
        assert_eq!(&**write(entries), plain, "one sheet has one encoding");
    }
    entries.is_some()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        GroupKey, KeyOrigin, KeyStore, MemoryKeyStore,
        ledger::{Ledger, Visit},
    };

    fn scope() -> KeyScope {
        KeyScope::new([1; 20], "o/p")
    }

    fn id() -> impl Strategy<Value = KeyId> {
        prop_oneof![
            "[!-~]{1,64}".prop_map(|id| KeyId::new(&id).unwrap()),
            any::<[u8; 16]>().prop_map(|id| KeyId::new(&hex::encode(id)).unwrap()),
        ]
    }

    #[test]
    fn a_sheet_v1_is_frozen() {
        let entry = |since, until, id: &str| Entry { since, until, id: KeyId::new(id).unwrap() };
        let sheet = [entry(1, Some(2), "k1"), entry(2, None, "00112233445566778899aabbccddeeff")];
        let expected = "0000000000000001010000000000000002\
                        03746b310000000000000002000000000000000000116800112233445566778899aabbccddeeff";
        assert_eq!(hex::encode(&*write(&sheet)), expected);
        assert_eq!(decode(&hex::decode(expected).unwrap()).unwrap(), sheet);
    }

    #[test]
    fn a_history_made_in_order_leaves_full_sheets() {
        let store = MemoryKeyStore::new();
        for n in 0..FULL as u64 * 10 {
            let key = GroupKey::new(KeyId::new(&format!("k{n}")).unwrap(), &[1; 32]).unwrap();
            store.add(&scope(), &key, n, Some(n + 1), KeyOrigin::Received).unwrap();
        }
        let mut sheets = Vec::new();
        let count = &mut |_: &[u8], plain: Plain| {
            sheets.push(decode(&plain).unwrap().len());
            Ok(ControlFlow::Continue(()))
        };
        store.ledger().shelf.walk(&place::order_of(&scope()), None, count).unwrap();
        assert_eq!(sheets, [FULL; 10]);
    }

    /// Counts what is opened by its name.
    #[derive(Default)]
    struct Counting(crate::memory::MemoryShelf, AtomicUsize);

    impl Shelf for Counting {
        fn read(&self, place: &[u8]) -> Result<Option<Plain>, StoreError> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.read(place)
        }

        fn walk(&self, prefix: &[u8], after: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
            self.0.walk(prefix, after, visit)
        }

        fn last_before(&self, prefix: &[u8], end: &[u8]) -> Result<Option<(Vec<u8>, Plain)>, StoreError> {
            self.0.last_before(prefix, end)
        }

        fn apply(&self, changes: Changes) -> Result<(), StoreError> {
            self.0.apply(changes)
        }

        fn entries(&self) -> u64 {
            self.0.entries()
        }

        fn settle(&self) -> Result<(), StoreError> {
            self.0.settle()
        }
    }

    #[test]
    fn a_late_span_is_found_without_opening_the_keys_before_it() {
        let ledger = Ledger::new(Counting::default());
        for n in 0..1000_u64 {
            let key = GroupKey::new(KeyId::new(&format!("k{n}")).unwrap(), &[1; 32]).unwrap();
            ledger.add(&scope(), &key, n, Some(n + 1), KeyOrigin::Received).unwrap();
        }
        ledger.shelf.1.store(0, Ordering::Relaxed);
        let found = ledger.history(&scope(), TimeRange { from: 990, to: u64::MAX }, None, 100).unwrap();
        assert_eq!(found.iter().map(|stored| stored.since).collect::<Vec<_>>(), (990..1000).collect::<Vec<_>>());
        assert_eq!(ledger.shelf.1.load(Ordering::Relaxed), 10);
    }

    proptest! {
        #[test]
        fn a_sheet_reads_back_as_written(keys in proptest::collection::btree_map((any::<u64>(), id()), any::<Option<u64>>(), 1..FULL)) {
            let entries: Vec<_> = keys.into_iter().map(|((since, id), until)| Entry { since, until, id }).collect();
            prop_assert_eq!(decode(&write(&entries)).unwrap(), entries);
        }

        #[test]
        fn damaged_bytes_are_no_sheet_or_another_one_and_never_a_panic(plain: Vec<u8>) {
            reads(&plain);
        }

        /// Many keys in few places, so that sheets fill, split, empty and go.
        #[test]
        fn whatever_is_added_widened_and_removed_the_history_is_that_of_a_plain_list(
            steps in proptest::collection::vec((0..150u8, 0..40u64, any::<bool>(), 0..3u8), 1..200),
            (from, to) in (0..60u64, 0..60u64), skip in 0..50usize, together in any::<bool>(),
        ) {
            let store = MemoryKeyStore::new();
            let mut known: BTreeMap<u8, (u64, Option<u64>)> = BTreeMap::new();
            let key = |n: u8| GroupKey::new(KeyId::new(&format!("k{n}")).unwrap(), &[n; 32]).unwrap();
            for (n, since, ends, remove) in steps {
                if remove == 0 {
                    prop_assert_eq!(store.remove(&scope(), key(n).id()).unwrap(), known.remove(&n).is_some());
                    continue;
                }
                let until = ends.then_some(since + 5);
                if together {
                    let stored = StoredKey { key: key(n), since, until, origin: KeyOrigin::Received };
                    let more = StoredKey { key: key(n ^ 1), ..stored.clone() };
                    store.add_all(&scope(), &[stored, more]).unwrap();
                } else {
                    store.add(&scope(), &key(n), since, until, KeyOrigin::Received).unwrap();
                }
                for n in if together { vec![n, n ^ 1] } else { vec![n] } {
                    let entry = known.entry(n).or_insert((since, until));
                    *entry = (entry.0.min(since), entry.1.max(until));
                }
            }
            let range = TimeRange { from, to };
            let mut expected: Vec<_> = known
                .iter()
                .map(|(n, (since, until))| Entry { since: *since, until: *until, id: key(*n).id().clone() })
                .filter(|entry| entry.touches(range))
                .collect();
            expected.sort_by(|a, b| a.at().cmp(&b.at()));
            let after = skip.checked_sub(1).and_then(|last| expected.get(last)).map(|entry| HistoryCursor { since: entry.since, id: entry.id.clone() });
            let rest = if after.is_some() { expected.split_off(skip) } else { expected };
            let found = store.history(&scope(), range, after.as_ref(), usize::MAX).unwrap();
            prop_assert_eq!(found.iter().map(Entry::of).collect::<Vec<_>>(), rest);
        }
    }
}
