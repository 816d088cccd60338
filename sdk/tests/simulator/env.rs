//! What all parties of a run share: time, chance, the network, the truth.

use std::fmt;
use std::sync::Arc;

use rand::rngs::StdRng;
use veilcast::permission::LocalRegistry;
use veilcast::stream::StreamId;
use veilcast::{Permission, Timestamp, UserId};

use crate::clocks::Clocks;
use crate::facts::Facts;
use crate::grants::{Grants, Question, Source, public};
use crate::network::{Body, Network, Packet, Place};
use crate::trace::Trace;

/// A promise that was broken, and how.
pub(crate) type Broken = String;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) messages: u64,
    pub(crate) deliveries: u64,
    pub(crate) gaps: u64,
    pub(crate) key_requests: u64,
    pub(crate) keys_handed: u64,
    pub(crate) refusals: u64,
    pub(crate) dropped_requests: u64,
    pub(crate) refused_bytes: u64,
    pub(crate) bogus_answers: u64,
    pub(crate) rekeys: u64,
    pub(crate) keys_ahead: u64,
    pub(crate) ahead_used: u64,
    pub(crate) rotates: u64,
    pub(crate) rotates_refused: u64,
    pub(crate) restarts: u64,
    pub(crate) clocks_set: u64,
    pub(crate) disk_failures: u64,
    pub(crate) mischief: u64,
    pub(crate) most_pending: u64,
    pub(crate) most_parked: u64,
    pub(crate) most_waiting: u64,
    pub(crate) most_held_bytes: u64,
    pub(crate) most_asked_per_key: u64,
    pub(crate) most_remembered: u64,
    /// Histories read to their end, messages read by those readers, and storage nodes that failed them.
    pub(crate) histories: u64,
    pub(crate) replayed: u64,
    pub(crate) storage_faults: u64,
    pub(crate) most_replay_held: u64,
}

pub(crate) struct Env {
    /// True time, milliseconds since the epoch.
    pub(crate) now: u64,
    pub(crate) clocks: Clocks,
    pub(crate) rng: StdRng,
    pub(crate) net: Network,
    pub(crate) grants: Grants,
    pub(crate) facts: Facts,
    pub(crate) trace: Trace,
    pub(crate) figures: Figures,
    /// Who may publish, as readers are told.
    pub(crate) readers: Arc<LocalRegistry>,
    pub(crate) publishers: Vec<UserId>,
    pub(crate) subscribers: Vec<UserId>,
    pub(crate) broken: Option<Broken>,
    /// When the last thing that was planned happens.
    pub(crate) last_act: u64,
}

impl Env {
    /// Notes the first promise that is broken; the run ends with it.
    pub(crate) fn must(&mut self, holds: bool, promise: &str, told: impl FnOnce() -> String) {
        if !holds && self.broken.is_none() {
            self.broken = Some(format!("{promise}: {} (at {})", told(), self.now));
        }
    }

    pub(crate) fn note(&mut self, what: fmt::Arguments<'_>) {
        self.trace.note(self.now, what);
    }

    pub(crate) fn send(&mut self, from: Place, to: Place, body: Body) {
        let mut packet = Packet { from, to, body };
        self.trace.note(self.now, format_args!("sent: {packet}"));
        self.trace.bytes(packet.body.bytes_mut());
        self.net.send(self.now, packet, &mut self.rng);
    }

    /// The time by somebody's own clock.
    pub(crate) fn clock(&self, place: Place) -> Timestamp {
        Timestamp::from_millis(self.clocks.read(place, self.now))
    }

    pub(crate) fn number_of(&self, publisher: UserId) -> Option<usize> {
        self.publishers.iter().position(|known| *known == publisher)
    }

    /// Whether `user` may subscribe, by this publisher's source and clock, at this very moment.
    pub(crate) fn may_subscribe(&self, publisher: usize, stream: &StreamId, user: UserId) -> bool {
        self.grants.holds(&subscribing(publisher, stream, user), &self.clocks, self.now)
    }

    /// Whether `user` may subscribe at `moment` by this publisher's clock, by its source's latest word.
    pub(crate) fn may_subscribe_then(
        &self,
        publisher: usize,
        stream: &StreamId,
        user: UserId,
        moment: Timestamp,
    ) -> bool {
        self.grants.held_at(&subscribing(publisher, stream, user), moment.as_millis())
    }

    /// Whether `user` could subscribe at some true moment since then, by this publisher's source and clock.
    pub(crate) fn could_subscribe_since(&self, publisher: UserId, stream: &StreamId, user: UserId, since: u64) -> bool {
        let Some(number) = self.number_of(publisher) else { return false };
        self.grants.went_on_within(&subscribing(number, stream, user), &self.clocks, since, self.now)
    }

    /// Whether everybody may subscribe, by this publisher's source.
    pub(crate) fn is_public(&self, publisher: usize, stream: &StreamId) -> bool {
        self.grants.given(&public(Source::Publisher(publisher), stream), &self.clocks, self.now)
    }

    pub(crate) fn may_publish(&self, stream: &StreamId, user: UserId) -> bool {
        self.grants.holds(&(Source::Readers, stream.clone(), user, Permission::Publish), &self.clocks, self.now)
    }
}

pub(crate) fn subscribing(publisher: usize, stream: &StreamId, user: UserId) -> Question {
    (Source::Publisher(publisher), stream.clone(), user, Permission::Subscribe)
}
