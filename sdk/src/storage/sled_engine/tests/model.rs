//! Against the engine in memory: whatever comes in whatever order, both answer alike, also after the one on disk was opened
//! again.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::storage::MemoryMessageStore;

const STEPS: usize = 80;

/// How far back messages reach, seconds.
const SPAN: u64 = 2000;

struct World {
    dir: tempfile::TempDir,
    limits: StorageLimits,
    rng: StdRng,
    now: Timestamp,
    model: MemoryMessageStore,
    store: Option<SledMessageStore>,
}

impl World {
    fn seeded(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let age = rng.random_bool(0.5).then(|| Duration::from_secs(rng.random_range(SPAN / 2..SPAN)));
        let limits = small().max_bytes(rng.random_range(20_000..120_000)).max_age(age);
        let (dir, model) = (tempfile::tempdir().unwrap(), MemoryMessageStore::new(limits));
        let store = SledMessageStore::open(dir.path(), limits).unwrap();
        Self { dir, limits, rng, now: NOW, model, store: Some(store) }
    }

    fn store(&self) -> &SledMessageStore {
        self.store.as_ref().unwrap()
    }

    fn any_part(&mut self) -> StreamPart {
        part(if self.rng.random_bool(0.7) { "s" } else { "t" }, self.rng.random_range(0..2))
    }

    fn any_time(&mut self) -> Timestamp {
        self.now.minus(Duration::from_secs(self.rng.random_range(0..SPAN)))
    }

    fn any_place(&mut self) -> Place {
        let at = MessageRef { timestamp: self.any_time(), sequence: self.rng.random_range(0..3) };
        Place { at, publisher: identity(self.rng.random_range(1..4)).user(), chain: [2; 16] }
    }

    fn any_filter(&mut self) -> Filter {
        let byte = self.rng.random_range(1..5);
        let publisher = identity(byte).user();
        match self.rng.random_range(0..4) {
            0 => Filter::publisher(publisher),
            1 => Filter::chain(publisher, [byte; 16]),
            _ => Filter::ALL,
        }
    }

    fn step(&mut self) {
        self.now = self.now.plus(Duration::from_secs(self.rng.random_range(0..20)));
        match self.rng.random_range(0..20) {
            0 => {
                drop(self.store.take());
                self.store = Some(SledMessageStore::open(self.dir.path(), self.limits).unwrap());
            }
            1 => assert_eq!(self.store().evict(self.now).unwrap(), self.model.evict(self.now).unwrap()),
            _ => self.append(),
        }
        assert_eq!(self.store().state().unwrap(), self.model.state().unwrap());
    }

    fn append(&mut self) {
        let late = self.rng.random_bool(0.3);
        let batch: Vec<_> = (0..self.rng.random_range(1..30))
            .map(|_| {
                let (part, author) = (self.any_part(), self.rng.random_range(1..4));
                let ago = self.rng.random_range(0..if late { SPAN } else { 10 });
                made(author, &part, self.now.minus(Duration::from_secs(ago)), self.rng.random_range(0..3))
            })
            .collect();
        assert_eq!(self.store().append(self.now, &batch).unwrap(), self.model.append(self.now, &batch).unwrap());
    }

    fn compare(&mut self) {
        let (part, filter) = (self.any_part(), self.any_filter());
        let mut query = Query::everything(part.clone()).most(self.rng.random_range(1..40)).filter(filter);
        if self.rng.random_bool(0.5) {
            let (one, other) = (self.any_time(), self.any_time());
            query = query.between(one.min(other), one.max(other));
        }
        if self.rng.random_bool(0.3) {
            query = query.after(Some(self.any_place()));
        }
        if self.rng.random_bool(0.2) {
            query = query.starting_at(Some(self.any_place()));
        }
        assert_eq!(everything(self.store(), query.clone()), everything(&self.model, query.clone()));
        if filter == Filter::ALL {
            assert_eq!(self.store().read(&query).unwrap(), self.model.read(&query).unwrap());
        }
        let n = self.rng.random_range(0..300);
        let last = |store: &dyn MessageStore| store.last(&part, &filter, n).unwrap().first;
        assert_eq!(last(self.store()), last(&self.model));
    }
}

fn made(author: u8, part: &StreamPart, timestamp: Timestamp, sequence: u32) -> Verified<MessageContent> {
    let at = MessageRef { timestamp, sequence };
    let draft = Draft { part: part.clone(), chain: [author; 16], at, previous: None, key_updates: Vec::new() };
    let size = 20 + (timestamp.as_millis() / 1000 % 300) as usize;
    compose(draft, &Payload::text("x".repeat(size)), None, &identity(author), &mut rand::rng()).unwrap()
}

#[test]
fn it_keeps_gives_up_and_finds_what_the_engine_in_memory_does() {
    let run = |seed: u64| {
        let mut world = World::seeded(seed);
        let mut blocks = 0;
        for _ in 0..STEPS {
            world.step();
            world.compare();
            blocks = blocks.max(block_files(world.dir.path()).len());
        }
        assert!(blocks > 3, "seed {seed} made {blocks} blocks");
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..5).map(|seed| (seed, scope.spawn(move || run(seed)))).collect();
        for (seed, world) in running {
            assert!(world.join().is_ok(), "seed {seed}");
        }
    });
}
