//! The StreamRegistry contract's calls, answers and errors as bytes.
//!
//! What comes back is a node's claim: lengths are checked before anything is decoded, and what does not decode is
//! [`Malformed`].

use std::sync::OnceLock;

use ethers_contract::BaseContract;
use ethers_core::abi::{self, ParamType, Token, Tokenize, parse_abi};
use ethers_core::types::{Address, Bytes, U256};

use crate::identity::UserId;
use crate::permission::Permission;
use crate::stream::StreamId;

/// What we use of the contract (StreamRegistryV5).
const SIGNATURES: [&str; 9] = [
    "function getPermissionsForUser(string,address) view returns (bool,bool,uint256,uint256,bool)",
    "function getDirectPermissionsForUser(string,address) view returns (bool,bool,uint256,uint256,bool)",
    "function getStreamMetadata(string) view returns (string)",
    "function createStream(string,string)",
    "function setExpirationTime(string,address,uint8,uint256)",
    "function grantPermission(string,address,uint8)",
    "function revokePermission(string,address,uint8)",
    "function grantPublicPermission(string,uint8)",
    "function revokePublicPermission(string,uint8)",
];
/// Five words: a permission has no dynamic part.
const ENTRY_LEN: usize = 5 * 32;
/// Longest metadata that is looked into, bytes.
const MAX_METADATA: usize = 64 * 1024;
/// Longest reason of a revert that is kept, bytes.
const MAX_REASON: usize = 1024;
/// `Error(string)`, what `require` reverts with.
const ERROR_SELECTOR: [u8; 4] = [0x08, 0xc3, 0x79, 0xa0];
/// The contract's word for a stream that was never made, or was deleted.
const NO_STREAM: &str = "error_streamDoesNotExist";

/// An answer that is not what the contract answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Until when an entry of the contract allows what, as its expirations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    publish: U256,
    subscribe: U256,
}

impl Entry {
    pub(super) fn of(&self, permission: Permission) -> U256 {
        match permission {
            Permission::Publish => self.publish,
            Permission::Subscribe => self.subscribe,
        }
    }

    /// # Errors
    /// [`Malformed`].
    pub(super) fn decode(output: &[u8]) -> Result<Self, Malformed> {
        if output.len() != ENTRY_LEN {
            return Err(Malformed);
        }
        let (_, _, publish, subscribe, _): (bool, bool, U256, U256, bool) =
            contract().decode_output("getPermissionsForUser", output).map_err(|_| Malformed)?;
        Ok(Self { publish, subscribe })
    }
}

/// The user's own entry, or the public one where that has ended.
pub(super) fn permissions_of(stream: &StreamId, user: UserId) -> Bytes {
    call("getPermissionsForUser", (stream.to_string(), address(user)))
}

/// The entry of everybody.
pub(super) fn public_permissions(stream: &StreamId) -> Bytes {
    call("getDirectPermissionsForUser", (stream.to_string(), Address::zero()))
}

/// A user's own entry, as it is stored.
pub(super) fn own_permissions(stream: &StreamId, user: UserId) -> Bytes {
    call("getDirectPermissionsForUser", (stream.to_string(), address(user)))
}

pub(super) fn metadata_of(stream: &StreamId) -> Bytes {
    call("getStreamMetadata", stream.to_string())
}

/// The path is told from the owner's address by the contract.
pub(super) fn create_stream(path: &str, metadata: &str) -> Bytes {
    call("createStream", (format!("/{path}"), metadata.to_string()))
}

pub(super) fn set_expiration(stream: &StreamId, user: UserId, permission: Permission, expiration: U256) -> Bytes {
    call("setExpirationTime", (stream.to_string(), address(user), number(permission), expiration))
}

pub(super) fn grant(stream: &StreamId, user: UserId, permission: Permission) -> Bytes {
    call("grantPermission", (stream.to_string(), address(user), number(permission)))
}

pub(super) fn revoke(stream: &StreamId, user: UserId, permission: Permission) -> Bytes {
    call("revokePermission", (stream.to_string(), address(user), number(permission)))
}

pub(super) fn grant_public(stream: &StreamId, permission: Permission) -> Bytes {
    call("grantPublicPermission", (stream.to_string(), number(permission)))
}

pub(super) fn revoke_public(stream: &StreamId, permission: Permission) -> Bytes {
    call("revokePublicPermission", (stream.to_string(), number(permission)))
}

/// The contract's `PermissionType`.
fn number(permission: Permission) -> u8 {
    match permission {
        Permission::Publish => 2,
        Permission::Subscribe => 3,
    }
}

/// # Errors
/// [`Malformed`], also when it is longer than anybody needs.
pub(super) fn decode_metadata(output: &[u8]) -> Result<String, Malformed> {
    if output.len() > MAX_METADATA {
        return Err(Malformed);
    }
    contract().decode_output("getStreamMetadata", output).map_err(|_| Malformed)
}

/// What a call reverted with, as far as it can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Revert {
    /// The contract's reason, decoded from the data of the revert; `None` where there is none.
    pub(super) reason: Option<String>,
}

impl Revert {
    pub(super) fn decode(data: &[u8]) -> Self {
        Self { reason: reason(data) }
    }

    /// Whether the contract said, in so many words, that there is no such stream.
    pub(super) fn is_no_stream(&self) -> bool {
        self.reason.as_deref() == Some(NO_STREAM)
    }
}

fn reason(data: &[u8]) -> Option<String> {
    let text = data.strip_prefix(&ERROR_SELECTOR).filter(|text| text.len() <= MAX_REASON)?;
    match abi::decode(&[ParamType::String], text).ok()?.pop()? {
        Token::String(reason) => Some(reason),
        _ => None,
    }
}

fn address(user: UserId) -> Address {
    Address::from(*user.as_bytes())
}

fn call(function: &str, arguments: impl Tokenize) -> Bytes {
    // The functions are those of `SIGNATURES` and their arguments have these types: a test calls every one.
    contract().encode(function, arguments).expect("a function of the contract with its arguments")
}

fn contract() -> &'static BaseContract {
    static CONTRACT: OnceLock<BaseContract> = OnceLock::new();
    CONTRACT.get_or_init(|| BaseContract::from(parse_abi(&SIGNATURES).expect("signatures of our own")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> StreamId {
        StreamId::of(UserId::from_bytes([1; 20]), "s").unwrap()
    }

    fn word(number: u64) -> [u8; 32] {
        let mut word = [0; 32];
        U256::from(number).to_big_endian(&mut word);
        word
    }

    #[test]
    fn every_call_has_the_selector_of_the_deployed_contract() {
        let user = UserId::from_bytes([2; 20]);
        let calls = [
            (permissions_of(&stream(), user), "e8f3828e"),
            (public_permissions(&stream()), "a020aa97"),
            (own_permissions(&stream(), user), "a020aa97"),
            (set_expiration(&stream(), user, Permission::Subscribe, U256::one()), "7b3681b5"),
            (grant(&stream(), user, Permission::Subscribe), "997e8aaa"),
            (revoke(&stream(), user, Permission::Publish), "3e397aea"),
            (grant_public(&stream(), Permission::Subscribe), "466f878e"),
            (revoke_public(&stream(), Permission::Subscribe), "272cc993"),
        ];
        for (call, selector) in calls {
            assert_eq!(hex::encode(&call[..4]), selector);
        }
        assert!(metadata_of(&stream()).len() > 4 && create_stream("s", "{}").len() > 4);
    }

    #[test]
    fn an_entry_that_is_short_long_or_no_permission_is_malformed() {
        let words = [word(1), word(0), word(5), word(6), word(1)].concat();
        let entry = Entry::decode(&words).unwrap();
        assert_eq!((entry.of(Permission::Publish), entry.of(Permission::Subscribe)), (5.into(), 6.into()));
        for wrong in [&[][..], &words[..159], &[&words[..], &[0]].concat()] {
            assert_eq!(Entry::decode(wrong), Err(Malformed));
        }
        let no_bool = [[0xff; 32], word(0), word(5), word(6), word(1)].concat();
        assert_eq!(Entry::decode(&no_bool), Err(Malformed));
    }

    #[test]
    fn metadata_that_points_outside_itself_or_never_ends_is_malformed() {
        let right = abi::encode(&[Token::String("{}".into())]);
        assert_eq!(decode_metadata(&right), Ok("{}".into()));
        for (offset, len) in
            [(96, 2), (u64::from(u32::MAX), 2), (u64::MAX, 2), (32, 99), (32, u64::from(u32::MAX)), (32, u64::MAX)]
        {
            let wrong = [word(offset), word(len), [0; 32]].concat();
            assert_eq!(decode_metadata(&wrong), Err(Malformed), "{offset} {len}");
        }
        assert_eq!(decode_metadata(&[]), Err(Malformed));
        let endless = abi::encode(&[Token::String("x".repeat(MAX_METADATA))]);
        assert_eq!(decode_metadata(&endless), Err(Malformed));
    }

    #[test]
    fn only_the_contracts_own_words_decoded_from_the_data_mean_no_stream() {
        let reverted = |text: &str| [&ERROR_SELECTOR[..], &abi::encode(&[Token::String(text.into())])].concat();
        assert!(Revert::decode(&reverted("error_streamDoesNotExist")).is_no_stream());
        assert!(!Revert::decode(&reverted("error_streamDoesNotExist.")).is_no_stream());
        let words = reverted("error_streamDoesNotExist");
        for wrong in [&b""[..], b"error_streamDoesNotExist", &words[4..], &words[..words.len() - 40], &words[..4]] {
            assert_eq!(Revert::decode(wrong), Revert { reason: None });
        }
        assert_eq!(Revert::decode(&reverted(&"x".repeat(2000))), Revert { reason: None });
    }
}
