//! What a store in sled needs for its acknowledgements to be true. The key store is built on it; so is the message store
//! of the `veilcast` crate, which keeps its own files.
//!
//! sled 0.34's own `flush` writes its buffer and then calls `sync_file_range` on Linux, which syncs neither the file's
//! length nor the disk's cache (`pagecache/iobuf.rs`, `write_to_log`). So after each flush its log is synced with a handle of
//! our own, and the files of large nodes, which sled never syncs ([`SyncedLog`]). Writers that wait at the same time share
//! one sync ([`GroupCommit`]). Files that belong together take their places together ([`Placing`]).

mod group_commit;
mod log;
mod placing;

pub use group_commit::{Broken, GroupCommit};
pub use log::SyncedLog;
pub use placing::{OldFiles, Placing};

pub use crate::sled_store::{StoreLock, wait_for_rest};
