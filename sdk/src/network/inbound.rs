//! Peers' requests while they are being answered: bounded in total and per peer.

use std::collections::HashMap;

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{PeerId, request_response::ResponseChannel};
use tokio::sync::oneshot;

use super::NetworkLimits;

/// The way back to a peer that asked. Dropping it answers nothing: the peer sees a closed stream.
#[derive(Debug)]
pub struct Reply {
    answer: oneshot::Sender<Vec<u8>>,
}

impl Reply {
    /// Sends the answer, if the peer still waits. An answer above `max_answer` is not sent, and logged.
    pub fn send(self, answer: Vec<u8>) {
        // An error only means that the network was stopped meanwhile.
        let _ = self.answer.send(answer);
    }
}

/// An answer that is ready to go.
pub(super) struct Answer {
    pub(super) from: PeerId,
    pub(super) channel: ResponseChannel<Vec<u8>>,
    /// None: the reply was dropped.
    pub(super) answer: Option<Vec<u8>>,
}

/// The requests that the application has not answered yet. A slot is taken until the reply is used or dropped, whether or
/// not the peer still waits: so the limits bound the application's work as well.
pub(super) struct Inbound {
    per_peer: HashMap<PeerId, usize>,
    waiting: FuturesUnordered<BoxFuture<'static, Answer>>,
    max: usize,
    max_per_peer: usize,
}

impl Inbound {
    pub(super) fn new(limits: &NetworkLimits) -> Self {
        Self {
            per_peer: HashMap::new(),
            waiting: FuturesUnordered::new(),
            max: limits.inbound_requests,
            max_per_peer: limits.inbound_requests_per_peer,
        }
    }

    /// A reply to hand up, or None when the peer, or all of them together, ask too much; the request is then dropped.
    pub(super) fn admit(&mut self, from: PeerId, channel: ResponseChannel<Vec<u8>>) -> Option<Reply> {
        let of_peer = self.per_peer.get(&from).copied().unwrap_or(0);
        if self.waiting.len() >= self.max || of_peer >= self.max_per_peer {
            return None;
        }
        self.per_peer.insert(from, of_peer + 1);
        let (sender, receiver) = oneshot::channel();
        self.waiting.push(receiver.map(move |answer| Answer { from, channel, answer: answer.ok() }).boxed());
        Some(Reply { answer: sender })
    }

    /// The next answer. Waits for ever while no request is open; safe to drop.
    pub(super) async fn next(&mut self) -> Answer {
        let Some(answer) = self.waiting.next().await else {
            return std::future::pending().await;
        };
        if let Some(count) = self.per_peer.get_mut(&answer.from) {
            *count -= 1;
            if *count == 0 {
                self.per_peer.remove(&answer.from);
            }
        }
        answer
    }
}
