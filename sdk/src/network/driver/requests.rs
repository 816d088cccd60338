//! Questions to peers and from peers.

use std::io;

use libp2p::request_response::{Event, Message, OutboundFailure};

use super::{
    super::{Gate, NetworkEvent, RequestError, Requested, bootstrap::peer_of, handle::Asked, inbound::Answer},
    Driver,
};

impl<G: Gate> Driver<G> {
    pub(super) fn ask(&mut self, Asked { peer, mut addresses, request, reply }: Asked) {
        let limit = self.limits.outbound_requests;
        if self.asked.len() >= limit {
            let _ = reply.send(Err(RequestError::Busy(limit)));
            return;
        }
        // An address that names somebody else cannot lead to this peer.
        addresses.retain(|address| peer_of(address).is_none_or(|named| named == peer));
        let id = self.swarm.behaviour_mut().requests.send_request_with_addresses(&peer, request, addresses);
        self.asked.insert(id, reply);
    }

    pub(super) fn on_request_event(&mut self, event: Event<Vec<u8>, Vec<u8>>) {
        match event {
            Event::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                let has_room = match &self.requests {
                    Some(requests) => requests.capacity() > 0,
                    None => self.deliveries.has_room(),
                };
                match has_room.then(|| self.inbound.admit(peer, channel)).flatten() {
                    Some(reply) => self.requested(Requested { from: peer, request, reply }),
                    None => tracing::debug!(%peer, "too many requests, one is dropped"),
                }
            }
            Event::Message { message: Message::Response { request_id, response }, .. } => {
                if let Some(reply) = self.asked.remove(&request_id) {
                    let _ = reply.send(Ok(response));
                }
            }
            Event::OutboundFailure { peer, request_id, error, .. } => {
                if let Some(reply) = self.asked.remove(&request_id) {
                    let _ = reply.send(Err(match error {
                        OutboundFailure::DialFailure => RequestError::Unreachable(peer),
                        OutboundFailure::Timeout => RequestError::Timeout(peer),
                        OutboundFailure::ConnectionClosed => RequestError::Closed(peer),
                        OutboundFailure::UnsupportedProtocols => RequestError::Unsupported(peer),
                        OutboundFailure::Io(source) if source.kind() == io::ErrorKind::InvalidData => {
                            RequestError::Malformed { peer, source }
                        }
                        // A stream that ends before the answer is how a peer declines.
                        OutboundFailure::Io(_) => RequestError::Closed(peer),
                    }));
                }
            }
            Event::InboundFailure { peer, error, .. } => {
                tracing::debug!(%peer, %error, "a peer's request failed");
            }
            Event::ResponseSent { .. } => {}
        }
    }

    fn requested(&mut self, requested: Requested) {
        match &self.requests {
            // What finds no room is declined by being dropped.
            Some(requests) => drop(requests.try_send(requested)),
            None => {
                let Requested { from, request, reply } = requested;
                self.deliveries.push(NetworkEvent::Request { from, request, reply });
            }
        }
    }

    pub(super) fn on_answer(&mut self, Answer { from, channel, answer }: Answer) {
        let Some(answer) = answer else { return };
        if answer.len() > self.limits.max_answer {
            tracing::error!(size = answer.len(), limit = self.limits.max_answer, "an answer is too large to send");
            return;
        }
        if self.swarm.behaviour_mut().answers.send_response(channel, answer).is_err() {
            tracing::debug!(peer = %from, "an answer came too late");
        }
    }
}
