//! What a user's changes, one after another, come to: a [`Grant`] with its beginning, its end and what was before it.
//!
//! The same truths as in the local registry. A renewal while the permission holds goes on with it; one after its end, or after
//! it was taken back, begins anew and remembers the end before. What the newest blocks give does not count yet, for a
//! reorganisation may take it back; what they take away counts at once.

use std::time::Duration;

use super::Expiration;
use crate::permission::{Grant, Permission};
use crate::time::Timestamp;

/// One change of one permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The time of its block, seconds since the epoch.
    pub(super) time: u64,
    /// Whether enough blocks lie on top of it.
    pub(super) confirmed: bool,
    /// The permission from then on.
    pub(super) expiration: Expiration,
}

/// The grant that the steps, in the order of the chain, come to. `None` where there never was one that counts.
pub(super) fn grant(permission: Permission, steps: impl IntoIterator<Item = Step>) -> Option<Grant> {
    steps.into_iter().fold(None, |before, step| after(permission, before, step))
}

fn after(permission: Permission, before: Option<Grant>, step: Step) -> Option<Grant> {
    let now = Timestamp::from_secs(step.time);
    let held = before.filter(|grant| grant.holds_at(now).is_ok());
    if !step.expiration.holds_at(step.time) {
        return held.map(|grant| revoked(grant, now)).or(before);
    }
    let Some(period) = step.expiration.period() else { return before };
    match (held, before) {
        (Some(grant), _) if step.confirmed || narrows(&grant, step.expiration) => Some(Grant { period, ..grant }),
        (Some(_), _) => before,
        (None, _) if !step.confirmed => before,
        (None, over) => {
            let new = Grant::new(permission, period);
            Some(Grant { began: Some(now), before: over.and_then(|grant| grant.void_from()), ..new })
        }
    }
}

/// An end is told from another by its moment, so one user's rise strictly: several changes may have the time of one block.
fn revoked(grant: Grant, now: Timestamp) -> Grant {
    let moment = grant.before.map_or(now, |before| now.max(before.plus(Duration::from_millis(1))));
    Grant { revoked: Some(moment), ..grant }
}

fn narrows(grant: &Grant, to: Expiration) -> bool {
    match (grant.period.end, to.period().and_then(|period| period.end)) {
        (Some(old), Some(new)) => new < old,
        (old, new) => old.is_none() && new.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permission::Period;

    const fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    const fn step(time: u64, end: u64) -> Step {
        Step { time, confirmed: true, expiration: Expiration::at(end) }
    }

    const fn fresh(time: u64, end: u64) -> Step {
        Step { confirmed: false, ..step(time, end) }
    }

    fn fold(steps: &[Step]) -> Option<Grant> {
        grant(Permission::Subscribe, steps.iter().copied())
    }

    fn of(steps: &[Step]) -> Grant {
        fold(steps).unwrap()
    }

    #[test]
    fn a_renewal_before_the_end_or_in_its_last_second_goes_on_and_one_later_begins_anew() {
        let renewed = of(&[step(10, 20), step(20, 40)]);
        assert_eq!((renewed.beginning(), renewed.before, renewed.period), (Some(at(10)), None, Period::until(at(40))));
        let again = of(&[step(10, 20), step(21, 40)]);
        assert_eq!((again.beginning(), again.before), (Some(at(21)), Some(at(21))));
        assert_eq!(again.voids_at(at(41)).collect::<Vec<_>>(), [at(21), at(41)], "he may hold the key of then");
    }

    #[test]
    fn taken_back_is_revoked_at_the_time_of_the_block_also_by_an_end_in_the_past() {
        for end in [0, 5, 14] {
            let grant = of(&[step(10, 20), step(15, end)]);
            assert_eq!((grant.revoked, grant.period.end), (Some(at(15)), Some(at(20))), "{end}");
        }
        let shortened = of(&[step(10, 20), step(15, 15)]);
        assert_eq!((shortened.revoked, shortened.ends()), (None, Some(at(15))));
        assert_eq!(of(&[step(10, 20), step(15, 0), step(16, 0)]).revoked, Some(at(15)), "and once");
    }

    #[test]
    fn an_end_is_not_moved_by_taking_back_what_is_over() {
        let grant = of(&[step(10, 20), step(30, 0)]);
        assert_eq!((grant.revoked, grant.void_from()), (None, Some(at(21))));
    }

    #[test]
    fn what_was_never_a_permission_is_none() {
        assert_eq!(fold(&[]), None);
        assert_eq!(fold(&[step(10, 0), step(11, 5), step(12, 0)]), None);
    }

    #[test]
    fn taken_back_twice_within_one_block_is_two_ends() {
        let grant = of(&[step(10, 20), step(12, 0), step(12, 20), step(12, 0)]);
        let ends: Vec<_> = grant.voids_at(at(12)).collect();
        assert_eq!(ends, [at(12), at(12).plus(Duration::from_millis(1))]);
    }

    #[test]
    fn the_newest_blocks_give_nothing_yet_and_take_at_once() {
        assert_eq!(fold(&[fresh(10, 20)]), None);
        assert_eq!(of(&[step(10, 20), fresh(15, 40)]).ends(), Some(at(20)));
        assert_eq!(of(&[step(10, 20), fresh(15, 17)]).ends(), Some(at(17)));
        assert_eq!(of(&[step(10, 20), fresh(15, 0)]).revoked, Some(at(15)));
        assert_eq!(of(&[step(10, 20), fresh(15, 0), fresh(16, 40)]).revoked, Some(at(15)), "not given back yet");
        let never = Step { expiration: Expiration::NEVER, ..fresh(15, 0) };
        assert_eq!(of(&[step(10, 20), never]).ends(), Some(at(20)));
        let limited = [Step { expiration: Expiration::NEVER, ..step(10, 0) }, fresh(15, 40)];
        assert_eq!(of(&limited).ends(), Some(at(40)));
    }
}
