//! Frames out, frames in, and who is on which topic.

use std::time::{Duration, Instant};

use libp2p::{PeerId, gossipsub};

use super::{
    super::{
        Gate, NetworkError, NetworkEvent, Outgoing, Role, Verdict,
        behaviour::topic_score,
        checks::{Checked, Unchecked},
        mark::Hop,
        outbox::Sent,
    },
    Driver,
};

/// The pause after a refusal. A queue is deep enough to keep a peer busy meanwhile; each attempt leaves a copy in
/// gossip's history, so they must not be many.
pub(super) const FIRST_RETRY: Duration = Duration::from_millis(20);
const LONGEST_RETRY: Duration = Duration::from_millis(320);

impl<G: Gate> Driver<G> {
    pub(super) fn on_outgoing(&mut self, outgoing: Outgoing) {
        self.take(Some(outgoing));
    }

    /// Moves what waits in the channel to the outbox, without waiting for more.
    pub(super) fn take_outgoing(&mut self) {
        self.take(None);
    }

    fn take(&mut self, first: Option<Outgoing>) {
        // No more than are there now: a publisher as fast as this task must not keep it here.
        let waiting = self.outgoing.len();
        let rest = std::iter::from_fn(|| self.outgoing.try_recv().ok()).take(waiting);
        let sizes = first.into_iter().chain(rest).map(|outgoing| {
            let size = outgoing.frame.len();
            self.outbox.push(outgoing);
            size
        });
        self.pulse.took(Instant::now(), sizes);
    }

    pub(super) fn send_outbox(&mut self, now: Instant) {
        if self.retry.is_some_and(|retry| retry > now) {
            return;
        }
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        let mut sent = 0;
        let refused = self.outbox.hand_over(now, |topic, message| {
            match gossip.publish(gossipsub::TopicHash::from_raw(topic), message) {
                Err(gossipsub::PublishError::AllQueuesFull(_)) => Sent::Full,
                Ok(_) | Err(gossipsub::PublishError::NoPeersSubscribedToTopic) => {
                    sent += 1;
                    Sent::Done
                }
                Err(error) => {
                    tracing::warn!(topic, %error, "a batch was not sent");
                    Sent::Done
                }
            }
        });
        // Only peers that take nothing at all are asked ever less often.
        self.retry_pause = match sent {
            0 if refused => (2 * self.retry_pause).min(LONGEST_RETRY),
            _ => FIRST_RETRY,
        };
        self.retry = refused.then(|| now + self.retry_pause);
        let outbox = &self.outbox;
        // Whoever is told here may be gone; dropping its sender is the same to it.
        for (_, reply) in self.flushes.extract_if(.., |(mark, _)| outbox.has_sent(*mark)) {
            let _ = reply.send(());
        }
    }

    pub(super) fn join(&mut self, topic: &str) -> Result<(), NetworkError> {
        if !self.joined.contains(topic) {
            self.subscribe(topic)?;
            self.joined.insert(topic.into());
            if let Some(hop) = self.followed.remove(topic) {
                self.unmark(topic, hop);
            }
        }
        Ok(())
    }

    pub(super) fn leave(&mut self, topic: &str) {
        if !self.joined.remove(topic) {
            return;
        }
        match self.wanted(topic) {
            Some(hop) => {
                self.mark(topic, hop);
                self.followed.insert(topic.into(), hop);
            }
            None => {
                self.unsubscribe(topic);
                self.fill_places();
            }
        }
    }

    fn subscribe(&mut self, topic: &str) -> Result<(), NetworkError> {
        if self.followed.contains_key(topic) {
            return Ok(());
        }
        self.has_place()?;
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        let name = gossipsub::IdentTopic::new(topic);
        gossip.subscribe(&name).map_err(|_| NetworkError::NotATopic(topic.into()))?;
        if let Err(error) = gossip.set_topic_params(name, topic_score()) {
            tracing::warn!(topic, error, "peers are not scored on this topic");
        }
        Ok(())
    }

    fn has_place(&self) -> Result<(), NetworkError> {
        let limit = self.limits.topics;
        if self.joined.len() + self.followed.len() >= limit {
            return Err(NetworkError::TooMany { what: "topics", limit });
        }
        Ok(())
    }

    fn unsubscribe(&mut self, topic: &str) {
        self.swarm.behaviour_mut().gossip.unsubscribe(&gossipsub::IdentTopic::new(topic));
    }

    pub(super) fn on_gossip(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message { propagation_source, message_id, message } => self.on_message(Unchecked {
                topic: message.topic.into_string(),
                from: propagation_source,
                id: message_id,
                message: message.data,
            }),
            gossipsub::Event::Subscribed { peer_id, topic } => match Hop::of(topic.as_str()) {
                Some((topic, hop)) => self.on_marked(peer_id, topic, hop, true),
                None => self.on_joined(peer_id, topic.into_string()),
            },
            gossipsub::Event::Unsubscribed { peer_id, topic } => match Hop::of(topic.as_str()) {
                Some((topic, hop)) => self.on_marked(peer_id, topic, hop, false),
                None => {
                    let topic = topic.into_string();
                    if self.crowd.left(peer_id, &topic) {
                        self.on_left(peer_id, topic);
                    }
                }
            },
            gossipsub::Event::SlowPeer { peer_id, .. } => {
                tracing::debug!(peer = %peer_id, "a peer does not keep up, it missed messages");
            }
            gossipsub::Event::GossipsubNotSupported { peer_id } => {
                tracing::debug!(peer = %peer_id, "a peer does not speak gossipsub");
            }
        }
    }

    fn on_message(&mut self, unchecked: Unchecked) {
        if Hop::of(&unchecked.topic).is_some() {
            // Nobody sends anything there.
            self.report(&unchecked.id, &unchecked.from, gossipsub::MessageAcceptance::Reject);
        } else if self.deliveries.has_room() && self.checks.has_room() {
            self.checks.push(unchecked);
        } else {
            self.deliveries.count_dropped();
            self.report(&unchecked.id, &unchecked.from, gossipsub::MessageAcceptance::Ignore);
        }
    }

    pub(super) fn on_checked(&mut self, checked: Vec<Checked<G::Accepted>>) {
        for Checked { topic, from, id, outcome } in checked {
            match outcome {
                Ok(accepted) => {
                    self.report(&id, &from, gossipsub::MessageAcceptance::Accept);
                    self.deliveries.push(NetworkEvent::Frame { topic, from, accepted });
                }
                Err(Verdict::Ignore) => self.report(&id, &from, gossipsub::MessageAcceptance::Ignore),
                Err(Verdict::Reject) => {
                    tracing::debug!(peer = %from, topic, "a frame was rejected");
                    self.report(&id, &from, gossipsub::MessageAcceptance::Reject);
                }
            }
        }
    }

    fn report(&mut self, id: &gossipsub::MessageId, from: &PeerId, acceptance: gossipsub::MessageAcceptance) {
        self.swarm.behaviour_mut().gossip.report_message_validation_result(id, from, acceptance);
    }

    fn on_joined(&mut self, peer: PeerId, topic: String) {
        if !self.crowd.joined(peer, &topic) {
            return;
        }
        self.follow(&topic);
        self.deliveries.push(NetworkEvent::PeerJoined { peer, topic });
    }

    fn on_marked(&mut self, peer: PeerId, topic: &str, hop: Hop, is_set: bool) {
        self.crowd.marked(peer, topic, hop, is_set);
        self.follow(topic);
    }

    /// What a relay's mark on a topic is to be; `None` where it is not to follow it.
    fn wanted(&self, topic: &str) -> Option<Hop> {
        (self.role == Role::Relay).then(|| self.crowd.hop(topic)).flatten()
    }

    /// Follows a topic, or no more, or with another mark: as those who are on it now want it.
    fn follow(&mut self, topic: &str) {
        if self.joined.contains(topic) {
            return;
        }
        match (self.followed.get(topic).copied(), self.wanted(topic)) {
            (Some(old), Some(new)) if old != new => {
                // Never without a mark in between, or others would take this for a listener.
                self.mark(topic, new);
                self.unmark(topic, old);
                self.followed.insert(topic.into(), new);
            }
            (None, Some(hop)) => self.begin_to_follow(topic, hop),
            (Some(hop), None) => {
                self.followed.remove(topic);
                self.unsubscribe(topic);
                self.unmark(topic, hop);
                self.fill_places();
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    fn begin_to_follow(&mut self, topic: &str, hop: Hop) {
        let followed = self.has_place().and_then(|()| {
            // The mark first: who hears of the topic is to know already what this node is on it.
            self.mark(topic, hop);
            self.subscribe(topic).inspect_err(|_| self.unmark(topic, hop))
        });
        match followed {
            Ok(()) => drop(self.followed.insert(topic.into(), hop)),
            Err(error) => {
                self.short_of_places |= matches!(error, NetworkError::TooMany { .. });
                tracing::debug!(%error, topic, "a topic is not followed");
            }
        }
    }

    fn mark(&mut self, topic: &str, hop: Hop) {
        let mark = gossipsub::IdentTopic::new(hop.mark(topic));
        if let Err(error) = self.swarm.behaviour_mut().gossip.subscribe(&mark) {
            tracing::debug!(%error, topic, "a topic is followed without saying so");
        }
    }

    fn unmark(&mut self, topic: &str, hop: Hop) {
        self.unsubscribe(&hop.mark(topic));
    }

    /// A place became free: whoever waited for one gets it.
    fn fill_places(&mut self) {
        if !std::mem::take(&mut self.short_of_places) {
            return;
        }
        for topic in self.crowd.topics() {
            self.follow(&topic);
            if self.short_of_places {
                return;
            }
        }
    }

    /// A peer left a topic, by unsubscribing or by going away.
    pub(super) fn on_left(&mut self, peer: PeerId, topic: String) {
        self.follow(&topic);
        self.deliveries.push(NetworkEvent::PeerLeft { peer, topic });
    }
}
