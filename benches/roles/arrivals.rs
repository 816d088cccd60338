//! What arrived at a subscriber, and how long it was on its way.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{clock, due};
use crate::percentile;

/// What a subscriber got since it was last asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Got {
    /// Messages.
    pub count: u64,
    /// From the first to the last, seconds.
    pub seconds: f64,
    /// From due to plaintext, milliseconds: half of them took no longer.
    pub p50: f64,
    /// The same of 99 in 100.
    pub p99: f64,
    /// Processor time of this process per message, microseconds.
    pub cpu: f64,
    /// How often it was told that messages are missing.
    pub gaps: u64,
    /// When the first one under the key that was asked for was here, nanoseconds since 1970.
    pub first_under: Option<u64>,
}

impl Got {
    /// Messages per second.
    pub fn rate(&self) -> f64 {
        self.count as f64 / self.seconds.max(1e-9)
    }
}

/// The account of a subscriber.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    first: Option<u64>,
    last: u64,
    took: Vec<u64>,
    gaps: u64,
    under: HashMap<String, u64>,
}

impl Arrivals {
    pub(super) fn arrived(&mut self, payload: &[u8], key: Option<&str>) {
        let now = clock();
        self.first.get_or_insert(now);
        self.last = now;
        self.took.push(due(payload).map_or(0, |due| now.saturating_sub(due)));
        if let Some(key) = key.filter(|key| !self.under.contains_key(*key)) {
            self.under.insert(key.into(), now);
        }
    }

    pub(super) fn gap(&mut self) {
        self.gaps += 1;
    }

    pub(super) fn count(&self) -> u64 {
        self.took.len() as u64
    }

    pub(super) fn first_under(&self, key: &str) -> Option<u64> {
        self.under.get(key).copied()
    }

    /// The account so far, and a new one. `cpu` in seconds. Which keys were seen stays known.
    pub(super) fn settle(&mut self, cpu: f64) -> Got {
        let under = std::mem::take(&mut self.under);
        let mut before = std::mem::replace(self, Self { under, ..Self::default() });
        before.took.sort_unstable();
        let milliseconds = |percent| percentile(&before.took, percent).map_or(0.0, |took| *took as f64 / 1e6);
        Got {
            count: before.count(),
            seconds: before.first.map_or(0.0, |first| before.last.saturating_sub(first) as f64 / 1e9),
            p50: milliseconds(50.0),
            p99: milliseconds(99.0),
            cpu: cpu * 1e6 / before.count().max(1) as f64,
            gaps: before.gaps,
            first_under: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::payload;
    use super::*;

    #[test]
    fn an_account_counts_what_came_since_the_last_one() {
        let mut arrivals = Arrivals::default();
        (0..4).for_each(|number| arrivals.arrived(&payload(clock() - 2_000_000, number, 0), Some("k")));
        arrivals.gap();
        let first = arrivals.first_under("k");
        let got = arrivals.settle(4e-6);
        assert_eq!((got.count, got.cpu, got.gaps), (4, 1.0, 1));
        assert!(got.p50 >= 2.0 && got.p99 >= got.p50);
        let empty = arrivals.settle(0.0);
        assert_eq!((empty.count, empty.p99, empty.rate(), empty.gaps), (0, 0.0, 0.0, 0));
        assert!(first.is_some() && arrivals.first_under("k") == first && arrivals.first_under("other").is_none());
    }
}
