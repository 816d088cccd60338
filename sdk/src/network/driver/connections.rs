//! Connections: made, lost, kept, and what peers say about themselves.

use std::time::Instant;

use libp2p::{
    Multiaddr, PeerId, identify, mdns,
    multiaddr::Protocol,
    ping, relay,
    swarm::{DialError, SwarmEvent, dial_opts::DialOpts},
};
use tokio::sync::oneshot;

use super::{
    super::{
        Gate, NetworkError, NetworkEvent, Role,
        behaviour::{KAD, ProtocolsEvent},
        bootstrap::peer_of,
    },
    Driver,
};

/// A peer may name so many of its addresses; more is noise.
const MAX_ADDRESSES_OF_PEER: usize = 16;
/// Relayed addresses at so many bootstrap peers are enough.
const MAX_RESERVATIONS: usize = 2;

impl<G: Gate> Driver<G> {
    pub(super) fn dial(&mut self, address: Multiaddr, reply: oneshot::Sender<Result<(), NetworkError>>) {
        if peer_of(&address).is_some_and(|peer| self.swarm.is_connected(&peer)) {
            let _ = reply.send(Ok(()));
            return;
        }
        let options = DialOpts::from(address.clone());
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => drop(self.dials.insert(connection, (address, reply))),
            Err(error) => {
                let _ = reply.send(Err(NetworkError::Dial { address, reason: describe(&error) }));
            }
        }
    }

    pub(super) fn dial_bootstrap(&mut self, now: Instant) {
        for (index, address) in self.bootstrap.due(now) {
            if let Some(peer) = peer_of(&address)
                && self.swarm.is_connected(&peer)
            {
                self.bootstrap.dialing(index, libp2p::swarm::ConnectionId::new_unchecked(usize::MAX));
                self.bootstrap.connected(peer, libp2p::swarm::ConnectionId::new_unchecked(usize::MAX));
                continue;
            }
            let options = DialOpts::unknown_peer_id().address(address.clone()).build();
            let connection = options.connection_id();
            match self.swarm.dial(options) {
                Ok(()) => self.bootstrap.dialing(index, connection),
                Err(error) => {
                    tracing::debug!(%address, error = describe(&error), "a bootstrap peer cannot be dialed");
                    self.bootstrap.failed(None, now, rand::random());
                }
            }
        }
    }

    pub(super) fn on_connection_event(&mut self, event: SwarmEvent<ProtocolsEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, num_established, .. } => {
                if let Some((_, reply)) = self.dials.remove(&connection_id) {
                    let _ = reply.send(Ok(()));
                }
                self.bootstrap.connected(peer_id, connection_id);
                if num_established.get() == 1 {
                    self.deliveries.push(NetworkEvent::Connected { peer: peer_id });
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => self.on_gone(peer_id),
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                if let Some((address, reply)) = self.dials.remove(&connection_id) {
                    let _ = reply.send(Err(NetworkError::Dial { address, reason: describe(&error) }));
                }
                self.bootstrap.failed(Some(connection_id), Instant::now(), rand::random());
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                if self.role == Role::Relay {
                    // A reservation tells its holder the relay's addresses, and only those known to be reachable.
                    self.swarm.add_external_address(address.clone());
                }
                let address = self.with_own_id(address);
                self.deliveries.push(NetworkEvent::NewListenAddress(address));
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => self.swarm.remove_external_address(&address),
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                self.reservations.retain(|_, listener| *listener != listener_id);
                if let Err(error) = reason {
                    tracing::warn!(%error, "a listener closed");
                }
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "a listener failed for a moment")
            }
            event => tracing::trace!(?event, "swarm event"),
        }
    }

    fn on_gone(&mut self, peer: PeerId) {
        for topic in self.crowd.gone(peer) {
            self.on_left(peer, topic);
        }
        self.said.remove(&peer);
        self.bootstrap.disconnected(peer, Instant::now(), rand::random());
        self.deliveries.push(NetworkEvent::Disconnected { peer });
    }

    pub(super) fn on_identify(&mut self, event: identify::Event) {
        let identify::Event::Received { peer_id, info, .. } = event else {
            return;
        };
        if self.swarm.is_connected(&peer_id) {
            // One message of identify holds 4 KiB, so that this is bounded by the connections.
            let said = info.listen_addrs.iter().take(MAX_ADDRESSES_OF_PEER).cloned().collect();
            self.said.insert(peer_id, said);
        }
        if info.protocols.contains(&KAD) {
            self.forget_many_addresses(peer_id);
            for address in info.listen_addrs.into_iter().take(MAX_ADDRESSES_OF_PEER) {
                self.swarm.behaviour_mut().kad.add_address(&peer_id, address);
            }
        }
        if self.wants_reservations && info.protocols.contains(&relay::HOP_PROTOCOL_NAME) {
            self.reserve(peer_id);
        }
    }

    /// Kademlia keeps every address it was ever told of a peer, which may tell new ones for ever: begin anew when they are many.
    fn forget_many_addresses(&mut self, peer: PeerId) {
        let kad = &mut self.swarm.behaviour_mut().kad;
        let known = kad.kbucket(peer).map_or(0, |bucket| {
            let of_peer = bucket.iter().filter(|entry| entry.node.key.preimage() == &peer);
            of_peer.map(|entry| entry.node.value.len()).sum()
        });
        if known > 2 * MAX_ADDRESSES_OF_PEER {
            kad.remove_peer(&peer);
        }
    }

    /// Asks a bootstrap peer for an address at which others reach us through it.
    fn reserve(&mut self, relay: PeerId) {
        if self.reservations.contains_key(&relay) || self.reservations.len() >= MAX_RESERVATIONS {
            return;
        }
        let Some(address) = self.bootstrap.address_of(relay) else {
            return;
        };
        let mut address = address.clone();
        if peer_of(&address).is_none() {
            address.push(Protocol::P2p(relay));
        }
        match self.swarm.listen_on(address.with(Protocol::P2pCircuit)) {
            Ok(listener) => drop(self.reservations.insert(relay, listener)),
            Err(error) => tracing::warn!(%relay, %error, "no relayed address"),
        }
    }

    pub(super) fn on_ping(&mut self, event: ping::Event) {
        if let Err(error) = &event.result
            && !matches!(error, ping::Failure::Unsupported)
        {
            tracing::debug!(peer = %event.peer, %error, "a connection is dead");
            self.swarm.close_connection(event.connection);
        }
    }

    pub(super) fn on_mdns(&mut self, event: mdns::Event) {
        let mdns::Event::Discovered(found) = event else {
            return;
        };
        for (peer, address) in found {
            self.swarm.behaviour_mut().kad.add_address(&peer, address.clone());
            let options = DialOpts::peer_id(peer).addresses(vec![address]).build();
            if let Err(error) = self.swarm.dial(options) {
                tracing::trace!(%peer, error = describe(&error), "a neighbour is not dialed");
            }
        }
    }

    pub(super) fn addresses(&self) -> Vec<Multiaddr> {
        let mut addresses: Vec<_> = self.swarm.listeners().chain(self.swarm.external_addresses()).cloned().collect();
        addresses.sort();
        addresses.dedup();
        addresses.into_iter().map(|address| self.with_own_id(address)).collect()
    }

    fn with_own_id(&self, address: Multiaddr) -> Multiaddr {
        let own = *self.swarm.local_peer_id();
        match peer_of(&address) {
            Some(peer) if peer == own => address,
            _ => address.with(Protocol::P2p(own)),
        }
    }
}

/// The transport's words, without its layers.
fn describe(error: &DialError) -> String {
    match error {
        DialError::Transport(attempts) => {
            let attempts: Vec<_> = attempts
                .iter()
                .map(|(address, error)| match error {
                    libp2p::TransportError::Other(error) => format!("{address}: {error}"),
                    error => format!("{address}: {error}"),
                })
                .collect();
            attempts.join("; ")
        }
        error => error.to_string(),
    }
}
