//! What can go wrong, by whose fault it is.

use std::io;

use libp2p::{Multiaddr, PeerId};

/// Why the network could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// Another socket listens there: choose another port, or stop the other process.
    #[error("{address} is in use by another socket")]
    AddressInUse {
        /// The address asked for.
        address: Multiaddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address asked for.
        address: Multiaddr,
        /// What the operating system or the transport said.
        #[source]
        source: io::Error,
    },
    /// The configuration contradicts itself.
    #[error("network configuration: {0}")]
    Config(String),
    /// Frame, topic name or record above its limit; nothing was sent.
    #[error("{what} of {size} bytes is above the limit of {limit}")]
    TooLarge {
        /// What was too large.
        what: &'static str,
        /// Its size.
        size: usize,
        /// The limit it broke.
        limit: usize,
    },
    /// The gate says that no topic has this name.
    #[error("{0:?} is not a topic")]
    NotATopic(String),
    /// A bounded table is full; leave or wait for something first.
    #[error("too many {what}; the limit is {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Nobody could be reached at the address.
    #[error("cannot connect to {address}: {reason}")]
    Dial {
        /// The address dialed.
        address: Multiaddr,
        /// What the transport said.
        reason: String,
    },
    /// The network was stopped.
    #[error("the network was stopped")]
    Stopped,
}

/// Why a request brought no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No connection, and none could be made. Try other addresses, or later.
    #[error("peer {0} cannot be reached")]
    Unreachable(PeerId),
    /// No answer in time. The peer may or may not have handled the request.
    #[error("peer {0} did not answer in time")]
    Timeout(PeerId),
    /// The peer closed the stream without an answer: it declined, was overloaded or went away.
    #[error("peer {0} closed the stream without an answer")]
    Closed(PeerId),
    /// The peer does not speak the protocol.
    #[error("peer {0} does not speak this protocol")]
    Unsupported(PeerId),
    /// Larger than the limit; nothing was sent.
    #[error("request of {size} bytes is above the limit of {limit}")]
    TooLarge {
        /// The request's size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The answer broke the framing or its size limit: the peer's fault.
    #[error("peer {peer} sent a malformed answer")]
    Malformed {
        /// Who.
        peer: PeerId,
        /// What was wrong.
        #[source]
        source: io::Error,
    },
    /// Too many requests of ours wait already.
    #[error("{0} requests are waiting for answers already")]
    Busy(usize),
    /// The network was stopped.
    #[error("the network was stopped")]
    Stopped,
}
