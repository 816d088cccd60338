//! What every record in the DHT says: a peer and its addresses, and for how long.

use std::time::Duration;

use super::WireError;
use crate::time::Timestamp;

/// Most addresses in a record.
const MAX_ADDRESSES: usize = 16;
/// Longest peer id or address, bytes.
const MAX_ADDRESS_LEN: usize = 256;
/// Longest time from issue to expiry.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// By how much the clock of whoever made a record may be ahead.
const MAX_AHEAD: Duration = Duration::from_secs(60);

/// # Errors
/// [`WireError::Field`].
pub(super) fn reachable(peer: &[u8], addresses: &[Vec<u8>]) -> Result<(), WireError> {
    let wrong = |bytes: &[u8]| bytes.is_empty() || bytes.len() > MAX_ADDRESS_LEN;
    match addresses.len() > MAX_ADDRESSES || wrong(peer) || addresses.iter().any(|address| wrong(address)) {
        true => Err(WireError::Field("a record has a peer id and at most 16 addresses of 256 bytes")),
        false => Ok(()),
    }
}

/// The times of issue and expiry.
///
/// # Errors
/// [`WireError::Field`].
pub(super) fn lifetime(issued: u64, expires: u64) -> Result<(Timestamp, Timestamp), WireError> {
    let (issued, expires) = (Timestamp::from_millis(issued), Timestamp::from_millis(expires));
    match expires <= issued || expires.since(issued) > MAX_LIFETIME {
        true => Err(WireError::Field("a record lives more than 0 and at most 24 hours")),
        false => Ok((issued, expires)),
    }
}

/// Whether a record of these times holds at `now`.
pub(super) fn holds_at(issued: Timestamp, expires: Timestamp, now: Timestamp) -> bool {
    now < expires && issued <= now.plus(MAX_AHEAD)
}
