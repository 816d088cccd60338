//! Grants and stream records as one line of text, for mail, chat and pipes.

use bytes::Bytes;

use super::error::GrantError;
use crate::identity::Domain;
use crate::wire::{MAX_PROOF_LEN, kind_of};

const GRANT: &str = "veilcast-grant-1:";
const RECORD: &str = "veilcast-record-1:";

/// The line of an envelope, without a line feed.
///
/// # Errors
/// [`GrantError::Line`] where it is neither a grant nor a stream record.
pub fn to_line(envelope: &Bytes) -> Result<String, GrantError> {
    let prefix = match kind_of(envelope) {
        Ok(kind) if kind == Domain::SignedGrant.number() => GRANT,
        Ok(kind) if kind == Domain::StreamRecord.number() => RECORD,
        _ => return Err(GrantError::Line),
    };
    Ok(format!("{prefix}{}", hex::encode(envelope)))
}

/// The envelope in a line; white space around it does not count. Nothing of it is believed yet.
///
/// # Errors
/// [`GrantError::Line`], [`GrantError::TooLong`].
pub fn from_line(line: &str) -> Result<Bytes, GrantError> {
    let line = line.trim();
    let digits = line.strip_prefix(GRANT).or_else(|| line.strip_prefix(RECORD)).ok_or(GrantError::Line)?;
    if digits.len() / 2 > MAX_PROOF_LEN {
        return Err(GrantError::TooLong { got: digits.len() / 2, limit: MAX_PROOF_LEN });
    }
    let envelope = Bytes::from(hex::decode(digits).map_err(|_| GrantError::Line)?);
    // The prefix is for people; a line that says one and holds the other is not ours.
    if to_line(&envelope)? == line.to_ascii_lowercase() { Ok(envelope) } else { Err(GrantError::Line) }
}
