//! Why the local registry did not do what it was asked.

use veilcast_key_store::StoreError;

use crate::identity::UserId;
use crate::permission::{PeriodError, Permission};
use crate::stream::{MAX_PARTITIONS, StreamId};

/// Why the local registry did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Not on record here.
    #[error("there is no stream {stream} in this registry; create it first")]
    NoStream {
        /// The stream named.
        stream: StreamId,
    },
    /// There is one of this name with other settings.
    #[error("the stream {stream} exists already with other settings")]
    StreamExists {
        /// The stream named.
        stream: StreamId,
    },
    /// Out of range.
    #[error("a stream has 1 to {MAX_PARTITIONS} partitions, not {got}")]
    Partitions {
        /// The number given.
        got: u32,
    },
    /// Nothing to revoke.
    #[error("{user} has no {permission} grant on {stream}")]
    NoGrant {
        /// The stream named.
        stream: StreamId,
        /// The user named.
        user: UserId,
        /// The permission named.
        permission: Permission,
    },
    /// A grant that holds now cannot be replaced by one that begins after a pause.
    #[error(
        "{user} holds a {permission} grant that ends before the new one would begin; revoke it first, or leave no pause"
    )]
    StillHeld {
        /// The user named.
        user: UserId,
        /// The permission named.
        permission: Permission,
    },
    /// A period that makes no sense.
    #[error(transparent)]
    Period(#[from] PeriodError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record that cannot be read: the store is damaged or newer.
    #[error("a registry record cannot be read; it may come from a newer version")]
    Record,
}
