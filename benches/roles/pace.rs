//! When a publisher sends: as fast as it can, or at a steady pace.

use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::clock;

/// So much at a time, and how fast.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// Messages per second; none: as many as there is room for.
    pub per_second: Option<f64>,
    /// Bytes of a payload.
    pub size: usize,
    /// How long, in seconds.
    pub seconds: f64,
}

impl Pace {
    /// When each message is due, by [`clock`]; waits for it, on a thread that may wait. A message is due at its time even if the
    /// ones before it took longer: whoever makes others wait is not spared.
    pub(super) fn ticks(self) -> impl Iterator<Item = u64> {
        let (start, began) = (Instant::now(), clock());
        let step = self.per_second.map(|rate| Duration::from_secs_f64(1.0 / rate));
        let mut number = 0;
        std::iter::from_fn(move || {
            let after = match step {
                Some(step) => step * number,
                None => start.elapsed(),
            };
            number += 1;
            if after.as_secs_f64() >= self.seconds {
                return None;
            }
            if let Some(wait) = after.checked_sub(start.elapsed()) {
                thread::sleep(wait);
            }
            Some(began + u64::try_from(after.as_nanos()).unwrap_or(u64::MAX))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_pace_is_as_many_as_fit_and_none_is_due_twice() {
        let ticks: Vec<u64> = Pace { per_second: Some(1000.0), size: 0, seconds: 0.02 }.ticks().collect();
        assert_eq!(ticks.len(), 20);
        assert!(ticks.windows(2).all(|pair| pair[1] - pair[0] == 1_000_000));
    }
}
