//! Why a client did not do what it was asked.

use veilcast_key_store::{KeyId, StoreError};

use super::fetching::{FetchProgress, MissedDevice};
use crate::audit::AuditFault;
use crate::cipher::RsaError;
use crate::exchange::{AskFailure, FetchFailure, HistoryPolicyError};
use crate::identity::UserId;
use crate::key_ring::{RingError, RingPrefix};
use crate::message::ComposeError;
use crate::network::NetworkError;
use crate::permission::{AccessError, GrantError, Permission, Refusal, RegistryError};
use crate::publisher::BackDated;
use crate::storage::StorageError;
use crate::stream::{StreamId, StreamIdError};
use crate::time::Timestamp;
use crate::wire::WireError;

/// Everything a [`Client`](super::Client) call can fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// This identity may not do that on that stream. Nothing was sent.
    #[error("{user} may not {permission} on {stream}: {refusal}")]
    NotPermitted {
        /// Who.
        user: UserId,
        /// Where.
        stream: StreamId,
        /// What.
        permission: Permission,
        /// Why not.
        refusal: Refusal,
    },
    /// There is no such stream, and there can be none that is only not known here.
    #[error("there is no stream {stream}{}", of_ens(.stream))]
    NoStream {
        /// Which.
        stream: StreamId,
    },
    /// What streams' owners signed decides here, and the local registry nothing: see `set_up_stream`, `issue_grant` and
    /// `revoke_grants` of [`Client`](super::Client). Nothing was changed.
    #[error("permissions on {stream} are decided by what its owner signed and not by the local registry")]
    DecidedElsewhere {
        /// Which stream.
        stream: StreamId,
    },
    /// The client's settings make no sense together, or not at all.
    #[error("the client's settings cannot be used: {0}")]
    Config(String),
    /// Over the limit. Nothing was sent.
    #[error("the payload has {size} bytes, the limit is {limit}")]
    PayloadTooLarge {
        /// Its size, bytes.
        size: usize,
        /// The limit, bytes.
        limit: usize,
    },
    /// Dated before the last message of its chain. Nothing was sent.
    #[error(transparent)]
    BackDated(#[from] BackDated),
    /// Rotate would hand the next key to these users, whose grants ended since the last rekey.
    #[error("rotate would hand the next key to {} whose grant ended since the last rekey; rekey instead, or rotate regardless", list(.ended))]
    GrantEnded {
        /// Whose grants ended.
        ended: Vec<UserId>,
    },
    /// Rotate hands its key to everybody who holds the current one, and a pre-agreed key is handed to nobody: rekey to it.
    #[error(
        "key {key_id} is pre-agreed: rotate would hand it to everybody who holds the current key; rekey to it instead"
    )]
    PreAgreed {
        /// The key.
        key_id: KeyId,
    },
    /// Only an agreed key may seal messages of this stream, and none is in use. Nothing was sent.
    #[error("no agreed key seals messages of {stream}{}; {}", of_ring(.ring), how_to_agree(.ring))]
    NoAgreedKey {
        /// Where.
        stream: StreamId,
        /// The ring that decides, if there is one: it has keys, and none of them is in use.
        ring: Option<RingPrefix>,
    },
    /// The message is under a key that is not among those agreed on, and nobody is asked for another.
    #[error("key {key_id} of {publisher} is not among the keys agreed on")]
    KeyNotAgreed {
        /// Whose message.
        publisher: UserId,
        /// Which key.
        key_id: KeyId,
    },
    /// Keys of this stream are agreed on outside the network: none is made, handed out or asked for.
    #[error("the keys of {stream} are agreed on outside the network; change them by hand on all sides")]
    AgreedKeysOnly {
        /// Where.
        stream: StreamId,
    },
    /// The audit log is not whole, or cannot be read.
    #[error(transparent)]
    Audit(#[from] AuditFault),
    /// A key ring was not changed.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// A key that was in use before shuts nobody out: whoever held it then holds it still.
    #[error("key {key_id} was in use on this stream before, and whoever held it holds it still; give another, or none")]
    KeyUsedBefore {
        /// The key.
        key_id: KeyId,
    },
    /// The publisher refused the key.
    #[error("{publisher} refused key {key_id}: {refusal}")]
    Refused {
        /// Who refused.
        publisher: UserId,
        /// Which key.
        key_id: KeyId,
        /// Why.
        refusal: Refusal,
    },
    /// The key could not be had: its publisher cannot be reached or does not answer.
    #[error("key {key_id} of {publisher} cannot be had: {failure}")]
    KeyUnavailable {
        /// Whose key.
        publisher: UserId,
        /// Which key.
        key_id: KeyId,
        /// Why the last try failed.
        failure: AskFailure,
    },
    /// Stored messages cannot be kept or read here.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// No node is known that keeps this stream.
    #[error("no storage node of {stream} is known; connect to one, or to a node that is")]
    NoStorage {
        /// Which stream.
        stream: StreamId,
    },
    /// Historical keys are refused as a whole, or cannot be had. What came until then is kept, and the next fetch of the same
    /// span goes on there.
    #[error("the keys of {publisher} on {stream} cannot be fetched: {failure}")]
    FetchFailed {
        /// Whose keys.
        publisher: UserId,
        /// On which stream.
        stream: StreamId,
        /// Why.
        failure: FetchFailure,
    },
    /// Some of the publisher's devices were not asked to the end of the span, and may have keys that no other has. What came is
    /// kept, and the next fetch of the same span goes on there.
    #[error(
        "not all keys of {publisher} on {stream} are here: {} came, but not all of {}", progress.keys, list(.missed)
    )]
    FetchIncomplete {
        /// Whose keys.
        publisher: UserId,
        /// On which stream.
        stream: StreamId,
        /// What came, of all devices together.
        progress: FetchProgress,
        /// Which devices, and why.
        missed: Vec<MissedDevice>,
    },
    /// A span of time that ends before it begins. Nothing was asked.
    #[error("a span of time that ends ({to}) before it begins ({from})")]
    Backwards {
        /// Its first moment, ms since the epoch.
        from: Timestamp,
        /// Its last moment, ms since the epoch.
        to: Timestamp,
    },
    /// The key of this id does not open the message.
    #[error("key {key_id} of {publisher} is here but does not open the message")]
    WrongKey {
        /// Whose key.
        publisher: UserId,
        /// Which key.
        key_id: KeyId,
    },
    /// Bytes that are no message.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A stream id, part or partition that is none.
    #[error(transparent)]
    StreamId(#[from] StreamIdError),
    /// The local registry refused.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A grant or stream record does not count, or could not be made.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// This publisher's own lists cannot be read or changed.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A stream's history policy cannot be read or kept.
    #[error(transparent)]
    History(#[from] HistoryPolicyError),
    /// A payload that cannot be sent.
    #[error(transparent)]
    Compose(#[from] ComposeError),
    /// An RSA size out of range.
    #[error(transparent)]
    Rsa(#[from] RsaError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The network failed.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The client was stopped.
    #[error("the client was stopped")]
    Stopped,
}

fn of_ens(stream: &StreamId) -> &'static str {
    match stream.owner() {
        Some(_) => "",
        None => ": its owner is an ENS name, and no registry asked here has a stream of it",
    }
}

fn of_ring(ring: &Option<RingPrefix>) -> String {
    ring.as_ref().map_or_else(String::new, |prefix| format!(": of the ring of {prefix} none is in use"))
}

const fn how_to_agree(ring: &Option<RingPrefix>) -> &'static str {
    match ring {
        Some(_) => "choose one of its keys",
        None => "add one for the stream or for a prefix of it",
    }
}

fn list(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
