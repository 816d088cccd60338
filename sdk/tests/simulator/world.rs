//! One run: everybody, and the loop that carries out a plan.

use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;
use veilcast::identity::Identity;
use veilcast::key_store::MemoryKeyStore;
use veilcast::permission::{LocalRegistry, Period};
use veilcast::stream::StreamId;
use veilcast::{Permission, Timestamp};

use crate::archive::Archive;
use crate::clocks::Clocks;
use crate::env::{Broken, Env, Figures};
use crate::facts::Facts;
use crate::grants::{Grants, Source};
use crate::hostile::Hostile;
use crate::network::{Body, Event, Network, Packet, Place, Weather};
use crate::plan::{Action, Plan, START};
use crate::publisher::Publisher;
use crate::subscriber::Subscriber;
use crate::trace::Trace;
use crate::{limits, verdict};

/// A run that is still busy so long after its start will never be done.
const NEVER: u64 = 3_600_000;
/// Nor will one of so many events.
const EVENTS: usize = 200_000;

pub(crate) struct Outcome {
    pub(crate) hash: u64,
    pub(crate) figures: Figures,
    pub(crate) broken: Option<Broken>,
}

pub(crate) struct World {
    pub(crate) env: Env,
    pub(crate) streams: Vec<StreamId>,
    pub(crate) publishers: Vec<Publisher>,
    pub(crate) subscribers: Vec<Subscriber>,
    pub(crate) hostile: Hostile,
    pub(crate) tight: bool,
    archive: Archive,
    /// How far clocks are off while nobody sets them.
    skews: Vec<(Place, i64)>,
}

/// Runs a seed to its end, or to the first broken promise.
pub(crate) fn run(seed: u64, loud: bool) -> Outcome {
    let plan = Plan::of(seed);
    let mut world = World::new(seed, &plan, loud);
    for (moment, action) in plan.acts {
        world.env.net.at(moment, Event::Act(action));
    }
    world.run();
    if world.env.broken.is_none() {
        verdict::judge(&mut world);
        world.archive.judge(&mut world.env);
    }
    let Env { trace, figures, broken, .. } = world.env;
    Outcome { hash: trace.hash(), figures, broken }
}

impl World {
    fn new(seed: u64, plan: &Plan, loud: bool) -> Self {
        let mut rng = StdRng::seed_from_u64(!seed);
        let owner = Identity::generate(&mut rng).user();
        let streams: Vec<StreamId> =
            (0..plan.streams).map(|n| StreamId::of(owner, &format!("stream-{n}")).unwrap()).collect();
        let of = |numbers: &Vec<usize>| -> Vec<StreamId> { numbers.iter().map(|n| streams[*n].clone()).collect() };
        let screen = limits::screen(plan.tight);
        let publishers: Vec<Publisher> =
            plan.publishers.iter().enumerate().map(|(n, own)| Publisher::new(n, seed, of(own), screen)).collect();
        let (intake, asking) = (limits::intake(plan.tight), limits::requester(plan.key_request_timeout));
        let subscribers = plan.subscribers.iter().enumerate();
        let subscribers: Vec<Subscriber> =
            subscribers.map(|(n, own)| Subscriber::new(n, seed, of(own), intake, asking)).collect();
        let hostile = Hostile::new(&mut rng);
        let mut env = Env {
            now: START,
            rng,
            net: Network::new(plan.weather),
            grants: Grants::default(),
            facts: Facts::default(),
            trace: Trace::new(loud),
            figures: Figures::default(),
            readers: Arc::new(LocalRegistry::new(Arc::new(MemoryKeyStore::new()))),
            clocks: Clocks::default(),
            publishers: publishers.iter().map(Publisher::user).collect(),
            subscribers: subscribers.iter().map(Subscriber::user).collect(),
            broken: None,
            last_act: plan.acts.iter().map(|(at, _)| *at).max().unwrap_or(START),
        };
        let (tight, skews) = (plan.tight, plan.skews.clone());
        let archive = Archive::new(seed, plan, &streams, &mut env);
        let mut world = Self { env, streams, publishers, subscribers, hostile, tight, archive, skews };
        for (place, skew) in &plan.skews {
            world.env.clocks.set(*place, 0, *skew);
        }
        world.set_rules(plan);
        world.open(plan.partitions);
        world
    }

    fn set_rules(&mut self, plan: &Plan) {
        for ((publisher, stream), rules) in &plan.rules {
            self.publishers[*publisher].set_rules(&self.streams[*stream], *rules);
        }
    }

    /// Streams exist, publishers may publish, everybody runs.
    fn open(&mut self, partitions: u32) {
        let (env, now) = (&mut self.env, Timestamp::from_millis(START));
        for stream in &self.streams {
            env.readers.create_stream(stream, partitions, false).unwrap();
            for publisher in &self.publishers {
                LocalRegistry::new(publisher.disk.clone()).create_stream(stream, partitions, false).unwrap();
                let (user, permission) = (publisher.user(), Permission::Publish);
                env.readers.grant(stream, user, permission, Period::ALWAYS, now).unwrap();
                env.grants.give((Source::Readers, stream.clone(), user, permission), START, None, None);
            }
        }
        self.publishers.iter_mut().for_each(|publisher| publisher.start(env));
        self.subscribers.iter_mut().for_each(|subscriber| subscriber.start(env));
    }

    fn run(&mut self) {
        for _ in 0..EVENTS {
            if self.env.broken.is_some() {
                return;
            }
            let Some((moment, event)) = self.env.net.next() else { return };
            if moment > START + NEVER {
                break;
            }
            self.env.now = moment;
            self.happen(event);
        }
        self.env.must(false, "no deadlock", || "the run does not come to rest".into());
    }

    fn happen(&mut self, event: Event) {
        let env = &mut self.env;
        match event {
            Event::Arrive(packet) => self.arrive(packet),
            Event::Wake(number) => self.subscribers[number].woken(env),
            Event::Opened(number, life, opened) => self.subscribers[number].opened(env, life, opened),
            Event::Checked(number, life, from, checked) => self.publishers[number].checked(env, life, from, *checked),
            Event::Look(number, life) => self.publishers[number].look_ahead(env, life),
            Event::Unreachable(number, life, id) => self.subscribers[number].unreachable(env, life, id),
            Event::Archive(what) => self.archive.happen(env, what),
            Event::Act(action) => {
                env.note(format_args!("{action:?}"));
                self.act(action);
            }
        }
    }

    fn arrive(&mut self, mut packet: Packet) {
        self.env.note(format_args!("came: {packet}"));
        self.env.trace.bytes(packet.body.bytes_mut());
        self.ambush(&packet);
        let (env, from) = (&mut self.env, packet.from);
        match (packet.to, packet.body) {
            (Place::Publisher(number), Body::Request(bytes)) => self.publishers[number].request(env, from, &bytes),
            (Place::Publisher(number), Body::Receipt(bytes)) => self.publishers[number].receipt(env, &bytes),
            (Place::Subscriber(number), Body::Frame(part, bytes)) => self.subscribers[number].frame(env, &part, &bytes),
            (Place::Subscriber(number), Body::Answer(call, bytes)) => {
                self.subscribers[number].answered(env, call, &bytes);
            }
            (Place::Subscriber(number), Body::Push(bytes)) => self.subscribers[number].pushed(env, from, &bytes),
            // Nobody listens for anything else; hostile peers listen to everything anyway.
            _ => {}
        }
    }

    fn act(&mut self, action: Action) {
        let env = &mut self.env;
        match action {
            Action::Publish { publisher, stream, part } => {
                self.publishers[publisher].publish(env, &self.streams[stream], part, false);
            }
            Action::DiePublishing { publisher, stream } => {
                self.publishers[publisher].publish(env, &self.streams[stream], 0, true);
                self.crash(Place::Publisher(publisher));
            }
            Action::Rotate { publisher, stream } => self.publishers[publisher].rotate(env, &self.streams[stream]),
            Action::Rekey { publisher, stream } => self.publishers[publisher].rekey(env, &self.streams[stream]),
            Action::Permit { publisher, stream, subscriber, change } => {
                self.publishers[publisher].permit(env, &self.streams[stream], subscriber, change);
            }
            Action::Expel { publisher } => self.expel(publisher),
            Action::Open { publisher, stream, open } => {
                self.publishers[publisher].open_or_close(env, &self.streams[stream], open);
            }
            Action::WearOut { publisher, writes } => self.publishers[publisher].disk.wear_out(writes),
            Action::MendDisk { publisher } => self.publishers[publisher].disk.mend(),
            Action::SetClock(place, by) => {
                let skew = self.env.clocks.skew(place) + by;
                self.set_clock(place, skew);
            }
            Action::Crash(place) => self.crash(place),
            Action::Restart(place) => self.restart(place),
            Action::Part(island) => env.net.island = island,
            Action::Mend => env.net.island.clear(),
            Action::Mischief(mischief) => self.mischief(mischief),
            Action::Calm => self.calm(),
        }
    }

    fn expel(&mut self, publisher: usize) {
        let (user, now) = (self.publishers[publisher].user(), self.env.now);
        for stream in &self.streams {
            self.env.readers.revoke(stream, user, Permission::Publish, Timestamp::from_millis(now)).unwrap();
            self.env.grants.take_back((Source::Readers, stream.clone(), user, Permission::Publish), now);
            self.archive.expel(stream, user, now);
        }
    }

    fn crash(&mut self, place: Place) {
        self.env.net.down.insert(place);
        match place {
            Place::Publisher(number) => self.publishers[number].office = None,
            Place::Subscriber(number) => self.subscribers[number].run = None,
            Place::Hostile => {}
        }
    }

    fn restart(&mut self, place: Place) {
        if !self.env.net.down.remove(&place) {
            return;
        }
        self.env.figures.restarts += 1;
        match place {
            Place::Publisher(number) => self.publishers[number].start(&mut self.env),
            Place::Subscriber(number) => self.subscribers[number].start(&mut self.env),
            Place::Hostile => {}
        }
    }

    fn set_clock(&mut self, place: Place, skew: i64) {
        if !self.env.clocks.set(place, self.env.now, skew) {
            return;
        }
        self.env.figures.clocks_set += 1;
        if let Place::Subscriber(number) = place {
            self.subscribers[number].clock_was_set = true;
        }
    }

    fn calm(&mut self) {
        self.env.net.weather = Weather::CALM;
        self.env.net.island.clear();
        for (place, skew) in self.skews.clone() {
            self.set_clock(place, skew);
        }
        self.publishers.iter().for_each(|publisher| publisher.disk.mend());
        for place in self.env.net.down.clone() {
            self.restart(place);
        }
    }
}
