//! Which of a publisher's past keys a subscriber may have.
//!
//! SUBSCRIBE says who may ask; the publisher's policy for the stream says how far back. It is applied to each key's own
//! period, whether the key is asked for by its id or as one of a span of time. Keys that are pushed are current, and not
//! history.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use veilcast_key_store::{KeyOrigin, RecordStore, StoreError, StoredKey};

use crate::permission::{Grant, Refusal};
use crate::stream::StreamId;
use crate::time::{Timestamp, millis};

/// A key that was replaced so short a while ago is no history: messages under it may still be on their way.
pub const HISTORY_GRACE: Duration = Duration::from_secs(60);

/// Table of the policies, by stream.
const TABLE: &str = "history";

/// How far back a publisher hands out the keys of a stream.
///
/// The owner of a stream is always given every key. Under every policy a key stays to be had for [`HISTORY_GRACE`] after the
/// next one became current, so that messages that wait for their key across a change of keys stay readable: by whoever may have
/// been waiting, and not by somebody whose time began later. (Where the permission source does not know when it began, by all.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum HistoryPolicy {
    /// Every key there ever was.
    #[default]
    All,
    /// Keys in use at or after the beginning of the asker's unbroken time; where the permission source does not know when
    /// that began, as [`HistoryPolicy::None`].
    SinceGrantStart,
    /// Keys in use now or at most so long ago.
    Window(Duration),
    /// The current key only.
    None,
}

/// Who asks for a key, and when, as far as a policy wants to know.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// The grant that lets him ask.
    pub grant: Grant,
    /// He owns the stream.
    pub is_owner: bool,
    /// The present.
    pub now: Timestamp,
}

impl HistoryPolicy {
    /// Whether the asker may have this key of ours.
    ///
    /// # Errors
    /// [`Refusal::Policy`]. What was pre-agreed is handed to nobody: it was shared outside the network. A key that another
    /// device of this publisher made, and that may be over for all that is known here, is [`Refusal::UnknownKey`]: the other
    /// device knows better, and is asked next.
    pub fn allows(self, stored: &StoredKey, asker: &Asker) -> Result<(), Refusal> {
        let open_end = stored.until.is_none() && stored.origin == KeyOrigin::Received;
        match stored.origin {
            KeyOrigin::PreAgreed => Err(Refusal::Policy),
            _ if asker.is_owner || self.reaches(stored, asker) => Ok(()),
            _ => Err(if open_end { Refusal::UnknownKey } else { Refusal::Policy }),
        }
    }

    fn reaches(self, stored: &StoredKey, asker: &Asker) -> bool {
        // Nobody tells a device when another replaced its key: such a key is known to have been in use at its beginning only.
        let known_until = if stored.origin == KeyOrigin::Received { Some(stored.since) } else { None };
        let Some(until) = stored.until.or(known_until).map(Timestamp::from_millis) else { return true };
        let ended_within = |span: Duration| until >= asker.now.minus(span);
        // A grant holds from the second of its start on.
        let began = asker.grant.beginning().map(|began| Timestamp::from_secs(began.as_secs()));
        let in_grace = ended_within(HISTORY_GRACE) && began.is_none_or(|began| until > began);
        in_grace
            || match self {
                Self::All => true,
                Self::SinceGrantStart => began.is_some_and(|began| until > began),
                Self::Window(span) => ended_within(span),
                Self::None => false,
            }
    }
}

/// As records and JSON have it: `all`, `since-grant-start`, `window:MILLISECONDSms`, `none`.
impl fmt::Display for HistoryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::SinceGrantStart => f.write_str("since-grant-start"),
            Self::Window(span) => write!(f, "window:{}ms", millis(*span)),
            Self::None => f.write_str("none"),
        }
    }
}

impl FromStr for HistoryPolicy {
    type Err = HistoryPolicyError;
    fn from_str(text: &str) -> Result<Self, HistoryPolicyError> {
        let window = || {
            let span = text.strip_prefix("window:")?.strip_suffix("ms")?.parse().ok()?;
            Some(Self::Window(Duration::from_millis(span)))
        };
        match text {
            "all" => Ok(Self::All),
            "since-grant-start" => Ok(Self::SinceGrantStart),
            "none" => Ok(Self::None),
            _ => window().ok_or(HistoryPolicyError::Unknown),
        }
    }
}

/// The policies of one publisher, in its own store.
#[derive(Clone)]
pub struct HistoryPolicies {
    records: Arc<dyn RecordStore>,
}

impl HistoryPolicies {
    /// Over the records of a store.
    pub fn new(records: Arc<dyn RecordStore>) -> Self {
        Self { records }
    }

    /// The policy of a stream; [`HistoryPolicy::All`] where none was set.
    ///
    /// # Errors
    /// [`HistoryPolicyError`]: then nothing is to be handed out.
    pub fn of(&self, stream: &StreamId) -> Result<HistoryPolicy, HistoryPolicyError> {
        match self.records.get(TABLE, stream.as_str().as_bytes())? {
            None => Ok(HistoryPolicy::default()),
            Some(found) => std::str::from_utf8(&found).map_err(|_| HistoryPolicyError::Unknown)?.parse(),
        }
    }

    /// Sets the policy of a stream, from the next request on. What was handed out stays handed out.
    ///
    /// # Errors
    /// [`HistoryPolicyError::Store`].
    pub fn set(&self, stream: &StreamId, policy: HistoryPolicy) -> Result<(), HistoryPolicyError> {
        let key = stream.as_str().as_bytes().to_vec();
        Ok(self.records.write(TABLE, &[(key, Some(policy.to_string().into_bytes()))])?)
    }
}

impl fmt::Debug for HistoryPolicies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HistoryPolicies").finish_non_exhaustive()
    }
}

/// Why a stream's policy is not known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryPolicyError {
    /// It is none that this version knows.
    #[error("a history policy is all, since-grant-start, window:SPAN or none")]
    Unknown,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests {
    use veilcast_key_store::{GroupKey, KeyId, MemoryKeyStore};

    use super::*;
    use crate::identity::UserId;
    use crate::permission::{Period, Permission};

    const NOW: u64 = 1_000_000;

    fn stored(since: u64, until: Option<u64>) -> StoredKey {
        let key = GroupKey::new(KeyId::new("k").unwrap(), &[1; 32]).unwrap();
        StoredKey { key, since: since * 1000, until: until.map(|until| until * 1000), origin: KeyOrigin::Made }
    }

    fn asker(began: Option<u64>) -> Asker {
        let start = began.map(Timestamp::from_secs);
        let grant = Grant::new(Permission::Subscribe, Period { start, end: None });
        Asker { grant, is_owner: false, now: Timestamp::from_secs(NOW) }
    }

    /// A key's period in seconds before now, and what each policy says to somebody whose time began 1,000 s ago.
    #[test]
    fn each_policy_is_applied_to_the_keys_own_period() {
        use HistoryPolicy::{All, None as Nothing, SinceGrantStart, Window};
        const YES: bool = true;
        const NO: bool = false;
        let window = Window(Duration::from_secs(500));
        let short = Window(Duration::from_secs(5));
        let policies = [All, SinceGrantStart, window, short, Nothing];
        let cases = [
            ("current for long", 9000, None, [YES, YES, YES, YES, YES]),
            ("current since now", 0, None, [YES, YES, YES, YES, YES]),
            ("ended a minute ago: grace", 9000, Some(60), [YES, YES, YES, YES, YES]),
            ("ended a little more than a minute ago", 9000, Some(61), [YES, YES, YES, NO, NO]),
            ("ended where the window begins", 900, Some(500), [YES, YES, YES, NO, NO]),
            ("ended before the window", 900, Some(501), [YES, YES, NO, NO, NO]),
            ("in use when the grant began", 2000, Some(999), [YES, YES, NO, NO, NO]),
            ("replaced the moment the grant began", 2000, Some(1000), [YES, NO, NO, NO, NO]),
            ("all over before the grant began", 3000, Some(2000), [YES, NO, NO, NO, NO]),
        ];
        for (what, since, until, expected) in cases {
            let key = stored(NOW - since, until.map(|until| NOW - until));
            let said = policies.map(|policy| policy.allows(&key, &asker(Some(NOW - 1000))).is_ok());
            assert_eq!(said, expected, "{what}");
        }
    }

    #[test]
    fn a_key_that_ended_before_the_askers_time_began_is_history_however_short_ago() {
        use HistoryPolicy::{All, None as Nothing, SinceGrantStart, Window};
        let (key, newcomer) = (stored(NOW - 9000, Some(NOW - 2)), asker(Some(NOW - 2)));
        for policy in [SinceGrantStart, Nothing, Window(Duration::from_secs(1))] {
            assert_eq!(policy.allows(&key, &newcomer), Err(Refusal::Policy), "{policy}");
            for may_have_waited in [asker(Some(NOW - 3)), asker(None)] {
                assert_eq!(policy.allows(&key, &may_have_waited), Ok(()), "{policy}");
            }
        }
        for policy in [All, Window(Duration::from_secs(2))] {
            assert_eq!(policy.allows(&key, &newcomer), Ok(()), "{policy}");
        }
    }

    #[test]
    fn another_devices_key_goes_no_further_back_than_the_policy_and_its_device_is_asked_for_the_rest() {
        let received = |since| StoredKey { origin: KeyOrigin::Received, ..stored(since, None) };
        let asker = asker(Some(NOW - 1000));
        for policy in
            [HistoryPolicy::SinceGrantStart, HistoryPolicy::Window(Duration::from_secs(500)), HistoryPolicy::None]
        {
            assert_eq!(policy.allows(&received(NOW - 30), &asker), Ok(()), "{policy}");
            assert_eq!(policy.allows(&received(NOW - 2000), &asker), Err(Refusal::UnknownKey), "{policy}");
        }
        assert_eq!(HistoryPolicy::All.allows(&received(1), &asker), Ok(()));
    }

    #[test]
    fn the_window_and_the_grace_end_to_the_millisecond_and_the_grant_begins_with_its_second() {
        let ended = |millis: u64| StoredKey { until: Some(millis), ..stored(1, None) };
        let now = NOW * 1000;
        let window = HistoryPolicy::Window(Duration::from_secs(500));
        assert!(window.allows(&ended(now - 500_000), &asker(None)).is_ok());
        assert_eq!(window.allows(&ended(now - 500_001), &asker(None)), Err(Refusal::Policy));
        assert!(HistoryPolicy::None.allows(&ended(now - 60_000), &asker(None)).is_ok());
        assert_eq!(HistoryPolicy::None.allows(&ended(now - 60_001), &asker(None)), Err(Refusal::Policy));

        let mut late = asker(None);
        late.grant.began = Some(Timestamp::from_millis(5_900));
        assert!(HistoryPolicy::SinceGrantStart.allows(&ended(5_001), &late).is_ok());
        assert_eq!(HistoryPolicy::SinceGrantStart.allows(&ended(5_000), &late), Err(Refusal::Policy));
    }

    #[test]
    fn a_grant_of_unknown_beginning_reaches_back_to_nothing() {
        let since_start = |key: &StoredKey| HistoryPolicy::SinceGrantStart.allows(key, &asker(None)).is_ok();
        assert!(since_start(&stored(1, None)) && since_start(&stored(1, Some(NOW - 60))));
        assert!(!since_start(&stored(1, Some(NOW - 61))));
    }

    #[test]
    fn the_owner_is_given_every_key_but_nobody_a_pre_agreed_one() {
        let owner = Asker { is_owner: true, ..asker(None) };
        assert!(HistoryPolicy::None.allows(&stored(1, Some(2)), &owner).is_ok());
        let agreed = StoredKey { origin: KeyOrigin::PreAgreed, ..stored(1, None) };
        for asker in [owner, asker(Some(0))] {
            assert_eq!(HistoryPolicy::All.allows(&agreed, &asker), Err(Refusal::Policy));
        }
    }

    #[test]
    fn a_policy_is_kept_by_stream_and_one_that_cannot_be_read_allows_nothing() {
        let records = Arc::new(MemoryKeyStore::new());
        let policies = HistoryPolicies::new(records.clone());
        let stream = |path| StreamId::of(UserId::from_bytes([1; 20]), path).unwrap();
        assert_eq!(policies.of(&stream("a")).unwrap(), HistoryPolicy::All);
        let window = HistoryPolicy::Window(Duration::from_millis(1500));
        for policy in [HistoryPolicy::SinceGrantStart, window, HistoryPolicy::None, HistoryPolicy::All] {
            policies.set(&stream("a"), policy).unwrap();
            assert_eq!(policies.of(&stream("a")).unwrap(), policy);
        }
        policies.set(&stream("a"), window).unwrap();
        assert_eq!(policies.of(&stream("b")).unwrap(), HistoryPolicy::All);
        for unknown in ["", "window:", "window:1", "window:-1ms", "some", "ALL"] {
            let key = stream("a").as_str().as_bytes().to_vec();
            records.write(TABLE, &[(key, Some(unknown.into()))]).unwrap();
            assert!(matches!(policies.of(&stream("a")), Err(HistoryPolicyError::Unknown)), "{unknown:?}");
        }
    }
}
