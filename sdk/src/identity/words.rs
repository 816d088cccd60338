//! An address in words, for two people who make sure of it by voice or on paper.

use bip39::Language;
use sha2::{Digest, Sha256};

use super::UserId;

const TAG: &[u8] = b"veilcast/1/user-words";
/// How many words an address has: 132 bits.
const WORDS: usize = 12;
/// One of 2048.
const BITS: usize = 11;

impl UserId {
    /// Twelve words of the English list of BIP-39 that stand for this address: the first 132 bits of
    /// SHA-256(`veilcast/1/user-words` | address), 11 bits a word.
    ///
    /// Two people who compare all of them know that they mean one address: somebody who wants another address with the same words
    /// has to try about 2^132 identities. Whoever compares only some of them is protected by 11 bits for each. The words are as
    /// public as the address, and no seed of a wallet.
    pub fn words(&self) -> [&'static str; WORDS] {
        let digest = Sha256::new_with_prefix(TAG).chain_update(self.as_bytes()).finalize();
        let bit = |at: usize| usize::from(digest[at / 8] >> (7 - at % 8) & 1);
        std::array::from_fn(|word| {
            let index = (word * BITS..(word + 1) * BITS).fold(0, |index, at| index << 1 | bit(at));
            Language::English.word_list()[index]
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_words_of_an_address_are_frozen() {
        let user: UserId = "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed".parse().unwrap();
        assert_eq!(
            user.words().join(" "),
            "parrot mosquito digital barely seed dial motion music obscure foot asset arena"
        );
    }

    #[test]
    fn addresses_that_differ_in_one_bit_share_no_more_words_than_chance_gives() {
        let mut bytes = [0x5a; 20];
        let words = UserId::from_bytes(bytes).words();
        for bit in 0..160 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let others = UserId::from_bytes(bytes).words();
            let same = words.iter().zip(others).filter(|(word, other)| **word == *other).count();
            assert!(same <= 2, "bit {bit}: {others:?}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn no_two_words_of_the_list_begin_with_the_same_four_letters() {
        let list = Language::English.word_list();
        let beginnings: BTreeSet<_> = list.iter().map(|word| &word[..word.len().min(4)]).collect();
        assert_eq!((list.len(), beginnings.len()), (2048, 2048));
    }
}
