//! Checking a log entry by entry, wherever the entries come from: the store, or an export.

use veilcast_key_store::StoreError;

use super::entry::{AuditEvent, LoggedEntry};
use super::hash;
use crate::identity::UserId;
use crate::time::Timestamp;
use crate::wire::{AuditHead, WireError};

/// What is wrong with a log. The first thing that is; what follows it is not looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditFault {
    /// An entry, or its hash, is not what was written.
    #[error("entry {sequence} was altered")]
    Altered {
        /// Which.
        sequence: u64,
    },
    /// Another entry stands where this one belongs.
    #[error("entry {sequence} is missing: entry {found} stands in its place")]
    Misplaced {
        /// Which.
        sequence: u64,
        /// The entry found.
        found: u64,
    },
    /// What stands where this entry belongs is no entry, or one of a later version.
    #[error("entry {sequence} cannot be read: it is damaged, or written by a later version")]
    Unreadable {
        /// Which.
        sequence: u64,
    },
    /// The last entries are gone.
    #[error("entry {sequence} is missing, and all after it: the log was cut off, its head stands at entry {head}")]
    CutOff {
        /// The first one missing.
        sequence: u64,
        /// The last one there was.
        head: u64,
    },
    /// There are entries behind the head.
    #[error("entry {sequence} is not covered by the head of the log")]
    Beyond {
        /// The first of them.
        sequence: u64,
    },
    /// The entries are one chain, and the head is of another.
    #[error("entry {sequence} is not the one that the head of the log was signed for")]
    Foreign {
        /// Where the head stands.
        sequence: u64,
    },
    /// The chain does not begin as its head says.
    #[error("entry {sequence} does not follow what the head of the log says was before it")]
    Beginning {
        /// The first one kept.
        sequence: u64,
    },
    /// There are entries and no head.
    #[error("entry {sequence} has no head: the signed head of the log is missing")]
    NoHead {
        /// The first one kept.
        sequence: u64,
    },
    /// The head is damaged, or signed by nobody or somebody else.
    #[error("the head of the log does not count: {0}")]
    Head(#[from] WireError),
    /// The head is another publisher's.
    #[error("the head is of {found}'s log, not of {expected}'s")]
    Publisher {
        /// Whose log it should be.
        expected: UserId,
        /// Whose it is.
        found: UserId,
    },
    /// The log takes more or less room than its head says.
    #[error("entry {sequence} or one before it: the pages have {found} bytes, the head says {expected}")]
    Size {
        /// The last one.
        sequence: u64,
        /// What the head says.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// The head that was kept is of another log of this publisher: another device's, or this one was begun anew.
    #[error("entry 1 begins another log than the one whose head was kept: another device's, or begun anew")]
    OtherLog,
    /// The head that was kept is further than the log.
    #[error(
        "entry {sequence} is missing, and all up to entry {kept} where the kept head stands: the log was cut off or put back"
    )]
    PutBack {
        /// The first one missing.
        sequence: u64,
        /// Where the kept head stands.
        kept: u64,
    },
    /// The log says something else than when the head was kept.
    #[error("entry {sequence} or one before it was rewritten since the head was kept")]
    Rewritten {
        /// Where the kept head stands.
        sequence: u64,
    },
    /// The log no longer has the entry at which the kept head stands.
    #[error(
        "entry {sequence}, where the kept head stands, was dropped for age, with all up to entry {pruned}: nothing is left to compare"
    )]
    Forgotten {
        /// Where the kept head stands.
        sequence: u64,
        /// The last one dropped.
        pruned: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a log is that was found whole.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditReport {
    /// Its head.
    pub head: AuditHead,
    /// The sequence number of the first entry that is kept.
    pub first: u64,
    /// Entries that were looked at.
    pub entries: u64,
    /// When the first of them happened, ms since the epoch.
    pub since: Timestamp,
    /// Entries that were not written, by the log's own account.
    pub not_written: u64,
}

/// Checks one log: its head first, then its entries in their order, then that none is missing at the end.
#[derive(Clone, Debug)]
pub struct AuditCheck {
    head: AuditHead,
    kept: Option<AuditHead>,
    hash: [u8; 32],
    sequence: u64,
    since: Option<Timestamp>,
    entries: u64,
    not_written: u64,
}

impl AuditCheck {
    /// Of the log of this head, which must be checked already; and against a head of it that somebody kept, checked too.
    ///
    /// # Errors
    /// [`AuditFault`]: the kept head alone shows that something is wrong, or cannot be compared.
    pub fn new(head: &AuditHead, kept: Option<&AuditHead>) -> Result<Self, AuditFault> {
        if head.pruned == 0 && head.pruned_hash != hash::beginning(head.publisher, &head.log) {
            return Err(AuditFault::Beginning { sequence: 1 });
        }
        if let Some(kept) = kept {
            comparable(head, kept)?;
        }
        Ok(Self {
            kept: kept.cloned(),
            hash: head.pruned_hash,
            sequence: head.pruned,
            head: head.clone(),
            since: None,
            entries: 0,
            not_written: 0,
        })
    }

    /// The sequence number of the entry that comes next.
    pub const fn next(&self) -> u64 {
        self.sequence.saturating_add(1)
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// [`AuditFault`]: it is not the one that comes next, or not what was written.
    pub fn take(&mut self, logged: &LoggedEntry) -> Result<(), AuditFault> {
        let (sequence, found) = (self.next(), logged.entry.sequence);
        if found != sequence {
            return Err(AuditFault::Misplaced { sequence, found });
        }
        if sequence > self.head.sequence {
            return Err(AuditFault::Beyond { sequence });
        }
        if logged.hash != hash::of_entry(&self.hash, &logged.content) {
            return Err(AuditFault::Altered { sequence });
        }
        (self.hash, self.sequence) = (logged.hash, sequence);
        if sequence == self.head.sequence && self.hash != self.head.hash {
            return Err(AuditFault::Foreign { sequence });
        }
        if self.kept.as_ref().is_some_and(|kept| kept.sequence == sequence && kept.hash != self.hash) {
            return Err(AuditFault::Rewritten { sequence });
        }
        self.since.get_or_insert(logged.entry.at);
        self.entries += 1;
        if let AuditEvent::NotWritten { entries } = logged.entry.event {
            self.not_written = self.not_written.saturating_add(entries);
        }
        Ok(())
    }

    /// Goes on with a newer head of the log, if that explains what was found: it has grown meanwhile, or entries that were
    /// still to come were dropped for age.
    pub(super) fn go_on(&mut self, newer: AuditHead) -> Result<bool, AuditFault> {
        let is_newer = newer.log == self.head.log && newer.sequence > self.head.sequence;
        if is_newer && newer.pruned > self.sequence {
            *self = Self { since: self.since, entries: 0, ..Self::new(&newer, self.kept.as_ref())? };
        } else if is_newer {
            self.head = newer;
        }
        Ok(is_newer)
    }

    /// There are no more entries.
    ///
    /// # Errors
    /// [`AuditFault::CutOff`].
    pub fn finish(self) -> Result<AuditReport, AuditFault> {
        if self.sequence != self.head.sequence {
            return Err(AuditFault::CutOff { sequence: self.next(), head: self.head.sequence });
        }
        Ok(AuditReport {
            first: self.sequence.saturating_sub(self.entries).saturating_add(1),
            entries: self.entries,
            since: self.since.unwrap_or_default(),
            not_written: self.not_written,
            head: self.head,
        })
    }
}

fn comparable(head: &AuditHead, kept: &AuditHead) -> Result<(), AuditFault> {
    if kept.publisher != head.publisher {
        return Err(AuditFault::Publisher { expected: head.publisher, found: kept.publisher });
    }
    if kept.log != head.log {
        return Err(AuditFault::OtherLog);
    }
    if kept.sequence > head.sequence {
        return Err(AuditFault::PutBack { sequence: head.sequence + 1, kept: kept.sequence });
    }
    if kept.sequence < head.pruned {
        return Err(AuditFault::Forgotten { sequence: kept.sequence, pruned: head.pruned });
    }
    if kept.sequence == head.pruned && kept.hash != head.pruned_hash {
        return Err(AuditFault::Rewritten { sequence: kept.sequence });
    }
    Ok(())
}
