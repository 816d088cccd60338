//! A flood of key requests, in virtual time: what it costs everybody else.
//!
//! Two cores serve one queue. Each request passes the real `Screen` step by step, and each step takes the time it was measured
//! to take in an optimised build; nothing here looks at a clock, so a seed gives one result. The network beneath, which
//! bounds connections and requests under way, is not part of the model.

#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng};
use veilcast::exchange::{Checked, Glance, Rate, Screen, ScreenLimits, Screened};
use veilcast::identity::Identity;
use veilcast::key_store::KeyId;
use veilcast::wire::{ALGORITHM_RSA_OAEP_SHA256, KeyRequest, Received, RequestId, Verified, Wanted};
use veilcast::{StreamId, Timestamp};

/// Prices in microseconds.
mod price {
    /// Decoding, and everything `glance` does.
    pub(crate) const GLANCE: u64 = 5;
    /// One signature recovery.
    pub(crate) const VERIFY: u64 = 37;
    /// A permission from the cache, and the keys from the store's cache.
    pub(crate) const LOOK_UP: u64 = 5;
    /// One RSA-OAEP encryption, 3072 bits, and the wraps.
    pub(crate) const WRAP: u64 = 100;
    /// Signing an answer.
    pub(crate) const SIGN: u64 = 24;
}

const CORES: usize = 2;
const SUBSCRIBERS: u64 = 50;
/// What each of them asks per second: well within its limit.
const QUIET_RATE: u64 = 10;
const SECONDS: u64 = 2;
const FLOOD_RATE: u64 = 10_000;
const START: Timestamp = Timestamp::from_secs(1_000_000);

/// One request on its way in.
struct Arrival {
    at: u64,
    honest: bool,
    peer: Vec<u8>,
    envelope: Bytes,
}

/// What became of the honest ones' requests.
#[derive(Debug, PartialEq)]
struct Outcome {
    asked: usize,
    /// Microseconds from arrival to answer of each that was given its keys, ascending.
    took: Vec<u64>,
}

impl Outcome {
    fn all_answered(&self) -> bool {
        self.took.len() == self.asked
    }

    fn p99(&self) -> u64 {
        self.took[(self.took.len() * 99).div_ceil(100) - 1]
    }
}

fn identity(n: u64) -> Identity {
    let secret = [[9; 24].as_slice(), &n.to_be_bytes()].concat();
    Identity::from_secret_bytes(&secret.try_into().unwrap()).unwrap()
}

fn publisher() -> Identity {
    identity(0)
}

fn moment(at: u64) -> Timestamp {
    START.plus(Duration::from_micros(at))
}

fn request(who: &Identity, at: u64, rng: &mut StdRng) -> Bytes {
    let publisher = publisher().user();
    let content = KeyRequest {
        id: RequestId(rng.random()),
        stream: StreamId::of(publisher, "prices").unwrap(),
        publisher,
        requester: who.user(),
        sent: moment(at),
        algorithm: ALGORITHM_RSA_OAEP_SHA256,
        public_key: vec![7; 422],
        wanted: Wanted::Keys(vec![KeyId::new("k").unwrap()]),
        proofs: Vec::new(),
    };
    Verified::sign(content, who).unwrap().envelope().clone()
}

/// The honest ones ask at moments of their own; the flood comes evenly, each request through the next of its peers.
fn arrivals(flooding_peers: u64, rng: &mut StdRng) -> Vec<Arrival> {
    let mut all = Vec::new();
    for n in 1..=SUBSCRIBERS {
        let who = identity(n);
        for _ in 0..SECONDS * QUIET_RATE {
            let at = rng.random_range(0..SECONDS * 1_000_000);
            all.push(Arrival { at, honest: true, peer: n.to_be_bytes().to_vec(), envelope: request(&who, at, rng) });
        }
    }
    let flooder = identity(SUBSCRIBERS + 1);
    for n in (0..SECONDS * FLOOD_RATE).filter(|_| flooding_peers > 0) {
        let (at, peer) = (n * 1_000_000 / FLOOD_RATE, (1_000 + n % flooding_peers).to_be_bytes().to_vec());
        all.push(Arrival { at, honest: false, peer, envelope: request(&flooder, at, rng) });
    }
    all.sort_by_key(|arrival| arrival.at);
    all
}

/// What happens next on a core, or at the door.
enum Step {
    Arrives(usize),
    IsVerified(usize, Box<Checked>),
    /// Whether it was given its keys.
    IsDone(usize, bool),
}

struct Model {
    screen: Screen,
    arrivals: Vec<Arrival>,
    waiting: VecDeque<usize>,
    idle: usize,
    /// Keys of `steps`, soonest first; equal moments in the order they were made.
    agenda: BinaryHeap<Reverse<(u64, usize)>>,
    steps: Vec<Option<Step>>,
    took: Vec<u64>,
}

impl Model {
    fn run(limits: ScreenLimits, arrivals: Vec<Arrival>) -> Outcome {
        let screen = Screen::new(publisher().user(), limits, START);
        let (agenda, steps, took) = (BinaryHeap::new(), Vec::new(), Vec::new());
        let mut model = Self { screen, arrivals, waiting: VecDeque::new(), idle: CORES, agenda, steps, took };
        for n in 0..model.arrivals.len() {
            model.plan(model.arrivals[n].at, Step::Arrives(n));
        }
        while let Some(Reverse((now, n))) = model.agenda.pop() {
            let step = model.steps[n].take().unwrap();
            model.happens(now, step);
        }
        model.took.sort_unstable();
        let asked = model.arrivals.iter().filter(|arrival| arrival.honest).count();
        Outcome { asked, took: model.took }
    }

    fn plan(&mut self, at: u64, step: Step) {
        self.agenda.push(Reverse((at, self.steps.len())));
        self.steps.push(Some(step));
    }

    fn happens(&mut self, now: u64, step: Step) {
        match step {
            Step::Arrives(n) => self.waiting.push_back(n),
            Step::IsVerified(n, checked) => {
                let screened = self.screen.admit(moment(now), *checked);
                self.settle(now, n, screened);
            }
            Step::IsDone(n, given) => {
                self.idle += 1;
                if self.arrivals[n].honest && given {
                    self.took.push(now - self.arrivals[n].at);
                }
            }
        }
        while self.idle > 0
            && let Some(n) = self.waiting.pop_front()
        {
            self.idle -= 1;
            self.begin(now, n);
        }
    }

    fn begin(&mut self, now: u64, n: usize) {
        let Arrival { peer, envelope, .. } = &self.arrivals[n];
        let after = now + price::GLANCE;
        match self.screen.glance(moment(now), peer, Received::decode(envelope).unwrap()) {
            Glance::Settled(screened) => self.settle(after, n, screened),
            Glance::Candidate(candidate) => {
                self.plan(after + price::VERIFY, Step::IsVerified(n, Box::new(candidate.verify())));
            }
        }
    }

    fn settle(&mut self, now: u64, n: usize, screened: Screened) {
        let (cost, given) = match screened {
            Screened::Admitted(_) => (price::LOOK_UP + price::WRAP + price::SIGN, true),
            Screened::Refused(..) => (price::SIGN, false),
            Screened::Dropped(_) => (0, false),
        };
        self.plan(now + cost, Step::IsDone(n, given));
    }
}

fn outcome(limits: ScreenLimits, flooding_peers: u64) -> Outcome {
    Model::run(limits, arrivals(flooding_peers, &mut StdRng::seed_from_u64(7)))
}

fn flood_through(peers: u64) {
    let [quiet, flooded] = [0, peers].map(|peers| outcome(ScreenLimits::default(), peers));
    println!("p99 of the others: {} us quiet, {} us under a flood through {peers} peers", quiet.p99(), flooded.p99());
    assert!(quiet.all_answered() && flooded.all_answered(), "{} of {}", flooded.took.len(), flooded.asked);
    assert!(flooded.p99() <= 2 * quiet.p99());
}

#[test]
fn a_flood_of_one_identity_through_one_peer_leaves_the_others_p99_within_twice_its_quiet_value() {
    flood_through(1);
}

#[test]
fn a_flood_of_one_identity_through_two_hundred_peers_leaves_the_others_p99_within_twice_its_quiet_value() {
    flood_through(200);
}

#[test]
fn a_flood_of_one_identity_through_every_connection_a_node_takes_leaves_the_others_p99_within_twice_its_quiet_value() {
    flood_through(896);
}

const WITHOUT: Rate = Rate { per_second: u32::MAX, burst: u32::MAX };

/// The model can tell: a screen that looks at the subscriber only after the total lets a flood starve the others.
#[test]
fn without_a_share_for_each_peer_the_total_would_be_the_floods_and_others_would_be_refused() {
    let limits = ScreenLimits { per_peer: WITHOUT, ..ScreenLimits::default() };
    assert!(!outcome(limits, 200).all_answered());
}

/// The model can tell: the cores have no room for answering the flood.
#[test]
fn without_any_limit_the_others_would_wait_more_than_twice_as_long() {
    let limits = ScreenLimits { per_peer: WITHOUT, per_subscriber: WITHOUT, total: WITHOUT, ..ScreenLimits::default() };
    let (quiet, flooded) = (outcome(limits, 0), outcome(limits, 200));
    assert!(flooded.p99() > 2 * quiet.p99(), "{} and {}", quiet.p99(), flooded.p99());
}

#[test]
fn one_seed_gives_one_outcome() {
    assert_eq!(outcome(ScreenLimits::default(), 3), outcome(ScreenLimits::default(), 3));
}
