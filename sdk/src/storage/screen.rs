//! A storage node's front door: which requests are worth a page.
//!
//! Cheap checks come before costly ones, as for keys: addressee, freshness, replay, throttle per peer and in total, then one
//! signature recovery outside the lock, then throttle per requester and the number of his pages that are being made at this
//! moment. Permission and the disk come after this module.
//!
//! ```text
//! Received ──glance──▶ worth a signature check ──verify──▶ Verified ──admit──▶ Ticket ──done──▶ paid for what was read
//!              └──▶ silence                                      └──▶ Throttled
//! ```
//! A page costs a token, and one more for every [`READ_PER_TOKEN`] messages that were looked at for it: a filter that finds
//! little makes the disk work all the same.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;

use crate::exchange::{Bucket, Buckets, Rate};
use crate::identity::UserId;
use crate::time::Timestamp;
use crate::wire::{RequestId, ResendRequest};

/// What a storage node is willing to do for readers.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ResendLimits {
    /// How far a request's time may be from ours, either way.
    pub freshness: Duration,
    /// Requests of one connected peer, before any signature is checked.
    pub per_peer: Rate,
    /// Pages of one requester, and what they cost beside.
    pub per_requester: Rate,
    /// Requests in total.
    pub total: Rate,
    /// Pages of one requester being made at a time.
    pub at_once: usize,
}

/// What a peer pays, in tokens of its own, for a signature checked in vain.
const VAIN_CHECK: u32 = 20;
/// Messages looked at that cost as much as a page.
const READ_PER_TOKEN: usize = 1024;
/// Request ids remembered, peers and requesters whose rate is.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(131_072).unwrap();
const RATES: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();

impl Default for ResendLimits {
    fn default() -> Self {
        Self {
            freshness: Duration::from_secs(60),
            per_peer: Rate { per_second: 200, burst: 400 },
            per_requester: Rate { per_second: 200, burst: 400 },
            total: Rate { per_second: 2000, burst: 2000 },
            at_once: 4,
        }
    }
}

/// Screens requests for one storage node.
#[derive(Debug)]
pub struct ResendScreen {
    me: UserId,
    limits: ResendLimits,
    seen: LruCache<(UserId, RequestId), ()>,
    peers: Buckets<Vec<u8>>,
    requesters: Buckets<UserId>,
    total: Bucket,
    under_way: HashMap<UserId, usize>,
}

/// A page may be made for this requester; [`ResendScreen::done`] ends it.
#[derive(Debug)]
#[must_use]
pub struct Ticket(UserId);

impl ResendScreen {
    /// For requests addressed to `me`.
    pub fn new(me: UserId, limits: ResendLimits, now: Timestamp) -> Self {
        Self {
            me,
            limits,
            seen: LruCache::new(REMEMBERED),
            peers: Buckets::new(limits.per_peer, RATES),
            requesters: Buckets::new(limits.per_requester, RATES),
            total: Bucket::full(limits.total, now),
            under_way: HashMap::new(),
        }
    }

    /// Whether what the connected `peer` sent is worth checking its signature; if not it gets no answer.
    pub fn glance(&mut self, now: Timestamp, peer: &[u8], claims: &ResendRequest) -> bool {
        let stale = now.since(claims.sent) > self.limits.freshness || claims.sent.since(now) > self.limits.freshness;
        claims.node == self.me
            && !stale
            && !self.seen.contains(&(claims.requester, claims.id))
            && self.peers.take(peer.to_vec(), now).is_ok()
            && self.total.take(now).is_ok()
    }

    /// A request that nobody signed: the peer it came through pays for the check.
    pub fn vain(&mut self, now: Timestamp, peer: &[u8]) {
        self.peers.charge(peer.to_vec(), VAIN_CHECK, now);
    }

    /// A request that is signed by its requester. `Ok(None)`: it was seen before, and gets no answer.
    ///
    /// # Errors
    /// How long the requester should wait before he asks again.
    pub fn admit(&mut self, now: Timestamp, request: &ResendRequest) -> Result<Option<Ticket>, Duration> {
        if self.seen.put((request.requester, request.id), ()).is_some() {
            return Ok(None);
        }
        self.requesters.take(request.requester, now)?;
        let under_way = self.under_way.entry(request.requester).or_default();
        if *under_way >= self.limits.at_once {
            return Err(Duration::from_millis(100));
        }
        *under_way += 1;
        Ok(Some(Ticket(request.requester)))
    }

    /// The page was made, or could not be.
    pub fn done(&mut self, now: Timestamp, ticket: Ticket, looked_at: usize) {
        let Ticket(requester) = ticket;
        let tokens = u32::try_from(looked_at / READ_PER_TOKEN).unwrap_or(u32::MAX);
        self.requesters.charge(requester, tokens, now);
        if let Some(under_way) = self.under_way.get_mut(&requester) {
            *under_way -= 1;
            if *under_way == 0 {
                self.under_way.remove(&requester);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Filter;
    use crate::stream::StreamId;
    use crate::wire::Span;

    const NOW: Timestamp = Timestamp::from_secs(1000);
    const ME: UserId = UserId::from_bytes([9; 20]);

    fn request(requester: u8, id: u8) -> ResendRequest {
        let part = StreamId::of(ME, "s").unwrap().part(0).unwrap();
        let (id, requester) = (RequestId([id; 16]), UserId::from_bytes([requester; 20]));
        let (span, filter) = (Span::Last(1), Filter::ALL);
        ResendRequest { id, part, node: ME, requester, sent: NOW, span, after: None, filter, proofs: Vec::new() }
    }

    fn screen(limits: ResendLimits) -> ResendScreen {
        ResendScreen::new(ME, limits, NOW)
    }

    #[test]
    fn what_is_stale_replayed_or_for_somebody_else_costs_no_signature_check() {
        let mut screen = screen(ResendLimits::default());
        assert!(screen.glance(NOW, b"p", &request(1, 1)));
        assert!(!screen.glance(NOW.plus(Duration::from_secs(61)), b"p", &request(1, 1)));
        assert!(!screen.glance(NOW.minus(Duration::from_secs(61)), b"p", &request(1, 1)));
        assert!(!screen.glance(NOW, b"p", &ResendRequest { node: UserId::from_bytes([8; 20]), ..request(1, 1) }));
        let ticket = screen.admit(NOW, &request(1, 1)).unwrap().unwrap();
        assert!(!screen.glance(NOW, b"p", &request(1, 1)));
        assert!(screen.admit(NOW, &request(1, 1)).unwrap().is_none(), "two at the same moment count once");
        screen.done(NOW, ticket, 0);
    }

    #[test]
    fn one_requester_has_so_many_pages_made_at_a_time_and_others_theirs() {
        let mut screen = screen(ResendLimits { at_once: 2, ..ResendLimits::default() });
        let first = screen.admit(NOW, &request(1, 1)).unwrap().unwrap();
        let _second = screen.admit(NOW, &request(1, 2)).unwrap().unwrap();
        assert!(screen.admit(NOW, &request(1, 3)).is_err());
        assert!(screen.admit(NOW, &request(2, 1)).unwrap().is_some());
        screen.done(NOW, first, 0);
        assert!(screen.admit(NOW, &request(1, 4)).unwrap().is_some());
    }

    #[test]
    fn a_page_for_which_much_was_read_costs_its_requester_more() {
        let per_requester = Rate { per_second: 1, burst: 10 };
        let mut screen = screen(ResendLimits { per_requester, ..ResendLimits::default() });
        let ticket = screen.admit(NOW, &request(1, 1)).unwrap().unwrap();
        screen.done(NOW, ticket, 16 * READ_PER_TOKEN);
        let wait = screen.admit(NOW, &request(1, 2)).unwrap_err();
        assert_eq!(wait, Duration::from_secs(8), "in debt by seven, and one to take");
    }

    #[test]
    fn what_nobody_signed_costs_the_peer_it_came_through_much_more() {
        let mut screen =
            screen(ResendLimits { per_peer: Rate { per_second: 1, burst: 30 }, ..ResendLimits::default() });
        assert!(screen.glance(NOW, b"liar", &request(1, 1)));
        screen.vain(NOW, b"liar");
        let passed = (2..100).filter(|id| screen.glance(NOW, b"liar", &request(1, *id))).count();
        assert_eq!(passed, 9);
    }

    #[test]
    fn a_flood_of_one_peer_leaves_the_others_their_share() {
        let mut screen = screen(ResendLimits { per_peer: Rate { per_second: 1, burst: 5 }, ..ResendLimits::default() });
        let passed = (0..100).filter(|id| screen.glance(NOW, b"loud", &request(1, *id))).count();
        assert_eq!(passed, 5);
        assert!(screen.glance(NOW, b"quiet", &request(2, 1)));
    }
}
