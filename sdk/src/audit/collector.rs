//! What waits to be written, and what is only counted: no peer can make the log grow, or itself unseen, by repeating itself.
//!
//! Pure and bounded. A key given is listed; the same key given to the same user for the same public key under the same grant is
//! counted for an hour. A refusal is listed at once; more of the same user, stream and reason are counted and written as one entry
//! per interval. Refusals in all are listed at a bounded rate, and counted beyond. What finds the queue full is counted, too.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use lru::LruCache;
use sha2::{Digest, Sha256};
use veilcast_key_store::KeyId;

use super::entry::{AuditEvent, Handed, Repeats};
use super::hash::framed;
use crate::identity::UserId;
use crate::permission::{Period, Refusal};
use crate::publisher::{Given, Place};
use crate::stream::StreamId;
use crate::time::Timestamp;
use crate::wire::{KeyAnswer, KeyRequest, Wanted};

/// Ids that an entry lists of keys refused.
const LISTED_REFUSED: usize = 8;
/// What an entry takes beside its key ids, roughly, bytes.
const ENTRY: usize = 512;

/// How much is listed one by one, and how much waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditPace {
    /// How long repeats are counted before an entry says so.
    pub interval: Duration,
    /// How long a key that was given is not listed again.
    pub listed_for: Duration,
    /// Given keys remembered as listed. The least recent is forgotten, and then listed again.
    pub listed: usize,
    /// Entries about refusals that may be written one after the other.
    pub refusals: u32,
    /// How long until one more of them may be.
    pub refusal_every: Duration,
    /// Users and streams whose repeats are counted apart.
    pub apart: usize,
    /// Entries waiting to be written.
    pub waiting: usize,
    /// And their size, bytes, roughly.
    pub waiting_bytes: usize,
}

impl Default for AuditPace {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(600),
            listed_for: Duration::from_secs(3600),
            listed: 65_536,
            refusals: 2_000,
            refusal_every: Duration::from_secs(5),
            apart: 4_096,
            waiting: 8_192,
            waiting_bytes: 16 << 20,
        }
    }
}

/// What one count is about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Given(UserId, StreamId),
    /// With the name of the reason.
    Refused(UserId, StreamId, &'static str),
    Unlisted,
    Throttled,
}

struct Tally {
    opened: Timestamp,
    refusal: Option<Refusal>,
    repeats: Repeats,
}

/// Takes in what happened, and hands it out in batches.
pub struct Collector {
    pace: AuditPace,
    listed: LruCache<[u8; 32], Timestamp>,
    counted: BTreeMap<Subject, Tally>,
    allowance: u32,
    /// Since when the allowance counts.
    allowed: Timestamp,
    waiting: VecDeque<(Timestamp, AuditEvent)>,
    waiting_bytes: usize,
    not_written: u64,
}

impl Collector {
    /// That has seen nothing yet.
    pub fn new(pace: AuditPace, now: Timestamp) -> Self {
        Self {
            pace,
            listed: LruCache::unbounded(),
            counted: BTreeMap::new(),
            allowance: pace.refusals,
            allowed: now,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            not_written: 0,
        }
    }

    /// A request was answered, under this grant where keys were given.
    pub fn answered(&mut self, request: &KeyRequest, answer: &KeyAnswer, grant: Option<Period>, now: Timestamp) {
        let by = match request.wanted {
            Wanted::Keys(_) => Handed::ToIds,
            Wanted::Range(_) => Handed::ToSpan,
        };
        let public_key = Sha256::digest(&request.public_key).into();
        let deal = Deal { stream: &answer.stream, user: answer.requester, by, public_key };
        if !answer.granted.is_empty() {
            let keys = answer.granted.iter().map(|key| key.key_id.clone()).collect();
            self.give(&deal, keys, grant.unwrap_or_default(), now);
        }
        let mut reasons: BTreeMap<&'static str, (Refusal, Vec<KeyId>)> = BTreeMap::new();
        for refused in &answer.refused {
            let (_, keys) = reasons.entry(refused.refusal.name()).or_insert((refused.refusal, Vec::new()));
            keys.push(refused.key_id.clone());
        }
        if let Some(refusal) = answer.refusal {
            reasons.insert(refusal.name(), (refusal, Vec::new()));
        }
        for (refusal, keys) in reasons.into_values() {
            self.refuse(&deal, keys, refusal, now);
        }
    }

    /// A rekey sent somebody the key.
    pub fn pushed(&mut self, given: &Given, confirmed: bool, now: Timestamp) {
        let by = if confirmed { Handed::Push } else { Handed::PushUnconfirmed };
        let deal = Deal { stream: &given.stream, user: given.user, by, public_key: given.place.fingerprint() };
        self.give(&deal, given.keys.iter().map(|(id, _)| id.clone()).collect(), given.grant, now);
    }

    /// A rekey did not send somebody the key.
    pub fn withheld(&mut self, stream: &StreamId, to: (UserId, &Place), key: &KeyId, refusal: Refusal, now: Timestamp) {
        let (user, place) = to;
        let deal = Deal { stream, user, by: Handed::Push, public_key: place.fingerprint() };
        self.refuse(&deal, vec![key.clone()], refusal, now);
    }

    /// A request was refused as one too many. Whoever it names may not have signed it, so it is counted under no name.
    pub fn throttled(&mut self, keys: usize, now: Timestamp) {
        self.count(Subject::Throttled, keys, None, now);
    }

    /// So many entries handed out by [`batch`](Self::batch) could not be written, or what they [stand for](AuditEvent::stands_for).
    pub fn failed(&mut self, entries: u64) {
        self.not_written = self.not_written.saturating_add(entries);
    }

    /// Whether anything waits to be written.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() || self.not_written > 0
    }

    /// Whether anything is counted that will have to be written some time.
    pub fn is_counting(&self) -> bool {
        !self.counted.is_empty()
    }

    /// Writes what was counted for an interval into entries. To be called now and then.
    pub fn tick(&mut self, now: Timestamp) {
        let interval = self.pace.interval;
        // A clock set back would make them wait for long.
        let is_due = |tally: &Tally| now.since(tally.opened) >= interval || now < tally.opened;
        self.close(|tally| is_due(tally), now);
    }

    /// Writes all that was counted into entries: the last thing before a stop.
    pub fn settle(&mut self, now: Timestamp) {
        // Counts beyond the rate are joined, and that one is closed after them.
        while self.is_counting() {
            self.close(|_| true, now);
        }
    }

    /// What waits, the oldest first, at most `limit` entries; and one more that says how many were not written.
    pub fn batch(&mut self, limit: usize, now: Timestamp) -> Vec<(Timestamp, AuditEvent)> {
        let taken = self.waiting.len().min(limit);
        let mut batch: Vec<_> = self.waiting.drain(..taken).collect();
        self.waiting_bytes -= batch.iter().map(|(_, event)| size(event)).sum::<usize>();
        if self.waiting.is_empty() && self.not_written > 0 {
            let entries = std::mem::take(&mut self.not_written);
            batch.push((now, AuditEvent::NotWritten { entries }));
        }
        batch
    }

    fn give(&mut self, deal: &Deal<'_>, keys: Vec<KeyId>, grant: Period, now: Timestamp) {
        let all = keys.len();
        let keys: Vec<KeyId> = keys.into_iter().filter(|key| self.is_new(deal, key, grant, now)).collect();
        let again = all - keys.len();
        if !keys.is_empty() {
            let Deal { stream, user, by, public_key } = *deal;
            self.push(AuditEvent::Given { stream: stream.clone(), user, keys, by, grant, public_key }, now);
        }
        if again > 0 {
            self.count(Subject::Given(deal.user, deal.stream.clone()), again, None, now);
        }
    }

    fn refuse(&mut self, deal: &Deal<'_>, mut keys: Vec<KeyId>, refusal: Refusal, now: Timestamp) {
        let Deal { stream, user, by, public_key } = *deal;
        let subject = Subject::Refused(user, stream.clone(), refusal.name());
        let is_known = self.counted.contains_key(&subject);
        if is_known || self.counted.len() >= self.pace.apart || !self.is_allowed(now) {
            return self.count(subject, keys.len(), Some(refusal), now);
        }
        self.counted.insert(subject, Tally::opened(Some(refusal), now));
        let count = keys.len() as u64;
        keys.truncate(LISTED_REFUSED);
        self.push(AuditEvent::Refused { stream: stream.clone(), user, keys, count, by, refusal, public_key }, now);
    }

    /// Counts something that is not listed, with its like where there is a count of it or room for one, and else with all others.
    fn count(&mut self, subject: Subject, keys: usize, refusal: Option<Refusal>, now: Timestamp) {
        let opens = matches!(subject, Subject::Given(..) | Subject::Unlisted | Subject::Throttled);
        let is_full = self.counted.len() >= self.pace.apart;
        let subject = match subject {
            subject if self.counted.contains_key(&subject) => subject,
            Subject::Given(..) if is_full => Subject::Unlisted,
            subject if opens => subject,
            _ => Subject::Unlisted,
        };
        let tally = self.counted.entry(subject).or_insert_with(|| Tally::opened(None, now));
        tally.refusal = refusal.or(tally.refusal);
        tally.repeats.add(1, keys as u64, now, now);
    }

    /// Whether a given key is to be listed: not within the hour, or not just so.
    fn is_new(&mut self, deal: &Deal<'_>, key: &KeyId, grant: Period, now: Timestamp) -> bool {
        let [start, end] = [grant.start, grant.end].map(|moment| moment.map(|moment| moment.as_millis().to_be_bytes()));
        let (start, end) = (start.as_ref().map_or(&[][..], |bytes| bytes), end.as_ref().map_or(&[][..], |bytes| bytes));
        let (stream, key) = (deal.stream.as_str().as_bytes(), key.as_str().as_bytes());
        let by = deal.by.name().as_bytes();
        let parts = [stream, deal.user.as_bytes(), key, &deal.public_key, by, start, end];
        let name = framed("veilcast/1/audit-listed", &parts);
        let listed = self.listed.get(&name).copied();
        if listed.is_some_and(|at| now >= at && now.since(at) < self.pace.listed_for) {
            return false;
        }
        if self.listed.len() >= self.pace.listed {
            self.listed.pop_lru();
        }
        self.listed.put(name, now);
        true
    }

    /// Takes one from the allowance of entries about refusals.
    fn is_allowed(&mut self, now: Timestamp) -> bool {
        let every = self.pace.refusal_every.max(Duration::from_millis(1));
        let gained = now.since(self.allowed).as_millis() / every.as_millis();
        let gained = u32::try_from(gained).unwrap_or(u32::MAX);
        self.allowance = self.allowance.saturating_add(gained).min(self.pace.refusals);
        // What is left over of the time counts on; a clock set back begins anew.
        let back = now < self.allowed || self.allowance == self.pace.refusals;
        self.allowed = if back { now } else { self.allowed.plus(every.saturating_mul(gained)) };
        let left = self.allowance.checked_sub(1);
        self.allowance = left.unwrap_or(0);
        left.is_some()
    }

    fn close(&mut self, is_due: impl Fn(&Tally) -> bool, now: Timestamp) {
        let due: Vec<_> = self.counted.iter().filter(|(_, tally)| is_due(tally)).map(|(of, _)| of.clone()).collect();
        for subject in due {
            let Some(Tally { refusal, repeats, .. }) = self.counted.remove(&subject) else { continue };
            if repeats.times > 0 {
                self.write_count(subject, refusal, repeats, now);
            }
        }
    }

    fn write_count(&mut self, subject: Subject, refusal: Option<Refusal>, repeats: Repeats, now: Timestamp) {
        let event = match (subject, refusal) {
            (Subject::Given(user, stream), _) => AuditEvent::GivenAgain { stream, user, repeats },
            (Subject::Throttled, _) => AuditEvent::Throttled { repeats },
            (Subject::Refused(user, stream, _), Some(refusal)) if self.is_allowed(now) => {
                AuditEvent::RefusedAgain { stream, user, refusal, repeats }
            }
            (Subject::Refused(..), _) => {
                let tally = self.counted.entry(Subject::Unlisted).or_insert_with(|| Tally::opened(None, now));
                return tally.repeats.join(repeats);
            }
            (Subject::Unlisted, _) => AuditEvent::Unlisted { repeats },
        };
        self.push(event, now);
    }

    fn push(&mut self, event: AuditEvent, now: Timestamp) {
        let size = size(&event);
        if self.waiting.len() >= self.pace.waiting || self.waiting_bytes + size > self.pace.waiting_bytes {
            self.not_written = self.not_written.saturating_add(1);
        } else {
            self.waiting_bytes += size;
            self.waiting.push_back((now, event));
        }
    }
}

/// Whom keys were handed to, or not.
struct Deal<'a> {
    stream: &'a StreamId,
    user: UserId,
    by: Handed,
    public_key: [u8; 32],
}

impl Tally {
    const fn opened(refusal: Option<Refusal>, now: Timestamp) -> Self {
        Self { opened: now, refusal, repeats: Repeats { times: 0, keys: 0, since: now, until: now } }
    }
}

impl Repeats {
    fn add(&mut self, times: u64, keys: u64, since: Timestamp, until: Timestamp) {
        self.join(Self { times, keys, since, until });
    }

    fn join(&mut self, more: Self) {
        if self.times == 0 {
            *self = more;
            return;
        }
        self.times = self.times.saturating_add(more.times);
        self.keys = self.keys.saturating_add(more.keys);
        (self.since, self.until) = (self.since.min(more.since), self.until.max(more.until));
    }
}

fn size(event: &AuditEvent) -> usize {
    let ids = match event {
        AuditEvent::Given { keys, .. } | AuditEvent::Refused { keys, .. } => keys.as_slice(),
        _ => &[],
    };
    ENTRY + ids.iter().map(|id| id.as_str().len() + size_of::<KeyId>()).sum::<usize>()
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (waiting, counted) = (self.waiting.len(), self.counted.len());
        f.debug_struct("Collector").field("waiting", &waiting).field("counted", &counted).finish_non_exhaustive()
    }
}
