//! The socket of one connection: bytes in and out, and how long the client may take nothing.

use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::super::linger::REST;
use super::link::{Broken, Link};

/// What is read at a time, bytes.
const CHUNK: usize = 8 * 1024;
/// What a client that takes anything at all takes meanwhile, bytes.
const SOME: usize = 64 * 1024;
/// How long a client has to take its last packets, and to see that this is the end.
const FAREWELL: Duration = Duration::from_secs(2);

/// The socket, and what the protocol makes of it.
pub(super) struct Line {
    stream: TcpStream,
    pub(super) link: Link,
    /// How long a client may take nothing.
    patience: Duration,
    /// Since when something waits to be sent, and how much of it went.
    waits: Option<(Instant, usize)>,
}

/// Returns at that moment; without one, never.
pub(super) async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Why there is no connection any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("the connection was closed")]
    Closed,
    #[error("the connection broke")]
    Failed(#[from] io::Error),
    #[error("it takes nothing of what is sent to it")]
    TakesNothing,
    #[error(transparent)]
    Broken(#[from] Broken),
}

impl Line {
    pub(super) fn new(stream: TcpStream, link: Link, patience: Duration) -> Self {
        Self { stream, link, patience, waits: None }
    }

    /// Reads or writes something. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Lost`]
    pub(super) async fn turn(&mut self, reads: bool) -> Result<(), Lost> {
        let writes = !self.link.outgoing().is_empty();
        if !writes {
            self.waits = None;
        }
        let until = writes.then(|| self.waits.get_or_insert_with(|| (Instant::now(), 0)).0 + self.patience);
        tokio::select! {
            // Whoever takes something is there, whatever the time.
            biased;
            ready = self.stream.writable(), if writes => {
                ready?;
                self.write()
            }
            ready = self.stream.readable(), if reads => {
                ready?;
                self.read().map(drop)
            }
            () = at(until), if writes => Err(Lost::TakesNothing),
            // Somebody else has something to do first.
            () = std::future::pending(), if !reads && !writes => Ok(()),
        }
    }

    /// Whether there was something to read, without waiting for it.
    ///
    /// # Errors
    /// [`Lost`]
    pub(super) fn read(&mut self) -> Result<bool, Lost> {
        let mut chunk = [0; CHUNK];
        match self.stream.try_read(&mut chunk) {
            Ok(0) => Err(Lost::Closed),
            Ok(bytes) => Ok(self.link.came(&chunk[..bytes]).map(|()| true)?),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn write(&mut self) -> Result<(), Lost> {
        match self.stream.try_write(self.link.outgoing()) {
            Ok(bytes) => {
                self.link.went(bytes);
                if let Some((since, moved)) = &mut self.waits {
                    *moved += bytes;
                    if *moved >= SOME {
                        (*since, *moved) = (Instant::now(), 0);
                    }
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends what is to be sent, and ends the connection so that it arrives.
    pub(super) async fn end(mut self) {
        let _ = timeout(FAREWELL, async {
            self.stream.write_all(self.link.outgoing()).await?;
            self.stream.shutdown().await
        })
        .await;
        let _ = timeout(FAREWELL, self.rest()).await;
    }

    /// Reads what it still sends: bytes that nobody reads would take the last packets with them.
    async fn rest(&mut self) {
        let (mut chunk, mut seen) = ([0; CHUNK], 0);
        while seen < REST {
            if self.stream.readable().await.is_err() {
                return;
            }
            match self.stream.try_read(&mut chunk) {
                Ok(0) => return,
                Ok(bytes) => seen += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}
