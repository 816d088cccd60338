//! Many writers, one wait for the disk.
//!
//! Whoever finds nobody flushing becomes the leader and flushes for all that is applied by then; the others wait for it
//! and then look whether their own change was in. Nothing is queued, so nothing grows.

use std::sync::{
    Condvar, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// An earlier flush failed: what is on disk is not certain any more, and only opening the store again helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an earlier write failed; open the store again")]
pub struct Broken;

/// Lets writers that wait at the same time share one wait for the disk.
#[derive(Debug)]
pub struct GroupCommit {
    applied: AtomicU64,
    durable: AtomicU64,
    phase: Mutex<Phase>,
    changed: Condvar,
}

/// ```text
/// Idle -> Flushing -> Idle      all applied changes are durable
///                  -> Broken    what is on disk is not certain any more; only opening the store again helps
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Flushing,
    Broken,
}

impl GroupCommit {
    /// Everything up to change `seq` is durable already.
    pub fn starting_at(seq: u64) -> Self {
        Self {
            applied: AtomicU64::new(seq),
            durable: AtomicU64::new(seq),
            phase: Mutex::new(Phase::Idle),
            changed: Condvar::new(),
        }
    }

    /// Change `seq` is visible; flush it with the next group.
    pub fn applied(&self, seq: u64) {
        self.applied.store(seq, Ordering::Release);
    }

    /// Whether [`Self::settle`] can only fail.
    pub fn is_broken(&self) -> bool {
        *self.phase() == Phase::Broken
    }

    /// A change failed halfway: nothing is certain any more.
    pub fn break_off(&self) {
        *self.phase() = Phase::Broken;
        self.changed.notify_all();
    }

    /// Returns once every change applied before this call is durable. `flush` makes durable all up to the given one.
    ///
    /// # Errors
    /// What `flush` says, to the one who called it; [`Broken`] to everybody else from then on.
    pub fn settle<E: From<Broken>>(&self, flush: impl Fn(u64) -> Result<(), E>) -> Result<(), E> {
        let wanted = self.applied.load(Ordering::Acquire);
        while self.durable.load(Ordering::Acquire) < wanted {
            let phase = self.phase();
            match *phase {
                Phase::Broken => return Err(Broken.into()),
                Phase::Idle if self.durable.load(Ordering::Acquire) >= wanted => break,
                Phase::Idle => self.lead(phase, &flush)?,
                Phase::Flushing => drop(self.changed.wait(phase).unwrap_or_else(PoisonError::into_inner)),
            }
        }
        Ok(())
    }

    fn lead<E>(&self, mut phase: MutexGuard<'_, Phase>, flush: &impl Fn(u64) -> Result<(), E>) -> Result<(), E> {
        *phase = Phase::Flushing;
        drop(phase);
        // Broken unless said otherwise, so that a panic in the flush does not leave the others waiting for ever.
        let mut lead = Lead { commits: self, outcome: Phase::Broken };
        let reached = self.applied.load(Ordering::Acquire);
        flush(reached)?;
        self.durable.store(reached, Ordering::Release);
        lead.outcome = Phase::Idle;
        Ok(())
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the leadership, however it ends.
struct Lead<'a> {
    commits: &'a GroupCommit,
    outcome: Phase,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let mut phase = self.commits.phase();
        // A writer may have broken off meanwhile; that stays.
        if *phase == Phase::Flushing {
            *phase = self.outcome;
        }
        self.commits.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        panic::{AssertUnwindSafe, catch_unwind},
        sync::{Barrier, atomic::AtomicUsize},
        thread,
    };

    use super::*;
    use crate::StoreError;

    const FINE: Result<(), StoreError> = Ok(());

    #[test]
    fn all_who_wait_while_one_flush_runs_share_the_next() {
        let (commits, flushes, inside) = (GroupCommit::starting_at(0), AtomicUsize::new(0), Barrier::new(2));
        let flush = |_| {
            // The first flush stays inside until nine more changes are applied.
            if flushes.fetch_add(1, Ordering::SeqCst) == 0 {
                inside.wait();
                inside.wait();
            }
            FINE
        };
        thread::scope(|scope| {
            commits.applied(1);
            scope.spawn(|| commits.settle(flush).unwrap());
            inside.wait();
            commits.applied(10);
            let others: Vec<_> = (0..9).map(|_| scope.spawn(|| commits.settle(flush).unwrap())).collect();
            inside.wait();
            others.into_iter().for_each(|other| other.join().unwrap());
        });
        assert_eq!(flushes.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn nothing_new_means_no_flush() {
        let commits = GroupCommit::starting_at(5);
        commits.settle(|_| -> Result<(), StoreError> { panic!("nothing to flush") }).unwrap();
    }

    #[test]
    fn after_a_failed_flush_the_store_says_broken_until_it_is_opened_again() {
        let commits = GroupCommit::starting_at(0);
        commits.applied(1);
        let failing = |_| Err(StoreError::io("flush")(io::Error::other("disk full")));
        assert!(matches!(commits.settle(failing).unwrap_err(), StoreError::Io { .. }));
        assert!(matches!(commits.settle(|_| FINE).unwrap_err(), StoreError::Broken));
        assert!(commits.is_broken());
    }

    #[test]
    fn a_panic_in_the_flush_leaves_nobody_waiting() {
        let commits = GroupCommit::starting_at(0);
        commits.applied(1);
        let fell =
            catch_unwind(AssertUnwindSafe(|| commits.settle(|_| -> Result<(), StoreError> { panic!("on purpose") })));
        assert!(fell.is_err());
        assert!(matches!(commits.settle(|_| FINE).unwrap_err(), StoreError::Broken));
    }
}
