//! What goes wrong with an endpoint.

use std::fmt;
use std::time::Duration;

use crate::identity::UserId;
use crate::permission::ethereum::events::EventFault;

/// Why an endpoint gave no answer that counts. None of it shows what its URL has behind the host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RpcFault {
    /// No answer in time.
    #[error("no answer within {} ms", .after.as_millis())]
    Deadline {
        /// The deadline of the call.
        after: Duration,
    },
    /// No connection, or it broke.
    #[error("cannot be reached: {text}")]
    Unreachable {
        /// What the connection said.
        text: String,
    },
    /// Another HTTP status than 200. Redirects are not followed.
    #[error("HTTP status {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// An answer beyond the limit.
    #[error("an answer of more than {limit} bytes")]
    TooLarge {
        /// The limit, bytes.
        limit: usize,
    },
    /// An answer that cannot be read.
    #[error("malformed: {what}")]
    Malformed {
        /// Which part.
        what: &'static str,
    },
    /// The stream's owner named a number of partitions that no stream can have.
    #[error("the stream's metadata names no number of partitions that a stream can have")]
    Metadata,
    /// The node could not do it.
    #[error("error {code}: {message}")]
    Node {
        /// Its code.
        code: i64,
        /// What it says, cut short.
        message: String,
    },
    /// A call reverted for a reason that is no answer.
    #[error("the call reverted: {}", .reason.as_deref().unwrap_or("no reason given"))]
    Reverted {
        /// The contract's reason, where it gave one.
        reason: Option<String>,
    },
    /// Logs that cannot be the contract's.
    #[error("its logs cannot be the contract's: {0}")]
    Event(#[from] EventFault),
    /// A block that should be there is not, or became another one meanwhile.
    #[error("has no block {number}")]
    NoBlock {
        /// Its number.
        number: u64,
    },
    /// A node of another chain.
    #[error("is on chain {got}, not {expected}")]
    WrongChain {
        /// The chain id wanted.
        expected: u64,
        /// The one it has.
        got: u64,
    },
    /// Nothing at the registry's address.
    #[error("there is no contract at {}", .contract.checksummed())]
    NoCode {
        /// The address.
        contract: UserId,
    },
    /// Its newest block is too old: a stalled node never expires anybody.
    #[error("its newest block is {} s old", .age.as_secs())]
    Stale {
        /// By our clock.
        age: Duration,
    },
    /// Its newest block is of a time to come: its clock or ours is wrong.
    #[error("its newest block is {} s ahead of the clock", .ahead.as_secs())]
    Ahead {
        /// By our clock.
        ahead: Duration,
    },
}

impl RpcFault {
    /// Whether it tells of the endpoint. What anybody can write into his own stream must not make others be left alone.
    pub(super) const fn is_the_endpoints(&self) -> bool {
        !matches!(self, Self::Metadata | Self::TooLarge { .. })
    }
}

/// An endpoint and what went wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointFault {
    /// Scheme, host and port.
    pub endpoint: String,
    /// What.
    pub fault: RpcFault,
}

impl fmt::Display for EndpointFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.endpoint, self.fault)
    }
}

/// Why the chain gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// Too few endpoints answered. Safe to try again.
    #[error("the chain cannot be asked: {}", join(.faults))]
    Unavailable {
        /// What went wrong, each endpoint that was asked.
        faults: Vec<EndpointFault>,
    },
    /// Endpoints contradict each other. Safe to try again: one of them may be a few blocks behind.
    #[error("endpoints disagree: {}", .endpoints.join(" and "))]
    Disagreement {
        /// Which.
        endpoints: Vec<String>,
    },
}

fn join(faults: &[EndpointFault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Why a URL is not one of an endpoint. The URL itself is not repeated: it may hold a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Not a URL.
    #[error("the RPC endpoint is not a URL")]
    Malformed,
    /// Another scheme.
    #[error("the URL of an RPC endpoint begins with http:// or https://")]
    Scheme,
    /// A name or password before the host.
    #[error("the URL of an RPC endpoint has no user or password")]
    Credentials,
}
