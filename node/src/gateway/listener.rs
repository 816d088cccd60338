//! Taking connections and serving the router on them, with limits on how many there are and how slow they may be.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use super::Gateway;
use super::crowd::{Bounds, Crowd, Seat};
use super::journal::Peer;
use super::linger::Lingering;
use super::slow::Impatient;
use crate::descriptors;

/// The pause after a connection could not be taken.
const BREATH: Duration = Duration::from_millis(100);
/// For whoever gives way, to be told so.
const FAREWELL: Duration = Duration::from_secs(1);
/// Bytes of a request's head at most, and of what is read ahead.
const HEAD: usize = 16 * 1024;
/// What is said where there is no seat. Nobody waits for whoever does not take it.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 59\r\n\
    retry-after: 5\r\nconnection: close\r\n\r\n{\"code\":\"full\",\"message\":\"too many connections; try later\"}";
/// How long answers under way may take once the node stops.
const GRACE: Duration = Duration::from_secs(10);

/// A request that came by the control socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Control;

/// How many connections there may be, and how slow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// At a time, of all keys together and of each.
    pub(crate) seats: Bounds,
    /// For a request's head, and the pause before it.
    pub(crate) head_timeout: Duration,
    /// Without taking anything.
    pub(crate) write_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            seats: Bounds::of(1024, None),
            head_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
        }
    }
}

/// Where connections come from.
pub(crate) trait Listener {
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    fn accept(&self) -> impl Future<Output = io::Result<Self::Io>> + Send;

    /// Where this one comes from.
    fn peer(_: &Self::Io) -> Peer {
        Peer(None)
    }
}

impl Listener for TcpListener {
    type Io = tokio::net::TcpStream;
    async fn accept(&self) -> io::Result<Self::Io> {
        let (stream, _) = Self::accept(self).await?;
        // Small answers leave at once. It cannot be said of a connection that was closed meanwhile, which shows soon enough.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    fn peer(stream: &Self::Io) -> Peer {
        Peer(stream.peer_addr().ok())
    }
}

#[cfg(unix)]
impl Listener for tokio::net::UnixListener {
    type Io = tokio::net::UnixStream;
    async fn accept(&self) -> io::Result<Self::Io> {
        Ok(Self::accept(self).await?.0)
    }
}

/// One way in.
pub(crate) struct Door<L> {
    pub(crate) listener: L,
    pub(crate) limits: Limits,
    /// Who is inside.
    pub(crate) crowd: Crowd,
    /// Whether it is the control socket.
    pub(crate) control: bool,
}

impl Door<TcpListener> {
    /// Listens for applications.
    pub(crate) async fn open(address: SocketAddr, limits: Limits, crowd: Crowd) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, limits, crowd, control: false })
    }
}

impl<L: Listener> Door<L> {
    /// Serves until the node stops, and then until answers under way are finished, or took too long.
    pub(crate) async fn serve(self, gateway: Gateway, router: Router) {
        let served = TaskTracker::new();
        loop {
            let stream = tokio::select! {
                () = gateway.stops() => break,
                stream = next(&self.listener, &self.crowd) => stream,
            };
            match self.crowd.enter() {
                Some(seat) => {
                    let peer = L::peer(&stream);
                    let stops = gateway.clone();
                    let stops = async move { stops.stops().await };
                    let stream = Impatient::new(stream, self.limits.write_timeout, stops);
                    let stream = Lingering::new(stream, seat.clone());
                    let serving = one(stream, peer, seat, router.clone(), gateway.clone(), self.limits, self.control);
                    served.spawn(serving);
                }
                None => {
                    gateway.journal.turned_away(&gateway, L::peer(&stream));
                    turn_away(stream).await;
                }
            }
        }
        served.close();
        if tokio::time::timeout(GRACE, served.wait()).await.is_err() {
            tracing::warn!("answers under way took too long and are cut off");
        }
    }
}

/// The next connection. Where none can be taken, for want of file descriptors mostly, a stranger gives way, and nothing is tried
/// again before a pause. Dropping the future loses nothing.
pub(super) async fn next<L: Listener>(listener: &L, crowd: &Crowd) -> L::Io {
    let mut told = false;
    loop {
        let error = match listener.accept().await {
            Ok(stream) => return stream,
            Err(error) => error,
        };
        if descriptors::are_used_up(&error) {
            crowd.make_room();
        }
        if !told {
            tracing::warn!(%error, "a connection could not be taken; it is tried again");
            told = true;
        }
        tokio::time::sleep(BREATH).await;
    }
}

/// One connection, to its end.
async fn one<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: T,
    peer: Peer,
    seat: Seat,
    router: Router,
    gateway: Gateway,
    limits: Limits,
    control: bool,
) {
    let (service, taken) = (TowerToHyperService::new(router), seat.clone());
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(taken.clone());
        request.extensions_mut().insert(peer);
        if control {
            request.extensions_mut().insert(Control);
        }
        service.call(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head_timeout).max_buf_size(HEAD);
    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = seat.given_up() => {
            if seat.is_strangers() {
                return;
            }
            // What is open ends by itself now.
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(FAREWELL, connection).await {
                Ok(served) => served,
                Err(_) => return,
            }
        }
        () = gateway.stops() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(?error, "a connection ended early");
    }
}

async fn turn_away(mut stream: impl AsyncWrite + Unpin) {
    let _ = tokio::time::timeout(BREATH, stream.write_all(FULL)).await;
}

#[cfg(all(test, unix))]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Instant;

    use super::*;

    /// One that has no file descriptors for a while.
    struct Poor {
        asked: AtomicU32,
        fails: u32,
    }

    impl Listener for Poor {
        type Io = tokio::io::DuplexStream;
        async fn accept(&self) -> io::Result<Self::Io> {
            match self.asked.fetch_add(1, Ordering::Relaxed) {
                n if n < self.fails => Err(rustix::io::Errno::MFILE.into()),
                _ => Ok(tokio::io::duplex(1).0),
            }
        }
    }

    #[tokio::test]
    async fn without_file_descriptors_strangers_give_way_one_at_a_time_and_nothing_spins() {
        let (crowd, poor) = (Crowd::new(Bounds::of(8, None)), Poor { asked: AtomicU32::new(0), fails: 2 });
        let [first, second, third] = [(); 3].map(|()| crowd.enter().unwrap());
        let began = Instant::now();
        next(&poor, &crowd).await;
        assert!(began.elapsed() >= 2 * BREATH && poor.asked.load(Ordering::Relaxed) == 3);
        first.given_up().await;
        second.given_up().await;
        assert!(tokio::time::timeout(Duration::from_millis(10), third.given_up()).await.is_err());
    }

    #[test]
    fn what_is_said_where_there_is_no_seat_is_as_long_as_it_says() {
        let text = std::str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())) && head.contains("retry-after: 5\r\n"));
    }
}
