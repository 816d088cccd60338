//! The number of an account's next transaction.
//!
//! One number is used once: whoever sends holds the account's turn from asking for the number until a node took the transaction.
//! A node that did not see the last ones yet is not believed for a while; a transaction that was lost is not waited for longer than
//! that, however many were sent after it, for none of them would be carried out.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use crate::identity::UserId;

/// How long a node may take to hear of a transaction that another one took.
const GOSSIP: Duration = Duration::from_secs(30);

/// The accounts of this process.
#[derive(Debug, Default)]
pub(super) struct Nonces(Mutex<HashMap<UserId, Arc<tokio::sync::Mutex<Sent>>>>);

/// The transactions that were sent and that no node has counted yet, in the order of their numbers, with when they were sent.
#[derive(Debug, Default)]
pub(super) struct Sent(VecDeque<(u64, Instant)>);

impl Nonces {
    /// Waits until nobody else sends from this account. Dropping the future leaves the line.
    pub(super) async fn turn(&self, account: UserId) -> OwnedMutexGuard<Sent> {
        let turn = self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(account).or_default().clone();
        turn.lock_owned().await
    }
}

impl Sent {
    /// The number to use, if a node counts `pending` transactions of the account.
    pub(super) fn next(&mut self, pending: u64, now: Instant) -> u64 {
        while self.0.front().is_some_and(|(number, _)| *number < pending) {
            self.0.pop_front();
        }
        match (self.0.front(), self.0.back()) {
            (Some((_, oldest)), Some((last, _))) if now.duration_since(*oldest) < GOSSIP => last.saturating_add(1),
            _ => pending,
        }
    }

    /// A node took the transaction of this number. Those of higher numbers were lost, or wait for it.
    pub(super) fn took(&mut self, nonce: u64, now: Instant) {
        self.0.retain(|(number, _)| *number < nonce);
        self.0.push_back((nonce, now));
    }

    /// Somebody else uses this account too: go by what the nodes count.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_did_not_hear_of_the_last_transaction_is_believed_after_a_while_only() {
        let (start, mut sent) = (Instant::now(), Sent::default());
        assert_eq!(sent.next(5, start), 5);
        sent.took(5, start);
        assert_eq!(sent.next(5, start), 6);
        assert_eq!(sent.next(9, start), 9, "another process sent some");
        sent.took(9, start);
        assert_eq!(sent.next(9, start + GOSSIP), 9, "it was lost");
    }

    #[test]
    fn a_lost_transaction_is_not_waited_for_longer_because_others_were_sent_after_it() {
        let (start, mut sent) = (Instant::now(), Sent::default());
        for number in 5..15 {
            let now = start + GOSSIP * u32::try_from(number - 5).unwrap() / 10;
            assert_eq!(sent.next(5, now), number);
            sent.took(number, now);
        }
        assert_eq!(sent.next(5, start + GOSSIP), 5, "the first one was lost");
        sent.took(5, start + GOSSIP);
        assert_eq!(sent.next(5, start + GOSSIP), 6);
        assert_eq!(sent.next(15, start + GOSSIP), 15, "those behind it had only waited for it");
    }
}
