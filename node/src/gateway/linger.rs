//! A connection whose other side may still be sending when the last was said to it: a connection that is closed over what was not
//! read is reset, and whoever is there may never see why. Where its seat says so what still comes is read and thrown away, for a
//! little while.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::runtime::Handle;

use super::crowd::Seat;

/// How much more is read, bytes, and for how long, of whoever still sends when the last was said to him.
pub(super) const REST: usize = 8 << 20;
pub(super) const WITHIN: Duration = Duration::from_secs(2);

/// The connection, until it is dropped, and its seat.
pub(super) struct Lingering<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> {
    inner: Option<T>,
    seat: Seat,
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Lingering<T> {
    pub(super) fn new(inner: T, seat: Seat) -> Self {
        Self { inner: Some(inner), seat }
    }

    fn inner(&mut self) -> io::Result<Pin<&mut T>> {
        self.inner.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Drop for Lingering<T> {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take().filter(|_| self.seat.lingers()) else { return };
        if let Ok(runtime) = Handle::try_current() {
            let seat = self.seat.clone();
            // Whoever gave way is told so; another who comes for a seat does not wait for this one.
            let is_given_up = seat.is_given_up();
            runtime.spawn(async move {
                tokio::select! {
                    _ = tokio::time::timeout(WITHIN, see_off(inner)) => {}
                    () = seat.given_up(), if !is_given_up => {}
                }
            });
        }
    }
}

async fn see_off(mut inner: impl AsyncRead + AsyncWrite + Unpin) {
    let _ = inner.shutdown().await;
    let (mut seen, mut buffer) = (0, vec![0; 16 * 1024]);
    while let Ok(read @ 1..) = inner.read(&mut buffer).await {
        seen += read;
        if seen > REST {
            return;
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> AsyncRead for Lingering<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.inner()?.poll_read(context, buffer)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> AsyncWrite for Lingering<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.inner()?.poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.inner()?.poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::super::crowd::{Bounds, Crowd};
    use super::*;

    #[tokio::test]
    async fn what_still_comes_is_read_where_the_seat_says_so_and_the_seat_is_free_only_then() {
        for lingers in [true, false] {
            let crowd = Crowd::new(Bounds::of(1, None));
            let seat = crowd.enter().unwrap();
            let (ours, mut theirs) = tokio::io::duplex(4);
            let mut ours = Lingering::new(ours, seat.clone());
            ours.write_all(b"why").await.unwrap();
            if lingers {
                seat.linger();
            }
            drop((ours, seat));
            assert_eq!(theirs.write_all(&[0; 64]).await.is_ok(), lingers);
            let mut told = Vec::new();
            theirs.read_to_end(&mut told).await.unwrap();
            assert_eq!(told, b"why");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_still_comes_is_read_no_longer_once_the_seat_is_anothers() {
        let crowd = Crowd::new(Bounds::of(1, None));
        let seat = crowd.enter().unwrap();
        let (ours, mut theirs) = tokio::io::duplex(4);
        let ours = Lingering::new(ours, seat.clone());
        seat.linger();
        drop((ours, seat));
        theirs.write_all(b"still read").await.unwrap();
        crowd.make_room();
        let mut written = 0;
        while theirs.write_all(b"more").await.is_ok() {
            tokio::task::yield_now().await;
            written += 1;
            assert!(written < 1000, "it is read on");
        }
    }
}
