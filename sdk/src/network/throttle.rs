//! Backpressure on gossip: a wrapper that stops one protocol's reading and writing while the node catches up.
//!
//! Gossipsub reads as fast as peers send. Dropping what the gate has no time for would lose frames that a moment's patience
//! would have saved, and stopping the whole swarm would stop key requests and pings too. So only the gossip handlers rest:
//! the stream's window fills, the sender's queue fills, and its publishers wait.

use std::{
    collections::HashMap,
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
        SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm, handler::ConnectionEvent,
    },
};

/// The switch that all handlers of one behaviour watch.
#[derive(Debug, Default)]
pub(super) struct Flow {
    paused: AtomicBool,
    next_handler: AtomicU64,
    resting: Mutex<HashMap<u64, Waker>>,
}

impl Flow {
    pub(super) fn set_paused(&self, paused: bool) {
        if self.paused.swap(paused, Ordering::SeqCst) && !paused {
            let resting = std::mem::take(&mut *self.resting.lock().unwrap_or_else(PoisonError::into_inner));
            resting.into_values().for_each(Waker::wake);
        }
    }

    fn rests(&self, handler: u64, cx: &Context<'_>) -> bool {
        if !self.paused.load(Ordering::SeqCst) {
            return false;
        }
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        resting.insert(handler, cx.waker().clone());
        // Asked again under the lock, or a wake-up between the first look and the insert would be missed.
        self.paused.load(Ordering::SeqCst)
    }

    fn forget(&self, handler: u64) {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner).remove(&handler);
    }
}

/// A behaviour whose connection handlers rest while the flow is paused.
pub(super) struct Throttled<B> {
    inner: B,
    flow: Arc<Flow>,
}

impl<B> Throttled<B> {
    pub(super) fn new(inner: B, flow: Arc<Flow>) -> Self {
        Self { inner, flow }
    }

    fn wrap<H>(&self, inner: H) -> ThrottledHandler<H> {
        let id = self.flow.next_handler.fetch_add(1, Ordering::Relaxed);
        ThrottledHandler { inner, id, flow: self.flow.clone() }
    }
}

impl<B> Deref for Throttled<B> {
    type Target = B;
    fn deref(&self) -> &B {
        &self.inner
    }
}

impl<B> DerefMut for Throttled<B> {
    fn deref_mut(&mut self) -> &mut B {
        &mut self.inner
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Throttled<B> {
    type ConnectionHandler = ThrottledHandler<THandler<B>>;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner.handle_pending_inbound_connection(connection, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let handler = self.inner.handle_established_inbound_connection(connection, peer, local, remote)?;
        Ok(self.wrap(handler))
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.inner.handle_pending_outbound_connection(connection, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let handler = self.inner.handle_established_outbound_connection(connection, peer, address, role, port_use)?;
        Ok(self.wrap(handler))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.inner.poll(cx)
    }
}

/// The handler of one connection.
pub(super) struct ThrottledHandler<H> {
    inner: H,
    id: u64,
    flow: Arc<Flow>,
}

impl<H> Drop for ThrottledHandler<H> {
    fn drop(&mut self) {
        self.flow.forget(self.id);
    }
}

impl<H: ConnectionHandler> ConnectionHandler for ThrottledHandler<H> {
    type FromBehaviour = H::FromBehaviour;
    type ToBehaviour = H::ToBehaviour;
    type InboundProtocol = H::InboundProtocol;
    type OutboundProtocol = H::OutboundProtocol;
    type InboundOpenInfo = H::InboundOpenInfo;
    type OutboundOpenInfo = H::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, Self::InboundOpenInfo> {
        self.inner.listen_protocol()
    }

    fn connection_keep_alive(&self) -> bool {
        self.inner.connection_keep_alive()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Self::ToBehaviour>> {
        if self.flow.rests(self.id, cx) {
            return Poll::Pending;
        }
        self.inner.poll(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::ToBehaviour>> {
        self.inner.poll_close(cx)
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        self.inner.on_behaviour_event(event);
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            '_,
            Self::InboundProtocol,
            Self::OutboundProtocol,
            Self::InboundOpenInfo,
            Self::OutboundOpenInfo,
        >,
    ) {
        self.inner.on_connection_event(event);
    }
}
