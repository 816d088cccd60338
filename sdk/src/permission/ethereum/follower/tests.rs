//! The follower on chains made up here, compared with a model that remembers everything and folds it anew each time.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;

use proptest::prelude::*;
use veilcast_key_store::MemoryKeyStore;

use super::*;
use crate::permission::ethereum::events::{EventFault, RegistryEvent};
use crate::permission::ethereum::expiration::Expiration;
use crate::permission::ethereum::index::{Block, EVERYBODY, Held, Placed, Position, Span};
use crate::permission::{Answer, Period};

const CHAIN: u64 = 31_337;
const LONG: Duration = Duration::from_secs(60);

fn contract() -> UserId {
    UserId::from_bytes([9; 20])
}

fn stream(n: u8) -> StreamId {
    StreamId::of(UserId::from_bytes([1; 20]), &format!("s{n}")).unwrap()
}

fn user(n: u8) -> UserId {
    UserId::from_bytes([n; 20])
}

const fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

/// `user` has SUBSCRIBE until this second.
fn until(of: u8, who: u8, end: u64) -> RegistryEvent {
    let (publish, subscribe) = (Expiration::NONE, Expiration::at(end));
    RegistryEvent::Permission { stream: stream(of), user: user(who), publish, subscribe }
}

#[derive(Clone)]
struct Mined {
    block: Block,
    events: Vec<RegistryEvent>,
}

/// A chain of blocks ten seconds apart.
#[derive(Default)]
struct Fake {
    blocks: Mutex<Vec<Mined>>,
    /// Makes every hash another.
    forks: AtomicU64,
    /// Most blocks of one span.
    max_span: AtomicU64,
    /// The newest block it admits to.
    lag: AtomicU64,
    is_down: Mutex<bool>,
    /// Logs hidden while they are asked for, and entries it makes up.
    hides_logs: Mutex<bool>,
    lies: Mutex<Option<EventFault>>,
    spans: Mutex<Vec<(u64, u64)>>,
    reads: AtomicUsize,
    times: Mutex<bool>,
}

impl Fake {
    fn mine(&self, events: Vec<RegistryEvent>) -> Block {
        let mut blocks = self.blocks.lock().unwrap();
        let number = blocks.len() as u64;
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&self.forks.fetch_add(1, Ordering::SeqCst).to_be_bytes());
        let block = Block { number, hash, time: 1000 + number * 10 };
        blocks.push(Mined { block, events });
        block
    }

    fn mine_empty(&self, count: usize) {
        for _ in 0..count {
            self.mine(Vec::new());
        }
    }

    fn take_back(&self, depth: usize) {
        let mut blocks = self.blocks.lock().unwrap();
        let left = blocks.len().saturating_sub(depth).max(1);
        blocks.truncate(left);
    }

    fn number(&self) -> u64 {
        self.blocks.lock().unwrap().len() as u64 - 1
    }

    fn found(&self, number: u64) -> Option<Block> {
        let newest = self.number().saturating_sub(self.lag.load(Ordering::SeqCst));
        let blocks = self.blocks.lock().unwrap();
        usize::try_from(number).ok().filter(|_| number <= newest).and_then(|n| blocks.get(n)).map(|m| m.block)
    }

    fn answer<T: Send + 'static>(
        &self,
        answer: impl FnOnce() -> Result<T, SourceError>,
    ) -> Answer<'_, Result<T, SourceError>> {
        let down = || Err(SourceError::Unavailable { text: "down".into() });
        let answer = if *self.is_down.lock().unwrap() { down() } else { answer() };
        Box::pin(std::future::ready(answer))
    }

    /// The contract's entry: the last event about it, unless the stream was made or deleted since.
    fn entry(&self, of: &StreamId, who: UserId, at: u64) -> Held {
        let blocks = self.blocks.lock().unwrap();
        let events = blocks.iter().take(usize::try_from(at).unwrap() + 1).flat_map(|mined| &mined.events);
        events.fold(Held::NOTHING, |held, event| match event {
            RegistryEvent::Permission { stream, user, publish, subscribe } if stream == of && *user == who => {
                Held { publish: *publish, subscribe: *subscribe }
            }
            RegistryEvent::Created { stream } | RegistryEvent::Deleted { stream } if stream == of => Held::NOTHING,
            _ => held,
        })
    }
}

impl LogSource for Fake {
    fn chain_id(&self) -> Answer<'_, Result<u64, SourceError>> {
        self.answer(|| Ok(CHAIN))
    }

    fn head(&self) -> Answer<'_, Result<Block, SourceError>> {
        let newest = self.number().saturating_sub(self.lag.load(Ordering::SeqCst));
        self.answer(|| Ok(self.found(newest).unwrap()))
    }

    fn block(&self, number: u64) -> Answer<'_, Result<Option<Block>, SourceError>> {
        self.answer(|| Ok(self.found(number)))
    }

    fn span(&self, from: u64, to: u64) -> Answer<'_, Result<Span, SourceError>> {
        self.spans.lock().unwrap().push((from, to));
        let max = self.max_span.load(Ordering::SeqCst);
        self.answer(|| {
            if max > 0 && to - from + 1 > max {
                return Err(SourceError::TooMuch { text: "query returned more than 10000 results".into() });
            }
            if let Some(fault) = *self.lies.lock().unwrap() {
                return Err(fault.into());
            }
            let tip = self.found(to).ok_or(SourceError::NoBlock { number: to })?;
            let blocks = self.blocks.lock().unwrap();
            let placed = |mined: &Mined| {
                let block = mined.block;
                let time = self.times.lock().unwrap().then_some(block.time);
                let events = mined.events.clone().into_iter().zip(0..);
                events
                    .map(move |(event, index)| Placed { at: Position { block: block.number, index }, time, event })
                    .collect::<Vec<_>>()
            };
            let range = usize::try_from(from).unwrap()..=usize::try_from(to).unwrap();
            let hidden = *self.hides_logs.lock().unwrap();
            let events = if hidden { Vec::new() } else { blocks[range].iter().flat_map(placed).collect() };
            Ok(Span { tip, events })
        })
    }

    fn held<'a>(&'a self, stream: &'a StreamId, user: UserId, block: u64) -> Answer<'a, Result<Held, SourceError>> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.answer(|| Ok(self.entry(stream, user, block)))
    }
}

/// What the events of a stream come to, told in another way than the index does.
fn model(fake: &Fake, of: &StreamId, confirmations: u64) -> BTreeMap<UserId, Grant> {
    let blocks = fake.blocks.lock().unwrap();
    let head = blocks.len() as u64 - 1;
    let mut grants: BTreeMap<UserId, Grant> = BTreeMap::new();
    for mined in blocks.iter() {
        let (time, confirmed) = (mined.block.time, mined.block.number + confirmations <= head);
        for event in &mined.events {
            let changes: Vec<(UserId, Expiration)> = match event {
                RegistryEvent::Permission { stream, user, subscribe, .. } if stream == of => vec![(*user, *subscribe)],
                RegistryEvent::Created { stream } | RegistryEvent::Deleted { stream } if stream == of => {
                    grants.keys().map(|user| (*user, Expiration::NONE)).collect()
                }
                _ => Vec::new(),
            };
            for (user, end) in changes {
                apply(&mut grants, user, end, time, confirmed);
            }
        }
    }
    grants.remove(&EVERYBODY);
    grants
}

fn apply(grants: &mut BTreeMap<UserId, Grant>, user: UserId, end: Expiration, time: u64, confirmed: bool) {
    let now = at(time);
    let gives = end != Expiration::NONE && end >= Expiration::at(time);
    let new_end = if end == Expiration::NEVER { None } else { Some(at(end_secs(end))) };
    let Some(grant) = grants.get_mut(&user) else {
        if gives && confirmed {
            let new = Grant::new(Permission::Subscribe, Period { start: None, end: new_end });
            grants.insert(user, Grant { began: Some(now), ..new });
        }
        return;
    };
    let holds = grant.revoked.is_none() && grant.period.end.is_none_or(|old| old >= now);
    if holds && gives {
        let is_less = new_end.is_some_and(|new| grant.period.end.is_none_or(|old| new < old));
        if confirmed || is_less {
            grant.period.end = new_end;
        }
    } else if holds {
        grant.revoked = Some(grant.before.map_or(now, |before| now.max(before.plus(Duration::from_millis(1)))));
    } else if gives && confirmed {
        let void = match (grant.revoked, grant.period.end) {
            (Some(revoked), Some(end)) => Some(revoked.min(end.plus(Duration::from_secs(1)))),
            (Some(revoked), None) => Some(revoked),
            (None, end) => end.map(|end| end.plus(Duration::from_secs(1))),
        };
        let period = Period { start: None, end: new_end };
        *grant = Grant { period, revoked: None, before: void, began: Some(now), ..*grant };
    }
}

fn end_secs(end: Expiration) -> u64 {
    (0..10_000).find(|secs| Expiration::at(*secs) == end).unwrap()
}

struct World {
    fake: Arc<Fake>,
    store: Arc<MemoryKeyStore>,
    config: FollowConfig,
    confirmations: u64,
    start: u64,
}

impl World {
    fn new() -> Self {
        let fake = Fake::default();
        fake.mine(Vec::new());
        // Looks only when it is told to.
        let config = FollowConfig { poll: LONG * 60 * 24, max_silence: LONG * 60 * 24, ..FollowConfig::default() };
        Self { fake: Arc::new(fake), store: Arc::default(), config, confirmations: 0, start: 0 }
    }

    fn follow(&self) -> Follower {
        let depth = (self.start, self.confirmations);
        Follower::start(self.fake.clone(), self.store.clone(), contract(), depth, self.config)
    }

    async fn list(&self, follower: &Follower, of: u8) -> BTreeMap<UserId, Grant> {
        follower.look_now().await;
        let list = follower.subscribers(&stream(of)).await;
        list.unwrap().into_iter().map(|one| (one.user, one.grant)).collect()
    }
}

#[tokio::test]
async fn users_come_go_and_come_back_and_the_list_says_since_when() {
    let world = World::new();
    world.fake.mine(vec![RegistryEvent::Created { stream: stream(1) }, until(1, 2, 5000)]);
    let follower = world.follow();
    let list = world.list(&follower, 1).await;
    assert_eq!((list[&user(2)].beginning(), list[&user(2)].ends()), (Some(at(1010)), Some(at(5000))));
    let before = follower.changes();
    world.fake.mine(vec![until(1, 2, 0), until(1, 3, 9000)]);
    let list = world.list(&follower, 1).await;
    assert_eq!((list[&user(2)].revoked, list[&user(3)].beginning()), (Some(at(1020)), Some(at(1020))));
    assert!(follower.changes() > before);
    world.fake.mine(vec![until(1, 2, 6000)]);
    let grant = world.list(&follower, 1).await[&user(2)];
    assert_eq!((grant.revoked, grant.before, grant.beginning()), (None, Some(at(1020)), Some(at(1030))));
    assert_eq!(follower.grant(&stream(1), user(2), Permission::Subscribe), Some(grant));
    follower.stop().await;
}

#[tokio::test]
async fn what_happens_to_streams_that_nobody_asked_about_is_no_news() {
    let world = World::new();
    let follower = world.follow();
    world.list(&follower, 1).await;
    let before = follower.changes();
    world.fake.mine(vec![until(2, 2, 5000)]);
    world.list(&follower, 1).await;
    assert_eq!(follower.changes(), before);
    assert_eq!(follower.grant(&stream(2), user(2), Permission::Publish), None);
    world.fake.mine(vec![until(2, 2, 0)]);
    world.list(&follower, 1).await;
    assert_eq!(follower.changes(), before + 1, "somebody asked about it meanwhile");
}

#[tokio::test]
async fn a_stream_asked_about_late_has_its_full_list_and_nothing_is_read_twice() {
    let mut world = World::new();
    world.config.max_range = 100;
    for n in 0..50 {
        world.fake.mine(vec![until(1, 2 + n % 5, 5000)]);
    }
    world.fake.mine_empty(2000);
    let follower = world.follow();
    world.list(&follower, 2).await;
    let progress = follower.progress();
    assert_eq!((progress.from, progress.at, progress.head), (0, 2050, 2050));
    let spans = std::mem::take(&mut *world.fake.spans.lock().unwrap());
    assert!(spans.len() > 20 && spans.iter().all(|(from, to)| to - from < 100), "{spans:?}");
    assert_eq!(world.list(&follower, 1).await.len(), 5);
    follower.stop().await;
    world.fake.mine(vec![until(1, 9, 90_000)]);
    let follower = world.follow();
    assert_eq!(world.list(&follower, 1).await.len(), 6);
    assert_eq!(*world.fake.spans.lock().unwrap(), [(2051, 2051)], "it went on where it was");
}

#[tokio::test]
async fn an_endpoint_that_gives_few_blocks_at_a_time_is_asked_for_fewer() {
    let world = World::new();
    world.fake.mine_empty(40);
    world.fake.mine(vec![until(1, 2, 5000)]);
    world.fake.max_span.store(3, Ordering::SeqCst);
    let follower = world.follow();
    assert_eq!(world.list(&follower, 1).await.len(), 1);
    assert!(follower.trouble().is_none());
}

#[tokio::test]
async fn an_endpoint_that_gives_fewer_blocks_than_there_are_confirmations_will_do() {
    let mut world = World::new();
    world.confirmations = 12;
    world.fake.max_span.store(4, Ordering::SeqCst);
    world.fake.mine(vec![until(1, 2, 5000)]);
    world.fake.mine_empty(30);
    let follower = world.follow();
    assert_eq!(world.list(&follower, 1).await.len(), 1);
    world.fake.mine_empty(1);
    world.fake.mine(vec![until(1, 2, 0)]);
    assert_eq!(world.list(&follower, 1).await[&user(2)].revoked, Some(at(1330)));
    assert!(follower.trouble().is_none());
}

#[tokio::test]
async fn an_upgrade_that_a_reorganisation_took_back_is_none() {
    let world = World::new();
    world.fake.mine(vec![until(1, 2, 5000)]);
    world.fake.mine_empty(3);
    let follower = world.follow();
    world.list(&follower, 1).await;
    world.fake.mine(vec![RegistryEvent::Upgraded, until(1, 3, 5000)]);
    assert_eq!(world.list(&follower, 1).await.len(), 2);
    world.fake.take_back(3);
    world.fake.mine_empty(2);
    assert_eq!(world.list(&follower, 1).await.len(), 1);
    assert!(follower.trouble().is_none());
}

#[tokio::test]
async fn a_reorganisation_takes_a_grant_back_and_gives_it_again() {
    let world = World::new();
    world.fake.mine_empty(5);
    let follower = world.follow();
    world.list(&follower, 1).await;
    world.fake.mine(vec![until(1, 2, 5000)]);
    assert_eq!(world.list(&follower, 1).await.len(), 1);
    let before = follower.changes();
    world.fake.take_back(3);
    world.fake.mine_empty(4);
    assert!(world.list(&follower, 1).await.is_empty());
    assert!(follower.changes() > before);
    world.fake.mine(vec![until(1, 2, 5000)]);
    assert_eq!(world.list(&follower, 1).await[&user(2)].beginning(), Some(at(1080)));
}

#[tokio::test]
async fn a_chain_that_shares_no_block_that_was_read_is_read_from_the_start() {
    let world = World::new();
    world.fake.mine(vec![until(1, 2, 5000)]);
    let follower = world.follow();
    assert_eq!(world.list(&follower, 1).await.len(), 1);
    world.fake.blocks.lock().unwrap().clear();
    world.fake.mine_empty(3);
    world.fake.mine(vec![until(1, 3, 5000)]);
    let list = world.list(&follower, 1).await;
    assert_eq!(list.into_keys().collect::<Vec<_>>(), [user(3)]);
}

#[tokio::test]
async fn a_grant_counts_once_it_is_confirmed_and_a_revocation_at_once() {
    let mut world = World::new();
    world.confirmations = 3;
    let follower = world.follow();
    world.fake.mine(vec![until(1, 2, 5000)]);
    assert!(world.list(&follower, 1).await.is_empty());
    world.fake.mine_empty(2);
    assert!(world.list(&follower, 1).await.is_empty());
    let before = follower.changes();
    world.fake.mine_empty(1);
    assert_eq!(world.list(&follower, 1).await[&user(2)].beginning(), Some(at(1010)));
    assert!(follower.changes() > before, "that it counts now is news");
    world.fake.mine(vec![until(1, 2, 9000)]);
    assert_eq!(world.list(&follower, 1).await[&user(2)].ends(), Some(at(5000)));
    world.fake.mine(vec![until(1, 2, 0)]);
    assert_eq!(world.list(&follower, 1).await[&user(2)].revoked, Some(at(1060)));
}

#[tokio::test]
async fn a_stream_deleted_and_made_again_has_its_new_users_and_the_old_ones_have_ended() {
    let world = World::new();
    world.fake.mine(vec![until(1, 2, 5000), until(1, 3, 1005), until(2, 2, 5000)]);
    let follower = world.follow();
    world.list(&follower, 1).await;
    world.fake.mine(vec![RegistryEvent::Deleted { stream: stream(1) }]);
    let list = world.list(&follower, 1).await;
    assert_eq!(list[&user(2)].revoked, Some(at(1020)));
    assert!(!list.contains_key(&user(3)), "whose time was over when it was given");
    world.fake.mine(vec![RegistryEvent::Created { stream: stream(1) }, until(1, 4, 5000)]);
    let list = world.list(&follower, 1).await;
    assert_eq!((list[&user(2)].revoked, list[&user(4)].revoked), (Some(at(1020)), None));
    assert_eq!(world.list(&follower, 2).await[&user(2)].revoked, None, "the other stream's users stay");
}

#[tokio::test]
async fn it_is_known_when_a_stream_stopped_being_public() {
    let world = World::new();
    let follower = world.follow();
    world.fake.mine(vec![until(1, 0, 5000)]);
    assert!(world.list(&follower, 1).await.is_empty());
    assert_eq!(follower.public_until(&stream(1), at(1100)), None);
    assert_eq!(follower.public_until(&stream(1), at(5001)), Some(at(5001)), "by its end");
    world.fake.mine(vec![until(1, 0, 0)]);
    world.list(&follower, 1).await;
    assert_eq!(follower.public_until(&stream(1), at(1100)), Some(at(1020)));
}

#[tokio::test]
async fn what_the_contract_says_counts_more_than_its_events_and_is_asked_again_after_an_upgrade() {
    let world = World::new();
    let follower = world.follow();
    world.fake.mine(vec![until(1, 2, 5000)]);
    world.list(&follower, 1).await;
    let reads = world.fake.reads.load(Ordering::SeqCst);
    world.list(&follower, 1).await;
    assert_eq!(world.fake.reads.load(Ordering::SeqCst), reads, "without an event nothing is read");
    // The code of before wrote another end than it said, and the new one sets it right.
    world.fake.blocks.lock().unwrap()[1].events = vec![until(1, 2, 4000)];
    world.list(&follower, 1).await;
    let before = follower.changes();
    world.fake.mine(vec![RegistryEvent::Upgraded]);
    assert_eq!(world.list(&follower, 1).await[&user(2)].ends(), Some(at(4000)));
    assert!(follower.changes() > before && world.fake.reads.load(Ordering::SeqCst) > reads);
}

#[tokio::test]
async fn who_was_taken_back_is_out_although_every_endpoint_keeps_the_event_back() {
    let mut world = World::new();
    world.config.recheck = Duration::ZERO;
    let follower = world.follow();
    world.fake.mine(vec![until(1, 2, 5000), until(1, 3, 5000), until(1, 4, 1)]);
    world.list(&follower, 1).await;
    let (before, reads) = (follower.changes(), world.fake.reads.load(Ordering::SeqCst));
    assert_eq!(world.list(&follower, 1).await.len(), 2);
    assert_eq!(world.fake.reads.load(Ordering::SeqCst), reads + 2, "of those who hold something, each once");
    assert_eq!(follower.changes(), before, "and that is no news");

    *world.fake.hides_logs.lock().unwrap() = true;
    let gone = world.fake.mine(vec![until(1, 2, 0)]);
    let list = world.list(&follower, 1).await;
    assert_eq!((list[&user(2)].revoked, list[&user(3)].revoked), (Some(at(gone.time)), None));
    assert!(follower.changes() > before);
    // Nobody who is out is asked about for ever.
    let reads = world.fake.reads.load(Ordering::SeqCst);
    world.list(&follower, 1).await;
    assert_eq!(world.fake.reads.load(Ordering::SeqCst), reads + 1);
}

#[tokio::test]
async fn however_many_hold_something_each_is_read_anew() {
    let mut world = World::new();
    world.config.recheck = Duration::ZERO;
    let bytes = |n: u16| std::array::from_fn(|at| n.to_be_bytes()[at % 2]);
    let users: Vec<UserId> = (1..=1500u16).map(|n| UserId::from_bytes(bytes(n))).collect();
    let (publish, subscribe) = (Expiration::NONE, Expiration::at(5000));
    let grant = |user: &UserId| RegistryEvent::Permission { stream: stream(1), user: *user, publish, subscribe };
    world.fake.mine(users.iter().map(grant).collect());
    let follower = world.follow();
    assert_eq!(world.list(&follower, 1).await.len(), users.len());
    *world.fake.hides_logs.lock().unwrap() = true;
    let none = |user: &UserId| RegistryEvent::Permission {
        stream: stream(1),
        user: *user,
        publish,
        subscribe: Expiration::NONE,
    };
    world.fake.mine(users.iter().map(none).collect());
    // Some at each look; one round may have been under way.
    let mut left = users.len();
    for _ in 0..20 {
        left = world.list(&follower, 1).await.values().filter(|grant| grant.revoked.is_none()).count();
        if left == 0 {
            break;
        }
    }
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_grant_that_only_an_event_tells_of_is_none() {
    struct Liar(Arc<Fake>);
    impl LogSource for Liar {
        fn chain_id(&self) -> Answer<'_, Result<u64, SourceError>> {
            self.0.chain_id()
        }
        fn head(&self) -> Answer<'_, Result<Block, SourceError>> {
            self.0.head()
        }
        fn block(&self, number: u64) -> Answer<'_, Result<Option<Block>, SourceError>> {
            self.0.block(number)
        }
        fn span(&self, from: u64, to: u64) -> Answer<'_, Result<Span, SourceError>> {
            self.0.span(from, to)
        }
        fn held<'a>(&'a self, _: &'a StreamId, _: UserId, _: u64) -> Answer<'a, Result<Held, SourceError>> {
            Box::pin(std::future::ready(Ok(Held::NOTHING)))
        }
    }
    let world = World::new();
    let first = world.fake.mine(vec![until(1, 2, 5000)]);
    let source = Arc::new(Liar(world.fake.clone()));
    let follower = Follower::start(source, world.store.clone(), contract(), (0, 0), world.config);
    follower.look_now().await;
    let list = follower.subscribers(&stream(1)).await.unwrap();
    assert_eq!(list[0].grant.revoked, Some(at(first.time)), "taken back when the contract said so");
}

#[tokio::test]
async fn until_it_is_caught_up_and_while_it_cannot_settle_there_is_no_list_but_a_refusal() {
    let world = World::new();
    *world.fake.is_down.lock().unwrap() = true;
    let follower = world.follow();
    follower.look_now().await;
    let refusal = Err(Refusal::Unavailable { retry_after: world.config.poll });
    assert_eq!(follower.subscribers(&stream(1)).await, refusal);
    assert!(matches!(follower.trouble().as_deref(), Some(Trouble::Source(SourceError::Unavailable { .. }))));
    *world.fake.is_down.lock().unwrap() = false;
    world.fake.mine(vec![until(1, 2, 5000)]);
    assert_eq!(world.list(&follower, 1).await.len(), 1);
    assert!(follower.trouble().is_none());
    for fault in [EventFault::Foreign, EventFault::Malformed { event: "StreamDeleted" }] {
        *world.fake.lies.lock().unwrap() = Some(fault);
        world.fake.mine(vec![until(1, 2, 0)]);
        follower.look_now().await;
        assert!(
            matches!(follower.trouble().as_deref(), Some(Trouble::Source(SourceError::Event(found))) if *found == fault)
        );
    }
    *world.fake.lies.lock().unwrap() = None;
    assert_eq!(world.list(&follower, 1).await[&user(2)].revoked, Some(at(1020)));
}

#[tokio::test]
async fn lists_are_not_given_once_the_chain_has_been_silent_for_too_long() {
    let mut world = World::new();
    world.config.max_silence = Duration::ZERO;
    let follower = world.follow();
    follower.look_now().await;
    assert!(matches!(follower.subscribers(&stream(1)).await, Err(Refusal::Unavailable { .. })));
}

#[tokio::test]
async fn an_endpoint_behind_what_is_known_changes_nothing() {
    let world = World::new();
    world.fake.mine_empty(3);
    let follower = world.follow();
    world.list(&follower, 1).await;
    world.fake.mine_empty(3);
    world.fake.mine(vec![until(1, 2, 5000)]);
    let list = world.list(&follower, 1).await;
    for lag in [2, 4, 7] {
        world.fake.lag.store(lag, Ordering::SeqCst);
        assert_eq!(world.list(&follower, 1).await, list);
        let trouble = follower.trouble();
        assert!(matches!(trouble.as_deref(), Some(Trouble::Behind { head, at: 7 }) if *head == 7 - lag), "{trouble:?}");
    }
}

#[tokio::test]
async fn logs_that_a_node_did_not_have_yet_are_found_when_the_block_is_confirmed() {
    let mut world = World::new();
    world.confirmations = 4;
    let follower = world.follow();
    world.list(&follower, 1).await;
    *world.fake.hides_logs.lock().unwrap() = true;
    world.fake.mine(vec![until(1, 2, 5000)]);
    world.list(&follower, 1).await;
    *world.fake.hides_logs.lock().unwrap() = false;
    world.fake.mine_empty(4);
    assert_eq!(world.list(&follower, 1).await.len(), 1);
}

#[tokio::test]
async fn when_there_is_no_more_room_followed_streams_keep_their_lists_and_others_get_none() {
    let mut world = World::new();
    world.config.max_entries = 3;
    let follower = world.follow();
    world.list(&follower, 1).await;
    world.fake.mine((2..8).map(|n| until(2, n, 5000)).collect());
    world.fake.mine((2..8).map(|n| until(1, n, 5000)).collect());
    assert_eq!(world.list(&follower, 1).await.len(), 6);
    follower.look_now().await;
    assert!(matches!(follower.subscribers(&stream(2)).await, Err(Refusal::Unavailable { .. })));
    assert!(matches!(follower.trouble().as_deref(), Some(Trouble::Full { stream: of }) if *of == stream(2)));
    assert_eq!(world.list(&follower, 1).await.len(), 6, "and the others go on");
    follower.stop().await;
    world.config.max_entries = 100;
    let follower = world.follow();
    assert_eq!(world.list(&follower, 2).await.len(), 6, "with more room it began anew");
}

#[tokio::test]
async fn a_stopped_follower_lets_go_of_the_store_and_refuses_nobody_the_truth_it_had() {
    let world = World::new();
    let follower = world.follow();
    world.list(&follower, 1).await;
    follower.stop().await;
    assert_eq!(Arc::strong_count(&world.store), 1);
    follower.look_now().await;
}

#[derive(Clone, Debug)]
enum Op {
    Mine(Vec<RegistryEvent>),
    TakeBack(usize, Vec<RegistryEvent>),
    Empty(usize),
    Look,
    Restart(u64, bool),
}

fn any_event() -> impl Strategy<Value = RegistryEvent> {
    let end = prop_oneof![Just(0), Just(u64::MAX), 1000..1400u64];
    prop_oneof![
        12 => (1..3u8, 0..4u8, end).prop_map(|(of, who, end)| until(of, who, end)),
        1 => (1..3u8).prop_map(|of| RegistryEvent::Deleted { stream: stream(of) }),
        1 => (1..3u8).prop_map(|of| RegistryEvent::Created { stream: stream(of) }),
        1 => Just(RegistryEvent::Upgraded),
    ]
}

fn any_op() -> impl Strategy<Value = Op> {
    let events = || proptest::collection::vec(any_event(), 0..3);
    prop_oneof![
        4 => events().prop_map(Op::Mine),
        2 => (1..6usize, events()).prop_map(|(depth, events)| Op::TakeBack(depth, events)),
        1 => (1..5usize).prop_map(Op::Empty),
        3 => Just(Op::Look),
        1 => (1..5u64, any::<bool>()).prop_map(|(range, politely)| Op::Restart(range, politely)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn however_events_reorganisations_restarts_and_ranges_fall_the_list_is_that_of_the_chain(
        ops in proptest::collection::vec(any_op(), 1..30), confirmations in 0..4u64, range in 1..9u64, times: bool,
    ) {
        let mut world = World { confirmations, ..World::new() };
        world.config.max_range = range;
        *world.fake.times.lock().unwrap() = times;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut follower = world.follow();
            for op in ops.into_iter().chain([Op::Look]) {
                match op {
                    Op::Mine(events) => { world.fake.mine(events); }
                    Op::Empty(count) => world.fake.mine_empty(count),
                    Op::TakeBack(depth, events) => {
                        world.fake.take_back(depth);
                        world.fake.mine_empty(depth);
                        world.fake.mine(events);
                    }
                    Op::Look => {
                        let (one, two) = (world.list(&follower, 1).await, world.list(&follower, 2).await);
                        assert_eq!(one, model(&world.fake, &stream(1), confirmations));
                        assert_eq!(two, model(&world.fake, &stream(2), confirmations));
                    }
                    Op::Restart(range, politely) => {
                        if politely {
                            follower.stop().await;
                        }
                        world.config.max_range = range;
                        follower = world.follow();
                    }
                }
            }
            follower.stop().await;
        });
    }
}
