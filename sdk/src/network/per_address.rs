//! So many connections from one address, so that one machine cannot take every place of a node.
//!
//! A place is free for whoever comes first, and costs its taker no more than a socket. So one address gets a part of the places
//! only: of those for connections still being negotiated, which need not even speak, and of the established ones.

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt,
    net::{IpAddr, Ipv6Addr},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, Endpoint, transport::PortUse},
    multiaddr::Protocol,
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, ListenFailure, NetworkBehaviour, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
    },
};

/// Refuses what comes from an address that has its part already. What this node dials is not counted.
pub(super) struct PerAddress {
    pending: Places,
    established: Places,
}

impl PerAddress {
    /// So many being negotiated, and so many established, from one address.
    pub(super) fn new(pending: u32, established: u32) -> Self {
        Self { pending: Places::new(pending), established: Places::new(established) }
    }
}

/// Connections by where they come from.
struct Places {
    limit: u32,
    of: HashMap<ConnectionId, IpAddr>,
    taken: HashMap<IpAddr, u32>,
}

impl Places {
    fn new(limit: u32) -> Self {
        Self { limit, of: HashMap::new(), taken: HashMap::new() }
    }

    fn take(&mut self, connection: ConnectionId, address: IpAddr) -> Result<(), TooMany> {
        if self.taken.get(&address).is_some_and(|taken| *taken >= self.limit) {
            return Err(TooMany { address, limit: self.limit });
        }
        if self.of.insert(connection, address).is_none() {
            *self.taken.entry(address).or_default() += 1;
        }
        Ok(())
    }

    fn free(&mut self, connection: ConnectionId) {
        let Some(address) = self.of.remove(&connection) else { return };
        if let Some(taken) = self.taken.get_mut(&address) {
            *taken -= 1;
            if *taken == 0 {
                self.taken.remove(&address);
            }
        }
    }
}

/// Why a connection was not taken.
#[derive(Debug)]
struct TooMany {
    address: IpAddr,
    limit: u32,
}

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has {} connections of this kind already", self.address, self.limit)
    }
}

impl std::error::Error for TooMany {}

/// Whom a connection counts for: one IPv4 address, or the /64 that a single IPv6 host has at least. `None` where a relay
/// brings it: the relay's own connection is counted, and the circuits on it are bounded by the connections of all.
fn source(remote: &Multiaddr) -> Option<IpAddr> {
    let mut address = None;
    for part in remote {
        match part {
            Protocol::Ip4(ip) => address = address.or(Some(ip.into())),
            Protocol::Ip6(ip) => address = address.or(Some(network_of(ip))),
            Protocol::P2pCircuit => return None,
            _ => {}
        }
    }
    address
}

fn network_of(ip: Ipv6Addr) -> IpAddr {
    match ip.to_ipv4_mapped() {
        Some(ip) => ip.into(),
        None => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

impl NetworkBehaviour for PerAddress {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        source(remote).map_or(Ok(()), |address| self.pending.take(connection, address)).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending.free(connection);
        source(remote)
            .map_or(Ok(()), |address| self.established.take(connection, address))
            .map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            // Also where another part of the node denied it, before or after it was established.
            FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => {
                self.pending.free(connection_id);
                self.established.free(connection_id);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, endpoint, .. }) => {
                if matches!(endpoint, ConnectedPoint::Listener { .. }) {
                    self.established.free(connection_id);
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Multiaddr {
        address.parse().expect("an address")
    }

    #[test]
    fn an_address_counts_as_itself_an_ipv6_address_as_its_network_and_a_circuit_not_at_all() {
        let source = |address: &str| source(&at(address)).map(|ip| ip.to_string());
        assert_eq!(source("/ip4/10.0.0.1/tcp/1").as_deref(), Some("10.0.0.1"));
        assert_eq!(source("/ip6/::ffff:10.0.0.1/tcp/1").as_deref(), Some("10.0.0.1"));
        for host in ["1", "ffff:2:3"] {
            assert_eq!(source(&format!("/ip6/2001:db8:0:7::{host}/udp/1/quic-v1")).as_deref(), Some("2001:db8:0:7::"));
        }
        let peer = PeerId::random();
        assert_eq!(source(&format!("/ip4/10.0.0.1/tcp/1/p2p/{peer}/p2p-circuit")), None);
        assert_eq!(source("/memory/7"), None);
    }

    #[test]
    fn one_address_gets_its_part_another_gets_its_own_and_what_ends_is_free_again() {
        let mut limits = PerAddress::new(2, 1);
        let (one, other, local) = (at("/ip4/10.0.0.1/tcp/1"), at("/ip4/10.0.0.2/tcp/1"), at("/ip4/10.0.0.9/tcp/9"));
        let id = ConnectionId::new_unchecked;
        let pending = |limits: &mut PerAddress, n, from| limits.handle_pending_inbound_connection(id(n), &local, from);
        assert!(pending(&mut limits, 1, &one).is_ok() && pending(&mut limits, 2, &one).is_ok());
        assert!(pending(&mut limits, 3, &one).is_err());
        assert!(pending(&mut limits, 4, &other).is_ok());

        let peer = PeerId::random();
        let established = |limits: &mut PerAddress, n, from| {
            limits.handle_established_inbound_connection(id(n), peer, &local, from).is_ok()
        };
        assert!(established(&mut limits, 1, &one));
        assert!(pending(&mut limits, 5, &one).is_ok(), "the place of one that is negotiated is free");
        assert!(!established(&mut limits, 2, &one) && established(&mut limits, 4, &other));
        limits.established.free(id(1));
        assert!(established(&mut limits, 5, &one));
        limits.established.free(id(4));
        limits.established.free(id(5));
        assert!(limits.pending.taken.is_empty() && limits.established.taken.is_empty());
    }
}
