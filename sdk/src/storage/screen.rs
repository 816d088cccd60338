//! A storage node's front door: which requests are worth a page.
//!
//! It is the [`Screen`] that publishers have, with a tariff of its own: cheap checks before costly ones, a share for each peer
//! and each requester, and what was checked in vain at the cost of the peer it came through. Beside that a requester has only so many
//! pages made at a time. Permission and the disk come after this module.
//!
//! ```text
//! Received ──glance──▶ Candidate ──verify──▶ Checked ──admit──▶ request, Ticket ──done──▶ paid for what was read
//!              └──▶ silence, throttled                   └──▶ silence, throttled
//! ```
//! A page costs a token, and one more for each further [`READ_PER_TOKEN`] messages that were looked at for it, also to find where
//! the last so many begin: a filter that finds little makes the disk work all the same. The most that can be is taken before.
//!
//! A storage node gives a reader far more than a publisher does, so that one reader may well come to his limit. That his
//! limit was reached is therefore seen before his signature is checked, by the name he goes by: what comes in it then takes
//! nothing of the total, however many peers it comes through, and costs no check.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::query::LOOKED_AT;
use crate::exchange::{Checked, Glance, Rate, Screen, ScreenLimits, Screened, Screening};
use crate::identity::UserId;
use crate::time::Timestamp;
use crate::wire::{Received, RequestId, ResendRequest, Span};

/// What a storage node is willing to do for readers.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ResendLimits {
    /// How far a request's time may be from ours, either way: 60 s.
    pub freshness: Duration,
    /// Requests of one connected peer, before any signature is checked: 600 a second, 1,200 at once. Well above what one
    /// requester has: who is over his own limit is to be told so, with a signature, and through one peer may read more than one.
    pub per_peer: Rate,
    /// Pages of one requester, and what they cost beside: 200 a second, 400 at once.
    pub per_requester: Rate,
    /// Requests in total: 2,000 a second, as many at once.
    pub total: Rate,
    /// Pages of one requester being made at a time: 4.
    pub at_once: usize,
    /// Pages being read from the store at a time, for all requesters: 16; others wait for their turn.
    pub reads: usize,
    /// Of them such as look far back for where the last so many messages begin: 2.
    pub long_reads: usize,
    /// Messages on a page at most: [`MOST_MESSAGES`](super::MOST_MESSAGES), and never more.
    pub page: usize,
    /// Request ids remembered against replay: 262,144.
    pub replay_capacity: NonZeroUsize,
    /// Peers, and requesters, whose rate is remembered: 16,384.
    pub rate_capacity: NonZeroUsize,
}

/// Messages looked at that cost as much as a page.
const READ_PER_TOKEN: usize = 1024;
/// The last so many are found in about the time of a page.
#[cfg(feature = "p2p")]
const FAR_BACK: u64 = LOOKED_AT as u64;
/// Twice the freshness window at the total rate: no id is forgotten while its request is fresh.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(262_144).unwrap();
const RATES: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();

impl Default for ResendLimits {
    fn default() -> Self {
        Self {
            freshness: Duration::from_secs(60),
            per_peer: Rate { per_second: 600, burst: 1200 },
            per_requester: Rate { per_second: 200, burst: 400 },
            total: Rate { per_second: 2000, burst: 2000 },
            at_once: 4,
            reads: 16,
            long_reads: 2,
            page: super::MOST_MESSAGES,
            replay_capacity: REMEMBERED,
            rate_capacity: RATES,
        }
    }
}

impl ResendLimits {
    /// The same as the common screen has it.
    fn screen(&self) -> ScreenLimits {
        ScreenLimits {
            freshness: self.freshness,
            per_peer: self.per_peer,
            per_subscriber: self.per_requester,
            total: self.total,
            replay_capacity: self.replay_capacity,
            rate_capacity: self.rate_capacity,
            ..ScreenLimits::default()
        }
    }
}

/// Whether a request for the last so many messages takes one of [`ResendLimits::long_reads`].
#[cfg(feature = "p2p")]
pub(crate) fn looks_far_back(span: &Span) -> bool {
    matches!(span, Span::Last(n) if *n > FAR_BACK)
}

impl Screening for ResendRequest {
    fn addressee(&self) -> UserId {
        self.node
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
        let back = match self.span {
            Span::Last(n) => usize::try_from(n).unwrap_or(usize::MAX),
            Span::Range { .. } => 0,
        };
        self.cost(back.saturating_add(LOOKED_AT))
    }

    fn cost(&self, looked_at: usize) -> u32 {
        u32::try_from(looked_at.saturating_sub(1) / READ_PER_TOKEN).unwrap_or(u32::MAX)
    }
}

/// Screens requests for one storage node.
#[derive(Debug)]
pub struct ResendScreen {
    screen: Screen<ResendRequest>,
    at_once: usize,
    under_way: HashMap<UserId, usize>,
}

/// A page may be made for this request; [`ResendScreen::done`] ends it.
#[derive(Debug)]
#[must_use]
pub struct Ticket(ResendRequest);

impl Ticket {
    /// The request, which its requester signed.
    pub fn request(&self) -> &ResendRequest {
        &self.0
    }
}

/// The verdict on a request whose signature was looked at.
#[derive(Debug)]
pub enum Admission {
    /// A page may be made.
    Page(Ticket),
    /// It gets silence, or is told to wait.
    Settled(Screened<ResendRequest>),
}

impl ResendScreen {
    /// For requests addressed to `me`.
    pub fn new(me: UserId, limits: ResendLimits, now: Timestamp) -> Self {
        Self { screen: Screen::new(me, limits.screen(), now), at_once: limits.at_once, under_way: HashMap::new() }
    }

    /// The cheap checks on what the connected `peer` sent.
    pub fn glance(&mut self, now: Timestamp, peer: &[u8], received: Received<ResendRequest>) -> Glance<ResendRequest> {
        self.screen.glance_unless_over(now, peer, received)
    }

    /// What comes after the signature.
    pub fn admit(&mut self, now: Timestamp, checked: Checked<ResendRequest>) -> Admission {
        let (peer, received) = (checked.peer().to_vec(), checked.received().clone());
        let verified = match self.screen.admit(now, checked) {
            Screened::Admitted(verified) => verified,
            settled => return Admission::Settled(settled),
        };
        let request = verified.into_content();
        let under_way = self.under_way.entry(request.requester).or_default();
        if *under_way >= self.at_once {
            // Nothing was read for it.
            self.screen.page_was_read(&request, 0);
            return Admission::Settled(self.screen.throttled(now, peer, received, Duration::ZERO));
        }
        *under_way += 1;
        Admission::Page(Ticket(request))
    }

    /// More was checked in vain for an admitted request: proofs that prove nothing, or whether somebody may read who may not.
    pub fn charge_vain(&mut self, peer: &[u8], checks: u32, now: Timestamp) {
        self.screen.charge_vain(peer, checks, now);
    }

    /// The page was made, or could not be; so much was looked at for it.
    pub fn done(&mut self, ticket: Ticket, looked_at: usize) {
        let Ticket(request) = ticket;
        self.screen.page_was_read(&request, looked_at);
        if let Some(under_way) = self.under_way.get_mut(&request.requester) {
            *under_way -= 1;
            if *under_way == 0 {
                self.under_way.remove(&request.requester);
            }
        }
    }
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;
