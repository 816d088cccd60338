//! Keeping the messages of one stream: those whose author may publish, in batches, one wait for the disk each.
//!
//! A message that was taken in is not lost to slowness here. While the permission source is being asked about authors who were
//! permitted before, and half of what may wait for that waits, no more is taken from the inbox; the inbox is bounded in bytes,
//! and the network waits behind it. Authors of whom nothing good is known hold nobody up: beyond the limits theirs go first.
//! Before the source has answered about anybody, nobody is known, and then strangers are waited for, too.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc;

use super::checks::{Checked, Checks};
use super::shared::{Shared, blocking};
use super::stats::count;
use super::storing::{Storage, Taken};
use crate::identity::UserId;
use crate::permission::Permission;
use crate::storage::StorageError;
use crate::stream::StreamId;
use crate::subscriber::Unchecked;
use crate::wire::{MessageContent, Verified};

/// Messages appended together, and their bytes.
const BATCH: usize = 1024;
const BATCH_BYTES: usize = 8 << 20;

pub(super) struct Keeper {
    shared: Arc<Shared>,
    stream: StreamId,
    unchecked: Unchecked,
    checks: Checks,
    /// Whether the permission source has answered about anybody yet.
    answered: bool,
    /// What has not been looked at of the frame taken last, and its room in the inbox.
    rest: VecDeque<Verified<MessageContent>>,
    rest_room: Option<OwnedSemaphorePermit>,
    batch: Vec<Verified<MessageContent>>,
    bytes: usize,
    /// Room in the inbox of what lies in the batch.
    room: Vec<OwnedSemaphorePermit>,
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>, stream: StreamId) -> Self {
        Self {
            unchecked: Unchecked::new(shared.config.intake),
            checks: Checks::new(shared.clone(), stream.clone()),
            shared,
            stream,
            answered: false,
            rest: VecDeque::new(),
            rest_room: None,
            batch: Vec::new(),
            bytes: 0,
            room: Vec::new(),
        }
    }

    /// Keeps what comes until there is no more, or the client stops.
    ///
    /// # Errors
    /// The store failed: what was not acknowledged may be there or not, and nothing more is kept.
    pub(super) async fn run(mut self, storage: &Storage, mut inbox: mpsc::Receiver<Taken>) -> Result<(), StorageError> {
        let mut stopping = self.shared.stopping.subscribe();
        loop {
            let pause = self.pause();
            let (takes_more, asks) = (self.rest.is_empty() && self.takes_more(), self.checks.any_under_way());
            tokio::select! {
                biased;
                Some(checked) = self.checks.next(), if asks => self.checked(storage, checked),
                taken = inbox.recv(), if takes_more => match taken {
                    Some(taken) => self.taken(storage, taken),
                    None => break,
                },
                // Also where it stopped before this began.
                _ = stopping.wait_for(|stops| *stops) => break,
                () = tokio::time::sleep(pause) => {}
            }
            self.take_rest(storage);
            while self.has_room()
                && self.rest.is_empty()
                && self.takes_more()
                && let Ok(taken) = inbox.try_recv()
            {
                self.taken(storage, taken);
            }
            self.check_due(storage);
            self.store(storage).await?;
        }
        inbox.close();
        std::mem::take(&mut self.rest).into_iter().for_each(|message| self.consider(storage, message));
        while let Ok(taken) = inbox.try_recv() {
            taken.messages.into_iter().for_each(|message| self.consider(storage, message));
            if !self.has_room() {
                self.store(storage).await?;
            }
        }
        // What nobody can tell by now is not stored.
        count(&storage.counts.unchecked, self.unchecked.len());
        self.store(storage).await
    }

    fn pause(&self) -> Duration {
        if !self.rest.is_empty() && self.takes_more() {
            return Duration::ZERO;
        }
        let wake = self.unchecked.next_wake(self.checks.has_room_for_strangers()).filter(|_| self.checks.has_room());
        let pause = wake.map(|at| at.since(self.shared.now()).max(Duration::from_millis(1)));
        pause.unwrap_or(Duration::from_secs(3600))
    }

    /// Whether the next message may come. An answer that is on its way is waited for; one that is put off is not.
    fn takes_more(&self) -> bool {
        let is_half_full = match self.answered {
            true => self.unchecked.is_half_full_of_known(),
            false => self.shared.config.intake.is_half(self.unchecked.held()),
        };
        !is_half_full || !self.checks.any_under_way()
    }

    fn has_room(&self) -> bool {
        self.batch.len() < BATCH && self.bytes < BATCH_BYTES
    }

    /// Several frames may come as one, with more messages than may wait.
    fn taken(&mut self, storage: &Storage, taken: Taken) {
        self.rest = taken.messages.into();
        self.rest_room = Some(taken.room);
        self.take_rest(storage);
    }

    fn take_rest(&mut self, storage: &Storage) {
        while self.takes_more()
            && let Some(message) = self.rest.pop_front()
        {
            self.consider(storage, message);
        }
        if self.rest.is_empty() {
            self.room.extend(self.rest_room.take());
        }
    }

    fn consider(&mut self, storage: &Storage, message: Verified<MessageContent>) {
        let author = message.content().publisher;
        let waits = self.unchecked.waits_for(author);
        match self.shared.checked(&self.stream, author, Permission::Publish).filter(|_| !waits) {
            Some(Ok(_)) => self.keep(message),
            Some(Err(_)) => count(&storage.counts.refused, 1),
            None => {
                let dropped = self.unchecked.push(self.shared.now(), message, self.is_stranger(author));
                count(&storage.counts.unchecked, dropped.is_some().into());
                self.check_due(storage);
            }
        }
    }

    /// A stream's owner is none, who needs nobody's leave.
    fn is_stranger(&self, author: UserId) -> bool {
        self.stream.owner() != Some(author) && self.checks.is_stranger(author)
    }

    fn keep(&mut self, message: Verified<MessageContent>) {
        self.bytes += message.envelope().len();
        self.batch.push(message);
    }

    fn check_due(&mut self, storage: &Storage) {
        while self.checks.has_room() {
            let strangers = self.checks.has_room_for_strangers();
            let Some(author) = self.unchecked.begin_next(self.shared.now(), strangers) else { return };
            if let Some(checked) = self.checks.begin(author) {
                self.checked(storage, checked);
            }
        }
    }

    fn checked(&mut self, storage: &Storage, (author, answer): Checked) {
        self.answered = true;
        match answer {
            Ok(_) => self.unchecked.take(author).into_iter().for_each(|message| self.keep(message)),
            Err(refusal) => match refusal.retry_after() {
                Some(after) => {
                    let dropped = self.unchecked.put_off(self.shared.now(), author, after);
                    count(&storage.counts.unchecked, dropped);
                }
                None => count(&storage.counts.refused, self.unchecked.take(author).len()),
            },
        }
    }

    /// Appends what is to be kept, a bounded part at a time.
    async fn store(&mut self, storage: &Storage) -> Result<(), StorageError> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for message in std::mem::take(&mut self.batch) {
            bytes += message.envelope().len();
            batch.push(message);
            if batch.len() >= BATCH || bytes >= BATCH_BYTES {
                bytes = 0;
                self.append(storage, std::mem::take(&mut batch)).await?;
            }
        }
        self.append(storage, batch).await?;
        self.bytes = 0;
        self.room.clear();
        Ok(())
    }

    async fn append(&mut self, storage: &Storage, batch: Vec<Verified<MessageContent>>) -> Result<(), StorageError> {
        if batch.is_empty() {
            return Ok(());
        }
        let (store, now) = (storage.store.clone(), self.shared.now());
        let appended = blocking(move || store.append(now, &batch)).await.unwrap_or(Err(StorageError::Broken))?;
        count(&storage.counts.stored, appended.stored);
        count(&storage.counts.out_of_range, appended.out_of_range);
        count(&storage.counts.evicted, appended.evicted);
        Ok(())
    }
}
