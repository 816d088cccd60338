//! Who is on which topic. The swarm's task writes, every handle may look.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use libp2p::PeerId;
use tokio::sync::watch;

/// How many connected peers each topic has.
pub(super) type Counts = HashMap<String, usize>;

/// The subscriptions of connected peers, as gossip told them. Gossip's subscription filter bounds both directions.
pub(super) struct Crowd {
    topics_of: HashMap<PeerId, HashSet<String>>,
    counts: Arc<watch::Sender<Counts>>,
}

impl Crowd {
    pub(super) fn new(counts: Arc<watch::Sender<Counts>>) -> Self {
        Self { topics_of: HashMap::new(), counts }
    }

    /// True if this is news.
    pub(super) fn joined(&mut self, peer: PeerId, topic: &str) -> bool {
        let new = self.topics_of.entry(peer).or_default().insert(topic.into());
        if new {
            self.counts.send_modify(|counts| *counts.entry(topic.into()).or_default() += 1);
        }
        new
    }

    /// True if this is news.
    pub(super) fn left(&mut self, peer: PeerId, topic: &str) -> bool {
        let known = self.topics_of.get_mut(&peer).is_some_and(|topics| topics.remove(topic));
        if known {
            self.counts.send_modify(|counts| one_less(counts, topic));
        }
        known
    }

    /// Forgets a peer; returns the topics it was on.
    pub(super) fn gone(&mut self, peer: PeerId) -> HashSet<String> {
        let topics = self.topics_of.remove(&peer).unwrap_or_default();
        if !topics.is_empty() {
            self.counts.send_modify(|counts| topics.iter().for_each(|topic| one_less(counts, topic)));
        }
        topics
    }

    /// Every topic somebody is on.
    pub(super) fn topics(&self) -> Vec<String> {
        self.counts.borrow().keys().cloned().collect()
    }

    pub(super) fn is_empty_on(&self, topic: &str) -> bool {
        !self.counts.borrow().contains_key(topic)
    }
}

fn one_less(counts: &mut Counts, topic: &str) {
    if let Some(count) = counts.get_mut(topic) {
        *count -= 1;
        if *count == 0 {
            counts.remove(topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_follow_joining_leaving_and_going() {
        let counts = Arc::new(watch::Sender::new(Counts::new()));
        let mut crowd = Crowd::new(counts.clone());
        let (a, b) = (PeerId::random(), PeerId::random());
        assert!(crowd.joined(a, "t") && !crowd.joined(a, "t") && crowd.joined(b, "t"));
        assert_eq!(counts.borrow().get("t"), Some(&2));
        assert!(crowd.left(a, "t") && !crowd.left(a, "t"));
        assert_eq!(crowd.gone(b), HashSet::from(["t".to_owned()]));
        assert!(crowd.is_empty_on("t") && counts.borrow().is_empty());
    }
}
