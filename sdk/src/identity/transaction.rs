//! Transactions of an identity's Ethereum account (EIP-1559).
//!
//! The hash signed is Keccak-256 over `0x02 | rlp(transaction)`. Nothing of ours is signed by that hash, and nothing of a peer is
//! ever signed here: the transaction is built by this process.

use ethers_core::types::transaction::eip1559::Eip1559TransactionRequest;
use ethers_core::types::transaction::eip2718::TypedTransaction;
use ethers_core::types::{Bytes, H256, Signature, U256};
use ethers_core::utils::keccak256;

use super::Identity;
use super::curve::curve;

/// As nodes take it, and the name it has on the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignedTransaction {
    pub(crate) bytes: Bytes,
    pub(crate) hash: H256,
}

impl Identity {
    /// Signs a transaction of this identity's account: deterministic (RFC 6979), low s (EIP-2).
    pub(crate) fn sign_transaction(&self, transaction: Eip1559TransactionRequest) -> SignedTransaction {
        let transaction = TypedTransaction::Eip1559(transaction);
        let message = secp256k1::Message::from_digest(transaction.sighash().0);
        let (id, compact) = curve().sign_ecdsa_recoverable(message, &self.secret).serialize_compact();
        let (r, s) = (U256::from_big_endian(&compact[..32]), U256::from_big_endian(&compact[32..]));
        // The parity of y. Whether r wrapped around the group order, which no signature ever does, has no place in it.
        let v = (i32::from(id) & 1) as u64;
        let bytes = transaction.rlp_signed(&Signature { r, s, v });
        let hash = H256(keccak256(&bytes));
        SignedTransaction { bytes, hash }
    }
}

#[cfg(test)]
mod tests {
    use ethers_core::types::Address;
    use ethers_core::utils::rlp::Rlp;

    use super::*;

    #[test]
    fn a_signed_transaction_names_its_account_and_has_a_low_s() {
        let identity = Identity::from_secret_bytes(&[0x42; 32]).unwrap();
        let half_order =
            U256::from_str_radix("7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0", 16).unwrap();
        for nonce in 0..50 {
            let transaction = Eip1559TransactionRequest::new()
                .to(Address::from([7; 20]))
                .value(0)
                .nonce(nonce)
                .gas(21_000)
                .max_fee_per_gas(2_000_000_000u64)
                .max_priority_fee_per_gas(1_000_000_000u64)
                .data(vec![1, 2, 3])
                .chain_id(137);
            let signed = identity.sign_transaction(transaction.clone());
            let (decoded, signature) = TypedTransaction::decode_signed(&Rlp::new(&signed.bytes)).unwrap();
            let account = Address::from(*identity.user().as_bytes());
            assert_eq!(signature.recover(decoded.sighash()).unwrap(), account);
            assert_eq!(decoded, TypedTransaction::Eip1559(transaction.clone().from(account)));
            assert!(signature.s <= half_order);
            assert_eq!(decoded.hash(&signature), signed.hash);
            assert_eq!(identity.sign_transaction(transaction), signed, "no randomness");
        }
    }
}
