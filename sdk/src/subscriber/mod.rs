//! The subscriber's pipeline for one stream, as a pure state machine: order, then decrypt or park.
//!
//! ```text
//! Verified message (signature and PUBLISH permission checked before; Unchecked: the source cannot tell just now)
//!    │ Order: per (publisher, chain), duplicates once, stale ones dropped, a gap waits a while
//!    ▼
//! Intake: keys it carries, then open, or park until the key arrives or is refused
//!    ▼
//! Delivery: a message, or an event beside it
//! ```
//!
//! Of the past: history is what is stored; a [`Replay`] says which of it; a client's `resend` reads that and ends, and `subscribe_from`
//! goes on live behind it.

mod chains;
mod history;
mod intake;
mod keyring;
mod limits;
mod needed;
mod order;
mod past;
mod replay;
mod unchecked;
mod unread;

use std::time::Duration;

use veilcast_key_store::{GroupKey, KeyId};

pub use chains::Missing;
pub use history::{History, Hole, MAX_HOLES, check};
pub use intake::Intake;
pub use limits::{Held, IntakeLimits};
#[cfg(feature = "p2p")]
pub(crate) use order::size_of;
pub use replay::{Moment, Replay, ReplayEffect, ReplayLimits, Replayer};
pub use unchecked::Unchecked;
pub use unread::Unreadable;

use crate::exchange::AskFailure;
use crate::identity::UserId;
use crate::message::Message;
use crate::permission::Refusal;
use crate::stream::StreamPart;
use crate::time::Timestamp;
use crate::wire::MessageRef;

/// What an application sees beside its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Messages wait for this key; it is being asked for.
    KeyPending {
        /// Whose key.
        publisher: UserId,
        /// Which.
        key_id: KeyId,
    },
    /// A key came.
    KeyArrived {
        /// Whose key.
        publisher: UserId,
        /// Which.
        key_id: KeyId,
        /// How.
        by: Arrival,
    },
    /// A key was refused; the messages that waited for it cannot be read.
    KeyRefused {
        /// Whose key.
        publisher: UserId,
        /// Which.
        key_id: KeyId,
        /// Why.
        refusal: Refusal,
        /// How many messages waited for it.
        dropped: usize,
    },
    /// A key request failed and is tried again.
    KeyRetry {
        /// Asked whom.
        publisher: UserId,
        /// Why it failed.
        failure: AskFailure,
        /// How long until the next try.
        after: Duration,
    },
    /// A key could not be had after many tries; the messages that waited for it are dropped.
    KeyUnavailable {
        /// Whose key.
        publisher: UserId,
        /// Which.
        key_id: KeyId,
        /// Why the last try failed.
        failure: AskFailure,
        /// How many messages waited for it.
        dropped: usize,
    },
    /// Only agreed keys count on this stream, and this is none of them; the messages that waited for it are dropped.
    KeyNotAgreed {
        /// Whose message.
        publisher: UserId,
        /// Which key.
        key_id: KeyId,
        /// How many messages waited for it.
        dropped: usize,
    },
    /// The key of this id does not open its messages: it is wrong here, or the publisher's is.
    WrongKey {
        /// Whose key.
        publisher: UserId,
        /// Which.
        key_id: KeyId,
    },
    /// Messages of one chain are missing.
    Gap {
        /// In which partition: a publisher has chains in each.
        part: StreamPart,
        /// Whose.
        publisher: UserId,
        /// The last one delivered; or where the wanted history begins, when the beginning of a chain is missing in it.
        after: MessageRef,
        /// The last one missing.
        until: MessageRef,
    },
    /// Too many messages waited for keys, or for a permission source that does not answer; the oldest were dropped.
    ParkedDropped {
        /// Whose.
        publisher: UserId,
        /// How many.
        dropped: usize,
    },
    /// Of the past, messages that could not be read because their key was refused, or could not be had: told for each key before
    /// [`Event::HistoryEnd`], with all messages under it. Those that still wait for a key then are told of when it is refused.
    ///
    /// Live, messages that came under a key after its refusal was told (or after it did not open a message): told before the next word of
    /// that key, with those alone. [`Stats::messages_unread`](crate::client::Stats::messages_unread) has them all at any time.
    Unread {
        /// Whose.
        publisher: UserId,
        /// The key.
        key_id: KeyId,
        /// How many.
        messages: u64,
        /// When the first of them was published.
        from: Timestamp,
        /// When the last of them was.
        until: Timestamp,
    },
    /// A storage node did not do what it should; others are asked.
    StorageFault {
        /// Which node.
        node: UserId,
        /// What it did.
        fault: StorageFault,
    },
    /// What was stored was handed over; behind this come live messages, or nothing more. What still waits for a key, where a
    /// key is slow to come, may follow.
    HistoryEnd {
        /// How many messages came from storage.
        messages: u64,
        /// Whether some storage node was read to the end of what it has. What no node was given, such as the last messages of a
        /// publisher whose machine failed, leaves no trace that could be missed.
        complete: bool,
    },
    /// A message came from somebody who may not publish here, or of whom no permission source could tell for too long.
    NotAPublisher {
        /// Who.
        publisher: UserId,
        /// Why not.
        refusal: Refusal,
    },
}

/// What a storage node did wrong, or could not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageFault {
    /// It cannot be reached, or did not answer in time.
    #[error("it cannot be reached")]
    Unreachable,
    /// It was reached and gave no answer. Storage nodes give none to whoever asks too often or has a clock that is more than a
    /// minute off.
    #[error("it gave no answer; it gives none to whoever asks too often, or whose clock is more than a minute off")]
    Silent,
    /// It says no.
    #[error("it refused: {0}")]
    Refused(Refusal),
    /// It sent what is no answer to what it was asked, or messages that nobody signed.
    #[error("it lied: {0}")]
    Lied(&'static str),
    /// It left messages out that another node has. Or it never got them: an author who dates a message back, or sends it to some
    /// nodes only, can have an honest one named.
    #[error("it left out messages of {publisher}")]
    Withheld {
        /// Whose.
        publisher: UserId,
    },
}

/// How a key came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Arrival {
    /// In the publisher's answer to a request.
    Answer,
    /// Pushed by the publisher at a rekey.
    Push,
    /// Carried by a message, wrapped in the key before it.
    Rotate,
    /// It was in the local store, or put there by hand.
    Store,
}

/// What the pipeline wants done.
#[derive(Debug)]
pub enum IntakeEffect {
    /// Hand this message to the application.
    Deliver(Message),
    /// Tell the application.
    Notify(Event),
    /// Look for this key: in the store, then at its publisher.
    Need {
        /// Whose key.
        publisher: UserId,
        /// Which.
        key_id: KeyId,
    },
    /// Keep this key, which a message carried.
    Keep {
        /// Whose key.
        publisher: UserId,
        /// The key.
        key: GroupKey,
        /// When it became current.
        since: Timestamp,
    },
}
