//! A channel that is bounded in how much lies in it, and in the bytes of that: a thousand small messages are nothing, a thousand
//! large ones a gigabyte.

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::mpsc::{self, Permit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// What lies in the channel, and its bytes, which are free again once it was taken.
type Weighed<T> = (T, OwnedSemaphorePermit);

/// The way in.
#[derive(Debug)]
pub(super) struct Sender<T> {
    items: mpsc::Sender<Weighed<T>>,
    room: Arc<Semaphore>,
    most: u32,
}

/// The way out. What is left goes when it is dropped.
#[derive(Debug)]
pub(super) struct Receiver<T>(mpsc::Receiver<Weighed<T>>);

/// Room for one item.
pub(super) struct Reserved<'a, T> {
    item: Permit<'a, Weighed<T>>,
    bytes: OwnedSemaphorePermit,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    Full,
    Closed,
}

/// For so many items, and so many bytes of them. One that is larger than all that fits alone.
pub(super) fn channel<T>(items: usize, bytes: usize) -> (Sender<T>, Receiver<T>) {
    let most = u32::try_from(bytes).unwrap_or(u32::MAX);
    let (sender, receiver) = mpsc::channel(items.max(1));
    let room = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(usize::MAX)));
    (Sender { items: sender, room, most }, Receiver(receiver))
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { items: self.items.clone(), room: self.room.clone(), most: self.most }
    }
}

impl<T> Sender<T> {
    /// Waits for room for an item of so many bytes. Dropping the future changes nothing.
    ///
    /// # Errors
    /// [`NoRoom::Closed`]: nobody takes anything any more.
    pub(super) async fn reserve(&self, bytes: usize) -> Result<Reserved<'_, T>, NoRoom> {
        let item = self.items.reserve().await.map_err(|_| NoRoom::Closed)?;
        let bytes = tokio::select! {
            bytes = self.room.clone().acquire_many_owned(self.weight(bytes)) => bytes.map_err(|_| NoRoom::Closed)?,
            () = self.items.closed() => return Err(NoRoom::Closed),
        };
        Ok(Reserved { item, bytes })
    }

    /// The same at once or not at all.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub(super) fn try_reserve(&self, bytes: usize) -> Result<Reserved<'_, T>, NoRoom> {
        let item = self.items.try_reserve().map_err(|error| match error {
            mpsc::error::TrySendError::Full(()) => NoRoom::Full,
            mpsc::error::TrySendError::Closed(()) => NoRoom::Closed,
        })?;
        let bytes = self.room.clone().try_acquire_many_owned(self.weight(bytes)).map_err(|error| match error {
            TryAcquireError::NoPermits => NoRoom::Full,
            TryAcquireError::Closed => NoRoom::Closed,
        })?;
        Ok(Reserved { item, bytes })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.items.is_closed()
    }

    pub(super) async fn closed(&self) {
        self.items.closed().await;
    }

    pub(super) fn max_items(&self) -> usize {
        self.items.max_capacity()
    }

    fn weight(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.most)
    }
}

impl<T> Reserved<'_, T> {
    pub(super) fn send(self, item: T) {
        self.item.send((item, self.bytes));
    }
}

impl<T> Receiver<T> {
    pub(super) async fn recv(&mut self) -> Option<T> {
        self.0.recv().await.map(|(item, _)| item)
    }

    pub(super) fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_recv(context).map(|taken| taken.map(|(item, _)| item))
    }

    pub(super) fn try_recv(&mut self) -> Option<T> {
        self.0.try_recv().ok().map(|(item, _)| item)
    }

    pub(super) fn close(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn what_lies_in_it_is_bounded_in_number_and_in_bytes_and_one_too_large_goes_alone() {
        let (sender, mut receiver) = channel(3, 100);
        for n in 0..2 {
            sender.try_reserve(50).ok().unwrap().send(n);
        }
        assert_eq!(sender.try_reserve(1).err(), Some(NoRoom::Full), "by bytes");
        assert!(sender.reserve(1).now_or_never().is_none(), "it waits");
        assert_eq!(receiver.recv().await, Some(0));
        for n in 2..4 {
            sender.try_reserve(1).ok().unwrap().send(n);
        }
        assert_eq!(sender.try_reserve(1).err(), Some(NoRoom::Full), "by number");
        for n in 1..4 {
            assert_eq!(receiver.try_recv(), Some(n));
        }
        sender.try_reserve(1000).ok().unwrap().send(4);
        assert_eq!(sender.try_reserve(1).err(), Some(NoRoom::Full));
        drop(receiver);
        assert_eq!(sender.reserve(1).await.err(), Some(NoRoom::Closed), "nobody waits for ever");
    }
}
