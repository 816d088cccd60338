//! The peer-to-peer shell: moves opaque bytes, and asks a [`Gate`] about every one of them.
//!
//! Nothing here knows of keys, streams or permissions. One task owns the libp2p swarm; [`Network`] is the cheap handle
//! to it, and what peers send comes out of one bounded channel of [`NetworkEvent`]s:
//!
//! ```text
//! publish ──> outbox (batches per topic) ──> gossipsub ──> peers
//! peers ──> gossipsub ──> checks (Gate, worker threads, in order) ──> relayed further, handed up as Frame
//! peers ──> request-response (bounded) ──> Request { reply }          request() ──> peer
//! peers ──> kademlia ──> Gate::admit_record ──> stored                put_record / get_record
//! ```
//!
//! Whatever a peer can make grow has a limit in [`NetworkLimits`] or a named constant. When a node cannot keep up it first
//! stops reading gossip, so that its neighbours' queues fill and their publishers wait; only when the application does not
//! take events for a while are frames dropped, and counted.
//!
//! # On the wire
//!
//! A gossipsub message, anonymous and unsigned by libp2p (frames carry their own signatures):
//! `attempt 1 | frame`. The attempt byte is 0 at first; it changes when a batch has to be sent again, for gossipsub would
//! take the same bytes for a repeat and drop them. Its value has no meaning to the receiver. The message id is the first
//! 20 bytes of SHA-256 over the whole message.
//!
//! A request or an answer, one each per stream of `/veilcast/key-exchange/1`: `length 4, big-endian | bytes`.
//!
//! Frames of one topic may be joined by concatenating their bytes, so a frame must be something that stays meaningful so:
//! a protobuf message of repeated and last-one-wins fields is.

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};

mod behaviour;
mod bootstrap;
mod checks;
mod codec;
mod config;
mod crowd;
mod deliveries;
mod driver;
mod error;
mod foreign;
mod handle;
mod inbound;
mod listen;
mod mark;
mod outbox;
mod per_address;
mod pulse;
mod throttle;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test is what it is for")]
mod tests;

pub use config::{NetworkConfig, NetworkLimits, Role};
pub use driver::spawn;
pub use error::{NetworkError, RequestError};
pub use handle::{Network, Published};
pub use inbound::Reply;

/// The protocol's check on bytes from peers.
///
/// `admit_frame` and `admit_record` run on blocking threads; `is_topic` runs on the swarm's own task and must be cheap.
pub trait Gate: Send + Sync + 'static {
    /// What a frame becomes once it is trusted.
    type Accepted: Send + 'static;

    /// Checks a frame published on `topic`. `Ok`: relayed to other peers, and handed up.
    ///
    /// # Errors
    /// The [`Verdict`] tells whether the peer that sent it is to blame.
    fn admit_frame(&self, topic: &str, frame: &[u8]) -> Result<Self::Accepted, Verdict>;

    /// Whether a name is one that topics of this protocol can have. Others are neither joined nor followed.
    fn is_topic(&self, topic: &str) -> bool;

    /// Whether a DHT record may be stored here, or returned by a lookup.
    fn admit_record(&self, key: &[u8], value: &[u8]) -> bool;

    /// Whether an admitted record may take the place of one admitted before. An old copy, played again, may not.
    fn supersedes(&self, value: &[u8], stored: &[u8]) -> bool {
        let _ = (value, stored);
        true
    }
}

/// What to do with a frame that was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "gossip knows exactly these two")]
pub enum Verdict {
    /// Drop it quietly: stale, unknown, or nothing the sender could have known.
    Ignore,
    /// Drop it and lower the sender's score: no honest peer relays this.
    Reject,
}

/// A peer asks: as [`NetworkEvent::Request`], where requests go a way of their own.
#[derive(Debug)]
pub struct Requested {
    /// Who asks.
    pub from: PeerId,
    /// The request's bytes, unchecked.
    pub request: Vec<u8>,
    /// The way back.
    pub reply: Reply,
}

/// What happened on the network, in the order it happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum NetworkEvent<A> {
    /// A frame passed the gate.
    Frame {
        /// The topic it was published on.
        topic: String,
        /// The neighbour that sent it, not its author.
        from: PeerId,
        /// What the gate made of it.
        accepted: A,
    },
    /// A peer asks; answer with [`Reply::send`], or drop the reply to give none.
    Request {
        /// Who asks.
        from: PeerId,
        /// The request's bytes, unchecked.
        request: Vec<u8>,
        /// The way back.
        reply: Reply,
    },
    /// A connected peer subscribed to a topic.
    PeerJoined {
        /// Who subscribed.
        peer: PeerId,
        /// To what.
        topic: String,
    },
    /// A peer unsubscribed, or its last connection closed.
    PeerLeft {
        /// Who left.
        peer: PeerId,
        /// What it was subscribed to.
        topic: String,
    },
    /// The first connection to a peer is up.
    Connected {
        /// The peer.
        peer: PeerId,
    },
    /// The last connection to a peer is gone.
    Disconnected {
        /// The peer.
        peer: PeerId,
    },
    /// The node can now be reached here too; the address ends in `/p2p/PEER`.
    NewListenAddress(Multiaddr),
}

/// A frame on its way from a handle to the outbox.
struct Outgoing {
    topic: String,
    frame: Bytes,
    room: tokio::sync::OwnedSemaphorePermit,
}
