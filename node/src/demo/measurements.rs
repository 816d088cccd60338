//! This machine, as it is now: read from the operating system, not invented.

use std::time::{Duration, Instant};

use serde_json::json;
use sysinfo::{MINIMUM_CPU_UPDATE_INTERVAL, Networks, System};

use super::DemoError;
use crate::commands::now;
use crate::times;

/// Live figures of this machine.
pub(super) struct Measurements {
    system: System,
    networks: Networks,
    cpu_read: Instant,
}

impl Measurements {
    /// Takes the first reading; CPU usage is a difference, so the second one is the first that tells.
    pub(super) fn begin() -> Result<Self, DemoError> {
        let fault = |error: sysinfo::Error| DemoError::Measurements(error.to_string());
        let mut system = System::new().map_err(fault)?;
        system.refresh_cpu_usage();
        let networks = Networks::new_with_refreshed_list().map_err(fault)?;
        Ok(Self { system, networks, cpu_read: Instant::now() })
    }

    /// How often a new reading is worth taking.
    pub(super) const fn interval() -> Duration {
        MINIMUM_CPU_UPDATE_INTERVAL
    }

    /// One reading, as JSON text.
    pub(super) fn read(&mut self) -> Result<String, DemoError> {
        if self.cpu_read.elapsed() >= MINIMUM_CPU_UPDATE_INTERVAL {
            self.system.refresh_cpu_usage();
            self.cpu_read = Instant::now();
        }
        self.system.refresh_memory();
        self.networks.refresh(true);
        let received: u64 = self.networks.values().map(sysinfo::NetworkData::total_received).sum();
        let sent: u64 = self.networks.values().map(sysinfo::NetworkData::total_transmitted).sum();
        let reading = json!({
            "at": times::show(now()),
            "cpu_percent": (f64::from(self.system.global_cpu_usage()) * 10.0).round() / 10.0,
            "memory_mib": self.system.used_memory() >> 20,
            "received_bytes": received,
            "sent_bytes": sent,
        });
        Ok(reading.to_string())
    }
}
