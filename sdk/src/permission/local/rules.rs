//! What becomes of a grant when another one follows it.

use crate::permission::{Grant, Period};
use crate::time::Timestamp;

/// The start of the grant that follows `old`, and the end of `old` if it does not continue it. `None` when `old` still holds
/// and the new one would leave a hole behind it.
pub(super) fn succeed(old: &Grant, new: &Period, now: Timestamp) -> Option<(Option<Timestamp>, Option<Timestamp>)> {
    let later = new.start.filter(|start| now.as_secs() < start.as_secs());
    match (old.holds_at(now).is_ok(), later) {
        (true, None) => Some((new.start, old.before)),
        (true, Some(start)) => {
            let continues = old.ends().is_none_or(|end| start.as_secs() <= end.as_secs() + 1);
            continues.then_some((old.period.start, old.before))
        }
        (false, _) => Some((new.start, if old.is_over_at(now) { old.void_from() } else { old.before })),
    }
}

/// When the unbroken time begins that a grant given at `now` belongs to. What continues a grant that holds keeps its beginning,
/// or has an earlier one if the owner says so; what follows a pause begins anew.
pub(super) fn began(continued: Option<Grant>, new: &Period, now: Timestamp) -> Timestamp {
    let said = new.start.unwrap_or(now);
    // Of a grant of which nobody noted when it began it is known that it holds.
    continued.map_or(said, |old| old.beginning().unwrap_or(now).min(said))
}
