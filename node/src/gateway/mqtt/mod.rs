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
use super::crowd::{Bounds, Crowd};

/// The pause after a connection could not be taken: there may be no more file descriptors.
const BREATH: Duration = Duration::from_millis(100);
/// How long connections may take to end once the node stops.
const GRACE: Duration = Duration::from_secs(15);
/// What a packet has beside its payload, bytes.
const HEAD: usize = 16 * 1024;

/// How many connections there may be, and how slow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// At a time.
    pub(crate) max_connections: usize,
    /// With one API key.
    pub(crate) max_connections_per_key: usize,
    /// For the first packet.
    pub(crate) connect_timeout: Duration,
    /// Without taking, or acknowledging, anything.
    pub(crate) write_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_connections_per_key: 256,
            connect_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// How many of one key there may be is a matter of [`Clients`], who know which takes the place of which.
    fn bounds(&self) -> Bounds {
        let most = self.max_connections;
        Bounds { most, per_key: most, live_per_key: most }
    }

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
}

impl Door {
    /// Listens.
    pub(crate) async fn open(address: SocketAddr, limits: Limits) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, limits })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Serves until the node stops, and then until clients were told.
    pub(crate) async fn serve(self, gateway: Gateway) {
        let Self { listener, limits } = self;
        let (crowd, served) = (Crowd::new(limits.bounds()), TaskTracker::new());
        let clients = Clients::new(limits.max_connections_per_key);
        let shared = Arc::new(Shared { gateway: gateway.clone(), limits, clients });
        loop {
            let accepted = tokio::select! {
                () = gateway.stops() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => match crowd.enter() {
                    Some(seat) => {
                        // Small packets leave at once; where that cannot be they leave later.
                        let _ = stream.set_nodelay(true);
                        served.spawn(session::serve(stream, peer, seat, shared.clone()));
                    }
                    None => tracing::warn!(%peer, "an MQTT client found no seat"),
                },
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
        served.close();
        if tokio::time::timeout(GRACE, served.wait()).await.is_err() {
            tracing::warn!("MQTT clients took too long to leave and are cut off");
        }
    }
}
