//! The streams of whoever asked.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::output::Afar;
use crate::through::frames::{Frame, MOST};

/// Where a command prints to, from a thread that may wait.
pub(super) struct Screen {
    frames: mpsc::Sender<Bytes>,
}

impl Screen {
    pub(super) const fn new(frames: mpsc::Sender<Bytes>) -> Self {
        Self { frames }
    }

    /// Waits while whoever asked takes nothing. `false`: he has gone.
    pub(super) fn send(&self, frame: &Frame) -> bool {
        // Not tokio's own way to wait, which is not allowed on a thread that runs futures; and without its budget, which nobody would
        // fill up again meanwhile.
        let sending = tokio::task::unconstrained(self.frames.send(frame.encode()));
        futures::executor::block_on(sending).is_ok()
    }

    /// Only where it need not wait: another comes soon.
    pub(super) fn hint(&self, frame: &Frame) {
        let _ = self.frames.try_send(frame.encode());
    }

    /// Returns once he has gone.
    pub(super) async fn gone(&self) {
        self.frames.closed().await;
    }

    /// Bytes of any length.
    fn all(&self, bytes: &[u8], frame: fn(Bytes) -> Frame) -> io::Result<()> {
        for piece in bytes.chunks(MOST) {
            if !self.send(&frame(Bytes::copy_from_slice(piece))) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        Ok(())
    }

    /// Bytes of the file that is to be written over there.
    pub(super) fn file(&self, bytes: &[u8]) -> io::Result<()> {
        self.all(bytes, Frame::File)
    }
}

impl Afar for Screen {
    fn out(&self, bytes: &[u8]) -> io::Result<()> {
        self.all(bytes, Frame::Out)
    }

    fn err(&self, bytes: &[u8]) {
        let _ = self.all(bytes, Frame::Err);
    }
}

/// The stdout of whoever asked, for threads of their own.
pub(super) struct Out(pub(super) Arc<Screen>);

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.out(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
