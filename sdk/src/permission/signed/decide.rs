//! What an owner's statements about one user come to. Pure: statements and the time in, an answer out.

use std::time::Duration;

use crate::permission::{Grant, Permission, Refusal, StreamInfo};
use crate::time::Timestamp;
use crate::wire::{SignedGrant, StreamRecord};

/// When to ask again where the owner's newest word is missing or out of date.
const RETRY: Duration = Duration::from_secs(5);
/// What is said where the owner's word is missing.
pub(super) const UNAVAILABLE: Refusal = Refusal::Unavailable { retry_after: RETRY };

/// The grants of one user for one permission, as they count: those that follow each other without a pause are one, and each
/// that was taken back stands alone.
pub(super) fn grants(record: Option<&StreamRecord>, permission: Permission, signed: &[SignedGrant]) -> Vec<Grant> {
    let revoked = |grant: &SignedGrant| record.and_then(|record| record.revoked(grant));
    let mut all: Vec<Grant> = signed.iter().map(|grant| counted(grant, permission, revoked(grant))).collect();
    all.sort_by_key(|grant| (grant.revoked.is_some(), grant.beginning(), grant.period.start));
    let mut merged: Vec<Grant> = Vec::with_capacity(all.len());
    for grant in all {
        match merged.last_mut().filter(|last| continues(last, &grant)) {
            Some(last) => last.period.end = last.period.end.zip(grant.period.end).map(|(one, other)| one.max(other)),
            None => merged.push(grant),
        }
    }
    merged
}

fn counted(grant: &SignedGrant, permission: Permission, revoked: Option<Timestamp>) -> Grant {
    let began = Some(grant.period.start.unwrap_or(grant.issued));
    Grant { revoked, began, ..Grant::new(permission, grant.period) }
}

fn continues(before: &Grant, after: &Grant) -> bool {
    let begins = after.beginning().unwrap_or(Timestamp::ZERO).as_secs();
    let reaches = before.period.end.is_none_or(|end| begins <= end.as_secs().saturating_add(1));
    before.revoked.is_none() && after.revoked.is_none() && reaches
}

/// Whether a user may at `now`, by the newest record there is and the user's own grants.
///
/// # Errors
/// Why not; [`UNAVAILABLE`] where only a record that is missing or expired could tell.
pub(super) fn decide(
    record: Option<&StreamRecord>,
    permission: Permission,
    grants: &[Grant],
    is_named: bool,
    now: Timestamp,
) -> Result<Grant, Refusal> {
    let said = by_grants(grants, now);
    let Some(record) = record.filter(|record| record.holds_at(now)) else {
        return Err(match said {
            Err(over @ (Refusal::Expired { .. } | Refusal::NotYet { .. })) => over,
            _ => UNAVAILABLE,
        });
    };
    let by_record = match permission {
        Permission::Publish => is_named,
        Permission::Subscribe => record.public,
    };
    if by_record { Ok(Grant::new(permission, crate::permission::Period::ALWAYS)) } else { said }
}

fn by_grants(grants: &[Grant], now: Timestamp) -> Result<Grant, Refusal> {
    let mut refusal = Refusal::Denied;
    for grant in grants {
        match (grant.holds_at(now), refusal) {
            (Ok(()), _) => return Ok(*grant),
            // What is still to begin is better news than what is over; of either the nearest.
            (Err(Refusal::NotYet { from }), Refusal::NotYet { from: before }) => {
                refusal = Refusal::NotYet { from: from.min(before) };
            }
            (Err(Refusal::Expired { .. }), Refusal::NotYet { .. }) => {}
            (Err(Refusal::Expired { since }), Refusal::Expired { since: before }) => {
                refusal = Refusal::Expired { since: since.max(before) };
            }
            (Err(other), _) => refusal = other,
        }
    }
    Err(refusal)
}

/// What a record says of its stream at `now`. One that expired does not make anything public: nobody can tell, and whoever
/// asked for a key until then may hold it.
pub(super) fn info(record: &StreamRecord, now: Timestamp) -> StreamInfo {
    let StreamRecord { partitions, public, public_until, expires, .. } = *record;
    StreamInfo { partitions, public, public_until, public_ends: public.then_some(expires) }.at(now)
}
