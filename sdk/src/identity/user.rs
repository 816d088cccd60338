//! The 20-byte address of an identity.

use std::fmt;
use std::str::FromStr;

use sha3::{Digest, Keccak256};

/// A user: the Ethereum address of an identity, 20 bytes. Printed in lower case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(pub(super) [u8; 20]);

impl UserId {
    /// Bytes in an address.
    pub const LEN: usize = 20;

    /// From its bytes.
    pub const fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// The address of a public key: the last 20 bytes of Keccak-256 over its 64 coordinate bytes (Ethereum Yellow Paper, appendix F).
    pub(super) fn of_public_key(key: &secp256k1::PublicKey) -> Self {
        let digest = Keccak256::digest(&key.serialize_uncompressed()[1..]);
        let mut address = [0; 20];
        address.copy_from_slice(&digest[12..]);
        Self(address)
    }

    /// With the mixed-case checksum of EIP-55.
    pub fn checksummed(&self) -> String {
        let lower = hex::encode(self.0);
        let digest = Keccak256::digest(lower.as_bytes());
        let upper = |(i, c): (usize, char)| {
            let nibble = digest[i / 2] >> (4 * (1 - i % 2)) & 0xf;
            if nibble >= 8 { c.to_ascii_uppercase() } else { c }
        };
        format!("0x{}", lower.chars().enumerate().map(upper).collect::<String>())
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex::encode(self.0))
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for UserId {
    type Err = UserIdError;
    /// `0x` and 40 hex digits. Mixed case is a checksum (EIP-55) and must be right; one case alone carries none.
    fn from_str(text: &str) -> Result<Self, UserIdError> {
        let shape = || UserIdError::Shape { got: text.chars().take(60).collect() };
        let digits = text.strip_prefix("0x").ok_or_else(shape)?;
        let bytes = hex::decode(digits).ok().and_then(|b| <[u8; 20]>::try_from(b).ok()).ok_or_else(shape)?;
        let user = Self(bytes);
        let mixed =
            digits.contains(|c: char| c.is_ascii_uppercase()) && digits.contains(|c: char| c.is_ascii_lowercase());
        if mixed && user.checksummed() != text {
            return Err(UserIdError::Checksum { expected: user.checksummed() });
        }
        Ok(user)
    }
}

impl TryFrom<&[u8]> for UserId {
    type Error = UserIdError;
    fn try_from(bytes: &[u8]) -> Result<Self, UserIdError> {
        bytes.try_into().map(Self).map_err(|_| UserIdError::Shape { got: format!("{} bytes", bytes.len()) })
    }
}

/// Why text is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UserIdError {
    /// Not `0x` and 40 hex digits.
    #[error("an address is 0x and 40 hex digits, not {got:?}")]
    Shape {
        /// What it was, cut short.
        got: String,
    },
    /// Mixed case with a wrong EIP-55 checksum: probably a typing error.
    #[error("the address has a wrong checksum (a typing error?); if its digits are right it is written {expected}")]
    Checksum {
        /// The right spelling of the same digits.
        expected: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mixed_case_address_with_a_wrong_checksum_is_refused() {
        // The first example of EIP-55.
        let right = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
        assert_eq!(right.parse::<UserId>().unwrap().checksummed(), right);
        assert_eq!(right.to_lowercase().parse::<UserId>().unwrap().checksummed(), right);
        let typo = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1Beaed";
        assert!(matches!(typo.parse::<UserId>(), Err(UserIdError::Checksum { .. })));
        for wrong in ["", "0x", "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0x5a", "0xzz"] {
            assert!(matches!(wrong.parse::<UserId>(), Err(UserIdError::Shape { .. })), "{wrong:?}");
        }
    }
}
