//! The core's limits: as shipped, or small enough to be reached.

use std::num::NonZeroUsize;
use std::time::Duration;

use veilcast::exchange::{Rate, RequesterConfig, ScreenLimits};
use veilcast::subscriber::IntakeLimits;

pub(crate) fn screen(tight: bool) -> ScreenLimits {
    // A small replay memory: with the one shipped, a thousand runs a minute would spend their time making it.
    let shipped = ScreenLimits { replay_capacity: nonzero(4_096), rate_capacity: nonzero(256), ..Default::default() };
    if !tight {
        return shipped;
    }
    ScreenLimits {
        per_peer: Rate { per_second: 5, burst: 10 },
        per_subscriber: Rate { per_second: 2, burst: 5 },
        total: Rate { per_second: 10, burst: 20 },
        refusals: Rate { per_second: 5, burst: 10 },
        ..shipped
    }
}

pub(crate) fn intake(tight: bool) -> IntakeLimits {
    if !tight {
        return IntakeLimits::default();
    }
    IntakeLimits {
        parked: 6,
        out_of_order: 5,
        held_bytes: 6_000,
        live_window: Duration::from_secs(20),
        keys: nonzero(2),
        ..Default::default()
    }
}

pub(crate) fn requester(timeout: u64) -> RequesterConfig {
    RequesterConfig { key_request_timeout: Duration::from_millis(timeout), ..Default::default() }
}

fn nonzero(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}
