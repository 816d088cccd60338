//! Reading a key: 32 bytes in hex, from stdin or a file. What was read is wiped, and never repeated in an error.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use veilcast::UserId;
use veilcast::key_store::GROUP_KEY_LEN;
use zeroize::Zeroizing;

use crate::exit::Exit;

/// Hex digits of a key.
const DIGITS: usize = 2 * GROUP_KEY_LEN;
/// Room for a prefix, a line end and a little more, so that a longer input shows as longer.
const MOST: usize = DIGITS + 64;

pub(crate) type KeyBytes = Zeroizing<[u8; GROUP_KEY_LEN]>;

/// Reads a key from `file`, or from stdin.
pub(crate) fn read(file: Option<&Path>) -> Result<KeyBytes, KeyInputError> {
    let mut text = Zeroizing::new(Vec::with_capacity(MOST));
    match file {
        Some(path) => {
            let fault = |source| KeyInputError::File { path: path.into(), source };
            let file = File::open(path).map_err(fault)?;
            file.take(MOST as u64).read_to_end(&mut text).map_err(fault)?;
        }
        None if io::stdin().is_terminal() => return Err(KeyInputError::Terminal),
        None => {
            io::stdin().lock().take(MOST as u64).read_to_end(&mut text).map_err(KeyInputError::Stdin)?;
        }
    }
    parse(&text)
}

/// A key in hex digits.
pub(crate) fn parse(text: &[u8]) -> Result<KeyBytes, KeyInputError> {
    let trimmed = text.trim_ascii();
    let digits = trimmed.strip_prefix(b"0x").unwrap_or(trimmed);
    if digits.is_empty() {
        return Err(KeyInputError::Empty);
    }
    if digits.len() != DIGITS {
        return Err(KeyInputError::Length { got: digits.len() });
    }
    let mut bytes = Zeroizing::new([0; GROUP_KEY_LEN]);
    hex::decode_to_slice(digits, &mut bytes[..]).map_err(|_| KeyInputError::NotHex)?;
    Ok(bytes)
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum KeyInputError {
    #[error(
        "a key is not typed at the terminal, where it would stay on the screen; pipe it in or name a file with --key-file"
    )]
    Terminal,
    #[error("there is no key on the input; give 64 hex digits on stdin or with --key-file")]
    Empty,
    #[error(
        "a key is 32 bytes, which are {DIGITS} hex digits, these are {got} characters; make one with: openssl rand -hex 32"
    )]
    Length { got: usize },
    #[error("a key is written in hex digits only; make one with: openssl rand -hex 32")]
    NotHex,
    #[error("cannot read the key file {}: {source}; check the path and its permissions", .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("cannot read the key from stdin: {0}; try --key-file")]
    Stdin(io::Error),
    #[error("a key is for a stream or for a prefix; name one of them")]
    Nowhere,
    #[error("--current is for keys of your own ({me}), this one is of {publisher}; leave --current out")]
    NotMine { publisher: UserId, me: UserId },
}

impl KeyInputError {
    /// A wrong key is wrong usage; a disk that fails is not.
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::File { .. } | Self::Stdin(_) => Exit::Failed,
            _ => Exit::Usage,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_64_hex_digits_with_or_without_prefix_and_line_end() {
        let digits = "ab".repeat(32);
        for text in [digits.clone(), format!("{digits}\n"), format!("0x{digits}\r\n"), digits.to_uppercase()] {
            assert_eq!(*parse(text.as_bytes()).unwrap(), [0xab; 32], "{text:?}");
        }
    }

    #[test]
    fn what_is_no_key_is_an_error_that_does_not_repeat_it() {
        let secretive = |text: &str| {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("deadbeef"), "{error:?}");
            error
        };
        assert!(matches!(secretive(""), KeyInputError::Empty));
        assert!(matches!(secretive("deadbeef"), KeyInputError::Length { got: 8 }));
        assert!(matches!(secretive(&"deadbeef".repeat(9)), KeyInputError::Length { got: 72 }));
        assert!(matches!(secretive(&"deadbeeg".repeat(8)), KeyInputError::NotHex));
    }
}
