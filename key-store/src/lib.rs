//! Group keys at rest: sealed, ordered, durable.
//!
//! Every key a publisher ever used must stay answerable, from the publisher's own disk, through crashes and restarts;
//! and nobody who takes that disk should read a single one. This crate is that drawer and nothing else: it knows no
//! network, no async and no chain.
//!
//! - [`GroupKey`] is the secret: 32 bytes that are wiped on drop and cannot be printed, under a public [`KeyId`].
//! - A [`KeyScope`] says whose key it is. Keys are found under their own publisher and stream only.
//! - [`KeyStore`] keeps them in order of time; [`RecordStore`] keeps other small facts beside them, just as durable.
//! - [`portable`] files carry a whole store, or some keys, to another disk or machine.
//! - [`MemoryKeyStore`] and [`SledKeyStore`] are the two stores. They share one set of rules.
//!
//! ```
//! use veilcast_key_store::{GroupKey, KeyScope, KeyStore, SledKeyStore, TimeRange, Unlock};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let tmp = tempfile::tempdir()?;
//! # let dir = tmp.path().join("keys");
//! # let key_file = tmp.path().join("keys.unlock");
//! let store = SledKeyStore::open(&dir, &Unlock::KeyFile(key_file.clone()))?;
//! let scope = KeyScope::new([0x11; 20], "0x1111111111111111111111111111111111111111/prices");
//!
//! // On disk when the call returns: messages may leave under this key now.
//! let first = GroupKey::generate(&mut rand::rng());
//! store.make_current(&scope, &first, 1_000)?;
//! store.make_current(&scope, &GroupKey::generate(&mut rand::rng()), 2_000)?;
//! drop(store);
//!
//! // After a restart the publisher still answers for what it used before.
//! let store = SledKeyStore::open(&dir, &Unlock::KeyFile(key_file))?;
//! let found = store.key(&scope, first.id())?.expect("it was stored");
//! assert!(found.key.same_as(&first));
//! assert_eq!((found.since, found.until), (1_000, Some(2_000)));
//! assert_eq!(store.history(&scope, TimeRange::ALL, None, 10)?.len(), 2);
//! # Ok(())
//! # }
//! ```

mod delegate;
pub mod durable;
mod forget;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod group_key;
mod key_error;
mod key_id;
mod ledger;
mod memory;
pub mod portable;
mod sled_store;
mod store;
mod store_error;
mod stored;

pub use forget::{Forgettable, forget, forgettable};
pub use group_key::{GROUP_KEY_LEN, GroupKey};
pub use key_error::KeyError;
pub use key_id::KeyId;
pub use memory::MemoryKeyStore;
pub use sled_store::{KdfCost, SledKeyStore, StoreConfig, Unlock};
pub use store::{
    KeyStore, MAX_RECORD_CHANGES, MAX_RECORD_KEY_LEN, MAX_RECORD_LEN, Record, RecordChange, RecordStore, Store,
};
pub use store_error::StoreError;
pub use stored::{HistoryCursor, KeyOrigin, KeyScope, StoredKey, TimeRange};
