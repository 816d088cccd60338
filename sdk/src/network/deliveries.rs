//! Events on their way to the application, which may be slow.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::NetworkEvent;

/// News about peers and addresses may use so much more room than frames and requests.
const ROOM_FOR_NEWS: usize = 1024;

/// A bounded channel with a bounded overflow behind it.
pub(super) struct Deliveries<A> {
    events: mpsc::Sender<NetworkEvent<A>>,
    overflow: VecDeque<NetworkEvent<A>>,
    limit: usize,
    /// So long peers are made to wait for an application that takes nothing; then frames are dropped instead.
    patience: Option<Duration>,
    stuck_since: Option<Instant>,
    dropped: u64,
}

impl<A> Deliveries<A> {
    pub(super) fn new(events: mpsc::Sender<NetworkEvent<A>>, limit: usize, patience: Option<Duration>) -> Self {
        Self { events, overflow: VecDeque::new(), limit, patience, stuck_since: None, dropped: 0 }
    }

    /// Whether another frame or request may be let in.
    pub(super) fn has_room(&self) -> bool {
        self.overflow.len() < self.limit
    }

    /// Whether peers should wait for the application a little.
    pub(super) fn is_crowded(&self, now: Instant) -> bool {
        self.stuck_since.is_some_and(|since| self.patience.is_none_or(|patience| now - since < patience))
    }

    /// When [`Self::is_crowded`] ends by itself.
    pub(super) fn patience_ends(&self, now: Instant) -> Option<Instant> {
        self.stuck_since.zip(self.patience).map(|(since, patience)| since + patience).filter(|end| *end > now)
    }

    pub(super) fn push(&mut self, event: NetworkEvent<A>) {
        let event = match self.overflow.is_empty() {
            true => match self.events.try_send(event) {
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => return,
                Err(mpsc::error::TrySendError::Full(event)) => event,
            },
            false => event,
        };
        let is_news = !matches!(event, NetworkEvent::Frame { .. } | NetworkEvent::Request { .. });
        let limit = self.limit + if is_news { ROOM_FOR_NEWS } else { 0 };
        if self.overflow.len() >= limit {
            self.count_dropped();
            return;
        }
        self.stuck_since.get_or_insert_with(Instant::now);
        self.overflow.push_back(event);
    }

    pub(super) fn count_dropped(&mut self) {
        self.dropped += 1;
        tracing::debug!(dropped_so_far = self.dropped, "the application is slow, an event is dropped");
    }

    /// Moves overflow on as the application takes events. Waits for ever while there is none; safe to drop.
    pub(super) async fn advance(&mut self) {
        if self.overflow.is_empty() {
            return std::future::pending().await;
        }
        match self.events.reserve().await {
            Ok(room) => {
                if let Some(event) = self.overflow.pop_front() {
                    room.send(event);
                }
            }
            Err(_) => self.overflow.clear(),
        }
        self.stuck_since = if self.overflow.is_empty() { None } else { Some(Instant::now()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    fn frame(accepted: usize) -> NetworkEvent<usize> {
        NetworkEvent::Frame { topic: "t".into(), from: libp2p::PeerId::random(), accepted }
    }

    #[tokio::test]
    async fn whoever_has_endless_patience_makes_peers_wait_and_loses_nothing() {
        let (sender, _events) = mpsc::channel(1);
        let mut deliveries = Deliveries::new(sender, 2, None);
        (0..2).for_each(|number| deliveries.push(frame(number)));
        assert!(deliveries.is_crowded(Instant::now() + PATIENCE * 1000));
        assert_eq!(deliveries.patience_ends(Instant::now()), None);
    }

    #[tokio::test]
    async fn a_slow_application_gets_events_in_order_and_loses_only_those_beyond_the_limit() {
        let (sender, mut events) = mpsc::channel(2);
        let mut deliveries = Deliveries::new(sender, 2, Some(PATIENCE));
        (0..5).for_each(|number| deliveries.push(frame(number)));
        assert!(!deliveries.has_room() && deliveries.dropped == 1);
        assert!(deliveries.is_crowded(Instant::now()));
        assert!(!deliveries.is_crowded(Instant::now() + PATIENCE));

        for expected in 0..4 {
            let Some(NetworkEvent::Frame { accepted, .. }) = events.recv().await else { panic!("a frame") };
            assert_eq!(accepted, expected);
            if !deliveries.overflow.is_empty() {
                deliveries.advance().await;
            }
        }
        assert!(!deliveries.is_crowded(Instant::now()));
    }
}
