//! One question to the contract: may this user do this now?
//!
//! A permission must hold in two states: behind the newest block, so that what was taken back counts at once, and behind a block some
//! confirmations older, so that no reorganisation can take a grant back that already counted. It must hold at the block's
//! time and by our clock: a node that stands still never expires anybody.

use std::time::Duration;

use ethers_core::types::{Bytes, U256};
use serde_json::Value;

use super::abi::{self, Entry, Malformed, Revert};
use super::expiration::Expiration;
use super::index::Held;
use super::rpc::{Block, Outcome, RpcFault, Trusted};
use crate::identity::UserId;
use crate::permission::{Grant, Period, Permission, Refusal, StreamInfo};
use crate::stream::{MAX_PARTITIONS, StreamId};
use crate::time::Timestamp;

/// Which blocks count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Depth {
    /// Blocks on top of the one whose grants count.
    pub(super) confirmations: u64,
    /// How far the newest block's time may be from our clock, in either direction.
    pub(super) max_head_age: Duration,
    /// What a buyer whose grant is not yet confirmed is told to wait.
    pub(super) retry: Duration,
}

/// The question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) stream: &'a StreamId,
    pub(super) user: UserId,
    pub(super) permission: Permission,
    pub(super) now: Timestamp,
    pub(super) depth: Depth,
}

impl Question<'_> {
    /// What this endpoint answers.
    ///
    /// # Errors
    /// [`RpcFault`]: it cannot tell.
    pub(super) async fn ask(self, endpoint: Trusted<'_>) -> Result<Result<Grant, Refusal>, RpcFault> {
        let head = fresh_head(endpoint, self.now, self.depth).await?;
        let moment = self.now.max(Timestamp::from_secs(head.timestamp));
        let confirmed = head.number.saturating_sub(self.depth.confirmations);
        let (at_head, at_confirmed) = tokio::join!(
            self.expiration(endpoint, head.number, moment),
            // Where nothing waits for confirmation the newest block is asked once.
            async {
                if confirmed == head.number {
                    Ok(None)
                } else {
                    self.expiration(endpoint, confirmed, moment).await.map(Some)
                }
            }
        );
        Ok(self.decide(moment, at_head?, at_confirmed?))
    }

    fn decide(&self, moment: Timestamp, at_head: U256, at_confirmed: Option<U256>) -> Result<Grant, Refusal> {
        let newest = holds(at_head, moment)?;
        let Some(confirmed) = at_confirmed else { return Ok(Grant::new(self.permission, newest)) };
        // Bought, but a reorganisation may still take it back.
        let confirmed = holds(confirmed, moment).map_err(|_| Refusal::Unavailable { retry_after: self.depth.retry })?;
        let end = [newest.end, confirmed.end].into_iter().flatten().min();
        Ok(Grant::new(self.permission, Period { start: None, end }))
    }

    /// Until when the permission holds in the state behind a block; zero where there is no such stream.
    async fn expiration(&self, endpoint: Trusted<'_>, block: u64, moment: Timestamp) -> Result<U256, RpcFault> {
        let own = entry(endpoint.read(abi::permissions_of(self.stream, self.user), block).await?)?;
        let own = own.map_or(U256::zero(), |entry| entry.of(self.permission));
        // The contract goes by the block's time: it answers with a grant of the user's own that ended since, not with everybody's.
        if own.is_zero() || holds(own, moment).is_ok() {
            return Ok(own);
        }
        let public = entry(endpoint.read(abi::public_permissions(self.stream), block).await?)?;
        let public = public.map_or(U256::zero(), |entry| entry.of(self.permission));
        Ok(if holds(public, moment).is_ok() { public } else { own })
    }
}

/// What an endpoint knows of a stream; `None` when the contract says there is none.
///
/// # Errors
/// [`RpcFault`]: it cannot tell.
pub(super) async fn stream_info(
    endpoint: Trusted<'_>,
    stream: &StreamId,
    now: Timestamp,
    depth: Depth,
) -> Result<Option<StreamInfo>, RpcFault> {
    let head = fresh_head(endpoint, now, depth).await?;
    let metadata = match endpoint.read(abi::metadata_of(stream), head.number).await? {
        Ok(output) => abi::decode_metadata(&output).map_err(malformed)?,
        Err(revert) => return no_stream(revert).map(|()| None),
    };
    let everybody =
        Question { stream, user: UserId::from_bytes([0; 20]), permission: Permission::Subscribe, now, depth };
    let public = everybody.ask(endpoint).await?;
    let after = |end: Timestamp| Timestamp::from_secs(end.as_secs().saturating_add(1));
    let (public_until, public_ends) = match public {
        Ok(grant) => (None, grant.period.end.map(after)),
        Err(Refusal::Expired { since }) => (Some(after(since)), None),
        Err(_) => (None, None),
    };
    let partitions = partitions(&metadata)?;
    Ok(Some(StreamInfo { partitions, public: public.is_ok(), public_until, public_ends }))
}

/// The contract's own entry of a user in the state behind a block; nothing where there is no such stream.
///
/// # Errors
/// [`RpcFault`]: it cannot tell.
pub(super) async fn held(endpoint: Trusted<'_>, stream: &StreamId, user: UserId, block: u64) -> Result<Held, RpcFault> {
    let entry = entry(endpoint.read(abi::own_permissions(stream, user), block).await?)?;
    let of = |entry: Entry, permission| Expiration::of(entry.of(permission));
    Ok(entry.map_or(Held::NOTHING, |entry| Held {
        publish: of(entry, Permission::Publish),
        subscribe: of(entry, Permission::Subscribe),
    }))
}

/// The newest block, if the time it was made can be the present.
pub(super) async fn fresh_head(endpoint: Trusted<'_>, now: Timestamp, depth: Depth) -> Result<Block, RpcFault> {
    let head = endpoint.head().await?;
    let made = Timestamp::from_secs(head.timestamp);
    let (age, ahead) = (now.since(made), made.since(now));
    if age > depth.max_head_age {
        return Err(RpcFault::Stale { age });
    }
    if ahead > depth.max_head_age { Err(RpcFault::Ahead { ahead }) } else { Ok(head) }
}

fn holds(expiration: U256, moment: Timestamp) -> Result<Period, Refusal> {
    let period = Expiration::of(expiration).period().ok_or(Refusal::Denied)?;
    period.refusal_at(moment).map_or(Ok(period), Err)
}

fn entry(outcome: Outcome<Bytes>) -> Result<Option<Entry>, RpcFault> {
    match outcome {
        Ok(output) => Entry::decode(&output).map(Some).map_err(malformed),
        Err(revert) => no_stream(revert).map(|()| None),
    }
}

/// Any revert but the one that says so is no answer.
fn no_stream(revert: Revert) -> Result<(), RpcFault> {
    if revert.is_no_stream() { Ok(()) } else { Err(RpcFault::Reverted { reason: revert.reason }) }
}

fn malformed(_: Malformed) -> RpcFault {
    RpcFault::Malformed { what: "what the contract answers" }
}

/// The partitions that a stream's metadata names, one where it names none. Other numbers than a stream can have are no answer:
/// a guess would scatter its messages.
fn partitions(metadata: &str) -> Result<u32, RpcFault> {
    let value = serde_json::from_str::<Value>(metadata).unwrap_or_default();
    let Some(named) = value.get("partitions") else { return Ok(1) };
    let number = named.as_u64().and_then(|number| u32::try_from(number).ok());
    number.filter(|number| (1..=MAX_PARTITIONS).contains(number)).ok_or(RpcFault::Metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1000);
    const RETRY: Duration = Duration::from_secs(5);

    fn decide(at_head: u64, at_confirmed: u64) -> Result<Grant, Refusal> {
        let stream = StreamId::of(UserId::from_bytes([1; 20]), "s").unwrap();
        let depth = Depth { confirmations: 5, max_head_age: RETRY, retry: RETRY };
        let (user, permission) = (UserId::from_bytes([2; 20]), Permission::Subscribe);
        let question = Question { stream: &stream, user, permission, now: NOW, depth };
        question.decide(NOW, at_head.into(), Some(at_confirmed.into()))
    }

    #[test]
    fn a_grant_counts_once_confirmed_and_a_revocation_at_once() {
        let until = |secs| Ok(Grant::new(Permission::Subscribe, Period::until(Timestamp::from_secs(secs))));
        let unconfirmed = Err(Refusal::Unavailable { retry_after: RETRY });
        assert_eq!(decide(2000, 2000), until(2000));
        assert_eq!(decide(2000, 0), unconfirmed, "bought just now");
        assert_eq!(decide(2000, 999), unconfirmed, "bought again just now");
        assert_eq!(decide(0, 2000), Err(Refusal::Denied), "revoked just now");
        assert_eq!(decide(999, 2000), Err(Refusal::Expired { since: Timestamp::from_secs(999) }), "cut short just now");
        assert_eq!(decide(2000, 1500), until(1500), "prolonged just now");
        assert_eq!(decide(1500, 2000), until(1500), "shortened just now");
    }

    #[test]
    fn a_stream_has_the_partitions_its_metadata_names_or_one() {
        for (metadata, expected) in
            [("{}", 1), ("", 1), ("prices", 1), ("[]", 1), (r#"{"partitions":1}"#, 1), (r#"{"partitions":100}"#, 100)]
        {
            assert_eq!(partitions(metadata), Ok(expected), "{metadata}");
        }
        for wrong in ["0", "101", "-1", "1.5", "\"3\"", "null", "1e99", "18446744073709551616"] {
            assert!(partitions(&format!(r#"{{"partitions":{wrong}}}"#)).is_err(), "{wrong}");
        }
    }
}
