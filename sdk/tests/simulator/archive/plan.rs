//! Who stores, who reads, and what happens to them.

use rand::RngExt;
use rand::rngs::StdRng;
use veilcast::stream::StreamId;

use super::dishonest::Mode;
use crate::plan::{Action, Plan, START};

/// Something that was planned.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Turn {
    /// What is not durable is lost; connections break.
    Crash(usize),
    Restart(usize),
    /// A reader begins.
    Begin(usize),
    /// A storage node is sent what it must not store.
    Intrude(usize),
    Calm,
}

/// Chances are per mille.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    loss: u32,
    held_up: u32,
    slowest: u64,
    /// Of requests and answers.
    pub(super) broken: u32,
}

impl Weather {
    pub(super) const CALM: Self = Self { loss: 0, held_up: 0, slowest: 5, broken: 0 };

    fn any(rng: &mut StdRng) -> Self {
        Self {
            loss: [0, 0, 30, 150][rng.random_range(0..4)],
            held_up: [0, 0, 50][rng.random_range(0..3)],
            slowest: [5, 80, 400][rng.random_range(0..3)],
            broken: [0, 0, 20, 100][rng.random_range(0..4)],
        }
    }

    /// After how long a frame is there, if it is not lost.
    pub(super) fn carries(&self, rng: &mut StdRng) -> Option<u64> {
        let lost = rng.random_range(0..1000) < self.loss;
        let delay = self.delay(rng);
        (!lost).then_some(delay)
    }

    pub(super) fn delay(&self, rng: &mut StdRng) -> u64 {
        let held_up = if rng.random_range(0..1000) < self.held_up { rng.random_range(200..3_000) } else { 0 };
        1 + held_up + rng.random_range(0..self.slowest)
    }
}

pub(super) struct DepotPlan {
    pub(super) mode: Mode,
    /// How long it takes a message to be stored.
    pub(super) lag: u64,
    /// Messages on a page.
    pub(super) page: usize,
    pub(super) tight: bool,
}

/// What a reader wants, in words that a seed can be told by.
#[derive(Clone, Copy, Debug)]
pub(super) enum Want {
    Last(u64),
    From(u64),
    Range(u64, u64),
    /// Behind a message of those that are published when he begins.
    After,
}

pub(super) struct ReaderPlan {
    pub(super) stream: StreamId,
    pub(super) partitions: u32,
    pub(super) want: Want,
    /// By number.
    pub(super) publisher: Option<usize>,
    pub(super) copies: usize,
    pub(super) goes_live: bool,
    pub(super) may_read: bool,
    /// The order in which he finds the storage nodes.
    pub(super) depots: Vec<usize>,
    pub(super) held_back: usize,
    /// Per mille.
    pub(super) without_key: u32,
}

pub(super) struct ArchivePlan {
    pub(super) weather: Weather,
    pub(super) depots: Vec<DepotPlan>,
    pub(super) readers: Vec<ReaderPlan>,
    pub(super) turns: Vec<(u64, Turn)>,
}

impl ArchivePlan {
    pub(super) fn of(rng: &mut StdRng, plan: &Plan, streams: &[StreamId]) -> Self {
        let calm = plan.acts.iter().find(|(_, act)| matches!(act, Action::Calm)).map_or(START, |(at, _)| *at);
        let depots: Vec<DepotPlan> = (0..rng.random_range(1..=4)).map(|_| DepotPlan::any(rng)).collect();
        let count = depots.len();
        let readers: Vec<ReaderPlan> =
            (0..rng.random_range(1..=3)).map(|_| ReaderPlan::any(rng, plan, streams, count, calm)).collect();
        let mut turns = vec![(calm, Turn::Calm)];
        for depot in 0..depots.len() {
            for _ in 0..[0, 0, 1, 2][rng.random_range(0..4)] {
                let at = rng.random_range(START..calm);
                turns.push((at, Turn::Crash(depot)));
                turns.push((at + rng.random_range(200..20_000), Turn::Restart(depot)));
            }
            for _ in 0..rng.random_range(0..=2) {
                turns.push((rng.random_range(START..calm), Turn::Intrude(depot)));
            }
        }
        for reader in 0..readers.len() {
            let late = rng.random_bool(0.4);
            let at = if late { calm + rng.random_range(500..60_000) } else { rng.random_range(START..calm) };
            turns.push((at, Turn::Begin(reader)));
            // A storage node is lost just then.
            if rng.random_bool(0.3) {
                let (depot, at) = (rng.random_range(0..count), at + rng.random_range(1..400));
                turns.push((at, Turn::Crash(depot)));
                turns.push((at + rng.random_range(200..20_000), Turn::Restart(depot)));
            }
        }
        Self { weather: Weather::any(rng), depots, readers, turns }
    }
}

impl DepotPlan {
    fn any(rng: &mut StdRng) -> Self {
        let mode = Mode::any(rng);
        let lag = if rng.random_bool(0.2) { rng.random_range(2_000..40_000) } else { rng.random_range(1..60) };
        Self { mode, lag, page: rng.random_range(1..=9), tight: rng.random_bool(0.1) }
    }
}

impl ReaderPlan {
    fn any(rng: &mut StdRng, plan: &Plan, streams: &[StreamId], depots: usize, calm: u64) -> Self {
        let stream = streams[rng.random_range(0..streams.len())].clone();
        let moment = |rng: &mut StdRng| rng.random_range(START..calm);
        let want = match rng.random_range(0..8) {
            0..3 => Want::Last([1, 3, 10, 1_000][rng.random_range(0..4)]),
            3 => Want::From(0),
            4 => Want::From(moment(rng)),
            5 | 6 => {
                let (one, other) = (moment(rng), moment(rng));
                Want::Range(one.min(other), one.max(other))
            }
            _ => Want::After,
        };
        let mut order: Vec<usize> = (0..depots).collect();
        for n in (1..order.len()).rev() {
            order.swap(n, rng.random_range(0..=n));
        }
        Self {
            stream,
            partitions: plan.partitions,
            want,
            publisher: rng.random_bool(0.25).then(|| rng.random_range(0..plan.publishers.len())),
            copies: [1, 1, 2, 9][rng.random_range(0..4)],
            goes_live: rng.random_bool(0.6),
            may_read: rng.random_bool(0.9),
            depots: order,
            held_back: [3, 4_096][rng.random_range(0..2)],
            without_key: [0, 0, 200][rng.random_range(0..3)],
        }
    }
}
