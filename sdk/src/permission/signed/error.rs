//! Why an owner's statement is not made, or not taken in.

use veilcast_key_store::StoreError;

use crate::identity::{SignatureError, UserId};
use crate::permission::PeriodError;
use crate::stream::StreamId;
use crate::time::Timestamp;
use crate::wire::{StreamRecord, WireError};

/// Why a grant or stream record does not count, or could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// Text that is neither a grant nor a stream record.
    #[error(
        "this is no grant and no stream record; a line of either begins with veilcast-grant-1: or veilcast-record-1:"
    )]
    Line,
    /// Over the limit.
    #[error("a grant or stream record has at most {limit} bytes, this one has {got}")]
    TooLong {
        /// Its size, bytes.
        got: usize,
        /// The limit, bytes.
        limit: usize,
    },
    /// Not what it should be.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The stream is not named after an address, so nobody's signature decides about it.
    #[error("{stream} is owned by an ENS name; grants are signed by owners whose address is in the stream's name")]
    EnsOwner {
        /// The stream named.
        stream: StreamId,
    },
    /// Signed by somebody, but not by who the stream id names.
    #[error("{found} signed this about {stream}, whose owner is {owner}")]
    NotOwner {
        /// The stream it is about.
        stream: StreamId,
        /// Who the stream belongs to.
        owner: UserId,
        /// Who signed.
        found: UserId,
    },
    /// A signature that nobody can have made.
    #[error(transparent)]
    Signature(SignatureError),
    /// For a chain, or another registry.
    #[error("this counts in the registry {found:?} only")]
    ForeignRegistry {
        /// The registry it is for.
        found: String,
    },
    /// About another stream than the one in question.
    #[error("this is about {found}")]
    ForeignStream {
        /// The stream it is about.
        found: StreamId,
    },
    /// Somebody else's grant.
    #[error("this is a grant of {found}")]
    ForeignUser {
        /// Whose it is.
        found: UserId,
    },
    /// Over.
    #[error("the grant ended at {since}")]
    Ended {
        /// Its end, ms since the epoch.
        since: Timestamp,
    },
    /// Taken back by the owner.
    #[error("grant {serial} was taken back at {since}")]
    Revoked {
        /// Which.
        serial: u64,
        /// When, ms since the epoch.
        since: Timestamp,
    },
    /// Another grant of this serial is here: the owner made two.
    #[error("another grant of the serial {serial} is here already")]
    SerialTaken {
        /// Which.
        serial: u64,
    },
    /// A newer record is here, or another of the same version.
    #[error("a stream record of version {known} is here already, this one has version {found}")]
    Outdated {
        /// Its version.
        found: u64,
        /// The version here.
        known: u64,
    },
    /// Too old to say anything.
    #[error("the stream record expired at {since}; its owner has a newer one")]
    RecordExpired {
        /// When, ms since the epoch.
        since: Timestamp,
    },
    /// More than are kept.
    #[error("{what}: at most {limit} are kept")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        limit: usize,
    },
    /// No record of the stream was made.
    #[error("there is no record of the stream {stream}; make the stream first")]
    NoStream {
        /// The stream named.
        stream: StreamId,
    },
    /// Nothing to take back.
    #[error("no such grant on {stream} is known here; if it was issued elsewhere, import its line first")]
    NoGrant {
        /// The stream named.
        stream: StreamId,
    },
    /// Every place in the record is taken by a grant that would hold otherwise.
    #[error(
        "a stream record lists at most {} revocations, and none of them has become needless yet",
        StreamRecord::MAX_REVOCATIONS
    )]
    RevocationsFull,
    /// A period that makes no sense.
    #[error(transparent)]
    Period(#[from] PeriodError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is in the store cannot be read: it is damaged or newer.
    #[error("a stored grant or stream record cannot be read; it may come from a newer version")]
    Damaged,
}
