//! Everybody's own clock: how far it is off, and since when.

use std::collections::BTreeMap;

use crate::network::Place;

/// True time is the run's own; nobody in it can read that.
#[derive(Default)]
pub(crate) struct Clocks(BTreeMap<Place, Vec<(u64, i64)>>);

impl Clocks {
    /// What the clock of this party shows at this true moment, if it was not set since.
    pub(crate) fn read(&self, place: Place, now: u64) -> u64 {
        now.saturating_add_signed(self.skew(place))
    }

    pub(crate) fn skew(&self, place: Place) -> i64 {
        self.0.get(&place).and_then(|set| set.last()).map_or(0, |(_, skew)| *skew)
    }

    /// Whether it was ever set while the run went on.
    pub(crate) fn was_set(&self, place: Place) -> bool {
        self.0.get(&place).is_some_and(|set| set.last().is_some_and(|(at, _)| *at > 0))
    }

    /// From now on it is off by so much. Returns whether that is news.
    pub(crate) fn set(&mut self, place: Place, now: u64, skew: i64) -> bool {
        let news = self.skew(place) != skew;
        if news {
            self.0.entry(place).or_default().push((now, skew));
        }
        news
    }

    /// Periods of true time, and how far the clock was off in each.
    pub(crate) fn periods(&self, place: Option<Place>) -> Vec<(u64, u64, i64)> {
        let set = place.and_then(|place| self.0.get(&place)).map_or(&[][..], Vec::as_slice);
        let until = |n: usize| set.get(n).map_or(u64::MAX, |(at, _)| *at);
        let first = [(0, until(0), 0)];
        first.into_iter().chain(set.iter().enumerate().map(|(n, (at, skew))| (*at, until(n + 1), *skew))).collect()
    }
}
