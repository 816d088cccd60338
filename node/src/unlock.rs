//! What opens the data folder: one passphrase, or one key file, for identity and store alike.
//!
//! ```text
//! --passphrase-file ─▶ VEILCAST_PASSPHRASE ─▶ store.key is there ─▶ a terminal: ask ─▶ new folder: make store.key
//! ```
//! A folder keeps what it was made with. Giving a passphrase to a folder with a key file is an error that says so.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use veilcast::key_store::{SledKeyStore, Unlock};
use zeroize::Zeroizing;

use crate::data_dir::DataDir;
use crate::interrupt;

/// The variable a passphrase is read from.
const VARIABLE: &str = "VEILCAST_PASSPHRASE";
/// Most bytes of a passphrase or key file.
const MAX_FILE: u64 = 4096;

/// Text that is wiped when dropped.
pub(crate) type Secret = Zeroizing<String>;

/// Finds what opens `dir`, asking where there is a terminal.
pub(crate) fn find(dir: &DataDir, passphrase_file: Option<&Path>) -> Result<Unlock, UnlockError> {
    let key_file = dir.key_file();
    if !key_file.exists() && SledKeyStore::wants_key_file(&dir.store()) {
        return Err(UnlockError::KeyFileLost { key_file });
    }
    match given(passphrase_file)? {
        Some(_) if key_file.exists() => Err(UnlockError::KeyFileFolder { key_file }),
        Some(passphrase) => Ok(Unlock::Passphrase(passphrase)),
        None if key_file.exists() => Ok(Unlock::KeyFile(key_file)),
        None if dir.in_use() => {
            ask(dir)?.map(Unlock::Passphrase).ok_or_else(|| UnlockError::Needed { dir: dir.path().into() })
        }
        None => Ok(ask_new()?.map_or(Unlock::KeyFile(key_file), Unlock::Passphrase)),
    }
}

/// The password of the identity's keystore: the passphrase, or what the key file holds.
pub(crate) fn identity_password(unlock: &Unlock) -> Result<Secret, UnlockError> {
    match unlock {
        Unlock::Passphrase(text) => Ok(text.clone()),
        Unlock::KeyFile(path) => {
            let content = read(path)?;
            Ok(Zeroizing::new(content.trim_end().to_owned()))
        }
    }
}

/// The passphrase of the data folder, where one opens it.
pub(crate) const fn folders(unlock: &Unlock) -> Option<&Secret> {
    match unlock {
        Unlock::Passphrase(text) => Some(text),
        Unlock::KeyFile(_) => None,
    }
}

/// The passphrase of the data folder, if the command line or the environment has it.
pub(crate) fn given(passphrase_file: Option<&Path>) -> Result<Option<Secret>, UnlockError> {
    explicit(passphrase_file, VARIABLE)
}

/// A passphrase from the first line of a file, or else from a variable.
pub(crate) fn explicit(passphrase_file: Option<&Path>, variable: &'static str) -> Result<Option<Secret>, UnlockError> {
    if let Some(path) = passphrase_file {
        let content = read(path)?;
        let first = content.lines().next().unwrap_or_default();
        return match first.is_empty() {
            true => Err(UnlockError::EmptyFile { path: path.into() }),
            false => Ok(Some(Zeroizing::new(first.to_owned()))),
        };
    }
    match std::env::var(variable) {
        Ok(text) if text.is_empty() => Err(UnlockError::EmptyVariable { variable }),
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(UnlockError::NotText { what: variable.into() }),
    }
}

fn read(path: &Path) -> Result<Secret, UnlockError> {
    let fault = |source| UnlockError::Read { path: path.into(), source };
    // Reserved at once, so that no half-read copy stays behind when it grows.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE as usize + 1));
    File::open(path).map_err(fault)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(UnlockError::TooLong { path: path.into() });
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| UnlockError::NotText { what: path.display().to_string() })?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// The prompt goes to the terminal, so stdin and stderr must both be one: a pipe on either means a script.
pub(crate) fn at_a_terminal() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

fn ask(dir: &DataDir) -> Result<Option<Secret>, UnlockError> {
    if !at_a_terminal() {
        return Ok(None);
    }
    prompt(&format!("Passphrase of {}: ", dir.path().display())).map(Some)
}

/// A new passphrase, typed twice; nothing typed means a key file.
fn ask_new() -> Result<Option<Secret>, UnlockError> {
    if !at_a_terminal() {
        return Ok(None);
    }
    prompt_new("New passphrase (empty: use a key file instead): ")
}

/// Asks for a passphrase that is not known yet, twice; nothing typed is `None`.
pub(crate) fn prompt_new(text: &str) -> Result<Option<Secret>, UnlockError> {
    let first = prompt(text)?;
    if first.is_empty() {
        return Ok(None);
    }
    let second = prompt("The same again: ")?;
    if *first == *second { Ok(Some(first)) } else { Err(UnlockError::TypedTwice) }
}

/// Asks at the terminal, unseen.
pub(crate) fn prompt(text: &str) -> Result<Secret, UnlockError> {
    // What asks makes the terminal unseeing, and puts it back when it returns: Ctrl-C must not end the process before that.
    let quiet = interrupt::survive();
    rpassword::prompt_password(text).map(Zeroizing::new).map_err(|fault| match fault.kind() {
        io::ErrorKind::Interrupted => {
            // The signal may still be on its way to whoever listens: the error it became ends the process in its own way.
            std::mem::forget(quiet);
            UnlockError::Interrupted
        }
        _ => UnlockError::Prompt(fault),
    })
}

/// Why the data folder cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum UnlockError {
    #[error(
        "this data folder opens with its key file {}, not with a passphrase; leave out --passphrase-file and {VARIABLE}, or name another --data-dir",
        .key_file.display()
    )]
    KeyFileFolder { key_file: PathBuf },
    #[error(
        "the key file of this data folder is missing: {}; put back a copy of it, nothing else opens the folder, or restore a backup with: veilcast restore FILE --force",
        .key_file.display()
    )]
    KeyFileLost { key_file: PathBuf },
    #[error("the data folder {} opens with a passphrase; give it with {VARIABLE} or --passphrase-file", .dir.display())]
    Needed { dir: PathBuf },
    #[error("the first line of {} is empty; put the passphrase there", .path.display())]
    EmptyFile { path: PathBuf },
    #[error("{variable} is empty; unset it or give a passphrase")]
    EmptyVariable { variable: &'static str },
    #[error("{what} is not UTF-8 text; give the passphrase as text")]
    NotText { what: String },
    #[error("{} is too long for a passphrase; its first line is read, and the file has at most {MAX_FILE} bytes", .path.display())]
    TooLong { path: PathBuf },
    #[error("cannot read {}: {source}; check the path and its permissions", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the two passphrases differ; try again")]
    TypedTwice,
    #[error(
        "interrupted; nothing was done, run it again and type the passphrase, or give it with {VARIABLE} or --passphrase-file"
    )]
    Interrupted,
    #[error("cannot ask for the passphrase: {0}; give it with {VARIABLE} or --passphrase-file")]
    Prompt(io::Error),
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder() -> (tempfile::TempDir, DataDir) {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::find(Some(parent.path())).unwrap();
        (parent, dir)
    }

    #[test]
    fn a_passphrase_file_gives_its_first_line() {
        let (parent, dir) = folder();
        let path = parent.path().join("pass");
        fs::write(&path, "correct horse\r\nsecond line\n").unwrap();
        let unlock = find(&dir, Some(&path)).unwrap();
        assert_eq!(*identity_password(&unlock).unwrap(), "correct horse");
    }

    #[test]
    fn an_empty_missing_binary_or_huge_passphrase_file_is_an_error() {
        let (parent, dir) = folder();
        let path = parent.path().join("pass");
        assert!(matches!(find(&dir, Some(&path)), Err(UnlockError::Read { .. })));
        fs::write(&path, "\n").unwrap();
        assert!(matches!(find(&dir, Some(&path)), Err(UnlockError::EmptyFile { .. })));
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(find(&dir, Some(&path)), Err(UnlockError::NotText { .. })));
        fs::write(&path, vec![b'x'; 5000]).unwrap();
        assert!(matches!(find(&dir, Some(&path)), Err(UnlockError::TooLong { .. })));
    }

    #[test]
    fn a_folder_with_a_key_file_refuses_a_passphrase_in_words() {
        let (parent, dir) = folder();
        let path = parent.path().join("pass");
        fs::write(&path, "x").unwrap();
        fs::write(dir.key_file(), "00").unwrap();
        assert!(matches!(find(&dir, Some(&path)), Err(UnlockError::KeyFileFolder { .. })));
    }
}
