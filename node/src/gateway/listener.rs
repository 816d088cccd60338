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
use super::crowd::{Crowd, Seat};
use super::slow::Impatient;

/// The pause after a connection could not be taken: there may be no more file descriptors.
const BREATH: Duration = Duration::from_millis(100);
/// Bytes of a request's head at most, and of what is read ahead.
const HEAD: usize = 16 * 1024;
/// What is said where there is no seat. Nobody waits for whoever does not take it.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 59\r\n\
    connection: close\r\n\r\n{\"code\":\"full\",\"message\":\"too many connections; try later\"}";
/// How long answers under way may take once the node stops.
const GRACE: Duration = Duration::from_secs(10);

/// A request that came by the control socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Control;

/// How many connections there may be, and how slow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// At a time.
    pub(crate) max_connections: usize,
    /// For a request's head, and the pause before it.
    pub(crate) head_timeout: Duration,
    /// Without taking anything.
    pub(crate) write_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_connections: 1024, head_timeout: Duration::from_secs(10), write_timeout: Duration::from_secs(30) }
    }
}

/// Where connections come from.
pub(crate) trait Listener {
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    fn accept(&self) -> impl Future<Output = io::Result<Self::Io>> + Send;
}

impl Listener for TcpListener {
    type Io = tokio::net::TcpStream;
    async fn accept(&self) -> io::Result<Self::Io> {
        let (stream, _) = Self::accept(self).await?;
        // Small answers leave at once.
        stream.set_nodelay(true)?;
        Ok(stream)
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
    /// Whether it is the control socket.
    pub(crate) control: bool,
}

impl Door<TcpListener> {
    /// Listens for applications.
    pub(crate) async fn open(address: SocketAddr, limits: Limits) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, limits, control: false })
    }
}

impl<L: Listener> Door<L> {
    /// Serves until the node stops, and then until answers under way are finished, or took too long.
    pub(crate) async fn serve(self, gateway: Gateway) {
        let (crowd, served) = (Crowd::new(self.limits.max_connections), TaskTracker::new());
        let router = gateway.router();
        loop {
            let accepted = tokio::select! {
                () = gateway.stops() => break,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(BREATH).await;
                    continue;
                }
            };
            match crowd.enter() {
                Some(seat) => {
                    let stream = Impatient::new(stream, self.limits.write_timeout);
                    let serving = one(stream, seat, router.clone(), gateway.clone(), self.limits, self.control);
                    served.spawn(serving);
                }
                None => turn_away(stream).await,
            }
        }
        served.close();
        if tokio::time::timeout(GRACE, served.wait()).await.is_err() {
            tracing::warn!("answers under way took too long and are cut off");
        }
    }
}

/// One connection, to its end.
async fn one<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: T,
    seat: Seat,
    router: Router,
    gateway: Gateway,
    limits: Limits,
    control: bool,
) {
    let (service, taken) = (TowerToHyperService::new(router), seat.clone());
    if control {
        seat.trust();
    }
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(taken.clone());
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
        () = seat.given_up() => return,
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
