//! Permissions, grants with a start and an end, and typed refusals.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::time::Timestamp;

/// What a user may be allowed to do on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Permission {
    /// Send messages.
    Publish,
    /// Get keys and read.
    Subscribe,
}

impl Permission {
    /// Its name in text and records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Permission {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "publish" => Ok(Self::Publish),
            "subscribe" => Ok(Self::Subscribe),
            other => Err(format!("a permission is publish or subscribe, not {other:?}")),
        }
    }
}

/// When a grant holds: from its start to its end, both included at second precision, either may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Period {
    /// First moment it holds.
    pub start: Option<Timestamp>,
    /// Last moment it holds: valid at T, not at T + 1 s.
    pub end: Option<Timestamp>,
}

impl Period {
    /// For ever.
    pub const ALWAYS: Self = Self { start: None, end: None };

    /// Until `end`.
    pub const fn until(end: Timestamp) -> Self {
        Self { start: None, end: Some(end) }
    }

    /// Checks that it makes sense to grant it at `now`.
    ///
    /// # Errors
    /// [`PeriodError`] when it ends before it starts, or has ended already.
    pub fn grantable_at(&self, now: Timestamp) -> Result<(), PeriodError> {
        match (self.start, self.end) {
            (Some(start), Some(end)) if end < start => Err(PeriodError::EndsBeforeStart { start, end }),
            (_, Some(end)) if end.as_secs() < now.as_secs() => Err(PeriodError::EndInThePast { end, now }),
            _ => Ok(()),
        }
    }

    /// The refusal it implies at `now`; `None` while it holds.
    pub fn refusal_at(&self, now: Timestamp) -> Option<Refusal> {
        if let Some(from) = self.start.filter(|start| now.as_secs() < start.as_secs()) {
            return Some(Refusal::NotYet { from });
        }
        let ended = self.end.filter(|end| now.as_secs() > end.as_secs());
        ended.map(|since| Refusal::Expired { since })
    }
}

/// Why a period cannot be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeriodError {
    /// Empty.
    #[error("the grant would end ({end}) before it starts ({start})")]
    EndsBeforeStart {
        /// Its start, ms since the epoch.
        start: Timestamp,
        /// Its end, ms since the epoch.
        end: Timestamp,
    },
    /// Over before it is given.
    #[error("the grant would end in the past ({end}, now is {now})")]
    EndInThePast {
        /// Its end, ms since the epoch.
        end: Timestamp,
        /// The present.
        now: Timestamp,
    },
}

/// A permission somebody holds, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What it allows.
    pub permission: Permission,
    /// When.
    pub period: Period,
    /// When it was taken back early. It is void, whatever its period says, and even if a clock was set back since.
    pub revoked: Option<Timestamp>,
    /// From when on an earlier grant, which this one did not continue, was void.
    pub before: Option<Timestamp>,
    /// When its holder's unbroken time began, where that is not the start of its period: when it was given, or when the
    /// grant began that it continues.
    pub began: Option<Timestamp>,
}

impl Grant {
    /// A grant that nobody took back.
    pub const fn new(permission: Permission, period: Period) -> Self {
        Self { permission, period, revoked: None, before: None, began: None }
    }

    /// When its holder's unbroken time began; `None` when the source cannot tell.
    pub fn beginning(&self) -> Option<Timestamp> {
        self.began.or(self.period.start)
    }

    /// Whether it holds at `now`, or why not.
    ///
    /// # Errors
    /// The refusal it implies.
    pub fn holds_at(&self, now: Timestamp) -> Result<(), Refusal> {
        if let Some(since) = self.revoked {
            return Err(Refusal::Expired { since });
        }
        self.period.refusal_at(now).map_or(Ok(()), Err)
    }

    /// The last moment it holds, by period or revocation; `None` when it does not end. A grant revoked before its start never held.
    pub fn ends(&self) -> Option<Timestamp> {
        match (self.revoked, self.period.end) {
            (Some(revoked), Some(end)) => Some(revoked.min(end)),
            (revoked, end) => revoked.or(end),
        }
    }

    /// The first moment from which it is void for good; `None` when it does not end.
    pub(crate) fn void_from(&self) -> Option<Timestamp> {
        let after_end = self.period.end.map(|end| Timestamp::from_secs(end.as_secs().saturating_add(1)));
        match (self.revoked, after_end) {
            (Some(revoked), Some(end)) => Some(revoked.min(end)),
            (revoked, end) => revoked.or(end),
        }
    }

    /// Whether it has ended by `now`.
    pub fn is_over_at(&self, now: Timestamp) -> bool {
        matches!(self.holds_at(now), Err(Refusal::Expired { .. }))
    }

    /// The moments from which it, and the one before it, is void for good, as far as that is so at `now`. What was taken
    /// back is void even if that moment seems to be ahead, because a clock was set back.
    pub(crate) fn voids_at(&self, now: Timestamp) -> impl Iterator<Item = Timestamp> + use<> {
        let void = self.void_from().filter(|void| self.revoked.is_some() || *void <= now);
        [self.before, void].into_iter().flatten()
    }
}

/// A typed "no".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No grant.
    #[error("denied: no permission")]
    Denied,
    /// The grant has not begun.
    #[error("not yet: the grant begins at {from}")]
    NotYet {
        /// When it begins, ms since the epoch.
        from: Timestamp,
    },
    /// The grant has ended, by its end or by being revoked.
    #[error("expired: the grant ended at {since}")]
    Expired {
        /// When it ended, ms since the epoch.
        since: Timestamp,
    },
    /// The publisher has no such key for this stream.
    #[error("unknown key: the publisher has no such key for this stream")]
    UnknownKey,
    /// Too many requests.
    #[error("throttled: try again after {} ms", .retry_after.as_millis())]
    Throttled {
        /// How long to wait.
        retry_after: Duration,
    },
    /// The publisher's policy does not give out this key.
    #[error("policy: the publisher does not give out this key")]
    Policy,
    /// No permission source could be asked.
    #[error("unavailable: the permission cannot be checked now, try again after {} ms", .retry_after.as_millis())]
    Unavailable {
        /// How long to wait.
        retry_after: Duration,
    },
    /// The request's algorithm or public key is not acceptable.
    #[error("unacceptable algorithm: RSA-OAEP-SHA-256 with 2048 to 4096 bits is needed")]
    UnacceptableAlgorithm,
}

impl Refusal {
    /// Its name in events and JSON.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::NotYet { .. } => "not_yet",
            Self::Expired { .. } => "expired",
            Self::UnknownKey => "unknown_key",
            Self::Throttled { .. } => "throttled",
            Self::Policy => "policy",
            Self::Unavailable { .. } => "unavailable",
            Self::UnacceptableAlgorithm => "unacceptable_algorithm",
        }
    }

    /// How long to wait before asking again is worth it, where the refusal says so.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after } | Self::Unavailable { retry_after } => Some(*retry_after),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn a_grant_is_valid_at_its_last_second_and_not_one_second_later() {
        let grant = Grant::new(Permission::Subscribe, Period { start: Some(at(10)), end: Some(at(20)) });
        assert_eq!(grant.holds_at(at(9)), Err(Refusal::NotYet { from: at(10) }));
        assert_eq!(grant.holds_at(at(10)), Ok(()));
        assert_eq!(grant.holds_at(at(20).plus(Duration::from_millis(999))), Ok(()));
        assert_eq!(grant.holds_at(at(21)), Err(Refusal::Expired { since: at(20) }));
    }

    #[test]
    fn a_revoked_grant_is_void_at_once() {
        let mut grant = Grant::new(Permission::Subscribe, Period::until(at(20)));
        grant.revoked = Some(at(15));
        assert_eq!(grant.holds_at(at(15)), Err(Refusal::Expired { since: at(15) }));
        assert_eq!(grant.holds_at(at(14)), Err(Refusal::Expired { since: at(15) }), "though the clock was set back");
        assert_eq!(grant.voids_at(at(14)).collect::<Vec<_>>(), [at(15)]);
    }

    #[test]
    fn a_grant_that_ends_in_the_past_or_before_it_starts_is_not_made() {
        let backwards = Period { start: Some(at(20)), end: Some(at(10)) };
        assert!(matches!(backwards.grantable_at(at(1)), Err(PeriodError::EndsBeforeStart { .. })));
        assert!(matches!(Period::until(at(10)).grantable_at(at(11)), Err(PeriodError::EndInThePast { .. })));
        assert_eq!(Period::until(at(10)).grantable_at(at(10)), Ok(()));
    }
}
