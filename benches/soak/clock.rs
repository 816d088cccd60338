//! The clock of all processes of a run: the machine's, and what the run leapt ahead so far.
//!
//! Between leaps time passes as ever, so that timeouts, leads and rhythms of seconds are those of every day; a leap is to all of them
//! what waking up is to a laptop. How far it leapt stands in a file, in whole seconds: there is no other way to change it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use veilcast::Timestamp;
use veilcast::time::{Clock, SystemClock};

/// A clock that leaps when the run says so.
#[derive(Debug)]
pub(crate) struct LeapingClock {
    leapt: File,
}

impl LeapingClock {
    /// For the run, which says when: one that has not leapt yet.
    pub(crate) fn make(path: &Path) -> io::Result<Self> {
        let leapt = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        leapt.write_all_at(&0_u32.to_be_bytes(), 0)?;
        Ok(Self { leapt })
    }

    /// For the other processes.
    pub(crate) fn follow(path: &Path) -> io::Result<Self> {
        Ok(Self { leapt: File::open(path)? })
    }

    /// Leaps ahead, in all processes at once.
    pub(crate) fn leap(&self, seconds: u32) -> io::Result<()> {
        self.leapt.write_all_at(&(self.leapt()? + seconds).to_be_bytes(), 0)
    }

    fn leapt(&self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.leapt.read_exact_at(&mut bytes, 0)?;
        Ok(u32::from_be_bytes(bytes))
    }
}

impl Clock for LeapingClock {
    fn now(&self) -> Timestamp {
        // Four bytes that nobody takes away while the run goes on.
        let leapt = self.leapt().expect("the run's clock can be read");
        SystemClock.now().plus(Duration::from_secs(leapt.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leap_is_seen_by_all_who_follow_and_time_passes_between_leaps() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clock");
        let clock = LeapingClock::make(&path).unwrap();
        let other = LeapingClock::follow(&path).unwrap();
        let before = other.now();
        assert!(before >= SystemClock.now().minus(Duration::from_secs(60)));
        clock.leap(600).unwrap();
        clock.leap(600).unwrap();
        let passed = other.now().since(before);
        assert!(passed >= Duration::from_secs(1200) && passed < Duration::from_secs(1800), "{passed:?}");
        assert!(other.leap(1).is_err(), "only the run leaps");
    }
}
