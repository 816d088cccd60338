//! Storage nodes, honest and not, and readers of what they keep: a world within the world.
//!
//! It takes what publishers say and draws from a generator of its own, so that everybody else's course stays what it is. The
//! stores, the screen, the answers, the [`Replayer`](veilcast::subscriber::Replayer) and the intake are the real ones; keys are
//! given to readers by hand, or not. Connections to storage nodes are authenticated, so nothing is damaged on them; they
//! break, and whoever answers can say what he likes.
//!
//! - `plan`: who there is, and what happens to them. `depot`: a storage node's host. `dishonest`: what it says instead.
//! - `reader`: a reader's host. `truth`: what must hold of what he was given.

mod depot;
mod dishonest;
mod plan;
mod reader;
mod truth;

use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use veilcast::key_store::{KeyId, MemoryKeyStore};
use veilcast::permission::{LocalRegistry, Period};
use veilcast::stream::{StreamId, StreamPart};
use veilcast::wire::{MessageContent, RequestId, Verified};
use veilcast::{Permission, Timestamp, UserId};

use crate::env::Env;
use crate::network::Event;
use crate::plan::{Plan, START};
use depot::Depot;
use plan::Weather;
use reader::Reader;

pub(crate) use plan::Turn;

/// What happens in here.
pub(crate) enum Happening {
    /// A publisher's frame leaves.
    Said(StreamPart, Bytes),
    /// It comes to a storage node, or a reader.
    Heard(usize, StreamPart, Bytes),
    Live(usize, StreamPart, Bytes),
    /// What a life of a storage node waited to store is due.
    Store(usize, usize),
    /// A reader's request comes to a storage node.
    Asked {
        depot: usize,
        reader: usize,
        id: RequestId,
        request: Bytes,
    },
    /// Its answer, or word that the connection broke, comes back from this life of a storage node.
    Answered {
        reader: usize,
        id: RequestId,
        by: (usize, usize),
        answer: Option<Bytes>,
    },
    /// A reader has found the storage nodes.
    Found(usize),
    /// A reader has checked the signatures on a page.
    Checked(usize, RequestId, Option<Vec<Verified<MessageContent>>>),
    /// Neighbours of a reader are there.
    Met(usize),
    /// A reader's timer.
    Wake(usize),
    /// A key is given to a reader, or he is told that he cannot have it.
    Key(usize, UserId, KeyId, bool),
    /// Something that was planned.
    Turn(Turn),
}

/// Everything about stored messages.
pub(crate) struct Archive {
    rng: StdRng,
    weather: Weather,
    registry: Arc<LocalRegistry>,
    depots: Vec<Depot>,
    readers: Vec<Reader>,
}

impl Archive {
    pub(crate) fn new(seed: u64, plan: &Plan, streams: &[StreamId], env: &mut Env) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0xa4c4_1e5e_ed00_0001);
        let partitions = plan.partitions;
        let plan = plan::ArchivePlan::of(&mut rng, plan, streams);
        let registry = Arc::new(LocalRegistry::new(Arc::new(MemoryKeyStore::new())));
        let now = Timestamp::from_millis(START);
        for stream in streams {
            registry.create_stream(stream, partitions, false).unwrap();
            for publisher in &env.publishers {
                registry.grant(stream, *publisher, Permission::Publish, Period::ALWAYS, now).unwrap();
            }
        }
        let depots = plan.depots.into_iter().enumerate().map(|(n, depot)| Depot::new(n, depot, &mut rng));
        let depots: Vec<Depot> = depots.collect();
        let readers = plan.readers.into_iter().map(|reader| Reader::new(reader, &mut rng));
        let readers = readers.collect();
        for (moment, turn) in plan.turns {
            env.net.at(moment, Event::Archive(Happening::Turn(turn)));
        }
        let mut archive = Self { rng, weather: plan.weather, registry, depots, readers };
        archive.depots.iter_mut().for_each(|depot| depot.start(START));
        archive
    }

    /// A publisher may not publish any more.
    pub(crate) fn expel(&self, stream: &StreamId, user: UserId, now: u64) {
        self.registry.revoke(stream, user, Permission::Publish, Timestamp::from_millis(now)).unwrap();
    }

    pub(crate) fn happen(&mut self, env: &mut Env, what: Happening) {
        match what {
            Happening::Said(part, frame) => self.said(env, &part, &frame),
            Happening::Heard(depot, part, frame) => self.heard(env, depot, &part, &frame),
            Happening::Store(depot, life) => self.store(env, depot, life),
            Happening::Asked { depot, reader, id, request } => self.asked(env, depot, reader, id, &request),
            Happening::Live(reader, part, frame) => self.live(env, reader, &part, &frame),
            Happening::Answered { reader, id, by, answer } => self.answered(env, reader, id, by, answer),
            Happening::Found(reader) => self.found(env, reader),
            Happening::Checked(reader, id, messages) => self.checked(env, reader, id, messages),
            Happening::Met(reader) => self.met(env, reader),
            Happening::Wake(reader) => self.wake(env, reader),
            Happening::Key(reader, publisher, key_id, given) => self.key(env, reader, publisher, &key_id, given),
            Happening::Turn(turn) => self.turn(env, turn),
        }
    }

    fn turn(&mut self, env: &mut Env, turn: Turn) {
        env.note(format_args!("{turn:?}"));
        match turn {
            Turn::Crash(depot) => self.depots[depot].crash(),
            Turn::Restart(depot) => self.depots[depot].start(env.now),
            Turn::Begin(reader) => self.begin(env, reader),
            Turn::Intrude(depot) => self.intrude(env, depot),
            Turn::Calm => {
                self.weather = Weather::CALM;
                for depot in self.depots.iter_mut().filter(|depot| !depot.is_up()) {
                    depot.start(env.now);
                }
            }
        }
    }

    /// To every storage node and every reader who is there, each by its own way.
    fn said(&mut self, env: &mut Env, part: &StreamPart, frame: &Bytes) {
        for depot in 0..self.depots.len() {
            if let Some(delay) = self.weather.carries(&mut self.rng) {
                let heard = Happening::Heard(depot, part.clone(), frame.clone());
                env.net.at(env.now + delay, Event::Archive(heard));
            }
        }
        for reader in 0..self.readers.len() {
            if self.readers[reader].listens_to(part)
                && let Some(delay) = self.weather.carries(&mut self.rng)
            {
                let live = Happening::Live(reader, part.clone(), frame.clone());
                env.net.at(env.now + delay, Event::Archive(live));
            }
        }
    }

    fn roll(&mut self, per_mille: u32) -> bool {
        self.rng.random_range(0..1000) < per_mille
    }
}
