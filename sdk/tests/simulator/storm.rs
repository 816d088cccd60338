//! What goes wrong in a plan: grants that change, crashes, partitions, weather and hostile peers.

use rand::RngExt;
use rand::rngs::StdRng;

use crate::hostile::Mischief;
use crate::network::{Place, Weather};
use crate::plan::{Action, Change, Plan, START};

impl Plan {
    /// Grants are given, taken back, renewed; a publisher may be expelled.
    pub(crate) fn changes(&mut self, until: u64, rng: &mut StdRng) {
        let pairs = self.pairs();
        for _ in 0..rng.random_range(0..=6) {
            let (publisher, stream) = pairs[rng.random_range(0..pairs.len())];
            let subscriber = rng.random_range(0..self.subscribers.len());
            let at = if rng.random_bool(0.3) { self.eventful(rng) } else { moment(until, rng) };
            let later = |rng: &mut StdRng| at + rng.random_range(0..30_000);
            let change = match rng.random_range(0..10) {
                0..4 => Change::TakeBack,
                4..6 => Change::Give { start: None, end: None },
                8..10 => Change::Give { start: Some(later(rng)), end: None },
                _ => Change::Give { start: None, end: Some(later(rng)) },
            };
            self.acts.push((at, Action::Permit { publisher, stream, subscriber, change }));
            if matches!(change, Change::TakeBack) && rng.random_bool(0.3) {
                // Given again at once, for later: what ended in between must not be forgotten.
                let (soon, change) =
                    (at + rng.random_range(1..200), Change::Give { start: Some(at + 20_000), end: None });
                self.acts.push((soon, Action::Permit { publisher, stream, subscriber, change }));
                self.acts.push((soon + rng.random_range(0..400), Action::Publish { publisher, stream, part: 0 }));
            }
        }
        if rng.random_bool(0.15) {
            let (publisher, stream) = pairs[rng.random_range(0..pairs.len())];
            let at = moment(until, rng);
            self.acts.push((at, Action::Open { publisher, stream, open: true }));
            self.acts.push((at + rng.random_range(0..20_000), Action::Open { publisher, stream, open: false }));
        }
        if self.publishers.len() > 1 && rng.random_bool(0.15) {
            let publisher = self.publishers.len() - 1;
            self.acts.push((moment(until, rng), Action::Expel { publisher }));
        }
    }

    /// The very moment of something else that was planned.
    fn eventful(&self, rng: &mut StdRng) -> u64 {
        let rekeys = self.acts.iter().filter(|(_, act)| matches!(act, Action::Rekey { .. }));
        let moments: Vec<u64> = rekeys.chain(&self.acts).map(|(at, _)| *at).collect();
        let chosen = if rng.random_bool(0.5) { 0 } else { rng.random_range(0..moments.len()) };
        moments[chosen]
    }

    /// Crashes, partitions and hostile peers.
    pub(crate) fn troubles(&mut self, until: u64, rng: &mut StdRng) {
        let pairs = self.pairs();
        let places = self.places();
        for _ in 0..rng.random_range(0..=3) {
            let (at, place) = (moment(until, rng), places[rng.random_range(0..places.len())]);
            self.acts.push((at, Action::Crash(place)));
            self.acts.push((at + rng.random_range(1_000..15_000), Action::Restart(place)));
        }
        if rng.random_bool(0.3) {
            let (publisher, stream) = pairs[rng.random_range(0..pairs.len())];
            let at = moment(until, rng);
            self.acts.push((at, Action::DiePublishing { publisher, stream }));
            self.acts.push((at + rng.random_range(1_000..5_000), Action::Restart(Place::Publisher(publisher))));
        }
        for _ in 0..rng.random_range(0..=2) {
            let island = places.iter().copied().filter(|_| rng.random_bool(0.4)).collect();
            let at = moment(until, rng);
            self.acts.push((at, Action::Part(island)));
            self.acts.push((at + rng.random_range(500..25_000), Action::Mend));
        }
        if self.weather.slowest == 0 {
            self.all_at_once(rng);
        }
        self.clocks(until, rng);
        self.disks(until, rng);
        for _ in 0..rng.random_range(2..=12) {
            self.acts.push((moment(until, rng), Action::Mischief(Mischief::any(rng))));
        }
    }

    /// Ends that are known beforehand: what happens shortly before and after them.
    pub(crate) fn around_ends(&mut self, rng: &mut StdRng) {
        let end_of = |act: &Action| match act {
            Action::Permit { publisher, stream, subscriber, change: Change::Give { end: Some(end), .. } } => {
                Some((*publisher, *stream, *subscriber, *end))
            }
            _ => None,
        };
        let ends: Vec<_> = self.acts.iter().filter_map(|(_, act)| end_of(act)).collect();
        for (publisher, stream, subscriber, end) in ends {
            let skews = self.skews.iter().filter(|(place, _)| *place == Place::Publisher(publisher));
            let skew = skews.map(|(_, skew)| *skew).next().unwrap_or(0);
            // The first moment without, by the publisher's clock.
            let over = (end / 1000 * 1000 + 1000).saturating_add_signed(-skew).max(START + 3_000);
            if rng.random_bool(0.3) {
                self.acts.push((over - 2_500, Action::Publish { publisher, stream, part: 0 }));
            }
            for _ in 0..rng.random_range(0..3) {
                self.acts.push((over + rng.random_range(0..400), Action::Publish { publisher, stream, part: 0 }));
            }
            let before = over - rng.random_range(0..2_000);
            let change = match rng.random_range(0..10) {
                0 | 1 => (rng.random_range(0..self.subscribers.len()), Change::TakeBack),
                2 => (subscriber, Change::TakeBack),
                3 => (subscriber, Change::Give { start: None, end: Some(end + 7_000) }),
                _ => continue,
            };
            let (subscriber, change) = change;
            self.acts.push((before, Action::Permit { publisher, stream, subscriber, change }));
        }
    }

    /// Clocks are set: by a little, and sometimes by minutes.
    fn clocks(&mut self, until: u64, rng: &mut StdRng) {
        let places = self.places();
        for _ in 0..[0, 0, 0, 1, 2, 3][rng.random_range(0..6)] {
            let far = if rng.random_bool(0.2) { 300_000 } else { 20_000 };
            let set = Action::SetClock(places[rng.random_range(0..places.len())], rng.random_range(-far..far));
            self.acts.push((moment(until, rng), set));
        }
    }

    /// Disks fail between one write and the next, mostly when something is to be written.
    fn disks(&mut self, until: u64, rng: &mut StdRng) {
        for _ in 0..[0, 0, 0, 1, 2][rng.random_range(0..5)] {
            let (publisher, writes) = (rng.random_range(0..self.publishers.len()), rng.random_range(0..4));
            let at = moment(until, rng);
            self.acts.push((at, Action::WearOut { publisher, writes }));
            if rng.random_bool(0.7) {
                self.acts.push((at + rng.random_range(500..15_000), Action::MendDisk { publisher }));
            } else {
                let at = at + rng.random_range(10..5_000);
                self.acts.push((at, Action::Crash(Place::Publisher(publisher))));
                self.acts.push((at + rng.random_range(500..5_000), Action::Restart(Place::Publisher(publisher))));
            }
        }
    }

    /// Everybody speaks in the same moment, and can be asked for keys only later: many things are due in one tick.
    fn all_at_once(&mut self, rng: &mut StdRng) {
        let at = START + rng.random_range(0..10_000);
        for (publisher, stream) in self.pairs() {
            self.acts.push((at, Action::Publish { publisher, stream, part: 0 }));
        }
        self.acts.push((at, Action::Part((0..self.publishers.len()).map(Place::Publisher).collect())));
        self.acts.push((at + rng.random_range(1_000..20_000), Action::Mend));
    }
}

/// Any moment of the storm; often a whole second or a quarter of one, so that things happen at once.
pub(crate) fn moment(until: u64, rng: &mut StdRng) -> u64 {
    let at = rng.random_range(START..until);
    match rng.random_range(0..4) {
        0 => at / 1_000 * 1_000,
        1 => at / 250 * 250,
        _ => at,
    }
}

pub(crate) fn weather(rng: &mut StdRng) -> Weather {
    if rng.random_bool(0.15) {
        return Weather { slowest: 30, ..Weather::CALM };
    }
    Weather {
        loss: [0, 20, 100, 300][rng.random_range(0..4)],
        doubling: [0, 50, 200][rng.random_range(0..3)],
        damage: [0, 10, 50][rng.random_range(0..3)],
        held_up: [0, 20, 150][rng.random_range(0..3)],
        slowest: if rng.random_bool(0.1) { 0 } else { [10, 80, 400][rng.random_range(0..3)] },
    }
}
