//! What the daemon uses, once a second, and whether that stays flat.

use std::fmt;
use std::fs;
use std::path::Path;

use veilcast_benches::Outcome;

use crate::heap;

/// What a process used at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Use {
    /// Resident memory of its own, bytes: without its program and other files that are mapped, which the system takes back when it
    /// likes.
    pub(crate) memory: u64,
    /// All that is resident, bytes.
    pub(crate) resident: u64,
    /// What it has allocated and not given back, bytes, whether it was ever written to or not.
    pub(crate) heap: u64,
    /// Open file descriptors.
    pub(crate) files: u64,
    /// Threads.
    pub(crate) threads: u64,
}

impl Use {
    /// Of a process, as Linux tells, and itself in this file.
    pub(crate) fn of(process: u32, heap: &Path) -> Outcome<Self> {
        let folder = |name: &str| fs::read_dir(format!("/proc/{process}/{name}")).map(|entries| entries.count() as u64);
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let bytes = |name| line(&status, name).ok_or("no such line of memory");
        Ok(Self {
            memory: bytes("RssAnon:")?,
            resident: bytes("VmRSS:")?,
            heap: heap::told(heap)?,
            files: folder("fd")?,
            threads: folder("task")?,
        })
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { memory, resident, heap, files, threads } = self;
        let mib = |bytes: &u64| *bytes as f64 / MIB;
        let (memory, resident, heap) = (mib(memory), mib(resident), mib(heap));
        write!(f, "{memory:.1} MiB ({resident:.1} with files, {heap:.1} allocated), {files} files, {threads} threads")
    }
}

/// Of a line like `VmRSS:   79120 kB`, in bytes.
fn line(status: &str, name: &str) -> Option<u64> {
    let kib = status.lines().find_map(|line| line.strip_prefix(name))?.trim().strip_suffix(" kB")?;
    Some(kib.parse::<u64>().ok()? * 1024)
}

pub(crate) const MIB: f64 = 1_048_576.0;

/// Samples of one life of the daemon, in order.
pub(crate) type Life = Vec<Use>;

/// Fewer samples of a life say nothing about its trend: its first half minute fills caches.
pub(crate) const ENOUGH: usize = 120;

/// What may be more in the last quarter of a life than in the second: one part of so many, and so much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    part: u64,
    more: u64,
}

impl Room {
    pub(crate) fn holds(self, before: u64, after: u64) -> bool {
        after <= before + before / self.part + self.more
    }
}

/// What is allocated: caches of the stores fill and are emptied, by some MiB.
const HEAP: Room = Room { part: 20, more: 1 << 20 };
/// What is resident, beside that: pages between what was allocated at the highest moment so far, which glibc keeps.
pub(crate) const MEMORY: Room = Room { part: 10, more: 4 << 20 };
/// Connections that come and go.
const FILES: Room = Room { part: 10, more: 12 };
/// Threads that wait for a disk for ten seconds after they were needed.
const THREADS: Room = Room { part: 10, more: 12 };

/// A life's figures: the median of its second and of its last quarter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trend {
    pub(crate) name: &'static str,
    pub(crate) before: u64,
    pub(crate) after: u64,
    room: Room,
}

impl Trend {
    pub(crate) fn is_flat(&self) -> bool {
        self.room.holds(self.before, self.after)
    }
}

/// The trends of a life; `None` of one too short.
pub(crate) fn trends(life: &Life) -> Option<[Trend; 4]> {
    if life.len() < ENOUGH {
        return None;
    }
    let quarter = life.len() / 4;
    let (second, last) = (&life[quarter..2 * quarter], &life[life.len() - quarter..]);
    let trend =
        |name, of: fn(&Use) -> u64, room| Trend { name, before: median(second, of), after: median(last, of), room };
    Some([
        trend("memory", |used| used.memory, MEMORY),
        trend("heap", |used| used.heap, HEAP),
        trend("files", |used| used.files, FILES),
        trend("threads", |used| used.threads, THREADS),
    ])
}

/// The middle one.
pub(crate) fn median(samples: &[Use], of: fn(&Use) -> u64) -> u64 {
    let mut values: Vec<u64> = samples.iter().map(of).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(memory: impl Fn(u64) -> u64) -> Life {
        (0..ENOUGH as u64)
            .map(|at| Use { memory: memory(at), resident: memory(at), heap: 1, files: 30, threads: 10 })
            .collect()
    }

    #[test]
    fn what_grows_all_the_time_is_not_flat_and_what_warms_up_is() {
        let flat = |life: &Life| trends(life).unwrap().map(|trend| trend.is_flat());
        assert_eq!(flat(&life(|at| (50 + at) << 20)), [false, true, true, true]);
        assert_eq!(flat(&life(|at| if at < 20 { 10 << 20 } else { 60 << 20 })), [true; 4]);
        let leak: Life = life(|_| 60 << 20)
            .into_iter()
            .zip(0..)
            .map(|(used, at)| Use { heap: (50 << 20) + at * 100_000, ..used })
            .collect();
        assert_eq!(flat(&leak), [true, false, true, true], "a leak that no page shows yet");
        assert!(trends(&life(|_| 1)[1..].to_vec()).is_none());
    }

    #[test]
    fn this_process_uses_something() {
        let folder = tempfile::tempdir().unwrap();
        let told = folder.path().join("heap");
        assert!(Use::of(std::process::id(), &told).is_err(), "nothing is told of the heap yet");
        heap::tell(&told).unwrap();
        let used = Use::of(std::process::id(), &told).unwrap();
        assert!(used.memory > 100 << 10 && used.resident > used.memory && used.heap > 0);
        assert!(used.files >= 3 && used.threads >= 1);
    }
}
