//! The key exchange's four statements: request, answer, push, receipt.

mod answer;
mod keys;
mod push;
mod range;
mod receipt;
mod request;

use std::fmt;

pub use answer::KeyAnswer;
pub use keys::{GrantedKey, Refused};
pub(crate) use keys::{RefusalProto, refusal};
pub use push::KeyPush;
pub use range::{KeyRange, Wanted};
pub use receipt::KeyReceipt;
pub use request::KeyRequest;

use super::{WireError, fixed};
use crate::cipher::MAX_ENCAPSULATED_LEN;

/// RSA-OAEP with SHA-256, the one key-exchange algorithm of version 1. Room is left for others.
pub const ALGORITHM_RSA_OAEP_SHA256: u32 = 1;
/// Most key ids in one request.
pub const MAX_KEYS_PER_REQUEST: usize = 256;
/// Most keys and refusals in one answer, and so on one page of history.
pub const MAX_KEYS_PER_ANSWER: usize = 256;
/// Most proofs in one request.
pub const MAX_PROOFS: usize = 4;
/// Most bytes of all proofs of one request together.
pub const MAX_PROOFS_LEN: usize = 24 * 1024;

/// Ties an answer to its request: 16 random bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub [u8; 16]);

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

pub(super) fn request_id(bytes: &[u8]) -> Result<RequestId, WireError> {
    fixed(bytes, "a request id has 16 bytes").map(RequestId)
}

/// A request may name any algorithm, to be refused by name; an answer or push in another one cannot be read.
fn known_algorithm(algorithm: u32) -> Result<(), WireError> {
    match algorithm {
        ALGORITHM_RSA_OAEP_SHA256 => Ok(()),
        _ => Err(WireError::Field("unknown algorithm of the transport key")),
    }
}

fn encapsulated(bytes: Vec<u8>) -> Result<Vec<u8>, WireError> {
    if bytes.len() > MAX_ENCAPSULATED_LEN {
        return Err(WireError::Field("the transport key is too long"));
    }
    Ok(bytes)
}
