//! What can be wrong with a key or its name.

use crate::key_id::MAX_ID_LEN;

/// A key or a key id breaks a rule; the message names the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A group key has exactly 32 bytes.
    #[error("a group key has exactly 32 bytes, these are {got}")]
    Length {
        /// How many bytes were given.
        got: usize,
    },
    /// A key id has at least one character.
    #[error("a key id has at least 1 character, this one is empty")]
    IdEmpty,
    /// A key id has at most 64 characters.
    #[error("a key id has at most {MAX_ID_LEN} bytes, this one has {got}")]
    IdTooLong {
        /// How many bytes were given.
        got: usize,
    },
    /// A key id holds visible ASCII only, so that it can be printed and typed anywhere.
    #[error("a key id holds visible ASCII (0x21 to 0x7e) only, but {found:?} stands at byte {at}")]
    IdCharacter {
        /// The offending character; shown escaped.
        found: char,
        /// The byte it starts at.
        at: usize,
    },
}
