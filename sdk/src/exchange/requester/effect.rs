//! What a requester is told, and what it wants done.

use std::collections::BTreeSet;
use std::time::Duration;

use veilcast_key_store::KeyId;

use super::device::Device;
use crate::identity::UserId;
use crate::permission::Refusal;
use crate::stream::StreamId;
use crate::time::Timestamp;
use crate::wire::{GrantedKey, RequestId};

/// How patient the subscriber's side is.
#[derive(Clone, Copy, Debug)]
pub struct RequesterConfig {
    /// How long to wait for an answer, once the request has left: 30 s.
    pub key_request_timeout: Duration,
    /// How long looking for the publisher may take, before the request leaves: 10 s.
    pub find_timeout: Duration,
    /// Requests sent per second, to all publishers together: 20.
    pub max_key_requests_per_second: u32,
    /// Wait after the first failure; doubled after each further one, with jitter: 500 ms.
    pub retry_base: Duration,
    /// Longest wait between two tries: 60 s.
    pub retry_max: Duration,
    /// Tries before the keys are given up: 10. A later message that needs them starts anew.
    pub max_tries: u32,
    /// How long a refusal is remembered instead of asking again: 10 s.
    pub refusal_memory: Duration,
}

impl Default for RequesterConfig {
    fn default() -> Self {
        Self {
            key_request_timeout: Duration::from_secs(30),
            find_timeout: Duration::from_secs(10),
            max_key_requests_per_second: 20,
            retry_base: Duration::from_millis(500),
            retry_max: Duration::from_secs(60),
            max_tries: 10,
            refusal_memory: Duration::from_secs(10),
        }
    }
}

/// Why a try brought no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskFailure {
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The publisher could not be found or reached.
    #[error("the publisher cannot be reached")]
    Unreachable,
    /// What came back was no acceptable answer.
    #[error("the answer was not acceptable")]
    BadAnswer,
    /// The publisher asked to wait.
    #[error("the publisher asked to wait")]
    AskedToWait,
    /// Nobody was asked: this side could not make the request (its RSA pair, its signature, its network that has stopped).
    #[error("the request could not be made here")]
    Unmade,
    /// Nobody was asked: too much is being asked for here already.
    #[error("too much is being asked for here already")]
    Overload,
}

impl AskFailure {
    /// Whether it tells nothing of the publisher: nobody was asked.
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Unmade | Self::Overload)
    }
}

/// What the requester wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequesterEffect {
    /// Send this request, and say so with [`Requester::left`](super::Requester::left).
    Send {
        /// Ties the answer to it.
        id: RequestId,
        /// Whom to ask.
        publisher: UserId,
        /// Of which stream.
        stream: StreamId,
        /// Which keys.
        key_ids: Vec<KeyId>,
        /// Devices of the publisher that have none of these keys, at most 8: it must be another. Where there is no other,
        /// say so with [`Requester::nobody_else`](super::Requester::nobody_else).
        not_at: BTreeSet<Device>,
        /// Devices that did not answer, the last one last, at most 8: better another, or else the first of these.
        rather_not: Vec<Device>,
    },
    /// This key was refused.
    Refused {
        /// By whom.
        publisher: UserId,
        /// Of which stream.
        stream: StreamId,
        /// Which key.
        key_id: KeyId,
        /// Why.
        refusal: Refusal,
        /// Until when it is remembered, by the requester's time: asking again before brings the same.
        until: Timestamp,
    },
    /// A try failed; another follows.
    Retrying {
        /// Asked whom.
        publisher: UserId,
        /// Of which stream.
        stream: StreamId,
        /// Why it failed.
        failure: AskFailure,
        /// How long until the next try.
        after: Duration,
    },
    /// The last try failed; these keys are not asked for any more.
    GivenUp {
        /// Asked whom.
        publisher: UserId,
        /// Of which stream.
        stream: StreamId,
        /// Which keys.
        key_ids: Vec<KeyId>,
        /// Why the last try failed.
        failure: AskFailure,
    },
}

/// An answer that counts: what it granted, still wrapped.
#[derive(Clone, Debug)]
pub struct Settled {
    /// Keys to unwrap. Tell [`Requester::arrived`](super::Requester::arrived) about each that opened, [`Requester::did_not_open`](super::Requester::did_not_open) about the others.
    pub granted: Vec<GrantedKey>,
    /// Refusals among it, and retries.
    pub effects: Vec<RequesterEffect>,
}

/// Why an answer is ignored. The request it pretends to answer stays pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerFault {
    /// No request of this id is pending: late, foreign, or answered before.
    #[error("no request of this id is pending")]
    NotPending,
    /// Not from whom it was asked, for whom it was asked, or about the stream it was asked of.
    #[error("not the answer of the one asked")]
    Foreign,
    /// It speaks of keys that were not asked for, or of a span of time where keys were, or the other way round.
    #[error("it speaks of keys that were not asked for")]
    NotAsked,
}
