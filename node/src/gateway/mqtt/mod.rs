//! The door for devices and brokers: MQTT 3.1.1 and 5.
//!
//! ```text
//! accept ─▶ a seat in the crowd ─▶ CONNECT: API key, a place of its own ─▶ session: PUBLISH to a stream, SUBSCRIBE to one
//! ```
//! A topic is a stream's id, a password an API key. What may be done is decided, for each message and each subscription, where the
//! HTTP door decides it; publishing and subscribing go through the same client. Nothing is kept for who is not here: sessions end
//! with their connections, and nothing is retained.

mod answer;
mod clients;
mod content;
mod line;
mod link;
mod login;
mod no;
mod said;
mod session;
mod subscriptions;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use self::clients::Clients;
use super::Gateway;
use super::crowd::Crowd;
use super::journal::Peer;
use super::listener::next;

/// How long connections may take to end once the node stops.
const GRACE: Duration = Duration::from_secs(15);
/// What a packet has beside its payload, bytes.
const HEAD: usize = 16 * 1024;

/// How slow a client may be; how many there are is bounded with those of the other door.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// For the first packet.
    pub(crate) connect_timeout: Duration,
    /// Without taking, or acknowledging, anything.
    pub(crate) write_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(10), write_timeout: Duration::from_secs(30) }
    }
}

impl Limits {
    /// The largest packet, bytes.
    fn largest(&self, gateway: &Gateway) -> usize {
        gateway.settings.max_body + HEAD
    }
}

/// What all sessions share.
struct Shared {
    gateway: Gateway,
    limits: Limits,
    clients: Clients,
}

/// The way in.
pub(crate) struct Door {
    listener: TcpListener,
    limits: Limits,
    /// Who is inside, by whichever door.
    crowd: Crowd,
}

impl Door {
    /// Listens.
    pub(crate) async fn open(address: SocketAddr, limits: Limits, crowd: Crowd) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, limits, crowd })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Serves until the node stops, and then until clients were told.
    pub(crate) async fn serve(self, gateway: Gateway) {
        let Self { listener, limits, crowd } = self;
        let served = TaskTracker::new();
        let shared = Arc::new(Shared { gateway: gateway.clone(), limits, clients: Clients::default() });
        loop {
            let stream = tokio::select! {
                () = gateway.stops() => break,
                stream = next(&listener, &crowd) => stream,
            };
            // One that is gone already needs no seat.
            let Ok(peer) = stream.peer_addr() else { continue };
            match crowd.enter() {
                Some(seat) => drop(served.spawn(session::serve(stream, peer, seat, shared.clone()))),
                None => gateway.journal.turned_away(&gateway, Peer(Some(peer))),
            }
        }
        served.close();
        if tokio::time::timeout(GRACE, served.wait()).await.is_err() {
            tracing::warn!("MQTT clients took too long to leave and are cut off");
        }
    }
}
