//! The front door of whoever answers others, a publisher or a storage node: which requests are worth an answer.
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
//! A request for a page costs its requester more than another, by what is looked at for the page ([`Screening`] says how much).
//! The most a page can cost is taken when it is admitted, however many are at a time, and what it did not cost is given back
//! by [`Screen::page_was_read`].

use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use lru::LruCache;

use super::bucket::{Bucket, Buckets, Rate};
use super::page::LOOKED_AT;
use crate::identity::{SignatureError, UserId};
use crate::permission::Refusal;
use crate::time::Timestamp;
use crate::wire::{Content, KeyRequest, MAX_KEYS_PER_ANSWER, Received, RequestId, Verified, Wanted, WireError};

/// A kind of request that is screened, and its tariff.
pub trait Screening: Content + Clone {
    /// Who is asked.
    fn addressee(&self) -> UserId;
    /// Who asks: tokens are his.
    fn requester(&self) -> UserId;
    /// What tells it from his others.
    fn id(&self) -> RequestId;
    /// When it was made.
    fn sent(&self) -> Timestamp;
    /// What it costs at most, in tokens beside the first.
    fn dearest(&self) -> u32;
    /// What it cost, in tokens beside the first, when so much was looked at for it; more than the dearest does not count.
    fn cost(&self, looked_at: usize) -> u32;
}

impl Screening for KeyRequest {
    fn addressee(&self) -> UserId {
        self.publisher
    }

    fn requester(&self) -> UserId {
        self.requester
    }

    fn id(&self) -> RequestId {
        self.id
    }

    fn sent(&self) -> Timestamp {
        self.sent
    }

    fn dearest(&self) -> u32 {
        match self.wanted {
            Wanted::Keys(_) => 0,
            Wanted::Range(_) => DEAREST_PAGE,
        }
    }

    fn cost(&self, looked_at: usize) -> u32 {
        match self.wanted {
            Wanted::Keys(_) => 0,
            Wanted::Range(_) => u32::try_from(looked_at.div_ceil(KEYS_PER_TOKEN)).unwrap_or(u32::MAX),
        }
    }
}

/// What a node is willing to look at. The default is a publisher's.
#[derive(Clone, Copy, Debug)]
pub struct ScreenLimits {
    /// How far a request's time may be from ours, either way: 60 s.
    pub freshness: Duration,
    /// Requests of one connected peer, before any signature is checked: 50 a second, 100 at once.
    pub per_peer: Rate,
    /// Requests of one subscriber: 20 a second, 40 at once.
    pub per_subscriber: Rate,
    /// Requests in total: 6,000 a second, as many at once.
    pub total: Rate,
    /// Throttle refusals signed for one peer: 10 a second, 40 at once; beyond them silence.
    pub refusals_per_peer: Rate,
    /// Throttle refusals signed in total: 500 a second, as many at once; beyond them silence.
    pub refusals: Rate,
    /// Request ids remembered within the freshness window: 786,432.
    pub replay_capacity: NonZeroUsize,
    /// Peers, and subscribers, whose rate is remembered: 16,384.
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
pub enum Glance<R: Screening = KeyRequest> {
    /// Worth checking its signature.
    Candidate(Candidate<R>),
    /// Settled without.
    Settled(Screened<R>),
}

/// A request that passed the cheap checks; nothing of it is believed or remembered.
#[derive(Debug)]
pub struct Candidate<R: Screening = KeyRequest> {
    peer: Vec<u8>,
    received: Received<R>,
}

impl<R: Screening> Checked<R> {
    /// The peer it came through.
    pub(crate) fn peer(&self) -> &[u8] {
        &self.peer
    }

    /// What was looked at.
    pub(crate) fn received(&self) -> &Received<R> {
        &self.received
    }
}

impl<R: Screening> Candidate<R> {
    /// The costly step, one signature recovery. It needs no screen and therefore no lock.
    pub fn verify(self) -> Checked<R> {
        let verdict = self.received.clone().verify();
        Checked { peer: self.peer, received: self.received, verdict }
    }
}

/// A request whose signature was looked at, for [`Screen::admit`].
#[derive(Debug)]
pub struct Checked<R: Screening = KeyRequest> {
    peer: Vec<u8>,
    received: Received<R>,
    verdict: Result<Verified<R>, SignatureError>,
}

/// The verdict on one request.
#[derive(Debug)]
pub enum Screened<R: Screening = KeyRequest> {
    /// Signed by its requester, fresh, new and within the limits.
    Admitted(Verified<R>),
    /// Refuse everything it asks for, signed.
    Refused(Received<R>, Refusal),
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
    /// For somebody else.
    #[error("a request for somebody else")]
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

/// Screens requests for one publisher, or one storage node.
#[derive(Debug)]
pub struct Screen<R: Screening = KeyRequest> {
    me: UserId,
    limits: ScreenLimits,
    seen: LruCache<(UserId, RequestId), Timestamp>,
    peers: Buckets<Vec<u8>>,
    subscribers: Buckets<UserId>,
    total: Bucket,
    peers_refusals: Buckets<Vec<u8>>,
    refusals: Bucket,
    kind: PhantomData<fn(R)>,
}

impl<R: Screening> Screen<R> {
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
            kind: PhantomData,
        }
    }

    /// How many request ids are remembered, so that no request counts twice.
    pub fn remembered(&self) -> usize {
        self.seen.len()
    }

    /// All steps at once, for who shares the screen with nobody.
    pub fn look(&mut self, now: Timestamp, peer: &[u8], envelope: &Bytes) -> Screened<R> {
        let received = match Received::decode(envelope) {
            Ok(received) => received,
            Err(fault) => return Screened::Dropped(fault.into()),
        };
        match self.glance(now, peer, received) {
            Glance::Candidate(candidate) => self.admit(now, candidate.verify()),
            Glance::Settled(screened) => screened,
        }
    }

    /// As [`Self::glance`], but what comes in the name of somebody who is over his limit is settled before anything else is
    /// taken for it: signed by him, it would be throttled, and by anybody else, dropped.
    pub(crate) fn glance_unless_over(&mut self, now: Timestamp, peer: &[u8], received: Received<R>) -> Glance<R> {
        let wait = self.subscribers.wait(&received.claims().requester(), now);
        match wait.filter(|_| self.cheap_fault(now, received.claims()).is_none()) {
            Some(wait) => Glance::Settled(match self.peers.take(peer.to_vec(), now) {
                Ok(()) => self.throttled(now, peer.to_vec(), received, wait),
                Err(_) => Screened::Dropped(Dropped::Flooded),
            }),
            None => self.glance(now, peer, received),
        }
    }

    /// The cheap checks on what the connected `peer` sent.
    pub fn glance(&mut self, now: Timestamp, peer: &[u8], received: Received<R>) -> Glance<R> {
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
    pub fn admit(&mut self, now: Timestamp, checked: Checked<R>) -> Screened<R> {
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
        let (requester, reserved) = (verified.content().requester(), self.reserved(verified.content()));
        match self.subscribers.take(requester, now) {
            Ok(()) => {
                // Only now: an unsigned request must not make a true one look replayed, nor a flood push others out.
                self.remember(now, verified.content());
                if reserved > 0 {
                    self.subscribers.charge(requester, reserved, now);
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

    /// So much was looked at for an admitted request: what it could have cost at most and did not is given back to its
    /// requester.
    pub fn page_was_read(&mut self, request: &R, looked_at: usize) {
        let unused = self.reserved(request).saturating_sub(request.cost(looked_at));
        if unused > 0 {
            self.subscribers.give_back(&request.requester(), unused);
        }
    }

    /// Never more than a charge can take from a bucket that just gave a token, so that no more is given back than was taken.
    fn reserved(&self, request: &R) -> u32 {
        request.dearest().min(self.limits.per_subscriber.burst)
    }

    fn cheap_fault(&mut self, now: Timestamp, request: &R) -> Option<Dropped> {
        if request.addressee() != self.me {
            return Some(Dropped::Misdirected);
        }
        if now.since(request.sent()).max(request.sent().since(now)) > self.limits.freshness {
            return Some(Dropped::Stale);
        }
        self.seen.contains(&(request.requester(), request.id())).then_some(Dropped::Replayed)
    }

    fn remember(&mut self, now: Timestamp, request: &R) {
        // Ids older than the window are refused as stale, so they need not be remembered.
        let horizon = now.minus(self.limits.freshness.saturating_mul(2));
        while self.seen.peek_lru().is_some_and(|(_, at)| *at < horizon) {
            self.seen.pop_lru();
        }
        if self.seen.len() >= self.limits.replay_capacity.get() {
            self.seen.pop_lru();
        }
        self.seen.put((request.requester(), request.id()), now);
    }

    pub(crate) fn throttled(
        &mut self,
        now: Timestamp,
        peer: Vec<u8>,
        received: Received<R>,
        wait: Duration,
    ) -> Screened<R> {
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
