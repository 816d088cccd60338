//! The contract's expiration, and the period it stands for.
//!
//! An expiration is a 256-bit number of seconds since the epoch. The permission holds while it is not below the block's time:
//! at T it does, at T + 1 it does not. Zero is no permission, the largest number is one without an end.

use ethers_core::types::U256;

use crate::permission::Period;
use crate::time::Timestamp;

/// The period of an expiration; `None` where there is no permission. Ends that no clock of ours reaches are cut to the last moment
/// it can tell.
pub(super) fn period(expiration: U256) -> Option<Period> {
    if expiration.is_zero() {
        return None;
    }
    if expiration == U256::MAX {
        return Some(Period::ALWAYS);
    }
    let secs = u64::try_from(expiration).unwrap_or(u64::MAX);
    Some(Period::until(Timestamp::from_secs(secs)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permission::Refusal;

    #[test]
    fn an_expiration_holds_at_its_second_and_not_one_later() {
        let period = period(U256::from(1000)).unwrap();
        assert_eq!(period.refusal_at(Timestamp::from_secs(1000)), None);
        let since = Timestamp::from_secs(1000);
        assert_eq!(period.refusal_at(Timestamp::from_secs(1001)), Some(Refusal::Expired { since }));
    }

    #[test]
    fn zero_is_no_permission_the_largest_number_has_no_end_and_huge_ends_are_cut() {
        assert_eq!(period(U256::zero()), None);
        assert_eq!(period(U256::MAX), Some(Period::ALWAYS));
        let last = Period::until(Timestamp::from_millis(u64::MAX));
        for huge in [U256::MAX - 1, U256::from(u64::MAX), U256::from(u64::MAX) + 1, U256::one() << 200] {
            assert_eq!(period(huge), Some(last), "{huge}");
        }
    }
}
