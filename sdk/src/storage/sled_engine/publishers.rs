//! Which publishers a block has messages of: a Bloom filter, so that a block costs an index of a few bytes and not an entry
//! for each message. It may say yes once in a hundred times where it should say no; then a block is read in vain.

use std::collections::BTreeSet;

use crate::identity::UserId;

/// Bits for each publisher.
const BITS: usize = 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Publishers(Vec<u8>);

impl Publishers {
    pub(super) fn of(publishers: impl Iterator<Item = UserId>) -> Self {
        let publishers: BTreeSet<UserId> = publishers.collect();
        let mut bits = vec![0; (publishers.len() * BITS).div_ceil(8)];
        for publisher in &publishers {
            for (byte, bit) in places(*publisher, bits.len()) {
                bits[byte] |= bit;
            }
        }
        Self(bits)
    }

    /// As they were written.
    pub(super) fn read(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn may_have(&self, publisher: UserId) -> bool {
        places(publisher, self.0.len()).all(|(byte, bit)| self.0[byte] & bit != 0)
    }
}

/// A user id is a hash already: each of its five words says one bit.
fn places(publisher: UserId, bytes: usize) -> impl Iterator<Item = (usize, u8)> {
    let words =
        publisher.as_bytes().as_chunks().0.iter().map(|word| u32::from_be_bytes(*word) as usize).collect::<Vec<_>>();
    words.into_iter().filter(move |_| bytes > 0).map(move |word| (word % (bytes * 8) / 8, 1 << (word % 8)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(n: u32) -> UserId {
        let hash = <sha2::Sha256 as sha2::Digest>::digest(n.to_be_bytes());
        UserId::from_bytes(*hash.first_chunk().unwrap())
    }

    #[test]
    fn every_publisher_of_a_block_is_found_and_few_others() {
        for count in [1, 2, 10, 1000] {
            let publishers = Publishers::read(Publishers::of((0..count).map(user)).as_bytes());
            assert!((0..count).all(|n| publishers.may_have(user(n))));
            let others = (count..count + 10_000).filter(|n| publishers.may_have(user(*n))).count();
            assert!(others < 400, "{others} of 10,000 beside {count}");
            assert!(publishers.as_bytes().len() <= 2 * count as usize);
        }
        assert_eq!(Publishers::of((0..5).map(|_| user(1))), Publishers::of([user(1)].into_iter()), "each counts once");
    }
}
