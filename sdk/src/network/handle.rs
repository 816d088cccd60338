//! The handle to a running network.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::{Gate, NetworkError, NetworkLimits, Outgoing, RequestError, behaviour::MAX_TOPIC, crowd::Counts};

/// Who could have received a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// Connected peers subscribed to the topic when the frame was queued. With none, the frame goes nowhere.
    pub peers: usize,
}

/// What a handle asks of the swarm's task.
pub(super) enum Command {
    Join { topic: String, reply: oneshot::Sender<Result<(), NetworkError>> },
    Leave { topic: String, reply: oneshot::Sender<()> },
    Flush { reply: oneshot::Sender<()> },
    Addresses { reply: oneshot::Sender<Vec<Multiaddr>> },
    AddressesOf { peers: Vec<PeerId>, reply: oneshot::Sender<Vec<Vec<Multiaddr>>> },
    ConnectedPeers { reply: oneshot::Sender<usize> },
    Dial { address: Multiaddr, reply: oneshot::Sender<Result<(), NetworkError>> },
    Put { key: Vec<u8>, value: Vec<u8>, expires_in: Duration, reply: oneshot::Sender<Result<usize, NetworkError>> },
    Forget { key: Vec<u8>, reply: oneshot::Sender<()> },
    Get { key: Vec<u8>, reply: oneshot::Sender<Result<Vec<Vec<u8>>, NetworkError>> },
    Request(Asked),
    Stop { reply: oneshot::Sender<()> },
}

/// A request of ours.
pub(super) struct Asked {
    pub(super) peer: PeerId,
    pub(super) addresses: Vec<Multiaddr>,
    pub(super) request: Vec<u8>,
    pub(super) reply: oneshot::Sender<Result<Vec<u8>, RequestError>>,
}

/// A cheap handle to the task that owns the swarm. The task ends when [`stop`](Self::stop) is called, or when the last
/// handle is dropped.
#[derive(Clone)]
pub struct Network {
    pub(super) peer: PeerId,
    pub(super) limits: Arc<NetworkLimits>,
    pub(super) is_topic: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) outgoing: mpsc::Sender<Outgoing>,
    /// Bytes that may wait to be sent.
    pub(super) room: Arc<Semaphore>,
    pub(super) counts: Arc<watch::Sender<Counts>>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Network {
    /// This node's id.
    pub fn local_peer(&self) -> PeerId {
        self.peer
    }

    /// Where this node can be reached, as far as it knows; each ends in `/p2p/PEER`. Empty once stopped.
    pub async fn listen_addresses(&self) -> Vec<Multiaddr> {
        self.ask(|reply| Command::Addresses { reply }).await.unwrap_or_default()
    }

    /// Where each of these peers, as far as it is connected, says that it can be reached; for the others nothing. A peer's
    /// word, checked by nobody: whoever is reached there still has to prove that he is that peer.
    pub async fn addresses_of(&self, peers: Vec<PeerId>) -> Vec<Vec<Multiaddr>> {
        let unknown = vec![Vec::new(); peers.len()];
        self.ask(|reply| Command::AddressesOf { peers, reply }).await.unwrap_or(unknown)
    }

    /// Subscribes to a topic: its frames arrive as events from now on. Joining twice is joining once.
    ///
    /// # Errors
    /// The name is not a topic, or too many are joined.
    pub async fn join(&self, topic: &str) -> Result<(), NetworkError> {
        self.check_topic(topic)?;
        self.ask(|reply| Command::Join { topic: topic.into(), reply }).await?
    }

    /// Unsubscribes. Frames already under way may still arrive.
    pub async fn leave(&self, topic: &str) {
        // Once stopped there is nothing to leave.
        let _ = self.ask(|reply| Command::Leave { topic: topic.into(), reply }).await;
    }

    /// Queues a frame for the topic's subscribers, waiting while too much is queued. The topic need not be joined.
    /// Frames of one topic arrive in the order these calls were made. Dropping the future before it is ready queues
    /// nothing.
    ///
    /// # Errors
    /// The frame is too large, the name is not a topic, or the network was stopped; nothing was sent.
    pub async fn publish(&self, topic: &str, frame: Bytes) -> Result<Published, NetworkError> {
        self.check_topic(topic)?;
        let (size, limit) = (frame.len(), self.limits.max_frame);
        let permits = u32::try_from(size.max(1)).unwrap_or(u32::MAX);
        if size > limit {
            return Err(NetworkError::TooLarge { what: "frame", size, limit });
        }
        let room = self.room.clone().acquire_many_owned(permits).await.map_err(|_| NetworkError::Stopped)?;
        self.outgoing.send(Outgoing { topic: topic.into(), frame, room }).await.map_err(|_| NetworkError::Stopped)?;
        Ok(Published { peers: self.count(topic) })
    }

    /// Returns when every frame queued so far was handed to gossip, or given up because nobody drained it.
    pub async fn flush(&self) {
        let _ = self.ask(|reply| Command::Flush { reply }).await;
    }

    /// How many connected peers are subscribed to a topic.
    pub async fn peers_on(&self, topic: &str) -> usize {
        self.count(topic)
    }

    /// Returns when at least so many connected peers are subscribed, or the network was stopped. The caller adds the timeout.
    pub async fn wait_for_peers(&self, topic: &str, at_least: usize) {
        self.wait_for_count(topic, |count| count >= at_least).await;
    }

    /// Returns when no connected peer is subscribed any more, or the network was stopped. The caller adds the timeout.
    pub async fn wait_for_no_peers(&self, topic: &str) {
        self.wait_for_count(topic, |count| count == 0).await;
    }

    async fn wait_for_count(&self, topic: &str, enough: impl Fn(usize) -> bool) {
        let mut counts = self.counts.subscribe();
        tokio::select! {
            // The sender lives in this handle, so the wait cannot fail.
            _ = counts.wait_for(|counts| enough(counts.get(topic).copied().unwrap_or(0))) => {}
            () = self.commands.closed() => {}
        }
    }

    /// Stores a record here and at the DHT's nearest peers, which keep it until it expires. Ready when each of them has it
    /// or failed to take it, after ten seconds at most, and says how many have it. While this node runs, it publishes the record again from time to
    /// time and when it meets new peers: none being there yet is no error.
    ///
    /// # Errors
    /// The value is too large, or too many records are kept or under way.
    pub async fn put_record(&self, key: Vec<u8>, value: Vec<u8>, expires_in: Duration) -> Result<usize, NetworkError> {
        let (size, limit) = (value.len(), self.limits.max_record);
        if size > limit {
            return Err(NetworkError::TooLarge { what: "record", size, limit });
        }
        self.ask(|reply| Command::Put { key, value, expires_in, reply }).await?
    }

    /// Publishes what was put under this key no more, and keeps it no longer. What others hold stays until it expires.
    pub async fn forget_record(&self, key: Vec<u8>) {
        let _ = self.ask(|reply| Command::Forget { key, reply }).await;
    }

    /// Looks a key up, here and in the DHT: every distinct value that passes the gate, up to a limit. None is no error.
    ///
    /// # Errors
    /// Too many lookups are under way.
    pub async fn get_record(&self, key: Vec<u8>) -> Result<Vec<Vec<u8>>, NetworkError> {
        self.ask(|reply| Command::Get { key, reply }).await?
    }

    /// Asks a peer, dialing it at the addresses (or those the DHT knows) if there is no connection.
    /// Dropping the future does not recall the request.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn request(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        request: Vec<u8>,
    ) -> Result<Vec<u8>, RequestError> {
        let (size, limit) = (request.len(), self.limits.max_request);
        if size > limit {
            return Err(RequestError::TooLarge { size, limit });
        }
        self.ask(|reply| Command::Request(Asked { peer, addresses, request, reply }))
            .await
            .map_err(|_| RequestError::Stopped)?
    }

    /// Connects to an address, and returns when connected. At once if it names a peer that is connected already.
    ///
    /// # Errors
    /// Nobody answers there, or somebody other than the address names.
    pub async fn dial(&self, address: Multiaddr) -> Result<(), NetworkError> {
        self.ask(|reply| Command::Dial { address, reply }).await?
    }

    /// How many peers are connected.
    pub async fn connected_peers(&self) -> usize {
        self.ask(|reply| Command::ConnectedPeers { reply }).await.unwrap_or(0)
    }

    /// Sends what is queued, closes every connection and frees the ports. Returns when that is done; calling it again is
    /// harmless.
    pub async fn stop(&self) {
        self.room.close();
        let _ = self.ask(|reply| Command::Stop { reply }).await;
        self.commands.closed().await;
    }

    fn check_topic(&self, topic: &str) -> Result<(), NetworkError> {
        match topic.len() <= MAX_TOPIC && (self.is_topic)(topic) {
            true => Ok(()),
            false => Err(NetworkError::NotATopic(topic.into())),
        }
    }

    fn count(&self, topic: &str) -> usize {
        self.counts.borrow().get(topic).copied().unwrap_or(0)
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, NetworkError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| NetworkError::Stopped)?;
        answer.await.map_err(|_| NetworkError::Stopped)
    }

    pub(super) fn topic_check<G: Gate>(gate: Arc<G>) -> Arc<dyn Fn(&str) -> bool + Send + Sync> {
        Arc::new(move |topic| gate.is_topic(topic))
    }
}
