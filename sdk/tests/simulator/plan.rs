//! From a seed to a course of actions.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::hostile::Mischief;
use crate::network::{Place, Weather};
use crate::rules::Rules;
use crate::storm::{moment, weather};

/// When every run begins.
pub(crate) const START: u64 = 1_900_000_000_000;
/// From the end of the storm to the last messages: longer than any pause between two tries.
const HEALING: u64 = 130_000;

/// A change of one SUBSCRIBE grant, in absolute milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Give { start: Option<u64>, end: Option<u64> },
    TakeBack,
}

#[derive(Clone, Debug)]
pub(crate) enum Action {
    Publish {
        publisher: usize,
        stream: usize,
        part: u32,
    },
    /// The key is stored, then the process dies before the message is made.
    DiePublishing {
        publisher: usize,
        stream: usize,
    },
    Rotate {
        publisher: usize,
        stream: usize,
    },
    Rekey {
        publisher: usize,
        stream: usize,
    },
    Permit {
        publisher: usize,
        stream: usize,
        subscriber: usize,
        change: Change,
    },
    /// Readers learn that this one may not publish any more.
    Expel {
        publisher: usize,
    },
    /// A stream becomes public, or private again.
    Open {
        publisher: usize,
        stream: usize,
        open: bool,
    },
    /// The disk fails after so many more writes, until it is mended or the process starts anew.
    WearOut {
        publisher: usize,
        writes: u32,
    },
    MendDisk {
        publisher: usize,
    },
    /// Somebody's clock is set forward or back, by milliseconds.
    SetClock(Place, i64),
    Crash(Place),
    Restart(Place),
    Part(BTreeSet<Place>),
    Mend,
    Mischief(Mischief),
    /// The storm is over: links heal, everybody runs.
    Calm,
}

pub(crate) struct Plan {
    pub(crate) streams: usize,
    pub(crate) partitions: u32,
    /// Which streams each publishes, or subscribes to.
    pub(crate) publishers: Vec<Vec<usize>>,
    pub(crate) subscribers: Vec<Vec<usize>>,
    /// How far clocks are off from the beginning.
    pub(crate) skews: Vec<(Place, i64)>,
    /// What each publisher sets for a stream.
    pub(crate) rules: BTreeMap<(usize, usize), Rules>,
    pub(crate) weather: Weather,
    /// Small limits everywhere, so that they are reached.
    pub(crate) tight: bool,
    pub(crate) key_request_timeout: u64,
    pub(crate) acts: Vec<(u64, Action)>,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let rng = &mut StdRng::seed_from_u64(seed);
        let streams = rng.random_range(1..=2);
        let pick = |rng: &mut StdRng| -> Vec<usize> {
            let all: Vec<usize> = (0..streams).collect();
            if rng.random_bool(0.6) { all } else { vec![rng.random_range(0..streams)] }
        };
        let publishers: Vec<Vec<usize>> = (0..rng.random_range(1..=3)).map(|_| pick(rng)).collect();
        let subscribers: Vec<Vec<usize>> = (0..rng.random_range(2..=6)).map(|_| pick(rng)).collect();
        let mut plan = Self {
            streams,
            partitions: [1, 1, 1, 2, 3][rng.random_range(0..5)],
            skews: Vec::new(),
            rules: BTreeMap::new(),
            weather: weather(rng),
            tight: rng.random_bool(0.2),
            key_request_timeout: [2_000, 5_000, 30_000][rng.random_range(0..3)],
            acts: Vec::new(),
            publishers,
            subscribers,
        };
        let off = |place| (place, if rng.random_bool(0.5) { 0 } else { rng.random_range(-1_500..1_500) });
        plan.skews = plan.places().into_iter().map(off).collect();
        plan.rules = plan.pairs().into_iter().map(|pair| (pair, Rules::any(rng))).collect();
        let until = START + rng.random_range(30_000..100_000);
        plan.first_grants(until, rng);
        plan.messages(until, rng);
        plan.changes(until, rng);
        plan.troubles(until, rng);
        plan.healing(until);
        plan.around_ends(&mut StdRng::seed_from_u64(seed ^ 0xe0d5));
        plan
    }

    /// Who publishes where.
    pub(crate) fn pairs(&self) -> Vec<(usize, usize)> {
        let of = |(publisher, streams): (usize, &Vec<usize>)| -> Vec<(usize, usize)> {
            streams.iter().map(|stream| (publisher, *stream)).collect()
        };
        self.publishers.iter().enumerate().flat_map(of).collect()
    }

    pub(crate) fn places(&self) -> Vec<Place> {
        let publishers = (0..self.publishers.len()).map(Place::Publisher);
        publishers.chain((0..self.subscribers.len()).map(Place::Subscriber)).collect()
    }

    fn first_grants(&mut self, until: u64, rng: &mut StdRng) {
        for (publisher, stream) in self.pairs() {
            for subscriber in 0..self.subscribers.len() {
                let change = match rng.random_range(0..100) {
                    0..55 => Change::Give { start: None, end: None },
                    55..75 => Change::Give { start: None, end: Some(moment(until, rng)) },
                    75..90 => Change::Give { start: Some(moment(until, rng)), end: None },
                    _ => continue,
                };
                self.acts.push((START, Action::Permit { publisher, stream, subscriber, change }));
            }
        }
    }

    fn messages(&mut self, until: u64, rng: &mut StdRng) {
        let pairs = self.pairs();
        let mut left = rng.random_range(12..=30);
        while left > 0 {
            let (publisher, stream) = pairs[rng.random_range(0..pairs.len())];
            let (mut at, burst) = (moment(until, rng), rng.random_range(1..=5));
            for _ in 0..burst {
                let part = rng.random_range(0..self.partitions);
                self.acts.push((at, Action::Publish { publisher, stream, part }));
                at += [0, 1, 7, 40, 300][rng.random_range(0..5)];
            }
            left -= burst;
        }
        for _ in 0..rng.random_range(0..=6) {
            let (publisher, stream) = pairs[rng.random_range(0..pairs.len())];
            self.acts.push((moment(until, rng), Action::Rotate { publisher, stream }));
        }
        for _ in 0..rng.random_range(0..=3) {
            let (publisher, stream) = pairs[rng.random_range(0..pairs.len())];
            self.acts.push((moment(until, rng), Action::Rekey { publisher, stream }));
        }
    }

    /// Two rounds of messages after the storm: the first shows what was lost, the second that everybody reads again.
    fn healing(&mut self, until: u64) {
        self.acts.push((until, Action::Calm));
        for (publisher, stream) in self.pairs() {
            for at in [1_000, 2_000, HEALING, HEALING + 1_000] {
                let of_part = |part| (until + at, Action::Publish { publisher, stream, part });
                self.acts.extend((0..self.partitions).map(of_part));
            }
        }
    }
}
