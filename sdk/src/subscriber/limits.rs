//! What one subscription holds at most, and how long it waits.

use std::num::NonZeroUsize;
use std::ops::{Add, Sub};
use std::time::Duration;

/// Messages that are held back, and what they cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Held {
    /// How many.
    pub messages: usize,
    /// In memory.
    pub bytes: usize,
}

impl Add for Held {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { messages: self.messages + other.messages, bytes: self.bytes + other.bytes }
    }
}

impl Sub for Held {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { messages: self.messages.saturating_sub(other.messages), bytes: self.bytes.saturating_sub(other.bytes) }
    }
}

/// Bounds of an [`Intake`](super::Intake).
#[derive(Clone, Copy, Debug)]
pub struct IntakeLimits {
    /// Messages that wait for keys: 10,000. Beyond it whoever has the most waiting loses the oldest, and in the past of a stream
    /// publishers that are away lose theirs first.
    pub parked: usize,
    /// Messages that wait for one missing before them, in all chains together: 10,000; beyond it gaps are not waited for.
    pub out_of_order: usize,
    /// Bytes of messages that wait for either: 64 MiB; beyond it the same happens.
    pub held_bytes: usize,
    /// How long a gap is waited for: 500 ms. A storage node may be given longer, see `GapFill`.
    pub gap_wait: Duration,
    /// How long earlier messages are waited for when a chain is met in its middle: 50 ms; its key is asked for meanwhile.
    pub join_wait: Duration,
    /// How far back a chain may begin when it is first met, against a recording played again: 600 s.
    pub live_window: Duration,
    /// Chains remembered: 4096; the least recently used is forgotten.
    pub chains: NonZeroUsize,
    /// Chains of one publisher among them: 256, so that nobody's chains push out another's; it has one for each of up to 100
    /// partitions and each of its processes.
    pub chains_per_publisher: usize,
    /// How long messages wait for a permission source that cannot tell whether their author may publish: 60 s; zero: not at all.
    pub permission_wait: Duration,
    /// How long, in the past of a stream, a key that could not be had is not asked for again: 600 s.
    pub given_up_for: Duration,
    /// Keys held ready: 1024; others are found in the store again.
    pub keys: NonZeroUsize,
    /// Bytes of messages that wait for the application to take them, on their whole way to it: 128 MiB, beside one that is larger
    /// than its part of this.
    pub untaken_bytes: usize,
}

impl IntakeLimits {
    /// Whether this is half of what may be held: time for whoever need not hurry to wait until some is settled.
    pub fn is_half(&self, held: Held) -> bool {
        held.messages > 0 && (held.messages * 2 >= self.parked || held.bytes * 2 >= self.held_bytes)
    }
}

/// How the bytes that wait for an application are shared out on their way to it.
#[cfg(feature = "p2p")]
impl IntakeLimits {
    /// Room for some of the largest messages: one that waits alone for its key is not dropped for its size.
    const HELD_LEAST: usize = 4 << 20;

    /// The same with no more bytes than this waiting for the application, and for keys and earlier messages no more than this or
    /// 4 MiB.
    pub(crate) fn within(self, bytes: usize) -> Self {
        let held_bytes = self.held_bytes.min(bytes.max(Self::HELD_LEAST));
        Self { held_bytes, untaken_bytes: self.untaken_bytes.min(bytes), ..self }
    }

    /// Of the bytes that wait for the application: those that nobody has looked at yet, and as many that were.
    pub(crate) fn incoming_bytes(&self) -> usize {
        (self.untaken_bytes / 4).max(1)
    }

    /// Of the bytes that wait for the application: those within its reach.
    pub(crate) fn delivered_bytes(&self) -> usize {
        (self.untaken_bytes / 2).max(1)
    }
}

impl Default for IntakeLimits {
    fn default() -> Self {
        const CHAINS: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
        const KEYS: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
        Self {
            parked: 10_000,
            out_of_order: 10_000,
            held_bytes: 64 << 20,
            gap_wait: Duration::from_millis(500),
            join_wait: Duration::from_millis(50),
            live_window: Duration::from_secs(600),
            chains: CHAINS,
            chains_per_publisher: 256,
            permission_wait: Duration::from_secs(60),
            given_up_for: Duration::from_secs(600),
            keys: KEYS,
            untaken_bytes: 128 << 20,
        }
    }
}
