//! Heads and exports in files.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use veilcast::audit::{AuditHead, LoggedEntry};
use veilcast::wire::{Received, Verified};

use super::AuditCommandError;

/// The longest line of an export, bytes: an entry names at most 256 keys, each twice.
const MAX_LINE: u64 = 256 * 1024;

/// An export, or a kept head: its first line is a head, signed by the one it names.
pub(super) struct Export {
    path: PathBuf,
    lines: BufReader<File>,
    line: u64,
    head: AuditHead,
}

#[derive(Deserialize)]
struct HeadLine {
    head: String,
}

#[derive(Deserialize)]
struct EntryLine {
    content: String,
    hash: String,
}

impl Export {
    /// Reads the head.
    pub(super) fn open(path: &Path) -> Result<Self, AuditCommandError> {
        let file = File::open(path).map_err(|source| AuditCommandError::Read { path: path.into(), source })?;
        let mut lines = BufReader::new(file);
        let first = read_line(path, &mut lines)?.unwrap_or_default();
        let head = head_of(&first).ok_or_else(|| AuditCommandError::NoHead { path: path.into() })?;
        Ok(Self { path: path.into(), lines, line: 1, head: head.into_content() })
    }

    pub(super) const fn head(&self) -> &AuditHead {
        &self.head
    }

    /// The next entry; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<LoggedEntry>, AuditCommandError> {
        self.line += 1;
        let Some(line) = read_line(&self.path, &mut self.lines)? else { return Ok(None) };
        let fault = || AuditCommandError::Line { path: self.path.clone(), line: self.line };
        entry_of(&line).map(Some).ok_or_else(fault)
    }
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

/// A JSON object with the envelope, or the envelope alone, in hex.
fn head_of(line: &str) -> Option<Verified<AuditHead>> {
    let head: Option<HeadLine> = serde_json::from_str(line).ok();
    let envelope = hex::decode(head.map_or_else(|| line.trim().to_owned(), |line| line.head)).ok()?;
    Received::decode(&envelope.into()).ok()?.verify().ok()
}

fn entry_of(line: &str) -> Option<LoggedEntry> {
    let EntryLine { content, hash } = serde_json::from_str(line).ok()?;
    LoggedEntry::read(hex::decode(content).ok()?, hex::decode(hash).ok()?.try_into().ok()?)
}
