//! What a node is told at start. `Default` limits are the recommended deployment.

use std::time::Duration;

use libp2p::{Multiaddr, identity::Keypair};
use tokio::sync::mpsc;

use super::{NetworkError, Requested};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// How a node takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Role {
    /// Joins only the topics its application joins.
    #[default]
    Peer,
    /// A meeting point: follows every valid topic its peers subscribe to while somebody does, and relays circuits.
    Relay,
}

/// Everything [`spawn`](super::spawn) needs to know.
#[derive(Clone)]
#[non_exhaustive]
pub struct NetworkConfig {
    /// Makes the node's `PeerId`. Not the user's identity.
    pub keypair: Keypair,
    /// Where to listen; empty means dialing out only.
    pub listen: Vec<Multiaddr>,
    /// Whom to stay connected to. `/p2p/PEER` at the end may be missing.
    pub bootstrap: Vec<Multiaddr>,
    /// How to take part.
    pub role: Role,
    /// Whether to look for peers on the local network.
    pub mdns: bool,
    /// Whether to ask bootstrap peers for a relayed address, for nodes that cannot be dialed from outside.
    pub relay_reservation: bool,
    /// How long a request may take, both ours and a peer's: 30 s.
    pub request_timeout: Duration,
    /// How long peers are made to wait for an application that takes nothing, before frames are dropped: 1 s; `None`: for ever.
    pub patience: Option<Duration>,
    /// Where requests of peers go. Without it they come among the events, and wait behind frames that nobody takes.
    pub requests: Option<mpsc::Sender<Requested>>,
    /// What peers and callers may use up.
    pub limits: NetworkLimits,
}

impl NetworkConfig {
    /// A peer that dials out only, with the recommended limits.
    pub fn new(keypair: Keypair) -> Self {
        Self {
            keypair,
            listen: Vec::new(),
            bootstrap: Vec::new(),
            role: Role::Peer,
            mdns: false,
            relay_reservation: false,
            request_timeout: Duration::from_secs(30),
            patience: Some(Duration::from_secs(1)),
            requests: None,
            limits: NetworkLimits::default(),
        }
    }

    pub(super) fn check(&self) -> Result<(), NetworkError> {
        let limits = &self.limits;
        let positive = [
            ("max_frame", limits.max_frame),
            ("max_request", limits.max_request),
            ("max_answer", limits.max_answer),
            ("batch", limits.batch),
            ("batch_frames", limits.batch_frames),
            ("topics", limits.topics),
            ("topics_per_peer", limits.topics_per_peer),
            ("commands", limits.commands),
            ("outgoing", limits.outgoing),
            ("send_queue", limits.send_queue),
            ("events", limits.events),
            ("unchecked_frames", limits.unchecked_frames),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(NetworkError::Config(format!("{name} must not be zero")));
        }
        if limits.send_buffer < limits.max_frame || limits.unchecked_bytes < limits.max_frame {
            return Err(NetworkError::Config(
                "send_buffer and unchecked_bytes must hold at least one frame of max_frame".into(),
            ));
        }
        if u32::try_from(limits.send_buffer).is_err() || u32::try_from(limits.max_answer).is_err() {
            return Err(NetworkError::Config("byte limits must fit 32 bits".into()));
        }
        Ok(())
    }
}

/// The bounds on everything that peers or callers can make grow.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NetworkLimits {
    /// Largest frame, sent or received, in bytes: 1 MiB and 64 KiB.
    pub max_frame: usize,
    /// Largest request, in bytes: 64 KiB.
    pub max_request: usize,
    /// Largest answer, in bytes: 1 MiB and 128 KiB.
    pub max_answer: usize,
    /// Largest DHT record value, in bytes: 16 KiB.
    pub max_record: usize,
    /// DHT records kept for others: 4096; beyond, those nearest to this node. Its own have places of their own.
    pub records: usize,
    /// Frames of one topic are joined up to this many bytes, and never beyond `max_frame`: 64 KiB.
    pub batch: usize,
    /// Frames joined at most: 512; a receiver refuses what has more parts than its protocol allows.
    pub batch_frames: usize,
    /// Topics joined or followed here: 8192.
    pub topics: usize,
    /// Subscriptions believed of one peer: 256, so that none takes every place of a relay.
    pub topics_per_peer: usize,
    /// Established connections, in total: 1024.
    pub connections: u32,
    /// Established connections that peers opened: 896.
    pub connections_incoming: u32,
    /// Connections of one peer: 4.
    pub connections_per_peer: u32,
    /// Established connections that peers opened from one IP address (of IPv6: one /64), relayed ones apart: 224.
    pub connections_per_address: u32,
    /// Connections being negotiated, each way: 256.
    pub connections_pending: u32,
    /// Of those that peers open, so many from one IP address: 64.
    pub connections_pending_per_address: u32,
    /// Peers' requests being answered, in total: 1024. More are dropped.
    pub inbound_requests: usize,
    /// Requests of one peer being answered: 32. More are dropped, and of each connection's streams all beyond twice as many.
    pub inbound_requests_per_peer: usize,
    /// Our own requests waiting for answers: 512.
    pub outbound_requests: usize,
    /// Lookups and stores of ours under way in the DHT: 64.
    pub dht_queries: usize,
    /// Calls waiting for the swarm's task: 64; callers wait beyond.
    pub commands: usize,
    /// Frames waiting to be sent: 1024; publishers wait beyond.
    pub outgoing: usize,
    /// Bytes of frames waiting to be sent: 8 MiB; publishers wait beyond.
    pub send_buffer: usize,
    /// Gossip messages queued to one peer: 512. A peer that lets more pile up misses messages.
    pub send_queue: usize,
    /// Received frames waiting for the gate: 512. Reading pauses here, and frames are ignored at twice as many.
    pub unchecked_frames: usize,
    /// The same, in bytes: 16 MiB.
    pub unchecked_bytes: usize,
    /// Events waiting for the application: 1024, and as many again behind them before any is dropped.
    pub events: usize,
}

impl Default for NetworkLimits {
    fn default() -> Self {
        Self {
            max_frame: MIB + 64 * KIB,
            max_request: 64 * KIB,
            max_answer: MIB + 128 * KIB,
            max_record: 16 * KIB,
            records: 4096,
            batch: 64 * KIB,
            batch_frames: 512,
            topics: 8192,
            topics_per_peer: 256,
            connections: 1024,
            connections_incoming: 896,
            connections_per_peer: 4,
            connections_per_address: 224,
            connections_pending: 256,
            connections_pending_per_address: 64,
            inbound_requests: 1024,
            inbound_requests_per_peer: 32,
            outbound_requests: 512,
            dht_queries: 64,
            commands: 64,
            outgoing: 1024,
            send_buffer: 8 * MIB,
            send_queue: 512,
            unchecked_frames: 512,
            unchecked_bytes: 16 * MIB,
            events: 1024,
        }
    }
}
