//! What a publisher set for a stream, and how its keys really were used: counted anew, and in true time.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use veilcast::exchange::{HISTORY_GRACE, HistoryPolicy};
use veilcast::key_store::KeyId;
use veilcast::publisher::{Every, KeyPolicy};

/// How often keys change by themselves, and how far back they are handed out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) keys: KeyPolicy,
    pub(crate) history: HistoryPolicy,
}

impl Rules {
    /// Most streams have none, as by default.
    pub(crate) fn any(rng: &mut StdRng) -> Self {
        let seconds = |rng: &mut StdRng, range| Every::time(Duration::from_secs(rng.random_range(range)));
        let rotate_every = match rng.random_range(0..8) {
            0 | 1 => Every::messages([1, 2, 3, 9, 20][rng.random_range(0..5)]),
            2 => seconds(rng, 1..20),
            _ => Every::NEVER,
        };
        let rekey_every = match rng.random_range(0..8) {
            0 => Every::messages(rng.random_range(1..12)),
            1 => seconds(rng, 3..40),
            _ => Every::NEVER,
        };
        let history = match rng.random_range(0..8) {
            0 => HistoryPolicy::None,
            1 => HistoryPolicy::Window(Duration::from_secs(rng.random_range(0..100))),
            2 => HistoryPolicy::SinceGrantStart,
            _ => HistoryPolicy::All,
        };
        Self { keys: KeyPolicy { rotate_every, rekey_every }, history }
    }
}

/// When a key was current, in true time.
#[derive(Clone, Copy)]
struct Use {
    since: u64,
    until: Option<u64>,
    sealed: u64,
    /// The rekey it came from, by whatever rotations.
    root: usize,
}

/// The keys of one stream of one publisher, as they were used.
#[derive(Default)]
pub(crate) struct Used {
    keys: BTreeMap<KeyId, Use>,
    current: Option<KeyId>,
    /// Messages sealed since each rekey, and when that was.
    rekeys: Vec<(u64, u64)>,
}

impl Used {
    /// On disk as the current key: by a rekey (or as the first), or as the one that follows.
    pub(crate) fn becomes_current(&mut self, key_id: &KeyId, anew: bool, now: u64) {
        if self.current.as_ref() == Some(key_id) {
            return;
        }
        let before = self.current.replace(key_id.clone()).and_then(|before| self.keys.get_mut(&before));
        // Of those made in one millisecond each is dated behind the one before.
        let since = before.as_ref().map_or(now, |before| now.max(before.since + 1));
        let root = before.as_ref().map(|before| before.root);
        before.into_iter().for_each(|before| before.until = Some(since));
        let root = root.filter(|_| !anew).unwrap_or_else(|| {
            self.rekeys.push((0, now));
            self.rekeys.len() - 1
        });
        self.keys.insert(key_id.clone(), Use { since, until: None, sealed: 0, root });
    }

    /// A message under the key. `timely`: the publisher's clock was never set, so its ages are true.
    ///
    /// # Errors
    /// Which rule it breaks.
    pub(crate) fn seals(&mut self, key_id: &KeyId, rules: &Rules, timely: bool, now: u64) -> Result<(), String> {
        let used = self.keys.get_mut(key_id).ok_or("sealed under a key that never was current")?;
        let (rekeyed, since) = self.rekeys.get_mut(used.root).map(|(sealed, at)| (sealed, now - *at)).unwrap();
        used.sealed += 1;
        *rekeyed += 1;
        let within = |every: Every, count: u64| every.messages.is_none_or(|limit| count <= limit.get());
        let KeyPolicy { rotate_every, rekey_every } = rules.keys;
        let young = !timely || rekey_every.time.is_none_or(|limit| Duration::from_millis(since) <= limit);
        if within(rotate_every, used.sealed) && within(rekey_every, *rekeyed) && young {
            return Ok(());
        }
        Err(format!("{} under it and {rekeyed} since its rekey {since} ms ago, with {:?}", used.sealed, rules.keys))
    }

    /// Whether the history policy lets anybody have this key now whose unbroken time began then.
    pub(crate) fn allows(&self, key_id: &KeyId, policy: HistoryPolicy, began: Option<u64>, now: u64) -> bool {
        let Some(until) = self.keys.get(key_id).map(|used| used.until) else { return false };
        let Some(until) = until else { return true };
        let ended_within = |span: Duration| Duration::from_millis(now.saturating_sub(until)) <= span;
        let in_grace = ended_within(HISTORY_GRACE) && began.is_none_or(|began| until > began);
        in_grace
            || match policy {
                HistoryPolicy::All => true,
                HistoryPolicy::SinceGrantStart => began.is_some_and(|began| until > began),
                HistoryPolicy::Window(span) => ended_within(span),
                _ => false,
            }
    }
}
