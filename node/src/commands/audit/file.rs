//! Heads and exports in files.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;
use veilcast::audit::{AuditHead, LoggedEntry};
use veilcast::wire::{Received, Verified};

use super::{AuditCommandError, words};

/// The longest line of an export, bytes: an entry names at most 256 keys, each twice.
const MAX_LINE: u64 = 256 * 1024;

/// An export, or a kept head: its first line is a head, signed by the one it names.
pub(super) struct Export {
    path: PathBuf,
    lines: BufReader<File>,
    line: u64,
    head: AuditHead,
}

impl Export {
    /// Reads the head.
    pub(super) fn open(path: &Path) -> Result<Self, AuditCommandError> {
        let file = File::open(path).map_err(|source| AuditCommandError::Read { path: path.into(), source })?;
        let mut lines = BufReader::new(file);
        let first = read_line(path, &mut lines)?.unwrap_or_default();
        let head = head_in(path, &first)?;
        Ok(Self { path: path.into(), lines, line: 1, head })
    }

    pub(super) const fn head(&self) -> &AuditHead {
        &self.head
    }

    /// The next entry; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<LoggedEntry>, AuditCommandError> {
        self.line += 1;
        let Some(line) = read_line(&self.path, &mut self.lines)? else { return Ok(None) };
        entry_of(&line).map(Some).map_err(|unread| unread.of_entry(&self.path, self.line))
    }
}

/// The line that a head stands in.
pub(super) fn first_line(path: &Path) -> Result<String, AuditCommandError> {
    let file = File::open(path).map_err(|source| AuditCommandError::Read { path: path.into(), source })?;
    Ok(read_line(path, &mut BufReader::new(file))?.unwrap_or_default())
}

/// The head in such a line, which stood in this file.
pub(super) fn head_in(path: &Path, line: &str) -> Result<AuditHead, AuditCommandError> {
    Ok(head_of(line).map_err(|unread| unread.of_head(path))?.into_content())
}

fn read_line(path: &Path, lines: &mut impl BufRead) -> Result<Option<String>, AuditCommandError> {
    let mut line = String::new();
    let fault = |source| AuditCommandError::Read { path: path.into(), source };
    let read = lines.take(MAX_LINE).read_line(&mut line).map_err(fault)?;
    if read as u64 == MAX_LINE {
        return Err(fault(ErrorKind::FileTooLarge.into()));
    }
    Ok((read > 0).then_some(line))
}

/// Why a line counts for nothing.
enum Unread {
    /// It has no bytes that could be checked.
    Nothing,
    /// It says something else for people to read than its bytes do.
    SaysOtherwise { field: String, entry: u64 },
}

impl Unread {
    fn of_head(self, path: &Path) -> AuditCommandError {
        match self {
            Self::Nothing => AuditCommandError::NoHead { path: path.into() },
            Self::SaysOtherwise { field, .. } => AuditCommandError::HeadSaysOtherwise { path: path.into(), field },
        }
    }

    fn of_entry(self, path: &Path, line: u64) -> AuditCommandError {
        match self {
            Self::Nothing => AuditCommandError::Line { path: path.into(), line },
            Self::SaysOtherwise { field, entry } => AuditCommandError::SaysOtherwise { entry, line, field },
        }
    }
}

/// A JSON object with the envelope, or the envelope alone, in hex.
fn head_of(line: &str) -> Result<Verified<AuditHead>, Unread> {
    let said: Option<Value> = serde_json::from_str(line).ok().filter(Value::is_object);
    let envelope = said.as_ref().map_or(Some(line.trim()), |said| said["head"].as_str()).ok_or(Unread::Nothing)?;
    let head: Verified<AuditHead> = hex::decode(envelope)
        .ok()
        .and_then(|envelope| Received::decode(&envelope.into()).ok()?.verify().ok())
        .ok_or(Unread::Nothing)?;
    if let Some(said) = said {
        agrees(&said, &words::head_in_json(&head), head.content().sequence)?;
    }
    Ok(head)
}

fn entry_of(line: &str) -> Result<LoggedEntry, Unread> {
    let said: Value = serde_json::from_str(line).map_err(|_| Unread::Nothing)?;
    let bytes = |name: &str| hex::decode(said[name].as_str()?).ok();
    let hash = bytes("hash").and_then(|hash| hash.try_into().ok());
    let logged = bytes("content").zip(hash).and_then(|(content, hash)| LoggedEntry::read(content, hash));
    let logged = logged.ok_or(Unread::Nothing)?;
    agrees(&said, &words::in_json(&logged), logged.entry.sequence)?;
    Ok(logged)
}

/// The chain covers an entry's bytes only, but people and scripts read what stands beside them: it must be what they say. A
/// field may be missing, none may be added.
fn agrees(said: &Value, meant: &Value, entry: u64) -> Result<(), Unread> {
    let mut fields = said.as_object().into_iter().flatten();
    match fields.find(|(name, value)| meant.get(name.as_str()) != Some(value)) {
        Some((field, _)) => Err(Unread::SaysOtherwise { field: field.clone(), entry }),
        None => Ok(()),
    }
}
