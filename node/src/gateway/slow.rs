//! A connection whose other side must take what is sent to it, some of it at least, within a limit. Whatever is written to it, an
//! answer, a stream or a WebSocket, a client that reads nothing is cut off. Until then it costs its share of what may wait for
//! readers (`readers`), the message that is being sent to it, and what its socket holds. Once the node stops it has little time left.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// How long a client may take nothing once the node stops.
const AT_THE_END: Duration = Duration::from_secs(2);

/// The connection, and how long it may take nothing.
pub(super) struct Impatient<T> {
    inner: T,
    patience: Duration,
    waiting: bool,
    deadline: Pin<Box<Sleep>>,
    /// Until it did.
    stops: Option<BoxFuture<'static, ()>>,
}

impl<T> Impatient<T> {
    /// `stops` returns once the node stops.
    pub(super) fn new(inner: T, patience: Duration, stops: impl Future<Output = ()> + Send + 'static) -> Self {
        let deadline = Box::pin(sleep(patience));
        Self { inner, patience, waiting: false, deadline, stops: Some(Box::pin(stops)) }
    }

    /// What the connection says, or that it took too long.
    fn judge<R>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if outcome.is_ready() {
            self.waiting = false;
            return outcome;
        }
        if !self.waiting {
            self.waiting = true;
            self.deadline.as_mut().reset(Instant::now() + self.patience);
        }
        if self.stops.as_mut().is_some_and(|stops| stops.as_mut().poll(context).is_ready()) {
            self.stops = None;
            self.patience = self.patience.min(AT_THE_END);
            let last = Instant::now() + self.patience;
            if self.deadline.deadline() > last {
                self.deadline.as_mut().reset(last);
            }
        }
        ready!(self.deadline.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Impatient<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Impatient<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.judge(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(context, buffers);
        self.judge(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(context);
        self.judge(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_shutdown(context);
        self.judge(context, outcome)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn who_takes_nothing_is_cut_off_and_who_takes_a_little_now_and_then_is_not() {
        let (ours, mut theirs) = duplex(4);
        let mut ours = Impatient::new(ours, Duration::from_millis(50), std::future::pending());
        let reader = tokio::spawn(async move {
            let mut got = Vec::new();
            while got.len() < 12 {
                tokio::task::yield_now().await;
                got.push(theirs.read_u8().await.unwrap());
            }
            theirs
        });
        ours.write_all(&[1; 12]).await.unwrap();
        let theirs = reader.await.unwrap();
        ours.write_all(&[2; 4]).await.unwrap();
        let cut = ours.write_all(&[3; 4]).await.unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::TimedOut);
        drop(theirs);
    }

    #[tokio::test]
    async fn however_long_who_takes_nothing_may_wait_it_is_cut_off_soon_after_the_node_stops_and_who_takes_something_is_not()
     {
        let (ours, mut theirs) = duplex(4);
        let (stop, stops) = tokio::sync::oneshot::channel::<()>();
        let mut ours = Impatient::new(ours, Duration::from_secs(7 * 24 * 3600), async move { drop(stops.await) });
        let writer = tokio::spawn(async move {
            ours.write_all(&[1; 12]).await.unwrap();
            ours.write_all(&[2; 4]).await.unwrap_err().kind()
        });
        theirs.read_exact(&mut [0; 4]).await.unwrap();
        stop.send(()).unwrap();
        theirs.read_exact(&mut [0; 4]).await.unwrap();
        assert_eq!(writer.await.unwrap(), io::ErrorKind::TimedOut);
        // What it did not take is still there for it.
        theirs.read_exact(&mut [0; 4]).await.unwrap();
    }
}
