//! The truth about grants, in whole milliseconds of true time and without the core's arithmetic.

use std::collections::BTreeMap;

use veilcast::stream::StreamId;
use veilcast::{Permission, UserId};

use crate::clocks::Clocks;
use crate::network::Place;

/// Whose source is asked: a publisher's own, or the one that readers share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    Publisher(usize),
    Readers,
    /// The one that storage nodes share.
    Depots,
}

impl Source {
    /// By whose clock its grants begin and end.
    fn place(self) -> Option<Place> {
        match self {
            Self::Publisher(number) => Some(Place::Publisher(number)),
            Self::Readers | Self::Depots => None,
        }
    }
}

/// What is asked: may this user do this on this stream, according to that source?
pub(crate) type Question = (Source, StreamId, UserId, Permission);

/// May everybody subscribe?
pub(crate) fn public(source: Source, stream: &StreamId) -> Question {
    (source, stream.clone(), UserId::from_bytes([0; UserId::LEN]), Permission::Subscribe)
}

/// From the true moment `from` on, until the next version, the grant holds from the first to the last millisecond of `held`,
/// by the source's clock.
#[derive(Clone, Copy, Debug)]
struct Version {
    from: u64,
    held: Option<(u64, u64)>,
}

/// From and until, both included, in true time.
type Span = (u64, u64);

/// Every version of every grant.
#[derive(Default)]
pub(crate) struct Grants(BTreeMap<Question, Vec<Version>>);

impl Grants {
    /// Given or renewed at `now`; start and end count as whole seconds, both included.
    pub(crate) fn give(&mut self, question: Question, now: u64, start: Option<u64>, end: Option<u64>) {
        let first = start.map_or(0, |start| start / 1000 * 1000);
        let last = end.map_or(u64::MAX, |end| end / 1000 * 1000 + 999);
        self.add(question, Version { from: now, held: (first <= last).then_some((first, last)) });
    }

    pub(crate) fn take_back(&mut self, question: Question, now: u64) {
        self.add(question, Version { from: now, held: None });
    }

    fn add(&mut self, question: Question, version: Version) {
        self.0.entry(question).or_default().push(version);
    }

    /// At this very moment, by the latest word: given to this user, or to everybody.
    pub(crate) fn holds(&self, question: &Question, clocks: &Clocks, now: u64) -> bool {
        ways(question).iter().any(|way| self.given(way, clocks, now))
    }

    /// When the source's clock shows `moment`, by the latest word: given to this user, or to everybody.
    pub(crate) fn held_at(&self, question: &Question, moment: u64) -> bool {
        let latest = |way: &Question| self.0.get(way).and_then(|versions| versions.last())?.held;
        ways(question).iter().filter_map(latest).any(|(first, last)| first <= moment && moment <= last)
    }

    /// Whether it has begun and is not over, by the latest word: a clock set back before its beginning takes nothing from
    /// anybody who was let in.
    pub(crate) fn goes_on(&self, question: &Question, clocks: &Clocks, now: u64) -> bool {
        let latest = |way: &Question| self.0.get(way).and_then(|versions| versions.last()).copied();
        let open = |(way, version): (&Question, Version)| version.while_open(way.0, clocks);
        let ways = ways(question);
        let mut spans = ways.iter().filter_map(|way| latest(way).map(|version| (way, version))).flat_map(open);
        spans.any(|(first, last)| first <= now && now <= last)
    }

    /// To this user by name.
    pub(crate) fn given(&self, question: &Question, clocks: &Clocks, now: u64) -> bool {
        let by_clock = question.0.place().map_or(now, |place| clocks.read(place, now));
        let latest = self.0.get(question).and_then(|versions| versions.last());
        latest.and_then(|version| version.held).is_some_and(|(first, last)| first <= by_clock && by_clock <= last)
    }

    /// At some true moment from `from` to `to` it had begun and was not over.
    pub(crate) fn went_on_within(&self, question: &Question, clocks: &Clocks, from: u64, to: u64) -> bool {
        self.spans(question, clocks, Version::while_open).iter().any(|(first, last)| *first <= to && from <= *last)
    }

    /// Since when it has held without a break until `now`; `None` when it does not hold.
    pub(crate) fn unbroken_since(&self, question: &Question, clocks: &Clocks, now: u64) -> Option<u64> {
        let mut spans = self.spans(question, clocks, Version::while_held);
        spans.sort_unstable();
        let mut held: Option<(u64, u64)> = None;
        for (first, last) in spans.into_iter().filter(|(first, _)| *first <= now) {
            held = match held {
                Some((since, until)) if first <= until.saturating_add(1) => Some((since, until.max(last))),
                _ => Some((first, last)),
            };
        }
        held.filter(|(_, last)| now <= *last).map(|(since, _)| since)
    }

    /// True time in which it held; each version is cut off where the next replaced it.
    fn spans(&self, question: &Question, clocks: &Clocks, of: fn(&Version, Source, &Clocks) -> Vec<Span>) -> Vec<Span> {
        let mut spans = Vec::new();
        for way in ways(question) {
            let versions = self.0.get(&way).map_or(&[][..], Vec::as_slice);
            for (n, version) in versions.iter().enumerate() {
                let replaced = versions.get(n + 1).map_or(u64::MAX, |next| next.from);
                let held = of(version, way.0, clocks).into_iter().map(|(first, last)| (first, last.min(replaced)));
                spans.extend(held.filter(|(first, last)| first <= last));
            }
        }
        spans
    }
}

impl Version {
    fn while_held(&self, source: Source, clocks: &Clocks) -> Vec<Span> {
        self.periods(source, clocks, false)
    }

    fn while_open(&self, source: Source, clocks: &Clocks) -> Vec<Span> {
        self.periods(source, clocks, true)
    }

    /// Once begun it may stay begun, whatever the clock says.
    fn periods(&self, source: Source, clocks: &Clocks, stays_begun: bool) -> Vec<Span> {
        let (Some(held), mut spans) = (self.held, Vec::new()) else { return Vec::new() };
        for (from, until, skew) in clocks.periods(source.place()) {
            let first = if stays_begun && !spans.is_empty() { 0 } else { held.0 };
            let [first, last] = [first, held.1].map(|moment| moment.saturating_add_signed(-skew));
            let span = (first.max(self.from).max(from), last.min(until));
            spans.extend((span.0 <= span.1).then_some(span));
        }
        spans
    }
}

/// Everybody may subscribe to a public stream.
fn ways(question: &Question) -> Vec<Question> {
    let by_name = question.clone();
    match question.3 {
        Permission::Subscribe => vec![by_name, public(question.0, &question.1)],
        _ => vec![by_name],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Question {
        let user = UserId::from_bytes([1; 20]);
        (Source::Publisher(0), StreamId::of(user, "s").unwrap(), user, Permission::Subscribe)
    }

    #[test]
    fn a_grant_holds_through_the_second_of_its_end_and_not_after_it_was_taken_back() {
        let (mut grants, clocks) = (Grants::default(), Clocks::default());
        grants.give(question(), 5_000, Some(10_500), Some(20_300));
        let held = |at| grants.holds(&question(), &clocks, at);
        assert_eq!([held(9_999), held(10_000), held(20_999), held(21_000)], [false, true, true, false]);
        grants.take_back(question(), 15_000);
        assert!(!grants.holds(&question(), &clocks, 15_000));
        assert!(grants.went_on_within(&question(), &clocks, 14_999, 30_000));
        assert!(!grants.went_on_within(&question(), &clocks, 15_001, 30_000));
    }

    #[test]
    fn a_renewal_in_time_leaves_no_break_and_a_late_one_does() {
        let (mut grants, clocks) = (Grants::default(), Clocks::default());
        let since = |grants: &Grants, at| grants.unbroken_since(&question(), &clocks, at);
        grants.give(question(), 0, None, Some(10_000));
        grants.give(question(), 8_000, None, Some(30_000));
        assert_eq!(since(&grants, 30_999), Some(0));
        grants.give(question(), 40_000, None, None);
        assert_eq!(since(&grants, 50_000), Some(40_000));
        grants.give(question(), 50_000, Some(60_000), None);
        assert_eq!(since(&grants, 55_000), None);
        grants.give(public(question().0, &question().1), 49_000, None, None);
        assert_eq!(since(&grants, 65_000), Some(40_000));
    }

    #[test]
    fn a_clock_that_is_set_moves_the_end_of_a_grant() {
        let (mut grants, mut clocks) = (Grants::default(), Clocks::default());
        grants.give(question(), 0, None, Some(10_000));
        clocks.set(Place::Publisher(0), 5_000, 6_000);
        assert!(!grants.holds(&question(), &clocks, 5_000), "eleven o'clock, so to say");
        clocks.set(Place::Publisher(0), 8_000, -1_000);
        assert!(grants.holds(&question(), &clocks, 11_999));
        assert_eq!(grants.unbroken_since(&question(), &clocks, 11_999), Some(8_000));
        assert!(!grants.went_on_within(&question(), &clocks, 5_001, 7_999));
        clocks.set(Place::Publisher(0), 11_000, -11_000);
        grants.give(question(), 11_100, Some(1_500), None);
        assert!(!grants.goes_on(&question(), &clocks, 11_400));
        clocks.set(Place::Publisher(0), 12_500, -12_500);
        assert!(grants.goes_on(&question(), &clocks, 12_500) && !grants.holds(&question(), &clocks, 12_500));
    }
}
