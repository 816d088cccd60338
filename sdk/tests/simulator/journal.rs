//! What one life of a subscriber was brought on one stream, and what it made of it, in true time.

use std::collections::{BTreeMap, BTreeSet};

use veilcast::UserId;
use veilcast::key_store::KeyId;
use veilcast::wire::MessageRef;

/// Publisher and chain id.
pub(crate) type ChainName = (UserId, [u8; 16]);

#[derive(Default)]
pub(crate) struct ChainLog {
    /// When the first message arrived that was recent enough to begin with.
    pub(crate) met: Option<u64>,
    /// First arrival of each message, from that moment on.
    pub(crate) arrived: BTreeMap<MessageRef, u64>,
    pub(crate) delivered: BTreeMap<MessageRef, u64>,
}

#[derive(Clone, Copy)]
pub(crate) struct GapSeen {
    pub(crate) publisher: UserId,
    pub(crate) after: MessageRef,
    pub(crate) until: MessageRef,
    pub(crate) at: u64,
}

#[derive(Default)]
pub(crate) struct Journal {
    pub(crate) chains: BTreeMap<ChainName, ChainLog>,
    pub(crate) gaps: Vec<GapSeen>,
    /// Keys that the publisher's policy does not give.
    pub(crate) withheld: BTreeSet<(UserId, KeyId)>,
    /// Messages dropped because too many were held.
    pub(crate) dropped: usize,
}

impl Journal {
    /// A verified message of a permitted publisher is about to be handed to the intake.
    pub(crate) fn arrived(&mut self, name: ChainName, at: MessageRef, now: u64, live: bool) {
        let chain = self.chains.entry(name).or_default();
        if chain.met.is_none() && live {
            chain.met = Some(now);
        }
        if chain.met.is_some() {
            chain.arrived.entry(at).or_insert(now);
        }
    }

    /// The message reached the application.
    ///
    /// # Errors
    /// Twice, out of order, or of a chain that began with a recording.
    pub(crate) fn delivered(&mut self, name: ChainName, at: MessageRef, now: u64) -> Result<(), &'static str> {
        let chain = self.chains.entry(name).or_default();
        if chain.delivered.contains_key(&at) {
            return Err("a message was delivered twice");
        }
        if chain.delivered.last_key_value().is_some_and(|(last, _)| at < *last) {
            return Err("a message was delivered out of the order of its chain");
        }
        chain.delivered.insert(at, now);
        chain.met.map(drop).ok_or("a chain began with a recording")
    }

    /// When the application was told that this message is missing.
    pub(crate) fn reported(&self, publisher: UserId, at: MessageRef) -> Option<u64> {
        let covers = |gap: &&GapSeen| gap.publisher == publisher && gap.after < at && at <= gap.until;
        self.gaps.iter().filter(covers).map(|gap| gap.at).min()
    }
}
