//! Who hears what, when: an ordered queue of events and the weather on every link.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;
use veilcast::exchange::Checked;
use veilcast::stream::StreamPart;
use veilcast::wire::RequestId;

use crate::archive::Happening;
use crate::opening::Opened;
use crate::plan::Action;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Publisher(usize),
    Subscriber(usize),
    Hostile,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    Frame(StreamPart, Bytes),
    Request(Bytes),
    /// On the connection of this call.
    Answer(RequestId, Bytes),
    Push(Bytes),
    Receipt(Bytes),
}

impl Body {
    pub(crate) fn bytes_mut(&mut self) -> &mut Bytes {
        match self {
            Self::Frame(_, bytes) | Self::Request(bytes) | Self::Answer(_, bytes) => bytes,
            Self::Push(bytes) | Self::Receipt(bytes) => bytes,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Frame(..) => "frame",
            Self::Request(_) => "request",
            Self::Answer(..) => "answer",
            Self::Push(_) => "push",
            Self::Receipt(_) => "receipt",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: Place,
    pub(crate) to: Place,
    pub(crate) body: Body,
}

impl std::fmt::Display for Packet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?} to {:?}", self.body.name(), self.from, self.to)
    }
}

pub(crate) enum Event {
    Arrive(Packet),
    /// A subscriber's timer, set in true time: what a clock shows does not move it.
    Wake(usize),
    /// A subscriber's life finished unwrapping keys.
    Opened(usize, usize, Opened),
    /// A subscriber's life could not reach whom it asked.
    Unreachable(usize, usize, RequestId),
    /// A publisher's life finished checking the signature of a request.
    Checked(usize, usize, Place, Box<Checked>),
    /// A publisher's life looks for ends that come.
    Look(usize, usize),
    Act(Action),
    /// Of storage nodes and their readers.
    Archive(Happening),
}

/// Chances are per mille.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) loss: u32,
    pub(crate) doubling: u32,
    pub(crate) damage: u32,
    /// Messages held up for long, so that others overtake them.
    pub(crate) held_up: u32,
    pub(crate) slowest: u64,
}

impl Weather {
    pub(crate) const CALM: Self = Self { loss: 0, doubling: 0, damage: 0, held_up: 0, slowest: 0 };
}

pub(crate) struct Network {
    pub(crate) weather: Weather,
    /// Cut off from everybody not among them.
    pub(crate) island: BTreeSet<Place>,
    pub(crate) down: BTreeSet<Place>,
    /// What hostile ears have heard, oldest first.
    pub(crate) tape: Vec<Packet>,
    queue: BTreeMap<(u64, u64), Event>,
    ticket: u64,
}

/// How much hostile ears remember.
const TAPE: usize = 1_000;

impl Network {
    pub(crate) fn new(weather: Weather) -> Self {
        let (island, down) = (BTreeSet::new(), BTreeSet::new());
        Self { weather, island, down, tape: Vec::new(), queue: BTreeMap::new(), ticket: 0 }
    }

    pub(crate) fn at(&mut self, moment: u64, event: Event) {
        self.ticket += 1;
        self.queue.insert((moment, self.ticket), event);
    }

    pub(crate) fn next(&mut self) -> Option<(u64, Event)> {
        self.queue.pop_first().map(|((moment, _), event)| (moment, event))
    }

    pub(crate) fn reaches(&self, from: Place, to: Place) -> bool {
        !self.down.contains(&to) && self.island.contains(&from) == self.island.contains(&to)
    }

    /// Sends a packet through the weather.
    pub(crate) fn send(&mut self, now: u64, packet: Packet, rng: &mut StdRng) {
        if packet.from != Place::Hostile && self.tape.len() < TAPE {
            self.tape.push(packet.clone());
        }
        let weather = self.weather;
        if !self.reaches(packet.from, packet.to) || rolled(weather.loss, rng) {
            return;
        }
        let copies = 1 + u32::from(rolled(weather.doubling, rng));
        for _ in 0..copies {
            let mut packet = packet.clone();
            if rolled(weather.damage, rng) {
                flip_bits(packet.body.bytes_mut(), rng);
            }
            let held_up = if rolled(weather.held_up, rng) { rng.random_range(200..4_000) } else { 0 };
            let delay = 1 + held_up + if weather.slowest > 0 { rng.random_range(0..weather.slowest) } else { 0 };
            self.at(now + delay, Event::Arrive(packet));
        }
    }
}

fn rolled(per_mille: u32, rng: &mut StdRng) -> bool {
    per_mille > 0 && rng.random_range(0..1000) < per_mille
}

/// Flips one to three bits.
pub(crate) fn flip_bits(bytes: &mut Bytes, rng: &mut StdRng) {
    let mut damaged = bytes.to_vec();
    if damaged.is_empty() {
        return;
    }
    for _ in 0..rng.random_range(1..=3) {
        let place = rng.random_range(0..damaged.len());
        damaged[place] ^= 1 << rng.random_range(0..8);
    }
    *bytes = damaged.into();
}
