//! The number of an account's next transaction.
//!
//! One number is used once: whoever sends holds the account's turn from asking for the number until a node took the transaction.
//! A node that did not see the last one yet is not believed for a while; a transaction that was lost is not waited for longer than
//! that, for nothing after it would be carried out.

use std::collections::HashMap;
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

/// The last transaction that was sent.
#[derive(Debug, Default)]
pub(super) struct Sent(Option<(u64, Instant)>);

impl Nonces {
    /// Waits until nobody else sends from this account. Dropping the future leaves the line.
    pub(super) async fn turn(&self, account: UserId) -> OwnedMutexGuard<Sent> {
        let turn = self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(account).or_default().clone();
        turn.lock_owned().await
    }
}

impl Sent {
    /// The number to use, if a node counts `pending` transactions of the account.
    pub(super) fn next(&self, pending: u64, now: Instant) -> u64 {
        match self.0 {
            Some((last, at)) if now.duration_since(at) < GOSSIP => pending.max(last.saturating_add(1)),
            _ => pending,
        }
    }

    /// A node took the transaction of this number.
    pub(super) fn took(&mut self, nonce: u64, now: Instant) {
        self.0 = Some((nonce, now));
    }

    /// Somebody else uses this account too: go by what the nodes count.
    pub(super) fn forget(&mut self) {
        self.0 = None;
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
        assert_eq!(sent.next(5, start + GOSSIP), 5, "it was lost");
    }
}
