//! Staying connected to the bootstrap peers: when to dial which.
//!
//! Pure: it is told what happened and the time, and says whom to dial.

use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol, swarm::ConnectionId};

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The bootstrap addresses and how each is doing.
pub(super) struct Bootstrap {
    targets: Vec<Target>,
}

struct Target {
    address: Multiaddr,
    /// Named by the address, or learned when the connection was up.
    peer: Option<PeerId>,
    state: State,
    failures: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting { until: Instant },
    Dialing { connection: Option<ConnectionId> },
    Connected,
}

impl Bootstrap {
    pub(super) fn new(addresses: Vec<Multiaddr>, own: PeerId, now: Instant) -> Self {
        let targets = addresses
            .into_iter()
            .map(|address| Target {
                peer: peer_of(&address),
                address,
                state: State::Waiting { until: now },
                failures: 0,
            })
            .filter(|target| target.peer != Some(own))
            .collect();
        Self { targets }
    }

    /// Addresses to dial now, each with the index for [`Self::dialing`].
    pub(super) fn due(&mut self, now: Instant) -> Vec<(usize, Multiaddr)> {
        let mut due = Vec::new();
        for (index, target) in self.targets.iter_mut().enumerate() {
            if matches!(target.state, State::Waiting { until } if until <= now) {
                target.state = State::Dialing { connection: None };
                due.push((index, target.address.clone()));
            }
        }
        due
    }

    /// The dial of a target has begun as this connection.
    pub(super) fn dialing(&mut self, index: usize, connection: ConnectionId) {
        if let Some(target) = self.targets.get_mut(index) {
            target.state = State::Dialing { connection: Some(connection) };
        }
    }

    /// Whoever opened the connection: a known bootstrap peer needs no dialing now.
    pub(super) fn connected(&mut self, peer: PeerId, connection: ConnectionId) {
        for target in &mut self.targets {
            if target.state == (State::Dialing { connection: Some(connection) }) {
                target.peer = Some(peer);
            }
            if target.peer == Some(peer) {
                target.state = State::Connected;
                target.failures = 0;
            }
        }
    }

    /// A dial failed, or could not begin (then without a connection). `jitter` is in 0..1.
    pub(super) fn failed(&mut self, connection: Option<ConnectionId>, now: Instant, jitter: f64) {
        for target in &mut self.targets {
            if target.state == (State::Dialing { connection }) {
                target.failures = target.failures.saturating_add(1);
                target.state = State::Waiting { until: now + pause(target.failures, jitter) };
            }
        }
    }

    /// The last connection to a peer is gone.
    pub(super) fn disconnected(&mut self, peer: PeerId, now: Instant, jitter: f64) {
        for target in &mut self.targets {
            if target.peer == Some(peer) && target.state == State::Connected {
                target.state = State::Waiting { until: now + pause(1, jitter) };
            }
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.targets
            .iter()
            .filter_map(|target| match target.state {
                State::Waiting { until } => Some(until),
                State::Dialing { .. } | State::Connected => None,
            })
            .min()
    }

    /// The address of a bootstrap peer, if this is one.
    pub(super) fn address_of(&self, peer: PeerId) -> Option<&Multiaddr> {
        self.targets.iter().find(|target| target.peer == Some(peer)).map(|target| &target.address)
    }
}

/// Doubles with each failure, then up to half of it is taken away at random, so that peers of one meeting point that
/// restarted do not all come back at once.
fn pause(failures: u32, jitter: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(LONGEST_PAUSE).mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
}

/// The peer an address ends in.
pub(super) fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_target_is_dialed_ever_less_often_and_at_once_after_a_lost_connection() {
        let start = Instant::now();
        let address: Multiaddr = "/ip4/10.0.0.1/tcp/1".parse().expect("an address");
        let mut bootstrap = Bootstrap::new(vec![address], PeerId::random(), start);
        assert_eq!(bootstrap.due(start).len(), 1);
        assert!(bootstrap.due(start).is_empty());

        let first = ConnectionId::new_unchecked(1);
        bootstrap.dialing(0, first);
        bootstrap.failed(Some(ConnectionId::new_unchecked(9)), start, 0.0);
        assert_eq!(bootstrap.next_due(), None);
        bootstrap.failed(Some(first), start, 0.0);
        assert_eq!(bootstrap.next_due(), Some(start + FIRST_PAUSE));

        let later = start + FIRST_PAUSE;
        assert_eq!(bootstrap.due(later).len(), 1);
        bootstrap.failed(None, later, 0.0);
        assert_eq!(bootstrap.next_due(), Some(later + 2 * FIRST_PAUSE));

        let much_later = later + LONGEST_PAUSE;
        let peer = PeerId::random();
        assert_eq!(bootstrap.due(much_later).len(), 1);
        bootstrap.dialing(0, first);
        bootstrap.connected(peer, first);
        assert_eq!(bootstrap.next_due(), None);
        bootstrap.disconnected(peer, much_later, 1.0);
        assert_eq!(bootstrap.next_due(), Some(much_later + FIRST_PAUSE / 2));
    }

    #[test]
    fn pauses_end_at_a_minute() {
        assert_eq!(pause(u32::MAX, 0.0), LONGEST_PAUSE);
    }
}
