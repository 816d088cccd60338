//! What is wanted of one publisher and stream.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use veilcast_key_store::KeyId;

use super::device::Device;
use super::effect::AnswerFault;
use crate::permission::Refusal;
use crate::time::Timestamp;
use crate::wire::{KeyAnswer, RequestId};

/// Most refusals remembered for one publisher and stream.
const MAX_REFUSED: usize = 1024;
/// Most devices asked for one key.
pub(super) const MAX_DEVICES: usize = 8;
/// Most lanes of one publisher and stream: its devices decide how many there would be.
const MAX_LANES: usize = 16;
/// Most devices remembered to have failed, the first to fail first.
const MAX_FAILED: usize = MAX_DEVICES;

/// The devices that said they do not have a key.
pub(super) type Tried = BTreeSet<Device>;

#[derive(Debug, Default)]
pub(super) struct Ask {
    /// Keys that are looked for at the same devices share a lane, and only they: one that a present device does not have
    /// must not hold up those it has.
    pub(super) lanes: BTreeMap<Tried, Lane>,
    /// Granted, and being unwrapped: neither asked for again nor here yet. Beside each the lane it came by.
    pub(super) opening: BTreeMap<KeyId, Tried>,
    pub(super) refused: HashMap<KeyId, (Refusal, Timestamp)>,
}

/// Keys that the same devices do not have.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) wanted: BTreeSet<KeyId>,
    pub(super) asking: Option<Asking>,
    pub(super) failures: u32,
    pub(super) not_before: Timestamp,
    /// Devices that did not answer, the last one last.
    pub(super) failed: Vec<Device>,
}

#[derive(Debug)]
pub(super) struct Asking {
    pub(super) id: RequestId,
    pub(super) key_ids: Vec<KeyId>,
    /// Whom, once the request has left.
    pub(super) device: Option<Device>,
    pub(super) deadline: Timestamp,
}

impl Lane {
    fn new(now: Timestamp) -> Self {
        Self { wanted: BTreeSet::new(), asking: None, failures: 0, not_before: now, failed: Vec::new() }
    }

    pub(super) fn check_asked(&self, answer: &KeyAnswer) -> Result<(), AnswerFault> {
        let asking = self.asking.as_ref().ok_or(AnswerFault::NotPending)?;
        if answer.next.is_some() || answer.refusal.is_some() {
            return Err(AnswerFault::NotAsked);
        }
        let mut left: BTreeSet<&KeyId> = asking.key_ids.iter().collect();
        let each_once = answer.spoken_of().all(|id| left.remove(id));
        if each_once { Ok(()) } else { Err(AnswerFault::NotAsked) }
    }

    /// The try is over without success: whom was it with?
    pub(super) fn fail(&mut self) {
        let Some(device) = self.asking.take().and_then(|asking| asking.device) else { return };
        self.failed.retain(|failed| failed != &device);
        if self.failed.len() >= MAX_FAILED {
            self.failed.remove(0);
        }
        self.failed.push(device);
    }
}

impl Ask {
    pub(super) fn lane(&mut self, now: Timestamp, tried: Tried) -> &mut Lane {
        self.lanes.entry(tried).or_insert_with(|| Lane::new(now))
    }

    pub(super) fn has_room_for(&self, tried: &Tried) -> bool {
        self.lanes.contains_key(tried) || self.lanes.len() < MAX_LANES
    }

    pub(super) fn is_wanted(&self, key_id: &KeyId) -> bool {
        self.opening.contains_key(key_id) || self.lanes.values().any(|lane| lane.wanted.contains(key_id))
    }

    pub(super) fn wanted(&self) -> usize {
        self.lanes.values().map(|lane| lane.wanted.len()).sum()
    }

    /// The key is here. The lane it was wanted in works.
    pub(super) fn arrived(&mut self, key_id: &KeyId) {
        let by = self.opening.remove(key_id);
        for (tried, lane) in &mut self.lanes {
            if lane.wanted.remove(key_id) || by.as_ref() == Some(tried) {
                lane.failures = 0;
                lane.failed.clear();
            }
        }
        self.refused.remove(key_id);
    }

    pub(super) fn refuse(&mut self, now: Timestamp, key_id: KeyId, refusal: Refusal, memory: Duration) -> Timestamp {
        let until = now.plus(memory);
        if self.refused.len() >= MAX_REFUSED {
            self.refused.retain(|_, (_, until)| now < *until);
        }
        if self.refused.len() < MAX_REFUSED {
            self.refused.insert(key_id, (refusal, until));
        }
        until
    }

    /// Gives up what is wanted in the lane, and returns it. Keys that were granted are as good as here: while they are opened
    /// the lane stays, with its failures, for those that do not open.
    pub(super) fn give_up(&mut self, tried: &Tried) -> Vec<KeyId> {
        let Some(lane) = self.lanes.get_mut(tried) else { return Vec::new() };
        lane.asking = None;
        std::mem::take(&mut lane.wanted).into_iter().collect()
    }

    /// Forgets what is over; whether anything is left.
    pub(super) fn tidy(&mut self, now: Timestamp) -> bool {
        self.refused.retain(|_, (_, until)| now < *until);
        let opening = &self.opening;
        let in_use = |tried: &Tried, lane: &Lane| {
            !lane.wanted.is_empty() || lane.asking.is_some() || opening.values().any(|by| by == tried)
        };
        self.lanes.retain(|tried, lane| in_use(tried, lane));
        !self.lanes.is_empty() || !self.opening.is_empty() || !self.refused.is_empty()
    }
}

impl KeyAnswer {
    fn spoken_of(&self) -> impl Iterator<Item = &KeyId> {
        self.granted.iter().map(|key| &key.key_id).chain(self.refused.iter().map(|refused| &refused.key_id))
    }

    pub(super) fn covers(&self, asked: &[KeyId]) -> bool {
        let spoken: BTreeSet<&KeyId> = self.spoken_of().collect();
        asked.iter().all(|id| spoken.contains(id))
    }
}
