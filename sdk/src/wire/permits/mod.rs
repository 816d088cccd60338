//! What a stream's owner signs so that others can check permissions without it: grants and stream records.
//!
//! A stream id names its owner's address, so nothing else has to say whose word counts: whoever the id names signs.

mod grant;
mod record;

pub use grant::SignedGrant;
pub use record::{Revocation, Revoked, StreamRecord};

use super::WireError;
use crate::identity::UserId;
use crate::stream::StreamId;

/// The registry that statements kept by the owner itself are for. Those of a chain name that chain and its contract.
pub const OWNERS_REGISTRY: &str = "owner";
/// Longest envelope of a grant or a stream record, bytes: what a DHT record may have.
pub const MAX_PROOF_LEN: usize = 16 * 1024;
/// Longest name of a registry, bytes.
const MAX_REGISTRY_LEN: usize = 64;

/// Nobody has this address; whoever signs for a stream without an address in its name is not its owner.
const NOBODY: UserId = UserId::from_bytes([0; UserId::LEN]);

fn owned_stream(text: &str) -> Result<StreamId, WireError> {
    let stream = super::stream(text)?;
    match stream.owner() {
        Some(_) => Ok(stream),
        None => Err(WireError::Field("a grant or stream record is about a stream that is named after an address")),
    }
}

fn owner_of(stream: &StreamId) -> UserId {
    stream.owner().unwrap_or(NOBODY)
}

fn registry(name: String) -> Result<String, WireError> {
    let right = !name.is_empty() && name.len() <= MAX_REGISTRY_LEN && name.bytes().all(|byte| byte.is_ascii_graphic());
    if right { Ok(name) } else { Err(WireError::Field("a registry's name is 1 to 64 visible ASCII characters")) }
}

fn serial(number: u64) -> Result<u64, WireError> {
    if number > 0 { Ok(number) } else { Err(WireError::Field("the serials of grants begin with 1")) }
}
