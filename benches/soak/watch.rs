//! What the daemon uses, once a second, and whether that stays flat.

use std::fs;

use veilcast_benches::{Outcome, Usage};

/// What a process used at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Use {
    /// Resident memory, bytes.
    pub(crate) memory: u64,
    /// Open file descriptors.
    pub(crate) files: u64,
    /// Threads.
    pub(crate) threads: u64,
}

impl Use {
    /// Of a process, as Linux tells.
    pub(crate) fn of(process: u32) -> Outcome<Self> {
        let folder = |name: &str| fs::read_dir(format!("/proc/{process}/{name}")).map(|entries| entries.count() as u64);
        Ok(Self { memory: Usage::of(process)?.resident, files: folder("fd")?, threads: folder("task")? })
    }
}

/// Samples of one life of the daemon, in order.
pub(crate) type Life = Vec<Use>;

/// Fewer samples of a life say nothing about its trend: its first half minute fills caches.
pub(crate) const ENOUGH: usize = 120;

/// What may be more in the last quarter of a life than in the second: a tenth, and this.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Bytes.
    pub(crate) memory: u64,
    pub(crate) files: u64,
    pub(crate) threads: u64,
}

/// Noise of the allocator, connections that come and go, threads that wait for a disk for ten seconds after they were needed.
pub(crate) const ROOM: Room = Room { memory: 8 << 20, files: 12, threads: 12 };

/// A life's figures: the median of its second and of its last quarter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trend {
    pub(crate) name: &'static str,
    pub(crate) before: u64,
    pub(crate) after: u64,
    pub(crate) room: u64,
}

impl Trend {
    pub(crate) fn is_flat(&self) -> bool {
        self.after <= self.before + self.before / 10 + self.room
    }
}

/// The trends of a life; `None` of one too short.
pub(crate) fn trends(life: &Life) -> Option<[Trend; 3]> {
    if life.len() < ENOUGH {
        return None;
    }
    let quarter = life.len() / 4;
    let (second, last) = (&life[quarter..2 * quarter], &life[life.len() - quarter..]);
    let trend =
        |name, of: fn(&Use) -> u64, room| Trend { name, before: median(second, of), after: median(last, of), room };
    Some([
        trend("memory", |used| used.memory, ROOM.memory),
        trend("files", |used| used.files, ROOM.files),
        trend("threads", |used| used.threads, ROOM.threads),
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
        (0..ENOUGH as u64).map(|at| Use { memory: memory(at), files: 30, threads: 10 }).collect()
    }

    #[test]
    fn what_grows_all_the_time_is_not_flat_and_what_warms_up_is() {
        let flat = |life: &Life| trends(life).unwrap().map(|trend| trend.is_flat());
        assert_eq!(flat(&life(|at| (50 + at) << 20)), [false, true, true]);
        assert_eq!(flat(&life(|at| if at < 20 { 10 << 20 } else { 60 << 20 })), [true; 3]);
        assert!(trends(&life(|_| 1)[1..].to_vec()).is_none());
    }

    #[test]
    fn this_process_uses_something() {
        let used = Use::of(std::process::id()).unwrap();
        assert!(used.memory > 1 << 20 && used.files >= 3 && used.threads >= 1);
    }
}
