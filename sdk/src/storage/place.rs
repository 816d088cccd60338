//! Where a message stands among those of its partition.

use crate::identity::UserId;
use crate::time::Timestamp;
use crate::wire::{MessageContent, MessageRef};

/// A message's place in its partition: by time, then by author. An author who signs for two messages with one chain, timestamp
/// and sequence has one of them kept, whichever came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Timestamp and sequence.
    pub at: MessageRef,
    /// Whose message.
    pub publisher: UserId,
    /// Of which chain.
    pub chain: [u8; 16],
}

impl Place {
    /// Bytes of its key in an index.
    pub(super) const LEN: usize = 8 + 4 + UserId::LEN + 16;

    /// In the order of [`Ord`], as bytes: `timestamp 8 | sequence 4 | publisher 20 | chain 16`.
    pub(super) fn to_key(self) -> [u8; Self::LEN] {
        let mut key = [0; Self::LEN];
        let parts: [&[u8]; 4] = [
            &self.at.timestamp.as_millis().to_be_bytes(),
            &self.at.sequence.to_be_bytes(),
            self.publisher.as_bytes(),
            &self.chain,
        ];
        key.iter_mut().zip(parts.concat()).for_each(|(to, from)| *to = from);
        key
    }

    pub(super) fn from_key(key: &[u8]) -> Option<Self> {
        let (timestamp, rest) = key.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (publisher, chain) = rest.split_first_chunk()?;
        let at = MessageRef {
            timestamp: Timestamp::from_millis(u64::from_be_bytes(*timestamp)),
            sequence: u32::from_be_bytes(*sequence),
        };
        Some(Self { at, publisher: UserId::from_bytes(*publisher), chain: chain.try_into().ok()? })
    }
}

impl From<&MessageContent> for Place {
    fn from(content: &MessageContent) -> Self {
        Self { at: content.at, publisher: content.publisher, chain: content.chain }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(millis: u64, sequence: u32, publisher: u8, chain: u8) -> Place {
        let at = MessageRef { timestamp: Timestamp::from_millis(millis), sequence };
        Place { at, publisher: UserId::from_bytes([publisher; 20]), chain: [chain; 16] }
    }

    #[test]
    fn keys_sort_as_places_do_and_are_read_back() {
        let places = [
            place(1, 2, 3, 4),
            place(1, 2, 3, 5),
            place(1, 2, 4, 0),
            place(1, 3, 0, 0),
            place(2, 0, 0, 0),
            place(300, 0, 0, 0),
        ];
        assert!(places.is_sorted() && places.map(Place::to_key).is_sorted());
        for place in places {
            assert_eq!(Place::from_key(&place.to_key()), Some(place));
            assert_eq!(Place::from_key(&place.to_key()[1..]), None);
        }
    }
}
