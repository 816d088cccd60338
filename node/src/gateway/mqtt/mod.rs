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
mod heads;
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

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use self::clients::Clients;
use super::Gateway;
use super::crowd::Crowd;
use super::journal::Peer;
use super::listener::next;

/// How long connections may take to end once the node stops.
const GRACE: Duration = Duration::from_secs(15);
/// What a packet has beside its payload, bytes; and its properties by themselves.
const HEAD: usize = 16 * 1024;

/// How long nothing may come before the system asks whether anybody is there, and how often it asks then; after some of these, on Linux
/// nine, nobody is.
const SILENCE: Duration = Duration::from_secs(600);
const BETWEEN: Duration = Duration::from_secs(30);

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
    /// For those whose seat is another's already, and who are told so.
    leaving: Semaphore,
}

/// Of those so many at a time; beyond, they are cut off.
const LEAVING: usize = 64;

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
        let (clients, leaving) = (Clients::default(), Semaphore::new(LEAVING));
        let shared = Arc::new(Shared { gateway: gateway.clone(), limits, clients, leaving });
        loop {
            let stream = tokio::select! {
                () = gateway.stops() => break,
                stream = next(&listener, &crowd) => stream,
            };
            // One that is gone already needs no seat.
            let Ok(peer) = stream.peer_addr() else { continue };
            notice_death(&stream);
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

/// Has the system ask whether a peer that is silent is still there. A client of version 3.1.1 may ask for no keep-alive; one that lost its
/// network is noticed all the same, about when one of version 5 is.
fn notice_death(stream: &TcpStream) {
    let asks = TcpKeepalive::new().with_time(SILENCE).with_interval(BETWEEN);
    // It cannot be said of a connection that was closed meanwhile, which shows soon enough.
    let _ = SockRef::from(stream).set_tcp_keepalive(&asks);
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_system_notices_where_a_client_is_gone_that_asked_for_no_keep_alive() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(!socket.keepalive().unwrap());
        notice_death(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), SILENCE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), BETWEEN);
    }
}
