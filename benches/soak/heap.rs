//! What the daemon asked the allocator for and has not given back: what is resident beyond that is held by the allocator, or is no heap.
//!
//! The process under test counts, and writes the figure into a file of the run: no door of `veilcast` tells it.

use std::alloc::System;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// As it is without, and counted.
#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The environment variable with the file that the process under test tells it in.
pub(crate) const TOLD_IN: &str = "SOAK_HEAP";
const EVERY: Duration = Duration::from_millis(500);

/// Bytes that are allocated now.
fn allocated() -> u64 {
    let stats = HEAP.stats();
    // Others go on meanwhile.
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated) as u64
}

/// Writes it down for as long as this process lives.
pub(crate) fn tell(path: &Path) -> io::Result<()> {
    let file = File::create(path)?;
    file.write_all_at(&allocated().to_be_bytes(), 0)?;
    // It ends with the process, or with the run's folder.
    thread::Builder::new().name("heap".into()).spawn(move || {
        while file.write_all_at(&allocated().to_be_bytes(), 0).is_ok() {
            thread::sleep(EVERY);
        }
    })?;
    Ok(())
}

/// What a process has told, bytes.
pub(crate) fn told(path: &Path) -> io::Result<u64> {
    let bytes = fs::read(path)?.try_into().map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allocated_is_told_and_what_was_given_back_is_not() {
        const MUCH: u64 = 64 << 20;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("heap");
        let much = vec![1_u8; MUCH as usize];
        tell(&path).unwrap();
        assert!(told(&path).unwrap() >= MUCH);
        drop(much);
        assert!(allocated() < MUCH);
        assert!(told(&folder.path().join("none")).is_err());
    }
}
