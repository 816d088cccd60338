//! Keys made before they are needed: for the ends of paid time that are known beforehand.
//!
//! A key that goes out when somebody's time is over is overtaken by the first message under it: whoever stays would have to ask,
//! and wait. So a little before the end the next key is made, and sent to those who may read now and after the end. Until
//! then nobody seals with it, is answered with it or finds it in a store.
//!
//! ```text
//!          an end comes within LEAD                 the end is there, and everybody sent it may read still
//!  (none) ─────────────────────────▶ ahead of time ───────────────────────────────────────────────────────▶ current
//!                                         │ nobody ends then any more; somebody sent it may not read any more;
//!                                         │ the key was changed by hand; the publisher was started anew
//!                                         ▼
//!                                     discarded, and never used
//! ```
//! What decides is who was sent it, not who confirmed it: a [`Circle`] has everybody in it before anything leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use veilcast_key_store::GroupKey;

use super::ends::EndWatch;
use crate::identity::UserId;
use crate::permission::Grant;
use crate::time::Timestamp;

/// How long before a known end its key is made and sent; at once, when less is left.
pub const LEAD: Duration = Duration::from_secs(2);

/// The keys of one (publisher, stream) that are ahead of time. Ends come at whole seconds, so there is one for each second of
/// [`LEAD`] at most, and one whose end is there and waits for its rekey.
#[derive(Debug, Default)]
pub struct KeysAhead {
    /// In the order of their ends.
    keys: Vec<KeyAhead>,
}

/// A key ahead of time. Clones are the same key.
#[derive(Clone, Debug)]
pub struct KeyAhead {
    key: GroupKey,
    circle: Circle,
}

impl KeyAhead {
    /// The key.
    pub fn key(&self) -> &GroupKey {
        &self.key
    }

    /// The first moment after the end for which it was made: it is current since then, or never.
    pub fn from(&self) -> Timestamp {
        self.circle.from
    }

    /// Who may be sent it, and was.
    pub fn circle(&self) -> &Circle {
        &self.circle
    }
}

impl KeysAhead {
    /// The end for which a key is to be made at `now`, if there is one. Discards those whose end is not to be any more.
    pub fn due(&mut self, now: Timestamp, ends: &EndWatch) -> Option<Timestamp> {
        let until = now.plus(LEAD);
        let coming = ends.coming(now, until);
        let open = if self.keys.is_empty() { BTreeSet::new() } else { ends.open(now) };
        let is_wanted = |key: &KeyAhead| match key.from() <= now {
            true => open.contains(&key.from()),
            false => coming.contains(&key.from()),
        };
        self.discard_unless(is_wanted);
        coming.into_iter().find(|from| self.keys.iter().all(|key| key.from() != *from))
    }

    /// Takes `key` up for the end before `from`. It may be sent to whoever, as far as is known, may read now and then; and to
    /// those of `served_always`, the owner and the publisher, of whom no list need tell.
    pub fn make(
        &mut self,
        from: Timestamp,
        key: GroupKey,
        now: Timestamp,
        ends: &EndWatch,
        served_always: impl IntoIterator<Item = UserId>,
    ) -> KeyAhead {
        let mut invited: BTreeMap<UserId, bool> = served_always.into_iter().map(|user| (user, true)).collect();
        invited.extend(ends.holding(now, from).map(|user| (user, false)));
        let made = KeyAhead { key, circle: Circle::new(from, invited) };
        // Of those whose end is there the last one serves.
        let ripe = self.keys.iter().filter(|key| key.from() <= now).map(KeyAhead::from).max();
        self.discard_unless(|key| key.from() > now || Some(key.from()) == ripe);
        let place = self.keys.partition_point(|key| key.from() < from);
        self.keys.insert(place, made.clone());
        made
    }

    /// A rekey takes place at `now`: the key that was made for it, if everybody who was sent it may read still, by what `ends`
    /// was told last. It counts as current from now on, and no other that was made for an end up to now is used any more.
    pub fn take(&mut self, now: Timestamp, ends: &EndWatch) -> Option<KeyAhead> {
        let (open, holding) = (ends.open(now), ends.holds(now));
        let ripe = self.keys.partition_point(|key| key.from() <= now);
        let mut taken = None;
        for key in self.keys.drain(..ripe).rev() {
            let fits = taken.is_none() && open.contains(&key.from()) && key.circle.become_current(&holding);
            if fits { taken = Some(key) } else { key.circle.discard() }
        }
        taken
    }

    /// The key was changed by hand: none of these is used.
    pub fn discard(&mut self) {
        self.discard_unless(|_| false);
    }

    fn discard_unless(&mut self, is_wanted: impl Fn(&KeyAhead) -> bool) {
        self.keys.retain(|key| {
            let wanted = is_wanted(key);
            if !wanted {
                key.circle.discard();
            }
            wanted
        });
    }
}

/// Who may be sent a key ahead of time, and who was. Shared by the publisher, who decides, and by whoever sends.
///
/// Joining comes before the check of the permission, and the check before the sending: so whoever the publisher did not see in
/// the circle when it made the key current is checked after that.
#[derive(Clone)]
pub struct Circle {
    from: Timestamp,
    state: Arc<Mutex<State>>,
}

struct State {
    stage: Stage,
    /// Whether each is served always, though no list tells of it.
    invited: BTreeMap<UserId, bool>,
    joined: BTreeSet<UserId>,
}

/// What became of a key ahead of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Ahead,
    Current,
    Discarded,
}

impl Circle {
    fn new(from: Timestamp, invited: BTreeMap<UserId, bool>) -> Self {
        let state = State { stage: Stage::Ahead, invited, joined: BTreeSet::new() };
        Self { from, state: Arc::new(Mutex::new(state)) }
    }

    /// Whether the key may go to `user` at all; before anybody checks or wraps for it.
    pub fn is_open_to(&self, user: UserId) -> bool {
        self.state().is_open_to(user)
    }

    /// Counts `user` as a holder of the key, before its permission is checked and the key is sent. False when the key must not go
    /// there: it was discarded, or goes there already.
    pub fn join(&self, user: UserId) -> bool {
        let mut state = self.state();
        state.is_open_to(user) && state.joined.insert(user)
    }

    /// The check refused: the key was not sent.
    pub fn leave(&self, user: UserId) {
        self.state().joined.remove(&user);
    }

    /// Whether who was checked a moment ago and holds `grant` may be sent it: now, and after the end.
    pub fn allows(&self, grant: &Grant) -> bool {
        match self.state().stage {
            Stage::Ahead => grant.holds_at(self.from).is_ok(),
            Stage::Current => true,
            Stage::Discarded => false,
        }
    }

    /// Everybody in it, in the order of addresses.
    pub fn joined(&self) -> Vec<UserId> {
        self.state().joined.iter().copied().collect()
    }

    /// Whether everybody in it may read, by what is known; then the key is current.
    fn become_current(&self, holding: &BTreeMap<UserId, bool>) -> bool {
        let mut state = self.state();
        let may_read = |user: &UserId| match holding.get(user) {
            Some(holds) => *holds,
            None => state.invited.get(user).is_some_and(|always| *always),
        };
        if state.stage != Stage::Ahead || !state.joined.iter().all(may_read) {
            return false;
        }
        (state.stage, state.invited) = (Stage::Current, BTreeMap::new());
        true
    }

    fn discard(&self) {
        let mut state = self.state();
        (state.stage, state.invited) = (Stage::Discarded, BTreeMap::new());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_open_to(&self, user: UserId) -> bool {
        let invited = match self.stage {
            Stage::Ahead => self.invited.contains_key(&user),
            Stage::Current => true,
            Stage::Discarded => false,
        };
        invited && !self.joined.contains(&user)
    }
}

impl fmt::Debug for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        let (stage, joined) = (state.stage, state.joined.len());
        f.debug_struct("Circle").field("from", &self.from).field("stage", &stage).field("joined", &joined).finish()
    }
}

#[cfg(test)]
#[path = "ahead_tests.rs"]
mod tests;
