//! The contract's expiration: a 256-bit number of seconds since the epoch, kept in 64.
//!
//! The permission holds while it is not below the block's time: at T it does, at T + 1 it does not.

use std::fmt;

use ethers_core::types::U256;

use crate::permission::Period;
use crate::time::Timestamp;

/// The last second, since the epoch, at which a permission holds. The contract's own number has 256 bits: zero is no permission,
/// the largest one without an end. Ends that no clock of ours reaches are cut to the last moment it can tell.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Expiration(u64);

impl Expiration {
    /// No permission.
    pub(super) const NONE: Self = Self(0);
    /// A permission without an end.
    pub(super) const NEVER: Self = Self(u64::MAX);

    /// That second.
    pub(super) const fn at(secs: u64) -> Self {
        Self(secs)
    }

    /// From the contract's number.
    pub(super) fn of(number: U256) -> Self {
        if number == U256::MAX {
            return Self::NEVER;
        }
        Self(u64::try_from(number).unwrap_or(u64::MAX).min(u64::MAX - 1))
    }

    /// As a record has it.
    pub(super) const fn number(self) -> u64 {
        self.0
    }

    /// Whether it holds in a block of this time, seconds since the epoch.
    pub(super) const fn holds_at(self, time: u64) -> bool {
        self.0 != 0 && self.0 >= time
    }

    /// The period it stands for; `None` where it is no permission.
    pub(super) const fn period(self) -> Option<Period> {
        match self {
            Self::NONE => None,
            Self::NEVER => Some(Period::ALWAYS),
            Self(secs) => Some(Period::until(Timestamp::from_secs(secs))),
        }
    }
}

impl fmt::Debug for Expiration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NONE => f.write_str("none"),
            Self::NEVER => f.write_str("never"),
            Self(secs) => write!(f, "{secs} s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permission::Refusal;

    #[test]
    fn an_expiration_holds_at_its_second_and_not_one_later() {
        assert!(Expiration::at(5).holds_at(5) && !Expiration::at(5).holds_at(6));
        let period = Expiration::of(1000.into()).period().unwrap();
        assert_eq!(period.refusal_at(Timestamp::from_secs(1000)), None);
        let since = Timestamp::from_secs(1000);
        assert_eq!(period.refusal_at(Timestamp::from_secs(1001)), Some(Refusal::Expired { since }));
    }

    #[test]
    fn zero_is_no_permission_the_largest_number_has_no_end_and_huge_ends_are_cut() {
        assert_eq!((Expiration::of(U256::zero()), Expiration::NONE.period()), (Expiration::NONE, None));
        assert_eq!((Expiration::of(U256::MAX), Expiration::NEVER.period()), (Expiration::NEVER, Some(Period::ALWAYS)));
        assert!(!Expiration::NONE.holds_at(0) && Expiration::NEVER.holds_at(u64::MAX));
        let last = Some(Period::until(Timestamp::from_millis(u64::MAX)));
        for huge in [U256::MAX - 1, U256::from(u64::MAX), U256::from(u64::MAX) + 1, U256::one() << 200] {
            assert_eq!(Expiration::of(huge), Expiration::at(u64::MAX - 1), "{huge}");
            assert_eq!(Expiration::of(huge).period(), last, "{huge}");
        }
    }
}
