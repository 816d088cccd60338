//! One publisher's run on one partition: every message names the one before it.

use rand_core::CryptoRng;

use crate::time::Timestamp;
use crate::wire::MessageRef;

/// The chain's id and its last message.
#[derive(Debug)]
pub struct Chain {
    id: [u8; 16],
    last: Option<MessageRef>,
}

impl Chain {
    /// A new chain with a random id.
    pub fn begin<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut id = [0; 16];
        rng.fill_bytes(&mut id);
        Self { id, last: None }
    }

    /// Its id.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// The last message, to be named by the next.
    pub fn last(&self) -> Option<MessageRef> {
        self.last
    }

    /// Where a message published at `now` stands. A clock that was set back does not break the chain: time stands still for it.
    pub fn next(&self, now: Timestamp) -> MessageRef {
        match self.last {
            Some(last) if now <= last.timestamp => Self::after(last),
            _ => MessageRef { timestamp: now, sequence: 0 },
        }
    }

    /// Where a message stands whose author insists on `timestamp`.
    ///
    /// # Errors
    /// [`BackDated`] when it is before the last message; the chain stays as it is.
    pub fn next_at(&self, timestamp: Timestamp) -> Result<MessageRef, BackDated> {
        match self.last {
            Some(last) if timestamp < last.timestamp => Err(BackDated { timestamp, last: last.timestamp }),
            _ => Ok(self.next(timestamp)),
        }
    }

    /// The message at `at` was made.
    pub fn advance(&mut self, at: MessageRef) {
        self.last = Some(at);
    }

    fn after(last: MessageRef) -> MessageRef {
        match last.sequence.checked_add(1) {
            Some(sequence) => MessageRef { timestamp: last.timestamp, sequence },
            None => MessageRef {
                timestamp: Timestamp::from_millis(last.timestamp.as_millis().saturating_add(1)),
                sequence: 0,
            },
        }
    }
}

/// A message dated before the one it would follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message is dated {timestamp}, before the last one of its chain ({last})")]
pub struct BackDated {
    /// The date asked for, ms since the epoch.
    pub timestamp: Timestamp,
    /// The last message's, ms since the epoch.
    pub last: Timestamp,
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn the_sequence_rises_on_equal_timestamps_and_a_back_dated_message_leaves_the_chain_intact() {
        let mut chain = Chain::begin(&mut StdRng::seed_from_u64(1));
        let at = |millis, sequence| MessageRef { timestamp: Timestamp::from_millis(millis), sequence };
        for expected in [at(5, 0), at(5, 1), at(5, 2)] {
            let next = chain.next(Timestamp::from_millis(5));
            assert_eq!(next, expected);
            chain.advance(next);
        }
        let refused = chain.next_at(Timestamp::from_millis(4)).unwrap_err();
        assert_eq!(refused, BackDated { timestamp: Timestamp::from_millis(4), last: Timestamp::from_millis(5) });
        assert_eq!(chain.last(), Some(at(5, 2)));
        assert_eq!(chain.next(Timestamp::from_millis(3)), at(5, 3), "a clock set back");
        assert_eq!(chain.next(Timestamp::from_millis(6)), at(6, 0));
    }
}
