//! Who is on which topic. The swarm's task writes, every handle may look.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use libp2p::PeerId;
use tokio::sync::watch;

use super::mark::{Hop, Marks};

/// How many connected peers each topic has.
pub(super) type Counts = HashMap<String, usize>;

/// The subscriptions of connected peers, as gossip told them. Gossip's subscription filter bounds both directions.
pub(super) struct Crowd {
    peers: HashMap<PeerId, HashMap<String, Standing>>,
    /// Of those who are on a topic, how many at each distance.
    distances: HashMap<String, [usize; Hop::COUNT]>,
    counts: Arc<watch::Sender<Counts>>,
    topics_per_peer: usize,
}

/// One peer's standing on one topic: a mark may come before the topic, or stay behind it.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
struct Standing {
    is_on: bool,
    marks: Marks,
}

impl Standing {
    fn distance(self) -> Option<usize> {
        self.is_on.then(|| self.marks.distance())
    }
}

impl Crowd {
    pub(super) fn new(counts: Arc<watch::Sender<Counts>>, topics_per_peer: usize) -> Self {
        Self { peers: HashMap::new(), distances: HashMap::new(), counts, topics_per_peer }
    }

    /// True if this is news. A peer is believed so many topics; marks do not count.
    pub(super) fn joined(&mut self, peer: PeerId, topic: &str) -> bool {
        let on = self.peers.get(&peer).map_or(0, |topics| topics.values().filter(|standing| standing.is_on).count());
        on < self.topics_per_peer && self.change(peer, topic, |standing| standing.is_on = true)
    }

    /// True if this is news.
    pub(super) fn left(&mut self, peer: PeerId, topic: &str) -> bool {
        self.change(peer, topic, |standing| standing.is_on = false)
    }

    /// A peer says, or says no more, that it follows a topic for others.
    pub(super) fn marked(&mut self, peer: PeerId, topic: &str, hop: Hop, is_set: bool) {
        self.change(peer, topic, |standing| standing.marks.put(hop, is_set));
    }

    /// Forgets a peer; returns the topics it was on.
    pub(super) fn gone(&mut self, peer: PeerId) -> HashSet<String> {
        let topics = self.peers.remove(&peer).unwrap_or_default();
        let mut left = HashSet::new();
        for (topic, standing) in topics {
            if standing.is_on {
                self.count(&topic, standing.distance(), None);
                left.insert(topic);
            }
        }
        left
    }

    /// Every topic somebody is on.
    pub(super) fn topics(&self) -> Vec<String> {
        self.distances.keys().cloned().collect()
    }

    /// How far the nearest listener of a topic is from a node that follows it for these peers; `None`: there is none that counts.
    pub(super) fn hop(&self, topic: &str) -> Option<Hop> {
        let nearest = self.distances.get(topic)?.iter().position(|count| *count > 0)?;
        Hop::behind(nearest)
    }

    /// True if the peer came or went.
    fn change(&mut self, peer: PeerId, topic: &str, change: impl FnOnce(&mut Standing)) -> bool {
        let topics = self.peers.entry(peer).or_default();
        let before = topics.get(topic).copied().unwrap_or_default();
        let mut after = before;
        change(&mut after);
        if after == Standing::default() {
            topics.remove(topic);
        } else {
            topics.insert(topic.into(), after);
        }
        if topics.is_empty() {
            self.peers.remove(&peer);
        }
        self.count(topic, before.distance(), after.distance());
        before.is_on != after.is_on
    }

    fn count(&mut self, topic: &str, before: Option<usize>, after: Option<usize>) {
        if before == after {
            return;
        }
        let distances = self.distances.entry(topic.into()).or_default();
        if let Some(distance) = before {
            distances[distance] -= 1;
        }
        if let Some(distance) = after {
            distances[distance] += 1;
        }
        let total: usize = distances.iter().sum();
        if total == 0 {
            self.distances.remove(topic);
        }
        if before.is_none() || after.is_none() {
            self.counts.send_modify(|counts| match total {
                0 => drop(counts.remove(topic)),
                total => drop(counts.insert(topic.into(), total)),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crowd() -> (Crowd, Arc<watch::Sender<Counts>>) {
        let counts = Arc::new(watch::Sender::new(Counts::new()));
        (Crowd::new(counts.clone(), 2), counts)
    }

    #[test]
    fn counts_follow_joining_leaving_and_going() {
        let (mut crowd, counts) = crowd();
        let (a, b) = (PeerId::random(), PeerId::random());
        assert!(crowd.joined(a, "t") && !crowd.joined(a, "t") && crowd.joined(b, "t"));
        assert_eq!(counts.borrow().get("t"), Some(&2));
        assert!(crowd.left(a, "t") && !crowd.left(a, "t"));
        assert_eq!(crowd.gone(b), HashSet::from(["t".to_owned()]));
        assert!(crowd.topics().is_empty() && counts.borrow().is_empty());
        assert!(crowd.peers.is_empty());
    }

    #[test]
    fn a_peer_is_believed_so_many_topics_and_marks_are_none() {
        let (mut crowd, _) = crowd();
        let peer = PeerId::random();
        let [one, ..] = Hop::ALL;
        crowd.marked(peer, "t", one, true);
        assert!(crowd.joined(peer, "t") && crowd.joined(peer, "u") && !crowd.joined(peer, "v"));
        assert!(crowd.left(peer, "u") && crowd.joined(peer, "v"));
    }

    #[test]
    fn the_nearest_listener_decides_and_one_that_is_too_far_away_is_none() {
        let (mut crowd, _) = crowd();
        let (a, b) = (PeerId::random(), PeerId::random());
        let [one, two, three, four] = Hop::ALL;
        assert_eq!(crowd.hop("t"), None);
        crowd.marked(a, "t", two, true);
        assert_eq!(crowd.hop("t"), None, "a mark alone is nobody");
        crowd.joined(a, "t");
        assert_eq!(crowd.hop("t"), Some(three));
        // Of two marks the one that is farther counts, so that a mark can be changed without seeming nearer.
        crowd.marked(a, "t", three, true);
        assert_eq!(crowd.hop("t"), Some(four));
        crowd.joined(b, "t");
        assert_eq!(crowd.hop("t"), Some(one));
        crowd.gone(b);
        crowd.marked(a, "t", four, true);
        assert_eq!(crowd.hop("t"), None);
        crowd.left(a, "t");
        assert!(crowd.topics().is_empty());
    }

    /// Relays that follow for each other only, each told what the others say in turn.
    #[test]
    fn relays_that_have_only_each_other_all_leave_in_a_few_rounds() {
        for relays in 2..6_usize {
            let ids: Vec<PeerId> = (0..relays).map(|_| PeerId::random()).collect();
            let mut crowds: Vec<Crowd> = (0..relays).map(|_| crowd().0).collect();
            let listener = PeerId::random();
            crowds[0].joined(listener, "t");
            let mut says = vec![None; relays];
            let mut settle = |crowds: &mut Vec<Crowd>, rounds: usize| {
                for _ in 0..rounds {
                    for relay in 0..relays {
                        let (old, new) = (says[relay], crowds[relay].hop("t"));
                        says[relay] = new;
                        let others = crowds.iter_mut().enumerate().filter(|(other, _)| *other != relay);
                        others.for_each(|(_, crowd)| tell(crowd, ids[relay], old, new));
                    }
                }
                says.clone()
            };
            let said = settle(&mut crowds, 10);
            assert!(said.iter().all(Option::is_some), "{said:?}");
            crowds[0].gone(listener);
            let said = settle(&mut crowds, 10);
            assert!(said.iter().all(Option::is_none), "{said:?}");
        }
    }

    fn tell(crowd: &mut Crowd, relay: PeerId, old: Option<Hop>, new: Option<Hop>) {
        if let Some(hop) = new {
            crowd.marked(relay, "t", hop, true);
            crowd.joined(relay, "t");
        } else {
            crowd.left(relay, "t");
        }
        if let Some(hop) = old.filter(|_| old != new) {
            crowd.marked(relay, "t", hop, false);
        }
    }
}
