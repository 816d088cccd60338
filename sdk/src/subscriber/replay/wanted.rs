//! What of a stream's past is wanted, and the bounds of reading it.

use std::time::Duration;

use crate::identity::UserId;
use crate::storage::{Filter, Place};
use crate::time::Timestamp;
use crate::wire::Span;

/// The end of time, for spans that have none.
pub(super) const ALWAYS: Timestamp = Timestamp::from_millis(u64::MAX);

/// Which stored messages are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    pub(super) span: Span,
    pub(super) filter: Filter,
    pub(super) after: Option<Place>,
    pub(super) copies: usize,
}

impl Replay {
    /// The last `n` messages of each partition, at most 1,000,000, and those that are stored behind them meanwhile.
    pub fn last(n: u64) -> Self {
        Self::of(Span::Last(n.clamp(1, 1_000_000)))
    }

    /// All from a moment on, itself included.
    pub fn from(moment: Timestamp) -> Self {
        Self::range(moment, ALWAYS)
    }

    /// From one moment to another, both included; where the second is before the first, it counts as the first.
    pub fn range(from: Timestamp, to: Timestamp) -> Self {
        Self::of(Span::Range { from, to: to.max(from) })
    }

    /// All behind the message at this place, which was read before: reading goes on where it was left.
    pub fn after(place: Place) -> Self {
        Self { after: Some(place), ..Self::from(place.at.timestamp) }
    }

    fn of(span: Span) -> Self {
        Self { span, filter: Filter::ALL, after: None, copies: 1 }
    }

    /// Only messages of this publisher.
    #[must_use]
    pub fn publisher(self, publisher: UserId) -> Self {
        Self { filter: Filter::publisher(publisher), ..self }
    }

    /// Only messages of this chain of a publisher. Not with [`Replay::last`], which nodes refuse for a chain.
    #[must_use]
    pub fn chain(self, publisher: UserId, chain: [u8; 16]) -> Self {
        Self { filter: Filter::chain(publisher, chain), ..self }
    }

    /// Read from so many storage nodes at once, one unless said, and what they send compared. One alone can hide the end of a
    /// publisher's run, or all of it: no later message names what is missing. It costs as many times the transfer.
    #[must_use]
    pub fn copies(self, copies: usize) -> Self {
        Self { copies: copies.max(1), ..self }
    }
}

/// Bounds of a [`Replayer`](super::Replayer).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ReplayLimits {
    /// How long an answer is waited for: 30 s.
    pub answer_timeout: Duration,
    /// Tries at a node that asks for patience.
    pub tries: u32,
    /// No node makes a reader wait longer than this between two of them.
    pub longest_wait: Duration,
    /// How long a node that was asked together with others is waited for once one of them has answered.
    pub slower_by: Duration,
    /// Nodes asked at a time.
    pub nodes: usize,
    /// Pages with no message on them that one node may send in a row: a filter may pass nothing for long.
    pub empty_pages: u32,
    /// Pages that fill one hole at most, of each node.
    pub hole_pages: u32,
    /// What one node may lag behind another without having left anything out.
    pub lag: Duration,
    /// Live messages held back while history is read. Beyond, they are read from storage.
    pub held_back: usize,
    /// And their bytes.
    pub held_back_bytes: usize,
    /// Times that storage is read once more because too much came live meanwhile.
    pub catch_ups: usize,
    /// Gaps among live messages that storage nodes are asked about at a time; further ones are only reported.
    pub fills: usize,
    /// Tries for one gap among live messages; none where they are not to be filled.
    pub fill_tries: u32,
    /// How long a message that is missing may be on its way before storage is asked for it.
    pub fill_after: Duration,
    /// Between two tries.
    pub fill_again: Duration,
    /// Storage nodes are looked for again where a gap was not filled, but no more often.
    pub look_again: Duration,
    /// How far back a chain may begin live when it is first met, against a recording played again.
    pub live_window: Duration,
}

impl Default for ReplayLimits {
    fn default() -> Self {
        Self {
            answer_timeout: Duration::from_secs(30),
            tries: 20,
            longest_wait: Duration::from_secs(10),
            slower_by: Duration::from_secs(5),
            nodes: 8,
            empty_pages: 4096,
            hole_pages: 64,
            lag: Duration::from_secs(10),
            held_back: 4096,
            held_back_bytes: 32 << 20,
            catch_ups: 16,
            fills: 16,
            fill_tries: 1,
            fill_after: Duration::from_millis(100),
            fill_again: Duration::from_secs(2),
            look_again: Duration::from_secs(60),
            live_window: Duration::from_secs(600),
        }
    }
}
