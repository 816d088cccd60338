//! Starting: the swarm is put together, and every listening socket is open before anybody gets a handle.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::StreamExt;
use libp2p::{Multiaddr, Swarm, SwarmBuilder, noise, swarm::SwarmEvent, tcp, yamux};

use super::{
    super::{Gate, NetworkConfig, NetworkError, behaviour::Protocols, listen, throttle::Flow},
    Driver,
};

/// Listening sockets know their addresses at once; more than this means the system has none to give.
const LISTEN_PATIENCE: Duration = Duration::from_secs(5);
/// A connection that carries nothing is closed after this; gossip keeps those it uses.
const IDLE: Duration = Duration::from_secs(5 * 60);
/// Peers of one node need a handful of streams at a time; an attacker may open no more than this at once.
const NEGOTIATING_STREAMS: usize = 256;

impl<G: Gate> Driver<G> {
    pub(super) async fn listen(&mut self, addresses: &[Multiaddr]) -> Result<(), NetworkError> {
        let mut opening = HashMap::new();
        for address in addresses {
            listen::check_free(address)?;
            let listener = self.swarm.listen_on(address.clone()).map_err(|error| listen::failure(address, error))?;
            opening.insert(listener, address);
        }
        let deadline = tokio::time::sleep(LISTEN_PATIENCE);
        tokio::pin!(deadline);
        while let Some(address) = opening.values().next() {
            let event = tokio::select! {
                event = self.swarm.select_next_some() => event,
                () = &mut deadline => {
                    let source = std::io::Error::new(std::io::ErrorKind::TimedOut, "no address was given");
                    return Err(NetworkError::Listen { address: (*address).clone(), source });
                }
            };
            match &event {
                SwarmEvent::NewListenAddr { listener_id, .. } => drop(opening.remove(listener_id)),
                SwarmEvent::ListenerClosed { listener_id, reason: Err(error), .. } => {
                    if let Some(address) = opening.remove(listener_id) {
                        let source = std::io::Error::new(error.kind(), error.to_string());
                        return Err(listen::failure(address, libp2p::TransportError::Other(source)));
                    }
                }
                _ => {}
            }
            self.on_swarm(event);
        }
        Ok(())
    }
}

pub(super) fn swarm<G: Gate>(
    config: &NetworkConfig,
    gate: Arc<G>,
    flow: Arc<Flow>,
) -> Result<Swarm<Protocols>, NetworkError> {
    let refused = |error: &dyn std::fmt::Display| NetworkError::Config(error.to_string());
    let swarm = SwarmBuilder::with_existing_identity(config.keypair.clone())
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .map_err(|error| refused(&error))?
        .with_quic()
        .with_relay_client(noise::Config::new, yamux::Config::default)
        .map_err(|error| refused(&error))?
        .with_behaviour(|_, relay_client| Ok(Protocols::new(config, gate, flow, relay_client)?))
        .map_err(|error| refused(&error))?
        .with_swarm_config(|swarm| {
            swarm.with_idle_connection_timeout(IDLE).with_max_negotiating_inbound_streams(NEGOTIATING_STREAMS)
        })
        .build();
    Ok(swarm)
}
