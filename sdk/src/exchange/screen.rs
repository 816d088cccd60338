//! The publisher's front door: which requests are worth an answer.
//!
//! Cheap checks come before costly ones: frame, addressee, freshness, replay, throttle per peer and in total, then one
//! signature recovery, then throttle per subscriber. Permission (cached, then its source) and RSA come after this module.
//! What is malformed, stale, replayed or for somebody else gets no answer and costs no asymmetric operation.
//!
//! ```text
//! bytes ──decode──▶ Received ──glance──▶ Candidate ──verify──▶ Checked ──admit──▶ Admitted
//!            └──▶ Dropped         └──▶ Dropped, Refused                  └──▶ Dropped, Refused
//! ```
//! Only `glance` and `admit` need the screen: whoever shares it decodes and verifies outside the lock, many at a time.
//! Nothing is remembered of a request before `admit`, which asks once more whether the request is new.
//!
//! One identity may come through many peers, and is not known before its signature is checked. So a check made in vain
//! (forged, or over its subscriber's limit) costs the peer it came through much more than one that led to an answer: the
//! flood spends its own peers' shares and leaves the total to the others.
//!
//! A request for a span of time costs its subscriber more than one by ids, by the keys that are looked at for its page. The
//! most a page can cost is taken when it is admitted, however many are at a time, and what it did not cost is given back by
//! [`Screen::page_was_read`].

use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use lru::LruCache;

use super::bucket::{Bucket, Buckets, Rate};
use super::page::LOOKED_AT;
use crate::identity::{SignatureError, UserId};
use crate::permission::Refusal;
use crate::time::Timestamp;
use crate::wire::{KeyRequest, MAX_KEYS_PER_ANSWER, Received, RequestId, Verified, Wanted, WireError};

/// What a publisher is willing to look at.
#[derive(Clone, Copy, Debug)]
pub struct ScreenLimits {
    /// How far a request's time may be from ours, either way.
    pub freshness: Duration,
    /// Requests of one connected peer, before any signature is checked.
    pub per_peer: Rate,
    /// Requests of one subscriber.
    pub per_subscriber: Rate,
    /// Requests in total.
    pub total: Rate,
    /// Throttle refusals signed for one peer; beyond them silence.
    pub refusals_per_peer: Rate,
    /// Throttle refusals signed in total; beyond them silence.
    pub refusals: Rate,
    /// Request ids remembered within the freshness window.
    pub replay_capacity: NonZeroUsize,
    /// Peers, and subscribers, whose rate is remembered.
    pub rate_capacity: NonZeroUsize,
}

/// What a peer pays, in tokens of its own, for a signature checked in vain. All the connections a node takes (896) then make
/// it check some two thousand signatures a second in vain, a third of the total.
const VAIN_CHECK: u32 = 20;

/// Keys looked at for a page that cost as much as a request.
const KEYS_PER_TOKEN: usize = MAX_KEYS_PER_ANSWER;
/// What a page costs at most, in tokens of its subscriber, beside the request.
const DEAREST_PAGE: u32 = LOOKED_AT.div_ceil(KEYS_PER_TOKEN) as u32;

impl Default for ScreenLimits {
    fn default() -> Self {
        // Twice the freshness window at the total rate: no id is forgotten while its request is fresh.
        const REPLAY: NonZeroUsize = NonZeroUsize::new(786_432).unwrap();
        const RATES: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();
        Self {
            freshness: Duration::from_secs(60),
            per_peer: Rate { per_second: 50, burst: 100 },
            per_subscriber: Rate { per_second: 20, burst: 40 },
            total: Rate { per_second: 6_000, burst: 6_000 },
            refusals_per_peer: Rate { per_second: 10, burst: 40 },
            refusals: Rate { per_second: 500, burst: 500 },
            replay_capacity: REPLAY,
            rate_capacity: RATES,
        }
    }
}

/// What a first look, before any signature is checked, made of some bytes.
#[derive(Debug)]
pub enum Glance {
    /// Worth checking its signature.
    Candidate(Candidate),
    /// Settled without.
    Settled(Screened),
}

/// A request that passed the cheap checks; nothing of it is believed or remembered.
#[derive(Debug)]
pub struct Candidate {
    peer: Vec<u8>,
    received: Received<KeyRequest>,
}

impl Candidate {
    /// The costly step, one signature recovery. It needs no screen and therefore no lock.
    pub fn verify(self) -> Checked {
        let verdict = self.received.clone().verify();
        Checked { peer: self.peer, received: self.received, verdict }
    }
}

/// A request whose signature was looked at, for [`Screen::admit`].
#[derive(Debug)]
pub struct Checked {
    peer: Vec<u8>,
    received: Received<KeyRequest>,
    verdict: Result<Verified<KeyRequest>, SignatureError>,
}

/// The verdict on one request.
#[derive(Debug)]
pub enum Screened {
    /// Signed by its requester, fresh, new and within the limits.
    Admitted(Verified<KeyRequest>),
    /// Refuse every key of it, signed.
    Refused(Received<KeyRequest>, Refusal),
    /// No answer.
    Dropped(Dropped),
}

/// Why a request gets no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Dropped {
    /// Not a request.
    #[error("malformed request: {0}")]
    Malformed(#[from] WireError),
    /// For another publisher.
    #[error("a request for another publisher")]
    Misdirected,
    /// Outside the freshness window.
    #[error("a stale request, or a clock that is wrong")]
    Stale,
    /// Seen before.
    #[error("a replayed request")]
    Replayed,
    /// Over the limit, and over the limit of saying so.
    #[error("over the limit")]
    Flooded,
    /// Not signed by the one it names.
    #[error("{0}")]
    Signature(#[from] SignatureError),
}

/// Screens requests for one publisher.
#[derive(Debug)]
pub struct Screen {
    me: UserId,
    limits: ScreenLimits,
    seen: LruCache<(UserId, RequestId), Timestamp>,
    peers: Buckets<Vec<u8>>,
    subscribers: Buckets<UserId>,
    total: Bucket,
    peers_refusals: Buckets<Vec<u8>>,
    refusals: Bucket,
}

impl Screen {
    /// For requests addressed to `me`.
    pub fn new(me: UserId, limits: ScreenLimits, now: Timestamp) -> Self {
        Self {
            me,
            limits,
            // Grows with what was admitted, instead of taking its full size at once.
            seen: LruCache::unbounded(),
            peers: Buckets::new(limits.per_peer, limits.rate_capacity),
            subscribers: Buckets::new(limits.per_subscriber, limits.rate_capacity),
            total: Bucket::full(limits.total, now),
            peers_refusals: Buckets::new(limits.refusals_per_peer, limits.rate_capacity),
            refusals: Bucket::full(limits.refusals, now),
        }
    }

    /// How many request ids are remembered, so that no request counts twice.
    pub fn remembered(&self) -> usize {
        self.seen.len()
    }

    /// All steps at once, for who shares the screen with nobody.
    pub fn look(&mut self, now: Timestamp, peer: &[u8], envelope: &Bytes) -> Screened {
        let received = match Received::decode(envelope) {
            Ok(received) => received,
            Err(fault) => return Screened::Dropped(fault.into()),
        };
        match self.glance(now, peer, received) {
            Glance::Candidate(candidate) => self.admit(now, candidate.verify()),
            Glance::Settled(screened) => screened,
        }
    }

    /// The cheap checks on what the connected `peer` sent.
    pub fn glance(&mut self, now: Timestamp, peer: &[u8], received: Received<KeyRequest>) -> Glance {
        if let Some(dropped) = self.cheap_fault(now, received.claims()) {
            return Glance::Settled(Screened::Dropped(dropped));
        }
        let peer = peer.to_vec();
        // A peer over its share takes nothing of the total.
        match self.peers.take(peer.clone(), now).and_then(|()| self.total.take(now)) {
            Ok(()) => Glance::Candidate(Candidate { peer, received }),
            Err(wait) => Glance::Settled(self.throttled(now, peer, received, wait)),
        }
    }

    /// What comes after the signature. A replay that was verified at the same time as the first is found here.
    pub fn admit(&mut self, now: Timestamp, checked: Checked) -> Screened {
        let Checked { peer, received, verdict } = checked;
        let verified = match verdict {
            Ok(verified) => verified,
            Err(fault) => {
                self.peers.charge(peer, VAIN_CHECK, now);
                return Screened::Dropped(fault.into());
            }
        };
        if let Some(dropped) = self.cheap_fault(now, verified.content()) {
            return Screened::Dropped(dropped);
        }
        match self.subscribers.take(verified.content().requester, now) {
            Ok(()) => {
                // Only now: an unsigned request must not make a true one look replayed, nor a flood push others out.
                self.remember(now, verified.content());
                if let Wanted::Range(_) = verified.content().wanted {
                    self.subscribers.charge(verified.content().requester, self.reserved(), now);
                }
                Screened::Admitted(verified)
            }
            Err(wait) => {
                self.peers.charge(peer.clone(), VAIN_CHECK, now);
                self.throttled(now, peer, received, wait)
            }
        }
    }

    /// More signatures that came with a request were checked in vain, after it was admitted: its peer pays for them.
    pub fn charge_vain(&mut self, peer: &[u8], checks: u32, now: Timestamp) {
        if checks > 0 {
            self.peers.charge(peer.to_vec(), VAIN_CHECK.saturating_mul(checks), now);
        }
    }

    /// An admitted request for a span of time took so many keys of the store: what a page costs at most and this one did
    /// not is given back to its subscriber.
    pub fn page_was_read(&mut self, request: &KeyRequest, looked_at: usize) {
        if let Wanted::Range(_) = request.wanted {
            let cost = u32::try_from(looked_at.div_ceil(KEYS_PER_TOKEN)).unwrap_or(u32::MAX);
            self.subscribers.give_back(&request.requester, self.reserved().saturating_sub(cost));
        }
    }

    /// Never more than a charge can take from a bucket that just gave a token, so that no more is given back than was taken.
    fn reserved(&self) -> u32 {
        DEAREST_PAGE.min(self.limits.per_subscriber.burst)
    }

    fn cheap_fault(&mut self, now: Timestamp, request: &KeyRequest) -> Option<Dropped> {
        if request.publisher != self.me {
            return Some(Dropped::Misdirected);
        }
        if now.since(request.sent).max(request.sent.since(now)) > self.limits.freshness {
            return Some(Dropped::Stale);
        }
        self.seen.contains(&(request.requester, request.id)).then_some(Dropped::Replayed)
    }

    fn remember(&mut self, now: Timestamp, request: &KeyRequest) {
        // Ids older than the window are refused as stale, so they need not be remembered.
        let horizon = now.minus(self.limits.freshness * 2);
        while self.seen.peek_lru().is_some_and(|(_, at)| *at < horizon) {
            self.seen.pop_lru();
        }
        if self.seen.len() >= self.limits.replay_capacity.get() {
            self.seen.pop_lru();
        }
        self.seen.put((request.requester, request.id), now);
    }

    fn throttled(&mut self, now: Timestamp, peer: Vec<u8>, received: Received<KeyRequest>, wait: Duration) -> Screened {
        // Whole seconds at least: a caller that is told milliseconds comes straight back.
        let retry_after = wait.max(Duration::from_secs(1));
        match self.peers_refusals.take(peer, now).and_then(|()| self.refusals.take(now)) {
            Ok(()) => Screened::Refused(received, Refusal::Throttled { retry_after }),
            Err(_) => Screened::Dropped(Dropped::Flooded),
        }
    }
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;
