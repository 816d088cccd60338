//! The audit log: every key given or refused, to whom, when and under which grant, in a chain that shows what was done to it.
//!
//! Each entry has a hash over its bytes and the hash before it; after every batch the publisher signs an
//! [`AuditHead`] that names the last one. Whoever reads the log with [`AuditLog::verify`] then notices
//! an entry that was altered, removed, moved or added, and an end that was cut off. Nobody can notice that a publisher wrote
//! the whole log anew with its own key, unless somebody kept an earlier head: two heads of one log that disagree prove it.
//!
//! ```text
//! what happened ──▶ Collector ──batch──▶ AuditLog::append ──▶ store: pages of entries, and one signed head
//!                   counts repeats,                                        │
//!                   bounded                     AuditLog::verify, read ◀───┘
//! ```
//! Nothing a peer does makes it grow without bound: a refusal that repeats is counted and not listed anew, refusals are listed
//! at a bounded rate, a key given again within the hour is counted, and at [`AuditLimits`] the oldest entries are dropped, which the
//! head says. What a full queue lost stands in the chain as a number.

mod check;
mod collector;
#[cfg(test)]
mod collector_tests;
mod entry;
mod hash;
mod log;
mod page;
#[cfg(test)]
mod tests;

pub use check::{AuditCheck, AuditFault, AuditReport};
pub use collector::{AuditPace, Collector};
pub use entry::{AuditEntry, AuditEvent, Handed, LoggedEntry, Repeats};
pub use log::{AuditError, AuditLimits, AuditLog};

pub use crate::wire::AuditHead;
