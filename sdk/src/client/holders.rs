//! The grant ledger behind the answers: entries wait in a bounded queue and are written in batches, one wait for the disk
//! each, so that no answer waits for it.
//!
//! A crash loses the last batch at most: whoever was in it pulls the next key instead of being sent it.

use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::error::ClientError;
use super::shared::blocking;
use crate::identity::UserId;
use crate::network::Network;
use crate::publisher::{Entry, GivenKey, GrantLedger, Holder, Place};
use crate::stream::StreamId;

/// Entries waiting to be written. Beyond, what an answer gave is not noted: that subscriber pulls.
const QUEUE: usize = 4096;
/// Entries written together.
const BATCH: usize = 1024;
/// How long the first entry of a batch waits for more. A peer that has just come says meanwhile where it can be reached.
const LINGER: Duration = Duration::from_millis(250);

/// What the writing task is told.
pub(super) enum Note {
    Entry(Box<Entry>),
    /// Everything noted before is to be on disk.
    Flush(oneshot::Sender<()>),
    /// The last one.
    End,
}

/// The ledger, and the way to its writer.
pub(super) struct Holders {
    ledger: Arc<GrantLedger>,
    notes: mpsc::Sender<Note>,
}

impl Holders {
    /// With what [`run`] needs.
    pub(super) fn new(ledger: GrantLedger) -> (Self, Writer) {
        let (notes, noted) = mpsc::channel(QUEUE);
        let ledger = Arc::new(ledger);
        (Self { ledger: ledger.clone(), notes }, Writer { ledger, noted })
    }

    /// Notes what an answer gave. Never waits.
    pub(super) fn note(&self, entry: Entry) {
        if self.notes.try_send(Note::Entry(Box::new(entry))).is_err() {
            tracing::warn!("the grant ledger is behind: who was given a key now will have to ask for the next");
        }
    }

    /// Notes what a rekey found, waiting while the queue is full.
    pub(super) async fn note_all(&self, entry: Entry) {
        // Once stopped there is nobody to push to.
        let _ = self.notes.send(Note::Entry(Box::new(entry))).await;
    }

    /// Returns when everything noted so far is on disk, or could not be written, or the client was stopped.
    pub(super) async fn flush(&self) {
        let (reply, done) = oneshot::channel();
        if self.notes.send(Note::Flush(reply)).await.is_ok() {
            let _ = done.await;
        }
    }

    /// Ends the writer once it has written everything noted so far.
    pub(super) async fn end(&self) {
        let _ = self.notes.send(Note::End).await;
    }

    /// See [`GrantLedger::places`].
    pub(super) async fn places(
        &self,
        stream: &StreamId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<(Holder, Place)>, ClientError> {
        let (ledger, stream) = (self.ledger.clone(), stream.clone());
        Ok(blocking(move || ledger.places(&stream, after, limit)).await??)
    }

    /// Those on disk, without waiting for what was noted just now.
    pub(super) async fn known(&self, stream: &StreamId) -> Result<Vec<Holder>, ClientError> {
        let (ledger, stream) = (self.ledger.clone(), stream.clone());
        Ok(blocking(move || ledger.holders(&stream)).await??)
    }

    pub(super) async fn all(&self, stream: &StreamId) -> Result<Vec<Holder>, ClientError> {
        self.flush().await;
        self.known(stream).await
    }

    pub(super) async fn recipients(&self, stream: &StreamId) -> Result<Vec<Holder>, ClientError> {
        self.flush().await;
        let (ledger, stream) = (self.ledger.clone(), stream.clone());
        Ok(blocking(move || ledger.recipients(&stream)).await??)
    }

    pub(super) async fn given_keys(&self, stream: &StreamId, user: UserId) -> Result<Vec<GivenKey>, ClientError> {
        self.flush().await;
        let (ledger, stream) = (self.ledger.clone(), stream.clone());
        Ok(blocking(move || ledger.given_keys(&stream, user)).await??)
    }
}

/// Owns the queue's other end.
pub(super) struct Writer {
    ledger: Arc<GrantLedger>,
    noted: mpsc::Receiver<Note>,
}

/// Writes until the end is noted; not cut off when the client stops.
pub(super) async fn run(mut writer: Writer, network: Network) {
    while let Some((mut entries, flushed)) = writer.batch().await {
        if !entries.is_empty() {
            locate(&network, &mut entries).await;
            let ledger = writer.ledger.clone();
            match blocking(move || ledger.write(&entries)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "the grant ledger could not be written"),
                // The runtime ends.
                Err(_) => return,
            }
        }
        if let Some(flushed) = flushed {
            let _ = flushed.send(());
        }
    }
}

impl Writer {
    /// The next entries, and who waits for them to be on disk. `None` after the end.
    async fn batch(&mut self) -> Option<(Vec<Entry>, Option<oneshot::Sender<()>>)> {
        let mut entries = Vec::new();
        let mut note = self.noted.recv().await?;
        let until = Instant::now() + LINGER;
        loop {
            match note {
                Note::Entry(entry) => entries.push(*entry),
                Note::Flush(reply) => return Some((entries, Some(reply))),
                // What waits in the queue is still taken out.
                Note::End => self.noted.close(),
            }
            if entries.len() >= BATCH {
                return Some((entries, None));
            }
            match tokio::time::timeout_at(until, self.noted.recv()).await {
                Ok(Some(next)) => note = next,
                Ok(None) | Err(_) => return Some((entries, None)),
            }
        }
    }
}

/// Fills in where the peers say that they can be reached.
async fn locate(network: &Network, entries: &mut [Entry]) {
    let mut places: Vec<(PeerId, &mut Place)> = entries.iter_mut().filter_map(place_of).collect();
    let said = network.addresses_of(places.iter().map(|(peer, _)| *peer).collect()).await;
    for ((_, place), addresses) in places.iter_mut().zip(said) {
        if !addresses.is_empty() {
            place.addresses = addresses.iter().map(|address| address.to_vec()).collect();
        }
    }
}

fn place_of(entry: &mut Entry) -> Option<(PeerId, &mut Place)> {
    match entry {
        Entry::Given(given) => Some((PeerId::from_bytes(&given.place.peer).ok()?, &mut given.place)),
        Entry::Refused { .. } => None,
    }
}
