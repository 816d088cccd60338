//! Counters by label, and histograms of seconds.

use std::borrow::Cow;
use std::marker::PhantomData;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::label::Label;

/// Labels of one figure.
pub(crate) type Labels = Vec<(&'static str, Cow<'static, str>)>;
/// Counters of one name.
pub(crate) type CountsFamily = Family<Labels, Counter>;
/// Histograms of one name.
pub(crate) type SecondsFamily = Family<Labels, Histogram, fn() -> Histogram>;

/// From what a store at hand takes to what nobody waits for any longer.
const BUCKETS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// An empty histogram of seconds.
pub(crate) fn seconds() -> Histogram {
    Histogram::new(BUCKETS)
}

/// Counters, one for each value of a label. All are there from the start, so that a zero can be told from what is not counted,
/// and counting is one atomic addition.
#[derive(Debug)]
pub(crate) struct Counts<L> {
    counters: Vec<Counter>,
    label: PhantomData<fn(L)>,
}

impl<L: Label> Counts<L> {
    /// Counters in `family`, each with the labels `fixed` before its own.
    pub(crate) fn of(family: &CountsFamily, fixed: &Labels) -> Self {
        let counter = |value: &L| {
            let mut labels = fixed.clone();
            labels.push((L::NAME, value.value().into()));
            family.get_or_create_owned(&labels)
        };
        Self { counters: L::ALL.iter().map(counter).collect(), label: PhantomData }
    }

    /// So many more.
    pub(crate) fn add(&self, value: L, by: usize) {
        if let Some(counter) = self.counters.get(value.place()) {
            counter.inc_by(by as u64);
        }
    }

    #[cfg(test)]
    pub(crate) fn get(&self, value: L) -> u64 {
        self.counters[value.place()].get()
    }
}

#[cfg(test)]
mod tests {
    use super::super::label::label;
    use super::*;

    label! {
        /// For the test.
        Weather as "weather" { Rain = "rain", Sun = "sun" }
    }

    #[test]
    fn every_value_of_a_label_is_there_before_it_is_counted() {
        let family = CountsFamily::default();
        let counts = Counts::of(&family, &vec![("place", "here".into())]);
        counts.add(Weather::Sun, 2);
        assert_eq!((counts.get(Weather::Rain), counts.get(Weather::Sun)), (0, 2));
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register("days", "Days", family);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in ["days_total{place=\"here\",weather=\"rain\"} 0", "days_total{place=\"here\",weather=\"sun\"} 2"] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
