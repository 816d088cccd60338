//! The log in a store: appended to in batches, each with one signed head; checked, and read.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rand_core::CryptoRng;
use veilcast_key_store::{Record, RecordChange, RecordStore, StoreError};

use super::check::{AuditCheck, AuditFault, AuditReport};
use super::entry::{AuditEntry, AuditEvent, LoggedEntry};
use super::hash;
use super::page::{self, PAGE_ENTRIES, TABLE};
use crate::identity::{Identity, UserId};
use crate::time::Timestamp;
use crate::wire::{AuditHead, Received, Verified, WireError};

/// Pages read from the store at a time, each of 64 KiB at most.
const READ: usize = 32;
/// Pages dropped in one write at most.
const DROPPED: usize = 512;

/// How much the log keeps. At a limit the oldest entries are dropped, a sixteenth at a time, and the head says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a number and a size")]
pub struct AuditLimits {
    /// Entries: a million.
    pub entries: u64,
    /// Bytes of the pages in the store, before they are sealed: 256 MiB.
    pub bytes: u64,
}

impl Default for AuditLimits {
    /// A million entries, 256 MiB.
    fn default() -> Self {
        Self { entries: 1_000_000, bytes: 256 << 20 }
    }
}

/// Why entries were not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The log that is there does not count, and is not written on: that would hide what was done to it.
    #[error("the audit log is not continued: {0}; see `veilcast audit verify` and `audit begin-anew`")]
    Broken(AuditFault),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The head cannot be signed by this identity.
    #[error(transparent)]
    Sign(#[from] WireError),
}

impl From<AuditFault> for AuditError {
    fn from(fault: AuditFault) -> Self {
        match fault {
            AuditFault::Store(error) => Self::Store(error),
            fault => Self::Broken(fault),
        }
    }
}

/// The audit log of one publisher in one store.
pub struct AuditLog {
    records: Arc<dyn RecordStore>,
    publisher: UserId,
    limits: AuditLimits,
    /// The head as it was written last; `None` when it is to be read.
    last: Mutex<Option<AuditHead>>,
}

impl AuditLog {
    /// Over the records of a store.
    pub fn new(records: Arc<dyn RecordStore>, publisher: UserId) -> Self {
        Self::with_limits(records, publisher, AuditLimits::default())
    }

    /// The same, with other limits.
    pub fn with_limits(records: Arc<dyn RecordStore>, publisher: UserId, limits: AuditLimits) -> Self {
        Self { records, publisher, limits, last: Mutex::new(None) }
    }

    /// Appends what happened, each with its moment, and signs a new head: all of it or nothing, on disk when it returns. Of one
    /// log one writer at a time. Randomness names a log that begins.
    ///
    /// # Errors
    /// [`AuditError`]: nothing was written.
    pub fn append<R: CryptoRng + ?Sized>(
        &self,
        events: Vec<(Timestamp, AuditEvent)>,
        identity: &Identity,
        now: Timestamp,
        rng: &mut R,
    ) -> Result<(), AuditError> {
        if events.is_empty() {
            return Ok(());
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // After a failure nobody knows what was written: then it is read again.
        let mut head = match last.take() {
            Some(head) => head,
            None => self.continued(rng)?,
        };
        head.at = now;
        let mut changes = self.extend(&mut head, events);
        self.prune(&mut head, &mut changes)?;
        let signed = Verified::sign(head, identity)?;
        changes.push((page::head(self.publisher), Some(signed.envelope().to_vec())));
        self.records.write(TABLE, &changes)?;
        *last = Some(signed.into_content());
        Ok(())
    }

    /// The signed head; `None` before the first entry.
    ///
    /// # Errors
    /// [`AuditFault::Head`], [`AuditFault::Publisher`], [`AuditFault::NoHead`] when there are entries all the same, and [`AuditFault::Store`].
    pub fn head(&self) -> Result<Option<Verified<AuditHead>>, AuditFault> {
        let Some(bytes) = self.records.get(TABLE, &page::head(self.publisher))? else {
            let first = self.records.scan(TABLE, &page::pages(self.publisher), None, 1)?;
            return match first.first().and_then(|(place, _)| page::first_at(place)) {
                Some(sequence) => Err(AuditFault::NoHead { sequence }),
                None => Ok(None),
            };
        };
        let head = Received::<AuditHead>::decode(&Bytes::from(bytes))?.verify().map_err(WireError::from)?;
        match head.content().publisher {
            found if found != self.publisher => Err(AuditFault::Publisher { expected: self.publisher, found }),
            _ => Ok(Some(head)),
        }
    }

    /// Checks the whole log, and that it still holds what it held when `kept` was signed. `visit` sees every entry, once it
    /// has been checked, and may end it all by an error of its own. `None`: there is no log yet. May run while the log is written.
    ///
    /// # Errors
    /// The first [`AuditFault`], or what `visit` returned.
    pub fn verify<E: From<AuditFault>>(
        &self,
        kept: Option<&AuditHead>,
        mut visit: impl FnMut(&LoggedEntry) -> Result<(), E>,
    ) -> Result<Option<AuditReport>, E> {
        let Some(head) = self.head()? else {
            return match kept {
                Some(kept) => Err(AuditFault::PutBack { sequence: 1, kept: kept.sequence }.into()),
                None => Ok(None),
            };
        };
        let mut check = AuditCheck::new(head.content(), kept)?;
        let (mut found, mut after) = (0, None);
        loop {
            let records = self.scan(after.as_deref(), READ)?;
            let is_last = records.len() < READ;
            for (place, bytes) in &records {
                for entry in &entries_at(place, bytes, &check)? {
                    self.take(&mut check, entry)?;
                    visit(entry)?;
                }
                found += bytes.len() as u64;
            }
            if is_last {
                break;
            }
            after = records.into_iter().next_back().map(|(place, _)| place);
        }
        let report = check.finish()?;
        let expected = report.head.size;
        if report.head == *head.content() && found != expected {
            return Err(AuditFault::Size { sequence: report.head.sequence, expected, found }.into());
        }
        Ok(Some(report))
    }

    /// The entries after a sequence number, at most `limit`, in their order; unchecked. For looking on, see [`verify`](Self::verify) for proof.
    ///
    /// # Errors
    /// [`AuditFault::Unreadable`], [`AuditFault::Store`].
    pub fn read(&self, after: u64, limit: usize) -> Result<Vec<LoggedEntry>, AuditFault> {
        let mut found: Vec<LoggedEntry> = Vec::new();
        // A page begins at most so far before any of its entries.
        let mut place = after.checked_sub(PAGE_ENTRIES as u64).map(|first| page::page(self.publisher, first));
        while found.len() < limit {
            let records = self.scan(place.as_deref(), READ)?;
            for (place, bytes) in &records {
                let sequence = page::first_at(place).unwrap_or_default();
                let entries = page::read(bytes).ok_or(AuditFault::Unreadable { sequence })?;
                found.extend(entries.into_iter().filter(|logged| logged.entry.sequence > after));
            }
            if records.len() < READ {
                break;
            }
            place = records.into_iter().next_back().map(|(place, _)| place);
        }
        found.truncate(limit);
        Ok(found)
    }

    /// Removes the log, so that another begins with the next entry: the way on where it is damaged and for that reason not written
    /// on. Heads that were kept of it show that it is another one. Says how many pages there were.
    ///
    /// # Errors
    /// [`StoreError`]: some of it may be left.
    pub fn begin_anew(&self) -> Result<u64, StoreError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut removed = 0;
        loop {
            let pages = self.records.scan(TABLE, &page::pages(self.publisher), None, READ)?;
            if pages.is_empty() {
                break;
            }
            removed += pages.len() as u64;
            let changes: Vec<RecordChange> = pages.into_iter().map(|(place, _)| (place, None)).collect();
            self.records.write(TABLE, &changes)?;
        }
        *last = None;
        self.records.write(TABLE, &[(page::head(self.publisher), None)])?;
        Ok(removed)
    }

    fn scan(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<Record>, AuditFault> {
        Ok(self.records.scan(TABLE, &page::pages(self.publisher), after, limit)?)
    }

    /// Checks an entry, against a newer head where the log was written on, or shortened, since its head was read.
    fn take(&self, check: &mut AuditCheck, entry: &LoggedEntry) -> Result<(), AuditFault> {
        let Err(fault) = check.take(entry) else { return Ok(()) };
        let moved = matches!(fault, AuditFault::Beyond { .. } | AuditFault::Misplaced { .. });
        let newer = if moved { self.head()? } else { None };
        let Some(newer) = newer else { return Err(fault) };
        if check.go_on(newer.into_content())? { check.take(entry) } else { Err(fault) }
    }

    /// The head to go on from, made for a log that begins.
    fn continued<R: CryptoRng + ?Sized>(&self, rng: &mut R) -> Result<AuditHead, AuditError> {
        if let Some(head) = self.head()? {
            return Ok(head.into_content());
        }
        let mut log = [0; 16];
        rng.fill_bytes(&mut log);
        let beginning = hash::beginning(self.publisher, &log);
        Ok(AuditHead {
            publisher: self.publisher,
            log,
            at: Timestamp::ZERO,
            sequence: 0,
            hash: beginning,
            pruned: 0,
            pruned_hash: beginning,
            size: 0,
        })
    }

    fn extend(&self, head: &mut AuditHead, events: Vec<(Timestamp, AuditEvent)>) -> Vec<RecordChange> {
        let mut entries = Vec::with_capacity(events.len());
        for (at, event) in events {
            head.sequence += 1;
            let logged = LoggedEntry::behind(&head.hash, AuditEntry { sequence: head.sequence, at, event });
            head.hash = logged.hash;
            entries.push(logged);
        }
        let written = page::write(entries).into_iter().map(|(first, bytes)| {
            head.size += bytes.len() as u64;
            (page::page(self.publisher, first), Some(bytes))
        });
        written.collect()
    }

    /// Drops the oldest pages of a log over its limits. What does not check is not dropped: that would hide it.
    fn prune(&self, head: &mut AuditHead, changes: &mut Vec<RecordChange>) -> Result<(), AuditError> {
        let AuditLimits { entries, bytes } = self.limits;
        if head.sequence - head.pruned <= entries && head.size <= bytes {
            return Ok(());
        }
        let (entries, bytes) = (entries - entries / 16, bytes - bytes / 16);
        // What is new in this batch is not on disk yet, and stays.
        let (mut check, mut after) = (AuditCheck::new(head, None)?, None);
        for _ in 0..DROPPED / READ {
            let records = self.scan(after.as_deref(), READ)?;
            for (place, page) in &records {
                if head.sequence - head.pruned <= entries && head.size <= bytes {
                    return Ok(());
                }
                for entry in entries_at(place, page, &check)? {
                    check.take(&entry)?;
                    (head.pruned, head.pruned_hash) = (entry.entry.sequence, entry.hash);
                }
                head.size = head.size.saturating_sub(page.len() as u64);
                changes.push((place.clone(), None));
            }
            if records.len() < READ {
                break;
            }
            after = records.into_iter().next_back().map(|(place, _)| place);
        }
        Ok(())
    }
}

/// The entries of a page, which must lie under the first of them.
fn entries_at(place: &[u8], bytes: &[u8], check: &AuditCheck) -> Result<Vec<LoggedEntry>, AuditFault> {
    let sequence = check.next();
    let entries = page::read(bytes).ok_or(AuditFault::Unreadable { sequence })?;
    let (said, first) = (page::first_at(place), entries.first().map(|logged| logged.entry.sequence));
    if said == first { Ok(entries) } else { Err(AuditFault::Misplaced { sequence, found: said.unwrap_or_default() }) }
}

impl std::fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuditLog").field("publisher", &self.publisher).finish_non_exhaustive()
    }
}
