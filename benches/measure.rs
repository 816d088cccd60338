//! Times, and what to make of several.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Several measurements of one thing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample(Vec<f64>);

impl Sample {
    /// Of these values, in any order.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// Of these times, in seconds.
    pub fn of_times(times: &[Duration]) -> Self {
        Self::of(times.iter().map(Duration::as_secs_f64))
    }

    /// The value that so many of a hundred do not exceed; 0 of none.
    pub fn percentile(&self, percent: f64) -> f64 {
        percentile(&self.0, percent).copied().unwrap_or_default()
    }

    /// The value in the middle.
    pub fn median(&self) -> f64 {
        self.percentile(50.0)
    }

    /// The largest value; 0 of none.
    pub fn max(&self) -> f64 {
        self.0.last().copied().unwrap_or_default()
    }

    /// How far apart the middle half of the values lies, as a part of the median: 0.1 is 10 %.
    pub fn noise(&self) -> f64 {
        let median = self.median();
        if median == 0.0 { 0.0 } else { (self.percentile(75.0) - self.percentile(25.0)) / median }
    }
}

/// Of values in ascending order, the smallest that so many of a hundred do not exceed; none of none.
pub fn percentile<T>(sorted: &[T], percent: f64) -> Option<&T> {
    let place = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    sorted.get(place.clamp(1, sorted.len().max(1)) - 1)
}

/// Calls each of these works once a round, in turn, so that a noisy machine disturbs all alike. What a call took, in seconds: a
/// round makes `calls` calls of each, and counts as their mean.
pub fn in_turn<const N: usize>(rounds: usize, calls: u32, mut works: [&mut dyn FnMut(); N]) -> [Sample; N] {
    let mut taken: [Vec<f64>; N] = std::array::from_fn(|_| Vec::with_capacity(rounds));
    for _ in 0..rounds {
        for (work, taken) in works.iter_mut().zip(&mut taken) {
            let (took, ()) = timed(|| (0..calls).for_each(|_| work()));
            taken.push(took.as_secs_f64() / f64::from(calls));
        }
    }
    taken.map(Sample::of)
}

/// How long some work took, and what came of it.
pub fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let made = black_box(work());
    (start.elapsed(), made)
}

/// Whether this run only shows that the benches run (`VEILCAST_BENCH_QUICK=1`); its figures mean little.
pub fn is_quick() -> bool {
    std::env::var_os("VEILCAST_BENCH_QUICK").is_some_and(|set| set != "0")
}

/// `quick` in such a run, else `full`.
pub fn quick_or<T>(quick: T, full: T) -> T {
    if is_quick() { quick } else { full }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_smallest_value_that_so_many_do_not_exceed() {
        let hundred: Vec<u32> = (1..=100).collect();
        let at = |percent| percentile(&hundred, percent).copied();
        assert_eq!((at(50.0), at(99.0), at(99.9), at(100.0)), (Some(50), Some(99), Some(100), Some(100)));
        assert_eq!(at(0.0), Some(1));
        assert_eq!(percentile(&[7], 1.0), Some(&7));
        assert_eq!(percentile::<u32>(&[], 50.0), None);
    }

    #[test]
    fn a_sample_tells_its_median_and_how_far_its_values_lie_apart() {
        let sample = Sample::of([4.0, 1.0, 3.0, 2.0]);
        assert_eq!((sample.median(), sample.max()), (2.0, 4.0));
        assert_eq!(sample.noise(), (3.0 - 1.0) / 2.0);
        assert_eq!((Sample::default().median(), Sample::default().noise()), (0.0, 0.0));
    }

    #[test]
    fn works_take_turns() {
        let calls = std::cell::RefCell::new(String::new());
        let (mut one, mut other) = (|| calls.borrow_mut().push('a'), || calls.borrow_mut().push('b'));
        let [a, b] = in_turn(3, 2, [&mut one, &mut other]);
        assert_eq!(calls.into_inner(), "aabbaabbaabb");
        assert!(a.median() >= 0.0 && b.noise() >= 0.0);
    }
}
