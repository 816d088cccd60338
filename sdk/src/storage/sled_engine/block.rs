//! Many messages in one piece, as they lie in a file.
//!
//! Layout, big-endian: `version 1 | checksum 4 | count 4 | count times (place 48 | end 4) | envelopes`. Places ascend. Each
//! envelope begins where the one before it ends, the first at nothing. The checksum is CRC-32 of all behind it: against disks,
//! not against people, since whoever reads a message checks its signature.

use std::cmp::Ordering;

use bytes::Bytes;

use crate::storage::{Place, StorageError};

/// Version of a block.
const VERSION: u8 = 1;
const SUMMED_FROM: usize = 1 + 4;
const HEAD: usize = SUMMED_FROM + 4;
const ENTRY: usize = Place::LEN + 4;

/// A block that was read, and found whole.
#[derive(Debug)]
pub(super) struct Block {
    bytes: Bytes,
    count: usize,
}

impl Block {
    /// The bytes of a block of these messages, which are in order.
    pub(super) fn encode(messages: &[(Place, Bytes)]) -> Vec<u8> {
        let data: usize = messages.iter().map(|(_, envelope)| envelope.len()).sum();
        let mut out = Vec::with_capacity(HEAD + messages.len() * ENTRY + data);
        out.extend([VERSION, 0, 0, 0, 0]);
        out.extend(short(messages.len()));
        let mut end = 0;
        for (place, envelope) in messages {
            end += envelope.len();
            out.extend(place.to_key());
            out.extend(short(end));
        }
        messages.iter().for_each(|(_, envelope)| out.extend_from_slice(envelope));
        let sum = crc32fast::hash(&out[SUMMED_FROM..]);
        out[1..SUMMED_FROM].copy_from_slice(&sum.to_be_bytes());
        out
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Self, StorageError> {
        match bytes.first() {
            Some(&VERSION) => {}
            Some(&found) if found > VERSION => {
                return Err(StorageError::NewerVersion { found, supported: VERSION });
            }
            _ => return Err(damaged()),
        }
        let count = checked_count(&bytes).ok_or_else(damaged)?;
        let block = Self { bytes, count };
        if block.is_in_order() { Ok(block) } else { Err(damaged()) }
    }

    /// How many messages.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Bytes it takes in memory.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn get(&self, n: usize) -> Option<(Place, Bytes)> {
        let (place, end) = self.entry(n)?;
        let data = HEAD + self.count * ENTRY;
        Some((Place::from_key(place)?, self.bytes.slice(data + self.begin(n)?..data + end)))
    }

    /// The number of the first message that is not before `place`.
    pub(super) fn lower_bound(&self, place: &Place) -> usize {
        let (wanted, mut low, mut high) = (place.to_key(), 0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.entry(middle).map(|(place, _)| place.cmp(&wanted)) {
                Some(Ordering::Less) => low = middle + 1,
                _ => high = middle,
            }
        }
        low
    }

    pub(super) fn contains(&self, place: &Place) -> bool {
        self.entry(self.lower_bound(place)).is_some_and(|(found, _)| *found == place.to_key())
    }

    fn entry(&self, n: usize) -> Option<(&[u8], usize)> {
        if n >= self.count {
            return None;
        }
        let (place, end) = self.bytes.get(HEAD + n * ENTRY..)?.get(..ENTRY)?.split_last_chunk()?;
        Some((place, usize::try_from(u32::from_be_bytes(*end)).ok()?))
    }

    fn begin(&self, n: usize) -> Option<usize> {
        n.checked_sub(1).map_or(Some(0), |before| Some(self.entry(before)?.1))
    }

    /// Places ascend, envelopes follow each other, and all bytes belong to one.
    fn is_in_order(&self) -> bool {
        let (mut before, mut reached): (&[u8], usize) = (&[], 0);
        for n in 0..self.count {
            let Some((place, end)) = self.entry(n) else { return false };
            if place <= before || end < reached {
                return false;
            }
            (before, reached) = (place, end);
        }
        self.bytes.len() == HEAD + self.count * ENTRY + reached
    }
}

/// How many messages the block says it has, where its checksum fits and all their entries are there.
fn checked_count(bytes: &[u8]) -> Option<usize> {
    let (sum, summed) = bytes.get(1..)?.split_first_chunk()?;
    if crc32fast::hash(summed) != u32::from_be_bytes(*sum) {
        return None;
    }
    let (count, rest) = summed.split_first_chunk()?;
    let count = usize::try_from(u32::from_be_bytes(*count)).ok()?;
    (rest.len() / ENTRY >= count && count > 0).then_some(count)
}

/// A block is far smaller than 4 GiB: it is cut at a megabyte, and no message is larger.
fn short(n: usize) -> [u8; 4] {
    u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes()
}

fn damaged() -> StorageError {
    StorageError::damaged("a block of messages")
}

/// Whether the bytes are a block. For fuzzing: what was read is written as it was read.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn reads_block(data: &[u8]) -> bool {
    let Ok(block) = Block::decode(Bytes::copy_from_slice(data)) else { return false };
    let messages: Vec<_> = (0..block.len() + 1).map_while(|n| block.get(n)).collect();
    assert_eq!(messages.len(), block.len());
    for (n, (place, _)) in messages.iter().enumerate() {
        assert!(block.contains(place) && block.lower_bound(place) == n);
    }
    assert_eq!(Block::encode(&messages), data);
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::identity::UserId;
    use crate::time::Timestamp;
    use crate::wire::MessageRef;

    fn messages() -> impl Strategy<Value = Vec<(Place, Bytes)>> {
        let place = (any::<u64>(), any::<u32>(), any::<[u8; 20]>(), any::<[u8; 16]>());
        let place = place.prop_map(|(millis, sequence, publisher, chain)| {
            let at = MessageRef { timestamp: Timestamp::from_millis(millis), sequence };
            Place { at, publisher: UserId::from_bytes(publisher), chain }
        });
        let envelope = prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
        prop::collection::btree_map(place, envelope, 1..20).prop_map(|messages| messages.into_iter().collect())
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back_and_found_by_its_place(messages in messages(), other in messages()) {
            let block = Block::decode(Block::encode(&messages).into()).unwrap();
            prop_assert_eq!((0..block.len()).map(|n| block.get(n).unwrap()).collect::<Vec<_>>(), messages.clone());
            prop_assert!(block.get(block.len()).is_none());
            for (place, _) in messages.iter().chain(&other) {
                prop_assert_eq!(block.lower_bound(place), messages.partition_point(|(found, _)| found < place));
                prop_assert_eq!(block.contains(place), messages.iter().any(|(found, _)| found == place));
            }
        }

        #[test]
        fn what_is_no_block_is_refused_quietly_with_a_checksum_that_fits_as_well(
            messages in messages(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()
        ) {
            let mut bytes = Block::encode(&messages);
            let at = SUMMED_FROM + at.index(bytes.len() - SUMMED_FROM);
            if cut { bytes.truncate(at) } else { bytes[at] = byte }
            let sum = crc32fast::hash(&bytes[SUMMED_FROM..]);
            bytes[1..SUMMED_FROM].copy_from_slice(&sum.to_be_bytes());
            reads_block(&bytes);
        }
    }

    #[test]
    fn the_bytes_of_a_block_are_frozen() {
        let at = MessageRef { timestamp: Timestamp::from_millis(2), sequence: 3 };
        let place = Place { at, publisher: UserId::from_bytes([4; 20]), chain: [5; 16] };
        let later = Place { chain: [6; 16], ..place };
        let block = Block::encode(&[(place, Bytes::from_static(b"ab")), (later, Bytes::from_static(b"c"))]);
        let entry = |chain: &str, end: &str| format!("{:016x}{:08x}{}{}{end}", 2, 3, "04".repeat(20), chain.repeat(16));
        let rest = ["00000002", &entry("05", "00000002"), &entry("06", "00000003"), "616263"].concat();
        let sum = crc32fast::hash(&hex::decode(&rest).unwrap());
        assert_eq!(hex::encode(block), format!("01{sum:08x}{rest}"));
    }
}
