//! The machine a bench runs on, and what a process uses of it.

use std::fmt;
use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System};

use crate::Outcome;

/// Where something was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Cores that this process may use.
    pub cores: usize,
    /// The processor, as it calls itself.
    pub processor: String,
    /// Memory, MiB.
    pub memory_mib: u64,
    /// The operating system.
    pub system: String,
    /// The load average of the last minute when the run began: what others do counts into every figure.
    pub load: f64,
}

impl Machine {
    /// As it is now.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn now() -> Outcome<Self> {
        let wanted = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        let system = System::new_with_specifics(wanted)?;
        Ok(Self {
            cores: cores(),
            processor: system.cpus().first().map_or(String::new(), |cpu| cpu.brand().trim().into()),
            memory_mib: system.total_memory() / 1024 / 1024,
            system: System::long_os_version().unwrap_or_default(),
            load: System::load_average()?.one,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cores, {}, load {:.2}", self.cores, self.processor, self.load)
    }
}

/// How many cores this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time on the processor, all threads together; counted in steps of 10 ms on Linux.
    pub cpu: Duration,
    /// Resident memory, bytes.
    pub resident: u64,
}

impl Usage {
    /// Of a process.
    ///
    /// # Errors
    /// There is none of this id.
    pub fn of(process: u32) -> Outcome<Self> {
        let (pid, mut system) = (Pid::from_u32(process), System::new()?);
        let wanted = ProcessRefreshKind::nothing().with_cpu().with_memory();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, wanted);
        let process = system.process(pid).ok_or("no such process")?;
        Ok(Self { cpu: Duration::from_millis(process.accumulated_cpu_time()), resident: process.memory() })
    }

    /// Of this process.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn own() -> Outcome<Self> {
        Self::of(std::process::id())
    }

    /// Resident memory, MiB.
    pub fn resident_mib(&self) -> f64 {
        self.resident as f64 / 1024.0 / 1024.0
    }
}

/// Where cargo builds: a bench is `<target>/<profile>/deps/<bench>`.
///
/// # Errors
/// This program is elsewhere.
pub fn target_folder() -> Outcome<PathBuf> {
    let this = std::env::current_exe()?;
    Ok(this.ancestors().nth(3).ok_or("not where cargo builds")?.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_used_memory_and_one_that_is_not_there_is_an_error() {
        assert!(Usage::own().unwrap().resident > 1024 * 1024);
        assert!(Usage::of(u32::MAX - 1).is_err());
    }
}
