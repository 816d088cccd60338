//! A meeting point: relays sealed messages it cannot read, without an identity or keys.

use std::sync::Arc;

use bytes::Bytes;
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

use super::error::ClientError;
use super::gate::{Admitted, ProtocolGate};
use super::metrics;
use crate::network::{self, Network, NetworkConfig, NetworkEvent, Role};
use crate::stream::StreamPart;
use crate::time::SystemClock;

/// A running relay. It checks every signature before it passes a frame on.
#[derive(Clone, Debug)]
pub struct Relay {
    network: Network,
}

/// Sets a relay up.
#[must_use = "there is no relay before it is started"]
#[derive(Default)]
pub struct RelayBuilder {
    keypair: Option<Keypair>,
    listen: Vec<Multiaddr>,
    bootstrap: Vec<Multiaddr>,
    tap: Option<mpsc::Sender<(String, Bytes)>>,
}

impl RelayBuilder {
    /// Listens on this address; may be called several times.
    pub fn listen(mut self, address: Multiaddr) -> Self {
        self.listen.push(address);
        self
    }

    /// Stays connected to this node; may be called several times.
    pub fn bootstrap(mut self, address: Multiaddr) -> Self {
        self.bootstrap.push(address);
        self
    }

    /// The libp2p key, for a peer id that survives restarts.
    pub fn keypair(mut self, keypair: Keypair) -> Self {
        self.keypair = Some(keypair);
        self
    }

    /// A copy of every frame that is passed on, with its topic. A full channel loses copies, never frames.
    pub fn tap(mut self, tap: mpsc::Sender<(String, Bytes)>) -> Self {
        self.tap = Some(tap);
        self
    }

    /// Starts the relay; it listens when this returns.
    ///
    /// # Errors
    /// [`ClientError::Network`]: an address in use, or one that cannot be listened on.
    pub async fn start(self) -> Result<Relay, ClientError> {
        let mut config = NetworkConfig::new(self.keypair.unwrap_or_else(Keypair::generate_ed25519));
        config.listen = self.listen;
        config.bootstrap = self.bootstrap;
        config.role = Role::Relay;
        let gate = ProtocolGate::new(Arc::new(SystemClock), self.tap.is_some(), metrics::frames().1);
        let (network, events) = network::spawn(config, Arc::new(gate)).await?;
        tokio::spawn(watch(events, self.tap));
        Ok(Relay { network })
    }
}

impl Relay {
    /// Begins to set a relay up.
    pub fn builder() -> RelayBuilder {
        RelayBuilder::default()
    }

    /// Its peer id.
    pub fn peer_id(&self) -> PeerId {
        self.network.local_peer()
    }

    /// Where it can be reached; each address ends in `/p2p/PEER`.
    pub async fn addresses(&self) -> Vec<Multiaddr> {
        self.network.listen_addresses().await
    }

    /// Connects to a node. Returns once connected. Dropping the future calls nothing off.
    ///
    /// # Errors
    /// [`ClientError::Network`] when nobody answers there.
    pub async fn connect(&self, address: Multiaddr) -> Result<(), ClientError> {
        Ok(self.network.dial(address).await?)
    }

    /// How many peers are connected.
    pub async fn connected_peers(&self) -> usize {
        self.network.connected_peers().await
    }

    /// Returns when at least `n` connected peers are subscribed to this partition. The caller adds the timeout.
    pub async fn wait_for_peers(&self, part: &StreamPart, n: usize) {
        self.network.wait_for_peers(&part.topic(), n).await;
    }

    /// Returns when no connected peer is subscribed to this partition any more. The caller adds the timeout.
    pub async fn wait_for_no_peers(&self, part: &StreamPart) {
        self.network.wait_for_no_peers(&part.topic()).await;
    }

    /// Leaves politely.
    pub async fn stop(&self) {
        self.network.stop().await;
    }
}

/// Frames are relayed by the network itself; here they only pass the tap. Requests are not for a relay.
async fn watch(mut events: mpsc::Receiver<NetworkEvent<Admitted>>, tap: Option<mpsc::Sender<(String, Bytes)>>) {
    while let Some(event) = events.recv().await {
        if let (NetworkEvent::Frame { topic, accepted, .. }, Some(tap)) = (event, &tap)
            && let Some(frame) = accepted.frame
        {
            let _ = tap.try_send((topic, frame));
        }
    }
}
