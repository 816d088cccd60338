//! Keys agreed on for all streams under a prefix, by any publisher.
//!
//! A [`RingPrefix`] is an owner, or an owner and the first segments of a path, whole ones: `0xabc/sensors` covers the stream
//! `0xabc/sensors` and `0xabc/sensors/roof`, never `0xabc/sensors2`; `0xabc` covers every stream of that owner. The longest
//! prefix that has keys decides about a stream, alone: a key id that is not in its ring is not looked for in a shorter one, and
//! not in the network either.
//!
//! Every key of a ring opens messages; one at most is in use and seals them. To change over without losing a message:
//! [`add`] the new key on all sides, [`make_current`] it at the publishers, [`remove`] the old one once nothing under it is read.
//!
//! Ring keys lie in the key store, sealed like all others, under the publisher zero, whom nobody can be, and the prefix as
//! stream. What seals a message is derived from the ring key for one publisher and one stream, so streams share no key.
//!
//! ```
//! use veilcast::key_ring::{self, RingPrefix};
//! use veilcast::key_store::{GroupKey, MemoryKeyStore};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (store, key) = (MemoryKeyStore::new(), GroupKey::generate(&mut rand::rng()));
//! let plant: RingPrefix = "plant.eth/hall-2".parse()?;
//! key_ring::add(&store, &plant, &key, 1_000)?;
//! let ring = key_ring::find(&store, &"plant.eth/hall-2/pressure".parse()?)?.expect("it covers the stream");
//! assert!(ring.key(&store, key.id())?.is_some());
//! assert!(key_ring::find(&store, &"plant.eth/hall-21/pressure".parse()?)?.is_none());
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use veilcast_key_store::{GroupKey, KeyId, KeyOrigin, KeyScope, KeyStore, StoreError, StoredKey, TimeRange};

use crate::stream::{StreamId, StreamIdError};

/// No identity has this address.
const ANYBODY: [u8; 20] = [0; 20];

/// An owner, or an owner and the first segments of a path. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RingPrefix(Arc<str>);

impl RingPrefix {
    /// Parses and checks a prefix: what a stream id may begin with, up to a `/` or its end, without that `/`.
    ///
    /// # Errors
    /// [`StreamIdError`] names the rule of stream ids that was broken.
    pub fn new(text: &str) -> Result<Self, StreamIdError> {
        if text.ends_with('/') {
            return Err(StreamIdError::NoPath);
        }
        match text.contains('/') {
            true => StreamId::new(text).map(drop)?,
            // An owner alone is no stream; one of its streams is.
            false => StreamId::new(&format!("{text}/s")).map(drop)?,
        }
        Ok(Self(text.into()))
    }

    /// The prefix as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `stream` lies under it.
    pub fn covers(&self, stream: &StreamId) -> bool {
        stream.as_str().strip_prefix(self.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The prefix whose keys these are; `None` for the keys of one publisher on one stream.
    pub fn of_scope(scope: &KeyScope) -> Option<Self> {
        (scope.publisher() == &ANYBODY).then(|| Self::new(scope.stream()).ok()).flatten()
    }

    fn scope(&self) -> KeyScope {
        KeyScope::new(ANYBODY, self.as_str())
    }
}

impl fmt::Display for RingPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RingPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RingPrefix {
    type Err = StreamIdError;
    fn from_str(text: &str) -> Result<Self, StreamIdError> {
        Self::new(text)
    }
}

/// The ring that decides about a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    prefix: RingPrefix,
}

impl Ring {
    /// For which streams it was agreed.
    pub fn prefix(&self) -> &RingPrefix {
        &self.prefix
    }

    /// The agreed key of this id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn key(&self, store: &dyn KeyStore, id: &KeyId) -> Result<Option<GroupKey>, StoreError> {
        Ok(store.key(&self.prefix.scope(), id)?.map(|stored| stored.key))
    }

    /// The key in use, which seals; `None` until one was chosen with [`make_current`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn sealing(&self, store: &dyn KeyStore) -> Result<Option<GroupKey>, StoreError> {
        Ok(store.current(&self.prefix.scope())?.map(|stored| stored.key))
    }
}

/// The ring of the longest prefix that covers `stream` and has keys.
///
/// # Errors
/// [`StoreError`]: then nobody can tell, and the caller must not go on as if there were none.
pub fn find(store: &dyn KeyStore, stream: &StreamId) -> Result<Option<Ring>, StoreError> {
    let id = stream.as_str();
    let ends = std::iter::once(id.len()).chain(id.rmatch_indices('/').map(|(at, _)| at));
    for prefix in ends.filter_map(|end| RingPrefix::new(&id[..end]).ok()) {
        if !store.history(&prefix.scope(), TimeRange::ALL, None, 1)?.is_empty() {
            return Ok(Some(Ring { prefix }));
        }
    }
    Ok(None)
}

/// Puts a key into a ring, agreed at `now` (ms since the epoch). Which one seals stays as it is.
///
/// # Errors
/// [`StoreError`], also when the ring has other bytes under this id.
pub fn add(store: &dyn KeyStore, prefix: &RingPrefix, key: &GroupKey, now: u64) -> Result<(), StoreError> {
    store.add(&prefix.scope(), key, now, None, KeyOrigin::PreAgreed)
}

/// Lets a key of a ring seal from now on (ms since the epoch).
///
/// # Errors
/// [`RingError`].
pub fn make_current(store: &dyn KeyStore, prefix: &RingPrefix, id: &KeyId, now: u64) -> Result<(), RingError> {
    let stored = store.key(&prefix.scope(), id)?;
    let stored = stored.ok_or_else(|| RingError::NoKey { prefix: prefix.clone(), key_id: id.clone() })?;
    Ok(store.make_current(&prefix.scope(), &stored.key, now)?)
}

/// Takes a key out of a ring: what is under it opens no more. A ring without keys decides about nothing.
///
/// # Errors
/// [`RingError`]; the key in use is removed last.
pub fn remove(store: &dyn KeyStore, prefix: &RingPrefix, id: &KeyId) -> Result<(), RingError> {
    let scope = prefix.scope();
    let in_use = store.current(&scope)?.is_some_and(|current| current.key.id() == id);
    if in_use && store.history(&scope, TimeRange::ALL, None, 2)?.len() > 1 {
        return Err(RingError::InUse { prefix: prefix.clone(), key_id: id.clone() });
    }
    match store.remove(&scope, id)? {
        true => Ok(()),
        false => Err(RingError::NoKey { prefix: prefix.clone(), key_id: id.clone() }),
    }
}

/// What may open a message, or why nothing may.
#[derive(Clone, Debug)]
pub enum Looked {
    /// This key.
    Found(GroupKey),
    /// Only agreed keys count here, and this is none.
    NotAgreed,
    /// It is not here; its publisher can be asked.
    Absent,
}

/// Looks for the key of a message: one put in by hand for this very publisher and stream, else in the ring that decides about
/// the stream, else, unless only agreed keys count at all, what the publisher handed out.
///
/// # Errors
/// [`StoreError`]: then nobody can tell whether the publisher may be asked.
pub fn look(
    store: &dyn KeyStore,
    of: &KeyScope,
    stream: &StreamId,
    id: &KeyId,
    only: bool,
) -> Result<Looked, StoreError> {
    let own: Option<StoredKey> = store.key(of, id)?;
    if let Some(own) = own.as_ref().filter(|own| own.origin == KeyOrigin::PreAgreed) {
        return Ok(Looked::Found(own.key.clone()));
    }
    if let Some(ring) = find(store, stream)? {
        return Ok(ring.key(store, id)?.map_or(Looked::NotAgreed, Looked::Found));
    }
    Ok(match own {
        _ if only => Looked::NotAgreed,
        Some(own) => Looked::Found(own.key),
        None => Looked::Absent,
    })
}

/// Why a ring was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// The ring has no such key.
    #[error("there is no key {key_id} in the ring of {prefix}; add it first")]
    NoKey {
        /// Whose ring.
        prefix: RingPrefix,
        /// Which key.
        key_id: KeyId,
    },
    /// Without it nothing could be published, although the ring has other keys.
    #[error("key {key_id} of the ring of {prefix} is in use; use another one first, or remove the others before it")]
    InUse {
        /// Whose ring.
        prefix: RingPrefix,
        /// Which key.
        key_id: KeyId,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests {
    use veilcast_key_store::MemoryKeyStore;

    use super::*;
    use crate::cipher::MessageCipher;
    use crate::identity::UserId;

    const OWNER: &str = "0x00000000000000000000000000000000000000aa";

    fn prefix(path: &str) -> RingPrefix {
        RingPrefix::new(&format!("{OWNER}{path}")).unwrap()
    }

    fn stream(path: &str) -> StreamId {
        StreamId::new(&format!("{OWNER}{path}")).unwrap()
    }

    fn key(id: &str) -> GroupKey {
        GroupKey::new(KeyId::new(id).unwrap(), &[7; 32]).unwrap()
    }

    fn id(id: &str) -> KeyId {
        KeyId::new(id).unwrap()
    }

    #[test]
    fn a_prefix_covers_whole_segments_only() {
        for (of, path, covered) in [
            ("", "/sensors", true),
            ("", "/a/b/c", true),
            ("/sensors", "/sensors", true),
            ("/sensors", "/sensors/a", true),
            ("/sensors", "/sensors/a/b", true),
            ("/sensors", "/sensors2", false),
            ("/sensors", "/sensor", false),
            ("/sensors/a", "/sensors", false),
            ("/sensors/a", "/sensors/ab", false),
        ] {
            assert_eq!(prefix(of).covers(&stream(path)), covered, "{of} and {path}");
        }
        assert!(!prefix("").covers(&StreamId::new("0x00000000000000000000000000000000000000ab/sensors").unwrap()));
        assert!(!RingPrefix::new("plant.eth").unwrap().covers(&StreamId::new("plant.eth2/s").unwrap()));
    }

    #[test]
    fn what_no_stream_id_may_begin_with_is_no_prefix() {
        for wrong in ["", "/", "plant", "0xAA", "plant.eth/", "plant.eth/a/", "plant.eth/a b", "plant.eth/a#1"] {
            assert!(RingPrefix::new(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_longest_prefix_that_has_keys_decides_alone() {
        let store = MemoryKeyStore::new();
        for (path, id) in [("", "all"), ("/sensors", "sensors"), ("/sensors/roof", "roof")] {
            add(&store, &prefix(path), &key(id), 1).unwrap();
        }
        for (path, decides, opens) in [
            ("/prices", "", "all"),
            ("/sensors", "/sensors", "sensors"),
            ("/sensors/cellar", "/sensors", "sensors"),
            ("/sensors2", "", "all"),
            ("/sensors/roof", "/sensors/roof", "roof"),
            ("/sensors/roof/left", "/sensors/roof", "roof"),
            ("/sensors/roofs", "/sensors", "sensors"),
            ("/a//b", "", "all"),
        ] {
            let ring = find(&store, &stream(path)).unwrap().unwrap();
            assert_eq!(ring.prefix(), &prefix(decides), "{path}");
            for other in ["all", "sensors", "roof"] {
                assert_eq!(ring.key(&store, &id(other)).unwrap().is_some(), other == opens, "{path}, {other}");
            }
        }
        remove(&store, &prefix("/sensors/roof"), &id("roof")).unwrap();
        let ring = find(&store, &stream("/sensors/roof")).unwrap().unwrap();
        assert_eq!(ring.prefix(), &prefix("/sensors"), "a ring without keys decides about nothing");
        assert!(find(&store, &StreamId::new("plant.eth/s").unwrap()).unwrap().is_none());
    }

    #[test]
    fn old_and_new_open_side_by_side_and_the_one_in_use_seals() {
        let (store, plant) = (MemoryKeyStore::new(), prefix("/plant"));
        add(&store, &plant, &key("old"), 1).unwrap();
        let ring = find(&store, &stream("/plant/pressure")).unwrap().unwrap();
        assert!(ring.sealing(&store).unwrap().is_none(), "none was chosen");
        make_current(&store, &plant, &id("old"), 2).unwrap();
        add(&store, &plant, &key("new"), 3).unwrap();
        let seals = || ring.sealing(&store).unwrap().map(|key| key.id().to_string());
        assert_eq!(seals().as_deref(), Some("old"));
        make_current(&store, &plant, &id("new"), 4).unwrap();
        assert_eq!(seals().as_deref(), Some("new"));
        assert!(ring.key(&store, &id("old")).unwrap().is_some());
        assert!(matches!(remove(&store, &plant, &id("new")), Err(RingError::InUse { .. })));
        remove(&store, &plant, &id("old")).unwrap();
        assert!(ring.key(&store, &id("old")).unwrap().is_none());
        assert!(matches!(remove(&store, &plant, &id("old")), Err(RingError::NoKey { .. })));
        assert!(matches!(make_current(&store, &plant, &id("never"), 5), Err(RingError::NoKey { .. })));
        remove(&store, &plant, &id("new")).unwrap();
        assert!(find(&store, &stream("/plant/pressure")).unwrap().is_none());
    }

    #[test]
    fn where_a_ring_decides_and_where_only_agreed_keys_count_nothing_else_opens_and_nobody_is_asked() {
        let (store, publisher) = (MemoryKeyStore::new(), UserId::from_bytes([1; 20]));
        let (ringed, free) = (stream("/plant/pressure"), stream("/free"));
        add(&store, &prefix("/plant"), &key("agreed"), 1).unwrap();
        for stream in [&ringed, &free] {
            let scope = crate::scope(publisher, stream);
            store.add(&scope, &key("received"), 1, None, KeyOrigin::Received).unwrap();
            store.add(&scope, &key("by-hand"), 1, None, KeyOrigin::PreAgreed).unwrap();
        }
        let look = |stream: &StreamId, name: &str, only| match look(
            &store,
            &crate::scope(publisher, stream),
            stream,
            &id(name),
            only,
        )
        .unwrap()
        {
            Looked::Found(_) => "found",
            Looked::NotAgreed => "not agreed",
            Looked::Absent => "ask",
        };
        for only in [false, true] {
            assert_eq!(look(&ringed, "agreed", only), "found");
            assert_eq!(look(&ringed, "by-hand", only), "found");
            assert_eq!(look(&ringed, "received", only), "not agreed");
            assert_eq!(look(&ringed, "never", only), "not agreed");
        }
        assert_eq!((look(&free, "received", false), look(&free, "received", true)), ("found", "not agreed"));
        assert_eq!((look(&free, "agreed", false), look(&free, "agreed", true)), ("ask", "not agreed"));
        assert_eq!(look(&free, "by-hand", true), "found");
    }

    #[test]
    fn two_streams_and_two_publishers_under_one_ring_key_share_no_derived_key() {
        let (key, alice, bob) = (key("agreed"), UserId::from_bytes([1; 20]), UserId::from_bytes([2; 20]));
        let cipher = |user, path| MessageCipher::new(&crate::scope(user, &stream(path)), &key);
        let sealed = cipher(alice, "/plant/a").seal(b"header", b"text", &mut rand::rng());
        assert!(cipher(alice, "/plant/a").open(b"header", &sealed).is_ok());
        assert!(cipher(alice, "/plant/b").open(b"header", &sealed).is_err());
        assert!(cipher(bob, "/plant/a").open(b"header", &sealed).is_err());
    }
}
